r"""Fractional noise for the sampler: equations driven by a path that remembers.

.. math:: dX = f(t, X)\,dt + g(t, X)\,d\hat B_H

with the Markov approximation :math:`\hat B_H` in place of Brownian motion. Its increments over the steps of the grid
are drawn exactly, whatever the step; the equation's own error is that of the solver. An additive g needs no calculus.
Where g depends on the state, the equation is one of the approximation, a semimartingale: Stratonovich's is the one
whose solution has a limit as the rates grow; Ito's differs from it by :math:`\tfrac12 (\sum_k \omega_k)^2 g g'`, which
has none for H below one half.

Columns whose drivers are correlated, :math:`dB_i\,dB_j = \rho_{ij}\,dt`, are sums :math:`B = L \tilde B` over
independent drivers, with :math:`LL^\top = \rho`: all of one Hurst index by mixing the increments themselves, columns of
several by mixing what each driver does to each column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.sampling.fractional.block_law import BlockLaw
from gendyn.sampling.fractional.decay_rates import enough_rates
from gendyn.sampling.fractional.driven_paths import driven_blocks
from gendyn.sampling.fractional.exact_paths import hurst_indices
from gendyn.sampling.fractional.laws import Kind, Normalize
from gendyn.sampling.fractional.markov_approximation import MarkovApproximation, Past, Weighting
from gendyn.sampling.fractional.markov_paths import block_laws, stationary_root
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import Driver, Increments
from gendyn.sampling.tiles import STEPS, Tiles

__all__ = ["FractionalNoise"]


@dataclass(frozen=True)
class FractionalNoise:
    r"""Fractional Brownian motion by its Markov approximation, from the first time of the run on.

    The rates cover the times from the shortest step of the grid to its length; another grid has another approximation.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each column of the noise.
    count
        Number of processes at most; a short grid takes fewer.
    kind, normalize, weighting, past, rates
        See :class:`~gendyn.sampling.MarkovApproximation`.
    correlation
        :math:`\rho` of the Brownian motions that drive the columns, ``(m, m)``; by default they are independent. With
        several Hurst indices it needs ``kind="II"`` or ``past="stationary"``.

    Raises
    ------
    ValueError
        If a parameter is out of its range, the columns are not as many as the Hurst indices, the correlation is none,
        or every path has times of its own.

    Examples
    --------
    >>> from gendyn.sampling import SDE, sample
    >>> free = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    >>> paths = sample(free, torch.zeros(4000, 1), [0.0, 4.0], step=0.1, noise=FractionalNoise(0.8))
    >>> paths.values[:, -1].var().item()  # 4 ** 1.6 = 9.19
    8.8...
    """

    hurst: float | Sequence[float]
    count: int = 7
    kind: Kind = "I"
    normalize: Normalize = "unit"
    weighting: Weighting = "law"
    past: Past = "modes"
    rates: ArrayLike = None
    correlation: ArrayLike = None
    name = "fractional"
    brownian = False
    stratonovich = True

    def __post_init__(self) -> None:
        indices = hurst_indices(self.hurst)
        if self.correlation is not None:
            root = _correlation_root(self.correlation)
            if len(indices) > 1 and len(indices) != len(root):
                raise ValueError(f"{len(indices)} Hurst indices were given for a correlation of {len(root)} columns")
            if len(indices) > 1 and self.kind == "I" and self.past == "modes":
                raise ValueError(
                    "columns of several Hurst indices with one correlation need kind='II' or past='stationary': modes "
                    "of the past are of one index each, and know no correlation"
                )

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is, if its times are shared."""
        if grid.times.ndim != 1:
            raise ValueError(
                "fractional noise needs times that all paths share: its steps remember each other; simulate paths with "
                "times of their own one after the other, or on the union of their times"
            )
        return grid

    def approximation(self, grid: StepGrid) -> MarkovApproximation:
        """Return the approximation that drives this grid."""
        gaps = _gaps(grid)
        return MarkovApproximation(
            self.hurst,
            horizon=float(gaps.sum()),
            shortest=float(gaps.min()),
            count=min(self.count, enough_rates(float(gaps.min()), float(gaps.sum()))),
            rates=self.rates,
            kind=self.kind,
            normalize=self.normalize,
            weighting=self.weighting,
            past=self.past,
        )

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        noise = self.approximation(grid)
        if noise.dim not in (1, shape[1]):
            raise ValueError(f"{noise.dim} Hurst indices were given for {shape[1]} columns of noise; give one, or each")
        root = None if self.correlation is None else _correlation_root(self.correlation)
        if root is not None and len(root) != shape[1]:
            raise ValueError(f"a correlation of {len(root)} columns was given for {shape[1]} columns of noise")
        return _Fractional(noise, key, grid, shape, first_row, like, root)


class _Fractional:
    """Increments block by block; the state at the beginning of each block is kept, K numbers for 32 steps."""

    def __init__(
        self,
        noise: MarkovApproximation,
        key: int,
        grid: StepGrid,
        shape: tuple[int, int],
        first_row: int,
        like: Tensor,
        mix: Tensor | None,
    ) -> None:
        exact = like.to(torch.float64)
        self._grid, self._like, self._noise = grid, like, noise
        gaps = _gaps(grid)
        self._mix = None if mix is None else mix.to(exact)
        self._driven: list[Tensor] = []
        self._laws: list[list[BlockLaw]] = []
        if mix is not None and noise.dim > 1:
            # What is shown of the processes are increments, hence their values less those of the step before.
            self._driven = driven_blocks(noise.decay_rates, noise.weights.mT, gaps, STEPS)
            self._weights = noise.weights.to(exact)
        else:
            self._laws = [block_laws(noise, feature, gaps) for feature in range(noise.dim)]
        ends = torch.cat([gaps.new_zeros(1), gaps.cumsum(0)])
        self._rises = noise.past_modes(ends).diff(dim=0).to(exact)
        self._steps, self._states = (
            Tiles(key, purpose, *shape, first_row, exact) for purpose in ("fractional", "fractional state")
        )
        begun = Tiles(key, "fractional start", *shape, first_row, exact)
        k = len(noise.decay_rates)
        state = torch.zeros(k, *shape, dtype=torch.float64, device=like.device)
        if noise.stationary:
            state = torch.einsum("ij,jbm->ibm", stationary_root(noise).to(exact), begun.draw((0,), k))
        self._past = begun.draw((1,), noise.n_modes) if noise.n_modes else None
        self._known = [state]
        self._held: tuple[int, Tensor] | None = None

    def increments(self, interval: int, first: int, count: int) -> Increments:
        block, at = divmod(self._grid.offsets[interval] + first, STEPS)
        if self._held is None or self._held[0] != block:
            while len(self._known) <= block:
                self._draw(len(self._known) - 1)
            self._held = block, self._draw(block).to(self._like)
        return self._held[1][at : at + count], None

    def _draw(self, block: int) -> Tensor:
        """Return the increments of a block ``(steps, B, m)``, and keep the state after it."""
        count = min(STEPS, self._grid.n_steps - block * STEPS)
        before = self._known[block]
        if self._driven:
            return self._draw_mixed(block, count, before)
        normals = torch.cat([self._steps.draw((block,), count), self._states.draw((block,), len(before))])
        columns = normals.shape[2]
        if len(self._laws) == 1:
            drawn = _move(self._laws[0][block], normals, before)
        else:
            parts = [_move(self._laws[j][block], normals[:, :, j], before[:, :, j]) for j in range(columns)]
            drawn = torch.stack(parts, 2)
        if len(self._known) == block + 1:
            self._known.append(drawn[count:])
        found = drawn[:count]
        if self._past is not None:
            rises = self._rises[block * STEPS : block * STEPS + count].expand(count, columns, -1)
            found = found + torch.einsum("smr,rbm->sbm", rises, self._past)
        return found if self._mix is None else found @ self._mix.mT

    def _draw_mixed(self, block: int, count: int, before: Tensor) -> Tensor:
        """Return the same of columns with several Hurst indices: every driver moves every column in its own way."""
        width, columns = len(before), before.shape[2]
        drawn = torch.cat([before, self._steps.draw((block,), count * width)])
        moved = torch.tensordot(self._driven[block].to(drawn).mT, drawn, 1)
        if len(self._known) == block + 1:
            self._known.append(moved[count * columns :])
        # Values (steps + 1, columns, B, drivers), the first of them those before the block.
        shown = moved[: count * columns].unflatten(0, (count, columns))
        begun = torch.tensordot(self._weights, before, 1)[None]
        mixed: Tensor = torch.einsum("scbl,cl->sbc", torch.cat([begun, shown]).diff(dim=0), self._mix)
        return mixed


def _move(law: BlockLaw, normals: Tensor, before: Tensor) -> Tensor:
    """Return increments and state ``(steps + K, ...)`` from normals and the state before, ``(K, ...)``."""
    spread, forward = law.spread.to(normals), law.forward.to(normals)
    moved: Tensor = torch.tensordot(spread.mT, normals, 1) + torch.tensordot(forward.mT, before, 1)
    return moved


def _correlation_root(correlation: ArrayLike) -> Tensor:
    """Return the Cholesky factor of a correlation, or say what is wrong with it."""
    found = as_tensor(correlation, "correlation").to(torch.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1]:
        raise ValueError(f"a correlation must be a square matrix; got shape {tuple(found.shape)}")
    close = bool(torch.isfinite(found).all()) and bool(((found - found.mT).abs() < 1e-12).all())
    if not close or not bool(((found.diagonal() - 1).abs() < 1e-12).all()):
        raise ValueError(f"a correlation must be symmetric with ones on its diagonal; got {found.tolist()}")
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(found)
    if int(failed):
        least = float(torch.linalg.eigvalsh(found)[0])
        raise ValueError(f"a correlation must have eigenvalues above 0; the least of this one is {least:.3g}")
    return root


def _gaps(grid: StepGrid) -> Tensor:
    """Return the length of each step, ``(n_steps,)``, float64."""
    counts = torch.tensor(grid.counts)
    return (grid.times.diff() / counts).repeat_interleave(counts)
