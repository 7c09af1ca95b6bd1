r"""Attractors: whether two systems visit the same states equally often in the long run.

The state-space divergence of occupation measures :math:`p` (real) and :math:`q` (generated) is

.. math:: D_{stsp} = \mathrm{KL}(p \,\Vert\, q), \qquad p_c = \frac{n_c + \alpha}{n + \alpha\, m^N}

over the :math:`m^N` cells of a box about the real states in :math:`\mathbb{R}^N`, counts :math:`n_c` being smoothed by
:math:`\alpha`; or, where there are too many dimensions for cells, between the Gaussian mixtures with one component of
variance :math:`s^2` at each point (Hess, Monfared, Brenner and Durstewitz 2023). Both depend on the number of points:
read them against a floor at the same length.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from gendyn.data import Paths
from gendyn.data.checks import as_tensor
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import Scale, drop_constant, rescale
from gendyn.evaluation.points import Array
from gendyn.evaluation.trajectory import Trajectories, Trajectory, compare, trajectories
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator
from gendyn.sampling import Process, sample

__all__ = ["free_run", "state_space_divergence", "state_space_divergence_value"]

Form = Literal["auto", "bins", "mixture"]

_MOST_BINNED = 5
"""Dimensions up to which a box is cut into cells by default."""

_MIXTURE_POINTS = 10_000
"""Components of a mixture at most."""


def state_space_divergence_value(
    real: Trajectory,
    generated: Trajectory,
    *,
    form: Form = "auto",
    bins: int = 30,
    smoothing: float = 1e-5,
    variance: float = 1.0,
    samples: int = 1000,
    scale: Scale = "real-std",
    seed: Seed = 0,
) -> float:
    """Return the state-space divergence alone; see :func:`state_space_divergence`.

    Examples
    --------
    >>> x = np.sin(0.1 * np.arange(500.0))[:, None]
    >>> state_space_divergence_value(x, x)
    0.0
    """
    options = _Options(form, bins, smoothing, variance, samples, as_seed(seed))
    one, two = trajectories(real, generated, metric="D_stsp", minimum_times=1)
    one, two = drop_constant(one, two, "D_stsp")
    return options.value(*rescale(one, two, scale))


def state_space_divergence(
    real: Trajectory,
    generated: Trajectory,
    *,
    form: Form = "auto",
    bins: int = 30,
    smoothing: float = 1e-5,
    variance: float = 1.0,
    samples: int = 1000,
    scale: Scale = "real-std",
    reference: Trajectory | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    on_nan: Literal["raise", "count"] = "raise",
) -> MetricResult:
    """Return the state-space divergence with floor and interval.

    Parameters
    ----------
    real, generated
        Long trajectories, see :func:`~gendyn.evaluation.trajectory.trajectories`; times and their order do not matter.
        Give both in the same units: standardised by its own statistics each, a thin attractor lies in other cells.
    form
        ``"bins"``, ``"mixture"``, or ``"auto"``: bins up to five dimensions. The mixture form is nearly blind at
        variance 1 of standardised data; 0.01 sees more.
    bins
        Cells per dimension of the box, which reaches a tenth of a standard deviation beyond the real states. Generated
        points outside it are left out (``extra["outside"]`` is their share); if all are, the value is infinite.
    smoothing
        Added to every count.
    variance
        Of a component of the mixtures, on the given scale.
    samples
        Drawn from the real mixture. Mixtures take the first 10,000 points of either side.
    scale
        Of the channels, see :func:`~gendyn.evaluation.path_set.rescale`; bins do not depend on it.
    reference
        Another real trajectory, against which the floor is computed; by default the floor is between halves.
    seed
        Root of all randomness.
    n_bootstrap
        Resamples behind the interval, see :mod:`~gendyn.evaluation.trajectory`.
    on_nan
        ``"count"`` leaves out generated paths that are not finite.

    Returns
    -------
    MetricResult
        The value falls with the length of the trajectories: two runs of the Lorenz system, each standardised by itself,
        are 0.1 to 0.3 apart at the customary length of 100,000 points, and 1.3 to 2.6 at 10,000. In the mixture form
        the floor is between the first 10,000 points of either half.

    Raises
    ------
    ValueError
        If trajectories or options are unfit, or there are more cells than integers.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(4000, 1))
    >>> result = state_space_divergence(x, x[::-1] + 1.0)
    >>> result.value > 10 * result.floor
    True
    """
    root = as_seed(seed)
    options = _Options(form, bins, smoothing, variance, samples, root)
    one, two = trajectories(real, generated, metric="D_stsp", on_nan=on_nan)
    third = None if reference is None else trajectories(real, reference, metric="D_stsp")[1]
    kept = drop_constant(one, two, "D_stsp")
    third = None if third is None else third.only(kept[0].names)
    scaled = rescale(*kept, scale)
    third = None if third is None else rescale(kept[0], third, scale)[1]
    extra: dict[str, Any] = {"form": options.chosen(kept[0].dim)}
    if extra["form"] == "bins":
        extra |= {"bins": bins, "outside": options.outside(*scaled)}
        return compare(
            "D_stsp", options.value, *scaled, reference=third, seed=root, n_bootstrap=n_bootstrap, extra=extra
        )
    # Of a mixture's long trajectories only the first points count, and so they do in each of their halves.
    halves = scaled[0].halves(numpy_generator(derive_seed(root, "floor")))
    result = compare(
        "D_stsp",
        options.value,
        *(side.first(_MIXTURE_POINTS) if side.single else side for side in scaled),
        reference=third,
        seed=root,
        n_bootstrap=n_bootstrap,
        bootstrap_size=2000,
        extra=extra | {"variance": variance, "samples": samples},
    )
    floor = options.value(*halves) if third is None and halves is not None else result.floor
    return replace(result, floor=floor)


def free_run(
    process: Process, real: Trajectory, *, solver: str = "auto", step: float | None = None, seed: Seed = 0
) -> Paths:
    r"""Run a process as metrics of the long run want it: from the first real state, the start dropped.

    The process is run for :math:`1.25\,T` times of the real clock from the first state of each real path, and the first
    fifth, in which it may still be on its way to its attractor, is dropped: what is left has the times of the
    real trajectory.

    Parameters
    ----------
    process
        What the model learned.
    real
        Real trajectories with evenly spaced times; an array has the times 0, 1, 2, ...
    solver, step, seed
        As for :func:`gendyn.sample`.

    Returns
    -------
    Paths
        As many as ``real`` holds, at its times.

    Raises
    ------
    ValueError
        If the real times are not evenly spaced, or a first state was not observed.

    Examples
    --------
    >>> from gendyn.systems import Lorenz63
    >>> real = sample(Lorenz63(), torch.tensor([[1.0, 1.0, 20.0]]), torch.arange(40) * 0.05)
    >>> free_run(Lorenz63(), real, step=0.005)
    Paths(1 paths, 40 times from 0 to 1.95, 3 features)
    """
    one, _ = trajectories(real, real, metric="a free run", even=True)
    start = one.values[:, 0]
    if not np.isfinite(start).all():
        raise ValueError("a free run starts from the first real state, which was not observed in every channel")
    dtype = real.dtype if isinstance(real, Paths) else as_tensor(real, "real").dtype
    dropped = math.ceil(one.n_times / 4)
    clock = torch.arange(one.n_times + dropped, dtype=torch.float64) * one.time_step
    floating = dtype if dtype.is_floating_point else torch.float32
    run = sample(process, torch.from_numpy(start).to(floating), clock, solver=solver, step=step, seed=seed)
    times = one.times if one.times.ndim == 1 else one.times[0]
    return Paths(times, run.values[:, dropped:].clone(), names=real.names if isinstance(real, Paths) else None)


class _Options:
    """The divergence as a function of two sets of states."""

    def __init__(self, form: Form, bins: int, smoothing: float, variance: float, samples: int, seed: int) -> None:
        if form not in ("auto", "bins", "mixture"):
            raise ValueError(f"form must be 'auto', 'bins' or 'mixture'; got {form!r}")
        if bins < 2 or samples < 2:
            raise ValueError(f"bins and samples must be at least 2; got {bins} and {samples}")
        if not (smoothing > 0 and variance > 0):
            raise ValueError(f"smoothing and variance must be positive; got {smoothing} and {variance}")
        self.form, self.bins, self.smoothing, self.variance, self.samples = form, bins, smoothing, variance, samples
        self.seed = seed

    def chosen(self, dim: int) -> str:
        if self.form == "auto":
            return "bins" if dim <= _MOST_BINNED else "mixture"
        return self.form

    def value(self, real: Trajectories, generated: Trajectories) -> float:
        if self.chosen(real.dim) == "bins":
            return _binned(real.states, generated.states, self.bins, self.smoothing)
        first, second = (side.states[:_MIXTURE_POINTS] for side in (real, generated))
        return _mixture(first, second, self.variance, self.samples, self.seed)

    def outside(self, real: Trajectories, generated: Trajectories) -> float:
        points = generated.states
        return 1.0 - len(_cells(points, _box(real.states), self.bins)) / len(points)


def _box(x: Array) -> tuple[Array, Array]:
    margin = 0.1 * x.std(axis=0)
    low, high = x.min(axis=0) - margin, x.max(axis=0) + margin
    return low, np.where(high > low, high - low, 1.0)


def _cells(x: Array, box: tuple[Array, Array], bins: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the number of the cell of each point that lies in the box."""
    dim = x.shape[1]
    if bins**dim > 2**62:
        raise ValueError(f"{bins} bins in {dim} dimensions make more cells than there are integers; use form='mixture'")
    low, width = box
    position = np.floor((x - low) / width * bins)
    position = position[((position >= 0) & (position < bins)).all(axis=1)].astype(np.int64)
    return np.asarray(position @ bins ** np.arange(dim, dtype=np.int64))


def _binned(x: Array, y: Array, bins: int, smoothing: float) -> float:
    """Return the divergence of smoothed counts; only cells that hold a point are ever listed."""
    box = _box(x)
    (first, n), (second, m) = (np.unique(_cells(z, box, bins), return_counts=True) for z in (x, y))
    if not len(second):
        return math.inf
    total = float(bins) ** x.shape[1]
    occupied = np.union1d(first, second)
    p, q = (np.zeros(len(occupied)) for _ in range(2))
    p[np.searchsorted(occupied, first)] = n
    q[np.searchsorted(occupied, second)] = m
    p, q = ((c + smoothing) / (c.sum() + smoothing * total) for c in (p, q))
    p_empty, q_empty = (smoothing / (c.sum() + smoothing * total) for c in (n, m))
    empty = (total - len(occupied)) * p_empty * math.log(p_empty / q_empty)
    return float((p * np.log(p / q)).sum() + empty)


def _mixture(x: Array, y: Array, variance: float, samples: int, seed: int) -> float:
    """Return the Monte-Carlo mean of the log ratio of the two mixtures under the first."""
    rng = numpy_generator(derive_seed(seed, "mixture"))
    chosen = rng.integers(0, len(x), samples)
    draws = x[chosen] + math.sqrt(variance) * rng.normal(size=(samples, x.shape[1]))
    log_ratio = np.empty(samples)
    rows = max(1, int(2e6 // max(len(x), len(y))))
    for start in range(0, samples, rows):
        part = slice(start, start + rows)
        first, second = (logsumexp(cdist(draws[part], z, "sqeuclidean") / (-2 * variance), axis=1) for z in (x, y))
        log_ratio[part] = first - second
    return float(log_ratio.mean() - math.log(len(x) / len(y)))
