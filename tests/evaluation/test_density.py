"""Divergences of kernel densities against closed forms and SciPy."""

import numpy as np
import pytest
from scipy import integrate, stats

from gendyn import Paths
from gendyn.evaluation import kde_kl, marginal_kde_kl


def direct(x, y, weights=(None, None)):
    """The same number by evaluating every kernel on the grid."""
    densities = [stats.gaussian_kde(side, weights=w) for side, w in zip((x, y), weights, strict=True)]
    reach = 3 * max(float(np.sqrt(d.covariance[0, 0])) for d in densities)
    grid = np.linspace(min(x.min(), y.min()) - reach, max(x.max(), y.max()) + reach, 1000)
    p, q = (np.maximum(d(grid), 1e-12) for d in densities)
    return integrate.trapezoid(p * np.log(p / q), grid)


@pytest.mark.parametrize(("n", "m"), [(200, 300), (1000, 50)])
def test_it_is_the_direct_sum_of_kernels(n, m):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=n), generator.normal(0.5, 1.5, size=m)
    assert kde_kl(x, y, n_bootstrap=0).value == pytest.approx(direct(x, y), rel=1e-3)
    weights = generator.random(n), generator.random(m)
    weighted = kde_kl(x, y, weights_real=weights[0], weights_generated=weights[1], n_bootstrap=0).value
    assert weighted == pytest.approx(direct(x, y, weights), rel=1e-3)


def test_gaussians():
    assert np.log(2) + 2 / 8 - 0.5 == pytest.approx(0.443147, abs=1e-6)
    generator = np.random.default_rng(0)
    values = [
        kde_kl(generator.normal(size=10_000), generator.normal(1, 2, size=10_000), n_bootstrap=0).value
        for _ in range(12)
    ]
    assert np.mean(values) == pytest.approx(0.4401, abs=4 * np.std(values) / np.sqrt(12))


def test_equal_samples_have_none():
    x = np.random.default_rng(0).normal(size=(60, 3))
    result = kde_kl(x, x)
    assert result.value == pytest.approx(0.0, abs=1e-12)
    assert result.floor > 0


def test_a_sample_that_collapsed_is_not_let_off():
    x = np.random.default_rng(0).normal(size=500)
    assert kde_kl(x, np.zeros(400), n_bootstrap=0).value > 10
    assert kde_kl(x, x + 1e9, n_bootstrap=0).value > 1


def test_constants_are_left_out_by_name():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1, 0, 1]
    with pytest.warns(UserWarning, match="leaves out feature 1, which is constant in the real sample"):
        result = kde_kl(x, x + 1)
    assert result.extra["by_feature"][1] is None
    assert result.value == pytest.approx(np.mean([result.extra["by_feature"][k] for k in (0, 2)]))
    with pytest.raises(ValueError, match="all real features are constant"):
        kde_kl(0 * x, x)
    with pytest.raises(ValueError, match="at least two points; got 1 and 50"):
        kde_kl(x[:1], x)


# --- paths ---------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(60, 4, 2)), RNG.normal(0.3, 1.2, size=(50, 4, 2))


def test_marginals_are_averaged():
    table = np.array([[direct(X[:, t, k], Y[:, t, k]) for k in range(2)] for t in range(4)])
    result = marginal_kde_kl(X, Y)
    assert result.value == pytest.approx(table.mean(), rel=1e-3)
    assert result.extra["by_time"] == pytest.approx(table.mean(1), rel=1e-3)
    flat = kde_kl(X.reshape(60, -1), Y.reshape(50, -1))
    assert result.value == pytest.approx(flat.value, rel=1e-12)


def test_a_fixed_start_and_gaps_are_left_out():
    started = X.copy()
    started[:, 0] = 1.0
    mask = RNG.random(X.shape) < 0.7
    mask[:, 2, 1] = False
    result = marginal_kde_kl(Paths(range(4), started, mask=mask), Y)
    assert result.extra["skipped"] == 3
    assert result.extra["by_time"][0] is None
    seen = mask[:, 1, 0]
    assert result.extra["by_time"][1] == pytest.approx(
        np.mean([direct(started[mask[:, 1, k], 1, k], Y[:, 1, k]) for k in range(2)]), rel=2e-3
    )
    assert seen.any()
    fixed = X * 0 + np.arange(4)[:, None]
    with pytest.raises(ValueError, match="no time and channel varies in the real paths"):
        marginal_kde_kl(fixed, Y)
