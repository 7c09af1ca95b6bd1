r"""Gated recurrent units that know when and how often one looked: GRU-D and GRU-dt.

A series comes as rows of last values :math:`\bar x` (zero, the mean, before the first), masks :math:`m` and times since
the last observation :math:`\delta`. From row to row

.. math:: r, u = \operatorname{sigmoid}(W y + U h' + b), \qquad c = \tanh(W_c y + U_c (r h') + b_c), \qquad
    h = h' + u\, (c - h') .

GRU-dt is told :math:`y = (\bar x, m, \delta)`, and :math:`h'` is the last state. In GRU-D what was not seen
for long fades, values to their mean and states to zero:

.. math:: y = \bigl(m \bar x + (1 - m)\, e^{-(w \delta + v)_+} \bar x,\; m\bigr), \qquad
    h' = e^{-(W_\gamma \delta + b_\gamma)_+}\, h .
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import time_since_observation
from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, torch_generator
from gendyn.sde.series import Series

__all__ = ["GatedRecurrence", "Recurrence", "observed_rows"]

_TOLD = {"gru-d": 2, "gru-dt": 3, "plain": 1}
"""What a channel is told by: value and mask; value, mask and time; value."""

Recurrence = Literal["gru-d", "gru-dt", "plain"]


class GatedRecurrence(nn.Module):
    """A gated recurrent unit over the rows of a series.

    Parameters
    ----------
    dim
        Number of channels ``D``.
    hidden
        Number of features ``h`` of the state.
    kind
        ``"gru-d"``, ``"gru-dt"``, or ``"plain"``, which is told values that have no holes.
    seed
        Of the initial weights.

    References
    ----------
    Che et al. Recurrent neural networks for multivariate time series with missing values. 2018.

    Examples
    --------
    >>> cell = GatedRecurrence(2, hidden=5)
    >>> cell(torch.zeros(3, 7, 6)).shape
    torch.Size([3, 7, 5])
    """

    def __init__(self, dim: int, hidden: int, kind: Recurrence = "gru-d", *, seed: Seed = 0) -> None:
        super().__init__()
        if min(dim, hidden) < 1:
            raise ValueError(f"dim and hidden must be at least 1; got {dim} and {hidden}")
        if kind not in _TOLD:
            raise ValueError(f"kind must be one of {', '.join(_TOLD)}; got {kind!r}")
        generator = torch_generator(seed, "gated recurrence")
        self.dim, self.hidden, self.kind = dim, hidden, kind
        self.told = seeded_linear(_TOLD[kind] * dim, 3 * hidden, generator)
        self.gates = seeded_linear(hidden, 2 * hidden, generator, bias=False)
        self.candidate = seeded_linear(hidden, hidden, generator, bias=False)
        if kind == "gru-d":
            self.fading = nn.Parameter(torch.rand(dim, generator=generator))
            self.fading_from = nn.Parameter(torch.zeros(dim))
            self.forgetting = seeded_linear(dim, hidden, generator)

    def forward(self, rows: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the state after every row ``(B, L, h)``.

        Parameters
        ----------
        rows
            Last values, masks and times since the last observation ``(B, L, 3 D)``, see :func:`observed_rows`; for a
            plain unit the values ``(B, L, D)``.
        inside
            ``(B, L)``, false after the end of a series, where the state stays; by default true.
        """
        kept: tuple[Tensor | None, ...] = (None,) * rows.shape[1]
        if self.kind == "gru-d":
            last, seen, since = rows.chunk(3, dim=2)
            faded = last * torch.exp(-torch.relu(self.fading * since + self.fading_from))
            rows = torch.cat([torch.lerp(faded, last, seen), seen], dim=2)
            kept = torch.exp(-torch.relu(self.forgetting(since))).unbind(1)
        # What does not depend on the state, in one product.
        told = self.told(rows).tensor_split((2 * self.hidden,), dim=2)
        h = rows.new_zeros(len(rows), self.hidden)
        states = []
        for k, (gates, candidate, keep) in enumerate(zip(told[0].unbind(1), told[1].unbind(1), kept, strict=True)):
            before = h if keep is None else keep * h
            reset, update = torch.sigmoid(gates + self.gates(before)).chunk(2, dim=1)
            new = torch.lerp(before, torch.tanh(candidate + self.candidate(reset * before)), update)
            h = new if inside is None else torch.where(inside[:, k, None], new, h)
            states.append(h)
        return torch.stack(states, dim=1)


def observed_rows(scaled: Series) -> Tensor:
    """Return last values, masks and times since the last observation ``(B, L, 3 D)`` of scaled series.

    Examples
    --------
    >>> nan = float("nan")
    >>> values = torch.tensor([[[nan], [2.0], [nan], [5.0]]])
    >>> series = Series(torch.tensor([[0.0, 0.5, 1.0, 2.0]]), values, torch.tensor([4]))
    >>> observed_rows(series)[0].T.tolist()
    [[0.0, 2.0, 2.0, 5.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.5, 0.5, 1.5]]
    """
    values, seen = scaled.values, scaled.seen
    place = torch.arange(values.shape[1], device=values.device)[:, None]
    # Where nothing was seen yet this is the first row, which then is zero.
    latest = torch.where(seen, place, 0).cummax(1).values
    last = values.nan_to_num(0.0).gather(1, latest)
    since = time_since_observation(scaled.times, seen).to(values)
    return torch.cat([last, seen.to(values), since], dim=2)
