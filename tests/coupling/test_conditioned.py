"""Costs with labels and covariates: against costs written out, and against transport within each label."""

from __future__ import annotations

import pytest
import torch

from gendyn.coupling import (
    ConditionedCost,
    EntropicCoupling,
    ExactCoupling,
    attach_conditions,
    cost_matrix,
    exact_plan,
    sinkhorn_plan,
)


def cloud(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", lambda a, b: (a[:, None] - b[None]).abs().sum(-1)])
def test_labels_and_numbers_have_a_price(cost) -> None:
    x, y = cloud(5, 2, 0), cloud(4, 2, 1)
    labels = ["a", "b", "a", "c", "b"], ["b", "b", "c", "a"]
    (u, v), priced = attach_conditions([x, y], labels, 3.0, cost)
    different = torch.tensor([[one != two for two in labels[1]] for one in labels[0]])
    assert torch.allclose(priced(u, v), cost_matrix(x, y, cost) + 3.0 * different)
    numbers = torch.linspace(0, 1, 5), torch.tensor([0.0, 2.0, -1.0, 0.5])
    (u, v), priced = attach_conditions([x, y], numbers, 0.5, cost)
    apart = (numbers[0][:, None] - numbers[1]).double().square()
    assert torch.allclose(priced(u, v), cost_matrix(x, y, cost) + 0.5 * apart)
    many = cloud(5, 3, 2), cloud(4, 3, 3)
    (u, v), priced = attach_conditions([x, y], many, 2.0, cost)
    assert torch.allclose(priced(u, v), cost_matrix(x, y, cost) + 2.0 * cost_matrix(*many))


def test_an_infinite_price_is_transport_within_each_label() -> None:
    x, y = cloud(60, 2, 4), cloud(60, 2, 5) + 1
    kinds = torch.arange(60) % 3, torch.arange(60) // 20
    (u, v), cost = attach_conditions([x, y], kinds)
    i, j = ExactCoupling(cost=cost)(u, v, generator=generator())
    assert bool((kinds[0][i] == kinds[1][j]).all())
    total = float((x[i] - y[j]).square().sum())
    apart = sum(
        20 * exact_plan(x[kinds[0] == k], y[kinds[1] == k]).cost(x[kinds[0] == k], y[kinds[1] == k]) for k in (0, 1, 2)
    )
    assert total == pytest.approx(apart, rel=1e-9)


def test_an_infinite_price_moves_between_labels_no_more_than_it_must() -> None:
    x, y = cloud(30, 2, 6), cloud(40, 2, 7)
    kinds = (torch.arange(30) < 12).long(), (torch.arange(40) < 28).long()
    (u, v), cost = attach_conditions([x, y], kinds)
    plan = exact_plan(u, v, cost=cost)
    same = kinds[0][plan.rows] == kinds[1][plan.columns]
    assert float(plan.mass[same].sum()) == pytest.approx(12 / 30 + 12 / 40, rel=1e-9)


def test_the_price_rises_from_plain_transport() -> None:
    x, y = cloud(80, 2, 8), cloud(80, 2, 9)
    kinds = torch.arange(80) % 2, torch.arange(80) // 40
    broken = []
    for weight in (1e-6, 0.5, 2.0, 50.0):
        (u, v), cost = attach_conditions([x, y], kinds, weight)
        i, j = ExactCoupling(cost=cost)(u, v, generator=generator())
        broken.append(int((kinds[0][i] != kinds[1][j]).sum()))
        if weight < 1e-3:
            assert float((x[i] - y[j]).square().sum(1).mean()) == pytest.approx(exact_plan(x, y).cost(x, y))
    assert broken == sorted(broken, reverse=True)
    assert broken[0] > 20
    assert broken[-1] == 0


def test_entropic_plans_and_blocks_take_the_cost() -> None:
    x, y = cloud(20, 2, 10), cloud(20, 2, 11)
    kinds = torch.arange(20) % 2, torch.arange(20) // 10
    (u, v), cost = attach_conditions([x, y], kinds, 4.0)
    matrix = cost_matrix(x, y) + 4.0 * (kinds[0][:, None] != kinds[1])
    ours = sinkhorn_plan(u, v, 0.5, cost=cost).plan.to_dense()
    assert torch.allclose(ours, sinkhorn_plan(x, y, 0.5, cost=matrix).plan.to_dense())
    for coupling in (ExactCoupling(block=10, cost=cost), EntropicCoupling(0.5, cost)):
        i, j = coupling(u, v, generator=generator())
        assert (kinds[0][i] == kinds[1][j]).double().mean() > 0.7


def test_sentences() -> None:
    x = cloud(3, 2, 0)
    with pytest.raises(ValueError, match="every sample needs its conditions; got 2 samples and 1"):
        attach_conditions([x, x], [[1, 2, 3]])
    with pytest.raises(ValueError, match="got 2 for 3 rows of sample 1"):
        attach_conditions([x, x], [[1, 2, 3], [1, 2]])
    with pytest.raises(ValueError, match="labels must have shape"):
        attach_conditions([x, x], [torch.zeros(3, 2).long()] * 2)
    with pytest.raises(ValueError, match="conditions must be finite"):
        attach_conditions([x, x], [torch.full((3,), torch.nan)] * 2, 1.0)
    with pytest.raises(ValueError, match="must be positive and finite, for numbers are rarely equal; got inf"):
        attach_conditions([x, x], [torch.zeros(3)] * 2)
    with pytest.raises(ValueError, match="the weight of a condition must be positive; got -1"):
        ConditionedCost(-1.0, labels=True)
