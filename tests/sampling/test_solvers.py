"""Every solver against closed forms: its strong order, its exact discrete moments, its contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn.sampling import (
    ODE,
    SDE,
    SOLVERS,
    BrownianTree,
    LinearProcess,
    StepGrid,
    coarsen,
    halve,
    sample,
    to_ito,
    to_stratonovich,
)
from gendyn.sampling.solvers import DormandPrince

PATHS = 20_000
STEPS = (16, 64, 256)


def brownian(paths: int = PATHS) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Increments and areas on [0, 1] at 16, 64 and 256 steps: one Brownian path, refined."""
    grid = StepGrid(torch.tensor([0.0, 1.0]), substeps=256)
    driver = BrownianTree().start(0, grid, (paths, 1), 0, torch.zeros(1, dtype=torch.float64), True)
    w, area = driver.increments(0, 0, 256)
    found = {256: (w, area)}
    for steps in (128, 64, 32, 16):
        w, area = coarsen(w, area)
        found[steps] = (w, area)
    return found


@pytest.fixture(scope="module")
def path():
    return brownian()


def scalar(value):
    return lambda t, x: value(t, x)


MU, S, P = 0.5, 0.6, 0.8


def geometric(calculus):
    return SDE(lambda t, x: MU * x, lambda t, x: S * x, 1, calculus=calculus)


PROBLEMS = {
    "geometric, Ito": (geometric("ito"), 1.0, lambda w: torch.exp(MU - S**2 / 2 + S * w)),
    "geometric, Stratonovich": (geometric("stratonovich"), 1.0, lambda w: torch.exp(MU + S * w)),
    "arctangent, Ito": (
        SDE(lambda t, x: -(P**2) * x.sin() * x.cos() ** 3, lambda t, x: P * x.cos() ** 2, 1),
        0.3,
        lambda w: torch.atan(P * w + math.tan(0.3)),
    ),
    "arctangent, Stratonovich": (
        SDE(lambda t, x: 0 * x, lambda t, x: P * x.cos() ** 2, 1, calculus="stratonovich"),
        0.3,
        lambda w: torch.atan(P * w + math.tan(0.3)),
    ),
    "additive": (
        SDE(
            lambda t, x: (1 + t) ** -0.5 - x / (2 * (1 + t)),
            lambda t, x: (0.5 * (1 + t) ** -0.5).reshape(1, 1),
            1,
            noise_type="additive",
        ),
        1.0,
        lambda w: (1.0 + 1.0 + 0.5 * w) / math.sqrt(2.0),
    ),
}

# RMS errors at T = 1 for 16, 64, 256 steps, measured independently of this package, and the fitted slope.
ERRORS = [
    ("geometric, Ito", "euler_maruyama", (0.136, 0.0626, 0.0316), 0.53),
    ("geometric, Ito", "milstein", (0.0519, 0.0134, 0.00339), 0.98),
    ("geometric, Ito", "sri2", (3.4e-3, 4.1e-4, 5.2e-5), 1.51),
    ("geometric, Stratonovich", "heun", (0.0333, 8.1e-3, 2.05e-3), 1.0),
    ("geometric, Stratonovich", "euler_heun", (0.0886, 0.0232, 5.87e-3), 0.98),
    ("geometric, Stratonovich", "milstein", (0.0886, 0.0232, 5.87e-3), 0.98),
    ("geometric, Stratonovich", "reversible_heun", (0.0365, 8.8e-3, 2.2e-3), 1.0),
    ("geometric, Stratonovich", "ees25", (0.0108, 2.5e-3, 6.1e-4), 1.03),
    ("geometric, Stratonovich", "slow_rk", (1.1e-3, 1.3e-4, 1.5e-5), 1.55),
    ("geometric, Stratonovich", "general_shark", (0.038, 9.5e-3, 2.4e-3), 1.0),
    ("arctangent, Ito", "euler_maruyama", (0.0567, 0.0275, 0.0138), 0.51),
    ("arctangent, Ito", "milstein", (0.0181, 4.4e-3, 1.07e-3), 1.02),
    ("arctangent, Ito", "sri2", (5.2e-3, 7.1e-4, 9.1e-5), 1.46),
    ("arctangent, Stratonovich", "heun", (0.0148, 3.8e-3, 9.6e-4), 0.98),
    ("arctangent, Stratonovich", "midpoint", (7.4e-3, 1.7e-3, 4.1e-4), 1.04),
    ("arctangent, Stratonovich", "ees25", (1.5e-3, 4.0e-4, 1.0e-4), 0.97),
    ("arctangent, Stratonovich", "slow_rk", (2.4e-4, 1.7e-5, 1.1e-6), 1.94),
    ("additive", "euler_maruyama", (7.3e-3, 1.8e-3, 4.5e-4), 1.0),
    ("additive", "heun", (3.5e-5, 2.1e-6, 1.3e-7), 2.0),
    ("additive", "sra1", (2.3e-5, 1.4e-6, 8.9e-8), 2.0),
    ("additive", "shark", (2.1e-5, 1.3e-6, 8.3e-8), 2.0),
]


def end(process, solver, x0, path, steps):
    """Run a solver over [0, 1] on given increments."""
    method, h = SOLVERS[solver], 1.0 / steps
    w, area = path[steps]
    x = torch.full((w.shape[1], 1), x0, dtype=torch.float64)
    times = torch.arange(steps, dtype=torch.float64) / steps
    if hasattr(method, "forth"):
        state = method.begin(process, times[0], x)
        for k in range(steps):
            state = method.forth(process, times[k], h, state, w[k])
        return state[0]
    for k in range(steps):
        x = method.step(process, times[k], h, x, w[k], area[k])
    return x


@pytest.mark.parametrize(("problem", "solver", "errors", "slope"), ERRORS)
def test_strong_orders(path, problem, solver, errors, slope):
    process, x0, exact = PROBLEMS[problem]
    truth = exact(path[16][0].sum(0))
    found = [float((end(process, solver, x0, path, n) - truth).square().mean().sqrt()) for n in STEPS]
    np.testing.assert_allclose(found, errors, rtol=0.15)
    fitted = -np.polyfit(np.log(STEPS), np.log(found), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.12)


DOUBLE_WELL = SDE(lambda t, x: x - x**3, lambda t, x: 0.7 * torch.eye(1, dtype=x.dtype), 1, noise_type="additive")


@pytest.mark.parametrize(
    ("solver", "errors"),
    [
        ("euler_maruyama", (0.0221, 5.3e-3, 1.3e-3)),
        ("heun", (0.0132, 3.3e-3, 8.2e-4)),
        ("sea", (0.0123, 2.9e-3, 7.3e-4)),
        ("sra1", (3.1e-3, 3.0e-4, 3.3e-5)),
        ("shark", (2.2e-3, 2.3e-4, 2.5e-5)),
    ],
)
def test_strong_errors_in_a_double_well(path, solver, errors):
    fine = {512: halve(*path[256], 1 / 256, torch.randn(2, *path[256][0].shape, dtype=torch.float64))}
    truth = end(DOUBLE_WELL, "shark", 0.5, fine, 512)
    # The area of the finest level is drawn anew, so that its coarser areas differ a little from those of the path.
    w, area = fine[512]
    levels = {}
    for n in (256, 128, 64, 32, 16):
        w, area = coarsen(w, area)
        levels[n] = (w, area)
    found = [float((end(DOUBLE_WELL, solver, 0.5, levels, n) - truth).square().mean().sqrt()) for n in STEPS]
    np.testing.assert_allclose(found, errors, rtol=0.15)


def test_log_euler_is_exact_for_geometric_brownian_motion(path):
    for name in ("geometric, Ito", "geometric, Stratonovich"):
        process, x0, exact = PROBLEMS[name]
        truth = exact(path[16][0].sum(0))
        torch.testing.assert_close(end(process, "log_euler", x0, path, 16), truth, rtol=1e-12, atol=0)


# --- moments that the discrete scheme has exactly -----------------------------------------------------------


def within(values, truth):
    assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize(
    ("solver", "calculus", "first", "second"),
    [
        ("euler_maruyama", "ito", 1.636151, 3.742202),
        ("milstein", "ito", 1.636151, 3.756183),
        ("heun", "stratonovich", 1.960970, 5.466552),
        ("ees25", "stratonovich", 1.969032, 5.544257),
    ],
)
def test_moments_of_geometric_brownian_motion(solver, calculus, first, second):
    x0 = torch.ones(200_000, 1, dtype=torch.float64)
    x = sample(geometric(calculus), x0, [0.0, 1.0], solver=solver, substeps=16, seed=1, save="final").values[:, 0, 0]
    within(x, first)
    within(x.square(), second)


@pytest.mark.parametrize(("solver", "variance"), [("euler_maruyama", 0.131579), ("heun", 0.124672)])
def test_stationary_variance_of_ornstein_uhlenbeck(solver, variance):
    process = SDE(lambda t, x: -x, lambda t, x: 0.5 * torch.eye(1, dtype=x.dtype), 1, noise_type="additive")
    x0 = variance**0.5 * torch.randn(200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = sample(process, x0, [0.0, 5.0], solver=solver, step=0.1, seed=2, save="final").values[:, 0, 0]
    within(x.square(), variance)


def test_no_order_beyond_a_half_without_commutativity():
    # dX1 = dW1, dX2 = X1 dW2: the exact mean-square error of Euler is T h / 2.
    def diffusion(t, x):
        zero, one = torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0])
        return torch.stack([torch.stack([one, zero], -1), torch.stack([zero, x[:, 0]], -1)], dim=1)

    process = SDE(lambda t, x: 0 * x, diffusion, 2, noise_type="general")
    x0 = torch.zeros(20_000, 2, dtype=torch.float64)
    ends = {
        n: sample(process, x0, [0.0, 1.0], substeps=n, noise="tree", seed=3, save="final").values[:, 0, 1]
        for n in (16, 4096 // 16)
    }
    # Against a run sixteen times finer, whose own error is sixteen times smaller in the square.
    error = float((ends[16] - ends[256]).square().mean())
    assert error == pytest.approx(1 / 32 - 1 / 512, rel=0.1)


# --- the contract -------------------------------------------------------------------------------------------


def example(solver, noise_type):
    """A process that the solver is right for, in two features."""
    if solver.name == "exact_linear":
        return LinearProcess([[1.0, 0.2], [0.0, 2.0]], [0.1, 0.0], [[0.3, 0.0], [0.1, 0.2]])
    calculus = solver.calculus[0]
    drift = lambda t, x: -x + 0.1 * torch.sin(t)  # noqa: E731
    diffusion = {
        "none": lambda t, x: 0 * x,
        "additive": lambda t, x: 0.3 * torch.eye(2, dtype=x.dtype),
        "diagonal": lambda t, x: 0.2 + 0.1 * x,
        "scalar": lambda t, x: 0.2 + 0.1 * x,
        "general": lambda t, x: 0.1 * torch.stack([x + 1, x.flip(1)], dim=2),
    }[noise_type]
    return SDE(drift, diffusion, 2, noise_type=noise_type, calculus=calculus)


CASES = [(name, kind) for name, solver in SOLVERS.items() for kind in solver.noise_types]


@pytest.mark.filterwarnings("ignore:reversible Heun")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_solver_keeps_the_contract(name, kind):
    process, x0 = example(SOLVERS[name], kind), torch.linspace(0.5, 1.5, 1200, dtype=torch.float64).reshape(600, 2)
    run = {"solver": name, "step": 0.05, "seed": 4}
    whole = sample(process, x0, [0.0, 0.2, 1.0], **run)
    assert torch.equal(whole.values[:, 0], x0)
    assert torch.isfinite(whole.values).all()
    assert torch.equal(sample(process, x0, [0.0, 0.2, 1.0], chunk=256, **run).values, whole.values)
    assert torch.equal(sample(process, x0[:300], [0.0, 0.2, 1.0], **run).values, whole.values[:300])
    assert torch.equal(sample(process, x0, [0.0, 0.2, 1.0], save="final", **run).values[:, 0], whole.values[:, -1])
    graph = sample(process, x0, [0.0, 0.2, 1.0], gradient="backprop", **run).values
    assert torch.equal(graph, whole.values)
    assert sample(process, x0.float(), [0.0, 1.0], **run).dtype == torch.float32
    assert whole.info["nfe_drift"] == 20 * SOLVERS[name].drift_evaluations
    own = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 0.25]], dtype=torch.float64)
    irregular = sample(process, x0[:2], own, **run).values
    assert torch.isfinite(irregular).all()
    torch.testing.assert_close(irregular[1, 1], irregular[1, 2])


def test_every_solver_says_when_to_choose_it():
    for name, solver in SOLVERS.items():
        assert solver.name == name
        assert len(solver.use) > 20
        assert solver.weak_order >= solver.order or solver.order > 0
    assert DormandPrince(1e-5, 1e-6).name == "dopri5"


# --- conversions --------------------------------------------------------------------------------------------


def test_both_forms_have_the_same_paths(path):
    process, x0, exact = PROBLEMS["geometric, Ito"]
    truth = exact(path[16][0].sum(0))
    converted = to_stratonovich(process)
    error = (end(converted, "heun", x0, path, 256) - truth).square().mean().sqrt()
    assert float(error) < 0.01
    back = to_ito(converted)
    x = torch.rand(5, 1, dtype=torch.float64)
    torch.testing.assert_close(back.drift(torch.tensor(0.0), x), process.drift(torch.tensor(0.0), x))


def test_general_noise_is_converted_like_diagonal():
    diagonal = SDE(lambda t, x: -x, lambda t, x: torch.sin(x), 2)
    general = SDE(lambda t, x: -x, lambda t, x: torch.diag_embed(torch.sin(x)), 2, noise_type="general")
    x, t = torch.rand(6, 2, dtype=torch.float64), torch.tensor(0.0)
    torch.testing.assert_close(to_stratonovich(diagonal).drift(t, x), to_stratonovich(general).drift(t, x))
    torch.testing.assert_close(to_stratonovich(diagonal).drift(t, x), -x - 0.5 * torch.sin(x) * torch.cos(x))


def test_nothing_to_convert_is_left_alone():
    ode, additive = ODE(lambda t, x: -x, 1), DOUBLE_WELL
    assert to_stratonovich(ode) is ode
    assert to_ito(additive) is additive


def test_noise_first_is_of_order_one_and_never_looks_at_the_first_time(path):
    process, x0, exact = PROBLEMS["additive"]
    truth = exact(path[16][0].sum(0))
    found = [float((end(process, "noise_first_heun", x0, path, n) - truth).square().mean().sqrt()) for n in STEPS]
    assert -np.polyfit(np.log(STEPS), np.log(found), 1)[0] == pytest.approx(1.0, abs=0.12)
    singular = SDE(lambda t, x: -x / t, lambda t, x: torch.eye(1, dtype=x.dtype), 1, noise_type="additive")
    start = torch.ones(5, 1, dtype=torch.float64)
    made = sample(singular, start, [0.0, 1.0], solver="noise_first_heun", step=0.1, seed=0).values
    assert torch.isfinite(made).all()
