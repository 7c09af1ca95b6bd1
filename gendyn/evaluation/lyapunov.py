r"""Lyapunov exponents: how fast nearby states part, along each direction, in the long run.

**Of a model**, whose tangent map is known. For a map :math:`x' = F(x)`, or the flow of :math:`\dot x = f(t, x)` taken
over one step, tangent vectors move with the Jacobian and are made orthonormal again after every step (Benettin et al.
1980),

.. math:: D F(x_k)\, Q_k = Q_{k+1} R_{k+1}, \qquad
    \lambda_i = \lim_{n \to \infty} \frac{1}{n \Delta} \sum_{k \le n} \log \lvert (R_k)_{ii} \rvert .

Their sum is the mean rate of change of log volume; the dimension of Kaplan and Yorke is
:math:`j + \sum_{i \le j} \lambda_i / \lvert \lambda_{j+1} \rvert` for the largest j of a non-negative partial sum.

**Of data**, the largest one only: the mean log distance of delay vectors from their nearest neighbours grows
linearly at first, with slope :math:`\lambda_1` (Rosenstein, Collins and De Luca 1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.evaluation.points import Array
from gendyn.evaluation.power_spectrum import power_spectrum
from gendyn.evaluation.trajectory import Trajectory, trajectories
from gendyn.randomness import Seed, torch_generator
from gendyn.sampling import ODE, SOLVERS, Process, check_process

__all__ = ["LyapunovSpectrum", "NeighbourDivergence", "kaplan_yorke_dimension", "lyapunov_spectrum", "rosenstein"]

Map = Callable[[Tensor], Tensor]
Advance = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]

_BLOCKS = 10
"""Blocks of time behind the standard error where there is one start."""


@dataclass(frozen=True)
class LyapunovSpectrum:
    """Exponents, largest first.

    Attributes
    ----------
    exponents
        ``(k,)``, per time unit (of a map: per step).
    errors
        ``(k,)`` standard errors: between starts, or between ten blocks of time where there is one start.
    n_starts, n_steps
        Trajectories, and steps of each that entered the mean.
    time_step
        Time of one step.

    Examples
    --------
    >>> LyapunovSpectrum((0.9, 0.0, -14.6), (0.01, 0.001, 0.01), 8, 1000, 0.01).dimension
    2.0616...
    """

    exponents: tuple[float, ...]
    errors: tuple[float, ...]
    n_starts: int
    n_steps: int
    time_step: float

    def __repr__(self) -> str:
        numbers = ", ".join(f"{e:.4g} ± {s:.2g}" for e, s in zip(self.exponents, self.errors, strict=True))
        return f"LyapunovSpectrum({numbers}; {self.n_starts} starts of {self.n_steps} steps)"

    @property
    def dimension(self) -> float:
        """Dimension of Kaplan and Yorke."""
        return kaplan_yorke_dimension(self.exponents)


def kaplan_yorke_dimension(exponents: ArrayLike) -> float:
    """Return the dimension of Kaplan and Yorke (1979).

    Parameters
    ----------
    exponents
        All of them, in any order.

    Raises
    ------
    ValueError
        If there is none, or one is NaN.

    Examples
    --------
    >>> kaplan_yorke_dimension([0.5, -1.0]), kaplan_yorke_dimension([-1.0, -2.0]), kaplan_yorke_dimension([0.1, 0.0])
    (1.5, 0.0, 2.0)
    """
    ordered = np.sort(np.asarray(exponents, dtype=np.float64).reshape(-1))[::-1]
    if not len(ordered) or np.isnan(ordered).any():
        raise ValueError(f"exponents must be one or more numbers; got {ordered.tolist()}")
    sums = np.cumsum(ordered)
    whole = int((sums >= 0).sum())
    if whole == 0 or whole == len(ordered):
        return float(whole)
    return whole + float(sums[whole - 1] / abs(ordered[whole]))


def lyapunov_spectrum(
    system: Map | Process,
    start: ArrayLike,
    n_steps: int,
    *,
    step: float | None = None,
    transient: int = 1000,
    n_exponents: int | None = None,
    jacobian: Callable[..., Tensor] | None = None,
    seed: Seed = 0,
) -> LyapunovSpectrum:
    """Return the Lyapunov exponents of a map or of a flow by the tangent method.

    Parameters
    ----------
    system
        A map of states ``(B, d)`` to states, each row alone; or a process without noise, see
        :class:`gendyn.sampling.Process`, whose flow and its tangent are stepped by the classical Runge-Kutta method.
    start
        Start states ``(d,)`` or ``(B, d)``; all B trajectories are run at once, and exponents are means over them.
    n_steps
        Steps of each trajectory that enter the mean.
    step
        Length of a step of a flow; by default the process's own ``time_step``. A map has steps of 1.
    transient
        Steps before, in which states reach the attractor and tangent vectors their directions.
    n_exponents
        How many, from the largest; by default all d.
    jacobian
        ``J(x) -> (B, d, d)`` of a map, ``J(t, x)`` of a process's drift; by default differentiation.
    seed
        Of the first tangent vectors.

    Returns
    -------
    LyapunovSpectrum
        In the type of ``start``: give float64.

    Raises
    ------
    TypeError
        If ``system`` is neither a map nor a process.
    ValueError
        If shapes or options do not fit, the process has noise, or a step is missing.
    FloatingPointError
        If a trajectory leaves the finite.

    Examples
    --------
    >>> doubling = lyapunov_spectrum(lambda x: torch.remainder(2 * x, 1), [[0.1], [0.3]], 20, transient=0)
    >>> round(doubling.exponents[0], 6)
    0.693147
    """
    x = as_tensor(start, "start")
    x = x[None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.is_floating_point() or 0 in x.shape:
        raise ValueError(f"start must hold real states (d,) or (B, d); got shape {tuple(x.shape)} of {x.dtype}")
    count = x.shape[1] if n_exponents is None else n_exponents
    if not 1 <= count <= x.shape[1]:
        raise ValueError(f"n_exponents must lie in 1 to {x.shape[1]}, the number of features; got {n_exponents}")
    if n_steps < 1 or transient < 0:
        raise ValueError(f"n_steps must be at least 1 and transient at least 0; got {n_steps} and {transient}")
    with torch.no_grad():
        if not isinstance(system, Process):
            if step is not None:
                raise ValueError(f"a map has steps of 1, a process has a step; got a map and step {step}")
            return _run(_map_step(system, x, jacobian), 1.0, x, n_steps, transient, count, seed)
        length = getattr(system, "time_step", None) if step is None else step
        if length is None or not length > 0:
            raise ValueError(f"{type(system).__name__} needs a positive step; got {step}")
        advance = _flow_step(system, x, float(length), jacobian)
        return _run(advance, float(length), x, n_steps, transient, count, seed)


@dataclass(frozen=True)
class NeighbourDivergence:
    """How nearest neighbours of a series part.

    Attributes
    ----------
    times
        ``(K,)`` since they were neighbours.
    log_distance
        ``(K,)`` mean log distance.
    exponent
        Slope over ``window``: the largest Lyapunov exponent, per time unit.
    window
        Start and end of the fit.
    theiler
        Steps within which two points were not taken for neighbours.
    n_pairs
        Pairs behind the mean.

    Examples
    --------
    >>> curve = rosenstein(np.sin(np.arange(2000.0)), window=(0, 20), dimension=2, delay=2)
    >>> abs(curve.exponent) < 0.01
    True
    """

    times: Array
    log_distance: Array
    exponent: float
    window: tuple[float, float]
    theiler: int
    n_pairs: int


def rosenstein(
    series: Trajectory,
    *,
    window: tuple[float, float],
    time_step: float | None = None,
    dimension: int = 1,
    delay: int = 1,
    theiler: int | None = None,
    max_pairs: int = 5000,
) -> NeighbourDivergence:
    """Return the largest Lyapunov exponent of a series by the divergence of nearest neighbours.

    The estimate is biased low on flows, where neighbours must first turn into the unstable direction and soon reach the
    size of the attractor: look at the curve, and compare real and generated series with the same options only.

    Parameters
    ----------
    series
        One trajectory ``(T,)`` or ``(T, N)``, or :class:`~gendyn.Paths` with one path; evenly spaced, complete.
    window
        First and last time since neighbourhood of the straight part, in time units.
    time_step
        Time between two values; by default that of the paths, 1 for arrays.
    dimension, delay
        Delay vectors hold ``dimension`` values of each channel, ``delay`` steps apart.
    theiler
        Points so many steps apart or fewer are no neighbours; by default one mean period, the inverse of the mean
        frequency of the power spectrum.
    max_pairs
        Reference points, evenly spread over the series.

    Raises
    ------
    ValueError
        If the series is too short for the options, or the window is empty.

    Examples
    --------
    >>> x = [0.3]
    >>> for _ in range(3000):
    ...     x.append(4 * x[-1] * (1 - x[-1]))
    >>> abs(rosenstein(np.array(x), window=(0, 4)).exponent - math.log(2)) < 0.05
    True
    """
    one, _ = trajectories(series, series, metric="the divergence of neighbours", even=True, minimum_times=10)
    if not one.single or one.mask is not None:
        raise ValueError("the divergence of neighbours is that of one complete trajectory; give one, without gaps")
    if dimension < 1 or delay < 1 or max_pairs < 1:
        raise ValueError(f"dimension, delay and max_pairs must be at least 1; got {dimension}, {delay} and {max_pairs}")
    dt = one.time_step if time_step is None else time_step
    if not dt > 0:
        raise ValueError(f"time_step must be positive; got {time_step}")
    low, high = (round(t / dt) for t in window)
    if not 0 <= low < high:
        raise ValueError(f"window must hold two times of at least 0, a step or more apart; got {window} at step {dt:g}")
    if theiler is None:
        theiler = _mean_period(one.values[0])
    vectors = _delay_vectors(one.values[0], dimension, delay)
    usable = len(vectors) - high
    if usable < 2 * theiler + 3:
        raise ValueError(
            f"a series of {one.n_times} values is too short for a window of {high} steps, delay vectors of "
            f"{(dimension - 1) * delay + 1} and a Theiler window of {theiler}"
        )
    reference = np.unique(np.linspace(0, usable - 1, min(max_pairs, usable)).round().astype(np.int64))
    neighbour = _neighbours(vectors[:usable], reference, theiler)
    curve = np.empty(high + 1)
    for k in range(high + 1):
        distance = np.linalg.norm(vectors[reference + k] - vectors[neighbour + k], axis=1)
        curve[k] = np.log(distance[distance > 0]).mean() if (distance > 0).any() else -math.inf
    times = np.asarray(np.arange(high + 1) * dt, dtype=np.float64)
    slope = float(np.polyfit(times[low:], curve[low:], 1)[0]) if np.isfinite(curve[low:]).all() else -math.inf
    return NeighbourDivergence(times, curve, slope, (low * dt, high * dt), theiler, len(reference))


def _map_step(system: Map, x: Tensor, jacobian: Map | None) -> Advance:
    """Return what moves states ``(B, d)`` and tangent vectors ``(B, d, k)`` by one application of a map."""
    if not callable(system):
        raise TypeError(f"system must be a map or a process; got {type(system).__name__}")
    image: object = system(x)
    if not isinstance(image, Tensor) or image.shape != x.shape:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"the map must return states {tuple(x.shape)}; got {got}")
    return lambda _, states, tangent: _push(system, states, tangent, jacobian)


def _flow_step(process: Process, x: Tensor, length: float, jacobian: Callable[..., Tensor] | None) -> Advance:
    """Return what moves states and tangent vectors along a flow by one Runge-Kutta step of the variational equation."""
    check_process(process, torch.zeros((), dtype=x.dtype, device=x.device), x)
    if process.noise_type != "none":
        raise ValueError(
            f"exponents are those of a flow without noise; {type(process).__name__} has {process.noise_type} noise: "
            "give gendyn.sampling.ODE(process.drift, process.dim)"
        )
    b, d = x.shape

    def variation(t: Tensor, joint: Tensor) -> Tensor:
        at_t = None if jacobian is None else (lambda z: jacobian(t, z))
        slope, turn = _push(lambda z: process.drift(t, z), joint[:, :d], joint[:, d:].reshape(b, d, -1), at_t)
        return torch.cat([slope, turn.flatten(1)], dim=1)

    joined = ODE(variation, d)

    def advance(k: int, states: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.full((), k * length, dtype=x.dtype, device=x.device)
        joint = SOLVERS["rk4"].step(joined, t, length, torch.cat([states, tangent.flatten(1)], dim=1), None)
        return joint[:, :d], joint[:, d:].reshape(b, d, -1)

    return advance


def _push(function: Map, x: Tensor, tangent: Tensor, jacobian: Map | None) -> tuple[Tensor, Tensor]:
    """Return the image of x ``(B, d)`` and of its tangent vectors ``(B, d, k)``."""
    if jacobian is not None:
        matrix = jacobian(x)
        if matrix.shape != (*x.shape, x.shape[1]):
            raise ValueError(f"the jacobian must have shape {(*x.shape, x.shape[1])}; got {tuple(matrix.shape)}")
        return function(x), matrix @ tangent
    b, d, k = tangent.shape
    if k == d:
        # All directions: a row of the Jacobian from each of d copies, by one pass backward.
        with torch.enable_grad():
            copies = x.repeat(d, 1).requires_grad_(True)
            images = function(copies).reshape(d, b, d)
            traced = images.diagonal(dim1=0, dim2=2).sum()
            rows = torch.autograd.grad(traced, copies, allow_unused=True)[0] if traced.requires_grad else None
        if rows is None:
            raise ValueError("the system does not depend on its state in a differentiable way; give a jacobian")
        return images[0].detach(), rows.reshape(d, b, d).transpose(0, 1) @ tangent
    # Few of them: each state is repeated once for each of its tangent vectors, and pushed forward.
    directions = tangent.transpose(1, 2).reshape(-1, d)
    pushed = torch.func.jvp(function, (x.repeat_interleave(k, dim=0),), (directions,))
    return pushed[0][::k], pushed[1].reshape(b, k, d).transpose(1, 2)


def _run(
    advance: Advance,
    length: float,
    x: Tensor,
    n_steps: int,
    transient: int,
    count: int,
    seed: Seed,
) -> LyapunovSpectrum:
    b, d = x.shape
    generator = torch_generator(seed, "tangent")
    first = torch.randn(b, d, count, generator=generator, dtype=torch.float64).to(x)
    tangent = torch.linalg.qr(first)[0]
    blocks = min(_BLOCKS, n_steps)
    growth = torch.zeros(blocks, b, count, dtype=torch.float64, device=x.device)
    for k in range(transient + n_steps):
        x, tangent = advance(k, x, tangent)
        tangent, r = torch.linalg.qr(tangent)
        if k >= transient:
            growth[(k - transient) * blocks // n_steps] += r.diagonal(dim1=1, dim2=2).abs().log()
        if (k + 1) % 100 == 0 or k + 1 == transient + n_steps:
            _check_finite(x, k + 1)
    per_start = growth.sum(0) / (n_steps * length)
    exponents = per_start.mean(0)
    if b > 1:
        errors = per_start.std(0) / math.sqrt(b)
    elif blocks > 1:
        widths = torch.bincount(torch.arange(n_steps) * blocks // n_steps).to(growth) * length
        errors = (growth[:, 0] / widths[:, None]).std(0) / math.sqrt(blocks)
    else:
        errors = torch.full_like(exponents, math.nan)
    order = exponents.argsort(descending=True)
    return LyapunovSpectrum(tuple(exponents[order].tolist()), tuple(errors[order].tolist()), b, n_steps, length)


def _check_finite(x: Tensor, k: int) -> None:
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError(
            f"{int((~torch.isfinite(x).all(1)).sum())} of {len(x)} trajectories stopped being finite within {k} steps: "
            "start nearer to the attractor, or take a smaller step"
        )


def _mean_period(values: Array) -> int:
    frequencies, power = power_spectrum(values, smoothing=0.0)
    mean = float((frequencies @ power).max())
    return math.ceil(1.0 / mean) if mean > 0 else 0


def _delay_vectors(values: Array, dimension: int, delay: int) -> Array:
    """Return delay vectors ``(M, dimension * N)`` of a series ``(T, N)``."""
    m = len(values) - (dimension - 1) * delay
    if m < 2:
        raise ValueError(
            f"{dimension} values {delay} steps apart do not fit into a series of {len(values)}: lower one of them"
        )
    return np.concatenate([values[k * delay : k * delay + m] for k in range(dimension)], axis=1)


def _neighbours(vectors: Array, reference: np.ndarray[Any, np.dtype[np.int64]], theiler: int) -> Any:
    """Return the nearest point of each reference point that is neither itself nor within the Theiler window."""
    tree = cKDTree(vectors)
    found = np.full(len(reference), -1, dtype=np.int64)
    most = min(2 * theiler + 2, len(vectors))
    k = min(4, most)
    while True:
        open_ = np.flatnonzero(found < 0)
        rows = max(1, int(4e6 // k))
        for start in range(0, len(open_), rows):
            part = open_[start : start + rows]
            distance, index = (np.asarray(z) for z in tree.query(vectors[reference[part]], k=k))
            # A point that coincides with its reference has no logarithm of its distance.
            allowed = (np.abs(index - reference[part, None]) > theiler) & (distance > 0)
            found[part] = np.where(allowed.any(1), index[np.arange(len(part)), allowed.argmax(1)], -1)
        if (found >= 0).all() or k == most:
            break
        k = min(4 * k, most)
    if (found < 0).any():
        raise ValueError(
            f"{int((found < 0).sum())} of {len(reference)} points have no neighbour at a positive distance outside a "
            f"Theiler window of {theiler}: the series repeats itself, or is too short"
        )
    return found
