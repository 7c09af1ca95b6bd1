r"""Flow matching along observed trajectories: irregular series in, forecasts and new series out.

Here rows of different times belong together, so nothing has to be coupled: each gap between two observations of one
series is a pair, and what was seen before is known. One network predicts the next observation from anywhere on the
bridge to it,

.. math:: \hat x_\theta(\lambda, x_\lambda, h) \approx E[x_{k+1} \mid x_\lambda, h],

and the process of :mod:`gendyn.interpolants.trajectory_process` crosses one gap after the other, with what it has made
added to what is known (Zhang, Pu, Kawamura, Loza, Bengio, Shung and Tong 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from gendyn.data import Paths, Scaling
from gendyn.interpolants.next_observation import NextObservation
from gendyn.interpolants.observation_noise import NoiseObjective, ObservationNoise
from gendyn.interpolants.observed_series import Known, ObservedSeries, check_series
from gendyn.interpolants.population_model import check_training
from gendyn.interpolants.series_labels import SeriesLabels
from gendyn.interpolants.trajectory_objective import TrajectoryObjective
from gendyn.interpolants.trajectory_process import GapProcess
from gendyn.nn import VelocityNetwork
from gendyn.population_estimator import draw_starts
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Estimator, fingerprint, fit, load_module, module_tensors

__all__ = ["TrajectoryFlowMatching"]

_KEPT_STARTS = 5000
"""First observations that a model keeps."""


class TrajectoryFlowMatching(NextObservation, Estimator):
    r"""Learn how series go on, from series observed at any times.

    Parameters
    ----------
    sigma
        Diffusion of the bridge over a gap, in scaled positions per root of the median gap; the full coefficient,
        :math:`\sigma^2 = 2\epsilon`. With zero every gap ends at the expected next observation, which is enough for
        series without noise. Above zero the next observation is drawn from its law given what is known; best about as
        large as what one step adds that could not be foreseen.
    history
        How many of the latest observations are known, the one at the start of the gap being the first. Zero: the
        position alone, which does for series without noise.
    clock
        Whether time itself is known; without it the dynamics are the same at all times, and series may be continued
        past the trained times.
    labels
        Whether the label of a path is known.
    noise_head
        Whether a second network learns, for another ``steps``, the Gaussian law of the next observation given what is
        known, see :mod:`gendyn.interpolants.observation_noise`: :meth:`predict_std` returns its standard deviations,
        and :meth:`sample` draws from it, without a path (``solver`` and ``step`` have no part). For ``sigma=0``; with
        noise on the way the law of the next observation is learned whole, of whatever shape.
    hidden, activation, scale, steps, batch_size, lr, weight_decay, clip, ema
        As for :class:`gendyn.FlowMatching`; ``batch_size`` counts gaps.
    validation_fraction, patience
        As for :class:`gendyn.FlowMatching`; whole series are kept out.

    Attributes
    ----------
    process_ : GapProcess
        The process of one gap, of median length with nothing known; ``process_.given(...)`` that of another.
    times_ : Tensor
        Times of the series with most observations, at which :meth:`sample` looks by default.
    initial_ : Tensor
        At most 5000 first observations, from which :meth:`sample` starts by default.
    names_ : tuple of str or None
        Names of the features.
    noise_ : ObservationNoise or None
        The noise head, in scaled units.

    Notes
    -----
    Features that are hidden keep their last value in what the network sees, which is told so; they have no part in the
    loss, so that a missing value is never learned.

    References
    ----------
    Zhang, Pu, Kawamura, Loza, Bengio, Shung, Tong. Trajectory flow matching with applications to clinical time series
    modeling. NeurIPS 2024.

    Examples
    --------
    >>> x = torch.rand(200, 1, generator=torch.Generator().manual_seed(0)) + 0.5
    >>> decay = Paths([0.0, 1.0, 2.0, 3.0], torch.stack([x * 0.5**k for k in range(4)], dim=1))
    >>> model = TrajectoryFlowMatching(clock=False, steps=400, hidden=(32, 32)).fit(decay, progress=False)
    >>> ends = model.sample(torch.tensor([[1.0]]), [0.0, 1.0, 2.0]).values[0, :, 0]
    >>> bool((ends - torch.tensor([1.0, 0.5, 0.25])).abs().max() < 0.1)
    True
    """

    process_: GapProcess
    times_: Tensor
    initial_: Tensor
    names_: tuple[str, ...] | None

    def __init__(
        self,
        sigma: float = 0.0,
        *,
        history: int = 1,
        clock: bool = True,
        labels: bool = False,
        noise_head: bool = False,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        scale: Literal["global", "whiten", "none"] = "global",
        steps: int = 4000,
        batch_size: int = 512,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.sigma = sigma
        self.history = history
        self.clock = clock
        self.labels = labels
        self.noise_head = noise_head
        self.hidden = hidden
        self.activation = activation
        self.scale = scale
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.ema = ema
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Paths,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from series with shared times or times of their own, whole or with holes.

        Parameters
        ----------
        data
            The series, of which at least one was observed twice.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Paths` of real values.
        ValueError
            If no series was observed twice, times fall, labels are missing, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        if not self.sigma >= 0:
            raise ValueError(f"sigma must be zero or positive; got {self.sigma}")
        if self.history < 0:
            raise ValueError(f"history must be zero or a number of observations; got {self.history}")
        if self.noise_head and self.sigma > 0:
            raise ValueError(
                f"noise_head draws observations from a Gaussian law of its own, and sigma={self.sigma} has noise on "
                "the way to them: leave one of them out"
            )
        check_training(self)
        check_series(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        series = ObservedSeries(data, scale=self.scale)
        self._known_labels = SeriesLabels.fit(data) if self.labels else SeriesLabels()
        codes = self._codes(data)
        rows = torch.arange(len(data), device=data.device)
        watching = rows[:0]
        if self.validation_fraction > 0:
            order = torch.randperm(len(data), generator=torch_generator(root, "split")).to(data.device)
            count = max(1, round(self.validation_fraction * len(data)))
            watching, rows = order[:count], order[count:]
        training, held_out = series.select(rows), series.select(watching)
        if len(training.gaps) == 0 or (len(watching) and len(held_out.gaps) == 0):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(data)} series leaves no gap to learn from or "
                "to watch; set it to zero or give more series"
            )
        network = self._network(data.dim, self._known_labels.width, derive_seed(root, "network"))
        network = network.to(device=data.device, dtype=data.dtype)
        objective = TrajectoryObjective(
            network,
            training,
            validation=held_out if len(watching) else None,
            training_labels=None if codes is None else codes[rows],
            validation_labels=None if codes is None else codes[watching],
            history=self.history,
            clock=self.clock,
            sigma=self.sigma,
            batch_size=self.batch_size,
        )
        parts = [series.values, series.seen, series.times, series.counts, *([] if codes is None else [codes])]
        identity = fingerprint(*parts, model=type(self).__name__, seed=root, **self.get_params())
        self._keep(data, series, codes, root)
        self.process_, self.noise_ = self._empty_process(network, series.scaling), None
        self.seed_ = root
        self._learn(objective, identity, progress=progress, checkpoint=checkpoint, resume=resume)
        if self.noise_head and not self._interrupted:
            self._learn_noise(data.select(rows), identity, progress=progress, checkpoint=checkpoint, resume=resume)
        return self

    def _learn_noise(
        self, data: Paths, identity: str, *, progress: bool, checkpoint: str | Path | None, resume: bool
    ) -> None:
        """Learn how far the next observation strays from the means that are learned."""
        series, means, path, row = self._one_step(data)
        context = self._gaps(data, series)[2]
        ends = (means - self.process_.shift) / self.process_.scale
        noise = self._empty_noise(derive_seed(self.seed_, "noise")).to(ends)
        start, residuals = series.values[path, row], series.values[path, row + 1] - ends
        seen = series.seen[path, row + 1]
        objective = NoiseObjective(noise, start, context, residuals, seen, batch_size=self.batch_size)
        result = fit(
            objective,
            steps=self.steps,
            lr=self.lr,
            clip=self.clip,
            ema=self.ema,
            seed=derive_seed(self.seed_, "noise"),
            progress=progress,
            checkpoint=None if checkpoint is None else f"{checkpoint}.noise",
            resume=resume,
            fingerprint=identity,
        )
        self.noise_ = noise.eval().requires_grad_(False)
        self._interrupted = result.stopped == "interrupted"

    def sample(
        self,
        x0: Tensor | Paths | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        label: Any = None,
        seed: Seed = 0,
        solver: str | None = None,
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Make series, or continue given ones, gap by gap at the asked times.

        Parameters
        ----------
        x0
            Where series start: points ``(B, d)`` at ``times[0]``; or observed series, which go on from their last
            observation with all that is known of them. By default first observations of the trained series.
        times
            Increasing times ``(T,)``, the first of which belongs to points, and comes after all observations of
            series. By default the times of the longest trained series.
        n
            Number of series; by default as many as there are starts.
        label
            One label for all, or one for each start, of a model with ``labels``; by default those of the given or kept
            series.
        seed
            Seed of the noise and of the starts.
        solver, step
            Passed to :func:`gendyn.sample` for every gap, whose local time runs from 0 to 1; by default ``"euler"`` or
            ``"euler_maruyama"`` and a fiftieth.
        extrapolate
            Allow times outside the trained range, of a model with ``clock``.
        progress
            Show a progress bar for each gap.
        **options
            Further options of :func:`gendyn.sample` for every gap, such as ``dtype``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of the trained range or do not follow the observations, shapes do not fit, or a label is
            missing or was not seen.
        """
        self._check_fitted()
        root = as_seed(seed)
        if {"chunk", "to", "n_jobs"} & set(options):
            raise ValueError("series with a past of their own run at once; leave out chunk, to and n_jobs")
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1).cpu()
        if len(grid) == 0 or bool((grid.diff() <= 0).any()):
            raise ValueError(f"times must increase strictly and hold at least one time; got {grid.tolist()}")
        known, codes = self._start(x0, grid, label)
        if n is not None:
            rows = draw_starts(len(known.values), n, root).to(known.values.device)
            known = Known(*(v[rows] for v in (known.values, known.seen, known.times, known.there)))
            codes = codes[rows] if codes is not None and codes.ndim == 2 else codes
        self._check_range(grid, extrapolate)
        made = [] if isinstance(x0, Paths) else [known.values[:, 0]]
        solver = solver or ("euler_maruyama" if self.sigma > 0 else "euler")
        options |= {"solver": solver, "step": step, "progress": progress}
        values, info = self._go_on(known, codes, grid, made, root, **options)
        return Paths(grid, values, names=self.names_, info=info)

    def _go_on(
        self, known: Known, codes: Tensor | None, grid: Tensor, made: list[Tensor], seed: int, **options: Any
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Cross one gap after the other, from what is known to all times but those already ``made``."""
        info: Mapping[str, Any] = {}
        for k in range(len(made), len(grid)):
            time = ((grid[k] - self._origin) / self._unit).to(known.times)
            gap = time - known.times[:, 0]
            if not bool((gap > 0).all()):
                raise ValueError(
                    f"times must come after the last observation of every series; {float(grid[k]):g} does not"
                )
            context = known.context(gap, history=self.history, clock=self.clock, label=codes)
            process = self.process_.given(context, gap)
            start = known.values[:, 0] * process.scale + process.shift
            if self.noise_ is not None:
                end = self._drawn(process, known.values[:, 0], context, derive_seed(seed, "observation", k))
            else:
                run = sample(process, start, [0.0, 1.0], seed=derive_seed(seed, "gap", k), save="final", **options)
                end, info = (run.values[:, -1].to(start) - process.shift) / process.scale, run.info
            made = [*made, end]
            known = known.then(end, time.expand(len(start)))
        return torch.stack(made, dim=1) * self.process_.scale + self.process_.shift, info

    def _observed(self, data: Paths) -> ObservedSeries:
        """Return series in the units of the fit."""
        self._check_fitted()
        check_series(data)
        process = self.process_
        if data.dim != process.dim:
            raise ValueError(f"the model was fitted on {process.dim} features; the data have {data.dim}")
        data = data.to(device=process.shift.device, dtype=process.shift.dtype)
        return ObservedSeries(data, Scaling(process.shift, process.scale), unit=self._unit, origin=self._origin)

    def _drawn(self, process: GapProcess, z: Tensor, context: Tensor, seed: int) -> Tensor:
        """Draw the next observation from its Gaussian law, all in scaled units."""
        generator = torch_generator(seed)
        normal = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
        with torch.no_grad():
            mean, deviation = self.noise_(z, context)  # type: ignore[misc]
            x = z * process.scale + process.shift
            expected = (process.target(x.new_zeros(()), x) - process.shift) / process.scale
        drawn: Tensor = expected + mean + deviation * normal
        return drawn

    def _start(self, x0: Tensor | Paths | None, grid: Tensor, label: Any) -> tuple[Known, Tensor | None]:
        """Return what is known where series start, and their encoded labels."""
        process = self.process_
        if isinstance(x0, Paths):
            series = self._observed(x0)
            if not bool((series.counts > 0).all()):
                raise ValueError("every series that is to go on needs at least one observation")
            path = torch.arange(len(x0), device=process.shift.device)
            return series.known(path, series.counts - 1, self.history), self._codes(x0, label)
        points = self.initial_ if x0 is None else torch.as_tensor(x0).to(process.shift)
        if points.ndim != 2 or points.shape[1] != process.dim:
            raise ValueError(f"x0 must have shape (B, {process.dim}); got {tuple(points.shape)}")
        z = ((points - process.shift) / process.scale)[:, None].expand(-1, max(self.history, 1), -1)
        first = (float(grid[0]) - self._origin) / self._unit
        times = torch.full(z.shape[:2], first, dtype=torch.float64, device=z.device)
        there = torch.zeros_like(times, dtype=torch.bool)
        there[:, 0] = True
        known = Known(z, torch.ones_like(z, dtype=torch.bool), times, there)
        if label is None and x0 is None:
            return known, self._initial_codes
        codes = self._known_labels.of_points(label, len(points))
        return known, None if codes is None else codes.to(points)

    def _codes(self, data: Paths, label: Any = None) -> Tensor | None:
        """Return encoded labels of series, or the one that is given, as the network takes them."""
        codes = self._known_labels(data, label)
        return None if codes is None else codes.to(data.values)

    def _keep(self, data: Paths, series: ObservedSeries, codes: Tensor | None, seed: int) -> None:
        """Keep starts and times, so that the model can sample by itself."""
        begun = torch.nonzero(series.counts > 0).flatten()
        order = torch.randperm(len(begun), generator=torch_generator(seed, "initial"))[:_KEPT_STARTS]
        rows = begun[order.to(begun.device)] if len(begun) > _KEPT_STARTS else begun
        self.initial_ = series.scaling.inverse(series.values[rows, 0])
        self._initial_codes = None if codes is None else codes[rows]
        longest = int(series.counts.argmax())
        self._unit, self._origin = series.unit, series.origin
        self._end = float(series.times[series.seen.any(-1)].max()) * series.unit + series.origin
        self.times_ = (series.times[longest, : int(series.counts[longest])] * series.unit + series.origin).cpu()
        self.names_ = data.names

    def _check_range(self, grid: Tensor, extrapolate: bool) -> None:
        """Refuse times outside the trained range, where the model knows the time."""
        if not self.clock or extrapolate:
            return
        slack = 1e-9 * (self._end - self._origin)
        outside = [t for t in grid.tolist() if not self._origin - slack <= t <= self._end + slack]
        if outside:
            raise ValueError(
                f"time {outside[0]:g} lies outside the trained range [{self._origin:g}, {self._end:g}]; pass "
                "extrapolate=True to go there all the same, or fit with clock=False"
            )

    def _network(self, dim: int, label_width: int, seed: int) -> VelocityNetwork:
        width = self.history * (2 * dim + 1) + 1 + int(self.clock) + label_width
        return VelocityNetwork(dim, tuple(self.hidden), self.activation, condition_dim=width, seed=seed)

    def _empty_noise(self, seed: int) -> ObservationNoise:
        process = self.process_
        width = len(process.context)
        return ObservationNoise(process.dim, tuple(self.hidden), self.activation, context_dim=width, seed=seed)

    def _empty_process(self, network: VelocityNetwork, scaling: Scaling) -> GapProcess:
        context = scaling.shift.new_zeros(network.input.condition_dim)
        return GapProcess(network, scaling, self.sigma, context, scaling.shift.new_ones(()))

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = module_tensors(self.process_.network, "network.")
        tensors |= {"times": self.times_, "shift": self.process_.shift, "scale": self.process_.scale}
        tensors["initial"] = self.initial_
        if self.noise_ is not None:
            tensors |= module_tensors(self.noise_, "noise.")
        if self._initial_codes is not None:
            tensors["initial_codes"] = self._initial_codes
        numbers = {"unit": self._unit, "origin": self._origin, "end": self._end}
        return tensors, {"names": self.names_, "label": self._known_labels.to_dict(), **numbers}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._known_labels = SeriesLabels.from_dict(extra["label"])
        scaling = Scaling(tensors["shift"], tensors["scale"])
        network = self._network(len(scaling.shift), self._known_labels.width, 0)
        network.to(dtype=tensors["initial"].dtype, device=tensors["initial"].device)
        load_module(network, tensors, "network.")
        network.eval().requires_grad_(False)
        self.process_, self.noise_ = self._empty_process(network, scaling), None
        if any(name.startswith("noise.") for name in tensors):
            noise = self._empty_noise(0).to(tensors["initial"])
            load_module(noise, tensors, "noise.")
            self.noise_ = noise.eval().requires_grad_(False)
        self.times_, self.initial_ = tensors["times"].cpu(), tensors["initial"]
        self._initial_codes = tensors.get("initial_codes")
        self._unit, self._origin, self._end = (float(extra[k]) for k in ("unit", "origin", "end"))
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
