"""Chaotic flows and maps: what averages must obey, how volumes shrink, and how fast neighbours part."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn.sampling import sample
from gendyn.systems import Halvorsen, HenonMap, HyperRoessler, LogisticMap, Lorenz63, Lorenz96, Roessler, Thomas

ZERO = torch.zeros((), dtype=torch.float64)


def long_run(flow, n, periods, per_period=20):
    """Values of n paths in the later half of the time."""
    times = torch.linspace(0, periods * flow.period, periods * per_period + 1, dtype=torch.float64)
    values = sample(flow, flow.initial(n, seed=0, dtype=torch.float64), times, step=flow.period / 120).values
    return values[:, len(times) // 2 :]


def jacobian_at(flow, x):
    return torch.autograd.functional.jacobian(lambda y: flow.drift(ZERO, y[None])[0], x)


def test_lorenz63_has_the_published_moments():
    # Parameters and moments of the published table of chaotic systems (Gilpin 2021).
    x = long_run(Lorenz63(aspect=2.667), n=512, periods=24)
    mean, deviation = x.mean((0, 1)), x.std((0, 1))
    assert mean[2] == pytest.approx(23.5, abs=0.2)
    assert mean[:2].abs().max() < 1.5
    torch.testing.assert_close(deviation, torch.tensor([7.9, 9.0, 8.6]).double(), rtol=0.03, atol=0)


def test_lorenz63_parts_neighbours_at_the_published_rate():
    # Two paths apart by 1e-7, followed and set back after each time unit: a spread of .85 to .95 per unit.
    flow = Lorenz63(aspect=2.667)
    x = long_run(flow, n=128, periods=12)[:, -1]
    gap = torch.nn.functional.normalize(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double())
    logs = []
    for k in range(20):
        pair = torch.cat([x, x + 1e-7 * gap])
        x, moved = sample(flow, pair, [0.0, 1.0], step=0.01).values[:, -1].chunk(2)
        apart = (moved - x).norm(dim=1, keepdim=True)
        gap = (moved - x) / apart
        if k >= 4:
            logs.append((apart / 1e-7).log())
    rate = torch.stack(logs).mean().item()
    assert 0.85 < rate < 0.95


def test_averages_of_each_flow_obey_its_own_equations():
    roessler = Roessler()
    values = long_run(roessler, n=64, periods=40)
    # The mean of a right-hand side is exactly the change over the time, which is small against its terms.
    x, change = values.mean((0, 1)), (values[:, -1] - values[:, 0]).mean(0) / (20 * roessler.period)
    assert -x[1].item() - x[2].item() == pytest.approx(change[0].item(), abs=0.02)
    assert x[0].item() + 0.2 * x[1].item() == pytest.approx(change[1].item(), abs=0.02)

    ring = long_run(Lorenz96(sites=8), n=256, periods=16)
    assert ring.square().mean().item() == pytest.approx(8.0 * ring.mean().item(), rel=0.01)

    thomas, flow = long_run(Thomas(), n=256, periods=16), Thomas()
    balance = flow.feedback * thomas.roll(-1, -1).sin().mean((0, 1)) - flow.damping * thomas.mean((0, 1))
    assert balance.abs().max() < 0.05

    halvorsen, flow = long_run(Halvorsen(), n=256, periods=40), Halvorsen()
    squares, means = halvorsen.square().mean(), halvorsen.mean()
    assert squares.item() == pytest.approx(-(flow.damping + 2 * flow.coupling) * means.item(), rel=0.01)

    hyper = HyperRoessler()
    times = torch.linspace(0, 60.0, 3001, dtype=torch.float64)
    values = sample(hyper, hyper.initial(64, 0, dtype=torch.float64), times, step=0.01).values
    change = (values[:, -1] - values[:, 0]).mean(0) / 60.0
    z, w = values[..., 2].mean().item(), values[..., 3].mean().item()
    assert hyper.gain * w - hyper.drain * z == pytest.approx(change[3].item(), abs=0.15)


@pytest.mark.parametrize("flow", [Lorenz63(), Lorenz96(sites=6), Thomas(), Halvorsen()])
def test_volumes_shrink_at_the_divergence(flow):
    for x in flow.initial(4, seed=1, dtype=torch.float64):
        assert jacobian_at(flow, x).trace().item() == pytest.approx(flow.divergence)


@pytest.mark.parametrize("flow", [Roessler(), Roessler(lift=1.0, fold=3.0), Halvorsen(), Lorenz63()])
def test_flows_rest_at_their_equilibria(flow):
    rest = torch.tensor(flow.equilibria, dtype=torch.float64)
    assert len(rest) >= 2
    assert flow.drift(ZERO, rest).abs().max() < 1e-9
    assert Roessler(spiral=2.0, lift=9.0, fold=1.0).equilibria == []


def test_lorenz96_conserves_energy_but_for_drag_and_forcing():
    flow = Lorenz96(sites=7, forcing=3.0)
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    power = (x * flow.drift(ZERO, x)).sum(1)
    torch.testing.assert_close(power, (3.0 * x - x.square()).sum(1))
    assert flow.drift(ZERO, torch.full((1, 7), flow.equilibrium, dtype=torch.float64)).abs().max() == 0


def test_symmetric_flows_look_the_same_from_every_coordinate():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for flow in (Thomas(), Halvorsen(), Lorenz96(sites=4)):
        y = x if flow.dim == 3 else torch.cat([x, x[:, :1]], 1)
        torch.testing.assert_close(flow.drift(ZERO, y.roll(1, -1)), flow.drift(ZERO, y).roll(1, -1))


def test_logistic_map_parts_neighbours_at_log_two():
    logistic = LogisticMap()
    x = sample(logistic, logistic.initial(100, 0, dtype=torch.float64), range(1001)).values[:, 1:, 0]
    exponent = (logistic.growth * (1 - 2 * x)).abs().log().mean().item()
    assert exponent == pytest.approx(logistic.lyapunov_exponent, abs=1e-3)
    assert logistic.lyapunov_exponent == pytest.approx(0.693147, abs=1e-6)


def test_logistic_map_has_its_invariant_density():
    logistic = LogisticMap()
    x = sample(logistic, logistic.initial(2000, 0), range(31)).values[:, 10:, 0]
    for q in (0.1, 0.3, 0.5, 0.7, 0.9):
        # The distribution function of the density is 2/pi asin(sqrt x).
        below = 2 / math.pi * math.asin(math.sqrt(q))
        assert (x < q).double().mean().item() == pytest.approx(below, abs=0.01)
    grid = torch.linspace(1e-6, 1 - 1e-6, 100_001, dtype=torch.float64)
    assert torch.trapezoid(logistic.invariant_density(grid), grid).item() == pytest.approx(1.0, abs=2e-3)


def test_no_path_of_the_logistic_map_dies_in_single_precision():
    logistic = LogisticMap()
    end = sample(logistic, logistic.initial(20_000, 0), [0, 500], save="final").values
    assert end.dtype == torch.float32
    assert end.min() > 0
    assert end.max() < 1


@pytest.mark.parametrize(("growth", "exponent"), [(0.5, math.log(0.5)), (1.5, math.log(0.5)), (2.0, -math.inf)])
def test_a_calm_logistic_map_goes_to_rest(growth, exponent):
    logistic = LogisticMap(growth=growth)
    end = sample(logistic, logistic.initial(5, 0, dtype=torch.float64), [0, 200], save="final").values[:, 0, 0]
    torch.testing.assert_close(end, torch.full_like(end, logistic.equilibria[-1]), atol=1e-9, rtol=0)
    assert logistic.lyapunov_exponent == pytest.approx(exponent)
    for unknown in (lambda: LogisticMap(growth=3.7).lyapunov_exponent, lambda: logistic.invariant_density(end)):
        with pytest.raises(ValueError, match="known at growth"):
            unknown()


def test_henon_map_has_its_exponents():
    henon = HenonMap()
    x = sample(henon, henon.initial(64, 0, dtype=torch.float64), range(2001)).values[:, 100:]
    tangent = torch.eye(2, dtype=torch.float64).expand(64, 2, 2)
    logs = []
    for k in range(1900):
        slope = torch.zeros(64, 2, 2, dtype=torch.float64)
        slope[:, 0, 0], slope[:, 0, 1], slope[:, 1, 0] = -2 * henon.bend * x[:, k, 0], 1.0, henon.shrink
        tangent, triangle = torch.linalg.qr(slope @ tangent)
        logs.append(triangle.diagonal(dim1=1, dim2=2).abs().log())
    exponents = torch.stack(logs).mean((0, 1))
    assert exponents[0].item() == pytest.approx(0.419, abs=3e-3)
    assert exponents.sum().item() == pytest.approx(henon.divergence, abs=1e-9)
    rest = torch.tensor(henon.equilibria, dtype=torch.float64)
    torch.testing.assert_close(henon.map(rest), rest)
    assert HenonMap(bend=-10.0).equilibria == []
    assert HenonMap(bend=0.0, shrink=0.5).equilibria == [(2.0, 1.0)]
    assert HenonMap(bend=0.0, shrink=1.0).equilibria == []


def test_maps_move_at_whole_times_only():
    henon = HenonMap()
    x0 = henon.initial(3, 0)
    direct = henon.map(henon.map(x0))
    assert torch.equal(sample(henon, x0, [0, 2]).values[:, 1], direct)
    assert torch.equal(sample(henon, x0, np.array([5.0, 7.0])).values[:, 1], direct)
    with pytest.raises(ValueError, match=r"a map moves once every unit of time; got a step of 0\.5"):
        sample(henon, x0, [0.0, 0.5])
    own = sample(henon, x0[:2], torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 1.0]])).values
    assert torch.equal(own[0, 2], direct[0])
    assert torch.equal(own[1, 2], own[1, 1])


def test_a_gradient_flows_through_a_map():
    x0 = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    end = sample(LogisticMap(growth=3.0), x0, [0, 2], gradient="backprop").values[0, 1, 0]
    end.backward()
    first = 3.0 * 0.3 * 0.7
    assert x0.grad.item() == pytest.approx(9.0 * (1 - 0.6) * (1 - 2 * first))
