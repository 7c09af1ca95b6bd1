r"""The Kalman filter and smoother of a linear Gaussian state that is seen through one number at a time.

.. math::

    z_{k+1} = F_k z_k + q_k, \quad q_k \sim \mathcal N(0, Q_k), \qquad y_k = c^\top z_k + r_k, \quad
    r_k \sim \mathcal N(0, R)

The filter keeps, for each observation, its innovation :math:`e_k = y_k - c^\top m_k`, the variance
:math:`S_k = c^\top P_k c + R` of that, and :math:`P_k c`; their densities multiply to that of the series. The smoother
goes back over these (Bryson and Frazier 1963; de Jong 1989), with :math:`g = P_k c / S_k`,

.. math::

    \lambda_k = c\, e_k / S_k + (I - c g^\top) F_k^\top \lambda_{k+1}, \qquad
    E[c^\top z_k \mid y] = c^\top m_k + (P_k c)^\top \lambda_k ,

and inverts no covariance: those of a short step are singular to rounding. A time that nobody looked at changes neither,
so a question about it is one more row. Several channels are several rows, a step of length zero apart.

Series that share their times and gaps share the covariances: they are columns of one law.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gendyn.sampling.fractional.shared_driver import symmetric_root

__all__ = ["FilteredSeries", "LinearState", "Step"]

Step = Callable[[int], tuple[Tensor, Tensor]]
r"""Of a number k, :math:`F_k` and :math:`Q_k (..., d, d)`; F of one axis less is the diagonal of a diagonal matrix."""


@dataclass(frozen=True, eq=False)
class FilteredSeries:
    r"""What a filter leaves of L rows, G laws and M columns.

    Attributes
    ----------
    predicted
        :math:`c^\top m_k`, each given the rows before it, ``(L, *G, M)``.
    innovations
        :math:`e_k`, ``(L, *G, M)``, 0 where nothing was observed.
    variances
        :math:`S_k`, ``(L, *G)``, that of an observation, made or not.
    gains
        :math:`P_k c`, ``(L, *G, d)``.
    seen
        Which rows were observed, ``(L, *G)``.
    """

    predicted: Tensor
    innovations: Tensor
    variances: Tensor
    gains: Tensor
    seen: Tensor

    @property
    def log_density(self) -> Tensor:
        """The log density of each column, ``(*G, M)``."""
        terms = self.innovations.square() / self.variances[..., None] + self.variances.log()[..., None]
        terms = torch.where(self.seen[..., None], terms + math.log(2 * math.pi), 0.0)
        return -0.5 * terms.sum(0)


@dataclass(frozen=True, eq=False)
class LinearState:
    r"""A linear Gaussian state, and how it is seen; all float64.

    Parameters
    ----------
    start
        Covariance :math:`P_0` of the first state, ``(*G, d, d)``; its mean is 0: subtract the mean of a series first.
    step
        :data:`Step`, asked for k = 0, ..., L - 2 one after the other, so that no more than one is held.
    output
        :math:`c`, ``(*G, d)``.
    noise
        :math:`R`, the variance of the noise of an observation, ``(*G)``; may be 0.

    Examples
    --------
    A level that wanders, seen with noise:

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> level = LinearState(torch.eye(1).double(), lambda k: (one, torch.eye(1).double()), one, one.squeeze())
    >>> series = torch.tensor([[1.0], [2.0], [0.0]], dtype=torch.float64)
    >>> found = level.filter(series, torch.tensor([True, True, False]))
    >>> found.predicted.flatten()
    tensor([0.0000, 0.5000, 1.4000], dtype=torch.float64)
    >>> mean, variance = level.smooth(found)
    >>> mean.flatten(), variance
    (tensor([0.8000, 1.4000, 1.4000], dtype=torch.float64), tensor([0.4000, 0.6000, 1.6000], dtype=torch.float64))
    """

    start: Tensor
    step: Step
    output: Tensor
    noise: Tensor

    def filter(self, values: Tensor, seen: Tensor) -> FilteredSeries:
        """Filter columns of observations.

        Parameters
        ----------
        values
            ``(L, *G, M)``, anything where nothing was observed; axes of the laws may be 1 and broadcast.
        seen
            Which rows were observed, ``(L, *G)``, broadcasting too; the same of all columns.

        Returns
        -------
        FilteredSeries
            Of ``L`` rows.
        """
        c, covariance = self.output, self.start
        shape = np.broadcast_shapes(c.shape[:-1], covariance.shape[:-2], self.noise.shape, seen.shape[1:])
        c, covariance = c.expand(*shape, -1), covariance.expand(*shape, -1, -1)
        values = torch.where(seen[..., None], values, 0.0)
        mean = values.new_zeros(*shape, values.shape[-1], c.shape[-1])
        tiny = torch.finfo(values.dtype).tiny
        predicted, innovations, variances, gains = [], [], [], []
        for k in range(len(values)):
            if k:
                matrix, added = self.step(k - 1)
                if matrix.ndim < added.ndim:
                    mean = mean * matrix[..., None, :]
                    covariance = matrix[..., :, None] * covariance * matrix[..., None, :] + added
                else:
                    mean = mean @ matrix.mT
                    covariance = matrix @ covariance @ matrix.mT + added
            looked = seen[k].expand(shape)
            gain = (covariance @ c[..., None])[..., 0]
            variance = ((gain * c).sum(-1) + self.noise).clamp_min(tiny)
            shown = (mean @ c[..., None])[..., 0]
            gap = torch.where(looked[..., None], values[k] - shown, 0.0)
            predicted.append(shown)
            innovations.append(gap)
            variances.append(variance)
            gains.append(gain)
            weight = torch.where(looked, 1 / variance, 0.0)
            share = gain * weight[..., None]
            mean = mean + gap[..., None] * share[..., None, :]
            covariance = covariance - share[..., :, None] * gain[..., None, :]
        return FilteredSeries(
            torch.stack(predicted),
            torch.stack(innovations),
            torch.stack(variances),
            torch.stack(gains),
            seen.expand(len(values), *shape),
        )

    def smooth(self, found: FilteredSeries) -> tuple[Tensor, Tensor]:
        r"""Return mean ``(L, *G, M)`` and variance ``(L, *G)`` of :math:`c^\top z_k` given all observations."""
        c, d = self.output, self.output.shape[-1]
        shape = found.variances.shape[1:]
        means, variances = [], []
        slope = found.predicted.new_zeros(*shape, found.predicted.shape[-1], d)
        bend = slope.new_zeros(*shape, d, d)
        for k in range(len(found.variances) - 1, -1, -1):
            if k < len(found.variances) - 1:
                matrix, added = self.step(k)
                if matrix.ndim < added.ndim:
                    slope = slope * matrix[..., None, :]
                    bend = matrix[..., :, None] * bend * matrix[..., None, :]
                else:
                    slope, bend = slope @ matrix, matrix.mT @ bend @ matrix
            gain = found.gains[k]
            weight = torch.where(found.seen[k], 1 / found.variances[k], 0.0)
            share = gain * weight[..., None]
            # (I - c g^T) from the left, and its transpose from the right.
            along = (slope @ share[..., None])[..., 0]
            slope = slope + (found.innovations[k] * weight[..., None] - along)[..., None] * c[..., None, :]
            turned = (bend @ share[..., None])[..., 0]
            twice = (turned * share).sum(-1) + weight
            across = c[..., :, None] * turned[..., None, :]
            bend = bend - across - across.mT + twice[..., None, None] * c[..., :, None] * c[..., None, :]
            means.append(found.predicted[k] + (slope @ gain[..., None])[..., 0])
            spent = (gain * (bend @ gain[..., None])[..., 0]).sum(-1)
            variances.append(((gain * c).sum(-1) - spent).clamp_min(0.0))
        return torch.stack(means[::-1]), torch.stack(variances[::-1])

    def draw(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        r"""Return paths of :math:`c^\top z_k` without noise, ``(rows, *G, columns)``, as many columns of each law."""
        c = self.output
        shape = np.broadcast_shapes(c.shape[:-1], self.start.shape[:-2], self.noise.shape)
        width = c.shape[-1]
        found, state, matrix, covariance = [], None, None, self.start
        for k in range(rows):
            if k:
                matrix, covariance = self.step(k - 1)
            # A step of length zero, or one that is short, has a covariance that is singular to rounding.
            root = symmetric_root(covariance)
            normals = torch.randn(columns, *shape, width, dtype=torch.float64, generator=generator)
            fresh = (root @ normals[..., None])[..., 0]
            if state is None or matrix is None:
                state = fresh
            elif matrix.ndim < covariance.ndim:
                state = matrix * state + fresh
            else:
                state = (matrix @ state[..., None])[..., 0] + fresh
            found.append((state * c).sum(-1).movedim(0, -1))
        return torch.stack(found)
