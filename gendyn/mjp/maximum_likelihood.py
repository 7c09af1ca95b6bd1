r"""The likeliest rates: a few EM steps, then a quasi-Newton search in the logarithms.

EM repeats :math:`Q_{ij} \leftarrow E[N_{ij}] / E[T_i]`, which never lowers the likelihood, keeps zeros, and comes
near the optimum in a dozen steps, then crawls; the limited-memory BFGS search in :math:`\log Q_{ij}` and the unknowns
of the label noise finishes. Bounds on the rates follow
the mean time between changes, so that the unit of time does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from gendyn.mjp.emission import Emission
from gendyn.mjp.likelihood import ExpectedEvents, HiddenLikelihood, Likelihood, PanelLikelihood
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.rate_prior import PriorLikelihood

__all__ = ["JumpParameters", "LikelihoodFit", "anchor_rates", "likelihood_of", "maximise_likelihood"]

_PSEUDO = 0.05
"""Jumps that are added to every pair of states before the first estimate of its rate."""

_SLOWEST, _FASTEST = 1e-9, 60.0
"""Bounds of a rate: that part of the mean rate of change, and this many jumps over the shortest interval."""


@dataclass(frozen=True, eq=False)
class JumpParameters:
    """Rates ``(S, S)``, how labels go wrong, and the law at the first look ``(S,)``."""

    rates: Tensor
    noise: Emission
    initial: Tensor

    @property
    def triple(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rates, emission and initial law, as likelihoods take them."""
        return self.rates, self.noise.emission, self.initial


@dataclass(frozen=True, eq=False)
class LikelihoodFit:
    """Where a search ended.

    Attributes
    ----------
    parameters
        The likeliest.
    events
        What is expected under them.
    history
        Log-likelihood after each EM step, and at the end.
    converged
        Whether the search ended by its own tolerance.
    iterations
        EM steps and iterations of the search.
    """

    parameters: JumpParameters
    events: ExpectedEvents
    history: list[float]
    converged: bool
    iterations: int


def likelihood_of(seen: StateObservations, noise: Emission) -> Likelihood:
    """Return the likelihood that fits: by counts where looks show the state, else the forward recursion."""
    return PanelLikelihood(seen) if noise.certain and seen.certain else HiddenLikelihood(seen, noise.density)


def time_unit(seen: StateObservations) -> float:
    """Return the mean time between changes of the label, with one more change than were seen."""
    return float((seen.times[:, -1] - seen.times[:, 0]).sum()) / (seen.n_changes + 1)


def anchor_rates(seen: StateObservations, allowed: Tensor | None = None) -> Tensor:
    r"""Return a first guess at the rates: changes seen over time spent, ``(S, S)``.

    .. math:: a_{ij} = \frac{C_{ij} + 0.05}{T_i + 0.05\, S\, \tau},

    with half of every interval counted to each of its ends and :math:`\tau` the mean time between changes.
    """
    size, unit = seen.n_states, time_unit(seen)
    before, after, gaps = (v[seen.inside] for v in (seen.labels[:, :-1], seen.labels[:, 1:], seen.times.diff(dim=1)))
    proper = (before < size) & (after < size)
    before, after, gaps = before[proper], after[proper], gaps[proper]
    counts = torch.bincount(before * size + after, minlength=size**2).reshape(size, size).to(torch.float64)
    dwell = torch.bincount(torch.cat([before, after]), weights=torch.cat([gaps, gaps]) / 2, minlength=size)
    rates = (counts + _PSEUDO) / (dwell + _PSEUDO * size * unit)[:, None]
    off = rates.fill_diagonal_(0.0) if allowed is None else rates.fill_diagonal_(0.0) * allowed
    return off - torch.diag(off.sum(1))


@torch.no_grad()
def maximise_likelihood(
    likelihood: Likelihood,
    start: JumpParameters,
    *,
    estimate_initial: bool = True,
    em_steps: int = 15,
    max_iterations: int = 500,
    tolerance: float = 1e-9,
    prior: tuple[float, float] = (0.0, 0.0),
    history: Sequence[float] = (),
    after: Callable[[JumpParameters, list[float]], None] = lambda now, values: None,
) -> LikelihoodFit:
    r"""Search the likeliest rates, label noise and initial law.

    Parameters
    ----------
    likelihood
        Of the looks.
    start
        Where to begin; rates that are zero there stay zero.
    estimate_initial
        Whether the initial law is estimated.
    em_steps
        Steps of EM before the search.
    max_iterations
        Iterations of the search at most; 0 leaves it out.
    tolerance
        Relative change of the log-likelihood at which the search ends.
    prior
        Jumps of every link and time in every state that count as if seen before, see
        :mod:`gendyn.mjp.rate_prior`; they are in the history, and not in the events at the end.
    history
        Log-likelihoods of EM steps that were done before; the others are still to do.
    after
        Called with where it got to, and the log-likelihoods so far, after every EM step.
    """
    values = list(history)
    now = start
    looks = likelihood
    if any(prior):
        likelihood = PriorLikelihood(looks, *prior)
    for _ in range(len(values), em_steps):
        events = likelihood.expected(*now.triple)
        values.append(events.log_likelihood)
        now = _em_step(now, events, estimate_initial)
        after(now, values)
    converged, used = False, 0
    if max_iterations:
        now, converged, used = _search(likelihood, now, estimate_initial, max_iterations, tolerance)
    values.append(likelihood.value(*now.triple))
    return LikelihoodFit(now, looks.expected(*now.triple), values, converged, em_steps + used)


def _em_step(now: JumpParameters, events: ExpectedEvents, estimate_initial: bool) -> JumpParameters:
    jumps, dwell = events.jumps, events.dwell
    off = torch.where(dwell[:, None] > 0, jumps / dwell.clamp_min(1e-300)[:, None], now.rates)
    off = torch.where(now.rates > 0, off, 0.0).fill_diagonal_(0.0)
    initial = events.starts / events.starts.sum() if estimate_initial else now.initial
    return JumpParameters(off - torch.diag(off.sum(1)), now.noise.updated(events.labels), initial)


def _search(
    likelihood: Likelihood,
    start: JumpParameters,
    estimate_initial: bool,
    max_iterations: int,
    tolerance: float,
) -> tuple[JumpParameters, bool, int]:
    """Maximise by L-BFGS-B over log rates, free noise and log initial law."""
    links = start.rates > 0
    with_initial = estimate_initial and likelihood.hidden
    unit = time_unit(likelihood.seen)
    slowest, fastest = _SLOWEST / unit, max(_FASTEST / float(likelihood.seen.lags[0]), 1e3 / unit)
    n_links, n_noise = int(links.sum()), start.noise.n_free
    supported = start.initial > 0

    def parameters(free: Tensor) -> JumpParameters:
        off = torch.zeros_like(start.rates).masked_scatter(links, free[:n_links].exp())
        initial = start.initial
        if with_initial:
            laws = torch.softmax(free[n_links + n_noise :], 0)
            initial = torch.zeros_like(initial).masked_scatter(supported, laws)
        return JumpParameters(
            off - torch.diag(off.sum(1)), start.noise.with_free(free[n_links : n_links + n_noise]), initial
        )

    def cost(array: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(array).requires_grad_()
        with torch.enable_grad():
            here = parameters(free)
        slopes = likelihood.slopes(*(v.detach() for v in here.triple))
        towards = (slopes.rates, slopes.emission, slopes.initial)
        moving = [(v, g) for v, g in zip(here.triple, towards, strict=True) if v.requires_grad]
        (gradient,) = torch.autograd.grad([v for v, _ in moving], free, [g for _, g in moving])
        return -slopes.log_likelihood, -gradient.numpy()

    begin = torch.cat(
        [
            start.rates[links].clamp(slowest, fastest).log(),
            start.noise.free(),
            start.initial[supported].clamp_min(1e-12).log() if with_initial else start.initial.new_zeros(0),
        ]
    )
    bounds = [(np.log(slowest), np.log(fastest))] * n_links + [(-30.0, 30.0)] * (len(begin) - n_links)
    found = minimize(
        cost,
        begin.numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": max_iterations, "ftol": tolerance, "gtol": 1e-5, "maxcor": 20},
    )
    return parameters(torch.from_numpy(found.x)), bool(found.success), int(found.nit)
