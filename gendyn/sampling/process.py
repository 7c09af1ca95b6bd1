r"""What a process is: the object that the sampler runs.

.. math:: dX = f(t, X)\, dt + g(t, X)\, dW

with drift :math:`f`, diffusion :math:`g` (always the full coefficient) and Brownian motion :math:`W`. A process is
any object with the members of :class:`Process`; no base class is asked for. It knows no solver. Its ``noise_type``
says what :math:`g` returns for states ``(B, d)``:

============  ==========================  =================================================
noise type    diffusion returns           meaning
============  ==========================  =================================================
``none``      not called                  ordinary differential equation
``additive``  ``(d, m)`` or ``(B, d, m)``  does not depend on the state
``diagonal``  ``(B, d)``                  the i-th entry depends on the i-th state only
``scalar``    ``(B, d)``                  one Brownian motion for all features
``general``   ``(B, d, m)``               anything
============  ==========================  =================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_spec import JumpSpec

__all__ = ["ODE", "SDE", "Calculus", "NoiseType", "Process", "check_process"]

NoiseType = Literal["none", "additive", "diagonal", "scalar", "general"]
Calculus = Literal["ito", "stratonovich"]
Field = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Process(Protocol):
    """The members every process has.

    Optional members: ``noise_dim`` (``m``); ``jacobian(t, x)``, the derivative ``(B, d, d)`` of the drift;
    ``drift_diffusion(t, x)`` for both at once; ``time_step``, a step that resolves the process's own time scale and is
    used when the caller names none; ``solver``, used when the caller names none, where it belongs to the definition of
    the process, as that of a map or of a chain of Euler steps does; ``jumps``, a :class:`~gendyn.sampling.JumpSpec`
    of what interrupts it; ``relative(t, x)``, drift and diffusion divided by the state, for ``"log_euler"``; and, where
    every path has coefficients of its own, ``n_rows``, how many paths there are, and ``rows(start, stop)``, the process
    of some of them (fewer states than that are those of the first paths).
    """

    @property
    def dim(self) -> int:
        """Number of features ``d``."""
        ...

    @property
    def noise_type(self) -> NoiseType:
        """What the diffusion returns."""
        ...

    @property
    def calculus(self) -> Calculus:
        """Ito or Stratonovich."""
        ...

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``(B, d)``; ``t`` is a scalar, or ``(B, 1)`` where every path has its own times."""
        ...

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion coefficient, shaped as the noise type says."""
        ...


class ODE:
    r"""An ordinary differential equation :math:`dX = f(t, X)\,dt` from a plain function.

    Parameters
    ----------
    drift
        ``f(t, x) -> (B, d)``.
    dim
        Number of features.
    time_step
        A step that resolves the equation, if one is known.
    jumps
        What interrupts it, if anything.

    Examples
    --------
    >>> ODE(lambda t, x: -x, dim=2).noise_type
    'none'
    """

    noise_type: NoiseType = "none"
    calculus: Calculus = "ito"
    noise_dim = 0

    def __init__(
        self, drift: Field, dim: int, *, time_step: float | None = None, jumps: JumpSpec | None = None
    ) -> None:
        self._drift = drift
        self.dim = dim
        self.time_step = time_step
        self.jumps = jumps

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``."""
        return self._drift(t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x)


class SDE:
    """A stochastic differential equation from plain functions.

    Parameters
    ----------
    drift, diffusion
        ``f(t, x)`` and ``g(t, x)``, shaped as ``noise_type`` says.
    dim
        Number of features ``d``.
    noise_type, calculus
        See the module's table.
    noise_dim
        Number ``m`` of Brownian motions; needed for ``additive`` and ``general`` noise where it is not ``d``.
    time_step
        A step that resolves the equation, if one is known.
    jumps
        What interrupts it, if anything.

    Examples
    --------
    >>> SDE(lambda t, x: -x, lambda t, x: torch.ones_like(x), dim=2).noise_dim
    2
    """

    def __init__(
        self,
        drift: Field,
        diffusion: Field,
        dim: int,
        *,
        noise_type: NoiseType = "diagonal",
        calculus: Calculus = "ito",
        noise_dim: int | None = None,
        time_step: float | None = None,
        jumps: JumpSpec | None = None,
    ) -> None:
        self._drift = drift
        self._diffusion = diffusion
        self.dim = dim
        self.noise_type: NoiseType = noise_type
        self.calculus: Calculus = calculus
        self.noise_dim = noise_dim if noise_dim is not None else {"scalar": 1, "none": 0}.get(noise_type, dim)
        self.time_step = time_step
        self.jumps = jumps

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``."""
        return self._drift(t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion coefficient."""
        return self._diffusion(t, x)


def noise_dim(process: Process) -> int:
    """Return the number of Brownian motions that drive a process."""
    default = {"none": 0, "scalar": 1}.get(process.noise_type, process.dim)
    return int(getattr(process, "noise_dim", default))


def rows_of(process: Process, start: int, stop: int) -> Process:
    """Return the process of some of the paths, where each has coefficients of its own; else the process itself."""
    rows = getattr(process, "rows", None)
    if rows is None:
        return process
    part: Process = rows(start, stop)
    return part


def jumps_of(process: Process) -> JumpSpec | None:
    """Return what interrupts a process, or ``None``.

    Raises
    ------
    TypeError
        If its ``jumps`` are no :class:`~gendyn.sampling.JumpSpec`.
    """
    jumps = getattr(process, "jumps", None)
    if jumps is not None and not isinstance(jumps, JumpSpec):
        raise TypeError(f"jumps of a process must be a gendyn.sampling.JumpSpec; got {type(jumps).__name__}")
    return jumps


def refuse_jumps(process: Process, what: str) -> None:
    """Say that something is for processes without jumps.

    Raises
    ------
    ValueError
        If this one has some.
    """
    if jumps_of(process) is not None:
        raise ValueError(f"{what} is for processes without jumps; {type(process).__name__} has {process.jumps}")  # type: ignore[attr-defined]


def check_process(process: Process, t: Tensor, x: Tensor) -> None:
    """Evaluate a process once and say what does not fit.

    Parameters
    ----------
    process
        What is to be run.
    t, x
        The first time, and start states ``(B, d)``.

    Raises
    ------
    TypeError
        If members are missing, or a coefficient is not a tensor.
    ValueError
        If noise type, calculus, shapes or types do not fit, an additive diffusion depends on the state, or rates of
        jumps are negative or above their bound.

    Examples
    --------
    >>> check_process(ODE(lambda t, x: -x, dim=2), torch.tensor(0.0), torch.zeros(3, 2))
    """
    _check_members(process)
    if x.shape[1] != process.dim:
        raise ValueError(f"the process has {process.dim} features, but x0 has {x.shape[1]} (shape {tuple(x.shape)})")
    n_rows = getattr(process, "n_rows", None)
    if n_rows is not None and len(x) != n_rows:
        raise ValueError(f"the process has coefficients for each of {n_rows} paths, but x0 has {len(x)}")
    # A copy, as a function may write into what it is given; and not as many rows as columns, which would look alike.
    few = x.detach()[: 3 if process.dim == 2 else 2].clone()
    times = t if t.ndim == 0 else t[: len(few)]
    with torch.no_grad():
        _check_field("drift", process.drift(times, few), (tuple(few.shape),), few)
        jumps = jumps_of(process)
        if jumps is not None:
            jumps.check(times.expand(len(few), 1), few)
        if process.noise_type == "none":
            _check_untouched(few, x)
            return
        diffusion = process.diffusion(times, few)
        b, d, m = len(few), process.dim, noise_dim(process)
        allowed: dict[str, tuple[tuple[int, ...], ...]] = {
            "additive": ((d, m), (b, d, m)),
            "diagonal": ((b, d),),
            "scalar": ((b, d),),
            "general": ((b, d, m),),
        }
        _check_field(f"diffusion ({process.noise_type} noise)", diffusion, allowed[process.noise_type], few)
        if process.noise_type == "additive":
            moved = process.diffusion(times, few + 1.0)
            if not torch.allclose(diffusion, moved, equal_nan=True):
                raise ValueError(
                    "the diffusion of additive noise must not depend on the state, but it changed when the state did; "
                    "declare noise_type 'diagonal' or 'general'"
                )
        _check_untouched(few, x)


def _check_members(process: Process) -> None:
    missing = [m for m in ("dim", "noise_type", "calculus", "drift", "diffusion") if not hasattr(process, m)]
    if missing:
        raise TypeError(
            f"a process needs {', '.join(missing)}; {type(process).__name__} does not have it: "
            "wrap plain functions in gendyn.sampling.ODE or SDE"
        )
    if process.noise_type not in get_args(NoiseType):
        raise ValueError(f"noise_type must be one of {get_args(NoiseType)}; got {process.noise_type!r}")
    if process.calculus not in get_args(Calculus):
        raise ValueError(f"calculus must be one of {get_args(Calculus)}; got {process.calculus!r}")


def _check_untouched(few: Tensor, x: Tensor) -> None:
    if not torch.equal(few, x.detach()[: len(few)]):
        raise ValueError(
            "drift or diffusion wrote into the states that they were given, which moves the paths a second time: "
            "return new tensors, or begin with x = x.clone()"
        )


def _check_field(what: str, value: object, shapes: tuple[tuple[int, ...], ...], x: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"the {what} must return a tensor; got {type(value).__name__}")
    if tuple(value.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"the {what} must return shape {wanted} for states {tuple(x.shape)}; got {tuple(value.shape)}")
    if value.dtype != x.dtype:
        raise ValueError(f"the {what} must return the type of the states, {x.dtype}; got {value.dtype}")
    if value.device != x.device:
        raise ValueError(f"the {what} must be on the device of the states, {x.device}; got {value.device}")


def check_repeatable(process: Process, t: Tensor, x: Tensor) -> None:
    """Say whether a process gives another value when it is asked again, which a step that is taken again must not.

    Raises
    ------
    ValueError
        If drift or diffusion do.
    """
    few = x.detach()[:64]
    times = t if t.ndim == 0 else t[: len(few)]
    with torch.no_grad():
        for name in ("drift", "diffusion") if process.noise_type != "none" else ("drift",):
            field: Field = getattr(process, name)
            if not torch.equal(field(times, few), field(times, few)):
                raise ValueError(
                    f"the {name} gave two values at one point; gradients that take steps again (checkpoint, "
                    "reversible) need a process without randomness of its own: switch off its dropout with eval(), or "
                    "use gradient='backprop'"
                )


def is_diagonal(process: Process, t: Tensor, x: Tensor) -> bool:
    """Return whether entries of a diagonal diffusion stay as they are when every second other coordinate moves.

    A look at two rows, for the door; :func:`gendyn.sampling.check_diagonal` looks at every derivative.
    """
    few = x.detach()[:2]
    times = t if t.ndim == 0 else t[: len(few)]
    odd = torch.arange(few.shape[1], device=few.device) % 2 == 1
    with torch.no_grad():
        value = process.diffusion(times, few)
        for moving in (odd, ~odd):
            moved = process.diffusion(times, torch.where(moving, few + 0.1 * (1 + few.abs()), few))
            gap, scale = (moved - value)[:, ~moving].abs(), value[:, ~moving].abs()
            # Where a coordinate left the domain there is nothing to compare.
            if bool((gap > 1e-5 * scale + 1e-12).any()):
                return False
    return True
