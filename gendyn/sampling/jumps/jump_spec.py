r"""Jumps of a diffusion: what interrupts an ordinary or stochastic differential equation.

.. math:: dX = f(t, X)\, dt + g(t, X)\, dW + \sum_k \bigl(\Gamma_k(t, X_{t-}, U) - X_{t-}\bigr)\, dN_k

where :math:`N_k` counts jumps of kind :math:`k`, which come at rate :math:`\lambda_k(t, X_{t-})`, and :math:`U` are
fresh uniform numbers, one row for each jump. Rates and jumps see the left limit :math:`X_{t-}`, the state just before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gendyn.data.checks import as_tensor, check_finite

__all__ = ["JumpSpec"]

Rates = Callable[[Tensor, Tensor], Tensor]
Apply = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class JumpSpec:
    r"""How often a diffusion jumps, and where to: the member ``jumps`` of a process.

    Constant rates are drawn exactly: the jump times are exponential gaps. Rates that depend on time or state are
    thinned (Lewis and Shedler 1979): candidates come at the rate ``bound``, and one at :math:`t` is a jump of kind
    :math:`k` with probability :math:`\lambda_k(t, X_{t-}) / \text{bound}`. Both are exact up to the solver's error
    between jumps.

    Parameters
    ----------
    intensity
        Rates :math:`\lambda`, per time unit: a number, ``(K,)`` numbers for ``K`` kinds of jumps, or a function of
        times ``(n, 1)`` and states ``(n, d)`` that returns ``(n, K)``.
    apply
        :math:`\Gamma`: a function of times ``(n, 1)``, left limits ``(n, d)``, kinds ``(n,)`` (int64) and uniform
        numbers ``(n, marks)`` inside (0, 1), that returns the states after the jumps, ``(n, d)``. Any law of jump
        sizes comes from uniform numbers by its quantile function: ``torch.special.ndtri(u)`` is a standard normal.
    bound
        What the sum of the rates never exceeds, if they are a function. The closer, the faster.
    marks
        Uniform numbers for each jump.

    Raises
    ------
    TypeError
        If ``apply`` is not a function, or ``intensity`` neither numbers nor a function.
    ValueError
        If a rate is negative or not finite, or the bound is missing, not positive, or given for constant rates.

    Examples
    --------
    A share that grows, trembles and, twice a year, crashes by a tenth or so (Merton 1976):

    >>> import gendyn as gd
    >>> from gendyn.sampling import SDE, JumpSpec
    >>> crashes = JumpSpec(2.0, lambda t, x, k, u: x * torch.exp(-0.1 + 0.05 * torch.special.ndtri(u)))
    >>> share = SDE(lambda t, x: 0.3 * x, lambda t, x: 0.2 * x, dim=1, jumps=crashes)
    >>> paths = gd.sample(share, torch.ones(20_000, 1), [0.0, 1.0], solver="log_euler", substeps=1)
    >>> paths.values[:, 1].mean().item()  # exp(0.3 + 2 (exp(-0.1 + 0.05 ** 2 / 2) - 1)) = 1.119
    1.1...
    """

    def __init__(
        self,
        intensity: float | Sequence[float] | Tensor | Rates,
        apply: Apply,
        *,
        bound: float | None = None,
        marks: int = 1,
    ) -> None:
        if not callable(apply):
            raise TypeError(f"apply must be a function (t, x, k, u) of a jump; got {type(apply).__name__}")
        if marks != int(marks) or marks < 0:
            raise ValueError(f"marks must be a whole number of uniform numbers for each jump; got {marks}")
        self.apply = apply
        self.marks = int(marks)
        self._function: Rates | None = None
        self._rates = torch.empty(0)
        if isinstance(intensity, Tensor) or not callable(intensity):
            if bound is not None:
                raise ValueError("constant rates bound themselves; leave out bound")
            self._rates = _constant_rates(intensity)
            self.bound = float(self._rates.detach().sum())
        else:
            if bound is None:
                raise ValueError("rates that are a function need bound=, a number that their sum never exceeds")
            if not (math.isfinite(bound) and bound > 0):
                raise ValueError(f"bound must be a positive number; got {bound}")
            self._function, self.bound = intensity, float(bound)

    def __repr__(self) -> str:
        if self._function is None:
            return f"JumpSpec(rates {self._rates.tolist()})"
        return f"JumpSpec(rates up to {self.bound:g})"

    @property
    def differentiable(self) -> bool:
        """Whether times and kinds of the jumps are free of anything that a gradient may be wanted of."""
        return self._function is None and not self._rates.requires_grad

    def kinds(self, t: Tensor, x: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Return which candidates are jumps, as an index ``(j,)``, and of which kind, ``(j,)``.

        Parameters
        ----------
        t, x
            Times ``(n, 1)`` and left limits ``(n, d)``.
        pick
            Uniform numbers ``(n,)``, float64.

        Raises
        ------
        ValueError
            If a rate is negative, not finite, or above the bound.
        FloatingPointError
            If a state is not finite.
        """
        if self._function is None:
            edges = self._rates.detach().to(pick).cumsum(0)
            # Rounding must not lead beyond the last kind that can happen.
            last = int(torch.nonzero(self._rates)[-1])
            kinds = torch.searchsorted(edges, pick * self.bound, right=True).clamp_(max=last)
            return torch.arange(len(pick), device=pick.device), kinds
        rates = self._checked(t, x)
        kinds = ((pick * self.bound)[:, None] >= rates.cumsum(1)).sum(1)
        happens = torch.nonzero(kinds < rates.shape[1]).flatten()
        return happens, kinds[happens]

    def check(self, t: Tensor, x: Tensor) -> None:
        """Evaluate rates and jump once, at times ``(n, 1)`` and states ``(n, d)``, and say what does not fit.

        Raises
        ------
        TypeError
            If a function does not return a tensor.
        ValueError
            If shapes, types or rates do not fit.
        """
        if self._function is not None:
            self._checked(t, x)
        which = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        moved = self.apply(t, x, which, torch.full((len(x), self.marks), 0.5, dtype=x.dtype, device=x.device))
        if not isinstance(moved, Tensor):
            raise TypeError(f"apply(t, x, k, u) of the jumps must return a tensor; got {type(moved).__name__}")
        if moved.shape != x.shape or moved.dtype != x.dtype:
            raise ValueError(
                f"apply(t, x, k, u) of the jumps must return states of shape {tuple(x.shape)} and type {x.dtype}; got "
                f"{tuple(moved.shape)} of {moved.dtype}"
            )

    def _checked(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the rates ``(n, K)``, float64, of rates that are a function."""
        found: Any = self._function(t, x) if self._function is not None else None
        if not isinstance(found, Tensor):
            raise TypeError(f"the intensity of jumps must return a tensor; got {type(found).__name__}")
        if found.ndim != 2 or len(found) != len(x) or found.shape[1] == 0:
            raise ValueError(
                f"the intensity of jumps must have shape ({len(x)}, K) for states {tuple(x.shape)}, a column for each "
                f"kind of jump; got {tuple(found.shape)}"
            )
        # A bound may be touched to the rounding of the rates.
        slack = 1.0 + 4.0 * torch.finfo(found.dtype if found.is_floating_point() else torch.float64).eps
        rates = found.detach().to(torch.float64)
        low = rates.amin(1)
        total = rates.sum(1)
        fine = (low >= 0) & (total <= self.bound * slack)
        if not bool(fine.all()):
            i = int(torch.nonzero(~fine)[0])
            where = f"in state {[float(f'{v:.6g}') for v in x[i].tolist()]} at time {float(t[i]):g}"
            if not bool(torch.isfinite(x[i]).all()):
                raise FloatingPointError(
                    f"the state is not finite any more {where}; take a smaller step, or look at drift and diffusion "
                    "there"
                )
            if float(low[i]) >= 0 and math.isfinite(float(total[i])):
                raise ValueError(
                    f"the sum {float(total[i]):g} of the rates of jumps {where} exceeds its bound {self.bound:g}; "
                    "thinning would be wrong: give a larger bound"
                )
            raise ValueError(
                f"rates of jumps must be finite and not negative; got {rates[i].tolist()} {where}: look at the "
                "intensity there"
            )
        return rates


def _constant_rates(intensity: Any) -> Tensor:
    """Return constant rates ``(K,)``."""
    rates = as_tensor(intensity, "intensity")
    rates = rates.reshape(1) if rates.ndim == 0 else rates
    if rates.ndim != 1 or len(rates) == 0:
        raise ValueError(
            f"intensity must be a number or (K,) numbers, one for each kind of jump; got {tuple(rates.shape)}"
        )
    check_finite(rates.detach(), "intensity")
    if bool((rates < 0).any()):
        raise ValueError(f"intensity must not be negative; got {float(rates.detach().min()):g}")
    return rates.to(torch.float64)
