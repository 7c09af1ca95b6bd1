r"""The multi-marginal Schroedinger bridge: the law of paths nearest to a reference that meets every population.

.. math:: P = \arg\min_P \mathrm{KL}(P \Vert Q) \quad\text{with}\quad P_{t_k} = \mu_k, \qquad k = 0, \dots, K .

For a Markov reference :math:`Q` and fully observed states two facts make this cheap. The problem decouples: between
consecutive times the paths are those of the two-marginal bridge, glued together independently given the state at
:math:`t_k`. And it is static: given both ends of an interval, paths are those of the reference,

.. math::

    P = \sum_{ij} \pi_{ij}\, Q(\cdot \mid x_i, y_j), \qquad
    \pi_{ij} = a_i b_j\, e^{f_i + g_j}\, p(y_j \mid x_i),

with :math:`\pi` the :func:`~gendyn.coupling.static_bridge` (Leonard 2014). So nothing is simulated or trained; paths
are drawn by a Markov chain over the couplings and a Gaussian bridge in every interval. As a diffusion the law has the
drift

.. math:: f + g g^\top \nabla_x \log h, \qquad h(t, x) = \sum_j b_j\, e^{g_j}\, p(t, x \to t_{k+1}, y_j) .

All this is exact for Brownian and linear references, and as good as the linear-noise approximation for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.glued_paths import SAME_TIME, GluedPaths, blocks, normalised_weights, stratified
from gendyn.bridges.transition import TransitionLaw, transition_law
from gendyn.coupling import Plan, PlanChain, StaticBridge, bridge_kl, bridge_plan, static_bridge
from gendyn.data import Snapshots
from gendyn.sampling import Process

__all__ = ["MultiMarginalBridge", "interval_log_densities"]


class MultiMarginalBridge(GluedPaths):
    r"""The bridge of a reference through populations, from the potentials of its intervals.

    Parameters
    ----------
    reference
        The process :math:`Q`, in the Ito sense.
    data
        Populations :math:`\mu_k`; weights are normalised.
    potentials
        ``K`` pairs :math:`(f, g)`, as :meth:`solve` finds them.
    weights
        Normalised weights, float64, to take in place of those of the data.
    substeps
        Runge-Kutta steps of a reference that is not linear, an interval.

    Attributes
    ----------
    times : Tensor
        The observed times ``(K + 1,)``.
    samples, weights : tuple of Tensor
        The populations ``(n_k, d)`` and their weights ``(n_k,)``, float64.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(1, 1), torch.tensor([[1.0], [3.0]])])
    >>> bridge, solved = MultiMarginalBridge.solve(BrownianMotion(), data)
    >>> bridge.interpolate(0.5, 2000).mean().item()  # from 0 to 1 or 3
    1.0...
    """

    def __init__(
        self,
        reference: Process,
        data: Snapshots,
        potentials: Sequence[tuple[Tensor, Tensor]],
        *,
        weights: Sequence[Tensor] | None = None,
        substeps: int = 16,
    ) -> None:
        self.reference = reference
        self.times = data.times
        self.samples = tuple(x.to(torch.float64) for x in data.samples)
        self.weights = normalised_weights(data) if weights is None else tuple(weights)
        self.potentials = tuple(potentials)
        self.substeps = substeps

    @classmethod
    @torch.no_grad()
    def solve(
        cls,
        reference: Process,
        data: Snapshots,
        *,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
        substeps: int = 16,
        done: Sequence[StaticBridge] = (),
        after: Callable[[list[StaticBridge]], None] = lambda solved: None,
    ) -> tuple[Self, list[StaticBridge]]:
        """Solve the static problem of every interval; return the bridge, and how far each interval got.

        Parameters
        ----------
        reference, data, substeps
            As for the class.
        tolerance, max_iterations
            Passed to :func:`~gendyn.coupling.static_bridge`.
        done
            The first intervals, where an earlier run got to them.
        after
            Called after every interval with all that are solved.

        Raises
        ------
        ValueError
            If the reference has no transition density between the populations.
        """
        bridge = cls(reference, data, (), substeps=substeps)
        solved = list(done)
        densities = interval_log_densities(reference, bridge.samples, bridge.times, substeps)
        for k, log_density in enumerate(densities):
            if k < len(done):
                continue
            low, high = data.times[k : k + 2].tolist()
            solved.append(
                static_bridge(
                    log_density,
                    bridge.weights[k],
                    bridge.weights[k + 1],
                    tolerance=tolerance,
                    max_iterations=max_iterations,
                    name=f"the coupling between times {low:g} and {high:g}",
                )
            )
            after(solved)
        bridge.potentials = tuple(result.potentials for result in solved)
        return bridge, solved

    @cached_property
    def kl(self) -> Tensor:
        r"""The divergence of each interval, :math:`\mathrm{KL}(\pi_k \Vert a_k \otimes p)`, ``(K,)``, in nats.

        Their sum is :math:`\mathrm{KL}(P \Vert Q)` for the reference started in the first population; compare it among
        references through the same data only.
        """
        return torch.tensor(
            [bridge_kl(self.potentials[k], *pair) for k, pair in enumerate(pairwise(self.weights))],
            dtype=torch.float64,
        )

    @cached_property
    @torch.no_grad()
    def chain(self) -> PlanChain:
        """The couplings of all intervals, as one Markov law of index tuples."""
        densities = interval_log_densities(self.reference, self.samples, self.times, self.substeps)
        return PlanChain([self._plan(k, log_density) for k, log_density in enumerate(densities)])

    def _plan(self, k: int, log_density: Tensor) -> Plan:
        return bridge_plan(log_density, self.potentials[k], self.weights[k], self.weights[k + 1])

    @cached_property
    def process(self) -> BridgeProcess:
        """The bridge as a process for :func:`gendyn.sample`; let output times contain the observed ones."""
        return BridgeProcess(
            self.reference,
            self.times,
            self.samples[1:],
            [w.log() + g for w, (_, g) in zip(self.weights[1:], self.potentials, strict=True)],
            substeps=self.substeps,
        )

    @property
    def process_reference(self) -> Process:
        """The reference."""
        return self.reference

    def tensors(self) -> dict[str, Tensor]:
        """Return the potentials, as a file holds them."""
        pairs = {f"f.{k}": f for k, (f, _) in enumerate(self.potentials)}
        return pairs | {f"g.{k}": g for k, (_, g) in enumerate(self.potentials)}

    def _sources(self, k: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = stratified(self.weights[k], n, generator)
        return self.samples[k][rows], rows

    def _advance(
        self, states: Tensor, rows: Tensor | None, k: int, now: float, elapsed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(len(states), generator=generator, dtype=torch.float64).to(states.device)
        columns = None if rows is None else self.chain.plans[k].given_rows(rows, generator)
        normals = torch.randn(len(elapsed), *states.shape, generator=generator, dtype=torch.float64).to(states.device)
        drawn, found = [], []
        for block in blocks(len(states), len(elapsed) * self.dim**2):
            law, which = self._law(states[block], None if rows is None else rows[block], k, now, elapsed)
            chosen = self._choose(law, k, uniform[block]) if columns is None else columns[block]
            found.append(chosen)
            drawn.append(law.sample_bridge(which, self.samples[k + 1][chosen], normals[:, block]))
        return torch.cat(drawn, dim=1), torch.cat(found)

    def _law(
        self, states: Tensor, rows: Tensor | None, k: int, now: float, elapsed: Tensor
    ) -> tuple[TransitionLaw, Tensor]:
        """Return the laws of different sources, and which of them each path has."""
        if rows is None:
            which = torch.arange(len(states), device=states.device)
        else:
            unique, which = torch.unique(rows, return_inverse=True)
            states = self.samples[k][unique]
        return transition_law(self.reference, states, now, elapsed, substeps=self.substeps), which

    def _choose(self, law: TransitionLaw, k: int, uniform: Tensor) -> Tensor:
        """Draw the end of every source of a law by inverting its cumulative weights."""
        logits = law.log_density(self.samples[k + 1]) + self.weights[k + 1].log() + self.potentials[k][1]
        cumulative = torch.softmax(logits, 1).cumsum(1)
        level = uniform[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, level, right=True).clamp_max(cumulative.shape[1] - 1)[:, 0]


def interval_log_densities(
    reference: Process, samples: Sequence[Tensor], times: Tensor, substeps: int = 16
) -> Iterator[Tensor]:
    r"""Yield :math:`\log p(y_j \mid x_i)` of every interval, ``(n_k, n_{k+1})``, differentiable in the reference.

    Intervals of one length are moved together, as one batch of sources.

    Parameters
    ----------
    reference
        The process.
    samples
        ``K + 1`` populations ``(n_k, d)``, float64.
    times
        ``(K + 1,)``.
    substeps
        See :func:`~gendyn.bridges.transition.transition_law`.
    """
    gaps = times.diff()
    laws: dict[int, TransitionLaw] = {}
    for k in range(len(gaps)):
        if k not in laws:
            alike = [j for j in range(k, len(gaps)) if abs(float(gaps[j] - gaps[k])) <= SAME_TIME * float(gaps[k])]
            starts = torch.cat([times[j].expand(len(samples[j]), 1) for j in alike]).to(samples[0])
            sources = torch.cat([samples[j] for j in alike])
            law = transition_law(reference, sources, starts, gaps[k : k + 1], substeps=substeps)
            place = 0
            for j in alike:
                laws[j] = law.rows(slice(place, place + len(samples[j])))
                place += len(samples[j])
        yield laws.pop(k).log_density(samples[k + 1])
