r"""Meta flow matching: how populations move that were never seen before.

Data are pairs of populations, before and after, of many patients or wells. One network learns

.. math:: \dot X = v_\theta\bigl(t, X \mid \varphi(S), c\bigr),

where a particle's velocity depends on the whole population S that it started in. For a new population only its start
is needed (Atanackovic et al., ICLR 2025). Whether knowing the population helps must be measured: print
:func:`gendyn.evaluation.compare_populations`, which puts identity, mean shift and the field that does not know the
population beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from gendyn.data import Cohort, Paths, Scaling, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants.cohort_check import check_cohort
from gendyn.interpolants.member_encoder import MemberEncoder
from gendyn.interpolants.meta_field import MetaField, MetaProcess
from gendyn.interpolants.meta_objective import MetaObjective, PairedClouds
from gendyn.interpolants.population_model import check_training
from gendyn.nn import CloudStatistics, FourierCloud, GraphEncoder, KernelEncoder, PopulationEncoder
from gendyn.population_estimator import draw_starts
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Estimator, fingerprint, load_module, module_tensors

__all__ = ["MetaFlowMatching"]

EncoderName = Literal["kernel", "gcn", "deepsets", "stats", "rff", "one-hot", "none"]

_KEPT_CELLS = 5000


class MetaFlowMatching(Estimator):
    r"""Learn how populations move, from many of them, for those that were never seen.

    Parameters
    ----------
    encoder
        What the field knows of the start population. ``"kernel"``: mean shift and density of it around each
        particle, best in few dimensions; ``"gcn"``: graph convolutions; ``"deepsets"``; ``"stats"``: mean and
        covariance; ``"rff"``: its characteristic function. Baselines: ``"none"`` (plain flow matching over all
        populations) and ``"one-hot"`` (the number of the population; the mean of all for a new one).
    coupling
        ``"paired"`` (row i before is row i after), ``"independent"`` or ``"ot"`` within each population.
    neighbours
        k of ``"gcn"``.
    normalise
        Divide the embeddings of ``"gcn"`` and ``"deepsets"`` by their norm, which deletes scale.
    covariates
        Column of ``obs`` of the start cells that ``"gcn"`` and ``"deepsets"`` see beside positions.
    mode
        ``"joint"``, or ``"alternate"`` steps of field and encoder.
    hidden, activation, skip
        Of the field; with skips each hidden layer adds to what it was given, which deep ones need.
    scale
        As for :class:`gendyn.FlowMatching`; fitted on all training populations.
    populations, batch_size, embedded
        Populations a step, pairs of cells of each, source cells that the encoder sees.
    steps, lr, clip, ema
        As for :class:`gendyn.FlowMatching`.
    validation_fraction, patience
        Part of the populations that watch, and checks without improvement after which training stops.

    Attributes
    ----------
    process_ : MetaProcess
        The flow of the first training population; :meth:`process` gives that of any other.
    times_ : Tensor
        Start and end.

    References
    ----------
    Atanackovic, Zhang, Amos, Blanchette, Lee, Bengio, Tong, Neklyudov. Meta flow matching: integrating vector fields
    on the Wasserstein manifold. ICLR 2025.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> def member(mean):
    ...     x = torch.randn(50, 1, generator=generator) + mean
    ...     return Snapshots([0.0, 1.0], [x, mean + 0.5 * (x - mean)])
    >>> cohort = Cohort({f"p{k}": member(float(k)) for k in range(4)})
    >>> model = MetaFlowMatching("stats", coupling="paired", steps=50, hidden=(16,)).fit(cohort, progress=False)
    >>> model.predict(cohort)["p3"].times.tolist()
    [1.0]
    """

    process_: MetaProcess
    times_: Tensor
    scaling_: Scaling
    field_: MetaField

    def __init__(
        self,
        encoder: EncoderName = "kernel",
        *,
        coupling: Literal["paired", "independent", "ot"] = "ot",
        neighbours: int = 20,
        normalise: bool = True,
        covariates: str | None = None,
        mode: Literal["joint", "alternate"] = "joint",
        hidden: Sequence[int] = (256, 256, 256),
        activation: str = "selu",
        skip: bool = False,
        scale: Literal["global", "whiten", "none"] = "global",
        populations: int = 8,
        batch_size: int = 128,
        embedded: int = 300,
        steps: int = 3000,
        lr: float = 1e-3,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.coupling = coupling
        self.neighbours = neighbours
        self.normalise = normalise
        self.covariates = covariates
        self.mode = mode
        self.hidden = hidden
        self.activation = activation
        self.skip = skip
        self.scale = scale
        self.populations = populations
        self.batch_size = batch_size
        self.embedded = embedded
        self.steps = steps
        self.lr = lr
        self.clip = clip
        self.ema = ema
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Cohort,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from populations at two times each.

        Parameters
        ----------
        data
            Members at the same two times; conditions, where it has them, are an input of the field.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` is not a :class:`~gendyn.Cohort`.
        ValueError
            If members have other times, rows do not pair, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        times = self._check_cohort(data)
        root = as_seed(seed)
        members = {name: member if device is None else member.to(device=device) for name, member in data.items()}
        pooled = torch.cat([x for member in members.values() for x in member.samples])
        scaling = Scaling.fit(pooled, self.scale)
        sources = {name: scaling.transform(member.samples[0]) for name, member in members.items()}
        targets = {name: scaling.transform(member.samples[1]) for name, member in members.items()}
        self.names_ = next(iter(members.values())).names
        self._members = MemberEncoder.fit(data, self.covariates, numbered=self.encoder == "one-hot")
        deviations = torch.stack([x.var(0, correction=0) for x in sources.values()])
        self.spread_ = float(deviations.mean().sqrt()) or 1.0
        field = self._network(pooled.shape[1], root).to(pooled)
        watching = self._watching(root)
        conditions = {name: self._members.of(name, data) for name in members}

        def clouds(names: Sequence[str]) -> PairedClouds:
            seen = [c for c in (self._members.covariates(members[n]) for n in names) if c is not None]
            known = [c for c in (conditions[n] for n in names) if c is not None]
            return PairedClouds.of(
                [sources[n] for n in names],
                [targets[n] for n in names],
                seen or None,
                torch.stack(known).to(pooled) if known else None,
            )

        objective = MetaObjective(
            field,
            clouds([n for n in members if n not in watching]),
            validation=clouds(watching) if watching else None,
            coupling=self.coupling,
            populations=self.populations,
            cells=self.batch_size,
            embedded=self.embedded,
            mode=self.mode,
        )
        self.scaling_, self.times_, self.field_, self.seed_ = scaling, times, field, root
        first = next(iter(members))
        self.initial_ = members[first].samples[0][:_KEPT_CELLS].clone()
        seen = self._members.covariates(members[first])
        self.initial_covariates_ = None if seen is None else seen[:_KEPT_CELLS].clone()
        self.initial_condition_ = conditions[first]
        identity = fingerprint(
            pooled, times, model=type(self).__name__, members=list(members), seed=root, **self.get_params()
        )
        try:
            return self._learn(objective, identity, progress=progress, checkpoint=checkpoint, resume=resume)
        finally:
            self.process_ = self._first_process()

    def process(
        self, population: Snapshots | Tensor, *, condition: Any = None, member: str | None = None
    ) -> MetaProcess:
        """Return the flow of a population, given by its start.

        Parameters
        ----------
        population
            Start cells ``(n, d)``, or snapshots of which the first time is taken.
        condition
            What is done to it, as the cohort's conditions; needed if the model was fitted with them.
        member
            Its name, if it is one that the model was trained on; of use to ``"one-hot"`` alone.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If features, covariates or condition do not fit.
        """
        self._check_fitted()
        cells, covariates = self._cells(population)
        encoded = self._members(condition, member)
        return self._process(cells, covariates, encoded)

    def sample(
        self,
        x0: Snapshots | Tensor | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        condition: Any = None,
        member: str | None = None,
        seed: Seed = 0,
        solver: str = "euler",
        step: float | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run a population's flow.

        Parameters
        ----------
        x0
            The whole start population, which is also what the encoder sees; by default that of the first training
            member.
        times
            Increasing times that begin at the start; by default start and end.
        n
            Number of paths, drawn from the population; by default all its cells.
        condition, member
            As for :meth:`process`.
        seed
            Which cells are drawn.
        solver, step, progress, options
            Passed to :func:`gendyn.sample`; a step is by default a hundredth of the whole time.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are outside those of the fit, or a shape does not fit.
        """
        self._check_fitted()
        if x0 is None:
            points, process = self.initial_, self.process_
            if condition is not None or member is not None:
                process = self._process(points, self.initial_covariates_, self._members(condition, member))
        else:
            points, process = self._cells(x0)[0], self.process(x0, condition=condition, member=member)
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        low, high = self.times_.tolist()
        if len(grid) < 2 or float(grid[0]) != low or float(grid[-1]) > high * (1 + 1e-9):
            raise ValueError(f"times must begin at {low:g} and end by {high:g}; got {grid.tolist()}")
        if n is not None:
            points = points[draw_starts(len(points), n, seed).to(points.device)]
        return sample(process, points, grid, solver=solver, step=step, progress=progress, names=self.names_, **options)

    def predict(self, data: Cohort) -> Cohort:
        """Return the predicted end of every member, from its start alone.

        Parameters
        ----------
        data
            Members whose first time is the start; later times are not looked at.
        """
        self._check_fitted()
        known = data.conditions
        ends = {}
        for name, member in data.items():
            condition = None if known is None else known[name]
            paths = self.sample(member, condition=condition, member=name)
            ends[name] = Snapshots(self.times_[1:], [paths.values[:, -1]], names=self.names_)
        return Cohort(ends, known)

    def score(self, data: Cohort, *, max_cells: int = 1000, seed: Seed = 0) -> float:
        """Return minus the mean exact W1 over members between predicted and observed ends, in units of the data."""
        self._check_fitted()
        self._check_cohort(data)
        root = as_seed(seed)
        predicted = self.predict(data)
        scores = []
        for k, (name, member) in enumerate(data.items()):
            key = derive_seed(root, "score", k)
            truth = member.subsample(max_cells, seed=key).samples[1]
            made = predicted[name].subsample(max_cells, seed=key).samples[0]
            scores.append(wasserstein_value(truth, made))
        return -sum(scores) / len(scores)

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        if self.encoder not in get_args(EncoderName):
            raise ValueError(f"encoder must be one of {get_args(EncoderName)}; got {self.encoder!r}")
        if self.coupling not in ("paired", "independent", "ot"):
            raise ValueError(f"coupling must be 'paired', 'independent' or 'ot'; got {self.coupling!r}")
        if self.mode not in ("joint", "alternate"):
            raise ValueError(f"mode must be 'joint' or 'alternate'; got {self.mode!r}")
        if self.mode == "alternate" and self.encoder not in ("gcn", "deepsets", "stats"):
            raise ValueError(
                f"encoder {self.encoder!r} has nothing to train; mode 'alternate' needs gcn, deepsets or stats"
            )
        if self.covariates is not None and self.encoder not in ("gcn", "deepsets"):
            raise ValueError(f"encoder {self.encoder!r} sees no covariates; use gcn or deepsets")
        for name in ("populations", "embedded"):
            if int(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        check_training(self)

    def _check_cohort(self, data: Any) -> Tensor:
        """Return the two times of all members, or say what is wrong."""
        neighbours = self.neighbours if self.encoder == "gcn" else 0
        return check_cohort(data, paired=self.coupling == "paired", neighbours=neighbours, embedded=self.embedded)

    def _network(self, dim: int, seed: int) -> MetaField:
        """Return the untrained field with its encoder."""
        key = derive_seed(seed, "encoder")
        width = self._members.cell_width
        made: dict[str, Any] = {
            "kernel": lambda: KernelEncoder(dim, self.spread_),
            "gcn": lambda: GraphEncoder(dim, self.neighbours, covariate_dim=width, normalise=self.normalise, seed=key),
            "deepsets": lambda: GraphEncoder(dim, 0, covariate_dim=width, normalise=self.normalise, seed=key),
            "stats": lambda: CloudStatistics(dim, seed=key),
            "rff": lambda: FourierCloud(dim, self.spread_, seed=key),
        }
        encoder: PopulationEncoder | None = made[self.encoder]() if self.encoder in made else None
        return MetaField(
            dim,
            encoder,
            self._members.width,
            hidden=tuple(self.hidden),
            activation=self.activation,
            skip=self.skip,
            frequency=0.4 / self.spread_,
            seed=derive_seed(seed, "network"),
        )

    def _watching(self, seed: int) -> list[str]:
        """Return the members that only watch."""
        if self.validation_fraction == 0:
            return []
        count = max(1, round(self.validation_fraction * len(self._members.names)))
        if count >= len(self._members.names):
            raise ValueError(f"validation_fraction={self.validation_fraction} leaves no population for training")
        order = torch.randperm(len(self._members.names), generator=torch_generator(seed, "split")).tolist()
        return [self._members.names[k] for k in order[:count]]

    def _cells(self, population: Snapshots | Tensor) -> tuple[Tensor, Tensor | None]:
        """Return start cells in the units of the data, and their encoded covariates."""
        if isinstance(population, Snapshots):
            cells, covariates = population.samples[0], self._members.covariates(population)
        else:
            cells, covariates = torch.as_tensor(population), None
            if self._members.cells is not None:
                raise ValueError(
                    f"covariate {self._members.cells.column!r} of the start cells is needed: give Snapshots with obs"
                )
        if cells.ndim != 2 or cells.shape[1] != self.field_.dim:
            raise ValueError(f"start cells must have shape (n, {self.field_.dim}); got {tuple(cells.shape)}")
        return cells.to(self.scaling_.shift), covariates

    def _process(self, cells: Tensor, covariates: Tensor | None, condition: Tensor | None) -> MetaProcess:
        context = None
        if self.field_.encoder is not None:
            with torch.no_grad():
                seen = None if covariates is None else covariates[None].to(cells)
                context = self.field_.encoder.context(self.scaling_.transform(cells)[None], seen)
        known = None if condition is None else condition.to(cells)
        return MetaProcess(self.field_, self.scaling_, self.times_, context, known).to(cells.device)

    def _first_process(self) -> MetaProcess:
        return self._process(self.initial_, self.initial_covariates_, self.initial_condition_)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = module_tensors(self.field_, "field.")
        tensors |= {"times": self.times_, "shift": self.scaling_.shift, "scale": self.scaling_.scale}
        told = {"initial_covariates": self.initial_covariates_, "initial_condition": self.initial_condition_}
        tensors |= {"initial": self.initial_} | {name: value for name, value in told.items() if value is not None}
        return tensors, {"names": self.names_, "spread": self.spread_, "told": self._members.to_dict()}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        self.spread_ = float(extra["spread"])
        self._members = MemberEncoder.from_dict(extra["told"])
        self.scaling_ = Scaling(tensors["shift"], tensors["scale"])
        self.times_, self.initial_ = tensors["times"], tensors["initial"]
        self.initial_covariates_ = tensors.get("initial_covariates")
        self.initial_condition_ = tensors.get("initial_condition")
        field: nn.Module = self._network(self.initial_.shape[1], 0).to(self.initial_)
        load_module(field, tensors, "field.")
        self.field_ = field.eval().requires_grad_(False)  # type: ignore[assignment]
        self.process_ = self._first_process()
