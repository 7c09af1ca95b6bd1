r"""The interpolant of least action between populations: fields and interpolant learned against each other.

For a family of interpolants :math:`x_t = I_t(x_0, x_1) + \gamma_t z` and a diffusion with :math:`\epsilon`,

.. math:: \max_{I, \gamma}\, \min_u \int_0^1 E\Bigl[\tfrac12\lvert u\rvert^2
    - \bigl(\partial_t I + (\dot\gamma - \tfrac{\epsilon}{\gamma}) z\bigr)\cdot u\Bigr] dt .

For given I and :math:`\gamma` the least is at the drift :math:`u = b + \epsilon s` of the forward diffusion, where the
value is :math:`-\tfrac12\int E\lvert u\rvert^2`; the greatest of those is the least action, and a family that is rich
enough attains that of the Schroedinger bridge of :math:`\sqrt{2\epsilon}\,W` (Albergo, Boffi and Vanden-Eijnden 2023,
section 3.4). Here I is a straight line that a network bends and :math:`\gamma = \sqrt{a\,t(1-t)}`; velocity b and
score s are learned by their own regressions, and every few steps I and a climb. Pairs with :math:`\pm z` keep the
variance finite at the ends, where :math:`\dot\gamma` and :math:`1/\gamma` diverge.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn.interpolants.conditional_path import ConditionalPath
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.fields import InterpolantFields

__all__ = ["OptimalObjective", "TrainableInterpolant"]

_MARGIN = 1e-4
"""How far from the ends of a gap times stay."""

_PACE = 10.0
"""The amplitude is learned this much faster than the weights of a network, whose rate is too low for a logarithm."""


class TrainableInterpolant(nn.Module):
    """Paths and the amplitude of the noise around them, one for each gap.

    Parameters
    ----------
    path
        Without noise of its own; its network, if it has one, is trained.
    gaps
        Number of gaps between times.
    dtype
        Type of the parameters, that of the data.
    """

    def __init__(self, path: ConditionalPath, gaps: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.path = path
        self.exponent = nn.Parameter(torch.zeros(gaps, dtype=dtype))

    def amplitude(self) -> Tensor:
        """Return a of every gap ``(K,)``, float64: the noise has the variance a t(1-t)."""
        return torch.exp(_PACE * self.exponent.double())


class OptimalObjective:
    """Regressions of velocity and score, and in between a step uphill for the interpolant, in scaled units.

    Parameters
    ----------
    fields
        Velocity and score; their networks are trained.
    interpolant
        Is trained in one step of ``field_steps + 1``.
    epsilon
        Half the squared diffusion of the process whose action is to be least.
    training
        Coupled populations.
    field_steps
        Steps for the fields between two of the interpolant.
    batch_size
        Evaluations of each network in a step.
    """

    def __init__(
        self,
        fields: InterpolantFields,
        interpolant: TrainableInterpolant,
        *,
        epsilon: float,
        training: CoupledPaths,
        field_steps: int,
        batch_size: int,
    ) -> None:
        self.module = nn.ModuleDict({"fields": fields, "interpolant": interpolant})
        self.fields = fields
        self.interpolant = interpolant
        self.epsilon = epsilon
        self.training = training
        self.field_steps = field_steps
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of the regressions; in a step of the interpolant its gradient is minus that of the action."""
        climbs = step % (self.field_steps + 1) == self.field_steps
        self.fields.requires_grad_(not climbs)
        self.interpolant.requires_grad_(climbs)
        regression, value, _ = self._terms(self.batch_size, generator)
        return regression.detach() - value + value.detach() if climbs else regression

    def action(self, rows: int, generator: torch.Generator) -> float:
        r"""Return :math:`\tfrac12\int E\lvert b + \epsilon s\rvert^2 dt`, a mean over gaps with t the time in each."""
        with torch.no_grad():
            return float(self._terms(rows, generator)[2])

    def _terms(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of the regressions, the value of the saddle, and the action."""
        n, fields, coupled = -(-rows // 2), self.fields, self.training
        u = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        chosen = torch.randint(len(coupled), (n,), generator=generator)
        points = coupled.points(chosen)
        z = torch.randn(points[:, 0].shape, generator=generator, dtype=points.dtype).to(points.device)
        gap, t, length = fields.local(u.to(points.device))
        t = t.clamp(_MARGIN, 1 - _MARGIN)
        s = fields.knots[gap] + t * length
        mean, mean_rate = self.interpolant.path(s, points, torch.zeros_like(z))
        a = self.interpolant.amplitude()[gap]
        gamma = (a * t * (1 - t)).sqrt()
        gamma, rate, per = (v.to(points)[:, None] for v in (gamma, a * (1 - 2 * t) / (2 * gamma), length))
        gamma, rate, per, mean, mean_rate = (torch.cat([v, v]) for v in (gamma, rate, per, mean, mean_rate))
        z, at = torch.cat([z, -z]), torch.cat([s, s]).to(points)[:, None]
        x, moved = mean + gamma * z, mean_rate * per
        velocity, score = fields.velocity(at, x) * per, fields.score(at, x)
        # The loss of the score is weighted by gamma squared, which bounds it.
        errors = (velocity - moved - rate * z).square() + (gamma * score + z).square()
        drift = velocity + self.epsilon * score
        kinetic = 0.5 * drift.square().sum(1).mean()
        value = kinetic - ((moved + (rate - self.epsilon / gamma) * z) * drift).sum(1).mean()
        return 0.5 * errors.sum(1).mean(), value, kinetic
