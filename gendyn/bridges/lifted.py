r"""The multi-marginal bridge of a reference of which only some coordinates are observed.

.. math:: P = \arg\min_P \mathrm{KL}(P \Vert Q) \quad\text{with}\quad P_{t_k}^{x} = \mu_k,

with Q a law of :math:`z = (x, h)`. Nobody sees the hidden coordinates h, so the observed ones are not Markov and the
problem does not fall apart into its intervals: where a path was tells how fast it goes. The solution still has the form
:math:`dP = \prod_k e^{\varphi_k(x_k)}\,dQ` and is found by messages along the chain, with a normal law of the hidden
coordinates at every point (:mod:`gendyn.bridges.hidden_state`). The forward sweep couples each population with the
next, given what the past says about the hidden coordinates; the backward sweep couples them again from the last to the
first, given what the future says as well. Between Gaussian populations sweeps converge to the solution.

Without hidden coordinates, both are the bridge of :mod:`gendyn.bridges.multi_marginal`. Smooth Schroedinger bridges
(Hong et al. 2025) are those of Matern processes, whose velocities are hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.glued_paths import GluedPaths, blocks, normalised_weights, stratified
from gendyn.bridges.hidden_state import Future, HiddenLaw, Prediction, predict
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.bridges.transition import TransitionLaw, transition_law
from gendyn.coupling import Plan, StaticBridge, bridge_kl, bridge_plan, static_bridge
from gendyn.data import Snapshots
from gendyn.randomness import Seed, torch_generator
from gendyn.sampling import Process

__all__ = ["LiftedBridge", "lifted_log_densities"]

_CANDIDATES = 1000
"""Points of the bridge, at least, among which those near given points are looked for."""


class LiftedBridge(GluedPaths):
    r"""The bridge of a partly observed reference, from the potentials and hidden laws of its sweeps.

    Parameters
    ----------
    reference
        The reference, and which of its coordinates are observed.
    data
        Populations :math:`\mu_k` of the observed coordinates; weights are normalised.
    weights
        Normalised weights, float64, to take in place of those of the data.
    substeps
        Runge-Kutta steps of a reference that is not linear, an interval.

    Attributes
    ----------
    potentials : list of tuple of Tensor
        ``K`` pairs :math:`(f, g)`, of the backward sweep where there was one.
    filtered, smoothed : list of HiddenLaw
        ``K + 1`` laws of the hidden coordinates, given the past alone and given all; the same without a backward sweep.
    futures : list of Future
        ``K + 1``, what the later populations say about them.
    kl : Tensor
        The divergence of each coupling from what the past predicts, ``(K,)``, in nats.

    Examples
    --------
    >>> from gendyn.bridges.references import Matern
    >>> ways = [torch.tensor([[-x], [x]]) for x in (1.5, 0.6, 0.3, 1.2)]
    >>> data = Snapshots([0.0, 1.0, 2.0, 3.0], ways)
    >>> reference = Matern(length=10.0, scale=10.0, smoothness=2.5).lift(data)
    >>> bridge, solved = LiftedBridge.solve(reference, data)
    >>> bridge.plan(1).to_dense().argmax(1).tolist()  # who moves keeps moving: the two pass each other
    [1, 0]
    """

    def __init__(
        self,
        reference: LiftedReference,
        data: Snapshots,
        *,
        weights: Sequence[Tensor] | None = None,
        substeps: int = 16,
    ) -> None:
        self.reference = reference
        self.times = data.times
        self.samples = tuple(x.to(torch.float64) for x in data.samples)
        self.weights = normalised_weights(data) if weights is None else tuple(weights)
        self.substeps = substeps
        self.potentials: list[tuple[Tensor, Tensor]] = []
        self.filtered = [HiddenLaw(*reference.start(self.samples[0]))]
        self.smoothed: list[HiddenLaw] = []
        self.futures: list[Future] = []
        self.kl = torch.zeros(len(data) - 1, dtype=torch.float64)

    @classmethod
    @torch.no_grad()
    def solve(
        cls,
        reference: LiftedReference,
        data: Snapshots,
        *,
        backward_sweeps: int = 1,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
        substeps: int = 16,
        done: Sequence[StaticBridge] = (),
        after: Callable[[list[StaticBridge]], None] = lambda solved: None,
    ) -> tuple[Self, list[StaticBridge]]:
        """Sweep forward, and backward if asked; return the bridge, and how far each coupling got.

        Parameters
        ----------
        reference, data, substeps
            As for the class.
        backward_sweeps
            How often to sweep back, and forward before it; 0: forward once, so that only the past counts. One is close
            to the solution; more come closer.
        tolerance, max_iterations
            Passed to :func:`~gendyn.coupling.static_bridge`.
        done
            The first couplings, where an earlier run got to them.
        after
            Called after every coupling with all that are solved: ``K`` forward, ``K`` backward, and so on.

        Raises
        ------
        ValueError
            If the observed coordinates have no transition density between the populations.
        """
        bridge = cls(reference, data, substeps=substeps)
        solved: list[StaticBridge] = []

        def couple(k: int, log_density: Tensor) -> tuple[Tensor, Tensor]:
            """Return the potentials of an interval."""
            a, b = bridge.weights[k : k + 2]
            place = len(solved)
            if place < len(done):
                solved.append(done[place])
            else:
                low, high = bridge.times[k : k + 2].tolist()
                name = f"the coupling between times {low:g} and {high:g}"
                solved.append(
                    static_bridge(log_density, a, b, tolerance=tolerance, max_iterations=max_iterations, name=name)
                )
                after(solved)
            return solved[place].potentials

        intervals = len(bridge.times) - 1
        for _ in range(max(1, backward_sweeps)):
            bridge._sweep_forward(couple)
            if backward_sweeps:
                bridge._sweep_backward(couple)
        bridge.kl = torch.tensor(
            [bridge_kl(one.potentials, *pair) for one, pair in zip(solved, pairwise(bridge.weights), strict=False)],
            dtype=torch.float64,
        )
        last = solved[-intervals:]
        bridge.potentials = [one.potentials for one in (last[::-1] if backward_sweeps else last)]
        return bridge, solved

    def _sweep_forward(self, couple: Callable[[int, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.filtered = self.filtered[:1]
        for k, y in enumerate(self.samples[1:]):
            moved = self._predict(k)
            log_density = moved.log_density(y)
            known = log_density
            if self.futures:
                known = log_density + moved.future_weights(y, self.futures[k + 1])
            f, _ = couple(k, known)
            # What the past sends to a point, before the future has its say.
            sent = torch.softmax(log_density + (f + self.weights[k].log())[:, None], 0)
            self.filtered.append(moved.arrive(y, sent))
        self.smoothed = list(self.filtered)
        if not self.futures:
            self.futures = [Future.nothing(law) for law in self.filtered]

    def _sweep_backward(self, couple: Callable[[int, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.futures[-1] = Future.nothing(self.filtered[-1])
        for k in reversed(range(len(self.times) - 1)):
            moved, y, future = self._predict(k), self.samples[k + 1], self.futures[k + 1]
            known = moved.log_density(y) + moved.future_weights(y, future)
            _, g = couple(k, known)
            shares = torch.softmax(known + g + self.weights[k + 1].log(), 1)
            self.smoothed[k] = moved.depart(y, shares, future)
            self.futures[k] = Future.ratio(self.smoothed[k], self.filtered[k])

    def _predict(self, k: int) -> Prediction:
        start, end = self.times[k : k + 2].tolist()
        return predict(self.reference, self.samples[k], self.filtered[k], start, end - start, substeps=self.substeps)

    @torch.no_grad()
    def plan(self, k: int) -> Plan:
        """Return the coupling of the ``k``-th interval: entry i, j is how likely row j follows row i, times its weight.

        Examples
        --------
        For whom the rows of all populations are the same individuals, the mean of ``plan(k).to_dense().diagonal() * n``
        is the probability of a right match.
        """
        moved, y = self._predict(k), self.samples[k + 1]
        log_density = moved.log_density(y) + moved.future_weights(y, self.futures[k + 1])
        return bridge_plan(log_density, self.potentials[k], self.weights[k], self.weights[k + 1])

    @property
    def process_reference(self) -> Process:
        """The reference of the whole state."""
        return self.reference.process

    def observe(self, states: Tensor) -> Tensor:
        """Return the observed features ``(..., d)`` of whole states ``(..., D)``."""
        return states[..., self.reference.observed]

    def complete(self, x: Tensor, t: float, seed: Seed = 0) -> Tensor:
        """Return whole states ``(n, D)`` of points ``(n, d)`` at a time; those that are whole stay as they are.

        The hidden coordinates are those of the nearest of the bridge's own points at that time, of which a thousand or
        more are drawn.
        """
        points = x.to(self.samples[0])
        if points.shape[-1] == self.process_reference.dim:
            return points
        if points.ndim != 2 or points.shape[1] != self.dim:
            whole = self.process_reference.dim
            raise ValueError(
                f"points must have shape (n, {self.dim}), or (n, {whole}) with the hidden coordinates; "
                f"got {tuple(points.shape)}"
            )
        own = self.sample_states([t], max(_CANDIDATES, len(points)), torch_generator(seed, "complete"))[:, 0]
        seen = self.observe(own)
        nearest = [torch.cdist(points[rows], seen).argmin(1) for rows in blocks(len(points), len(own))]
        return self.reference.state(points, own[torch.cat(nearest)][:, self.reference.hidden])

    def _sources(self, k: int, n: int, generator: torch.Generator, share: float = 0.0) -> tuple[Tensor, Tensor]:
        rows = stratified(self.weights[k], n, generator)
        normals = torch.randn(n, len(self.reference.hidden), generator=generator, dtype=torch.float64)
        hidden = self.smoothed[k].sample(rows, normals.to(rows.device))
        return self.reference.state(self.samples[k][rows], hidden), rows

    def _advance(
        self, states: Tensor, rows: Tensor | None, k: int, now: float, elapsed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        # Where a path goes follows from its whole state, whatever row it is at.
        n, hidden = len(states), len(self.reference.hidden)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64).to(states.device)
        ends = torch.randn(n, hidden, generator=generator, dtype=torch.float64).to(states.device)
        normals = torch.randn(len(elapsed), *states.shape, generator=generator, dtype=torch.float64).to(states.device)
        y, future = self.samples[k + 1], self.futures[k + 1]
        drawn, found = [], []
        for block in blocks(n, max(len(elapsed) * states.shape[1] ** 2, len(y) * max(1, hidden) ** 2)):
            law = transition_law(self.process_reference, states[block], now, elapsed, substeps=self.substeps)
            moved = self._moved(law)
            logits = self._logits(moved, k, future)
            cumulative = torch.softmax(logits, 1).cumsum(1)
            level = uniform[block, None] * cumulative[:, -1:]
            chosen = torch.searchsorted(cumulative, level, right=True).clamp_max(len(y) - 1)[:, 0]
            end = self.reference.state(y[chosen], moved.meet(y[chosen], future.rows(chosen), ends[block]))
            found.append(chosen)
            drawn.append(law.sample_bridge(torch.arange(len(end), device=end.device), end, normals[:, block]))
        return torch.cat(drawn, dim=1), torch.cat(found)

    def _moved(self, law: TransitionLaw) -> Prediction:
        """Return the prediction from whole states, whose hidden coordinates are known."""
        hidden = law.sources[:, self.reference.hidden]
        known = HiddenLaw(hidden, torch.zeros(*hidden.shape, hidden.shape[1], dtype=hidden.dtype, device=hidden.device))
        return Prediction(law.means[-1], law.covariances[-1], law.flow, known, self.reference)

    def _logits(self, moved: Prediction, k: int, future: Future) -> Tensor:
        """Return how likely each end is, up to a constant of each source."""
        y = self.samples[k + 1]
        known = moved.log_density(y) + moved.future_weights(y, future)
        return known + self.weights[k + 1].log() + self.potentials[k][1]

    @cached_property
    def process(self) -> BridgeProcess:
        """The bridge as a process of whole states for :func:`gendyn.sample`."""
        return _LiftedProcess(self)

    def tensors(self) -> dict[str, Tensor]:
        """Return what was solved, as a file holds it."""
        found = {"kl": self.kl}
        for k, (f, g) in enumerate(self.potentials):
            found |= {f"f.{k}": f, f"g.{k}": g}
        for name, laws in (("filtered", self.filtered), ("smoothed", self.smoothed)):
            for k, law in enumerate(laws):
                found |= {f"{name}.mean.{k}": law.mean, f"{name}.covariance.{k}": law.covariance.contiguous()}
        for k, future in enumerate(self.futures):
            for name in ("centre", "precision", "tilt"):
                found[f"future.{name}.{k}"] = getattr(future, name).contiguous()
        return found

    def adopt(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take what :meth:`tensors` gave, and return self."""
        self.kl = tensors["kl"]
        self.potentials = [(tensors[f"f.{k}"], tensors[f"g.{k}"]) for k in range(len(self.times) - 1)]
        self.filtered, self.smoothed = (
            [HiddenLaw(tensors[f"{name}.mean.{k}"], tensors[f"{name}.covariance.{k}"]) for k in range(len(self.times))]
            for name in ("filtered", "smoothed")
        )
        self.futures = [
            Future(*(tensors[f"future.{name}.{k}"] for name in ("centre", "precision", "tilt")))
            for k in range(len(self.times))
        ]
        return self


class _LiftedProcess(BridgeProcess):
    """The bridge as a diffusion of the whole state: the pull is that of the mean end, hidden coordinates and all."""

    def __init__(self, bridge: LiftedBridge) -> None:
        super().__init__(
            bridge.process_reference,
            bridge.times,
            bridge.samples[1:],
            [w.log() + g for w, (_, g) in zip(bridge.weights[1:], bridge.potentials, strict=True)],
            substeps=bridge.substeps,
        )
        self._bridge = bridge
        self._futures = [bridge.futures[k + 1] for k in range(len(self.ends))]

    def _mean_end(self, law: TransitionLaw, k: int) -> Tensor:
        bridge, future, y = self._bridge, self._futures[k], self.ends[k]
        moved = bridge._moved(law)
        weights = torch.softmax(bridge._logits(moved, k, future), 1)
        hidden = moved.mean_hidden(y, weights, future)
        return bridge.reference.state(weights @ y, hidden)


def lifted_log_densities(
    reference: LiftedReference, samples: Sequence[Tensor], times: Tensor, weights: Sequence[Tensor], substeps: int = 16
) -> Iterator[Tensor]:
    r"""Yield :math:`\log p(y_j \mid i)` of every interval, ``(n_k, n_{k+1})``, differentiable in the reference.

    The hidden coordinates at a point are filtered: of the paths that the reference sends there from all points of the
    population before, in proportion to their weights and densities. Summing
    :math:`b_j \log \sum_i a_i p(y_j \mid i)` gives the marginal likelihood of the populations under the reference.

    Parameters
    ----------
    reference
        The reference, and which of its coordinates are observed.
    samples
        ``K + 1`` populations ``(n_k, d)``, float64.
    times
        ``(K + 1,)``.
    weights
        ``K + 1`` weights ``(n_k,)`` of sum 1.
    substeps
        See :func:`~gendyn.bridges.transition.transition_law`.
    """
    law = HiddenLaw(*reference.start(samples[0]))
    for k, y in enumerate(samples[1:]):
        start, end = times[k : k + 2].tolist()
        moved = predict(reference, samples[k], law, start, end - start, substeps=substeps)
        log_density = moved.log_density(y)
        yield log_density
        law = moved.arrive(y, torch.softmax(log_density + weights[k].log()[:, None], 0))
