r"""Stochastic interpolants between populations, or from noise to data.

Given coupled ends and a schedule, :math:`x_t = \alpha x_0 + \beta x_1 + \gamma z` has at every time a law
:math:`\rho_t` with :math:`\partial_t \rho_t + \nabla\cdot(b\,\rho_t) = 0`. Networks learn its fields by regression, and
whoever has velocity b and score s has a flow and, for every :math:`\epsilon(t) \ge 0`, a diffusion forward and
one backward, all with these marginals (Albergo, Boffi and Vanden-Eijnden 2023), see
:mod:`gendyn.interpolants.interpolant_model`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn.coupling import EntropicCoupling, ExactCoupling
from gendyn.coupling.cost import Cost
from gendyn.data import Scaling, Snapshots
from gendyn.interpolants.condition import ConditionEncoder
from gendyn.interpolants.coupled_paths import CouplingName, RelaxedCoupling, check_coupling, couple
from gendyn.interpolants.dependent_source import SourceOption
from gendyn.interpolants.ends import DrawEnds, HeldEnds, ends_from_noise, ends_of_itself, ends_of_pairs
from gendyn.interpolants.fields import FieldName, InterpolantFields, check_fields, default_fields
from gendyn.interpolants.interpolant_objective import InterpolantObjective, ScoreWeight
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.interpolants.restoring_model import RestoringModel
from gendyn.interpolants.schedule import Schedule, get_schedule
from gendyn.interpolants.time_sampler import get_time_sampler
from gendyn.nn import EnergyNetwork, VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator

__all__ = ["StochasticInterpolant"]


class StochasticInterpolant(RestoringModel):
    r"""Learn velocity and score of an interpolant; sample by its flow or by a diffusion.

    With a two-sided schedule the data are populations at two times or more, and each gap between them has an
    interpolant of its own. With a one-sided schedule the data are one population, which is generated from Gaussian
    noise over times 0 to 1. With ``"mirror"`` they are one population, whose diffusion resamples it. With a ``source``
    they are one population too, from whose points the first end is made: paths restore what that took away.

    Parameters
    ----------
    schedule
        Name of a schedule, see :data:`gendyn.interpolants.SCHEDULES`, or an object (which cannot be saved).
    gamma
        Amplitude of the latent noise: a name, see :data:`gendyn.interpolants.GAMMAS`, or a name and its parameter,
        such as ``("brownian", 2.0)``; by default the schedule's own. ``("bridge", 2.0, 1.0)`` is the amplitude of the
        bridge of a diffusion that falls from 2 to 1 in every gap.
    coupling
        Who is joined to whom: ``"independent"``, ``"ot"``, ``"sinkhorn"``, or ``"paired"`` for rows measured in pairs;
        by default ``"ot"`` between populations, and ``"independent"`` from noise to data. Noise is joined to data
        within each label alone, and has no score then: its flow is straighter, but there is no diffusion. Relaxed
        couplings of two populations as for :class:`gendyn.FlowMatching`.
    fields
        Which fields networks learn, see :mod:`gendyn.interpolants.fields`; by default enough for velocity and score.
    condition
        Column of the populations' ``obs`` with labels or numbers that the fields take as an input.
    unconditional
        Probability with which a condition is hidden in training; above zero allows guidance.
    times
        Where in a gap to look: ``"uniform"``, ``("logit-normal", mean, deviation)`` or ``("beta", a, b)``.
    time_margin
        How far times stay from both ends of a gap in training; ``None``: 1e-4 where a target diverges at the ends,
        else 0.
    antithetic
        Pair rows with opposite noise; ``"auto"`` where the variance of a target would diverge otherwise.
    score_weight
        Of the loss of a learned score: ``"uniform"``, or ``"gamma"``, times :math:`\gamma^2`, as bridges have it.
    energy
        Learn each field as the gradient of a scalar network.
    cost, match, match_weight
        As for :class:`gendyn.FlowMatching`. Transport between populations that ignores the labels of ``condition``
        gives each label a source of its own, and warns: match them.
    source, source_noise
        Of a two-sided schedule and one population: m and s of the first end :math:`x_0 = m(x_1) + s\zeta`, whose noise
        is fresh at every step, in the units of the data. m is ``"identity"`` or a function of points ``(B, d)`` (which
        cannot be saved); s is one number, or one for each feature. See
        :mod:`gendyn.interpolants.dependent_source`.
    observed
        Whether the fields see :math:`m(x_1)`, so that paths end in the law of the data given it.
    reuse
        Steps that pairs of noise and data serve, each with fresh times: coupling a batch costs more than a step.
    hidden, activation
        Widths of the hidden layers of each network, and the nonlinearity.
    scale, steps, batch_size, lr, weight_decay, clip, ema, block, regularisation, validation_fraction, patience
        As for :class:`gendyn.FlowMatching`.

    Attributes
    ----------
    process_ : InterpolantProcess
        The flow.
    fields_ : InterpolantFields
        Velocity and score in scaled units.

    Notes
    -----
    ``epsilon`` is half the squared diffusion, on the interpolant's own scale; bridges take ``sigma`` with
    :math:`\sigma^2 = 2\epsilon`.

    References
    ----------
    Albergo, Boffi, Vanden-Eijnden. Stochastic interpolants: a unifying framework for flows and diffusions. 2023.

    Examples
    --------
    >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, 0.5 * x + 3.0])
    >>> model = StochasticInterpolant(steps=300, hidden=(32, 32)).fit(data, progress=False)
    >>> end = model.sample(x, [0.0, 1.0], epsilon=0.5, seed=1).values[:, -1]
    >>> bool((end.mean() - 3.0).abs() < 0.3)
    True
    """

    def __init__(
        self,
        schedule: str | Schedule = "linear",
        gamma: str | tuple[str | float, ...] | None = None,
        *,
        coupling: CouplingName | RelaxedCoupling | None = None,
        fields: Sequence[FieldName] | None = None,
        condition: str | None = None,
        unconditional: float = 0.1,
        times: str | tuple[str, float, float] = "uniform",
        time_margin: float | None = None,
        antithetic: bool | Literal["auto"] = "auto",
        score_weight: ScoreWeight = "uniform",
        energy: bool = False,
        cost: Cost = "sqeuclidean",
        match: str | None = None,
        match_weight: float | None = None,
        source: SourceOption | None = None,
        source_noise: float | Sequence[float] = 0.0,
        observed: bool = False,
        reuse: int = 1,
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
        self.schedule = schedule
        self.gamma = gamma
        self.coupling = coupling
        self.fields = fields
        self.condition = condition
        self.unconditional = unconditional
        self.times = times
        self.time_margin = time_margin
        self.antithetic = antithetic
        self.score_weight = score_weight
        self.energy = energy
        self.cost = cost
        self.match = match
        self.match_weight = match_weight
        self.source = source
        self.source_noise = source_noise
        self.observed = observed
        self.reuse = reuse
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
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn the fields.

        Parameters
        ----------
        data
            Populations at two times or more; for a one-sided or mirror schedule, or with a ``source``, one population.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If the number of times does not fit the schedule, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        schedule, names = self._check_hyper_parameters()
        single = schedule.sides != "two-sided" or self.source is not None
        if single:
            _check_single(data, str(schedule) if self.source is None else "a source that is made from the data")
        else:
            self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        self.encoder_ = None if self.condition is None else ConditionEncoder.fit(self.condition, data)
        # Paths start elsewhere than the data are, and both have to be of order one.
        scaling = Scaling.fit(self._with_source(data, root), self.scale)
        scaled = scaling.populations(data)
        training, held_out = self._split(scaled, root)
        knots = torch.tensor([0.0, 1.0], dtype=torch.float64, device=data.device) if single else data.times.double()
        later = training.samples if single else training.samples[1:]
        fields = self._networks(names, schedule, knots, torch.stack([x.mean(0) for x in later]), root)
        self.scaling_ = scaling
        self.fields_ = fields.to(device=data.device)
        ends = self._ends(training, schedule, root)
        validation = None if held_out is None else self._ends(held_out, schedule, root)
        held = ends if self.reuse == 1 else HeldEnds(ends, self.reuse, derive_seed(root, "held"))
        objective = self._objective(held, validation)
        process = InterpolantProcess(fields, scaling, knots).to(data.device)
        return self._train(objective, data, process, root, progress=progress, checkpoint=checkpoint, resume=resume)

    def losses(self, data: Snapshots, *, n: int = 100_000, seed: Seed = 0) -> pd.DataFrame:
        r"""Return the loss of every learned field on populations, such as some that were not trained on.

        Parameters
        ----------
        data
            Populations as for :meth:`fit`, at the trained times.
        n
            Draws of ends, times and noise.
        seed
            Of these draws.

        Returns
        -------
        pandas.DataFrame
            Columns ``field``; ``loss``, half the mean squared error, as it was trained; and ``objective``, the same
            without the mean square of the target, :math:`E[\tfrac12 |f|^2 - f\cdot T]`. Its least value is
            :math:`-\tfrac12 \int E|f|^2 dt`; the difference of two models' is that of their errors.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the data have other features or times.
        """
        self._check_fitted()
        schedule = self.fields_.schedule
        if self._joins_populations:
            self._check_cells(data)
            if data.times.tolist() != self.times_.tolist():
                raise ValueError(f"losses need the trained times {self.times_.tolist()}; got {data.times.tolist()}")
        else:
            _check_single(data, "this model")
        root = as_seed(seed)
        scaled = self.scaling_.populations(data)
        objective = self._objective(self._ends(scaled, schedule, root), None)
        found = objective.values(objective.ends, n, torch_generator(root, "losses"))  # type: ignore[arg-type]
        return pd.DataFrame([(name, *values) for name, values in found.items()], columns=["field", "loss", "objective"])

    def _objective(self, ends: DrawEnds | HeldEnds, validation: DrawEnds | None) -> InterpolantObjective:
        """Return the regressions of the fields."""
        names, margin = tuple(self.fields_.networks), self.time_margin
        if margin is None:
            margin = 1e-4 if set(names) & {"velocity", "score"} else 0.0
        return InterpolantObjective(
            self.fields_,
            ends,
            validation=validation,
            times=get_time_sampler(self.times),
            margin=margin,
            antithetic=self._antithetic(self.fields_.schedule, names),
            score_weight=self.score_weight,
            unconditional=0.0 if self.encoder_ is None else self.unconditional,
            told=None if self.encoder_ is None else self.encoder_.width,
            batch_size=self.batch_size,
        )

    def _check_hyper_parameters(self) -> tuple[Schedule, tuple[FieldName, ...]]:
        """Return schedule and fields, or raise a ValueError for the first hyper-parameter that is out of range."""
        schedule = get_schedule(self.schedule, self.gamma)
        names = default_fields(schedule) if self.fields is None else tuple(self.fields)
        check_fields(names, schedule)
        coupling = self.coupling or "ot"
        check_coupling(coupling, get_args(CouplingName), match=self.match, match_weight=self.match_weight)
        if schedule.sides != "two-sided" and (coupling == "paired" or not isinstance(coupling, str)):
            raise ValueError(f"coupling {coupling!r} joins two populations; {schedule} has one")
        if schedule.sides != "two-sided" and self.match is not None:
            raise ValueError(
                f"match={self.match!r} joins two populations; {schedule} has one: give condition= to join noise to "
                "data within each label"
            )
        self._check_source(schedule)
        if self.reuse < 1 or (self.reuse > 1 and schedule.sides != "one-sided"):
            raise ValueError(
                "reuse must be at least 1, and above it for one-sided schedules alone (pairs of populations are drawn "
                f"once for the whole fit); got {self.reuse}"
            )
        if not 0 <= self.unconditional < 1:
            raise ValueError(f"unconditional must lie in [0, 1); got {self.unconditional}")
        if self.time_margin is not None and not 0 <= self.time_margin < 0.5:
            raise ValueError(f"time_margin must lie in [0, 0.5); got {self.time_margin}")
        if self.score_weight not in get_args(ScoreWeight):
            raise ValueError(f"score_weight must be one of {get_args(ScoreWeight)}; got {self.score_weight!r}")
        if self.antithetic not in (True, False, "auto"):
            raise ValueError(f"antithetic must be True, False or 'auto'; got {self.antithetic!r}")
        get_time_sampler(self.times)
        self._check_training()
        return schedule, names

    def _check_score(self) -> None:
        """Refuse a diffusion from noise that was joined to the data: given a data point it is not Gaussian."""
        if self.fields_.schedule.sides == "one-sided" and self.coupling not in (None, "independent"):
            raise ValueError(
                f"noise that is joined to the data (coupling={self.coupling!r}) gives no score, and so no diffusion; "
                "fit with coupling='independent', or sample the flow (epsilon=0)"
            )
        super()._check_score()

    def _antithetic(self, schedule: Schedule, names: Sequence[str]) -> bool:
        if self.antithetic != "auto":
            return bool(self.antithetic)
        return schedule.has_score and ("score" in names or ("velocity" in names and schedule.sides != "one-sided"))

    def _networks(
        self, names: Sequence[str], schedule: Schedule, knots: Tensor, mean_target: Tensor, seed: int
    ) -> InterpolantFields:
        width = 0 if self.encoder_ is None else self.encoder_.width
        width += mean_target.shape[1] if self.observed else 0
        kind = EnergyNetwork if self.energy else VelocityNetwork
        networks: dict[str, nn.Module] = {
            name: kind(
                mean_target.shape[1],
                hidden=tuple(self.hidden),
                activation=self.activation,
                condition_dim=width,
                seed=derive_seed(seed, "network", name),
            ).to(mean_target.dtype)
            for name in names
        }
        scaled = (knots - knots[0]) / (knots[-1] - knots[0])
        return InterpolantFields(networks, schedule, scaled, mean_target)

    def _ends(self, data: Snapshots, schedule: Schedule, seed: int) -> DrawEnds:
        """Return what draws coupled ends of scaled populations."""
        conditions = None if self.encoder_ is None else self.encoder_.encode(data)
        coupling = self.coupling or ("ot" if schedule.sides == "two-sided" else "independent")
        known = None if conditions is None else conditions[0]
        if self._source is not None:
            return self._ends_from_data(data, self._source, known)
        if schedule.sides == "two-sided":
            if self.encoder_ is not None and self.match is None and coupling not in ("independent", "paired"):
                warnings.warn(
                    f"transport that ignores {self.encoder_.column!r} gives each of its values a source of its own, "
                    f"and samples under a condition degrade; fit with match={self.encoder_.column!r} too",
                    UserWarning,
                    stacklevel=3,
                )
            table = couple(
                data,
                coupling,
                block=self.block,
                regularisation=self.regularisation,
                cost=self.cost,
                match=self.match,
                match_weight=self.match_weight,
                seed=derive_seed(seed, "coupling"),
            )
            return ends_of_pairs(data, table, conditions)
        if schedule.sides == "mirror":
            return ends_of_itself(data, known)
        if coupling != "independent" and self.encoder_ is not None and self.encoder_.categories is None:
            raise ValueError(
                f"coupling {coupling!r} joins noise to data within each label; {self.condition!r} holds numbers: "
                "use coupling='independent'"
            )
        if coupling == "ot":
            return ends_from_noise(data, ExactCoupling(block=self.block, cost=self.cost), known)
        if coupling == "sinkhorn":
            return ends_from_noise(data, EntropicCoupling(self.regularisation, self.cost), known)
        return ends_from_noise(data, None, known)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._stored(fields=self.fields_)
        return tensors, extra | {"condition": None if self.encoder_ is None else self.encoder_.to_dict()}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        stored = extra["condition"]
        self.encoder_ = None if stored is None else ConditionEncoder.from_dict(stored)
        self.scaling_ = Scaling(tensors["shift"], tensors["scale"])
        schedule, names = self._check_hyper_parameters()
        fields = self._networks(names, schedule, tensors["times"], tensors["fields.mean_target"], 0)
        self.fields_ = fields.to(tensors["shift"].device)
        process = InterpolantProcess(self.fields_, self.scaling_, tensors["times"])
        self._take_back(process, tensors, extra, fields=self.fields_)


def _check_single(data: Any, what: str) -> None:
    if not isinstance(data, Snapshots):
        raise TypeError(
            f"fit needs gendyn.Snapshots; got {type(data).__name__}: read your data with gendyn.read_snapshots first"
        )
    if len(data) != 1:
        raise ValueError(f"{what} takes one population; got {len(data)} times: pick one with snapshots.only([t])")
    if data.sizes[0] < 2:
        raise ValueError(f"a population of at least 2 points is needed; got {data.sizes[0]}")
