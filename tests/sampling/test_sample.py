"""The sampler: orders, moments, reproducibility, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from gendyn.data import Paths, Snapshots
from gendyn.sampling import ODE, SDE, SOLVERS, StepGrid, sample
from gendyn.systems import GeometricBrownianMotion, OrnsteinUhlenbeck


def driven_pendulum(t, x):
    push = 0.3 * torch.cos(t).reshape(-1).expand(len(x))
    return torch.stack([x[:, 1], push - torch.sin(x[:, 0])], dim=1)


PENDULUM = ODE(driven_pendulum, dim=2)
START = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)


def pendulum_truth(start, end):
    def field(t, y):
        return [y[1], -math.sin(y[0]) + 0.3 * math.cos(t)]

    return np.stack([solve_ivp(field, (start, end), x, rtol=1e-12, atol=1e-12).y[:, -1] for x in START.numpy()])


# --- ordinary differential equations -----------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_orders_of_convergence(solver, order):
    truth = pendulum_truth(0.0, 2.0)
    errors = [
        np.abs(sample(PENDULUM, START, [0.0, 2.0], solver=solver, step=h).values[:, -1].numpy() - truth).max()
        for h in (0.1, 0.05, 0.025)
    ]
    slopes = np.diff(np.log(errors)) / np.log(0.5)
    np.testing.assert_allclose(slopes, order, atol=0.25)


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
def test_dopri5_meets_its_tolerance(rtol):
    times = np.linspace(0.0, 10.0, 7)
    paths = sample(PENDULUM, START, times, rtol=rtol, atol=rtol)
    assert paths.info["solver"] == "dopri5"
    for t, x in zip(times[1:], paths.values.unbind(1)[1:], strict=True):
        assert np.abs(x.numpy() - pendulum_truth(0.0, t)).max() < 200 * rtol


def test_dopri5_output_times_cost_nothing():
    few = sample(PENDULUM, START, [0.0, 5.0], rtol=1e-6, atol=1e-6)
    many = sample(PENDULUM, START, np.linspace(0.0, 5.0, 501), rtol=1e-6, atol=1e-6)
    assert many.info["nfe_drift"] <= few.info["nfe_drift"] + 7
    torch.testing.assert_close(few.values[:, -1], many.values[:, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"solver": "rk4", "step": 0.01}, {"solver": "heun", "step": 0.001}])
def test_backward_in_time_comes_back(options):
    out = sample(PENDULUM, START, [0.0, 3.0], **options).values[:, -1]
    back = sample(PENDULUM, out, [3.0, 0.0], **options).values[:, -1]
    torch.testing.assert_close(back, START, rtol=0, atol=1e-3)


def test_a_step_ends_on_every_output_time():
    grid = StepGrid(torch.tensor([0.0, 0.25, 1.0, 1.1]), step=0.1)
    assert [len(i) for i in grid] == [3, 8, 1]
    ends = [float(i.times[-1]) for i in grid]
    np.testing.assert_allclose(ends, [0.25, 1.0, 1.1], rtol=1e-6)
    assert grid.n_steps == 12


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=5), st.floats(0.05, 1.0))
@settings(max_examples=30)
def test_the_grid_never_steps_too_far(gaps, step):
    times = torch.tensor([0.0, *np.cumsum(gaps)], dtype=torch.float64)
    for interval in StepGrid(times, step=step):
        assert interval.step <= step * (1 + 1e-5)


def test_times_of_each_paths_own():
    times = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
    paths = sample(PENDULUM, START, times, step=0.01)
    for row in range(2):
        alone = sample(PENDULUM, START[row : row + 1], times[row].unique(), step=0.01)
        torch.testing.assert_close(paths.values[row, : len(alone.times)], alone.values[0], rtol=0, atol=1e-7)
    assert torch.equal(paths.values[1, 1], paths.values[1, 2])


def test_own_times_in_chunks_are_those_of_the_whole():
    process = OrnsteinUhlenbeck()
    x0 = torch.zeros(600, 1)
    generator = torch.Generator().manual_seed(0)
    times = torch.cat([torch.zeros(600, 1), torch.rand(600, 3, generator=generator).cumsum(1) + 0.1], dim=1)
    whole = sample(process, x0, times, step=0.1, seed=3)
    parts = sample(process, x0, times, step=0.1, seed=3, chunk=256)
    assert torch.equal(whole.values, parts.values)


# --- stochastic differential equations ---------------------------------------------------------------------


def test_moments_of_ornstein_uhlenbeck():
    process = OrnsteinUhlenbeck(
        rate=[[1.0, 0.5], [0.0, 2.0]], volatility=[[1.0, 0.0], [0.4, 0.7]], mean=[1.0, -1.0], start=[2.0, 2.0]
    )
    x0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64).expand(20_000, 2)
    values = sample(process, x0, [0.0, 0.5, 1.5], step=0.005, seed=1).values
    for k, t in ((1, 0.5), (2, 1.5)):
        mean = process.conditional_mean(t, x0[:1])[0]
        torch.testing.assert_close(values[:, k].mean(0), mean.to(values), rtol=0, atol=0.03)
        torch.testing.assert_close(values[:, k].T.cov(), process.covariance(t).to(values), rtol=0, atol=0.03)


def test_strong_order_of_euler_maruyama():
    # Geometric Brownian motion is known along each Brownian path; the same increments, summed, drive every step size.
    growth, volatility, fine = 0.5, 0.8, 512
    system = GeometricBrownianMotion(growth=growth, volatility=volatility)
    generator = torch.Generator().manual_seed(0)
    dw = torch.randn(fine, 4000, 1, generator=generator, dtype=torch.float64) / fine**0.5
    exact = torch.exp((growth - volatility**2 / 2) + volatility * dw.sum(0))
    errors = []
    for steps in (16, 32, 64, 128):
        x = torch.ones(4000, 1, dtype=torch.float64)
        for k, increment in enumerate(dw.reshape(steps, fine // steps, 4000, 1).sum(1)):
            x = SOLVERS["euler_maruyama"].step(system, torch.tensor(k / steps), 1 / steps, x, increment)
        errors.append(float((x - exact).abs().mean()))
    slope = np.polyfit(np.log([16, 32, 64, 128]), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.12)


def test_one_seed_one_path():
    process, x0 = OrnsteinUhlenbeck(dim=3), torch.zeros(300, 3)
    state = torch.random.get_rng_state()
    one, same, other = (sample(process, x0, [0.0, 1.0], step=0.1, seed=s).values for s in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    by_generator = [
        sample(process, x0, [0.0, 1.0], step=0.1, seed=torch.Generator().manual_seed(9)).values for _ in range(2)
    ]
    assert torch.equal(*by_generator)


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=15, deadline=None)
def test_neither_batch_nor_chunk_shows(small, chunk):
    process, x0 = OrnsteinUhlenbeck(), torch.linspace(0, 1, 700)[:, None]
    whole = sample(process, x0, [0.0, 0.3, 0.5], step=0.05, seed=2).values
    assert torch.equal(sample(process, x0[:small], [0.0, 0.3, 0.5], step=0.05, seed=2).values, whole[:small])
    assert torch.equal(sample(process, x0, [0.0, 0.3, 0.5], step=0.05, seed=2, chunk=chunk).values, whole)


def test_streaming_to_disk(tmp_path):
    process, x0 = OrnsteinUhlenbeck(dim=2), torch.zeros(600, 2)
    memory = sample(process, x0, [0.0, 0.5, 1.0], step=0.1, seed=2, names=["a", "b"])
    disk = sample(process, x0, [0.0, 0.5, 1.0], step=0.1, seed=2, names=["a", "b"], to=tmp_path / "p.npz", chunk=256)
    assert torch.equal(disk.values, memory.values)
    assert disk.names == ("a", "b")
    assert dict(Paths.load(tmp_path / "p.npz").info) == dict(memory.info)


def test_only_the_end():
    process, x0 = OrnsteinUhlenbeck(), torch.zeros(10, 1)
    whole = sample(process, x0, [0.0, 1.0, 2.0], step=0.1, seed=0)
    final = sample(process, x0, [0.0, 1.0, 2.0], step=0.1, seed=0, save="final")
    assert final.values.shape == (10, 1, 1)
    assert torch.equal(final.values[:, 0], whole.values[:, -1])
    assert final.times.tolist() == [2.0]


def test_noise_types_agree():
    x0 = torch.zeros(50, 2)
    common = {"seed": 4, "step": 0.1}
    drift = lambda t, x: -x  # noqa: E731
    diagonal = SDE(drift, lambda t, x: torch.full_like(x, 0.5), 2)
    additive = SDE(drift, lambda t, x: 0.5 * torch.eye(2), 2, noise_type="additive")
    general = SDE(drift, lambda t, x: 0.5 * torch.eye(2).expand(len(x), 2, 2), 2, noise_type="general")
    common["solver"] = "euler_maruyama"
    one, two, three = (sample(p, x0, [0.0, 1.0], **common).values for p in (diagonal, additive, general))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one, three)
    scalar = SDE(drift, lambda t, x: torch.full_like(x, 0.5), 2, noise_type="scalar")
    moved = sample(scalar, x0, [0.0, 1.0], **common).values
    torch.testing.assert_close(moved[..., 0], moved[..., 1])


# --- graphs, dtypes, cost ----------------------------------------------------------------------------------


def test_a_graph_only_where_asked():
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    process = ODE(lambda t, x: -rate * x, 1)
    x0 = torch.ones(1, 1, dtype=torch.float64)
    assert not sample(process, x0, [0.0, 2.0], solver="rk4", step=0.01).values.requires_grad
    end = sample(process, x0, [0.0, 2.0], solver="rk4", step=0.01, gradient="backprop").values[0, -1, 0]
    (slope,) = torch.autograd.grad(end, rate)
    assert float(slope) == pytest.approx(-2.0 * math.exp(-1.4), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_start(dtype):
    assert sample(OrnsteinUhlenbeck(), torch.zeros(3, 1, dtype=dtype), [0.0, 1.0], step=0.1).dtype == dtype
    assert sample(OrnsteinUhlenbeck(), torch.zeros(3, 1), [0.0, 1.0], step=0.1, dtype=dtype).dtype == dtype


def test_half_precision_goes_in_and_single_comes_out():
    assert (
        sample(OrnsteinUhlenbeck(), torch.zeros(3, 1, dtype=torch.bfloat16), [0.0, 1.0], step=0.1).dtype
        == torch.float32
    )


def test_times_in_single_precision_mean_what_they_say():
    paths = sample(PENDULUM, START, torch.linspace(0, 1, 11), step=0.1)
    assert paths.times[1] == 0.1
    assert len(paths.snapshot(0.3).samples[0]) == 2


def test_the_cost_is_counted():
    calls = []
    process = ODE(lambda t, x: calls.append(len(x)) or -x, 1)
    paths = sample(process, torch.ones(4, 1), [0.0, 1.0], solver="rk4", step=0.1)
    assert paths.info["n_steps"] == 10
    assert paths.info["nfe_drift"] == 40 == len(calls) - 1  # one more looks at the process at the door


def test_the_start_is_kept_and_not_shared():
    x0 = torch.ones(4, 1)
    paths = sample(ODE(lambda t, x: -x, 1), x0, [0.0, 1.0], step=0.1)
    assert torch.equal(paths.values[:, 0], x0)
    x0.zero_()
    assert paths.values[0, 0, 0] == 1.0


def test_populations_start_where_they_were_measured():
    population = Snapshots([1.0], [torch.ones(4, 1)])
    process = ODE(lambda t, x: -x, 1)
    assert len(sample(process, population, [1.0, 2.0], step=0.1)) == 4
    with pytest.raises(ValueError, match="measured at time 1, but times start at 0"):
        sample(process, population, [0.0, 2.0], step=0.1)


# --- what it refuses ---------------------------------------------------------------------------------------

DECAY = ODE(lambda t, x: -x, 2)
NOISY = SDE(lambda t, x: -x, lambda t, x: torch.ones_like(x), 2)
X0 = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("process", "x0", "times", "more", "error", "message"),
    [
        (object(), X0, [0, 1], {}, TypeError, "a process needs dim, noise_type"),
        (DECAY, "ab", [0, 1], {}, TypeError, "x0"),
        (DECAY, torch.ones(3, 5), [0, 1], {}, ValueError, "has 2 features, but x0 has 5"),
        (DECAY, torch.ones(0, 2), [0, 1], {}, ValueError, "at least one entry"),
        (DECAY, torch.tensor([[1.0, float("nan")]]), [0, 1], {}, ValueError, "x0"),
        (DECAY, X0, [0.0], {}, ValueError, "T at least 2"),
        (DECAY, X0, [0, 1, 1], {}, ValueError, "increase strictly; got 1 after 1 at position 2"),
        (DECAY, X0, [0, 2, 1], {}, ValueError, "increase strictly; got 1 after 2 at position 2"),
        (DECAY, X0, [0, float("inf")], {}, ValueError, "times"),
        (NOISY, X0, [1, 0], {"step": 0.1}, ValueError, "decreasing times are for ordinary"),
        (NOISY, X0, [0, 1], {}, ValueError, "needs a step: give step="),
        (NOISY, X0, [0, 1], {"step": 0.0}, ValueError, "step must be positive"),
        (NOISY, X0, [0, 1], {"step": 0.1, "substeps": 3}, ValueError, "step or substeps, not both"),
        (NOISY, X0, [0, 1], {"substeps": 1.5}, ValueError, "whole number"),
        (NOISY, X0, [0, 1], {"solver": "rk4", "step": 0.1}, ValueError, "'rk4' is not for ito calculus"),
        (NOISY, X0, [0, 1], {"solver": "dopri5"}, ValueError, "'dopri5' is not for"),
        (DECAY, X0, [0, 1], {"solver": "magic"}, ValueError, "solver must be one of auto, dopri5"),
        (DECAY, X0, [0, 1], {"solver": "rk4", "step": 0.1, "rtol": 1e-3}, ValueError, "belong to the adaptive"),
        (DECAY, X0, [0, 1], {"solver": "dopri5", "step": 0.1}, ValueError, "chooses its own steps"),
        (DECAY, X0, torch.tensor([[0.0, 1.0]]), {"step": 0.1}, ValueError, "one row for each of 3 paths; got 1"),
        (DECAY, X0, [0, 1], {"gradient": "magic"}, ValueError, "gradient must be"),
        (DECAY, X0, [0, 1], {"gradient": "backprop", "chunk": 256}, ValueError, "without a graph"),
        (DECAY, X0, [0, 1], {"save": "all"}, ValueError, "save must be"),
        (NOISY, X0, [0, 1], {"step": 0.1, "chunk": 0}, ValueError, "chunk must be a whole number of at least 1"),
        (ODE(lambda t, x: x[:, :1], 2), X0, [0, 1], {}, ValueError, r"must return shape \(3, 2\)"),
        (ODE(lambda t, x: 1.0, 2), X0, [0, 1], {}, TypeError, "must return a tensor; got float"),
        (ODE(lambda t, x: x.double(), 2), X0, [0, 1], {}, ValueError, "type of the states"),
        (
            SDE(lambda t, x: x, lambda t, x: x.T @ x, 2, noise_type="additive"),
            X0, [0, 1], {"step": 0.1}, ValueError, "must not depend on the state",
        ),
        (
            SDE(lambda t, x: x, lambda t, x: x, 2, calculus="stratonovich"),
            X0, [0, 1], {"step": 0.1, "solver": "milstein2"}, ValueError, "general_shark",
        ),
        (ODE(lambda t, x: x**2, 2), X0, [0, 10], {"solver": "euler", "step": 0.1}, FloatingPointError, "not finite"),
    ],
)  # fmt: skip
def test_sentences(process, x0, times, more, error, message):
    with pytest.raises(error, match=message):
        sample(process, x0, times, **more)


def test_a_failed_run_leaves_no_file(tmp_path):
    with pytest.raises(FloatingPointError):
        sample(ODE(lambda t, x: x**2, 2), X0, [0.0, 10.0], solver="euler", step=0.1, to=tmp_path / "p.npz")
    assert list(tmp_path.iterdir()) == []


def test_every_solver_states_what_it_is_right_for():
    for name, solver in SOLVERS.items():
        assert solver.name == name
        assert solver.order > 0
        assert solver.noise_types
        assert solver.calculus
