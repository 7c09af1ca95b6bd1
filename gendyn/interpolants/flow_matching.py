r"""Flow matching between populations at two or many times.

Given populations :math:`\rho_1, \dots, \rho_T` at times :math:`t_1 < \dots < t_T`, a coupling joins
one point of each into a tuple, a conditional path :math:`x_t` runs through the tuple
(:mod:`gendyn.interpolants.conditional_path`), and one network over real time learns

.. math:: v^\star = \arg\min_v \; \mathbb{E}_{t,\, x_t} \lVert v(t, x_t) - \dot x_t \rVert^2 .

Its flow :math:`\dot X = v^\star(t, X)` carries :math:`\rho_1` through the law of :math:`x_t` at every
time, and so through every population (Lipman et al., ICLR 2023; Tong et al., TMLR 2024). What
happens between the observed times is the coupling's and the path's answer: straight lines
between optimally transported pairs, or, with ``coupling="spline-ot"``, curves half-way to natural cubic splines through
chains of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pandas as pd
import torch
from torch import Tensor

from gendyn.coupling.cost import Cost
from gendyn.data import Scaling, Snapshots
from gendyn.interpolants.bent_path import BentPath
from gendyn.interpolants.conditional_path import (
    ConditionalPath,
    PathName,
    ShrinkingPath,
    SplineKind,
    make_path,
)
from gendyn.interpolants.coupled_paths import CoupledPaths, RelaxedCoupling, check_coupling, couple
from gendyn.interpolants.data_metric import get_metric
from gendyn.interpolants.growing_model import GrowingModel
from gendyn.interpolants.growing_objective import GrowingObjective, VelocityAndGrowth
from gendyn.interpolants.growing_paths import GrowingPaths, couple_growing
from gendyn.interpolants.metric_objective import MetricObjective
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.interpolants.velocity_field import GrowingVelocityField, VelocityField
from gendyn.nn import VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import sample
from gendyn.training import fit

__all__ = ["FlowMatching"]

_METRIC_CELLS = 1000
"""Cells of each time from which a metric is made."""

CouplingOption = Literal["independent", "ot", "sinkhorn", "spline-ot"]


class FlowMatching(GrowingModel):
    r"""Learn the velocity that carries each population into the next.

    Minimises :math:`\mathbb{E}\lVert v_\theta(t, x_t) - \dot x_t\rVert^2` over one network on real time.
    The learned process is an ordinary differential equation: each start point has one future, and the
    spread of a later population comes from the spread of the first. With a finite ``relaxation`` cells also multiply
    and die.

    Parameters
    ----------
    coupling
        Who is joined to whom. ``"independent"``: anyone to anyone. ``"ot"``: exact optimal transport between
        consecutive times, straight conditional paths. ``"sinkhorn"``: entropic transport. ``"spline-ot"``: the exact
        plans chained through all times, conditional paths are cubic splines; best where there are four times
        or more. Between two populations also ``("unbalanced", relaxation)``, entropic transport that leaves out cells
        far from all others at the price ``relaxation`` (in squared scaled units), and ``("partial", mass)``, exact
        transport of that fraction of the mass.
    path
        How a tuple is joined: ``"linear"`` (straight in every gap), ``"cubic"`` (spline, see ``bend``), ``"pchip"``
        (monotone cubic: overshoots nowhere), ``"trigonometric"`` (quarter circles), ``"metric"`` (bent towards the data
        by a network that learns first, for another ``steps``; what it bends are straight lines, and the splines of
        ``"spline-ot"``), or ``"shrinking"`` (two times, the first of which is
        standard Gaussian noise in scaled units). By default ``"linear"``, and ``"cubic"`` for ``"spline-ot"``.
    bend
        Of cubic splines, how far they are from straight lines: 1 is the natural spline, 0 the lines, and between them
        path and velocity are the weighted means of both. A natural spline overshoots where cells turn or times are few.
    relaxation
        Price of mass that appears or vanishes between two times, in squared scaled units: cells multiply and die where
        that is cheaper than to move, see :mod:`gendyn.interpolants.growing_paths`. Small prices explain much by growth;
        ``None``: every cell keeps its weight. Needs ``"ot"`` or ``"spline-ot"``. Choose it by
        :class:`gendyn.evaluation.InnerHoldOut`. The populations are then what :meth:`sample_weighted` returns;
        :meth:`sample` moves cells without their weights, and densities are those of :meth:`log_prob_weighted`.
    sigma
        Standard deviation of the noise around a conditional path, in units of the scaled data.
    reflow
        Rounds in which the model is fitted again to the pairs that its own flow makes: paths grow straight, and few
        steps are then enough. Each round takes ``steps`` steps.
    metric
        Of a metric path: a name, see :data:`gendyn.interpolants.METRICS`, or a name and parameters, such as
        ``("land", 0.125, 0.001, 2.0)``: reach, regularisation and exponent, in scaled units.
    hidden
        Widths of the hidden layers of the velocity network.
    activation
        Name of the nonlinearity, see :data:`gendyn.nn.ACTIVATIONS`.
    scale
        ``"global"`` (centre, divide by the largest standard deviation: geometry kept), ``"whiten"``
        (each feature by its own) or ``"none"``; fitted on the training data only.
    steps, batch_size, lr, weight_decay, clip, ema
        Optimiser steps, coupled tuples per step, peak learning rate of Adam (cosine decay to zero),
        decoupled weight decay, gradient-norm limit, decay of the averaged weights (``None``: no averaging).
    block
        Cells per block of the mini-batch plans; ``None`` solves whole plans while they are affordable.
    regularisation
        Entropic regularisation of ``"sinkhorn"``, ``"unbalanced"`` and ``relaxation`` in squared scaled units; ``None``
        takes 5 % of the median squared distance.
    cost
        What transport minimises: ``"sqeuclidean"``, ``"euclidean"``, or a function of scaled samples that returns their
        costs ``(n_0, n_1)`` (which cannot be saved).
    match
        Column of the populations' ``obs`` that joined cells should share: labels, or numbers.
    match_weight
        Price of different labels (of a squared standard deviation of numbers) in units of the cost; ``None``: cells
        change their label only where the labels' masses differ.
    validation_fraction, patience
        Fraction of cells kept out of training to watch the loss, and the number of checks without improvement after
        which training stops and the best weights are restored. Zero and ``None``: a fixed number of steps.

    Attributes
    ----------
    process_ : VelocityField
        The learned process, in the units of the data.
    times_ : Tensor
        The trained times ``(T,)``.
    initial_ : Tensor
        At most 5000 cells of the first population, kept so that :meth:`sample` can start by itself.
    history_ : pandas.DataFrame
        Loss by step.

    Notes
    -----
    ``sigma`` is the blur of a conditional path, not a diffusion: the process has none.

    A metric is made of at most 1000 cells of each time, whatever their weights. Ctrl-C ends the stage that runs: the
    learning of a metric path, after which the velocity is learned all the same, or the last round of ``reflow``.

    References
    ----------
    Lipman, Chen, Ben-Hamu, Nickel, Le. Flow matching for generative modeling. ICLR 2023.
    Tong, Fatras, Malkin, Huguet, Zhang, Rector-Brooks, Wolf, Bengio. Improving and generalizing
    flow-based generative models with minibatch optimal transport. TMLR 2024.

    Examples
    --------
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, x + 3.0])
    >>> model = FlowMatching("ot", steps=300, hidden=(32, 32)).fit(data, progress=False)
    >>> paths = model.sample(x0=x, times=[0.0, 0.5, 1.0])
    >>> bool((paths.values[:, 1] - x - 1.5).abs().max() < 0.5)
    True
    """

    process_: VelocityField

    def __init__(
        self,
        coupling: CouplingOption | RelaxedCoupling = "ot",
        *,
        path: PathName | None = None,
        bend: float = 0.5,
        relaxation: float | None = None,
        sigma: float = 0.1,
        reflow: int = 0,
        metric: str | tuple[str | float, ...] = "land",
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
        cost: Cost = "sqeuclidean",
        match: str | None = None,
        match_weight: float | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.coupling = coupling
        self.path = path
        self.bend = bend
        self.relaxation = relaxation
        self.sigma = sigma
        self.reflow = reflow
        self.metric = metric
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
        self.cost = cost
        self.match = match
        self.match_weight = match_weight
        self.validation_fraction = validation_fraction
        self.patience = patience

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
        """Learn the velocity from populations at two or more times.

        Parameters
        ----------
        data
            The populations; weights, where given, are the probabilities with which cells are drawn, and with
            ``relaxation`` their sums are the masses.
        seed
            Root of all randomness: equal seeds give equal models.
        progress
            Show a progress bar.
        checkpoint
            File to which the state is written now and then. A fit that was killed and is called again
            with the same data, hyper-parameters, seed and file goes on where it was, to the same model.
        resume
            Whether to go on from an existing checkpoint; ``False`` starts anew.
        device
            Where to train; by default where the data are.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If there are fewer than two times, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        scaling = Scaling.fit(data, self.scale)
        scaled = scaling.populations(data)
        training, held_out = self._split(scaled, root)
        if self._path_name == "shrinking":
            ShrinkingPath.check_source(scaled.samples[0])
        masses = self._masses(data)
        coupled = self._coupled(training, masses, root)
        watched = None if held_out is None else self._coupled(held_out, masses, root)
        knots = (data.times.double() - data.times[0].double()) / (data.times[-1] - data.times[0]).double()
        if self._path_name == "metric":
            path: ConditionalPath = self._metric_path(
                knots, training, coupled, root, progress=progress, checkpoint=checkpoint, resume=resume
            )
        else:
            path = make_path(self._path_name, knots, self.sigma, self.bend)
        path = path.to(data.device)
        histories = []
        for k in range(self.reflow + 1):
            seed_k = root if k == 0 else derive_seed(root, "reflow", k)
            process = self._process(scaling, data.times, seed_k).to(data.device)
            objective = self._objective(process, path, coupled, watched)
            file = checkpoint if checkpoint is None or k == 0 else f"{checkpoint}.{k}"
            self._train(objective, data, process, seed_k, progress=progress, checkpoint=file, resume=resume)
            histories.append(self.history_.assign(step=self.history_["step"] + k * self.steps))
            if self._interrupted:
                break
            if k < self.reflow:
                coupled = self._own_pairs(training)
                watched = None if held_out is None else self._own_pairs(held_out)
        self.seed_ = root
        self.history_ = pd.concat(histories, ignore_index=True)
        return self

    @property
    def _path_name(self) -> PathName:
        return self.path or ("cubic" if self.coupling == "spline-ot" else "linear")

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        check_coupling(self.coupling, get_args(CouplingOption), match=self.match, match_weight=self.match_weight)
        if not self.sigma >= 0:
            raise ValueError(f"sigma must be zero or positive; got {self.sigma}")
        if self.path is not None and self.path not in get_args(PathName):
            raise ValueError(f"path must be None or one of {get_args(PathName)}; got {self.path!r}")
        if not 0 <= self.bend <= 1:
            raise ValueError(f"bend must lie in [0, 1], from straight lines to the natural spline; got {self.bend}")
        if self._path_name == "metric":
            get_metric(self.metric)
            if self.reflow:
                raise ValueError("reflow makes paths straight, which a metric path is not to be; leave one of them out")
        if self.relaxation is not None:
            self._check_relaxation(self.relaxation)
        if self.reflow < 0:
            raise ValueError(f"reflow must be zero or a number of rounds; got {self.reflow}")
        if self._path_name == "shrinking" and not self.sigma < 1:
            raise ValueError(f"the sigma of a shrinking path is what is left of unit noise, below 1; got {self.sigma}")
        if self._path_name == "shrinking" and (self.coupling != "independent" or self.reflow):
            raise ValueError(
                "a shrinking path makes its own noise, which nothing can be joined to; use coupling='independent' "
                "and reflow=0, or another path"
            )
        self._check_training()

    def _check_relaxation(self, price: float) -> None:
        if not 0 < price < math.inf:
            raise ValueError(f"relaxation must be a positive price, or None; got {price}")
        if self.coupling not in ("ot", "spline-ot"):
            raise ValueError(f"relaxation needs coupling 'ot' or 'spline-ot'; got {self.coupling!r}")
        for name in ("block", "match", "reflow"):
            if getattr(self, name):
                raise ValueError(f"growing paths are chained from whole plans by the cost alone; leave {name} out")

    @property
    def grows(self) -> bool:
        """Whether cells multiply and die."""
        return self.relaxation is not None

    @property
    def _how_to_grow(self) -> str:
        return "relaxation=, the price of mass that appears or vanishes"

    @property
    def _how_not_to_grow(self) -> str:
        return "relaxation=None"

    def _process(self, scaling: Scaling, times: Tensor, seed: int) -> VelocityField:
        """Return the process of networks that have not learned anything, of the type of the scaling."""

        def network(name: str, width: int) -> VelocityNetwork:
            return VelocityNetwork(
                len(scaling.shift),
                tuple(self.hidden),
                self.activation,
                out_features=width,
                seed=derive_seed(seed, name),
            ).to(scaling.shift.dtype)

        velocity = network("network", len(scaling.shift))
        if not self.grows:
            return VelocityField(velocity, scaling, times)
        return GrowingVelocityField(velocity, scaling, times, network("growth", 1))

    def _objective(
        self, process: VelocityField, path: ConditionalPath, coupled: CoupledPaths, watched: CoupledPaths | None
    ) -> FlowMatchingObjective:
        options: dict[str, Any] = {"validation": watched, "batch_size": self.batch_size}
        if isinstance(process, GrowingVelocityField) and isinstance(coupled, GrowingPaths):
            return GrowingObjective(VelocityAndGrowth(process.network, process.rate), path, coupled, **options)
        return FlowMatchingObjective(process.network, path, coupled, **options)

    def _coupled(self, snapshots: Snapshots, masses: Tensor, seed: int) -> CoupledPaths:
        """Draw the coupled tuples of some cells of populations with these masses."""
        root = derive_seed(seed, "coupling")
        if self.relaxation is not None:
            options: dict[str, Any] = {"regularisation": self.regularisation, "cost": self.cost, "seed": root}
            return GrowingPaths(snapshots, *couple_growing(snapshots, self.relaxation, **options), masses)
        name = "ot" if self.coupling == "spline-ot" else self.coupling
        table = couple(
            snapshots,
            name,
            block=self.block,
            regularisation=self.regularisation,
            cost=self.cost,
            match=self.match,
            match_weight=self.match_weight,
            seed=root,
        )
        return CoupledPaths(snapshots, table)

    def _metric_path(
        self,
        knots: Tensor,
        scaled: Snapshots,
        coupled: CoupledPaths,
        seed: int,
        *,
        progress: bool,
        checkpoint: str | Path | None,
        resume: bool,
    ) -> BentPath:
        """Learn how paths bend towards the data."""
        dim, metric = scaled.dim, get_metric(self.metric)
        network = VelocityNetwork(
            dim,
            hidden=tuple(self.hidden),
            activation=self.activation,
            condition_dim=dim,
            seed=derive_seed(seed, "path"),
        ).to(device=scaled.device, dtype=scaled.dtype)
        base: SplineKind = "cubic" if self.coupling == "spline-ot" else "linear"
        path = BentPath(knots, self.sigma, network, base=base, bend=self.bend).to(scaled.device)
        near = scaled.subsample(_METRIC_CELLS, seed=derive_seed(seed, "metric"))
        metrics = [
            metric.fit(torch.cat([first, second]), seed=derive_seed(seed, "metric", k))
            for k, (first, second) in enumerate(pairwise(near.samples))
        ]
        fit(
            MetricObjective(path, metrics, coupled, batch_size=self.batch_size),
            steps=self.steps,
            lr=self.lr,
            clip=self.clip,
            ema=self.ema,
            seed=derive_seed(seed, "path"),
            progress=progress,
            checkpoint=None if checkpoint is None else f"{checkpoint}.path",
            resume=resume,
            fingerprint=self._identity(scaled, derive_seed(seed, "path")),
        )
        network.eval().requires_grad_(False)
        return path

    def _own_pairs(self, scaled: Snapshots) -> CoupledPaths:
        """Return the first population with where the flow takes each of its cells, in scaled units."""
        process = self.process_
        start = scaled.samples[0] * process.scale + process.shift
        paths = sample(process, start, self.times_, solver="heun")
        made = [(paths.values[:, k] - process.shift) / process.scale for k in range(len(self.times_))]
        weights = None if scaled.weights is None else [scaled.weights[0]] * len(made)
        own = Snapshots(scaled.times, made, weights)
        return CoupledPaths(own, couple(own, "paired"))

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._stored(**dict(self.process_.named_children()))

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        process = self._process(Scaling(tensors["shift"], tensors["scale"]), tensors["times"], 0)
        process.to(tensors["initial"].device)
        self._take_back(process, tensors, extra, **dict(process.named_children()))
