"""What is refused or warned of before anything moves, beyond options that do not go together."""

import warnings

import pytest
import torch
from torch import nn

from gendyn.sampling import ODE, SDE, SOLVERS, sample, to_ito, to_stratonovich
from gendyn.sampling.noise import BrownianStream

X0 = torch.ones(3, 2)
RUN = {"step": 0.25, "seed": 1}


def decay(t, x):
    return -x


@pytest.mark.parametrize(
    ("noise_type", "value", "wanted"),
    [
        ("additive", lambda t, x: torch.ones_like(x), r"\(2, 3\) or \(2, 2, 3\)"),
        ("diagonal", lambda t, x: torch.diag_embed(x), r"\(2, 2\)"),
        ("scalar", lambda t, x: x[:, :, None], r"\(2, 2\)"),
        ("general", lambda t, x: x, r"\(2, 2, 3\)"),
    ],
)
def test_a_diffusion_has_the_shape_of_its_noise_type(noise_type, value, wanted):
    process = SDE(decay, value, 2, noise_type=noise_type, noise_dim=3)
    message = rf"the diffusion \({noise_type} noise\) must return shape {wanted} for states \(2, 2\); got"
    with pytest.raises(ValueError, match=message):
        sample(process, X0, [0.0, 1.0], **RUN)


def test_a_fused_call_is_taken_wherever_both_are_wanted():
    class Fused(SDE):
        calls = 0

        def drift_diffusion(self, t, x):
            self.calls += 1
            return self.drift(t, x), self.diffusion(t, x)

    plain = SDE(decay, lambda t, x: 0.1 * x, 2)
    fused = Fused(decay, lambda t, x: 0.1 * x, 2)
    assert torch.equal(sample(fused, X0, [0.0, 1.0], **RUN).values, sample(plain, X0, [0.0, 1.0], **RUN).values)
    assert fused.calls == 4


@pytest.mark.parametrize("noise_type", ["diagonal", "scalar"])
def test_a_derivative_of_the_diffusion_is_used_if_there_is_one(noise_type):
    class Known(SDE):
        calls = 0

        def diffusion_dx(self, t, x):
            self.calls += 1
            # Diagonal: the derivative of each entry; scalar: the derivative of the vector along itself.
            return x.cos() if noise_type == "diagonal" else x.cos() * x.sin()

    known = Known(decay, lambda t, x: x.sin(), 2, noise_type=noise_type)
    plain = SDE(decay, lambda t, x: x.sin(), 2, noise_type=noise_type)
    paths = sample(known, X0, [0.0, 1.0], **RUN)
    assert paths.info["solver"] == "milstein"
    assert known.calls == 4
    torch.testing.assert_close(paths.values, sample(plain, X0, [0.0, 1.0], solver="milstein", **RUN).values)


def test_a_noise_without_areas_is_named_where_they_are_needed():
    class Bare(BrownianStream):
        def start(self, key, grid, shape, first_row, like, area):
            return super().start(key, grid, shape, first_row, like, False)

    process = SDE(decay, lambda t, x: 0.1 * torch.eye(2), 2, noise_type="additive")
    with pytest.raises(ValueError, match="solver 'shark' needs Brownian increments with their space-time Levy area"):
        sample(process, X0, [0.0, 1.0], noise=Bare(), **RUN)


def test_start_states_that_ask_for_a_gradient_are_not_forgotten_silently():
    x0 = X0.clone().requires_grad_()
    with pytest.warns(UserWarning, match="x0 asks for a gradient, but gradient='none' builds no graph") as caught:
        sample(ODE(decay, 2), x0, [0.0, 1.0], step=0.1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(ODE(decay, 2), x0, [0.0, 1.0], step=0.1, gradient="backprop")
        with torch.no_grad():
            sample(ODE(decay, 2), x0, [0.0, 1.0], step=0.1)


def test_integers_are_moved_as_numbers_and_said_so():
    counts = torch.tensor([[1, 2]])
    with pytest.warns(UserWarning, match=r"x0 holds integers \(torch.int64\) and is moved as float32") as caught:
        paths = sample(ODE(decay, 2), counts, [0.0, 1.0], step=0.1)
    assert caught[0].filename == __file__
    assert paths.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(sample(ODE(decay, 2), [[1, 2]], [0, 1], step=0.1).values, paths.values)


class Dropping(nn.Module):
    dim, noise_type, calculus = 2, "diagonal", "stratonovich"

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.drop = nn.Dropout(0.5)

    def drift(self, t, x):
        return -self.drop(x) if self.where == "drift" else -x

    def diffusion(self, t, x):
        return 0.1 * (self.drop(x) if self.where == "diffusion" else x)


@pytest.mark.parametrize("where", ["drift", "diffusion"])
@pytest.mark.parametrize("mode", ["checkpoint", "reversible", "auto"])
def test_steps_that_are_taken_again_need_a_process_without_dropout(where, mode):
    process, x0 = Dropping(where), torch.ones(100, 2)
    state = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=rf"the {where} gave two values at one point; .* switch off its dropout"):
        sample(process, x0, [0.0, 1.0], gradient=mode, **RUN)
    torch.random.set_rng_state(state)
    sample(process.eval(), x0, [0.0, 1.0], gradient=mode, **RUN)
    sample(process.train(), x0, [0.0, 1.0], gradient="backprop", **RUN)


def mixed(calculus):
    """Return a process whose diffusion is diagonal in shape alone."""
    return SDE(decay, lambda t, x: 0.1 + 0.1 * x.flip(1), 2, calculus=calculus)


@pytest.mark.parametrize(("solver", "calculus"), [("milstein", "ito"), ("sri2", "ito"), ("slow_rk", "stratonovich")])
def test_a_diffusion_that_is_diagonal_in_shape_alone_costs_the_order(solver, calculus):
    assert SOLVERS[solver].needs_diagonal
    with pytest.warns(UserWarning, match=rf"another coordinate: solver '{solver}' has strong order 1/2") as caught:
        sample(mixed(calculus), X0, [0.0, 1.0], solver=solver, **RUN)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagonal = SDE(decay, lambda t, x: 0.1 + x.sin(), 2, calculus=calculus)
        sample(diagonal, X0, [0.0, 1.0], solver=solver, **RUN)
        sample(SDE(decay, lambda t, x: x.sum(1, keepdim=True), 1, calculus=calculus), X0[:, :1], [0.0, 1.0],
               solver=solver, **RUN)  # fmt: skip
        sample(mixed("ito"), X0, [0.0, 1.0], solver="euler_maruyama", **RUN)
        sample(mixed("stratonovich"), X0, [0.0, 1.0], solver="heun", **RUN)


def test_where_it_would_give_a_wrong_limit_it_is_refused():
    with pytest.raises(ValueError, match="'milstein' would tend to a wrong limit; use 'heun'"):
        sample(mixed("stratonovich"), X0, [0.0, 1.0], solver="milstein", **RUN)
    for converted in (to_ito(mixed("stratonovich")), to_stratonovich(mixed("ito"))):
        with pytest.raises(ValueError, match="the drift would be wrong; declare noise_type 'general'"):
            sample(converted, X0, [0.0, 1.0], **RUN)


@pytest.mark.parametrize(
    ("drift", "times", "more", "error", "message"),
    [
        (lambda t, x: x**2, [0.0, 2.0], {}, RuntimeError, r"dopri5 cannot meet its tolerances at t=1 \(step"),
        (lambda t, x: -1e6 * (x - torch.cos(t)), [0.0, 1.0], {}, RuntimeError, "needs more than 10000 steps"),
        (lambda t, x: x / 0, [0.0, 1.0], {}, RuntimeError, "cannot meet its tolerances at t=0"),
        (lambda t, x: x, [0.0, float("nan")], {}, ValueError, "times"),
        (lambda t, x: x, [0.0, 1.0], {"rtol": -1.0}, ValueError, "rtol must be zero or positive"),
        (lambda t, x: x, [0.0, 1.0], {"rtol": 0.0, "atol": 0.0}, ValueError, "one of rtol and atol must be positive"),
        (lambda t, x: x**2, [0.0, 2.0], {"solver": "rk4", "step": 0.01}, FloatingPointError,
         r"not finite any more in 3 of 3 paths by t=1\.\d* \(step 1\d\d, solver rk4\)"),
    ],
)  # fmt: skip
def test_where_it_stops(drift, times, more, error, message):
    with pytest.raises(error, match=message):
        sample(ODE(drift, 2), X0.double(), times, **more)


@pytest.mark.parametrize("noise_type", ["general", "scalar"])
def test_a_diffusion_may_share_its_memory_over_the_batch(noise_type):
    """A constant diffusion that is expanded has no correction in either calculus, and needs no copy by the user."""
    shape = (2, 3) if noise_type == "general" else (2,)
    constant = torch.ones(shape)
    process = SDE(
        lambda t, x: -x,
        lambda t, x: constant.expand(len(x), *shape),
        dim=2,
        noise_type=noise_type,
        noise_dim=3 if noise_type == "general" else 1,
    )
    for x in (torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.ones(2).expand(5, 2)):
        assert torch.equal(to_stratonovich(process).drift(torch.tensor(0.0), x), -x)
