"""The forward recursion against sums over all state sequences, and its slopes against differences."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch.autograd import gradcheck

from gendyn.mjp.forward_backward import log_forward


def problem(alone: bool, seed: int = 0, looks: int = 4, paths: int = 3, states: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shape = (states, states, looks - 1, paths) if alone else (looks - 1, states, states)
    moves, density = (
        torch.rand(s, generator=generator, dtype=torch.float64) + 0.05 for s in (shape, (looks, states, paths))
    )
    initial = torch.rand(states, generator=generator, dtype=torch.float64)
    inside = torch.ones(looks - 1, paths, dtype=torch.bool)
    inside[-1:, 0] = False
    inside[-2:, 1] = False
    return moves, density, initial, inside


def every_sequence(moves, density, initial, inside) -> float:
    total = 0.0
    for k in range(density.shape[2]):
        length = 1 + int(inside[:, k].sum())
        probability = 0.0
        for states in product(range(len(initial)), repeat=length):
            term = initial[states[0]] * density[0, states[0], k]
            for m, (a, b) in enumerate(pairwise(states)):
                move = moves[a, b, m, k] if moves.ndim == 4 else moves[m, a, b]
                term = term * move * density[m + 1, b, k]
            probability = probability + term
        total = total + probability.log()
    return float(total)


@pytest.mark.parametrize("alone", [True, False])
def test_it_is_the_sum_over_all_sequences(alone) -> None:
    given = problem(alone)
    assert float(log_forward(*given)) == pytest.approx(every_sequence(*given), rel=1e-12)


@pytest.mark.parametrize("alone", [True, False])
def test_slopes_are_those_of_differences(alone) -> None:
    moves, density, initial, inside = problem(alone, seed=1)
    free = [v.requires_grad_() for v in (moves, density, initial)]
    assert gradcheck(lambda *v: log_forward(*v, inside), free)


def test_one_look_has_a_likelihood_too() -> None:
    moves, density, initial, _ = problem(True, looks=1)
    inside = torch.ones(0, 3, dtype=torch.bool)
    free = [v.requires_grad_() for v in (moves, density, initial)]
    value = log_forward(*free, inside)
    assert value.item() == pytest.approx(every_sequence(*free, inside), rel=1e-12)
    value.backward()
    torch.testing.assert_close(initial.grad, (density[0] / (initial[:, None] * density[0]).sum(0)).sum(1).detach())


def test_what_is_impossible_has_no_slope() -> None:
    moves = torch.eye(2, dtype=torch.float64)[None].requires_grad_()
    density = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]], dtype=torch.float64)
    initial = torch.tensor([0.5, 0.5], dtype=torch.float64)
    value = log_forward(moves, density, initial, torch.ones(1, 1, dtype=torch.bool))
    assert float(value) < -600
    value.backward()
    assert torch.equal(moves.grad, torch.zeros_like(moves))
