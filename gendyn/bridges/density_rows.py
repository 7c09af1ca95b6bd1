"""Transition densities between large populations, formed a block of rows at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.bridges.transition import TransitionLaw
from gendyn.coupling.row_blocks import LogDensities

__all__ = ["EachNormal", "OneNormal", "density_rows"]


def density_rows(law: TransitionLaw, y: Tensor) -> LogDensities:
    r"""Return :math:`\log p(y_j \mid x_i)` of a law at its last time, as it is asked for.

    Examples
    --------
    >>> from gendyn.bridges.transition import transition_law
    >>> from gendyn.systems import BrownianMotion
    >>> law = transition_law(BrownianMotion(), torch.zeros(1, 1, dtype=torch.float64), 0.0, torch.tensor([1.0]))
    >>> rows = density_rows(law, torch.ones(2, 1, dtype=torch.float64))
    >>> rows.exponents(slice(None), torch.zeros(1).double(), torch.tensor([0.0, 1.0]).double())
    tensor([[-1.4189, -0.4189]], dtype=torch.float64)
    """
    return OneNormal.of(law, y) if len(law.factor) == 1 else EachNormal(law, y)


class OneNormal:
    r"""Normal densities of one covariance: a product of two thin matrices has all exponents at once.

    .. math:: \log p(y_j \mid x_i) + r_i + c_j = u_i \cdot v_j + (r_i - \tfrac12 \lVert u_i \rVert^2)
        + (c_j - \tfrac12 \lVert v_j \rVert^2 + \text{const}),

    with u and v the means and the ends in the coordinates in which the noise is white.

    Parameters
    ----------
    means, ends
        :math:`u` ``(n, d)`` and :math:`v` ``(m, d)``, float64.
    constant
        Logarithm of the density at a mean.
    """

    def __init__(self, means: Tensor, ends: Tensor, constant: float) -> None:
        self.means = means
        self.ends = ends
        self.constant = constant
        self._last: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, law: TransitionLaw, y: Tensor) -> OneNormal:
        """Return the densities of a law whose covariance all sources share."""
        factor = law.factor[0]
        # Centred, so that squares stay small.
        centre = y.mean(0)
        means, ends = (torch.linalg.solve_triangular(factor, (x - centre).T, upper=False).T for x in (law.means[-1], y))
        constant = -float(factor.diagonal().log().sum()) - 0.5 * y.shape[1] * math.log(2 * math.pi)
        return cls(means, ends, constant)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``."""
        return len(self.means), len(self.ends)

    def exponents(self, rows: slice | Tensor, row_terms: Tensor, column_terms: Tensor) -> Tensor:
        """Return the exponents of some rows, ``(r, m)``."""
        u = self.means[rows]
        ones = torch.ones_like(u[:, :1])
        left = torch.cat([u, ones, (row_terms - 0.5 * u.square().sum(1))[:, None]], 1)
        return left @ self._right(column_terms)

    def _right(self, column_terms: Tensor) -> Tensor:
        """Return the factor of the columns; all blocks of a pass share one."""
        if self._last is None or self._last[0] is not column_terms:
            ends = column_terms + self.constant - 0.5 * self.ends.square().sum(1)
            right = torch.cat([self.ends, ends[:, None], torch.ones_like(ends[:, None])], 1).T.contiguous()
            self._last = column_terms, right
        return self._last[1]

    def columns(self, chosen: Tensor) -> OneNormal:
        """Return the densities at some of the ends alone."""
        return OneNormal(self.means, self.ends[chosen], self.constant)


class EachNormal:
    """Normal densities whose covariances differ among sources.

    Parameters
    ----------
    law
        The law.
    ends
        Ends ``(m, d)``, float64.
    """

    def __init__(self, law: TransitionLaw, ends: Tensor) -> None:
        self.law = law
        self.ends = ends

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``."""
        return len(self.law.sources), len(self.ends)

    def exponents(self, rows: slice | Tensor, row_terms: Tensor, column_terms: Tensor) -> Tensor:
        """Return the exponents of some rows, ``(r, m)``."""
        found = self.law.rows(rows).log_density(self.ends)
        return found.add_(row_terms[:, None]).add_(column_terms)

    def columns(self, chosen: Tensor) -> EachNormal:
        """Return the densities at some of the ends alone."""
        return EachNormal(self.law, self.ends[chosen])
