r"""Stochastic interpolants between populations, or from noise to data.

Given coupled ends and a schedule, :math:`x_t = \alpha x_0 + \beta x_1 + \gamma z` has at every time a law
:math:`\rho_t` with :math:`\partial_t \rho_t + \nabla\cdot(b\,\rho_t) = 0`. Networks learn its fields by regression, and
whoever has velocity b and score s has a flow and, for every :math:`\epsilon(t) \ge 0`, a diffusion forward and
one backward, all with these marginals (Albergo, Boffi and Vanden-Eijnden 2023). An error of the velocity that the flow
would carry to the end is repaired by a diffusion:
:math:`\mathrm{KL}(\rho_1 \Vert \hat\rho_1) \le \frac{1}{4\epsilon}\int E\lvert \hat b_F - b_F\rvert^2 dt`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn.coupling import EntropicCoupling, ExactCoupling
from gendyn.coupling.cost import Cost
from gendyn.data import Paths, Scaling, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants.condition import ConditionEncoder
from gendyn.interpolants.coupled_paths import RelaxedCoupling, check_coupling, couple
from gendyn.interpolants.ends import DrawEnds, HeldEnds, ends_from_noise, ends_of_itself, ends_of_pairs
from gendyn.interpolants.epsilon import Epsilon, EpsilonName, get_epsilon
from gendyn.interpolants.fields import FieldName, InterpolantFields, check_fields, default_fields
from gendyn.interpolants.interpolant_objective import InterpolantObjective, ScoreWeight
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.interpolants.population_model import PopulationModel
from gendyn.interpolants.schedule import Schedule, get_schedule
from gendyn.interpolants.time_sampler import get_time_sampler
from gendyn.nn import EnergyNetwork, VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import flow_log_prob, sample

__all__ = ["StochasticInterpolant"]

CouplingOption = Literal["independent", "ot", "sinkhorn", "paired"]
Base = Callable[[Tensor], Tensor] | torch.distributions.Distribution

_EXACT_DIVERGENCE = 16
"""Features up to which a divergence is exact by default."""


class StochasticInterpolant(PopulationModel):
    r"""Learn velocity and score of an interpolant; sample by its flow or by a diffusion.

    With a two-sided schedule the data are populations at two times or more, and each gap between them has an
    interpolant of its own. With a one-sided schedule the data are one population, which is generated from Gaussian
    noise over times 0 to 1. With ``"mirror"`` they are one population, whose diffusion resamples it.

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
        by default ``"ot"``, and ``"independent"`` from noise to data with a condition. Noise is joined to data within
        each label alone. Relaxed couplings of two populations as for :class:`gendyn.FlowMatching`.
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

    process_: InterpolantProcess
    fields_: InterpolantFields
    scaling_: Scaling
    encoder_: ConditionEncoder | None

    def __init__(
        self,
        schedule: str | Schedule = "linear",
        gamma: str | tuple[str | float, ...] | None = None,
        *,
        coupling: CouplingOption | RelaxedCoupling | None = None,
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
            Populations at two times or more; for a one-sided or mirror schedule one population.
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
        if schedule.sides == "two-sided":
            self._check_data(data)
        else:
            _check_single(data, schedule)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        self.encoder_ = None if self.condition is None else ConditionEncoder.fit(self.condition, data)
        scaling = Scaling.fit(data, self.scale)
        scaled = data.with_samples([scaling.transform(x) for x in data.samples])
        training, held_out = self._split(scaled, root)
        knots = _knots(data, schedule)
        later = training.samples[1:] if schedule.sides == "two-sided" else training.samples
        fields = self._networks(names, schedule, knots, torch.stack([x.mean(0) for x in later]), root)
        fields = fields.to(device=data.device)
        self.scaling_ = scaling
        self.fields_ = fields
        margin = self.time_margin
        if margin is None:
            margin = 1e-4 if set(names) & {"velocity", "score"} else 0.0
        ends = self._ends(training, schedule, root)
        objective = InterpolantObjective(
            fields,
            ends if self.reuse == 1 else HeldEnds(ends, self.reuse, derive_seed(root, "held")),
            validation=None if held_out is None else self._ends(held_out, schedule, root),
            times=get_time_sampler(self.times),
            margin=margin,
            antithetic=self._antithetic(schedule, names),
            score_weight=self.score_weight,
            unconditional=0.0 if self.condition is None else self.unconditional,
            batch_size=self.batch_size,
        )
        process = InterpolantProcess(fields, scaling, knots).to(data.device)
        return self._train(objective, data, process, root, progress=progress, checkpoint=checkpoint, resume=resume)

    def sample(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        epsilon: Epsilon | EpsilonName = 0.0,
        margin: float = 0.01,
        condition: Any = None,
        guidance: float = 0.0,
        seed: Seed = 0,
        solver: str | None = None,
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        r"""Run the flow (``epsilon=0``) or a diffusion with the same marginals.

        Parameters
        ----------
        x0
            Where paths start: points ``(n, d)`` at ``times[0]``, or a population at one time. By default cells of the
            first trained population; of a one-sided schedule ``n`` draws of Gaussian noise.
        times
            Increasing times, or decreasing ones to run backward from ``x0``; by default the trained times.
        n
            Number of paths; by default as many as there are start points (1000 draws of noise).
        epsilon
            Half the squared diffusion: a number, a function of the local time such as
            :func:`~gendyn.interpolants.vanishing`, ``"bridge"`` for that of the process whose bridge the schedule is,
            or ``"path-optimal"`` (one-sided).
        margin
            Part of a gap next to its ends in which epsilon is zero, so that the flow takes out the last noise.
        condition
            One value for all paths, or one for each; of the column that the model was fitted with.
        guidance
            Weight of classifier-free guidance; zero is the conditional field itself.
        seed
            Seed of the noise and of the start points.
        solver, step
            Passed to :func:`gendyn.sample`; by default ``"heun"`` for the flow, ``"euler_maruyama"`` for a diffusion.
        extrapolate, progress, options
            As for :meth:`gendyn.FlowMatching.sample`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If no score is defined but ``epsilon`` is not zero, times are out of range, or a condition does not fit.
        """
        self._check_fitted()
        root = as_seed(seed)
        epsilon = get_epsilon(epsilon, self.fields_.schedule)
        if self.fields_.schedule.sides == "one-sided" and x0 is None:
            x0, n = self._noise(1000 if n is None else n, root, times), None
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        falls = len(grid) > 1 and bool(grid[-1] < grid[0])
        rows = n if n is not None else len(self._start(x0, times)[0])
        encoded = self._encoded(condition, guidance, rows)
        if encoded is not None and encoded.ndim == 2:
            if {"chunk", "to", "n_jobs"} & set(options):
                raise ValueError("paths with a condition of each one's own run at once; leave out chunk, to and n_jobs")
            options["chunk"] = rows
        process = InterpolantProcess(
            self.fields_,
            self.scaling_,
            self.process_.times,
            epsilon=epsilon,
            margin=margin,
            backward=falls and (callable(epsilon) or epsilon != 0),
            condition=encoded,
            guidance=guidance,
        ).to(self.process_.shift.device)
        options |= {"solver": solver or ("heun" if process.noise_type == "none" else "euler_maruyama")}
        options |= {"step": step, "progress": progress}
        if process.backward:
            return self._backward(process, x0, grid, n, root, extrapolate, **options)
        return self._simulate(process, x0, times, n, root, extrapolate, **options)

    def log_prob(
        self,
        x: Tensor,
        *,
        base: Base | None = None,
        condition: Any = None,
        guidance: float = 0.0,
        divergence: Literal["auto", "exact", "hutchinson"] = "auto",
        probes: int = 1,
        seed: Seed = 0,
        solver: str = "rk4",
        step: float | None = None,
        gradient: Literal["none", "backprop"] = "none",
    ) -> Tensor:
        r"""Return the log-density of points at the last trained time under the flow.

        .. math:: \log \hat\rho_T(x) = \log \rho_0(x_0) - \int \operatorname{div} b(t, x_t)\,dt

        Parameters
        ----------
        x
            Points ``(B, d)`` in the units of the data.
        base
            Log-density ``(B, d) -> (B,)`` of the first population, or a distribution of torch; not needed of a
            one-sided schedule, which starts from noise.
        condition, guidance
            As for :meth:`sample`.
        divergence, probes, seed
            ``"exact"``: one backward pass a feature; ``"hutchinson"``: unbiased, with random probes; ``"auto"``: exact
            up to 16 features.
        solver, step, gradient
            As for :func:`gendyn.sampling.flow_log_prob`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no base density, or an exact divergence is asked for in more than a thousand dimensions.
        """
        self._check_fitted()
        dim = self.process_.dim
        if divergence == "exact" and dim > 1000:
            raise ValueError(
                f"an exact divergence in {dim} dimensions takes {dim} passes a step; use 'hutchinson' with probes"
            )
        if divergence == "auto":
            divergence = "exact" if dim <= _EXACT_DIVERGENCE else "hutchinson"
        process = InterpolantProcess(
            self.fields_,
            self.scaling_,
            self.process_.times,
            condition=self._encoded(condition, guidance, len(x)),
            guidance=guidance,
        ).to(self.process_.shift.device)
        return flow_log_prob(
            process,
            torch.as_tensor(x).to(self.process_.shift),
            self.times_[[0, -1]],
            self._base_density(base),
            divergence=divergence,
            probes=probes,
            seed=seed,
            solver=solver,
            step=step,
            gradient=gradient,
        )

    def suggest_epsilon(
        self,
        data: Snapshots,
        grid: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
        *,
        n: int = 1000,
        seed: Seed = 0,
    ) -> pd.DataFrame:
        """Return the exact W2 between samples and validation data for each epsilon, best first.

        Parameters
        ----------
        data
            Populations that were not trained on, of which the last is compared.
        grid
            Values to try.
        n
            Points a side.
        seed
            Seed of the samples.

        Returns
        -------
        pandas.DataFrame
            Columns ``epsilon`` and ``W2``.
        """
        self._check_fitted()
        root = as_seed(seed)
        truth = data.subsample(n, seed=derive_seed(root, "truth")).samples[-1]
        first = self.fields_.schedule.sides == "one-sided" or len(data) == 1
        start = None if first else data.only([float(data.times[0])])
        times = None if first else [float(data.times[0]), float(data.times[-1])]
        rows = []
        for epsilon in grid:
            made = self.sample(start, times, n=n, epsilon=epsilon, seed=root).values[:, -1]
            rows.append({"epsilon": float(epsilon), "W2": wasserstein_value(truth, made, p=2)})
        return pd.DataFrame(rows).sort_values("W2", ignore_index=True)

    def score(self, data: Snapshots, *, max_cells: int = 1000, seed: Seed = 0) -> float:
        """Return minus the mean exact W1 between predicted and observed populations, in units of the scaled data.

        As :meth:`gendyn.FlowMatching.score`; a model from noise is compared at its end, a mirror after a diffusion of
        unit epsilon.
        """
        self._check_fitted()
        if self.fields_.schedule.sides == "two-sided":
            return super().score(data, max_cells=max_cells, seed=seed)
        root = as_seed(seed)
        truth = data.subsample(max_cells, seed=derive_seed(root, "score")).samples[-1]
        epsilon = 1.0 if self.fields_.schedule.sides == "mirror" else 0.0
        made = self.sample(n=len(truth), times=[0.0, 1.0], epsilon=epsilon, seed=root).values[:, -1]
        return -wasserstein_value(self.scaling_.transform(truth), self.scaling_.transform(made))

    def _check_hyper_parameters(self) -> tuple[Schedule, tuple[FieldName, ...]]:
        """Return schedule and fields, or raise a ValueError for the first hyper-parameter that is out of range."""
        schedule = get_schedule(self.schedule, self.gamma)
        names = default_fields(schedule) if self.fields is None else tuple(self.fields)
        check_fields(names, schedule)
        coupling = self.coupling or "ot"
        check_coupling(coupling, get_args(CouplingOption), match=self.match, match_weight=self.match_weight)
        if schedule.sides != "two-sided" and (coupling == "paired" or not isinstance(coupling, str)):
            raise ValueError(f"coupling {coupling!r} joins two populations; {schedule} has one")
        if schedule.sides != "two-sided" and self.match is not None:
            raise ValueError(
                f"match={self.match!r} joins two populations; {schedule} has one: give condition= to join noise to "
                "data within each label"
            )
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

    def _antithetic(self, schedule: Schedule, names: Sequence[str]) -> bool:
        if self.antithetic != "auto":
            return bool(self.antithetic)
        return schedule.has_score and ("score" in names or ("velocity" in names and schedule.sides != "one-sided"))

    def _networks(
        self, names: Sequence[str], schedule: Schedule, knots: Tensor, mean_target: Tensor, seed: int
    ) -> InterpolantFields:
        width = 0 if self.encoder_ is None else self.encoder_.width
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
        coupling = self.coupling or ("ot" if schedule.sides == "two-sided" or self.encoder_ is None else "independent")
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
        known = None if conditions is None else conditions[0]
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

    def _encoded(self, condition: Any, guidance: float, rows: int) -> Tensor | None:
        """Return the encoded condition ``(c,)`` or ``(rows, c)``; zeros where a model that takes one is given none."""
        if self.encoder_ is None:
            if condition is not None or guidance != 0:
                raise ValueError("this model takes no condition: fit it with condition= the name of a column of obs")
            return None
        if condition is None:
            if self.unconditional == 0:
                raise ValueError(f"this model needs a condition: a value of {self.encoder_.column!r}")
            encoded = torch.zeros(self.encoder_.width)
        else:
            encoded = self.encoder_(condition, rows=rows)
        if guidance != 0 and self.unconditional == 0:
            raise ValueError("guidance needs a model that was fitted with unconditional above 0")
        return encoded.to(self.process_.shift)

    def _noise(self, n: int, seed: int, times: Any) -> Tensor:
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        if times is not None and float(torch.as_tensor(times, dtype=torch.float64).reshape(-1)[0]) != 0.0:
            raise ValueError("a model from noise starts at time 0; begin times there, or give x0")
        shift = self.process_.shift
        z = torch.randn(n, len(shift), generator=torch_generator(seed, "noise"), dtype=shift.dtype).to(shift.device)
        return self.scaling_.inverse(z)

    def _base_density(self, base: Base | None) -> Callable[[Tensor], Tensor]:
        if base is None and self.fields_.schedule.sides == "one-sided":
            shift, scale = self.process_.shift, self.process_.scale
            normal = torch.distributions.Normal(shift, scale.expand(len(shift)))
            return lambda x: normal.log_prob(x).sum(1)  # type: ignore[no-untyped-call]
        if base is None:
            raise ValueError(
                "the log-density of the first population is needed: give base= a function (B, d) -> (B,), or a "
                "distribution of torch"
            )
        if not isinstance(base, torch.distributions.Distribution):
            return base
        distribution = base

        def density(x: Tensor) -> Tensor:
            found: Tensor = distribution.log_prob(x)
            return found.sum(1) if found.ndim == 2 else found

        return density

    def _backward(
        self,
        process: InterpolantProcess,
        x0: Tensor | Snapshots | None,
        grid: Tensor,
        n: int | None,
        seed: int,
        extrapolate: bool,
        **options: Any,
    ) -> Paths:
        """Run a diffusion backward: forward over minus time, and the sign put back."""
        if x0 is None:
            raise ValueError("a diffusion that runs backward needs x0: points at times[0], or a population there")
        if isinstance(x0, Snapshots):
            if abs(float(x0.times[0]) - float(grid[0])) > 1e-9:
                raise ValueError(f"x0 stands at time {float(x0.times[0]):g}, but times begin at {float(grid[0]):g}")
            x0 = x0.samples[0]
        self._check_range(grid.tolist(), extrapolate)
        points = torch.as_tensor(x0) if n is None else self._resample(torch.as_tensor(x0), n, seed)
        paths = sample(process, points, -grid, seed=seed, names=self.names_, **options)
        return Paths(grid, paths.values, names=self.names_, info=paths.info)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"fields.{name}": value for name, value in self.fields_.state_dict().items()}
        tensors |= {
            "times": self.times_,
            "shift": self.process_.shift,
            "scale": self.process_.scale,
            "initial": self.initial_,
        }
        encoder = None if self.encoder_ is None else self.encoder_.to_dict()
        return tensors, {"names": self.names_, "condition": encoder}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        stored = extra["condition"]
        self.encoder_ = None if stored is None else ConditionEncoder.from_dict(stored)
        self.scaling_ = Scaling(tensors["shift"], tensors["scale"])
        schedule, names = self._check_hyper_parameters()
        fields = self._networks(names, schedule, tensors["times"], tensors["fields.mean_target"], 0)
        prefix = "fields."
        fields.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self.fields_ = fields.to(tensors["shift"].device).eval().requires_grad_(False)
        self.times_ = tensors["times"]
        self.process_ = InterpolantProcess(self.fields_, self.scaling_, self.times_)
        self.initial_ = tensors["initial"]
        self.names_ = None if extra["names"] is None else tuple(extra["names"])


def _knots(data: Snapshots, schedule: Schedule) -> Tensor:
    if schedule.sides == "two-sided":
        return data.times.to(torch.float64)
    return torch.tensor([0.0, 1.0], dtype=torch.float64, device=data.times.device)


def _check_single(data: Any, schedule: Schedule) -> None:
    if not isinstance(data, Snapshots):
        raise TypeError(
            f"fit needs gendyn.Snapshots; got {type(data).__name__}: read your data with gendyn.read_snapshots first"
        )
    if len(data) != 1:
        raise ValueError(f"{schedule} takes one population; got {len(data)} times: pick one with snapshots.only([t])")
    if data.sizes[0] < 2:
        raise ValueError(f"a population of at least 2 points is needed; got {data.sizes[0]}")
