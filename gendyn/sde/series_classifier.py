"""What every classifier of irregular series shares: its labels, their weights, its answers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import SeriesEstimator
from gendyn.sde.series_labels import labelled

__all__ = ["SeriesClassifier"]


class SeriesClassifier(SeriesEstimator):
    """Base of the classifiers; see the module's docstring."""

    _estimator_type = "classifier"
    class_weight: Literal["balanced"] | Mapping[Any, float] | None
    classes_: NDArray[Any]

    @abstractmethod
    def predict_proba(
        self, data: Any, *, times: Any = None, mask: Any = None, static: Any = None, seed: Seed = 0
    ) -> NDArray[np.float64]:
        """Return the probability of every class ``(B, C)``, in the order of ``classes_``."""

    def predict(
        self, data: Any, *, times: Any = None, mask: Any = None, static: Any = None, seed: Seed = 0
    ) -> NDArray[Any]:
        """Return the most probable class of each series ``(B,)``."""
        chances = self.predict_proba(data, times=times, mask=mask, static=static, seed=seed)
        return np.asarray(self.classes_[chances.argmax(1)])

    def score(
        self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None, static: Any = None, seed: Seed = 0
    ) -> float:
        """Return the share of series that are classified rightly."""
        self._check_fitted()
        _, labels = labelled(read_series(data, y, times=times, mask=mask))
        found = self.predict(data, times=times, mask=mask, static=static, seed=seed)
        return float((found == labels).mean())

    def _weights(self, codes: NDArray[Any]) -> Tensor | None:
        """Return the weight of each class, of mean one over the series."""
        if self.class_weight is None:
            return None
        counts = np.bincount(codes)
        if self.class_weight == "balanced":
            return torch.from_numpy(len(codes) / (len(counts) * counts)).to(torch.float32)
        if not isinstance(self.class_weight, Mapping):
            raise ValueError(f"class_weight must be None, 'balanced' or a mapping; got {self.class_weight!r}")
        missing = [c for c in self.classes_.tolist() if c not in self.class_weight]
        if missing:
            raise ValueError(f"class_weight has no weight for {', '.join(map(repr, missing))}")
        weights = [float(self.class_weight[c]) for c in self.classes_.tolist()]
        for c, weight in zip(self.classes_.tolist(), weights, strict=True):
            if not 0 < weight < math.inf:
                raise ValueError(f"class_weight must be positive and finite; class {c!r} has {weight:g}")
        return torch.tensor(weights)

    def _validation(self, given: Any, series: Series) -> tuple[Series, Any, NDArray[Any]]:
        """Read what was given to stop by."""
        if isinstance(given, Mapping):
            part = dict(given)
        elif isinstance(given, tuple) and len(given) == 2:
            part = {"data": given[0], "y": given[1]}
        else:
            part = {"data": given}
        unknown = set(part) - {"data", "y", "times", "mask", "static"}
        if unknown or "data" not in part:
            raise ValueError(f"validation holds data, y, times, mask and static; got {', '.join(sorted(part))}")
        static = part.pop("static", None)
        held, labels = labelled(read_series(**part))
        held = held.to(series.values.device, series.values.dtype)
        if held.dim != series.dim:
            raise ValueError(f"validation must have the {series.dim} channels of the series; got {held.dim}")
        new = sorted(set(np.unique(labels).tolist()) - set(self.classes_.tolist()))
        if new:
            raise ValueError(f"validation has classes that the series have not: {', '.join(map(repr, new))}")
        return held, static, np.searchsorted(self.classes_, labels)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, three_d_array=True, allow_nan=True),
        )
