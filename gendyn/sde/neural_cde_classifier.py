r"""Classes of irregular series by a neural controlled differential equation.

.. math:: \log p(c \mid X) = (V z(T) + v)_c + \text{const}, \qquad dz = F(z)\, dX ,

see :mod:`gendyn.sde.neural_cde`. A neighbour of the stable SDEs: the same data, the same verbs, no noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gendyn.data import ControlMethod, Paths
from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sde.control_channels import ControlChannel, ControlChannels
from gendyn.sde.network_classifier import NetworkClassifier
from gendyn.sde.neural_cde import NeuralCDEField, NeuralCDEProcess
from gendyn.sde.series import Series
from gendyn.sde.series_inputs import Inputs
from gendyn.sde.step_times import step_times

__all__ = ["NeuralCDEClassifier"]

CDESolver = Literal["euler", "midpoint", "rk4"]


class NeuralCDEClassifier(NetworkClassifier):
    """Classify irregular series by a neural CDE.

    Parameters
    ----------
    hidden, inner, layers
        Features of the state; width and number of the hidden layers of the matrix ``F``.
    control
        How observations are joined: ``"linear"``, ``"hermite"`` or ``"natural"``, see
        :class:`~gendyn.data.ControlPath`. The whole series is seen, so all of them may be used.
    channels
        Channels of the control besides the values: ``"time"``, ``"intensity"``, ``"delta"``, see
        :mod:`gendyn.sde.control_channels`. Without time a series that rests does not move the state.
    step
        Longest step of the solver, where 1 is the longest series: the control then passes through the values at the
        ends of steps. ``None``: steps from observation to observation, as published.
    solver
        ``"midpoint"``, ``"euler"``, or ``"rk4"`` (not with a linear control, whose derivative jumps between steps).
    class_weight
        ``None``, ``"balanced"``, or a weight for each class.
    epochs, batch_size, lr, weight_decay, clip
        Training by Adam; by default batches of 16, doubled while there are two, at most 128.
    validation_fraction, patience
        Share of every class that is held out where no validation is given, and epochs without improvement after which
        training stops; the best weights are restored. ``patience=None`` holds out nothing, trains all epochs and keeps
        the last weights.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels, sorted.
    process_ : NeuralCDEProcess
        The process of a series that was never observed.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Kidger, Morrill, Foster, Lyons. Neural controlled differential equations for irregular time series. 2020.

    Examples
    --------
    >>> import numpy as np
    >>> t = torch.linspace(0, 6.28, 40)
    >>> x = torch.stack([torch.sin((1 + k % 2) * t + 0.1 * k) for k in range(60)])
    >>> y = np.array(["slow", "fast"] * 30)
    >>> model = NeuralCDEClassifier(hidden=8, inner=8, epochs=2, step=0.1).fit(x[:40], y[:40], progress=False)
    >>> model.predict_proba(x[40:]).shape
    (20, 2)
    """

    hidden: int
    inner: int
    layers: int
    control: ControlMethod
    channels: Sequence[ControlChannel]
    step: float | None
    solver: CDESolver
    process_: NeuralCDEProcess

    def __init__(
        self,
        hidden: int = 32,
        *,
        inner: int = 32,
        layers: int = 3,
        control: ControlMethod = "hermite",
        channels: Sequence[ControlChannel] = ("time",),
        step: float | None = None,
        solver: CDESolver = "midpoint",
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        epochs: int = 100,
        batch_size: int | None = None,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        clip: float | None = 1.0,
        validation_fraction: float = 0.2,
        patience: int | None = 20,
    ) -> None:
        self._keep(locals())

    def sample(
        self,
        x0: Any = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the state of series.

        Parameters
        ----------
        x0
            Series that drive it; by default one that was never observed, of the longest trained span.
        times
            Increasing times ``(T,)`` in the unit of the data, none before the first of a series; by default the
            solver's. They are ends of steps too.
        n
            Copies of each series, those of the first series first; by default 1. There is no noise: they are equal.
        seed
            Accepted for the sake of processes with noise.
        progress
            Show progress.
        **options
            Further options of :func:`gendyn.sample`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        series = self._driven(x0)
        scaled = self.scaling_.transform(series)
        wanted = None
        if times is not None:
            wanted = self.scaling_.clock(torch.as_tensor(times, dtype=torch.float64), series)
        grid, places = step_times(scaled.times, scaled.lengths, longest=self.step, wanted=wanted)
        run: dict[str, Any] = {"substeps": 1, "solver": self.solver} | options
        controls = self._controls(scaled, grid)
        process = NeuralCDEProcess(self.process_.field, grid, controls, self.control)
        start = process.field.begin(controls[:, 0])
        found = sample(process, start, grid, seed=seed, progress=progress, **run)
        values, clock = found.values, grid.expand(len(series), -1) * self.scaling_.unit + series.times[:, :1]
        if places is not None:
            at = places.to(values.device)[:, :, None].expand(-1, -1, self.hidden)
            values, clock = values.gather(1, at), torch.as_tensor(times, dtype=torch.float64).expand(len(series), -1)
        rows = torch.arange(len(series)).repeat_interleave(1 if n is None else n)
        shared = bool((clock == clock[0]).all())
        return Paths.of_checked(clock[0] if shared else clock[rows], values[rows], info=found.info)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        ControlChannels(self.control, self.channels, None)
        self._check_counts("hidden", "inner", "layers")
        if self.control == "rectilinear":
            raise ValueError(
                "control='rectilinear' jumps and has no derivative, which a neural CDE needs; take 'linear', "
                "'hermite' or 'natural'"
            )
        if self.solver not in get_args(CDESolver):
            raise ValueError(f"solver must be one of {', '.join(get_args(CDESolver))}; got {self.solver!r}")
        if self.solver == "rk4" and self.control == "linear":
            raise ValueError("solver='rk4' needs a smooth control; take control='hermite', or solver='midpoint'")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step must be positive, or None for the observation times; got {self.step}")

    def _prepare(self, scaled: Series) -> None:
        grid, _ = step_times(scaled.times, scaled.lengths, longest=self.step)
        self._controls = ControlChannels(self.control, self.channels, None).fit(scaled, grid)

    def _more_state(self) -> dict[str, Tensor]:
        return self._controls.state_dict()

    def _restore_more(self, tensors: Mapping[str, Tensor]) -> None:
        self._controls = ControlChannels(self.control, self.channels, None).with_state(tensors)

    def _told(self, scaled: Series, static: Tensor | None) -> Inputs:
        grid, _ = step_times(scaled.times, scaled.lengths, longest=self.step)
        return Inputs(grid, self._controls(scaled, grid), static)

    def _network(self, static_dim: int, seed: int) -> nn.Module:
        width = self._controls.width(self._dim)
        field = NeuralCDEField(width, self.hidden, self.inner, self.layers, seed=derive_seed(seed, "field"))
        return _EndState(field, len(self.classes_), static_dim, self.control, self.solver, derive_seed(seed, "readout"))

    def _set_process(self) -> None:
        grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        silent = Series(grid[None], self.scaling_.mean.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))
        self.process_ = NeuralCDEProcess(self._model.field, grid, self._controls(silent, grid), self.control)  # type: ignore[arg-type]


class _EndState(nn.Module):
    """Log odds as a linear function of the state at the end of a series, and of static covariates."""

    def __init__(
        self, field: NeuralCDEField, out: int, static_dim: int, control: ControlMethod, solver: str, seed: int
    ) -> None:
        super().__init__()
        self.field, self.control, self.solver = field, control, solver
        self.readout = seeded_linear(field.hidden + static_dim, out, torch_generator(seed, "readout"))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return log odds ``(B, C)``."""
        process = NeuralCDEProcess(self.field, inputs.grid, inputs.controls, self.control)
        start = self.field.begin(inputs.controls[:, 0])
        gradient: Literal["none", "backprop"] = "backprop" if torch.is_grad_enabled() else "none"
        path = sample(process, start, inputs.grid, substeps=1, solver=self.solver, gradient=gradient, save="final")
        end = path.values[:, -1]
        if inputs.static is not None:
            end = torch.cat([end, inputs.static], dim=1)
        odds: Tensor = self.readout(end)
        return odds
