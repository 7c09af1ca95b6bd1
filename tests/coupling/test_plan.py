"""Plans: what they hold, and that draws from them follow their law."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gendyn.coupling import Plan


def random_plan(n0: int, n1: int, seed: int = 0, sparsity: float = 0.5) -> Plan:
    rng = np.random.default_rng(seed)
    dense = rng.random((n0, n1)) * (rng.random((n0, n1)) > sparsity)
    dense[rng.integers(n0), rng.integers(n1)] = 1.0
    return Plan.from_dense(dense)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.floats(0.0, 0.9))
@settings(max_examples=60, deadline=None)
def test_atoms_matrix_and_marginals_agree(n0: int, n1: int, seed: int, sparsity: float) -> None:
    plan = random_plan(n0, n1, seed, sparsity)
    dense = plan.to_dense()
    assert float(dense.sum()) == pytest.approx(1.0, abs=1e-14)
    torch.testing.assert_close(plan.marginals[0], dense.sum(1))
    torch.testing.assert_close(plan.marginals[1], dense.sum(0))
    torch.testing.assert_close(plan.transpose().to_dense(), dense.T)
    key = plan.rows * n1 + plan.columns
    assert bool((key.diff() > 0).all())
    assert bool((plan.mass > 0).all())


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.floats(0.0, 0.9))
@settings(max_examples=60, deadline=None)
def test_draws_stay_on_the_atoms(n0: int, n1: int, seed: int, sparsity: float) -> None:
    plan = random_plan(n0, n1, seed, sparsity)
    dense = plan.to_dense()
    i, j = plan.sample(200, generator(seed))
    assert bool((dense[i, j] > 0).all())
    assert bool((dense[i, plan.given_rows(i, generator(seed))] > 0).all())
    assert bool((dense[plan.given_columns(j, generator(seed)), j] > 0).all())


def test_order_and_repetition_of_atoms_do_not_matter() -> None:
    plan = Plan([1, 0, 1, 0], [0, 1, 0, 2], [0.1, 0.3, 0.2, 0.0], (2, 3))
    assert (len(plan), plan.rows.tolist(), plan.columns.tolist()) == (2, [0, 1], [1, 0])
    torch.testing.assert_close(plan.mass, torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_the_callers_tensors_are_not_shared() -> None:
    rows, mass = torch.tensor([0, 1]), torch.tensor([0.5, 0.5], dtype=torch.float64)
    plan = Plan(rows, rows, mass, (2, 2))
    rows[0], mass[0] = 1, 9.0
    assert plan.to_dense().tolist() == [[0.5, 0.0], [0.0, 0.5]]


def test_pairs_follow_the_joint_law() -> None:
    plan = random_plan(5, 6, seed=3)
    n = 40_000
    i, j = plan.sample(n, generator(1))
    counts = torch.zeros(plan.shape).index_put((i, j), torch.ones(n), accumulate=True)
    assert chisquare(counts[plan.rows, plan.columns].numpy(), (plan.mass * n).numpy()).pvalue > 1e-3


def test_conditional_draws_follow_the_conditional_law() -> None:
    plan = random_plan(4, 7, seed=5, sparsity=0.2)
    n = 20_000
    for source, draw in ((plan, plan.given_rows), (plan.transpose(), plan.given_columns)):
        for row in range(source.shape[0]):
            expected = source.to_dense()[row]
            counts = torch.bincount(draw(torch.full((n,), row), generator(row)), minlength=len(expected))
            on = expected > 0
            assert int(counts[~on].sum()) == 0
            assert chisquare(counts[on].numpy(), (expected[on] / expected.sum() * n).numpy()).pvalue > 1e-3


def test_rows_of_tiny_mass_are_resolved() -> None:
    # One row weighs 1e-30 of the other: a cumulative sum of masses alone would not see it.
    plan = Plan([0, 1, 1, 1], [0, 1, 2, 3], [1.0, 1e-30, 2e-30, 1e-30], (2, 4))
    drawn = plan.given_rows(torch.ones(40_000, dtype=torch.int64), generator())
    counts = torch.bincount(drawn, minlength=4)
    assert int(counts[0]) == 0
    assert chisquare(counts[1:].numpy(), [10_000, 20_000, 10_000]).pvalue > 1e-3


def test_the_largest_uniform_number_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    # Masses whose cumulative sums round below 1.
    plan = Plan(torch.arange(10), torch.arange(10), torch.full((10,), 0.1), (10, 10))
    monkeypatch.setattr(Plan, "_uniform", lambda self, n, seed: torch.full((n,), 1 - 2**-53, dtype=torch.float64))
    assert plan.sample(3)[0].tolist() == [9, 9, 9]
    assert plan.given_rows(torch.arange(10)).tolist() == list(range(10))
    three = Plan([0, 0, 0, 2], [0, 1, 2, 0], [0.1, 0.1, 0.1, 0.7], (3, 3))
    assert three.given_rows([0, 2]).tolist() == [2, 0]


def test_draws_are_reproducible_and_leave_the_global_generator_alone() -> None:
    plan = random_plan(6, 6)
    before = torch.get_rng_state()
    first, again, other = plan.sample(50, 7), plan.sample(50, 7), plan.sample(50, 8)
    assert bool((first[0] == again[0]).all() and (first[1] == again[1]).all())
    assert not bool((first[0] == other[0]).all() and (first[1] == other[1]).all())
    source = generator(0)
    assert not bool((plan.sample(50, source)[0] == plan.sample(50, source)[0]).all())
    assert bool((torch.get_rng_state() == before).all())


def test_no_draws_at_all() -> None:
    plan = random_plan(3, 3)
    assert plan.sample(0)[0].shape == (0,)
    assert plan.given_rows(torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_permutations_are_recognised() -> None:
    assert Plan([0, 1, 2], [2, 0, 1], torch.ones(3), (3, 3)).is_permutation
    assert not Plan([0, 1, 2], [2, 0, 0], torch.ones(3), (3, 3)).is_permutation
    assert not Plan([0, 1], [1, 0], [0.4, 0.6], (2, 2)).is_permutation
    assert not Plan([0, 1], [1, 0], [0.5, 0.5], (2, 3)).is_permutation


def test_cost_and_expected_target_are_sums_over_atoms() -> None:
    plan = random_plan(5, 4, seed=2, sparsity=0.0)
    x, y = torch.randn(5, 3, generator=generator(1)), torch.randn(4, 3, generator=generator(2))
    squares = torch.cdist(x.double(), y.double()).square()
    dense = plan.to_dense()
    assert plan.cost(x, y) == pytest.approx(float((dense * squares).sum()), rel=1e-12)
    assert plan.cost(x, y, "euclidean") == pytest.approx(float((dense * squares.sqrt()).sum()), rel=1e-12)
    assert plan.cost(x, y, squares) == pytest.approx(plan.cost(x, y), rel=1e-12)
    assert plan.cost(x, y, lambda a, b: torch.cdist(a, b) ** 2) == pytest.approx(plan.cost(x, y), rel=1e-9)
    assert plan.transpose().cost(y, x) == pytest.approx(plan.cost(x, y), rel=1e-12)
    target = plan.expected_target(y)
    assert target.dtype == torch.float32
    torch.testing.assert_close(target.double(), (dense @ y.double()) / dense.sum(1, keepdim=True), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (([0], [0, 1], [1.0], (2, 2)), ValueError, "rows, columns and mass must have one shape (E,)"),
        (([], [], [], (2, 2)), ValueError, "with at least one atom; got (0,), (0,) and (0,)"),
        (([0], [2], [1.0], (2, 2)), ValueError, "columns must lie between 0 and 1; got 2"),
        (([-1], [0], [1.0], (2, 2)), ValueError, "rows must lie between 0 and 1; got -1"),
        (([0.5], [0], [1.0], (2, 2)), TypeError, "rows must be integers; got float32"),
        (([0], [0], [-1.0], (2, 2)), ValueError, "the mass of a plan must be finite and not negative"),
        (([0], [0], [np.nan], (2, 2)), ValueError, "the mass of a plan must be finite and not negative"),
        (([0], [0], [0.0], (2, 2)), ValueError, "and some of it positive"),
    ],
)
def test_unfit_atoms_are_refused(arguments: tuple[object, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        Plan(*arguments)  # type: ignore[arg-type]


def test_unfit_questions_are_refused() -> None:
    plan = Plan([0, 0], [0, 1], [0.5, 0.5], (2, 2))
    with pytest.raises(ValueError, match="n must not be negative; got -1"):
        plan.sample(-1)
    with pytest.raises(ValueError, match="point 1 has no mass in this plan and so nowhere to go"):
        plan.given_rows([0, 1])
    with pytest.raises(ValueError, match="indices must lie between 0 and 1; got 2"):
        plan.given_rows([2])
    with pytest.raises(TypeError, match="indices must be integers; got float32"):
        plan.given_columns([0.0])
    with pytest.raises(ValueError, match=re.escape("indices must have shape (n,); got (1, 1)")):
        plan.given_rows([[0]])
    with pytest.raises(ValueError, match="point 1 has no mass in this plan and so no expected target"):
        plan.expected_target(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=re.escape("x1 must have shape (2, d); got (3, 1)")):
        plan.expected_target(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="this plan joins 2 to 2 points; got 3 and 2"):
        plan.cost(torch.zeros(3, 1), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="cost must be 'sqeuclidean', 'euclidean', a function or a matrix; got 'city'"):
        plan.cost(torch.zeros(2, 1), torch.zeros(2, 1), "city")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("matrix must have shape (n0, n1); got (2,)")):
        Plan.from_dense(torch.ones(2))
    with pytest.raises(ValueError, match="some of it positive"):
        Plan.from_dense(torch.zeros(2, 2))
    with pytest.raises(TypeError, match="seed must be an integer"):
        plan.sample(3, "zero")  # type: ignore[arg-type]
