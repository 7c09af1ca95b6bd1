"""The two coordinates of a picture: two features, or the principal components of the real data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.randomness import numpy_generator

__all__ = ["Projection", "thin"]

Array = np.ndarray[Any, np.dtype[np.float64]]


class Projection:
    """A linear map from ``d`` features to the two of a picture.

    Parameters
    ----------
    reference
        Populations on which principal components are found where ``d > 2``.
    dims
        Two features to show instead.

    Examples
    --------
    >>> data = Snapshots([0.0], [torch.eye(3)])
    >>> Projection(data, dims=(0, 2)).labels
    ('feature 0', 'feature 2')
    """

    def __init__(self, reference: Snapshots, dims: tuple[int, int] | None = None) -> None:
        dim = reference.dim
        if dims is not None and not all(0 <= i < dim for i in dims):
            raise ValueError(f"dims must be two features between 0 and {dim - 1}; got {dims}")
        self.mean = np.zeros(dim)
        if dim == 1:
            self.matrix = np.ones((1, 1))
            self.labels: tuple[str, ...] = (_name(reference, 0),)
        elif dims is not None or dim == 2:
            i, j = dims or (0, 1)
            self.matrix = np.eye(dim)[:, [i, j]]
            self.labels = (_name(reference, i), _name(reference, j))
        else:
            x = np.concatenate([thin(s, 4000) for s in reference.samples])
            self.mean = x.mean(0)
            _, _, v = np.linalg.svd(x - self.mean, full_matrices=False)
            # Signs of components are arbitrary; the largest entry is made positive so that pictures agree.
            signs = np.sign(v[np.arange(2), np.abs(v[:2]).argmax(1)])
            self.matrix = (v[:2] * signs[:, None]).T
            self.labels = ("component 1", "component 2")

    def __call__(self, x: Tensor | Array) -> Array:
        """Return the coordinates ``(..., 2)`` of points ``(..., d)``."""
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        return np.asarray((array.astype(np.float64) - self.mean) @ self.matrix)

    def inverse(self, z: Array) -> Array:
        """Return the points ``(..., d)`` of the plane that lie at coordinates ``(..., 2)``."""
        return np.asarray(z @ self.matrix.T + self.mean)


def thin(x: Tensor, most: int, seed: int = 0) -> Array:
    """Return at most ``most`` rows, drawn with a fixed seed, as float64."""
    rows = x.detach()
    if len(x) > most:
        chosen = np.sort(numpy_generator(seed, "thin").choice(len(x), most, replace=False))
        rows = rows[torch.from_numpy(chosen).to(rows.device)]
    return np.asarray(rows.cpu().numpy().astype(np.float64))


def _name(snapshots: Snapshots, i: int) -> str:
    return snapshots.names[i] if snapshots.names else f"feature {i}"
