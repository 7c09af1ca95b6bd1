"""Classes of irregular series by gated recurrent units, GRU-D and GRU-dt: cheap neighbours to compare with.

See :mod:`gendyn.sde.gated_recurrence` for the equations; log odds are linear in the state after the last row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, derive_seed, torch_generator
from gendyn.sde.gated_recurrence import GatedRecurrence, observed_rows
from gendyn.sde.network_classifier import NetworkClassifier
from gendyn.sde.series import Series
from gendyn.sde.series_inputs import Inputs

__all__ = ["GRUClassifier"]


class GRUClassifier(NetworkClassifier):
    """Classify irregular series by a gated recurrent unit.

    Parameters
    ----------
    kind
        ``"gru-d"``: what was not seen for long fades. ``"gru-dt"``: the unit is told for how long.
    hidden
        Features of the state.
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
    process_ : GatedRecurrence
        What moves the state from row to row; in between it has none.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Che et al. Recurrent neural networks for multivariate time series with missing values. 2018.

    Examples
    --------
    >>> import numpy as np
    >>> t = torch.linspace(0, 6.28, 20)
    >>> x = torch.stack([torch.sin((1 + k % 2) * t + 0.1 * k) for k in range(60)])
    >>> y = np.array(["slow", "fast"] * 30)
    >>> model = GRUClassifier("gru-dt", hidden=8, epochs=2).fit(x[:40], y[:40], progress=False)
    >>> model.predict_proba(x[40:]).shape
    (20, 2)
    """

    kind: Literal["gru-d", "gru-dt"]
    hidden: int
    process_: GatedRecurrence

    def __init__(
        self,
        kind: Literal["gru-d", "gru-dt"] = "gru-d",
        *,
        hidden: int = 64,
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

    @torch.no_grad()
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
        """Return the states of series.

        Parameters
        ----------
        x0
            Series; by default one that was never observed, of the longest trained span.
        times
            Increasing times ``(T,)`` in the unit of the data, none before the first of a series, of which each gets
            the state after the last row before it; by default those of the rows.
        n
            Copies of each series, those of the first series first; by default 1. There is no noise: they are equal.
        seed, progress
            Accepted for the sake of other models.
        **options
            None are known.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        TypeError
            If there are options.
        ValueError
            If a time lies before its series.
        """
        series = self._driven(x0)
        if options:
            raise TypeError(f"a recurrent unit takes no options; got {', '.join(options)}")
        told = self._told(self.scaling_.transform(series), None)
        states, clock = self.process_(told.controls, _inside(told)), series.times
        if times is not None:
            clock = torch.as_tensor(times, dtype=torch.float64).expand(len(series), -1)
            if bool((clock < series.times[:, :1]).any()):
                raise ValueError(f"nothing can be said about the time {float(clock.min()):g}, before a series begins")
            at = torch.searchsorted(series.times.contiguous(), clock.contiguous(), right=True) - 1
            states = states.gather(1, at.to(states.device)[:, :, None].expand(-1, -1, self.hidden))
        rows = torch.arange(len(series)).repeat_interleave(1 if n is None else n)
        shared = bool((clock == clock[0]).all())
        return Paths.of_checked(clock[0] if shared else clock[rows], states[rows], info={"solver": self.kind})

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        if self.kind not in ("gru-d", "gru-dt"):
            raise ValueError(f"kind must be 'gru-d' or 'gru-dt'; got {self.kind!r}")
        self._check_counts("hidden")

    def _prepare(self, scaled: Series) -> None:
        """Fit the unit of times since the last observation, their mean."""
        since = observed_rows(scaled)[:, :, 2 * scaled.dim :]
        inside = torch.arange(since.shape[1]) < scaled.lengths[:, None]
        mean = since[inside.to(since.device)].mean()
        self._unit = torch.where(mean > 0, mean, 1.0)

    def _more_state(self) -> dict[str, Tensor]:
        return {"unit": self._unit}

    def _restore_more(self, tensors: Mapping[str, Tensor]) -> None:
        self._unit = tensors["unit"]

    def _told(self, scaled: Series, static: Tensor | None) -> Inputs:
        rows = observed_rows(scaled)
        rows[:, :, 2 * scaled.dim :] /= self._unit
        return Inputs(scaled.times, rows, static)

    def _network(self, static_dim: int, seed: int) -> nn.Module:
        cell = GatedRecurrence(self._dim, self.hidden, self.kind, seed=derive_seed(seed, "cell"))
        return _LastState(cell, len(self.classes_), static_dim, derive_seed(seed, "readout"))

    def _set_process(self) -> None:
        self.process_ = self._model.cell  # type: ignore[assignment]


class _LastState(nn.Module):
    """Log odds as a linear function of the state after the last row, and of static covariates."""

    def __init__(self, cell: GatedRecurrence, out: int, static_dim: int, seed: int) -> None:
        super().__init__()
        self.cell = cell
        self.readout = seeded_linear(cell.hidden + static_dim, out, torch_generator(seed, "readout"))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return log odds ``(B, C)``."""
        end = self.cell(inputs.controls, _inside(inputs))[:, -1]
        if inputs.static is not None:
            end = torch.cat([end, inputs.static], dim=1)
        odds: Tensor = self.readout(end)
        return odds


def _inside(inputs: Inputs) -> Tensor | None:
    """Return which rows ``(B, L)`` are not padding; ``None`` where all are not."""
    later = inputs.grid.diff(dim=1) > 0
    if bool(later.all()):
        return None
    return torch.cat([torch.ones_like(later[:, :1]), later], dim=1).to(inputs.controls.device)
