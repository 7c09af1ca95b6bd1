r"""The regressions that make the fields of an interpolant.

.. math:: L_f(\theta) = \int_0^1 E\, \tfrac12 \lVert f_\theta(t, x_t) - T_f \rVert^2\, dt, \qquad
    x_t = \alpha x_0 + \beta x_1 + \gamma z,

whose targets :math:`T_f` are those of :func:`gendyn.interpolants.fields.targets`. Without the constant
:math:`\tfrac12 E\lvert T_f\rvert^2` the least value is :math:`-\tfrac12\int E\lvert f\rvert^2 dt`, which for some laws
is known. Targets with :math:`\dot\gamma` or :math:`1/\gamma` have a variance that diverges at the ends. Antithetic
pairs, the same ends and time with :math:`+z` and :math:`-z`, keep the variance of the gradient finite there (Albergo,
Boffi and Vanden-Eijnden 2023).

Weighted by :math:`\gamma^2` the loss of the score, :math:`\tfrac12 \lVert \gamma s_\theta + z \rVert^2`, is bounded
too. For a bridge of diffusion g it is the score loss of simulation-free Schroedinger bridges,
:math:`\lVert \lambda\, \tfrac{g^2}{2} s_\theta + z \rVert^2` with :math:`\lambda = 2\gamma/g^2` (Tong et al., AISTATS
2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from gendyn.interpolants.ends import DrawEnds, HeldEnds
from gendyn.interpolants.fields import InterpolantFields, targets
from gendyn.interpolants.time_sampler import TimeSampler
from gendyn.randomness import torch_generator

__all__ = ["InterpolantObjective", "ScoreWeight"]

ScoreWeight = Literal["uniform", "gamma"]


class InterpolantObjective:
    r"""The sum of the losses of all learned fields, in scaled units.

    Parameters
    ----------
    module
        The fields; their networks are trained.
    ends
        Draws coupled ends for given gaps; or ends that serve several steps.
    validation
        The same from cells that only watch; ``None`` for none.
    times
        Where in each gap to look.
    margin
        How far from both ends of a gap times stay.
    antithetic
        Whether rows come in pairs with opposite noise.
    score_weight
        ``"uniform"``, or ``"gamma"``: the loss of the score times :math:`\gamma^2`.
    unconditional
        Probability with which a row's condition is hidden, for guidance.
    told
        Leading entries of a condition that are hidden; ``None``: all. What follows is always seen.
    batch_size
        Rows, that is evaluations of every network, per step.
    """

    def __init__(
        self,
        module: InterpolantFields,
        ends: DrawEnds | HeldEnds,
        *,
        validation: DrawEnds | None,
        times: TimeSampler,
        margin: float,
        antithetic: bool,
        score_weight: ScoreWeight = "uniform",
        unconditional: float,
        told: int | None = None,
        batch_size: int,
    ) -> None:
        self.module = module
        self.ends = ends
        self.validation = validation
        self.times = times
        self.margin = margin
        self.antithetic = antithetic
        self.score_weight = score_weight
        self.unconditional = unconditional
        self.told = told
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        ends = self.ends.at(step) if isinstance(self.ends, HeldEnds) else self.ends
        return self._error(ends, self.batch_size, generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching cells, with the same ends, times and noise at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation cells: give it some, or do not ask for early stopping")
        with torch.no_grad():
            return float(self._error(self.validation, 4096, torch_generator(0, "validation")))

    def values(self, draw: DrawEnds, rows: int, generator: torch.Generator) -> dict[str, tuple[float, float]]:
        r"""Return of every learned field half its mean squared error, and :math:`E[\tfrac12|f|^2 - f\cdot T]`."""
        with torch.no_grad():
            return {
                name: (
                    float(0.5 * (weight * (found - wanted).square()).sum(1).mean()),
                    float((weight * (0.5 * found.square() - found * wanted)).sum(1).mean()),
                )
                for name, found, wanted, weight in self._regressions(draw, rows, generator)
            }

    def _error(self, draw: DrawEnds, rows: int, generator: torch.Generator) -> Tensor:
        terms = [
            0.5 * (weight * (found - wanted).square()).sum(1).mean()
            for _, found, wanted, weight in self._regressions(draw, rows, generator)
        ]
        return torch.stack(terms).sum()

    def _regressions(
        self, draw: DrawEnds, rows: int, generator: torch.Generator
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Yield name, output and target ``(B, d)`` and importance weight ``(B, 1)`` of every network on one batch."""
        fields, schedule = self.module, self.module.schedule
        n = -(-rows // 2) if self.antithetic else rows
        # Stratified over global time, so that every batch sees every gap.
        u = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        gap, inner, length = (v.cpu() for v in fields.local(u.to(fields.knots.device)))
        t, weight = self.times.draw(inner, self.margin)
        ends = draw(gap, generator)
        x0, x1 = ends.source, ends.target
        one_sided = schedule.sides == "one-sided"
        z = x0 if one_sided else torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
        condition = self._hide(ends.condition, generator)
        s = (fields.knots.cpu()[gap] + t * length).to(x0)[:, None]
        per, weight = length.to(x0)[:, None], weight.to(x0)[:, None]
        if self.antithetic:
            x1, s, per, weight = (torch.cat([v, v]) for v in (x1, s, per, weight))
            x0 = torch.cat([x0, -x0 if one_sided else x0])
            z = x0 if one_sided else torch.cat([z, -z])
            condition = None if condition is None else torch.cat([condition, condition])
            t = torch.cat([t, t])
        # Coefficients in float64: near the ends gamma is a difference of nearly equal numbers.
        c = type(coefficients := schedule.at(t[:, None]))(*(v.to(x0) for v in coefficients))
        mean, moved = schedule.path(t[:, None], c, x0, x1)
        x = mean + (0 if one_sided else c.gamma * z)
        names = tuple(fields.networks)
        for name, wanted in zip(names, targets(names, c, moved, x0, x1, z), strict=True):  # type: ignore[arg-type]
            wanted = wanted / per if name in ("velocity", "mean_velocity") else wanted
            found = fields.networks[name](s, x, condition)
            if name == "score" and self.score_weight == "gamma":
                amplitude = c.alpha if one_sided else c.gamma
                found, wanted = amplitude * found, amplitude * wanted
            yield name, found, wanted, weight

    def _hide(self, condition: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """Hide what some rows are told: every entry zero, as the flag in the last says."""
        if condition is None or self.unconditional == 0:
            return condition
        kept = torch.rand(len(condition), 1, generator=generator) >= self.unconditional
        kept = kept.to(condition)
        told = condition.shape[1] if self.told is None else self.told
        return torch.cat([condition[:, :told] * kept, condition[:, told:]], dim=1)
