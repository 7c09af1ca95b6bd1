"""The door of :class:`~gendyn.data.Paths`: what fits together, and the sentence for what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, all_finite, as_tensor, check_finite

__all__ = ["check_labels", "check_lengths", "check_mask", "check_path_times", "check_values"]

_BLOCK = 1 << 22
"""Values that are looked at together."""


def check_lengths(times: Tensor, values: Tensor, lengths: ArrayLike | None) -> Tensor | None:
    """Return the number of times of each path ``(n,)``, or ``None`` where all have all."""
    n, length = values.shape[:2]
    if lengths is None:
        if times.ndim != 2 or times.shape != (n, length) or length < 2:
            return None
        # A path's own times end where they stop increasing.
        found = (times.diff(dim=1) > 0).to(torch.int64).cumprod(1).sum(1) + 1
        return None if bool((found == length).all()) else found.to(values.device)
    result = as_tensor(lengths, "lengths").to(device=values.device, dtype=torch.int64)
    if result.shape != (n,):
        raise ValueError(f"lengths must have shape ({n},); got {tuple(result.shape)}")
    if bool((result < 1).any()) or bool((result > length).any()):
        raise ValueError(f"lengths must lie in 1 to {length}; got {int(result.min())} to {int(result.max())}")
    return result


def check_path_times(times: Tensor, values: Tensor, lengths: Tensor | None) -> None:
    """Refuse times that do not fit the values, or do not increase up to the end of each path and stay there."""
    n, length = values.shape[:2]
    if times.shape not in ((length,), (n, length)):
        raise ValueError(
            f"times must have shape ({length},) or ({n}, {length}) for these values; got {tuple(times.shape)}"
        )
    check_finite(times, "times")
    gaps = times.diff(dim=-1)
    if times.ndim == 1:
        if length > 1 and not (bool((gaps > 0).all()) or bool((gaps < 0).all())):
            k = int(torch.nonzero(gaps * gaps[0].sign() <= 0)[0]) if gaps[0] != 0 else 0
            raise ValueError(
                f"times must increase strictly (or fall strictly); got {times[k + 1]:g} after {times[k]:g} at "
                f"position {k + 1}"
            )
        return
    inside = torch.ones_like(gaps, dtype=torch.bool)
    if lengths is not None:
        inside = torch.arange(1, length) < lengths.cpu()[:, None]
    bad = torch.nonzero((gaps <= 0) & inside)
    if len(bad):
        i, k = (int(v) for v in bad[0])
        raise ValueError(
            f"times must increase strictly within a path; path {i} has {times[i, k + 1]:g} after {times[i, k]:g} "
            f"at position {k + 1}"
        )
    changed = torch.nonzero((gaps != 0) & ~inside)
    if len(changed):
        i, k = (int(v) for v in changed[0])
        raise ValueError(
            f"times after the end of a path must repeat its last time; path {i} goes from {times[i, k]:g} to "
            f"{times[i, k + 1]:g} at position {k + 1}"
        )


def check_mask(mask: ArrayLike, values: Tensor) -> Tensor:
    """Return the mask as booleans ``(n, T, d)``."""
    result = as_tensor(mask, "mask")
    if result.dtype != torch.bool:
        if not bool(((result == 0) | (result == 1)).all()):
            raise ValueError("mask must hold true and false (or 1 and 0) only")
        result = result.to(torch.bool)
    if result.shape == values.shape[:2]:
        result = result[:, :, None].expand(values.shape).clone()
    if result.shape != values.shape:
        raise ValueError(
            f"mask must have shape {tuple(values.shape)} or {tuple(values.shape[:2])}; got {tuple(result.shape)}"
        )
    if not bool(result.any()):
        raise ValueError("the mask hides every value; at least one must be observed")
    return result.to(values.device)


def check_values(
    look: Callable[[slice], Tensor],
    values: Tensor,
    mask: Tensor | None,
    lengths: Tensor | None,
    states: Sequence[str] | None,
) -> None:
    """Say what is wrong with the values of paths, looking at one block of rows after the other.

    Parameters
    ----------
    look
        Returns some rows of the values: of a tensor, or read from where the tensor is mapped from.
    values, mask, lengths, states
        The values, which are not looked at themselves, what of them was observed, and what they may be.

    Raises
    ------
    ValueError
        If an observed value is not finite, or a state has no name.

    Examples
    --------
    >>> values = torch.zeros(5, 2, 1)
    >>> check_values(values.__getitem__, values, None, None, None)
    """
    floating = values.is_floating_point()
    if not floating and states is None:
        return
    bad: list[int] = []
    extremes: list[int] = []
    for rows in _blocks(values):
        part = look(rows).detach()
        if floating and all_finite(part):
            continue
        seen = _observed(rows, values, mask, lengths)
        if floating:
            unfit = ~torch.isfinite(part) if seen is None else ~torch.isfinite(part) & seen
            bad += (torch.nonzero(unfit.flatten(1).any(1)).flatten() + rows.start).tolist()
        else:
            observed = part if seen is None else part[seen.expand(part.shape)]
            extremes += [int(observed.min()), int(observed.max())] if observed.numel() else []
    if bad:
        raise ValueError(
            f"observed values must be finite; got NaN or infinity in {len(bad)} of {len(values)} paths (first: "
            f"{', '.join(map(str, bad[:5]))}): give a mask that says what was observed"
        )
    if states is not None and extremes and (min(extremes) < 0 or max(extremes) >= len(states)):
        raise ValueError(
            f"values must lie in 0 to {len(states) - 1}, one for each of {len(states)} states; got {min(extremes)} "
            f"to {max(extremes)}"
        )


def _blocks(values: Tensor) -> Iterator[slice]:
    """Return slices of rows; what looks at values makes temporaries of their size."""
    size = max(1, _BLOCK // (values.shape[1] * values.shape[2]))
    return (slice(start, min(start + size, len(values))) for start in range(0, len(values), size))


def _observed(rows: slice, values: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """Return where some rows were observed, or ``None`` for everywhere."""
    seen = None if mask is None else mask[rows]
    if lengths is None:
        return seen
    within = (torch.arange(values.shape[1], device=values.device) < lengths[rows, None])[:, :, None]
    return within if seen is None else seen & within


def check_labels(labels: ArrayLike, n: int) -> np.ndarray[Any, Any]:
    """Return a copy of the labels, integers or strings ``(n,)``."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"labels must have shape ({n},); got {array.shape}")
    if array.dtype.kind == "O":
        array = array.astype(str)
    if array.dtype.kind not in "iuUb":
        raise TypeError(f"labels must be integers or strings; got type {array.dtype}")
    return array.copy()
