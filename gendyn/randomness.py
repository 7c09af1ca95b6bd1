r"""Where every random number of the package starts: one root seed, mixed with labels.

A seed and a tuple of labels give a key,

.. math:: k = \operatorname{mix}(\text{seed}, \ell_1, \ell_2, \ldots),

with a splitmix64 hash, so that the stream for ``("train", 17)`` is unrelated to that for
``("train", 18)`` and any of them can be had again without having drawn the others. A fit that
resumes at step 17 000, a sampler that works in chunks, and a bootstrap spread over processes all
rest on this: no generator state is ever stored. Torch's CPU generator reads only the low 32 bits of
a seed, so keys are folded to 32 bits before they seed one. Nothing here reads or advances
the global generators of Python, NumPy or torch.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

__all__ = ["Seed", "as_seed", "derive_seed", "extend_seed", "numpy_generator", "torch_generator"]

Seed = int | torch.Generator
"""What users may pass wherever randomness is an argument."""

_MASK = (1 << 64) - 1


def _splitmix(value: int) -> int:
    """One round of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit integers."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def derive_seed(seed: int, *labels: int | str) -> int:
    """Mix a root seed with labels into a 64-bit key.

    Parameters
    ----------
    seed
        The root, any integer.
    *labels
        Integers or strings naming the purpose, for example ``"noise", level, block``.

    Returns
    -------
    int
        A key in ``[0, 2**64)``; different labels give unrelated keys.

    Examples
    --------
    >>> derive_seed(0, "noise", 1) == derive_seed(0, "noise", 1)
    True
    >>> derive_seed(0, "noise", 1) == derive_seed(1, "noise", 0)
    False
    """
    return extend_seed(_splitmix(int(seed) & _MASK), *labels)


def extend_seed(key: int, *labels: int | str) -> int:
    """Mix more labels into a key that :func:`derive_seed` made.

    Examples
    --------
    >>> extend_seed(derive_seed(0, "noise"), 1, 2) == derive_seed(0, "noise", 1, 2)
    True
    """
    for label in labels:
        # A leading type tag keeps the label 1 apart from the label "1".
        number = zlib.crc32(label.encode()) | (1 << 40) if isinstance(label, str) else int(label) & _MASK
        key = _splitmix(key ^ _splitmix(number))
    return key


def as_seed(seed: Seed) -> int:
    """Turn a seed or a generator into one root key; a generator is advanced by exactly one draw.

    Raises
    ------
    TypeError
        If ``seed`` is neither an integer nor a ``torch.Generator``.

    Examples
    --------
    >>> as_seed(3)
    3
    """
    if isinstance(seed, torch.Generator):
        return int(torch.randint(0, 2**62, (1,), generator=seed, device=seed.device).item())
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer or a torch.Generator; got {type(seed).__name__}")
    return int(seed)


def torch_generator(seed: Seed, *labels: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator for this seed and these labels.

    Examples
    --------
    >>> a, b = torch_generator(0, "x"), torch_generator(0, "x")
    >>> bool((torch.randn(3, generator=a) == torch.randn(3, generator=b)).all())
    True
    """
    key = derive_seed(as_seed(seed), *labels)
    generator = torch.Generator(device=device)
    generator.manual_seed((key ^ (key >> 32)) & 0xFFFFFFFF)
    return generator


def numpy_generator(seed: Seed, *labels: int | str) -> np.random.Generator:
    """Return a fresh NumPy generator for this seed and these labels.

    Examples
    --------
    >>> float(numpy_generator(0, "x").random()) == float(numpy_generator(0, "x").random())
    True
    """
    return np.random.default_rng(derive_seed(as_seed(seed), *labels))
