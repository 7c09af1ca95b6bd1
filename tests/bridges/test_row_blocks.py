"""Couplings in blocks of rows are those that are held as a whole, and so is everything that is drawn from them."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.bridges.density_rows import density_rows
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.transition import transition_law
from gendyn.coupling import blocked_bridge, row_blocks, static_bridge
from gendyn.sampling import LinearProcess


def problem(n=40, m=50, d=2, sigma=0.6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = torch.randn(m, d, generator=generator, dtype=torch.float64) + 1
    a, b = (torch.rand(size, generator=generator, dtype=torch.float64) + 0.1 for size in (n, m))
    b[3] = 0
    process = LinearProcess(-0.3 * torch.eye(d), torch.ones(d), sigma * torch.eye(d))
    law = transition_law(process, x, 0.0, torch.tensor([1.0]))
    return law, y, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("prices", [math.inf, (1.0, 50.0), (2.0, math.inf), (math.inf, 3.0), 5.0])
@pytest.mark.parametrize("few", [5000, 7])
def test_blocks_solve_the_dense_problem(prices, few, monkeypatch):
    monkeypatch.setattr(row_blocks, "_FEW", few)
    law, y, a, b = problem()
    log_density = law.log_density(y)
    dense = static_bridge(log_density, a, b, relaxation=prices, tolerance=1e-11)
    seen = []
    solved = blocked_bridge(
        density_rows(law, y), a, b, rows_at_once=7, relaxation=prices, tolerance=1e-11, watch=lambda *s: seen.append(s)
    )
    plans = [a[:, None] * b * (log_density + s.potentials[0][:, None] + s.potentials[1]).exp() for s in (dense, solved)]
    torch.testing.assert_close(*plans, atol=1e-10, rtol=0)
    assert solved.kl == pytest.approx(dense.kl, abs=1e-8)
    assert solved.mass == pytest.approx(dense.mass, abs=1e-9)
    if dense.log_gain is not None:
        torch.testing.assert_close(solved.log_gain[a > 0], dense.log_gain[a > 0], atol=1e-8, rtol=0)
    assert [count for count, _ in seen] == list(range(1, solved.iterations + 1))
    assert seen[-1][1] == solved.marginal_error <= 1e-11


def test_little_noise_does_not_underflow():
    law, y, a, b = problem(sigma=0.05)
    log_density = law.log_density(y)
    assert float(log_density.min()) < -2000
    dense = static_bridge(log_density, a, b, tolerance=1e-7)
    solved = blocked_bridge(density_rows(law, y), a, b, rows_at_once=9, tolerance=1e-7)
    assert solved.converged
    assert solved.kl == pytest.approx(dense.kl, rel=1e-6)


@pytest.mark.parametrize("reference", ["brownian", gd.systems.LotkaVolterra(), "growing"])
def test_a_model_in_blocks_is_the_model(reference, tmp_path):
    data = gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0, 2.0], 40, step=0.02)
    options = {"sigma": 0.5} if isinstance(reference, str) else {"reference": reference}
    if reference == "growing":
        options |= {"relaxation": (3.0, 20.0), "growth_iterations": 2}
    fitted = [
        gd.SchrodingerBridge(**options, tolerance=1e-11, rows_at_once=rows).fit(data, progress=False)
        for rows in (None, 9)
    ]
    whole, blocked = fitted
    assert blocked.kl_ == pytest.approx(whole.kl_, abs=1e-8)
    for one, two in zip(whole.bridge_.potentials, blocked.bridge_.potentials, strict=True):
        sums = [f[:, None] + g for f, g in (one, two)]
        torch.testing.assert_close(*sums, atol=1e-8, rtol=1e-8)
    for k, plan in enumerate(whole.bridge_.plans):
        truncated, lost = blocked.bridge_.truncated_plan(k, atoms=40)
        assert abs(lost) < 1e-12
        torch.testing.assert_close(truncated.to_dense(), plan.to_dense(), atol=1e-9, rtol=0)
        few, lost = blocked.bridge_.truncated_plan(k, atoms=4)
        assert len(few) <= 160
        assert 0 < lost < 1
        torch.testing.assert_close(few.marginals[0], plan.marginals[0], atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match="couplings of 40 and 40 and 40 rows are not held as a whole"):
        _ = blocked.bridge_.plans
    points = [model.interpolate(1.5, 4000) for model in fitted]
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(*(statistic(p, 0) for p in points), atol=0.03, rtol=0.03)
    torch.testing.assert_close(*(model.drift(1.5, points[0][:5]) for model in fitted), atol=1e-5, rtol=1e-5)
    # A path goes from row to row as the coupling says.
    ends = blocked.sample(times=[0.0, 1.0], n=20_000).values[:, 1]
    rows = (ends[:, None] == data.population(1.0)).all(-1).double().argmax(1)
    found = torch.bincount(rows, minlength=40) / 20_000
    torch.testing.assert_close(found, whole.bridge_.plans[0].marginals[1].float(), atol=0.006, rtol=0)
    blocked.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert torch.equal(again.interpolate(0.5, 30), blocked.interpolate(0.5, 30))


def test_costs_are_told():
    data = gd.systems.simulate_snapshots(gd.systems.OrnsteinUhlenbeck(), [0.0, 1.0, 2.0], 30)
    model = gd.SchrodingerBridge(sigma=1.0, rows_at_once=8).fit(data, progress=False)
    assert model.cost_["pairs"].tolist() == [900, 900]
    assert model.cost_["rows_at_once"].tolist() == [8, 8]
    assert model.cost_["iterations"].tolist() == model.history_["iterations"].tolist()
    assert (model.cost_["seconds"] > 0).all()
    whole = gd.SchrodingerBridge(sigma=1.0).fit(data, progress=False)
    assert whole.cost_["rows_at_once"].isna().all()


def test_large_couplings_go_in_blocks_by_themselves():
    data = gd.Snapshots([0.0, 1.0], [torch.zeros(5001, 1), torch.zeros(5001, 1)])
    bridge = MultiMarginalBridge(gd.systems.BrownianMotion(), data, ())
    assert bridge.block_rows(0) is not None
    assert bridge.in_blocks
    small = gd.Snapshots([0.0, 1.0], [torch.zeros(4000, 1), torch.zeros(5000, 1)])
    assert not MultiMarginalBridge(gd.systems.BrownianMotion(), small, ()).in_blocks


def test_errors_and_warnings():
    law, y, a, b = problem(sigma=0.2)
    with pytest.warns(UserWarning, match="after 1 passes over all pairs: sigma is small"):
        assert not blocked_bridge(
            density_rows(law, y), a, b, rows_at_once=9, max_iterations=1, tolerance=1e-12
        ).converged
    data = gd.systems.simulate_snapshots(gd.systems.OrnsteinUhlenbeck(), [0.0, 1.0], 10)
    with pytest.raises(ValueError, match="rows_at_once must be at least 1, or None; got 0"):
        gd.SchrodingerBridge(sigma=1.0, rows_at_once=0).fit(data, progress=False)
