"""Public data sets by name: what is there is read as its README says, what is not is a sentence."""

import numpy as np
import pytest
import torch

import gendyn
from gendyn.data import Snapshots

SIZES = {
    "eb": (2381, 4163, 3278, 3665, 3332),
    "emt": None,
    "larry-2d": None,
    "larry-50d": (4702, 4702),
    "larry-clones": None,
    "sim-gene": None,
    "dyngen": None,
    "wot": None,
}


def need(name):
    if not gendyn.datasets.available().set_index("name").loc[name, "present"]:
        pytest.skip(f"the data set {name!r} is not in $GENDYN_DATA")


@pytest.mark.parametrize("name", SIZES)
def test_each_set_that_is_there(name):
    need(name)
    data = gendyn.datasets.load(name)
    assert isinstance(data, Snapshots)
    assert data.dtype == torch.float32
    assert (data.times.diff() > 0).all()
    if SIZES[name]:
        assert data.sizes == SIZES[name]


def test_embryoid_bodies():
    need("eb")
    five, hundred = (gendyn.datasets.load("eb", dims=d) for d in (5, 100))
    assert (five.dim, hundred.dim) == (5, 100)
    assert torch.equal(hundred.samples[2][:, :5], five.samples[2])
    assert five.times.tolist() == [0, 1, 2, 3, 4]
    assert gendyn.datasets.load("eb", dims=2, time_scale="real").times.tolist() == [1.5, 7.5, 13.5, 19.5, 25.5]


def test_real_times_of_the_transition():
    need("emt")
    assert gendyn.datasets.load("emt", time_scale="real").times.tolist() == [0.0, 8.0, 24.0, 72.0]


def test_the_table_names_every_set():
    table = gendyn.datasets.available()
    assert table["name"].tolist() == list(SIZES)
    assert table["source"].str.len().min() > 10


@pytest.mark.parametrize("name", SIZES)
def test_an_absent_set_says_what_whose_and_where(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"from its publisher \(.+\), and put it into the folder .*biology"):
        gendyn.datasets.load(name)
    monkeypatch.delenv("GENDYN_DATA")
    with pytest.raises(FileNotFoundError, match="set the environment variable GENDYN_DATA"):
        gendyn.datasets.load(name)


def test_sentences(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="time_scale must be one of published, real"):
        gendyn.datasets.load("eb", time_scale="days")
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    np.savez(tmp_path / "emt_a549_10d.npz", X=np.zeros((8, 10), dtype=np.float32), t=np.repeat([0.0, 1.0], 4))
    with pytest.raises(ValueError, match="dims must lie in 1 to 10 for 'emt'; got 99"):
        gendyn.datasets.load("emt", dims=99)
    assert gendyn.datasets.load("emt").sizes == (4, 4)
