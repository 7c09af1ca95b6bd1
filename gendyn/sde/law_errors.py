r"""Standard errors of Hurst indices from the curvature of a bound.

The parameters of the law of each channel, :math:`\ln\frac{H}{1-H}`, :math:`\ln v`, :math:`\ln s`,
:math:`\theta` and b, and the knots of a diffusion that depends on the state, as far as they were learned, have the
covariance :math:`(-\nabla^2 L)^{-1}` at the end of the fit, where L is the bound of all series. Its second derivatives
are differences of first ones with the same noise; networks are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gendyn.sde.fractional_model import FractionalModel
from gendyn.sde.series import Series

__all__ = ["hurst_errors"]

_MOST = 64
"""Series whose bound is differentiated; of more, these speak for all."""

_SAMPLES = 4
_STEP = 0.01


def hurst_errors(
    model: FractionalModel, scaled: Series, grid: Callable[[Series], tuple[Tensor, Tensor]], seed: int
) -> Tensor:
    """Return the standard error of the logarithm of the odds of each H, ``(D,)``; infinite where none is told.

    Parameters
    ----------
    model
        At the end of its fit.
    scaled
        Series.
    grid
        Their grid and places.
    seed
        Of the noise.
    """
    prior = model.prior
    law = [prior.logit_hurst, prior.log_deviation, model.log_noise]
    law = [p for p, free in zip(law, (True, True, model.free_noise), strict=True) if free]
    if prior.free_drift:
        law += [prior.rate, prior.offset]
    if model.transform is not None:
        law.append(model.transform.log_size)
    flags = [p.requires_grad for p in law]
    for p in law:
        p.requires_grad_(True)
    part = scaled.rows(slice(0, _MOST))
    scale, dim = len(scaled) / len(part), prior.dim

    def slope() -> Tensor:
        bound = model.bound(part, *grid(part), seed=seed, n_samples=_SAMPLES).value().sum()
        return scale * torch.cat([g.flatten().to("cpu", torch.float64) for g in torch.autograd.grad(bound, law)])

    rows, here = [], slope()
    for p in law:
        entries = p.data.view(-1)
        for k in range(len(entries)):
            entries[k] += _STEP
            rows.append((slope() - here) / _STEP)
            entries[k] -= _STEP
    for p, flag in zip(law, flags, strict=True):
        p.requires_grad_(flag)
    curvature = -torch.stack(rows)
    values, vectors = torch.linalg.eigh((curvature + curvature.mT) / 2)
    told = values > 1e-3
    # What is not told of a parameter is not told of H if the two are entangled.
    hidden = vectors[:dim, ~told].square().sum(1) > 0.01
    errors = (vectors[:dim, told].square() / values[told]).sum(1).sqrt()
    return torch.where(hidden, math.inf, errors)
