r"""Control paths: a series of observations as a function of continuous time.

Between the observations :math:`(t_k, x_k)` of a channel, with steps :math:`h_k = t_{k+1} - t_k` and
:math:`s = t - t_k`, the path is a polynomial

.. math:: X(t) = a_k + b_k s + c_k s^2 + d_k s^3 ,

and each channel has knots of its own, so that missing values need no filling beforehand:

==============  =====================================================================  ============================
method          path                                                                   sees ahead
==============  =====================================================================  ============================
``rectilinear`` the last observation (zero before the first)                           not at all: it is causal
``linear``      the line between neighbouring observations                             to the channel's next one
``hermite``     cubic through all rows, missing ones filled by that line, with         to the channel's next one
                backward differences as derivatives (Morrill et al. 2022)              after the row that follows
``natural``     the natural cubic spline                                               the whole series
==============  =====================================================================  ============================

Except for the first, a channel is constant before its first and after its last observation (the spline has knots of
those values at both ends of the series); a channel that was never observed is zero. A path is constant beyond the
ends of its series.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.data.checks import exact_times, warn_user
from gendyn.data.paths import Paths

__all__ = ["LOOK_AHEAD", "ControlMethod", "ControlPath"]

ControlMethod = Literal["rectilinear", "linear", "hermite", "natural"]

LOOK_AHEAD: Mapping[str, str] = MappingProxyType(
    {
        "rectilinear": "nothing",
        "linear": "the next observation of the channel",
        "hermite": "the next observation of the channel after the row that follows",
        "natural": "the whole series",
    }
)
"""What of the future a control path depends on, by method."""


class ControlPath:
    """Interpolations of a batch of series, each with times of its own.

    Parameters
    ----------
    times
        ``(L,)`` shared by all series, or ``(B, L)``, increasing up to each series' end and repeating its last time
        after it.
    values
        ``(B, L, D)``; what was not observed may be anything, also NaN.
    mask
        ``(B, L, D)``, true where observed; by default everything is that is not NaN.
    lengths
        ``(B,)`` number of times of each series, by default ``L``.
    method
        One of the module's table.

    Raises
    ------
    ValueError
        If the method is unknown or shapes do not fit.

    Examples
    --------
    >>> path = ControlPath(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([[[0.0], [1.0], [0.0]]]), method="natural")
    >>> path(torch.tensor([0.5, 1.0, 1.5]))[0, :, 0].tolist()
    [0.6875, 1.0, 0.6875]
    """

    def __init__(
        self,
        times: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        lengths: Tensor | None = None,
        method: ControlMethod = "hermite",
    ) -> None:
        if method not in get_args(ControlMethod):
            raise ValueError(f"a control path must be one of {', '.join(get_args(ControlMethod))}; got {method!r}")
        if values.ndim != 3 or times.shape not in ((values.shape[1],), values.shape[:2]):
            raise ValueError(
                f"a control path needs values (B, L, D) at times (L,) or (B, L); got {tuple(values.shape)} at "
                f"{tuple(times.shape)}"
            )
        self.method = method
        self._dtype = values.dtype
        clock = times.to(values.device, torch.float64)
        clock = clock[None] if clock.ndim == 1 else clock
        batch, length, self.dim = values.shape
        ends = torch.full((batch,), length, device=values.device) if lengths is None else lengths.to(values.device)
        inside = torch.arange(length, device=values.device) < ends[:, None]
        seen = ~values.isnan() if mask is None else mask.to(values.device)
        seen = (seen & inside[:, :, None]).mT
        x = torch.where(seen, values.mT.to(torch.float64), 0.0)
        self._first = clock[:, :1]
        self._last = clock.expand(batch, length).gather(1, (ends - 1)[:, None])
        if method == "rectilinear":
            seen = seen | (torch.arange(length, device=x.device) == 0)
        else:
            x, seen = _with_ends(x, seen, ends)
            if method == "natural" and bool((ends == 1).any()):
                warn_user(f"{int((ends == 1).sum())} series have one time each, and a constant for a spline")
        self._knots, x, self._counts = _knots(clock, x, seen)
        zero = torch.zeros_like(x)
        if method == "rectilinear":
            self._coefficients = (x, zero, zero, zero)
            return
        if method == "hermite":
            self._coefficients = (x, _slopes(self._knots, x, self._counts), zero, zero)
            rows = clock.expand(batch, length)
            x = self(rows).mT.to(torch.float64)
            self._knots, x, self._counts = _knots(clock, x, inside[:, None].expand(x.shape))
        self._coefficients = _POLYNOMIALS[method](self._knots, x, self._counts)

    @classmethod
    def of(cls, paths: Paths, method: ControlMethod = "hermite") -> ControlPath:
        """Return the control paths of observed series.

        Examples
        --------
        >>> path = ControlPath.of(Paths([0.0, 2.0], torch.tensor([[0.0, 4.0]])), "linear")
        >>> path(torch.tensor([0.5]))[0].tolist()
        [[1.0]]
        """
        return cls(paths.times, paths.values, paths.mask, paths.lengths, method)

    def __call__(self, times: Tensor) -> Tensor:
        """Return the values ``(B, Q, D)`` at times ``(Q,)``, or ``(B, Q)`` of each series' own."""
        s, at, _ = self._places(times)
        a, b, c, d = (coefficient.gather(2, at) for coefficient in self._coefficients)
        return (a + s * (b + s * (c + s * d))).mT.to(self._dtype)

    def derivative(self, times: Tensor) -> Tensor:
        """Return the derivatives ``(B, Q, D)``: from the right at a knot, from the left at the end, zero beyond.

        Raises
        ------
        ValueError
            If the path is rectilinear, which jumps.
        """
        if self.method == "rectilinear":
            raise ValueError("a rectilinear control path jumps and has no derivative; take another method")
        s, at, within = self._places(times)
        _, b, c, d = (coefficient.gather(2, at) for coefficient in self._coefficients)
        return ((b + s * (2 * c + s * 3 * d)) * within).mT.to(self._dtype)

    def coefficients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, b, c and d of the module's formula ``(B, D, K)``, in float64, from each of a channel's knots on.

        The knots of a path without missing values are its times.
        """
        a, b, c, d = self._coefficients
        return a, b, c, d

    def _places(self, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return time since the knot, number of the knot, both ``(B, D, Q)``, and whether a time is within."""
        asked = exact_times(times).to(self._knots.device)
        batch = len(self._coefficients[0])
        asked = asked.expand(batch, -1) if asked.ndim == 1 else asked
        if asked.ndim != 2 or len(asked) != batch:
            raise ValueError(f"times must have shape (Q,) or ({batch}, Q); got {tuple(times.shape)}")
        t = torch.minimum(torch.maximum(asked, self._first), self._last)
        within = (asked == t)[:, None]
        channels = self._knots.shape[1]
        t = t[:, None].expand(batch, channels, -1).contiguous()
        at = torch.searchsorted(self._knots, t, right=True) - 1
        most = self._counts - (1 if self.method == "rectilinear" else 2)
        at = torch.minimum(at, most.clamp_min(0)[:, :, None])
        s = t - self._knots.gather(2, at)
        shape = (batch, self.dim, t.shape[2])
        return s.expand(shape), at.expand(shape), within


def _with_ends(x: Tensor, seen: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and what was seen ``(B, D, L)`` with the nearest observation at both ends of each series."""
    length = x.shape[2]
    place = torch.arange(length, device=x.device)
    any_seen = seen.any(2, keepdim=True)
    first = torch.where(seen, place, length).amin(2, keepdim=True).clamp_max(length - 1)
    last = torch.where(seen, place, -1).amax(2, keepdim=True).clamp_min(0)
    left = torch.where(any_seen, x.gather(2, first), 0.0)
    right = torch.where(any_seen, x.gather(2, last), 0.0)
    at_end = place == (ends - 1)[:, None, None]
    x = torch.where(at_end & ~seen, right, x)
    x = torch.where((place == 0) & ~seen, left, x)
    return x, seen | at_end | (place == 0)


def _knots(clock: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return knots, infinite after the last, their values ``(B, D, K)``, and how many there are ``(B, D)``.

    Where all channels have the same knots, there is one row of them.
    """
    batch, _, length = x.shape
    if bool((seen == seen[:, :1]).all()):
        seen = seen[:, :1]
    counts = seen.sum(2)
    most = max(int(counts.max()), 2)
    times = clock[:, None].expand(batch, seen.shape[1], length)
    if not bool(seen.all()):
        # A stable sort pushes observations to the front, in their order.
        order = torch.argsort(~seen, dim=2, stable=True)
        x = x.gather(2, order.expand(x.shape))
        times = times.gather(2, order)
    if length < most:
        x, times = (torch.cat([v, v[..., -1:]], dim=2) for v in (x, times))
    x, times = x[..., :most], times[..., :most]
    after = torch.arange(most, device=x.device) >= counts[:, :, None]
    return times.masked_fill(after, torch.inf).contiguous(), x, counts


def _steps(knots: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of the interval after each knot but the last, one where there is none, and where there is."""
    there = torch.arange(knots.shape[2] - 1, device=knots.device) < (counts - 1)[:, :, None]
    return torch.where(there, knots.nan_to_num(posinf=0.0).diff(dim=2), 1.0), there


def _slopes(knots: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Return the slope of the interval after each knot, zero at the last ``(B, D, K)``."""
    h, there = _steps(knots, counts)
    return _and_zero(torch.where(there, x.diff(dim=2) / h, 0.0))


def _and_zero(of_intervals: Tensor) -> Tensor:
    """Return what belongs to intervals, with a zero for the last knot, after which there is none."""
    return torch.cat([of_intervals, torch.zeros_like(of_intervals[..., :1])], dim=2)


def _linear(knots: Tensor, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    zero = torch.zeros_like(x)
    return x, _slopes(knots, x, counts), zero, zero


def _hermite(knots: Tensor, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the coefficients of the cubic whose derivative at a knot is the slope of the interval before it."""
    h, there = _steps(knots, counts)
    slopes = _slopes(knots, x, counts)[..., :-1]
    before = torch.cat([slopes[..., :1], slopes[..., :-1]], dim=2)
    # Ends of the interval: the slope before it, and its own.
    c = torch.where(there, 2 * (slopes - before) / h, 0.0)
    d = torch.where(there, (before - slopes) / h.square(), 0.0)
    return x, _and_zero(torch.where(there, before, 0.0)), _and_zero(c), _and_zero(d)


def _natural(knots: Tensor, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the coefficients of natural cubic splines, by elimination in the tridiagonal system of curvatures."""
    h, there = _steps(knots, counts)
    slopes = torch.where(there, x.diff(dim=2) / h, 0.0)
    zero = torch.zeros_like(x[..., 0])
    size = x.shape[2]
    interior = (torch.arange(size, device=x.device) < (counts - 1)[:, :, None]).unbind(2)
    steps, slope = h.unbind(2), slopes.unbind(2)
    upper, right = [zero], [zero]
    for k in range(1, size - 1):
        # Rows beyond the interior say that the curvature is zero.
        pivot = 2 * (steps[k - 1] + steps[k]) - steps[k - 1] * upper[-1]
        rest = 6 * (slope[k] - slope[k - 1]) - steps[k - 1] * right[-1]
        upper.append(torch.where(interior[k], steps[k] / pivot, 0.0))
        right.append(torch.where(interior[k], rest / pivot, 0.0))
    curvatures = [zero]
    for k in range(size - 2, 0, -1):
        curvatures.append(right[k] - upper[k] * curvatures[-1])
    m = torch.stack([*curvatures[1:][::-1], zero], dim=2) if size > 2 else zero[..., None]
    start, end = torch.cat([zero[..., None], m[..., :-1]], dim=2), m
    b = torch.where(there, slopes - h * (2 * start + end) / 6, 0.0)
    d = torch.where(there, (end - start) / (6 * h), 0.0)
    return x, _and_zero(b), _and_zero(torch.where(there, start / 2, 0.0)), _and_zero(d)


_POLYNOMIALS = {"linear": _linear, "hermite": _hermite, "natural": _natural}
