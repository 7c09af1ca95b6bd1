"""What the estimators of stable SDEs share: how series become controls, the training, the latent process, the file."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from gendyn.data import ControlMethod, Paths
from gendyn.data.checks import warn_user
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sde.control_channels import ControlChannel, ControlChannels
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_inputs import BLOCK, Inputs
from gendyn.sde.series_scaling import SeriesScaling, StaticScaling, read_static
from gendyn.sde.stable_design import NoiseSharing, Parametrisation, stable_design
from gendyn.sde.stable_field import StableField
from gendyn.sde.stable_model import latent_paths
from gendyn.sde.stable_process import StableProcess
from gendyn.sde.step_times import step_times
from gendyn.training import Estimator, Objective, TrainingDiverged, fit

__all__ = ["StableEstimator", "under"]

_FAR = 1e3
Solver = Literal["auto", "euler_maruyama", "milstein", "log_euler"]


class StableEstimator(Estimator):
    """Base of the estimators; see the module's docstring."""

    kind: str
    hidden: int
    layers: int
    control: ControlMethod
    channels: Sequence[ControlChannel]
    degree: int | None
    step: float | None
    parametrisation: Parametrisation
    noise_sharing: NoiseSharing
    solver: Solver
    n_samples: int
    residual: bool
    epochs: int
    batch_size: int | None
    lr: float
    weight_decay: float
    clip: float | None
    dropout: float
    validation_fraction: float
    patience: int | None

    process_: StableProcess
    scaling_: SeriesScaling

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Set the hyper-parameters that a constructor was given, and nothing else."""
        for name in self._defaults():
            setattr(self, name, given[name])

    @abstractmethod
    def _head(self, seed: int) -> nn.Module:
        """Return what reads latent paths."""

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        stable_design(self.kind, self.parametrisation, self.noise_sharing)
        ControlChannels(self.control, self.channels, self.degree)
        for name in ("hidden", "layers", "n_samples", "epochs"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.solver not in get_args(Solver):
            raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}; got {self.solver!r}")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step must be positive, or None for the observation times; got {self.step}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got {self.dropout}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0; got {self.weight_decay}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1; got {self.validation_fraction}")

    # --- from series to networks ---------------------------------------------------------------------------

    def _read(self, data: Any, y: Any = None, times: Any = None, mask: Any = None) -> Series:
        """Return series for a fitted model."""
        self._check_fitted()
        series = read_series(data, y, times=times, mask=mask)
        if series.dim != self._dim:
            raise ValueError(f"the model was fitted on {self._dim} channels; the series have {series.dim}")
        weight = self.process_.controls
        return series.to(weight.device, weight.dtype)

    def _read_held(self, given: Any, like: Series) -> tuple[Series, Any]:
        """Return the series that training is stopped by, and their static covariates as they were given."""
        part = dict(given) if isinstance(given, Mapping) else {"data": given}
        unknown = set(part) - {"data", "times", "mask", "static"}
        if unknown or "data" not in part:
            raise ValueError(f"validation holds data, times, mask and static; got {', '.join(sorted(part))}")
        static = part.pop("static", None)
        held = read_series(**part).to(like.values.device, like.values.dtype)
        if held.dim != like.dim:
            raise ValueError(f"validation must have the {like.dim} channels of the series; got {held.dim}")
        return held, static

    def _divide(self, n: int, root: int) -> tuple[Tensor, Tensor]:
        """Return the rows of series to learn from and of those to stop by, at random."""
        if n < 2:
            raise ValueError("one series cannot be divided; give validation=, or patience=None")
        order = torch.randperm(n, generator=torch_generator(root, "validation split"))
        out = min(max(1, round(self.validation_fraction * n)), n - 1)
        return order[out:].sort().values, order[:out].sort().values

    def _static_of(self, static: Any, n: int) -> Tensor | None:
        """Return scaled static covariates for a fitted model."""
        if (static is None) != (self._static is None):
            told = "without" if self._static is None else "with"
            raise ValueError(f"the model was fitted {told} static covariates; predict {told} them too")
        if static is None or self._static is None:
            return None
        values = read_static(static, n).to(self._static.mean)
        if values.shape[1] != len(self._static.mean):
            raise ValueError(
                f"the model was fitted on {len(self._static.mean)} static covariates; got {values.shape[1]}"
            )
        return self._static.transform(values)

    def _prepare(self, series: Series, static: Any, root: int) -> tuple[Series, Tensor | None]:
        """Fit scalings on what is trained on, build the networks, and return scaled series and covariates."""
        self._dim, self.names_ = series.dim, series.names
        self.scaling_ = SeriesScaling.fit(series)
        scaled = self.scaling_.transform(series)
        grid, _ = step_times(scaled.times, scaled.lengths, longest=self.step)
        self._controls = ControlChannels(self.control, self.channels, self.degree).fit(scaled, grid)
        self._static = None
        known = None
        if static is not None:
            values = read_static(static, len(series)).to(series.values)
            self._static = StaticScaling.fit(values)
            known = self._static.transform(values)
        self._build(root, series.values)
        return scaled, known

    def _build(self, root: int, like: Tensor) -> None:
        """Make networks of the right sizes."""
        width = 0 if self._static is None else self._static.width
        field = StableField(
            self._controls.width(self._dim),
            self.hidden,
            self.layers,
            design=stable_design(self.kind, self.parametrisation, self.noise_sharing),
            static_dim=width,
            seed=derive_seed(root, "field"),
        )
        self._model = nn.ModuleDict({"field": field, "head": self._head(derive_seed(root, "head"))}).to(like)

    def _inputs(self, scaled: Series, static: Tensor | None, wanted: Tensor | None = None) -> Inputs:
        """Return grids and controls of scaled series, with wanted times in scaled units."""
        grid, places = step_times(scaled.times, scaled.lengths, longest=self.step, wanted=wanted)
        places = None if places is None else places.to(scaled.values.device)
        return Inputs(grid, self._controls(scaled, grid), static, None, places)

    def _latent(self, inputs: Inputs, seed: int, n_samples: int, *, learning: bool = False) -> Tensor:
        """Return latent paths ``(S, B, M, h)``."""
        field: StableField = self._model["field"]  # type: ignore[assignment]
        return latent_paths(
            field,
            inputs.grid,
            inputs.controls,
            inputs.static,
            seed=seed,
            n_samples=n_samples,
            gradient="backprop" if learning else "none",
            solver=self.solver,
        )

    # --- training ------------------------------------------------------------------------------------------

    def _batch(self, n: int) -> int:
        """Return the batch size: by default 16, doubled while there are two batches, at most 128."""
        if self.batch_size is not None:
            return min(self.batch_size, n)
        size = 16
        while 2 * size <= min(n / 2, 128):
            size *= 2
        return min(size, n)

    def _train(
        self,
        objective: Objective,
        identity: str,
        *,
        n: int,
        watched: bool,
        progress: bool,
        checkpoint: str | Path | None,
        resume: bool,
    ) -> None:
        """Train; with early stopping keep the best weights, which may be those it began with."""
        per_epoch = math.ceil(n / self._batch(n))
        validate: Callable[[], float] = objective.validation_loss  # type: ignore[attr-defined]
        module = objective.module
        initial = {name: value.clone() for name, value in module.state_dict().items()}
        before = validate() if watched and self.patience is not None else math.inf
        try:
            result = fit(
                objective,
                steps=self.epochs * per_epoch,
                lr=self.lr,
                optimizer="adamw" if self.weight_decay else "adam",
                weight_decay=self.weight_decay,
                clip=self.clip,
                record_every=per_epoch,
                validate_every=per_epoch if watched else None,
                patience=self.patience if watched else None,
                seed=self.seed_,
                progress=progress,
                checkpoint=checkpoint,
                resume=resume,
                fingerprint=identity,
            )
        except TrainingDiverged as error:
            self.history_ = error.history
            raise
        finally:
            module.eval().requires_grad_(False)
        self.history_ = result.history
        if not result.history["validation"].min() < before and math.isfinite(before):
            module.load_state_dict(initial)

    def _finish(self, inputs: Inputs) -> None:
        """Set the process, and say so if its paths run away or steps are long for its drift."""
        field: StableField = self._model["field"]  # type: ignore[assignment]
        like = inputs.controls
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        silent = Series(grid[None], like.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        self.process_ = StableProcess(field, grid, self._controls(silent, grid))
        some = inputs.rows(slice(0, BLOCK))
        far = float((self._latent(some, self.seed_, 1).abs().amax((2, 3)) > _FAR).double().mean())
        if far > 0.01:
            warn_user(f"{100 * far:.0f} % of latent paths leave |z| < {_FAR:g}; take a smaller lr or step")
        if not field.design.bounded and not field.design.geometric:
            reach = float(some.grid.diff(dim=-1).max()) * field.bounds().lipschitz
            if reach > 1:
                warn_user(f"the longest step times the Lipschitz bound of the drift is {reach:.2g} > 1; shorten step")

    # --- the latent process --------------------------------------------------------------------------------

    def sample(
        self,
        x0: Any = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        static: Any = None,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the latent process.

        Parameters
        ----------
        x0
            Series that drive it; by default one that was never observed, of the longest trained span.
        times
            Increasing times ``(T,)``, in the unit of the data, the first of which is that of the series; by default the
            solver's.
        n
            Paths of each series, those of the first series first; by default 1.
        static
            Static covariates of the series, of a model with such; by default their means.
        seed
            Of the noise.
        progress
            Show progress.
        **options
            Further options of :func:`gendyn.sample`.

        Returns
        -------
        Paths
            Latent paths, of ``hidden`` features.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        field, like = self.process_.field, self.process_.controls
        if x0 is None:
            span = torch.tensor([[0.0, self.scaling_.unit]], dtype=torch.float64)
            series = Series(span, like.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        else:
            series = self._read(x0)
        known = None
        if self._static is not None:
            unknown = torch.full((len(series), len(self._static.mean)), torch.nan) if static is None else static
            known = self._static_of(unknown, len(series))
        scaled = self.scaling_.transform(series)
        if times is None:
            grid, _ = step_times(scaled.times, scaled.lengths, longest=self.step)
        else:
            grid = self.scaling_.clock(torch.as_tensor(times, dtype=torch.float64), series)
        count = 1 if n is None else n
        rows = torch.arange(len(series)).repeat_interleave(count)
        controls = self._controls(scaled, grid)
        grid = grid if grid.ndim == 1 else grid[rows]
        start = field.begin(controls[:, 0], known)[rows]
        options = {"substeps": 1, "solver": self.solver} | options
        found = sample(StableProcess(field, grid, controls[rows]), start, grid, seed=seed, progress=progress, **options)
        if times is None:
            clock = grid.expand(len(rows), -1) * self.scaling_.unit + series.times[rows, :1]
        else:
            clock = torch.as_tensor(times, dtype=torch.float64).expand(len(rows), -1)
        shared = bool((clock == clock[0]).all())
        return Paths.of_checked(clock[0] if shared else clock, found.values, info=found.info)

    # --- the file ------------------------------------------------------------------------------------------

    def _more_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a subclass keeps besides."""
        return {}, {}

    def _restore_more(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        """Put back what :meth:`_more_state` gave."""

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._more_state()
        parts: dict[str, Any] = {"model": self._model, "scaling": self.scaling_, "control": self._controls}
        if self._static is not None:
            parts["static"] = self._static
        for name, part in parts.items():
            tensors |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        return tensors, extra | {"dim": self._dim, "names": self.names_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._dim = int(extra["dim"])
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        self.scaling_ = SeriesScaling.from_state(under(tensors, "scaling."))
        control = ControlChannels(self.control, self.channels, self.degree)
        self._controls = control.with_state(under(tensors, "control."))
        static = under(tensors, "static.")
        self._static = StaticScaling.from_state(static) if static else None
        self._restore_more(tensors, extra)
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        silent = Series(grid[None], self.scaling_.mean.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        field: StableField = self._model["field"]  # type: ignore[assignment]
        self.process_ = StableProcess(field, grid, self._controls(silent, grid))

    def _seed(self, seed: Seed) -> int:
        """Take the root of all randomness of a fit."""
        self.seed_ = as_seed(seed)
        return self.seed_

    @abstractmethod
    def fit(
        self,
        data: Any,
        y: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        static: Any = None,
        validation: Any = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from series; see the subclass."""


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it.

    Examples
    --------
    >>> under({"a.x": torch.zeros(1), "b": torch.ones(1)}, "a.")
    {'x': tensor([0.])}
    """
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
