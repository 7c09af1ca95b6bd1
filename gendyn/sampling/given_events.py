r"""Paths that are moved at given times: treatments, shocks, observations, whatever somebody else has the clock of.

.. math:: dX = f(t, X)\, dt + g(t, X)\, dW \quad \text{between events}, \qquad X_{t_k} = J(X_{t_k-}, e_k) .

Of jumps that the process itself draws, see :class:`~gendyn.sampling.JumpSpec`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, all_finite, exact_times
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.door import Gradient
from gendyn.sampling.process import Process
from gendyn.sampling.sample import sample

__all__ = ["Event", "sample_with_events"]


class Event(NamedTuple):
    """The k-th event of every path.

    Attributes
    ----------
    number
        ``k``, from 0.
    time
        ``(B, 1)``, of the type of the states; the last time of a path that has no such event.
    there
        ``(B,)``, whether a path has such an event; states of others are left alone whatever is returned for them.
    """

    number: int
    time: Tensor
    there: Tensor


def sample_with_events(
    process: Process,
    x0: Tensor,
    times: ArrayLike,
    events: ArrayLike,
    jump_fn: Callable[[Tensor, Event], Tensor],
    *,
    solver: str = "auto",
    step: float | None = None,
    substeps: int | None = None,
    seed: Seed = 0,
    gradient: Gradient = "none",
    names: Sequence[str] | None = None,
) -> Paths:
    """Simulate paths that are moved at given times.

    Parameters
    ----------
    process
        What moves between events.
    x0
        Start states ``(B, d)``.
    times
        Output times ``(T,)`` or ``(B, T)``, the first of which belongs to ``x0``; padding repeats a path's last time.
        At the time of an event the state is that after it.
    events
        Times of events, increasing, after the first output time: ``(E,)`` shared or ``(B, E)``, infinite where a path
        has fewer. Those after a path's last output time are not reached.
    jump_fn
        ``jump_fn(x, event) -> (B, d)``: states after an event from those before, see :class:`Event`.
    solver, step, substeps, seed, gradient, names
        Of :func:`gendyn.sample`; steps end on events too, and the noise between two events has a seed of its own.

    Returns
    -------
    Paths
        Values ``(B, T, d)``; ``values[:, 0]`` is ``x0``.

    Raises
    ------
    ValueError
        If events do not fit the paths, do not increase or come too early, or ``jump_fn`` returns another shape.
    FloatingPointError
        If states after an event are not finite.

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> rest = ODE(lambda t, x: torch.zeros_like(x), dim=1)
    >>> times, events = [0.0, 1.0, 2.0, 3.0], [1.0, 2.5]
    >>> paths = sample_with_events(rest, torch.ones(1, 1), times, events, lambda x, event: 2 * x, step=1.0)
    >>> paths.values[0, :, 0].tolist()
    [1.0, 2.0, 2.0, 4.0]
    """
    if x0.ndim != 2:
        raise ValueError(f"x0 must have shape (B, d); got {tuple(x0.shape)}")
    batch = len(x0)
    shared, outputs = exact_times(times), exact_times(times)
    outputs = outputs.expand(batch, -1) if outputs.ndim == 1 else outputs
    if outputs.ndim != 2 or len(outputs) != batch or outputs.shape[1] < 2:
        raise ValueError(f"times must have shape (T,) or ({batch}, T) with T at least 2; got {tuple(shared.shape)}")
    end = outputs[:, -1:]
    moments = _moments(events, outputs)
    stops = torch.cat([moments, end], dim=1)
    root, values = as_seed(seed), x0[:, None].expand(-1, outputs.shape[1], -1)
    x, start = x0, outputs[:, :1]
    with torch.no_grad() if gradient == "none" else contextlib.nullcontext():
        for k in range(stops.shape[1]):
            stop = torch.minimum(stops[:, k : k + 1], end)
            # What is asked about between two events; all else stands at the end of it.
            within = (outputs > start) & (outputs < stop)
            grid = torch.cat([start, torch.where(within, outputs, stop).sort(1).values, stop], dim=1)
            grid = grid[:, : 2 + int(within.sum(1).max())]
            path = x[:, None].expand(-1, grid.shape[1], -1)
            if bool((stop > start).any()):
                own = grid[0] if bool((grid == grid[0]).all()) else grid
                path = sample(
                    process, x, own, solver=solver, step=step, substeps=substeps, seed=derive_seed(root, "event", k),
                    gradient=gradient,
                ).values  # fmt: skip
            here = (outputs >= start) & (outputs <= stop)
            at = torch.searchsorted(grid.contiguous(), outputs.contiguous()).clamp_max(grid.shape[1] - 1).to(x.device)
            found = path.gather(1, at[:, :, None].expand(-1, -1, x.shape[1]))
            values = torch.where(here.to(x.device)[:, :, None], found, values)
            x, start = path[:, -1], stop
            if k < moments.shape[1]:
                there = moments[:, k] <= end[:, 0]
                x = _moved(x, Event(k, stop.to(x), there.to(x.device)), jump_fn)
                # An output at the time of an event is that after it.
                now = (there[:, None] & (outputs == stop)).to(x.device)
                values = torch.where(now[:, :, None], x[:, None], values)
    info = {"solver": solver, "seed": root, "events": moments.shape[1]}
    return Paths.of_checked(shared, values, names=names, info=info)


def _moments(events: ArrayLike, outputs: Tensor) -> Tensor:
    """Return times of events ``(B, E)``, infinite where there is none."""
    given = exact_times(events)
    moments = given.expand(len(outputs), -1) if given.ndim == 1 else given
    if moments.ndim != 2 or len(moments) != len(outputs):
        raise ValueError(f"events must have shape (E,) or ({len(outputs)}, E); got {tuple(given.shape)}")
    bad = torch.nonzero(~(moments > outputs[:, :1]))
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(
            f"events must come after the first time; path {i} begins at {float(outputs[i, 0]):g} and has an event at "
            f"{float(moments[i, k]):g}"
        )
    bad = torch.nonzero(~(moments[:, 1:] > moments[:, :-1]) & ~moments[:, 1:].isposinf())
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(
            f"events must increase; path {i} has {float(moments[i, k + 1]):g} after {float(moments[i, k]):g}: what "
            "happens at one time is one event"
        )
    return moments


def _moved(x: Tensor, event: Event, jump_fn: Callable[[Tensor, Event], Any]) -> Tensor:
    """Return states after an event."""
    if not bool(event.there.any()):
        return x
    moved = jump_fn(x, event)
    if not isinstance(moved, Tensor) or moved.shape != x.shape:
        got = tuple(moved.shape) if isinstance(moved, Tensor) else type(moved).__name__
        raise ValueError(f"jump_fn must return states of shape {tuple(x.shape)}; got {got}")
    after = torch.where(event.there[:, None], moved, x)
    if not all_finite(after.detach()):
        raise FloatingPointError(f"states are not finite after event {event.number}; look at jump_fn")
    return after
