r"""The process of a fractional bridge: rough or persistent paths to an end that is decided on under way.

The state is the position X and, for each feature, K processes Y that carry the memory of the noise; see
:mod:`gendyn.interpolants.pinned_fractional` for the law when the end is known. Here a network says what is expected of
it, :math:`\hat x_1 = E[x_1 \mid x_0, \mu_t]`, where :math:`x_0 = X - \sigma \sum_k \omega_k Y_k` is read off the state:

.. math::

    u = \frac{\kappa(1-t)\,(\hat x_1 - \mu_t)}{\sigma V(1-t)}, \qquad dY_k = (-\gamma_k Y_k + u)\,dt + dB, \qquad
    dX = \sigma \sum_k \omega_k\,dY_k .

Were :math:`x_1` normal about f(x_0) with deviation s, it would be expected at
:math:`k\,(\mu_t - r x_0) + (1 - k (1-r)) f(x_0)`, :math:`k = s^2 / (s^2 (1-r) + v r)`, with the part r of the noise's
variance v that is left. The network stands in the place of f, so that it needs to learn no more than what differs:
what is certain is learned to all digits, and what is not is left to the noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn.interpolants.pinned_fractional import PinnedFractional
from gendyn.sampling.process import Calculus, NoiseType, Process, noise_dim

__all__ = ["FractionalBridgeProcess", "PinnedSolver", "ShrinkingSteps", "expected_end"]

_STEPS = 100


def expected_end(network: nn.Module, left: Tensor, mu: Tensor, start: Tensor, spread: Tensor, sigma: Tensor) -> Tensor:
    r"""Return :math:`\hat x_1`, ``(B, d)``.

    Parameters
    ----------
    network
        ``(clock, mu, start) -> (B, d)``, with the clock :math:`1 - r`.
    left
        :math:`r`, ``(B, 1)`` or ``()``.
    mu, start
        :math:`\mu_t` and :math:`x_0`, ``(B, d)``.
    spread, sigma
        :math:`s` and :math:`\sqrt v`, ``(d,)``.
    """
    own, rest = spread.square() * (1 - left), sigma.square() * left
    total = own + rest
    learned: Tensor = network(1 - left, mu, start)
    result: Tensor = spread.square() / total * (mu - left * start) + rest / total * learned
    return result


class PinnedSolver:
    """The exact step of a bridge whose end is what is expected of it at the beginning of the step.

    It is exact where the expectation does not change over the step, ends where it says at the last one, and takes steps
    of any length. For :class:`FractionalBridgeProcess` alone.

    Examples
    --------
    >>> PinnedSolver().name
    'pinned'
    """

    name = "pinned"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive",)
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 0
    needs_area = False
    use = "bridges of fractional noise"

    def columns(self, process: Process) -> int:
        """Return how many normals a step takes: one for each process of each feature."""
        return process.dim - noise_dim(process)

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step.

        Raises
        ------
        TypeError
            If the process is another one.
        """
        if not isinstance(process, (FractionalBridgeProcess, ShrinkingSteps)):
            raise TypeError(f"solver 'pinned' is for bridges of fractional noise; got {type(process).__name__}")
        length = float(h)
        normals = torch.zeros_like(x[:, process.noise_dim :]) if dw is None else dw / math.sqrt(length)
        return process.exact_step(float(t), length, x, normals)


class FractionalBridgeProcess(nn.Module):
    """The process, in the units of the data; its state is ``(x, y)``, ``(B, d (1 + K))``, and starts with ``y = 0``.

    Parameters
    ----------
    network
        ``(clock, mu, start) -> (B, d)`` in scaled units, see :func:`expected_end`.
    law
        The law of the noise.
    times
        First and last time of the bridge.
    shift, scale
        Of the units the network works in, ``(d,)``.
    sigma
        Deviation that the noise alone adds over the bridge, state units.
    spread
        Deviation of the end given the start, state units, ``(d,)``.
    """

    calculus: Calculus = "ito"
    noise_type: NoiseType = "additive"
    shift: Tensor
    scale: Tensor
    spread: Tensor

    def __init__(
        self,
        network: nn.Module,
        law: PinnedFractional,
        times: tuple[float, float],
        shift: Tensor,
        scale: Tensor,
        sigma: float,
        spread: Tensor,
    ) -> None:
        super().__init__()
        self.network, self.law, self.times, self.sigma = network, law, times, sigma
        self.noise_dim = len(shift)
        self.memory = len(law.weights)
        self.dim = self.noise_dim * (1 + self.memory)
        self.time_step = (times[1] - times[0]) / _STEPS
        self.solver = PinnedSolver()
        for name, value in (("shift", shift), ("scale", scale), ("spread", spread)):
            self.register_buffer(name, value.clone())

    def begin(self, x: Tensor) -> Tensor:
        """Return states ``(B, d (1 + K))`` at the first time, of points ``(B, d)``."""
        return torch.cat([x, x.new_zeros(len(x), self.noise_dim * self.memory)], 1)

    def local(self, t: float) -> float:
        """Return local time, from 0 to 1."""
        first, last = self.times
        return min(max((t - first) / (last - first), 0.0), 1.0)

    def expectation(self, s: float, state: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`\mu_t` and :math:`\hat x_1`, ``(B, d)`` each, at local time s."""
        x, y = self._parts(state)
        start = x - self.sigma * y @ self.law.weights.to(y)
        mu = start + self.sigma * y @ self.law.expected(s).to(y)
        left = (self.law.left(s) / self.law.left(0.0)).to(x)
        seen, begun = ((v - self.shift) / self.scale for v in (mu, start))
        end = expected_end(self.network, left, seen, begun, self.spread / self.scale, self.sigma / self.scale)
        return mu, end * self.scale + self.shift

    def drift(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the drift ``(B, d (1 + K))``; it grows without bound towards the last time."""
        s, (_, y) = self.local(float(t)), self._parts(state)
        mu, end = self.expectation(s, state)
        tiny = torch.finfo(torch.float64).tiny
        pull = (self.law.expected(s).sum() / self.law.left(s).clamp_min(tiny)).to(y) * (end - mu) / self.sigma
        memory = pull[..., None] - self.law.decay_rates.to(y) * y
        position = self.sigma * memory @ self.law.weights.to(y)
        return torch.cat([position, memory.flatten(1)], 1) / (self.times[1] - self.times[0])

    def diffusion(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the diffusion ``(d (1 + K), d)``."""
        one = torch.eye(self.noise_dim, dtype=state.dtype, device=state.device)
        memory = one.repeat_interleave(self.memory, 0)
        joint = torch.cat([self.sigma * float(self.law.weights.sum()) * one, memory])
        return joint / math.sqrt(self.times[1] - self.times[0])

    def exact_step(self, t: float, h: float, state: Tensor, normals: Tensor) -> Tensor:
        """Return the state after a step, given normals ``(B, d K)``; see :class:`PinnedSolver`."""
        s, after = self.local(t), self.local(t + h)
        step = self.law.step(s, after - s)
        x, y = self._parts(state)
        mu, end = self.expectation(s, state)
        moved = (
            y * step.decay.to(y)
            + ((end - mu) / self.sigma)[..., None] * step.gain.to(y)
            + normals.reshape(y.shape) @ step.root.mT.to(y)
        )
        return torch.cat([x + self.sigma * (moved - y) @ self.law.weights.to(y), moved.flatten(1)], 1)

    def _parts(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return position ``(B, d)`` and memory ``(B, d, K)``."""
        return state[:, : self.noise_dim], state[:, self.noise_dim :].reshape(len(state), self.noise_dim, self.memory)


class ShrinkingSteps:
    r"""A bridge in the clock :math:`c` of :math:`t = 1 - (1 - c)^2`, in which equal steps shrink towards the end.

    Of N steps the last is :math:`1 / N^2` of the bridge long. Rough noise has much of its variance still to come even
    then, :math:`V(\tau) \propto \tau^{2H}`.

    Parameters
    ----------
    process
        The bridge.
    """

    calculus: Calculus = "ito"
    noise_type: NoiseType = "additive"

    def __init__(self, process: FractionalBridgeProcess) -> None:
        self.process = process
        self.dim, self.noise_dim, self.solver = process.dim, process.noise_dim, process.solver

    def clock(self, times: Tensor) -> Tensor:
        """Return the clock at times of the bridge, same shape."""
        first, last = self.process.times
        return 1 - ((last - times) / (last - first)).clamp(0.0, 1.0).sqrt()

    def drift(self, c: Tensor, state: Tensor) -> Tensor:
        """Return the drift ``(B, D)`` by the clock."""
        t, speed = self._time(c)
        return self.process.drift(t, state) * speed.to(state)

    def diffusion(self, c: Tensor, state: Tensor) -> Tensor:
        """Return the diffusion ``(D, d)`` by the clock."""
        t, speed = self._time(c)
        return self.process.diffusion(t, state) * speed.to(state).sqrt()

    def exact_step(self, c: float, h: float, state: Tensor, normals: Tensor) -> Tensor:
        """Return the state after a step; see :class:`PinnedSolver`."""
        t, after = (float(self._time(torch.tensor(v, dtype=torch.float64))[0]) for v in (c, min(c + h, 1.0)))
        return self.process.exact_step(t, after - t, state, normals)

    def _time(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the time, and how fast it runs."""
        first, last = self.process.times
        left = 1 - c.to(torch.float64)
        return last - (last - first) * left.square(), 2 * (last - first) * left
