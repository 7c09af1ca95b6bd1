r"""How a reference moves over an interval: Gaussian transition laws, and bridges between their ends.

From each source :math:`x_i` the reference :math:`dX = f\,dt + g\,dW` has at times :math:`s_1 < \dots < s_S` after it
the law of a linear Gaussian chain around a mean path :math:`m`,

.. math::

    X_{s_k} - m_k = F_k (X_{s_{k-1}} - m_{k-1}) + \xi_k, \qquad \xi_k \sim \mathcal N(0, Q_k),

exact for processes with a linear drift and additive noise (matrix exponential, Van Loan 1978), and the linear-noise
approximation for all others (van Kampen 1992): along :math:`\dot m = f(m)` with :math:`J = \partial f / \partial x`,

.. math:: \dot F = J F, \qquad \dot Q = J Q + Q J^\top + g g^\top, \qquad F = I,\; Q = 0 \text{ at } s_{k-1},

by Runge-Kutta steps of order four, in which every source is one row of one batch. Hence the covariances
:math:`S_k = F_k S_{k-1} F_k^\top + Q_k`, the flow :math:`R_k = F_S \cdots F_{k+1}` from a time to the last, and the law
between a source and an end :math:`y`,

.. math::

    X_{s_k} \mid x_i, y \sim \mathcal N\bigl(m_k + G_k (y - m_S),\; S_k - G_k R_k S_k\bigr), \qquad
    G_k = S_k R_k^\top S_S^{-1} .

No flow is ever inverted. All is float64, and differentiable in the reference's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gendyn.sampling.linear import LinearProcess, linear_transitions, triangular_root
from gendyn.sampling.process import Process

__all__ = [
    "NoTransition",
    "TransitionLaw",
    "drift_jacobian",
    "noise_covariance",
    "resolving_step",
    "transition_law",
]

_SINGULAR = 1e-13
"""A pivot of the Cholesky factor below this part of its variance is rounding error."""

_BLOCK = 4_000_000
"""Numbers that are formed at once while densities between all pairs are evaluated."""

_EXPANDED = 1e6
"""Squared distances in units of the noise up to which they may be expanded: they then lose 1e-9 at most."""

_STABLE = 2.5
"""Largest norm of the Jacobian times the step; beyond 2.78 Runge-Kutta steps of order four explode by themselves."""

_RESOLVED = 0.1
"""Largest norm of the Jacobian times the step of a simulation whose reference names no step of its own."""

_EXPLODES = "the reference explodes from {state}; take other parameters, or a reference whose drift returns"


class NoTransition(ValueError):
    """A reference has no transition density: it explodes, is too fast for its substeps, or lacks noise."""


@dataclass(frozen=True, eq=False)
class TransitionLaw:
    r"""The laws of a reference at ``S`` times after ``n`` sources; see the module's equations.

    Attributes
    ----------
    sources
        :math:`x`, ``(n, d)``.
    means
        :math:`m`, ``(S, n, d)``.
    steps
        :math:`F_k`, ``(S, n, d, d)``, or ``(S, 1, d, d)`` where all sources share them.
    noises
        :math:`Q_k`, shaped alike.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> law = transition_law(BrownianMotion(), torch.zeros(1, 1, dtype=torch.float64), 0.0, torch.tensor([0.5, 2.0]))
    >>> mean, covariance = law.bridge(torch.tensor([0]), torch.tensor([[4.0]], dtype=torch.float64))
    >>> round(mean[0].item(), 9), covariance[0].item()  # a quarter of the way: 4 / 4 and 0.5 * 1.5 / 2
    (1.0, 0.375)
    """

    sources: Tensor
    means: Tensor
    steps: Tensor
    noises: Tensor

    def rows(self, chosen: slice | Tensor) -> TransitionLaw:
        """Return the laws from some of the sources."""
        shared = self.steps.shape[1] == 1 < len(self.sources)
        steps, noises = (m if shared else m[:, chosen] for m in (self.steps, self.noises))
        return TransitionLaw(self.sources[chosen], self.means[:, chosen], steps, noises)

    @cached_property
    def covariances(self) -> Tensor:
        r""":math:`S_k`, ``(S, n or 1, d, d)``."""
        parts = [self.noises[0]]
        for step, noise in zip(self.steps[1:], self.noises[1:], strict=True):
            parts.append(step @ parts[-1] @ step.mT + noise)
        return torch.stack(parts)

    @cached_property
    def flow(self) -> Tensor:
        r""":math:`\Phi = \partial X_{s_S} / \partial x`, from the source to the last time, ``(n or 1, d, d)``."""
        return self._onward[0] @ self.steps[0]

    @cached_property
    def _onward(self) -> Tensor:
        r""":math:`R_k`, ``(S, n or 1, d, d)``."""
        d = self.means.shape[-1]
        parts = [torch.eye(d, dtype=self.steps.dtype, device=self.steps.device).expand_as(self.steps[0])]
        for step in self.steps[1:].flip(0):
            parts.append(parts[-1] @ step)
        return torch.stack(parts[::-1])

    @cached_property
    def _gains(self) -> Tensor:
        r""":math:`G_k`, ``(S, n or 1, d, d)``; the last is exactly the identity."""
        towards = (self._onward @ self.covariances)[:-1]
        # S_S is symmetric: S R^T S_S^-1 is the transpose of S_S^-1 R S.
        gains = torch.cholesky_solve(towards, self.factor.expand_as(towards)).mT
        return torch.cat([gains, self._onward[-1:]])

    @cached_property
    def factor(self) -> Tensor:
        """The Cholesky factor of the last covariances, ``(n or 1, d, d)``."""
        covariance = self.covariances[-1]
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(covariance)
        variances = covariance.diagonal(dim1=-2, dim2=-1)
        pivots = factor.diagonal(dim1=-2, dim2=-1)
        weak = ~(pivots.square() > _SINGULAR * variances)
        if bool(weak.any()) or bool(failed.any()):
            # After the feature at which the factorisation stops its pivots mean nothing.
            first = torch.where(failed > 0, failed - 1, weak.int().argmax(-1))
            source = int(((failed > 0) | weak.any(-1)).int().argmax())
            state = "" if len(covariance) == 1 else f" from {self.sources[source].tolist()}"
            raise NoTransition(
                f"the reference has no transition density{state}: its noise does not reach feature "
                f"{int(first[source])} by itself; give every feature noise of its own, leave out features that follow "
                "from others or take gendyn.references.PartlyObserved, under which they are hidden, and keep states "
                "away from where noise in proportion to them vanishes"
            )
        return factor

    def log_density(self, y: Tensor) -> Tensor:
        r"""Return :math:`\log p(y_j \mid x_i)` at the last time for all sources and ``y (m, d)``: ``(n, m)``.

        Raises
        ------
        ValueError
            If the law has no density, because noise does not reach every feature.
        """
        means, factor, d = self.means[-1], self.factor, self.means.shape[-1]
        constant = -factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * d * math.log(2 * math.pi)
        # Centred, so that little cancels where squares are expanded.
        centre = y.detach().mean(0)
        means, y = means - centre, y - centre
        if len(factor) == 1:
            u, v = (torch.linalg.solve_triangular(factor[0], x.mT, upper=False).mT for x in (means, y))
            if float(u.detach().square().sum(1).amax() + v.detach().square().sum(1).amax()) < _EXPANDED:
                # Minus half the squared distance, as one product.
                left = torch.cat([u, constant - 0.5 * u.square().sum(1, keepdim=True), torch.ones_like(u[:, :1])], 1)
                right = torch.cat([v, torch.ones_like(v[:, :1]), -0.5 * v.square().sum(1, keepdim=True)], 1)
                return left @ right.mT
        inverse = torch.linalg.solve_triangular(factor, torch.eye(d).to(factor), upper=False)
        whitened = (inverse @ means[..., None])[..., 0]
        rows = max(1, _BLOCK // (len(y) * d))
        parts = []
        for start in range(0, len(means), rows):
            block = slice(start, start + rows)
            shared = (inverse if len(factor) == 1 else inverse[block]).reshape(-1, d) @ y.mT
            white = shared.view(-1, d, len(y)) - whitened[block, :, None]
            parts.append((constant if len(factor) == 1 else constant[block])[:, None] - 0.5 * white.square().sum(1))
        return torch.cat(parts)

    def expected_log_density(self, y: Tensor, plan: Tensor) -> Tensor:
        r"""Return :math:`\sum_{ij} \pi_{ij} \log p(y_j \mid x_i)` at the last time, with a graph to the law alone.

        Where all sources share a covariance, moments of the plan tell it, and pairs are not looked at.

        Parameters
        ----------
        y
            Ends ``(m, d)``.
        plan
            :math:`\pi`, ``(n, m)``.
        """
        if len(self.factor) > 1:
            return (plan * self.log_density(y)).sum()
        with torch.no_grad():
            centre = y.mean(0)
            ends = y - centre
            mass, towards = plan.sum(1), plan @ ends
            squares = ends.mT @ (plan.sum(0)[:, None] * ends)
        means = self.means[-1] - centre
        across = towards.mT @ means
        scatter = squares - across - across.mT + means.mT @ (mass[:, None] * means)
        distance = torch.cholesky_solve(scatter, self.factor[0]).diagonal().sum()
        constant = self.factor[0].diagonal().log().sum() + 0.5 * len(scatter) * math.log(2 * math.pi)
        return -0.5 * distance - mass.sum() * constant

    def log_density_gradient(self, y: Tensor) -> Tensor:
        r"""Return :math:`\Phi^\top S_S^{-1} (y_i - m_i)` for ends ``y (n, d)``, one a source: ``(n, d)``.

        For a linear reference it is :math:`\nabla_x \log p(y_i \mid x_i)`; the linear-noise approximation leaves out
        how covariance and flow change with the source.
        """
        gaps = (y - self.means[-1])[..., None]
        solved = torch.cholesky_solve(gaps, self.factor.expand(len(gaps), -1, -1))
        return (self.flow.mT @ solved)[..., 0]

    def bridge(self, sources: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return mean ``(S, b, d)`` and covariance ``(S, b or 1, d, d)`` between pairs of a source and an end.

        Parameters
        ----------
        sources
            Indices ``(b,)`` of the sources.
        ends
            :math:`y`, ``(b, d)``, where each pair is at the last time.
        """
        gains = self._gains
        means = self.means[:, sources] + self._pick(gains, sources, ends - self.means[-1, sources])
        covariances = self.covariances - gains @ self._onward @ self.covariances
        covariances = (covariances + covariances.mT) / 2
        covariances = torch.cat([covariances[:-1], torch.zeros_like(covariances[-1:])])
        means = torch.cat([means[:-1], ends[None]])
        return means, covariances if covariances.shape[1] == 1 else covariances[:, sources]

    def sample_bridge(self, sources: Tensor, ends: Tensor, normals: Tensor) -> Tensor:
        r"""Draw all ``S`` times between pairs of a source and an end jointly: ``(S, b, d)``, the last being the end.

        A path :math:`Z` of the reference is drawn and moved to its end, :math:`Z_k + G_k (y - Z_S)`, which has the law
        of the reference given that end (Matheron's rule).

        Parameters
        ----------
        sources, ends
            As for :meth:`bridge`.
        normals
            Standard normals ``(S, b, d)``.
        """
        roots = self._roots
        apart, state = [], torch.zeros_like(ends)
        for step, root, normal in zip(self.steps, roots, normals, strict=True):
            state = self._pick(step, sources, state) + self._pick(root, sources, normal)
            apart.append(state)
        paths = self.means[:, sources] + torch.stack(apart)
        paths = paths + self._pick(self._gains, sources, ends - paths[-1])
        return torch.cat([paths[:-1], ends[None]])

    @cached_property
    def _roots(self) -> Tensor:
        return triangular_root(self.noises)

    @staticmethod
    def _pick(matrices: Tensor, sources: Tensor, vectors: Tensor) -> Tensor:
        """Multiply ``(..., n or 1, d, d)`` of each pair's source with ``(..., b, d)``."""
        chosen = matrices if matrices.shape[-3] == 1 else matrices[..., sources, :, :]
        return (chosen @ vectors[..., None])[..., 0]


def transition_law(
    reference: Process, x: Tensor, start: float | Tensor, elapsed: Tensor, *, substeps: int = 16
) -> TransitionLaw:
    """Return the laws of a reference at times after its sources.

    Parameters
    ----------
    reference
        A process in the Ito sense. One whose ``linear`` is a :class:`~gendyn.sampling.LinearProcess`, or that has
        ``rate``, ``offset`` and ``noise_covariance`` itself, is treated exactly; ``piece(t)`` of one that has it is
        the process from then on. Of all others the rows of a batch must
        not influence each other; a method ``jacobian(t, x) -> (n, d, d)`` is used where there is one.
    x
        Sources ``(n, d)``, float64.
    start
        Time of the sources: a number, or ``(n, 1)`` of each its own.
    elapsed
        Times after the sources ``(S,)``, positive and increasing.
    substeps
        Runge-Kutta steps over the longest elapsed time, at least.

    Raises
    ------
    ValueError
        If the reference explodes, or moves too fast for the substeps.
    """
    piece: Callable[[float], Process] | None = getattr(reference, "piece", None)
    if piece is not None:
        reference = piece(float(torch.as_tensor(start).reshape(-1)[0]))
    gaps = torch.diff(elapsed.to(torch.float64), prepend=torch.zeros(1, dtype=torch.float64))
    linear = linear_part(reference)
    if linear is not None:
        moved = linear_transitions(linear.rate, linear.offset, linear.noise_covariance, gaps)
        mean, means = x, []
        for matrix, shift in zip(moved.matrix.to(x.device), moved.shift.to(x.device), strict=True):
            mean = mean @ matrix.T + shift
            means.append(mean)
        return TransitionLaw(
            x, torch.stack(means), moved.matrix[:, None].to(x.device), moved.covariance[:, None].to(x.device)
        )
    return _linear_noise(reference, x, start, gaps, substeps)


def linear_part(reference: Process) -> Any:
    """Return what holds the coefficients of a linear process with additive noise, or ``None``."""
    if all(hasattr(reference, name) for name in ("rate", "offset", "noise_covariance")):
        return reference
    linear = getattr(reference, "linear", None)
    return linear if isinstance(linear, LinearProcess) else None


def drift_jacobian(reference: Process, t: Tensor, x: Tensor) -> Tensor:
    r"""Return :math:`\partial f_i / \partial x_j` of every row, ``(n, d, d)``."""
    analytic: Callable[[Tensor, Tensor], Tensor] | None = getattr(reference, "jacobian", None)
    if analytic is not None:
        return analytic(t, x)
    # Rows do not influence each other, so that the derivative of their sum is that of each.
    jacobian: Tensor = torch.func.jacrev(lambda z: reference.drift(t, z).sum(0))(x)
    return jacobian.transpose(0, 1)


@torch.no_grad()
def resolving_step(reference: Process, times: Tensor, samples: Sequence[Tensor]) -> float:
    """Return a step for simulations that resolves how fast a reference turns where populations are.

    Parameters
    ----------
    reference
        The process.
    times, samples
        ``(K + 1,)``, and the populations ``(n_k, d)`` then.

    Examples
    --------
    >>> from gendyn.systems import Repressilator
    >>> resolving_step(Repressilator(decay=50.0), torch.tensor([0.0, 1.0]), [torch.full((1, 3), 9.0)] * 2)
    0.0019...
    """
    gap, fastest = float(times.diff().min()), 0.0
    for t, x in zip(times, samples, strict=True):
        size = max(1, _BLOCK // x.shape[1] ** 2)
        for start in range(0, len(x), size):
            block = x[start : start + size]
            fastest = max(fastest, float(drift_jacobian(reference, t.to(x), block).abs().sum(-1).amax()))
    # One row where the reference is wild must not make a simulation endless.
    return max(min(gap / 100, _RESOLVED / max(fastest, 1e-300)), gap / 2000)


def noise_covariance(reference: Process, t: Tensor, x: Tensor) -> Tensor:
    r"""Return :math:`g g^\top`, ``(n, d, d)`` or ``(d, d)`` where it does not depend on the state."""
    diffusion = reference.diffusion(t, x)
    if reference.noise_type == "diagonal":
        return torch.diag_embed(diffusion.square())
    if reference.noise_type == "scalar":
        return diffusion[:, :, None] * diffusion[:, None, :]
    return diffusion @ diffusion.mT


def _linear_noise(reference: Process, x: Tensor, start: float | Tensor, gaps: Tensor, substeps: int) -> TransitionLaw:
    """Integrate mean, flow and noise covariance from every source."""
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    counts = (substeps * gaps / gaps.sum()).ceil().clamp_min(1).long().tolist()
    time, mean = torch.as_tensor(start, dtype=x.dtype, device=x.device), x
    means: list[Tensor] = []
    steps: list[Tensor] = []
    noises: list[Tensor] = []
    for gap, count in zip(gaps.tolist(), counts, strict=True):
        state = (mean, identity, torch.zeros_like(identity))
        for k in range(count):
            state = _runge_kutta(reference, time + k * gap / count, gap / count, state)
        time, mean = time + gap, state[0]
        for part, kept in zip(state, (means, steps, noises), strict=True):
            if not bool(torch.isfinite(part).all()):
                source = int(torch.nonzero(~torch.isfinite(part))[0, 0])
                raise NoTransition(_EXPLODES.format(state=x.detach()[source].tolist()))
            kept.append(part)
    return TransitionLaw(x, torch.stack(means), torch.stack(steps), torch.stack(noises))


def _drift_and_jacobian(reference: Process, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return both, at once where the reference has that."""
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = getattr(reference, "drift_and_jacobian", None)
    return (reference.drift(t, x), drift_jacobian(reference, t, x)) if both is None else both(t, x)


State = tuple[Tensor, Tensor, Tensor]


def _runge_kutta(reference: Process, t: Tensor, h: float, state: State) -> State:
    """Take one step of order four of mean, flow and noise covariance."""

    def slope(at: Tensor, now: State) -> State:
        mean, flow, noise = now
        drift, jacobian = _drift_and_jacobian(reference, at, mean)
        _check_step(jacobian, h, mean)
        turned = jacobian @ noise
        return (
            drift,
            jacobian @ flow,
            turned + turned.mT + noise_covariance(reference, at, mean),
        )

    def moved(by: float, along: State) -> State:
        mean, flow, noise = (part + by * rate for part, rate in zip(state, along, strict=True))
        return mean, flow, noise

    first = slope(t, state)
    second = slope(t + h / 2, moved(h / 2, first))
    third = slope(t + h / 2, moved(h / 2, second))
    fourth = slope(t + h, moved(h, third))
    mean, flow, noise = (
        part + h / 6 * (a + 2 * b + 2 * c + d)
        for part, a, b, c, d in zip(state, first, second, third, fourth, strict=True)
    )
    return mean, flow, noise


def _check_step(jacobian: Tensor, h: float, mean: Tensor) -> None:
    """Refuse a step so long that Runge-Kutta steps explode where the reference does not."""
    speed = jacobian.detach().abs().sum(-1).amax(-1)
    fastest, state = float(speed.max()), mean.detach()[int(speed.argmax())].tolist()
    if not math.isfinite(fastest):
        raise NoTransition(_EXPLODES.format(state=state))
    if fastest * h > _STABLE:
        raise NoTransition(
            f"the reference moves too fast for its substeps: rates of {fastest:.3g} per time unit at {state}, with "
            f"steps of {h:.3g}; take {math.ceil(fastest * h / _STABLE)} times as many substeps, or other parameters"
        )
