r"""Where in time an objective looks: laws of :math:`t` on [0, 1], with the weights that keep the objective the same.

A law with density :math:`p(t)` looks more often where the regression is hard; the weight :math:`1/p(t)` of each
draw leaves the expectation that of uniform times. Draws are quantiles :math:`F^{-1}(u)` of stratified uniform numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor

__all__ = ["BetaTimes", "LogitNormalTimes", "TimeSampler", "UniformTimes", "get_time_sampler"]


class TimeSampler(ABC):
    """A law of times on [0, 1]."""

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the times at which the law's distribution function is ``u``, of any shape, float64."""

    @abstractmethod
    def density(self, t: Tensor) -> Tensor:
        """Return the density at ``t``."""

    def draw(self, u: Tensor, margin: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return times within ``[margin, 1 - margin]`` for uniform numbers, and their importance weights.

        Examples
        --------
        >>> t, weight = UniformTimes().draw(torch.tensor([0.0, 0.5], dtype=torch.float64), margin=0.1)
        >>> t.tolist(), weight.tolist()
        ([0.1, 0.5], [1.0, 1.0])
        """
        inner = self.quantile(u)
        return margin + (1 - 2 * margin) * inner, 1 / self.density(inner)


@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """Every time alike.

    Examples
    --------
    >>> UniformTimes().density(torch.tensor(0.3)).item()
    1.0
    """

    def quantile(self, u: Tensor) -> Tensor:
        """Return ``u``."""
        return u

    def density(self, t: Tensor) -> Tensor:
        """Return one."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class LogitNormalTimes(TimeSampler):
    r"""Times whose logit is Gaussian: :math:`\log\frac{t}{1-t} \sim \mathcal{N}(m, s^2)`; looks at the middle.

    Raises
    ------
    ValueError
        If the standard deviation is not positive.

    Examples
    --------
    >>> LogitNormalTimes().quantile(torch.tensor(0.5, dtype=torch.float64)).item()
    0.5
    """

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(f"the standard deviation of logit-normal times must be positive; got {self.deviation}")

    def quantile(self, u: Tensor) -> Tensor:
        """Return the logistic function of a Gaussian quantile."""
        tiny = torch.finfo(torch.float64).eps
        return torch.sigmoid(self.mean + self.deviation * torch.special.ndtri(u.clamp(tiny, 1 - tiny)))

    def density(self, t: Tensor) -> Tensor:
        """Return the density."""
        z = (torch.logit(t) - self.mean) / self.deviation
        return torch.exp(-0.5 * z**2) / (self.deviation * math.sqrt(2 * math.pi) * t * (1 - t))


@dataclass(frozen=True)
class BetaTimes(TimeSampler):
    r"""Beta-distributed times, density proportional to :math:`t^{a-1}(1-t)^{b-1}`; ends more often for a, b below 1.

    Raises
    ------
    ValueError
        If a parameter is not positive.

    Examples
    --------
    >>> round(BetaTimes(2.0, 2.0).quantile(torch.tensor(0.5, dtype=torch.float64)).item(), 6)
    0.5
    """

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"the parameters of beta times must be positive; got {self.a} and {self.b}")

    def quantile(self, u: Tensor) -> Tensor:
        """Return the inverse of the regularised incomplete beta function."""
        tiny = torch.finfo(torch.float64).eps
        found = special.betaincinv(self.a, self.b, u.cpu().numpy())
        return torch.as_tensor(found, dtype=torch.float64, device=u.device).clamp(tiny, 1 - tiny)

    def density(self, t: Tensor) -> Tensor:
        """Return the density."""
        log = (self.a - 1) * t.log() + (self.b - 1) * torch.log1p(-t)
        return torch.exp(log - float(special.betaln(self.a, self.b)))


_SAMPLERS: dict[str, Callable[..., TimeSampler]] = {
    "uniform": UniformTimes,
    "logit-normal": LogitNormalTimes,
    "beta": BetaTimes,
}


def get_time_sampler(times: str | tuple[str, float, float]) -> TimeSampler:
    """Return a law of times by name, or by name and its two parameters.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> get_time_sampler(("beta", 0.5, 0.5))
    BetaTimes(a=0.5, b=0.5)
    """
    name, parameters = (times, ()) if isinstance(times, str) else (times[0], tuple(times[1:]))
    if name not in _SAMPLERS:
        raise ValueError(f"there are no times {name!r}; there are {', '.join(_SAMPLERS)}")
    return _SAMPLERS[name](*parameters)
