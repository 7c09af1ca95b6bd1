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

Where cells multiply and die (:mod:`gendyn.bridges.growth`), a path carries a weight: over an interval it gains what the
coupling says its cell leaves, at a constant rate. The population at a time is the paths under their weights.

All this is exact for Brownian and linear references, and as good as the linear-noise approximation for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.density_rows import density_rows
from gendyn.bridges.glued_paths import GluedPaths, blocks, normalised_weights, stratified
from gendyn.bridges.growth import Growth, growing_coupling
from gendyn.bridges.interval_laws import interval_laws, interval_log_densities
from gendyn.bridges.transition import TransitionLaw, transition_law
from gendyn.coupling import (
    Plan,
    PlanChain,
    StaticBridge,
    blocked_bridge,
    bridge_kl,
    bridge_plan,
    static_bridge,
    truncated_plan,
)
from gendyn.coupling.row_blocks import Watch
from gendyn.data import Snapshots
from gendyn.randomness import Seed, as_seed, torch_generator
from gendyn.sampling import Process

__all__ = ["MultiMarginalBridge"]

_DENSE_PAIRS = 25_000_000
"""Pairs of a coupling that are held at once."""

_SOLVED_PAIRS = 4_000_000
"""Pairs beyond which a coupling is solved in blocks also where it is held: dense rounds would leave every cache."""

_BLOCK_PAIRS = 1_500_000
"""Pairs of a block of rows of a larger one: some megabytes, near to the caches of a processor."""

_CANDIDATES = 1000
"""Points of the bridge, at least, among which those near given points are looked for."""


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
    rows_at_once
        Rows of a coupling that are held at once, with all columns. ``None``: all of them up to 25 million pairs, and
        blocks of some million pairs beyond.
    log_gains
        ``K`` tensors ``(n_k,)``: logarithms of what the cells of each population leave at the next time, where cells
        multiply.
    kl
        ``(K,)``, where cells multiply; elsewhere it follows from the potentials.

    Attributes
    ----------
    times : Tensor
        The observed times ``(K + 1,)``.
    samples, weights : tuple of Tensor
        The populations ``(n_k, d)`` and their weights ``(n_k,)``, float64.
    log_gains : tuple of Tensor or None
        As given.

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
        rows_at_once: int | None = None,
        log_gains: Sequence[Tensor] | None = None,
        kl: Tensor | None = None,
    ) -> None:
        self.reference = reference
        self.times = data.times
        self.samples = tuple(x.to(torch.float64) for x in data.samples)
        self.weights = normalised_weights(data) if weights is None else tuple(weights)
        self.potentials = tuple(potentials)
        self.substeps = substeps
        self.rows_at_once = rows_at_once
        self.log_gains = None if log_gains is None else tuple(log_gains)
        self._kl = kl

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
        rows_at_once: int | None = None,
        growth: Growth | None = None,
        done: Sequence[StaticBridge] = (),
        after: Callable[[list[StaticBridge]], None] = lambda solved: None,
        watch: Watch = lambda passes, error: None,
    ) -> tuple[Self, list[StaticBridge]]:
        """Solve the static problem of every interval; return the bridge, and how far each interval got.

        Parameters
        ----------
        reference, data, substeps, rows_at_once
            As for the class.
        tolerance, max_iterations
            Passed to :func:`~gendyn.coupling.static_bridge`.
        growth
            How cells multiply, where they do.
        done
            The first intervals, where an earlier run got to them.
        after
            Called after every interval with all that are solved.
        watch
            Called after every pass over a coupling in blocks, with their number and the mass that is still amiss.

        Raises
        ------
        ValueError
            If the reference has no transition density between the populations.
        """
        bridge = cls(reference, data, (), substeps=substeps, rows_at_once=rows_at_once)
        solved = list(done)
        for k, law in enumerate(interval_laws(reference, bridge.samples, bridge.times, substeps)):
            if k < len(done):
                continue
            low, high = data.times[k : k + 2].tolist()
            options: dict[str, Any] = {
                "tolerance": tolerance,
                "max_iterations": max_iterations,
                "name": f"the coupling between times {low:g} and {high:g}",
            }
            a, b = bridge.weights[k : k + 2]
            block = bridge.block_rows(k)
            if block is None and rows_at_once is None and len(law.factor) == 1 and len(a) * len(b) > _SOLVED_PAIRS:
                block = max(1, _BLOCK_PAIRS // len(b))
            log_density = law.log_density(bridge.samples[k + 1]) if block is None else None
            in_rows = density_rows(law, bridge.samples[k + 1])
            if block is not None:
                options |= {"rows_at_once": block, "watch": watch}
            if growth is not None:
                grown = growth.rates[k] * (high - low)
                pairs = in_rows if log_density is None else log_density
                solved.append(growing_coupling(pairs, a, b, grown, growth, **options))
            elif log_density is None:
                solved.append(blocked_bridge(in_rows, a, b, **options))
            else:
                solved.append(static_bridge(log_density, a, b, **options))
            after(solved)
        bridge.potentials = tuple(result.potentials for result in solved)
        if growth is not None:
            bridge.log_gains = tuple(result.log_gain for result in solved if result.log_gain is not None)
            bridge._kl = torch.tensor([result.kl for result in solved], dtype=torch.float64)
        return bridge, solved

    @cached_property
    def kl(self) -> Tensor:
        r"""The divergence of each interval, :math:`\mathrm{KL}(\pi_k \Vert a_k \otimes p)`, ``(K,)``, in nats.

        Their sum is :math:`\mathrm{KL}(P \Vert Q)` for the reference started in the first population; compare it among
        references through the same data only. Where cells multiply, the weights are those the coupling has found.
        """
        if self._kl is not None:
            return self._kl
        return torch.tensor(
            [bridge_kl(self.potentials[k], *pair) for k, pair in enumerate(pairwise(self.weights))],
            dtype=torch.float64,
        )

    @cached_property
    @torch.no_grad()
    def plans(self) -> tuple[Plan, ...]:
        """The couplings of all intervals, each of mass 1.

        Raises
        ------
        ValueError
            If populations are so large that couplings are solved in blocks; see :meth:`truncated_plan`.
        """
        if self.in_blocks:
            raise ValueError(
                f"couplings of {' and '.join(str(len(x)) for x in self.samples)} rows are not held as a whole; take "
                "truncated_plan(k), which keeps the heaviest pairs of every row"
            )
        densities = interval_log_densities(self.reference, self.samples, self.times, self.substeps)
        return tuple(self._plan(k, log_density) for k, log_density in enumerate(densities))

    def block_rows(self, k: int) -> int | None:
        """Return how many rows of the ``k``-th coupling are held at once, or ``None`` where all are."""
        n0, n1 = len(self.samples[k]), len(self.samples[k + 1])
        if self.rows_at_once is not None:
            return None if self.rows_at_once >= n0 else self.rows_at_once
        return None if n0 * n1 <= _DENSE_PAIRS else max(1, _BLOCK_PAIRS // n1)

    @property
    def in_blocks(self) -> bool:
        """Whether a coupling is too large to be held as a whole; ends are then drawn row by row."""
        return any(self.block_rows(k) is not None for k in range(len(self.samples) - 1))

    @torch.no_grad()
    def truncated_plan(self, k: int, atoms: int = 50) -> tuple[Plan, float]:
        """Return the ``k``-th coupling with the heaviest pairs of every row alone, and the mass that this leaves out.

        Parameters
        ----------
        k
            Which interval.
        atoms
            How many pairs a row keeps; their mass is raised to that of the row.
        """
        a, b = self.weights[k : k + 2]
        start, end = self.times[k : k + 2].tolist()
        elapsed = torch.tensor([end - start], dtype=torch.float64)
        law = transition_law(self.reference, self.samples[k], start, elapsed, substeps=self.substeps)
        if self.log_gains is not None:
            # Potentials are with respect to the weights, and rows have what their cells leave.
            a = torch.softmax(a.log() + self.log_gains[k], 0)
        rows = self.block_rows(k) or len(a)
        pairs = density_rows(law, self.samples[k + 1])
        return truncated_plan(pairs, self.potentials[k], a, b, atoms=atoms, rows_at_once=rows)

    @property
    def chain(self) -> PlanChain:
        """The couplings of all intervals, as one Markov law of index tuples.

        Raises
        ------
        ValueError
            If cells multiply, so that a population has other weights as an end than as a start.
        """
        if self.log_gains is not None:
            raise ValueError(
                "where cells multiply, couplings do not share the weights between them and are no chain; take plans"
            )
        return PlanChain(self.plans)

    def sample_weighted(self, times: Sequence[float] | Tensor, n: int, seed: Seed = 0) -> tuple[Tensor, Tensor]:
        """Draw ``n`` paths at increasing times, and the logarithms of the weights they have gained since the first.

        Returns
        -------
        tuple of Tensor
            Paths ``(n, T, d)`` and logarithms of weights ``(n, T)``, float64; zeros where cells do not multiply.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or ``n`` is not positive.
        """
        grid = self._grid(times)
        paths, visited = self._start_and_run(grid, n, seed)
        return paths, self._gained(grid, visited)

    def continue_weighted(self, x: Tensor, times: Sequence[float] | Tensor, seed: Seed = 0) -> tuple[Tensor, Tensor]:
        """Draw paths from states at ``times[0]``, and the logarithms of the weights they gain from there.

        In its first interval a path multiplies as the nearest cell of the population does, or, between observed times,
        as the cell from which the nearest of a thousand paths of the bridge has come.

        Returns
        -------
        tuple of Tensor
            As of :meth:`sample_weighted`.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range.
        """
        grid = self._grid(times)
        states = x.detach().to(self.samples[0])
        k = self._interval(grid[0])
        if k < len(self.samples) - 1 and grid[0] > float(self.times[k]):
            own, rows = self._start_and_run(grid[:1], max(_CANDIDATES, len(states)), as_seed(seed))
            near, sources = own[:, 0], rows[0]
        else:
            near, sources = self.samples[k], None
        nearest = torch.cat([torch.cdist(states[part], near).argmin(1) for part in blocks(len(states), len(near))])
        first = nearest if sources is None else sources[nearest]
        paths, visited = self._run(states, None, k, grid[0], grid, torch_generator(seed, "bridge"))
        return paths, self._gained(grid, [first, *visited[1:]])

    def _gained(self, grid: Sequence[float], visited: Sequence[Tensor | None]) -> Tensor:
        """Return the logarithms of what paths through rows of the observed times gain since the first time."""
        n = next(len(rows) for rows in visited if rows is not None)
        gained = torch.zeros(n, len(grid), dtype=torch.float64, device=self.samples[0].device)
        first = self._interval(grid[0])
        for k, rows in enumerate(visited, start=first):
            if self.log_gains is None or rows is None or k >= len(self.log_gains):
                break
            start, end = self.times[k : k + 2].tolist()
            shares = (torch.tensor(grid, dtype=torch.float64) - max(start, grid[0])).clamp(0, end - max(start, grid[0]))
            gained += self.log_gains[k][rows, None] * (shares / (end - start)).to(gained)
        return gained

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
        """Return the potentials, as a file holds them, and how cells multiply."""
        found: dict[str, Tensor] = {}
        for k, (f, g) in enumerate(self.potentials):
            found |= {f"f.{k}": f, f"g.{k}": g}
        if self.log_gains is not None:
            found |= {f"gain.{k}": gain for k, gain in enumerate(self.log_gains)} | {"kl": self.kl}
        return found

    def _sources(self, k: int, n: int, generator: torch.Generator, share: float = 0.0) -> tuple[Tensor, Tensor]:
        weights = self.weights[k]
        if share and self.log_gains is not None:
            weights = torch.softmax(weights.log() + share * self.log_gains[k], 0)
        rows = stratified(weights, n, generator)
        return self.samples[k][rows], rows

    def _advance(
        self, states: Tensor, rows: Tensor | None, k: int, now: float, elapsed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(len(states), generator=generator, dtype=torch.float64).to(states.device)
        columns = self._partners(rows, k, generator)
        normals = torch.randn(len(elapsed), *states.shape, generator=generator, dtype=torch.float64).to(states.device)
        drawn, found = [], []
        entries = len(elapsed) * self.dim**2
        for block in blocks(len(states), entries if columns is not None else max(entries, len(self.samples[k + 1]))):
            law, which = self._law(states[block], None if rows is None else rows[block], k, now, elapsed)
            chosen = self._choose(law, which, k, uniform[block]) if columns is None else columns[block]
            found.append(chosen)
            drawn.append(law.sample_bridge(which, self.samples[k + 1][chosen], normals[:, block]))
        return torch.cat(drawn, dim=1), torch.cat(found)

    def _partners(self, rows: Tensor | None, k: int, generator: torch.Generator) -> Tensor | None:
        """Draw the columns that rows go to, where couplings are held; elsewhere they are chosen by their laws."""
        return None if rows is None or self.in_blocks else self.plans[k].given_rows(rows, generator)

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

    def _choose(self, law: TransitionLaw, which: Tensor, k: int, uniform: Tensor) -> Tensor:
        """Draw the end of every path, whose source of a law is given, by inverting its cumulative weights."""
        logits = law.log_density(self.samples[k + 1]) + self.weights[k + 1].log() + self.potentials[k][1]
        cumulative = torch.softmax(logits, 1).cumsum(1)[which]
        level = uniform[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, level, right=True).clamp_max(cumulative.shape[1] - 1)[:, 0]
