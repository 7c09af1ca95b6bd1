r"""Fractional Brownian motion, exactly: its laws, and samples that have them.

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

Samples at equally spaced times come from a circulant embedding of the covariance (Davies and Harte 1987), whose cost is
that of a fast Fourier transform; at any other times from a Cholesky factor. Path :math:`i` depends on the seed,
:math:`i` and the times alone, not on how many others there are. All is float64 inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from scipy.special import gamma, hyp2f1, zeta
from torch import Tensor

from gendyn.data.checks import ArrayLike, check_times
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = [
    "Kind",
    "Normalize",
    "driver_covariance",
    "fractional_covariance",
    "noise_autocovariance",
    "noise_spectrum",
    "sample_fractional_brownian_motion",
    "sample_fractional_noise",
    "sample_gaussian",
    "sample_stationary",
    "variance_constant",
]

Kind = Literal["I", "II"]
Normalize = Literal["unit", "raw"]

_ROWS = 16
"""Rows that are drawn together, in the groups of 16 in which torch's CPU generator fills."""

_NUMBERS = 1 << 18
"""Normals held at once; more fall out of the cache."""

_EQUAL = 1e-9
"""How far steps of time may differ, relative to the longest, and still be equal."""

_NEGATIVE = 1e-10
"""How negative an eigenvalue may be, relative to the largest, and still be a rounding error of zero."""


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
    h = _check_hurst(hurst)
    if _check_kind(kind) == "I":
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
    h, norm = _check_hurst(hurst), _norm(hurst, kind, normalize)
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
    a = _check_hurst(hurst) + 0.5
    later, driver = _check_times(t), _check_times(s)
    raw = (later.pow(a) - (later - torch.minimum(later, driver)).pow(a)) / math.gamma(a + 1)
    return raw / _norm(hurst, "II", normalize)


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
    h = 2 * _check_hurst(hurst)
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
    h, x = _check_hurst(hurst), torch.as_tensor(frequencies, dtype=torch.float64)
    if not bool(((x > 0) & (x <= math.pi)).all()):
        raise ValueError("frequencies must lie above 0 and up to pi, in radians per step")
    turn = x.numpy() / (2 * math.pi)
    aliases = torch.as_tensor(zeta(2 * h + 1, turn) + zeta(2 * h + 1, 1 - turn))
    factor = 4 * math.sin(math.pi * h) * math.gamma(2 * h + 1) / (2 * math.pi) ** (2 * h + 2)
    # 1 - cos x = 2 sin^2(x / 2), without the loss of digits near 0.
    result: Tensor = factor * torch.sin(x / 2).square() * aliases
    return result


def sample_fractional_noise(
    hurst: float | Sequence[float],
    n: int,
    steps: int,
    *,
    step: float = 1.0,
    seed: Seed = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Draw fractional Gaussian noise: increments of unit kind I over equal steps.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each feature, which are independent of each other.
    n
        Number of series.
    steps
        Increments in each.
    step
        Time between two values.
    seed
        Seed or generator.
    dtype
        Type of the result; the numbers are drawn in float64.

    Returns
    -------
    Tensor
        ``(n, steps, d)``, with ``d`` 1 or the number of Hurst indices.

    Examples
    --------
    >>> noise = sample_fractional_noise(0.9, n=500, steps=64)
    >>> (noise[:, 1:] * noise[:, :-1]).mean().item()
    0.7...
    """
    indices, key = _hurst_indices(hurst), as_seed(seed)
    parts = []
    for feature, h in enumerate(indices):
        covariance = noise_autocovariance(torch.arange(steps + 1), h, step)
        parts.append(sample_stationary(covariance, n, derive_seed(key, "feature", feature))[:, :steps])
    return torch.stack(parts, -1).to(dtype)


def sample_fractional_brownian_motion(
    hurst: float | Sequence[float],
    times: ArrayLike,
    n: int,
    *,
    kind: Kind = "I",
    normalize: Normalize = "unit",
    seed: Seed = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Draw fractional Brownian motion at given times, exact in law.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each feature, which are independent of each other.
    times
        ``(T,)``, strictly increasing, not negative; the process is 0 at time 0.
    n
        Number of paths.
    kind, normalize
        Which process, and its scale; see the module.
    seed
        Seed or generator. Path ``i`` does not depend on ``n``.
    dtype
        Type of the result; the numbers are drawn in float64.

    Returns
    -------
    Tensor
        ``(n, T, d)``, with ``d`` 1 or the number of Hurst indices.

    Raises
    ------
    ValueError
        If ``hurst``, the kind or the normalisation is not possible, or times are negative or do not increase.

    Examples
    --------
    >>> paths = sample_fractional_brownian_motion([0.2, 0.8], [0.0, 0.5, 4.0], n=4000)
    >>> paths[:, -1].var(0)
    tensor([1.7..., 9...], dtype=torch.float64)
    """
    grid, indices, key = check_times(times), _hurst_indices(hurst), as_seed(seed)
    if float(grid[0]) < 0:
        raise ValueError(f"fractional Brownian motion begins at time 0; got {float(grid[0]):g}")
    gaps = grid.diff()
    regular = (
        kind == "I"
        and float(grid[0]) == 0.0
        and len(gaps) > 0
        and bool((gaps - gaps.mean()).abs().max() <= _EQUAL * gaps.max())
    )
    parts = []
    for feature, h in enumerate(indices):
        own = derive_seed(key, "feature", feature)
        if regular:
            scale = math.sqrt(variance_constant(h, kind)) / _norm(h, kind, normalize)
            covariance = noise_autocovariance(torch.arange(len(grid)), h, float(gaps.mean()))
            steps = scale * sample_stationary(covariance, n, own)[:, : len(gaps)]
            parts.append(torch.cat([steps.new_zeros(n, 1), steps.cumsum(1)], 1))
        else:
            parts.append(sample_gaussian(fractional_covariance(grid[:, None], grid, h, kind, normalize), n, own))
    return torch.stack(parts, -1).to(dtype)


def sample_stationary(autocovariance: Tensor, n: int, seed: Seed = 0) -> Tensor:
    r"""Draw a stationary Gaussian series with mean 0 from its autocovariance :math:`\rho(0), \dots, \rho(N)`.

    The row :math:`\rho(0), \dots, \rho(N), \rho(N-1), \dots, \rho(1)` is the first of a circulant matrix of size
    :math:`2N`, diagonal in the Fourier basis; where its eigenvalues are not negative (for fractional noise they
    never are, Craigmile 2003) the first :math:`N + 1` values of a draw from it are exact. Elsewhere a Cholesky factor
    does the same more slowly.

    Parameters
    ----------
    autocovariance
        ``(N + 1,)``, float64.
    n
        Number of series.
    seed
        Seed or generator.

    Returns
    -------
    Tensor
        ``(n, N + 1)``, float64.

    Raises
    ------
    ValueError
        If it is not the autocovariance of any series.

    Examples
    --------
    >>> sample_stationary(0.5 ** torch.arange(5.0), n=2).shape
    torch.Size([2, 5])
    """
    rho = torch.as_tensor(autocovariance, dtype=torch.float64)
    if rho.ndim != 1 or len(rho) < 1 or not bool(torch.isfinite(rho).all()):
        raise ValueError(f"an autocovariance must be one row of finite numbers; got shape {tuple(rho.shape)}")
    size = len(rho) - 1
    eigenvalues = torch.fft.rfft(torch.cat([rho, rho[1:-1].flip(0)])).real if size > 1 else None
    if eigenvalues is None or bool(eigenvalues.min() < -_NEGATIVE * eigenvalues.max()):
        lags = torch.arange(size + 1)
        return sample_gaussian(rho[(lags[:, None] - lags).abs()], n, seed)
    # Z_k of the half spectrum: real at both ends, complex with half the variance in each part between.
    weights = (eigenvalues.clamp_min(0.0) * size).sqrt()
    weights[[0, -1]] *= math.sqrt(2)
    values = torch.empty(n, size + 1, dtype=torch.float64)
    for rows, normals in _normals(n, 2 * size, as_seed(seed)):
        real, imaginary = normals[:, : size + 1], normals[:, size + 1 :]
        spectrum = torch.complex(weights * real, torch.nn.functional.pad(weights[1:-1] * imaginary, (1, 1)))
        values[rows] = torch.fft.irfft(spectrum, n=2 * size)[:, : size + 1]
    return values


def sample_gaussian(covariance: Tensor, n: int, seed: Seed = 0) -> Tensor:
    """Draw Gaussian rows with mean 0 from their covariance ``(T, T)``; what has variance 0 is 0.

    Parameters
    ----------
    covariance
        Symmetric, float64; may be singular to rounding.
    n
        Number of rows.
    seed
        Seed or generator.

    Returns
    -------
    Tensor
        ``(n, T)``, float64.

    Raises
    ------
    ValueError
        If the matrix has an eigenvalue below zero.

    Examples
    --------
    >>> sample_gaussian(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), n=1)[0, 0].item()
    0.0
    """
    matrix = torch.as_tensor(covariance, dtype=torch.float64)
    diagonal = torch.diagonal(matrix)
    free = torch.nonzero(diagonal > 0).flatten()
    values = torch.zeros(n, len(matrix), dtype=torch.float64)
    if not len(free):
        return values
    block = matrix[free[:, None], free]
    factor, failed = torch.linalg.cholesky_ex(block + torch.diag(1e-12 * diagonal[free]))
    if int(failed):
        raise ValueError(
            "this is not a covariance: it has an eigenvalue of "
            f"{float(torch.linalg.eigvalsh(block)[0]):.3g}; times may be too close to tell apart"
        )
    for rows, normals in _normals(n, len(free), as_seed(seed)):
        values[rows, free] = normals @ factor.T
    return values


def _normals(n: int, columns: int, key: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their standard normals, so that a row depends on the key and its number alone."""
    generator = torch.Generator()
    block = torch.empty(_ROWS, columns, dtype=torch.float64)
    most = max(1, _NUMBERS // (_ROWS * columns))
    for first in range(0, n, _ROWS * most):
        stop = min(n, first + _ROWS * most)
        held = torch.empty(stop - first, columns, dtype=torch.float64)
        for start in range(first, stop, _ROWS):
            seed = derive_seed(key, "rows", start // _ROWS)
            generator.manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)
            block.normal_(generator=generator)
            held[start - first : start - first + _ROWS] = block[: stop - start]
        yield slice(first, stop), held


def _second_kind(s: Tensor, t: Tensor, hurst: float) -> Tensor:
    """Return the raw covariance of kind II for ``s <= t``."""
    a = hurst + 0.5
    apart = (s > 0) & (s < t)
    ratio = torch.where(apart, s / t.clamp_min(torch.finfo(t.dtype).tiny), 0.5)
    series = torch.as_tensor(hyp2f1(1 - a, 1.0, a + 1, ratio.numpy()), dtype=torch.float64)
    product = s.pow(a) * torch.where(apart, t, 1.0).pow(a - 1) / (gamma(a) * gamma(a + 1)) * series
    # At s = t the series is summed by hand: there it converges too slowly.
    return torch.where(apart, product, torch.where(s > 0, t, 0.0).pow(2 * hurst) * variance_constant(hurst, "II"))


def _norm(hurst: float, kind: Kind, normalize: Normalize) -> float:
    """Return what the raw process is divided by."""
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}; got {normalize!r}")
    constant = variance_constant(hurst, kind)
    return math.sqrt(constant) if normalize == "unit" else 1.0


def _check_times(times: ArrayLike) -> Tensor:
    result = torch.as_tensor(times, dtype=torch.float64)
    if not bool((torch.isfinite(result) & (result >= 0)).all()):
        raise ValueError("times of fractional Brownian motion must be finite and not negative")
    return result


def _hurst_indices(hurst: float | Sequence[float]) -> list[float]:
    if isinstance(hurst, Sequence):
        if not hurst:
            raise ValueError("hurst must be a number between 0 and 1, or one for each feature; got none")
        return [_check_hurst(h) for h in hurst]
    return [_check_hurst(hurst)]


def _check_hurst(hurst: float) -> float:
    value = float(hurst)
    if not 0 < value < 1:
        raise ValueError(f"the Hurst index must lie between 0 and 1, both excluded; got {hurst}")
    return value


def _check_kind(kind: str) -> str:
    if kind not in get_args(Kind):
        raise ValueError(
            f"kind must be 'I' (Mandelbrot-van Ness, stationary increments) or 'II' (Riemann-Liouville, from 0); got "
            f"{kind!r}"
        )
    return kind
