r"""The noise of a learned mechanism, without the smoothing that sparse sources need.

Likelihood explains each point by a mean of transition densities over the sources. Where few sources are near, it makes
the noise larger than it is, as a kernel estimate takes a bandwidth. The squared distance of characteristic functions

.. math::

    D(\sigma) = \sum_k n_k\, E_\omega \bigl|\hat\varphi_k(\omega) - \hat\chi_k(\omega)\bigr|^2, \qquad
    \hat\varphi_k(\omega) = \sum_i a_i\, e^{\mathrm i \omega^\top m_i - \frac12 \omega^\top S_i \omega}, \quad
    \hat\chi_k(\omega) = \sum_j b_j\, e^{\mathrm i \omega^\top y_j},

asks nothing of single points: means and covariances :math:`m_i, S_i` of the transition laws are those of the reference,
:math:`y_j` the points of the next population. Left out of :math:`|\hat\varphi_k|^2` are pairs of a source with itself,
which are there because the sources are a sample; the rest divided by :math:`1 - \sum_i a_i^2` has the right mean for
any number of sources (a U-statistic: Gretton et al. 2012), and so :math:`D` is on average least at the truth, however
sparse the sources. It has less power than likelihood, and moves the noise alone: frequencies are normal, with half the
inverse root of the mean covariance under the likeliest noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from gendyn.bridges.interval_laws import interval_laws
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.parameter_intervals import Influences
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.references.hill_mlp import HillMLP
from gendyn.bridges.references.parametric import ParametricReference
from gendyn.bridges.transition import TransitionLaw
from gendyn.randomness import torch_generator

__all__ = ["NoiseMatch"]

_FREQUENCIES = 300
"""Frequencies an interval."""

_SCALE = 0.5
"""Their standard deviation, in inverse standard deviations of the transition laws."""

_REACH = math.log(4.0), math.log(1.5)
"""How far below and above the likeliest noise the match is looked for, in logarithms."""

_STEP = 1e-3
"""Step of the differences in parameters, which are logarithms or free of units."""


class NoiseMatch:
    r"""The distance :math:`D` of the module's equation.

    Parameters
    ----------
    reference
        Learned by likelihood, with one sigma.
    marginals
        The populations.
    seed
        Which frequencies.

    Examples
    --------
    >>> from gendyn.bridges.references import Brownian
    >>> from gendyn.data import Snapshots
    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 400, 1, generator=generator)
    >>> marginals = Marginals.of(Snapshots([0.0, 1.0], [x, 2.0 * y]))  # the truth is sqrt(3)
    >>> reference = Brownian(sigma=2.5).start(Snapshots([0.0, 1.0], [x, y]))
    >>> NoiseMatch(reference, marginals, seed=0).match(reference), 1.5 < reference.log_sigma.exp().item() < 1.9
    (True, True)
    """

    def __init__(self, reference: LearnableReference, marginals: Marginals, seed: int) -> None:
        self.marginals = marginals
        generator = torch_generator(seed, "frequencies")
        self.frequencies = []
        with torch.no_grad():
            for law in self._laws(reference):
                mean = law.covariances[-1].mean(0)
                normals = torch.randn(_FREQUENCIES, len(mean), generator=generator, dtype=torch.float64).to(mean)
                # Solving with L^T gives normals with the inverse covariance.
                upper = torch.linalg.cholesky(mean).mT
                self.frequencies.append(_SCALE * torch.linalg.solve_triangular(upper, normals.mT, upper=True).mT)

    @staticmethod
    def suits(reference: LearnableReference) -> bool:
        """Return whether a reference is a mechanism with one sigma: what a network misses would not be noise."""
        named = isinstance(reference, ParametricReference) and not isinstance(reference.family, HillMLP)
        return named and reference.log_sigma.numel() == 1 and bool(reference.drift_parameters())

    def _laws(self, reference: LearnableReference) -> Iterator[TransitionLaw]:
        marginals = self.marginals
        return interval_laws(reference, marginals.samples, marginals.times, marginals.substeps)

    def value(self, reference: LearnableReference, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Return the distance up to a constant, with a graph to the reference and to weights that are given."""
        weights = self.marginals.weights if weights is None else weights
        total = torch.zeros((), dtype=torch.float64, device=weights[0].device)
        for law, omega, y, (a, b) in zip(
            self._laws(reference), self.frequencies, self.marginals.samples[1:], pairwise(weights), strict=True
        ):
            damped = torch.exp(-0.5 * torch.einsum("fd,nde,fe->nf", omega, law.covariances[-1], omega))
            phase, seen = law.means[-1] @ omega.mT, y @ omega.mT
            cosine, sine = a @ (damped * phase.cos()), a @ (damped * phase.sin())
            own = a.square() @ damped.square().expand(len(a), -1)
            pairs = (cosine.square() + sine.square() - own) / (1 - a.square().sum())
            across = cosine * (b @ seen.cos()) + sine * (b @ seen.sin())
            total = total + len(y) * (pairs - 2 * across).mean()
        return total

    @torch.no_grad()
    def match(self, reference: LearnableReference) -> bool:
        """Set the noise to where the distance is least; leave it, and return False, where that is not within reach."""
        likeliest = reference.log_sigma.clone()

        def distance(shift: float) -> float:
            reference.log_sigma.copy_(likeliest + shift)
            return float(self.value(reference))

        bounds = (-_REACH[0], _REACH[1])
        found = float(minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)
        inside = bounds[0] + 0.05 < found < bounds[1] - 0.05
        reference.log_sigma.copy_(likeliest + (found if inside else 0.0))
        return inside

    def influences(
        self, reference: LearnableReference, parameters: Sequence[Tensor], influences: Influences
    ) -> Influences:
        r"""Return what rows do to the parameters, where the noise is the matched one.

        With the slope :math:`D' = \partial D / \partial \log \sigma`, which is zero at the match, a row moves the noise
        itself, and through the drift that it moves.

        Parameters
        ----------
        reference
            With the matched noise.
        parameters
            What was learned by likelihood, the noise among it.
        influences
            What rows do to those; see :func:`~gendyn.bridges.parameter_intervals.parameter_influences`. Of pairs only
            what they do through the drift is known.
        """
        slopes: list[float] = []
        own = 0
        for parameter in parameters:
            flat = parameter.detach().view(-1)
            if parameter is reference.log_sigma:
                own = len(slopes)
            for i in range(parameter.numel()):
                kept, ends = float(flat[i]), []
                for sign in (1, -1):
                    flat[i] = kept + sign * _STEP
                    ends.append(self._slope(reference))
                flat[i] = kept
                slopes.append((ends[0] - ends[1]) / (2 * _STEP))
        rows = self._row_slopes(reference)
        curvature = slopes[own]
        through = torch.tensor(slopes, dtype=torch.float64, device=rows[0].device)
        through[own] = 0.0
        carried = torch.eye(len(through)).to(through)
        carried[own] = -through / curvature
        moved = []
        for row, weights, drift in zip(rows, self.marginals.weights, influences.rows, strict=True):
            changed = carried @ drift
            changed[own] -= (row - row @ weights) * weights / curvature
            moved.append(changed)
        return Influences(moved, carried @ influences.pairs @ carried.T)

    def _slope(self, reference: LearnableReference) -> float:
        """Return the slope in the noise."""
        return float(torch.autograd.grad(self.value(reference), [reference.log_sigma])[0])

    @torch.no_grad()
    def _row_slopes(self, reference: LearnableReference) -> list[Tensor]:
        """Return the derivatives of the slope in the weights of all rows, ``(n_k,)`` a population."""
        ends = []
        for sign in (1, -1):
            reference.log_sigma.add_(sign * _STEP)
            weights = [w.clone().requires_grad_() for w in self.marginals.weights]
            with torch.enable_grad():
                ends.append(torch.autograd.grad(self.value(reference, weights), weights))
            reference.log_sigma.sub_(sign * _STEP)
        return [(a - b) / (2 * _STEP) for a, b in zip(*ends, strict=True)]
