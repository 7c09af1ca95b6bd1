"""The contract of every estimator: a new one joins by one line in CASES."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import gendyn
from gendyn.data import Cohort, Paths, Snapshots
from gendyn.models import MODELS
from gendyn.training import Estimator, NotFittedError


def populations(n: int = 40, seed: int = 0) -> Snapshots:
    generator = torch.Generator().manual_seed(seed)
    return Snapshots([0.0, 1.0, 2.5], [torch.randn(n, 2, generator=generator) + k for k in range(3)])


def cohort(n: int = 40, seed: int = 0) -> Cohort:
    generator = torch.Generator().manual_seed(seed)
    starts = [torch.randn(n, 2, generator=generator) + k for k in range(4)]
    return Cohort({f"p{k}": Snapshots([0.0, 1.0], [x, 0.5 * x + k]) for k, x in enumerate(starts)})


def series(n: int = 20, seed: int = 0) -> Paths:
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(n, 5, generator=generator, dtype=torch.float64).add(0.1).cumsum(1)
    mask = torch.rand(n, 5, 2, generator=generator) < 0.8
    return Paths(times, torch.randn(n, 5, 2, generator=generator), mask | (torch.arange(5) == 0)[:, None])


def pairs(n: int = 40, seed: int = 0) -> Paths:
    """Where each point was and where it went."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Paths([1.0, 3.0], torch.stack([x, 2 - x.flip(1)], 1), torch.ones(n, 2, 2, dtype=torch.bool))


def states(n: int = 40, seed: int = 0) -> Paths:
    """Looks at a process on three states, as whole numbers in floating point."""
    generator = torch.Generator().manual_seed(seed)
    stay = torch.rand(n, 12, generator=generator) < 0.7
    fresh = torch.randint(3, (n, 12), generator=generator)
    labels = [fresh[:, 0]]
    for k in range(1, 12):
        labels.append(torch.where(stay[:, k], labels[-1], fresh[:, k]))
    values = torch.stack(labels, 1)[..., None].to(torch.float64)
    return Paths(torch.arange(12.0), values, torch.ones(n, 12, 1, dtype=torch.bool))


def labelled(n: int = 40, seed: int = 0) -> Paths:
    """Short series of two classes, with holes."""
    data = series(n, seed)
    kinds = torch.arange(n) % 2
    values = data.values + kinds[:, None, None]
    return Paths(data.times, values, data.mask, labels=np.array(["low", "high"])[kinds.numpy()])


def angles(n: int = 40, seed: int = 0) -> Snapshots:
    data = populations(n, seed)
    return data.with_samples([gendyn.interpolants.Torus().project(x) for x in data.samples])


def tensors_of(data: Snapshots | Cohort | Paths) -> list[torch.Tensor]:
    if isinstance(data, Paths):
        return [data.values, data.times, data.mask]
    return [x for part in (data.values() if isinstance(data, Cohort) else [data]) for x in part.samples]


def spoilt(data: Snapshots | Cohort | Paths) -> Snapshots | Cohort | Paths:
    """Return the same data with one value that is not a number; already their container refuses it."""
    if isinstance(data, Paths):
        values = data.values.clone()
        values[0, 0, 0] = float("nan")
        return Paths(data.times, values, data.mask)
    if isinstance(data, Cohort):
        return Cohort({name: spoilt(member) for name, member in data.items()})
    samples = [x.clone() for x in data.samples]
    samples[-1][0, 0] = float("nan")
    return Snapshots(data.times, samples)


@dataclass
class Case:
    """How one estimator is tried: small parameters, its steps, whether these are random, and data."""

    model: type[Estimator]
    parameters: dict[str, Any]
    steps: int = 30
    trained: bool = True
    data: Any = field(default_factory=populations)
    fresh: Any = field(default_factory=lambda: populations(seed=9))
    imports: str = "from tests.test_estimators import CASES"


CASES = {
    "ActionMatching": Case(gendyn.ActionMatching, {"steps": 30, "hidden": (8,)}),
    "ActionMatching(unbalanced)": Case(
        gendyn.ActionMatching,
        {"sigma": 0.5, "unbalanced": True, "interpolation": "mixture", "steps": 30, "hidden": (8,)},
    ),
    "BarycentricInterpolant": Case(gendyn.BarycentricInterpolant, {"steps": 30, "hidden": (8,)}),
    "FlowMatching(independent)": Case(gendyn.FlowMatching, {"coupling": "independent", "steps": 30, "hidden": (8,)}),
    "FlowMatching(ot)": Case(gendyn.FlowMatching, {"coupling": "ot", "steps": 30, "hidden": (8,)}),
    "FlowMatching(sinkhorn)": Case(gendyn.FlowMatching, {"coupling": "sinkhorn", "steps": 30, "hidden": (8,)}),
    "FlowMatching(partial)": Case(
        gendyn.FlowMatching,
        {"coupling": ("partial", 0.7), "steps": 30, "hidden": (8,)},
        data=populations().only([0.0, 1.0]),
        fresh=populations(seed=9).only([0.0, 1.0]),
    ),
    "FlowMatching(spline-ot)": Case(gendyn.FlowMatching, {"coupling": "spline-ot", "steps": 30, "hidden": (8,)}),
    "StochasticInterpolant(source)": Case(
        gendyn.StochasticInterpolant,
        {"source": "identity", "source_noise": 0.5, "observed": True, "steps": 30, "hidden": (8,)},
        data=populations().only([1.0]),
        fresh=populations(seed=9).only([1.0]),
    ),
    "StochasticInterpolant(linear)": Case(gendyn.StochasticInterpolant, {"steps": 30, "hidden": (8,)}),
    "StochasticInterpolant(fields)": Case(
        gendyn.StochasticInterpolant,
        {
            "schedule": "trigonometric",
            "gamma": ("brownian", 2.0),
            "fields": ("source", "target"),
            "steps": 30,
            "hidden": (8,),
        },
    ),
    "FlowMatching(growing)": Case(gendyn.FlowMatching, {"relaxation": 2.0, "steps": 30, "hidden": (8,)}),
    "FlowMatching(reflow)": Case(gendyn.FlowMatching, {"reflow": 1, "steps": 30, "hidden": (8,)}),
    "FlowMatching(metric)": Case(
        gendyn.FlowMatching, {"path": "metric", "metric": ("rbf", 1.5), "steps": 30, "hidden": (8,)}
    ),
    "OptimalInterpolant": Case(gendyn.OptimalInterpolant, {"steps": 30, "hidden": (8,)}),
    "StochasticInterpolant(bridge)": Case(
        gendyn.StochasticInterpolant,
        {"schedule": "bridge", "gamma": ("bridge", 1.5, 0.5), "score_weight": "gamma", "steps": 30, "hidden": (8,)},
    ),
    **{
        f"MetaFlowMatching({encoder})": Case(
            gendyn.MetaFlowMatching,
            {
                "encoder": encoder,
                "coupling": "ot" if encoder == "kernel" else "paired",
                "neighbours": 5,
                "steps": 30,
                "hidden": (8,),
                "batch_size": 16,
            },
            data=cohort(),
            fresh=cohort(seed=9),
        )
        for encoder in ("kernel", "gcn", "one-hot")
    },
    "RiemannianFlowMatching(torus)": Case(
        gendyn.RiemannianFlowMatching, {"manifold": "torus", "steps": 30, "hidden": (8,)}, data=angles()
    ),
    **{
        f"TrajectoryFlowMatching({name})": Case(
            gendyn.TrajectoryFlowMatching,
            {"sigma": sigma, "history": 2, "steps": 30, "hidden": (8,)},
            data=series(),
            fresh=series(seed=9),
        )
        for name, sigma in (("flow", 0.0), ("bridge", 0.5))
    },
    **{
        f"SchrodingerBridge({name})": Case(
            gendyn.SchrodingerBridge, {"substeps": 4, **parameters}, steps=2, trained=False
        )
        for name, parameters in {
            "brownian": {"sigma": 1.0},
            "vortex": {"reference": gendyn.systems.Vortex(volatility=0.8)},
            "growing": {
                "reference": gendyn.references.LocalBrownian(0.2),
                "relaxation": (1.0, float("inf")),
                "growth_rate": [[0.1] * 40, [0.2] * 40],
            },
        }.items()
    },
    **{
        f"ReferenceRefinement({name})": Case(
            gendyn.ReferenceRefinement,
            {"substeps": 4, "iterations": 4, "gradient_steps": 4, **parameters},
            steps=4,
            trained=False,
        )
        for name, parameters in {
            "linear": {"sigma": 1.0},
            "vortex": {"family": gendyn.references.BigVortex()},
        }.items()
    },
    **{
        f"MarkovJumpModel({name})": Case(
            gendyn.MarkovJumpModel,
            {"method": "em", **parameters},
            steps=15,
            trained=False,
            data=states(),
            fresh=states(seed=9),
        )
        for name, parameters in {"labels": {"noise": 0}, "noise": {}}.items()
    },
    **{
        f"FractionalOU({name})": Case(
            gendyn.FractionalOU, parameters, steps=4, trained=False, data=series(12), fresh=series(12, seed=9)
        )
        for name, parameters in {"noise": {}, "exact": {"hurst": 0.7, "noise": 0.0}}.items()
    },
    **{
        f"FractionalBridge({name})": Case(
            gendyn.FractionalBridge, {"steps": 30, "hidden": (8,), **parameters}, data=pairs(), fresh=pairs(seed=9)
        )
        for name, parameters in {
            "rough": {"hurst": 0.2},
            "brownian": {"hurst": 0.5, "sigma": 0.5, "scale": "whiten"},
            "watched": {"hurst": 0.7, "rates": (0.1, 1.0, 20.0), "validation_fraction": 0.3, "patience": 30},
        }.items()
    },
    **{
        f"FractionalSDE({name})": Case(
            gendyn.FractionalSDE,
            {"count": 3, "hidden": 6, "context": 4, "epochs": 12, "batch_size": 40, "step": 0.5, **parameters},
            steps=12,
            data=series(40),
            fresh=series(40, seed=9),
        )
        for name, parameters in {
            "guided": {},
            "control": {"posterior": "control", "drift": "linear", "hurst": 0.7, "kind": "II", "patience": 30},
        }.items()
    },
    "LatentSDE": Case(
        gendyn.LatentSDE,
        {"latent": 2, "hidden": 6, "context": 4, "step": 0.25, "epochs": 30, "batch_size": 40},
        data=series(40),
        fresh=series(40, seed=9),
    ),
    "LatentSDE(watched)": Case(
        gendyn.LatentSDE,
        {"latent": 2, "hidden": 6, "step": 0.5, "epochs": 30, "patience": 30, "gradient": "checkpoint"},
        data=series(40),
        fresh=series(40, seed=9),
    ),
    "StableSDEForecaster": Case(
        gendyn.StableSDEForecaster,
        {"horizon": 2, "epochs": 30, "hidden": 6, "batch_size": 40, "patience": None, "step": 0.25, "n_samples": 4},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "StableSDEInterpolator": Case(
        gendyn.StableSDEInterpolator,
        {"epochs": 30, "hidden": 6, "batch_size": 80, "patience": None, "step": 0.25, "n_samples": 4},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "StableSDEInterpolator(watched)": Case(
        gendyn.StableSDEInterpolator,
        {"hiding": "channel", "epochs": 30, "hidden": 6, "batch_size": 80, "patience": 30, "residual": False},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "StableSDEForecaster(watched)": Case(
        gendyn.StableSDEForecaster,
        {"horizon": 1, "epochs": 30, "hidden": 6, "batch_size": 40, "patience": 30, "loss": "energy", "n_samples": 4},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "GRUClassifier(gru-d)": Case(
        gendyn.GRUClassifier,
        {"hidden": 5, "epochs": 30, "batch_size": 40, "patience": None},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "GRUClassifier(watched)": Case(
        gendyn.GRUClassifier,
        {"kind": "gru-dt", "hidden": 5, "epochs": 30, "batch_size": 40, "patience": 30},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "GRUODEBayes": Case(
        gendyn.GRUODEBayes,
        {"hidden": 5, "inner": 4, "step": 0.5, "epochs": 30, "batch_size": 40, "patience": None},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "GRUODEBayes(watched)": Case(
        gendyn.GRUODEBayes,
        {"hidden": 5, "inner": 4, "step": 0.5, "epochs": 30, "batch_size": 40, "patience": 30, "mixing": 0.0},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "MTANClassifier": Case(
        gendyn.MTANClassifier,
        {"hidden": 5, "references": 6, "embedding": 4, "epochs": 30, "batch_size": 40, "patience": None},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "MTANClassifier(watched)": Case(
        gendyn.MTANClassifier,
        {"hidden": 5, "references": 6, "embedding": 4, "heads": 2, "epochs": 30, "batch_size": 40, "patience": 30},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "NeuralCDEClassifier": Case(
        gendyn.NeuralCDEClassifier,
        {"epochs": 30, "hidden": 6, "inner": 5, "layers": 1, "batch_size": 40, "patience": None},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "NeuralCDEClassifier(watched)": Case(
        gendyn.NeuralCDEClassifier,
        {
            "hidden": 4,
            "control": "natural",
            "channels": ("time", "intensity", "delta"),
            "step": 0.25,
            "solver": "rk4",
            "epochs": 30,
            "batch_size": 40,
            "patience": 30,
            "class_weight": "balanced",
        },
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "StableSDEClassifier": Case(
        gendyn.StableSDEClassifier,
        {"epochs": 30, "hidden": 6, "batch_size": 40, "patience": None, "step": 0.25, "n_samples": 2},
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "StableSDEClassifier(geometric)": Case(
        gendyn.StableSDEClassifier,
        {
            "kind": "geometric",
            "parametrisation": "exact",
            "residual": False,
            "channels": ("time", "intensity", "delta"),
            "epochs": 30,
            "hidden": 6,
            "batch_size": 40,
            "patience": 30,
            "step": None,
            "degree": None,
        },
        data=labelled(),
        fresh=labelled(seed=9),
    ),
    "FlowMatching(watched)": Case(
        gendyn.FlowMatching, {"steps": 30, "hidden": (8,), "validation_fraction": 0.2, "patience": 2}
    ),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def fitted(case: Case, seed: int = 3, **more: Any) -> Estimator:
    return case.model(**case.parameters).fit(case.data, seed=seed, progress=False, **more)


def same_state(one: Estimator, two: Estimator) -> bool:
    (first, extra), (second, extra_too) = one._state(), two._state()
    return extra == extra_too and first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_every_model_is_tried():
    assert {case.model for case in CASES.values()} == set(MODELS.values())
    assert all(getattr(gendyn, name) is kind for name, kind in MODELS.items())


@every_case
def test_fit_sample_score(case):
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    model = case.model(**case.parameters)
    assert not hasattr(model, "process_")
    assert model.fit(case.data, seed=3, progress=False) is model
    paths = model.sample(n=7, seed=1)
    assert isinstance(paths, Paths)
    assert len(paths) == 7
    assert torch.isfinite(paths.values).all()
    assert np.isfinite(model.score(case.fresh))
    assert model.seed_ == 3
    assert isinstance(model.history_, pd.DataFrame)
    assert {"step", "loss"} <= set(model.history_.columns)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()


@every_case
def test_same_seed_same_model(case):
    one, two, other = fitted(case), fitted(case), fitted(case, seed=4)
    assert same_state(one, two)
    assert same_state(one, other) != case.trained
    assert torch.equal(one.sample(n=5, seed=2).values, two.sample(n=5, seed=2).values)


@every_case
def test_a_fit_leaves_data_and_parameters_alone(case):
    before = [x.clone() for x in tensors_of(case.data)]
    model = fitted(case)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(case.data), strict=True))
    assert model.get_params() == case.model(**case.parameters).get_params()


@every_case
def test_save_and_load(case, tmp_path):
    model = fitted(case)
    model.save(tmp_path / "model.safetensors")
    again = gendyn.load(tmp_path / "model.safetensors")
    assert type(again) is case.model
    assert same_state(model, again)
    assert again.get_params() == model.get_params()
    assert again.seed_ == model.seed_
    pd.testing.assert_frame_equal(again.history_, model.history_)
    assert torch.equal(again.sample(n=5, seed=2).values, model.sample(n=5, seed=2).values)
    assert again.score(case.fresh) == model.score(case.fresh)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert again.clone().fit(case.data, seed=3, progress=False).process_ is not None


@every_case
def test_a_stopped_fit_goes_on_to_the_same_model(case, tmp_path, monkeypatch):
    whole = fitted(case)
    monkeypatch.setattr("gendyn.training.loop._CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "state.safetensors"
    from gendyn.training.checkpoint import Checkpoint

    written = []
    write = Checkpoint.write

    def stop(self, tensors, state):
        write(self, tensors, state)
        written.append(state["step"])
        if state["step"] >= case.steps // 2:
            raise MemoryError("stopped by the test")

    monkeypatch.setattr(Checkpoint, "write", stop)
    with pytest.raises(MemoryError):
        fitted(case, checkpoint=file)
    monkeypatch.setattr(Checkpoint, "write", write)
    assert 0 < written[-1] < case.steps or case.parameters.get("patience")
    resumed = fitted(case, checkpoint=file)
    assert same_state(whole, resumed)
    pd.testing.assert_frame_equal(whole.history_, resumed.history_)
    # A finished fit that is called again returns at once; with other data or another seed it refuses.
    assert same_state(whole, fitted(case, checkpoint=file))
    with pytest.raises(ValueError, match="another fit|belongs to"):
        fitted(case, seed=8, checkpoint=file)
    assert same_state(fitted(case, seed=8), fitted(case, seed=8, checkpoint=file, resume=False))


@every_case
def test_bad_data_are_refused(case):
    model = case.model(**case.parameters)
    with pytest.raises(TypeError):
        model.fit([1, 2, 3], progress=False)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(spoilt(case.data), progress=False)
    assert not hasattr(model, "process_")


@every_case
def test_unfitted_models_say_so(case, tmp_path):
    model = case.model(**case.parameters)
    for call in (
        lambda: model.sample(n=3),
        lambda: model.score(case.data),
        lambda: model.save(tmp_path / "m.safetensors"),
    ):
        with pytest.raises(NotFittedError, match=r"not fitted yet; call fit\(data\) first"):
            call()
    assert list(tmp_path.iterdir()) == []


@every_case
def test_parameters_are_those_of_the_constructor(case):
    model = case.model(**case.parameters)
    assert case.model(**model.get_params()).get_params() == model.get_params()
    assert model.clone().get_params() == model.get_params()
    assert type(model).__name__ in repr(model)
    with pytest.raises(ValueError, match="has no parameter 'nonsense'; it has"):
        model.set_params(nonsense=1)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.trained])
def test_ctrl_c_keeps_the_model_so_far(case, monkeypatch):
    from gendyn.training import loop

    key_of, half = loop.derive_seed, case.steps // 2

    def interrupt(seed, *labels):
        if labels == ("train", half):
            raise KeyboardInterrupt
        return key_of(seed, *labels)

    monkeypatch.setattr(loop, "derive_seed", interrupt)
    with pytest.warns(UserWarning, match=f"interrupted after {half} of {case.steps} steps"):
        model = fitted(case)
    assert torch.isfinite(model.sample(n=3).values).all()
    assert len(model.history_) <= half


def test_a_killed_process_goes_on_to_the_same_model(tmp_path):
    """Kill -9 a real process in mid-fit; the next one ends where an undisturbed one does."""
    script = textwrap.dedent(
        """
        import sys, torch, gendyn
        x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        data = gendyn.Snapshots([0.0, 1.0, 2.0], [x, x + 1, x * 2])
        import gendyn.training.loop as loop
        from gendyn.training.checkpoint import Checkpoint
        loop._CHECKPOINT_SECONDS = 0.0
        write = Checkpoint.write
        def tell(self, tensors, state):
            write(self, tensors, state)
            print(state["step"], flush=True)
        Checkpoint.write = tell
        gendyn.FlowMatching("ot", steps=1500, hidden=(16,)).fit(
            data, progress=False, checkpoint=sys.argv[1]).save(sys.argv[2])
        """
    )

    def start(state, out):
        arguments = [sys.executable, "-c", script, str(tmp_path / state), str(tmp_path / out)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    process = start("state", "killed.safetensors")
    for line in process.stdout:
        if int(line) >= 700:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert not (tmp_path / "killed.safetensors").exists()
    again = start("state", "resumed.safetensors")
    first = int(again.stdout.readline())
    again.communicate()
    assert first > 700
    start("fresh", "whole.safetensors").communicate()
    assert (tmp_path / "resumed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_models_are_read_without_warnings(tmp_path):
    model = fitted(CASES["FlowMatching(ot)"])
    model.save(tmp_path / "m.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        began = time.perf_counter()
        gendyn.load(tmp_path / "m.safetensors")
    assert time.perf_counter() - began < 30
