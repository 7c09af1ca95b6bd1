r"""Features of paths by random convolutions, and the Frechet distance in their space.

A fixed random convolution :math:`w` of seven taps spread by a dilation is run over a path; of what comes out, two
numbers are kept,

.. math:: \frac{1}{T'} \sum_t \mathbf 1\{(w * x)_t > b\}, \qquad \max_t\, (w * x)_t ,

the share of time above a bias and the maximum (Dempster, Petitjean and Webb 2020). Sixty-four of them give 128
features, which are standardised and projected onto the 32 leading principal components of the real set. No network is
trained, so the distance does not differ from one training to the next; values are not those of published tables, whose
embedding is a trained network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.frechet import extrapolated_frechet
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import Scale, drop_constant, path_sets, rescale
from gendyn.evaluation.points import Array, Points
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["RandomConvolutions", "rc_fid"]

_KERNELS = 64
_TAPS = 7
_COMPONENTS = 32
_BLOCK = 4_000_000
"""Values of convolutions at once."""

_QUANTILE_PATHS = 2000

Bank = tuple[int, int, Tensor, Tensor]
"""Dilation, padding, weights ``(K, d, 7)`` and biases ``(K,)`` of convolutions that are run together."""


@dataclass(frozen=True)
class RandomConvolutions:
    """Random convolutions with all that was fixed on a real set.

    Attributes
    ----------
    banks
        The convolutions, by dilation and padding.
    shift, width
        Mean and standard deviation of the two features of each convolution in the real set.
    components
        Leading principal components ``(2 K, C)`` of the standardised features, or ``None`` for these themselves.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> convolutions = RandomConvolutions.fit(x)
    >>> convolutions.features(x).shape
    (200, 32)
    """

    banks: tuple[Bank, ...]
    shift: Array
    width: Array
    components: Array | None

    @classmethod
    def fit(cls, real: Array, *, kernels: int = _KERNELS, components: int | None = _COMPONENTS, seed: Seed = 0) -> Self:
        """Draw convolutions and fix biases, scales and components on real paths ``(n, T, d)``, ``T >= 7``.

        Weights are standard normal, centred within each channel. Each convolution reads a random number of channels,
        from one to all, evenly on a log scale. Dilations are ``2**u`` with ``u`` uniform up to the longest that fits.
        Every second convolution is padded with zeros, which lets it see the level. Biases are quantiles of what comes
        out of (at most 2,000 paths of) the real set, at levels spread evenly over (0, 1).

        Parameters
        ----------
        real
            Paths ``(n, T, d)``.
        kernels
            Number of convolutions ``K``.
        components
            Principal components that are kept; ``None`` keeps all ``2 K`` features as they are.
        seed
            Of the convolutions.

        Raises
        ------
        ValueError
            If paths have fewer than seven times.
        """
        _, length, dim = real.shape
        if length < _TAPS:
            raise ValueError(f"random convolutions have {_TAPS} taps and need as many times; got {length}")
        rng = numpy_generator(derive_seed(as_seed(seed), "convolutions"))
        weights = rng.normal(size=(kernels, dim, _TAPS))
        weights -= weights.mean(axis=2, keepdims=True)
        heard = np.floor(2 ** rng.uniform(0, np.log2(dim + 1), kernels)).astype(int)
        rank = rng.permuted(np.tile(np.arange(dim), (kernels, 1)), axis=1)
        weights[rank >= heard[:, None]] = 0.0
        dilations = np.floor(2 ** rng.uniform(0, np.log2((length - 1) / (_TAPS - 1)), kernels)).astype(int)
        paddings = np.where(np.arange(kernels) % 2, (_TAPS - 1) // 2 * dilations, 0)
        # Multiples of the golden ratio fill (0, 1) evenly, however many of them fall to one dilation.
        levels = (np.arange(1, kernels + 1) * (np.sqrt(5) - 1) / 2) % 1
        shown = real[rng.permutation(len(real))[:_QUANTILE_PATHS]]
        banks: list[Bank] = []
        for dilation, padding in sorted(set(zip(dilations.tolist(), paddings.tolist(), strict=True))):
            kept = (dilations == dilation) & (paddings == padding)
            bank = torch.from_numpy(weights[kept])
            out = _convolved(shown, bank, dilation, padding).transpose(0, 1).flatten(1).numpy()
            biases = [np.quantile(row, level) for row, level in zip(out, levels[kept], strict=True)]
            banks.append((dilation, padding, bank, torch.tensor(biases, dtype=torch.float64)))
        raw = _pooled(real, tuple(banks))
        shift, width = raw.mean(axis=0), raw.std(axis=0)
        width[~(width > 1e-12 * np.abs(shift).max())] = 1.0
        if components is None:
            return cls(tuple(banks), shift, width, None)
        leading = np.linalg.eigh(np.cov(((raw - shift) / width).T))[1][:, ::-1][:, :components]
        return cls(tuple(banks), shift, width, np.ascontiguousarray(leading))

    def features(self, paths: Array) -> Array:
        """Return the features ``(n, C)`` of paths ``(n, T, d)``."""
        standard = (_pooled(paths, self.banks) - self.shift) / self.width
        return np.asarray(standard if self.components is None else standard @ self.components)


def rc_fid(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    scale: Scale = "real-std",
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the Frechet distance of random-convolution features, extrapolated to infinite samples.

    Parameters
    ----------
    real, generated
        Complete sets of at least 264 and 132 paths, at seven or more shared times of equal spacing.
    scale
        Puts channels on one scale before they are mixed, see :func:`~gendyn.evaluation.path_set.rescale`; a channel
        that is constant in the real paths is left out with a warning.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``extra["dropped"]``.
    seed
        Root of the convolutions, floor and interval; values at different seeds are in different features.
    n_bootstrap
        Resamples of paths behind the interval.

    Returns
    -------
    MetricResult
        ``extra`` as in :func:`~gendyn.evaluation.frechet_distance`; the floor is in the same features.

    Raises
    ------
    ValueError
        If the sets do not fit, are too small, have gaps, or times of unequal spacing.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(600, 12, 2))
    >>> rc_fid(x[:300], x[300:]).value < rc_fid(x[:300], x[300:].cumsum(axis=1)).value
    True
    """
    one, two = path_sets(real, generated, metric="rc_fid", minimum_times=_TAPS, on_nan=on_nan)
    steps = np.diff(one.times)
    if np.ptp(steps) > 1e-6 * np.abs(steps).max():
        raise ValueError(
            "rc_fid has no meaning for times of unequal spacing, over which a convolution is not one thing; got steps "
            f"from {steps.min():g} to {steps.max():g}: interpolate onto a regular grid, or use signature_distance"
        )
    one, two = drop_constant(one, two, "rc_fid")
    one, two = rescale(one, two, scale)
    root = as_seed(seed)
    convolutions = RandomConvolutions.fit(one.values, seed=root)
    sides = [Points(convolutions.features(side.values), np.full(len(side), 1 / len(side))) for side in (one, two)]
    return extrapolated_frechet(
        "rc_fid", sides[0], sides[1], seed=root, n_bootstrap=n_bootstrap, extra={"dropped": two.dropped}
    )


def _convolved(paths: Array, bank: Tensor, dilation: int, padding: int) -> Tensor:
    """Return what comes out of a bank ``(K, d, 7)``, ``(n, K, T')``."""
    x = torch.from_numpy(np.ascontiguousarray(paths.swapaxes(1, 2)))
    return torch.nn.functional.conv1d(x, bank, padding=padding, dilation=dilation)


def _pooled(paths: Array, banks: tuple[Bank, ...]) -> Array:
    """Return shares of positives and maxima ``(n, 2 K)``, in blocks of paths."""
    width = max(1, _BLOCK // (max(len(bank) for _, _, bank, _ in banks) * paths.shape[1]))
    blocks = []
    for start in range(0, len(paths), width):
        parts = []
        for dilation, padding, bank, biases in banks:
            out = _convolved(paths[start : start + width], bank, dilation, padding)
            parts += [(out > biases[:, None]).double().mean(dim=2), out.amax(dim=2)]
        blocks.append(torch.cat(parts, dim=1).numpy())
    return np.concatenate(blocks)
