"""What the estimators of stable SDEs share: how series become controls, the training, the latent process, the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from gendyn.data import ControlMethod, Paths
from gendyn.data.checks import warn_user
from gendyn.randomness import Seed, derive_seed
from gendyn.sampling import sample
from gendyn.sde.control_channels import ControlChannel, ControlChannels
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import SeriesEstimator, under
from gendyn.sde.series_inputs import BLOCK, Inputs
from gendyn.sde.stable_design import NoiseSharing, Parametrisation, stable_design
from gendyn.sde.stable_field import StableField
from gendyn.sde.stable_model import latent_paths
from gendyn.sde.stable_process import StableProcess
from gendyn.sde.step_times import step_times

__all__ = ["StableEstimator"]

_FAR = 1e3
Solver = Literal["auto", "euler_maruyama", "milstein", "log_euler"]


class StableEstimator(SeriesEstimator):
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
    dropout: float

    process_: StableProcess

    @abstractmethod
    def _head(self, seed: int) -> nn.Module:
        """Return what reads latent paths."""

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        design = stable_design(self.kind, self.parametrisation, self.noise_sharing)
        ControlChannels(self.control, self.channels, self.degree)
        self._check_counts("hidden", "layers", "n_samples")
        if self.solver not in get_args(Solver):
            raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}; got {self.solver!r}")
        if self.solver == "log_euler" and not design.on_logarithm:
            raise ValueError(
                "solver='log_euler' steps on the logarithm of a state that keeps its sign; take it with "
                "kind='geometric' and parametrisation='exact', and 'auto' with every other"
            )
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step must be positive, or None for the observation times; got {self.step}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got {self.dropout}")
        self._check_training()

    def _count(self, n: int | None) -> int:
        """Return the number of members that is asked for."""
        count = self.n_samples if n is None else n
        if count < 1:
            raise ValueError(f"n must be at least 1; got {count}")
        return count

    # --- from series to networks ---------------------------------------------------------------------------

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

    def _prepare(self, series: Series, static: Any, root: int) -> tuple[Series, Tensor | None]:
        """Fit scalings on what is trained on, build the networks, and return scaled series and covariates."""
        scaled, known = self._scale(series, static)
        grid, _ = step_times(scaled.times, scaled.lengths, longest=self.step)
        self._controls = ControlChannels(self.control, self.channels, self.degree).fit(scaled, grid)
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

    def _scaled(self, series: Series) -> Series:
        """Return series as the networks see them."""
        return self.scaling_.transform(series)

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

    def _finish(self, inputs: Inputs) -> None:
        """Set the process, and say so if its paths run away, its noise has died, or steps are long for its drift."""
        field: StableField = self._model["field"]  # type: ignore[assignment]
        like = inputs.controls
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        silent = Series(grid[None], like.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        self.process_ = StableProcess(field, grid, self._controls(silent, grid))
        some = inputs.rows(slice(0, BLOCK))
        paths = self._latent(some, self.seed_, 1)
        far = float((paths.abs().amax((2, 3)) > _FAR).double().mean())
        if far > 0.01:
            warn_user(f"{100 * far:.0f} % of latent paths leave |z| < {_FAR:g}; take a smaller lr or step")
        if field.design.noise != "none" and not self._any_noise(some, paths[0]):
            warn_user(
                "the noise has died: the diffusion is zero at every step, and paths of one series do not differ; take "
                "another seed, a smaller lr, or parametrisation='exact', of which it cannot"
            )
        if not field.design.bounded and not field.design.geometric:
            reach = float(some.grid.diff(dim=-1).max()) * field.bounds().lipschitz
            if reach > 1:
                warn_user(f"the longest step times the Lipschitz bound of the drift is {reach:.2g} > 1; shorten step")

    @torch.no_grad()
    def _any_noise(self, inputs: Inputs, paths: Tensor) -> bool:
        """Return whether the diffusion is not zero along paths ``(B, M, h)``."""
        process = StableProcess(self._model["field"], inputs.grid, inputs.controls)  # type: ignore[arg-type]
        shared = inputs.grid.ndim == 1
        for k in range(paths.shape[1]):
            t = inputs.grid[k] if shared else inputs.grid[:, k, None]
            if bool((process.diffusion(t.to(paths), paths[:, k]) != 0).any()):
                return True
        return False

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
        ValueError
            If ``n`` is below 1, or series or covariates are not like those of the fit.
        """
        self._check_fitted()
        if n is not None and n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
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
        scaled = self._scaled(series)
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
        scalings, about = self._scalings()
        tensors |= {f"model.{key}": value for key, value in self._model.state_dict().items()}
        tensors |= {f"control.{key}": value for key, value in self._controls.state_dict().items()}
        return tensors | scalings, extra | about

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        control = ControlChannels(self.control, self.channels, self.degree)
        self._controls = control.with_state(under(tensors, "control."))
        self._restore_more(tensors, extra)
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        silent = Series(grid[None], self.scaling_.mean.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        field: StableField = self._model["field"]  # type: ignore[assignment]
        self.process_ = StableProcess(field, grid, self._controls(silent, grid))

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
