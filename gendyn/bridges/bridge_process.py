r"""The Schroedinger bridge as a diffusion, without training.

.. math::

    dX = \bigl(f + g g^\top \nabla_x \log h\bigr)(t, X)\,dt + g(t, X)\,dW, \qquad
    \nabla_x \log h = \sum_j w_j(t, x)\, \nabla_x \log p(t, x \to t_{k+1}, y_j),

with weights :math:`w_j \propto b_j\, e^{g_j}\, p(t, x \to t_{k+1}, y_j)` that sum to 1: the drift of the reference and
a pull towards the points of the next population (Leonard 2014). After the last population it is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gendyn.bridges.density_rows import density_rows
from gendyn.bridges.transition import TransitionLaw, noise_covariance, transition_law
from gendyn.sampling.linear import matrix_product
from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["BridgeProcess"]

_PAIRS = 4_000_000
"""Pairs of a state and an end that are looked at together."""


class BridgeProcess:
    r"""The diffusion of a multi-marginal bridge.

    Towards the end of an interval the pull grows like one over the time that is left. Over the last ``time_step`` it is
    that of ``time_step``, so that a step of this length lands among the points and none overshoots them.

    Parameters
    ----------
    reference
        The process :math:`f, g`, in the Ito sense.
    times
        Observed times ``(K + 1,)``.
    ends
        The populations at the last ``K`` of them, ``(n, d)`` each, float64.
    log_weights
        :math:`\log b_j + g_j`, ``(n,)`` each.
    time_step
        By default a hundredth of the shortest interval, or the reference's own where that is shorter.
    substeps
        Runge-Kutta steps to the end of the interval, of a reference that is not linear.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> end = torch.tensor([[2.0]], dtype=torch.float64)
    >>> bridge = BridgeProcess(BrownianMotion(), torch.tensor([0.0, 1.0]), [end], [torch.zeros(1)])
    >>> bridge.drift(torch.tensor(0.5), torch.tensor([[1.0]])).item()  # what is left of the way, by the time left
    2.0
    """

    calculus: Calculus = "ito"

    def __init__(
        self,
        reference: Process,
        times: Tensor,
        ends: Sequence[Tensor],
        log_weights: Sequence[Tensor],
        *,
        time_step: float | None = None,
        substeps: int = 16,
    ) -> None:
        self.reference = reference
        self.times = times.to(torch.float64)
        self.ends = tuple(ends)
        self.log_weights = tuple(log_weights)
        self.substeps = substeps
        own = getattr(reference, "time_step", None) or float("inf")
        self.time_step = time_step or min(float(self.times.diff().min()) / 100, own)
        self.dim = reference.dim
        self.noise_type: NoiseType = reference.noise_type
        self.noise_dim = int(getattr(reference, "noise_dim", 1 if self.noise_type == "scalar" else self.dim))

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion of the reference."""
        return self.reference.diffusion(t, x)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)`` in the type of ``x``, for a time or for the times ``(B, 1)`` of each row.

        Raises
        ------
        ValueError
            If a time lies before the first population.
        """
        if t.ndim == 0:
            return self._drift(float(t), x)
        drift = torch.empty_like(x)
        for moment in torch.unique(t).tolist():
            rows = (t == moment)[:, 0]
            drift[rows] = self._drift(moment, x[rows])
        return drift

    def _drift(self, t: float, x: Tensor) -> Tensor:
        first = float(self.times[0])
        slack = 1e-3 * float(self.times.diff().min())
        if t < first - slack:
            raise ValueError(f"time {t:g} lies before the first population, at {first:g}")
        # A time in single precision may stand just before the population where its path arrived.
        k = int((self.times <= t + slack).sum()) - 1
        state = x.to(self.ends[0])
        time = torch.tensor(t, dtype=state.dtype, device=state.device)
        drift = self.reference.drift(time, state)
        if k < len(self.ends):
            left = max(float(self.times[k + 1]) - t, min(self.time_step, float(self.times[k + 1] - self.times[k])))
            pull = self._pull(t, left, state, k)
            drift = drift + matrix_product(noise_covariance(self.reference, time, state), pull)
        return drift.to(x)

    def _pull(self, t: float, left: float, x: Tensor, k: int) -> Tensor:
        r"""Return :math:`\nabla_x \log h`, ``(B, d)``, float64."""
        law = transition_law(self.reference, x, t, torch.tensor([left], dtype=torch.float64), substeps=self.substeps)
        # The gradient is linear in the end, so that of the mean end is the mean gradient.
        return law.log_density_gradient(self._mean_end(law, k))

    def _mean_end(self, law: TransitionLaw, k: int) -> Tensor:
        """Return where paths from the sources of a law end on average, ``(B, d)``."""
        ends, terms = self.ends[k], self.log_weights[k]
        size = max(1, _PAIRS // len(ends))
        pairs, none = density_rows(law, ends), ends.new_zeros(1)
        return torch.cat(
            [
                torch.softmax(pairs.exponents(slice(start, start + size), none, terms), 1) @ ends
                for start in range(0, len(law.sources), size)
            ]
        )
