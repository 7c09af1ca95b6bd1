r"""Brownian motion whose noise follows the scale of every interval, as transport maps of cells are usually regularised.

.. math:: dX = \sigma_k\,dW \text{ between } t_k \text{ and } t_{k+1}, \qquad
    2 \sigma_k^2 (t_{k+1} - t_k) = \varepsilon\, \operatorname{median}_{ij} \lVert x_i - y_j \rVert^2

Waddington-OT takes :math:`\varepsilon = 0.05` (Schiebinger et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gendyn.coupling.cost import cost_matrix
from gendyn.coupling.waddington import median_cost
from gendyn.data import Snapshots
from gendyn.sampling import LinearProcess
from gendyn.sampling.process import Calculus, NoiseType

__all__ = ["LocalBrownian", "PiecewiseBrownian"]

_ROWS = 3000
"""Rows of every population, evenly spread, from which a median is taken."""


@dataclass(frozen=True)
class LocalBrownian:
    r"""Brownian motion as strong as the populations of each interval are far apart.

    Parameters
    ----------
    regularisation
        :math:`\varepsilon`, in medians of the squared distance.

    Raises
    ------
    ValueError
        If it is not positive.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> process = LocalBrownian(0.5).lift(Snapshots([0.0, 1.0, 3.0], [x, x + 10.0, x + 10.0]))
    >>> process.sigmas
    tensor([5.0000, 0.2500], dtype=torch.float64)
    """

    regularisation: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.regularisation < math.inf:
            raise ValueError(f"regularisation must be positive and finite; got {self.regularisation}")

    def lift(self, data: Snapshots) -> PiecewiseBrownian:
        """Return the process between these populations.

        Raises
        ------
        ValueError
            If more than half of all cells of an interval are the same.
        """
        few = [x[:: math.ceil(len(x) / _ROWS)].to(torch.float64) for x in data.samples]
        medians = torch.tensor([median_cost(cost_matrix(x, y)) for x, y in pairwise(few)], dtype=torch.float64)
        return PiecewiseBrownian(data.times, (self.regularisation * medians / (2 * data.times.diff())).sqrt(), data.dim)

    def describe(self) -> dict[str, Any]:
        """Return the reference as JSON can hold it."""
        return {"local_brownian": asdict(self)}


class PiecewiseBrownian:
    """Brownian motion with noise of its own in every interval.

    Parameters
    ----------
    times
        Where intervals begin and end, ``(K + 1,)``; the first and the last go on for ever.
    sigmas
        Coefficients of the noise ``(K,)``.
    dim
        Number of features.

    Examples
    --------
    >>> process = PiecewiseBrownian(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0]), 1)
    >>> process.diffusion(torch.tensor(1.0), torch.zeros(1, 1))
    tensor([[3.]])
    """

    noise_type: NoiseType = "diagonal"
    calculus: Calculus = "ito"

    def __init__(self, times: Tensor, sigmas: Tensor, dim: int) -> None:
        self.times = times.to(torch.float64)
        self.sigmas = sigmas.to(torch.float64)
        self.dim = dim

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zero, ``(n, d)``."""
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the noise at a time, or at times ``(n, 1)``: ``(n, d)``."""
        return self.sigmas[self._interval(t)].to(x).expand_as(x)

    def piece(self, t: float) -> LinearProcess:
        """Return the process of the interval that holds a time, or begins there."""
        zeros = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        sigma = self.sigmas[self._interval(torch.tensor(t))]
        return LinearProcess(zeros, zeros[0], sigma * torch.eye(self.dim, dtype=torch.float64))

    def _interval(self, t: Tensor) -> Tensor:
        # A time in single precision may stand just before the one at which an interval begins.
        slack = 1e-6 * self.times.diff().min()
        place = torch.searchsorted(self.times, t.detach().to("cpu", torch.float64) + slack, right=True) - 1
        return place.clamp(0, len(self.sigmas) - 1)
