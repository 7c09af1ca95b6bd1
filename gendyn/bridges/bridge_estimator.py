"""What every model with a multi-marginal bridge does once it has one: paths, points between times, forecasts, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gendyn.bridges.batched_bridge import BatchedBridge
from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.distilled_bridge import DistilledBridge, PullObjective
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.coupling import Batches
from gendyn.data import Paths, Scaling, Snapshots
from gendyn.population_estimator import PopulationEstimator
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import Process, sample
from gendyn.training import fingerprint

__all__ = ["BridgeEstimator"]


class BridgeEstimator(PopulationEstimator):
    """A model whose ``fit`` ends in a :class:`MultiMarginalBridge`, however it came by the reference.

    Attributes
    ----------
    bridge_ : MultiMarginalBridge
        The couplings and bridges.
    process_ : BridgeProcess
        The bridge as a diffusion, for :func:`gendyn.sample`; after the last population it is the reference.
    kl_ : float
        Divergence of the bridge from the reference, in nats; compare it among references through the same data.
    """

    bridge_: MultiMarginalBridge | LiftedBridge
    process_: BridgeProcess
    kl_: float
    substeps: int
    tolerance: float
    max_iterations: int
    rows_at_once: int | None = None

    def sample(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        solver: str | None = None,
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        hidden: bool = False,
        **options: Any,
    ) -> Paths:
        """Draw paths of the bridge at the asked times.

        Parameters
        ----------
        x0
            Where paths start: points ``(n, d)`` at ``times[0]``, or a population at one time, from which paths run to
            ``times``. By default rows of the data. Hidden coordinates, where the reference has any, are those of the
            nearest points of the bridge, unless the points are whole states ``(n, D)``.
        times
            Increasing times ``(T,)``; by default the observed times.
        n
            Number of paths; by default as many as there are start points.
        seed
            Which paths.
        solver
            By default paths are drawn from their law, without steps. The name of a solver runs :attr:`process_` by
            :func:`gendyn.sample` instead, with steps that end on the observed times.
        step
            Longest step of a solver, and of a reference that is not linear after the last observed time.
        extrapolate
            Allow times after the last observed one, where the reference runs on.
        progress
            Show the solver's progress.
        hidden
            Return whole states, with the hidden coordinates of the reference.
        **options
            Further options of :func:`gendyn.sample`, with a solver.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        TypeError
            If there are options without a solver.
        ValueError
            If times are out of range or fall, or points have the wrong shape.
        """
        self._check_fitted()
        if options and solver is None:
            raise TypeError(
                f"{', '.join(options)} are options of a solver, and by default there is none; give solver="
                "'euler_maruyama' as well, or leave them out"
            )
        root = as_seed(seed)
        points, start, grid = self._start(x0, times)
        self._check_range([start], extrapolate=False)
        self._check_range(grid.tolist(), extrapolate)
        asked = grid.tolist()
        if x0 is None:
            start = min(asked[0], float(self.times_[-1]))
            count = self.bridge_.size_before(start) if n is None else n
            points = self.bridge_.sample_states([start], count, derive_seed(root, "start"))[:, 0]
        elif n is not None:
            points = self._resample(points, n, root)
        if start > asked[0]:
            raise ValueError(f"paths of a bridge run forward; got time {asked[0]:g} from a start at {start:g}")
        points = self.bridge_.complete(points, start, derive_seed(root, "hidden"))
        run = asked if start == asked[0] else [start, *asked]
        if solver is not None:
            values, info = self._walk(points, run, root, solver=solver, step=step, progress=progress, **options)
        else:
            values, info = self._draw(points, run, root, step), {"seed": root, "solver": "exact"}
        asked_values = values[:, len(run) - len(asked) :]
        if hidden:
            return Paths(asked, asked_values.to(self.initial_.dtype), info=info)
        return Paths(asked, self.bridge_.observe(asked_values).to(self.initial_.dtype), names=self.names_, info=info)

    def interpolate(self, t: float, n: int | None = None, seed: Seed = 0) -> Tensor:
        """Draw ``n`` points of the bridge at a time between the observed ones: ``(n, d)``; see MultiMarginalBridge.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If ``t`` is not between the observed times.
        """
        self._check_fitted()
        count = self.bridge_.size_before(t) if n is None else n
        return self.bridge_.interpolate(t, count, seed).to(self.initial_.dtype)

    def forecast(
        self,
        times: Sequence[float] | Tensor,
        n: int | None = None,
        *,
        start: Literal["last", "first"] = "last",
        step: float | None = None,
        seed: Seed = 0,
    ) -> Paths:
        """Run the reference on from the last observed population, or from the first; see MultiMarginalBridge.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are not after the start.
        """
        self._check_fitted()
        count = len(self.bridge_.samples[-1 if start == "last" else 0]) if n is None else n
        paths = self.bridge_.forecast(times, count, start=start, step=step, seed=seed)
        return Paths(paths.times, paths.values.to(self.initial_.dtype), names=self.names_, info=paths.info)

    def drift(self, t: float, x: Tensor) -> Tensor:
        """Return the drift of the bridge at a time and states ``(n, d)``: the reference's and the pull of the data.

        Of points, where the reference has hidden coordinates, it is the velocity with those of the bridge's nearest
        points; of whole states ``(n, D)`` it is their drift.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        states = self.bridge_.complete(x, t)
        drift = self.process_.drift(torch.as_tensor(t, dtype=torch.float64), states)
        seen: Tensor = drift if x.shape[-1] == states.shape[-1] else self.bridge_.observe(drift)
        return seen.to(x.dtype)

    def velocity(self, data: Snapshots) -> list[Tensor]:
        """Return the drift of the bridge at the points of populations, ``(n_k, d)`` a time; see :meth:`drift`."""
        self._check_cells(data)
        with torch.no_grad():
            return [self.drift(float(t), x) for t, x in zip(data.times, data.samples, strict=True)]

    def distill(
        self,
        network: nn.Module | None = None,
        *,
        steps: int = 2000,
        hidden: Sequence[int] = (64, 64, 64),
        paths: int = 500,
        times: int = 32,
        batch_size: int = 512,
        lr: float = 2e-3,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
    ) -> DistilledBridge:
        """Return the bridge as a diffusion whose drift is the reference's and a network, for :func:`gendyn.sample`.

        A step of :attr:`process_` asks every point of the next population, one of the network does not; and where the
        former ends on points of the data, the latter ends between them, as the population does.

        Parameters
        ----------
        network
            ``(n, D + 2) -> (n, D)``, of states, time and the part of the interval that has passed, each of the order of
            one; it is trained in place. By default a perceptron.
        steps
            Steps of training.
        hidden
            Widths of the perceptron's hidden layers.
        paths, times
            How many paths of the bridge are drawn, and at how many times in every interval the drift is looked at.
        batch_size
            Points a step of training.
        lr
            Peak learning rate.
        seed
            Which paths and times, initial weights and mini-batches.
        progress
            Show a bar of steps.
        checkpoint, resume
            File that keeps the state, and whether to go on from it.

        Returns
        -------
        DistilledBridge
            A process, with the ``history`` of its training. Where the reference has hidden coordinates, its states are
            whole ones.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If a number is not positive.

        Examples
        --------
        >>> import gendyn as gd
        >>> x = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> model = gd.SchrodingerBridge(sigma=0.5).fit(gd.Snapshots([0.0, 1.0], [x, x + 3.0]), progress=False)
        >>> process = model.distill(steps=300, hidden=(32,), paths=200, times=16, progress=False)
        >>> paths = gd.sample(process, x, [0.0, 1.0])
        >>> 2.8 < (paths.values[:, 1] - x).mean().item() < 3.2
        True
        """
        self._check_fitted()
        root = as_seed(seed)
        objective = PullObjective.of(
            self.bridge_,
            self.process_,
            network=network,
            hidden=hidden,
            paths=paths,
            times=times,
            batch_size=batch_size,
            seed=derive_seed(root, "distill"),
        )
        return objective.learn(steps=steps, lr=lr, seed=root, progress=progress, checkpoint=checkpoint, resume=resume)

    def _check_cells(self, data: Snapshots) -> None:
        self._check_fitted()
        if data.dim != self.bridge_.dim:
            raise ValueError(f"the model was fitted on {self.bridge_.dim} features; the data have {data.dim}")
        self._check_range(data.times.tolist(), extrapolate=None)

    def _draw(self, points: Tensor, run: list[float], seed: int, step: float | None) -> Tensor:
        """Draw paths from their law up to the last observed time, and run the reference after it."""
        last = float(self.times_[-1])
        before, beyond = [t for t in run if t <= last], [t for t in run if t > last]
        until = [*before, last] if beyond and before[-1] < last else before
        values = self.bridge_.continue_from(points, until, derive_seed(seed, "bridge"))
        if not beyond:
            return values
        later = self.bridge_.run_reference(values[:, -1], [last, *beyond], step, derive_seed(seed, "reference"))
        return torch.cat([values[:, : len(before)], later.values], dim=1)

    def _walk(self, points: Tensor, run: list[float], seed: int, **options: Any) -> tuple[Tensor, Any]:
        """Run the process through the observed times, and return the asked ones."""
        stops = sorted({*run, *(t for t in self.times_.tolist() if run[0] < t < run[-1])})
        paths = sample(self.process_, points.to(self.bridge_.samples[0]), stops, seed=seed, **options)
        return paths.values[:, [stops.index(t) for t in run]], paths.info

    @cached_property
    def _scaling(self) -> Scaling:
        return Scaling.fit(Snapshots(self.times_, [x.to(self.initial_.dtype) for x in self.bridge_.samples]))

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        for name in ("substeps", "max_iterations"):
            if int(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {self.tolerance}")

    def _identity(self, data: Snapshots, root: int) -> str:
        """Return what tells a fit from any other."""
        return fingerprint(
            *data.samples, *(data.weights or ()), data.times, model=type(self).__name__, seed=root, **self.get_params()
        )

    def _adopt(self, bridge: MultiMarginalBridge | LiftedBridge, data: Snapshots) -> None:
        """Take a solved bridge as the fitted one."""
        self.__dict__.pop("_scaling", None)
        self.bridge_ = bridge
        self.process_ = bridge.process
        self.kl_ = float(bridge.kl.sum())
        self.times_ = bridge.times
        self.names_ = data.names
        self.initial_ = data.samples[0]

    def _bridge_tensors(self) -> dict[str, Tensor]:
        """Return the bridge as a file holds it, all but the reference."""
        tensors = {"times": self.times_}
        for k, (x, weights) in enumerate(zip(self.bridge_.samples, self.bridge_.weights, strict=True)):
            tensors |= {f"samples.{k}": x.to(self.initial_.dtype), f"weights.{k}": weights}
        return tensors | self.bridge_.tensors()

    @staticmethod
    def _stored_data(tensors: Mapping[str, Tensor], names: Any) -> Snapshots:
        """Return the populations of a file."""
        times = tensors["times"].cpu()
        return Snapshots(times, [tensors[f"samples.{k}"] for k in range(len(times))], names=names)

    def _restore_bridge(
        self, tensors: Mapping[str, Tensor], data: Snapshots, reference: Process | LiftedReference
    ) -> None:
        """Put back what :meth:`_bridge_tensors` gave, around a restored reference."""
        weights = [tensors[f"weights.{k}"] for k in range(len(data))]
        if isinstance(reference, LiftedReference):
            lifted = LiftedBridge(reference, data, weights=weights, substeps=self.substeps)
            self._adopt(lifted.adopt(tensors), data)
            return
        potentials = [(tensors[f"f.{k}"], tensors[f"g.{k}"]) for k in range(len(data) - 1)]
        if "batch.0.rows" in tensors:
            batches = [Batches(tensors[f"batch.{k}.rows"], tensors[f"batch.{k}.columns"]) for k in range(len(data) - 1)]
            options: dict[str, Any] = {"weights": weights, "substeps": self.substeps, "kl": tensors["kl"]}
            self._adopt(BatchedBridge(reference, data, potentials, batches, **options), data)
            return
        gains = [tensors[f"gain.{k}"] for k in range(len(data) - 1)] if "gain.0" in tensors else None
        bridge = MultiMarginalBridge(
            reference,
            data,
            potentials,
            weights=weights,
            substeps=self.substeps,
            rows_at_once=self.rows_at_once,
            log_gains=gains,
            kl=None if gains is None else tensors["kl"],
        )
        self._adopt(bridge, data)
