"""Data as they come: runaways, generators that stand still, far origins, ties, few rows, sets that never meet."""

import numpy as np
import pytest
from scipy import stats

from gendyn import Paths
from gendyn.evaluation import (
    autocorrelation_difference,
    correlational_score,
    crps,
    debiased_wasserstein,
    discriminative_score,
    energy_distance,
    energy_score,
    frechet_distance,
    gaussian_frechet,
    kaplan_yorke_dimension,
    kde_kl,
    kurtosis_difference,
    marginal_difference,
    marginal_kde_kl,
    marginal_ks,
    marginal_wasserstein,
    max_sliced_wasserstein,
    memorisation,
    mmd,
    ordinal_distance,
    power_spectrum_distance,
    predictive_score,
    signature_distance,
    signature_mmd,
    skewness_difference,
    sliced_wasserstein,
    sliced_wasserstein_value,
    state_space_divergence,
    strong_discriminative_score,
    utility,
    wasserstein,
    wasserstein_value,
)
from gendyn.evaluation.features import autocorrelation
from gendyn.evaluation.memorisation import nearest
from gendyn.evaluation.path_set import path_sets

RNG = np.random.default_rng(0)


def populations(n=60, m=50, dim=3):
    return RNG.normal(size=(n, dim)), RNG.normal(size=(m, dim)) + 0.2


def walks(n=60, m=50, length=6, dim=2):
    return RNG.normal(size=(n, length, dim)).cumsum(1), RNG.normal(size=(m, length, dim)).cumsum(1)


def runaway(paths, size):
    """Return paths of which the first has run away."""
    found = paths.copy()
    found[0] *= size
    return found


OF_POPULATIONS = {
    "W1": wasserstein,
    "debiased": debiased_wasserstein,
    "sliced": sliced_wasserstein,
    "max-sliced": max_sliced_wasserstein,
    "energy": energy_distance,
    "MMD": mmd,
    "KDE-KL": kde_kl,
    "Frechet": frechet_distance,
}
OF_PATHS = {
    "marginal W": marginal_wasserstein,
    "marginal KDE-KL": marginal_kde_kl,
    "MDD": marginal_difference,
    "correlation": correlational_score,
    "autocorrelation": autocorrelation_difference,
    "skewness": skewness_difference,
    "kurtosis": kurtosis_difference,
    "KS": marginal_ks,
    "Sig-W1": signature_distance,
    "signature MMD": signature_mmd,
    "ordinal": lambda x, y, **more: ordinal_distance(x, y, order=3, **more),
}
OF_RUNS = {"D_stsp": state_space_divergence, "D_H": power_spectrum_distance}


# --- values that are no numbers when squared ------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_POPULATIONS)
def test_points_beyond_squares_are_refused(name):
    x, y = populations()
    with pytest.raises(ValueError, match=r"generated must be finite; got values beyond 1e\+150, .* in 1 of 50 rows"):
        OF_POPULATIONS[name](x, runaway(y, 1e200))


@pytest.mark.parametrize("name", [*OF_PATHS, "memorisation", "discriminative", "predictive"])
def test_paths_beyond_squares_are_refused_or_counted(name):
    more = {"memorisation": memorisation, "discriminative": discriminative_score, "predictive": predictive_score}
    metric = (OF_PATHS | more)[name]
    x, y = walks()
    for broken in (runaway(y, 1e200), Paths(range(6), runaway(y, 1e200))):
        with pytest.raises(ValueError, match=r"generated paths must be finite; got values beyond 1e\+150"):
            metric(x, broken)
    if name in ("KS", "marginal W"):
        result = metric(x, Paths(range(6), runaway(y, 1e200)), on_nan="count", n_bootstrap=0)
        assert result.n_generated == 49
        assert result.value == metric(x, y[1:], n_bootstrap=0).value


def test_long_runs_and_members_beyond_squares_are_refused():
    x = RNG.normal(size=(600, 2))
    for metric in OF_RUNS.values():
        with pytest.raises(ValueError, match=r"real paths must be finite; got values beyond 1e\+150"):
            metric(x * 1e200, x)
    outcome, members = RNG.normal(size=(9, 4)), RNG.normal(size=(9, 5, 4))
    for score in (crps, energy_score):
        with pytest.raises(ValueError, match=r"got values beyond 1e\+150, .* in 1 of 9 forecasts"):
            score(outcome, runaway(members, 1e200))
        assert score(outcome, runaway(members, 1e200), on_nan="count").extra["dropped"] == 1


# --- far origins, small units ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_POPULATIONS)
def test_a_far_origin_of_points_does_not_show(name):
    x, y = populations()
    far = OF_POPULATIONS[name](x + 1e8, y + 1e8, n_bootstrap=0)
    near = OF_POPULATIONS[name](x, y, n_bootstrap=0)
    assert far.value == pytest.approx(near.value, rel=1e-4, abs=1e-6)
    assert far.floor == pytest.approx(near.floor, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", [*OF_PATHS, "memorisation"])
def test_a_far_origin_of_paths_does_not_show(name):
    metric = OF_PATHS.get(name, memorisation)
    more = {} if name == "memorisation" else {"n_bootstrap": 0}
    x, y = walks()
    assert metric(x + 1e8, y + 1e8, **more).value == pytest.approx(metric(x, y, **more).value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_far_origin_of_long_runs_does_not_show(name):
    x, y = RNG.normal(size=(2, 600, 2)).cumsum(1)
    far = OF_RUNS[name](x + 1e8, y + 1e8, n_bootstrap=0).value
    assert far == pytest.approx(OF_RUNS[name](x, y, n_bootstrap=0).value, rel=1e-4)


def test_the_nearest_of_far_paths_is_found():
    x, y = walks(40, 30)
    near, far = (nearest(*path_sets(x + c, y + c, metric="gap")) for c in (0.0, 1e8))
    np.testing.assert_allclose(far, near, rtol=1e-5)
    assert memorisation(x + 1e8, x[:20] + 1e8, scale=None).extra["inward"] == 0.0


@pytest.mark.parametrize("unit", [1e-140, 1e-14, 1e14, 1e140])
def test_units_do_not_show_where_they_are_divided_out(unit):
    x, y = populations()
    for metric in (kde_kl, mmd):
        assert metric(unit * x, unit * y, n_bootstrap=0).value == pytest.approx(metric(x, y, n_bootstrap=0).value)
    assert wasserstein(unit * x, unit * y, n_bootstrap=0).value == pytest.approx(
        unit * wasserstein(x, y, n_bootstrap=0).value
    )


def test_units_of_weights_do_not_show():
    x, y = populations()
    w = RNG.random(60)
    expected = wasserstein_value(x, y, weights_real=w)
    for unit in (1e-300, 1e307):
        assert wasserstein_value(x, y, weights_real=unit * w) == pytest.approx(expected)


# --- runaways ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e10, 1e30, 1e100])
def test_a_runaway_does_not_hide_a_difference_of_densities(size):
    x, y = walks()
    assert marginal_kde_kl(x, runaway(y, size), n_bootstrap=0).value > 5
    assert kde_kl(x[:, 0], runaway(y[:, 0], size), n_bootstrap=0).value > 5


def test_the_grid_of_real_points_says_what_the_pooled_one_says(monkeypatch):
    x, y = RNG.normal(size=(500, 2)), RNG.normal(0.3, 1.4, size=(400, 2))
    pooled = kde_kl(x, y, n_bootstrap=0).extra["by_feature"]
    monkeypatch.setattr("gendyn.evaluation.density._COARSE", 1e-3)
    assert kde_kl(x, y, n_bootstrap=0).extra["by_feature"] == pytest.approx(pooled, rel=1e-3)


@pytest.mark.parametrize("size", [1e20, 1e60])
def test_networks_are_shown_runaways_that_they_can_read(size):
    x, y = walks(dim=2)
    with np.errstate(all="raise", under="ignore"):
        judged = discriminative_score(x, runaway(y, size), strong=False, n_trials=2, iterations=5)
        predicted = predictive_score(x, runaway(y, size), n_trials=2, iterations=5)
        labels = np.arange(50) % 2
        made = Paths(range(6), runaway(y, size), labels=labels)
        taught = utility(Paths(range(6), x[:50], labels=labels), made, n_trials=2, iterations=5)
    assert np.isfinite([judged.value, predicted.value, taught.value]).all()
    assert np.isfinite(strong_discriminative_score(x, runaway(y, size), n_trials=1, iterations=5).value)


def test_signatures_that_overflow_are_refused():
    x, y = walks()
    with pytest.raises(ValueError, match="signatures of depth 4 overflowed: generated paths run so much farther"):
        signature_distance(x, runaway(y, 1e60))
    assert np.isfinite(signature_distance(x, runaway(y, 1e60), depth=2, n_bootstrap=0).value)


# --- standing still, ties, few rows -------------------------------------------------------------------------------


def test_a_generator_that_stands_still_is_as_far_as_the_real_correlation_is_long():
    x, y = walks()
    y[..., 1] = 7.0
    truth = autocorrelation(path_sets(x, y, metric="gap")[0])
    moving = autocorrelation(path_sets(x, y, metric="gap")[1])[:, 0]
    expected = (np.linalg.norm(truth[:, 0] - moving) + np.linalg.norm(truth[:, 1])) / 2
    assert autocorrelation_difference(x, y, n_bootstrap=0).value == pytest.approx(expected)


def test_resamples_without_a_meaning_are_counted_and_left_out():
    x, y = populations(2, 2, 1)
    result = kde_kl(x, y)
    assert result.extra["bootstrap"]["undefined"] > 0
    assert result.low < result.value < result.high


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (4, 7), (60, 50)])
def test_p_values_of_few_paths_are_exact(n, m):
    x, y = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1)) + 10.0
    exact = stats.ks_2samp(x[:, 0], y[:, 0], method="exact").pvalue
    assert marginal_ks(x[:, None], y[:, None], n_bootstrap=0).p_value == pytest.approx(exact)


def test_p_values_of_states_that_are_integers(recwarn):
    for seed in range(40):
        x, y = np.random.default_rng(seed).integers(0, 3, (2, 30, 1, 1))
        assert 0 < marginal_ks(x, y, n_bootstrap=0).p_value <= 1
    assert not recwarn.list


def test_a_power_that_is_not_offered():
    x, y = populations()
    calls = (wasserstein, wasserstein_value, sliced_wasserstein, sliced_wasserstein_value, max_sliced_wasserstein)
    for metric in calls:
        for p in (0, 3):
            with pytest.raises(ValueError, match=f"p must be 1 or 2; got {p}"):
                metric(x, y, p=p)
    with pytest.raises(ValueError, match="p must be 1 or 2; got 3"):
        marginal_wasserstein(*walks(), p=3)


def test_closed_forms_are_not_computed_of_nan():
    bad = np.diag([1.0, np.nan])
    with pytest.raises(ValueError, match="means and covariances must be finite"):
        gaussian_frechet(np.zeros(2), bad, np.zeros(2), np.eye(2))
    for exponents in ([], [0.5, np.nan]):
        with pytest.raises(ValueError, match="exponents must be one or more numbers"):
            kaplan_yorke_dimension(exponents)


# --- sets that never meet -----------------------------------------------------------------------------------------


def test_sets_that_were_never_observed_together():
    x, y = walks()
    first, last = np.ones(x.shape, dtype=bool), np.ones(y.shape, dtype=bool)
    first[:, :3], last[:, 3:] = False, False
    real, generated = Paths(range(6), x, mask=first), Paths(range(6), y, mask=last)
    cases = {
        marginal_ks: "marginal KS found no time and channel that was observed in both",
        marginal_difference: "marginal difference found no time and channel at which real paths vary",
        memorisation: "path 0 shares no observed time and channel with any path that it could be near to",
        discriminative_score: "path 0 shares no observed time and channel",
    }
    for metric, words in cases.items():
        with pytest.raises(ValueError, match=words):
            metric(real, generated)


def test_held_out_paths_that_are_all_equal():
    x, y = walks()
    with pytest.raises(ValueError, match="all held-out paths are equal, so there is no diversity"):
        memorisation(np.repeat(x[:1] + 1, 5, axis=0), y, train=x)
