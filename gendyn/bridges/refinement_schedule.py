"""Which engines refine a reference, in which order and at which noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from gendyn.bridges.coupling_em import CouplingEngine, CouplingObjective
from gendyn.bridges.iterative_projection import IterativeProjection, ProjectionEngine
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.noise_engine import NoiseEngine
from gendyn.bridges.path_em import PathEngine
from gendyn.bridges.pushforward import PushforwardEngine, PushforwardObjective
from gendyn.bridges.references import (
    MLP,
    Brownian,
    GradientField,
    LearnableReference,
    Linear,
    LinearPlusMLP,
    Network,
    ReferenceFamily,
)
from gendyn.bridges.refinement_engine import Engine, Stage
from gendyn.bridges.simpler_engine import SimplerEngine
from gendyn.data import Snapshots

__all__ = ["Method", "Schedule"]

Method = Literal["auto", "pushforward", "coupling_em", "path_em"]

Alternation = Callable[..., Engine]
"""Starts an engine that alternates couplings and reference, at a noise that falls by ``sigma_factor``."""

_ANNEALED = 0.25
"""What the noise of a start falls to where no sigma is given, before the likelihood decides on it."""

_REFERENCE_STEPS = 8
"""L-BFGS steps on the reference between two solutions of the couplings."""

_ROUNDS, _ROUND = 3, 3
"""Estimates of the noise while a network learns, and alternations before each."""

_POLISH = 10
"""Steps of Adam on the likelihood of a network that learned from couplings."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What :class:`~gendyn.ReferenceRefinement` was asked for, and the engines that this means.

    Parameters
    ----------
    method, engine, sigma, learn_sigma, iterations, gradient_steps, learning_rate, ridge, tolerance, max_iterations
        As for :class:`~gendyn.ReferenceRefinement`.
    seed
        Which paths are drawn.
    """

    method: Method
    engine: IterativeProjection | None
    sigma: float | None
    learn_sigma: bool | None
    iterations: int
    gradient_steps: int
    learning_rate: float
    ridge: float
    tolerance: float
    max_iterations: int
    seed: int

    def of(
        self, family: ReferenceFamily, marginals: Marginals
    ) -> tuple[list[Stage], PushforwardObjective | CouplingObjective, bool]:
        """Return the stages of the method, what the last of them minimises, and whether it learns the noise.

        Raises
        ------
        ValueError
            If the method cannot do what is asked of it.
        """
        if self.engine is not None:
            return self._projected(self.engine, marginals)
        method = self.method
        network = isinstance(family, MLP | GradientField | LinearPlusMLP | Network)
        if method == "auto":
            method = "coupling_em" if isinstance(family, Linear) and marginals.lift is None else "pushforward"
        if marginals.lift is not None and method != "pushforward":
            raise ValueError("references with hidden coordinates are learned by method='pushforward' alone")
        held = "sigma" in family.fixed
        known = self.sigma is not None or family.sigma is not None or held
        learns = self.learn_sigma if self.learn_sigma is not None else method == "pushforward" and self.sigma is None
        learns = learns and not held
        if method == "pushforward":
            stages: list[Stage] = [partial(self._pushforward, steps=self.gradient_steps, learns=learns)]
            if isinstance(family, Brownian) and learns:
                # All that is to be learned is the noise; features of different noise differ from its best mean.
                stages = [NoiseEngine, partial(self._pushforward, steps=0, learns=learns)]
            if network and self.method == "auto" and marginals.lift is None:
                last = partial(self._pushforward, steps=min(self.gradient_steps, _POLISH), learns=learns)
                stages = [*self._rounds(family, learns), last]
            return stages, PushforwardObjective(marginals, self.ridge), learns
        if self.learn_sigma:
            raise ValueError(
                f"{method} keeps the noise fixed and cannot learn sigma; take method='pushforward', which can, or "
                "leave learn_sigma out"
            )
        alternate = self._alternation() if method == "coupling_em" else self._path_alternation()
        objective = CouplingObjective(
            marginals, self.ridge, tolerance=self.tolerance, max_iterations=self.max_iterations
        )
        if known:
            return [partial(_annealed, alternate=alternate)], objective, False
        # The drift is learned at some noise, the likelihood then says which, and the drift is learned anew.
        provisional = {"provisional": True} if method == "coupling_em" else {}
        return [partial(alternate, sigma_factor=_ANNEALED, **provisional), NoiseEngine, alternate], objective, False

    def _projected(
        self, settings: IterativeProjection, marginals: Marginals
    ) -> tuple[list[Stage], CouplingObjective, bool]:
        """Return the published engine."""
        if marginals.lift is not None:
            raise ValueError("engine='ipml' knows no hidden coordinates; take the default engine")
        if self.method != "auto":
            raise ValueError(f"engine='ipml' is a method of its own; leave method={self.method!r} out")
        if self.learn_sigma:
            raise ValueError("engine='ipml' keeps the noise fixed and cannot learn sigma; leave learn_sigma out")
        options: dict[str, Any] = {"tolerance": self.tolerance, "max_iterations": self.max_iterations}
        stage = partial(
            ProjectionEngine, settings=settings, ridge=self.ridge, rate=self.learning_rate, seed=self.seed, **options
        )
        return [stage], CouplingObjective(marginals, self.ridge, **options), False

    def _pushforward(
        self, reference: LearnableReference, marginals: Marginals, *, steps: int, learns: bool
    ) -> PushforwardEngine:
        learned = reference.learned_parameters() if learns else reference.drift_parameters()
        return PushforwardEngine(
            reference, marginals, ridge=self.ridge, steps=steps, rate=self.learning_rate, parameters=list(learned)
        )

    def _rounds(self, family: ReferenceFamily, learns: bool) -> list[Stage]:
        """Return the stages from which a network's likelihood is polished.

        A network that learns from the likelihood alone may explain sparse populations by any detour. Here it learns
        from couplings, at a noise that falls only as far as what it has not yet explained.
        """
        wide = (
            partial(self._alternation(), sigma_factor=_ANNEALED)
            if learns
            else partial(_annealed, alternate=self._alternation())
        )
        start: list[Stage] = [wide, *([NoiseEngine] if learns else [])]
        if isinstance(family, LinearPlusMLP):
            start = [partial(SimplerEngine, stage=stage) for stage in start]
        elif learns:
            start = [partial(self._alternation(_ROUND), sigma_factor=_ANNEALED), NoiseEngine]
        once: list[Stage] = [self._alternation(_ROUND), *([NoiseEngine] if learns else [])]
        return start + _ROUNDS * once

    def _alternation(self, most: int | None = None) -> Alternation:
        return partial(
            CouplingEngine,
            ridge=self.ridge,
            iterations=self.iterations if most is None else min(self.iterations, most),
            gradient_steps=_REFERENCE_STEPS,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )

    def _path_alternation(self) -> Alternation:
        return partial(
            PathEngine,
            ridge=self.ridge,
            iterations=self.iterations,
            gradient_steps=_REFERENCE_STEPS,
            seed=self.seed,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )


def _annealed(reference: LearnableReference, marginals: Marginals, *, alternate: Alternation) -> Engine:
    """Start an alternation whose noise falls from the scale of the data to what the reference has."""
    family = replace(reference.family, sigma=None)
    target = reference.log_sigma.detach().clone()
    data = Snapshots(marginals.times, list(marginals.samples))
    wide = family.start(data).log_sigma.detach().mean() - target.mean()
    factor = float(wide.clamp_min(0.0).neg().exp())
    with torch.no_grad():
        reference.log_sigma.sub_(torch.tensor(factor).log())
    return alternate(reference, marginals, sigma_factor=factor)
