r"""Predictions of a population that nobody measured, by the place from which cells are pushed.

A fitted model moves cells from a measured time to the hole; which cells is a choice of its own:

- ``restart``: those of the time before the hole;
- ``rollout``: those of the first time;
- ``two-sided`` (models without noise or growth): those before the hole forward and those after it backward. With the
  exact plan :math:`P_{ij}` between the two populations and :math:`s` the fraction of the gap at which the hole lies,
  partners meet at :math:`(1-s)\,\phi_{t_- \to t}(x_i) + s\,\phi_{t_+ \to t}(y_j)` with mass :math:`P_{ij}`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from gendyn.coupling import Plan
from gendyn.data import Paths, Snapshots
from gendyn.evaluation.baselines import Prediction, neighbour_plan, neighbours

__all__ = ["Method", "Start", "predict_starts"]

Method = Any
"""An unfitted estimator, or ``callable(train, previous_time, hole, seed)`` that returns ``(n, d)`` samples, a pair
``(samples, weights)``, or a :class:`~gendyn.evaluation.Prediction`."""

Start = Literal["restart", "rollout", "two-sided"]


def predict_starts(
    name: str,
    method: Method,
    train: Snapshots,
    hole: float,
    seed: int,
    *,
    starts: tuple[str, ...] = ("restart", "rollout", "two-sided"),
    plan: Plan | None = None,
) -> dict[str, Prediction]:
    """Fit a method on the training times and return its predictions of the hole by start.

    Parameters
    ----------
    name
        What the method is called in messages.
    method
        An estimator (a clone is fitted), an :class:`~gendyn.evaluation.Ensemble`, or another callable. What the last
        returns is its one prediction, ``"restart"``.
    train
        Populations at the training times.
    hole
        The time to predict, between two of them.
    seed
        Of the fit and of the samples.
    starts
        Which starts are wanted; ``two-sided`` is left out for a model with noise or growth.
    plan
        The exact plan between the neighbours of the hole, solved where it is needed and not given.

    Raises
    ------
    ValueError, TypeError, RuntimeError, ArithmeticError
        As the method does, with its name and the hole put before; or if what it returns has the wrong shape.
    """
    if hasattr(method, "predict_starts"):
        # An ensemble, whose members may be pushed from any start.
        pooled: dict[str, Prediction] = method.predict_starts(name, train, hole, seed, starts=starts, plan=plan)
        return pooled
    previous, following = neighbours(train, hole)
    first = float(train.times[0])
    try:
        if not hasattr(method, "fit"):
            return {"restart": _checked(name, method(train, previous, hole, seed), train.dim)}
        model = method.clone().fit(train, seed=seed, progress=False)
        forward = _pushed(model, train, previous, hole, seed)
        result = {"restart": forward}
        if "rollout" in starts:
            result["rollout"] = forward if previous == first else _pushed(model, train, first, hole, seed)
        still = getattr(model.process_, "noise_type", None) == "none" and not getattr(model, "grows", False)
        if "two-sided" in starts and still:
            backward = _pushed(model, train, following, hole, seed)
            plan = neighbour_plan(train, hole) if plan is None else plan
            s = (hole - previous) / (following - previous)
            joined = (1 - s) * forward.samples[plan.rows] + s * backward.samples[plan.columns]
            result["two-sided"] = Prediction(joined, plan.mass.to(joined.dtype))
    except _Misshapen:
        raise
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise type(error)(f"method {name!r} failed with time {hole:g} held out: {error}") from error
    return {start: found for start, found in result.items() if start in starts}


class _Misshapen(ValueError):
    """What a method returned has the wrong shape: the message already names the method."""


def _checked(name: str, output: Any, dim: int) -> Prediction:
    if isinstance(output, Prediction):
        found = output
    else:
        samples, weights = output if isinstance(output, tuple) else (output, None)
        found = Prediction(torch.as_tensor(samples), None if weights is None else torch.as_tensor(weights))
    if found.samples.ndim != 2 or found.samples.shape[1] != dim:
        raise _Misshapen(f"method {name!r} must return samples (n, {dim}); got {tuple(found.samples.shape)}")
    return found


def _pushed(model: Any, train: Snapshots, start: float, hole: float, seed: int) -> Prediction:
    """Push every row of one population to the hole."""
    cells = train.population(start)
    if getattr(model, "grows", False):
        grown, logs = model.sample_weighted(cells, [start, hole], seed=seed)
        mass = train.mass(start).to(logs) * (logs[:, -1] - logs[:, -1].max()).exp()
        return Prediction(grown.values[:, -1], mass / mass.sum())
    paths: Paths = model.sample(cells, [start, hole], seed=seed)
    weights = None if train.weights is None else train.mass(start)
    return Prediction(paths.values[:, -1], weights)
