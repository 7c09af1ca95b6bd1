"""The Kalman filter and smoother against the joint normal law, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gendyn.sampling.kalman import LinearState
from gendyn.sampling.linear import LinearProcess

PROCESS = LinearProcess([[-1.0, 0.5], [-0.7, -2.0]], [0.0, 0.0], [[1.0, 0.0], [0.4, 0.7]])
GAPS = torch.tensor([0.1, 0.0, 1.3, 0.4, 2.0, 0.05], dtype=torch.float64)
OUTPUT = torch.tensor([1.0, -0.5], dtype=torch.float64)
SEEN = torch.tensor([True, True, False, True, True, False, True])


def full(k: int) -> tuple[Tensor, Tensor]:
    found = PROCESS.transition(float(GAPS[k]))
    return found.matrix, found.covariance


def joint(output: Tensor) -> Tensor:
    """Return the covariance of the path of the output at all rows."""
    start = PROCESS.stationary()[1]
    clock = torch.cat([GAPS.new_zeros(1), GAPS.cumsum(0)])
    rows = []
    for s in clock:
        row = []
        for t in clock:
            forward = PROCESS.transition(float((t - s).abs())).matrix @ start
            row.append(output @ forward @ output)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_filter_and_smoother_are_conditioning(noise):
    # Two looks at one moment without noise would be one look too many.
    seen = SEEN if noise else SEEN & torch.tensor([True, False, True, True, True, True, True])
    state = LinearState(PROCESS.stationary()[1], full, OUTPUT, torch.tensor(noise).double())
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = state.filter(values, seen)
    cov = joint(OUTPUT)
    looks = cov[seen][:, seen] + noise * torch.eye(int(seen.sum())).double()
    density = MultivariateNormal(torch.zeros(len(looks)).double(), looks).log_prob(values[seen].T)
    torch.testing.assert_close(found.log_density, density)
    mean, variance = state.smooth(found)
    gain = torch.linalg.solve(looks, cov[seen]).T
    torch.testing.assert_close(mean, gain @ values[seen])
    torch.testing.assert_close(variance, (cov - gain @ cov[seen]).diagonal(), atol=1e-12, rtol=1e-7)
    # Each prediction knows the rows before it alone.
    past = seen & (torch.arange(7) < 4)
    known = cov[past][:, past] + noise * torch.eye(int(past.sum())).double()
    weights = torch.linalg.solve(known, cov[past, 4])
    torch.testing.assert_close(found.predicted[4], weights @ values[past])


def test_a_diagonal_is_a_matrix_and_laws_are_alone():
    rates = torch.tensor([0.3, 2.0], dtype=torch.float64)
    gaps = torch.rand(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = 1 / (rates[:, None] + rates)
    values = torch.randn(6, 2, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen = torch.rand(6, 2, generator=torch.Generator().manual_seed(3)) < 0.7

    def diagonal(k: int) -> tuple[Tensor, Tensor]:
        decay = torch.exp(-rates * gaps[:, k, None])
        return decay, start * (1 - decay[:, :, None] * decay[:, None])

    both = LinearState(start, diagonal, OUTPUT, torch.full((2,), 0.1).double())
    found = both.filter(values, seen)
    mean, variance = both.smooth(found)
    for law in range(2):

        def matrix(k: int, law: int = law) -> tuple[Tensor, Tensor]:
            decay, added = diagonal(k)
            return torch.diag(decay[law]), added[law]

        one = LinearState(start, matrix, OUTPUT, torch.tensor(0.1).double())
        alone = one.filter(values[:, law], seen[:, law])
        torch.testing.assert_close(alone.log_density, found.log_density[law])
        one_mean, one_variance = one.smooth(alone)
        torch.testing.assert_close(one_mean, mean[:, law])
        torch.testing.assert_close(one_variance, variance[:, law])


def test_paths_have_the_covariance():
    n = 20_000
    state = LinearState(PROCESS.stationary()[1], full, OUTPUT, torch.tensor(0.0).double())
    paths = state.draw(7, n, torch.Generator().manual_seed(0))
    exact = joint(OUTPUT)
    error = ((exact.square() + exact.diagonal()[:, None] * exact.diagonal()) / n).sqrt()
    assert ((paths @ paths.T / n - exact).abs() <= 4.5 * error).all()
