"""The Schroedinger bridge as a model: populations and a reference in, the likeliest process through them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.references.fixed import (
    ReferenceLike,
    Volatility,
    describe_reference,
    make_reference,
    pushforward_sigma,
    restore_reference,
)
from gendyn.coupling import StaticBridge
from gendyn.data import Paths, Scaling, Snapshots
from gendyn.population_estimator import PopulationEstimator
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import sample
from gendyn.training import Checkpoint, fingerprint

__all__ = ["SchrodingerBridge"]


class SchrodingerBridge(PopulationEstimator):
    r"""The process through all populations that is likeliest under a reference, without training.

    .. math:: P = \arg\min_P \mathrm{KL}(P \Vert Q) \quad\text{with}\quad P_{t_k} = \mu_k .

    What happens between the populations is told by the reference :math:`Q`: with Brownian motion of little noise paths
    are nearly straight, with a mechanism of the field they are its orbits, bent just enough to meet the data. See
    :mod:`gendyn.bridges.multi_marginal` for how it is solved.

    Parameters
    ----------
    reference
        ``"brownian"``; a process, such as ``gendyn.systems.LotkaVolterra()`` or a
        :class:`gendyn.sampling.LinearProcess`; or a drift ``f(t, x) -> (n, d)``, a function or a module. A model whose
        reference is a function cannot be saved.
    sigma
        Full coefficient of the noise of ``"brownian"`` and of drifts, in units of the data per square root of time: a
        number, or one a feature. By default that under which the Brownian motion of each population is likeliest to
        make the next; it lays all motion to noise, so that a smaller one, known from the field, gives straighter paths.
        A process has noise of its own.
    volatility
        How that noise depends on the state: ``"constant"``, ``"proportional"`` to it, or to its root (``"sqrt"``).
    substeps
        Runge-Kutta steps an interval, of a reference that is not linear.
    tolerance
        Mass that may miss its place in a coupling.
    max_iterations
        Iterations of a coupling at most.

    Attributes
    ----------
    bridge_ : MultiMarginalBridge
        The couplings and bridges.
    process_ : BridgeProcess
        The bridge as a diffusion, for :func:`gendyn.sample`; after the last population it is the reference.
    sigma_ : float, sequence of float or None
        The coefficient that was given or found.
    kl_ : float
        Divergence of the bridge from the reference, in nats; compare it among references through the same data.
    history_ : pandas.DataFrame
        One row an interval: ``step``, ``loss`` (its divergence), ``iterations``, ``marginal_error``.

    References
    ----------
    Leonard. A survey of the Schroedinger problem and some of its connections with optimal transport. 2014.
    Shen, Berlinghieri, Broderick. Multi-marginal Schroedinger bridges with iterative reference refinement. 2025.

    Examples
    --------
    >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0, 2.0], [x, x + 3.0, x])
    >>> model = SchrodingerBridge(sigma=0.5).fit(data, progress=False)
    >>> model.interpolate(0.5, 200).mean().item() - x.mean().item()
    1.5...
    """

    bridge_: MultiMarginalBridge
    process_: BridgeProcess
    sigma_: float | Sequence[float] | None
    kl_: float

    def __init__(
        self,
        reference: ReferenceLike = "brownian",
        *,
        sigma: float | Sequence[float] | None = None,
        volatility: Volatility = "constant",
        substeps: int = 16,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        self.reference = reference
        self.sigma = sigma
        self.volatility = volatility
        self.substeps = substeps
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def fit(
        self,
        data: Snapshots,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Solve the coupling of every interval.

        Parameters
        ----------
        data
            Populations at two or more times; weights are normalised at each.
        seed
            Which rows ``sigma`` is estimated from; nothing else is random.
        progress
            Show a bar of intervals.
        checkpoint
            File that keeps the solved intervals; a fit that was killed goes on from there.
        resume
            Whether to go on from it.
        device
            Where to compute; by default where the data are.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`, or the reference is none.
        ValueError
            If there are fewer than two times, a hyper-parameter is out of range, or the reference does not fit.

        Warns
        -----
        UserWarning
            If a coupling did not converge.
        """
        self._check_hyper_parameters()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        sigma = self.sigma
        if sigma is None and isinstance(self.reference, str):
            sigma = pushforward_sigma(data, derive_seed(root, "sigma"))
        reference = make_reference(self.reference, data, sigma, self.volatility)
        store = None if checkpoint is None else Checkpoint(checkpoint, self._identity(data, root))
        done = _read(store) if store is not None and resume and store.exists() else []

        with tqdm(total=len(data) - 1, initial=len(done), desc="couple", unit="interval", disable=not progress) as bar:

            def after(solved: list[StaticBridge]) -> None:
                bar.update()
                if store is not None:
                    _write(store, solved)

            bridge, solved = MultiMarginalBridge.solve(
                reference,
                data,
                tolerance=self.tolerance,
                max_iterations=self.max_iterations,
                substeps=self.substeps,
                done=done,
                after=after,
            )
        self.seed_ = root
        self.history_ = pd.DataFrame(
            {
                "step": range(1, len(solved) + 1),
                "loss": [result.kl for result in solved],
                "iterations": [float(result.iterations) for result in solved],
                "marginal_error": [result.marginal_error for result in solved],
            }
        )
        self._adopt(bridge, data, sigma)
        return self

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
        **options: Any,
    ) -> Paths:
        """Draw paths of the bridge at the asked times.

        Parameters
        ----------
        x0
            Where paths start: points ``(n, d)`` at ``times[0]``, or a population at one time, from which paths run to
            ``times``. By default rows of the data.
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
            points = self.bridge_.sample_paths([start], count, derive_seed(root, "start"))[:, 0]
        elif n is not None:
            points = self._resample(points, n, root)
        if start > asked[0]:
            raise ValueError(f"paths of a bridge run forward; got time {asked[0]:g} from a start at {start:g}")
        run = asked if start == asked[0] else [start, *asked]
        if solver is not None:
            values, info = self._walk(points, run, root, solver=solver, step=step, progress=progress, **options)
        else:
            values, info = self._draw(points, run, root, step), {"seed": root, "solver": "exact"}
        return Paths(asked, values[:, len(run) - len(asked) :].to(self.initial_.dtype), names=self.names_, info=info)

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

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        return self.process_.drift(torch.as_tensor(t, dtype=torch.float64), x)

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
        return fingerprint(
            *data.samples, *(data.weights or ()), data.times, model=type(self).__name__, seed=root, **self.get_params()
        )

    def _adopt(self, bridge: MultiMarginalBridge, data: Snapshots, sigma: float | Sequence[float] | None) -> None:
        self.__dict__.pop("_scaling", None)
        self.bridge_ = bridge
        self.process_ = bridge.process
        self.sigma_ = sigma
        self.kl_ = float(bridge.kl.sum())
        self.times_ = bridge.times
        self.names_ = data.names
        self.initial_ = data.samples[0]

    def _plain_params(self) -> dict[str, Any]:
        return self.get_params() | {"reference": describe_reference(self.reference)}

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"reference": restore_reference(plain["reference"])}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"times": self.times_}
        for k, (x, weights) in enumerate(zip(self.bridge_.samples, self.bridge_.weights, strict=True)):
            tensors |= {f"samples.{k}": x.to(self.initial_.dtype), f"weights.{k}": weights}
        for k, (f, g) in enumerate(self.bridge_.potentials):
            tensors |= {f"f.{k}": f, f"g.{k}": g}
        return tensors, {"names": self.names_, "sigma": self.sigma_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        times = tensors["times"].cpu()
        samples, weights = ([tensors[f"{name}.{k}"] for k in range(len(times))] for name in ("samples", "weights"))
        data = Snapshots(times, samples, names=extra["names"])
        reference = make_reference(self.reference, data, extra["sigma"], self.volatility)
        potentials = [(tensors[f"f.{k}"], tensors[f"g.{k}"]) for k in range(len(times) - 1)]
        bridge = MultiMarginalBridge(reference, data, potentials, weights=weights, substeps=self.substeps)
        self._adopt(bridge, data, extra["sigma"])


def _write(store: Checkpoint, solved: list[StaticBridge]) -> None:
    tensors: dict[str, Tensor] = {}
    for k, result in enumerate(solved):
        tensors |= {f"f.{k}": result.potentials[0], f"g.{k}": result.potentials[1]}
    figures = [[result.kl, result.marginal_error, result.iterations, result.converged] for result in solved]
    store.write(tensors, {"step": len(solved), "figures": figures})


def _read(store: Checkpoint) -> list[StaticBridge]:
    tensors, state = store.read()
    return [
        StaticBridge((tensors[f"f.{k}"], tensors[f"g.{k}"]), float(kl), float(error), int(iterations), bool(converged))
        for k, (kl, error, iterations, converged) in enumerate(state["figures"])
    ]
