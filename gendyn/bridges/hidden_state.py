r"""What is known of hidden coordinates: Gaussian laws, moved by a reference, met by points, smoothed by the future.

The state :math:`z = (x, h)` of a reference has observed coordinates x and hidden ones h, such as velocities or
proteins. At every point :math:`x_i` of a population the hidden coordinates have a law of their own, taken to be normal,

.. math:: h \mid x_i \sim \mathcal N(m_i, V_i) .

Over an interval the reference moves it to a normal law of the whole state,
:math:`z' \mid i \sim \mathcal N(\mu_i, S_i)` with :math:`S_i = \Phi_i V_i \Phi_i^\top + Q_i`. Its observed block is the
transition density :math:`p(y_j \mid i)`; given that the path meets :math:`y_j`, the hidden coordinates there have the
mean :math:`\mu_h + K (y_j - \mu_x)` and the covariance :math:`S_{hh} - K S_{xh}`, with
:math:`K = S_{hx} S_{xx}^{-1}`. The mixture of these laws over the i that reach j is replaced by the normal law of its
moments (assumed-density filtering, Minka 2001).

What the later populations say about the hidden coordinates at :math:`y_j` is kept as the ratio of the smoothed law to
the filtered one, a Gaussian function

.. math:: \beta_j(h) = \exp\bigl(-\tfrac12 (h - m_j)^\top \Lambda_j (h - m_j) + \zeta_j^\top (h - m_j)\bigr) .
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gendyn.bridges.references.lifted import LiftedReference
from gendyn.bridges.transition import TransitionLaw, transition_law

__all__ = ["Future", "HiddenLaw", "PairLaws", "Prediction", "predict"]

_PAIRS = 4_000_000
"""Numbers that are formed at once while pairs of points are looked at."""

_SINGULAR = 1e-12
"""Directions whose share of the variance is below this are taken to be known exactly."""


@dataclass(frozen=True, eq=False)
class HiddenLaw:
    """Normal laws of the hidden coordinates at the points of a population.

    Attributes
    ----------
    mean
        ``(n, H)``.
    covariance
        ``(n, H, H)``.
    """

    mean: Tensor
    covariance: Tensor

    def sample(self, rows: Tensor, normals: Tensor) -> Tensor:
        """Draw the hidden coordinates at some points: ``(b, H)``, of standard normals alike."""
        return self.mean[rows] + (symmetric_root(self.covariance[rows]) @ normals[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Future:
    r"""What later populations say about the hidden coordinates at the points of one; see the module.

    Attributes
    ----------
    centre
        :math:`m`, ``(n, H)``.
    precision
        :math:`\Lambda`, ``(n, H, H)``.
    tilt
        :math:`\zeta`, ``(n, H)``.
    """

    centre: Tensor
    precision: Tensor
    tilt: Tensor

    @classmethod
    def nothing(cls, law: HiddenLaw) -> Future:
        """Return the future that says nothing."""
        return cls(law.mean, torch.zeros_like(law.covariance), torch.zeros_like(law.mean))

    @classmethod
    def ratio(cls, smoothed: HiddenLaw, filtered: HiddenLaw) -> Future:
        """Return the ratio of two laws; where smoothing would widen a law, its width is left as it is."""
        root = symmetric_root(filtered.covariance)
        inverse = symmetric_inverse(filtered.covariance)
        # In the coordinates in which the filtered law is standard normal.
        whitened = inverse @ root
        shape = whitened.mT @ smoothed.covariance @ whitened
        values, vectors = torch.linalg.eigh((shape + shape.mT) / 2)
        known = values.clamp(_SINGULAR, 1.0)
        turned = whitened @ vectors
        precision = (turned * (1 / known - 1)[..., None, :]) @ turned.mT
        moved = (turned.mT @ (smoothed.mean - filtered.mean)[..., None])[..., 0]
        tilt = (turned @ (moved / known)[..., None])[..., 0]
        return cls(filtered.mean, precision, tilt)

    def rows(self, chosen: Tensor | slice) -> Future:
        """Return that of some of the points."""
        return Future(self.centre[chosen], self.precision[chosen], self.tilt[chosen])


@dataclass(frozen=True, eq=False)
class PairLaws:
    """Laws of the hidden coordinates at an end, for pairs of a source and an end.

    Attributes
    ----------
    log_weight
        Logarithm of what the future multiplies the density of the pair by, ``(n, m)``.
    mean
        ``(n, m, H)``.
    covariance
        ``(n, m, H, H)``, or ``(n, 1, H, H)`` where it is the same at all ends.
    """

    log_weight: Tensor
    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    r"""The normal laws of the whole state an interval after ``n`` sources.

    Attributes
    ----------
    mean
        :math:`\mu`, ``(n, D)``.
    covariance
        :math:`S`, ``(n or 1, D, D)``.
    flow
        :math:`\Phi`, ``(n or 1, D, D)``.
    source
        The hidden law at the sources.
    reference
        What coordinates are observed.
    """

    mean: Tensor
    covariance: Tensor
    flow: Tensor
    source: HiddenLaw
    reference: LiftedReference

    @cached_property
    def _observed(self) -> TransitionLaw:
        """The law of the observed coordinates, as one that has a density."""
        seen = self.reference.observed
        flow = self.flow[:, seen][:, :, seen]
        return TransitionLaw(
            self.mean[:, seen], self.mean[None, :, seen], flow[None], self.covariance[:, seen][:, :, seen][None]
        )

    @cached_property
    def _gain(self) -> Tensor:
        """:math:`K`, ``(n, H, d)``."""
        seen, hidden = self.reference.observed, self.reference.hidden
        across = self.covariance[:, seen][:, :, hidden]
        return torch.cholesky_solve(across, self._observed.factor.expand(len(across), -1, -1)).mT

    @cached_property
    def _spread(self) -> Tensor:
        """:math:`S_hh - K S_xh`, ``(n, H, H)``: what meeting a point leaves open, wherever the point is."""
        seen, hidden = self.reference.observed, self.reference.hidden
        spread = self.covariance[:, hidden][:, :, hidden] - self._gain @ self.covariance[:, seen][:, :, hidden]
        return (spread + spread.mT) / 2

    def log_density(self, y: Tensor) -> Tensor:
        r"""Return :math:`\log p(y_j \mid i)`, ``(n, m)``.

        Raises
        ------
        ValueError
            If the observed coordinates have no density.
        """
        return self._observed.log_density(y)

    def pairs(self, y: Tensor, future: Future | None) -> PairLaws:
        """Return the laws at ends ``y (m, d)`` of all pairs, ``n`` times ``m`` at once."""
        gaps = y - self.mean[:, None, self.reference.observed]
        mean = self.mean[:, None, self.reference.hidden] + gaps @ self._gain.mT
        if future is None:
            return PairLaws(torch.zeros_like(gaps[..., 0]), mean, self._spread[:, None])
        apart = mean - future.centre
        half, log_factor = _narrowed(symmetric_root(self._spread)[:, None], future.precision)
        turned = (future.precision @ apart[..., None])[..., 0]
        push = half @ (future.tilt - turned)[..., None]
        log_weight = (
            (future.tilt * apart).sum(-1)
            - 0.5 * (apart * turned).sum(-1)
            + 0.5 * push.square().sum((-2, -1))
            - log_factor
        )
        return PairLaws(log_weight, mean + (half.mT @ push)[..., 0], half.mT @ half)

    def future_weights(self, y: Tensor, future: Future) -> Tensor:
        """Return the ``log_weight`` of all pairs, ``(n, m)``."""
        parts = [self.pairs(y[block], future.rows(block)).log_weight for block in self._blocks(len(y))]
        return torch.cat(parts, 1)

    def meet(self, y: Tensor, future: Future, normals: Tensor) -> Tensor:
        """Draw the hidden coordinates ``(n, H)`` at an end of each source's own, ``y (n, d)``, of normals alike."""
        gaps = (y - self.mean[:, self.reference.observed])[..., None]
        mean = self.mean[:, self.reference.hidden] + (self._gain @ gaps)[..., 0]
        half, _ = _narrowed(symmetric_root(self._spread), future.precision)
        turned = future.tilt - (future.precision @ (mean - future.centre)[..., None])[..., 0]
        return mean + (half.mT @ (half @ turned[..., None] + normals[..., None]))[..., 0]

    def mean_hidden(self, y: Tensor, shares: Tensor, future: Future) -> Tensor:
        """Return the mean hidden coordinates ``(n, H)`` of every source over ends ``y (m, d)`` in shares ``(n, m)``."""
        total = torch.zeros_like(self.mean[:, self.reference.hidden])
        for block in self._blocks(len(y)):
            law = self.pairs(y[block], future.rows(block))
            total = total + (shares[:, block, None] * law.mean).sum(1)
        return total

    def arrive(self, y: Tensor, shares: Tensor) -> HiddenLaw:
        """Return the hidden laws at ends ``y (m, d)``, each the moments of a mixture over sources.

        Parameters
        ----------
        y
            The ends.
        shares
            ``(n, m)``, of sum 1 over the sources.
        """
        means, covariances = [], []
        for block in self._blocks(len(y)):
            law = self.pairs(y[block], None)
            share = shares[:, block]
            mean, covariance = _moments(law.mean, share)
            means.append(mean)
            covariances.append(covariance + (share.T @ self._spread.flatten(1)).view_as(covariance))
        return HiddenLaw(torch.cat(means), torch.cat(covariances))

    def depart(self, y: Tensor, shares: Tensor, future: Future) -> HiddenLaw:
        """Return the hidden laws at the sources, given where paths go and the future there.

        Parameters
        ----------
        y
            The ends ``(m, d)``.
        shares
            ``(n, m)``, of sum 1 over the ends.
        future
            What is known at the ends.
        """
        seen, hidden = self.reference.observed, self.reference.hidden
        # How the hidden coordinates of a source depend on the whole state at the end.
        across = self.source.covariance @ self.flow[:, :, hidden].mT
        back = across @ symmetric_inverse(self.covariance)
        left = self.source.covariance - back @ across.mT
        size = max(1, _PAIRS // (len(y) * max(1, len(hidden)) ** 2))
        means, covariances = [], []
        for start in range(0, len(self.mean), size):
            rows = slice(start, start + size)
            law = self._rows(rows).pairs(y, future)
            state = torch.empty(*law.mean.shape[:2], self.mean.shape[1], dtype=y.dtype, device=y.device)
            state[..., seen], state[..., hidden] = y.expand(len(law.mean), -1, -1), law.mean
            drawn = self.source.mean[rows, None] + (state - self.mean[rows, None]) @ back[rows].mT
            mean, covariance = _moments(drawn.transpose(0, 1), shares[rows].T)
            inner = (shares[rows, :, None, None] * law.covariance).sum(1)
            towards = back[rows][:, :, hidden]
            means.append(mean)
            covariances.append(covariance + left[rows] + towards @ inner @ towards.mT)
        joined = torch.cat(covariances)
        return HiddenLaw(torch.cat(means), (joined + joined.mT) / 2)

    def _rows(self, chosen: slice) -> Prediction:
        flow = self.flow if len(self.flow) == 1 else self.flow[chosen]
        source = HiddenLaw(self.source.mean[chosen], self.source.covariance[chosen])
        return Prediction(self.mean[chosen], self.covariance[chosen], flow, source, self.reference)

    def _blocks(self, ends: int) -> Iterator[slice]:
        size = max(1, _PAIRS // (len(self.mean) * max(1, len(self.reference.hidden)) ** 2))
        for start in range(0, ends, size):
            yield slice(start, start + size)


def predict(
    reference: LiftedReference, x: Tensor, law: HiddenLaw, start: float, elapsed: float, *, substeps: int = 16
) -> Prediction:
    """Move the points of a population and what is known of their hidden coordinates.

    Parameters
    ----------
    reference
        The reference, and which of its coordinates are observed.
    x
        Points ``(n, d)``, float64.
    law
        Their hidden coordinates.
    start
        Their time.
    elapsed
        Time to move them.
    substeps
        See :func:`~gendyn.bridges.transition.transition_law`.
    """
    duration = torch.tensor([elapsed], dtype=torch.float64)
    moved = transition_law(reference.process, reference.state(x, law.mean), start, duration, substeps=substeps)
    flow = moved.flow
    towards = flow[:, :, reference.hidden]
    covariance = towards @ law.covariance @ towards.mT + moved.covariances[-1]
    return Prediction(moved.means[-1], (covariance + covariance.mT) / 2, flow, law, reference)


def symmetric_root(covariance: Tensor) -> Tensor:
    r"""Return a root :math:`R` with :math:`R R^\top = C` of ``(..., h, h)``; negative rounding errors count as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt()[..., None, :]
    return root


def symmetric_inverse(covariance: Tensor) -> Tensor:
    """Return the inverse of ``(..., h, h)``, without the directions that have no variance."""
    scale = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).sqrt()
    values, vectors = torch.linalg.eigh(covariance / scale[..., None, :] / scale[..., :, None])
    inverse = torch.where(values > _SINGULAR, 1 / values.clamp_min(_SINGULAR), 0.0)
    vectors = vectors / scale[..., None]
    found: Tensor = (vectors * inverse[..., None, :]) @ vectors.mT
    return found


def _narrowed(root: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    r"""Add a precision to normal laws of covariance :math:`R R^\top`.

    Returns
    -------
    tuple of Tensor
        A root of the new covariance, transposed, :math:`L^{-1} R^\top` with
        :math:`L L^\top = I + R^\top \Lambda R`, and :math:`\log \det L`. One pair has few hidden coordinates and there
        are millions of pairs: the factorisation runs over the coordinates, and over all pairs at once.
    """
    inner = root.mT @ precision @ root
    size = inner.shape[-1]
    rows: list[Tensor] = []
    factor: list[list[Tensor]] = []
    log_factor = torch.zeros_like(inner.diagonal(dim1=-2, dim2=-1).sum(-1))
    for i in range(size):
        factor.append([])
        solved = root.mT[..., i, :]
        for j in range(i + 1):
            left = inner[..., i, j] + (i == j)
            for known in range(j):
                left = left - factor[i][known] * factor[j][known]
            factor[i].append(left.sqrt() if i == j else left / factor[j][j])
            if j < i:
                solved = solved - factor[i][j][..., None] * rows[j]
        rows.append(solved / factor[i][i][..., None])
        log_factor = log_factor + factor[i][i].log()
    half = torch.stack(rows, -2) if rows else inner
    return half, log_factor


def _moments(values: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean ``(m, H)`` and covariance ``(m, H, H)`` of ``values (n, m, H)`` under shares ``(n, m)``."""
    mean = (shares[..., None] * values).sum(0)
    apart = values - mean
    covariance = torch.einsum("ij,ija,ijb->jab", shares, apart, apart)
    return mean, covariance
