"""Public data sets by name: what is there is read as its README says, what is not is a sentence."""

import re
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch

import gendyn
from gendyn.data import Paths, Snapshots, table_windows
from gendyn.datasets import available, load, table
from gendyn.systems import FlashingRatchet

SETS = available().set_index("name")
HERE = SETS[SETS["folder"] == "matplotlib"].index.tolist()
TABLES = ("chaos", "jump-prior", "physionet2012-patients", "cav-visits")

# Sizes of populations, or numbers of paths, times and features.
SHAPES = {
    "eb": (2381, 4163, 3278, 3665, 3332),
    "emt": (577, 885, 788, 883),
    "larry-2d": (1429, 3781, 5788),
    "larry-50d": (4702, 4702),
    "larry-clones": (34, 316, 431),
    "sim-gene": (400, 442, 530, 690, 969),
    "dyngen": (156, 112, 63, 96, 301),
    "wot": (85, 81, 84),
    "lv200": (200,) * 20,
    "repressilator200": (200,) * 20,
    "protein-repressilator200": (200,) * 11,
    "vortex200": (200,) * 20,
    "pbmc": (500,) * 41,
    "lv50": (50,) * 9,
    "repressilator50": (50,) * 11,
    "vortex111": (111,) * 9,
    "eb300": (300,) * 5,
    "hesc": (92, 102, 66, 172, 138),
    "eb5d": (2381,) * 5,
    "converging-gaussians": (48,) * 4,
    "petal": (40,) * 6,
    "eb-plane": (100,) * 5,
    "dyngen40": (40,) * 5,
    "moons-pairs": (10000, 2, 2),
    "t-shape-pairs": (10000, 2, 2),
    "cell-pairs": (4702, 2, 50),
    "arrowhead": (211, 251, 1),
    "gunpoint": (200, 150, 1),
    "coffee": (56, 286, 1),
    "trace": (200, 275, 1),
    "basic-motions": (80, 100, 6),
    "japanese-vowels": (640, 29, 12),
    "italy-power-demand": (1096, 24, 1),
    "hopper": (100, 100, 14),
    "physionet2012": (1500, 203, 37),
    "brusselator-sporadic": (1000, 29, 2),
    "motion-cuts": (14, 38, 6),
    "stock": (1, 3685, 6),
    "etth1": (1, 17420, 7),
    "beijing-pm25": (1, 43824, 7),
    "air-quality": (1, 9357, 13),
    "exchange-rate": (1, 7588, 8),
    "civic-offices": (1, 695 * 96, 4),
    "co2": (1, 2284, 1),
    "sunspots": (1, 309, 1),
    "lynx": (1, 114, 1),
    "lorenz63-standardised": (2, 100_000, 3),
    "eeg64": (1, 9640, 64),
    "btc": (1, 34_111, 5),
    "brent": (1, 51_295, 5),
    "nile": (1, 663, 1),
    "nbs": (1, 289, 1),
    "hemisphere": (1, 1632, 1),
    "ethernet": (1, 4000, 1),
    "video": (1, 1000, 1),
    "spx": (1, 4600, 4),
    "ratchet-v0": (10_000, 100, 1),
    "ratchet-v1": (10_000, 100, 1),
    "ratchet-v3": (10_000, 100, 1),
    "cav": (622, 15, 1),
    "opinion": (4096, 101, 1),
    "n-body": (8, 51, 3),
    "membrane": (1, 12_000, 1),
    "eeg-mri": (1, 800, 4),
    "google": (1, 1047, 6),
    "stocks": (1, 390, 10),
}


def need(name):
    if not available().set_index("name").loc[name, "present"]:
        pytest.skip(f"the data set {name!r} is not in $GENDYN_DATA")


def loaded(name, **options):
    need(name)
    return load(name, **options)


@pytest.mark.parametrize("name", SETS.index)
def test_each_set_that_is_there_has_its_shape(name):
    data = loaded(name)
    row = SETS.loc[name]
    if row["kind"] == "snapshots":
        assert isinstance(data, Snapshots)
        assert data.sizes == SHAPES[name]
    else:
        assert isinstance(data, Paths)
        assert tuple(data.values.shape) == SHAPES[name]
        assert data.info["dataset"] == name
        assert data.info["time"] == row["time"]
        assert data.info["units"] == row["units"]
    assert data.names is not None
    one = load(name, dims=1)
    assert one.dim == 1


@pytest.mark.parametrize("name", [name for name in SETS.index if SETS.loc[name, "splits"]])
def test_splits_are_the_whole(name):
    whole = loaded(name)
    parts = [load(name, split=part) for part in SETS.loc[name, "splits"].split(", ")]
    if isinstance(whole, Paths):
        assert sum(map(len, parts)) == len(whole)
        longest = torch.cat([part.values for part in parts])
        assert torch.equal(longest.nan_to_num(), whole.values.nan_to_num())
    else:
        assert sorted(t for part in parts for t in part.times.tolist()) == whole.times.tolist()
        for part in parts:
            for t in part.times.tolist():
                assert torch.equal(part.at(t).samples[0], whole.at(t).samples[0])
    with pytest.raises(ValueError, match=f"split of '{name}' must be one of all, .*; got 'middle'"):
        load(name, split="middle")


def test_the_documentation_names_every_set_with_its_folder():
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| .* \| `?([^|`]+)`? \|$", page, re.MULTILINE))
    assert {name: rows.get(name) for name in SETS.index} == SETS["folder"].to_dict()


def test_the_table_names_every_set():
    assert SETS.index.tolist() == list(SHAPES)
    assert SETS["source"].str.len().min() > 10
    assert (SETS["licence"].str.len() > 0).all()
    assert (SETS["time"].str.len() > 0).all()
    assert (SETS["units"].str.len() > 0).all()
    assert SETS["description"].str.partition(";")[0].str.len().max() < 120
    assert set(SETS["kind"]) == {"snapshots", "paths"}


@pytest.mark.parametrize("name", [name for name in SETS.index if name not in HERE])
def test_an_absent_set_says_what_whose_and_where(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    folder = SETS.loc[name, "folder"]
    with pytest.raises(FileNotFoundError, match=rf"from its publisher \(.+\), and put it into the folder .*{folder}"):
        load(name)
    monkeypatch.delenv("GENDYN_DATA")
    with pytest.raises(FileNotFoundError, match="set the environment variable GENDYN_DATA"):
        load(name)


@pytest.mark.parametrize("name", HERE)
def test_recordings_need_no_folder(name, monkeypatch, tmp_path):
    monkeypatch.delenv("GENDYN_DATA", raising=False)
    if SETS.loc[name, "present"]:
        assert isinstance(load(name), Paths)
    monkeypatch.setattr(matplotlib.cbook, "get_sample_data", lambda file, asfileobj: tmp_path / file)
    with pytest.raises(FileNotFoundError, match="this matplotlib was installed without its sample data, "):
        load(name)


@pytest.mark.parametrize("name", TABLES)
def test_an_absent_table_says_what_whose_and_where(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"from its publisher \(.+\), and put it into the folder"):
        table(name)


def test_embryoid_bodies():
    five, hundred = (loaded("eb", dims=d) for d in (5, 100))
    assert (five.dim, hundred.dim) == (5, 100)
    assert torch.equal(hundred.samples[2][:, :5], five.samples[2])
    assert five.times.tolist() == [0, 1, 2, 3, 4]
    assert load("eb", dims=2, time_scale="real").times.tolist() == [1.5, 7.5, 13.5, 19.5, 25.5]


def test_real_times_of_the_transition():
    assert loaded("emt", time_scale="real").times.tolist() == [0.0, 8.0, 24.0, 72.0]


def test_benchmarks_train_on_their_times():
    assert loaded("lv50", split="train").times.tolist() == [0, 2, 4, 6, 8]
    assert loaded("hesc", split="held-out").times.tolist() == [0.5, 1.5]
    assert loaded("vortex200", split="forecast").times.tolist() == [8.0]
    assert loaded("pbmc", split="validation").times.tolist() == [k + 0.5 for k in range(20)]


def test_stock_windows_are_those_of_the_tables():
    assert tuple(table_windows(loaded("stock")).values.shape) == (3661, 24, 6)
    assert tuple(table_windows(loaded("etth1")).values.shape) == (17_396, 24, 7)


def test_what_is_missing_is_masked():
    dust = loaded("beijing-pm25")
    assert (~dust.mask).sum((0, 1)).tolist() == [2067, 0, 0, 0, 0, 0, 0]
    air = loaded("air-quality")
    missing = dict(zip(air.names, (~air.mask).double().mean((0, 1)).tolist(), strict=True))
    assert missing["NMHC_GT"] == pytest.approx(0.902, abs=5e-4)
    assert missing["CO_GT"] == pytest.approx(0.180, abs=5e-4)
    assert missing["NOx_GT"] == pytest.approx(0.175, abs=5e-4)
    assert missing["T"] == pytest.approx(0.039, abs=5e-4)
    assert "NMHC_GT" not in load("air-quality", dims=12).names
    assert int((~loaded("co2").mask).sum()) == 59
    assert (~loaded("civic-offices").mask).sum((0, 1)).tolist() == [209, 209, 209, 241]


def test_classes_and_lengths():
    vowels = loaded("japanese-vowels")
    assert np.unique(vowels.labels, return_counts=True)[1].tolist() == [61, 65, 118, 74, 59, 54, 70, 80, 59]
    assert (int(vowels.lengths.min()), int(vowels.lengths.max())) == (7, 29)
    assert len(load("japanese-vowels", split="train")) == 270
    motions = loaded("basic-motions")
    assert np.unique(motions.labels, return_counts=True)[1].tolist() == [20] * 4
    assert len(load("basic-motions", split="test")) == 40
    # The archive normalises each series.
    gun = loaded("gunpoint").values[:, :, 0]
    assert gun.mean(1).abs().max() < 1e-4
    torch.testing.assert_close(gun.std(1), torch.ones(200), atol=2e-3, rtol=0)


def test_patients():
    care = loaded("physionet2012")
    assert (care.labels == "died").sum() == 218
    assert float(care.times.max()) <= 48.0
    assert len(care.names) == 37
    covariates = table("physionet2012-patients")
    assert covariates["died"].sum() == 218
    assert (covariates["died"].to_numpy() == (care.labels == "died")).all()
    # A machine that breathes is noted where it is there, and nowhere else.
    machine = care.names.index("MechVent")
    assert (care.values[..., machine][care.mask[..., machine]] == 1).all()


def test_heart_transplants_have_the_published_counts():
    cav = loaded("cav")
    assert cav.states == ("none", "mild", "severe", "death")
    counts = np.zeros((4, 4), dtype=int)
    states, lengths = cav.values[:, :, 0].numpy(), cav.lengths.numpy()
    for k in range(cav.n_times - 1):
        inside = lengths > k + 1
        np.add.at(counts, (states[inside, k], states[inside, k + 1]), 1)
    assert counts[:3].tolist() == [[1367, 204, 44, 148], [46, 134, 54, 48], [4, 13, 107, 55]]
    assert counts[3].sum() == 0
    assert int(cav.lengths.sum()) == len(table("cav-visits")) == 2846


@pytest.mark.parametrize("potential", [0, 1, 3])
def test_published_ratchets_are_the_system(potential):
    published = loaded(f"ratchet-v{potential}")
    system = FlashingRatchet(float(potential))
    np.testing.assert_allclose(published.info["rates"], system.matrix(), atol=1e-6)
    np.testing.assert_allclose(published.info["initial"], system.stationary(), atol=1e-6)
    np.testing.assert_allclose(published.times, np.linspace(0, 2.5, 100))
    shares = torch.bincount(published.values.flatten(), minlength=6).double() / published.values.numel()
    assert (shares - system.stationary()).abs().max() < 0.01


def test_sporadic_reactions():
    reactions = loaded("brusselator-sporadic")
    assert (int(reactions.lengths.min()), int(reactions.lengths.max())) == (20, 29)
    inside = torch.arange(29) < reactions.lengths[:, None]
    seen = reactions.mask[inside]
    assert seen.any(1).all()
    assert seen.all(1).double().mean().item() == pytest.approx(0.8, abs=0.01)
    assert len(seen) == 24_409


def test_published_opinions_close_in():
    x = loaded("opinion", split="test").values[:, :, 0]
    spread = x.std(0)[[0, 25, 50, 75, 100]]
    np.testing.assert_allclose(spread, [1.15, 1.00, 0.83, 0.58, 0.17], atol=0.02)


def test_attractor_is_standardised_and_noisy_in_training_only():
    attractor = loaded("lorenz63-standardised")
    assert attractor.labels.tolist() == ["train", "test"]
    torch.testing.assert_close(attractor.values.std(1), torch.ones(2, 3), atol=0.02, rtol=0)
    rough = attractor.values.diff(dim=1).diff(dim=1).std((1, 2))
    assert rough[0] > 10 * rough[1]


def test_candles_are_hours_with_gaps():
    for name in ("btc", "brent"):
        candles = loaded(name)
        gaps = candles.times.diff()
        assert gaps.min() == 1
        assert gaps.max() >= 2
        opened, high, low, close = candles.values[0, :, :4].unbind(1)
        assert (high >= torch.maximum(opened, close)).all()
        assert (low <= torch.minimum(opened, close)).all()


def test_long_series_begin_and_end_as_published():
    assert loaded("nile").times[[0, -1]].tolist() == [622, 1284]
    assert loaded("nile").values[0, 0, 0] == 1157
    assert loaded("spx").info["first"] == "2000-01-03"
    assert loaded("lynx").values[0, :3, 0].tolist() == [269, 321, 585]
    assert loaded("hemisphere").times[13].item() == pytest.approx(1855 + 1 / 12)


def test_tables():
    need("ratchet-v1")
    prior = table("jump-prior")
    for size, count, mean_links in ((6, 800, 16.1), (4, 600, 7.5)):
        part = prior[prior["n_states"] == size]
        assert len(part) == count * size * (size - 1)
        assert (part["rate"] >= 0).all()
        assert ((part["rate"] > 0) == part["linked"]).all()
        sparse = part.groupby("process")["linked"].sum()
        sparse = sparse[sparse < size * (size - 1)]
        assert sparse.mean() == pytest.approx(mean_links, abs=0.4)
    chaos = table("chaos").set_index("name")
    assert len(chaos) == 135
    assert chaos.loc["Lorenz", "max_lyapunov"] == pytest.approx(0.892, abs=1e-3)


def test_wrong_names_are_met_with_near_ones():
    with pytest.raises(ValueError, match=r"there is no data set 'Ratchet_v1'; did you mean ratchet-v1 or .*\?$"):
        load("Ratchet_v1")
    with pytest.raises(ValueError, match=r"there is no data set 'mnist'; gendyn.datasets.available\(\) lists them$"):
        load("mnist")
    with pytest.raises(ValueError, match=r"there is no table 'cav'; did you mean cav-visits\?"):
        table("cav")
    with pytest.raises(ValueError, match=r"there is no table 'x'; there are chaos, jump-prior, "):
        table("x")


def test_sentences(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="time_scale must be one of published, real"):
        gendyn.datasets.load("eb", time_scale="days")
    with pytest.raises(ValueError, match="split of 'eb' must be one of all; got 'train'"):
        gendyn.datasets.load("eb", split="train")
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    np.savez(tmp_path / "emt_a549_10d.npz", X=np.zeros((8, 10), dtype=np.float32), t=np.repeat([0.0, 1.0], 4))
    with pytest.raises(ValueError, match="dims must lie in 1 to 10 for 'emt'; got 99"):
        gendyn.datasets.load("emt", dims=99)
    assert gendyn.datasets.load("emt").sizes == (4, 4)
