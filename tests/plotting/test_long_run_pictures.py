"""Pictures of forecasts and of the long run draw what they say, in given axes."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.evaluation import complexity_limits, coverage, fourier, power_spectrum, rank_histogram, residual_dmd

RNG = np.random.default_rng(0)


def spectra():
    x, y = RNG.normal(size=(2, 2000))
    frequencies, power = power_spectrum(x)
    return frequencies, power[:, 0], power_spectrum(y.cumsum())[1][:, 0]


def modes():
    angle = RNG.uniform(0, 2 * np.pi, 300)
    return residual_dmd(fourier(4), angle, angle + 0.4 + 0.5 * np.sin(angle))


def draw_koopman(ax):
    found = modes()
    grid = np.linspace(-1.2, 1.2, 15) + 1j * np.linspace(-1.2, 1.2, 15)[:, None]
    return plotting.koopman_spectrum(
        found.eigenvalues, found.residuals, found.kept, pseudospectrum=(grid, found.pseudospectrum(grid)), ax=ax
    )


def draw_plane(ax):
    h = np.linspace(0, 1, 50)
    points = {"noise": (1.0, 0.0), "generated noise": (0.98, 0.02), "map": (0.68, 0.4)}
    return plotting.complexity_plane(points, (h, *complexity_limits(h)), ax=ax)


def draw_coverage(ax):
    found = coverage(RNG.normal(size=200), RNG.normal(size=(200, 50))).extra
    return plotting.coverage(found["levels"], found["shares"], found["low"], found["high"], ax=ax)


def draw_ranks(ax):
    found = rank_histogram(RNG.normal(size=200), RNG.normal(size=(200, 9))).extra
    return plotting.rank_histogram(found["counts"], design_effect=found["design_effect"], ax=ax)


PICTURES = {
    "power spectra": lambda ax: plotting.power_spectra(*spectra(), ax=ax),
    "complexity plane": draw_plane,
    "koopman spectrum": draw_koopman,
    "coverage": draw_coverage,
    "rank histogram": draw_ranks,
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_axes_in_axes_out(draw):
    before = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert draw(ax) is ax
    assert ax.has_data()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    own = draw(None)
    assert plotting.figure_of(own) is not ax.figure
    plotting.figure_of(own).canvas.draw()
    assert dict(mpl.rcParams) == before


def test_bars_are_relative_to_flat():
    ax = plotting.rank_histogram([20, 10, 10, 0])
    assert [patch.get_height() for patch in ax.patches[:4]] == [2.0, 1.0, 1.0, 0.0]


def test_kept_modes_are_told_from_others():
    ax = plotting.koopman_spectrum([1.0, 0.5], [0.0, 0.7], [True, False])
    kept, rejected = (c.get_offsets().tolist() for c in ax.collections)
    assert kept == [[1.0, 0.0]]
    assert rejected == [[0.5, 0.0]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plotting.rank_histogram([3]), "at least two cells"),
        (lambda: plotting.rank_histogram([0, 0]), "one case"),
        (lambda: plotting.coverage([0.5], [0.4, 0.3]), "levels and shares must be as many"),
        (lambda: plotting.power_spectra([0.0, 1.0], [0.1]), "one power for each frequency"),
        (lambda: plotting.complexity_plane({}, ([0.0], [0.0], [0.0, 1.0])), "three arrays of one length"),
        (lambda: plotting.koopman_spectrum([1.0], [0.0, 1.0], [True]), "must be as many"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()
