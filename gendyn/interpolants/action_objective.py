r"""The action whose minimum is the potential that moves a family of populations.

Let :math:`\rho_t` have mass :math:`m_t` and obey :math:`\partial_t \rho = -\nabla\cdot(\rho \nabla s)
+ \tfrac{\sigma^2}{2}\Delta\rho + g\rho`, with a growth rate :math:`g`. Among all functions the potential s minimises

.. math:: L(s) = m_0 E_{\rho_0} s(0, x) - m_1 E_{\rho_1} s(1, x) + \int_0^1 m_t E_{\rho_t}\bigl[\partial_t s
    + \tfrac12 \lvert\nabla s\rvert^2 + \tfrac{\sigma^2}{2}\Delta s + \tfrac12 s^2\bigr] dt,

where the last term, of unbalanced action matching, makes the growth rate :math:`g = s` and is left out where there is
none (Neklyudov, Brekelmans, Severo and Makhzani 2023). Only samples of :math:`\rho_t` are seen, no velocities.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.nn import VelocityNetwork
from gendyn.randomness import torch_generator

__all__ = ["ActionObjective", "Interpolation"]

Interpolation = Literal["line", "spline", "mixture"]

_EXACT_LAPLACIAN = 4
"""Features up to which a Laplacian is the sum of all second derivatives; beyond, one random probe estimates it."""


class ActionObjective:
    """The action of a scalar network on coupled populations, in scaled units.

    Times are stratified over the batch. A row is one tuple: its first point, its last, and its point at the row's time
    share noise, so that their differences vary little.

    Parameters
    ----------
    module
        The potential, ``(t, x) -> (B, 1)``.
    spline
        Cardinal weights over time scaled to ``[0, 1]``.
    training
        Coupled populations to learn from.
    validation
        Coupled populations that only watch.
    masses
        Masses of the populations ``(T,)``, relative to the first; between times their logarithm is linear.
    mixture
        Draw the row's point from one of the two neighbouring populations, with the weights of the spline, instead
        of from between them.
    sigma
        Diffusion of the process.
    unbalanced
        Whether the potential is also a growth rate.
    blur
        Standard deviation of the noise around points.
    batch_size
        Tuples ``B`` per step.
    """

    def __init__(
        self,
        module: VelocityNetwork,
        spline: CardinalSpline,
        training: CoupledPaths,
        *,
        validation: CoupledPaths | None,
        masses: Tensor,
        mixture: bool,
        sigma: float,
        unbalanced: bool,
        blur: float,
        batch_size: int,
    ) -> None:
        self.module = module
        self.spline = spline
        self.training = training
        self.validation = validation
        self.masses = masses.to(torch.float64)
        self.mixture = mixture
        self.sigma = sigma
        self.unbalanced = unbalanced
        self.blur = blur
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the action on one mini-batch; everything random comes from ``generator``."""
        return self._action(self.training, self.batch_size, generator)

    def validation_loss(self) -> float:
        """Return the action on the watching cells, with the same tuples, times and noise at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation cells: give it some, or do not ask for early stopping")
        with torch.no_grad():
            return float(self._action(self.validation, 4096, torch_generator(0, "validation")))

    def _action(self, coupled: CoupledPaths, n: int, generator: torch.Generator) -> Tensor:
        like = coupled.populations[0]
        rows = torch.randint(0, len(coupled), (n,), generator=generator)
        s = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        pick = torch.rand(n, generator=generator, dtype=torch.float64)
        noise = self.blur * torch.randn(n, like.shape[1], generator=generator, dtype=like.dtype).to(like.device)
        signs = 2.0 * torch.randint(0, 2, (n, like.shape[1]), generator=generator) - 1
        weights, _ = self.spline(s.to(like.device))
        if self.mixture:
            passed = (pick.to(weights.device)[:, None] >= weights.cumsum(1)).sum(1)
            last = weights.shape[1] - 1
            weights = torch.nn.functional.one_hot(passed.clamp_max(last), last + 1)
        points = coupled.points(rows)
        x = torch.bmm(weights.to(like)[:, None], points)[:, 0] + noise
        mass = self._mass(s).to(like)
        zero, one = like.new_zeros(n, 1), like.new_ones(n, 1)
        start = self.module(zero, points[:, 0] + noise)[:, 0]
        end = self.module(one, points[:, -1] + noise)[:, 0]
        ends = (start - float(self.masses[-1] / self.masses[0]) * end).mean()
        action: Tensor = ends + (mass * self._density(s.to(like)[:, None], x, signs.to(like))).mean()
        return action

    def _density(self, s: Tensor, x: Tensor, signs: Tensor) -> Tensor:
        """Return what the integral of the action runs over, ``(B,)``."""

        def potential(time: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
            value = self.module(time, place)[:, 0]
            return value.sum(), value

        (rate, slope), value = torch.func.grad(potential, argnums=(0, 1), has_aux=True)(s, x)
        total: Tensor = rate[:, 0] + 0.5 * slope.square().sum(1)
        if self.unbalanced:
            total = total + 0.5 * value.square()
        if self.sigma > 0:
            total = total + 0.5 * self.sigma**2 * self._laplacian(s, x, signs)
        return total

    def _laplacian(self, s: Tensor, x: Tensor, signs: Tensor) -> Tensor:
        gradient = torch.func.grad(lambda place: self.module(s, place).sum())

        def curvature(direction: Tensor) -> Tensor:
            second: Tensor = torch.func.jvp(gradient, (x,), (direction,))[1]
            return (second * direction).sum(1)

        if x.shape[1] > _EXACT_LAPLACIAN:
            return curvature(signs)
        unit = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return torch.stack([curvature(e.expand_as(x)) for e in unit]).sum(0)

    def _mass(self, s: Tensor) -> Tensor:
        """Return the mass at times ``(B,)``, relative to the first."""
        knots, logs = self.spline.knots.cpu().to(torch.float64), (self.masses / self.masses[0]).log().cpu()
        total = torch.zeros_like(s)
        for k, (low, high) in enumerate(pairwise(knots.tolist())):
            part = ((s - low) / (high - low)).clamp(0, 1)
            total = total + part * (logs[k + 1] - logs[k])
        return total.exp()
