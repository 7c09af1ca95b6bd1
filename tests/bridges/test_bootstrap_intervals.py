"""Intervals from rows drawn again: their width is the known one, and what resampling shows is reflected."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

import gendyn as gd
from gendyn.bridges.bootstrap_intervals import bootstrap_table, resampled
from gendyn.bridges.descent import quasi_newton
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.pushforward import PushforwardObjective


def test_rows_are_drawn_with_their_weights():
    data = gd.Snapshots([0.0, 1.0], [torch.arange(3.0)[:, None], torch.ones(4, 1)])
    drawn = resampled(Marginals.of(data), torch.Generator().manual_seed(0))
    found = drawn.samples[0].flatten().tolist()
    assert set(found) <= {0.0, 1.0, 2.0}
    assert len(set(found)) == len(found)
    for n, weights in zip((3, 4), drawn.weights, strict=True):
        # Rows drawn twice count twice: the weights are numbers of draws, as many as there are rows.
        torch.testing.assert_close(weights * n, (weights * n).round())
        assert float(weights.sum()) == pytest.approx(1.0)


def test_the_width_is_that_of_a_difference_of_means():
    """Noise far above the spread: the estimated shift is the difference of two means, whose variance is known."""
    n, level = 200, 0.9
    x, y = (torch.randn(n, 1, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (1, 2))
    data = gd.Snapshots([0.0, 1.0], [x, y + 3])
    reference = gd.references.Linear(sigma=10.0).start(data)
    objective = PushforwardObjective(Marginals.of(data))
    with torch.no_grad():
        reference.matrix.zero_()
    quasi_newton([reference.shift], lambda: objective.value(reference), 30)
    before = reference.shift.detach().clone()
    table = bootstrap_table(objective, reference, [reference.shift], level, draws=200, seed=0).set_index("parameter")
    assert torch.equal(reference.shift.detach(), before)
    error = (float(x.var() + y.var()) / n) ** 0.5
    width = table.loc["offset[0]", "high"] - table.loc["offset[0]", "low"]
    assert width == pytest.approx(2 * norm.ppf(0.95) * error, rel=0.15)
    assert table.loc["offset[0]", "low"] < 3.0 < table.loc["offset[0]", "high"]
    assert table.loc[["rate[0,0]", "sigma"], ["low", "high"]].isna().all().all()  # those were held


@pytest.mark.parametrize("method", ["pushforward", "coupling_em"])
def test_the_estimator_gives_them(method):
    generator = torch.Generator().manual_seed(3)
    samples = [0.5 * torch.randn(40, 1, generator=generator) + k for k in range(3)]
    data = gd.Snapshots([0.0, 1.0, 2.0], samples)
    options = {"sigma": 0.5, "learn_sigma": False} if method == "pushforward" else {"sigma": 0.5}
    fits = [
        gd.ReferenceRefinement("linear", method=method, intervals=kind, ridge=0.1, **options).fit(data, progress=False)
        for kind in ("laplace", "bootstrap")
    ]
    laplace, bootstrap = (fit.parameters_.set_index("parameter") for fit in fits)
    assert bootstrap["value"].equals(laplace["value"])
    widths = [table.loc["rate[0,0]", "high"] - table.loc["rate[0,0]", "low"] for table in (laplace, bootstrap)]
    assert widths[1] == pytest.approx(widths[0], rel=0.4)
