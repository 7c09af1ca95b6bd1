r"""The regression of a model of trajectories: where the next observation is, seen from the bridge to it.

.. math:: L(\theta) = E\,\frac{\lVert \hat x_\theta(\lambda, x_\lambda, h) - x_{k+1} \rVert^2}{1 - \lambda}, \qquad
    \hat x_\theta = x_\lambda + (1 - \lambda) u_\theta, \qquad
    x_\lambda = (1 - \lambda) x_k + \lambda x_{k+1} + \sigma \sqrt{\Delta\,\lambda (1 - \lambda)}\, z,

over all gaps of all series and :math:`\lambda \sim U(0, 1)`; features of :math:`x_{k+1}` that were not seen have no
part (Zhang, Pu, Kawamura, Loza, Bengio, Shung and Tong 2024). What remains of the bridge's noise has a variance that
falls like :math:`1 - \lambda`, which the weight makes up for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.interpolants.observed_series import ObservedSeries
from gendyn.nn import VelocityNetwork
from gendyn.randomness import torch_generator

__all__ = ["TrajectoryObjective"]


class TrajectoryObjective:
    """The loss over gaps, in scaled units.

    Parameters
    ----------
    module
        The drift u, ``(lambda, z, context) -> (B, d)``.
    training, validation
        Series to learn from, and series that only watch.
    training_labels, validation_labels
        Encoded labels ``(n, c)``, or ``None``.
    history, clock
        See :meth:`~gendyn.interpolants.observed_series.Known.context`.
    sigma
        Diffusion of the bridge.
    batch_size
        Gaps per step.
    """

    def __init__(
        self,
        module: VelocityNetwork,
        training: ObservedSeries,
        *,
        validation: ObservedSeries | None,
        training_labels: Tensor | None,
        validation_labels: Tensor | None,
        history: int,
        clock: bool,
        sigma: float,
        batch_size: int,
    ) -> None:
        self.module = module
        self.training, self.training_labels, self.training_gaps = training, training_labels, training.gaps
        self.validation, self.validation_labels = validation, validation_labels
        self.history = history
        self.clock = clock
        self.sigma = sigma
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        chosen = torch.randint(0, len(self.training_gaps), (self.batch_size,), generator=generator)
        gaps = self.training_gaps[chosen.to(self.training_gaps.device)]
        return self._error(self.training, self.training_labels, gaps, generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching series, with the same times and noise at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation series: give it some, or do not ask for early stopping")
        generator = torch_generator(0, "validation")
        gaps = self.validation.gaps
        gaps = gaps[torch.randperm(len(gaps), generator=generator)[:4096].to(gaps.device)]
        with torch.no_grad():
            return float(self._error(self.validation, self.validation_labels, gaps, generator))

    def _error(self, series: ObservedSeries, labels: Tensor | None, gaps: Tensor, generator: torch.Generator) -> Tensor:
        path, row = gaps.T
        n, like = len(gaps), series.values
        s = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        noise = torch.randn(n, like.shape[2], generator=generator, dtype=like.dtype).to(like.device)
        s = s.to(like)[:, None]
        start, end, seen = series.values[path, row], series.values[path, row + 1], series.seen[path, row + 1]
        gap = series.times[path, row + 1] - series.times[path, row]
        spread = self.sigma * (gap.to(like)[:, None] * s * (1 - s)).sqrt()
        x = torch.lerp(start, end, s) + spread * noise
        label = None if labels is None else labels[path]
        context = series.known(path, row, self.history).context(
            gap, history=self.history, clock=self.clock, label=label
        )
        remaining = 1 - s
        error = (x + remaining * self.module(s, x, context) - end) * seen
        total: Tensor = (error.square() / remaining).sum(1).mean()
        return total
