r"""Interpolants among many populations at once, with barycentric coordinates for time.

Let :math:`(x_1, \dots, x_K)` be coupled points of K populations and :math:`x(a) = \sum_k a_k x_k` with a in the
simplex. One network with K heads learns :math:`g_k(a, x) = E[x_k \mid x(a) = x]`
(:mod:`gendyn.interpolants.barycentric_objective`), and then every path through the simplex has its flow, chosen after
the fit: from any population to any other, through others where that is shorter (Albergo, Boffi, Lindsey and
Vanden-Eijnden 2023). The cost of a path is

.. math:: \mathcal{C}(a) = \int_0^1 E \Bigl\lvert \sum_k \dot a_k\, g_k(a(t), x(a(t))) \Bigr\rvert^2 dt .
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from gendyn.data import Scaling, Snapshots
from gendyn.interpolants.barycentric_flow import BarycentricFlow, BarycentricNetwork, Path
from gendyn.interpolants.barycentric_objective import MeansObjective, PathObjective, mean_square_speed
from gendyn.interpolants.coupled_paths import CoupledPaths, CouplingName, couple
from gendyn.interpolants.flow_model import FlowModel
from gendyn.interpolants.simplex_path import CornerPath, SimplexPath
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.training import fit as train

__all__ = ["BarycentricInterpolant"]

_KEPT_TUPLES = 2000
"""Coupled tuples that a model keeps."""

_STEP_OF_PATHS = 0.03
"""Learning rate of Adam for the coefficients of a path; they are numbers of order one."""


class BarycentricInterpolant(FlowModel):
    r"""Learn the conditional means of all populations; move along any path of mixtures between them.

    The process of :meth:`sample` runs through the populations in the order of their times, and rests at those in
    between, as any smooth path through a corner of the simplex must. :meth:`along` gives the
    process of any other path, and :meth:`optimise_path` the shortest one between two populations.

    Parameters
    ----------
    coupling
        Who is joined to whom: ``"independent"``; ``"ot"`` and ``"sinkhorn"``, plans chained through all times; or
        ``"paired"``, row with row.
    hidden, activation, scale, steps, batch_size, lr, weight_decay, clip, ema, block, regularisation
        As for :class:`gendyn.FlowMatching`.
    validation_fraction, patience
        As for :class:`gendyn.FlowMatching`.

    Attributes
    ----------
    process_ : BarycentricFlow
        The flow through all populations in the order of their times, in the units of the data.
    tuples_ : Tensor
        At most 2000 coupled tuples ``(n, K, d)`` in scaled units, along which paths are measured.
    means_, covariances_ : Tensor
        Moments of the populations ``(K, d)`` and ``(K, d, d)``, in scaled units.

    References
    ----------
    Albergo, Boffi, Lindsey, Vanden-Eijnden. Multimarginal generative modeling with stochastic interpolants. 2023.

    Examples
    --------
    >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0, 2.0], [x, x + 1.0, x - 3.0])
    >>> model = BarycentricInterpolant("ot", steps=300, hidden=(32, 32)).fit(data, progress=False)
    >>> direct = SimplexPath(3, 0, 2, torch.zeros(3, 1))
    >>> from gendyn.sampling import sample
    >>> end = sample(model.along(direct), x, [0.0, 1.0]).values[:, -1]
    >>> bool((end.mean() - x.mean() + 3.0).abs() < 0.3)
    True
    """

    process_: BarycentricFlow
    tuples_: Tensor
    means_: Tensor
    covariances_: Tensor

    def __init__(
        self,
        coupling: CouplingName = "independent",
        *,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        scale: Literal["global", "whiten", "none"] = "global",
        steps: int = 4000,
        batch_size: int = 512,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        block: int | None = None,
        regularisation: float | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.coupling = coupling
        self.hidden = hidden
        self.activation = activation
        self.scale = scale
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.ema = ema
        self.block = block
        self.regularisation = regularisation
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Snapshots,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | File | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn the conditional means of two populations or more.

        Parameters
        ----------
        data
            The populations; weights, where given, are the probabilities with which cells are drawn.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If there are fewer than two times, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        if self.coupling not in get_args(CouplingName):
            raise ValueError(f"coupling must be one of {get_args(CouplingName)}; got {self.coupling!r}")
        self._check_training()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        scaling = Scaling.fit(data, self.scale)
        scaled = scaling.populations(data)
        training, held_out = self._split(scaled, root)
        network = BarycentricNetwork(
            len(data), data.dim, tuple(self.hidden), self.activation, seed=derive_seed(root, "network")
        ).to(device=data.device, dtype=data.dtype)
        coupled = self._coupled(training, root)
        kept = torch.randperm(len(coupled), generator=torch_generator(root, "kept"))[:_KEPT_TUPLES]
        self.tuples_ = coupled.points(kept)
        weighted = [(x, scaled.mass(float(t)).to(x)) for t, x in zip(scaled.times, scaled.samples, strict=True)]
        self.means_ = torch.stack([w @ x for x, w in weighted])
        self.covariances_ = torch.stack(
            [torch.cov(x.T, aweights=w, correction=0).reshape(data.dim, data.dim) for x, w in weighted]
        )
        watching = None if held_out is None else self._coupled(held_out, root)
        objective = MeansObjective(network, coupled, validation=watching, batch_size=self.batch_size)
        process = BarycentricFlow(network, scaling, CornerPath(data.times), data.times).to(data.device)
        return self._train(objective, data, process, root, progress=progress, checkpoint=checkpoint, resume=resume)

    def along(self, path: Path) -> BarycentricFlow:
        """Return the flow along a path on the simplex, over times from 0 to 1.

        Parameters
        ----------
        path
            Times ``(B,)`` to points of the simplex and their derivatives, ``(B, K)`` each: a :class:`SimplexPath`, or a
            function. Its derivative should be continuous; solvers lose their order where it jumps.

        Returns
        -------
        BarycentricFlow
            For :func:`gendyn.sample`, from points of the population where the path begins.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the path leaves the simplex of the populations.
        """
        self._check_fitted()
        a, rate = path(torch.linspace(0, 1, 101, dtype=torch.float64))
        corners = self.tuples_.shape[1]
        if a.shape != (101, corners) or rate.shape != a.shape:
            raise ValueError(
                f"a path must return two tensors (B, {corners}); got {tuple(a.shape)} and {tuple(rate.shape)}"
            )
        if bool((a < -1e-6).any()) or bool(((a.sum(1) - 1).abs() > 1e-6).any()):
            raise ValueError("a path must stay on the simplex: coordinates at least 0, sum 1")
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.process_.times.device)
        scaling = Scaling(self.process_.shift, self.process_.scale)
        return BarycentricFlow(self.process_.network, scaling, path, ends).to(ends.device)

    def path_cost(self, path: Path, *, times: int = 64) -> float:
        """Return the cost of a path: the mean squared speed of its flow, in scaled units.

        Parameters
        ----------
        path
            As for :meth:`along`.
        times
            Times at which the integral is taken, midpoints of equal intervals.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        s = (torch.arange(times, dtype=torch.float64, device=self.tuples_.device) + 0.5) / times
        with torch.no_grad():
            costs = [
                mean_square_speed(self.process_.network, path, t.expand(len(self.tuples_)), self.tuples_) for t in s
            ]
        return float(torch.stack(costs).mean())

    def optimise_path(
        self, start: int, end: int, *, modes: int = 4, steps: int = 600, batch_size: int = 512, seed: Seed = 0
    ) -> SimplexPath:
        """Return the path of least cost between two populations, through mixtures of all of them.

        Parameters
        ----------
        start, end
            Indices of the two populations.
        modes
            Sine modes of each coordinate.
        steps, batch_size
            Optimiser steps, and tuples at each.
        seed
            Of the first coefficients and of the mini-batches.

        Returns
        -------
        SimplexPath
            Never dearer than the straight edge, as far as the tuples of the model can tell.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there are no such two populations.
        """
        self._check_fitted()
        if modes < 1:
            raise ValueError(f"modes must be at least 1; got {modes}")
        root = as_seed(seed)
        corners = self.tuples_.shape[1]
        # At zero the squares have no slope: a first push is needed to leave the edge.
        first = 0.1 * torch.randn(corners, modes, generator=torch_generator(root, "path"), dtype=self.tuples_.dtype)
        path = SimplexPath(corners, start, end, first.to(self.tuples_.device)).to(self.tuples_.device)
        objective = PathObjective(path, self.process_.network, self.tuples_, batch_size)
        train(objective, steps=steps, lr=_STEP_OF_PATHS, seed=root, progress=False)
        path.eval().requires_grad_(False)
        edge = SimplexPath(corners, start, end, torch.zeros_like(first)).to(self.tuples_.device).requires_grad_(False)
        return path if self.path_cost(path) < self.path_cost(edge) else edge

    def log_density_gradient(self, a: Tensor | Sequence[float], x: Tensor, *, gaussian: int) -> Tensor:
        r"""Return the score of the mixture with coordinates a, where one population is Gaussian.

        .. math:: \nabla \log \rho_a(x) = -C^{-1}(g_k(a, x) - m)/a_k

        Parameters
        ----------
        a
            Barycentric coordinates ``(K,)``.
        x
            Points ``(B, d)`` in the units of the data.
        gaussian
            Index k of a Gaussian population that is independent of the others; its moments are those of the data.

        Returns
        -------
        Tensor
            ``(B, d)``, in one over the units of the data.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the Gaussian population has no part in the mixture, or the coupling is not independent.
        """
        self._check_fitted()
        if self.coupling != "independent":
            raise ValueError(f"the formula needs independent populations; this model was coupled by {self.coupling!r}")
        coordinates = torch.as_tensor(a).to(self.tuples_).reshape(1, -1)
        corners = self.tuples_.shape[1]
        if coordinates.shape[1] != corners or not 0 <= gaussian < corners or not float(coordinates[0, gaussian]) > 0:
            raise ValueError(
                f"{corners} coordinates are needed, that of population {gaussian} above zero; "
                f"got {coordinates[0].tolist()}"
            )
        process = self.process_
        with torch.no_grad():
            means = process.network(coordinates.expand(len(x), -1), (x - process.shift) / process.scale)
            away = means[:, gaussian] - self.means_[gaussian]
            white: Tensor = torch.linalg.solve(self.covariances_[gaussian], away.T).T
        return -white / (float(coordinates[0, gaussian]) * process.scale)

    def _coupled(self, data: Snapshots, seed: int) -> CoupledPaths:
        options = {"block": self.block, "regularisation": self.regularisation}
        return CoupledPaths(data, couple(data, self.coupling, seed=derive_seed(seed, "coupling"), **options))  # type: ignore[arg-type]

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._stored(network=self.process_.network)
        return tensors | {"tuples": self.tuples_, "means": self.means_, "covariances": self.covariances_}, extra

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        scaling, times = Scaling(tensors["shift"], tensors["scale"]), tensors["times"]
        network = BarycentricNetwork(len(times), len(scaling.shift), tuple(self.hidden), self.activation)
        process = BarycentricFlow(network.to(tensors["initial"]), scaling, CornerPath(times), times).to(times.device)
        self._take_back(process, tensors, extra, network=network)
        self.tuples_, self.means_, self.covariances_ = (tensors[k] for k in ("tuples", "means", "covariances"))
