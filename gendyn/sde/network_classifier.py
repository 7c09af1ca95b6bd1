"""Classifiers that are one network without noise, which a series is told to and which answers with log odds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.randomness import Seed, derive_seed
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_classifier import SeriesClassifier
from gendyn.sde.series_estimator import under
from gendyn.sde.series_inputs import Inputs, epoch_rows
from gendyn.sde.series_labels import labelled, stratified
from gendyn.training import fingerprint

__all__ = ["NetworkClassifier"]


class NetworkClassifier(SeriesClassifier):
    """Base of these classifiers; see the module's docstring."""

    @abstractmethod
    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""

    @abstractmethod
    def _network(self, static_dim: int, seed: int) -> nn.Module:
        """Return the network: its ``forward`` takes inputs and returns log odds ``(B, C)``."""

    @abstractmethod
    def _told(self, scaled: Series, static: Tensor | None) -> Inputs:
        """Return what the network is told of scaled series."""

    def _prepare(self, scaled: Series) -> None:
        """Fit what :meth:`_told` needs besides the scalings."""

    def _more_state(self) -> dict[str, Tensor]:
        """Return what :meth:`_prepare` fitted, by name."""
        return {}

    def _restore_more(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`_more_state` gave."""

    @abstractmethod
    def _set_process(self) -> None:
        """Set ``process_`` of a model that has been fitted or read."""

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
        """Learn classes; arguments and errors are those of :meth:`gendyn.StableSDEClassifier.fit`."""
        self._check_hyper_parameters()
        self._check_training()
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
            series, held = series.rows(torch.from_numpy(kept)), series.rows(torch.from_numpy(out))
            codes, held_codes = codes[kept], codes[out]
            if static is not None:
                rows = np.asarray(static)
                static, held_static = rows[kept], rows[out]
        scaled, known = self._scale(series, static)
        self._prepare(scaled)
        self._build(derive_seed(root, "network"))
        target = torch.from_numpy(codes).to(series.values.device)
        watched, asked = None, None
        if held is not None:
            watched = self._told(self.scaling_.transform(held), self._static_of(held_static, len(held)))
            asked = torch.from_numpy(held_codes).to(target)
        objective = _Classes(self, self._told(scaled, known), target, weights, watched, asked)
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.times, target, model=type(self).__name__, seed=root,
            **self._plain_params(),
        )  # fmt: skip
        self._train(
            objective, identity, n=len(series), watched=held is not None, progress=progress, checkpoint=checkpoint,
            resume=resume,
        )  # fmt: skip
        self._set_process()
        return self

    @torch.no_grad()
    def predict_proba(
        self, data: Any, *, times: Any = None, mask: Any = None, static: Any = None, seed: Seed = 0
    ) -> NDArray[np.float64]:
        """Return the probability of every class ``(B, C)``, in the order of ``classes_``.

        Parameters
        ----------
        data, times, mask, static
            As for :meth:`fit`.
        seed
            Accepted for the sake of models with noise; nothing here is random.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels or covariates are not those of the fit.
        """
        series = self._read(data, None, times, mask)
        inputs = self._told(self.scaling_.transform(series), self._static_of(static, len(series)))
        return torch.cat([self._model(part).softmax(1) for part in inputs.blocks()]).cpu().double().numpy()

    def _driven(self, x0: Any) -> Series:
        """Return series that are looked at; by default one that was never observed, of the longest trained span."""
        self._check_fitted()
        if x0 is not None:
            return self._read(x0)
        span = torch.tensor([[0.0, self.scaling_.unit]], dtype=torch.float64)
        return Series(span, self.scaling_.mean.new_full((1, 2, self._dim), torch.nan), torch.tensor([2]))

    def _build(self, seed: int) -> None:
        self._model = self._network(0 if self._static is None else self._static.width, seed).to(self.scaling_.mean)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._scalings()
        tensors |= {f"model.{key}": value for key, value in self._model.state_dict().items()}
        tensors |= {f"more.{key}": value for key, value in self._more_state().items()}
        return tensors, extra | {"classes": self.classes_.tolist()}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        self.classes_ = np.array(extra["classes"])
        self._restore_more(under(tensors, "more."))
        self._build(0)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self._set_process()


class _Classes:
    """Weighted cross-entropy, over batches of an epoch."""

    def __init__(
        self,
        model: NetworkClassifier,
        inputs: Inputs,
        target: Tensor,
        weights: Tensor | None,
        watched: Inputs | None,
        asked: Tensor | None,
    ) -> None:
        self.module: nn.Module = model._model
        self._inputs, self._target, self._seed = inputs, target, model.seed_
        self._weights = None if weights is None else weights.to(inputs.controls)
        self._watched, self._asked = watched, asked
        self._size = model._batch(len(inputs))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of one batch."""
        rows = epoch_rows(len(self._inputs), self._size, step, self._seed).to(self._target.device)
        return nn.functional.cross_entropy(self.module(self._inputs.rows(rows)), self._target[rows], self._weights)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return minus the mean log probability of the held-out classes."""
        if self._watched is None or self._asked is None:
            return float("nan")
        scores = torch.cat([self.module(part) for part in self._watched.blocks()])
        return float(nn.functional.cross_entropy(scores, self._asked, self._weights))
