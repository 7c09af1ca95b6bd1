r"""References with parameters to learn: a family says what they mean, a learnable reference holds their values.

.. math:: dX = f_\theta(t, X)\,dt + \sigma\, v(t, X)\,dW, \qquad v = 1,\; X,\; \sqrt X \text{ or a function},

feature by feature. A :class:`ReferenceFamily` is a few plain numbers, so that a file can hold it; given populations it
starts a :class:`LearnableReference`, a process of the package in the Ito sense whose drift, Jacobian and noise are
differentiable in :math:`\theta` and :math:`\sigma`. Start values that are left out come from the populations, and
follow their units: from the mean and the spread of the points, and from the *pace*, how far the mean of the populations
moves in a unit of time, in spreads.

Parameters that must be positive are kept as logarithms, all others in units of spread and pace, so that one learning
rate suits data in any units. All is float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor, nn

from gendyn.bridges.references.fixed import LEAST_LEVEL, Volatility, check_levels
from gendyn.data import Snapshots
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.process import Calculus, NoiseType

__all__ = ["LearnableReference", "ReferenceFamily", "Units", "VolatilityLike"]

VolatilityLike = Volatility | Callable[[Tensor, Tensor], Tensor]
"""The name of a volatility, or ``v(t, x) -> (n, d)``."""

_START_NOISE = 0.5
"""Spreads that the noise of a start alone covers in the typical time between populations."""


@dataclass(frozen=True, eq=False)
class Units:
    """Where populations are, how far they spread and how fast they move; float64.

    Attributes
    ----------
    centre
        Mean of all points ``(d,)``.
    spreads
        Root mean square deviation from it, of each feature ``(d,)``, 1 where a feature is constant.
    spread
        The same over all features.
    top
        Largest value of each feature ``(d,)``.
    gap
        Median time between populations.
    span
        Time from the first to the last.
    pace
        Way of the mean through all populations, by spread (of all features together) and span; at least one by span.
    """

    centre: Tensor
    spreads: Tensor
    spread: float
    top: Tensor
    gap: float
    span: float
    pace: float

    @classmethod
    def of(cls, data: Snapshots) -> Self:
        """Measure populations at two times or more.

        Examples
        --------
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> units = Units.of(Snapshots([0.0, 2.0, 4.0], [x, x, x]))
        >>> units.spread, units.gap, units.pace
        (1.0, 2.0, 0.25)
        """
        if len(data) < 2:
            raise ValueError(f"a reference is learned from populations at two times or more; got {len(data)}")
        samples = [x.to(torch.float64) for x in data.samples]
        weights = [torch.full_like(x[:, 0], 1 / len(x)) for x in samples]
        if data.weights is not None:
            weights = [w.to(torch.float64) / w.to(torch.float64).sum() for w in data.weights]
        means = torch.stack([w @ x for w, x in zip(weights, samples, strict=True)])
        squares = torch.stack([w @ (x - means.mean(0)).square() for w, x in zip(weights, samples, strict=True)])
        spreads = squares.mean(0).sqrt()
        total = float(spreads.square().sum().sqrt()) or 1.0
        gaps, span = data.times.diff(), float(data.times[-1] - data.times[0])
        way = float(means.diff(dim=0).norm(dim=1).sum())
        return cls(
            centre=means.mean(0),
            spreads=torch.where(spreads > 0, spreads, 1.0),
            spread=total / math.sqrt(data.dim),
            top=torch.stack([x.amax(0) for x in samples]).amax(0),
            gap=float(gaps.median()),
            span=span,
            pace=max(way / total, 1.0) / span,
        )


@dataclass(frozen=True, kw_only=True)
class ReferenceFamily(ABC):
    r"""What all families share: the noise.

    Parameters
    ----------
    sigma
        :math:`\sigma` to start from, in units of the data (of one over time for proportional noise) per square root of
        time; one number, or one a feature. By default so large that noise alone covers half the spread of the data
        between two populations, from where it shrinks as the drift learns.
    volatility
        ``"constant"``, ``"proportional"`` (:math:`v = x`), ``"sqrt"``, or ``v(t, x) -> (n, d)``; a function cannot be
        saved.
    sigma_per_feature
        Whether every feature has a sigma of its own.
    fixed
        Names of parameters that stay what they start from and are not learned, ``"sigma"`` among them.

    Raises
    ------
    ValueError
        If sigma is not positive, or there is no such volatility.
    """

    sigma: float | tuple[float, ...] | None = None
    volatility: VolatilityLike = "constant"
    sigma_per_feature: bool = False
    fixed: tuple[str, ...] = ()

    name: ClassVar[str]
    """What the family is called on the command line and in files."""

    def __post_init__(self) -> None:
        if not callable(self.volatility) and self.volatility not in get_args(Volatility):
            raise ValueError(
                f"volatility must be one of {', '.join(get_args(Volatility))}, or a function v(t, x); "
                f"got {self.volatility!r}"
            )
        object.__setattr__(self, "fixed", tuple(self.fixed))
        if isinstance(self.sigma, Sequence | Tensor):
            object.__setattr__(self, "sigma", tuple(float(value) for value in self.sigma))
        values = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)
        if any(value is not None and not (math.isfinite(value) and value > 0) for value in values):
            raise ValueError(f"sigma must be positive and finite; got {self.sigma}: leave it out to start from data")

    @abstractmethod
    def _reference(self, dim: int, seed: int) -> LearnableReference:
        """Return a reference of ``dim`` features; raise a ValueError where the family has another number."""

    def _state_dim(self, data: Snapshots) -> int:
        """Return the number of features of the state, of which those of the data are the first."""
        return data.dim

    def start(self, data: Snapshots, seed: Seed = 0) -> LearnableReference:
        """Return a reference at its start values, on the device of the data.

        Parameters
        ----------
        data
            Populations at two times or more; values that are left out of the family come from them.
        seed
            Which weights networks start from.

        Raises
        ------
        ValueError
            If the family has another number of features, there are fewer than two times, or values are so low that
            noise in proportion to them vanishes.
        """
        if isinstance(self.volatility, str) and self.volatility != "constant":
            check_levels(data, self.volatility)
        units = Units.of(data)
        reference = self._reference(self._state_dim(data), as_seed(seed))
        reference.recorded = data.dim
        known = {name.removeprefix("raw.") for name, _ in reference.named_parameters()} - {"log_sigma"} | {"sigma"}
        unknown = [name for name in self.fixed if name not in known]
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no parameter {unknown[0]!r} that could be fixed; it has "
                f"{', '.join(sorted(known))}"
            )
        with torch.no_grad():
            reference.place(units, data)
        return reference.to(data.device)

    def restore(self, dim: int, tensors: Mapping[str, Tensor]) -> LearnableReference:
        """Return the reference of ``dim`` features whose ``state_dict()`` was kept.

        Raises
        ------
        ValueError
            If the tensors are not those of this family.
        """
        reference = self._reference(dim, 0)
        try:
            reference.load_state_dict(dict(tensors))
        except RuntimeError as error:
            raise ValueError(f"the tensors are not those of a {type(self).__name__} of {dim} features") from error
        return reference.to(next(iter(tensors.values())).device)

    def describe(self) -> dict[str, Any]:
        """Return the family as JSON can hold it; :func:`gendyn.references.get_family` undoes it.

        Raises
        ------
        TypeError
            If part of it is a function or a module.
        """
        parameters = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in parameters.items():
            if callable(value):
                raise TypeError(
                    f"a model file holds no code, and so no {type(self).__name__} whose {name} is a function or "
                    "module; save models with the other families, and fit this one anew"
                )
        return {"family": self.name, "parameters": parameters}


class LearnableReference(nn.Module):
    r"""A process :math:`dX = f_\theta\,dt + \sigma v\,dW` whose parameters are tensors with gradients.

    Rows never influence each other. Computations run in float64, and come back in the type of ``x``.

    Parameters
    ----------
    family
        What its parameters mean.
    dim
        Number of features of the state.

    Attributes
    ----------
    log_sigma : torch.nn.Parameter
        :math:`\log\sigma`, ``()`` or ``(d,)``.
    recorded : int
        How many leading features populations show; the others are hidden.
    positive : frozenset of str
        Names of the coefficients that are kept as logarithms.
    """

    noise_type: NoiseType = "diagonal"
    calculus: Calculus = "ito"
    log_sigma: nn.Parameter
    positive: frozenset[str] = frozenset({"sigma"})

    def __init__(self, family: ReferenceFamily, dim: int) -> None:
        super().__init__()
        self.family = family
        self.dim = dim
        self.recorded = dim
        self.noise_dim = dim
        if isinstance(family.sigma, tuple) and len(family.sigma) != dim:
            raise ValueError(f"sigma must be a number or {dim} numbers, one a feature; got {len(family.sigma)}")
        several = family.sigma_per_feature or isinstance(family.sigma, tuple)
        self.log_sigma = nn.Parameter(torch.zeros((dim,) if several else (), dtype=torch.float64))

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both; by reverse-mode derivatives of the drift where there is no closed form."""

        def total(z: Tensor) -> tuple[Tensor, Tensor]:
            drift = self._drift(t, z)
            return drift.sum(0), drift

        # Rows do not influence each other, so that the derivative of their sum is that of each.
        jacobian, drift = torch.func.jacrev(total, has_aux=True)(x)
        return drift, jacobian.transpose(0, 1)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(n, d)`` at a time, or at times ``(n, 1)``, and states ``(n, d)``."""
        return self._drift(t, x.to(torch.float64)).to(x.dtype)

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial f_i / \partial x_j`, ``(n, d, d)``."""
        return self.drift_and_jacobian(t, x)[1]

    def drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drift ``(n, d)`` and its Jacobian ``(n, d, d)`` at the price of the second alone."""
        drift, jacobian = self._drift_and_jacobian(t, x.to(torch.float64))
        return drift.to(x.dtype), jacobian.to(x.dtype)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma v(t, x)`, ``(n, d)``."""
        sigma, volatility = self.log_sigma.exp(), self.family.volatility
        if volatility == "constant":
            return sigma.to(x.dtype).expand_as(x)
        if volatility == "proportional":
            return (sigma * x).to(x.dtype)
        if volatility == "sqrt":
            # The root has no derivative at 0.
            return (sigma * x.clamp_min(LEAST_LEVEL**2).sqrt()).to(x.dtype)
        assert callable(volatility)
        return (sigma * volatility(t, x)).to(x.dtype)

    def coefficients(self) -> dict[str, Tensor]:
        """Return the parameters by name in the units of the data, with gradients; ``sigma`` is the last."""
        return {"sigma": self.log_sigma.exp()}

    def drift_parameters(self) -> list[nn.Parameter]:
        """Return all parameters that may be learned but ``log_sigma``."""
        held = {"log_sigma", *self.family.fixed}
        return [parameter for name, parameter in self.named_parameters() if name.removeprefix("raw.") not in held]

    def learned_parameters(self) -> list[nn.Parameter]:
        """Return all parameters that may be learned."""
        return self.drift_parameters() + ([] if "sigma" in self.family.fixed else [self.log_sigma])

    def features(self, t: Tensor, x: Tensor) -> Tensor | None:
        r"""Return :math:`\Phi` ``(n, d, p)`` with :math:`f = \Phi\theta` where there is such, else ``None``."""
        return None

    def weights(self) -> Tensor:
        r"""Return :math:`\theta` ``(p,)`` of :meth:`features`."""
        raise TypeError(f"the drift of {type(self.family).__name__} is not linear in its parameters")

    @torch.no_grad()
    def set_weights(self, theta: Tensor) -> None:
        r"""Take over :math:`\theta` ``(p,)`` of :meth:`features`; positive ones are raised to a trifle at least."""
        raise TypeError(f"the drift of {type(self.family).__name__} is not linear in its parameters")

    @property
    def penalised(self) -> Tensor:
        r"""Which of :math:`\theta` :meth:`ridge_terms` holds, ``(p,)`` of bool."""
        return torch.zeros(len(self.weights()), dtype=torch.bool, device=self.log_sigma.device)

    def ridge_terms(self) -> Tensor:
        """Return the squared norm that a ridge penalises, free of units; 0 for mechanisms."""
        return self.log_sigma.new_zeros(())

    @torch.no_grad()
    def adopt(self, other: LearnableReference) -> Self:
        """Take over whatever another reference has of the same name and shape, and return the reference itself.

        A simpler reference that was learned before is a start for a richer one: the linear part, the noise.
        """
        own = self.state_dict()
        for name, value in other.state_dict().items():
            if name in own and own[name].shape == value.shape:
                own[name].copy_(value)
        return self

    def simpler(self) -> LearnableReference | None:
        """Return a reference without the network, with the other values of this one, where there is such."""
        return None

    def place(self, units: Units, data: Snapshots) -> None:
        """Set the start values, those that the family leaves out from the units of the data."""
        given = self.family.sigma
        if given is None:
            self.log_sigma.copy_(self._start_sigma(units, data).log())
        else:
            self.log_sigma.copy_(torch.as_tensor(given, dtype=torch.float64).log())

    def _start_sigma(self, units: Units, data: Snapshots) -> Tensor:
        """Return a sigma under which noise alone moves points by half the spread of the data over a gap."""
        # Features that are hidden are taken to move as those that are recorded.
        shape = torch.ones(self.dim, dtype=torch.float64)
        if self.family.volatility != "constant":
            self.log_sigma.zero_()
            squares = [
                self.diffusion(t, self._filled(x.to("cpu", torch.float64))).square().mean(0)
                for t, x in zip(data.times, data.samples, strict=True)
            ]
            shape = torch.stack(squares).mean(0).sqrt()
        several = self.log_sigma.ndim > 0
        spread = torch.full((self.dim,), units.spread, dtype=torch.float64)
        if several:
            spread[: len(units.spreads)] = units.spreads.cpu()
        level = shape if several else shape.square().mean().sqrt()
        sigma: Tensor = _START_NOISE * (spread if several else units.spread) / (level * math.sqrt(units.gap))
        return sigma

    def _filled(self, x: Tensor) -> Tensor:
        """Return points ``(n, d)`` with their mean in place of hidden features."""
        hidden = self.dim - x.shape[1]
        return torch.cat([x, x.mean(1, keepdim=True).expand(-1, hidden)], 1) if hidden else x
