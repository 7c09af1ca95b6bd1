r"""Diffusions that depend on the state, and the coordinates in which they do not.

.. math:: dX = f(X)\,dt + \sigma(X) \circ dB_H, \qquad
    U = F(X) = \int_0^X \frac{dx}{g(x)}, \qquad \sigma(x) = v\,g(x), \quad g(0) = 1

of each feature is, by the chain rule of Stratonovich's calculus, :math:`dU = f(X) / g(X)\,dt + v\,dB_H`: noise that is
additive, of which steps are exact and the limit of growing rates exists for every H (Lamperti 1964). Between knots g
is linear and beyond them constant, so that F is made of logarithms and its inverse of exponentials; :math:`g(x) = 1 +
cx`, geometric noise, is among these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LampertiTransform"]

_NEAR = 1e-3


class LampertiTransform(nn.Module):
    r"""The transform of each of D features, learned by the logarithm of :math:`g` at knots; it begins as the identity.

    Parameters
    ----------
    knots
        Increasing, ``(D, J)``, with 0 between the first and the last.

    Attributes
    ----------
    log_size : Tensor
        :math:`\ln g` at the knots up to a constant, ``(D, J)``.

    Raises
    ------
    ValueError
        If there are fewer than two knots, they do not increase, or 0 is not among them.

    Examples
    --------
    >>> geometric = LampertiTransform(torch.tensor([[-0.5, 0.0, 1.0]]))
    >>> with torch.no_grad():
    ...     _ = geometric.log_size.copy_(torch.tensor([[0.5, 1.0, 2.0]]).log())  # g(x) = 1 + x
    ...     u = geometric(torch.tensor([[0.5]]))
    ...     back = geometric.inverse(u)
    >>> round(u.item(), 4), round(back.item(), 4)  # log(1.5), and back
    (0.4055, 0.5)
    """

    knots: Tensor

    def __init__(self, knots: Tensor) -> None:
        super().__init__()
        if knots.ndim != 2 or knots.shape[1] < 2 or not bool((knots.diff(dim=1) > 0).all()):
            raise ValueError(f"knots must have shape (D, J) with J of 2 or more, and increase; got {knots.tolist()}")
        if not bool(((knots[:, 0] <= 0) & (knots[:, -1] >= 0)).all()):
            raise ValueError(f"0 must lie between the first and the last knot; got {knots.tolist()}")
        self.register_buffer("knots", knots.to(torch.float64))
        self.log_size = nn.Parameter(torch.zeros(knots.shape))

    def size(self, x: Tensor) -> Tensor:
        """Return :math:`g` at states ``(..., D)``, float64."""
        return self._pieces(x, self._anchors())[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return :math:`U = F(x)` of states ``(..., D)``, float64."""
        return self._pieces(x, self._anchors())[1]

    def inverse(self, u: Tensor) -> Tensor:
        """Return the states ``(..., D)`` of given :math:`U`, float64."""
        return self.inverse_with_size(u)[0]

    def inverse_with_size(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of given :math:`U`, and :math:`g` there, which is the slope of the inverse."""
        knots, sizes, slopes, starts = self._anchors()
        flat, shape = _columns(u)
        where = torch.searchsorted(starts[:, 1:].detach().contiguous(), flat.detach().contiguous(), right=True)
        at, size, slope, begin = (part.gather(1, where) for part in (knots, sizes, slopes, starts))
        # Far beyond the knots nothing grows; the clamp keeps what is not used finite.
        w = flat - begin
        a = (slope * w).clamp(-50.0, 50.0)
        small = a.abs() < _NEAR
        safe = torch.where(small, 1.0, a)
        mean = torch.where(small, 1 + a / 2 + a**2 / 6 + a**3 / 24, torch.expm1(safe) / safe)
        return _rows(at + size * w * mean, shape), _rows(size * torch.exp(a), shape)

    def _anchors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return of each piece, the one below all knots first, its anchor, and slope of g, and g and U there."""
        knots, size = self.knots, self.log_size.to(torch.float64).exp()
        zero = torch.zeros(len(knots), 1, dtype=torch.float64, device=knots.device)
        slope = size.diff(dim=1) / knots.diff(dim=1)
        first = torch.searchsorted(knots, zero, right=True).clamp(1, knots.shape[1] - 1) - 1
        scale = size.gather(1, first) - slope.gather(1, first) * knots.gather(1, first)
        size, slope = size / scale, slope / scale
        spent = knots.diff(dim=1) / size[:, :-1] * _log_mean(size.diff(dim=1) / size[:, :-1])
        ends = torch.cat([zero, spent.cumsum(1)], 1)
        back = -knots.gather(1, first) / size.gather(1, first)
        origin = ends.gather(1, first) + back * _log_mean(slope.gather(1, first) * back)
        knots, size, ends = (torch.cat([part[:, :1], part], 1) for part in (knots, size, ends - origin))
        return knots, size, torch.nn.functional.pad(slope, (1, 1)), ends

    def _pieces(self, x: Tensor, anchors: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return g and U at states."""
        flat, shape = _columns(x)
        where = torch.searchsorted(self.knots, flat.detach().contiguous(), right=True)
        at, size, slope, begin = (part.gather(1, where) for part in anchors)
        part = (flat - at) / size
        return _rows(size + slope * (flat - at), shape), _rows(begin + part * _log_mean(slope * part), shape)


def _columns(x: Tensor) -> tuple[Tensor, torch.Size]:
    """Return states ``(..., D)`` as features of points ``(D, n)``, and their shape."""
    return x.reshape(-1, x.shape[-1]).mT.to(torch.float64), x.shape


def _rows(x: Tensor, shape: torch.Size) -> Tensor:
    """Return features of points ``(D, n)`` as states of a shape."""
    return x.mT.reshape(shape)


def _log_mean(r: Tensor) -> Tensor:
    r"""Return :math:`\ln(1 + r) / r`, also near 0."""
    small = r.abs() < _NEAR
    safe = torch.where(small, 1.0, r)
    found: Tensor = torch.where(small, 1 - r / 2 + r**2 / 3 - r**3 / 4, torch.log1p(safe) / safe)
    return found
