"""Numbers that are known in closed form and are tested nowhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import gendyn
from gendyn.data import Scaling, Snapshots
from gendyn.evaluation.frechet import gaussian_frechet
from gendyn.interpolants import InterpolantFields, InterpolantProcess
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.gamma import Brownian
from gendyn.interpolants.schedule import Linear, Trigonometric, VariancePreservingTrigonometric
from gendyn.sampling import ODE, log_density_change

ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
LEFT = GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [0.25, 0.25])
RIGHT = GaussianMixture([1 / 3, 1 / 3, 1 / 3], [[-6.0], [0.0], [6.0]], [0.5, 0.33, 0.5])
UNIT = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)


class Exact(nn.Module):
    """An exact field in place of a network."""

    def __init__(self, interpolant: GaussianMixtureInterpolant, name: str) -> None:
        super().__init__()
        self.interpolant, self.name = interpolant, name

    def forward(self, s, x, condition=None):
        return getattr(self.interpolant.fields(s, x), self.name)


def process(interpolant: GaussianMixtureInterpolant, **options) -> InterpolantProcess:
    networks = {name: Exact(interpolant, name) for name in ("velocity", "score")}
    if not interpolant.schedule.has_score:
        del networks["score"]
    fields = InterpolantFields(networks, interpolant.schedule, KNOTS, torch.zeros(1, interpolant.dim).double())
    return InterpolantProcess(fields, UNIT, KNOTS, **options)


@pytest.mark.parametrize(
    "schedule",
    [Linear("zero"), Linear(Brownian(2.0)), Linear("quadratic"), Trigonometric(), VariancePreservingTrigonometric()],
)
@pytest.mark.parametrize("law", ["mixtures", "Gaussians"])
def test_in_one_dimension_every_flow_is_the_quantile_map(schedule, law: str) -> None:
    if law == "mixtures":
        ends, start, end = (LEFT, RIGHT), [-3.0, -2.5, 3.3], [-5.52306372, -0.36600855, 6.15839006]
    else:
        ends, start = (ONE, TWO), [-2.0, -1.0, 0.3]
        end = [2 + 2 * (x + 1) for x in start]
    flow = process(GaussianMixtureInterpolant(*ends, schedule))
    x = torch.tensor(start, dtype=torch.float64)[:, None]
    moved = gendyn.sample(flow, x, [0.0, 1.0], solver="dopri5", rtol=1e-8, atol=1e-8).values[:, -1, 0]
    np.testing.assert_allclose(moved.numpy(), end, atol=2e-5)


@pytest.mark.parametrize(
    ("epsilon", "steps", "variance"),
    [(0.0, 10, 1.0), (0.0, 50, 1.0), (0.5, 1000, 0.999824), (2.0, 1000, 1.000718)],
)
def test_mean_and_variance_after_euler_steps(epsilon: float, steps: int, variance: float) -> None:
    """For Gaussians a step is affine: mean and variance without sampling."""
    diffusion = process(GaussianMixtureInterpolant(ONE, TWO, Linear()), epsilon=epsilon, margin=0)
    h, m, v = 1 / steps, -1.0, 0.25
    for k in range(steps):
        t = torch.tensor(k * h, dtype=torch.float64)
        low, high = diffusion.drift(t, torch.tensor([[0.0], [1.0]], dtype=torch.float64))[:, 0].tolist()
        m, v = m + h * (low + (high - low) * m), (1 + h * (high - low)) ** 2 * v + 2 * epsilon * h
    assert m == pytest.approx(2.0, abs=1e-9)
    assert v == pytest.approx(variance, abs=1e-6)


def test_energy_of_the_flow_and_of_transport_in_the_plane() -> None:
    """Independent ends on straight lines cost more than transport by a share of 0.0815."""
    c0, c1 = (torch.tensor(c, dtype=torch.float64) for c in ([[1, 0.6], [0.6, 0.5]], [[0.4, -0.3], [-0.3, 1.2]]))
    first, second = GaussianMixture.gaussian([0.0, 0.0], c0), GaussianMixture.gaussian([2.0, -1.0], c1)
    exact = GaussianMixtureInterpolant(first, second, Linear("zero"))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    energy = 0.0
    # The velocity is affine: its mean square is that at the mean plus that of the spread.
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        mean = torch.tensor([2.0 * node, -1.0 * node], dtype=torch.float64)
        spread = torch.linalg.cholesky((1 - node) ** 2 * c0 + node**2 * c1)
        at = exact.fields(float(node), torch.cat([mean[None], mean + spread.T])).velocity
        energy += weight * float(at[0].square().sum() + (at[1:] - at[0]).square().sum())
    transport = gaussian_frechet(first.means[0].numpy(), c0.numpy(), second.means[0].numpy(), c1.numpy())
    assert energy == pytest.approx(6.48395645, abs=1e-7)
    assert transport == pytest.approx(5.99540231, abs=1e-7)
    assert energy / transport - 1 == pytest.approx(0.0815, abs=5e-5)
    # The map of transport, which is not that of the flow.
    values, vectors = torch.linalg.eigh(c0)
    root, inverse = (vectors @ torch.diag(values**p) @ vectors.T for p in (0.5, -0.5))
    inner, frame = torch.linalg.eigh(root @ c1 @ root)
    linear = inverse @ (frame @ torch.diag(inner.sqrt()) @ frame.T) @ inverse
    moved = linear @ torch.tensor([0.7, -0.2], dtype=torch.float64) + torch.tensor([2.0, -1.0], dtype=torch.float64)
    np.testing.assert_allclose(moved.numpy(), [3.06856678, -2.41101407], atol=6e-9)


@pytest.mark.parametrize(("divergence", "variance"), [("hutchinson", 2.09), ("hutchinson-gaussian", 12.59)])
def test_variance_of_one_probe(divergence: str, variance: float) -> None:
    """With the symmetric part S: of signs twice the squares off its diagonal, of Gaussian numbers twice all squares."""
    matrix = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.5, 1.0], [0.3, 0.0, -2.0]], dtype=torch.float64)
    symmetric = (matrix + matrix.T) / 2
    counted = symmetric if "gaussian" in divergence else symmetric - torch.diag(symmetric.diagonal())
    assert 2 * float(counted.square().sum()) == pytest.approx(variance, abs=1e-12)
    flow = ODE(lambda t, x: x @ matrix.T, dim=3)
    start = torch.zeros(20_000, 3, dtype=torch.float64)
    _, change = log_density_change(flow, start, [0.0, 1.0], divergence=divergence, step=0.5, seed=1)
    assert float(change.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(variance / 20_000))
    assert float(change.var()) == pytest.approx(variance, rel=0.07)


@pytest.mark.parametrize("a", [1.0, 2.0])
def test_scores_of_the_ends_enter_the_velocity_of_a_brownian_amplitude(a: float) -> None:
    exact = GaussianMixtureInterpolant(LEFT, RIGHT, Linear(Brownian(a)))
    x = torch.tensor([[-2.7], [0.4], [5.1]], dtype=torch.float64).requires_grad_()
    for t, law, other, sign in ((0.0, LEFT, RIGHT, -1.0), (1.0, RIGHT, LEFT, 1.0)):
        (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
        mean = float(other.weights @ other.means[:, 0])
        wanted = (mean - x if t == 0 else x - mean) + sign * 0.5 * a * score
        torch.testing.assert_close(exact.fields(t, x).velocity.detach(), wanted.detach(), rtol=1e-9, atol=1e-9)


def test_a_population_of_one_cell_is_refused() -> None:
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for model in (gendyn.FlowMatching(), gendyn.StochasticInterpolant(), gendyn.OptimalInterpolant()):
        with pytest.raises(ValueError, match="populations of at least 2 cells; at time 1 there is 1"):
            model.fit(Snapshots([0.0, 1.0], [x, x[:1]]), progress=False)
