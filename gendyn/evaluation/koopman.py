r"""Koopman modes that can be trusted: dynamic mode decomposition with residuals.

The Koopman operator of :math:`x \mapsto y` acts on functions, :math:`(\mathcal K g)(x) = E[g(y) \mid x]`. On the span
of a dictionary, with values :math:`\Psi_X, \Psi_Y` at M pairs of weights w and :math:`Q R = \sqrt w\, \Psi_X`,
:math:`C = \sqrt w\, \Psi_Y R^{-1}`, its compression is :math:`A = Q^* C`. Each eigenpair :math:`A v = \lambda v` has a
residual

.. math:: \mathrm{res}(\lambda, v)^2 = v^* \bigl(L - \lambda A^* - \bar\lambda A + \lvert \lambda \rvert^2\bigr) v
    \approx \lVert (\mathcal K - \lambda) g \rVert^2, \qquad \lVert v \rVert = 1,

with :math:`L = C^* C`; a mode with a large residual is an artefact of the dictionary. The smallest value of the
right-hand side over v is the pseudospectrum's :math:`\tau(z)^2` at :math:`\lambda = z` (Colbrook and Townsend 2024).

Where y is random, :math:`C^* C` holds the conditional variance of :math:`g(y)` as well. From two independent successors
:math:`y, y'` of each x, :math:`L = \operatorname{sym}(C(y)^* C(y'))` is free of it (Colbrook, Li, Raut and Townsend
2024); from one successor the residual is that of mode and variance together, and no reason to reject a mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import qr, solve_triangular

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor, warn_user
from gendyn.evaluation.dictionary import Dictionary
from gendyn.evaluation.points import Array
from gendyn.evaluation.trajectory import trajectories

__all__ = ["KoopmanModes", "residual_dmd", "successors"]

Matrix = np.ndarray[Any, Any]

_DEPENDENT = 1e-10
"""A function whose part beyond the others is smaller than this, relative to the largest, is left out."""

_ROUNDING = 1e-12
"""Angles and distances from the unit circle below this are zero."""


@dataclass(frozen=True)
class KoopmanModes:
    """Eigenvalues, eigenfunctions and residuals, in the order of falling modulus.

    Attributes
    ----------
    eigenvalues
        ``(K,)`` complex, per step.
    residuals
        ``(K,)``; of mode and variance together where ``includes_variance``.
    noise
        ``(K,)`` what chance alone can make of the residual of a true mode: the root of 1.96 standard errors of its
        square.
    variances
        ``(K,)`` conditional variance of each eigenfunction, from two successors; ``None`` where there was one.
    kept
        ``(K,)`` whether the residual is within ``tolerance``; all true where ``includes_variance``.
    tolerance
        As given.
    includes_variance
        Whether successors were random and only one of each was given.
    time_step
        Time of one step.
    coefficients
        ``(n, K)``: eigenfunctions are ``dictionary(x) @ coefficients``, of unit norm over the data.
    dictionary
        The functions.
    n_pairs
        Pairs behind it.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> modes = residual_dmd(lambda z: np.hstack([z, z**2]), x, 0.9 * x)
    >>> modes.eigenvalues.real.round(6).tolist(), bool(modes.kept.all())
    ([0.9, 0.81], True)
    """

    eigenvalues: Matrix
    residuals: Array
    noise: Array
    variances: Array | None
    kept: np.ndarray[Any, np.dtype[np.bool_]]
    tolerance: float
    includes_variance: bool
    time_step: float
    coefficients: Matrix
    dictionary: Dictionary = field(repr=False)
    n_pairs: int
    _compression: Matrix = field(repr=False)
    _square: Matrix = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"KoopmanModes({int(self.kept.sum())} of {len(self.kept)} modes within {self.tolerance:g}, "
            f"{self.n_pairs} pairs)"
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per mode: eigenvalue, modulus, period and half-life in time units, residual, kept."""
        modulus, angle = np.abs(self.eigenvalues), np.abs(np.angle(self.eigenvalues))
        turns, decays = angle > _ROUNDING, modulus < 1 - _ROUNDING
        with np.errstate(divide="ignore"):  # an eigenvalue of 0 has a half-life of 0
            decay = -np.log(np.where(decays, modulus, 0.5))
        columns = {
            "eigenvalue": self.eigenvalues,
            "modulus": modulus,
            "period": np.where(turns, 2 * np.pi * self.time_step / np.where(turns, angle, 1.0), np.inf),
            "half_life": np.where(decays, math.log(2) * self.time_step / decay, np.inf),
            "residual": self.residuals,
            "noise": self.noise,
        }
        if self.variances is not None:
            columns["variance"] = self.variances
        return pd.DataFrame(columns | {"kept": self.kept})

    def eigenfunctions(self, x: ArrayLike) -> Matrix:
        """Return the values of the eigenfunctions ``(M, K)`` at states ``(M, d)``."""
        return np.asarray(self.dictionary(_states(x, "x")) @ self.coefficients)

    def residuals_on(self, x: ArrayLike, y: ArrayLike, y_again: ArrayLike | None = None) -> Array:
        """Return the residuals of these modes on other pairs ``(K,)``; those on the data of the fit flatter."""
        first, second, third = _pairs(x, y, y_again)
        g = self.eigenfunctions(first)
        norm = np.sqrt((np.abs(g) ** 2).sum(axis=0))
        apart = (self.eigenfunctions(second) - self.eigenvalues * g) / norm
        again = apart if third is None else (self.eigenfunctions(third) - self.eigenvalues * g) / norm
        return _residuals(apart, again, _weights(None, len(g)))[0]

    def pseudospectrum(self, z: ArrayLike) -> Array:
        r"""Return :math:`\tau(z)`, the least residual of any function of the span at z, in the shape of ``z``.

        The points with :math:`\tau(z) \le \epsilon` approach the operator's own :math:`\epsilon`-pseudospectrum from
        inside, as data and dictionary grow.
        """
        at = np.asarray(z, dtype=np.complex128)
        tau = np.empty(at.size)
        rows = max(1, int(4e6 // self._square.size))
        identity = np.eye(len(self._square))
        for start in range(0, at.size, rows):
            s = at.reshape(-1)[start : start + rows, None, None]
            form = (
                self._square - s * self._compression.conj().T - s.conj() * self._compression + np.abs(s) ** 2 * identity
            )
            tau[start : start + rows] = np.sqrt(np.clip(np.linalg.eigvalsh(form)[:, 0], 0.0, None))
        return tau.reshape(at.shape)


def residual_dmd(
    dictionary: Dictionary,
    x: ArrayLike,
    y: ArrayLike,
    y_again: ArrayLike | None = None,
    *,
    stochastic: bool = False,
    weights: ArrayLike | None = None,
    tolerance: float = 0.05,
    time_step: float = 1.0,
) -> KoopmanModes:
    """Return the modes of the Koopman operator on the span of a dictionary, each with its residual.

    Parameters
    ----------
    dictionary
        Functions of the state, see :mod:`~gendyn.evaluation.dictionary`. Those that the data show to depend on others
        are left out.
    x, y
        States ``(M, d)`` and their successors; :func:`successors` makes them of paths.
    y_again
        Second successors, drawn independently of the first from the same ``x``, of a random system.
    stochastic
        Say that successors are random where only one of each is known: residuals then hold the conditional variance,
        and every mode is kept.
    weights
        ``(M,)`` of a quadrature rule; by default 1/M.
    tolerance
        Largest residual of a mode that is kept.
    time_step
        Time of one step, for periods and half-lives.

    Returns
    -------
    KoopmanModes

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or there are fewer pairs than functions. Fewer than ten pairs for
        each function give a warning: residuals are then too low, check them with ``residuals_on`` other pairs.

    References
    ----------
    M. J. Colbrook, A. Townsend, *Rigorous data-driven computation of spectral properties of Koopman operators for
    dynamical systems* (2024); M. J. Colbrook, Q. Li, R. V. Raut, A. Townsend, *Beyond expectations: residual dynamic
    mode decomposition and variance for stochastic dynamical systems* (2024).

    Examples
    --------
    >>> from gendyn.evaluation.dictionary import monomials
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> residual_dmd(monomials(2), x, x @ np.array([[0.9, 0.0], [0.2, 0.5]])).eigenvalues.real.round(6).tolist()
    [1.0, 0.9, 0.81, 0.5, 0.45, 0.25]
    """
    first, second, third = _pairs(x, y, y_again)
    if not tolerance >= 0 or not time_step > 0:
        raise ValueError(f"tolerance must be at least 0 and time_step positive; got {tolerance} and {time_step}")
    root = np.sqrt(_weights(weights, len(first)))[:, None]
    psi_x, psi_y = (_values(dictionary, states) * root for states in (first, second))
    if len(psi_x) < psi_x.shape[1]:
        raise ValueError(f"{psi_x.shape[1]} functions need at least as many pairs; got {len(psi_x)}")
    if len(psi_x) < 10 * psi_x.shape[1]:
        warn_user(
            f"{len(psi_x)} pairs are few for {psi_x.shape[1]} functions: residuals are too low; check them with "
            "residuals_on other pairs"
        )
    q, r, order = qr(psi_x, mode="economic", pivoting=True)
    diagonal = np.abs(np.diagonal(r))
    rank = int((diagonal > _DEPENDENT * diagonal[0]).sum()) if diagonal[0] > 0 else 0
    if rank == 0:
        raise ValueError("all functions of the dictionary vanish on the data")
    q, r, used = q[:, :rank], r[:rank, :rank], order[:rank]
    c = solve_triangular(r, psi_y[:, used].T, trans="T").T
    if third is None:
        compression, square = q.conj().T @ c, c.conj().T @ c
    else:
        c_again = solve_triangular(r, (_values(dictionary, third) * root)[:, used].T, trans="T").T
        compression = q.conj().T @ (c + c_again) / 2
        cross = c.conj().T @ c_again
        square = (cross + cross.conj().T) / 2
    eigenvalues, vectors = np.linalg.eig(compression)
    eigenvalues = eigenvalues.astype(np.complex128)
    falling = np.lexsort((-eigenvalues.imag, -np.abs(eigenvalues).round(12)))
    eigenvalues, vectors = eigenvalues[falling], vectors[:, falling]
    # Differences themselves, not their square expanded: a residual of 1e-14 would drown in one of 1e-8.
    image, target = c @ vectors, (q @ vectors) * eigenvalues
    again = image if third is None else c_again @ vectors
    residuals, noise = _residuals(image - target, again - target, root[:, 0] ** 2)
    coefficients = np.zeros((psi_x.shape[1], rank), dtype=np.complex128)
    coefficients[used] = solve_triangular(r, vectors)
    hidden = stochastic and third is None
    return KoopmanModes(
        eigenvalues,
        residuals,
        noise,
        None if third is None else (np.abs(image - again) ** 2).sum(axis=0) / 2,
        np.ones(rank, dtype=bool) if hidden else residuals <= tolerance,
        tolerance,
        hidden,
        time_step,
        coefficients,
        dictionary,
        len(first),
        compression,
        square,
    )


def successors(paths: Paths, *, lag: int = 1) -> tuple[Array, Array]:
    """Return all pairs of states of a path that are ``lag`` times apart and observed in every feature.

    Parameters
    ----------
    paths
        At evenly spaced times, so that each pair is as far apart as any other.
    lag
        Steps between the two.

    Returns
    -------
    x, y
        ``(M, d)`` each.

    Raises
    ------
    ValueError
        If times are uneven, or no pair was observed.

    Examples
    --------
    >>> x, y = successors(Paths([0.0, 1.0, 2.0], [[[1.0], [2.0], [3.0]]]))
    >>> x.ravel().tolist(), y.ravel().tolist()
    ([1.0, 2.0], [2.0, 3.0])
    """
    one, _ = trajectories(paths, paths, metric="a pair of successors", even=True, minimum_times=lag + 1)
    if lag < 1:
        raise ValueError(f"lag must be at least 1; got {lag}")
    x, y = (z.reshape(-1, one.dim) for z in (one.values[:, :-lag], one.values[:, lag:]))
    seen = ~(np.isnan(x) | np.isnan(y)).any(axis=1)
    if not seen.any():
        raise ValueError(f"no two states {lag} steps apart were both observed")
    return x[seen], y[seen]


def _residuals(apart: Matrix, again: Matrix, weights: Array) -> tuple[Array, Array]:
    """Return residuals and their noise from the weighted gaps ``(M, K)`` of one successor and of another."""
    squares = (apart.conj() * again).real
    mean = squares.sum(axis=0)
    error = np.sqrt(((squares - weights[:, None] / weights.sum() * mean) ** 2).sum(axis=0))
    return np.sqrt(np.clip(mean, 0.0, None)), np.sqrt(1.96 * error)


def _states(states: ArrayLike, name: str) -> Array:
    array = as_tensor(states, name).detach().cpu().numpy().astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must hold states (M, d); got shape {array.shape}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(f"{name} must be finite; got NaN or infinity in {int(bad.sum())} of {len(array)} states")
    return array


def _pairs(x: ArrayLike, y: ArrayLike, y_again: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    first, second = _states(x, "x"), _states(y, "y")
    third = None if y_again is None else _states(y_again, "y_again")
    for name, array in (("y", second), ("y_again", third)):
        if array is not None and array.shape != first.shape:
            raise ValueError(f"x and {name} must have the same shape; got {first.shape} and {array.shape}")
    return first, second, third


def _values(dictionary: Dictionary, states: Array) -> Matrix:
    values = np.asarray(dictionary(states))
    if values.ndim != 2 or len(values) != len(states) or values.shape[1] == 0:
        raise ValueError(f"a dictionary must return values ({len(states)}, K); got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the dictionary returned values that are not finite; take a lower degree, or scale the states")
    return values


def _weights(weights: ArrayLike | None, n: int) -> Array:
    if weights is None:
        return np.full(n, 1.0 / n)
    w = as_tensor(weights, "weights").detach().cpu().numpy().astype(np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
        raise ValueError(f"weights must be finite, non-negative, not all zero and of shape ({n},); got shape {w.shape}")
    return w
