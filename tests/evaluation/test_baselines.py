"""Predictions that need no learning, on populations whose answer is plain."""

import pytest
import torch

from gendyn.data import Snapshots
from gendyn.evaluation import Prediction, mean_shift, neighbours, ot_interpolant, training_free_rows, union

SQUARE = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
DATA = Snapshots([0.0, 4.0], [SQUARE, SQUARE + torch.tensor([8.0, 0.0])])


def test_the_hole_lies_between_its_neighbours():
    assert neighbours(DATA, 1.0) == (0.0, 4.0)
    for outside in (0.0, 4.0, 5.0, -1.0):
        with pytest.raises(ValueError, match="does not lie between"):
            neighbours(DATA, outside)


def test_union_counts_each_row_once():
    assert torch.equal(union(DATA, 1.0).samples, torch.cat(DATA.samples))
    assert union(DATA, 1.0).weights is None


def test_real_and_ordinal_fractions():
    assert torch.equal(mean_shift(DATA, 1.0).samples, SQUARE + torch.tensor([2.0, 0.0]))
    assert torch.equal(mean_shift(DATA, 1.0, 0.5).samples, SQUARE + torch.tensor([4.0, 0.0]))


def test_the_interpolant_of_a_shift_is_a_shift():
    found = ot_interpolant(DATA, 1.0)
    order = sorted(map(tuple, found.samples.tolist()))
    assert order == sorted(map(tuple, (SQUARE + torch.tensor([2.0, 0.0])).tolist()))
    torch.testing.assert_close(found.weights, torch.full((4,), 0.25))


def test_weights_are_mass():
    weighted = Snapshots([0.0, 1.0], [torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])], [[1.0, 1.0], [3.0, 1.0]])
    assert mean_shift(weighted, 0.5, 1.0).samples.flatten().tolist() == [1.5, 1.5]
    found = ot_interpolant(weighted, 0.5)
    assert float((found.weights * found.samples[:, 0]).sum()) == pytest.approx(0.75)
    both = union(weighted, 0.5).weights
    torch.testing.assert_close(both, torch.tensor([0.25, 0.25, 0.375, 0.125]))


def test_all_rows_have_names():
    assert list(training_free_rows(DATA, 2.0)) == ["previous", "next", "union", "mean shift", "OT interpolant"]


@pytest.mark.parametrize("weights", [None, torch.full((50,), 0.02), torch.full((50,), 3.0)])
def test_equal_weights_are_drawn_without_replacement(weights):
    cells = Prediction(torch.arange(50.0)[:, None], weights)
    assert cells.draw(50, seed=3).flatten().sort().values.tolist() == list(range(50))
    assert len(cells.draw(20, seed=3).unique()) == 20
    counts = cells.draw(120, seed=3).flatten().long().bincount(minlength=50)
    assert set(counts.tolist()) == {2, 3}


def test_a_point_is_drawn_as_often_as_its_weight_says():
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5, 0.0]).double()
    cells, rounds = Prediction(torch.arange(6.0)[:, None], weights), 3000
    counts = torch.stack([cells.draw(5, seed=k).flatten().long().bincount(minlength=6) for k in range(rounds)]).double()
    expected = 5 * weights / weights.sum()
    assert ((counts >= expected.floor()) & (counts <= expected.ceil())).all()
    # Of a count that is one of two neighbours the variance is p (1 - p): four standard errors.
    p = expected - expected.floor()
    assert ((counts.mean(0) - expected).abs() <= 4 * (p * (1 - p) / rounds).sqrt()).all()


def test_draws_come_in_random_order_and_any_two_points_may_meet():
    cells = Prediction(torch.arange(4.0)[:, None])
    pairs = {tuple(cells.draw(2, seed=k).flatten().long().tolist()) for k in range(200)}
    assert pairs == {(i, j) for i in range(4) for j in range(4) if i != j}
