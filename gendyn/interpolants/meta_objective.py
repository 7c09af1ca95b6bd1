r"""The regression of meta flow matching.

.. math:: L(\theta) = E_k\, E_{(x_0, x_1) \sim \pi_k}\, E_{t \sim U(0,1)}
    \bigl\lVert v_\theta(t, x_t \mid \varphi_\theta(S_k), c_k) - (x_1 - x_0) \bigr\rVert^2, \qquad
    x_t = (1 - t)\, x_0 + t\, x_1,

over populations k with couplings :math:`\pi_k` of their own (Atanackovic et al. 2025). The full squared error is
reported, with the constant that some implementations drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gendyn.coupling import ExactCoupling
from gendyn.interpolants.meta_field import MetaField
from gendyn.parallel import spread
from gendyn.randomness import derive_seed, torch_generator

__all__ = ["MetaObjective", "PairedClouds"]


@dataclass(frozen=True)
class PairedClouds:
    """Source and target clouds of several populations, one after the other.

    Attributes
    ----------
    sources, targets
        ``(N, d)`` and ``(M, d)``, in scaled units.
    source_sizes, target_sizes
        ``(K,)``.
    covariates
        Of the source cells ``(N, c)``, or ``None``.
    conditions
        Of the populations ``(K, e)``, or ``None``.
    """

    sources: Tensor
    targets: Tensor
    source_sizes: Tensor
    target_sizes: Tensor
    covariates: Tensor | None = None
    conditions: Tensor | None = None

    @classmethod
    def of(
        cls,
        sources: Sequence[Tensor],
        targets: Sequence[Tensor],
        covariates: Sequence[Tensor] | None = None,
        conditions: Tensor | None = None,
    ) -> PairedClouds:
        """Lay clouds one after the other."""
        return cls(
            torch.cat(list(sources)),
            torch.cat(list(targets)),
            torch.tensor([len(x) for x in sources]),
            torch.tensor([len(x) for x in targets]),
            None if covariates is None else torch.cat(list(covariates)),
            conditions,
        )

    def __len__(self) -> int:
        return len(self.source_sizes)


class MetaObjective:
    """The loss of a field and its encoder on mini-batches of populations and cells.

    Parameters
    ----------
    module
        The field with its encoder.
    clouds, validation
        Populations to learn from, and those that only watch.
    coupling
        ``"paired"`` (row with row), ``"independent"`` or ``"ot"`` (exact, within the mini-batch).
    populations, cells, embedded
        Populations a step, pairs of cells of each, and source cells that the encoder sees.
    mode
        ``"joint"``: field and encoder learn together; ``"alternate"``: the field at even steps, with the embedding
        fixed, and the encoder at odd ones, with the field fixed.
    """

    def __init__(
        self,
        module: MetaField,
        clouds: PairedClouds,
        *,
        validation: PairedClouds | None,
        coupling: Literal["paired", "independent", "ot"],
        populations: int,
        cells: int,
        embedded: int,
        mode: Literal["joint", "alternate"],
    ) -> None:
        self.module = module
        self.clouds = clouds
        self.validation = validation
        self.coupling = coupling
        self.populations = populations
        self.cells = cells
        self.embedded = embedded
        self.mode = mode

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        return self._error(self.clouds, self.populations, generator, step if self.mode == "alternate" else None)

    def validation_loss(self) -> float:
        """Return the loss on the watching populations, with the same cells and times at every call."""
        if self.validation is None:
            raise ValueError("this objective has no populations that watch: give it some, or do not ask for patience")
        with torch.no_grad():
            return float(self._error(self.validation, len(self.validation), torch_generator(0, "validation"), None))

    def _error(self, clouds: PairedClouds, count: int, generator: torch.Generator, step: int | None) -> Tensor:
        chosen = torch.randperm(len(clouds), generator=generator)[:count]
        x0, x1 = self._pairs(clouds, chosen, generator)
        t = torch.rand(*x0.shape[:2], 1, generator=generator, dtype=torch.float64).to(x0)
        context = None
        if self.module.encoder is not None:
            rows = _distinct_rows(clouds.source_sizes, chosen, self.embedded, generator).to(x0.device)
            seen = None if clouds.covariates is None else clouds.covariates[rows]
            context = self.module.encoder.context(clouds.sources[rows], seen)
        condition = None if clouds.conditions is None else clouds.conditions[chosen.to(x0.device)]
        arguments = (t, (1 - t) * x0 + t * x1, context, condition)
        if step is None:
            velocity = self.module(*arguments)
        elif step % 2 == 0:
            velocity = self.module(t, arguments[1], None if context is None else context.detach(), condition)
        else:
            frozen = {name: value.detach() for name, value in self.module.named_parameters()}
            velocity = torch.func.functional_call(self.module, frozen, arguments)
        error: Tensor = (velocity - (x1 - x0)).square().sum(-1).mean()
        return error

    def _pairs(self, clouds: PairedClouds, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return coupled cells ``(P, m, d)`` of the chosen populations."""
        first, second = (_offsets(s)[chosen][:, None] for s in (clouds.source_sizes, clouds.target_sizes))
        shape = (len(chosen), self.cells)
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        rows = (u * clouds.source_sizes[chosen][:, None]).long()
        if self.coupling == "paired":
            columns = rows
        else:
            v = torch.rand(shape, generator=generator, dtype=torch.float64)
            columns = (v * clouds.target_sizes[chosen][:, None]).long()
        device = clouds.sources.device
        x0, x1 = clouds.sources[(first + rows).to(device)], clouds.targets[(second + columns).to(device)]
        if self.coupling == "ot":
            key = int(torch.randint(2**62, (1,), generator=generator))
            solve = ExactCoupling()

            def matched(k: int) -> Tensor:
                i, j = solve(x0[k], x1[k], generator=torch_generator(derive_seed(key, k)))
                return j[torch.argsort(i)]

            x1 = torch.stack([x1[k][j] for k, j in enumerate(spread(matched, range(len(chosen))))])
        return x0, x1


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes[:-1]]).cumsum(0)


def _distinct_rows(sizes: Tensor, chosen: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``(P, n)`` different rows of each chosen population; n is the count, or the smallest population."""
    own = sizes[chosen]
    keys = torch.rand(len(chosen), int(own.max()), generator=generator)
    keys[torch.arange(keys.shape[1]) >= own[:, None]] = 2.0  # beyond the population
    rows = keys.topk(min(count, int(own.min())), dim=1, largest=False).indices
    return rows + _offsets(sizes)[chosen][:, None]
