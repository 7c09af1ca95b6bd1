r"""Multilayer perceptrons with seeded initial weights.

.. math:: h_0 = x, \qquad h_{l+1} = \phi(W_l h_l + b_l), \qquad y = W_L h_L + b_L,

or, with skips, :math:`h_{l+1} = \phi(W_l h_l + b_l + h_l)` wherever two hidden layers are equally wide. Weights and
biases are drawn as :class:`torch.nn.Linear` draws them, uniformly on
:math:`[-1/\sqrt{n_\mathrm{in}},\, 1/\sqrt{n_\mathrm{in}}]`, but from a generator of their own: building a network
neither reads nor advances the global one, and the same seed gives the same network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gendyn.nn.activation import get_activation
from gendyn.randomness import Seed, torch_generator

__all__ = ["MLP", "seeded_linear"]


def seeded_linear(
    in_features: int,
    out_features: int,
    generator: torch.Generator,
    *,
    scale: float = 1.0,
    bias: bool = True,
) -> nn.Linear:
    """Return a linear layer with parameters of PyTorch's default law, times ``scale``, drawn from ``generator``.

    Parameters
    ----------
    in_features, out_features
        Widths.
    generator
        Where the parameters are drawn from, on its own device; the layer is made on the CPU in float32.
    scale
        Factor on weights and biases.
    bias
        Whether there is a bias.

    Examples
    --------
    >>> layer = seeded_linear(4, 3, torch.Generator().manual_seed(0))
    >>> bool((layer.weight.abs() <= 0.5).all()), bool((layer.bias.abs() <= 0.5).all())
    (True, True)
    """
    # On the meta device PyTorch's own initialisation draws nothing. The dtype is named, so that a changed global
    # default does not change the numbers.
    layer = nn.Linear(in_features, out_features, bias, device="meta", dtype=torch.float32).to_empty(device="cpu")
    bound = 1.0 / math.sqrt(in_features)
    with torch.no_grad():
        for parameter in layer.parameters():
            draw = torch.rand(parameter.shape, generator=generator, dtype=torch.float32, device=generator.device)
            parameter.copy_(draw.mul_(2 * bound).sub_(bound).mul_(scale))
    return layer


class MLP(nn.Module):
    r"""A multilayer perceptron ``(..., in_features) -> (..., out_features)``.

    Parameters
    ----------
    in_features, out_features
        Numbers of inputs and outputs.
    hidden
        Widths of the hidden layers; none gives a linear map.
    activation
        Name in :data:`~gendyn.nn.ACTIVATIONS`.
    seed
        Seed of the initial parameters.
    final_scale
        Factor on the initial parameters of the last layer; small values start near the zero map.
    skip
        Add each hidden layer's input to it before the activation, where the widths agree.
    final_bias
        Whether the last layer has a bias.

    Raises
    ------
    ValueError
        If a width is below 1, or the activation is unknown.

    Examples
    --------
    >>> network = MLP(3, 2, hidden=(16, 16), seed=0)
    >>> network(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (64, 64, 64),
        activation: str = "silu",
        *,
        seed: Seed = 0,
        final_scale: float = 1.0,
        skip: bool = False,
        final_bias: bool = True,
    ) -> None:
        super().__init__()
        widths = [int(in_features), *(int(width) for width in hidden), int(out_features)]
        if min(widths) < 1:
            raise ValueError(f"every width of a network must be at least 1; got {tuple(widths)}")
        get_activation(activation)  # an unknown name is refused even where no hidden layer needs it
        generator = torch_generator(seed, "mlp")
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [seeded_linear(before, after, generator), get_activation(activation)]
        layers.append(seeded_linear(widths[-2], widths[-1], generator, scale=final_scale, bias=final_bias))
        self.in_features, self.out_features = widths[0], widths[-1]
        self.skip = skip
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., out_features)`` at inputs ``(..., in_features)``.

        Raises
        ------
        ValueError
            If the last dimension of ``x`` is not ``in_features``.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"the input must have shape (..., {self.in_features}); got {tuple(x.shape)}")
        if not self.skip:
            output: Tensor = self.layers(x)
            return output
        h = x
        for k in range(0, len(self.layers) - 1, 2):
            z = self.layers[k](h)
            h = self.layers[k + 1](z + h if k > 0 and z.shape == h.shape else z)
        result: Tensor = self.layers[-1](h)
        return result
