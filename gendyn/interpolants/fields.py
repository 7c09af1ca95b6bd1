r"""Fields of an interpolant, and how each follows from those that were learned.

With :math:`x_t = \alpha x_0 + \beta x_1 + \gamma z` the fields are conditional means at :math:`x_t = x`:

.. math::

    b = E[\dot x_t \mid x], \quad v = E[\dot\alpha x_0 + \dot\beta x_1 \mid x], \quad s = \nabla \log \rho_t(x), \quad
    \eta_z = E[z \mid x], \quad \eta_0 = E[x_0 \mid x], \quad \eta_1 = E[x_1 \mid x],

bound by (Albergo, Boffi and Vanden-Eijnden 2023)

.. math::

    b &= v - \gamma\dot\gamma\, s = \dot\alpha \eta_0 + \dot\beta \eta_1 + \dot\gamma \eta_z, \\
    s &= -\eta_z / \gamma, \qquad \alpha \eta_0 + \beta \eta_1 + \gamma \eta_z = x.

One-sided, :math:`x_0` is the noise: :math:`s = -\eta_0/\alpha`, and one field gives all. Between populations at
many times, each gap has an interpolant of its own over local time in [0, 1]; the networks see global time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gendyn.interpolants.schedule import Coefficients, OneSidedVariancePreserving, Schedule

__all__ = ["FieldName", "InterpolantFields", "default_fields", "targets"]

FieldName = Literal["velocity", "mean_velocity", "score", "noise", "source", "target"]


def default_fields(schedule: Schedule) -> tuple[FieldName, ...]:
    """Return which fields to learn: enough for the velocity, and for the score where there is one.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import Linear, Mirror
    >>> default_fields(Linear()), default_fields(Linear("zero")), default_fields(Mirror())
    (('velocity', 'score'), ('velocity',), ('noise',))
    """
    if isinstance(schedule, OneSidedVariancePreserving) or schedule.sides == "mirror":
        return ("noise",)  # there the velocity diverges at an end
    if schedule.sides == "one-sided" or not schedule.has_score:
        return ("velocity",)
    return ("velocity", "score")


def targets(
    fields: Sequence[FieldName], c: Coefficients, moved: Tensor, x0: Tensor, x1: Tensor, z: Tensor
) -> list[Tensor]:
    """Return what each field's network regresses on, ``(B, d)`` each; its conditional mean is the field.

    Parameters
    ----------
    fields
        Their names.
    c
        Coefficients at the times of the rows, ``(B, 1)`` each.
    moved
        Derivative by time of the mean of each path ``(B, d)``.
    x0, x1, z
        Ends and latent noise ``(B, d)``; of a one-sided schedule ``x0`` is the noise, and ``z`` is not looked at.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import Linear
    >>> c = Linear(("brownian", 1.0)).at(torch.tensor([[0.5]]))
    >>> x0, x1, z = torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), 2.0)
    >>> [found.item() for found in targets(("velocity", "score", "target"), c, x1 - x0, x0, x1, z)]
    [1.0, -4.0, 1.0]
    """
    found: dict[str, Tensor] = {}
    for name in fields:
        if name in ("velocity", "mean_velocity"):
            found[name] = moved
        if name == "velocity" and z is not x0:
            found[name] = found[name] + c.gamma_rate * z
        if name == "score":
            found[name] = -x0 / c.alpha if z is x0 else -z / c.gamma
    found |= {"noise": z, "source": x0, "target": x1}
    return [found[name] for name in fields]


class InterpolantFields(nn.Module):
    """Learned fields and those that follow from them, in scaled units of space and global time in [0, 1].

    Parameters
    ----------
    networks
        One per learned field, by name, called ``network(s, x, condition)``.
    schedule
        Of every gap.
    knots
        Global times ``(K+1,)`` of the populations, from 0 to 1.
    mean_target
        Mean of the later population of each gap ``(K, d)``: what a one-sided velocity starts with.
    margin
        Local times are held this far from both ends wherever a coefficient is divided by, because errors of a
        network are amplified there without bound.

    Raises
    ------
    ValueError
        If the learned fields do not determine the velocity.
    """

    knots: Tensor
    mean_target: Tensor

    def __init__(
        self,
        networks: dict[str, nn.Module],
        schedule: Schedule,
        knots: Tensor,
        mean_target: Tensor,
        *,
        margin: float = 1e-3,
    ) -> None:
        super().__init__()
        check_fields(tuple(networks), schedule)  # type: ignore[arg-type]
        self.networks = nn.ModuleDict(networks)
        self.schedule = schedule
        self.margin = margin
        self.register_buffer("knots", knots.to(torch.float64))
        self.register_buffer("mean_target", mean_target)

    def local(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gap of each global time, the local time in it, and the gap's length, shaped as ``s``."""
        exact = s.to(torch.float64)
        gap = torch.bucketize(exact, self.knots[1:-1], right=True)
        length = (self.knots[1:] - self.knots[:-1])[gap]
        return gap, ((exact - self.knots[gap]) / length).clamp(0.0, 1.0), length

    def velocity(self, s: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the velocity ``(B, d)`` per unit of global time, at times ``()`` or ``(B, 1)``."""
        return self._velocity(_Outputs(self.networks, s, x, condition), s, x)

    def score(self, s: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the score ``(B, d)``.

        Raises
        ------
        ValueError
            If no score is defined, or the learned fields do not determine it.
        """
        self.check_score()
        return self._score(_Outputs(self.networks, s, x, condition), s, x)

    def velocity_and_score(self, s: Tensor, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return both, each network being asked once."""
        self.check_score()
        outputs = _Outputs(self.networks, s, x, condition)
        return self._velocity(outputs, s, x), self._score(outputs, s, x)

    def check_score(self) -> None:
        """Raise a ValueError where no score is defined or known."""
        if not self.schedule.has_score:
            raise ValueError(f"no score is defined for {self.schedule}: give gamma above zero, or a one-sided schedule")
        learned = set(self.networks)
        by_ends = self.schedule.linear and learned >= {"source", "target"}
        if self.schedule.sides != "one-sided" and not (learned & {"score", "noise"} or by_ends):
            raise ValueError(
                f"the fields {', '.join(self.networks)} do not determine the score; learn 'score' or 'noise' too"
            )

    def _velocity(self, outputs: _Outputs, s: Tensor, x: Tensor) -> Tensor:
        if "velocity" in self.networks:
            return outputs["velocity"]
        gap, t, length = self.local(s)
        c = self._coefficients(t, x)
        per = length.to(x.dtype)
        if self.schedule.sides == "mirror":
            return -c.gamma_product * self._score(outputs, s, x) / per
        if "mean_velocity" in self.networks:
            mean = outputs["mean_velocity"]
            if self.schedule.sides == "one-sided" or not self.schedule.has_score:
                return mean
            return mean - c.gamma_product * self._score(outputs, s, x) / per
        source, target, noise = self._means(c, outputs, x)
        moved = c.alpha_rate * source + c.beta_rate * target
        if self.schedule.sides == "one-sided":
            # At the start nothing is known of the target but its mean.
            first = c.alpha_rate * x + c.beta_rate * self.mean_target[gap.reshape(-1)].to(x.dtype)
            return torch.where(t < self.margin, first, moved) / per
        return (moved + c.gamma_rate * noise) / per

    def _score(self, outputs: _Outputs, s: Tensor, x: Tensor) -> Tensor:
        if "score" in self.networks:
            return outputs["score"]
        _, t, length = self.local(s)
        c = self._coefficients(t, x)
        if self.schedule.sides == "one-sided":
            noise = self._one_sided_noise(c, length.to(x.dtype), outputs, x)
            return -noise / c.alpha
        if "noise" in self.networks:
            return -outputs["noise"] / c.gamma
        _, _, noise = self._means(c, outputs, x)
        return -noise / c.gamma

    def _coefficients(self, t: Tensor, x: Tensor) -> Coefficients:
        inner = t.clamp(self.margin, 1 - self.margin)
        return Coefficients(*(v.to(x.dtype) for v in self.schedule.at(inner)))

    def _means(self, c: Coefficients, outputs: _Outputs, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the means of source, target and noise, the one that was not learned from the others."""
        known = {n: outputs[n] for n in ("source", "target", "noise") if n in self.networks}
        if self.schedule.sides == "one-sided":
            noise = known.get("noise", known.get("source"))
            if noise is None and "target" not in known:
                noise = -c.alpha * outputs["score"]
            if noise is None:
                noise = (x - c.beta * known["target"]) / c.alpha
            target = known.get("target", (x - c.alpha * noise) / c.beta)
            return noise, target, noise
        if "noise" not in known and "score" in self.networks:
            known["noise"] = -c.gamma * outputs["score"]
        if not self.schedule.has_score:
            known["noise"] = torch.zeros_like(x)
        if "noise" not in known:
            known["noise"] = _divide(x - c.alpha * known["source"] - c.beta * known["target"], c.gamma)
        if "source" not in known:
            known["source"] = _divide(x - c.beta * known["target"] - c.gamma * known["noise"], c.alpha)
        if "target" not in known:
            known["target"] = _divide(x - c.alpha * known["source"] - c.gamma * known["noise"], c.beta)
        return known["source"], known["target"], known["noise"]

    def _one_sided_noise(self, c: Coefficients, length: Tensor, outputs: _Outputs, x: Tensor) -> Tensor:
        if set(self.networks) & {"noise", "source", "target"}:
            return self._means(c, outputs, x)[2]
        if "score" in self.networks:
            return -c.alpha * outputs["score"]
        name = "velocity" if "velocity" in self.networks else "mean_velocity"
        velocity = outputs[name]
        return (c.beta * velocity * length - c.beta_rate * x) / (c.alpha_rate * c.beta - c.alpha * c.beta_rate)


class _Outputs(dict[str, Tensor]):
    """What the networks say at some points, each asked when its output is first looked at."""

    def __init__(self, networks: nn.ModuleDict, s: Tensor, x: Tensor, condition: Tensor | None) -> None:
        super().__init__()
        self._networks, self._at = networks, (s, x, condition)

    def __missing__(self, name: str) -> Tensor:
        found: Tensor = self._networks[name](*self._at)
        self[name] = found
        return found


def _divide(value: Tensor, by: Tensor) -> Tensor:
    """Return the quotient, zero where an end has no part in the interpolant and its mean is not asked for."""
    return torch.where(by == 0, 0.0, value / torch.where(by == 0, 1.0, by))


def check_fields(names: Sequence[FieldName], schedule: Schedule) -> None:
    """Raise a ValueError where fields are unknown, repeated, undefined, or do not determine the velocity.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import Linear
    >>> check_fields(("source", "noise"), Linear())
    """
    unknown = [n for n in names if n not in get_args(FieldName)]
    if unknown or len(set(names)) < len(names) or not names:
        raise ValueError(f"fields must be different names of {', '.join(get_args(FieldName))}; got {list(names)}")
    learned = set(names)
    if learned & {"score", "noise"} and not schedule.has_score:
        raise ValueError(f"{schedule} has no noise, so that {sorted(learned & {'score', 'noise'})[0]!r} is not defined")
    if schedule.sides == "one-sided":
        enough = True
    elif schedule.sides == "mirror":
        enough = bool(learned & {"velocity", "score", "noise"})
    else:
        ends = len(learned & {"source", "target"}) + bool(learned & {"score", "noise"})
        enough = (
            "velocity" in learned or ends >= 2 or ("mean_velocity" in learned and bool(learned & {"score", "noise"}))
        )
        if not schedule.linear:
            enough = "velocity" in learned or ("mean_velocity" in learned and bool(learned & {"score", "noise"}))
        if not schedule.has_score:
            enough = bool(learned & {"velocity", "mean_velocity"}) or (
                schedule.linear and learned >= {"source", "target"}
            )
    if not enough:
        raise ValueError(
            f"the fields {', '.join(names)} do not determine the velocity of {schedule}; learn 'velocity'"
            + (", or two of 'source', 'target' and 'noise'" if schedule.linear else "")
        )
