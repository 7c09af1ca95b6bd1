r"""Refinement by paths: alternate the bridge under the reference, and a regression of the drift on its paths.

Given both ends a path of the bridge is one of the reference, with the drift

.. math:: v(s, x) = f_\theta + g g^\top \nabla_x \log p_\theta(s, x \to \tau, y_j).

By Girsanov's theorem the divergence of the bridge from another member of the family is, up to a constant,

.. math::

    \mathrm{KL}(P \Vert Q_{\theta'}) = \sum_k \mathbb E_{\pi_k} \int_0^{\tau_k}
    \tfrac12 \bigl\lVert f_{\theta'}(s, X_s) - v(s, X_s) \bigr\rVert^2_{(g g^\top)^{-1}}\, ds + \text{const},

so that the reference step is a weighted regression, in closed form where the drift is linear in the parameters. It
needs no derivatives through transition laws. This is the projection of Shen, Berlinghieri and Broderick (2025), with
exact bridges and the conditional drift in place of simulated paths and their increments.

The second moment of v grows like one over the time that is left. Times are drawn with density
:math:`\propto (\tau - s)^{-1/2}` and weighted by its inverse: the integral is that of the equation up to the end, with
finite variance and no time cut off. A step is taken only as far as it lowers the divergence

.. math:: F(\theta) = \min_P \mathrm{KL}(P \Vert Q_\theta),

solved anew at the new parameters, so that F never rises while the noise stays, whatever paths were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import nnls
from torch import Tensor

from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.descent import quasi_newton
from gendyn.bridges.glued_paths import stratified
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.refinement_engine import Engine, geometric_mean
from gendyn.bridges.transition import NoTransition, transition_law
from gendyn.randomness import torch_generator

__all__ = ["PathEngine", "PathSample", "draw_paths", "project"]

_LEVELS = 16
"""Times of every interval at which paths are looked at."""

_PAIRS, _MOST_PAIRS = 256, 4096
"""Paths of an interval, at first and at most: twice as many after every step that did not lower the divergence."""

_HALVINGS = 4
"""How often a step that raises the divergence is halved before it is given up."""

_SETTLED = 1e-7
"""Fall of the divergence, in nats, below which a step counts as none."""

_PATIENCE = 3
"""Steps in a row without a fall after which there is no further one."""

_SINGULAR = 1e-13
"""Directions of the regression below this part of the strongest one are left out."""

_LEAST_NOISE = 1e-2
"""Noise below this part of its root mean square is taken to be it: where it vanishes, a regression has no weights."""


@dataclass(frozen=True, eq=False)
class PathSample:
    r"""Points of bridges and the drift there: what the regression sees.

    Attributes
    ----------
    times
        :math:`t`, ``(m, 1)``.
    states
        :math:`X_t`, ``(m, d)``.
    drifts
        :math:`v`, ``(m, d)``.
    precisions
        Weights :math:`(g g^\top)^{-1}_{ii}\, ds`, ``(m, d)``, so that the loss is in nats.
    """

    times: Tensor
    states: Tensor
    drifts: Tensor
    precisions: Tensor

    def loss(self, reference: LearnableReference) -> Tensor:
        """Return the divergence of the module's equation, up to its constant, with a graph."""
        gaps = reference.drift(self.times, self.states) - self.drifts
        return 0.5 * (self.precisions * gaps.square()).sum()


@torch.no_grad()
def draw_paths(
    reference: LearnableReference,
    marginals: Marginals,
    plans: list[Tensor],
    pairs: int,
    generator: torch.Generator,
    *,
    levels: int = _LEVELS,
) -> PathSample:
    """Draw bridges of every interval between coupled points, at random times.

    Parameters
    ----------
    reference, marginals
        The reference of the bridges, and their ends.
    plans
        The couplings ``(n_k, n_{k+1})``.
    pairs
        Bridges an interval, an even number.
    generator
        Draws pairs, times and noise.
    levels
        Times of an interval, one drawn in each of as many strata.
    """
    parts = list(_intervals(reference, marginals, plans, pairs, generator, levels))
    times, states, drifts, spans = (torch.cat(column) for column in zip(*parts, strict=True))
    noise = reference.diffusion(times, states).abs()
    noise = noise.maximum(_LEAST_NOISE * noise.square().mean(0).sqrt())
    return PathSample(times, states, drifts, spans / noise.square())


def _intervals(
    reference: LearnableReference,
    marginals: Marginals,
    plans: list[Tensor],
    pairs: int,
    generator: torch.Generator,
    levels: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield times, states, drifts and the spans that each stands for, level by level."""
    samples, device = marginals.samples, marginals.samples[0].device
    for k, plan in enumerate(plans):
        start, end = marginals.times[k : k + 2].tolist()
        # Every pair has two bridges whose noise is opposite, so that what is odd in it has no error.
        chosen = stratified(plan.flatten(), pairs // 2, generator).repeat(2)
        sources, targets = chosen // plan.shape[1], chosen % plan.shape[1]
        rows, which = torch.unique(sources, return_inverse=True)
        # Below 1, so that the last time stays apart from the end.
        shares = 0.999 * torch.rand(levels, generator=generator, dtype=torch.float64)
        # The inverse of the distribution function of the density (1 - s)^(-1/2) / 2.
        left = (1 - (torch.arange(levels, dtype=torch.float64) + shares) / levels).square() * (end - start)
        elapsed = torch.cat([end - start - left, left.new_tensor([end - start])])
        law = transition_law(reference, samples[k][rows], start, elapsed, substeps=marginals.substeps)
        normals = torch.randn(levels + 1, pairs // 2, marginals.dim, generator=generator, dtype=torch.float64)
        normals = torch.cat([normals, -normals], 1).to(device)
        ends = samples[k + 1][targets]
        paths = law.sample_bridge(which, ends, normals)
        spans = 2 * (left * (end - start)).sqrt() / (levels * pairs)
        for rest, states, span in zip(left, paths[:-1], spans.tolist(), strict=True):
            time = end - float(rest)
            substeps = max(1, math.ceil(marginals.substeps * float(rest) / (end - start)))
            onward = transition_law(reference, states, time, rest[None], substeps=substeps)
            times = states.new_full((pairs, 1), time)
            pull = reference.diffusion(times, states).square() * onward.log_density_gradient(ends)
            yield times, states, reference.drift(times, states) + pull, states.new_full((pairs, 1), span)


def project(sample: PathSample, reference: LearnableReference, ridge: float, steps: int) -> None:
    r"""Move a reference to where its drift is nearest to that of bridges, with a ridge :math:`\lambda R(\theta)`.

    Where the drift is linear in its parameters this is their weighted least squares, with none below 0 that must be
    positive; else up to ``steps`` steps of L-BFGS.

    Parameters
    ----------
    sample
        Points and drifts of bridges.
    reference
        What is moved.
    ridge
        :math:`\lambda`.
    steps
        L-BFGS steps.
    """
    features = None if set(reference.family.fixed) - {"sigma"} else reference.features(sample.times, sample.states)
    if features is None:
        quasi_newton(
            reference.drift_parameters(),
            lambda: sample.loss(reference) + ridge * reference.ridge_terms(),
            steps,
        )
        return
    weights = sample.precisions.sqrt()[..., None]
    design, target = (weights * features).flatten(0, 1), (weights * sample.drifts[..., None]).flatten()
    # The loss has a half before its squares, the ridge has none. The sums come first, and small systems after them: a
    # decomposition of the tall matrix would round differently from run to run.
    gram = design.T @ design + torch.diag(2 * ridge * reference.penalised.to(design))
    values, vectors = torch.linalg.eigh(gram)
    kept = values > _SINGULAR * values[-1]
    roots, vectors = values[kept].sqrt(), vectors[:, kept]
    target = (vectors.T @ (design.T @ target)) / roots
    theta = vectors @ (target / roots)
    if len(reference.positive) > 1 and bool((theta <= 0).any()):
        found, _ = nnls((roots[:, None] * vectors.T).cpu().numpy(), target.cpu().numpy())
        theta = torch.as_tensor(found, dtype=target.dtype, device=target.device)
    reference.set_weights(theta)


class PathEngine(Engine):
    """The alternation of the module's docstring.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`.
    ridge
        Factor of the penalty.
    iterations
        Alternations at most.
    gradient_steps
        L-BFGS steps of a regression without a closed form.
    seed
        Which paths are drawn.
    sigma_factor
        What the noise of the start is multiplied by over the first third of the iterations.
    tolerance, max_iterations
        Passed to :func:`~gendyn.coupling.static_bridge`.
    """

    name = "path_em"

    def __init__(
        self,
        reference: LearnableReference,
        marginals: Marginals,
        *,
        ridge: float,
        iterations: int,
        gradient_steps: int,
        seed: int,
        sigma_factor: float = 1.0,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        super().__init__(reference, marginals)
        self.total = iterations
        self.ridge = ridge
        self.gradient_steps = gradient_steps
        self.seed = seed
        self.first = reference.log_sigma.detach().clone()
        self.sigma_factor = sigma_factor
        self.objective = CouplingObjective(marginals, ridge, tolerance=tolerance, max_iterations=max_iterations)
        self.pairs = _PAIRS
        self.idle = 0
        self._solved: tuple[float, list[Tensor]] | None = None

    def step(self, m: int) -> dict[str, float]:
        """Draw bridges, regress the drift on them, and go as far as the divergence falls, which is the objective."""
        reference = self.reference
        annealed = 0 if self.sigma_factor == 1 else max(1, self.total // 3)
        share = min(1.0, m / annealed) if annealed else 1.0
        with torch.no_grad():
            reference.log_sigma.copy_(self.first + share * math.log(self.sigma_factor))
        if m <= annealed:
            self._solved = None
        value, plans = self._solved or self.objective.solve(reference)
        parameters = reference.drift_parameters()
        if not parameters:
            self.finished = m >= annealed
            return {"objective": value, "sigma": geometric_mean(reference.log_sigma)}
        before = [p.detach().clone() for p in parameters]
        generator = torch_generator(self.seed, "paths", m)
        sample = draw_paths(reference, self.marginals, plans, self.pairs, generator)
        project(sample, reference, self.ridge, self.gradient_steps)
        self._solved = self._nearest(parameters, before, value, plans)
        fall = value - self._solved[0]
        if fall < _SETTLED:
            self.pairs = min(2 * self.pairs, _MOST_PAIRS)
        self.idle = self.idle + 1 if fall < _SETTLED and m > annealed else 0
        self.finished = self.idle >= _PATIENCE
        return {"objective": self._solved[0], "sigma": geometric_mean(reference.log_sigma)}

    def _nearest(
        self, parameters: list[torch.nn.Parameter], before: list[Tensor], value: float, plans: list[Tensor]
    ) -> tuple[float, list[Tensor]]:
        """Go back towards the parameters before until the divergence is below its value there; return it, solved."""
        after = [p.detach().clone() for p in parameters]
        for halving in range(_HALVINGS + 1):
            share = 0.5**halving
            with torch.no_grad():
                for p, a, b in zip(parameters, before, after, strict=True):
                    p.copy_(a + share * (b - a))
            try:
                found = self.objective.solve(self.reference)
            except NoTransition:
                continue
            if found[0] < value:
                return found
        with torch.no_grad():
            for p, a in zip(parameters, before, strict=True):
                p.copy_(a)
        return value, plans

    def tensors(self) -> dict[str, Tensor]:
        """Return potentials, plans and the noise of the start."""
        last = math.nan if self._solved is None else self._solved[0]
        figures = torch.tensor([self.sigma_factor, self.pairs, self.idle, last], dtype=torch.float64)
        parts = {"first": self.first, "figures": figures}
        for k, (f, g) in enumerate(self.objective.potentials or ()):
            parts |= {f"f.{k}": f, f"g.{k}": g}
        for k, plan in enumerate(self._solved[1] if self._solved else ()):
            parts[f"plan.{k}"] = plan
        return parts

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self.first = tensors["first"]
        self.sigma_factor, pairs, idle, last = tensors["figures"].tolist()
        self.pairs, self.idle = int(pairs), int(idle)
        count = range(len(self.marginals.intervals))
        self.objective.potentials = [(tensors[f"f.{k}"], tensors[f"g.{k}"]) for k in count]
        self._solved = None if math.isnan(last) else (last, [tensors[f"plan.{k}"] for k in count])
