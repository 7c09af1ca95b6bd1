r"""Densities of the populations that a model's flow makes.

.. math:: \log \hat\rho_T(x_T) = \log \rho_0(x_0) - \int \operatorname{div} b(t, x_t)\,dt

along the flow :math:`\dot x = b(t, x)`: backward from a point to its log-density, or forward from start points to
samples with theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from gendyn.interpolants.analytic import GaussianMixture
from gendyn.interpolants.population_model import PopulationModel
from gendyn.randomness import Seed, as_seed
from gendyn.sampling import Process, flow_log_prob, log_density_change
from gendyn.sampling.flow_density import Divergence

__all__ = ["Base", "DivergenceOption", "FlowModel", "chosen_divergence", "density_of"]

Base = Callable[[Tensor], Tensor] | torch.distributions.Distribution | GaussianMixture
"""Log-density ``(B, d) -> (B,)``, a mixture, or a distribution of torch over points or over every feature alone."""

DivergenceOption = Literal["auto", "exact", "hutchinson", "hutchinson-gaussian"]

_EXACT_DIVERGENCE = 16
"""Features up to which a divergence is exact by default."""

_MOST_EXACT = 1000
"""Features beyond which an exact divergence, one pass each, is refused."""


class FlowModel(PopulationModel):
    """A model of populations that has a flow, and so densities."""

    def log_prob(
        self,
        x: Tensor,
        *,
        base: Base | None = None,
        divergence: DivergenceOption = "auto",
        probes: int = 1,
        seed: Seed = 0,
        solver: str = "rk4",
        step: float | None = None,
        gradient: Literal["none", "backprop"] = "none",
        **conditions: Any,
    ) -> Tensor:
        r"""Return the log-density of points at the last trained time under the flow.

        Parameters
        ----------
        x
            Points ``(B, d)`` in the units of the data.
        base
            Log-density ``(B, d) -> (B,)`` of the first population, a distribution of torch, or a mixture, such as
            ``GaussianMixture.fit(cells, 8)``; not needed of a one-sided schedule, which starts from noise.
        divergence, probes, seed
            ``"exact"``: one backward pass a feature; ``"hutchinson"``: unbiased, with random signs as probes, or
            ``"hutchinson-gaussian"`` ones; ``"auto"``: exact up to 16 features.
        solver, step, gradient
            As for :func:`gendyn.sampling.flow_log_prob`.
        **conditions
            ``condition`` and ``guidance`` of models that take them, as for ``sample``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no base density, cells of the model multiply, or an exact divergence is asked for in more than
            a thousand dimensions.
        """
        self._check_fitted()
        return flow_log_prob(
            self._flow(len(x), **conditions),
            torch.as_tensor(x).to(self.process_.shift),
            self.times_[[0, -1]],
            self._base_density(base),
            divergence=chosen_divergence(divergence, self.process_.dim),
            probes=probes,
            seed=seed,
            solver=solver,
            step=step,
            gradient=gradient,
        )

    def sample_with_log_prob(
        self,
        x0: Tensor | None = None,
        *,
        n: int | None = None,
        base: Base | None = None,
        divergence: DivergenceOption = "auto",
        probes: int = 1,
        seed: Seed = 0,
        solver: str = "rk4",
        step: float | None = None,
        gradient: Literal["none", "backprop"] = "none",
        **conditions: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return points at the last trained time together with their log-density, in one run of the flow.

        Parameters
        ----------
        x0
            Start points ``(n, d)`` at the first trained time; by default cells of the first trained population, and
            of a one-sided schedule draws of noise.
        n
            How many; by default as many as there are start points (1000 draws of noise).
        base, divergence, probes, seed, solver, step, gradient, conditions
            As for :meth:`log_prob`; the seed is that of the start points, too.

        Returns
        -------
        Tensor, Tensor
            ``(n, d)`` in the units of the data, and ``(n,)``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            As :meth:`log_prob`.
        """
        self._check_fitted()
        root = as_seed(seed)
        start = self._starting_points(x0, n, root).to(self.process_.shift)
        flow = self._flow(len(start), **conditions)
        density = self._base_density(base)
        end, change = log_density_change(
            flow,
            start,
            self.times_[[0, -1]],
            divergence=chosen_divergence(divergence, self.process_.dim),
            probes=probes,
            seed=root,
            solver=solver,
            step=step,
            gradient=gradient,
        )
        return end, density(start) + change

    def _flow(self, rows: int) -> Process:
        """Return the flow of this many points."""
        flow: Process = self.process_
        return flow

    def _starting_points(self, x0: Tensor | None, n: int | None, seed: int) -> Tensor:
        points = self.initial_ if x0 is None else torch.as_tensor(x0)
        return points if n is None else self._resample(points, n, seed)

    def _base_density(self, base: Base | None) -> Callable[[Tensor], Tensor]:
        if base is None:
            raise ValueError(
                "the log-density of the first population is needed: give base= a function (B, d) -> (B,), a "
                "distribution of torch, or GaussianMixture.fit(cells, components) where it is not known"
            )
        return density_of(base)


def chosen_divergence(divergence: DivergenceOption, dim: int) -> Divergence:
    """Return how a divergence is taken in ``dim`` dimensions.

    Raises
    ------
    ValueError
        If it is exact and there are more than a thousand.

    Examples
    --------
    >>> chosen_divergence("auto", 2), chosen_divergence("auto", 50)
    ('exact', 'hutchinson')
    """
    if divergence == "exact" and dim > _MOST_EXACT:
        raise ValueError(
            f"an exact divergence in {dim} dimensions takes {dim} passes a step; use 'hutchinson' with probes"
        )
    if divergence != "auto":
        return divergence
    return "exact" if dim <= _EXACT_DIVERGENCE else "hutchinson"


def density_of(base: Base) -> Callable[[Tensor], Tensor]:
    """Return the log-density ``(B, d) -> (B,)`` of a distribution or mixture; a function is returned as it is.

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> density_of(torch.distributions.Normal(torch.zeros(2), 1.0))(torch.zeros(3, 2)).shape
    torch.Size([3])
    """
    if isinstance(base, GaussianMixture):
        mixture = base
        return lambda x: mixture.log_prob(x).to(x)
    if not isinstance(base, torch.distributions.Distribution):
        if not callable(base):
            raise TypeError(
                "base must be a function (B, d) -> (B,), a distribution of torch, or a GaussianMixture; "
                f"got {type(base).__name__}"
            )
        return base
    distribution = base

    def density(x: Tensor) -> Tensor:
        found: Tensor = distribution.log_prob(x)
        return found.sum(1) if found.ndim == 2 else found

    return density
