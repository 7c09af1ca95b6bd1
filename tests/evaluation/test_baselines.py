"""Predictions that need no learning, on populations whose answer is plain."""

import pytest
import torch

from gendyn.data import Snapshots
from gendyn.evaluation import mean_shift, neighbours, ot_interpolant, training_free_rows, union

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
