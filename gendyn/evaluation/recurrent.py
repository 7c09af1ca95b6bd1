r"""Many small recurrent networks trained side by side, as one.

A post-hoc network of a metric has a handful of units, and ten of them are wanted: alone, each spends its time on
calling kernels. Here :math:`K` networks advance together. At a time :math:`t` network :math:`k` sees the columns
:math:`z_t = (x_t, h_{t-1}, 1)` of a batch and has one matrix :math:`W \in \mathbb{R}^{4h \times (d+h+1)}`, whose four
blocks of rows are, for gated recurrent units (Cho et al. 2014, in the form of torch),

.. math::
    r, z = \sigma(W_r z_t), \sigma(W_z z_t), \qquad
    n = \tanh(W_n z_t + r \odot W_q z_t), \qquad
    h_t = (1 - z) \odot n + z \odot h_{t-1},

with :math:`W_n` blind to :math:`h` and :math:`W_q` to :math:`x`; and for long short-term memory (Hochreiter and
Schmidhuber 1997)

.. math::
    i, f, o = \sigma(W_{i,f,o} z_t), \qquad g = \tanh(W_g z_t), \qquad
    c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh c_t .

Both are linear in the gradient that comes back from :math:`h_t`, so all factors that do not depend on it are computed
for all times at once, and a step backward is two products. Arrays are ``(T, K, rows, B)``: the batch lies last, so
that every gate is a contiguous block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, torch_generator

__all__ = [
    "Cell",
    "Integers",
    "Pools",
    "RecurrentBank",
    "columns",
    "gated_recurrent",
    "long_short_term",
    "readable",
    "share_right",
]

Cell = Literal["gru", "lstm"]

Integers = np.ndarray[Any, np.dtype[np.int64]]

_REACH = 1000.0
"""Largest value that a network is shown; all real ones are about 1."""

_COLUMNS = 4096
"""Paths at once, over all networks, where no gradient is wanted."""


def gated_recurrent(x: Tensor, weight: Tensor) -> Tensor:
    """Return the states ``(T, K, h, B)`` of K gated recurrent networks from a zero state.

    Parameters
    ----------
    x
        Inputs ``(T, K, d, B)``.
    weight
        ``(K, 4 h, d + h + 1)``; blocks of rows are the gates r, z and the two halves n, q of the candidate. What n has
        for the state and q for the input is not read.

    Examples
    --------
    >>> gated_recurrent(torch.zeros(5, 2, 3, 7), torch.zeros(2, 16, 8)).shape
    torch.Size([5, 2, 4, 7])
    """
    return _GatedRecurrent.apply(x, weight)  # type: ignore[no-any-return, no-untyped-call]


def long_short_term(x: Tensor, weight: Tensor) -> Tensor:
    """Return the states ``(T, K, h, B)`` of K networks with long short-term memory from zero states.

    Parameters
    ----------
    x
        Inputs ``(T, K, d, B)``.
    weight
        ``(K, 4 h, d + h + 1)``; blocks of rows are the gates i, f, o and the candidate g.

    Examples
    --------
    >>> long_short_term(torch.zeros(5, 2, 3, 7), torch.zeros(2, 16, 8)).shape
    torch.Size([5, 2, 4, 7])
    """
    return _LongShortTerm.apply(x, weight)  # type: ignore[no-any-return, no-untyped-call]


class RecurrentBank(nn.Module):
    r"""K recurrent networks of one shape, each with a linear read-out of its own.

    Weights start uniform in :math:`\pm 1/\sqrt h`, as those of torch do.

    Parameters
    ----------
    count
        Number of networks K.
    dim, hidden, outputs
        Inputs d, units h of each layer, outputs o of the read-out.
    cell
        ``"gru"`` or ``"lstm"``.
    layers
        Layers, each reading the states of the one below.
    seed
        Root of the weights at the start.

    Examples
    --------
    >>> bank = RecurrentBank(10, dim=6, hidden=3, outputs=1)
    >>> states = bank.states(torch.zeros(24, 10, 6, 128))
    >>> bank.read(states[-1]).shape
    torch.Size([10, 1, 128])
    """

    def __init__(
        self, count: int, dim: int, hidden: int, outputs: int, *, cell: Cell = "gru", layers: int = 1, seed: Seed = 0
    ) -> None:
        super().__init__()
        self._advance = {"gru": gated_recurrent, "lstm": long_short_term}[cell]
        generator = torch_generator(seed, "weights")

        def start(*shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) / hidden**0.5)

        sizes = [dim] + [hidden] * (layers - 1)
        self.weights = nn.ParameterList(start(count, 4 * hidden, size + hidden + 1) for size in sizes)
        self.readout = start(count, outputs, layers * hidden)
        self.offset = start(count, outputs, 1)

    def states(self, x: Tensor) -> Tensor:
        """Return the states of all layers, stacked, ``(T, K, layers h, B)``, for inputs ``(T, K, d, B)``."""
        layers = []
        for weight in self.weights:
            x = self._advance(x, weight)
            layers.append(x)
        return layers[0] if len(layers) == 1 else torch.cat(layers, dim=2)

    def read(self, state: Tensor) -> Tensor:
        """Return the outputs ``(..., K, o, B)`` at states ``(..., K, layers h, B)``."""
        return torch.matmul(self.readout, state) + self.offset


class Pools:
    """Paths from which each of K networks draws its batches.

    Parameters
    ----------
    numbers
        For each network its pools, each a row of numbers of paths; all networks have equally many pools.

    Examples
    --------
    >>> pools = Pools([[torch.tensor([4, 5]), torch.tensor([9])], [torch.tensor([6]), torch.tensor([7, 8])]])
    >>> pools.draw(3, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 2, 3])
    """

    def __init__(self, numbers: Sequence[Sequence[Tensor]]) -> None:
        self._sizes = torch.tensor([[len(pool) for pool in pools] for pools in numbers])
        padded = pad_sequence([pool for pools in numbers for pool in pools], batch_first=True)
        self._numbers = padded.view(*self._sizes.shape, -1)

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return ``size`` numbers drawn with replacement from every pool ``(K, P, size)``."""
        places = torch.rand(*self._sizes.shape, size, generator=generator, dtype=torch.float64) * self._sizes[..., None]
        return self._numbers.gather(2, places.to(torch.int64))


def share_right(answer: Callable[[Tensor], Tensor], asked: Sequence[Integers]) -> Array:
    """Return the share of right answers of each of K networks about paths of its own ``(K,)``.

    Parameters
    ----------
    answer
        Tells for numbers of paths ``(K, B)`` which answers are right ``(K, B)``.
    asked
        Numbers of the paths that each network is asked about.

    Examples
    --------
    >>> share_right(lambda numbers: numbers < 2, [np.array([0, 1, 2, 3]), np.array([1])]).tolist()
    [0.5, 1.0]
    """
    numbers = pad_sequence([torch.from_numpy(part) for part in asked], batch_first=True)
    sizes = torch.tensor([len(part) for part in asked])
    right = torch.cat([answer(part) for part in torch.split(numbers, max(1, _COLUMNS // len(asked)), dim=1)], dim=1)
    right = right & (torch.arange(right.shape[1]) < sizes[:, None])
    return np.asarray((right.sum(1, dtype=torch.float64) / sizes).numpy())


def readable(values: Array) -> Tensor:
    """Return scaled values as networks read them: in single precision, runaways held where its numbers end well.

    Examples
    --------
    >>> readable(np.array([0.5, -1e60])).tolist()
    [0.5, -1000.0]
    """
    return torch.from_numpy(np.clip(values, -_REACH, _REACH).astype(np.float32))


def columns(rows: Tensor, numbers: Tensor) -> Tensor:
    """Return paths ``(n, T, d)`` of the given numbers ``(K, B)`` as the inputs of K networks ``(T, K, d, B)``.

    Examples
    --------
    >>> columns(torch.arange(12.0).view(3, 2, 2), torch.tensor([[2, 0]]))[:, 0].tolist()
    [[[8.0, 0.0], [9.0, 1.0]], [[10.0, 2.0], [11.0, 3.0]]]
    """
    picked = rows.flatten(1).index_select(0, numbers.flatten())
    return picked.view(*numbers.shape, *rows.shape[1:]).permute(2, 0, 3, 1)


def _tanh_(y: Tensor) -> Tensor:
    """Put tanh y in the place of y, by way of the logistic function, whose kernel is several times faster."""
    return y.mul_(2).sigmoid_().mul_(2).sub_(1)


def _room(x: Tensor, hidden: int) -> Tensor:
    """Return room for the columns (x, h, 1), ``(T + 1, K, d + h + 1, B)``, with a zero state at the start."""
    length, count, dim, batch = x.shape
    room = x.new_empty(length + 1, count, dim + hidden + 1, batch)
    room[:-1, :, :dim] = x
    room[0, :, dim:-1] = 0
    room[:, :, -1] = 1
    return room


class _GatedRecurrent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        dim, h = x.shape[2], weight.shape[1] // 4
        weight = weight.clone()
        weight[:, 2 * h : 3 * h, dim:-1] = 0
        weight[:, 3 * h :, :dim] = 0
        seen = _room(x, h)
        gates = x.new_empty(len(x), len(weight), 4 * h, x.shape[3])
        for t in range(len(x)):
            a = torch.bmm(weight, seen[t], out=gates[t])
            a[:, : 2 * h].sigmoid_()
            candidate = _tanh_(a[:, 2 * h : 3 * h].addcmul_(a[:, :h], a[:, 3 * h :]))
            torch.lerp(candidate, seen[t, :, dim:-1], a[:, h : 2 * h], out=seen[t + 1, :, dim:-1])
        ctx.save_for_backward(weight, seen, gates)
        return seen[1:, :, dim:-1].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        weight, seen, gates = ctx.saved_tensors
        length, count, rows, batch = gates.shape
        h = rows // 4
        dim = seen.shape[2] - h - 1
        r, z, n, q = gates.unflatten(2, (4, h)).unbind(2)
        before = seen[:-1, :, dim:-1]
        # How the four pre-activations answer to a change of the state.
        factors = gates.new_empty(length, count, 4, h, batch)
        torch.mul(1 - z, 1 - n * n, out=factors[:, :, 2])
        torch.mul(factors[:, :, 2], r, out=factors[:, :, 3])
        torch.mul(factors[:, :, 3] * q, 1 - r, out=factors[:, :, 0])
        torch.mul((before - n) * z, 1 - z, out=factors[:, :, 1])

        back = weight.transpose(1, 2).contiguous() if ctx.needs_input_grad[0] else _state_rows(weight, dim)
        to_input = gates.new_empty(length, count, dim, batch) if ctx.needs_input_grad[0] else None
        to_weight, step = torch.zeros_like(weight), torch.empty_like(factors[0])
        to_state = torch.zeros_like(before[0])
        for t in range(length - 1, -1, -1):
            to_state += gradients[0][t]
            torch.mul(factors[t], to_state[:, None], out=step)
            flat = step.view(count, rows, batch)
            to_weight.baddbmm_(flat, seen[t].transpose(1, 2))
            to_column = torch.bmm(back, flat)
            if to_input is not None:
                to_input[t] = to_column[:, :dim]
                to_column = to_column[:, dim:-1]
            to_state = torch.addcmul(to_column, to_state, z[t])
        to_weight[:, 2 * h : 3 * h, dim:-1] = 0
        to_weight[:, 3 * h :, :dim] = 0
        return to_input, to_weight


class _LongShortTerm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        dim, h = x.shape[2], weight.shape[1] // 4
        seen = _room(x, h)
        gates = x.new_empty(len(x), len(weight), 4 * h, x.shape[3])
        cells = x.new_zeros(len(x) + 1, len(weight), h, x.shape[3])
        bent = torch.empty_like(cells[1:])
        for t in range(len(x)):
            a = torch.bmm(weight, seen[t], out=gates[t])
            a[:, : 3 * h].sigmoid_()
            _tanh_(a[:, 3 * h :])
            torch.mul(a[:, h : 2 * h], cells[t], out=cells[t + 1]).addcmul_(a[:, :h], a[:, 3 * h :])
            bent[t] = cells[t + 1]
            torch.mul(a[:, 2 * h : 3 * h], _tanh_(bent[t]), out=seen[t + 1, :, dim:-1])
        ctx.save_for_backward(weight, seen, gates, cells, bent)
        return seen[1:, :, dim:-1].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        weight, seen, gates, cells, bent = ctx.saved_tensors
        length, count, rows, batch = gates.shape
        h = rows // 4
        dim = seen.shape[2] - h - 1
        i, f, o, g = gates.unflatten(2, (4, h)).unbind(2)
        # How the pre-activations i, f, g answer to a change of the cell, o to one of the state, and cell to state.
        factors = gates.new_empty(length, count, 4, h, batch)
        torch.mul(g * i, 1 - i, out=factors[:, :, 0])
        torch.mul(cells[:-1] * f, 1 - f, out=factors[:, :, 1])
        torch.mul(bent * o, 1 - o, out=factors[:, :, 2])
        torch.mul(i, 1 - g * g, out=factors[:, :, 3])
        through = o * (1 - bent * bent)

        back = weight.transpose(1, 2).contiguous() if ctx.needs_input_grad[0] else _state_rows(weight, dim)
        to_input = gates.new_empty(length, count, dim, batch) if ctx.needs_input_grad[0] else None
        to_weight, step = torch.zeros_like(weight), torch.empty_like(factors[0])
        to_state, to_cell = torch.zeros_like(cells[0]), torch.zeros_like(cells[0])
        for t in range(length - 1, -1, -1):
            to_state = to_state + gradients[0][t]
            to_cell.addcmul_(to_state, through[t])
            torch.mul(factors[t], to_cell[:, None], out=step)
            torch.mul(factors[t, :, 2], to_state, out=step[:, 2])
            flat = step.view(count, rows, batch)
            to_weight.baddbmm_(flat, seen[t].transpose(1, 2))
            to_state = torch.bmm(back, flat)
            if to_input is not None:
                to_input[t] = to_state[:, :dim]
                to_state = to_state[:, dim:-1]
            to_cell *= f[t]
        return to_input, to_weight


def _state_rows(weight: Tensor, dim: int) -> Tensor:
    """Return what carries a gradient from the pre-activations to the state before ``(K, h, 4 h)``."""
    return weight[:, :, dim:-1].transpose(1, 2).contiguous()
