"""Diffusions that jump: closed forms, what the jumps leave alone, reproducibility, gradients, and what is refused."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from gendyn.data import Paths
from gendyn.sampling import (
    ODE,
    SDE,
    SOLVERS,
    AlphaStable,
    BrownianTree,
    DormandPrince,
    ExactLinear,
    JumpSpec,
    LinearProcess,
    RateMatrix,
    as_torchsde,
    cut,
    dense,
    girsanov_log_weights,
    guided_bridge,
    log_density_change,
    refine,
    sample,
    to_ito,
    transition_log_prob,
)

N = 20_000
normal = torch.special.ndtri


def zeros(n=N, d=1, dtype=torch.float64):
    return torch.zeros(n, d, dtype=dtype)


def within(values, mean, variance, sigmas=4.5):
    values = values.double().flatten()
    assert abs(float(values.mean()) - mean) < sigmas * math.sqrt(variance / len(values))


def add_one(t, x, k, u):
    return x + 1


def still(t, x):
    return torch.zeros_like(x)


# --- closed forms ------------------------------------------------------------------------------------------

MU, S, RATE, M, SPREAD = 0.1, 0.2, 2.0, -0.15, 0.3
MERTON = JumpSpec(RATE, lambda t, x, k, u: x * torch.exp(M + SPREAD * normal(u)))


def merton_log_law(z, end):
    """Distribution function of log X_T / X_0: a Poisson mixture of normals."""
    n = np.arange(60)[:, None]
    mean = (MU - S**2 / 2) * end + n * M
    return (stats.poisson.pmf(n, RATE * end) * stats.norm.cdf(z, mean, np.sqrt(S**2 * end + n * SPREAD**2))).sum(0)


@pytest.mark.parametrize("substeps", [1, 7])
def test_merton(substeps):
    process = SDE(lambda t, x: MU * x, lambda t, x: S * x, 1, jumps=MERTON)
    x0 = torch.full((N, 1), 2.0, dtype=torch.float64)
    values = sample(process, x0, [0.0, 0.5, 1.5], solver="log_euler", substeps=substeps, seed=1).values
    for k, t in ((1, 0.5), (2, 1.5)):
        z = torch.log(values[:, k, 0] / 2.0).numpy()
        assert stats.kstest(z, lambda q, t=t: merton_log_law(q, t)).pvalue > 1e-3
        size = math.exp(M + SPREAD**2 / 2) - 1
        mean = 2.0 * math.exp((MU + RATE * size) * t)
        double = math.exp(2 * M + 2 * SPREAD**2) - 1
        second = 4.0 * math.exp((2 * MU + S**2 + RATE * double) * t)
        within(values[:, k], mean, second - mean**2)
        log_variance = (S**2 + RATE * (M**2 + SPREAD**2)) * t
        assert z.mean() == pytest.approx((MU - S**2 / 2 + RATE * M) * t, abs=4.5 * math.sqrt(log_variance / N))
        assert z.var() == pytest.approx(log_variance, rel=0.06)


def test_numbers_of_jumps_are_poisson():
    counting = ODE(still, 1, jumps=JumpSpec(4.0, add_one, marks=0))
    values = sample(counting, zeros(), [0.0, 0.3, 1.3], substeps=1, seed=2).values[..., 0]
    for counts, mean in ((values[:, 1], 1.2), (values[:, 2] - values[:, 1], 4.0)):
        top = int(mean + 3.5 * math.sqrt(mean))
        seen = np.bincount(counts.long().clamp(max=top).numpy(), minlength=top + 1)
        law = stats.poisson(mean)
        expected = N * np.append(law.pmf(np.arange(top)), law.sf(top - 1))
        assert stats.chisquare(seen, expected).pvalue > 1e-3


def test_compound_poisson_with_three_kinds():
    # Kind 1 never happens; the others come as 1 to 3.
    sizes = torch.tensor([1.0, 100.0, -2.0], dtype=torch.float64)
    spec = JumpSpec([0.5, 0.0, 1.5], lambda t, x, k, u: x + sizes[k][:, None] * -torch.log(u))
    end = sample(ODE(still, 1, jumps=spec), zeros(), [0.0, 2.0], substeps=3, seed=3).values[:, 1]
    mean, variance = 2.0 * (0.5 - 3.0), 2.0 * 2 * (0.5 + 1.5 * 4.0)
    within(end, mean, variance)
    assert float(end.var()) == pytest.approx(variance, rel=0.06)


def test_deterministic_between_jumps():
    # dX = -a X dt with jumps of 1, beside a Y that adds up e^(a tau): X_T = e^(-aT) (x0 + Y_T), path by path.
    a, end = 0.7, 3.0
    spec = JumpSpec(2.0, lambda t, x, k, u: x + torch.cat([torch.ones_like(t), torch.exp(a * t)], dim=1))
    process = ODE(lambda t, x: torch.stack([-a * x[:, 0], 0 * x[:, 1]], dim=1), 2, jumps=spec)
    x0 = torch.tensor([[3.0, 0.0]], dtype=torch.float64).expand(N, 2)
    values = sample(process, x0, [0.0, 1.0, end], solver="rk4", step=0.25, seed=4).values
    for k, t in ((1, 1.0), (2, end)):
        x, y = values[:, k].unbind(1)
        torch.testing.assert_close(x, math.exp(-a * t) * (3.0 + y), rtol=0, atol=1e-4)
        within(x, 3.0 * math.exp(-a * t) + 2.0 / a * (1 - math.exp(-a * t)), (1 - math.exp(-2 * a * t)) / a)
        assert float(x.var()) == pytest.approx((1 - math.exp(-2 * a * t)) / a, rel=0.05)


def test_ornstein_uhlenbeck_with_jumps():
    # Between jumps exact to high order, so that a divided step with its area must be right.
    a, s, rate, end = 1.0, 0.8, 3.0, 1.0
    spec = JumpSpec(rate, lambda t, x, k, u: x + 0.5 * normal(u))
    process = SDE(lambda t, x: -a * x, lambda t, x: x.new_full((1, 1), s), 1, noise_type="additive", jumps=spec)
    x0 = torch.full((N, 1), 1.5, dtype=torch.float64)
    values = sample(process, x0, [0.0, end], solver="shark", step=0.25, seed=5).values[:, 1]
    variance = (s**2 + rate * 0.25) * (1 - math.exp(-2 * a * end)) / (2 * a)
    within(values, 1.5 * math.exp(-a * end), variance)
    assert float(values.var()) == pytest.approx(variance, rel=0.05)


def test_rates_that_change_with_time():
    spec = JumpSpec(lambda t, x: 2 * (1 + torch.sin(t)), add_one, bound=4.0, marks=0)
    end = sample(ODE(still, 1, jumps=spec), zeros(), [0.0, 10.0], substeps=4, seed=6).values[:, 1]
    mean = 23.678143
    within(end, mean, mean)
    assert float(end.var()) == pytest.approx(mean, rel=0.05)


def test_rates_that_change_with_the_state():
    # dX = -a X dt, jumps of 1 at rate X: the mean grows at 1 - a.
    a, x0, t = 2.0, 3.0, 1.0
    spec = JumpSpec(lambda t, x: x, add_one, bound=25.0)
    process = ODE(lambda t, x: -a * x, 1, jumps=spec)
    values = sample(
        process, torch.full((N, 1), x0, dtype=torch.float64), [0.0, t], solver="rk4", step=0.1, seed=7
    ).values
    # d E X^2 / dt = 2 (1 - a) E X^2 + E X.
    mean = x0 * math.exp((1 - a) * t)
    variance = x0 * (math.exp((1 - a) * t) - math.exp(2 * (1 - a) * t)) / (a - 1)
    within(values[:, 1], mean, variance)
    assert float(values[:, 1].var()) == pytest.approx(variance, rel=0.06)


def test_immigration_and_death_as_a_diffusion_without_noise():
    # The same chain as that of the direct method: Poisson at every time.
    sizes = torch.tensor([1.0, -1.0], dtype=torch.float64)
    spec = JumpSpec(
        lambda t, x: torch.cat([torch.full_like(x, 10.0), x], dim=1),
        lambda t, x, k, u: x + sizes[k][:, None],
        bound=40.0,
        marks=0,
    )
    end = sample(ODE(still, 1, jumps=spec), zeros(), [0.0, 1.0], substeps=2, seed=8).values[:, 1, 0]
    counts = np.bincount(end.long().clamp(max=14).numpy(), minlength=15)
    expected = N * np.append(stats.poisson(6.321206).pmf(np.arange(14)), stats.poisson(6.321206).sf(13))
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_jumps_see_the_left_limit():
    # Time itself is the state: rates and jumps are shown the state just before, at the time of the jump.
    seen = []

    def intensity(t, x):
        seen.append((t, x[:, :1]))
        return torch.ones_like(t)

    def jump(t, x, k, u):
        seen.append((t, x[:, :1]))
        return torch.cat([x[:, :1], x[:, 1:] + 1], dim=1)

    clock = ODE(
        lambda t, x: torch.stack([torch.ones_like(x[:, 0]), still(t, x[:, 1])], dim=1),
        2,
        jumps=JumpSpec(intensity, jump, bound=5.0),
    )
    values = sample(clock, zeros(500, 2), [0.0, 1.0, 2.0], solver="euler", substeps=2).values
    assert sum(len(t) for t, _ in seen) > 3000
    for t, x in seen:
        torch.testing.assert_close(x, t, rtol=0, atol=1e-12)
    torch.testing.assert_close(values[:, 2, 0], torch.full((500,), 2.0, dtype=torch.float64))
    # To one unit after each jump: nobody jumps twice from the same state.
    once = JumpSpec(lambda t, x: 5.0 * (x < 1), add_one, bound=5.0)
    stopped = sample(ODE(still, 1, jumps=once), zeros(2000), [0.0, 0.4], substeps=1).values[:, 1]
    assert set(stopped.flatten().tolist()) == {0.0, 1.0}
    within(stopped, 1 - math.exp(-2.0), 0.12)


# --- what the jumps leave alone ----------------------------------------------------------------------------


def test_every_row_is_cut_where_it_wants_to_be():
    z = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.tensor([[0.0], [0.2], [0.5], [0.9], [1.0]], dtype=torch.float64)
    h = torch.tensor([[1.0], [2.0], [0.1], [1.0], [3.0]], dtype=torch.float64)
    (wl, hl), (wr, hr) = cut(z[0], z[1], h, share, z[2:])
    for i in (1, 2, 3):
        alone = cut(z[0, i], z[1, i], float(h[i]), float(share[i]), z[2:, i])
        torch.testing.assert_close(((wl[i], hl[i]), (wr[i], hr[i])), alone)
    # A part may be empty; the other is then the whole.
    nothing = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(((wl[0], hl[0]), (wr[0], hr[0])), ((nothing, nothing), (z[0, 0], z[1, 0])))
    torch.testing.assert_close(((wl[4], hl[4]), (wr[4], hr[4])), ((z[0, 4], z[1, 4]), (nothing, nothing)))


@pytest.mark.parametrize("noise", ["stream", "tree"])
def test_the_brownian_path_is_that_without_jumps(noise):
    run = {"step": 0.1, "seed": 9, "noise": noise, "solver": "euler_maruyama"}
    nothing = JumpSpec(6.0, lambda t, x, k, u: x)
    plain, jumping = (
        sample(SDE(still, lambda t, x: torch.ones_like(x), 2, jumps=j), zeros(300, 2), [0.0, 0.5, 2.0], **run).values
        for j in (None, nothing)
    )
    torch.testing.assert_close(jumping, plain, rtol=0, atol=1e-12)


def test_paths_that_have_not_jumped_are_those_without_jumps():
    spec = JumpSpec(0.7, lambda t, x, k, u: torch.full_like(x, 1000.0))
    drift, noise = (lambda t, x: -x), (lambda t, x: 0.3 * torch.cos(x))
    run = {"step": 0.05, "seed": 9, "solver": "milstein"}
    plain, jumping = (
        sample(SDE(drift, noise, 2, jumps=j), zeros(600, 2, torch.float32), [0.0, 0.5, 1.0], **run).values
        for j in (None, spec)
    )
    calm = (jumping.abs() < 50).all(2).all(1)
    assert 0.3 < float(calm.double().mean()) < 0.7
    assert torch.equal(jumping[calm], plain[calm])


def test_the_step_does_not_move_the_jumps():
    # Each jump adds its time and its mark.
    spec = JumpSpec(3.0, lambda t, x, k, u: x + torch.cat([t, u], dim=1))
    process = ODE(still, 2, jumps=spec)
    one, other = (
        sample(process, zeros(500, 2), times, step=h, seed=1).values[:, -1]
        for times, h in (([0, 2], 2.0), ([0, 0.3, 2], 0.01))
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    longer = sample(process, zeros(500, 2), [0, 2, 5], step=0.5, seed=1).values[:, 1]
    torch.testing.assert_close(one, longer, rtol=0, atol=1e-12)


# --- every solver, every way to run ------------------------------------------------------------------------

SPEC = JumpSpec(
    lambda t, x: torch.cat([1 + torch.cos(t) ** 2, 3 / (1 + x[:, :1] ** 2)], dim=1),
    lambda t, x, k, u: x + (0.3 * u[:, :1] - 0.1 * k[:, None]),
    bound=5.0,
)
JUMPING = sorted(name for name, solver in SOLVERS.items() if not hasattr(solver, "forth"))


class Linear(LinearProcess):
    jumps = SPEC


def process_for(name):
    solver = SOLVERS[name]
    if name == "exact_linear":
        return Linear([[-1.0, 0.2], [0.0, -1.0]], [0.0, 0.5], [[0.5, 0.0], [0.0, 0.5]])
    kind = next(k for k in ("diagonal", "additive", "general", "none") if k in solver.noise_types)
    matrix = torch.tensor([[0.3, 0.1], [0.0, 0.4]], dtype=torch.float64)
    diffusion = {
        "diagonal": lambda t, x: 0.3 * torch.cos(x) + 0.1 * torch.sin(t),
        "additive": lambda t, x: matrix,
        "general": lambda t, x: torch.cos(x)[:, :, None] * matrix,
    }
    if kind == "none":
        return ODE(lambda t, x: torch.sin(t) - x, 2, jumps=SPEC)
    if name == "log_euler":
        return SDE(lambda t, x: 0.1 * x, lambda t, x: 0.3 * x, 2, jumps=SPEC)
    return SDE(
        lambda t, x: torch.sin(t) - x, diffusion[kind], 2, noise_type=kind, calculus=solver.calculus[0], jumps=SPEC
    )


@pytest.mark.parametrize("name", JUMPING)
def test_neither_batch_nor_chunk_shows(name):
    process = process_for(name)
    solver = ExactLinear() if name == "exact_linear" else name
    x0 = torch.linspace(-1, 1, 1200, dtype=torch.float64).reshape(600, 2)
    run = {"solver": solver, "step": 0.2, "seed": 2}
    state = torch.random.get_rng_state()
    whole = sample(process, x0, [0.0, 0.3, 2.0], **run)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(whole.values[:, 0], x0)
    assert not torch.equal(sample(process, x0, [0.0, 0.3, 2.0], **(run | {"seed": 3})).values, whole.values)
    # A product with one matrix for all paths rounds by the number of its rows on some processors; all else is bitwise.
    additive = name == "exact_linear" or getattr(process, "noise_type", None) == "additive"
    alike = partial(torch.testing.assert_close, rtol=0, atol=1e-12 if additive else 0)
    parts = sample(process, x0, [0.0, 0.3, 2.0], **run, chunk=256)
    alike(parts.values, whole.values)
    assert dict(parts.info) == dict(whole.info)
    for small in (1, 77, 300):
        alike(sample(process, x0[:small], [0.0, 0.3, 2.0], **run).values, whole.values[:small])
    own = torch.rand(600, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
    own[::3, 2] = own[::3, 1]
    moved = sample(process, x0, own, **run)
    alike(sample(process, x0, own, **run, chunk=256).values, moved.values)
    assert torch.equal(moved.values[::3, 1], moved.values[::3, 2])
    assert bool(torch.isfinite(moved.values).all())


@pytest.mark.parametrize("name", ["rk4", "euler_maruyama", "sri2"])
def test_own_times_jump_like_shared_ones(name):
    process, x0 = process_for(name), zeros(300, 2)
    run = {"solver": name, "substeps": 3, "seed": 1}
    shared = sample(process, x0, [0.5, 1.0, 3.0], **run).values
    own = sample(process, x0, torch.tensor([[0.5, 1.0, 3.0]]).expand(300, 3), **run).values
    torch.testing.assert_close(own, shared, rtol=0, atol=1e-10)


def test_processes_and_files_do_not_show(tmp_path):
    process, x0 = process_for("euler_maruyama"), zeros(600, 2, torch.float32)
    run = {"solver": "euler_maruyama", "step": 0.2, "seed": 2}
    whole = sample(process, x0, [0.0, 1.0, 2.0], **run)
    disk = sample(process, x0, [0.0, 1.0, 2.0], **run, n_jobs=2, chunk=256, to=tmp_path / "p.npz")
    assert torch.equal(disk.values, whole.values)
    assert dict(disk.info) == dict(whole.info)
    assert torch.equal(sample(process, x0, [0.0, 1.0, 2.0], **run, save="final").values[:, 0], whole.values[:, 2])


def test_the_cost_is_counted():
    calls = []
    process = ODE(lambda t, x: calls.append(len(x)) or -x, 1, jumps=JumpSpec(2.0, add_one))
    paths = sample(process, torch.ones(1, 1), [0.0, 1.0, 3.0], solver="euler", step=0.5, seed=1)
    assert paths.info["nfe_drift"] == paths.info["n_steps"] == len(calls) - 1  # one more looks at the process
    assert paths.info["n_steps"] > 6


def test_rates_of_zero_and_many_candidates():
    never = ODE(still, 1, jumps=JumpSpec(0.0, add_one))
    assert sample(never, zeros(5), [0.0, 1.0], substeps=1).values.abs().sum() == 0
    often = ODE(still, 1, jumps=JumpSpec(300.0, add_one, marks=0))
    within(sample(often, zeros(400), [0.0, 1.0], substeps=1).values[:, 1], 300.0, 300.0)


def test_the_default_solvers():
    spec = JumpSpec(1.0, add_one)
    ordinary = sample(ODE(still, 1, jumps=spec), zeros(5), [0.0, 1.0], step=0.5)
    assert ordinary.info["solver"] == "rk4"
    noisy = sample(
        SDE(still, lambda t, x: torch.ones(1, 1, dtype=x.dtype), 1, noise_type="additive", jumps=spec),
        zeros(5),
        [0, 1],
        step=0.5,
    )
    assert noisy.info["solver"] == "shark"


def test_another_calculus_keeps_the_jumps():
    process = SDE(still, lambda t, x: 0.5 * x, 1, calculus="stratonovich", jumps=JumpSpec(1.0, add_one))
    assert to_ito(process).jumps is process.jumps


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["backprop", "checkpoint", "auto"])
def test_gradients_flow_through_constant_rates(mode):
    # X_T = e^(-aT) x0 + c sum e^(-a (T - tau)): the derivative by c is known path by path, by x0 it is e^(-aT).
    size, a, end = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), 0.7, 2.0
    spec = JumpSpec(2.0, lambda t, x, k, u: x + size)
    x0 = torch.ones(40, 1, dtype=torch.float64, requires_grad=True)
    process = ODE(lambda t, x: -a * x, 1, jumps=spec)
    values = sample(process, x0, [0.0, 1.0, end], solver="rk4", step=0.1, seed=1, gradient=mode).values
    assert torch.equal(values, sample(process, x0.detach(), [0.0, 1.0, end], solver="rk4", step=0.1, seed=1).values)
    last = values[:, 2].sum()
    by_size, by_start = torch.autograd.grad(last, (size, x0))
    torch.testing.assert_close(by_start, torch.full_like(by_start, math.exp(-a * end)), rtol=1e-5, atol=0)
    expected = (last.detach() - 40 * math.exp(-a * end)) / 0.5
    torch.testing.assert_close(by_size, expected, rtol=1e-5, atol=0)


def test_gradients_through_a_divided_brownian_increment():
    # d/ds of x0 exp(-s^2/2 T + s W) times the jumps, which do not depend on s, against finite differences.
    def end(s, gradient="none"):
        process = SDE(lambda t, x: 0 * x, lambda t, x: s * x, 1, jumps=JumpSpec(3.0, lambda t, x, k, u: x * (0.5 + u)))
        run = {"solver": "milstein", "step": 0.25, "seed": 1, "gradient": gradient}
        return sample(process, torch.ones(20, 1, dtype=torch.float64), [0.0, 1.0], **run).values[:, 1].sum()

    s = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(end(s, "backprop"), s)
    (again,) = torch.autograd.grad(end(s, "checkpoint"), s)
    with torch.no_grad():
        difference = (end(s + 1e-5) - end(s - 1e-5)) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(again, slope)


# --- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: JumpSpec(1.0, 2.0), TypeError, "apply must be a function"),
        (lambda: JumpSpec("often", add_one), TypeError, "intensity must be an array of numbers"),
        (lambda: JumpSpec(-1.0, add_one), ValueError, "intensity must not be negative; got -1"),
        (lambda: JumpSpec(math.nan, add_one), ValueError, "intensity must be finite"),
        (lambda: JumpSpec([[1.0]], add_one), ValueError, r"\(K,\) numbers, one for each kind of jump; got \(1, 1\)"),
        (lambda: JumpSpec(1.0, add_one, bound=2.0), ValueError, "leave out bound"),
        (lambda: JumpSpec(still, add_one), ValueError, "need bound="),
        (lambda: JumpSpec(still, add_one, bound=0.0), ValueError, "bound must be a positive number; got 0"),
        (lambda: JumpSpec(1.0, add_one, marks=-1), ValueError, "marks must be a whole number"),
    ],
)
def test_specs_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_specs_show_themselves():
    assert repr(JumpSpec([1.0, 2.0], add_one)) == "JumpSpec(rates [1.0, 2.0])"
    assert repr(JumpSpec(still, add_one, bound=3.0)) == "JumpSpec(rates up to 3)"


def ordinary(intensity, apply=add_one, **more):
    return ODE(lambda t, x: -x, 2, jumps=JumpSpec(intensity, apply, **more))


X0 = torch.ones(3, 2)
STEP = {"step": 0.1}
BACKPROP = {"step": 0.1, "gradient": "backprop"}
REVERSIBLE = {"step": 0.1, "gradient": "reversible", "solver": "ees25"}


@pytest.mark.parametrize(
    ("process", "times", "more", "error", "message"),
    [
        (ODE(still, 2), [0, 1], STEP, None, ""),
        (ordinary(lambda t, x: x[:, 0], bound=2.0), [0, 1], STEP, ValueError, r"must have shape \(3, K\)"),
        (ordinary(lambda t, x: 1.0, bound=2.0), [0, 1], STEP, TypeError, "intensity of jumps must return a tensor"),
        (
            ordinary(lambda t, x: x, bound=1.5),
            [0, 1], STEP, ValueError, "the sum 2 of the rates of jumps in state .1.0, 1.0. at time 0 exceeds",
        ),
        (ordinary(lambda t, x: 2 + x, bound=7.0), [0, 9], STEP, ValueError, "its bound 7; thinning would be wrong"),
        (ordinary(lambda t, x: t - 1, bound=7.0), [0, 9], STEP, ValueError, "finite and not negative; got .-1.0."),
        (ordinary(lambda t, x: 1 - t, bound=7.0), [0, 9], STEP, ValueError, "finite and not negative; got .-"),
        (ordinary(lambda t, x: x / 0, bound=7.0), [0, 9], STEP, ValueError, "finite and not negative; got .inf"),
        (ordinary(1.0, lambda t, x, k, u: x[:, :1]), [0, 1], STEP, ValueError, r"shape \(3, 2\) and type"),
        (ordinary(1.0, lambda t, x, k, u: x.double()), [0, 1], STEP, ValueError, "got .3, 2. of torch.float64"),
        (ordinary(1.0, lambda t, x, k, u: 1.0), [0, 1], STEP, TypeError, "apply.* must return a tensor; got float"),
        (ordinary(1.0), [0, 1], {}, ValueError, "solver 'rk4' needs a step"),
        (ordinary(1.0), [1, 0], STEP, ValueError, "decreasing times"),
        (ordinary(1.0), [0, 1], {"solver": "dopri5"}, ValueError, "'dopri5' carries .* use 'rk4' with a step"),
        (ordinary(1.0), [0, 1], {"solver": DormandPrince()}, ValueError, "'dopri5' carries"),
        (ordinary(1.0), [0, 1], REVERSIBLE, ValueError, "cannot go back over a jump"),
        (ordinary(lambda t, x: 0 * x, bound=1.0), [0, 1], BACKPROP, ValueError, "has no gradient"),
        (ordinary(torch.ones(1, requires_grad=True)), [0, 1], BACKPROP, ValueError, "has no gradient"),
        (ordinary(9.0, lambda t, x, k, u: x / 0), [0, 1], STEP, FloatingPointError, "not finite any more in 3 of 3"),
        (
            SDE(still, still, 2, jumps=JumpSpec(1.0, add_one)),
            [0, 1], {"noise": AlphaStable(1.5)} | STEP, ValueError, "only Brownian increments can be; AlphaStable",
        ),
        (ODE(still, 2, jumps=RateMatrix([[0.0]])), [0, 1], STEP, TypeError, "gendyn.sampling.JumpSpec; got RateMatrix"),
    ],
)  # fmt: skip
def test_sentences(process, times, more, error, message):
    if error is None:
        assert isinstance(sample(process, X0, times, **more), Paths)
        return
    with pytest.raises(error, match=message):
        sample(process, X0, times, **more)


@pytest.mark.filterwarnings("ignore:reversible Heun")
def test_reversible_heun_is_refused():
    process = SDE(still, still, 2, calculus="stratonovich", jumps=JumpSpec(1.0, add_one))
    with pytest.raises(ValueError, match="'reversible_heun' carries .* use 'ees25' with a step"):
        sample(process, X0, [0, 1], solver="reversible_heun", step=0.1)


def test_formulas_for_diffusions_refuse_jumps():
    process = SDE(still, lambda t, x: torch.ones_like(x), 2, jumps=JumpSpec(1.0, add_one))
    plain = SDE(still, lambda t, x: torch.ones_like(x), 2)
    paths = Paths([0.0, 1.0], torch.zeros(3, 2, 2))
    for call in (
        lambda: as_torchsde(process),
        lambda: transition_log_prob(paths, process),
        lambda: girsanov_log_weights(paths, process, plain),
        lambda: girsanov_log_weights(paths, plain, process),
        lambda: guided_bridge(process, X0, X0, [0.0, 1.0], step=0.1),
        lambda: refine(process, paths, [0.5]),
        lambda: dense(ordinary(1.0), X0, [0.0, 1.0], step=0.1),
        lambda: log_density_change(ordinary(1.0), X0, [0.0, 1.0], step=0.1),
    ):
        with pytest.raises(ValueError, match="is for processes without jumps; .* has JumpSpec"):
            call()


def test_an_anchored_tree_drives_jumps():
    process = process_for("shark")
    tree = BrownianTree(anchors=[0.0, 2.0])
    values = sample(process, zeros(300, 2), [0.0, 1.0, 2.0], step=0.25, noise=tree, seed=1).values
    part = sample(process, zeros(300, 2), [0.0, 1.0, 2.0], step=0.25, noise=tree, seed=1, chunk=256).values
    assert torch.equal(values, part)
