r"""Adaptive Dormand-Prince 5(4) for ordinary differential equations.

Seven stages, the last of which is the first of the next step. The difference of the fifth- and fourth-order
answers, measured as

.. math:: e = \max_{\text{samples}} \sqrt{\frac1d \sum_i
    \Bigl(\frac{\delta_i}{\mathrm{atol} + \mathrm{rtol} \max(|x_i|, |x'_i|)}\Bigr)^2},

accepts a step where :math:`e \le 1` and sets the length of the next by a proportional-integral rule (Hairer, Norsett
and Wanner 1993). Values between the ends of a step come from the method's own fourth-order interpolant, so output
times cost no extra steps. The coefficients are SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.integrate import RK45
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import combine

__all__ = ["AdaptiveRun", "DormandPrince", "quartic"]

_A = tuple(tuple(row[:i]) for i, row in enumerate(RK45.A.tolist()))
_B = tuple(RK45.B.tolist())
_C = tuple(RK45.C.tolist())
_ERROR = tuple(RK45.E.tolist())
_DENSE = torch.tensor(RK45.P.tolist(), dtype=torch.float64)

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_MOST_STEPS = 10_000


@dataclass
class AdaptiveRun:
    """States at the output times and what they cost."""

    values: list[Tensor]
    steps: int = 0
    rejected: int = 0
    drift_evaluations: int = 0


class DormandPrince:
    """The adaptive method; it runs over all output times at once.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance of a step.

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> run = DormandPrince().run(ODE(lambda t, x: -x, 1), torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    >>> round(run.values[-1].item(), 4)
    0.3679
    """

    name = "dopri5"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("none",)
    order = 5.0
    drift_evaluations = 6
    diffusion_evaluations = 0

    def __init__(self, rtol: float = 1e-5, atol: float = 1e-6) -> None:
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not value >= 0:
                raise ValueError(f"{name} must be zero or positive; got {value}")
        if rtol == atol == 0:
            raise ValueError("one of rtol and atol must be positive")
        self.rtol = rtol
        self.atol = atol

    def run(
        self,
        process: Process,
        x0: Tensor,
        times: Tensor,
        *,
        advance: Callable[[int], None] = lambda k: None,
        record: Callable[[float, Tensor, list[Tensor]], None] = lambda h, x, slopes: None,
    ) -> AdaptiveRun:
        """Return the states at monotone ``times`` ``(T,)``, the first of which belongs to ``x0``.

        ``advance`` is told the number of each output time that is reached; ``record`` the length (negative backward),
        start and seven slopes of each accepted step.

        Raises
        ------
        RuntimeError
            If more than 10 000 steps, or a step below 1e-12 of the span, would be needed.
        """
        grid = times.to(torch.float64).tolist()
        sign = 1.0 if grid[-1] >= grid[0] else -1.0
        span = abs(grid[-1] - grid[0])
        run = AdaptiveRun([x0])
        t, x = grid[0], x0
        slope = process.drift(_time(t, x), x)
        h = min(self._first_step(process, t, x, slope, sign), span)
        run.drift_evaluations = 2
        previous_error, pending = 1.0, 1
        while pending < len(grid):
            if run.steps + run.rejected >= _MOST_STEPS:
                raise RuntimeError(
                    f"dopri5 needs more than {_MOST_STEPS} steps (it stands at t={t:.6g}); the equation may be "
                    "stiff: loosen rtol and atol, or use a fixed step"
                )
            if h < 1e-12 * span:
                raise RuntimeError(
                    f"dopri5 cannot meet its tolerances at t={t:.6g} (step {h:.1e}); loosen rtol and atol, or look at "
                    "the drift"
                )
            h = min(h, abs(grid[-1] - t))
            slopes = [slope]
            for row, node in zip(_A[1:], _C[1:], strict=True):
                slopes.append(process.drift(_time(t + sign * node * h, x), combine(x, sign * h, row, slopes)))
            after = combine(x, sign * h, _B, slopes)
            slopes.append(process.drift(_time(t + sign * h, x), after))
            run.drift_evaluations += 6
            error = self._error(x, after, h, slopes)
            if not error <= 1.0:
                run.rejected += 1
                h *= max(_SHRINK, _SAFETY * error**-0.2) if error < float("inf") else _SHRINK
                continue
            run.steps += 1
            record(sign * h, x, slopes)
            end = t + sign * h
            if abs(grid[-1] - end) < 1e-12 * span:
                end = grid[-1]
            while pending < len(grid) and sign * (grid[pending] - end) <= 1e-12 * span:
                theta = min(1.0, abs(grid[pending] - t) / h)
                run.values.append(after if theta > 1 - 1e-12 else self._between(x, sign * h, theta, slopes))
                advance(pending)
                pending += 1
            factor = _GROW if error == 0 else _SAFETY * error**-0.14 * previous_error**0.08
            h *= min(_GROW, max(_SHRINK, factor))
            previous_error = max(error, 1e-4)
            t, x, slope = end, after, slopes[-1]
        return run

    def _first_step(self, process: Process, t: float, x: Tensor, slope: Tensor, sign: float) -> float:
        """Guess a first step from the sizes of state, slope and curvature (Hairer et al. 1993, II.4)."""
        with torch.no_grad():
            scale = self.atol + self.rtol * x.abs()
            d0, d1 = (float((v / scale).square().mean(1).sqrt().max()) for v in (x, slope))
            # A slope that is not finite gives no scale; the run will say so.
            h0 = 1e-6 if d0 < 1e-5 or not 1e-5 < d1 < float("inf") else 0.01 * d0 / d1
            moved = process.drift(_time(t + sign * h0, x), x + sign * h0 * slope)
            d2 = float(((moved - slope) / scale).square().mean(1).sqrt().max()) / h0
            largest = max(d1, d2)
            h1 = max(1e-6, h0 * 1e-3) if largest <= 1e-15 else (0.01 / largest) ** 0.2
        return min(100 * h0, h1)

    def _error(self, x: Tensor, after: Tensor, h: float, slopes: list[Tensor]) -> float:
        with torch.no_grad():
            delta = combine(torch.zeros_like(x), h, _ERROR, slopes)
            scale = self.atol + self.rtol * torch.maximum(x.abs(), after.abs())
            error = float((delta / scale).square().mean(1).sqrt().max())
        return error if error == error else float("inf")

    @staticmethod
    def _between(x: Tensor, h: float, theta: float, slopes: list[Tensor]) -> Tensor:
        powers = torch.tensor([theta, theta**2, theta**3, theta**4], dtype=torch.float64)
        return combine(x, h, tuple((_DENSE @ powers).tolist()), slopes)


def _time(t: float, x: Tensor) -> Tensor:
    return torch.tensor(t, dtype=x.dtype, device=x.device)


def quartic(x: Tensor, h: float, slopes: list[Tensor]) -> Tensor:
    """Return the coefficients ``(5, B, d)`` of the state within a step, in powers of the fraction of the step done.

    Examples
    --------
    >>> quartic(torch.ones(1, 1), 2.0, [torch.ones(1, 1)] * 7).sum().item()  # the state at the end of the step
    3.0
    """
    # The weights are large and nearly cancel: summed in double precision.
    flat = torch.stack(slopes).flatten(1).to(torch.float64)
    powers = (h * _DENSE.T).to(flat.device) @ flat
    return torch.cat([x[None], powers.reshape(-1, *x.shape).to(x)])
