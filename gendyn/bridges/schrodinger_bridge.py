"""The Schroedinger bridge as a model: populations and a reference in, the likeliest process through them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.bridges.bridge_estimator import BridgeEstimator
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.references.fixed import (
    ReferenceLike,
    Volatility,
    describe_reference,
    make_reference,
    pushforward_sigma,
)
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.bridges.references.restore import restore_any
from gendyn.coupling import StaticBridge
from gendyn.data import Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import Process
from gendyn.training import Checkpoint

__all__ = ["SchrodingerBridge"]


class SchrodingerBridge(BridgeEstimator):
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
    substeps
        Runge-Kutta steps an interval, of a reference that is not linear.
    tolerance
        Mass that may miss its place in a coupling.
    max_iterations
        Iterations of a coupling at most.

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
        One row a coupling: ``step``, ``loss`` (its divergence), ``iterations``, ``marginal_error``. There is one
        coupling an interval; with hidden coordinates one an interval and sweep, in the order of the sweeps.

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

    sigma_: float | Sequence[float] | None

    def __init__(
        self,
        reference: ReferenceLike = "brownian",
        *,
        sigma: float | Sequence[float] | None = None,
        volatility: Volatility = "constant",
        backward_sweeps: int = 1,
        substeps: int = 16,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        self.reference = reference
        self.sigma = sigma
        self.volatility = volatility
        self.backward_sweeps = backward_sweeps
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

        lifted = isinstance(reference, LiftedReference)
        couplings = (len(data) - 1) * (2 * max(1, self.backward_sweeps) - (self.backward_sweeps == 0) if lifted else 1)
        with tqdm(total=couplings, initial=len(done), desc="couple", unit="coupling", disable=not progress) as bar:

            def after(solved: list[StaticBridge]) -> None:
                bar.update()
                if store is not None:
                    _write(store, solved)

            bridge, solved = self._solve(reference, data, done, after)
        self.seed_ = root
        self.history_ = pd.DataFrame(
            {
                "step": range(1, len(solved) + 1),
                "loss": [result.kl for result in solved],
                "iterations": [float(result.iterations) for result in solved],
                "marginal_error": [result.marginal_error for result in solved],
            }
        )
        self.sigma_ = sigma
        self._adopt(bridge, data)
        return self

    def _solve(
        self,
        reference: Process | LiftedReference,
        data: Snapshots,
        done: Sequence[StaticBridge],
        after: Callable[[list[StaticBridge]], None],
    ) -> tuple[MultiMarginalBridge | LiftedBridge, list[StaticBridge]]:
        """Solve all couplings, or those that are not done."""
        options: dict[str, Any] = {
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            "substeps": self.substeps,
            "done": done,
            "after": after,
        }
        if isinstance(reference, LiftedReference):
            return LiftedBridge.solve(reference, data, backward_sweeps=self.backward_sweeps, **options)
        return MultiMarginalBridge.solve(reference, data, **options)

    def _check_hyper_parameters(self) -> None:
        super()._check_hyper_parameters()
        if self.backward_sweeps < 0:
            raise ValueError(f"backward_sweeps must not be negative; got {self.backward_sweeps}")

    def _plain_params(self) -> dict[str, Any]:
        return self.get_params() | {"reference": describe_reference(self.reference)}

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"reference": restore_any(plain["reference"])}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._bridge_tensors(), {"names": self.names_, "sigma": self.sigma_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        data = self._stored_data(tensors, extra["names"])
        self._restore_bridge(tensors, data, make_reference(self.reference, data, extra["sigma"], self.volatility))
        self.sigma_ = extra["sigma"]


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
