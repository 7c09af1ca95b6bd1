"""Every picture draws what it says, in given axes, and leaves matplotlib as it was."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from gendyn import evaluate, plotting
from gendyn.data import Paths, Snapshots
from gendyn.sampling import ODE


def data(dim=2, n=60):
    generator = torch.Generator().manual_seed(0)
    return Snapshots([0.0, 1.0, 2.0], [torch.randn(n, dim, generator=generator) + k for k in range(3)])


def moves(dim=2):
    start = data(dim).samples[0]
    return Paths([0.0, 0.5, 1.0, 2.0], torch.stack([start + t for t in (0.0, 0.5, 1.0, 2.0)], dim=1))


ROTATION = ODE(lambda t, x: torch.stack([-x[:, 1], x[:, 0], *x[:, 2:].T], dim=1), dim=2)

PICTURES = {
    "snapshots": lambda ax: plotting.snapshots(data(), ax=ax),
    "trajectories": lambda ax: plotting.trajectories(moves(), data(), ax=ax),
    "fan": lambda ax: plotting.fan(moves(), data(), ax=ax),
    "velocity": lambda ax: plotting.velocity(ROTATION, data(), 1.0, ax=ax),
    "history": lambda ax: plotting.history(
        pd.DataFrame({"step": [1, 2, 3], "loss": [30.0, 2.0, 1.0], "validation": [np.nan, 2.0, 1.5]}), ax=ax
    ),
    "distances": lambda ax: plotting.distances(evaluate(data(), data(n=50), metrics=["W1", "MMD^2"]).table, ax=ax),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_axes_in_axes_out(draw):
    before = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert draw(ax) is ax
    assert ax.has_data()
    assert ax.get_xlabel()
    own = draw(None)
    assert plotting.figure_of(own) is not ax.figure
    plotting.figure_of(own).canvas.draw()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_any_number_of_features(dim):
    for figure in (
        plotting.populations(data(dim), moves(dim).snapshots()),
        plotting.marginals(data(dim), moves(dim).snapshots()),
        plotting.hold_out(data(dim).without(1.0), moves(dim), data(dim).only(1.0)),
        plotting.figure_of(plotting.snapshots(data(dim))),
        plotting.figure_of(plotting.trajectories(moves(dim), data(dim))),
    ):
        figure.canvas.draw()


def test_constant_features_are_lines():
    flat = Snapshots([0.0], [torch.zeros(20, 1)])
    plotting.figure_of(plotting.snapshots(flat)).canvas.draw()


def test_large_populations_are_thinned_the_same_way_each_time():
    large = Snapshots([0.0], [torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))])
    one, two = (plotting.snapshots(large, max_points=500).collections[0].get_offsets() for _ in range(2))
    assert len(one) == 500
    np.testing.assert_array_equal(one, two)


def test_pages_hold_everything_and_escape(tmp_path):
    page = plotting.Page("A <b>", "sub & title").text("x < y").code("print('<')").heading("H")
    page.numbers([("label", "1.0", "note")]).details("more", "text")
    page.table(pd.DataFrame({"a": [1.0, np.nan], "b": ["<", None]}), "caption")
    page.figure(plotting.snapshots(data()), "a picture").save(tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert "A &lt;b&gt;" in text
    assert "x &lt; y" in text
    assert "<td>nan</td>" not in text.lower()
    assert 'src="data:image/png;base64' in text
    assert not {"http:", "https:", "<script", "<link"} & {
        w for w in ("http:", "https:", "<script", "<link") if w in text
    }
    both = plotting.combine([page, plotting.Page("B")], "All").html()
    assert both.count("part-0") == 2
    assert both.index("A &lt;b&gt;") < both.index("<h3>H</h3>")


def test_pages_are_the_same_each_time():
    one, two = (plotting.Page("A").figure(plotting.snapshots(data())).html() for _ in range(2))
    assert one == two


def test_quantiles_leave_out_times_at_which_nothing_was_observed(recwarn):
    mask = torch.ones(9, 5, 1, dtype=torch.bool)
    mask[:, 2] = False
    values = torch.arange(45.0).reshape(9, 5, 1)
    lines = plotting.fans(*[Paths(range(5), values, mask=mask)] * 2).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_ydata(), [20, 21, np.nan, 23, 24])
    assert not recwarn.list


def test_lags_are_those_of_each_side():
    x = torch.randn(20, 6, 1, generator=torch.Generator().manual_seed(0))
    lines = plotting.autocorrelations(Paths(range(6), x), Paths([0.0, 0.5, 1.0, 1.5], x[:, :4])).axes[0].lines
    assert [line.get_xdata().tolist() for line in lines[1:]] == [[0, 1, 2, 3, 4, 5], [0, 0.5, 1, 1.5]]


def test_infinite_metrics_are_not_drawn(recwarn):
    frame = pd.DataFrame({"metric": ["a", "b"], "time": [np.nan] * 2, "value": [np.inf, 2.0], "low": [None, 1.0]})
    ax = plotting.distances(frame.assign(high=[None, 3.0], floor=1.0))
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [2.0, np.nan])
    assert not recwarn.list


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.snapshots(data(), dims=(0, 5)), "dims must be two features"),
        (lambda: plotting.fan(moves(), feature=9), "feature must lie in 0 to 1"),
        (lambda: plotting.velocity(ROTATION, data(1), 0.0), "at least two features"),
        (lambda: plotting.populations(data(), Snapshots([9.0], [torch.zeros(2, 2)])), "no time in common"),
        (lambda: plotting.marginals(data(), Snapshots([9.0], [torch.zeros(2, 2)])), "no time in common"),
        (lambda: plotting.fans(moves(), moves(1)), "same number of features; got 2 and 1"),
        (lambda: plotting.sample_paths(moves(), moves(), features=0), "features must be at least 1; got 0"),
        (lambda: plotting.history(pd.DataFrame({"step": [1]})), "loss is missing"),
        (lambda: plotting.history(pd.DataFrame({"step": [], "loss": []})), "table is empty"),
    ],
)
def test_sentences(call, message):
    with pytest.raises(ValueError, match=message):
        call()
