r"""Multilayer perceptrons with seeded initial weights.

.. math:: h_0 = x, \qquad h_{l+1} = \phi(W_l h_l + b_l), \qquad y = W_L h_L + b_L .

Weights and biases are drawn as PyTorch's own :class:`torch.nn.Linear` draws them, uniformly on
:math:`[-1/\sqrt{n_{in}}, 1/\sqrt{n_{in}}]`, but from a generator of our own: building a network neither
reads nor advances the global one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gendyn.randomness import Seed, torch_generator

__all__ = ["ACTIVATIONS", "MLP", "LipSwish", "get_activation", "linear"]


class LipSwish(nn.Module):
    r""":math:`0.909\, x\, \sigma(x)`: SiLU scaled to Lipschitz constant one (Chen et al. 2019).

    Examples
    --------
    >>> LipSwish()(torch.zeros(2)).tolist()
    [0.0, 0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, of the shape of ``x``."""
        return 0.909 * nn.functional.silu(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "selu": nn.SELU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "lipswish": LipSwish,
}
"""Activations by name."""


def get_activation(name: str) -> nn.Module:
    """Return a new activation by name.

    Raises
    ------
    ValueError
        If there is no such activation; the message lists those there are.

    Examples
    --------
    >>> get_activation("relu")
    ReLU()
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]()


def linear(n_in: int, n_out: int, generator: torch.Generator, *, gain: float = 1.0) -> nn.Linear:
    """Return a linear layer with weights of PyTorch's default law, times ``gain``, drawn from ``generator``.

    Examples
    --------
    >>> layer = linear(4, 3, torch.Generator().manual_seed(0))
    >>> bool((layer.weight.abs() <= 0.5).all())
    True
    """
    layer = torch.nn.utils.skip_init(nn.Linear, n_in, n_out)
    bound = gain / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


class MLP(nn.Module):
    r"""A multilayer perceptron ``(..., n_in) -> (..., n_out)``.

    Parameters
    ----------
    n_in, n_out
        Numbers of inputs and outputs.
    hidden
        Widths of the hidden layers; none gives a linear map.
    activation
        Name in :data:`ACTIVATIONS`.
    seed
        Seed of the initial weights.
    final_gain
        Factor on the initial weights of the last layer; small values start near the zero map.

    Raises
    ------
    ValueError
        If a width is below 1 or the activation is unknown.

    Examples
    --------
    >>> MLP(3, 2, hidden=(16,), seed=0)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        *,
        seed: Seed = 0,
        final_gain: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [n_in, *hidden, n_out]
        if min(widths) < 1:
            raise ValueError(f"widths of a network must be at least 1; got {tuple(widths)}")
        generator = torch_generator(seed, "mlp")
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-2], widths[1:-1], strict=True):
            layers += [linear(before, after, generator), get_activation(activation)]
        layers.append(linear(widths[-2], n_out, generator, gain=final_gain))
        get_activation(activation)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., n_out)`` at inputs ``(..., n_in)``."""
        y: Tensor = self.layers(x)
        return y
