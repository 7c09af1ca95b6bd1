r"""Sets of paths: what a metric between sets of series takes in, checked at the door.

A set holds values :math:`x_i(t_k) \in \mathbb{R}^d` for paths :math:`i`, at times shared by all or of each path's own,
and says which of them were observed. A metric names what it can read; whatever it has no meaning for is
refused with a sentence, never filled in silently.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.points import Array, as_array, broken, what_is_broken

__all__ = ["Needs", "PathSet", "Scale", "drop_constant", "on_scale_of", "path_sets", "rescale"]

Needs = Literal["complete", "shared", "any"]
"""``"complete"``: shared times, everything observed; ``"shared"``: shared times, gaps allowed; ``"any"``: anything."""

Scale = Literal["real-std", "minmax"] | tuple[Any, Any] | None

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class PathSet:
    """Paths in float64.

    Attributes
    ----------
    values
        ``(n, T, d)``; NaN where not observed.
    times
        ``(T,)`` shared, or ``(n, T)`` of each path's own (a path that has ended repeats its last time).
    mask
        ``(n, T, d)``, true where observed; ``None`` where everything is.
    names
        Names of the ``d`` channels.
    dropped
        Paths left out because they were not finite.

    Examples
    --------
    >>> one, _ = path_sets(np.zeros((6, 3, 2)), np.ones((4, 3, 2)), metric="gap")
    >>> len(one), one.names, [len(half) for half in one.halves(np.random.default_rng(0))]
    (6, ('x0', 'x1'), [3, 3])
    """

    values: Array
    times: Array
    mask: Bools | None
    names: tuple[str, ...]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_times(self) -> int:
        """Number of times ``T``."""
        return int(self.values.shape[1])

    @property
    def dim(self) -> int:
        """Number of channels ``d``."""
        return int(self.values.shape[2])

    @property
    def observed(self) -> Bools:
        """What was observed ``(n, T, d)``."""
        return np.ones(self.values.shape, dtype=bool) if self.mask is None else self.mask

    def take(self, rows: np.ndarray[Any, Any]) -> Self:
        """Return the paths with the given numbers."""
        return replace(
            self,
            values=self.values[rows],
            times=self.times if self.times.ndim == 1 else self.times[rows],
            mask=None if self.mask is None else self.mask[rows],
        )

    def channels(self, kept: Bools) -> Self:
        """Return the channels ``(d,)`` that are true."""
        return replace(
            self,
            values=self.values[..., kept],
            mask=None if self.mask is None else self.mask[..., kept],
            names=tuple(name for name, keep in zip(self.names, kept, strict=True) if keep),
        )

    def halves(self, rng: np.random.Generator) -> tuple[Self, Self] | None:
        """Return two disjoint random halves; ``None`` if one would hold fewer than two paths."""
        half = len(self) // 2
        if half < 2:
            return None
        order = rng.permutation(len(self))
        return self.take(order[:half]), self.take(order[half : 2 * half])

    def resample(self, rng: np.random.Generator, size: int) -> Self:
        """Return ``size`` paths drawn with replacement."""
        return self.take(rng.integers(0, len(self), size))


Set = TypeVar("Set", bound=PathSet)


def path_sets(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    metric: str,
    needs: Needs = "complete",
    minimum: int = 2,
    minimum_times: int = 1,
    on_nan: Literal["raise", "count"] = "raise",
) -> tuple[PathSet, PathSet]:
    """Return both sets of paths as a metric wants them, or say what is wrong.

    Parameters
    ----------
    real, generated
        :class:`~gendyn.Paths`, or arrays ``(n, T, d)`` (``(n, T)`` is read as one channel) at times 0, 1, 2, ..., or at
        those of the other side where it has as many, shared by all its paths.
    metric
        Its name, for the sentences.
    needs
        What the metric can read, see :data:`Needs`. With ``"any"`` the two need not have the same times.
    minimum, minimum_times
        Paths and times that either set must hold.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``dropped``; real ones never.

    Raises
    ------
    TypeError
        If an argument is neither paths nor an array.
    ValueError
        If shapes or times do not fit, there are too few paths or times, a channel was never observed, an
        observed value is not finite, or the metric has no meaning for gaps or for times of each path's own.

    Examples
    --------
    >>> path_sets(np.zeros((6, 3, 2)), np.zeros((6, 4, 2)), metric="gap")
    Traceback (most recent call last):
    ValueError: gap needs real and generated paths at the same times; got 3 and 4 times
    """
    if on_nan not in ("raise", "count"):
        raise ValueError(f"on_nan must be 'raise' or 'count'; got {on_nan!r}")
    one = _path_set(real, "real", metric, "raise")
    two = _path_set(generated, "generated", metric, on_nan)
    if one.dim != two.dim:
        raise ValueError(
            f"real and generated must have the same number of channels; got {one.values.shape} and {two.values.shape}"
        )
    for name, paths in (("real", one), ("generated", two)):
        if len(paths) < minimum:
            raise ValueError(f"{metric} needs at least {minimum} {name} paths; got {len(paths)}")
        if paths.n_times < minimum_times:
            raise ValueError(f"{metric} needs at least {minimum_times} times; the {name} paths have {paths.n_times}")
        if needs != "any" and paths.times.ndim == 2:
            raise ValueError(
                f"{metric} has no meaning for times of each path's own; the {name} paths have them: "
                "compare at shared times"
            )
        if needs == "complete" and paths.mask is not None:
            raise ValueError(
                f"{metric} needs complete paths; of the {name} paths {float((~paths.mask).mean()):.1%} of the values "
                "are missing: fill them in yourself, or choose a metric that reads gaps"
            )
        unseen = np.flatnonzero(np.isnan(paths.values).all(axis=(0, 1)))
        if len(unseen):
            raise ValueError(f"channel {paths.names[unseen[0]]!r} of the {name} paths was never observed; leave it out")
    if needs != "any":
        if one.n_times != two.n_times:
            raise ValueError(
                f"{metric} needs real and generated paths at the same times; got {one.n_times} and {two.n_times} times"
            )
        if isinstance(real, Paths) and isinstance(generated, Paths):
            apart = np.abs(one.times - two.times)
            if (apart > 1e-6 * max(1.0, float(np.abs(one.times).max()))).any():
                k = int(apart.argmax())
                raise ValueError(
                    f"{metric} needs real and generated paths at the same times; "
                    f"got {one.times[k]:g} and {two.times[k]:g} at position {k}"
                )
        two = replace(two, times=one.times) if isinstance(real, Paths) else two
    # Arrays carry no times: they take those of the other side.
    if one.times.shape == two.times.shape:
        if not isinstance(real, Paths):
            one = replace(one, times=two.times)
        elif not isinstance(generated, Paths):
            two = replace(two, times=one.times)
    return one, replace(two, names=one.names)


def drop_constant(real: Set, generated: Set, metric: str) -> tuple[Set, Set]:
    """Leave out channels that are constant in the real set, with a warning that names them.

    Raises
    ------
    ValueError
        If every channel is.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(5, 4, 2)) * [1, 0]
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     one, _ = drop_constant(*path_sets(x, x, metric="gap"), "gap")
    >>> one.names, str(caught[0].message)
    (('x0',), "gap leaves out channel 'x1', which is constant in the real paths")
    """
    flat = real.values.reshape(-1, real.dim)
    varies = np.nanmax(flat, axis=0) > np.nanmin(flat, axis=0)
    if varies.all():
        return real, generated
    constant = ", ".join(repr(name) for name, v in zip(real.names, varies, strict=True) if not v)
    if not varies.any():
        raise ValueError(f"{metric} needs a channel that varies; all real channels ({constant}) are constant")
    warnings.warn(
        f"{metric} leaves out channel {constant}, which is constant in the real paths", UserWarning, stacklevel=3
    )
    return real.channels(varies), generated.channels(varies)


def rescale(real: Set, generated: Set, scale: Scale, train: Paths | Array | None = None) -> tuple[Set, Set]:
    """Put both sets on one scale, whose statistics come from real paths only.

    Parameters
    ----------
    real, generated
        The sets.
    scale
        ``"real-std"``: minus the mean, over the standard deviation of each channel; ``"minmax"``: to [0, 1];
        ``(shift, scale)``: minus the one, over the other; ``None``: as they are.
    train
        Real paths from which the statistics come; by default ``real``.

    Raises
    ------
    ValueError
        If the scale is unknown or not positive, or a channel is constant.

    Examples
    --------
    >>> x = np.array([[[0.0], [2.0]], [[4.0], [2.0]]])
    >>> rescale(*path_sets(x, x + 4, metric="gap"), "minmax")[1].values.ravel().tolist()
    [1.0, 1.5, 2.0, 1.5]
    """
    if scale is None:
        return real, generated
    source: PathSet = real if train is None else _path_set(train, "train", "the scale", "raise")
    shift, width = _scale_of(source, scale)
    if not (width > 0).all():
        constant = ", ".join(repr(name) for name, w in zip(real.names, width, strict=True) if not w > 0)
        raise ValueError(
            f"channel {constant} is constant in the real paths, so scale={scale!r} has no unit for it: give "
            "scale=(shift, scale), or leave the channel out"
        )
    return (
        replace(real, values=(real.values - shift) / width),
        replace(generated, values=(generated.values - shift) / width),
    )


def on_scale_of(source: PathSet, scale: Scale, *sets: PathSet) -> tuple[PathSet, ...]:
    """Return sets on the scale of a source; channels that are constant there stay, and are only shifted.

    Examples
    --------
    >>> x, y = path_sets(np.ones((2, 2, 1)), np.full((2, 2, 1), 4.0), metric="gap")
    >>> on_scale_of(x, "minmax", y)[0].values.ravel().tolist()
    [3.0, 3.0, 3.0, 3.0]
    """
    shift, width = _scale_of(source, scale)
    width = np.where(width == 0, 1.0, width)
    return tuple(replace(paths, values=(paths.values - shift) / width) for paths in sets)


def _scale_of(paths: PathSet, scale: Scale) -> tuple[Array, Array]:
    """Return shift and scale ``(d,)`` of a set, as :func:`rescale` names them; the scale of a constant channel is 0."""
    flat = paths.values.reshape(-1, paths.dim)
    if scale is None:
        return np.zeros(paths.dim), np.ones(paths.dim)
    if isinstance(scale, tuple):
        shift, width = (np.broadcast_to(np.asarray(part, dtype=np.float64), (paths.dim,)) for part in scale)
        if not (width > 0).all():
            raise ValueError(f"scale must be positive for every channel; got {width[~(width > 0)][0]:g}")
        return shift, width
    if scale == "real-std":
        return np.nanmean(flat, axis=0), np.nanstd(flat, axis=0)
    if scale == "minmax":
        low = np.nanmin(flat, axis=0)
        return low, np.nanmax(flat, axis=0) - low
    raise ValueError(f"scale must be 'real-std', 'minmax', (shift, scale) or None; got {scale!r}")


def _path_set(source: Any, name: str, metric: str, on_nan: str) -> PathSet:
    if isinstance(source, Paths):
        values = source.values.detach().cpu().numpy().astype(np.float64)
        mask = None if source.mask is None else source.mask.cpu().numpy()
        if source.lengths is not None:
            within = np.arange(source.n_times) < source.lengths.cpu().numpy()[:, None]
            shown = np.broadcast_to(within[:, :, None], values.shape)
            mask = shown if mask is None else mask & shown
        if mask is not None and mask.all():
            mask = None
        times = source.times.cpu().numpy()
        names = source.names or tuple(f"x{i}" for i in range(source.dim))
        values = values if mask is None else np.where(mask, values, np.nan)
        kept = _whole(np.where(np.isnan(values), 0.0, values), name, on_nan)
        found = PathSet(values, times, mask, tuple(names))
        return found if kept.all() else replace(found.take(kept), dropped=int((~kept).sum()))
    values = as_array(source, f"{name} paths").astype(np.float64)
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"{metric} needs {name} paths (n, T, d) with at least one of each; got {values.shape}")
    kept = _whole(values, name, on_nan)
    names = tuple(f"x{i}" for i in range(values.shape[2]))
    times = np.arange(values.shape[1], dtype=np.float64)
    return PathSet(values[kept], times, None, names, int((~kept).sum()))


def _whole(values: Array, name: str, on_nan: str) -> Bools:
    """Return which paths can be computed with, or say that one cannot."""
    whole = ~broken(values).any((1, 2))
    dropped = int((~whole).sum())
    if dropped and (on_nan == "raise" or dropped == len(values)):
        raise ValueError(
            f"{name} paths must be finite; got {what_is_broken(values)} in {dropped} of {len(values)} paths: "
            "give what was not observed as the mask of gendyn.Paths"
            + (", or count broken paths with on_nan='count'" if name == "generated" else "")
        )
    return np.asarray(whole)
