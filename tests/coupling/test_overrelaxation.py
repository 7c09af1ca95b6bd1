"""Longer steps against the theory of Gauss-Seidel iterations, and against plain steps."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn.coupling import static_bridge
from gendyn.coupling.overrelaxation import Overrelaxation


@pytest.mark.parametrize("rate", [0.9, 0.99, 0.999])
def test_factor_is_that_of_young(rate: float) -> None:
    # A model error with the rate that Young's equation gives the factor of each round.
    pace, missed = Overrelaxation(window=20), 0.1
    for _ in range(4000):
        pace.watch(missed)
        omega = pace.omega
        root = omega * math.sqrt(rate) / 2 + math.sqrt(max(omega**2 * rate / 4 - (omega - 1), 0.0))
        missed *= max(root**2, omega - 1)
        if missed < 1e-200:
            break
    best = 2 / (1 + math.sqrt(1 - rate))
    assert 2 - pace.omega == pytest.approx(2 - best, rel=0.15)


def test_a_factor_that_leads_away_is_taken_back() -> None:
    pace = Overrelaxation(window=5)
    for k in range(7):
        pace.watch(0.1 * 0.99**k)
    longer = pace.omega
    assert longer > 1
    assert pace.watch(5.0)
    assert pace.omega == 1
    for k in range(7):
        pace.watch(0.1 * 0.99**k)
    assert 1 < pace.omega <= 2 * longer - 2 + 1e-12


def test_far_from_the_solution_steps_are_plain() -> None:
    pace = Overrelaxation(window=5)
    for k in range(30):
        assert not pace.watch(0.9 * 0.999**k)
    assert pace.omega == 1


def test_stiff_coupling_takes_few_rounds_and_is_that_of_plain_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    y = 1.5 * torch.randn(50, 5, generator=generator, dtype=torch.float64) + 1.0
    kernel = -torch.cdist(x, y).square() / (2 * 0.15**2)
    solved = static_bridge(kernel, tolerance=1e-9, max_iterations=20_000)
    assert solved.converged
    f, g, rounds = torch.zeros(60, dtype=torch.float64), torch.zeros(50, dtype=torch.float64), 0
    missed = math.inf
    while missed > 1e-9:
        f = -torch.logsumexp(kernel + g - math.log(50), 1)
        mass = (kernel + f[:, None] - math.log(60) - math.log(50)).logsumexp(0)
        missed = float(((mass + g).exp() - 1 / 50).abs().sum())
        g, rounds = -math.log(50) - mass, rounds + 1
    # The stages before the last are counted too.
    assert solved.iterations < rounds / 2
    kl = float(f.mean() + g.mean()) - math.log(50)
    assert solved.kl == pytest.approx(kl, rel=1e-7)
