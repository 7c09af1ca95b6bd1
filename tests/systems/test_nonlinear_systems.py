"""Double well, cycles, circuits and chaos against stationary and conservation laws and known numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from gendyn.sampling import sample
from gendyn.systems import (
    DoubleWell,
    FitzHughNagumo,
    Lorenz63,
    LotkaVolterra,
    Repressilator,
    ToggleSwitch,
    simulate_snapshots,
)

ZERO = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize(("x", "probability"), [(-0.5, 0.1751), (0.0, 0.5), (0.25, 0.6805), (0.5, 0.8249)])
def test_double_well_exit_probabilities(x, probability):
    well = DoubleWell(volatility=math.sqrt(0.5))
    assert well.exit_probability(x, low=-1.0, high=1.0) == pytest.approx(probability, abs=6e-5)


@pytest.mark.parametrize("volatility", [0.02, 0.1, 0.5, 3.0])
def test_double_well_density_integrates_to_one(volatility):
    well = DoubleWell(slope=2.0, stiffness=0.5, volatility=volatility)

    def density(x):
        return well.stationary_density(torch.tensor(x)).item()

    assert 2 * quad(density, 0.0, 12.0, points=[2.0], limit=400)[0] == pytest.approx(1.0, abs=1e-6)


def test_double_well_exits_are_ordered_even_when_noise_is_tiny():
    well = DoubleWell(volatility=0.01)
    assert well.exit_probability(-0.2, low=-1.0, high=1.0) == pytest.approx(0.0, abs=1e-12)
    assert well.exit_probability(0.2, low=-1.0, high=1.0) == pytest.approx(1.0, abs=1e-12)
    assert well.exit_probability(-1.0, low=-1.0, high=1.0) == 0.0
    with pytest.raises(ValueError, match="x must lie between the exits low < high"):
        well.exit_probability(2.0, low=-1.0, high=1.0)


def test_double_well_drift_is_minus_the_gradient_of_the_potential():
    well = DoubleWell(slope=2.0, stiffness=0.5)
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(well.potential(x).sum(), x)
    torch.testing.assert_close(well.drift(ZERO, x[:, None])[:, 0], -gradient)
    torch.testing.assert_close(well.drift(ZERO, torch.tensor([[m] for m in well.minima])), torch.zeros(2, 1))


def test_double_well_population_reaches_the_stationary_law():
    well = DoubleWell(volatility=1.0, start_deviation=1.0)
    x = simulate_snapshots(well, [8.0], n=6000, seed=0, step=0.02).samples[0][:, 0]
    grid = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    cumulative = torch.cumulative_trapezoid(well.stationary_density(grid), grid)
    for q in (0.1, 0.3, 0.5, 0.7, 0.9):
        point = grid[1:][torch.searchsorted(cumulative, q)]
        assert (x < point).double().mean().item() == pytest.approx(q, abs=0.03)


def test_lotka_volterra_conserves_and_returns():
    system = LotkaVolterra(volatility=0.0)
    x0 = torch.tensor([[5.0, 4.0], [4.05, 2.5]], dtype=torch.float64)
    period = 2 * math.pi / math.sqrt(0.4)
    paths = sample(system, x0, [0.0, period / 3, period], rtol=1e-10, atol=1e-10, solver="dopri5")
    invariant = torch.stack([system.conserved(paths.values[:, k]) for k in range(3)])
    torch.testing.assert_close(invariant, invariant[:1].expand(3, 2), rtol=1e-8, atol=0)
    torch.testing.assert_close(paths.values[1, -1], x0[1], atol=2e-4, rtol=0)  # a small orbit closes
    rest = torch.tensor([system.equilibrium], dtype=torch.float64)
    assert system.drift(ZERO, rest).abs().max() < 1e-14


def test_lotka_volterra_noise_matches_the_linear_noise_approximation():
    # Mean and covariance at t = 1 from (5, 4) with volatility 0.02 x.
    system = LotkaVolterra()
    x0 = torch.tensor([[5.0, 4.0]], dtype=torch.float64).expand(20_000, 2)
    x = sample(system, x0, [0.0, 1.0], step=0.005, seed=0).values[:, -1]
    torch.testing.assert_close(x.mean(0), torch.tensor([2.7190, 3.8940]).double(), atol=0.008, rtol=0)
    expected = torch.tensor([[0.00471075, -0.00226088], [-0.00226088, 0.00534771]]).double()
    torch.testing.assert_close(torch.cov(x.T), expected, atol=2.5e-4, rtol=0)


def test_lotka_volterra_agrees_with_scipy():
    system = LotkaVolterra(volatility=0.0)
    x0 = torch.tensor([[5.0, 4.0]], dtype=torch.float64)
    ours = sample(system, x0, [0.0, 3.0, 10.0], step=0.01).values[0]
    reference = solve_ivp(
        lambda t, y: system.drift(ZERO, torch.from_numpy(y)[None])[0].numpy(),
        (0.0, 10.0),
        x0[0].numpy(),
        t_eval=[0.0, 3.0, 10.0],
        rtol=1e-11,
        atol=1e-11,
    )
    np.testing.assert_allclose(ours, reference.y.T, rtol=1e-6)


def test_repressilator_rests_and_oscillates():
    ring = Repressilator()
    rest = torch.full((1, 3), ring.equilibrium, dtype=torch.float64)
    assert ring.drift(ZERO, rest).abs().max() < 1e-12
    jacobian = torch.autograd.functional.jacobian(lambda y: ring.drift(ZERO, y[None])[0], rest[0])
    assert (torch.linalg.eigvals(jacobian).real.max().item() > 0) == ring.oscillates
    quiet = Repressilator(hill=1.5)
    rest = torch.full((3,), quiet.equilibrium, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: quiet.drift(ZERO, y[None])[0], rest)
    assert torch.linalg.eigvals(jacobian).real.max().item() < 0
    assert not quiet.oscillates


def test_repressilator_gene_one_is_repressed_by_gene_three():
    ring = Repressilator()
    low, high = torch.tensor([[1.0, 1.0, 0.1]]), torch.tensor([[1.0, 1.0, 5.0]])
    change = ring.drift(ZERO, high) - ring.drift(ZERO, low)
    assert change[0, 0] < -5
    assert change[0, 1] == 0
    torch.testing.assert_close(change[0, 2], torch.tensor(-4.9))


def test_toggle_switch_starts_undecided_and_commits():
    circuit = ToggleSwitch()
    snapshots = simulate_snapshots(circuit, n=600, seed=0)
    committed = [(circuit.committed(x) > 0).double().mean().item() for x in snapshots.samples]
    assert committed[0] == 0.0
    assert committed[-1] > 0.9
    assert all(a <= b + 0.05 for a, b in pairwise(committed))
    fates = circuit.committed(snapshots.samples[-1])
    assert 0.3 < (fates == 2).double().mean().item() < (fates == 1).double().mean().item()
    assert min(x.min().item() for x in snapshots.samples) > -0.05


def test_toggle_switch_without_bias_is_symmetric():
    circuit = ToggleSwitch(bias=0.0)
    x = circuit.initial(50, seed=0, dtype=torch.float64)
    torch.testing.assert_close(circuit.drift(ZERO, x.flip(-1)), circuit.drift(ZERO, x).flip(-1))
    assert torch.isfinite(circuit.drift(ZERO, torch.full((1, 2), -5.0))).all()
    assert circuit.diffusion(ZERO, torch.full((1, 2), -5.0)).abs().max() == 0
    assert circuit.diffusion_dx(ZERO, torch.zeros(1, 2)).abs().max() == 0


def test_toggle_switch_fates_are_stable_states():
    circuit = replace(ToggleSwitch(), volatility=0.0)
    end = sample(circuit, torch.tensor([[2.4, 0.1], [0.1, 2.4]]).double(), [0.0, 40.0], step=0.05).values[:, -1]
    assert circuit.drift(ZERO, end).abs().max() < 1e-9
    assert circuit.committed(end).tolist() == [1, 2]


@pytest.mark.parametrize("stimulus", [0.0, 0.5, -2.0])
def test_fitzhugh_nagumo_rests_where_the_drift_vanishes(stimulus):
    cell = FitzHughNagumo(stimulus=stimulus)
    rest = torch.tensor(cell.equilibria, dtype=torch.float64)
    assert len(rest) in (1, 3)
    assert cell.drift(ZERO, rest).abs().max() < 1e-10


def test_fitzhugh_nagumo_fires_with_a_stimulus_and_rests_without():
    times = np.linspace(0.0, 100.0, 201)
    for stimulus, fires in ((0.5, True), (0.0, False)):
        cell = FitzHughNagumo(stimulus=stimulus, volatility=0.0)
        potential = sample(cell, torch.tensor([[-1.2, -0.6]]).double(), times, step=0.05).values[0, 80:, 0]
        assert (potential.max().item() > 1.0) == fires


def test_lorenz_rests_shrinks_and_agrees_with_scipy():
    system = Lorenz63()
    rest = torch.tensor(system.equilibria, dtype=torch.float64)
    assert system.drift(ZERO, rest).abs().max() < 1e-12
    jacobian = torch.autograd.functional.jacobian(lambda y: system.drift(ZERO, y[None])[0], torch.ones(3).double())
    assert jacobian.trace().item() == pytest.approx(system.divergence)
    x0 = torch.tensor([[1.0, 1.0, 25.0]], dtype=torch.float64)
    reference = solve_ivp(
        lambda t, y: system.drift(ZERO, torch.from_numpy(y)[None])[0].numpy(),
        (0.0, 2.0),
        x0[0].numpy(),
        rtol=1e-11,
        atol=1e-11,
    )
    ours = sample(system, x0, [0.0, 2.0], rtol=1e-10, atol=1e-10, solver="dopri5").values[0, -1]
    np.testing.assert_allclose(ours, reference.y[:, -1], rtol=1e-6)
    assert Lorenz63(rayleigh=0.5).equilibria == [(0.0, 0.0, 0.0)]
    assert Lorenz63(volatility=1.0).noise_type == "additive"


@pytest.mark.parametrize(
    "system", [LotkaVolterra(), Repressilator(), Repressilator(hill=2.5, threshold=0.7, decay=0.4)]
)
def test_jacobians_are_those_of_autograd(system):
    x = system.initial(5, dtype=torch.float64) * torch.linspace(0.2, 2.0, 5, dtype=torch.float64)[:, None]
    expected = torch.func.vmap(torch.func.jacrev(lambda z: system.drift(ZERO, z[None])[0]))(x)
    torch.testing.assert_close(system.jacobian(ZERO, x), expected)
