"""Classes of irregular series by multi-time attention (mTAN), read by a gated recurrent unit.

See :mod:`gendyn.sde.time_attention` for the equations. The unit runs over the reference times, forth and back; log odds
are a network of both ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.nn import MLP
from gendyn.randomness import Seed, derive_seed
from gendyn.sde.gated_recurrence import GatedRecurrence
from gendyn.sde.network_classifier import NetworkClassifier
from gendyn.sde.series import Series
from gendyn.sde.series_inputs import Inputs
from gendyn.sde.time_attention import TimeAttention

__all__ = ["MTANClassifier"]


class MTANClassifier(NetworkClassifier):
    """Classify irregular series by multi-time attention.

    Parameters
    ----------
    hidden
        Features of what is seen from a reference time, and of the recurrent states.
    references
        Number of reference times, equally spaced over the longest series.
    embedding, heads
        Waves by which each head tells times, and number of heads.
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
    process_ : TimeAttention
        What is seen from reference times.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Shukla, Marlin. Multi-time attention networks for irregularly sampled time series. 2021.

    Examples
    --------
    >>> import numpy as np
    >>> t = torch.linspace(0, 6.28, 20)
    >>> x = torch.stack([torch.sin((1 + k % 2) * t + 0.1 * k) for k in range(60)])
    >>> y = np.array(["slow", "fast"] * 30)
    >>> model = MTANClassifier(hidden=8, references=8, embedding=8, epochs=2).fit(x[:40], y[:40], progress=False)
    >>> model.predict_proba(x[40:]).shape
    (20, 2)
    """

    hidden: int
    references: int
    embedding: int
    heads: int
    process_: TimeAttention

    def __init__(
        self,
        hidden: int = 64,
        *,
        references: int = 64,
        embedding: int = 128,
        heads: int = 1,
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
        """Return what is seen of series from given times.

        Parameters
        ----------
        x0
            Series; by default one that was never observed.
        times
            Increasing times ``(T,)`` since the start of each series; by default the reference times.
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
        """
        series = self._driven(x0)
        if options:
            raise TypeError(f"attention takes no options; got {', '.join(options)}")
        scaled = self.scaling_.transform(series)
        unit = self.scaling_.unit
        clock = _spaced(self.references) * unit if times is None else torch.as_tensor(times, dtype=torch.float64)
        seen = self.process_(clock / unit, scaled.times, scaled.values)
        rows = torch.arange(len(series)).repeat_interleave(1 if n is None else n)
        return Paths.of_checked(clock, seen[rows], info={"solver": "attention"})

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        self._check_counts("hidden", "references", "heads")
        if not self.embedding >= 2:
            raise ValueError(f"embedding must be at least 2; got {self.embedding}")

    def _told(self, scaled: Series, static: Tensor | None) -> Inputs:
        return Inputs(scaled.times, scaled.values, static)

    def _network(self, static_dim: int, seed: int) -> nn.Module:
        told = derive_seed(seed, "attention")
        attention = TimeAttention(self._dim, self.hidden, self.embedding, self.heads, seed=told)
        return _Ends(attention, self.hidden, self.references, len(self.classes_), static_dim, derive_seed(seed, "ends"))

    def _set_process(self) -> None:
        self.process_ = self._model.attention  # type: ignore[assignment]


class _Ends(nn.Module):
    """Log odds from the ends of a recurrent unit that runs over the reference times, forth and back."""

    def __init__(
        self, attention: TimeAttention, hidden: int, references: int, out: int, static_dim: int, seed: int
    ) -> None:
        super().__init__()
        self.attention, self.references = attention, references
        self.forth, self.back = (GatedRecurrence(hidden, hidden, "plain", seed=derive_seed(seed, k)) for k in range(2))
        self.answer = MLP(2 * hidden + static_dim, out, (hidden,), "relu", seed=derive_seed(seed, "answer"))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return log odds ``(B, C)``."""
        seen = self.attention(_spaced(self.references), inputs.grid, inputs.controls)
        ends = [self.forth(seen)[:, -1], self.back(seen.flip(1))[:, -1]]
        if inputs.static is not None:
            ends.append(inputs.static)
        odds: Tensor = self.answer(torch.cat(ends, dim=1))
        return odds


def _spaced(count: int) -> Tensor:
    """Return reference times."""
    return torch.linspace(0, 1, count, dtype=torch.float64)
