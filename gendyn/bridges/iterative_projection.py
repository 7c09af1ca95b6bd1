r"""The published refinement by simulation: iterative proportional fitting with regressed drifts, and a refit after it.

In every interval a forward drift :math:`b` and a backward drift :math:`c` are fitted in turn: paths are simulated from
one population with the one, and the other is regressed on their increments,

.. math:: c(x_{s+h}, s + h) \approx \frac{x_s - x_{s+h}}{h}, \qquad b(x_s, s) \approx \frac{x_{s+h} - x_s}{h},

beginning with paths of the reference, which enters here alone (Vargas et al. 2021). A drift is the mean of a Gaussian
process in :math:`z = (x, s)`,

.. math:: m(z) = k(z, Z) \bigl(k(Z, Z) + (\sigma^2 + h \epsilon) I\bigr)^{-1} Y, \qquad
    k(z, z') = e^{-\lVert z - z' \rVert / \ell},

with :math:`\epsilon = 10^{-6}`, or of its projection on a few inducing points (the Nystrom approximation). Paths from
every population are then run to both ends with the fitted drifts, and the reference moves towards the least mean
squared error of its drift on their increments (Shen, Berlinghieri and Broderick 2025).

This is slow, and approximate where :mod:`gendyn.bridges.coupling_em` is exact; it is here to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.descent import LossDescent
from gendyn.bridges.glued_paths import stratified
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.refinement_engine import Engine, geometric_mean
from gendyn.bridges.transition import NoTransition
from gendyn.randomness import torch_generator

__all__ = ["GaussianProcessDrift", "IterativeProjection", "ProjectionEngine", "proportional_fitting"]

Drift = Callable[[Tensor, float], Tensor]
"""``drift(x, s)`` of states ``(n, d)`` at a time after the start of their interval."""

_JITTER = 1e-6


@dataclass(frozen=True)
class IterativeProjection:
    r"""How far the published engine goes: ``engine=`` of :class:`~gendyn.ReferenceRefinement`.

    Parameters
    ----------
    n_outer
        Rounds of fitting and refinement.
    n_ipf
        Pairs of a forward and a backward drift in a round.
    max_points
        Inducing points of a drift; ``None``: all points, with an inverse of their number, as published.
    time_step
        Longest Euler step; by default a hundredth of the shortest interval.
    epochs
        Steps of Adam on the reference in a round, at the ``learning_rate`` of the estimator.
    length
        :math:`\ell` of the kernel.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> IterativeProjection(n_outer=2, max_points=100).n_ipf
    10
    """

    n_outer: int = 10
    n_ipf: int = 10
    max_points: int | None = 500
    time_step: float | None = None
    epochs: int = 20
    length: float = 1.0

    def __post_init__(self) -> None:
        for name in ("n_outer", "n_ipf", "epochs", "max_points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
        for name in ("time_step", "length"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}")

    def steps(self, gap: float, shortest: float) -> int:
        """Return the number of Euler steps of an interval."""
        return math.ceil(gap / (self.time_step or shortest / 100) - 1e-9)


class GaussianProcessDrift:
    r"""A drift regressed on increments; see the module's equations.

    Parameters
    ----------
    inputs
        :math:`Z`, ``(m, d + 1)``: states and times.
    weights
        What the kernels at them are multiplied with, ``(m, d)``.
    length
        :math:`\ell`.
    """

    def __init__(self, inputs: Tensor, weights: Tensor, length: float) -> None:
        self.inputs = inputs
        self.weights = weights
        self.length = length

    @classmethod
    def fit(
        cls,
        inputs: Tensor,
        targets: Tensor,
        *,
        noise: float,
        length: float = 1.0,
        max_points: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        r"""Regress targets ``(m, d)`` on inputs ``(m, d + 1)``.

        Parameters
        ----------
        inputs, targets
            :math:`Z` and :math:`Y`.
        noise
            :math:`\sigma^2` with its jitter.
        length
            :math:`\ell`.
        max_points
            Inducing points at most, drawn from the inputs; ``None``: all inputs.
        generator
            Draws them.

        Examples
        --------
        >>> z = torch.tensor([[0.0, 0.0], [9.0, 0.0]], dtype=torch.float64)
        >>> drift = GaussianProcessDrift.fit(z, torch.tensor([[1.0], [2.0]]).double(), noise=1.0)
        >>> round(drift(z[:1, :1], 0.0).item(), 3)  # half, towards 0, and hardly anything of the far one
        0.5
        """
        if max_points is None or max_points >= len(inputs):
            gram = torch.exp(-torch.cdist(inputs, inputs) / length)
            gram.diagonal().add_(noise)
            factor = torch.linalg.cholesky(gram)
            return cls(inputs, torch.cholesky_solve(targets, factor), length)
        chosen = inputs[torch.randperm(len(inputs), generator=generator)[:max_points].to(inputs.device)]
        own = torch.exp(-torch.cdist(chosen, chosen) / length)
        cross = torch.exp(-torch.cdist(chosen, inputs) / length)
        gram = noise * own + cross @ cross.T
        # Kernels of near points are nearly the same; what rounding makes of that is lifted by a trifle.
        gram.diagonal().add_(1e-10 * gram.diagonal().mean())
        factor = torch.linalg.cholesky(gram)
        return cls(chosen, torch.cholesky_solve(cross @ targets, factor), length)

    def __call__(self, x: Tensor, s: float) -> Tensor:
        """Return the drift ``(n, d)`` of states ``(n, d)`` at a time."""
        points = torch.cat([x, x.new_full((len(x), 1), s)], 1)
        return torch.exp(-torch.cdist(points, self.inputs) / self.length) @ self.weights


@torch.no_grad()
def proportional_fitting(
    reference: Drift,
    first: Tensor,
    last: Tensor,
    span: float,
    steps: int,
    sigma: float,
    settings: IterativeProjection,
    generator: torch.Generator,
) -> tuple[Drift, Drift]:
    """Fit the forward and the backward drift of the bridge between two populations.

    Parameters
    ----------
    reference
        Drift of the reference.
    first, last
        The populations ``(n, d)`` and ``(m, d)``.
    span, steps
        Time between them, and Euler steps.
    sigma
        The noise.
    settings
        How far to go.
    generator
        Draws noise and inducing points.

    Returns
    -------
    tuple
        Both drifts, of states and the time after the first population.
    """
    h = span / steps
    grid = [k * h for k in range(steps + 1)]

    def regressed(paths: Tensor, times: list[float]) -> Drift:
        # Times run with the states, whichever way these were simulated.
        clock = paths.new_tensor(times[:-1])[:, None, None].expand(-1, paths.shape[1], 1)
        inputs = torch.cat([paths[:-1], clock], 2).flatten(0, 1)
        targets = (paths.diff(dim=0) / h).flatten(0, 1)
        return GaussianProcessDrift.fit(
            inputs,
            targets,
            noise=sigma**2 + _JITTER * h,
            length=settings.length,
            max_points=settings.max_points,
            generator=generator,
        )

    def run(drift: Drift, x: Tensor, times: list[float]) -> Tensor:
        return _euler(drift, x, times, h, sigma, generator)

    back = grid[::-1]
    backward = regressed(run(reference, first, grid).flip(0), back)
    forward = reference
    for _ in range(settings.n_ipf):
        forward = regressed(run(backward, last, back).flip(0), grid)
        backward = regressed(run(forward, first, grid).flip(0), back)
    return forward, backward


def _euler(drift: Drift, x: Tensor, times: list[float], h: float, sigma: float, generator: torch.Generator) -> Tensor:
    """Simulate from states ``(n, d)`` at the first of the times, forwards or backwards: ``(T, n, d)``."""
    states = [x]
    for s in times[:-1]:
        normals = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        states.append(states[-1] + h * drift(states[-1], s) + math.sqrt(h) * sigma * normals)
    return torch.stack(states)


class ProjectionEngine(Engine):
    """The published alternation; an iteration is a round of fitting in all intervals and a refit of the reference.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`; the noise must be one constant.
    settings
        How far to go.
    ridge
        Factor of the penalty.
    rate
        Learning rate of the refit.
    seed
        Which noise is drawn.
    tolerance, max_iterations
        Passed to :func:`~gendyn.coupling.static_bridge`, for the divergence that the history shows.

    Attributes
    ----------
    times, paths : Tensor
        Times ``(T,)`` and paths ``(sum of n_k, T, d)`` of the last iteration, from every population to both ends.
    """

    name = "ipml"

    def __init__(
        self,
        reference: LearnableReference,
        marginals: Marginals,
        *,
        settings: IterativeProjection,
        ridge: float,
        rate: float,
        seed: int,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        super().__init__(reference, marginals)
        if reference.family.volatility != "constant" or reference.log_sigma.ndim:
            raise ValueError(
                "engine='ipml' regresses drifts at one constant noise; give a family with volatility='constant' and "
                "one sigma, or take the default engine"
            )
        self.settings = settings
        self.total = settings.n_outer
        self.ridge = ridge
        self.rate = rate
        self.seed = seed
        self.objective = CouplingObjective(marginals, ridge, tolerance=tolerance, max_iterations=max_iterations)
        self.times = self.paths = torch.empty(0, dtype=torch.float64)

    def step(self, m: int) -> dict[str, float]:
        """Fit all bridges, run their paths, and refit the reference; the objective is the divergence after it."""
        generator = torch_generator(self.seed, "ipml", m)
        self._run_paths(generator)
        parameters = self.reference.drift_parameters()
        if parameters:
            descent = LossDescent(parameters, self._loss, self.rate)
            for _ in range(self.settings.epochs):
                descent.step()
            # The last step counts only where it is the best.
            with torch.no_grad():
                worse = not float(self._loss()) < descent.best
            if worse:
                descent.settle()
        try:
            value = self.objective.solve(self.reference)[0]
        except NoTransition:
            value = math.inf
        return {"objective": value, "sigma": geometric_mean(self.reference.log_sigma)}

    @torch.no_grad()
    def _run_paths(self, generator: torch.Generator) -> None:
        """Fit the drifts of every interval, and run from every population to both ends."""
        reference, marginals = self.reference, self.marginals
        sigma = float(reference.log_sigma.exp())
        gaps = marginals.times.diff().tolist()
        points = [
            x[stratified(w, len(x), generator)] for x, w in zip(marginals.samples, marginals.weights, strict=True)
        ]
        forwards, backwards, grids = [], [], []
        for k, gap in enumerate(gaps):
            start = float(marginals.times[k])
            steps = self.settings.steps(gap, min(gaps))

            def own(x: Tensor, s: float, start: float = start) -> Tensor:
                return reference.drift(x.new_tensor(start + s), x)

            forward, backward = proportional_fitting(
                own, points[k], points[k + 1], gap, steps, sigma, self.settings, generator
            )
            forwards.append(forward)
            backwards.append(backward)
            grids.append([j * gap / steps for j in range(steps + 1)])
        whole = []
        for k, x in enumerate(points):
            parts = [x[None]]
            for j in range(k, len(gaps)):
                h = gaps[j] / (len(grids[j]) - 1)
                parts.append(_euler(forwards[j], parts[-1][-1], grids[j], h, sigma, generator)[1:])
            for j in reversed(range(k)):
                h = gaps[j] / (len(grids[j]) - 1)
                earlier = _euler(backwards[j], parts[0][0], grids[j][::-1], h, sigma, generator)
                parts.insert(0, earlier.flip(0)[:-1])
            whole.append(torch.cat(parts))
        starts = marginals.times.tolist()
        moments = [starts[k] + s for k, grid in enumerate(grids) for s in grid[:-1]]
        self.times = torch.tensor([*moments, starts[-1]], dtype=torch.float64)
        self.paths = torch.cat(whole, 1).transpose(0, 1)

    def _loss(self) -> Tensor:
        """Return the mean squared error of the drift on the increments, with its penalty."""
        spans = self.times.diff()[:, None].to(self.paths.device)
        rates = (self.paths.diff(dim=1) / spans).flatten(0, 1)
        moments = self.times[:-1].to(self.paths).repeat(len(self.paths))[:, None]
        drift = self.reference.drift(moments, self.paths[:, :-1].flatten(0, 1))
        return (drift - rates).square().sum(1).mean() + self.ridge * self.reference.ridge_terms()

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing: the next iteration starts from the reference alone."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put nothing back."""
