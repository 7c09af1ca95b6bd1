"""Solutions between the steps: orders, tolerances, and that a stochastic process has none."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from gendyn.sampling import ODE, SDE, DormandPrince, dense, sample


def pendulum(t, x):
    return torch.stack([x[:, 1], 0.3 * torch.cos(t) - torch.sin(x[:, 0])], dim=1)


PENDULUM = ODE(pendulum, dim=2)
START = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)
ASKED = np.linspace(0.0, 4.0, 173)


@pytest.fixture(scope="module")
def truth():
    def field(t, y):
        return [y[1], -math.sin(y[0]) + 0.3 * math.cos(t)]

    rows = [solve_ivp(field, (0, 4), x, t_eval=ASKED, rtol=1e-12, atol=1e-12).y.T for x in START.numpy()]
    return torch.from_numpy(np.stack(rows))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("ees25", 2), ("rk4", 4)])
def test_between_steps_the_order_is_that_of_the_solver_and_at_most_four(truth, solver, order):
    errors = [
        float((dense(PENDULUM, START, [0.0, 4.0], solver=solver, step=h)(ASKED) - truth).abs().max())
        for h in (0.1, 0.05, 0.025)
    ]
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.log(0.5), order, atol=0.3)


def test_the_cubic_alone_has_order_four(truth):
    # A solver without error of its own: what is left is the cubic's.
    class Exact:
        name, calculus, noise_types = "exact", ("ito",), ("none",)
        order = weak_order = math.inf
        drift_evaluations, diffusion_evaluations, needs_area = 1, 0, False

        def step(self, process, t, h, x, dw, area=None):
            return x * math.exp(-h)

    errors = []
    for h in (0.4, 0.2, 0.1):
        solution = dense(ODE(lambda t, x: -x, 1), torch.ones(1, 1).double(), [0.0, 4.0], solver=Exact(), step=h)
        errors.append(float((solution(ASKED)[0, :, 0] - torch.exp(-torch.from_numpy(ASKED))).abs().max()))
        # On [0, h] the cubic misses by at most max |x''''| h**4 / 384.
        assert errors[-1] <= h**4 / 384 * 1.001
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.log(0.5), 4, atol=0.2)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_dopri5_keeps_its_tolerance_between_its_steps(truth, tolerance):
    solution = dense(PENDULUM, START, [0.0, 4.0], rtol=tolerance, atol=tolerance)
    assert len(solution.times) < 120
    assert (solution(ASKED) - truth).abs().max() < 100 * tolerance
    by_hand = dense(PENDULUM, START, [0.0, 4.0], solver=DormandPrince(tolerance, tolerance))
    assert torch.equal(solution(ASKED), by_hand(ASKED))


@pytest.mark.parametrize("options", [{}, {"solver": "rk4", "step": 0.3}, {"step": 0.3}, {"substeps": 7}])
def test_it_passes_through_what_sample_gives(options):
    times = [0.0, 1.0, 2.5, 4.0]
    paths = sample(PENDULUM, START, times, **options)
    found = dense(PENDULUM, START, times, **options)(times)
    torch.testing.assert_close(found, paths.values, rtol=0, atol=1e-12 if options else 1e-5)


def test_slopes_are_the_drift_at_the_steps():
    solution = dense(PENDULUM, START, [0.0, 4.0], solver="rk4", step=0.25)
    for t in (0.25, 1.5, 3.75):
        before, at, after = solution([t - 1e-5, t, t + 1e-5]).unbind(1)
        drift = pendulum(torch.tensor(t), at)
        torch.testing.assert_close((at - before) / 1e-5, drift, rtol=0, atol=1e-4)
        torch.testing.assert_close((after - at) / 1e-5, drift, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{"rtol": 1e-9, "atol": 1e-9}, {"solver": "rk4", "step": 0.01}])
def test_backward_and_in_any_order(truth, options):
    end = truth[:, -1]
    back = dense(PENDULUM, end, [4.0, 0.0], **options)
    shuffled = np.random.default_rng(0).permutation(len(ASKED))
    torch.testing.assert_close(back(ASKED[shuffled]), truth[:, shuffled], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"rtol": 1e-10, "atol": 1e-10}, {"solver": "rk4", "step": 0.02}])
def test_gradients_flow_through_it(options):
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    decay = ODE(lambda t, x: -rate * x, 1)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert not dense(decay, one, [0.0, 2.0], **options)(1.234).requires_grad
    (slope,) = torch.autograd.grad(dense(decay, one, [0.0, 2.0], gradient="backprop", **options)(1.234).sum(), rate)
    assert float(slope) == pytest.approx(-1.234 * math.exp(-0.7 * 1.234), rel=1e-6)


def test_shapes_types_and_one_path():
    solution = dense(ODE(lambda t, x: -x, 2), torch.ones(3, 2), [0.0, 1.0], step=0.1)
    assert solution(0.5).shape == (3, 2)
    assert solution([0.5]).shape == (3, 1, 2)
    assert solution(0.5).dtype == torch.float32
    assert repr(solution) == "DenseSolution(3 paths, 2 features, 10 steps from 0 to 1)"
    assert torch.equal(solution(0.0), torch.ones(3, 2))
    assert dense(ODE(lambda t, x: -x, 2), torch.ones(2), [0.0, 1.0])(1.0).shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: dense(SDE(lambda t, x: -x, lambda t, x: x, 2), START, [0, 1]), ValueError, "never interpolated"),
        (lambda p: dense(p, START, [0, 1], solver="magic"), ValueError, "solver must be one of auto, dopri5"),
        (lambda p: dense(p, START, [0, 1], solver="heun"), ValueError, "needs a step"),
        (lambda p: dense(p, START, [0, 1], step=0.1, rtol=1e-3), ValueError, "belong to"),
        (lambda p: dense(p, START, [0, 1], solver="dopri5", step=0.1), ValueError, "chooses its own steps"),
        (lambda p: dense(p, START, [[0, 1], [0, 1]], step=0.1), ValueError, "times .T,. shared by all paths"),
        (lambda p: dense(p, START, [0, 1], step=0.1, gradient="reversible"), ValueError, "'none' or 'backprop'"),
        (lambda p: dense(p, START, [0, 1], step=0.1, solver="reversible_heun"), ValueError, "carries more than"),
        (lambda p: dense(object(), START, [0, 1]), TypeError, "a process needs dim"),
        (lambda p: dense(p, START, [0, 1])(1.1), ValueError, "reaches from 0 to 1; got times beyond"),
        (lambda p: dense(p, START, [0, 1])(float("nan")), ValueError, "or NaN"),
        (lambda p: dense(p, START, [0, 1])([[0.5]]), ValueError, r"got shape \(1, 1\)"),
    ],
)
def test_sentences(call, error, message):
    with pytest.raises(error, match=message):
        call(PENDULUM)
