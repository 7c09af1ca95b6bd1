r"""The likeliest size of the noise at a given drift, by a search over one number.

Means of the Gaussian transition laws do not depend on the noise, and their covariances are in proportion to
:math:`\sigma^2`. With :math:`c = \sigma^2 / \sigma_0^2` therefore

.. math:: \log p_\sigma(y \mid x) = k(x) - \tfrac d2 \log c - \frac{q(x, y)}{2c},

and two evaluations, at :math:`c = 1` and :math:`c = 2`, tell :math:`k` and :math:`q` for all pairs.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from gendyn.bridges.refinement_engine import Engine, geometric_mean

__all__ = ["NoiseEngine"]

_REACH = 9.0
"""How far the logarithm of sigma may move at once."""


class NoiseEngine(Engine):
    """One search for the sigma under which every population is likeliest, given the one before.

    Several sigmas, one a feature, keep their ratios.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`.

    Examples
    --------
    >>> from gendyn.bridges.marginals import Marginals
    >>> from gendyn.bridges.references import Brownian
    >>> from gendyn.data import Snapshots
    >>> data = Snapshots([0.0, 4.0], [torch.zeros(1, 1), torch.tensor([[-6.0], [6.0]])])
    >>> reference = Brownian(sigma=0.1).start(data)
    >>> _ = NoiseEngine(reference, Marginals.of(data)).step(0)
    >>> round(reference.log_sigma.exp().item(), 3)  # 6 / sqrt(4)
    3.0
    """

    name = "noise"
    total = 1

    @torch.no_grad()
    def step(self, m: int) -> dict[str, float]:
        """Find the noise; the objective is the likelihood with it."""
        reference, intervals = self.reference, self.marginals.intervals
        first = list(self.marginals.log_densities(reference))
        reference.log_sigma.add_(0.5 * math.log(2.0))
        second = self.marginals.log_densities(reference)
        reference.log_sigma.sub_(0.5 * math.log(2.0))
        half = 0.5 * self.marginals.dim
        squares = [4 * (b - a + half * math.log(2.0)) for a, b in zip(first, second, strict=True)]
        constants = [a + q / 2 + w.log()[:, None] for a, q, (w, _) in zip(first, squares, intervals, strict=True)]

        def cost(log_sigma: float) -> float:
            scale, total = math.exp(-2 * log_sigma), 0.0
            for k, q, (_, b) in zip(constants, squares, intervals, strict=True):
                total -= float(b @ torch.logsumexp(k - 0.5 * scale * q, 0))
            return total + 2 * half * log_sigma * len(intervals)

        found = minimize_scalar(cost, bounds=(-_REACH, _REACH), method="bounded", options={"xatol": 1e-4})
        reference.log_sigma.add_(float(found.x))
        return {"objective": float(found.fun), "sigma": geometric_mean(reference.log_sigma)}

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing: there is one step."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put nothing back."""
