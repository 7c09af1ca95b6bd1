from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from gendyn.interpolants.conditional_path import CardinalSpline

gaps = st.lists(st.floats(0.05, 20.0), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(gaps=gaps, origin=st.floats(-100, 100), seed=st.integers(0, 2**31))
def test_cubic_weights_reproduce_scipy_natural_spline(gaps, origin, seed):
    knots = origin + np.concatenate([[0.0], np.cumsum(gaps)])
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(knots), 3))
    t = rng.uniform(knots[0], knots[-1], 50)
    weights, derivatives = CardinalSpline(knots, "cubic")(torch.from_numpy(t))
    if len(knots) == 2:
        slope = (values[1] - values[0]) / (knots[1] - knots[0])
        expected, velocity = values[0] + (t - knots[0])[:, None] * slope, np.tile(slope, (50, 1))
    else:
        reference = CubicSpline(knots, values, bc_type="natural")
        expected, velocity = reference(t), reference(t, 1)
    np.testing.assert_allclose(weights @ torch.from_numpy(values), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(derivatives @ torch.from_numpy(values), velocity, rtol=1e-7, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(gaps=gaps, kind=st.sampled_from(["linear", "cubic"]))
def test_weights_sum_to_one_and_interpolate(gaps, kind):
    knots = torch.tensor(np.concatenate([[0.0], np.cumsum(gaps)]))
    spline = CardinalSpline(knots, kind)
    at_knots, _ = spline(knots)
    torch.testing.assert_close(at_knots, torch.eye(len(knots), dtype=torch.float64), atol=1e-9, rtol=0)
    weights, derivatives = spline(torch.linspace(0, float(knots[-1]), 33, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.ones(33, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(derivatives.sum(1), torch.zeros(33, dtype=torch.float64), atol=1e-7, rtol=0)


def test_linear_weights_use_only_the_neighbouring_knots():
    weights, derivatives = CardinalSpline([0.0, 1.0, 2.0, 4.0], "linear")(torch.tensor([1.25, 3.0]))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.75, 0.25, 0.0], [0.0, 0.0, 0.5, 0.5]]))
    torch.testing.assert_close(derivatives, torch.tensor([[0.0, -1.0, 1.0, 0.0], [0.0, 0.0, -0.5, 0.5]]))


@pytest.mark.parametrize(
    ("knots", "kind", "words"),
    [
        ([0.0], "cubic", "at least two knots"),
        ([0.0, 0.0], "cubic", "increase strictly"),
        ([0.0, 1.0], "quintic", "kind must be one of"),
    ],
)
def test_bad_knots_have_a_sentence(knots, kind, words):
    with pytest.raises(ValueError, match=words):
        CardinalSpline(knots, kind)


def test_a_bend_lies_between_the_lines_and_the_natural_spline():
    knots, t = [0.0, 1.0, 2.5, 4.0], torch.linspace(-0.3, 4.3, 50, dtype=torch.float64)
    straight, natural = (CardinalSpline(knots, kind)(t) for kind in ("linear", "cubic"))
    for bend in (0.0, 0.25, 1.0):
        for found, line, curve in zip(CardinalSpline(knots, "cubic", bend)(t), straight, natural, strict=True):
            torch.testing.assert_close(found, bend * curve + (1 - bend) * line)
    weights, _ = CardinalSpline(knots, "cubic", 0.5)(torch.tensor(knots, dtype=torch.float64))
    torch.testing.assert_close(weights, torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"bend must lie in \[0, 1\]"):
        CardinalSpline(knots, "cubic", 1.5)
