r"""How labels go wrong: the emission :math:`E_{sy} = P(\text{label } y \mid \text{state } s)`.

Three models: the labels are right, or their emission is known; every label is replaced with probability
:math:`\varepsilon` by one of the others, all alike; or a whole matrix is estimated, in which the pairs that cannot be
confused are zero. A label that stands for several states is emitted by each of them (its probability is left to what
made it censored, which tells nothing about the state).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gendyn.mjp.likelihood import label_density
from gendyn.mjp.observations import StateObservations

__all__ = ["LabelNoise"]

_START = 0.02
"""Noise that an estimate starts from."""

_MOST = 0.5
"""Labels that are wrong more often than this are none."""


@dataclass(frozen=True, eq=False)
class LabelNoise:
    r"""An emission, and which of it is estimated.

    Attributes
    ----------
    emission
        :math:`E`, ``(S, labels)``, where an estimate starts.
    kind
        ``"fixed"``, ``"uniform"`` (one :math:`\varepsilon`), or ``"confusion"`` (all that is not zero at the start).

    Examples
    --------
    >>> noise = LabelNoise.uniform(torch.eye(3, dtype=torch.bool), 0.1)
    >>> noise.emission[0]
    tensor([0.9000, 0.0500, 0.0500], dtype=torch.float64)
    """

    emission: Tensor
    kind: Literal["fixed", "uniform", "confusion"]

    @classmethod
    def fixed(cls, meaning: Tensor, emission: Tensor | float = 0.0) -> LabelNoise:
        """Return a known emission: a matrix ``(S, S)``, or a probability of a label being any of the others."""
        size = meaning.shape[1]
        if isinstance(emission, float):
            return cls(_emission(meaning, _replaced(size, emission)), "fixed")
        return cls(_emission(meaning, emission), "fixed")

    @classmethod
    def uniform(cls, meaning: Tensor, start: float = _START) -> LabelNoise:
        """Return a noise of one unknown probability of a wrong label."""
        return cls(_emission(meaning, _replaced(meaning.shape[1], start)), "uniform")

    @classmethod
    def confusion(cls, meaning: Tensor, confused: Tensor | None = None, start: float = _START) -> LabelNoise:
        """Return an unknown matrix; ``confused`` ``(S, S)`` says which states may be mixed up, by default all."""
        size = meaning.shape[1]
        may = torch.ones(size, size, dtype=torch.bool) if confused is None else confused.clone()
        may.fill_diagonal_(True)
        others = (may.sum(1) - 1).clamp_min(1)
        matrix = may.to(torch.float64) * start / others[:, None]
        matrix.fill_diagonal_(0.0)
        return cls(_emission(meaning, matrix + torch.diag(1 - matrix.sum(1))), "confusion")

    @classmethod
    def told(cls, meaning: Tensor, noise: str | float, confused: Tensor | None = None) -> LabelNoise:
        """Return what ``"estimate"``, ``"confusion"`` or a known probability mean; ``confused`` as of that."""
        if not isinstance(noise, str):
            return cls.fixed(meaning, float(noise))
        return cls.confusion(meaning, confused) if noise == "confusion" else cls.uniform(meaning)

    @property
    def wrong(self) -> float:
        """Probability that a label is wrong, the mean over states."""
        return float(1 - self.emission[:, : len(self.emission)].diagonal().mean())

    @property
    def certain(self) -> bool:
        """Whether every label is the state, for certain."""
        size = len(self.emission)
        return self.kind == "fixed" and bool((self.emission[:, :size] == torch.eye(size)).all())

    def density(self, seen: StateObservations, emission: Tensor) -> Tensor:
        """Return the probability of every label in every state, ``(K, L, S)``."""
        return label_density(seen, emission)

    @property
    def n_free(self) -> int:
        """Number of unknowns."""
        size = len(self.emission)
        return {"fixed": 0, "uniform": 1, "confusion": int((self.emission[:, :size] > 0).sum()) - size}[self.kind]

    def updated(self, counts: Tensor) -> LabelNoise:
        """Return the likeliest emission for expected numbers of labels ``(S, labels)``."""
        if self.kind == "fixed":
            return self
        size = len(self.emission)
        proper = counts[:, :size]
        if self.kind == "uniform":
            wrong = 1 - float(proper.diagonal().sum() / proper.sum())
            return self.with_free(torch.tensor([min(max(wrong, 1e-12), _MOST)], dtype=torch.float64).logit())
        seen = proper.sum(1, keepdim=True)
        matrix = torch.where(seen > 0, proper / seen.clamp_min(1e-300), self.emission[:, :size])
        return LabelNoise(torch.cat([matrix, self.emission[:, size:]], 1), self.kind)

    def free(self) -> Tensor:
        """Return the unknowns without bounds: a logit, or log-ratios to the diagonal, ``(n_free,)``."""
        size = len(self.emission)
        if self.kind == "fixed":
            return self.emission.new_zeros(0)
        if self.kind == "uniform":
            return (1 - self.emission[0, 0]).clamp(1e-12, 1 - 1e-12).logit()[None]
        matrix = self.emission[:, :size]
        ratios = (matrix.clamp_min(1e-12) / matrix.diagonal()[:, None].clamp_min(1e-12)).log()
        return ratios[self._off()]

    def with_free(self, free: Tensor) -> LabelNoise:
        """Return the emission for unknowns as :meth:`free` gives them; differentiable."""
        size = len(self.emission)
        if self.kind == "fixed":
            return self
        if self.kind == "uniform":
            matrix = _replaced(size, torch.sigmoid(free[0]))
        else:
            odds = torch.eye(size, dtype=torch.float64).masked_scatter(self._off(), free.exp())
            matrix = odds / odds.sum(1, keepdim=True)
        return LabelNoise(torch.cat([matrix, self.emission[:, size:]], 1), self.kind)

    def _off(self) -> Tensor:
        size = len(self.emission)
        return (self.emission[:, :size] > 0) & ~torch.eye(size, dtype=torch.bool)


def _replaced(size: int, noise: float | Tensor) -> Tensor:
    """Return the matrix in which a label is replaced by any of the others, all alike."""
    eye = torch.eye(size, dtype=torch.float64)
    return (1 - noise) * eye + noise * (1 - eye) / (size - 1)


def _emission(meaning: Tensor, matrix: Tensor) -> Tensor:
    """Put what censored labels may stand for beside an emission of states."""
    size = meaning.shape[1]
    return torch.cat([matrix.to(torch.float64), meaning[size:].T.to(torch.float64)], 1)
