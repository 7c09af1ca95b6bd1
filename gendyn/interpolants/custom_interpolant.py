r"""An interpolant of one's own, whose mean may be any function of time and both ends.

.. math:: x_t = I(t, x_0, x_1) + \gamma(t)\,z, \qquad I(0, x_0, x_1) = x_0, \quad I(1, x_0, x_1) = x_1

(Albergo, Boffi and Vanden-Eijnden 2023, definition 1). It need not be linear in the ends: paths may run around an
obstacle, or along a manifold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gendyn.interpolants.schedule import Coefficients, GammaOption, Schedule

__all__ = ["CustomInterpolant"]

Mean = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Times ``(B, 1)`` and ends ``(B, d)`` to points ``(B, d)``, each row alone."""


class CustomInterpolant(Schedule):
    r"""A mean of the user's own, with latent noise.

    Parameters
    ----------
    mean
        :math:`I(t, x_0, x_1)`, called with times ``(B, 1)`` and ends ``(B, d)``; each row for itself.
    rate
        :math:`\partial_t I`, called alike; by default taken by autograd.
    gamma
        Amplitude of the latent noise.
    dim
        Features of the ends that the check is made with.
    validate
        Check, at random ends, that I begins and ends where it must, and that ``rate`` is its derivative.

    Raises
    ------
    ValueError
        If a check fails, or I returns another shape.

    Notes
    -----
    Fields that need the ends to enter linearly, ``"source"`` and ``"target"``, do not determine its velocity.

    Examples
    --------
    >>> def detour(t, x0, x1):
    ...     return torch.lerp(x0, x1, t) + t * (1 - t) * torch.tensor([0.0, 4.0]).to(x0)
    >>> around = CustomInterpolant(detour)
    >>> half, ends = torch.tensor([[0.5]]), torch.zeros(2, 1, 2)
    >>> [v.tolist() for v in around.path(half, around.at(half), *ends)]
    [[[0.0, 1.0]], [[0.0, 0.0]]]
    """

    linear = False

    def __init__(
        self,
        mean: Mean,
        rate: Mean | None = None,
        gamma: GammaOption = "brownian",
        *,
        dim: int = 2,
        validate: bool = True,
    ) -> None:
        super().__init__(gamma)
        self._mean, self._rate = mean, rate
        if validate:
            self._check(dim)

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return numbers that are not: the ends have no coefficients."""
        nothing = torch.full_like(t, torch.nan)
        return nothing, nothing, nothing, nothing

    def path(self, t: Tensor, c: Coefficients, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and its derivative by time, ``(B, d)`` each, at times ``(B, 1)``."""
        t = t.to(x0)
        if self._rate is not None:
            return self._mean(t, x0, x1), self._rate(t, x0, x1)
        return self._with_rate(t, x0, x1)

    def _with_rate(self, t: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        value, rate = torch.autograd.functional.jvp(  # type: ignore[no-untyped-call]
            lambda s: self._mean(s, x0, x1), t, torch.ones_like(t)
        )
        return value, rate

    def _check(self, dim: int) -> None:
        generator = torch.Generator().manual_seed(0)
        x0, x1 = torch.randn(2, 16, dim, generator=generator, dtype=torch.float64)
        t = torch.rand(16, 1, generator=generator, dtype=torch.float64)
        value, rate = self._with_rate(t, x0, x1)
        if value.shape != x0.shape:
            raise ValueError(f"the mean of an interpolant must return shape (B, {dim}); got {tuple(value.shape)}")
        for s, wanted, name in ((0.0, x0, "first"), (1.0, x1, "second")):
            off = float((self._mean(torch.full_like(t, s), x0, x1) - wanted).abs().max())
            if not off < 1e-6:
                raise ValueError(
                    f"the mean of an interpolant must be its {name} end at t={s:g}; it is off by {off:.3g}"
                )
        if self._rate is not None:
            off = float((self._rate(t, x0, x1) - rate).abs().max())
            if not off < 1e-6 * (1 + float(rate.abs().max())):
                raise ValueError(f"rate must be the derivative of the mean by time; it is off by {off:.3g}")
