"""To and from torchsde; and our steps against its steps, on the same increments."""

import numpy as np
import pytest
import torch
import torchsde

from gendyn.sampling import (
    ODE,
    SDE,
    BrownianTree,
    StepGrid,
    as_torchsde,
    from_torchsde,
    sample,
    sample_with_torchsde,
)

STEPS = 16
X0 = torch.linspace(0.3, 1.5, 40, dtype=torch.float64).reshape(20, 2)


def process(noise_type, calculus):
    diffusion = {
        "additive": lambda t, x: (0.3 + 0.1 * t) * torch.tensor([[1.0, 0.2, 0.0], [0.1, 0.5, 0.3]], dtype=x.dtype),
        "diagonal": lambda t, x: 0.3 * x.sin() + 0.1 * t,
        "scalar": lambda t, x: 0.2 * x.flip(1) + 0.1,
        "general": lambda t, x: 0.2 * torch.stack([x, x.flip(1).cos(), x * 0 + 1], dim=2),
    }[noise_type]
    columns = {"additive": 3, "diagonal": 2, "scalar": 1, "general": 3}[noise_type]
    return SDE(
        lambda t, x: torch.cos(x.flip(1)) - x * t, diffusion, 2, noise_type=noise_type, calculus=calculus,
        noise_dim=columns,
    )  # fmt: skip


class OurPath:
    """The increments of a tree, as torchsde asks for them."""

    def __init__(self, columns, seed):
        grid = StepGrid(torch.tensor([0.0, 1.0]), substeps=STEPS)
        driver = BrownianTree().start(seed, grid, (len(X0), columns), 0, X0, True)
        self._w, self._area = driver.increments(0, 0, STEPS)
        self.dtype, self.device, self.shape = X0.dtype, X0.device, (len(X0), columns)
        self.levy_area_approximation = "space-time"

    def __call__(self, start, end, return_U=False, return_A=False):
        k = round(float(start) * STEPS)
        assert round(float(end) * STEPS) == k + 1
        w = self._w[k]
        return (w, (w / 2 + self._area[k]) / STEPS) if return_U else w


@pytest.mark.filterwarnings("ignore:reversible Heun")
@pytest.mark.parametrize(
    ("ours", "theirs", "noise_type", "calculus"),
    [
        ("euler_maruyama", "euler", "additive", "ito"),
        ("euler_maruyama", "euler", "diagonal", "ito"),
        ("euler_maruyama", "euler", "scalar", "ito"),
        ("euler_maruyama", "euler", "general", "ito"),
        ("milstein", "milstein", "diagonal", "ito"),
        ("milstein", "milstein", "scalar", "ito"),
        ("milstein", "milstein", "diagonal", "stratonovich"),
        ("sri2", "srk", "diagonal", "ito"),
        ("sri2", "srk", "scalar", "ito"),
        ("heun", "heun", "general", "stratonovich"),
        ("midpoint", "midpoint", "general", "stratonovich"),
        ("euler_heun", "euler_heun", "general", "stratonovich"),
        ("reversible_heun", "reversible_heun", "general", "stratonovich"),
        ("reversible_heun", "reversible_heun", "diagonal", "stratonovich"),
    ],
)
def test_the_same_steps_on_the_same_path(ours, theirs, noise_type, calculus):
    p = process(noise_type, calculus)
    values = sample(p, X0, [0.0, 1.0], solver=ours, substeps=STEPS, noise="tree", seed=5).values[:, 1]
    with torch.no_grad():
        path, times = OurPath(p.noise_dim, 5), torch.tensor([0.0, 1.0], dtype=torch.float64)
        reference = torchsde.sdeint(as_torchsde(p), X0, times, bm=path, method=theirs, dt=1 / STEPS)[1]
    torch.testing.assert_close(values, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("noise_type", ["additive", "diagonal", "scalar", "general"])
def test_there_and_back_it_is_the_same_process(noise_type):
    p = process(noise_type, "stratonovich")
    again = from_torchsde(as_torchsde(p), dim=2)
    assert (again.noise_type, again.calculus, again.dim, again.noise_dim) == (
        noise_type,
        "stratonovich",
        2,
        p.noise_dim,
    )
    run = {"step": 0.1, "seed": 2, "solver": "heun"}
    there, back = (sample(q, X0, [0.0, 1.0], **run).values for q in (p, again))
    # One diffusion for all or one for each path: products of matrices round alike on some processors only.
    torch.testing.assert_close(back, there, rtol=1e-13, atol=1e-13)


def test_the_seed_decides_and_nothing_global():
    p = process("diagonal", "ito")
    found = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)
        found.append(sample_with_torchsde(p, X0, [0.0, 0.5, 1.0], step=0.1, seed=3).values)
    assert torch.equal(*found)
    assert torch.equal(found[0][:, 0], X0)
    assert not torch.equal(sample_with_torchsde(p, X0, [0.0, 0.5, 1.0], step=0.1, seed=4).values, found[0])


def test_it_has_the_law_of_our_own():
    p = SDE(lambda t, x: -x, lambda t, x: 0.5 + 0 * x, 1)
    x0 = torch.ones(20_000, 1)
    values = sample_with_torchsde(p, x0, [0.0, 1.0], step=0.02, seed=0, levy_area="foster").values[:, 1]
    assert float(values.mean()) == pytest.approx(np.exp(-1), abs=0.015)
    assert float(values.var()) == pytest.approx(0.125 * (1 - np.exp(-2)), rel=0.05)


def test_its_adjoint_takes_our_process_and_can_be_differentiated_twice():
    class Linear(torch.nn.Module):
        dim, noise_type, calculus = 1, "diagonal", "stratonovich"

        def __init__(self):
            super().__init__()
            self.rate = torch.nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

        def drift(self, t, x):
            return self.rate * x

        def diffusion(self, t, x):
            return 0.3 * x

    p = Linear()
    one, times = torch.ones(50, 1, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    path = torchsde.BrownianInterval(0.0, 1.02, size=(50, 1), dtype=torch.float64, dt=0.01, entropy=0)
    end = torchsde.sdeint_adjoint(as_torchsde(p), one, times, bm=path, method="midpoint", dt=0.01)[1].mean()
    (slope,) = torch.autograd.grad(end, p.rate, create_graph=True)
    # X = exp(rate + 0.3 W): the derivative by the rate is X, and again X.
    assert float(slope.detach()) == pytest.approx(float(end.detach()), rel=1e-3)
    (twice,) = torch.autograd.grad(slope, p.rate)
    assert float(twice) == pytest.approx(float(end.detach()), rel=1e-2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: as_torchsde(ODE(lambda t, x: -x, 2)), ValueError, "torchsde is for processes with noise"),
        (lambda p: from_torchsde(object(), 2), TypeError, "needs f, g, noise_type, sde_type"),
        (lambda p: sample_with_torchsde(p, X0, [[0.0, 1.0]] * 20, step=0.1), ValueError, "times shared by all paths"),
        (lambda p: sample_with_torchsde(p, X0, [1.0, 0.0], step=0.1), ValueError, "increase strictly"),
        (lambda p: sample_with_torchsde(p, X0, [0.0, 1.0], step=0.0), ValueError, "step must be positive"),
    ],
)
def test_sentences(call, error, message):
    with pytest.raises(error, match=message):
        call(process("diagonal", "ito"))


class Geometric(torch.nn.Module):
    """Geometric Brownian motion with rates that are learned."""

    noise_type, dim = "diagonal", 2

    def __init__(self, calculus):
        super().__init__()
        self.calculus = calculus
        self.rate = torch.nn.Parameter(torch.tensor([0.3, -0.5], dtype=torch.float64))
        self.volatility = torch.nn.Parameter(torch.tensor([0.4, 0.7], dtype=torch.float64))

    def drift(self, t, x):
        return self.rate * x

    def diffusion(self, t, x):
        return self.volatility * x


@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
def test_the_adjoint_tends_to_the_gradient_of_the_closed_form(calculus):
    brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=2)
    errors = []
    for step in (0.05, 0.0125):
        model, start = Geometric(calculus), X0.clone().requires_grad_(True)
        options = {"step": step, "seed": 3, "levy_area": "space-time"}
        found = sample_with_torchsde(model, start, [0.0, 0.5, 1.0], gradient="adjoint", **options).values
        found.sum().backward()
        w = sample_with_torchsde(brownian, 0 * X0, [0.0, 0.5, 1.0], **options).values
        t = torch.tensor([0.0, 0.5, 1.0], dtype=X0.dtype)[None, :, None]
        drag = model.volatility.detach() if calculus == "ito" else 0.0
        growth = torch.exp((model.rate - drag * model.volatility / 2) * t + model.volatility * w).detach()
        # What each path adds to a gradient; they cancel in the sum, so that errors are told by their sizes.
        parts = [t * X0[:, None] * growth, (w - drag * t) * X0[:, None] * growth]
        told = [
            (p.grad - part.sum((0, 1))).abs().max() / part.abs().sum((0, 1)).min()
            for p, part in zip(model.parameters(), parts, strict=True)
        ]
        told.append((start.grad / growth.sum(1) - 1).abs().max())
        errors.append(float(max(told)))
    assert errors[0] < 0.05
    assert errors[1] < 0.5 * errors[0]


def test_backprop_goes_through_the_steps_of_torchsde():
    model, start = Geometric("ito"), X0.clone().requires_grad_(True)
    options = {"method": "euler", "step": 0.25, "seed": 3}
    sample_with_torchsde(model, start, [0.0, 1.0], gradient="backprop", **options).values[:, -1].sum().backward()
    plain = sample_with_torchsde(model, X0, [0.0, 1.0], **options).values
    assert not plain.requires_grad
    # The end is proportional to the start.
    assert torch.allclose(start.grad, plain[:, -1] / X0)


def test_gradients_that_torchsde_cannot_find_are_refused():
    mixed = SDE(lambda t, x: -x, lambda t, x: x.flip(1), dim=2)
    for process_, x0, gradient, said in [
        (Geometric("ito"), X0, "checkpoint", "gradient must be 'none', 'backprop' or 'adjoint'"),
        (SDE(lambda t, x: -x, lambda t, x: x, dim=2), X0, "adjoint", "needs something that a gradient is wanted of"),
        (mixed, X0.clone().requires_grad_(True), "adjoint", "changes with another coordinate"),
    ]:
        with pytest.raises(ValueError, match=said):
            sample_with_torchsde(process_, x0, [0.0, 1.0], step=0.5, gradient=gradient)
