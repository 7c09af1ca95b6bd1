r"""What a bridge is nearest to: reference processes by name, from a function, or as they come.

.. math:: dX = f(t, X)\,dt + \sigma\, v(X)\,dW, \qquad v(x) = 1,\; x \text{ or } \sqrt{x},

feature by feature. A reference is any process of the package in the Ito sense whose noise reaches every feature, such
as the systems of :mod:`gendyn.systems` and :class:`gendyn.sampling.LinearProcess`; or ``"brownian"``, motion without a
drift; or a plain function or module, the drift :math:`f`. Here ``sigma`` is the full coefficient of the noise,
per square root of time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, Protocol, cast, get_args

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from gendyn.bridges.references.lifted import LiftedReference
from gendyn.data import Snapshots
from gendyn.randomness import Seed
from gendyn.sampling import LinearProcess, Process, to_ito
from gendyn.sampling.process import Calculus, NoiseType, refuse_jumps
from gendyn.systems import SYSTEMS, get_system

__all__ = ["DriftReference", "ReferenceLike", "Volatility", "make_reference", "pushforward_sigma"]

Volatility = Literal["constant", "proportional", "sqrt"]
Drift = Callable[[Tensor, Tensor], Tensor]


class Liftable(Protocol):
    """A reference that follows from the populations, or has hidden coordinates."""

    def lift(self, data: Snapshots) -> Process | LiftedReference:
        """Return it as a bridge through these populations takes it."""
        ...


ReferenceLike = str | Process | Drift | Liftable

LEAST_LEVEL = 1e-6
"""Level below which noise in proportion to the state counts as none."""

_ROWS = 500
"""Rows of every population from which a volatility is estimated."""


class DriftReference:
    r"""A reference from a function: :math:`dX = f(t, X)\,dt + \sigma\, v(X)\,dW` with :math:`v = 1`, x or its root.

    Parameters
    ----------
    drift
        ``f(t, x) -> (n, d)``, a function or a module; rows must not influence each other. A module is copied, and
        runs in float64.
    sigma
        :math:`\sigma`, ``(d,)``.
    volatility
        ``"constant"``, ``"proportional"`` (:math:`v = x`), or ``"sqrt"`` (:math:`v = \sqrt x`).

    Examples
    --------
    >>> reference = DriftReference(lambda t, x: -x, torch.tensor([2.0]), "proportional")
    >>> reference.diffusion(torch.tensor(0.0), torch.ones(1, 1))
    tensor([[2.]])
    """

    noise_type: NoiseType = "diagonal"
    calculus: Calculus = "ito"

    def __init__(self, drift: Drift, sigma: Tensor, volatility: Volatility = "constant") -> None:
        self._drift = (
            copy.deepcopy(drift).double().eval().requires_grad_(False) if isinstance(drift, nn.Module) else drift
        )
        self.sigma = sigma
        self.volatility = volatility
        self.dim = len(sigma)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(n, d)``."""
        return self._drift(t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma v(x)`, ``(n, d)``."""
        sigma = self.sigma.to(x)
        if self.volatility == "constant":
            return sigma.expand_as(x)
        return sigma * (x if self.volatility == "proportional" else x.clamp_min(0.0).sqrt())


def make_reference(
    reference: ReferenceLike, data: Snapshots, sigma: float | Sequence[float] | None, volatility: Volatility
) -> Process | LiftedReference:
    """Return the process that a reference stands for, or the partly observed one.

    Parameters
    ----------
    reference
        ``"brownian"``, a process, or a drift.
    data
        The populations that it is to run through.
    sigma
        The coefficient of the noise, a number or one a feature, for ``"brownian"`` and drifts; a process has its own.
    volatility
        How the noise depends on the state, for the same.

    Raises
    ------
    TypeError
        If the reference is nothing of the kind.
    ValueError
        If it has another number of features, jumps or no noise; or sigma or the levels of the data do not fit.
    """
    if volatility not in get_args(Volatility):
        raise ValueError(f"volatility must be one of {', '.join(get_args(Volatility))}; got {volatility!r}")
    if isinstance(reference, str) and reference != "brownian":
        raise ValueError(
            f"there is no reference {reference!r}; give 'brownian', a process such as gendyn.systems.LotkaVolterra(), "
            "or a drift f(t, x)"
        )
    if hasattr(reference, "lift") or (hasattr(reference, "drift") and hasattr(reference, "diffusion")):
        if sigma is not None or volatility != "constant":
            raise ValueError(
                f"{type(reference).__name__} has noise of its own; leave out sigma and volatility, or give "
                "its drift alone"
            )
        return reference.lift(data) if hasattr(reference, "lift") else check_process(reference, data.dim)
    if not isinstance(reference, str) and not callable(reference):
        raise TypeError(f"reference must be 'brownian', a process or a drift f(t, x); got {type(reference).__name__}")
    scale = _sigma(sigma, data.dim)
    if volatility != "constant":
        check_levels(data, volatility)
    if isinstance(reference, str):
        if volatility == "constant":
            zeros = torch.zeros(data.dim, data.dim)
            return LinearProcess(zeros, zeros[0], torch.diag(scale))
        return DriftReference(lambda t, x: 0 * x, scale, volatility)
    return DriftReference(reference, scale, volatility)


def check_process(process: Any, dim: int) -> Process:
    """Return a process in the Ito sense; refuse one of other features, with jumps or without noise."""
    name = type(process).__name__
    if process.dim != dim:
        more = "; where the others are hidden, give gendyn.references.PartlyObserved" if process.dim > dim else ""
        raise ValueError(f"the reference {name} has {process.dim} features; the data have {dim}{more}")
    refuse_jumps(process, "a reference")
    if process.noise_type == "none":
        raise ValueError(f"the reference {name} has no noise, and so reaches no other points; give it some")
    return to_ito(process)


def _sigma(sigma: float | Sequence[float] | None, dim: int) -> Tensor:
    if sigma is None:
        raise ValueError("a reference from a drift needs sigma, the coefficient of its noise; got None")
    values = torch.as_tensor(sigma, dtype=torch.float64)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != dim):
        raise ValueError(f"sigma must be a number or {dim} numbers, one a feature; got shape {tuple(values.shape)}")
    values = values.expand(dim).clone()
    if not bool((torch.isfinite(values) & (values > 0)).all()):
        raise ValueError(
            f"sigma must be positive and finite; got {sigma}: that of 'brownian' may be left out, and is estimated"
        )
    return values


def check_levels(data: Snapshots, volatility: str) -> None:
    """Raise a ValueError that names the first value at which such noise vanishes."""
    for t, x in zip(data.times.tolist(), data.samples, strict=True):
        low = torch.nonzero(x < LEAST_LEVEL)
        if len(low):
            row, feature = low[0].tolist()
            raise ValueError(
                f"{volatility} noise vanishes at 0, but feature {feature} of row {row} at time {t:g} is "
                f"{float(x[row, feature]):g}; raise the values to at least {LEAST_LEVEL:g}, or take "
                "volatility='constant'"
            )


def pushforward_sigma(data: Snapshots, seed: Seed = 0) -> float:
    r"""Estimate the coefficient of Brownian motion from populations alone.

    It maximises the likelihood of each population under the one before, set in motion,

    .. math:: \sum_k \sum_j b_j \log \sum_i a_i\, \mathcal N(y_j;\, x_i,\, \sigma^2 \tau_k I),

    over at most 500 rows of each time.

    Parameters
    ----------
    data
        Populations at two times or more.
    seed
        Which rows.

    Examples
    --------
    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> noise = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    >>> round(pushforward_sigma(Snapshots([0.0, 4.0], [10 * x, 10 * x.flip(0) + 2 * noise])), 1)  # the truth is 1
    1.1
    """
    few = data.subsample(_ROWS, seed=seed).to(dtype=torch.float64)
    times = few.times.tolist()
    weights = [few.mass(t) for t in times]
    squares = [torch.cdist(x, y).square() for x, y in zip(few.samples, few.samples[1:], strict=False)]
    gaps = few.times.diff().tolist()

    def cost(log_sigma: float) -> float:
        total = 0.0
        for k, (square, gap) in enumerate(zip(squares, gaps, strict=True)):
            variance = math.exp(2 * log_sigma) * gap
            logs = weights[k].log()[:, None] - square / (2 * variance) - 0.5 * few.dim * math.log(variance)
            total -= float(weights[k + 1] @ torch.logsumexp(logs, 0))
        return total

    rates = torch.stack([square.mean() / gap for square, gap in zip(squares, gaps, strict=True)])
    largest = 0.5 * math.log(float(rates.max()) / few.dim or 1.0)
    found = minimize_scalar(cost, bounds=(largest - 7.0, largest + 1.0), method="bounded", options={"xatol": 1e-3})
    return math.exp(float(found.x))


def describe_reference(reference: ReferenceLike) -> Any:
    """Return what a file can hold of a reference.

    Raises
    ------
    TypeError
        If it is a function or another object that only code can make.
    """
    if isinstance(reference, str):
        return reference
    if hasattr(reference, "describe"):
        return reference.describe()
    if isinstance(reference, LinearProcess):
        return {name: getattr(reference, name).tolist() for name in ("rate", "offset", "volatility")}
    names: dict[type, str] = {kind: name for name, kind in SYSTEMS.items()}
    if type(reference) in names:
        parameters = {field.name: getattr(reference, field.name) for field in fields(cast(Any, reference))}
        return {"system": names[type(reference)], "parameters": parameters}
    raise TypeError(
        f"a model file holds no code, and so no {type(reference).__name__} as reference; save models with 'brownian', "
        "a system of gendyn.systems or a LinearProcess, and fit others anew (their fit takes seconds)"
    )


def restore_reference(described: Any) -> ReferenceLike:
    """Undo :func:`describe_reference`."""
    if not isinstance(described, Mapping):
        return str(described)
    if "system" in described:
        return get_system(described["system"], **described["parameters"])  # type: ignore[return-value]
    return LinearProcess(**described)
