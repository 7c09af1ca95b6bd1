r"""Multi-time attention: a series seen from reference times, by a learned similarity of moments.

Times are embedded by waves of learned frequencies and phases, :math:`\phi(t) = (\omega_0 t + \alpha_0,
\sin(\omega_1 t + \alpha_1), \dots)`. Seen from a reference time :math:`s`, channel d is a mean over its observations,

.. math:: \hat x_d(s) = \frac{\sum_i m_{i d}\, e^{a(s, t_i)} x_{i d}}{\sum_i m_{i d}\, e^{a(s, t_i)}}, \qquad
    a(s, t) = \langle Q \phi(s), K \phi(t) \rangle / \sqrt{k} ,

by every head with an embedding and a similarity of its own. Heads are mixed by a linear map; a channel that was never
observed is zero and says so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, torch_generator

__all__ = ["TimeAttention"]

_FAR = 60.0
"""Scores are cut this far below the greatest: their weights are nothing, but a channel seen only there has a mean."""


class TimeAttention(nn.Module):
    """Attention from reference times to observations.

    Parameters
    ----------
    dim
        Number of channels ``D``.
    out
        Number of features that come out.
    embedding
        Number of waves of each head.
    heads
        Number of heads.
    seed
        Of the initial weights.

    References
    ----------
    Shukla, Marlin. Multi-time attention networks for irregularly sampled time series. 2021.

    Examples
    --------
    >>> attention = TimeAttention(2, out=5, embedding=8)
    >>> times = torch.linspace(0, 1, 7, dtype=torch.float64).expand(3, -1)
    >>> attention(torch.linspace(0, 1, 4, dtype=torch.float64), times, torch.zeros(3, 7, 2)).shape
    torch.Size([3, 4, 5])
    """

    def __init__(self, dim: int, out: int, embedding: int = 128, heads: int = 1, *, seed: Seed = 0) -> None:
        super().__init__()
        if min(dim, out, heads) < 1 or embedding < 2:
            raise ValueError(
                "dim, out and heads must be at least 1, and embedding at least 2; got "
                f"{dim}, {out}, {heads} and {embedding}"
            )
        generator = torch_generator(seed, "time attention")
        self.embedding, self.heads = embedding, heads
        # Frequencies up to a few waves over a series, which is what its shape is made of.
        self.frequencies = nn.Parameter(10 * torch.randn(heads, embedding, generator=generator))
        self.phases = nn.Parameter(2 * math.pi * torch.rand(heads, embedding, generator=generator))
        bound = 1 / math.sqrt(embedding)
        self.query, self.key = (
            nn.Parameter(bound * (2 * torch.rand(heads, embedding, embedding, generator=generator) - 1))
            for _ in range(2)
        )
        self.mix = seeded_linear(2 * heads * dim, out, generator)

    def embed(self, times: Tensor) -> Tensor:
        """Return the embeddings ``(..., H, E)`` of times ``(...)``."""
        phase = times[..., None, None] * self.frequencies + self.phases
        return torch.cat([phase[..., :1], phase[..., 1:].sin()], dim=-1)

    def means(self, references: Tensor, times: Tensor, values: Tensor) -> Tensor:
        """Return the means over observations ``(B, R, H, D)``.

        Parameters
        ----------
        references
            ``(R,)``.
        times
            ``(B, L)``.
        values
            ``(B, L, D)``, NaN where nothing was observed.
        """
        seen = ~values.isnan()
        like = self.frequencies
        query = torch.einsum("rhe,hef->rhf", self.embed(references.to(like)), self.query)
        key = torch.einsum("blhe,hef->blhf", self.embed(times.to(like)), self.key)
        scores = torch.einsum("rhf,blhf->brhl", query, key) / math.sqrt(self.embedding)
        scores = scores.masked_fill(~seen.any(2)[:, None, None], -torch.inf)
        top = scores.detach().amax(3, keepdim=True).nan_to_num(neginf=0.0)
        weights = (scores - top).clamp_min(-_FAR).exp()
        total = torch.einsum("brhl,bld->brhd", weights, seen.to(values))
        summed = torch.einsum("brhl,bld->brhd", weights, torch.where(seen, values, 0.0))
        # A channel that was never seen has no weights at all.
        return summed / torch.where(total > 0, total, 1.0)

    def forward(self, references: Tensor, times: Tensor, values: Tensor) -> Tensor:
        """Return features ``(B, R, out)``; arguments are those of :meth:`means`."""
        found = self.means(references, times, values)
        ever = (~values.isnan()).any(1).to(values)[:, None, None].expand(found.shape)
        mixed: Tensor = self.mix(torch.cat([found, ever], dim=3).flatten(2))
        return mixed
