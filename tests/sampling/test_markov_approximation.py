"""The Markov approximation of fractional Brownian motion against its closed forms and the tables of the literature."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gamma, gammainc, hyperu

from gendyn.sampling.fractional import (
    KernelFit,
    MarkovApproximation,
    PastModes,
    fractional_covariance,
    past_covariance,
    published_rates,
    rates_between,
    sample_markov_approximation,
    sample_with_driver,
    variance_constant,
)
from gendyn.sampling.fractional.block_law import block_law
from gendyn.sampling.fractional.law_weights import increment_variance
from gendyn.sampling.fractional.shared_driver import driven_covariance

PAPER = published_rates(5, 20.0)

# Raw weights and relative error of five rates from .05 to 20 at horizon 1, from 50-digit arithmetic.
WEIGHTS = {
    ("I", 0.1): ([0.563514311625, -0.319462320331, 1.1767347272, -0.497989933827, 4.72487885261], 0.30724199),
    ("I", 0.3): ([0.804407690506, -0.111518979269, 0.48741450975, 0.084505755395, 1.18733240436], 0.016598085),
    ("I", 0.5): ([1.3954375242, -0.515245931715, 0.154406723008, -0.0658654018934, 0.0312670864051], 0.012796126),
    ("I", 0.7): ([2.26196624578, -1.42063606079, 0.0197880067353, -0.310697813139, -0.177009420887], 0.097862926),
    ("I", 0.9): ([3.25536364612, -2.69821865138, 0.107773933921, -0.479337876754, -0.0731764610476], 0.50950622),
    ("II", 0.1): ([140.085673559, -195.413175831, 66.5153264704, -12.7167432293, 7.75718908208], 0.22936248),
    ("II", 0.3): ([28.1741218048, -38.351106558, 13.2624729608, -2.29150608289, 1.77234642995], 0.0077618107),
    ("II", 0.5): ([1.405420962, -0.435882920462, 0.0316303425787, -0.00125264783413, 9.37438516e-5], 1.69e-11),
    ("II", 0.7): ([-0.934840807622, 3.26804960848, -1.77131087112, 0.115631402058, -0.315467837114], 1.3412089e-4),
    ("II", 0.9): ([1.72097749085, -0.0876828359634, -1.21842774764, -0.061703497411, -0.234941311875], 5.9125946e-5),
}
LONGER = {
    ("I", 0.3): ([0.78370836586, -0.0928833316045, 0.478691050638, 0.0690771862449, 1.20410025199], 0.01765672),
    ("II", 0.3): ([0.875944463295, -0.177784698503, 0.474215682039, 0.0959432194295, 1.18568936635], 0.0029823434),
    ("I", 0.7): ([2.29797701315, -1.69847957153, 0.3768255307, -0.694236073624, 0.0768825527592], 0.27318112),
    ("II", 0.7): ([2.69254571007, -1.86609635101, 0.0477017277916, -0.299503970276, -0.183621453452], 5.779e-5),
}


def normal_equations(hurst, rates, horizon, kind):
    """The closed forms of A, b and c, which the package does not use: they square the condition number."""
    a, g, t = hurst + 0.5, np.asarray(rates), horizon
    i, j = g[:, None], g
    if kind == "II":
        form = (t + np.expm1(-(i + j) * t) / (i + j)) / (i + j)
        linear = t * g**-a * gammainc(a, g * t) - a * g ** (-a - 1) * gammainc(a + 1, g * t)
    else:
        form = (2 * t + np.expm1(-i * t) / i + np.expm1(-j * t) / j) / (i + j)
        # e^z Q(a, z) = z^a U(1, 1 + a, z) / Gamma(a), which does not overflow.
        tail = (g * t) ** a * hyperu(1.0, 1 + a, g * t) / gamma(a)
        linear = 2 * t * g**-a - t**a / (g * gamma(a + 1)) + (np.exp(-g * t) - tail) * g ** (-a - 1)
    return form, linear, variance_constant(hurst, kind) * t ** (2 * hurst + 1) / (2 * hurst + 1)


@pytest.mark.parametrize(("horizon", "table"), [(1.0, WEIGHTS), (6.0, LONGER)])
def test_weights_of_the_published_grid(horizon, table):
    for (kind, hurst), (expected, error) in table.items():
        fit = KernelFit(PAPER, horizon, kind)
        assert fit.weights(hurst).numpy() == pytest.approx(expected, rel=2e-10, abs=2e-10)
        assert fit.relative_error(hurst).item() == pytest.approx(error, rel=6e-8 if error > 1e-4 else 2e-3)


# Relative error of K published rates at H = .1, .3, .5, .7, .9; two to four digits, as they were written down.
ERRORS = {
    ("I", 1): (0.530, 0.120, 0.264, 0.657, 0.951),
    ("I", 2): (0.321, 0.0366, 0.0164, 0.202, 0.703),
    ("I", 3): (0.309, 0.0169, 0.0156, 0.122, 0.564),
    ("I", 5): (0.307, 0.0166, 0.0128, 0.0979, 0.510),
    ("II", 1): (0.395, 0.0312, 0.0464, 0.153, 0.272),
    ("II", 2): (0.241, 0.0113, 9.2e-5, 0.0124, 0.0479),
    ("II", 3): (0.240, 8.4e-3, 1.1e-6, 1.5e-4, 7.4e-5),
    ("II", 5): (0.229, 7.8e-3, 1.7e-11, 1.3e-4, 5.9e-5),
}


@pytest.mark.parametrize(("kind", "count"), ERRORS)
def test_errors_of_the_published_grid(kind, count):
    found = KernelFit(published_rates(count, 20.0), 1.0, kind).relative_error(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    for value, error in zip(found.tolist(), ERRORS[kind, count], strict=True):
        assert value == pytest.approx(error, rel=0.04 if error < 0.01 else 0.006)


@settings(max_examples=8, deadline=None)
@given(hurst=st.floats(0.05, 0.95), horizon=st.floats(0.1, 30.0), kind=st.sampled_from(["I", "II"]))
def test_weights_solve_the_normal_equations(hurst, horizon, kind):
    rates = np.array([0.3, 2.0, 9.0, 150.0]) / horizon**0.5
    form, linear, total = normal_equations(hurst, rates, horizon, kind)
    fit = KernelFit(rates, horizon, kind)
    omega = fit.weights(hurst).numpy()
    assert form @ omega == pytest.approx(linear, rel=1e-7)
    other = omega * np.array([1.1, 0.9, 1.0, 1.05])
    cost = (other @ form @ other - 2 * linear @ other + total) / total
    assert fit.relative_error(hurst, torch.from_numpy(other)).item() == pytest.approx(cost, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_time_scales_out(kind):
    one = KernelFit(PAPER, 1.0, kind).weights(0.3)
    other = KernelFit(PAPER / 7.0, 7.0, kind).weights(0.3)
    torch.testing.assert_close(other, 7.0 ** (0.3 - 0.5) * one)


def test_weights_of_ill_conditioned_grids():
    # A direct solve of the normal equations gives .2207 for the first.
    for hurst, count, error in ((0.1, 8, 0.207244), (0.1, 10, 0.194893), (0.7, 8, 7.15242e-5), (0.7, 10, 4.69085e-5)):
        fit = KernelFit(published_rates(count, 20.0), 1.0, "II", ridge=0)
        assert fit.relative_error(hurst).item() == pytest.approx(error, rel=3e-6)
    with pytest.warns(UserWarning, match=r"weights of 8 rates reach 4.71e\+06; a ridge of 1e-06"):
        small = KernelFit(published_rates(8, 20.0), 1.0, "II").weights(0.1)
    assert small.abs().max().item() == pytest.approx(1.4e4, rel=0.05)
    assert fit.relative_error(0.7, fit.weights(0.7)).item() < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = KernelFit(published_rates(8, 20.0), 1.0, "II").relative_error(0.1).item()
    assert error == pytest.approx(0.2129, abs=3e-4)


def test_errors_of_grids_of_the_right_scale():
    expected = {7: (0.110349, 8.51195e-4, 6.9e-9, 7.76452e-7, 2.37563e-7)}
    fit = KernelFit(rates_between(0.005, 1.0, 7), 1.0, "II")
    found = fit.relative_error(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    for value, error in zip(found.tolist(), expected[7], strict=True):
        assert value == pytest.approx(error, rel=1e-2 if error < 1e-8 else 1e-5)
    omega = [1.012204404, -0.1707192028, 0.4581610657, 0.3878266581, 0.7419765116, 0.4273212699, 2.475766627]
    assert fit.weights(0.3).numpy() == pytest.approx(omega, abs=1e-9)
    ten = KernelFit(rates_between(5e-4, 1.0, 10), 1.0, "II").relative_error(torch.tensor([0.1, 0.3, 0.7, 0.9]))
    assert ten.numpy() == pytest.approx([0.0689, 2.09e-4, 3.3e-8, 7.1e-9], rel=1e-2)


def test_derivatives_of_the_weights_by_the_hurst_index():
    cases = {
        ("II", 0.7): [8.30447903, -9.610676419, 0.332508511, -0.8443705016, -0.1028175571],
        ("I", 0.3): [2.150329986, -0.6441345085, -2.278407044, 0.2454499327, -10.05385649],
    }
    for (kind, hurst), expected in cases.items():
        fit = KernelFit(PAPER, 1.0, kind)
        jacobian = torch.autograd.functional.jacobian(fit.weights, torch.tensor(hurst, dtype=torch.float64))
        assert jacobian.numpy() == pytest.approx(expected, rel=1e-8)
    both = fit.weights(torch.tensor([[0.3, 0.7]]))
    assert both.shape == (1, 2, 5)
    torch.testing.assert_close(both[0, 0], fit.weights(0.3))


@pytest.mark.parametrize(
    ("kind", "hurst", "largest", "mean_square"),
    [("I", 0.3, 0.0226, 4.6e-5), ("I", 0.7, 0.112, 1.5e-3), ("II", 0.3, 0.0163, 1.7e-5), ("II", 0.9, 1.7e-3, 8.5e-8)],
)
def test_covariance_of_the_published_approximation(kind, hurst, largest, mean_square):
    noise = MarkovApproximation(hurst, 1.0, rates=PAPER, kind=kind, past="stationary")
    t = torch.arange(1, 101, dtype=torch.float64) / 100
    gap = noise.covariance(t[:, None], t) - fractional_covariance(t[:, None], t, hurst, kind)
    assert gap.abs().max().item() == pytest.approx(largest, rel=0.03)
    assert gap.square().mean().item() == pytest.approx(mean_square, rel=0.04)


@pytest.mark.parametrize("past", ["modes", "stationary"])
@pytest.mark.parametrize("kind", ["I", "II"])
def test_moments_agree_with_each_other(kind, past):
    noise = MarkovApproximation(0.3, 2.0, rates=PAPER, kind=kind, past=past)
    t, d = torch.tensor([0.0, 0.4, 1.5]).double(), torch.tensor([0.5, 1e-6, 0.2]).double()
    difference = noise.covariance(t + d, t + d) - 2 * noise.covariance(t, t + d) + noise.covariance(t, t)
    torch.testing.assert_close(noise.increment_variance(t, d), difference, atol=1e-13, rtol=1e-6)
    # At the shortest times it is Brownian motion.
    short = noise.increment_variance(1.0, 1e-9).item() / 1e-9
    assert short == pytest.approx(noise.quadratic_variation.item(), rel=1e-5)
    if kind == "II":
        torch.testing.assert_close(noise.kernel_variance(t), noise.covariance(t, t))
        h = 1e-6
        slope = (noise.kernel_variance(0.3 + h) - noise.kernel_variance(0.3 - h)) / (2 * h)
        assert slope.item() == pytest.approx(noise.kernel(0.3).square().item(), rel=1e-6)


def test_at_one_half_it_is_brownian_motion():
    t = torch.linspace(0, 1, 21).double()
    noise = MarkovApproximation(0.5, 1.0, rates=PAPER, kind="II")
    assert noise.weights.sum().item() == pytest.approx(1.00001, abs=5e-6)
    torch.testing.assert_close(noise.covariance(t[:, None], t), torch.minimum(t[:, None], t), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hurst", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_few_modes_are_the_past(hurst):
    t = torch.linspace(0.005, 1.0, 200).double()
    modes = PastModes(hurst, 1.0)(t)
    past = past_covariance(t[:, None], t, hurst)
    whole = fractional_covariance(t, t, hurst, "I", "raw").sum()
    assert (past - modes @ modes.T).diagonal().abs().sum() / whole < 1.8e-5
    # Thus kind I comes as near as kind II, where the stationary start leaves an error of a half.
    if hurst == 0.9:
        gap = MarkovApproximation(0.9, 1.0).covariance(t[:, None], t) - fractional_covariance(t[:, None], t, 0.9)
        assert gap.abs().max() < 2e-3
        assert MarkovApproximation(0.9, 1.0).relative_error.item() < 1e-5
        assert MarkovApproximation(0.9, 1.0, rates=PAPER, past="stationary").relative_error.item() > 0.5


@pytest.mark.parametrize(
    ("hurst", "count", "rates", "pathwise", "law"),
    [(0.1, 5, (0.3, 3000), 0.410, 0.049), (0.1, 10, (0.1, 1e4), 0.378, 0.0044), (0.3, 7, (0.1, 3000), 0.023, 0.0122)],
)
def test_law_weights_have_increments_of_the_right_variance(hurst, count, rates, pathwise, law):
    t, d = torch.meshgrid(torch.tensor([0.0, 0.25, 0.5]), torch.logspace(-3, 0, 25), indexing="ij")
    t, d = t.double(), d.double()
    exact = increment_variance(t, d, hurst, "II") / variance_constant(hurst, "II")
    for weighting, worst in (("pathwise", pathwise), ("law", law)):
        noise = MarkovApproximation(
            hurst, 1.0, rates=np.geomspace(*rates, count), kind="II", weighting=weighting
        ).increment_variance(t, d)
        assert (noise / exact).log().abs().max().item() == pytest.approx(worst, rel=0.03)
    # Kind I is fitted with its modes.
    first = MarkovApproximation(hurst, 1.0, rates=np.geomspace(*rates, count), weighting="law")
    assert (first.increment_variance(t, d) / d ** (2 * hurst)).log().abs().max() < law


def test_the_variance_is_matched_at_the_horizon():
    for options in ({"kind": "II"}, {"past": "modes"}, {"past": "stationary"}):
        noise = MarkovApproximation([0.2, 0.7], 3.0, rates=PAPER, match_variance="terminal", **options)
        for feature, hurst in enumerate((0.2, 0.7)):
            assert noise.covariance(3.0, 3.0, feature).item() == pytest.approx(3.0 ** (2 * hurst), rel=1e-10)
    # Normalised kernel of the fractional bridge of the literature.
    for hurst, slope, values, kernel in (
        (0.2, 3.345535, (0.740491, 0.375355, 0.095023), 0.768859),
        (0.7, 0.392458, (0.379095, 0.039575, 0.001837), 1.032277),
    ):
        noise = MarkovApproximation(hurst, 1.0, rates=np.geomspace(0.1, 20, 5), kind="II", match_variance="terminal")
        assert noise.weights.sum().item() == pytest.approx(slope, abs=1e-6)
        assert noise.kernel_variance([0.5, 0.1, 0.01]).numpy() == pytest.approx(values, abs=1e-6)
        assert noise.kernel(0.5).item() == pytest.approx(kernel, abs=1e-6)


def test_a_block_is_its_steps_one_after_the_other():
    rates, omega = torch.tensor([0.1, 3.0, 1e4]).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    gaps = torch.tensor([0.3, 0.01, 2.0]).double()
    found = block_law(rates, omega, gaps)
    # Three exact steps of the state, stacked.
    mean, root = torch.eye(3).double(), torch.zeros(3, 0).double()
    means, roots = [], []
    for h in gaps:
        decay = torch.exp(-rates * h)
        values, vectors = torch.linalg.eigh(driven_covariance(rates, h))
        step = vectors * values.clamp_min(0).sqrt()
        before = mean, root
        mean, root = decay[:, None] * mean, torch.cat([decay[:, None] * root, step], 1)
        padded = torch.nn.functional.pad(before[1], (0, 3))
        means.append(omega @ (mean - before[0]))
        roots.append(omega @ (root - padded))
    width = root.shape[1]
    rows = torch.stack([torch.nn.functional.pad(r, (0, width - len(r))) for r in roots] + list(root))
    torch.testing.assert_close(found.forward, torch.cat([torch.stack(means), mean]).mT)
    torch.testing.assert_close(found.spread.mT @ found.spread, rows @ rows.mT, atol=1e-12, rtol=0)


@pytest.mark.parametrize("grid", ["regular", "irregular"])
@pytest.mark.parametrize("options", [{"kind": "II"}, {"past": "modes"}, {"past": "stationary"}])
def test_paths_have_the_covariance(options, grid):
    noise = MarkovApproximation([0.2, 0.8], 2.0, **options)
    times = (
        torch.linspace(0, 2, 81).double() if grid == "regular" else torch.tensor([0.01, 0.1, 0.15, 1.0, 2.0]).double()
    )
    n = 6000
    x = sample_markov_approximation(noise, times, n, seed=3)
    shown = slice(None, None, 20) if grid == "regular" else slice(None)
    for feature in range(2):
        exact = noise.covariance(times[shown, None], times[shown], feature)
        values = x[:, shown, feature]
        error = (exact.square() + exact.diagonal()[:, None] * exact.diagonal()).div(n).sqrt()
        assert ((values.T @ values / n - exact).abs() <= 4.5 * error + 1e-12).all()
    assert abs((x[:, -1, 0] * x[:, -1, 1]).mean()) < 0.1
    few = sample_markov_approximation(noise, times, 5, seed=3)
    torch.testing.assert_close(few, x[:5], atol=1e-12, rtol=0)


@pytest.mark.parametrize("grid", [[0.0, 0.3, 0.31, 1.0], [0.1, 0.5]])
def test_a_path_and_its_driver_are_right_together(grid):
    noise, n, times = MarkovApproximation(0.2, 1.0, kind="II"), 8000, torch.tensor(grid).double()
    paths, driver = sample_with_driver(noise, times, n, seed=1)
    # Cov[Y_k(t), B(s)] is the integral of the kernel over the part of s that t has seen.
    both = torch.minimum(times[:, None], times)
    later = times[:, None] - both
    decay = torch.exp(-later[..., None] * noise.decay_rates) - torch.exp(-times[:, None, None] * noise.decay_rates)
    across = (decay / noise.decay_rates) @ noise.weights[0]
    for x, y, exact in (
        (paths, paths, noise.covariance(times[:, None], times)),
        (driver, driver, both),
        (paths, driver, across),
    ):
        spread = x.square().mean(0)[:, None] * y.square().mean(0)
        assert ((x.T @ y / n - exact).abs() <= 4.5 * ((spread + exact.square()) / n).sqrt() + 1e-12).all()
    few = sample_with_driver(noise, times, 3, seed=1)
    torch.testing.assert_close(few[0], paths[:3])
    # A long grid of equal steps, and an odd one at its end.
    long = torch.cat([torch.linspace(0, 0.9, 91), torch.tensor([1.0])]).double()
    paths, _ = sample_with_driver(noise, long, 4000, seed=2)
    assert paths[:, -1].var().item() == pytest.approx(noise.covariance(1.0, 1.0).item(), rel=0.1)
    with pytest.raises(ValueError, match="drawn of kind II and one feature; got kind I and 1"):
        sample_with_driver(MarkovApproximation(0.2, 1.0), times, 1)


def test_very_fast_rates_need_no_short_steps():
    noise = MarkovApproximation(0.1, 1.0, rates=np.geomspace(0.1, 1e4, 8), kind="II")
    x = sample_markov_approximation(noise, torch.arange(0, 1.001, 0.01), 4000, seed=0, dtype=torch.float32)
    assert torch.isfinite(x).all()
    for k in (10, 100):
        assert x[:, k, 0].var().item() == pytest.approx(noise.covariance(k / 100, k / 100).item(), rel=0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MarkovApproximation(1.0, 1.0), "Hurst index must lie between 0 and 1"),
        (lambda: MarkovApproximation(math.nan, 1.0), "Hurst index must lie between 0 and 1"),
        (lambda: MarkovApproximation(0.3, 0.0), "horizon must be a positive time; got 0.0"),
        (lambda: MarkovApproximation(0.3, 1.0, count=0), "whole number of at least 1 rate; got 0"),
        (lambda: MarkovApproximation(0.3, 1.0, shortest=2.0), "shortest gap must lie above 0 and up to the horizon 1"),
        (lambda: MarkovApproximation(0.3, 1.0, rates=[1.0, 1.0]), "rates must increase, and no two be equal"),
        (lambda: MarkovApproximation(0.3, 1.0, rates=[0.0, 1.0]), "rates must be positive and finite"),
        (lambda: MarkovApproximation(0.3, 1.0, rates=[[1.0]]), "one row of at least one number"),
        (lambda: MarkovApproximation(0.3, 1.0, kind="III"), "kind must be 'I'"),
        (lambda: MarkovApproximation(0.3, 1.0, past="none"), "past must be one of 'modes', 'stationary'"),
        (lambda: MarkovApproximation(0.3, 1.0, weighting="best"), "weighting must be one of 'pathwise', 'law'"),
        (lambda: KernelFit(range(1, 13), 1.0, ridge=0), "12 rates need a ridge"),
        (lambda: KernelFit([1.0], 1.0, ridge=-1.0), "ridge must be a number of at least 0"),
        (lambda: KernelFit([1.0], 1.0).weights(torch.tensor([0.2, 1.2])), "Hurst indices must lie between 0 and 1"),
        (lambda: published_rates(3, 1.0), "fastest rate of the published grid must be above 1"),
        (lambda: PastModes(0.3, 1.0, rank=0), "rank must be a number of modes from 1 to 64"),
        (lambda: sample_markov_approximation(MarkovApproximation(0.3, 1.0), [-1.0, 1.0], 1), "begins at time 0"),
    ],
)
def test_sentences_about_approximations(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_warnings_name_the_grid():
    with pytest.warns(UserWarning, match=r"slowest rate, 6, forgets .* take rates_between\(0.001, 1, 2\)"):
        MarkovApproximation(0.3, 1.0, rates=[6.0, 100.0])
    with pytest.warns(UserWarning, match=r"fastest rate, 20, is too slow .* rates_between\(0.01, 1, 5\)"):
        MarkovApproximation(0.3, 1.0, rates=PAPER, shortest=0.01)
    assert published_rates(1, 20.0).tolist() == [1.0]
