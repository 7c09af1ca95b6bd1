"""The Schroedinger bridge as a model: populations and a reference in, the likeliest process through them out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.bridges.batched_bridge import BatchedBridge
from gendyn.bridges.growing_estimator import GrowingBridgeEstimator
from gendyn.bridges.growth import Growth, GrowthRate
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.linear_noise_check import warn_of_linear_noise
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.references.fixed import (
    ReferenceLike,
    Volatility,
    describe_reference,
    make_reference,
    pushforward_sigma,
)
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.bridges.references.local_brownian import LocalBrownian
from gendyn.bridges.references.restore import restore_any
from gendyn.bridges.soft_marginals import check_soft, marginal_table, shared_support, soften
from gendyn.bridges.solved_couplings import coupling_costs, coupling_history, read_couplings, write_couplings
from gendyn.coupling import MarginalRelaxation, StaticBridge, check_marginal_relaxation
from gendyn.coupling.entropic import Relaxation, check_relaxation
from gendyn.coupling.row_blocks import Watch
from gendyn.data import Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import Process
from gendyn.training import Checkpoint

__all__ = ["SchrodingerBridge"]


class SchrodingerBridge(GrowingBridgeEstimator):
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
        reference is a function cannot be saved. With hidden coordinates: :class:`gendyn.references.Matern`, whose
        paths are smooth, or :class:`gendyn.references.PartlyObserved`.
    sigma
        Full coefficient of the noise of ``"brownian"`` and of drifts, in units of the data per square root of time: a
        number, or one a feature. By default that under which the Brownian motion of each population is likeliest to
        make the next; it lays all motion to noise, so that a smaller one, known from the field, gives straighter paths.
        A process has noise of its own.
    volatility
        How that noise depends on the state: ``"constant"``, ``"proportional"`` to it, or to its root (``"sqrt"``).
    backward_sweeps
        Of a reference with hidden coordinates, how often what later populations say about them is carried back; 0: only
        the past counts. One is close to the solution, more come closer.
    growth_rate
        How fast cells multiply, births minus deaths per unit of time: a function ``r(t, x) -> (n,)``, with which a
        model cannot be saved, or one array ``(n_k,)`` a time. By default nothing is expected.
    relaxation
        Price in nats of a coupling that misses weights, of both sides or the pair of earlier and later population. A
        finite first price lets cells multiply otherwise than expected; a finite second one lets later cells be missed.
    growth_iterations
        How many couplings are solved an interval, each expecting the growth that the one before found.
    marginal_relaxation
        Price in nats of the bridge's missing the weights of a population, one number or one a time; all intervals are
        then solved together. For populations of few cells, say under thirty, whose weights are chance: prices of a few
        nats let them give way to what other times say. Nothing multiplies. By default weights are met.
    support_width
        Distance, in units of the data, over which a cell seen at one time stands for those seen near it at others: all
        populations then share their points, see :func:`gendyn.bridges.shared_support`.
    substeps
        Runge-Kutta steps an interval, of a reference that is not linear.
    tolerance
        Mass that may miss its place in a coupling.
    max_iterations
        Iterations of a coupling at most; in blocks, passes over all pairs.
    rows_at_once
        Rows of a coupling that are held at once, with all columns. ``None``: all of them up to 25 million pairs, and
        blocks beyond, so that memory does not grow with the pairs.
    batch_size
        Rows of random batches that are coupled each by itself, in place of all with all: for hundreds of thousands of
        rows, whose pairs cannot even be looked at once. Couplings are a little blurred; see
        :func:`gendyn.coupling.minibatch_bridge`.

    Attributes
    ----------
    bridge_ : MultiMarginalBridge or LiftedBridge
        The couplings and bridges.
    process_ : BridgeProcess
        The bridge as a diffusion, for :func:`gendyn.sample`; after the last population it is the reference.
    sigma_ : float, sequence of float or None
        The coefficient that was given or found.
    kl_ : float
        Divergence of the bridge from the reference, in nats; compare it among references through the same data.
    history_ : pandas.DataFrame
        One row a coupling: ``step``, ``loss`` (its divergence), ``iterations``, ``marginal_error``, and where cells
        multiply the ``mass`` that a population of mass 1 becomes. There is one coupling an interval; with hidden
        coordinates one an interval and sweep, in the order of the sweeps.
    marginals_ : pandas.DataFrame
        Where populations may be missed, ``time``, ``divergence`` of the bridge from each, in nats, and ``cells``, how
        many equal weights would be as even as its own; else empty.
    cost_ : pandas.DataFrame
        What each coupling cost: ``pairs``, ``iterations``, ``seconds``, ``rows_at_once`` (missing where all pairs were
        held) and ``gigabytes``, its largest arrays together; a last row is for the solution of all together, where
        there is one. A model from a file has none.

    References
    ----------
    Leonard. A survey of the Schroedinger problem and some of its connections with optimal transport. 2014.
    Schiebinger et al. Optimal-transport analysis of single-cell gene expression. Cell, 2019.
    Shen, Berlinghieri, Broderick. Multi-marginal Schroedinger bridges with iterative reference refinement. 2025.

    Examples
    --------
    >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0, 2.0], [x, x + 3.0, x])
    >>> model = SchrodingerBridge(sigma=0.5).fit(data, progress=False)
    >>> model.interpolate(0.5, 200).mean().item() - x.mean().item()
    1.5...
    """

    sigma_: float | Sequence[float] | None
    marginals_: pd.DataFrame
    cost_: pd.DataFrame

    def __init__(
        self,
        reference: ReferenceLike = "brownian",
        *,
        sigma: float | Sequence[float] | None = None,
        volatility: Volatility = "constant",
        backward_sweeps: int = 1,
        growth_rate: GrowthRate | None = None,
        relaxation: Relaxation = math.inf,
        growth_iterations: int = 1,
        marginal_relaxation: MarginalRelaxation = math.inf,
        support_width: float | None = None,
        substeps: int = 16,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
        rows_at_once: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.reference = reference
        self.sigma = sigma
        self.volatility = volatility
        self.backward_sweeps = backward_sweeps
        self.growth_rate = growth_rate
        self.relaxation = relaxation
        self.growth_iterations = growth_iterations
        self.marginal_relaxation = marginal_relaxation
        self.support_width = support_width
        self.substeps = substeps
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.rows_at_once = rows_at_once
        self.batch_size = batch_size

    @classmethod
    def waddington(
        cls,
        regularisation: float = 0.05,
        *,
        relaxation: tuple[float, float] = (1.0, 50.0),
        growth_rate: GrowthRate | None = None,
        growth_iterations: int = 3,
        **options: Any,
    ) -> Self:
        r"""Return the model whose couplings are the transport maps of Waddington-OT, made a process.

        The reference is :class:`gendyn.references.LocalBrownian`, and the features of the data should be the leading
        principal components. Where the expected growth of cells differs, couplings expect it of their reference as
        well as of their weights, and follow it closer than those maps, by the power :math:`1 + \varepsilon/\lambda_0`;
        :func:`gendyn.coupling.waddington_plan` is the map itself.

        Parameters
        ----------
        regularisation
            :math:`\varepsilon`, in medians of the squared distance.
        relaxation
            :math:`(\lambda_0, \lambda_1)`, in the same unit.
        growth_rate, growth_iterations
            As for the class.
        **options
            Other hyper-parameters of the class.

        Examples
        --------
        >>> SchrodingerBridge.waddington().relaxation
        (20.0, 1000.0)
        """
        reference = LocalBrownian(regularisation)
        first, second = check_relaxation(relaxation)
        return cls(
            reference,
            relaxation=(first / regularisation, second / regularisation),
            growth_rate=growth_rate,
            growth_iterations=growth_iterations,
            **options,
        )

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
            Which rows ``sigma`` is estimated from, who is in which batch, and which paths the linear-noise
            approximation is compared with; nothing else of the bridge is random.
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
            If a coupling did not converge, or simulated paths contradict the linear-noise approximation.
        """
        self._check_hyper_parameters()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        if self.support_width is not None:
            data = shared_support(data, self.support_width)
        root = as_seed(seed)
        sigma = self.sigma
        if sigma is None and isinstance(self.reference, str):
            sigma = pushforward_sigma(data, derive_seed(root, "sigma"))
        reference = make_reference(self.reference, data, sigma, self.volatility)
        growth = Growth.of(data, self.growth_rate, self.relaxation, self.growth_iterations)
        store = None if checkpoint is None else Checkpoint(checkpoint, self._identity(data, root))
        done = read_couplings(store) if store is not None and resume and store.exists() else []

        lifted = isinstance(reference, LiftedReference)
        marks = [time.perf_counter()]
        couplings = (len(data) - 1) * (2 * max(1, self.backward_sweeps) - (self.backward_sweeps == 0) if lifted else 1)
        with tqdm(total=couplings, initial=len(done), desc="couple", unit="coupling", disable=not progress) as bar:
            what = "pass" if self.batch_size is None else "batch"

            def watch(passes: int, error: float) -> None:
                bar.set_postfix_str(f"{what} {passes}, {error:.1e} of the mass amiss")

            def after(solved: list[StaticBridge]) -> None:
                marks.append(time.perf_counter())
                bar.update()
                if store is not None:
                    write_couplings(store, solved)

            bridge, solved = self._solve(reference, data, growth, done, after, watch, root)
        self.seed_ = root
        self.history_ = coupling_history(solved, masses=growth is not None)
        self.sigma_ = sigma
        self.cost_ = coupling_costs(bridge, solved, marks)
        self.marginals_ = pd.DataFrame()
        if self._soft and isinstance(bridge, MultiMarginalBridge):
            bridge = self._soften(bridge, data)
        self._adopt(bridge, data)
        warn_of_linear_noise(bridge, self.substeps, derive_seed(root, "linear-noise"))
        return self

    def _solve(
        self,
        reference: Process | LiftedReference,
        data: Snapshots,
        growth: Growth | None,
        done: Sequence[StaticBridge],
        after: Callable[[list[StaticBridge]], None],
        watch: Watch,
        root: int,
    ) -> tuple[MultiMarginalBridge | LiftedBridge, list[StaticBridge]]:
        """Solve all couplings, or those that are not done."""
        if self._soft:
            check_soft(reference, data, growth, self.rows_at_once)
        options: dict[str, Any] = {
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            "substeps": self.substeps,
            "done": done,
            "after": after,
        }
        if self.batch_size is not None:
            if self._soft or growth is not None or isinstance(reference, LiftedReference):
                raise ValueError(
                    "batches are coupled where weights are met and all coordinates observed; leave out batch_size, or "
                    "marginal_relaxation, growth_rate, relaxation and the hidden coordinates"
                )
            seed = derive_seed(root, "batches")
            return BatchedBridge.solve_batches(reference, data, self.batch_size, seed=seed, watch=watch, **options)
        if isinstance(reference, LiftedReference):
            if growth is not None:
                raise ValueError(
                    "cells multiply only where all coordinates are observed; leave out growth_rate and relaxation, or "
                    "take a reference without hidden coordinates"
                )
            return LiftedBridge.solve(reference, data, backward_sweeps=self.backward_sweeps, **options)
        return MultiMarginalBridge.solve(
            reference, data, growth=growth, rows_at_once=self.rows_at_once, watch=watch, **options
        )

    def _soften(self, bridge: MultiMarginalBridge, data: Snapshots) -> MultiMarginalBridge:
        """Let a bridge miss its populations, and say by how much."""
        started = time.perf_counter()
        options: dict[str, Any] = {"tolerance": self.tolerance, "max_iterations": self.max_iterations}
        soft, chain = soften(bridge, data, self.marginal_relaxation, **options)
        self.history_ = self.history_.assign(
            loss=chain.kl.tolist(), iterations=float(chain.iterations), marginal_error=chain.marginal_error
        )
        self.marginals_ = marginal_table(data.times, chain)
        pairs = sum(len(x) * len(y) for x, y in pairwise(bridge.samples))
        seconds = time.perf_counter() - started
        self.cost_.loc[len(self.cost_)] = [pairs, chain.iterations, seconds, None, pairs * 16e-9]
        return soft

    @property
    def _soft(self) -> bool:
        return not all(map(math.isinf, check_marginal_relaxation(self.marginal_relaxation)))

    def _check_hyper_parameters(self) -> None:
        super()._check_hyper_parameters()
        if self.backward_sweeps < 0:
            raise ValueError(f"backward_sweeps must not be negative; got {self.backward_sweeps}")
        check_relaxation(self.relaxation)
        check_marginal_relaxation(self.marginal_relaxation)
        if self.rows_at_once is not None and self.rows_at_once < 1:
            raise ValueError(f"rows_at_once must be at least 1, or None; got {self.rows_at_once}")
        if self.batch_size is not None and (self.batch_size < 1 or self.rows_at_once is not None):
            raise ValueError(
                f"batch_size must be at least 1, or None, and is given in place of rows_at_once; got {self.batch_size} "
                f"and {self.rows_at_once}"
            )
        if self.growth_iterations < 1:
            raise ValueError(f"growth_iterations must be at least 1; got {self.growth_iterations}")

    def _plain_params(self) -> dict[str, Any]:
        plain = self.get_params() | {"reference": describe_reference(self.reference)}
        if callable(self.growth_rate):
            raise TypeError(
                "a model file holds no code, and so no function as growth_rate; give the rates themselves, one array a "
                "time"
            )
        if self.growth_rate is not None:
            plain["growth_rate"] = [torch.as_tensor(rates, dtype=torch.float64).tolist() for rates in self.growth_rate]
        return plain

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"reference": restore_any(plain["reference"])}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        extra = {"names": self.names_, "sigma": self.sigma_, "marginals": self.marginals_.to_dict("list")}
        return self._bridge_tensors(), extra

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        data = self._stored_data(tensors, extra["names"])
        self._restore_bridge(tensors, data, make_reference(self.reference, data, extra["sigma"], self.volatility))
        self.sigma_ = extra["sigma"]
        self.marginals_ = pd.DataFrame(extra.get("marginals", {}))
