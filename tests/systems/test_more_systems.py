"""Passages, hidden coordinates, growth, vortices, pendulums and folding against their closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erfcx

from gendyn.data import Paths
from gendyn.sampling import ExactLinear, sample
from gendyn.systems import (
    BrownianMotion,
    Brusselator,
    DoubleOrnsteinUhlenbeck,
    DoubleWell,
    GrowingToggleSwitch,
    MertonJumpDiffusion,
    OrnsteinUhlenbeck,
    Pendulum,
    ProteinRepressilator,
    Repressilator,
    ToggleSwitch,
    TrendingOrnsteinUhlenbeck,
    TwoStateFolding,
    Vortex,
    simulate_paths,
    simulate_snapshots,
)

ZERO = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize(("x", "probability"), [(-0.5, 0.4551), (0.0, 0.7311), (0.5, 0.8985)])
def test_exits_of_brownian_motion(x, probability):
    drifting = BrownianMotion(trend=0.5)
    assert drifting.exit_probability(x, -1.0, 1.0) == pytest.approx(probability, abs=5e-5)
    # Seen in a mirror, the lower exit is the upper one.
    assert BrownianMotion(trend=-0.5).exit_probability(-x, -1.0, 1.0) == pytest.approx(1 - probability, abs=5e-5)
    assert BrownianMotion().exit_probability(x, -1.0, 1.0) == pytest.approx((x + 1) / 2)
    assert BrownianMotion(trend=-400.0).exit_probability(x, -1.0, 1.0) < 1e-100
    with pytest.raises(ValueError, match="x must lie between the exits"):
        drifting.exit_probability(2.0, -1.0, 1.0)


@pytest.mark.parametrize(("trend", "reached"), [(0.7, 1.0), (0.0, 1.0), (-0.3, math.exp(-2 * 0.3 * 1.5 / 0.64))])
def test_first_passages_of_brownian_motion(trend, reached):
    process = BrownianMotion(trend=trend, volatility=0.8)
    for level in (2.0, -1.0):
        side = replace(process, trend=math.copysign(1.0, level - 0.5) * trend)
        for t in (0.5, 4.0):
            density = quad(lambda s, p=side, a=level: p.first_passage_density(torch.tensor(s), 0.5, a).item(), 0, t)[0]
            assert side.first_passage_probability(t, 0.5, level) == pytest.approx(density, rel=1e-5)
        if trend:
            assert side.first_passage_probability(1e6, 0.5, level) == pytest.approx(reached, rel=1e-9)
    with pytest.raises(ValueError, match="t must be positive"):
        process.first_passage_probability(0.0, 0.0, 1.0)


def test_brownian_motion_is_exact_in_one_step():
    process = BrownianMotion(trend=0.5, volatility=2.0, dim=2)
    end = sample(process, process.initial(20_000, dtype=torch.float64), [0.0, 3.0], step=3.0, seed=0).values[:, 1]
    assert end.mean().item() == pytest.approx(1.5, abs=0.05)
    torch.testing.assert_close(torch.cov(end.T), 12.0 * torch.eye(2).double(), atol=0.4, rtol=0)
    density = process.transition_log_density(3.0, torch.zeros(1, 2), torch.tensor([[1.5, 1.5]]))
    assert density.item() == pytest.approx(-math.log(2 * math.pi * 12.0))


@pytest.mark.parametrize(("volatility", "time"), [(0.5, 18.426), (0.7, 5.905)])
def test_kramers_time_of_the_double_well(volatility, time):
    well = DoubleWell(volatility=volatility)
    assert well.mean_first_passage(-1.0, 0.0) == pytest.approx(time, abs=1e-3)
    assert well.mean_first_passage(1.0, 0.0) == pytest.approx(time, abs=1e-3)
    assert well.mean_first_passage(0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="x and target must be finite"):
        well.mean_first_passage(math.nan, 0.0)


@pytest.mark.parametrize(("volatility", "second"), [(0.5, 0.852136), (0.7, 0.832233), (1.0, 0.893465)])
def test_stationary_moments_of_the_double_well(volatility, second):
    well = DoubleWell(volatility=volatility)
    assert well.stationary_moment(2) == pytest.approx(second, abs=1e-6)
    assert well.stationary_moment(4) == pytest.approx(second + volatility**2 / 2, abs=1e-6)
    assert well.stationary_moment(3) == 0.0


def test_mean_passage_of_the_double_well_is_simulated():
    well = DoubleWell(volatility=0.7, start_deviation=0.0)
    x = torch.full((4000, 1), -1.0, dtype=torch.float64)
    alive, total, step = x, 0.0, 0.02
    for k in range(60):
        paths = sample(well, alive, np.arange(51) * step, step=step, seed=k).values[:, :, 0]
        crossed = (paths >= 0).cumsum(1) > 0
        total += (~crossed[:, 1:]).sum().item() * step
        alive = paths[~crossed[:, -1]][:, -1:]
        if len(alive) == 0:
            break
    # Looking at steps misses early passages; half a deviation of a step's noise, .5826 sigma sqrt(h), corrects it.
    shifted = well.mean_first_passage(-1.0, 0.5826 * 0.7 * math.sqrt(step))
    assert total / 4000 == pytest.approx(shifted, rel=0.06)


def test_mean_passage_of_ornstein_uhlenbeck():
    process = OrnsteinUhlenbeck(rate=1.0, volatility=1.0)
    # From -1 to the mean: sqrt(pi) int e^(y^2) (1 + erf y) dy.
    expected = quad(lambda y: math.sqrt(math.pi) * erfcx(-y), -1.0, 0.0)[0]
    assert process.mean_first_passage(-1.0, 0.0) == pytest.approx(expected, rel=1e-8)
    assert process.mean_first_passage(1.0, 0.0) == pytest.approx(expected, rel=1e-8)
    moved = OrnsteinUhlenbeck(rate=2.0, mean=5.0, volatility=2.0**0.5)
    assert moved.mean_first_passage(4.0, 5.0) == pytest.approx(expected / 2, rel=1e-8)
    with pytest.raises(ValueError, match="first passages are for one dimension; this process has 2"):
        OrnsteinUhlenbeck(dim=2).mean_first_passage(0.0, 1.0)
    with pytest.raises(ValueError, match="without noise a process never passes its mean"):
        OrnsteinUhlenbeck(volatility=0.0).mean_first_passage(0.0, 1.0)


def test_ornstein_uhlenbeck_takes_exact_steps():
    process = OrnsteinUhlenbeck(rate=[[0.5, 2.0], [-2.0, 0.5]], volatility=[[0.6, 0.0], [0.2, 0.5]], start=[2.0, 0.0])
    x0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64).expand(20_000, 2)
    x = sample(process, x0, [0.0, 1.3, 2.6], solver=ExactLinear(), substeps=1, seed=0).values
    for k, t in ((1, 1.3), (2, 2.6)):
        torch.testing.assert_close(x[:, k].mean(0), process.conditional_mean(t, x0[:1])[0], atol=0.02, rtol=0)
        torch.testing.assert_close(torch.cov(x[:, k].T), process.covariance(t), atol=0.012, rtol=0)
    stationary = process.stationary()[1]
    torch.testing.assert_close(process.autocovariance(0.0), stationary)
    start = stationary + 0.0
    root = torch.linalg.cholesky(start)
    unit = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pair = sample(process, unit @ root.T, [0.0, 0.7], solver=ExactLinear(), substeps=1, seed=1).values
    found = pair[:, 1].T @ pair[:, 0] / 40_000
    torch.testing.assert_close(found, process.autocovariance(0.7), atol=0.012, rtol=0)


@pytest.mark.parametrize(("t", "mean", "variance"), [(6, 0.2976, 0.6594), (32, 4.4815, 0.7992), (63, 10.6037, 0.8)])
def test_moments_under_a_trend(t, mean, variance):
    process = TrendingOrnsteinUhlenbeck()
    assert process.mean(t) == pytest.approx(mean, abs=5e-5)
    assert process.variance(t) == pytest.approx(variance, abs=5e-5)
    x = simulate_snapshots(process, [float(t)], n=20_000, seed=0, step=0.5, dtype=torch.float64).samples[0]
    assert abs(x.mean().item() - mean) < 4.5 * math.sqrt(variance / 20_000)
    assert x.var().item() == pytest.approx(variance, rel=0.05)


def test_the_double_process_has_its_law_and_hides_its_levels():
    process = DoubleOrnsteinUhlenbeck()
    paths = simulate_paths(process, [0.0, 0.5, 2.0, 10.0], n=20_000, seed=0, dtype=torch.float64)
    assert paths.names == ("x1", "x2")
    for k, t in ((1, 0.5), (2, 2.0), (3, 10.0)):
        mean, covariance = process.marginal(t)
        grown = 1 - math.exp(-t)
        torch.testing.assert_close(mean, torch.tensor([grown, -grown]).double())
        variance = grown**2 / 12 + 0.005 * (1 - math.exp(-2 * t))
        torch.testing.assert_close(covariance.diagonal(), torch.full((2,), variance).double())
        assert covariance[0, 1].item() == pytest.approx(0.99 * 0.005 * (1 - math.exp(-2 * t)))
        x = paths.values[:, k]
        assert ((x.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / 20_000).sqrt()).all()
        torch.testing.assert_close(torch.cov(x.T), covariance, atol=0.003, rtol=0)


def test_the_brusselator_rests_or_oscillates():
    for conversion in (1.2, 1.4):
        reaction = Brusselator(conversion=conversion)
        rest = torch.tensor([reaction.equilibrium], dtype=torch.float64)
        assert reaction.drift(ZERO, rest).abs().max() < 1e-14
        jacobian = torch.autograd.functional.jacobian(lambda y, r=reaction: r.drift(ZERO, y[None])[0], rest[0])
        assert jacobian.trace().item() == pytest.approx(conversion - 1.3)
        assert jacobian.det().item() == pytest.approx(0.3)
        assert (torch.linalg.eigvals(jacobian).real.max().item() > 0) == reaction.oscillates
    noise = Brusselator(volatility=0.2).diffusion(ZERO, rest)
    torch.testing.assert_close(noise @ noise.T, 0.04 * torch.tensor([[1.0, -0.99], [-0.99, 1.0]]).double())


def test_proteins_repress_and_are_hidden():
    ring = ProteinRepressilator(decay=2.0, translation=3.0, protein_decay=0.5)
    messenger, protein = ring.equilibrium
    rest = torch.tensor([[messenger] * 3 + [protein] * 3], dtype=torch.float64)
    assert ring.drift(ZERO, rest).abs().max() < 1e-12
    x = torch.tensor([[1.0, 1.0, 1.0, 0.5, 1.0, 2.0]], dtype=torch.float64)
    more = x + torch.tensor([[0.0, 0, 0, 0, 0, 3.0]])  # more of protein 3
    change = (ring.drift(ZERO, more) - ring.drift(ZERO, x))[0]
    assert change[0] < 0
    assert change[1:5].abs().max() == 0
    assert simulate_paths(ProteinRepressilator(), [0.0, 1.0], n=3).names == (
        "messenger 1",
        "messenger 2",
        "messenger 3",
    )
    # Fast proteins follow their messengers, and in the limit the ring is the one without proteins: an error of order
    # one over their rate.
    x0 = torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64)
    limit = sample(Repressilator(volatility=0.0), x0, [0.0, 3.0], step=0.01).values[0, 1]
    errors = []
    for rate in (250.0, 500.0):
        fast = ProteinRepressilator(leak=0.0, translation=rate, protein_decay=rate, volatility=0.0)
        end = sample(fast, torch.cat([x0, x0], 1), [0.0, 3.0], step=2e-3).values[0, 1, :3]
        errors.append((end - limit).norm().item())
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)


def test_particles_in_a_vortex_keep_their_distance_and_return():
    vortex = Vortex(rotation=1.5, core=0.6, volatility=0.0)
    for radius in (0.01, 0.5, 2.0):
        x0 = torch.tensor([[0.0, radius]], dtype=torch.float64)
        period = vortex.period(radius)
        x = sample(vortex, x0, [0.0, period / 4, period], rtol=1e-10, atol=1e-12, solver="dopri5").values[0]
        torch.testing.assert_close(x[1], torch.tensor([radius, 0.0]).double(), atol=1e-8, rtol=0)  # clockwise
        torch.testing.assert_close(x[2], x0[0], atol=1e-8, rtol=0)
    still = torch.tensor([[0.0, 0.0], [0.3, -0.2]], dtype=torch.float64)
    for x in still:
        jacobian = torch.autograd.functional.jacobian(lambda y: vortex.drift(ZERO, y[None])[0], x)
        assert abs(jacobian.trace().item()) < 1e-12
    core = torch.tensor([0.0, 1e-5, 1e-3], dtype=torch.float64)
    np.testing.assert_allclose(vortex.angular_velocity(core), 1.5 * (1 - (core / 0.6) ** 2 / 2), rtol=1e-9)


def test_the_pendulum_keeps_its_energy_and_has_its_solution():
    pendulum = Pendulum()
    x0 = pendulum.initial(20, 0, dtype=torch.float64)
    assert x0[:, 0].min() > 0.5
    assert x0[:, 0].max() < 2.7
    exact = pendulum.solution(torch.tensor(pendulum.times, dtype=torch.float64), x0[:, 0])
    paths = sample(pendulum, x0, pendulum.times, solver="dopri5", rtol=1e-10, atol=1e-10).values
    torch.testing.assert_close(paths, exact, atol=1e-7, rtol=0)
    energy = pendulum.energy(exact)
    torch.testing.assert_close(energy, energy[:, :1].expand_as(energy), rtol=1e-12, atol=1e-12)
    period = pendulum.period(2.0)
    back = pendulum.solution(torch.tensor([0.0, period / 2, period]), torch.tensor([2.0]))
    torch.testing.assert_close(back[0, :, 0], torch.tensor([2.0, -2.0, 2.0]).double())


def test_merton_prices_have_their_moments_and_their_law():
    market = MertonJumpDiffusion(jump_rate=2.0)
    t, n = 1.0, 40_000
    x = simulate_snapshots(market, [t], n=n, seed=0, step=0.5, dtype=torch.float64).samples[0][:, 0]
    assert abs(x.mean().item() - market.mean(t)) < 4.5 * x.std().item() / math.sqrt(n)
    mean, variance, skewness, kurtosis = market.log_return_moments(t)
    logs = x.log()
    z = (logs - logs.mean()) / logs.std()
    assert logs.mean().item() == pytest.approx(mean, abs=4.5 * math.sqrt(variance / n))
    assert logs.var().item() == pytest.approx(variance, rel=0.04)
    assert z.pow(3).mean().item() == pytest.approx(skewness, abs=0.06)
    assert z.pow(4).mean().item() - 3 == pytest.approx(kurtosis, abs=0.15)
    # The density is one, and its logarithmic moments are those.
    y = torch.linspace(-6.0, 4.0, 20_001, dtype=torch.float64)
    density = (market.transition_log_density(t, torch.ones_like(y)[:, None], y.exp()[:, None]) + y).exp()
    moments = [torch.trapezoid(density * y**k, y).item() for k in (0, 1, 2)]
    assert moments[0] == pytest.approx(1.0, abs=1e-9)
    assert moments[1] == pytest.approx(mean, abs=1e-9)
    assert moments[2] - moments[1] ** 2 == pytest.approx(variance, abs=1e-9)
    with pytest.raises(ValueError, match="needs t, x0 and x to be positive"):
        market.transition_log_density(t, torch.ones(1, 1), torch.zeros(1, 1))


def branching(circuit, n, end, step, seed):
    """The cells alive at a time, of n that divide and die one by one: an independent simulation."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(circuit.start, circuit.start_deviation, (n, 2)))
    for _ in range(round(end / step)):
        state = torch.from_numpy(x)
        noise = circuit.volatility * np.sqrt(np.maximum(x, 0)) * rng.normal(size=x.shape) * math.sqrt(step)
        x = x + ToggleSwitch.drift(circuit, ZERO, state).numpy() * step + noise
        on = np.maximum(x[:, 0], 0) ** 4 / (1 + np.maximum(x[:, 0], 0) ** 4)
        divides = rng.random(len(x)) < circuit.division * on * step
        dies = rng.random(len(x)) < circuit.death * step
        x = np.concatenate([x[~dies], x[divides & ~dies]])
    return x


def test_weights_are_the_mass_of_a_population_that_branches():
    circuit = GrowingToggleSwitch(bias=0.0)
    cells = branching(circuit, 3000, 4.0, 0.02, seed=0)
    snapshots = simulate_snapshots(circuit, [0.0, 4.0], n=6000, seed=1, dtype=torch.float64)
    start, end = snapshots.weights
    assert start.sum().item() == pytest.approx(1.0)
    mass = len(cells) / 3000
    assert end.sum().item() == pytest.approx(mass, rel=0.05)
    assert mass > 1.2
    mean = (end[:, None] * snapshots.samples[1]).sum(0) / end.sum()
    np.testing.assert_allclose(mean, cells.mean(0), atol=0.06)
    # The fate that divides is the fate that is seen, though both are chosen alike.
    chosen = snapshots.samples[1].mean(0)
    assert abs(chosen[0] - chosen[1]) < 0.15
    assert mean[0] - mean[1] > 0.35


def test_growth_without_genes_is_exponential():
    circuit = GrowingToggleSwitch(division=0.0, death=0.3)
    weights = simulate_snapshots(circuit, [0.0, 2.0], n=50, seed=0).weights
    assert weights[1].sum().item() == pytest.approx(math.exp(-0.6), rel=1e-4)
    paths = simulate_paths(circuit, [0.0, 2.0], n=5, seed=0)
    assert paths.names == ("gene 1", "gene 2", "log weight")


def test_the_folding_chain_has_its_law():
    chain = TwoStateFolding()
    grid = np.linspace(0.0, 8.5, 4001)
    assert np.trapezoid(chain.radial_density(grid), grid) == pytest.approx(1.0, abs=1e-6)
    paths = simulate_paths(chain, n=3000, seed=0, dtype=torch.float64)
    radius = paths.values.norm(dim=-1)
    for k in (0, 99):
        for boundary in (1.0, 2.34, 4.0):
            share = (radius[:, k] < boundary).double().mean().item()
            expected = chain.folded_fraction(boundary)
            assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / 3000)
    assert chain.folded_fraction(2.34) == pytest.approx(0.7136, abs=1e-4)


def test_the_folding_chain_forgets_at_its_rate():
    chain = TwoStateFolding()
    paths = simulate_paths(chain, np.arange(0, 301) * 0.1, n=2000, seed=1, dtype=torch.float64)
    states = chain.label(paths)
    assert states.states == ("folded", "unfolded")
    unfolded = states.values[:, :, 0].double()
    mean = 1 - chain.folded_fraction()
    assert unfolded.mean().item() == pytest.approx(mean, abs=0.02)
    # Between lags of 1 and 11 time units only the slowest decay is left.
    centred = unfolded - mean
    early, late = ((centred[:, : 301 - k] * centred[:, k:]).mean().item() for k in (10, 110))
    assert 10.0 / math.log(early / late) == pytest.approx(chain.relaxation_time, rel=0.15)
    matrix = chain.rate_matrix()
    assert matrix.stationary()[0].item() == pytest.approx(chain.folded_fraction())
    assert matrix.exit_rates.sum().item() == pytest.approx(1 / chain.relaxation_time)
    assert chain.relaxation_time == pytest.approx(16.18, abs=0.01)


def test_a_small_step_is_the_equation_itself():
    # The stationary density of the equation, r^4 e^-U, is folded in all but four of a thousand.
    def weight(r):
        return r**4 * math.exp(-TwoStateFolding().potential(torch.tensor(r, dtype=torch.float64)).item() - 22.5)

    inside, outside = quad(weight, 0, 2.7, points=[0.3])[0], quad(weight, 2.7, 8.0)[0]
    assert outside / (inside + outside) == pytest.approx(0.0041, abs=2e-4)
    assert TwoStateFolding(step=0.01).folded_fraction(2.7) == pytest.approx(inside / (inside + outside), abs=0.004)
    with pytest.raises(ValueError, match="the folding chain has 5 features; these paths have 2"):
        TwoStateFolding().label(Paths([0.0, 1.0], torch.zeros(1, 2, 2)))
    assert not TwoStateFolding().drift(ZERO, torch.zeros(1, 5)).any()
