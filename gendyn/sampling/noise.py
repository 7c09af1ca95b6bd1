r"""Where randomness comes from: Brownian increments that can be had again.

The standard normals behind :math:`\Delta W = \sqrt{h}\, z` come in rows of 256 paths. Every block of rows has a
generator of its own, keyed by (seed, block), and draws its steps in order. The path of row :math:`i` is thus a
function of the seed, :math:`i` and the grid alone: a larger batch leaves it as it is, and a batch cut into
chunks of whole blocks gives the same numbers bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.randomness import torch_generator

__all__ = ["ROWS", "BrownianStream"]

ROWS = 256
"""Rows of one block. Torch's CPU generator fills in groups of 16, which 256 rows of any width respect."""


class BrownianStream:
    """Standard normals for consecutive steps, the same for any division into chunks.

    Parameters
    ----------
    key
        Root of the randomness.
    n_rows, n_columns
        Paths and Brownian motions.
    first_row
        Number of the first path; a multiple of 256.
    dtype, device
        Of the normals. Drawn on the CPU, so that every device sees the same numbers.

    Examples
    --------
    >>> whole = BrownianStream(0, 300, 2).normals(3)
    >>> part = BrownianStream(0, 44, 2, first_row=256).normals(3)
    >>> bool((whole[:, 256:] == part).all())
    True
    """

    def __init__(
        self,
        key: int,
        n_rows: int,
        n_columns: int,
        *,
        first_row: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if first_row % ROWS:
            raise ValueError(f"first_row must be a multiple of {ROWS}; got {first_row}")
        self.n_rows = n_rows
        self.n_columns = n_columns
        self.dtype = dtype
        self.device = torch.device(device)
        blocks = range(first_row // ROWS, -(-(first_row + n_rows) // ROWS))
        self._generators = [torch_generator(key, "noise", block) for block in blocks]

    def normals(self, n_steps: int) -> Tensor:
        """Return the normals of the next steps, ``(n_steps, n_rows, n_columns)``."""
        shape = (n_steps, ROWS, self.n_columns)
        if len(self._generators) == 1:
            # Contiguous rows matter more than the copy: every step reads one slice.
            z = torch.randn(shape, generator=self._generators[0], dtype=self.dtype)[:, : self.n_rows]
        else:
            blocks = [torch.randn(shape, generator=g, dtype=self.dtype) for g in self._generators]
            z = torch.cat(blocks, dim=1)[:, : self.n_rows]
        return z.to(self.device)
