r"""Multilayer perceptrons in float64 with their derivatives in closed form.

For :math:`z_l = W_l h_{l-1} + b_l`, :math:`h_l = \phi(z_l)` and the output :math:`z_L`, the Jacobian is the product of
matrices

.. math:: W_L D_{L-1} W_{L-1} \cdots D_1 W_1, \qquad D_l = \operatorname{diag} \phi'(z_l),

and with one output, :math:`\delta_l` its derivative by :math:`h_l` and :math:`Z_l` that of :math:`z_l` by the input,
the Hessian is :math:`\sum_l Z_l^\top \operatorname{diag}(\delta_l\,\phi''(z_l))\, Z_l`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gendyn.nn import MLP

__all__ = ["SMOOTH", "Perceptron", "check_architecture"]

Derivatives = tuple[Tensor, Tensor, Tensor | None]


def _silu(z: Tensor, second: bool) -> Derivatives:
    gate = torch.sigmoid(z)
    value = z * gate
    first = gate + value * (1 - gate)
    return value, first, gate * (1 - gate) * (2 + z - 2 * value) if second else None


def _softplus(z: Tensor, second: bool) -> Derivatives:
    gate = torch.sigmoid(z)
    return nn.functional.softplus(z, threshold=40.0), gate, gate * (1 - gate) if second else None


def _tanh(z: Tensor, second: bool) -> Derivatives:
    value = torch.tanh(z)
    first = 1 - value.square()
    return value, first, -2 * value * first if second else None


SMOOTH: Mapping[str, Callable[[Tensor, bool], Derivatives]] = MappingProxyType(
    {"silu": _silu, "softplus": _softplus, "tanh": _tanh}
)
"""Activations with two derivatives, each a function to value, first and (where asked for) second derivative."""


def check_architecture(hidden: Sequence[int], activation: str) -> tuple[int, ...]:
    """Return the widths of hidden layers as integers.

    Raises
    ------
    ValueError
        If there is none or one below 1, or the activation is not smooth.
    """
    widths = tuple(int(width) for width in hidden)
    if not widths or min(widths) < 1:
        raise ValueError(f"hidden must be one width or more, each at least 1; got {hidden}")
    if activation not in SMOOTH:
        raise ValueError(
            f"activation must be smooth, one of {', '.join(SMOOTH)}, as paths follow the Jacobian; got {activation!r}"
        )
    return widths


class Perceptron(nn.Module):
    """A perceptron ``(n, d) -> (n, e)``, float64.

    Parameters
    ----------
    in_features, out_features
        Widths.
    hidden
        Widths of the hidden layers, at least one.
    activation
        Name in :data:`SMOOTH`.
    seed
        Seed of the weights.
    final_scale
        Factor on the first weights of the last layer.
    final_bias
        Whether the last layer has a bias.

    Examples
    --------
    >>> network = Perceptron(2, 3, (8, 8), "tanh", seed=0)
    >>> value, jacobian = network.value_and_jacobian(torch.zeros(5, 2, dtype=torch.float64))
    >>> value.shape, jacobian.shape
    (torch.Size([5, 3]), torch.Size([5, 3, 2]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int],
        activation: str,
        *,
        seed: int,
        final_scale: float = 1.0,
        final_bias: bool = True,
    ) -> None:
        super().__init__()
        network = MLP(
            in_features, out_features, hidden, activation, seed=seed, final_scale=final_scale, final_bias=final_bias
        )
        self.layers = nn.ModuleList([layer for layer in network.layers if isinstance(layer, nn.Linear)]).double()
        self._activation = SMOOTH[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(n, e)``."""
        for layer in self.layers[:-1]:
            x = self._activation(layer(x), False)[0]
        output: Tensor = self.layers[-1](x)
        return output

    def value_and_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs ``(n, e)`` and their derivatives ``(n, e, d)``."""
        slopes = []
        for layer in self.layers[:-1]:
            x, first, _ = self._activation(layer(x), False)
            slopes.append(first)
        value: Tensor = self.layers[-1](x)
        # From the outputs backwards every product is one of (n e, w) with (w, w').
        product = self._weight(-1) * slopes[-1][:, None, :]
        for k in range(len(slopes) - 1, 0, -1):
            product = (product @ self._weight(k)) * slopes[k - 1][:, None, :]
        return value, product @ self._weight(0)

    def gradient(self, x: Tensor) -> Tensor:
        """Return the derivative ``(n, d)`` of the sum of the outputs."""
        slopes = []
        for layer in self.layers[:-1]:
            x, first, _ = self._activation(layer(x), False)
            slopes.append(first)
        product = self._weight(-1).sum(0) * slopes[-1]
        for k in range(len(slopes) - 1, 0, -1):
            product = (product @ self._weight(k)) * slopes[k - 1]
        return product @ self._weight(0)

    def gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives ``(n, d)`` and ``(n, d, d)`` of the sum of the outputs."""
        slopes, curvatures, inputs = [], [], []
        reach = None
        for k, layer in enumerate(self.layers[:-1]):
            weight = self._weight(k).T
            reach = weight.expand(len(x), -1, -1) if reach is None else (reach * slopes[-1][:, None, :]) @ weight
            inputs.append(reach)
            x, first, second = self._activation(layer(x), True)
            slopes.append(first)
            curvatures.append(second)
        product = self._weight(-1).sum(0).expand(len(x), -1)
        hessian: Tensor | float = 0.0
        for k in range(len(slopes) - 1, -1, -1):
            bent, reach = curvatures[k], inputs[k]
            assert bent is not None
            hessian = hessian + (reach * (product * bent)[:, None, :]) @ reach.mT
            product = (product * slopes[k]) @ self._weight(k)
        assert isinstance(hessian, Tensor)
        return product, hessian

    def squares(self) -> Tensor:
        """Return the sum of the squared weights, without biases."""
        return torch.stack([self._weight(k).square().sum() for k in range(len(self.layers))]).sum()

    def _weight(self, k: int) -> Tensor:
        weight = self.layers[k].weight
        assert isinstance(weight, Tensor)
        return weight
