"""Random numbers by tile: the same wherever, whenever and in whatever order they are asked for.

A tile holds the numbers of 256 rows under some labels, and has a generator of its own that is keyed by (seed, purpose,
row block, labels). With ``rng="torch"`` the key is a hash, folded to the 32 bits that torch's generator reads: fast,
and two given tiles share a stream with probability :math:`2^{-32}`. With ``rng="philox"`` the key is the seed and the
purpose, and the labels stand in the upper words of Philox's counter (Salmon et al. 2011), so that no two tiles can
ever share a number; slower in single precision (about three times), not in double.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gendyn.randomness import derive_seed, extend_seed

__all__ = ["ROWS", "STEPS", "Rng", "Tiles", "check_source"]

ROWS = 256
"""Rows of one block. Torch's CPU generator fills in groups of 16, which 256 rows of any width respect."""

STEPS = 32
"""Steps whose numbers are drawn at once; larger blocks fall out of the cache."""

Rng = Literal["torch", "philox"]
Law = Literal["normal", "uniform"]

_WORD = (1 << 64) - 1


class Tiles:
    """Independent numbers of one purpose, for some rows.

    Parameters
    ----------
    key
        Root seed.
    purpose
        What the numbers are for; another purpose has other numbers.
    n_rows, n_columns, first_row
        Which rows, and how many numbers each has; ``first_row`` is a multiple of 256.
    like
        Gives type and device of what is returned.
    rng
        The generator, see the module.
    dtype
        Type in which numbers are drawn, before they are cast; by default that of ``like``. Draws in single and in
        double precision are different numbers.

    Examples
    --------
    >>> whole = Tiles(0, "noise", 300, 2, 0, torch.zeros(1)).draw((7,), 4)
    >>> part = Tiles(0, "noise", 44, 2, 256, torch.zeros(1)).draw((7,), 4)
    >>> bool((whole[:, 256:] == part).all())
    True
    """

    def __init__(
        self,
        key: int,
        purpose: str,
        n_rows: int,
        n_columns: int,
        first_row: int,
        like: Tensor,
        *,
        rng: Rng = "torch",
        dtype: torch.dtype | None = None,
    ) -> None:
        if first_row % ROWS:
            raise ValueError(f"first_row must be a multiple of {ROWS}; got {first_row}")
        self._rows = n_rows
        self._columns = n_columns
        self._like = like
        # Drawn on the CPU, so that every device sees the same numbers; half precision is rounded from single.
        drawn = like.dtype if dtype is None else dtype
        self._dtype = drawn if drawn in (torch.float32, torch.float64) else torch.float32
        self._tiles: list[Tensor] = []
        filler = _torch_filler if rng == "torch" else _philox_filler
        self._fill = filler(key, purpose, range(first_row // ROWS, -(-(first_row + n_rows) // ROWS)))

    def draw(self, labels: tuple[int | str, ...], *leading: int, law: Law = "normal", scale: float = 1.0) -> Tensor:
        """Return numbers ``(*leading, n_rows, n_columns)`` of the tile that the labels name, times a scale."""
        shape = (*leading, ROWS, self._columns)
        if not self._tiles or self._tiles[0].shape != shape:
            self._tiles = [torch.empty(shape, dtype=self._dtype) for _ in range(-(-self._rows // ROWS))]
        scaled = law == "normal" and self._dtype == self._like.dtype
        self._fill(self._tiles, labels, law, scale if scaled else 1.0)
        whole = torch.cat(self._tiles, dim=-2)
        if self._rows % ROWS:
            whole = whole[..., : self._rows, :]
        whole = whole.to(self._like)
        return whole if scaled or scale == 1.0 else whole * scale


Filler = Callable[[list[Tensor], tuple[Any, ...], Law, float], None]
"""Fills a tile for each block of rows; normals are scaled while they are drawn, which saves a pass over them."""


def _torch_filler(key: int, purpose: str, blocks: range) -> Filler:
    generator = torch.Generator()
    keys = [derive_seed(key, purpose, block) for block in blocks]

    def fill(tiles: list[Tensor], labels: tuple[int | str, ...], law: Law, scale: float) -> None:
        for key, tile in zip(keys, tiles, strict=True):
            seed = extend_seed(key, *labels)
            generator.manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)
            if law == "normal":
                tile.normal_(0.0, scale, generator=generator)
            else:
                tile.uniform_(generator=generator)

    return fill


def _philox_filler(key: int, purpose: str, blocks: range) -> Filler:
    bits = np.random.Philox(key=zlib.crc32(purpose.encode()) << 64 | key & _WORD)
    generator = np.random.Generator(bits)
    state: Any = bits.state

    def fill(tiles: list[Tensor], labels: tuple[int, ...], law: Law, scale: float) -> None:
        # The lowest word counts within the tile. Labels beyond the first (a tree's depth and block) share a word.
        first, depth, part = (*labels, 0, 0)[:3]
        for block, tile in zip(blocks, tiles, strict=True):
            state["state"]["counter"][:] = (0, block, first & _WORD, depth << 56 | part)
            state["buffer_pos"] = 4
            state["has_uint32"] = 0
            bits.state = state
            array = tile.numpy()
            if law == "normal":
                generator.standard_normal(dtype=array.dtype, out=array)
                tile *= scale
            else:
                generator.random(dtype=array.dtype, out=array)

    return fill


def check_source(rng: str, dtype: torch.dtype | None) -> None:
    """Say which generators and types there are.

    Raises
    ------
    ValueError
        If one is given that is not.
    """
    if rng not in get_args(Rng):
        raise ValueError(f"rng must be one of {', '.join(get_args(Rng))}; got {rng!r}")
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype of the noise must be torch.float32 or torch.float64; got {dtype}")
