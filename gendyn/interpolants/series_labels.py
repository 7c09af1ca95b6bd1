"""Labels of series, as a model of trajectories knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from torch import Tensor

from gendyn.data import Paths
from gendyn.interpolants.condition import ConditionEncoder

__all__ = ["SeriesLabels"]


class SeriesLabels:
    """One-hot codes of labels, or nothing.

    Parameters
    ----------
    encoder
        Of the labels; ``None`` for a model that knows none.

    Examples
    --------
    >>> import torch
    >>> two = Paths([0.0, 1.0], torch.zeros(2, 2, 1), labels=["a", "b"])
    >>> labels = SeriesLabels.fit(two)
    >>> labels(two).tolist(), labels(two, "b").tolist()
    ([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [0.0, 1.0, 1.0])
    """

    def __init__(self, encoder: ConditionEncoder | None = None) -> None:
        self.encoder = encoder

    @classmethod
    def fit(cls, data: Paths) -> Self:
        """Read the labels off the training series.

        Raises
        ------
        ValueError
            If they have none.
        """
        if data.labels is None:
            raise ValueError("labels=True needs paths with labels; these have none")
        return cls(ConditionEncoder.of("label", pd.Series(data.labels.astype(str))))

    @property
    def width(self) -> int:
        """Entries of a code."""
        return 0 if self.encoder is None else self.encoder.width

    def __call__(self, data: Paths | None, label: Any = None) -> Tensor | None:
        """Return the codes ``(n, width)`` of series, or of the label that is given instead.

        Raises
        ------
        ValueError
            If a label is given to a model that knows none, is missing where one is needed, or was not seen.
        """
        if self.encoder is None:
            if label is not None:
                raise ValueError("this model knows no labels: fit it with labels=True")
            return None
        if label is not None:
            return self.encoder(label, rows=1 if data is None else len(data))
        if data is None or data.labels is None:
            raise ValueError("this model knows labels; the series have none: give them labels")
        return self.encoder(data.labels.astype(str).tolist(), rows=len(data))

    def of_points(self, label: Any, rows: int) -> Tensor | None:
        """Return the codes of series that start from this many points."""
        if self.encoder is None:
            return self(None, label)
        if label is None:
            raise ValueError(f"this model knows labels; give label= one of {', '.join(self.encoder.categories or ())}")
        return self.encoder(label, rows=rows)

    def to_dict(self) -> dict[str, Any] | None:
        """Return what :meth:`from_dict` needs, for a file's header."""
        return None if self.encoder is None else self.encoder.to_dict()

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | None) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(None if stored is None else ConditionEncoder.from_dict(stored))
