"""The check of the linear-noise approximation: where it must warn, and where it must not."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import gendyn as gd
from gendyn.bridges.linear_noise_check import linear_noise_error
from gendyn.sampling import SDE

LOTKA = gd.systems.LotkaVolterra()
PREDATORS = gd.systems.simulate_snapshots(LOTKA, [0.0, 1.0, 2.0, 3.0], 60, step=0.02)


def constant(value):
    return lambda t, x: torch.full_like(x, value)


WELLS = SDE(lambda t, x: x - x**3, constant(0.4), 1)


def wells():
    """Start on the ridge between two wells, and end in both."""
    x = 0.05 * torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    return gd.Snapshots([0.0, 3.0], [x, x.sign() + 5 * x.abs()])


def test_it_warns_on_a_ridge():
    with pytest.warns(
        UserWarning, match=r"linear-noise approximation is not to be trusted.* between times 0 and 3.*path_em"
    ):
        model = gd.SchrodingerBridge(WELLS).fit(wells(), progress=False)
    # On the ridge the approximation has the variance 0.16 (exp(6) - 1) / 2 = 32, and paths stay near -1 and 1; a little
    # beside it, too small a variance around an orbit into one well, which some paths leave for the other.
    for seed in (0, 1, 2):
        assert linear_noise_error(model.bridge_, 16, seed)["error"] > 3


def test_it_warns_of_what_was_learned():
    family = gd.references.Custom(lambda t, x, pull: pull * (x - x**3), {"pull": 1.0}, positive=("pull",), sigma=0.4)
    model = gd.ReferenceRefinement(family, sigma=0.4, method="path_em", iterations=2, intervals=None, substeps=48)
    with pytest.warns(UserWarning, match="linear-noise approximation is not to be trusted"):
        model.fit(wells(), progress=False)


@pytest.mark.parametrize("reference", [LOTKA, SDE(lambda t, x: -x, constant(0.4), 2)], ids=["predators", "linear"])
def test_it_is_silent_where_the_approximation_holds(reference):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = gd.SchrodingerBridge(reference).fit(PREDATORS, progress=False, seed=3)
    for seed in range(3):
        worst = linear_noise_error(model.bridge_, 16, seed)
        # Five states, two features: the largest of ten errors of a mean, each with a standard error of 0.022.
        assert worst["mean"] < 0.11
        assert worst["variance"] == pytest.approx(1.0, abs=0.15)


def test_nothing_is_asked_of_exact_laws():
    data = PREDATORS
    for reference in ("brownian", gd.references.LocalBrownian(0.05)):
        model = gd.SchrodingerBridge(reference).fit(data, progress=False)
        assert linear_noise_error(model.bridge_, 16, 0) is None
    smooth = gd.SchrodingerBridge(gd.references.Matern(length=3.0)).fit(data, progress=False)
    assert linear_noise_error(smooth.bridge_, 16, 0) is None


def test_the_error_of_a_variance_is_that_of_a_closed_form():
    """Of dX = s X dW the approximation holds the noise at the start: variance s^2 t x^2, the truth exp(s^2 t) - 1."""
    s = 1.0
    x = 1.0 + torch.rand(50, 1, generator=torch.Generator().manual_seed(0))
    geometric = SDE(lambda t, x: torch.zeros_like(x), lambda t, x: s * x, 1)
    data = gd.Snapshots([0.0, 0.5], [x, x])
    with pytest.warns(UserWarning, match="linear-noise"):
        model = gd.SchrodingerBridge(geometric).fit(data, progress=False)
    worst = linear_noise_error(model.bridge_, 16, 0)
    # The largest of five ratios, each with a standard error of some 5 %.
    assert worst["variance"] == pytest.approx((math.exp(0.5) - 1) / 0.5, rel=0.2)
