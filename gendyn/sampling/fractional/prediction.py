r"""Stationary Gaussian series one value after the other (Durbin 1960, Levinson 1947; Hosking 1984).

The next value given all before it is normal, with mean :math:`\sum_{j=1}^{k} \phi_{kj} x_{k-j}` and variance
:math:`v_k`, where :math:`v_0 = \rho(0)` and

.. math::

    \phi_{kk} = \frac{\rho(k) - \sum_{j<k} \phi_{k-1,j}\, \rho(k-j)}{v_{k-1}}, \qquad
    \phi_{kj} = \phi_{k-1,j} - \phi_{kk}\, \phi_{k-1,k-j}, \qquad v_k = v_{k-1} (1 - \phi_{kk}^2).

The same recursion draws a series without knowing its length, and factors its likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling.fractional.laws import check_hurst, noise_autocovariance

__all__ = ["one_step_predictions", "stream_fractional_noise"]

Array = NDArray[np.float64]

_ROOM = 256
"""Autocovariances that are computed at first; twice as many whenever they are used up."""


def one_step_predictions(autocovariance: Callable[[int], Array]) -> Iterator[tuple[Array, float]]:
    r"""Yield coefficients :math:`\phi_{k1}, \dots, \phi_{kk}` and variance :math:`v_k` for k = 0, 1, ... without end.

    Parameters
    ----------
    autocovariance
        Returns :math:`\rho(0), \dots, \rho(m-1)` for a number m, float64.

    Raises
    ------
    ValueError
        If these are no autocovariances: a variance of prediction is not positive.

    Examples
    --------
    >>> from itertools import islice
    >>> first_order = one_step_predictions(lambda m: 0.5 ** np.arange(m))
    >>> [(phi.round(6).tolist(), variance) for phi, variance in islice(first_order, 3)]
    [([], 1.0), ([0.5], 0.75), ([0.5, 0.0], 0.75)]
    """
    rho = autocovariance(_ROOM)
    variance, phi, k = float(rho[0]), np.zeros(0), 0
    while True:
        if not variance > 0:
            raise ValueError(f"this is not the autocovariance of a series: after {k} values the next one is certain")
        yield phi, variance
        k += 1
        if k == len(rho):
            rho = autocovariance(2 * k)
        last = float(rho[k] - phi @ rho[k - 1 : 0 : -1]) / variance
        phi = np.append(phi - last * phi[::-1], last)
        variance *= 1 - last**2


def stream_fractional_noise(hurst: float, n: int, *, step: float = 1.0, seed: Seed = 0) -> Iterator[Tensor]:
    """Yield fractional Gaussian noise value after value, exact in law, for as long as it is asked for.

    Value k costs as much as there were before it. Where the length is known,
    :func:`~gendyn.sampling.sample_fractional_noise` is faster.

    Parameters
    ----------
    hurst
        :math:`H`.
    n
        Number of series.
    step
        Time between two values.
    seed
        Seed or generator.

    Yields
    ------
    Tensor
        ``(n,)``, float64.

    Raises
    ------
    ValueError
        If ``hurst`` or the step is not possible.

    Examples
    --------
    >>> from itertools import islice
    >>> values = torch.stack(list(islice(stream_fractional_noise(0.9, n=2000), 3)), dim=1)
    >>> round((values[:, 0] * values[:, 1]).mean().item(), 1)
    0.7
    """
    index, key = check_hurst(hurst), as_seed(seed)

    def autocovariance(m: int) -> Array:
        return noise_autocovariance(torch.arange(m), index, step).numpy()

    before = torch.empty(n, _ROOM, dtype=torch.float64)
    for k, (phi, variance) in enumerate(one_step_predictions(autocovariance)):
        if k == before.shape[1]:
            before = torch.cat([before, torch.empty_like(before)], 1)
        normals = torch.randn(n, dtype=torch.float64, generator=torch_generator(derive_seed(key, "value", k)))
        value = before[:, :k] @ torch.from_numpy(phi[::-1].copy()) + math.sqrt(variance) * normals
        before[:, k] = value
        yield value
