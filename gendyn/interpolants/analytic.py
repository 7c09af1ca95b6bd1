r"""Interpolants whose fields are known exactly: Gaussian mixtures at both ends.

With :math:`\rho_0 = \sum_i p_i \mathcal{N}(m_i, C_i)`, :math:`\rho_1 = \sum_j q_j \mathcal{N}(m_j', C_j')`, independent
ends and a schedule :math:`x_t = \alpha x_0 + \beta x_1 + \gamma z`, the law of :math:`x_t` is the mixture with weights
:math:`p_i q_j`, means :math:`m_{ij} = \alpha m_i + \beta m_j'` and covariances
:math:`C_{ij} = \alpha^2 C_i + \beta^2 C_j' + \gamma^2 I`. Given a pair and :math:`y = C_{ij}^{-1}(x - m_{ij})`,

.. math::

    b = \dot m_{ij} + \tfrac12 \dot C_{ij} y, \quad s = -y, \quad \eta_0 = m_i + \alpha C_i y, \quad
    \eta_1 = m_j' + \beta C_j' y, \quad \eta_z = \gamma y,

and the fields of the mixture are their averages under the weights of the pairs at :math:`x`, normalised in log space.
They are the truth that a fitted interpolant is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor

from gendyn.data.checks import as_tensor
from gendyn.interpolants.schedule import Coefficients, Schedule, get_schedule
from gendyn.randomness import Seed, as_seed, torch_generator

__all__ = ["ExactFields", "GaussianMixture", "GaussianMixtureInterpolant"]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of Gaussians, in float64.

    Attributes
    ----------
    weights
        ``(K,)``, positive, sum 1.
    means
        ``(K, d)``.
    covariances
        ``(K, d, d)``; ``(K,)`` variances are read as multiples of the unit matrix.

    Raises
    ------
    ValueError
        If shapes do not fit, weights are not positive, or a covariance is not symmetric and positive definite.

    Examples
    --------
    >>> two = GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [0.25, 0.25])
    >>> round(two.log_prob(torch.zeros(1, 1, dtype=torch.float64)).item(), 4)
    -18.2258
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __init__(self, weights: Any, means: Any, covariances: Any) -> None:
        p, m, c = (
            as_tensor(v, n).double() for v, n in ((weights, "weights"), (means, "means"), (covariances, "covariances"))
        )
        if p.ndim != 1 or m.ndim != 2 or len(m) != len(p):
            raise ValueError(f"weights (K,) and means (K, d) are needed; got {tuple(p.shape)} and {tuple(m.shape)}")
        if not bool((p > 0).all()):
            raise ValueError(f"weights must be positive; got {p.tolist()}")
        unit = torch.eye(m.shape[1], dtype=torch.float64)
        c = c[:, None, None] * unit if c.ndim == 1 else c
        if c.shape != (len(p), *unit.shape):
            raise ValueError(
                f"covariances must have shape {(len(p), *unit.shape)} or ({len(p)},); got {tuple(c.shape)}"
            )
        if not torch.allclose(c, c.mT) or bool((torch.linalg.eigvalsh(c) <= 0).any()):
            raise ValueError("every covariance must be symmetric and positive definite")
        for name, value in (("weights", p / p.sum()), ("means", m), ("covariances", c)):
            object.__setattr__(self, name, value)

    @classmethod
    def gaussian(cls, mean: Sequence[float] | Tensor, covariance: Any) -> GaussianMixture:
        """Return a single Gaussian with mean ``(d,)`` and covariance ``(d, d)`` or variance.

        Examples
        --------
        >>> GaussianMixture.gaussian([0.0, 0.0], 1.0).covariances.shape
        torch.Size([1, 2, 2])
        """
        c = torch.as_tensor(covariance, dtype=torch.float64)
        return cls([1.0], torch.as_tensor(mean, dtype=torch.float64)[None], c[None])

    @classmethod
    def fit(cls, x: Tensor, components: int = 1, *, seed: Seed = 0) -> GaussianMixture:
        """Return the mixture that is fitted to points ``(n, d)`` by expectation and maximisation.

        A density for :meth:`gendyn.FlowMatching.log_prob` where that of the first population is not known.

        Raises
        ------
        ValueError
            If there are not as many points as components.

        Examples
        --------
        >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> two = GaussianMixture.fit(torch.cat([x - 5, x + 5]), 2)
        >>> [round(v) for v in sorted(two.means[:, 0].tolist())]
        [-5, 5]
        """
        if not 1 <= components <= len(x):
            raise ValueError(f"components must lie between 1 and the {len(x)} points; got {components}")
        found = FittedMixture(components, random_state=as_seed(seed) % 2**32).fit(x.detach().double().cpu().numpy())
        return cls(found.weights_, found.means_, found.covariances_)

    @property
    def dim(self) -> int:
        """Dimension ``d``."""
        return int(self.means.shape[1])

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density ``(B,)`` at ``x (B, d)``."""
        weights, means, covariances = (v.to(x.device) for v in (self.weights, self.means, self.covariances))
        parts = _log_gaussian(x.double()[:, None], means, torch.linalg.cholesky(covariances))
        return torch.logsumexp(parts + weights.log(), dim=1)

    def sample(self, n: int, *, seed: Seed = 0) -> Tensor:
        """Draw ``(n, d)`` points.

        Examples
        --------
        >>> GaussianMixture.gaussian([0.0, 0.0], 1.0).sample(5).shape
        torch.Size([5, 2])
        """
        generator = torch_generator(seed, "mixture")
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        points: Tensor = self.means[which] + (torch.linalg.cholesky(self.covariances)[which] @ z[..., None])[..., 0]
        return points


class ExactFields(NamedTuple):
    """The fields of an interpolant at points ``(B, d)``; ``log_prob`` and ``divergence`` are numbers, ``(B,)``."""

    log_prob: Tensor
    velocity: Tensor
    r"""b: the mean of :math:`\dot x_t` at :math:`x_t = x`."""
    mean_velocity: Tensor
    """v: the same without the latent noise."""
    score: Tensor
    r"""s: :math:`\nabla \log \rho_t`."""
    noise: Tensor
    """The mean of z (one-sided: of the Gaussian end)."""
    source: Tensor
    r"""The mean of :math:`x_0`."""
    target: Tensor
    r"""The mean of :math:`x_1`."""
    divergence: Tensor
    """Of the velocity."""


class GaussianMixtureInterpolant:
    """The exact fields of an interpolant between two Gaussian mixtures with independent ends.

    Parameters
    ----------
    source, target
        The laws at t=0 and t=1; of a one-sided schedule the source must be the standard Gaussian, of a mirror
        schedule both must be the same.
    schedule
        A name of :data:`gendyn.interpolants.SCHEDULES`, or an object.

    Raises
    ------
    ValueError
        If dimensions differ, or the source is not what the schedule takes.

    Examples
    --------
    >>> ends = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
    >>> exact = GaussianMixtureInterpolant(*ends, "linear")
    >>> round(exact.fields(0.3, torch.tensor([[0.5]])).velocity.item(), 8)
    3.46153846
    """

    def __init__(self, source: GaussianMixture, target: GaussianMixture, schedule: str | Schedule = "linear") -> None:
        if source.dim != target.dim:
            raise ValueError(f"both ends must have the same dimension; got {source.dim} and {target.dim}")
        self.source, self.target = source, target
        self.schedule = get_schedule(schedule)
        if not self.schedule.linear:
            raise ValueError(f"the fields of {self.schedule} are not known: its mean is not linear in the ends")
        if self.schedule.sides == "one-sided" and not _is_standard(source):
            raise ValueError("a one-sided schedule starts from the standard Gaussian; give that as the source")
        if self.schedule.sides == "mirror" and not all(
            torch.equal(getattr(source, name), getattr(target, name)) for name in ("weights", "means", "covariances")
        ):
            raise ValueError("a mirror schedule needs the same law at both ends")

    @property
    def dim(self) -> int:
        """Dimension ``d``."""
        return self.source.dim

    def fields(self, t: Tensor | float, x: Tensor) -> ExactFields:
        """Return all fields at ``x (B, d)`` and times ``t``, 0-dimensional or ``(B, 1)``; float64.

        A field that is not defined (the score where the law has no noise) is that of the mixture all the same, whose
        components are smooth.
        """
        x = x.double()
        times = _checked_times(torch.as_tensor(t, dtype=torch.float64, device=x.device))
        c = self.schedule.at(times.expand(len(x), 1)[..., None, None])
        means, rates, covariances, half_rates = self._moments(c)
        factor = torch.linalg.cholesky(covariances)
        y = torch.cholesky_solve((x[:, None, None] - means)[..., None], factor)[..., 0]
        log_weights = (self.source.weights[:, None] * self.target.weights).log()
        parts = _log_gaussian(x[:, None, None], means, factor) + log_weights
        log_prob = torch.logsumexp(parts, dim=(1, 2))
        weights = (parts - log_prob[:, None, None]).exp()

        def mean(value: Tensor) -> Tensor:
            return (weights[..., None] * value).sum((1, 2))

        velocity = rates + (half_rates @ y[..., None])[..., 0]
        start = self.source.means[:, None] + c.alpha * (self.source.covariances[:, None] @ y[..., None])[..., 0]
        end = self.target.means + c.beta * (self.target.covariances @ y[..., None])[..., 0]
        score, full = mean(-y), mean(velocity)
        trace = torch.cholesky_solve(half_rates, factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        spread = ((-y - score[:, None, None]) * velocity).sum(-1)
        divergence = (weights * (trace + spread)).sum((1, 2))
        one_sided = self.schedule.sides == "one-sided"
        flat = [v[:, :, 0, 0] for v in (c.alpha, c.gamma, c.gamma_product)]
        noise = mean(start) if one_sided else -flat[1] * score
        return ExactFields(log_prob, full, full + flat[2] * score, score, noise, mean(start), mean(end), divergence)

    def sample(self, t: float, n: int, *, seed: Seed = 0) -> Tensor:
        """Draw ``(n, d)`` points of the law at time ``t``.

        Examples
        --------
        >>> ends = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
        >>> GaussianMixtureInterpolant(*ends).sample(1.0, 3).shape
        torch.Size([3, 1])
        """
        c = self.schedule.at(_checked_times(torch.tensor(t, dtype=torch.float64)))
        generator = torch_generator(seed, "interpolant")
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        x0, x1 = self.source.sample(n, seed=generator), self.target.sample(n, seed=generator)
        return c.alpha * x0 + c.beta * x1 + c.gamma * z

    def _moments(self, c: Coefficients) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return means and their rates ``(B, I, J, d)``, covariances and half their rates ``(B, I, J, d, d)``."""
        first, second = self.source.means[:, None], self.target.means
        unit = torch.eye(self.dim, dtype=torch.float64)
        start, end = self.source.covariances[:, None], self.target.covariances
        alpha, beta, alpha_rate, beta_rate, amplitude, product = (
            v[..., None] for v in (c.alpha, c.beta, c.alpha_rate, c.beta_rate, c.gamma, c.gamma_product)
        )
        covariances = alpha**2 * start + beta**2 * end + amplitude**2 * unit
        half_rates = alpha * alpha_rate * start + beta * beta_rate * end + product * unit
        means = c.alpha * first + c.beta * second
        return means, c.alpha_rate * first + c.beta_rate * second, covariances, half_rates


def _log_gaussian(x: Tensor, means: Tensor, factor: Tensor) -> Tensor:
    """Return log-densities of Gaussians with Cholesky factors ``(..., d, d)`` at ``x (..., d)``."""
    white = torch.linalg.solve_triangular(factor, (x - means)[..., None], upper=False)[..., 0]
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    density: Tensor = -0.5 * white.square().sum(-1) - log_det - 0.5 * x.shape[-1] * math.log(2 * math.pi)
    return density


def _is_standard(mixture: GaussianMixture) -> bool:
    unit = torch.eye(mixture.dim, dtype=torch.float64)
    return len(mixture.weights) == 1 and not bool(mixture.means.any()) and torch.equal(mixture.covariances[0], unit)


def _checked_times(t: Tensor) -> Tensor:
    """Return times in [0, 1]; those outside by rounding are moved to the end."""
    if bool(((t < -1e-9) | (t > 1 + 1e-9)).any()):
        raise ValueError(f"times of an interpolant lie in [0, 1]; got {float(t.min()):g} to {float(t.max()):g}")
    return t.clamp(0.0, 1.0)
