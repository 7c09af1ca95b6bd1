r"""Classes of irregular series by a stable neural SDE.

.. math:: \log p(c \mid X) = r_c(X) + \rho_c(z) + \text{const}, \qquad dz = f(t, z, X)\, dt + g(t, z)\, dW ,

with the head :math:`\rho` of a latent path that the series drives, and what a ridge regression on features of the
whole series says already, :math:`r` (zero without ``residual``). The network learns what the regression leaves, from
scores of series that it was not fitted on. Probabilities are means over noise paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import ControlMethod, Paths
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sde.control_channels import ControlChannel
from gendyn.sde.hidden_entries import hide_stretch
from gendyn.sde.ridge import Ridge
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_classifier import SeriesClassifier
from gendyn.sde.series_estimator import under
from gendyn.sde.series_features import SeriesFeatures
from gendyn.sde.series_inputs import Inputs, epoch_rows
from gendyn.sde.series_labels import labelled, stratified
from gendyn.sde.series_scaling import normal_reach
from gendyn.sde.stable_design import NoiseSharing, Parametrisation
from gendyn.sde.stable_estimator import Solver, StableEstimator
from gendyn.sde.stable_model import PathHead
from gendyn.training import fingerprint

__all__ = ["StableSDEClassifier"]

_WATCHED = 4
"""Noise paths behind the validation loss."""

_TEMPERATURES = torch.logspace(-1, 2, 61)


class StableSDEClassifier(SeriesClassifier, StableEstimator):
    """Classify irregular series.

    Parameters
    ----------
    kind
        ``"langevin"``, ``"linear-noise"``, ``"geometric"`` or ``"naive"``, see :mod:`gendyn.sde.stable_design`.
    hidden, layers
        Features of the latent path, and hidden layers of its drift.
    control
        How observations are joined, see :class:`~gendyn.data.ControlPath`.
    channels
        What the drift is told besides the values: ``"time"``, ``"intensity"``, ``"delta"``, see
        :mod:`gendyn.sde.control_channels`.
    degree
        Highest Legendre moment of a channel within a step; ``None``: its value, as published.
    step
        Longest step of the solver, where 1 is the longest series; ``None``: from observation to observation, as
        published.
    parametrisation, noise_sharing
        See :class:`~gendyn.sde.StableDesign`.
    solver
        Of :func:`gendyn.sample`.
    n_samples
        Noise paths at prediction.
    residual
        Start from a ridge regression on random convolutions and summaries of the series, and learn what it leaves.
    pooling
        ``"all"``: the path is read by its end, mean and maxima; ``"last"``: by its end, as published.
    class_weight
        ``None``, ``"balanced"``, or a weight for each class.
    gaps
        Learn also from a copy of each series that lacks one stretch, of any length up to this share of its time; 0:
        from no copies. For series that may have gaps which those at hand have not.
    epochs, batch_size, lr, weight_decay, clip, dropout
        Training by Adam; by default batches of 16, doubled while there are two, at most 128.
    validation_fraction, patience
        Share of every class that is held out where no validation is given, and epochs without improvement after which
        training stops; the best weights are restored, which may be those of the start. ``patience=None`` holds out
        nothing, trains all epochs and keeps the last weights.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels, sorted.
    process_ : StableProcess
        The latent process of a series that was never observed.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Oh, Lim, Kim. Stable neural stochastic differential equations in analyzing irregular time series data. 2024.

    Examples
    --------
    >>> t = torch.linspace(0, 6.28, 40)
    >>> x = torch.stack([torch.sin((1 + k % 2) * t + 0.1 * k) for k in range(60)])
    >>> y = np.array(["slow", "fast"] * 30)
    >>> model = StableSDEClassifier(hidden=8, epochs=5).fit(x[:40], y[:40], progress=False)
    >>> model.score(x[40:], y[40:])
    1.0
    """

    pooling: Literal["all", "last"]
    gaps: float

    def __init__(
        self,
        kind: str = "langevin",
        *,
        hidden: int = 64,
        layers: int = 1,
        control: ControlMethod = "hermite",
        channels: Sequence[ControlChannel] = ("time",),
        degree: int | None = 4,
        step: float | None = 1 / 32,
        parametrisation: Parametrisation = "bounded",
        noise_sharing: NoiseSharing = "diagonal",
        solver: Solver = "auto",
        n_samples: int = 10,
        residual: bool = True,
        pooling: Literal["all", "last"] = "all",
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        gaps: float = 0.0,
        epochs: int = 60,
        batch_size: int | None = None,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        clip: float | None = 1.0,
        dropout: float = 0.1,
        validation_fraction: float = 0.2,
        patience: int | None = 15,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        data: Any,
        y: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        static: Any = None,
        validation: Paths | tuple[Any, Any] | Mapping[str, Any] | None = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn classes.

        Parameters
        ----------
        data, y, times, mask
            Series and their labels, see :func:`~gendyn.sde.read_series`.
        static
            Static covariates ``(B, S)``, NaN where unknown.
        validation
            What training is stopped by: labelled paths, a pair ``(data, y)``, or a mapping with ``data``, ``y``,
            ``times``, ``mask`` and ``static``. By default a share of every class.
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
            If labels are missing or of one class, a class is too small to hold out a part of it, or a hyper-parameter
            is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        if self.pooling not in ("all", "last"):
            raise ValueError(f"pooling must be 'all' or 'last'; got {self.pooling!r}")
        if not 0 <= self.gaps < 1:
            raise ValueError(f"gaps must lie in [0, 1); got {self.gaps}")
        series, labels = labelled(read_series(data, y, times=times, mask=mask))
        static = self._covariates(static, len(series))
        series = series.to(device)
        root = self._seed(seed)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least two classes; every label is {self.classes_.tolist()[0]!r}")
        weights = self._weights(codes)
        held, held_static, held_codes = None, None, codes
        if validation is not None:
            held, held_static, held_codes = self._validation(validation, series)
        elif self.patience is not None:
            kept, out = stratified(codes, self.classes_, self.validation_fraction, root)
            held = series.rows(torch.from_numpy(out))
            series = series.rows(torch.from_numpy(kept))
            codes, held_codes = codes[kept], codes[out]
            if static is not None:
                rows = np.asarray(static)
                static, held_static = rows[kept], rows[out]
        if self.gaps:
            series, codes, static = self._with_gaps(series, codes, static, derive_seed(root, "gaps"))
            if held is not None:
                held, held_codes, held_static = self._with_gaps(
                    held, held_codes, held_static, derive_seed(root, "held gaps")
                )
        scaled, known = self._prepare(series, static, root)
        scaled = self.scaling_.near(scaled)
        target = torch.from_numpy(codes).to(series.values.device)
        inputs = self._inputs(scaled, known)
        start = self._fit_start(scaled, known, target, weights, root)
        inputs = Inputs(inputs.grid, inputs.controls, inputs.static, start)
        watched, asked = None, None
        if held is not None:
            watched = self._with_start(self._scaled(held), self._static_of(held_static, len(held)))
            asked = torch.from_numpy(held_codes).to(target)
        objective = _Classes(self, inputs, target, weights, watched, asked)
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.times, target, model="StableSDEClassifier", seed=root,
            **self._plain_params(),
        )  # fmt: skip
        options = {"progress": progress, "checkpoint": checkpoint, "resume": resume}
        self._train(objective, identity, n=len(series), watched=held is not None, **options)  # type: ignore[arg-type]
        self._finish(inputs)
        return self

    def predict_proba(
        self, data: Any, *, times: Any = None, mask: Any = None, static: Any = None, seed: Seed = 0
    ) -> NDArray[np.float64]:
        """Return the probability of every class ``(B, C)``, in the order of ``classes_``.

        Parameters
        ----------
        data, times, mask, static
            As for :meth:`fit`.
        seed
            Of the noise, over ``n_samples`` paths of which probabilities are means.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels or covariates are not those of the fit.
        """
        series = self._read(data, None, times, mask)
        inputs = self._with_start(self._scaled(series), self._static_of(static, len(series)))
        return self._odds(inputs, self.n_samples, derive_seed(as_seed(seed), "predict")).cpu().double().numpy()

    def _scaled(self, series: Series) -> Series:
        return self.scaling_.near(self.scaling_.transform(series))

    def _head(self, seed: int) -> nn.Module:
        return PathHead(
            self.hidden,
            len(self.classes_),
            pooling=self.pooling,
            static_dim=0 if self._static is None else self._static.width,
            dropout=self.dropout,
            zero=self.residual,
            seed=seed,
        )

    def _with_gaps(
        self, series: Series, codes: NDArray[Any], static: Any, seed: int
    ) -> tuple[Series, NDArray[Any], Any]:
        """Return series and, after them, copies that lack a stretch, with their codes and covariates."""
        spoilt = hide_stretch(series, self.gaps, seed)
        both = series.rows(torch.arange(len(series)).repeat(2))
        whole = Series(both.times, torch.cat([series.values, spoilt.values]), both.lengths, both.labels, both.names)
        static = None if static is None else np.concatenate([np.asarray(static)] * 2)
        return whole, np.concatenate([codes, codes]), static

    def _fit_start(
        self, scaled: Series, static: Tensor | None, target: Tensor, weights: Tensor | None, root: int
    ) -> Tensor | None:
        """Fit the regression, and return its scores of series it was not fitted on ``(B, C)``."""
        self._features, self._ridge = None, None
        if not self.residual:
            return None
        self._features = SeriesFeatures.fit(scaled, seed=derive_seed(root, "features"))
        told = _with_static(self._features(scaled), static)
        signs = 2 * nn.functional.one_hot(target, len(self.classes_)).to(told) - 1
        row_weights = None if weights is None else weights.to(told)[target]
        copies = 2 if self.gaps else 1
        far = float(normal_reach(torch.tensor(len(target) // copies)))
        self._ridge, left_out = Ridge.fit(told, signs, row_weights, copies=copies, clip=far)
        # As if one more series of every class had been a surprise: what is never wrong is not thereby certain.
        doubt = len(self.classes_) / (len(target) // copies + len(self.classes_))
        by_class = None if weights is None else weights.to(told)
        losses = torch.stack(
            [
                nn.functional.cross_entropy(t * left_out, target, by_class, label_smoothing=doubt)
                for t in _TEMPERATURES.tolist()
            ]
        )
        self._temperature = float(_TEMPERATURES[int(losses.argmin())])
        return self._temperature * left_out

    def _with_start(self, scaled: Series, static: Tensor | None) -> Inputs:
        """Return inputs of scaled series with what the regression says of them."""
        inputs = self._inputs(scaled, static)
        if self._ridge is None or self._features is None:
            return inputs
        start = self._temperature * self._ridge(_with_static(self._features(scaled), static))
        return Inputs(inputs.grid, inputs.controls, inputs.static, start)

    def _scores(self, inputs: Inputs, seed: int, *, learning: bool = False) -> Tensor:
        """Return log odds ``(B, C)`` of one noise path of each series."""
        path = self._latent(inputs, seed, 1, learning=learning)[0]
        scores: Tensor = self._model["head"](path, inputs.grid, inputs.static, seed)
        return scores if inputs.start is None else scores + inputs.start

    @torch.no_grad()
    def _odds(self, inputs: Inputs, n_samples: int, seed: int) -> Tensor:
        """Return probabilities ``(B, C)``, means over noise paths."""
        found = []
        for k, part in enumerate(inputs.blocks()):
            odds = [self._scores(part, derive_seed(seed, k, s)).softmax(1) for s in range(n_samples)]
            found.append(torch.stack(odds).mean(0))
        return torch.cat(found)

    def _more_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        extra: dict[str, Any] = {"classes": self.classes_.tolist(), "temperature": None}
        if self._ridge is None or self._features is None:
            return {}, extra
        tensors = {f"ridge.{name}": value for name, value in self._ridge.state_dict().items()}
        tensors |= {f"features.{name}": value for name, value in self._features.state_dict().items()}
        return tensors, extra | {"temperature": self._temperature}

    def _restore_more(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self.classes_ = np.array(extra["classes"])
        self._features, self._ridge = None, None
        if extra["temperature"] is not None:
            self._temperature = float(extra["temperature"])
            self._features = SeriesFeatures.from_state(under(tensors, "features."))
            self._ridge = Ridge.from_state(under(tensors, "ridge."))


class _Classes:
    """Weighted cross-entropy, over batches of an epoch."""

    def __init__(
        self,
        model: StableSDEClassifier,
        inputs: Inputs,
        target: Tensor,
        weights: Tensor | None,
        watched: Inputs | None,
        asked: Tensor | None,
    ) -> None:
        self.module: nn.Module = model._model
        self._model, self._inputs, self._target = model, inputs, target
        self._weights = None if weights is None else weights.to(inputs.controls)
        self._watched, self._asked = watched, asked
        self._size = model._batch(len(inputs))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of one batch."""
        rows = epoch_rows(len(self._inputs), self._size, step, self._model.seed_).to(self._target.device)
        noise = int(torch.randint(2**62, (1,), generator=generator))
        scores = self._model._scores(self._inputs.rows(rows), noise, learning=True)
        return nn.functional.cross_entropy(scores, self._target[rows], self._weights)

    def validation_loss(self) -> float:
        """Return minus the mean log probability of the held-out classes."""
        if self._watched is None or self._asked is None:
            return float("nan")
        training = self.module.training
        self.module.eval()
        odds = self._model._odds(self._watched, _WATCHED, derive_seed(self._model.seed_, "validation"))
        self.module.train(training)
        return float(nn.functional.nll_loss(odds.clamp_min(1e-12).log(), self._asked, self._weights))


def _with_static(features: Tensor, static: Tensor | None) -> Tensor:
    return features if static is None else torch.cat([features, static], dim=1)
