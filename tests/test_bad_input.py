"""Bad input, kind by kind: each ends in its own sentence, at the door, and nothing on the disk is touched.

The list is KINDS. A kind is what a user might do by mistake; the message is what tells it from all the others.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import gendyn as gd
from gendyn.sampling import ODE

N = 24
LABELS = np.repeat(["D0", "D2"], N // 2)
VALUES = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


def table(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"day": LABELS, "x": VALUES[:, 0], "y": VALUES[:, 1]}).assign(**changes)


def annotated(**obs: Any) -> anndata.AnnData:
    adata = anndata.AnnData(np.zeros((N, 1), dtype=np.float32), obs=pd.DataFrame(obs or {"day": LABELS}))
    adata.obs_names = [f"cell{i}" for i in range(N)]
    adata.obsm["X_pca"] = VALUES.copy()
    return adata


def spoilt(value: float) -> np.ndarray:
    x = VALUES.copy()
    x[5, 1] = value
    return x


def populations(**changes: Any) -> gd.Snapshots:
    half = N // 2
    return gd.Snapshots(**({"times": [0.0, 2.0], "samples": [VALUES[:half], VALUES[half:]]} | changes))


def small() -> gd.FlowMatching:
    return gd.FlowMatching(steps=2, hidden=(4,))


def fitted() -> gd.FlowMatching:
    return small().fit(populations(), progress=False)


def truncated_npz(folder: Path) -> Path:
    populations().save(folder / "whole.npz")
    whole = (folder / "whole.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.npz"


def truncated_model(folder: Path) -> Path:
    fitted().save(folder / "m.safetensors")
    whole = (folder / "m.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    return folder / "cut.safetensors"


def edited_model(folder: Path) -> Path:
    fitted().save(folder / "m.safetensors")
    raw = (folder / "m.safetensors").read_bytes()
    (folder / "other.safetensors").write_bytes(raw.replace(b"FlowMatching", b"FlowMatchinG"))
    return folder / "other.safetensors"


def pickled(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"X": VALUES}))
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def foreign_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    return path


KINDS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    # --- files
    "a missing file": (lambda f: gd.read_snapshots(f / "no.csv"), FileNotFoundError, "there is no file .*no.csv"),
    "a missing folder to write to": (
        lambda f: populations().save(f / "no" / "a.npz"), FileNotFoundError, "folder"),
    "an unknown suffix": (lambda f: gd.read_snapshots(text(f / "a.xlsx", "x")), ValueError, "a.xlsx.*use one of"),
    "an unknown suffix to write": (lambda f: populations().save(f / "a.doc"), ValueError, "a.doc.*use one of"),
    "an empty file": (lambda f: gd.read_snapshots(text(f / "a.csv", "")), ValueError, "empty"),
    "a table with a head and no rows": (
        lambda f: gd.read_snapshots(text(f / "a.csv", "day,x\n")), ValueError, "no rows|empty"),
    "a truncated archive": (lambda f: gd.read_snapshots(truncated_npz(f)), ValueError, "cut.npz"),
    "an archive without arrays": (lambda f: gd.read_snapshots(foreign_zip(f / "a.npz")), ValueError, "a.npz"),
    "a pickle under another name": (
        lambda f: gd.read_snapshots(pickled(f / "a.npz")), ValueError, "a pickle, which could run code"),
    "text under the name of a table": (
        lambda f: gd.read_snapshots(text(f / "a.parquet", "hello")), ValueError, "a.parquet"),
    "text under the name of AnnData": (
        lambda f: gd.read_snapshots(text(f / "a.h5ad", "hello")), (ValueError, OSError), "a.h5ad"),
    "a folder without tables": (lambda f: gd.read_snapshots(f), ValueError, "holds no .csv files"),
    "paths where populations are needed": (
        lambda f: (fitted().sample(n=2).save(f / "p.npz"), gd.read_snapshots(f / "p.npz")), ValueError, "holds paths"),
    # --- tables
    "no column of times": (
        lambda f: gd.read_snapshots(table().drop(columns="day")), ValueError, "time_key"),
    "a column of times that is not there": (
        lambda f: gd.read_snapshots(table(), time_key="hour"), (ValueError, KeyError), "hour.*day"),
    "two columns that could be times": (
        lambda f: gd.read_snapshots(table(time=1.0)), ValueError, "time_key"),
    "labels without a number": (
        lambda f: gd.read_snapshots(table(day="early")), ValueError, "no number in 'early'"),
    "labels in two units that cannot be told": (
        lambda f: gd.read_snapshots(table(day=np.where(LABELS == "D0", "D0", "48h"))), ValueError, "unit"),
    "two labels of one time": (
        lambda f: gd.read_snapshots(table(day=np.where(LABELS == "D0", "D2", "day 2")), times={"D2": 1.0}),
        (ValueError, KeyError), "day 2"),
    "one time for all rows, fitted": (
        lambda f: small().fit(gd.read_snapshots(table(day="D1")), progress=False), ValueError, "two times or more"),
    "no numbers": (lambda f: gd.read_snapshots(table(x="a", y="b")), (ValueError, TypeError), "number"),
    "a missing value": (
        lambda f: gd.read_snapshots(table(x=spoilt(np.nan)[:, 1])), ValueError, "NaN"),
    "an infinite value": (
        lambda f: gd.read_snapshots(table(x=spoilt(np.inf)[:, 1])), ValueError, "infinit"),
    "a column that is not there": (
        lambda f: gd.read_snapshots(table(), values=["z"]), (ValueError, KeyError), "'z'"),
    "too many dimensions asked for": (
        lambda f: gd.read_snapshots(table(), n_dims=7), ValueError, "n_dims"),
    "a time with a single cell": (
        lambda f: gd.read_snapshots(table(day=["D0"] * (N - 1) + ["D2"])), ValueError, "at least 2|1 cell|one"),
    # --- AnnData
    "a representation that is not there": (
        lambda f: gd.read_snapshots(annotated(), rep="X_umap"), (ValueError, KeyError), "X_umap.*X_pca"),
    "AnnData without a column of times": (
        lambda f: gd.read_snapshots(annotated(batch=["a"] * N)), (ValueError, KeyError), "time_key"),
    "a layer that is not there": (
        lambda f: gd.read_snapshots(annotated(), layer="spliced"), (ValueError, KeyError), "spliced"),
    # --- containers
    "times that do not increase": (lambda f: populations(times=[2.0, 0.0]), ValueError, "increas"),
    "a doubled time": (lambda f: populations(times=[1.0, 1.0]), ValueError, "increas"),
    "as many populations as times": (lambda f: populations(times=[0.0, 1.0, 2.0]), ValueError, "3"),
    "populations of different width": (
        lambda f: populations(samples=[VALUES, VALUES[:, :2]]), ValueError, "features"),
    "an empty population": (lambda f: populations(samples=[VALUES, VALUES[:0]]), ValueError, "empty|at least one"),
    "negative weights": (
        lambda f: populations(weights=[-np.ones(N // 2), np.ones(N // 2)]), ValueError, "negative"),
    "weights of another length": (
        lambda f: populations(weights=[np.ones(3), np.ones(N // 2)]), ValueError, "weights"),
    "names of another number": (lambda f: populations(names=["a"]), ValueError, "names"),
    "sparse values": (
        lambda f: populations(samples=[scipy.sparse.csr_matrix(VALUES), VALUES]), TypeError, "sparse|toarray"),
    "words for numbers": (lambda f: populations(samples=[[["a", "b", "c"]], VALUES]), TypeError, "number"),
    "a time that was not measured": (lambda f: populations().at(1.0), ValueError, "nothing was measured at time 1"),
    "every time held out": (lambda f: populations().without([0.0, 2.0]), ValueError, "leaves no time"),
    # --- models
    "an option that is not there": (
        lambda f: gd.FlowMatching("magic").fit(populations(), progress=False), ValueError, "coupling must be one of"),
    "a fit on an array": (lambda f: small().fit(VALUES), TypeError, "gendyn.Snapshots; got ndarray"),
    "an unfitted model": (lambda f: small().sample(n=3), ValueError, "not fitted yet"),
    "points of another width": (
        lambda f: fitted().sample(torch.zeros(4, 2), [0.0, 1.0]), ValueError, "3 features, but x0 has 2"),
    "a time beyond the data": (
        lambda f: fitted().sample(times=[0.0, 50.0]), ValueError, "outside the trained range.*extrapolate=True"),
    "no paths at all": (lambda f: fitted().sample(n=0), ValueError, "n must be at least 1"),
    "a truncated model": (lambda f: gd.load(truncated_model(f)), ValueError, "cut.safetensors"),
    "a model of a class that is not there": (
        lambda f: gd.load(edited_model(f)), ValueError, "does not have; it has .*FlowMatching"),
    "a pickle for a model": (lambda f: gd.load(pickled(f / "m.safetensors")), ValueError, "m.safetensors"),
    "data for a model": (
        lambda f: (populations().save(f / "a.npz"), gd.load(f / "a.npz")), ValueError, "a.npz"),
    "a checkpoint of another fit": (
        lambda f: (
            small().fit(populations(), progress=False, checkpoint=f / "c"),
            small().fit(populations(), progress=False, checkpoint=f / "c", seed=1),
        ), ValueError, "belongs to another fit"),
    # --- sampling and evaluation
    "a process without a drift": (
        lambda f: gd.sample(object(), torch.zeros(2, 1), [0.0, 1.0]), TypeError, "a process needs"),
    "a run that blows up": (
        lambda f: gd.sample(ODE(lambda t, x: x**3, 1), torch.ones(2, 1), [0.0, 5.0], solver="euler", step=0.1),
        FloatingPointError, "not finite any more"),
    "a data set that is not there": (lambda f: gd.datasets.load("mnist"), ValueError, "no data set 'mnist'"),
    "no common time": (
        lambda f: gd.evaluate(populations(), populations(times=[5.0, 6.0])), ValueError, "no time in common"),
    "a metric that is not there": (
        lambda f: gd.evaluate(populations(), populations(), metrics=["FID"]), ValueError, "no metric 'FID'"),
    "two kinds compared": (lambda f: gd.evaluate(populations(), VALUES), TypeError, "both be Snapshots or Paths"),
    "a hole at the border": (
        lambda f: gd.leave_one_out(populations(), {}), ValueError, "at least three times"),
    "a seed that is none": (lambda f: fitted().sample(n=2, seed="seven"), TypeError, "seed"),
}  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_ends_in_its_own_sentence(kind, tmp_path):
    call, error, message = KINDS[kind]
    populations().save(tmp_path / "bystander.npz") if kind != "a folder without tables" else None
    before = contents(tmp_path)
    with pytest.raises(error, match=message) as caught:
        call(tmp_path)
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if Path(path).name.startswith(".")]
    said = str(caught.value)
    assert 15 < len(said) < 700
    assert "\n" not in said.strip()


def test_there_are_forty_kinds_and_no_two_sentences_are_the_same():
    assert len(KINDS) >= 40
    patterns = [message for _, _, message in KINDS.values()]
    assert len(set(patterns)) > 0.8 * len(patterns)
