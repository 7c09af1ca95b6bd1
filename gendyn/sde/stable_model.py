r"""Networks from controls to latent paths, and from a latent path to what is asked about a whole series.

A path :math:`z` is read by its end, its mean over time and its maxima,

.. math:: p = \Bigl[z(T),\; \frac1T \int_0^T w(z(t))\, dt,\; \max_t w(z(t))\Bigr], \qquad w(z) = \tanh(W z + b) ,

which finds a short event early in a long series as well as the state at its end.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sde.stable_field import StableField
from gendyn.sde.stable_process import StableProcess

__all__ = ["ForecastHead", "PathHead", "latent_paths"]


def latent_paths(
    field: StableField,
    grid: Tensor,
    controls: Tensor,
    static: Tensor | None = None,
    *,
    seed: int,
    n_samples: int = 1,
    gradient: Literal["none", "backprop"] = "none",
    solver: str = "auto",
) -> Tensor:
    """Return latent paths ``(S, B, M, h)``: several of each series, each with noise of its own.

    Parameters
    ----------
    field
        Networks of drift and diffusion.
    grid
        ``(M,)`` or ``(B, M)``, of :func:`~gendyn.sde.step_times`.
    controls
        ``(B, M, d_x)``.
    static
        ``(B, S)`` or ``None``.
    seed
        Of the noise.
    n_samples
        Paths of each series.
    gradient
        ``"backprop"`` keeps a graph.
    solver
        Of :func:`gendyn.sample`.
    """
    batch = len(controls)
    start = field.begin(controls[:, 0], static)
    if n_samples > 1:
        start, controls = start.repeat(n_samples, 1), controls.repeat(n_samples, 1, 1)
        grid = grid if grid.ndim == 1 else grid.repeat(n_samples, 1)
    process = StableProcess(field, grid, controls)
    paths = sample(process, start, grid, substeps=1, seed=seed, gradient=gradient, solver=solver).values
    return paths.reshape(n_samples, batch, *paths.shape[1:])


class PathHead(nn.Module):
    """What is asked about a whole series, from its latent path.

    Parameters
    ----------
    hidden
        Number of features ``h`` of the path.
    out
        Number of answers.
    pooling
        ``"all"``: end, mean and maxima; ``"last"``: the end alone, as published.
    static_dim
        Number of static covariates, which the head sees too.
    dropout
        Share of pooled features that are hidden in training.
    zero
        Begin with answers that are zero, for a head that adds to something else.
    seed
        Of the initial weights.

    Examples
    --------
    >>> head = PathHead(8, 3)
    >>> head(torch.randn(5, 11, 8), torch.linspace(0, 1, 11, dtype=torch.float64)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        hidden: int,
        out: int,
        *,
        pooling: Literal["all", "last"] = "all",
        static_dim: int = 0,
        dropout: float = 0.0,
        zero: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        generator = torch_generator(seed, "head")
        self.pooling, self.dropout = pooling, dropout
        width = hidden
        if pooling == "all":
            self.watch = seeded_linear(hidden, hidden, generator)
            width = 3 * hidden
        self.norm = nn.LayerNorm(width)
        self.first = seeded_linear(width + static_dim, hidden, generator)
        self.last = seeded_linear(hidden, out, generator, scale=0.0 if zero else 1.0)

    def forward(self, path: Tensor, grid: Tensor, static: Tensor | None = None, seed: int = 0) -> Tensor:
        """Return the answers ``(B, out)`` of paths ``(B, M, h)`` on a grid ``(M,)`` or ``(B, M)``."""
        pooled = path[:, -1]
        if self.pooling == "all":
            seen = torch.tanh(self.watch(path))
            steps = grid.diff(dim=-1).to(path)
            weights = steps / steps.sum(-1, keepdim=True).clamp_min(torch.finfo(path.dtype).tiny)
            # Weights of a grid that is that of all broadcast over the batch.
            mean = (seen[:, 1:] * weights[..., None]).sum(1)
            pooled = torch.cat([pooled, mean, seen.amax(1)], dim=1)
        pooled = self.norm(pooled)
        if self.training and self.dropout > 0:
            generator = torch_generator(derive_seed(seed, "dropout"))
            kept = torch.rand(pooled.shape, generator=generator).to(pooled.device) >= self.dropout
            pooled = pooled * kept / (1 - self.dropout)
        if static is not None:
            pooled = torch.cat([pooled, static], dim=1)
        answers: Tensor = self.last(torch.relu(self.first(pooled)))
        return answers


class ForecastHead(nn.Module):
    """Mean and log deviation of channels from a state and what is known besides; both zero at the start."""

    def __init__(self, hidden: int, told: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch_generator(seed, "forecast head")
        self.first = seeded_linear(hidden + told, hidden, generator)
        self.second = seeded_linear(hidden, hidden, generator)
        self.last = seeded_linear(hidden, 2 * dim, generator, scale=0.0)

    def forward(self, z: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return both ``(S, B, Q, D)`` of states ``(S, B, Q, h)`` and what is known ``(B, Q, T)``."""
        x = self.first(torch.cat([z, told.expand(len(z), -1, -1, -1)], dim=3))
        mean, log_deviation = self.last(torch.relu(self.second(torch.relu(x)))).chunk(2, dim=3)
        return mean, log_deviation
