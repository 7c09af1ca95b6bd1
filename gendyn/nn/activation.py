r"""Activations by name.

A network is a hyper-parameter away from another activation, so each has a name that can be stored in a file. All are
PyTorch's own but LipSwish, :math:`0.909\, x\, \sigma(x)`, whose Lipschitz constant is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "LipSwish", "get_activation"]


class LipSwish(nn.Module):
    r""":math:`0.909\, x\, \sigma(x)`: SiLU scaled to Lipschitz constant one (Chen et al. 2019).

    Examples
    --------
    >>> import torch
    >>> LipSwish()(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.6645])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, of the shape of ``x``."""
        return 0.909 * nn.functional.silu(x)


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "silu": nn.SiLU,
        "selu": nn.SELU,
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "tanh": nn.Tanh,
        "softplus": nn.Softplus,
        "lipswish": LipSwish,
    }
)
"""Activations by name."""


def get_activation(name: str) -> nn.Module:
    """Return a new activation by name.

    Raises
    ------
    ValueError
        If there is no such activation; the message lists those there are.

    Examples
    --------
    >>> import torch
    >>> get_activation("tanh")(torch.zeros(2))
    tensor([0., 0.])
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]()
