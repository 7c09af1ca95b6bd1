"""Independent solves side by side: the network simplex runs outside Python's lock, so threads are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["spread"]

Item = TypeVar("Item")
Value = TypeVar("Value")


def spread(function: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
    """Return ``[function(item) for item in items]``, computed on as many threads as torch may use.

    Results do not depend on the number of threads: each call must take its randomness from its item.

    Examples
    --------
    >>> spread(lambda k: k * k, range(4))
    [0, 1, 4, 9]
    """
    work = list(items)
    threads = min(torch.get_num_threads(), len(work))
    if threads < 2:
        return [function(item) for item in work]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, work))
