"""Fractional Brownian motion against its closed forms: constants, covariances, spectrum, and the law of samples."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest

from gendyn.sampling.fractional import (
    MarkovApproximation,
    fractional_covariance,
    noise_autocovariance,
    noise_spectrum,
    one_step_predictions,
    past_covariance,
    sample_fractional_brownian_motion,
    sample_fractional_noise,
    sample_gaussian,
    sample_markov_approximation,
    sample_stationary,
    sample_with_driver,
    stream_fractional_noise,
    variance_constant,
)
from gendyn.sampling.fractional.gaussian_rows import row_normals

HURST = (0.1, 0.3, 0.5, 0.7, 0.9)
every_hurst = pytest.mark.parametrize("hurst", HURST)


@pytest.mark.parametrize(
    ("hurst", "first", "second"),
    [
        (0.1, 3.5244806625, 2.2545946401),
        (0.3, 1.3833763219, 1.2296213383),
        (0.5, 1.0, 1.0),
        (0.7, 0.9950881359, 0.8472800032),
        (0.9, 1.9302629046, 0.7057029812),
    ],
)
def test_variance_constants(hurst, first, second):
    assert variance_constant(hurst, "I") == pytest.approx(first, abs=1e-10)
    assert variance_constant(hurst, "II") == pytest.approx(second, abs=1e-10)
    # The other form of the first constant, which is 0 / 0 at one half.
    if hurst != 0.5:
        other = math.gamma(1 - 2 * hurst) * math.cos(math.pi * hurst) / (math.pi * hurst)
        assert variance_constant(hurst, "I") == pytest.approx(other, rel=1e-12)


def test_raw_covariance_of_the_second_kind():
    assert fractional_covariance(0.3, 0.7, 0.3, "II", "raw").item() == pytest.approx(0.4004868036, abs=1e-10)
    assert fractional_covariance(0.3, 0.3, 0.3, "II", "raw").item() == pytest.approx(0.5970959754, abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(hurst=st.floats(0.05, 0.95), s=st.floats(0.01, 3.0), t=st.floats(0.01, 3.0))
def test_covariance_of_the_second_kind_is_the_integral_of_the_kernel(hurst, s, t):
    low, high = min(s, t), max(s, t)
    if high - low < 1e-3 * high:
        return
    a = hurst + 0.5
    # (s-u)^(a-1) is a weight that quad integrates exactly.
    expected = quad(lambda u: (high - u) ** (a - 1), 0.0, low, weight="alg", wvar=(0.0, a - 1), epsabs=1e-12)[0]
    found = fractional_covariance(s, t, hurst, "II", "raw").item() * math.gamma(a) ** 2
    assert found == pytest.approx(expected, rel=2e-7)


@every_hurst
@pytest.mark.parametrize("kind", ["I", "II"])
def test_covariances_are_symmetric_self_similar_and_positive(hurst, kind):
    t = torch.linspace(0.0, 2.0, 41, dtype=torch.float64)
    c = fractional_covariance(t[:, None], t, hurst, kind)
    torch.testing.assert_close(c, c.T)
    torch.testing.assert_close(c.diagonal(), t.pow(2 * hurst))
    torch.testing.assert_close(fractional_covariance(3 * t[:, None], 3 * t, hurst, kind), 3 ** (2 * hurst) * c)
    assert torch.linalg.eigvalsh(c[1:, 1:])[0] > 0
    # At one half both are Brownian motion.
    half = fractional_covariance(t[:, None], t, 0.5, kind)
    torch.testing.assert_close(half, torch.minimum(t[:, None], t))


@every_hurst
def test_the_past_of_the_first_kind_is_what_the_second_lacks(hurst):
    # B^I = B^II + M with M independent of the driver after 0, hence cov_I - cov_II is a covariance.
    t = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
    past = past_covariance(t[:, None], t, hurst)
    assert torch.linalg.eigvalsh(past)[0] > -1e-10
    assert past[-1, -1].item() == pytest.approx(variance_constant(hurst, "I") - variance_constant(hurst, "II"))


@pytest.mark.parametrize(("hurst", "lag_one"), list(zip(HURST, (-0.4257, -0.2421, 0.0, 0.3195, 0.7411), strict=True)))
def test_autocovariance_of_the_noise(hurst, lag_one):
    assert noise_autocovariance(1, hurst).item() == pytest.approx(lag_one, abs=5e-5)
    t = torch.arange(33, dtype=torch.float64) * 0.25
    increments = fractional_covariance(t[:, None], t, hurst).diff(dim=0).diff(dim=1)
    torch.testing.assert_close(increments[5, 5:], noise_autocovariance(torch.arange(27), hurst, 0.25))
    # Far away it is H (2H - 1) k^(2H - 2), to all digits of the second difference.
    far = noise_autocovariance(1e7, hurst).item()
    assert far == pytest.approx(hurst * (2 * hurst - 1) * 1e7 ** (2 * hurst - 2), rel=1e-6, abs=1e-300)


@every_hurst
def test_spectrum_is_the_transform_of_the_autocovariance(hurst):
    for lag in (0, 1, 3):
        # f ~ x^(1 - 2H) at 0: a weight that quad integrates exactly.
        def smooth(x, lag=lag):
            x = max(x, 1e-9)  # the rule evaluates both ends
            return noise_spectrum(x, hurst).item() * x ** (2 * hurst - 1) * math.cos(lag * x)

        value = 2 * quad(smooth, 0.0, math.pi, weight="alg", wvar=(1 - 2 * hurst, 0.0), epsabs=1e-11)[0]
        assert value == pytest.approx(noise_autocovariance(lag, hurst).item(), abs=1e-8)


@every_hurst
def test_the_circulant_matrix_has_no_negative_eigenvalue(hurst):
    for size in (1, 2, 3, 100, 1000):
        rho = noise_autocovariance(torch.arange(size + 1), hurst)
        row = torch.cat([rho, rho[1:-1].flip(0)])
        assert torch.fft.fft(row).real.min() > -1e-12


@every_hurst
@pytest.mark.parametrize("grid", ["regular", "irregular"])
@pytest.mark.parametrize("kind", ["I", "II"])
def test_samples_have_the_covariance(hurst, kind, grid):
    times = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0] if grid == "regular" else [0.0, 0.1, 0.15, 1.0, 2.0])
    n = 20_000
    x = sample_fractional_brownian_motion(hurst, times, n, kind=kind, seed=3)[:, :, 0]
    assert x.shape == (n, 5)
    assert not x[:, 0].any()
    exact = fractional_covariance(times[:, None], times, hurst, kind)
    error = (exact.square() + exact.diagonal()[:, None] * exact.diagonal()).div(n).sqrt()
    assert ((x.T @ x / n - exact).abs() <= 4.5 * error + 1e-12).all()
    raw = sample_fractional_brownian_motion(hurst, times, 10, kind=kind, normalize="raw", seed=3)[:, :, 0]
    torch.testing.assert_close(raw, x[:10] * math.sqrt(variance_constant(hurst, kind)))


def test_noise_of_several_features():
    x = sample_fractional_noise([0.2, 0.8], n=4000, steps=32, step=0.25, seed=0)
    assert x.shape == (4000, 32, 2)
    lag = (x[:, 1:] * x[:, :-1]).mean((0, 1)) / x.square().mean((0, 1))
    expected = torch.cat([noise_autocovariance([1], h) for h in (0.2, 0.8)])
    torch.testing.assert_close(lag, expected, atol=0.015, rtol=0)
    assert abs((x[..., 0] * x[..., 1]).mean()) < 0.01
    assert sample_fractional_noise(0.3, 2, 1, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("times", [[0.0, 1.0, 2.0, 3.0], [0.0, 0.3, 2.0]])
def test_a_path_depends_on_its_number_and_the_seed_alone(times):
    state, other = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    few = sample_fractional_brownian_motion(0.3, times, 5, seed=1)
    many = sample_fractional_brownian_motion(0.3, times, 1000, seed=1)
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, sample_fractional_brownian_motion(0.3, times, 5, seed=2))
    generator = torch.Generator().manual_seed(5)
    first = sample_fractional_brownian_motion(0.3, times, 5, seed=generator)
    assert not torch.equal(first, sample_fractional_brownian_motion(0.3, times, 5, seed=generator))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == other).all()


@pytest.mark.parametrize("columns", [1, 7, 3000])
def test_normals_of_rows_are_normal_and_know_only_their_row(columns):
    n = 300_000 // columns
    drawn = torch.cat([normals.clone() for _, normals in row_normals(n, columns, 5)])
    assert drawn.shape == (n, columns)
    assert kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(drawn.pow(4).mean().item() - 3) < 4.5 * math.sqrt(96 / drawn.numel())
    # The two of a pair, their squares, and neighbours are uncorrelated.
    pairs = (columns + 1) // 2
    for one, other in ((drawn[:, : columns - pairs], drawn[:, pairs:]), (drawn[:-1], drawn[1:])):
        for x, y in ((one, other), (one.square() - 1, other.square() - 1)):
            if x.numel():
                assert abs((x * y).mean().item()) < 4.5 * x.square().mean().item() / x.numel() ** 0.5
    few = torch.cat([normals.clone() for _, normals in row_normals(21, columns, 5)])
    assert torch.equal(few, drawn[:21])


def test_both_ways_to_draw_a_stationary_series_agree_in_law():
    # An autocovariance whose embedding has a negative eigenvalue is drawn by Cholesky.
    lags = torch.arange(6, dtype=torch.float64)
    rho = torch.exp(-0.1 * lags.square())
    embedded = torch.fft.rfft(torch.cat([rho, rho[1:-1].flip(0)])).real
    assert embedded.min() < -1e-3
    x = sample_stationary(rho, 40_000, seed=0)
    torch.testing.assert_close(x.T @ x / 40_000, rho[(lags[:, None] - lags).abs().long()], atol=0.03, rtol=0)


@every_hurst
def test_predictions_are_those_of_the_covariance_matrix(hurst):
    # Independent: condition the Toeplitz matrix by solving, beyond the first enlargement of the table as well.
    lags = torch.arange(300)
    rho = noise_autocovariance(lags, hurst)
    matrix = rho[(lags[:, None] - lags).abs()]
    found = list(islice(one_step_predictions(lambda m: noise_autocovariance(torch.arange(m), hurst).numpy()), 300))
    for k in (1, 7, 299):
        phi = torch.linalg.solve(matrix[:k, :k], rho[1 : k + 1])
        assert found[k][0] == pytest.approx(phi.numpy(), abs=1e-9)
        assert found[k][1] == pytest.approx((rho[0] - rho[1 : k + 1] @ phi).item(), rel=1e-9)
    logdet = sum(math.log(v) for _, v in found)
    assert logdet == pytest.approx(torch.linalg.slogdet(matrix)[1].item(), abs=1e-8)


def test_a_stream_has_the_law_of_the_noise():
    n = 20_000
    x = torch.stack(list(islice(stream_fractional_noise(0.2, n, step=0.5, seed=4), 6)), 1)
    lags = torch.arange(6)
    exact = noise_autocovariance(lags, 0.2, 0.5)[(lags[:, None] - lags).abs()]
    error = (exact.square() + exact[0, 0] ** 2).div(n).sqrt()
    assert ((x.T @ x / n - exact).abs() <= 4.5 * error).all()
    # One stream goes on beyond the room it was given at first.
    assert len(list(islice(stream_fractional_noise(0.8, 1, seed=4), 600))) == 600


def test_a_row_without_variance_is_zero():
    assert not sample_gaussian(torch.zeros(3, 3), 4).any()
    assert sample_stationary(torch.tensor([2.0]), 5).shape == (5, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: variance_constant(0.0), "Hurst index must lie between 0 and 1, both excluded; got 0.0"),
        (lambda: variance_constant(float("nan")), "Hurst index must lie between 0 and 1"),
        (lambda: variance_constant(0.5, "III"), "kind must be 'I' .* or 'II' .*; got 'III'"),
        (lambda: fractional_covariance(1.0, 1.0, 0.5, normalize="half"), "normalize must be one of unit, raw"),
        (lambda: fractional_covariance(-1.0, 1.0, 0.5), "must be finite and not negative"),
        (lambda: noise_autocovariance(1, 0.5, 0.0), "step must be positive; got 0.0"),
        (lambda: noise_spectrum([0.0], 0.5), "frequencies must lie above 0 and up to pi"),
        (lambda: sample_fractional_brownian_motion(0.5, [-1.0, 1.0], 1), "begins at time 0; got -1"),
        (lambda: sample_fractional_brownian_motion(0.5, [1.0, 1.0], 1), "times must increase strictly"),
        (lambda: sample_fractional_noise(0.5, 1, 0), "a series needs at least one step; got 0"),
        (lambda: sample_fractional_brownian_motion([], [1.0], 1), "one for each feature; got none"),
        (lambda: next(stream_fractional_noise(1.0, 1)), "Hurst index must lie between 0 and 1"),
        (lambda: list(islice(one_step_predictions(np.ones), 2)), "after 1 values the next one is certain"),
        (lambda: sample_stationary(torch.tensor([[1.0]]), 1), "one row of finite numbers"),
        (lambda: sample_stationary(torch.tensor([1.0, 2.0]), 1), "this is not a covariance"),
        (lambda: sample_gaussian(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1), "an eigenvalue of -1"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_numpy_times_are_read():
    assert sample_fractional_brownian_motion(0.5, np.linspace(0, 1, 9), 2).shape == (2, 9, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_fractional_noise(0.3, 1, 4, dtype=torch.int64),
        lambda: sample_fractional_brownian_motion(0.3, [0.0, 1.0], 1, dtype=torch.int64),
        lambda: sample_markov_approximation(MarkovApproximation(0.3, 1.0), [0.0, 1.0], 1, dtype=torch.int64),
        lambda: sample_with_driver(MarkovApproximation(0.3, 1.0, kind="II"), [0.0, 1.0], 1, dtype=torch.bool),
    ],
)
def test_paths_are_real_numbers(call):
    with pytest.raises(TypeError, match="dtype must be a floating type, such as torch.float32; got torch"):
        call()


def test_an_eigenvalue_that_rounding_leaves_below_zero_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendyn.sampling.fractional.exact_paths.circulant_weights", lambda rho: None)
    with pytest.raises(ValueError, match="over 77 steps comes out with an eigenvalue below zero .* 0.123"):
        sample_fractional_noise(0.123, 1, 77)
