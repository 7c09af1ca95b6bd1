r"""The latent SDE as a model of series: fitted by the bound of their evidence, it smooths, forecasts and generates.

See :mod:`gendyn.sde.latent_model` for the equations. Values are standardised, and 1 is the longest series.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.randomness import Seed, derive_seed
from gendyn.sde.latent_estimator import EvidenceObjective, LatentEstimator
from gendyn.sde.latent_model import LatentModel, LatentPrior
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import under
from gendyn.sde.step_times import step_times
from gendyn.training import fingerprint

__all__ = ["LatentSDE"]

_WATCHED = 4
"""Noise paths behind the validation loss and the score."""


class LatentSDE(LatentEstimator):
    """Learn the process behind irregular, partly observed series.

    Parameters
    ----------
    latent
        Number of features of the latent path.
    hidden, context
        Width of the networks, and number of features a series is told by.
    step
        Longest step, where 1 is the longest series; steps end on observations too.
    n_samples
        Noise paths of each series behind a gradient, and at prediction unless ``n`` is given.
    annealing
        Share of the epochs over which the divergence from the prior comes to count fully.
    gradient
        ``"backprop"``; ``"checkpoint"``, which remembers less and computes more; or ``"adjoint"``, torchsde's, whose
        error shrinks with the step: an equation is solved back along each path, of which states alone are remembered.
    epochs, batch_size, lr, weight_decay, clip
        Training by Adam.
    validation_fraction, patience
        Share that is held out where no validation is given, and epochs without improvement after which training stops;
        ``patience=None`` holds out nothing, trains all epochs and keeps the last weights.

    Attributes
    ----------
    process_ : LatentPrior
        The prior process, in scaled time.
    history_ : pandas.DataFrame
        Loss by step, minus the bound for each observed value.

    References
    ----------
    Li, Wong, Chen, Duvenaud. Scalable gradients for stochastic differential equations. 2020.

    Examples
    --------
    >>> t = torch.linspace(0, 6.28, 20)
    >>> x = torch.stack([torch.sin(t + 0.3 * k) for k in range(20)])
    >>> model = LatentSDE(latent=2, hidden=8, epochs=2, step=0.1).fit(x, progress=False)
    >>> model.predict_samples(x[:3], at=[1.5, 25.0], n=7).shape
    (7, 3, 2, 1)
    >>> model.sample(n=4, times=[0.0, 10.0]).values.shape
    torch.Size([4, 2, 1])
    """

    latent: int
    hidden: int
    context: int
    step: float
    n_samples: int
    annealing: float
    gradient: Literal["backprop", "checkpoint", "adjoint"]
    process_: LatentPrior
    _model: LatentModel

    def __init__(
        self,
        latent: int = 4,
        *,
        hidden: int = 64,
        context: int = 32,
        step: float = 1 / 50,
        n_samples: int = 1,
        annealing: float = 0.2,
        gradient: Literal["backprop", "checkpoint", "adjoint"] = "backprop",
        epochs: int = 100,
        batch_size: int = 64,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        clip: float | None = 10.0,
        validation_fraction: float = 0.2,
        patience: int | None = None,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        data: Any,
        y: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        validation: Any = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from series.

        Parameters
        ----------
        data, times, mask
            Series, see :func:`~gendyn.sde.read_series`.
        y
            Accepted for the sake of scikit-learn.
        validation
            Series that training is stopped by; by default a share of the series.
        seed
            Root of all randomness.
        progress
            Show a progress bar.
        checkpoint, resume
            File for the state of the fit, and whether to go on from it.
        device
            Where to train; by default where the data are.

        Raises
        ------
        TypeError
            If the data are no series.
        ValueError
            If a hyper-parameter is out of range, or there are too few series to hold some out.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        series = read_series(data, times=times, mask=mask).to(device)
        root = self._seed(seed)
        series, held = self._hold_out(series, validation, root)
        scaled, _ = self._scale(series, None)
        self._build(derive_seed(root, "model"), scaled.values)
        objective = EvidenceObjective(self, scaled, None if held is None else self.scaling_.transform(held))
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.times, model="LatentSDE", seed=root, **self._plain_params()
        )
        self._train(
            objective, identity, n=len(scaled), watched=held is not None, progress=progress, checkpoint=checkpoint,
            resume=resume,
        )  # fmt: skip
        self.process_ = self._model.prior
        return self

    def predict_samples(
        self,
        data: Any,
        at: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        n: int | None = None,
        observed: bool = True,
        seed: Seed = 0,
    ) -> NDArray[Any]:
        """Return what series may have been at any times ``(S, B, Q, D)``: within them, and after their end.

        Parameters
        ----------
        data, times, mask
            Series, as for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before the first of their series; by default their own.
        n
            Number of members, by default ``n_samples``.
        observed
            With the noise of an observation, or without.
        seed
            Of the noise.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels are not those of the fit, or a time lies before its series.
        """
        count = self.n_samples if n is None else n
        return self._members(data, at, times, mask, n=count, observed=observed, seed=seed)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        self._check_training()
        for name in ("latent", "hidden", "context", "n_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.step > 0:
            raise ValueError(f"step must be positive; got {self.step}")
        if not 0 <= self.annealing <= 1:
            raise ValueError(f"annealing must lie in [0, 1]; got {self.annealing}")
        if self.gradient not in ("backprop", "checkpoint", "adjoint"):
            raise ValueError(f"gradient must be 'backprop', 'checkpoint' or 'adjoint'; got {self.gradient!r}")

    def _build(self, seed: int, like: Tensor) -> None:
        self._model = LatentModel(self._dim, self.latent, self.hidden, self.context, seed=seed).to(like)

    def _grid(self, scaled: Series, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        asked = scaled.times if wanted is None else torch.cat([scaled.times, wanted], dim=1)
        grid, places = step_times(scaled.times, scaled.lengths, longest=self.step, wanted=asked)
        if places is None:
            raise ValueError("no times are asked about")
        return grid, places

    def _paths(self, scaled: Series, grid: Tensor, places: Tensor, *, seed: int, n: int) -> Tensor:
        return self._model.paths(scaled, grid, seed=seed, n_samples=n)[0]

    def _bounds(self, scaled: Series, seed: int) -> Tensor:
        return self._model.bound(scaled, *self._grid(scaled), seed=seed, n_samples=_WATCHED).value()

    def _training_bounds(self, scaled: Series, seed: int, done: float) -> Tensor:
        bound = self._model.bound(
            scaled, *self._grid(scaled), seed=seed, n_samples=self.n_samples, gradient=self.gradient
        )
        return bound.value(min(1.0, done / self.annealing) if self.annealing > 0 else 1.0)

    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._model.decoder(z), self._model.log_noise

    def _first(self) -> tuple[Tensor, Tensor]:
        return self._model.start_mean, self._model.start_log_deviation

    def _run(self) -> dict[str, Any]:
        return {"step": self.step, "solver": "euler_maruyama"}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._model_state()

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self.process_ = self._model.prior
