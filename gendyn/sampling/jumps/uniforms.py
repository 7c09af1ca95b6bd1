"""Where the randomness of jumps comes from: uniform numbers that can be had again.

As for Brownian paths (:mod:`gendyn.sampling.tiles`), every block of 256 rows has a generator of its own, keyed by
(seed, block). It draws in order of events: the numbers of event ``e`` of row ``i`` depend on the seed, ``i`` and ``e``
alone, whichever rows are still alive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.randomness import torch_generator
from gendyn.sampling.tiles import ROWS

__all__ = ["EVENTS", "UniformStream"]

EVENTS = 32
"""Events whose numbers are drawn at once."""

_LARGEST = 1.0 - 2.0**-52
"""Such that the product with any number, rounded, is below that number."""


class UniformStream:
    """Uniform numbers in [0, 1), ``width`` of them per event and row, float64.

    Parameters
    ----------
    key
        Root of the randomness.
    n_rows, width
        Paths, and numbers per event.
    first_row
        Number of the first path; a multiple of 256.

    Examples
    --------
    >>> whole = UniformStream(0, 300, 2).draw(torch.arange(300))
    >>> part = UniformStream(0, 44, 2, first_row=256).draw(torch.tensor([3, 40]))
    >>> bool((whole[:, [259, 296]] == part).all())
    True
    """

    def __init__(self, key: int, n_rows: int, width: int, *, first_row: int = 0) -> None:
        if first_row % ROWS:
            raise ValueError(f"first_row must be a multiple of {ROWS}; got {first_row}")
        blocks = range(first_row // ROWS, -(-(first_row + n_rows) // ROWS))
        self._generators = [torch_generator(key, "jumps", block) for block in blocks]
        self._width = width

    def draw(self, rows: Tensor) -> Tensor:
        """Return the numbers of the next 32 events of rows ``(n,)``, counted from the first: ``(32, n, width)``.

        Blocks without any of the rows do not move on; a row that is left out must not come back.
        """
        blocks = torch.unique(rows // ROWS)
        shape = (EVENTS, ROWS, self._width)
        drawn = [torch.rand(shape, generator=self._generators[b], dtype=torch.float64) for b in blocks.tolist()]
        numbers = drawn[0] if len(drawn) == 1 else torch.cat(drawn, dim=1)
        if len(rows) < numbers.shape[1]:
            place = torch.zeros(len(self._generators), dtype=torch.int64)
            place[blocks] = torch.arange(len(blocks))
            numbers = numbers.index_select(1, place[rows // ROWS] * ROWS + rows % ROWS)
        return numbers.clamp_(max=_LARGEST)
