"""Couplings of batches: those of all pairs where there is one batch, near to them where there are more."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.bridges import BatchedBridge, MultiMarginalBridge
from gendyn.bridges.density_rows import density_rows
from gendyn.bridges.interval_laws import interval_laws
from gendyn.coupling import Batches, minibatch_bridge
from gendyn.evaluation import wasserstein_value
from gendyn.systems import BrownianMotion


def populations(n=1000, seed=0, sizes=None):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for k, size in enumerate(sizes or (n, n, n)):
        x = torch.randn(size, 2, generator=generator, dtype=torch.float64)
        x[: size // 2, 0] += 3.0 * k
        samples.append(x)
    return gd.Snapshots([0.0, 1.0, 2.0], samples)


def cross_covariance(plan, x, y):
    return (x - x.mean(0)).T @ plan.to_dense() @ (y - y.mean(0))


def test_one_batch_is_the_whole_coupling():
    data, reference = populations(40), BrownianMotion(volatility=0.7, dim=2)
    whole, _ = MultiMarginalBridge.solve(reference, data, tolerance=1e-11)
    one, solved = BatchedBridge.solve_batches(reference, data, 40, tolerance=1e-11)
    for k in range(2):
        torch.testing.assert_close(one.plans[k].to_dense(), whole.plans[k].to_dense(), atol=1e-9, rtol=0)
        assert solved[k].marginal_error < 1e-10
    torch.testing.assert_close(one.kl, whole.kl, atol=1e-8, rtol=0)
    x = data.samples[0][:7]
    torch.testing.assert_close(
        one.process.drift(torch.tensor(0.3), x), whole.process.drift(torch.tensor(0.3), x), atol=1e-8, rtol=0
    )


@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_the_error_falls_with_the_size_of_batches(sigma):
    data, reference = populations(), BrownianMotion(volatility=sigma, dim=2)
    whole, _ = MultiMarginalBridge.solve(reference, data)
    truth = [cross_covariance(whole.plans[k], *data.samples[k : k + 2]) for k in range(2)]
    errors, gaps = [], []
    for size in (50, 125, 500):
        bridge, solved = BatchedBridge.solve_batches(reference, data, size, seed=1)
        found = [cross_covariance(bridge.plans[k], *data.samples[k : k + 2]) for k in range(2)]
        errors.append(max(float((f - t).norm() / t.norm()) for f, t in zip(found, truth, strict=True)))
        gaps.append(float((bridge.kl - whole.kl).max()))
        assert all(result.marginal_error < 1e-4 for result in solved)
        for k in range(2):
            torch.testing.assert_close(
                bridge.plans[k].marginals[0], torch.full((1000,), 1e-3, dtype=torch.float64), rtol=1e-6, atol=0
            )
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.04
    assert errors[2] < 0.01
    assert gaps[0] > gaps[1] > gaps[2] > -1e-3
    # Points of it cannot be told from those of the whole.
    a, b, again = (model.interpolate(0.5, 1000, seed) for model, seed in ((bridge, 1), (whole, 2), (whole, 3)))
    assert float(wasserstein_value(a, b)) < 1.1 * float(wasserstein_value(again, b))


def test_two_normals_have_the_covariance_of_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    y = 3 + 1.5 * torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    x, y = (x - x.mean()) / x.std(), 3 + 1.5 * (y - y.mean()) / y.std()
    bridge, _ = BatchedBridge.solve_batches(BrownianMotion(), gd.Snapshots([0.0, 1.0], [x, y]), 200)
    assert float(cross_covariance(bridge.plans[0], x, y)) == pytest.approx(1.0811388, rel=0.02)
    # Points that are not rows go where the potentials of all batches say: slopes of the closed form.
    for t, slope in ((0.0, 0.0811388), (0.5, 0.0779754)):
        place = 3 * t + torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
        drift = bridge.process.drift(torch.tensor(t), place)
        assert float(drift[1] - drift[0]) == pytest.approx(slope, abs=0.03)
        assert float(drift.mean()) == pytest.approx(3.0, abs=0.05)


def test_paths_stay_in_their_batches_and_have_the_law_of_the_plan():
    data = populations(60)
    bridge, _ = BatchedBridge.solve_batches(BrownianMotion(dim=2), data, 20)
    n = 60_000
    paths = bridge.sample_paths([0.0, 1.0], n, seed=0)
    i, j = (torch.cdist(paths[:, k], data.samples[k]).argmin(1) for k in range(2))
    assert (bridge.batches[0].rows[i] == bridge.batches[0].columns[j]).all()
    counts = torch.zeros(60, 60, dtype=torch.float64).index_put_((i, j), torch.ones(n).double(), accumulate=True) / n
    expected = bridge.plans[0].to_dense()
    assert float((counts - expected).abs().max()) < 5 * math.sqrt(float(expected.max()) / n)
    truncated, lost = bridge.truncated_plan(0, atoms=3)
    assert len(truncated) == 180
    assert 0 < lost < 1
    torch.testing.assert_close(truncated.marginals[0], expected.sum(1), atol=1e-12, rtol=0)


def test_unequal_sizes_and_weights():
    data = populations(sizes=(300, 100, 230))
    weights = [torch.rand(len(x), generator=torch.Generator().manual_seed(3)) + 0.5 for x in data.samples]
    data = gd.Snapshots(data.times, list(data.samples), weights=weights)
    bridge, solved = BatchedBridge.solve_batches(BrownianMotion(dim=2), data, 60)
    assert [batches.count for batches in bridge.batches] == [5, 4]
    for k, result in enumerate(solved):
        columns = bridge.plans[k].marginals[1]
        missed = float((columns - data.mass(float(data.times[k + 1]))).abs().sum())
        assert missed == pytest.approx(result.marginal_error, abs=2e-5)
        assert 0 < missed < 0.2
        torch.testing.assert_close(
            bridge.plans[k].marginals[0], data.mass(float(data.times[k])).double(), atol=1e-6, rtol=0
        )


def test_batches_are_dealt_evenly_along_the_axis():
    x, y = populations().samples[1:]
    batches = Batches.deal(x, y, 100, torch.Generator().manual_seed(0))
    means = torch.stack([x[rows, 0].mean() for rows, _ in batches])
    # Of random batches they would have the deviation of x over ten.
    assert float(means.std()) < 0.1 * float(x[:, 0].std()) / 3
    other = Batches.deal(x, y, 100, torch.Generator().manual_seed(1))
    assert not torch.equal(other.rows, batches.rows)


def test_the_model_takes_batches_and_comes_back_from_a_file(tmp_path):
    data = populations(100)
    model = gd.SchrodingerBridge(sigma=0.7, batch_size=25).fit(data, progress=False, seed=3)
    assert isinstance(model.bridge_, BatchedBridge)
    assert model.cost_["pairs"].tolist() == [2500, 2500]
    assert model.cost_["rows_at_once"].tolist() == [25, 25]
    model.save(tmp_path / "m.safetensors")
    again = gd.load(tmp_path / "m.safetensors")
    assert torch.equal(again.sample(n=40).values, model.sample(n=40).values)
    assert again.kl_ == model.kl_
    other = gd.SchrodingerBridge(sigma=0.7, batch_size=25).fit(data, progress=False, seed=4)
    assert not torch.equal(other.bridge_.batches[0].rows, model.bridge_.batches[0].rows)
    killed = gd.SchrodingerBridge(sigma=0.7, batch_size=25)
    killed.fit(data, progress=False, seed=3, checkpoint=tmp_path / "c.safetensors")
    resumed = gd.SchrodingerBridge(sigma=0.7, batch_size=25)
    resumed.fit(data, progress=False, seed=3, checkpoint=tmp_path / "c.safetensors")
    assert torch.equal(resumed.sample(n=40).values, model.sample(n=40).values)


def test_errors_and_warnings(monkeypatch):
    data = populations(30)
    for options, words in (
        ({"batch_size": 0}, "batch_size must be at least 1, or None, and is given in place of rows_at_once; got 0"),
        ({"batch_size": 5, "rows_at_once": 3}, "in place of rows_at_once; got 5 and 3"),
        ({"batch_size": 5, "relaxation": 2.0}, "batches are coupled where weights are met"),
        ({"batch_size": 5, "marginal_relaxation": 2.0}, "batches are coupled where weights are met"),
    ):
        with pytest.raises(ValueError, match=words):
            gd.SchrodingerBridge(sigma=1.0, **options).fit(data, progress=False)
    with pytest.raises(ValueError, match="30 batches of 1 rows need as many rows on either side; got 30 and 4"):
        Batches.deal(data.samples[0], data.samples[1][:4], 1, torch.Generator())
    with pytest.warns(UserWarning, match="batches of the coupling between times 1 and 2 miss .* sigma is small"):
        gd.SchrodingerBridge(sigma=0.05, batch_size=10, max_iterations=1).fit(data, progress=False)
    law = next(interval_laws(BrownianMotion(dim=2), data.samples, data.times))
    batches = Batches.deal(data.samples[0], data.samples[1], 10, torch.Generator().manual_seed(0))
    a = torch.full((30,), 1 / 30, dtype=torch.float64)
    b = torch.where(batches.columns == 0, 0.0, a)
    with pytest.raises(ValueError, match="a batch has no weight; raise batch_size"):
        minibatch_bridge(density_rows(law, data.samples[1]), a, b / b.sum(), batches)
    model = gd.SchrodingerBridge(sigma=1.0, batch_size=10).fit(data, progress=False)
    monkeypatch.setattr("gendyn.bridges.batched_bridge._ATOMS", 10)
    with pytest.raises(ValueError, match="the batches of a coupling have some 300 pairs, too many"):
        _ = model.bridge_.plans
