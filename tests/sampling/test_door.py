"""What is refused or warned of before anything moves, beyond options that do not go together."""

import math
import warnings

import pytest
import torch
from torch import nn

from gendyn.data import Snapshots
from gendyn.sampling import ODE, SDE, SOLVERS, AlphaStable, sample, to_ito, to_stratonovich
from gendyn.sampling.jumps import RateMatrix
from gendyn.sampling.noise import BrownianStream

X0 = torch.ones(3, 2)
RUN = {"step": 0.25, "seed": 1}


def decay(t, x):
    return -x


@pytest.mark.parametrize(
    ("noise_type", "value", "wanted"),
    [
        ("additive", lambda t, x: torch.ones_like(x), r"\(2, 3\) or \(3, 2, 3\)"),
        ("diagonal", lambda t, x: torch.diag_embed(x), r"\(3, 2\)"),
        ("scalar", lambda t, x: x[:, :, None], r"\(3, 2\)"),
        ("general", lambda t, x: x, r"\(3, 2, 3\)"),
    ],
)
def test_a_diffusion_has_the_shape_of_its_noise_type(noise_type, value, wanted):
    process = SDE(decay, value, 2, noise_type=noise_type, noise_dim=3)
    message = rf"the diffusion \({noise_type} noise\) must return shape {wanted} for states \(3, 2\); got"
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


NOISY = SDE(decay, lambda t, x: torch.ones_like(x), 2)


def own(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x0", "times", "more", "error", "message"),
    [
        (X0, own(*[[0.0, 1.0, 1.0, 2.0]] * 3), {}, ValueError, "path 0 goes from 1 to 2 at position 3, after a time"),
        (X0, own([0, 1], [0, 1], [1, 0]), {}, ValueError, "path 2 goes from 1 to 0 at position 1"),
        (X0, own(*[[0, 1, math.nan]] * 3), {}, ValueError, "a path that has ended repeats its last time"),
        (X0, own([0, 1]), {}, ValueError, "one row for each of 3 paths; got 1"),
        (X0 + 0j, [0.0, 1.0], {}, TypeError, "x0 must hold real numbers; got torch.complex64"),
        (X0[None], [0.0, 1.0], {}, ValueError, "flatten the leading axes"),
        (X0, [0.0, 1.0], {"dtype": torch.int64}, TypeError, "dtype must be a floating type"),
        (X0, [0.0, 1.0], {"step": 1e-300}, ValueError, "into more than 1e[+]09 steps; give a longer one"),
        (X0, [0.0, 1.0], {"step": None, "substeps": 2.0}, ValueError, "substeps must be a whole number"),
        (X0, [0.0, 1.0], {"chunk": 1.5}, ValueError, "chunk must be a whole number of at least 1 path; got 1.5"),
        (X0, [0.0, 1.0], {"n_jobs": 0.5}, ValueError, "n_jobs must be the number of processes"),
        (X0, [0.0, 1.0], {"solver": None}, TypeError, "solver must be a name, or an object with a step"),
        (X0, [0.0, 1.0], {"solver": type(SOLVERS["heun"])}, TypeError, "solver must be a name, or an object"),
    ],
)
def test_what_is_given_is_refused_in_words(x0, times, more, error, message):
    with pytest.raises(error, match=message):
        sample(NOISY, x0, times, **(RUN | more))


def written(t, x):
    x[:, 0] = 0.0
    return x


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (ODE(written, 2), "wrote into the states that they were given"),
        (SDE(decay, written, 2), "wrote into the states that they were given"),
        (ODE(lambda t, x: torch.zeros(x.shape, device="meta"), 2), "device of the states, cpu; got meta"),
        (SDE(decay, lambda t, x: torch.ones_like(x), 2, noise_type="additive"), r"shape \(2, 2\) or \(3, 2, 2\)"),
        (SDE(decay, decay, 2, noise_type="all"), "noise_type must be one of .* got 'all'"),
        (SDE(decay, decay, 2, calculus="malliavin"), "calculus must be one of .* got 'malliavin'"),
    ],
)
def test_a_process_that_breaks_its_promise_is_refused(process, message):
    x0 = X0.clone()
    with pytest.raises(ValueError, match=message):
        sample(process, x0, [0.0, 1.0], **RUN)
    assert torch.equal(x0, X0)


def test_a_coefficient_that_is_no_number_is_not_taken_for_one_that_depends_on_the_state():
    process = SDE(decay, lambda t, x: torch.full((2, 2), math.nan), 2, noise_type="additive")
    with pytest.raises(FloatingPointError, match="not finite any more in 3 of 3 paths"):
        sample(process, X0, [0.0, 1.0], **RUN)


def test_jumps_of_every_size_drive_ito_equations():
    process = SDE(decay, lambda t, x: x, 2, calculus="stratonovich")
    with pytest.raises(ValueError, match="AlphaStable drives Ito equations alone"):
        sample(process, X0, [0.0, 1.0], noise=AlphaStable(1.5), **RUN)


def test_tolerances_need_digits():
    with pytest.raises(ValueError, match="'dopri5' cannot hold its tolerances in torch.float16; give dtype"):
        sample(ODE(decay, 2), X0.half(), [0.0, 1.0])
    assert sample(ODE(decay, 2), X0.half(), [0.0, 1.0], dtype=torch.float32).values.shape == (3, 2, 2)


def test_the_logarithm_of_zero_is_not_moved():
    zero = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="'log_euler' never leaves zero"):
        sample(NOISY, zero, [0.0, 1.0], solver="log_euler", **RUN)
    growth = SDE(lambda t, x: x, lambda t, x: x, 2)
    assert torch.equal(sample(growth, zero, [0.0, 1.0], solver="log_euler", **RUN).values[:, -1], zero)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in ("euler", "rk4", "exact_linear")])
def test_a_path_that_has_ended_at_its_start_stays_there(solver):
    """As that of somebody who was seen once among others who came back."""
    method = SOLVERS[solver]
    calculus = method.calculus[-1]
    kind = "diagonal" if "diagonal" in method.noise_types else "additive"
    value = (lambda t, x: 0.3 * x) if kind == "diagonal" else (lambda t, x: 0.3 * torch.eye(2))
    process = SDE(decay, value, 2, noise_type=kind, calculus=calculus)
    times = own([2.0, 2.0, 2.0], [0.0, 1.0, 2.0], [0.5, 1.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        paths = sample(process, X0, times, solver=solver, **RUN)
    assert paths.lengths.tolist() == [1, 3, 2]
    assert torch.equal(paths.values[0], X0[:1].expand(3, 2))
    assert torch.equal(paths.values[2, 1], paths.values[2, 2])
    assert (paths.values[1, 1:] != 1).all()


def test_jump_processes_start_from_a_population_too():
    switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
    people = Snapshots([1.0], [torch.tensor([[0.0], [1.0]])])
    start = torch.tensor([[0], [1]])
    assert torch.equal(sample(switch, people, [1.0, 2.0]).values, sample(switch, start, [1.0, 2.0]).values)
    with pytest.raises(ValueError, match="x0 was measured at time 1, but times start at 0"):
        sample(switch, people, [0.0, 2.0])
    frozen = sample(switch, start, own([0.0, 0.0], [0.0, 9.0]))
    assert frozen.lengths.tolist() == [1, 2]
    assert int(frozen.values[0, 1]) == 0
