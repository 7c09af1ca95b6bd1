"""Frechet distances against closed forms and the law of their bias."""

import numpy as np
import pytest
from gaussian_pair import FIRST, SECOND, SHIFT, gaussian_pair
from scipy import linalg, stats

from gendyn import Paths
from gendyn.evaluation import RandomConvolutions, frechet_distance, gaussian_frechet, rc_fid

# --- Gaussians -----------------------------------------------------------------------------------------------


def test_the_pair_in_the_plane():
    assert gaussian_frechet(np.zeros(2), FIRST, SHIFT, SECOND) == pytest.approx(2.574559, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_form_with_the_matrix_root(seed):
    generator = np.random.default_rng(seed)
    a, b = (generator.normal(size=(6, 9)) for _ in range(2))
    one, two, shift = a @ a.T, b @ b.T, generator.normal(size=6)
    expected = shift @ shift + np.trace(one + two - 2 * np.real(linalg.sqrtm(one @ two)))
    assert gaussian_frechet(np.zeros(6), one, shift, two) == pytest.approx(expected, rel=1e-9)
    assert gaussian_frechet(shift, two, np.zeros(6), one) == pytest.approx(expected, rel=1e-9)
    assert gaussian_frechet(shift, one, shift, one) == pytest.approx(0.0, abs=1e-9)
    turn = stats.ortho_group.rvs(6, random_state=seed)
    turned = gaussian_frechet(np.zeros(6), turn @ one @ turn.T, turn @ shift, turn @ two @ turn.T)
    assert turned == pytest.approx(expected, rel=1e-9)


def test_flat_gaussians_are_welcome():
    flat = np.diag([1.0, 0.0])
    assert gaussian_frechet(np.zeros(2), flat, np.zeros(2), np.zeros((2, 2))) == pytest.approx(1.0)


def test_shapes_must_fit():
    with pytest.raises(
        ValueError, match=r"means must be \(d,\) and covariances \(d, d\); got \(2,\), \(2, 2\), \(3,\)"
    ):
        gaussian_frechet(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


# --- populations ---------------------------------------------------------------------------------------------


def test_the_raw_value_is_that_of_moments():
    x, y = gaussian_pair(300, 0)
    result = frechet_distance(x, y[:250])
    expected = gaussian_frechet(x.mean(0), np.cov(x.T), y[:250].mean(0), np.cov(y[:250].T))
    assert result.extra["at_n"] == pytest.approx(expected, rel=1e-12)
    slope = np.polyfit([1, 2, 4], [result.extra[k] for k in ("at_n", "at_half", "at_quarter")], 1)
    assert result.value == pytest.approx(slope[1], rel=1e-9)
    assert result.low < 2.574559 < result.high


def test_weights_are_repeated_points():
    x, y = gaussian_pair(200, 0)
    counts = np.random.default_rng(0).integers(1, 3, 200)
    weighted = frechet_distance(x, y, weights_real=counts, n_bootstrap=0).extra["at_n"]
    repeated = np.repeat(x, counts, axis=0)
    assert weighted == pytest.approx(frechet_distance(repeated, y, n_bootstrap=0).extra["at_n"], rel=0.01)


@pytest.mark.parametrize(("dim", "size", "bias"), [(16, 1000, 0.15), (64, 1000, 2.25), (64, 4000, 0.56)])
def test_the_bias_of_white_features(dim, size, bias):
    generator = np.random.default_rng(0)
    results = [
        frechet_distance(generator.normal(size=(size, dim)), generator.normal(size=(size, dim)), n_bootstrap=0)
        for _ in range(4)
    ]
    assert np.mean([r.extra["at_n"] for r in results]) == pytest.approx(bias, rel=0.1)
    # Extrapolated, a tenth of it is left.
    assert abs(np.mean([r.value for r in results])) < 0.1 * bias


def test_how_many_points_it_takes():
    x, y = gaussian_pair(24, 0)
    with pytest.raises(ValueError, match=r"in 2 dimensions, which takes at least 24 real rows .*; got 23"):
        frechet_distance(x[:23], y)
    with pytest.raises(ValueError, match="at least 12 generated rows .*; got 11"):
        frechet_distance(x, y[:11])
    weights = np.zeros(24)
    weights[0] = 1.0
    with pytest.raises(ValueError, match="a quarter of the sample carries no weight"):
        frechet_distance(x, y, weights_real=weights)


# --- random convolutions -------------------------------------------------------------------------------------


def paths(n, seed, memory=0.8, length=24, dim=3):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n, length, dim))
    x = noise.copy()
    for k in range(1, length):
        x[:, k] = memory * x[:, k - 1] + np.sqrt(1 - memory**2) * noise[:, k]
    return x


def test_features_are_shares_and_maxima_of_convolutions():
    x = paths(80, 0)
    fitted = RandomConvolutions.fit(x, seed=1)
    assert sum(len(bank[2]) for bank in fitted.banks) == 64
    raw = []
    for dilation, padding, weights, biases in fitted.banks:
        assert weights.sum(2).abs().max() < 1e-12
        assert 1 <= dilation <= 23 / 6
        padded = np.pad(x, ((0, 0), (padding, padding), (0, 0)))
        length = padded.shape[1] - 6 * dilation
        out = np.stack(
            [
                sum(padded[:, tap * dilation : tap * dilation + length] @ kernel[:, tap] for tap in range(7))
                for kernel in weights.numpy()
            ],
            axis=1,
        )
        raw += [(out > biases.numpy()[:, None]).mean(2), out.max(2)]
    raw = np.concatenate(raw, axis=1)
    assert raw.shape == (80, 128)
    np.testing.assert_allclose((raw - raw.mean(0)) / raw.std(0) @ fitted.components, fitted.features(x), atol=1e-9)
    # Principal components: uncorrelated, of falling variance, orthonormal.
    covariance = np.cov(fitted.features(x).T)
    assert np.abs(covariance - np.diag(np.diagonal(covariance))).max() < 1e-9 * covariance.max()
    assert (np.diff(np.diagonal(covariance)) <= 1e-9).all()
    np.testing.assert_allclose(fitted.components.T @ fitted.components, np.eye(32), atol=1e-9)


def test_blocks_of_paths_do_not_show(monkeypatch):
    import gendyn.evaluation.random_convolutions as module

    x = paths(50, 0)
    fitted = RandomConvolutions.fit(x)
    whole = fitted.features(x)
    monkeypatch.setattr(module, "_BLOCK", 10_000)
    np.testing.assert_allclose(fitted.features(x), whole, rtol=1e-10, atol=1e-10)


def test_equal_laws_lie_at_zero_and_others_do_not():
    x, y = paths(600, 0), paths(600, 1)
    same = rc_fid(x, y)
    assert same.low < 0 < same.high
    assert same.extra["at_n"] > 4 * abs(same.value)
    for other in (y + 1.0, 1.2 * y, paths(600, 1, memory=0.6), np.sort(y, axis=1)):
        assert rc_fid(x, other, n_bootstrap=0).value > 10 * same.high


def test_units_do_not_matter():
    x, y = paths(300, 0), paths(200, 1, memory=0.5)
    units = np.array([1.0, 100.0, 0.01])
    assert rc_fid(x * units, y * units, n_bootstrap=0).value == pytest.approx(
        rc_fid(x, y, n_bootstrap=0).value, rel=1e-6
    )
    flat = x * [1.0, 1.0, 0.0]
    with pytest.warns(UserWarning, match="rc_fid leaves out channel 'x2'"):
        rc_fid(flat, y, n_bootstrap=0)


def test_what_random_convolutions_cannot_read():
    x = paths(300, 0, length=8)
    with pytest.raises(ValueError, match="rc_fid needs at least 7 times; the real paths have 6"):
        rc_fid(x[:, :6], x[:, :6])
    with pytest.raises(ValueError, match="at least 264 real rows .*; got 200"):
        rc_fid(x[:200], x)
    with pytest.raises(ValueError, match="times of unequal spacing.*got steps from 1 to 2.*signature_distance"):
        rc_fid(Paths([0, 1, 2, 3, 4, 5, 6, 8], x), x)
    with pytest.raises(ValueError, match="rc_fid needs complete paths"):
        rc_fid(Paths(range(8), x, mask=np.random.default_rng(0).random(x.shape) < 0.9), x)
    with pytest.raises(ValueError, match="rc_fid has no meaning for times of each path's own"):
        rc_fid(Paths(np.tile(np.arange(8.0), (300, 1)), x), x)
    with pytest.raises(ValueError, match="have 7 taps and need as many times; got 6"):
        RandomConvolutions.fit(x[:, :6])
