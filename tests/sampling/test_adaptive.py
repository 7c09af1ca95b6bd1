"""Adaptive steps on a Brownian tree: one path, errors that follow the tolerance, and no wrong limits."""

import math

import joblib
import pytest
import torch

from gendyn.sampling import ODE, SDE, SOLVERS, AlphaStable, BrownianTree, LinearProcess, StepGrid, refine, sample
from gendyn.sampling.adaptive import Adaptive

MU, S = 0.5, 0.6
ITO = SDE(lambda t, x: MU * x, lambda t, x: S * x, 1)
STRATONOVICH = SDE(lambda t, x: MU * x, lambda t, x: S * x, 1, calculus="stratonovich")
BROWNIAN = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), 1)
ONES = torch.ones(4000, 1, dtype=torch.float64)


def adaptive(process, x0, tolerance, **more):
    run = {"rtol": tolerance, "atol": tolerance, "noise": "tree", "seed": 7} | more
    return sample(process, x0, [0.0, 1.0], **run)


def truth(calculus):
    w = sample(BROWNIAN, 0 * ONES, [0.0, 1.0], step=1.0, noise="tree", seed=7).values[:, 1]
    return torch.exp(MU - (S**2 / 2 if calculus == "ito" else 0.0) + S * w)


@pytest.mark.parametrize(
    ("process", "solver"), [(ITO, "milstein"), (ITO, "sri2"), (STRATONOVICH, "heun"), (STRATONOVICH, "slow_rk")]
)
def test_error_and_bias_fall_with_the_tolerance(process, solver):
    errors, biases, steps = [], [], []
    for tolerance in (1e-1, 1e-2, 1e-3):
        paths = adaptive(process, ONES, tolerance, solver=solver)
        gap = paths.values[:, 1] - truth(process.calculus)
        errors.append(float(gap.square().mean().sqrt()))
        biases.append(abs(float(gap.mean())))
        steps.append(paths.info["n_steps"])
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert biases[2] < 0.015
    assert biases[2] < max(0.35 * biases[0], 0.003)
    assert steps[0] < steps[1] < steps[2]


def test_euler_maruyama_would_tend_to_a_wrong_limit():
    # Why it is refused: however small the tolerance, the mean stays off by a tenth.
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    tree, grid, off = BrownianTree(), StepGrid(times, substeps=1), []
    for tolerance in (1e-2, 1e-3):
        cells = tree.cells(7, grid, (4000, 1), 0, ONES)
        run = Adaptive(SOLVERS["euler_maruyama"], tolerance, tolerance).run(ITO, ONES, times, tree.places(grid), cells)
        off.append(float((run.values[0] - truth("ito")).mean()))
    assert min(off) > 0.06
    with pytest.raises(ValueError, match="tends to a wrong limit where it adapts its steps; use 'milstein'"):
        adaptive(ITO, ONES, 1e-2, solver="euler_maruyama")


def test_a_rejected_step_never_changes_the_path():
    # The first feature is the Brownian motion itself; the second, and it alone, has steps rejected.
    def drift(t, x):
        return torch.stack([0 * x[:, 0], -20 * (x[:, 1] - torch.sin(9 * x[:, 0]))], dim=1)

    process = SDE(drift, lambda t, x: torch.eye(2, dtype=x.dtype), 2, noise_type="additive")
    x0 = torch.zeros(4000, 2, dtype=torch.float64)
    times = [0.0, 0.4, 1.0]
    run = {"noise": "tree", "seed": 3, "solver": "shark"}
    paths = sample(process, x0, times, rtol=1e-2, atol=1e-2, **run)
    assert paths.info["rejected"] > 5
    brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(2, dtype=x.dtype), 2, noise_type="additive")
    for step in (1.0, 0.01):
        fixed = sample(brownian, x0, times, step=step, **run)
        torch.testing.assert_close(paths.values[:, :, 0], fixed.values[:, :, 0], rtol=0, atol=1e-12)
    w = paths.values[:, 2, 0]
    assert abs(w.mean()) < 4 / math.sqrt(4000)
    assert abs(w.var() - 1) < 4 * math.sqrt(2 / 4000)


def test_it_agrees_with_small_fixed_steps():
    well = SDE(lambda t, x: x - x**3, lambda t, x: 0.7 * torch.eye(1, dtype=x.dtype), 1, noise_type="additive")
    x0 = torch.full((300, 1), 20.0, dtype=torch.float64)
    # From far away the drift is stiff: 64 equal steps explode, and as many would do where they are needed.
    with pytest.raises(FloatingPointError):
        sample(well, x0, [0.0, 1.0], solver="shark", step=1 / 64, noise="tree")
    fine = sample(well, x0, [0.0, 0.5, 1.0], solver="shark", step=1 / 8192, noise="tree", seed=1).values
    paths = sample(well, x0, [0.0, 0.5, 1.0], noise="tree", seed=1, rtol=1e-3, atol=1e-3)
    assert paths.info["solver"] == "shark"
    assert paths.info["n_steps"] < 200
    assert float((paths.values - fine).square().mean().sqrt()) < 5e-3  # a few tolerances


def test_every_path_has_steps_of_its_own():
    x0 = torch.linspace(0.1, 3.0, 600, dtype=torch.float64)[:, None]
    whole = adaptive(STRATONOVICH, x0, 1e-2)
    assert whole.info["solver"] == "heun"
    assert torch.equal(adaptive(STRATONOVICH, x0[:300], 1e-2).values, whole.values[:300])
    chunks = adaptive(STRATONOVICH, x0, 1e-2, chunk=256)
    assert torch.equal(chunks.values, whole.values)
    assert dict(chunks.info) == dict(whole.info)
    assert torch.equal(adaptive(STRATONOVICH, x0, 1e-2, save="final").values[:, 0], whole.values[:, 1])
    assert torch.equal(adaptive(STRATONOVICH, x0, 1e-2, gradient="backprop").values, whole.values)
    with joblib.parallel_config(backend="threading"):
        assert torch.equal(adaptive(STRATONOVICH, x0, 1e-2, n_jobs=2).values, whole.values)


def test_the_longest_step_may_be_given():
    # Forcing that a single step does not see: both ends and the middle of it are zeros.
    forced = SDE(
        lambda t, x: 8 * math.pi * torch.sin(4 * math.pi * t) + 0 * x,
        lambda t, x: 0.001 * torch.eye(1, dtype=x.dtype), 1, noise_type="additive",
    )  # fmt: skip
    paths = adaptive(forced, ONES[:10], 1e-2, step=0.1)
    assert paths.info["n_steps"] >= 32
    own = SDE(forced.drift, forced.diffusion, 1, noise_type="additive", time_step=0.1)
    assert torch.equal(adaptive(own, ONES[:10], 1e-2).values, paths.values)
    anchored = adaptive(forced, ONES[:10], 1e-2, step=0.1, noise=BrownianTree(anchors=[0.0, 2.0]))
    assert anchored.info["n_steps"] >= 32


def test_the_cost_is_counted():
    calls = []
    process = SDE(lambda t, x: calls.append(len(x)) or -20 * x, lambda t, x: x, 1, calculus="stratonovich")
    one = torch.ones(1, 1, dtype=torch.float64)
    info = adaptive(process, one, 1e-3).info
    # Per cell three steps, or two where the first is known; heun evaluates twice a step; the door once.
    assert info["nfe_drift"] == len(calls) - 1
    assert info["n_steps"] < info["nfe_drift"] / 2
    assert info["rejected"] > 0
    assert (info["rtol"], info["atol"]) == (1e-3, 1e-3)


def test_gradients_flow_along_the_steps():
    rate = torch.tensor(MU, dtype=torch.float64, requires_grad=True)
    process = SDE(lambda t, x: rate * x, lambda t, x: S * x, 1, calculus="stratonovich")
    end = adaptive(process, ONES[:200], 1e-4, gradient="backprop", solver="slow_rk").values[:, 1].mean()
    (slope,) = torch.autograd.grad(end, rate)
    assert float(slope) == pytest.approx(float(truth("stratonovich")[:200].mean()), rel=2e-3)


@pytest.mark.parametrize(
    ("process", "more", "error", "message"),
    [
        (ITO, {"noise": "stream"}, ValueError, "adaptive steps need noise='tree'"),
        (ITO, {"solver": "log_euler"}, ValueError, "wrong limit"),
        (STRATONOVICH, {"solver": "reversible_heun"}, ValueError, "has no adaptive steps"),
        (LinearProcess([[1.0]], [0.0], [[1.0]]), {"solver": "exact_linear"}, ValueError, "has no adaptive steps"),
        (ITO, {"rtol": -1.0}, ValueError, "rtol must be zero or positive"),
        (ITO, {"rtol": 0.0, "atol": 0.0}, ValueError, "one of rtol and atol must be positive"),
        (ITO, {"gradient": "checkpoint"}, ValueError, "gradient 'checkpoint' needs a fixed step"),
        (ITO, {"noise": AlphaStable(1.5), "solver": "euler_maruyama"}, ValueError, "adaptive steps need noise='tree'"),
        (ITO, {"rtol": 1e-15, "atol": 0.0}, RuntimeError, "cannot meet its tolerances at t="),
        (SDE(lambda t, x: x / 0, lambda t, x: x, 1), {}, FloatingPointError, "not finite any more"),
        (ODE(lambda t, x: -x, 1), {"solver": "rk4", "step": 0.1}, ValueError, "belong to the adaptive solver"),
    ],
)
@pytest.mark.filterwarnings("ignore:reversible Heun")
def test_sentences(process, more, error, message):
    with pytest.raises(error, match=message):
        adaptive(process, ONES[:2], 1e-2, **more)


def test_what_else_it_refuses():
    with pytest.raises(ValueError, match="adaptive steps need times shared by all paths"):
        sample(ITO, ONES[:2], [[0.0, 1.0], [0.0, 2.0]], rtol=1e-2, noise="tree")
    with pytest.raises(ValueError, match="cannot be taken up again within its steps"):
        refine(ITO, adaptive(ITO, ONES[:2], 1e-2), [0.5])
    general = SDE(lambda t, x: -x, lambda t, x: torch.diag_embed(x), 2, noise_type="general")
    with pytest.raises(ValueError, match="after to_stratonovich"):
        adaptive(general, torch.ones(2, 2), 1e-2)
