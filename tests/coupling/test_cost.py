"""Costs and the door of the coupling package."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn.coupling import cost as door
from gendyn.coupling import cost_matrix
from gendyn.coupling.cost import check_samples, check_weights


def samples(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_named_costs_are_distances(n0: int, n1: int, d: int, seed: int) -> None:
    x, y = samples(n0, d, seed), samples(n1, d, seed + 1)
    squares = (x.double()[:, None] - y.double()[None]).square().sum(-1)
    torch.testing.assert_close(cost_matrix(x, y), squares)
    torch.testing.assert_close(cost_matrix(x, y, "euclidean"), squares.sqrt())
    assert bool((cost_matrix(x, y) == cost_matrix(y, x).T).all())


def test_equal_points_cost_nothing_far_from_the_origin() -> None:
    x = 1e7 + 1e-3 * samples(50, 20).double()
    costs = cost_matrix(x, x)
    assert bool((costs.diagonal() == 0).all())
    shifted = x - x[0]  # exact, by Sterbenz
    torch.testing.assert_close(costs, cost_matrix(shifted, shifted), rtol=1e-12, atol=0.0)


def test_a_function_and_a_matrix_serve_as_costs() -> None:
    x, y = samples(3, 2), samples(4, 2, 1)
    block = torch.cdist(x.double(), y.double(), p=1)
    torch.testing.assert_close(cost_matrix(x, y, lambda a, b: torch.cdist(a, b, p=1)), block)
    torch.testing.assert_close(cost_matrix(x, y, block.float()), block.float().double())
    torch.testing.assert_close(cost_matrix(x, y, block.numpy()), block)


def test_arrays_lists_and_graphs_are_read() -> None:
    x = samples(3, 2).requires_grad_()
    assert not cost_matrix(x, x.detach().numpy()).requires_grad
    assert cost_matrix([[0, 0]], [[3, 4]]).dtype == torch.float64


@pytest.mark.parametrize(
    ("x0", "x1", "sentence"),
    [
        (
            torch.zeros(3),
            torch.zeros(3, 1),
            "x0 must have shape (n, d) with at least one point and one feature; got (3,)",
        ),
        (torch.zeros(3), torch.zeros(3, 1), "for one feature give x[:, None]"),
        (torch.zeros(2, 2), torch.zeros(0, 2), "x1 must have shape (n, d) with at least one point"),
        (torch.zeros(2, 2), torch.zeros(2, 3), "x0 and x1 must have the same number of features; got 2 and 3"),
        (
            torch.tensor([[0.0], [np.nan], [np.inf]]),
            torch.zeros(1, 1),
            "x0 must be finite; got NaN or infinity in 2 of 3 rows (first: row 1)",
        ),
    ],
)
def test_unfit_samples_are_refused(x0: torch.Tensor, x1: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_samples(x0, x1)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0, 1.0], "weights0 must have shape (3,), one weight a point; got (2,)"),
        ([1.0, -1.0, 1.0], "weights0 must be finite and not negative; got -1.0 at position 1"),
        ([1.0, 1.0, np.nan], "weights0 must be finite and not negative; got nan at position 2"),
        ([0.0, 0.0, 0.0], "weights0 must not be all zero; give at least one point a positive weight"),
    ],
)
def test_unfit_weights_are_refused(weights: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_weights(weights, torch.zeros(3, 1), "weights0")


def test_weights_are_normalised_over_any_range() -> None:
    for factor in (1e-300, 1.0, 1e300):
        torch.testing.assert_close(
            check_weights(np.array([1.0, 2.0, 1.0]) * factor, torch.zeros(3, 1), "w"),
            torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64),
        )


def test_unfit_costs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.zeros(2, 1), torch.zeros(3, 1)
    with pytest.raises(
        ValueError, match="cost must be 'sqeuclidean', 'euclidean', a function or a matrix; got 'cosine'"
    ):
        cost_matrix(x, y, "cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("the cost must have shape (2, 3); got (3, 2)")):
        cost_matrix(x, y, torch.zeros(3, 2))
    wrong = torch.zeros(2, 3)
    wrong[1, 2] = np.nan
    with pytest.raises(ValueError, match="got nan from point 1 of x0 to point 2 of x1"):
        cost_matrix(x, y, wrong)
    with pytest.raises(ValueError, match="finite for every pair of points; got inf"):
        cost_matrix(torch.full((1, 1), 1e200, dtype=torch.float64), torch.zeros(1, 1))
    monkeypatch.setattr(door, "LARGEST_COST", 5)
    with pytest.raises(ValueError, match=r"a cost between 2 and 3 points has 6 entries.*couple mini-batches"):
        cost_matrix(x, y)


def test_a_sum_that_overflows_is_no_reason_to_refuse() -> None:
    huge = torch.full((2, 2), 1e308, dtype=torch.float64)
    assert bool((cost_matrix(torch.zeros(2, 1), torch.zeros(2, 1), huge) == huge).all())
