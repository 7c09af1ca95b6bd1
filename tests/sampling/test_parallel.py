"""However a simulation is divided, the result is the same."""

import joblib
import pytest
import torch

from gendyn.data import Paths
from gendyn.sampling import ODE, RateMatrix, ReactionNetwork, sample
from gendyn.systems import OrnsteinUhlenbeck

SWITCH = RateMatrix([[-1.5, 1.5], [0.5, -0.5]], states=["closed", "open"])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_processes_do_not_show(backend):
    process, x0 = OrnsteinUhlenbeck(dim=2), torch.zeros(700, 2)
    whole = sample(process, x0, [0.0, 0.5, 1.0], step=0.1, seed=3)
    with joblib.parallel_config(backend=backend):
        parts = sample(process, x0, [0.0, 0.5, 1.0], step=0.1, seed=3, n_jobs=2, chunk=256)
    assert torch.equal(parts.values, whole.values)
    assert dict(parts.info) == dict(whole.info)


@pytest.mark.slow
def test_dask_does_not_show():
    distributed = pytest.importorskip("distributed")
    process, x0 = OrnsteinUhlenbeck(), torch.zeros(600, 1)
    whole = sample(process, x0, [0.0, 1.0], step=0.1, seed=3)
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None), joblib.parallel_config("dask"):
        parts = sample(process, x0, [0.0, 1.0], step=0.1, seed=3, n_jobs=2, chunk=256)
    assert torch.equal(parts.values, whole.values)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".zarr"])
def test_to_disk_from_processes(tmp_path, suffix):
    process, x0 = OrnsteinUhlenbeck(dim=2), torch.zeros(600, 2)
    run = {"step": 0.1, "seed": 3, "names": ["a", "b"]}
    whole = sample(process, x0, [0.0, 0.5, 1.0], **run)
    target = tmp_path / f"p{suffix}"
    disk = sample(process, x0, [0.0, 0.5, 1.0], n_jobs=2, chunk=256, to=target, **run)
    assert torch.equal(disk.values, whole.values)
    assert disk == Paths.load(target)
    assert disk.names == ("a", "b")
    assert dict(disk.info) == dict(whole.info)
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".zarr"])
def test_a_failed_run_leaves_nothing(tmp_path, suffix):
    x0 = torch.ones(600, 1)
    with pytest.raises(FloatingPointError):
        sample(ODE(lambda t, x: x**3, 1), x0, [0, 9], solver="euler", step=0.1, chunk=256, to=tmp_path / f"p{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_jump_processes_come_through_the_same_door(tmp_path):
    x0 = torch.zeros(700, 1, dtype=torch.int64)
    whole = sample(SWITCH, x0, [0.0, 0.5, 2.0], seed=1)
    assert whole.states == ("closed", "open")
    assert sample(SWITCH, x0, [0.0, 0.5], names=["channel"]).names == ("channel",)
    assert whole.values.dtype == torch.int64
    assert float(whole.values[:, 1].double().mean()) == pytest.approx(0.474090, abs=0.08)
    again = sample(SWITCH, x0, [0.0, 0.5, 2.0], seed=1, chunk=256, to=tmp_path / "p.npz")
    assert torch.equal(again.values, whole.values)
    assert again.states == whole.states
    assert torch.equal(Paths.load(tmp_path / "p.npz").values, whole.values)
    final = sample(SWITCH, x0, [0.0, 0.5, 2.0], seed=1, save="final", n_jobs=2)
    assert torch.equal(final.values[:, 0], whole.values[:, -1])


def test_reaction_networks_too():
    birth_death = ReactionNetwork([[1], [-1]], lambda t, x: torch.cat([x, 1.5 * x], dim=1))
    x0 = torch.full((4000, 1), 20, dtype=torch.int64)
    end = sample(birth_death, x0, [0.0, 1.0], seed=1).values[:, 1, 0].double()
    assert abs(end.mean() - 12.130613) < 4 * end.std() / 4000**0.5
    assert float(end.var()) == pytest.approx(23.865122, rel=0.1)


@pytest.mark.parametrize(
    ("process", "more", "error", "message"),
    [
        (SWITCH, {"gradient": "backprop"}, ValueError, "a jump process takes no gradient; leave it out"),
        (SWITCH, {"substeps": 3}, ValueError, "a jump process takes no substeps; leave it out"),
        (SWITCH, {"solver": "heun"}, ValueError, "solver"),
        (SWITCH, {"solver": 3}, TypeError, "the solver of a jump process is a name"),
        (ODE(lambda t, x: -x, 1), {"n_jobs": 0, "step": 0.1}, ValueError, "n_jobs must be"),
        (ODE(lambda t, x: -x, 1), {"n_jobs": 2, "step": 0.1, "gradient": "backprop"}, ValueError, "without a graph"),
    ],
)
def test_sentences(process, more, error, message):
    with pytest.raises(error, match=message):
        sample(process, torch.zeros(3, 1, dtype=torch.int64), [0.0, 1.0], **more)
