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
from typing import Literal, Self

import torch
from torch import Tensor

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.transition import TransitionLaw, linear_part, transition_law
from gendyn.coupling import Plan, PlanChain, StaticBridge, bridge_kl, bridge_plan, static_bridge
from gendyn.coupling.cost import check_weights
from gendyn.data import Paths, Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import LinearProcess, Process, sample

__all__ = ["MultiMarginalBridge", "interval_log_densities"]

_ENTRIES = 2_000_000
"""Entries of the matrices of transition laws that are held at once while paths are drawn."""

_SAME = 1e-9
"""Part of an interval by which two times may differ and still be one."""


class MultiMarginalBridge:
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
        self.weights = tuple(_normalised(data, k) for k in range(len(data))) if weights is None else tuple(weights)
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

    def size_before(self, t: float) -> int:
        """Return the number of rows at the last observed time that is not after ``t``."""
        return len(self.samples[max(0, self._interval(t))])

    @property
    def dim(self) -> int:
        """Number of features ``d``."""
        return int(self.samples[0].shape[1])

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

    def interpolate(self, t: float, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` points of the bridge at a time: ``(n, d)``, float64.

        Sources are taken in turn rather than drawn. At an observed time the points are rows of the data.

        Parameters
        ----------
        t
            A time from the first to the last observed one.
        n
            How many.
        seed
            An integer, or a generator to draw from.

        Raises
        ------
        ValueError
            If ``t`` is not between the observed times, or ``n`` not positive.
        """
        return self.sample_paths([float(t)], n, seed)[:, 0]

    def sample_paths(self, times: Sequence[float] | Tensor, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` paths of the bridge at increasing times between the observed ones: ``(n, T, d)``, float64.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or ``n`` is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        grid = self._grid(times)
        generator = _generator(seed)
        k = self._interval(grid[0])
        rows = _stratified(self.weights[k], n, generator)
        return self._run(self.samples[k][rows], rows, k, float(self.times[k]), grid, generator)

    def continue_from(self, x: Tensor, times: Sequence[float] | Tensor, seed: Seed = 0) -> Tensor:
        r"""Draw paths of the bridge from given states at ``times[0]``, wherever they are: ``(n, T, d)``, float64.

        The end of each path's interval is drawn from :math:`\pi(j \mid t, x) \propto b_j e^{g_j} p(t, x \to y_j)`.

        Parameters
        ----------
        x
            States ``(n, d)`` at ``times[0]``.
        times
            Increasing times ``(T,)`` between the observed ones.
        seed
            An integer, or a generator to draw from.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or states have another number of features.
        """
        grid = self._grid(times)
        states = x.detach().to(self.samples[0])
        if states.ndim != 2 or states.shape[1] != self.dim:
            raise ValueError(f"states must have shape (n, {self.dim}); got {tuple(states.shape)}")
        return self._run(states, None, self._interval(grid[0]), grid[0], grid, _generator(seed))

    def forecast(
        self,
        times: Sequence[float] | Tensor,
        n: int,
        *,
        start: Literal["last", "first"] = "last",
        step: float | None = None,
        seed: Seed = 0,
    ) -> Paths:
        """Run the reference on from the last observed population, or from the first.

        Parameters
        ----------
        times
            Increasing times ``(T,)`` after that population.
        n
            Number of paths.
        start
            Where they start.
        step
            Longest step; by default the reference's own ``time_step``, or a hundredth of the shortest interval.
        seed
            Which points they start from, and their noise.

        Raises
        ------
        ValueError
            If times are not after the start.
        """
        if start not in ("last", "first"):
            raise ValueError(f"start must be 'last' or 'first'; got {start!r}")
        k = len(self.times) - 1 if start == "last" else 0
        root = as_seed(seed)
        origin = float(self.times[k])
        grid = [float(t) for t in times]
        if not grid or not grid[0] > origin:
            raise ValueError(f"a forecast needs times after {origin:g}, where it starts; got {grid[:1]}")
        rows = _stratified(self.weights[k], n, torch_generator(root, "start"))
        return self.run_reference(self.samples[k][rows], [origin, *grid], step, derive_seed(root, "forecast"))

    def run_reference(self, x: Tensor, times: Sequence[float], step: float | None, seed: int) -> Paths:
        """Simulate the reference from states at ``times[0]`` and return the later times.

        Parameters
        ----------
        x
            States ``(n, d)``.
        times
            Increasing times ``(T + 1,)``.
        step
            Longest step; by default as for :meth:`forecast`.
        seed
            Which noise.
        """
        linear = linear_part(self.reference)
        if isinstance(linear, LinearProcess) and linear.noise_dim == linear.dim:
            paths = sample(linear, x, list(times), solver="exact_linear", substeps=1, seed=seed)
        else:
            own = getattr(self.reference, "time_step", None)
            longest = step or own or float(self.times.diff().min()) / 100
            paths = sample(self.reference, x, list(times), step=longest, seed=seed)
        return Paths(list(times)[1:], paths.values[:, 1:], info=paths.info)

    def _grid(self, times: Sequence[float] | Tensor) -> list[float]:
        """Return increasing times, those within rounding of an observed one exactly there."""
        grid = [float(t) for t in torch.as_tensor(times, dtype=torch.float64).reshape(-1)]
        if not grid:
            raise ValueError("times must hold at least one time; got none")
        low, high = float(self.times[0]), float(self.times[-1])
        slack = _SAME * float(self.times.diff().min())
        for k, t in enumerate(grid):
            if not low - slack <= t <= high + slack:
                raise ValueError(
                    f"time {t:g} lies outside the observed times, from {low:g} to {high:g}; a bridge has two ends: "
                    "use forecast for what comes after the last"
                )
            nearest = float(self.times[int((self.times - t).abs().argmin())])
            grid[k] = nearest if abs(nearest - t) <= slack else t
        for k, (before, after) in enumerate(pairwise(grid)):
            if not after > before:
                raise ValueError(f"times must increase strictly; got {after:g} after {before:g} at position {k + 1}")
        return grid

    def _interval(self, t: float) -> int:
        """Return the last observed time that is not after ``t``; the end of the last interval is a start as well."""
        return int(torch.searchsorted(self.times, torch.tensor(t, dtype=torch.float64), right=True)) - 1

    @torch.no_grad()
    def _run(
        self,
        states: Tensor,
        rows: Tensor | None,
        k: int,
        now: float,
        grid: Sequence[float],
        generator: torch.Generator,
    ) -> Tensor:
        """Draw paths from states at time ``now`` in interval ``k``, rows of its sources where those are given."""
        parts = [states[None]] if grid[0] == now else []
        last = grid[-1]
        while now < last:
            end = float(self.times[k + 1])
            inside = [t for t in grid if now < t < end]
            elapsed = torch.tensor([t - now for t in (*inside, end)], dtype=torch.float64)
            uniform = torch.rand(len(states), generator=generator, dtype=torch.float64).to(states.device)
            columns = None
            if rows is not None:
                columns = self.chain.plans[k].given_rows(rows, generator)
            normals = torch.randn(len(elapsed), *states.shape, generator=generator, dtype=torch.float64).to(
                states.device
            )
            drawn, found = [], []
            for block in _blocks(len(states), len(elapsed) * self.dim**2):
                law, which = self._law(states[block], None if rows is None else rows[block], k, now, elapsed)
                chosen = self._choose(law, k, uniform[block]) if columns is None else columns[block]
                found.append(chosen)
                drawn.append(law.sample_bridge(which, self.samples[k + 1][chosen], normals[:, block]))
            path, columns = torch.cat(drawn, dim=1), torch.cat(found)
            parts.append(path if end in grid else path[:-1])
            states, rows, now, k = path[-1], columns, end, k + 1
        return torch.cat(parts).transpose(0, 1)

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
            alike = [j for j in range(k, len(gaps)) if abs(float(gaps[j] - gaps[k])) <= _SAME * float(gaps[k])]
            starts = torch.cat([times[j].expand(len(samples[j]), 1) for j in alike]).to(samples[0])
            sources = torch.cat([samples[j] for j in alike])
            law = transition_law(reference, sources, starts, gaps[k : k + 1], substeps=substeps)
            place = 0
            for j in alike:
                laws[j] = law.rows(slice(place, place + len(samples[j])))
                place += len(samples[j])
        yield laws.pop(k).log_density(samples[k + 1])


def _normalised(data: Snapshots, k: int) -> Tensor:
    """Return the weights of one time, float64, with sum 1."""
    if data.weights is None:
        return check_weights(None, data.samples[k].to(torch.float64), "weights")
    return check_weights(data.weights[k], data.samples[k], "weights")


def _blocks(n: int, entries: int) -> Iterator[slice]:
    """Divide ``n`` rows so that rows times entries stay bounded."""
    size = max(1, _ENTRIES // entries)
    for start in range(0, n, size):
        yield slice(start, start + size)


def _stratified(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` rows, each as often as its weight says up to one (systematic resampling)."""
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    shift = float(torch.rand((), generator=generator, dtype=torch.float64))
    places = (torch.arange(n, dtype=torch.float64) + shift) / n
    cumulative = weights.cpu().cumsum(0)
    rows = torch.searchsorted(cumulative / cumulative[-1], places, right=True)
    # Rounding may not lead to a last row without weight.
    return rows.clamp_(max=int(torch.nonzero(weights.cpu())[-1])).to(weights.device)


def _generator(seed: Seed) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch_generator(seed, "bridge")
