"""The search of all channels together, kept on disk as it goes."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from gendyn.sde.fractional_parameters import FractionalParameters
from gendyn.sde.hurst_profile import HurstProfile
from gendyn.sde.quadratic_search import SearchState
from gendyn.training import Checkpoint, loop

__all__ = ["highest_likelihood", "profiles"]

_AGAIN, _POLISH, _SAME = 3, 20, 1e-3
"""How often another maximum is followed, steps that are taken there, and the rise below which it is the same."""


def highest_likelihood(
    channels: list[FractionalParameters],
    store: Checkpoint | None,
    kept: tuple[dict[str, Tensor], Any] | None,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[list[SearchState], list[float]]:
    """Return where the likelihood of each channel is highest, and the loss by step.

    Parameters
    ----------
    channels
        Parameters of each channel.
    store, kept
        Where the search is kept, and what was kept of an earlier one.
    tolerance, max_iterations
        Rise below which a channel is done, and the most steps.
    """
    searches = [channel.search(tolerance) for channel in channels]
    count = sum(c.likelihood.count for c in channels)
    if kept is None:
        states = [search.begin(c.starts) for search, c in zip(searches, channels, strict=True)]
        history = [-sum(s.value for s in states) / count]
    else:
        tensors, told = kept
        states = [SearchState(tensors[f"{d}.point"], told["values"][d], told["done"][d]) for d in range(len(channels))]
        history = list(told["history"])
    saved = time.monotonic()
    while not all(s.done for s in states) and len(history) <= max_iterations:
        states = [s if s.done else search.advance(s) for search, s in zip(searches, states, strict=True)]
        history.append(-sum(s.value for s in states) / count)
        last = all(s.done for s in states) or len(history) > max_iterations
        if store is not None and (last or time.monotonic() - saved >= loop._CHECKPOINT_SECONDS):
            tensors = {f"{d}.point": s.point for d, s in enumerate(states)}
            told = {"values": [s.value for s in states], "done": [s.done for s in states], "history": history}
            store.write(tensors, {"step": len(history) - 1} | told)
            saved = time.monotonic()
    return states, history


def profiles(
    channels: list[FractionalParameters], states: list[SearchState], *, tolerance: float
) -> tuple[list[HurstProfile | None], list[SearchState]]:
    """Return the profile of the Hurst index of each channel, and the maxima once these have been met from all sides."""
    found: list[HurstProfile | None] = []
    best: list[SearchState] = []
    for channel, state in zip(channels, states, strict=True):
        profile, top = channel.hurst_profile(state)
        for _ in range(_AGAIN):
            if top.value - state.value <= max(tolerance, _SAME):
                break
            search, state = channel.search(tolerance), SearchState(top.point, top.value)
            for _ in range(_POLISH):
                if state.done:
                    break
                state = search.advance(state)
            profile, top = channel.hurst_profile(state)
        found.append(profile)
        best.append(state)
    return found, best
