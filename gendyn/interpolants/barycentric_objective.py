r"""What barycentric interpolants minimise: a regression of means, and the cost of a path on the simplex.

.. math:: L(g) = E \sum_k \tfrac12 \lvert g_k(a, x(a)) - x_k \rvert^2, \qquad
    \mathcal{C}(a) = \int_0^1 E \Bigl\lvert \sum_k \dot a_k\, g_k(a(t), x(a(t))) \Bigr\rvert^2 dt .

The coordinates a of the regression are uniform on the simplex (Albergo, Boffi, Lindsey and Vanden-Eijnden 2023), and
for half of the rows uniform on one of its edges, where most paths run and a uniform law never looks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn.interpolants.barycentric_flow import BarycentricNetwork, Path
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.simplex_path import SimplexPath
from gendyn.randomness import torch_generator

__all__ = ["MeansObjective", "PathObjective", "mean_square_speed"]


class MeansObjective:
    """The regression of the conditional means, in scaled units.

    Parameters
    ----------
    module
        Conditional means, ``(a, z) -> (B, K, d)``.
    training, validation
        Coupled populations to learn from, and such that only watch.
    batch_size
        Tuples per step.
    """

    def __init__(
        self, module: BarycentricNetwork, training: CoupledPaths, *, validation: CoupledPaths | None, batch_size: int
    ) -> None:
        self.module = module
        self.training = training
        self.validation = validation
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        return self._error(self.training, self.batch_size, generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching cells, with the same tuples and coordinates at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation cells: give it some, or do not ask for early stopping")
        with torch.no_grad():
            return float(self._error(self.validation, 4096, torch_generator(0, "validation")))

    def _error(self, coupled: CoupledPaths, n: int, generator: torch.Generator) -> Tensor:
        points = coupled.points(torch.randint(0, len(coupled), (n,), generator=generator))
        a = _coordinates(n, points.shape[1], generator).to(points)
        x = torch.bmm(a[:, None], points)[:, 0]
        error: Tensor = (self.module(a, x) - points).square().sum((1, 2)).mean()
        return 0.5 * error


class PathObjective:
    """The cost of a path, with times stratified over the batch.

    Parameters
    ----------
    module
        The path, whose coefficients are trained.
    network
        Conditional means.
    tuples
        Coupled points ``(n, K, d)``.
    batch_size
        Tuples per step.
    """

    def __init__(self, module: SimplexPath, network: nn.Module, tuples: Tensor, batch_size: int) -> None:
        self.module = module
        self.network = network
        self.tuples = tuples
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the cost on one mini-batch; everything random comes from ``generator``."""
        n = self.batch_size
        rows = torch.randint(0, len(self.tuples), (n,), generator=generator).to(self.tuples.device)
        s = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        return mean_square_speed(self.network, self.module, s.to(self.tuples.device), self.tuples[rows])


def mean_square_speed(network: nn.Module, path: Path, s: Tensor, tuples: Tensor) -> Tensor:
    """Return the mean squared velocity along a path, at times ``(B,)`` and tuples ``(B, K, d)``.

    Examples
    --------
    >>> edge = SimplexPath(2, 0, 1, torch.zeros(2, 1))
    >>> known = torch.tensor([[[0.0], [3.0]]])
    >>> mean_square_speed(lambda a, x: known, edge, torch.tensor([0.5]).double(), known).item()
    9.0
    """
    a, rate = (v.to(tuples) for v in path(s))
    means = network(a, torch.bmm(a[:, None], tuples)[:, 0])
    cost: Tensor = (rate[:, :, None] * means).sum(1).square().sum(1).mean()
    return cost


def _coordinates(n: int, corners: int, generator: torch.Generator) -> Tensor:
    """Draw points of the simplex ``(n, K)``, the first half of them on edges."""
    # Exponential variables over their sum are uniform on the simplex, and on the edge that is left of it.
    weights = -torch.rand(n, corners, generator=generator, dtype=torch.float64).clamp_min(1e-300).log()
    order = torch.rand(n, corners, generator=generator).argsort(1)
    edges = torch.arange(n)[:, None] < n // 2
    weights = torch.where(edges & (order >= 2), 0.0, weights)
    return weights / weights.sum(1, keepdim=True)
