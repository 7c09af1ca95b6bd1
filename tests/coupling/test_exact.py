"""Exact plans against POT, SciPy, closed forms and duality."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gendyn.coupling import TransportError, exact, exact_plan


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def reference(x: torch.Tensor, y: torch.Tensor, a: Any = None, b: Any = None, metric: str = "sqeuclidean") -> float:
    a = np.full(len(x), 1 / len(x)) if a is None else np.asarray(a, dtype=float) / np.sum(a, dtype=float)
    b = np.full(len(y), 1 / len(y)) if b is None else np.asarray(b, dtype=float) / np.sum(b, dtype=float)
    costs = ot.dist(x.double().numpy(), y.double().numpy(), metric=metric)
    return float(ot.emd2(a, b, costs, numItermax=1_000_000))


def test_three_points_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.0], [5.0]])
    plan = exact_plan(x, y)
    assert plan.columns.tolist() == [0, 1, 2]
    assert plan.cost(x, y) == pytest.approx(1.75, abs=1e-15)


@pytest.mark.parametrize(("n0", "n1"), [(1, 1), (1, 5), (7, 1), (40, 40), (31, 57), (300, 300), (260, 130)])
@pytest.mark.parametrize("d", [1, 2, 30])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_cost_is_that_of_pot_and_marginals_are_uniform(n0: int, n1: int, d: int, metric: Any) -> None:
    x, y = cloud(n0, d, 0), cloud(n1, d, 1, 0.5)
    plan = exact_plan(x, y, cost=metric)
    assert plan.cost(x, y, metric) == pytest.approx(reference(x, y, metric=metric), rel=1e-9)
    assert float((plan.marginals[0] - 1 / n0).abs().max()) < 1e-12
    assert float((plan.marginals[1] - 1 / n1).abs().max()) < 1e-12
    assert len(plan) <= n0 + n1 - 1
    assert plan.is_permutation == (n0 == n1)


@pytest.mark.parametrize("d", [1, 3])
def test_weights_are_met(d: int) -> None:
    x, y = cloud(60, d, 2), cloud(45, d, 3)
    rng = np.random.default_rng(0)
    a, b = rng.random(60) ** 6, rng.random(45) ** 6
    a[:7] = 0.0
    b[-1] = 0.0
    plan = exact_plan(x, y, a, b)
    assert plan.cost(x, y) == pytest.approx(reference(x, y, a, b), rel=1e-9)
    assert np.abs(plan.marginals[0].numpy() - a / a.sum()).max() < 1e-12
    assert np.abs(plan.marginals[1].numpy() - b / b.sum()).max() < 1e-12


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None)
def test_cost_is_that_of_the_linear_programme(n0: int, n1: int, seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    # A coarse grid makes ties and duplicates common.
    x, y = torch.tensor(rng.integers(0, 3, (n0, d))).double(), torch.tensor(rng.integers(0, 3, (n1, d))).double()
    a, b = rng.integers(1, 4, n0) / 1.0, rng.integers(1, 4, n1) / 1.0
    a, b = a / a.sum(), b / b.sum()
    costs = torch.cdist(x, y).square().numpy()
    rows = np.kron(np.eye(n0), np.ones((1, n1)))
    columns = np.kron(np.ones((1, n0)), np.eye(n1))
    solution = linprog(costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]))
    plan = exact_plan(x, y, a, b)
    assert plan.cost(x, y) == pytest.approx(solution.fun, abs=1e-9)
    assert np.abs(plan.marginals[0].numpy() - a).max() < 1e-9


def test_plan_is_that_of_the_transposed_problem() -> None:
    x, y = cloud(50, 4, 4), cloud(35, 4, 5)
    torch.testing.assert_close(exact_plan(x, y).to_dense(), exact_plan(y, x).to_dense().T)


def test_duplicates_and_identical_samples() -> None:
    x = torch.ones(40, 3)
    assert exact_plan(x, x).is_permutation
    assert exact_plan(x, x[:25]).cost(x, x[:25]) == 0.0
    y = cloud(300, 2, 6).repeat(2, 1)
    assert exact_plan(y, y).cost(y, y) == 0.0


def test_far_from_the_origin_the_plan_is_the_same() -> None:
    x, y = cloud(90, 3, 7).double(), cloud(70, 3, 8).double()
    near, far = exact_plan(x, y), exact_plan(x + 1e6, y + 1e6)
    assert far.cost(x, y) == pytest.approx(near.cost(x, y), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_do_not_matter(scale: float) -> None:
    x, y = cloud(90, 3, 9).double(), cloud(70, 3, 10).double()
    assert exact_plan(scale * x, scale * y).cost(x, y) == pytest.approx(exact_plan(x, y).cost(x, y), rel=1e-9)


def test_functions_and_matrices_are_costs_also_on_the_line() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    # A concave cost would rather leave the common point where it is; a negated one crosses.
    assert exact_plan(x, y, cost=lambda a, b: -torch.cdist(a, b)).columns.tolist() == [1, 0]
    assert exact_plan(x, y, cost=torch.tensor([[1.0, 0.0], [0.0, 1.0]])).columns.tolist() == [1, 0]


def test_the_line_knows_no_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendyn.coupling.cost.LARGEST_COST", 10)
    x, y = cloud(2000, 1, 11), cloud(1500, 1, 12)
    value = ot.emd2_1d(x[:, 0].double().numpy(), y[:, 0].double().numpy())
    assert exact_plan(x, y).cost(x, y) == pytest.approx(value, rel=1e-9)
    with pytest.raises(ValueError, match="couple mini-batches"):
        exact_plan(cloud(4, 2, 0), cloud(4, 2, 1))


def test_plans_keep_to_the_devices_and_dtypes_of_a_plan() -> None:
    plan = exact_plan(cloud(5, 2, 0).numpy(), cloud(6, 2, 1).tolist())
    assert (plan.rows.dtype, plan.mass.dtype) == (torch.int64, torch.float64)


def test_an_unfinished_solver_is_an_error() -> None:
    x, y = cloud(300, 3, 13), cloud(301, 3, 14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TransportError, match=r"between 300 and 301 points was not solved exactly within 5 pivots"):
            exact_plan(x, y, max_iterations=5)
    with pytest.raises(ValueError, match="max_iterations must be at least 1; got 0"):
        exact_plan(x, y, max_iterations=0)


def test_missed_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def sloppy(a: Any, b: Any, costs: Any, **options: Any) -> tuple[Any, dict[str, None]]:
        return np.outer(a, b) / b.sum() * 1.01, {"warning": None}

    monkeypatch.setattr(exact.ot, "emd", sloppy)
    with pytest.raises(TransportError, match=r"missed its weights by 1\.0e-02 of the mass"):
        exact_plan(cloud(3, 2, 0), cloud(4, 2, 1))


def test_a_point_that_is_not_a_number_is_named() -> None:
    x = cloud(4, 2, 0)
    x[2, 1] = torch.nan
    with pytest.raises(ValueError, match="x1 must be finite; got NaN or infinity in 1 of 4 rows \\(first: row 2\\)"):
        exact_plan(cloud(4, 2, 1), x)
