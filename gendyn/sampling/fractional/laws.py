r"""Fractional Brownian motion, exactly: its two laws.

Two Gaussian processes go by the name, with :math:`0 < H < 1` and :math:`\alpha = H + \tfrac12`:

.. math::

    B^{I}(t) = \frac{1}{\Gamma(\alpha)} \int_{-\infty}^t \bigl[(t-s)_+^{\alpha-1} - (-s)_+^{\alpha-1}\bigr] dB(s),
    \qquad B^{II}(t) = \frac{1}{\Gamma(\alpha)} \int_0^t (t-s)^{\alpha-1} dB(s) .

Kind I (Mandelbrot and van Ness 1968) has an infinite past and stationary increments,

.. math:: \operatorname{Cov}[B^I(s), B^I(t)] = \tfrac12 V_I \bigl(s^{2H} + t^{2H} - |t-s|^{2H}\bigr), \qquad
    V_I = \frac{1}{\Gamma(2H+1) \sin \pi H};

kind II (Riemann and Liouville) begins at 0, its increments are not stationary, and for :math:`s \le t`

.. math:: \operatorname{Cov}[B^{II}(s), B^{II}(t)] = \frac{s^\alpha t^{\alpha-1}}{\Gamma(\alpha)\Gamma(\alpha+1)}\,
    {}_2F_1\bigl(1-\alpha, 1; \alpha+1; s/t\bigr), \qquad V_{II} = \frac{1}{2H\,\Gamma(\alpha)^2} .

Both have variance :math:`V\,t^{2H}` and are Brownian motion at :math:`H = \tfrac12`. ``normalize="raw"`` are these
formulas, ``"unit"`` divides by :math:`\sqrt V`, so that :math:`E[B(1)^2] = 1`.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from scipy.special import gamma, hyp2f1, zeta
from torch import Tensor

from gendyn.data.checks import ArrayLike

__all__ = [
    "Kind",
    "Normalize",
    "check_hurst",
    "check_kind",
    "driver_covariance",
    "fractional_covariance",
    "law_scale",
    "noise_autocovariance",
    "noise_spectrum",
    "past_covariance",
    "variance_constant",
]

Kind = Literal["I", "II"]
Normalize = Literal["unit", "raw"]


def variance_constant(hurst: float, kind: Kind = "I") -> float:
    """Return the variance of the raw process at time 1, :math:`V_I` or :math:`V_{II}`.

    Raises
    ------
    ValueError
        If ``hurst`` does not lie between 0 and 1, or there is no such kind.

    Examples
    --------
    >>> round(variance_constant(0.3, "I"), 10), round(variance_constant(0.3, "II"), 10)
    (1.3833763219, 1.2296213383)
    """
    h = check_hurst(hurst)
    if check_kind(kind) == "I":
        return 1.0 / (math.gamma(2 * h + 1) * math.sin(math.pi * h))
    return 1.0 / (2 * h * math.gamma(h + 0.5) ** 2)


def fractional_covariance(
    s: ArrayLike, t: ArrayLike, hurst: float, kind: Kind = "I", normalize: Normalize = "unit"
) -> Tensor:
    """Return the covariance of fractional Brownian motion at times ``s`` and ``t``, which broadcast; float64.

    Raises
    ------
    ValueError
        If ``hurst``, the kind or the normalisation is not possible, or a time is negative or not finite.

    Examples
    --------
    >>> times = torch.tensor([0.3, 0.7])
    >>> fractional_covariance(times[:, None], times, hurst=0.3, kind="II", normalize="raw")[0]
    tensor([0.5971, 0.4005], dtype=torch.float64)
    """
    h, norm = check_hurst(hurst), law_scale(hurst, kind, normalize)
    first, second = _check_times(s), _check_times(t)
    if kind == "I":
        unit = first.pow(2 * h) + second.pow(2 * h) - (second - first).abs().pow(2 * h)
        return 0.5 * variance_constant(h, kind) / norm**2 * unit
    return _second_kind(torch.minimum(first, second), torch.maximum(first, second), h) / norm**2


def driver_covariance(t: ArrayLike, s: ArrayLike, hurst: float, normalize: Normalize = "unit") -> Tensor:
    r"""Return the covariance of kind II at ``t`` with the Brownian motion that drives it at ``s``; float64.

    .. math:: \operatorname{Cov}[B^{II}(t), B(s)] = \frac{t^\alpha - (t - s \wedge t)^\alpha}{\Gamma(\alpha + 1)}

    for the raw process; times broadcast.

    Raises
    ------
    ValueError
        If ``hurst`` or the normalisation is not possible, or a time is negative or not finite.

    Examples
    --------
    >>> driver_covariance(2.0, [1.0, 3.0], hurst=0.5)
    tensor([1., 2.], dtype=torch.float64)
    """
    a = check_hurst(hurst) + 0.5
    later, driver = _check_times(t), _check_times(s)
    raw = (later.pow(a) - (later - torch.minimum(later, driver)).pow(a)) / math.gamma(a + 1)
    return raw / law_scale(hurst, "II", normalize)


def past_covariance(s: ArrayLike, t: ArrayLike, hurst: float) -> Tensor:
    r"""Return the raw covariance of the part of kind I that its past drives, :math:`M = B^I - B^{II}`; float64.

    It is the covariance of kind I less that of kind II. :math:`M` is independent of what drives the process after 0,
    and smooth there; times broadcast.

    Raises
    ------
    ValueError
        If ``hurst`` is not possible, or a time is negative or not finite.

    Examples
    --------
    >>> round(past_covariance(1.0, 1.0, hurst=0.3).item(), 10)  # V_I - V_II
    0.1537549836
    >>> past_covariance(1.0, 2.0, hurst=0.5).item()  # Brownian motion has no memory
    0.0
    """
    return fractional_covariance(s, t, hurst, "I", "raw") - fractional_covariance(s, t, hurst, "II", "raw")


def noise_autocovariance(lags: ArrayLike, hurst: float, step: float = 1.0) -> Tensor:
    r"""Return the autocovariance of fractional Gaussian noise, the increments of unit kind I; float64.

    .. math:: \rho(k) = \tfrac12 h^{2H} \bigl(|k+1|^{2H} - 2 |k|^{2H} + |k-1|^{2H}\bigr)

    Parameters
    ----------
    lags
        :math:`k`, in steps; any shape.
    hurst
        :math:`H`.
    step
        :math:`h`, the time between two values.

    Examples
    --------
    >>> noise_autocovariance([0, 1], hurst=0.7)
    tensor([1.0000, 0.3195], dtype=torch.float64)
    """
    h = 2 * check_hurst(hurst)
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be positive; got {step}")
    k = torch.as_tensor(lags, dtype=torch.float64).abs()
    far = k.clamp_min(2.0)
    # The second difference of k^2H loses digits where it is small against k^2H: there (1 + x)^2H is expanded.
    tail = far.pow(h) * (torch.expm1(h * torch.log1p(1 / far)) + torch.expm1(h * torch.log1p(-1 / far)))
    near = (k + 1).pow(h) - 2 * k.pow(h) + (k - 1).abs().pow(h)
    result: Tensor = 0.5 * step**h * torch.where(k >= 2, tail, near)
    return result


def noise_spectrum(frequencies: ArrayLike, hurst: float) -> Tensor:
    r"""Return the spectral density of fractional Gaussian noise at unit steps; float64.

    .. math::

        f(\lambda) = \frac{2 \sin(\pi H)\, \Gamma(2H+1)\, (1 - \cos\lambda)}{(2\pi)^{2H+2}}
        \Bigl[\zeta\bigl(2H+1, \tfrac{\lambda}{2\pi}\bigr) + \zeta\bigl(2H+1, 1 - \tfrac{\lambda}{2\pi}\bigr)\Bigr],
        \qquad \int_{-\pi}^{\pi} f(\lambda) \cos(k\lambda)\,d\lambda = \rho(k)

    with the Hurwitz zeta function, which sums all aliases exactly.

    Parameters
    ----------
    frequencies
        :math:`\lambda`, between 0 and :math:`\pi` (0 excluded), radians per step.
    hurst
        :math:`H`.

    Examples
    --------
    >>> noise_spectrum([1.0, 2.0], hurst=0.5) * 2 * math.pi
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """
    h, x = check_hurst(hurst), torch.as_tensor(frequencies, dtype=torch.float64)
    if not bool(((x > 0) & (x <= math.pi)).all()):
        raise ValueError("frequencies must lie above 0 and up to pi, in radians per step")
    turn = x.numpy() / (2 * math.pi)
    aliases = torch.as_tensor(zeta(2 * h + 1, turn) + zeta(2 * h + 1, 1 - turn))
    factor = 4 * math.sin(math.pi * h) * math.gamma(2 * h + 1) / (2 * math.pi) ** (2 * h + 2)
    # 1 - cos x = 2 sin^2(x / 2), without the loss of digits near 0.
    result: Tensor = factor * torch.sin(x / 2).square() * aliases
    return result


def law_scale(hurst: float, kind: Kind, normalize: Normalize) -> float:
    """Return what the raw process is divided by, or say which of the three is not possible."""
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}; got {normalize!r}")
    constant = variance_constant(hurst, kind)
    return math.sqrt(constant) if normalize == "unit" else 1.0


def check_hurst(hurst: float) -> float:
    """Return the Hurst index as a number, or say that it is none."""
    value = float(hurst)
    if not 0 < value < 1:
        raise ValueError(f"the Hurst index must lie between 0 and 1, both excluded; got {hurst}")
    return value


def _second_kind(s: Tensor, t: Tensor, hurst: float) -> Tensor:
    """Return the raw covariance of kind II for ``s <= t``."""
    a = hurst + 0.5
    apart = (s > 0) & (s < t)
    ratio = torch.where(apart, s / t.clamp_min(torch.finfo(t.dtype).tiny), 0.5)
    series = torch.as_tensor(hyp2f1(1 - a, 1.0, a + 1, ratio.numpy()), dtype=torch.float64)
    product = s.pow(a) * torch.where(apart, t, 1.0).pow(a - 1) / (gamma(a) * gamma(a + 1)) * series
    # At s = t the series is summed by hand: there it converges too slowly.
    return torch.where(apart, product, torch.where(s > 0, t, 0.0).pow(2 * hurst) * variance_constant(hurst, "II"))


def _check_times(times: ArrayLike) -> Tensor:
    result = torch.as_tensor(times, dtype=torch.float64)
    if not bool((torch.isfinite(result) & (result >= 0)).all()):
        raise ValueError("times of fractional Brownian motion must be finite and not negative")
    return result


def check_kind(kind: str) -> str:
    """Return the kind, or say which there are."""
    if kind not in get_args(Kind):
        raise ValueError(
            f"kind must be 'I' (Mandelbrot-van Ness, stationary increments) or 'II' (Riemann-Liouville, from 0); got "
            f"{kind!r}"
        )
    return kind
