"""Variances of learned parameters: those of a product of means, which are known, and of repeated fits."""

from __future__ import annotations

import pytest
import torch

import gendyn as gd
from gendyn.bridges import parameter_intervals
from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.parameter_intervals import Influences, parameter_influences
from gendyn.bridges.pushforward import PushforwardObjective

DOUBLE = torch.float64


class ProductOfMeans:
    """Least at the product of the means of two populations; all that makes its variance is known."""

    def __init__(self, x, y, theta):
        self.marginals = Marginals.of(gd.Snapshots([0.0, 1.0], [x[:, None], y[:, None]]))
        self.x, self.y, self.theta = x, y, theta

    def value(self, reference):
        return self.theta.square().sum() / 2 - self.theta.sum() * self.x.mean() * self.y.mean()

    def row_terms(self, reference):
        theta = self.theta.detach().sum()
        return [-theta * self.x * self.y.mean(), -theta * self.x.mean() * self.y]

    def pair_terms(self, reference, every=1):
        return [-self.theta.detach().sum() * torch.outer(self.x, self.y)[::every]]


def normals(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_the_variance_of_a_product_of_means_is_goodmans(monkeypatch):
    """Goodman 1960: m_x^2 s_y^2 / m + m_y^2 s_x^2 / n - s_x^2 s_y^2 / (n m) is right on average."""
    x, y = 0.3 + normals(0, 30), -0.4 + normals(1, 50)
    theta = (x.mean() * y.mean()).reshape(1).requires_grad_()
    objective = ProductOfMeans(x, y, theta)
    first, second = x.var(correction=0) / 30, y.var(correction=0) / 50
    rows = float(x.mean().square() * second + y.mean().square() * first)
    found = parameter_influences(objective, None, [theta])
    assert float(found.pairs) == pytest.approx(float(first * second), rel=1e-6)
    assert float(found.covariance()) == pytest.approx(rows - float(first * second), rel=1e-6)
    # Every third row stands for all: right on average, and here within the noise of ten squares.
    monkeypatch.setattr(parameter_intervals, "_PAIRS", 500)
    thinned = parameter_influences(objective, None, [theta])
    assert float(thinned.pairs) == pytest.approx(float(first * second), rel=0.8)
    assert float(thinned.pairs) != pytest.approx(float(first * second), rel=1e-3)


def test_pairs_are_at_most_half_of_what_rows_do():
    rows = [torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]], dtype=DOUBLE)]
    whole = rows[0] @ rows[0].T
    torch.testing.assert_close(Influences(rows, 0.3 * whole).covariance(), 0.7 * whole)
    torch.testing.assert_close(Influences(rows, 3.0 * whole).covariance(), 0.5 * whole)
    unknown = Influences([torch.full_like(rows[0], torch.nan)], torch.full_like(whole, torch.nan))
    assert unknown.covariance().isnan().all()


@pytest.mark.parametrize("kind", [PushforwardObjective, CouplingObjective])
def test_pair_terms_are_derivatives_of_row_terms_in_the_weights(kind):
    data = gd.Snapshots([0.0, 1.0, 2.0], [normals(k, 12, 2) for k in range(3)])
    marginals = Marginals.of(data)
    reference = gd.references.Linear(sigma=0.8).start(data)
    more = {"tolerance": 1e-12} if kind is CouplingObjective else {}
    terms = kind(marginals, **more).pair_terms(reference)
    assert [tuple(part.shape) for part in terms] == [(12, 12)] * 2
    thinned = kind(marginals, **more).pair_terms(reference, 5)
    torch.testing.assert_close(thinned[1], terms[1][::5])
    for k in (0, 1):
        # Mass moves from one row to another, so that the sum stays 1; potentials are free by a constant.
        moved = torch.zeros(12, dtype=DOUBLE)
        moved[3], moved[7] = 1e-5, -1e-5
        ends = []
        for sign in (1, -1):
            weights = [w + sign * moved if j == k + 1 else w for j, w in enumerate(marginals.weights)]
            ends.append(kind(marginals.reweighted(weights), **more).row_terms(reference)[k])
        slope = (ends[0] - ends[1]) / 2e-5
        expected = terms[k][:, 3] - terms[k][:, 7]
        torch.testing.assert_close(slope[2] - slope[9], expected[2] - expected[9], rtol=1e-4, atol=1e-6)
