r"""A network that reads rates off a summary, whatever the number of states, their order and the unit of time.

It corrects an anchor, changes seen over time spent,

.. math::

    a_{ij} = \tau\,\frac{C^1_{ij} + 0.05}{T_i + 0.05\, S\, \tau}, \qquad
    \mu_{ij} = a_{ij}\, e^{\delta_{ij}}, \qquad
    \tau Q_{ij} \sim (1 - \lambda_{ij})\, \delta_0 + \lambda_{ij}\, \mathrm{Gamma}(k_{ij},\, \text{mean } \mu_{ij}),

with correction :math:`\delta`, shape :math:`k` and the probability :math:`\lambda` that there is a link at all. From
few jumps the mean of such a law is ruled by the rare process that is very fast. The point estimate is therefore

.. math::

    \hat Q_{ij} = e^{-s_{ij}}\, \lambda_{ij} \mu_{ij} / \tau ,

with a shrinkage :math:`s` that makes the expected error relative to the size of the whole matrix least,
:math:`\lVert \hat Q - Q \rVert^2 / \lVert Q \rVert^2`; where jumps are many it vanishes. One
token stands for each pair of states; layers mix a token with its reverse, its row and column, and matrix products of
all tokens, in which powers and logarithms of matrices can be told. All of it commutes with a relabelling of the
states, and time enters in units of :math:`\tau` only, so that :math:`Q` follows both exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gendyn.mjp.summary import SKIPS, TransitionSummary
from gendyn.nn import seeded_linear

__all__ = ["RateFeatures", "RateNetwork", "RatePosterior", "rate_features"]

_PSEUDO = 0.05
_CLAMP = 8.0
_MOST_NOISE = 20.0
"""The noise head says this many times the noise, so that all heads are of order one."""


@dataclass(frozen=True, eq=False)
class RateFeatures:
    """What the network sees: of pairs ``(B, S, S, .)``, of states ``(B, S, .)`` and of all ``(B, .)``; the anchor."""

    pair: Tensor
    node: Tensor
    whole: Tensor
    anchor: Tensor

    def tokens(self) -> Tensor:
        """Return all that belongs to each pair, ``(B, S, S, features)``."""
        size = self.node.shape[1]
        shape = (*self.pair.shape[:3], -1)
        own = torch.eye(size, dtype=self.pair.dtype, device=self.pair.device)[None, :, :, None].expand(shape)
        return torch.cat(
            [
                self.pair,
                self.pair.transpose(1, 2),
                self.node[:, :, None].expand(shape),
                self.node[:, None].expand(shape),
                self.whole[:, None, None].expand(shape),
                own,
            ],
            dim=-1,
        )


def rate_features(summary: TransitionSummary) -> RateFeatures:
    """Turn a summary into numbers without a unit, float32."""
    size, tau = summary.n_states, summary.unit
    counts, one = summary.counts, summary.counts[:, 0]
    dwell = summary.dwell / tau[:, None]
    anchor = (one + _PSEUDO) / (dwell + _PSEUDO * size)[:, :, None]
    smooth = _smoothed(counts, size)
    pair = torch.cat(
        [
            anchor.log()[..., None],
            smooth.log().permute(0, 2, 3, 1),
            counts.log1p().permute(0, 2, 3, 1),
            torch.stack(
                [
                    summary.returns.log1p(),
                    summary.returns / (one + 1),
                    (one + 1).rsqrt(),
                    _smoothed(summary.short, size).log(),
                    _smoothed(summary.long, size).log(),
                    summary.detours.log1p(),
                    summary.detours / (one + 1),
                ],
                -1,
            ),
        ],
        dim=-1,
    )
    starts, n_paths = summary.starts, summary.starts.sum(1)
    node = torch.cat(
        [
            torch.stack(
                [
                    dwell.log1p(),
                    (summary.dwell / summary.dwell.sum(1, keepdim=True) + 1e-3).log(),
                    starts.log1p(),
                    ((starts + 0.5) / (n_paths + 0.5 * size)[:, None]).log(),
                ],
                -1,
            ),
            smooth.diagonal(dim1=2, dim2=3).permute(0, 2, 1),
        ],
        dim=-1,
    )
    total = counts.sum((2, 3))
    # Where nothing lies that far apart, the lag of single steps times the skip stands in.
    single = summary.elapsed[:, :1] / total[:, :1].clamp_min(1)
    skips = torch.tensor(SKIPS, dtype=torch.float64, device=total.device)
    lags = torch.where(total > 0, summary.elapsed / total.clamp_min(1), single * skips)
    halves = torch.stack([summary.short_elapsed, summary.long_elapsed], 1)
    numbers = torch.stack([summary.short.sum((1, 2)), summary.long.sum((1, 2))], 1)
    split = torch.where(numbers > 0, halves / numbers.clamp_min(1), single)
    spread = (summary.squared / total[:, 0].clamp_min(1)).sqrt()
    whole = torch.cat(
        [
            (torch.cat([lags, split, spread[:, None]], 1) / tau[:, None]).log(),
            torch.stack(
                [
                    summary.changes.log1p(),
                    n_paths.clamp_min(1).log(),
                    total[:, 0].log1p(),
                    summary.returns.sum((1, 2)) / (summary.changes + 1),
                    torch.full_like(n_paths, size / 6),
                ],
                1,
            ),
        ],
        dim=1,
    )
    return RateFeatures(*(v.to(torch.float32) for v in (pair, node, whole, anchor)))


def _smoothed(counts: Tensor, size: int) -> Tensor:
    """Return rows of counts as probabilities, none of them zero."""
    return (counts + 0.5 / size) / (counts.sum(-1, keepdim=True) + 0.5)


N_FEATURES = 2 * 16 + 2 * 8 + 12 + 1
"""Numbers of a token."""


@dataclass(frozen=True, eq=False)
class RatePosterior:
    r"""What the network believes, without a unit of time: rates are in units of :math:`1/\tau`.

    Attributes
    ----------
    mean, shape
        :math:`\mu` and :math:`k` of the Gamma law, ``(B, S, S)``; the diagonal means nothing.
    link
        Logit of :math:`\lambda`, ``(B, S, S)``.
    shrinkage
        Factor :math:`e^{-s}` of the point estimate, ``(B, S, S)``.
    initial
        Logits of the law of the first look, ``(B, S)``.
    noise
        Probability of a wrong label, ``(B,)``.
    """

    mean: Tensor
    shape: Tensor
    link: Tensor
    shrinkage: Tensor
    initial: Tensor
    noise: Tensor

    def estimate(self) -> Tensor:
        r"""Return point estimates of the rates in units of :math:`1/\tau`, ``(B, S, S)``."""
        return torch.sigmoid(self.link) * self.mean * self.shrinkage


class RateNetwork(nn.Module):
    """From features to a posterior; see the module's docstring.

    Parameters
    ----------
    width
        Channels of a token.
    layers
        How often tokens are mixed.
    products
        Channels of the matrix products.
    seed
        Of the weights.
    """

    def __init__(self, width: int = 64, layers: int = 4, products: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.width, self.layers, self.products = width, layers, products
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("shift", torch.zeros(N_FEATURES))
        self.register_buffer("scale", torch.ones(N_FEATURES))
        self.lift = seeded_linear(N_FEATURES, width, generator)
        self.mixing = nn.ModuleList(_Mixing(width, products, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pair_head = seeded_linear(width, 3, generator)
        self.shrinkage_head = seeded_linear(width, 1, generator)
        nn.init.zeros_(self.shrinkage_head.weight)
        nn.init.zeros_(self.shrinkage_head.bias)
        self.initial_head = seeded_linear(width, 1, generator)
        self.noise_head = seeded_linear(width, 1, generator)

    shift: Tensor
    scale: Tensor

    def forward(self, features: RateFeatures) -> RatePosterior:
        """Return the posterior of every data set of a batch."""
        tokens = ((features.tokens() - self.shift) / self.scale).clamp(-_CLAMP, _CLAMP)
        state = self.lift(tokens)
        for layer in self.mixing:
            state = layer(state)
        state = self.norm(state)
        correction, shape, link = self.pair_head(state).unbind(-1)
        own = state.diagonal(dim1=1, dim2=2).transpose(1, 2)
        return RatePosterior(
            mean=features.anchor * correction.clamp(-_CLAMP, _CLAMP).exp(),
            shape=nn.functional.softplus(shape) + 0.3,
            link=link,
            shrinkage=self.shrinkage_head(state)[..., 0].clamp(-_CLAMP, _CLAMP).neg().exp(),
            initial=self.initial_head(own)[..., 0],
            noise=nn.functional.softplus(self.noise_head(state.mean((1, 2)))[:, 0]) / _MOST_NOISE,
        )


class _Mixing(nn.Module):
    """One layer: every token hears its reverse, rows and columns, all, and matrix products."""

    def __init__(self, width: int, products: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = 2 * width
        self.norm = nn.LayerNorm(width)
        self.own = seeded_linear(width, 2 * hidden + 2 * products, generator)
        self.row = seeded_linear(width, 2 * hidden, generator)
        self.column = seeded_linear(width, 2 * hidden, generator)
        self.whole = seeded_linear(width, hidden, generator)
        self.product = seeded_linear(products, hidden, generator)
        self.out = seeded_linear(hidden, width, generator)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.hidden, self.products = hidden, products

    def forward(self, state: Tensor) -> Tensor:
        size = state.shape[1]
        u = self.norm(state)
        here, there, left, right = self.own(u).split([self.hidden, self.hidden, self.products, self.products], -1)
        row, column = u.mean(2), u.mean(1)
        from_row, to_row = self.row(row).chunk(2, -1)
        to_column, from_column = self.column(column).chunk(2, -1)
        product = left.permute(0, 3, 1, 2) @ right.permute(0, 3, 1, 2) / size
        z = here + there.transpose(1, 2)
        z = z + (from_row + from_column)[:, :, None] + (to_row + to_column)[:, None]
        z = z + self.whole(row.mean(1))[:, None, None] + self.product(product.permute(0, 2, 3, 1))
        result: Tensor = state + self.out(nn.functional.gelu(z))
        return result
