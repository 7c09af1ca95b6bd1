r"""The regression that flow matching is: a network against velocities of conditional paths.

.. math:: L(\theta) = \mathbb{E}_{s \sim U(0, 1)}\, \mathbb{E}_{x_1, \dots, x_T} \mathbb{E}_z
    \lVert v_\theta(s, x_s) - u_s \rVert^2 ,

with the particle :math:`x_s` and the velocity :math:`u_s` of a conditional path. Its minimum over all functions is the
conditional expectation :math:`\mathbb{E}[u_s \mid x_s]`. The minimum value is not zero: it is the spread of velocities
that meet at one point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn.interpolants.conditional_path import ConditionalPath
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.randomness import torch_generator

__all__ = ["FlowMatchingObjective"]


class FlowMatchingObjective:
    """The flow-matching loss of a velocity network on coupled populations, in scaled units.

    Times are stratified over the batch (one in each of ``B`` equal cells), so that every batch sees
    every gap between populations.

    Parameters
    ----------
    module
        The velocity network, called with times ``(B, 1)`` and positions ``(B, d)``.
    path
        The conditional path, over time scaled to ``[0, 1]``.
    training
        Coupled populations to learn from.
    validation
        Coupled populations that only watch.
    batch_size
        Tuples ``B`` per step.
    """

    def __init__(
        self,
        module: nn.Module,
        path: ConditionalPath,
        training: CoupledPaths,
        *,
        validation: CoupledPaths | None = None,
        batch_size: int,
    ) -> None:
        self.module = module
        self.path = path
        self.training = training
        self.validation = validation
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        return self._error(self.training, self.batch_size, generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching cells, with the same tuples, times and noise at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation cells: give it some, or do not ask for early stopping")
        with torch.no_grad():
            return float(self._error(self.validation, 4096, torch_generator(0, "validation")))

    def _error(self, coupled: CoupledPaths, n: int, generator: torch.Generator) -> Tensor:
        _, s, position, velocity = self._drawn(coupled, n, generator)
        error: Tensor = self.module(s.to(position.dtype)[:, None], position) - velocity
        return error.square().sum(1).mean()

    def _drawn(
        self, coupled: CoupledPaths, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return tuples ``(B,)``, scaled times ``(B,)``, and particles and their velocities ``(B, d)``."""
        first = coupled.populations[0]
        # Drawn where the generator lives, so that a fit on a GPU sees the numbers of a fit on a CPU.
        rows = torch.randint(0, len(coupled), (n,), generator=generator)
        offsets = torch.rand(n, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, first.shape[1], generator=generator, dtype=first.dtype).to(first.device)
        s = ((torch.arange(n, dtype=torch.float64) + offsets) / n).to(first.device)
        rows = coupled.at(rows, s)
        return rows, s, *self.path(s, coupled.points(rows), noise)
