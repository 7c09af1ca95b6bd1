"""Koopman modes against operators whose spectrum is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn import Paths
from gendyn.evaluation import fourier, legendre, monomials, radial, residual_dmd, successors

RNG = np.random.default_rng(0)
MATRIX = np.array([[0.9, 0.2], [0.0, 0.5]])


def autoregression(n, a=0.8):
    """Return states of the stationary law and two independent successors of each."""
    x = RNG.normal(size=n) / np.sqrt(1 - a**2)
    return x, a * x + RNG.normal(size=n), a * x + RNG.normal(size=n)


# --- deterministic systems ---------------------------------------------------------------------------------


def test_a_linear_map_has_products_of_its_eigenvalues():
    x = RNG.normal(size=(1000, 2))
    modes = residual_dmd(monomials(2), x, x @ MATRIX.T)
    np.testing.assert_allclose(modes.eigenvalues, [1, 0.9, 0.81, 0.5, 0.45, 0.25], atol=1e-12)
    assert modes.residuals.max() < 1e-13
    assert modes.kept.all()
    other = RNG.uniform(-2, 2, size=(300, 2))
    assert modes.residuals_on(other, other @ MATRIX.T).max() < 1e-12


def test_eigenfunctions_are_multiplied_by_their_eigenvalue():
    x = RNG.normal(size=(400, 2))
    modes = residual_dmd(monomials(2), x, x @ MATRIX.T)
    g, at_image = modes.eigenfunctions(x), modes.eigenfunctions(x @ MATRIX.T)
    np.testing.assert_allclose(at_image, g * modes.eigenvalues, atol=1e-10)
    np.testing.assert_allclose((np.abs(g) ** 2).mean(0), 1.0)


def test_a_rotation_has_its_spectrum_on_the_circle():
    angle = RNG.uniform(0, 2 * np.pi, size=500)
    modes = residual_dmd(fourier(5), angle, angle + np.sqrt(2), time_step=0.5)
    assert modes.residuals.max() < 1e-13
    np.testing.assert_allclose(np.abs(modes.eigenvalues), 1.0)
    wanted = np.exp(1j * np.sqrt(2) * np.arange(-5, 6))
    assert max(np.abs(modes.eigenvalues - w).min() for w in wanted) < 1e-12
    table = modes.table
    assert np.isinf(table["half_life"]).all()
    assert table["period"].map(lambda p: np.isclose(p, 0.5 * 2 * np.pi / np.sqrt(2))).sum() == 2


@pytest.mark.parametrize("degree", [5, 10, 20])
def test_of_the_logistic_map_only_the_constant_survives(degree):
    x = np.empty(5001)
    x[0] = 0.3
    for k in range(5000):
        x[k + 1] = 4 * x[k] * (1 - x[k])
    modes = residual_dmd(legendre(degree), x[:-1], x[1:])
    assert modes.kept.tolist() == [True] + [False] * degree
    assert modes.eigenvalues[0] == pytest.approx(1.0, abs=1e-9)
    others = modes.residuals[1:]
    assert others.min() >= 0.89
    # For a map that preserves its measure the residual of an eigenpair of the compression says nothing else.
    np.testing.assert_allclose(others, np.sqrt(1 - np.abs(modes.eigenvalues[1:]) ** 2), atol=1e-2)


def test_the_pseudospectrum_of_a_normal_operator_is_the_distance_from_its_spectrum():
    angle = 2 * np.pi * np.arange(400) / 400
    modes = residual_dmd(fourier(4), angle, angle + 0.7)
    z = RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))
    distance = np.abs(z[..., None] - modes.eigenvalues).min(-1)
    np.testing.assert_allclose(modes.pseudospectrum(z), distance, atol=1e-7)
    assert modes.pseudospectrum(modes.eigenvalues).max() < 1e-6


def test_the_pseudospectrum_is_below_every_residual():
    x = RNG.normal(size=(500, 1))
    modes = residual_dmd(monomials(3), x, np.sin(2 * x))
    assert (modes.pseudospectrum(modes.eigenvalues) <= modes.residuals + 1e-7).all()


# --- random systems ----------------------------------------------------------------------------------------


def test_one_successor_holds_the_variance():
    x, y, _ = autoregression(100_000)
    modes = residual_dmd(monomials(1), x, y, stochastic=True)
    assert modes.eigenvalues[1].real == pytest.approx(0.8, abs=0.01)
    assert modes.residuals[1] == pytest.approx(np.sqrt(1 - 0.8**2), abs=0.01)
    assert modes.includes_variance
    assert modes.kept.all()
    assert not residual_dmd(monomials(1), x, y).kept[1]
    assert modes.variances is None


def test_two_successors_are_free_of_it():
    modes = [residual_dmd(monomials(1), *autoregression(n)) for n in (1000, 30_000, 1_000_000)]
    for result in modes:
        assert result.residuals[1] < 2 * result.noise[1]
        assert not result.includes_variance
    assert modes[0].noise[1] > 2 * modes[1].noise[1] > 4 * modes[2].noise[1] > 0
    assert modes[2].residuals[1] < 0.05
    assert modes[2].kept.all()
    assert modes[2].variances[1] == pytest.approx(0.36, abs=0.005)
    assert modes[2].table["half_life"][1] == pytest.approx(np.log(2) / -np.log(0.8), rel=0.01)


def test_a_false_mode_of_a_random_system_is_still_rejected():
    # x^3 is not invariant with 1 alone: its own mode is an artefact, variance or not.
    x, y, y_again = autoregression(200_000)
    modes = residual_dmd(lambda z: np.hstack([np.ones_like(z), np.tanh(3 * z)]), x, y, y_again)
    assert modes.residuals[1] > 0.1
    assert modes.residuals[1] > 2 * modes.noise[1]
    assert not modes.kept[1]


# --- data --------------------------------------------------------------------------------------------------


def test_residuals_on_other_pairs_are_honest():
    few, many = RNG.normal(size=(40, 1)), RNG.normal(size=(20_000, 1))
    with pytest.warns(UserWarning, match="40 pairs are few for 21 functions.*residuals_on"):
        modes = residual_dmd(radial(np.linspace(-2, 2, 20), 0.3), few, np.sin(3 * few))
    honest = modes.residuals_on(many, np.sin(3 * many))
    # No eigenvalue of a map with an invariant measure lies outside the unit circle: these are artefacts.
    outside = np.abs(modes.eigenvalues) > 1.01
    assert outside.any()
    assert (honest[outside] > 2 * modes.residuals[outside]).all()


def test_functions_that_depend_on_others_are_left_out():
    x = RNG.normal(size=(300, 2))
    double = residual_dmd(lambda z: np.hstack([monomials(2)(z), monomials(1)(z)]), x, x @ MATRIX.T)
    np.testing.assert_allclose(double.eigenvalues, [1, 0.9, 0.81, 0.5, 0.45, 0.25], atol=1e-9)
    assert double.coefficients.shape == (9, 6)
    assert double.residuals_on(x, x @ MATRIX.T).max() < 1e-9


@given(st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_weights_are_repeated_pairs(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 1))
    y = np.cos(x) + 0.1 * rng.normal(size=(60, 1))
    counts = rng.integers(1, 4, 60)
    one = residual_dmd(monomials(2), x, y, weights=counts / counts.sum())
    two = residual_dmd(monomials(2), np.repeat(x, counts, 0), np.repeat(y, counts, 0))
    np.testing.assert_allclose(one.residuals, two.residuals, atol=1e-8)
    np.testing.assert_allclose(np.abs(one.eigenvalues), np.abs(two.eigenvalues), atol=1e-8)


def test_the_basis_of_the_span_does_not_show():
    x = RNG.uniform(size=(800, 1))
    y = 3.7 * x * (1 - x)
    one, two = (residual_dmd(d, x, y) for d in (monomials(5), legendre(5)))
    np.testing.assert_allclose(one.residuals, two.residuals, atol=1e-8)
    np.testing.assert_allclose(np.abs(one.eigenvalues), np.abs(two.eigenvalues), atol=1e-8)


def test_successors_pool_paths_and_leave_gaps_out():
    values = np.arange(10.0).reshape(2, 5, 1)
    x, y = successors(Paths(range(5), values), lag=2)
    assert (y - x == 2).all()
    assert x.ravel().tolist() == [0, 1, 2, 5, 6, 7]
    mask = np.ones((2, 5), dtype=bool)
    mask[0, 2] = False
    x, y = successors(Paths(range(5), values, mask=mask))
    assert x.ravel().tolist() == [0, 3, 5, 6, 7, 8]
    assert (y - x == 1).all()


# --- dictionaries ------------------------------------------------------------------------------------------


def test_sizes_of_dictionaries():
    x = RNG.uniform(size=(7, 3))
    assert monomials(4)(x).shape == (7, 35)
    assert legendre(4)(x).shape == (7, 35)
    assert fourier(2)(x).shape == (7, 125)
    assert radial(RNG.normal(size=(9, 3)), 1.0)(x).shape == (7, 10)


def test_legendre_polynomials_are_orthogonal_on_their_box():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    values = legendre(6, -3.0, 5.0)(1 + 4 * nodes[:, None])
    gram = values.T @ (weights[:, None] * values)
    np.testing.assert_allclose(gram, np.diag(2 / (2 * np.arange(7) + 1)), atol=1e-12)


def test_waves_are_orthonormal_over_a_period():
    values = fourier(3, 2.5)(2.5 * np.arange(50)[:, None] / 50)
    np.testing.assert_allclose(values.conj().T @ values / 50, np.eye(7), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: residual_dmd(monomials(1), x, x[:5]), r"same shape; got \(9, 1\) and \(5, 1\)"),
        (lambda x: residual_dmd(monomials(1), x, x, x[:5]), "x and y_again must have the same shape"),
        (lambda x: residual_dmd(monomials(20), x, x), "21 functions need at least as many pairs; got 9"),
        (lambda x: residual_dmd(monomials(1), x * np.nan, x), "x must be finite; got NaN or infinity in 9 of 9"),
        (lambda x: residual_dmd(monomials(1), x, x, weights=[1.0]), r"of shape \(9,\); got shape \(1,\)"),
        (lambda x: residual_dmd(monomials(1), x, x, tolerance=-1), "tolerance must be at least 0"),
        (lambda x: residual_dmd(lambda z: z[0], x, x), r"must return values \(9, K\); got shape \(1,\)"),
        (lambda x: residual_dmd(lambda z: z / 0.0, x, x), "values that are not finite"),
        (lambda x: residual_dmd(lambda z: 0 * z, x, x), "all functions of the dictionary vanish"),
        (lambda x: monomials(-1), "degree must be a whole number"),
        (lambda x: legendre(2, 1.0, 0.0), "low must lie below high"),
        (lambda x: fourier(2, 0.0), "period must be positive"),
        (lambda x: radial([[0.0]], 0.0), "width must be positive"),
        (lambda x: radial([[0.0, 1.0]], 1.0)(x), "centres have 2 features, but states have 1"),
        (lambda x: successors(Paths([0, 1, 3], np.zeros((1, 3, 1)))), "evenly spaced"),
        (lambda x: successors(Paths(range(3), np.zeros((1, 3, 1)), mask=[[1, 0, 1]])), "no two states 1 steps apart"),
        (lambda x: successors(Paths(range(3), np.zeros((1, 3, 1))), lag=3), "at least 4 times"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*are few for", "ignore:divide by zero")
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(1.0 + np.arange(9.0)[:, None])
