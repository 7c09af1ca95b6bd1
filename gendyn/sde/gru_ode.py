r"""GRU-ODE-Bayes: a state that flows between observations and jumps at them.

Between observations, with gates :math:`r, z` (logistic) and :math:`c` (tanh) of the state alone,

.. math:: dh = (1 - z)(c - h)\, dt, \qquad r = \operatorname{sigmoid}(W_r h + b_r), \quad
    z = \operatorname{sigmoid}(W_z h + b_z), \quad c = \tanh(W_c (r h) + b_c) .

At every moment the state says what would be observed, :math:`x_d \sim N(\mu_d(h), e^{v_d(h)})`. At an observation a
gated unit moves it by what was seen of each channel and what had been expected,

.. math:: h \leftarrow \operatorname{GRU}(h, y), \qquad
    y_d = m_d \operatorname{relu}(W_d\, [x_d, \mu_d, v_d, (x_d - \mu_d) e^{-v_d / 2}] + b_d) .

The state never leaves the cube :math:`\lvert h \rvert \le 1`: it starts there, and every move is towards a point of it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gendyn.nn import MLP, seeded_linear
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample

__all__ = ["FilteredStates", "GRUFlow", "GRUODEModel"]

_PREPARED = 25
"""Features that an observation of a channel is told by."""


class GRUFlow(nn.Module):
    """The flow of the state between observations; a process without noise.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> flow = GRUFlow(4)
    >>> bool((sample(flow, torch.ones(3, 4), [0.0, 50.0]).values.abs() <= 1).all())
    True
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim = 0

    def __init__(self, hidden: int, *, seed: Seed = 0) -> None:
        super().__init__()
        generator = torch_generator(seed, "flow")
        self.dim = hidden
        self.gates = seeded_linear(hidden, 2 * hidden, generator)
        self.candidate = seeded_linear(hidden, hidden, generator)

    def drift(self, t: Tensor, h: Tensor) -> Tensor:
        """Return the drift ``(B, h)``."""
        reset, stay = torch.sigmoid(self.gates(h)).chunk(2, dim=1)
        return (1 - stay) * (torch.tanh(self.candidate(reset * h)) - h)

    def diffusion(self, t: Tensor, h: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(h)


class FilteredStates(NamedTuple):
    """States just before and just after what was observed at each time, both ``(B, M, h)``."""

    before: Tensor
    after: Tensor


class GRUODEModel(nn.Module):
    """Networks of GRU-ODE-Bayes.

    Parameters
    ----------
    dim
        Number of channels ``D``.
    hidden
        Number of features ``h`` of the state.
    inner
        Width of the hidden layer between the state and what it expects.
    seed
        Of the initial weights.

    References
    ----------
    De Brouwer, Simm, Arany, Moreau. GRU-ODE-Bayes: continuous modeling of sporadically-observed time series. 2019.
    """

    def __init__(self, dim: int, hidden: int, inner: int, *, seed: Seed = 0) -> None:
        super().__init__()
        root = as_seed(seed)
        generator = torch_generator(root, "observations")
        self.dim, self.hidden = dim, hidden
        self.start = nn.Parameter(torch.zeros(hidden))
        self.flow = GRUFlow(hidden, seed=derive_seed(root, "flow"))
        self.expected = MLP(hidden, 2 * dim, (inner,), "relu", seed=derive_seed(root, "expected"))
        deviation = math.sqrt(2 / (4 + _PREPARED))
        self.prepare = nn.Parameter(deviation * torch.randn(dim, 4, _PREPARED, generator=generator))
        self.prepare_from = nn.Parameter(torch.full((dim, _PREPARED), 0.1))
        self.told = seeded_linear(dim * _PREPARED, 3 * hidden, generator)
        self.gates = seeded_linear(hidden, 2 * hidden, generator, bias=False)
        self.candidate = seeded_linear(hidden, hidden, generator, bias=False)

    def expect(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance ``(..., D)`` of what would be observed in states ``(..., h)``."""
        mean, log_variance = self.expected(h).chunk(2, dim=-1)
        return mean, log_variance

    def jump(self, h: Tensor, values: Tensor) -> Tensor:
        """Return states ``(B, h)`` after observations ``(B, D)``, NaN where there was none; without any they stay."""
        seen = ~values.isnan()
        mean, log_variance = self.expect(h)
        x = torch.where(seen, values, mean)
        told = torch.stack([x, mean, log_variance, (x - mean) * torch.exp(-log_variance / 2)], dim=2)
        prepared = torch.relu(torch.einsum("bdk,dkp->bdp", told, self.prepare) + self.prepare_from)
        gates, candidate = self.told((prepared * seen[:, :, None]).flatten(1)).split([2 * self.hidden, self.hidden], 1)
        reset, stay = torch.sigmoid(gates + self.gates(h)).chunk(2, dim=1)
        new = torch.tanh(candidate + self.candidate(reset * h))
        return torch.where(seen.any(1, keepdim=True), new + stay * (h - new), h)

    def states(self, grid: Tensor, values: Tensor, step: float) -> FilteredStates:
        """Return the states of series.

        Parameters
        ----------
        grid
            ``(M,)`` or ``(B, M)``, where padding repeats the last time of a series.
        values
            What was observed ``(B, M, D)``, NaN where there was nothing.
        step
            Longest step between. As all series of a batch take equally many between two rows, a step may be shorter in
            company than alone.
        """
        gradient: Literal["none", "backprop"] = "backprop" if torch.is_grad_enabled() else "none"
        h = torch.tanh(self.start).expand(len(values), -1)
        before, after = [], []
        for k, (now, seen) in enumerate(zip(values.unbind(1), _any_seen(values), strict=True)):
            if k > 0:
                flown = sample(
                    self.flow, h, grid[..., k - 1 : k + 1], step=step, solver="euler", gradient=gradient, save="final"
                )
                h = flown.values[:, -1]
            before.append(h)
            h = self.jump(h, now) if seen else h
            after.append(h)
        return FilteredStates(torch.stack(before, 1), torch.stack(after, 1))


def _any_seen(values: Tensor) -> list[bool]:
    seen: list[bool] = (~values.isnan()).any(2).any(0).tolist()
    return seen
