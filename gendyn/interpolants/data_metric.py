r"""Metrics that are cheap where data are and dear elsewhere, so that shortest paths keep to the data.

Each is diagonal. With rows :math:`x_i` of a sample, the length of a step :math:`\dot x` at :math:`x` is measured by

.. math:: \sum_d \dot x_d^2\, G_d(x)^p, \qquad G_d(x) = \frac{1}{\rho + h_d(x)},

and the two differ in what is large near data:

.. math:: h_d = \sum_i e^{-\lvert x - x_i\rvert^2 / 2\kappa^2} (x_{i,d} - x_d)^2 \quad\text{(land)}, \qquad
    h_d = \sum_k \omega_k e^{-\lvert x - c_k\rvert^2 / 2 s_k^2} \quad\text{(rbf)}.

The first is the local spread of the data (Arvanitidis, Hansen and Hauberg 2016). The second has the centres
:math:`c_k` of clusters, widths :math:`s_k` of :math:`\kappa` times the mean distance from them, and weights
:math:`\omega_k \ge 0` for which h is 1 at the data, in the least squares (Arvanitidis, Hansen and Hauberg 2018). They
are the metrics of Kapusniak et al. (2024), where the first serves few dimensions and the second many.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.optimize import nnls
from torch import Tensor

from gendyn.randomness import Seed, numpy_generator

__all__ = ["METRICS", "DataMetric", "Land", "RadialBasis", "get_metric"]

MetricField = Callable[[Tensor], Tensor]
"""Positions ``(B, d)`` to the weights :math:`G_d(x)^p` of the squared speeds, ``(B, d)``, float64."""


@dataclass(frozen=True)
class DataMetric(ABC):
    r"""A metric before it has seen data.

    Attributes
    ----------
    kappa
        Reach of a point; of ``"land"`` in units of the scaled data.
    rho
        Regularisation: far from all data a squared speed weighs :math:`\rho^{-p}`. ``"median"`` takes the median of
        :math:`h` at the data, so that no place is more than :math:`2^p` times as dear as a typical point of it: paths
        bend little.
    power
        The exponent p.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    kappa: float
    rho: float | str
    power: float

    def __post_init__(self) -> None:
        for name in ("kappa", "rho", "power"):
            value = getattr(self, name)
            if name == "rho" and isinstance(value, str):
                if value != "median":
                    raise ValueError(f"rho of a metric must be a positive number or 'median'; got {value!r}")
            elif not value > 0:
                raise ValueError(f"{name} of a metric must be positive; got {value}")

    @abstractmethod
    def fit(self, data: Tensor, *, seed: Seed = 0) -> MetricField:
        """Return the metric of a sample ``(n, d)``."""

    def _regularisation(self, at_data: Callable[[], Tensor]) -> float:
        """Return rho, given h at the data."""
        return float(at_data().median()) if isinstance(self.rho, str) else self.rho


@dataclass(frozen=True)
class Land(DataMetric):
    """The local spread of a sample; the defaults are those published for five whitened dimensions.

    Warns
    -----
    UserWarning
        If most points have no other within reach: the metric is then the same everywhere, and paths are straight.

    Examples
    --------
    >>> near_and_far = torch.tensor([[0.05], [3.0]])
    >>> cost = Land().fit(torch.linspace(-1.0, 1.0, 50)[:, None])(near_and_far)
    >>> bool(cost[0] < 1e-3 * cost[1])
    True
    """

    kappa: float = 0.125
    rho: float | str = 1e-3
    power: float = 2.0

    def fit(self, data: Tensor, *, seed: Seed = 0) -> MetricField:
        """Return the metric of a sample ``(n, d)``."""
        points = data.detach().double()
        squares, ones = points.square(), torch.ones_like(points[:, :1])
        # Minus half the squared distance is bilinear in (x, |x|^2, 1) and (y, 1, |y|^2): one product makes all of them.
        seen_from = torch.cat([points, -0.5 * ones, -0.5 * squares.sum(1, keepdim=True)], 1).T / self.kappa**2
        moments = torch.cat([squares, points, ones], 1)

        def closeness(x: Tensor) -> Tensor:
            return torch.exp(torch.cat([x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1) @ seen_from)

        def spread(x: Tensor) -> Tensor:
            second, first, mass = torch.split(closeness(x) @ moments, [x.shape[1], x.shape[1], 1], 1)
            return (second - 2 * x * first + x.square() * mass).clamp_min(0)

        rho = self._regularisation(lambda: torch.cat([spread(some) for some in torch.split(points, 1000)]))

        def metric(x: Tensor) -> Tensor:
            return (rho + spread(x.double())).pow(-self.power)

        if float((closeness(points[:500]).sum(1) - 1).median()) < 1e-3:
            warnings.warn(
                f"most points have no other within kappa={self.kappa:g} of them, in scaled units: the metric is flat "
                "and paths are straight; raise kappa, or use the metric 'rbf'",
                stacklevel=2,
            )
        return metric


@dataclass(frozen=True)
class RadialBasis(DataMetric):
    """Bumps on clusters, the same in every feature: for many dimensions, where no point is near another.

    Attributes
    ----------
    clusters
        How many bumps at most.

    Examples
    --------
    >>> x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    >>> cost = RadialBasis().fit(x)(torch.cat([x, x + 5]))[:, 0]
    >>> bool(cost[:300].median() < 0.1 * cost[300:].median())
    True
    """

    kappa: float = 1.5
    rho: float | str = 0.01
    power: float = 1.0
    clusters: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clusters < 1:
            raise ValueError(f"clusters of a metric must be at least 1; got {self.clusters}")

    def fit(self, data: Tensor, *, seed: Seed = 0) -> MetricField:
        """Return the metric of a sample ``(n, d)``; the seed is that of the clusters."""
        points = data.detach().double().cpu().numpy()
        count = min(int(self.clusters), len(points))
        rng = numpy_generator(seed, "clusters")
        centres, labels = kmeans2(points, count, iter=25, minit="++", missing="warn", seed=rng)
        kept = np.unique(labels)
        distance = np.linalg.norm(points - centres[labels], axis=1)
        width = self.kappa * np.array([distance[labels == k].mean() for k in kept])
        # A cluster of one point has no width of its own.
        width[width == 0] = np.median(width[width > 0]) if (width > 0).any() else self.kappa
        middle = torch.from_numpy(centres[kept]).to(data.device)
        precision = torch.from_numpy(width**-2.0).to(data.device)

        def bumps(x: Tensor) -> Tensor:
            apart = x.square().sum(1)[:, None] + middle.square().sum(1) - 2 * x @ middle.T
            return torch.exp(-0.5 * precision * apart.clamp_min(0))

        rows = data.detach().double()
        solved, _ = nnls(bumps(rows).cpu().numpy(), np.ones(len(points)))
        weights = torch.from_numpy(solved).to(data.device)

        rho = self._regularisation(lambda: bumps(rows) @ weights)

        def metric(x: Tensor) -> Tensor:
            return (rho + bumps(x.double()) @ weights).pow(-self.power)[:, None].expand(-1, x.shape[1])

        return metric


METRICS: Mapping[str, type[DataMetric]] = MappingProxyType({"land": Land, "rbf": RadialBasis})
"""Name to class; a new metric joins by a line here."""


def get_metric(metric: str | tuple[str | float, ...]) -> DataMetric:
    """Return a metric by name, or by name and parameters.

    Raises
    ------
    ValueError
        If there is none of that name, or it has fewer parameters.

    Examples
    --------
    >>> get_metric(("land", 0.5))
    Land(kappa=0.5, rho=0.001, power=2.0)
    """
    name, parameters = (metric, ()) if isinstance(metric, str) else (str(metric[0]), tuple(metric[1:]))
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    kind: Callable[..., DataMetric] = METRICS[name]
    taken = [f.name for f in fields(METRICS[name])]
    if len(parameters) > len(taken):
        raise ValueError(f"metric {name!r} has the parameters {', '.join(taken)}; got {len(parameters)} of them")
    return kind(*parameters)
