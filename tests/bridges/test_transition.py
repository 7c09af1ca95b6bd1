"""Transition laws and bridges against closed forms, and the linear-noise approximation against simulation."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.bridges import transition_law
from gendyn.bridges.references import Linear, LotkaVolterra
from gendyn.data import Snapshots
from gendyn.sampling import SDE, LinearProcess

DOUBLE = torch.float64


def tensor(values):
    return torch.tensor(values, dtype=DOUBLE)


def with_constant_noise(system, sigma):
    return SDE(system.drift, lambda t, x: torch.full_like(x, sigma), system.dim)


ROTATING = LinearProcess([[-0.5, -2.0], [2.0, -0.5]], [0.3, -0.1], (math.sqrt(0.4) * torch.eye(2)).tolist())


def as_function(process):
    """Return the same linear process without its closed form, so that it is integrated."""
    return SDE(process.drift, process.diffusion, process.dim, noise_type="additive", noise_dim=process.noise_dim)


def test_linear_noise_of_predator_and_prey_meets_reference_values():
    x = tensor([[5.0, 4.0]])
    law = transition_law(with_constant_noise(gd.systems.LotkaVolterra(), 0.1), x, 0.0, tensor([1.0, 2.0]), substeps=32)
    torch.testing.assert_close(law.means[:, 0], tensor([[2.71922, 3.89389], [1.76213, 3.23891]]), atol=2e-5, rtol=0)
    one, two = law.covariances[:, 0]
    torch.testing.assert_close(one, tensor([[0.008580, -0.003417], [-0.003417, 0.008246]]), atol=2e-6, rtol=0)
    torch.testing.assert_close(two, tensor([[0.015839, -0.004947], [-0.004947, 0.011324]]), atol=2e-6, rtol=0)
    torch.testing.assert_close(law.steps[0, 0], tensor([[0.37355, -0.98869], [0.26255, 0.72236]]), atol=2e-5, rtol=0)
    law = transition_law(gd.systems.LotkaVolterra(), x, 0.0, tensor([1.0]))
    expected = tensor([[0.00471075, -0.00226088], [-0.00226088, 0.00534771]])
    torch.testing.assert_close(law.covariances[0, 0], expected, atol=1e-7, rtol=0)


def test_linear_noise_has_the_moments_of_simulated_paths():
    system = gd.systems.LotkaVolterra()
    paths = gd.sample(system, tensor([[5.0, 4.0]]).expand(20_000, 2), [0.0, 1.0], step=0.001, seed=0).values[:, 1]
    law = transition_law(system, tensor([[5.0, 4.0]]), 0.0, tensor([1.0]))
    error = law.covariances[-1, 0].diagonal().div(20_000).sqrt()
    # Left out of the linear-noise mean are terms of second order, and of the paths those of a step, each below 1e-3.
    assert ((paths.mean(0) - law.means[-1, 0]).abs() < 4 * error + 1e-3).all()
    torch.testing.assert_close(paths.T.cov(), law.covariances[-1, 0], rtol=0.06, atol=1e-4)


def test_integration_has_order_four():
    x, elapsed = torch.randn(5, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)), tensor([0.4, 1.0])
    exact = transition_law(ROTATING, x, 0.0, elapsed)
    errors = []
    for substeps in (10, 20, 40):
        law = transition_law(as_function(ROTATING), x, 0.0, elapsed, substeps=substeps)
        errors.append(
            [
                float((getattr(law, name) - getattr(exact, name)).abs().max())
                for name in ("means", "covariances", "steps", "flow")
            ]
        )
    errors = tensor(errors)
    assert (errors[-1] < 1e-6).all()
    assert (torch.log2(errors[:-1] / errors[1:]) > 3.7).all()


def test_log_density_is_that_of_a_normal():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 2, dtype=DOUBLE, generator=generator) for n in (4, 6))
    for process in (ROTATING, as_function(ROTATING)):
        law = transition_law(process, x, 0.0, tensor([0.7]), substeps=80)
        covariances = law.covariances[-1].expand(4, 2, 2)
        normal = torch.distributions.MultivariateNormal(law.means[-1], covariances)
        expected = torch.stack([normal.log_prob(point) for point in y], dim=1)
        torch.testing.assert_close(law.log_density(y), expected, rtol=1e-10, atol=1e-10)
    step = gd.bridges.transition_law(with_constant_noise(gd.systems.LotkaVolterra(), 0.1), x + 5, 0.0, tensor([1e-3]))
    assert step.log_density(y).shape == (4, 6)


def test_gradient_of_the_log_density_is_that_of_autograd():
    x = torch.randn(3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = tensor([[0.1, 0.5], [1.0, -1.0], [0.0, 2.0]])
    law = transition_law(ROTATING, x, 0.0, tensor([0.7]))
    (expected,) = torch.autograd.grad(law.log_density(y).diagonal().sum(), x)
    torch.testing.assert_close(law.log_density_gradient(y), expected)


def test_densities_are_differentiable_in_parameters():
    x, y = tensor([[1.0, 2.0], [0.5, 0.3]]), tensor([[0.4, 1.0]])

    def total(rate, sigma):
        process = SDE(lambda t, z: rate * z * z.flip(1), lambda t, z: sigma * z, 2)
        return transition_law(process, x, 0.0, tensor([0.3])).log_density(y).sum()

    rate, sigma = tensor(0.3).requires_grad_(), tensor(0.2).requires_grad_()
    assert torch.autograd.gradcheck(total, (rate, sigma))


@pytest.mark.parametrize("process", [ROTATING, as_function(ROTATING)], ids=["exact", "integrated"])
def test_bridge_is_the_conditional_law_of_the_joint_normal(process):
    x, y = tensor([[1.0, -0.5], [0.2, 0.4]]), tensor([[0.3, 2.0], [-1.0, 0.1]])
    law = transition_law(process, x, 0.0, tensor([0.3, 0.8, 1.0]), substeps=100)
    mean, covariance = law.bridge(torch.arange(2), y)
    for k, s in enumerate((0.3, 0.8)):
        # The joint law of X_s and X_1 by the exact transitions, conditioned by hand.
        early, late = ROTATING.transition(s), ROTATING.transition(1.0 - s)
        whole = ROTATING.transition(1.0)
        cross = early.covariance @ late.matrix.T
        gain = cross @ torch.linalg.inv(whole.covariance)
        torch.testing.assert_close(mean[k], early.mean(x) + (y - whole.mean(x)) @ gain.T, rtol=1e-7, atol=1e-8)
        expected = early.covariance - gain @ cross.T
        torch.testing.assert_close(covariance[k], expected.expand_as(covariance[k]), rtol=1e-6, atol=1e-8)
    assert torch.equal(mean[-1], y)
    assert (covariance[-1] == 0).all()


@pytest.mark.parametrize("process", [ROTATING, as_function(ROTATING)], ids=["exact", "integrated"])
def test_drawn_bridges_have_the_joint_law(process):
    n = 40_000
    elapsed = tensor([0.3, 0.6, 1.0])
    law = transition_law(process, tensor([[1.0, -0.5]]), 0.0, elapsed)
    zeros, y = torch.zeros(n, dtype=torch.int64), tensor([[0.3, 2.0]])
    normals = torch.randn(3, n, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    drawn = law.sample_bridge(zeros, y.expand(n, 2), normals)
    assert torch.equal(drawn[-1], y.expand(n, 2))
    mean, covariance = law.bridge(torch.tensor([0]), y)
    assert ((drawn.mean(1) - mean[:, 0]).abs() < 0.02).all()
    for k in range(2):
        torch.testing.assert_close(drawn[k].T.cov(), covariance[k, 0], atol=0.01, rtol=0)
    # X_s of the bridge to y, seen from X_u, is the bridge from X_u: its regression on X_u has that gain.
    late = ROTATING.transition(0.4)
    middle = ROTATING.transition(0.3)
    from_middle = (
        middle.covariance
        @ late.matrix.T
        @ torch.linalg.inv(late.matrix @ middle.covariance @ late.matrix.T + late.covariance)
    )
    gain = middle.matrix - from_middle @ late.matrix @ middle.matrix
    joint = torch.cat([drawn[0], drawn[1]], dim=1).T.cov()
    torch.testing.assert_close(joint[2:, :2] @ torch.linalg.inv(joint[:2, :2]), gain, atol=0.03, rtol=0)


def test_each_source_may_have_its_own_time():
    process = SDE(lambda t, x: torch.cos(t) * torch.ones_like(x) - x, lambda t, x: 1 + 0 * x, 1)
    x, starts = tensor([[0.0], [0.0], [1.0]]), tensor([[0.0], [2.0], [1.0]])
    together = transition_law(process, x, starts, tensor([0.5]))
    for k in range(3):
        alone = transition_law(process, x[k : k + 1], float(starts[k]), tensor([0.5]))
        torch.testing.assert_close(together.means[:, k], alone.means[:, 0])


def test_what_has_no_density_is_refused():
    y = tensor([[0.0, 0.0]])
    silent = LinearProcess([[-1.0, 0.0], [0.0, -1.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="noise does not reach feature 1 by itself; give every feature noise"):
        transition_law(silent, y, 0.0, tensor([1.0])).log_density(y)
    at_zero = transition_law(gd.systems.LotkaVolterra(), tensor([[1.0, 1.0], [0.0, 2.0]]), 0.0, tensor([1.0]))
    with pytest.raises(
        ValueError, match=r"no transition density from \[0.0, 2.0\]: its noise does not reach feature 0"
    ):
        at_zero.log_density(y)
    # Noise that comes by way of the other feature is enough: a particle pushed by its velocity.
    pushed = LinearProcess([[0.0, 1.0], [0.0, 0.0]], [0.0, 0.0], [[0.0, 0.0], [0.0, 1.0]])
    assert torch.isfinite(transition_law(pushed, y, 0.0, tensor([1.0])).log_density(y)).all()


def test_explosion_and_speed_are_refused():
    explosive = SDE(lambda t, x: torch.exp(x), lambda t, x: 1 + 0 * x, 1)
    with pytest.raises(ValueError, match="the reference moves too fast for its substeps: rates of"):
        transition_law(explosive, tensor([[1.0]]), 0.0, tensor([5.0]))
    gone = SDE(lambda t, x: x / (0.5 - t), lambda t, x: 1 + 0 * x, 1)
    with pytest.raises(ValueError, match=r"explodes from .*; take other parameters"):
        transition_law(gone, tensor([[1.0]]), 0.0, tensor([1.0]), substeps=64)
    overflowing = SDE(lambda t, x: 1e200 + 0 * x, lambda t, x: 1e160 + 0 * x, 1)
    with pytest.raises(ValueError, match=r"explodes from \[1.0\]"):
        transition_law(overflowing, tensor([[1.0]]), 0.0, tensor([1.0]))
    stiff = SDE(lambda t, x: -100 * x, lambda t, x: 1 + 0 * x, 1)
    with pytest.raises(ValueError, match=r"moves too fast.*take 3 times as many substeps"):
        transition_law(stiff, tensor([[1.0]]), 0.0, tensor([1.0]), substeps=16)
    calm = transition_law(stiff, tensor([[1.0]]), 0.0, tensor([1.0]), substeps=200)
    assert float(calm.covariances[-1]) == pytest.approx(1 / 200, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_densities_of_one_covariance_are_those_of_normals_near_and_far(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (scale * torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (6, 5))
    rate = torch.tensor([[-0.5, 0.2, 0.0], [0.0, -1.0, 0.3], [0.1, 0.0, 0.2]])
    law = transition_law(LinearProcess(rate, torch.ones(3), 0.7 * torch.eye(3)), x, 0.0, torch.tensor([0.8]))
    normals = torch.distributions.MultivariateNormal(law.means[-1][:, None], law.covariances[-1])
    torch.testing.assert_close(law.log_density(y), normals.log_prob(y), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("linear", [True, False])
def test_expected_density_is_the_sum_over_pairs(linear: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (4.0 + torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (6, 5))
    plan = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    data = Snapshots([0.0, 0.4], [x, y])
    reference = (Linear(sigma=0.3) if linear else LotkaVolterra(sigma=0.3)).start(data)
    slopes = []
    for form in ("pairs", "moments"):
        law = transition_law(reference, x, 0.0, torch.tensor([0.4]))
        value = (plan * law.log_density(y)).sum() if form == "pairs" else law.expected_log_density(y, plan)
        slopes.append((value, *torch.autograd.grad(value, list(reference.parameters()))))
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
