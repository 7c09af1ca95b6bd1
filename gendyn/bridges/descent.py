"""Minimise a loss that may not exist everywhere: steps to where the reference explodes are refused.

The loss of a reference is a number only where its transition laws are: parameters for which paths run away, or that
are too fast for the substeps, have none. A first value must exist; after it such a step is taken back, and the next are
half as long. Parameters are therefore never worse than they were, nor ever not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gendyn.bridges.transition import NoTransition

__all__ = ["LossDescent", "quasi_newton"]

Loss = Callable[[], Tensor]

_SHORTEST = 2.0**-20
"""Factor of the first rate below which steps are no longer halved, but given up."""


class LossDescent:
    """Adam's steps on a loss, of which those to where the loss does not exist are refused.

    Parameters
    ----------
    parameters
        What is moved.
    loss
        Returns the loss with a graph, or raises :class:`NoTransition`.
    rate
        The learning rate.

    Examples
    --------
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> descent = LossDescent([x], lambda: x.square(), 0.1)
    >>> for _ in range(300):
    ...     value = descent.step()
    >>> abs(x.item()) < 1e-2
    True
    """

    def __init__(self, parameters: Sequence[Tensor], loss: Loss, rate: float) -> None:
        self.parameters = list(parameters)
        self.loss = loss
        self.optimizer = torch.optim.Adam(self.parameters, lr=rate)
        self.factor = 1.0
        self.best = math.inf
        self._before = self._kept = _copies(self.parameters)

    def step(self, scale: float = 1.0) -> float:
        """Take one step, times a scale, and return the loss before it.

        Raises
        ------
        NoTransition
            If the loss does not exist from the first.
        """
        value = self._value()
        self._before = _copies(self.parameters)
        if value < self.best:
            self.best, self._kept = value, self._before
        group = self.optimizer.param_groups[0]
        rate = group["lr"]
        group["lr"] = rate * self.factor * scale
        self.optimizer.step()
        group["lr"] = rate
        return value

    def settle(self) -> None:
        """Go back to the best parameters met."""
        _restore(self.parameters, self._kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return what the next step needs besides the parameters and the optimiser."""
        parts = {"figures": torch.tensor([self.factor, self.best], dtype=torch.float64)}
        for name, values in (("before", self._before), ("kept", self._kept)):
            parts |= {f"{name}.{i}": value for i, value in enumerate(values)}
        return parts

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave."""
        self.factor, self.best = tensors["figures"].tolist()
        count = range(len(self.parameters))
        self._before, self._kept = ([tensors[f"{name}.{i}"] for i in count] for name in ("before", "kept"))

    def _value(self) -> float:
        """Evaluate the loss where it exists, if need be nearer to where it last did."""
        while True:
            try:
                return _evaluate(self.loss, self.parameters)
            except NoTransition:
                if all(map(torch.equal, self.parameters, self._before)):
                    raise
                # Half of the way back, and shorter steps from now on.
                self.factor /= 2
                share = 0.5 if self.factor >= _SHORTEST else 0.0
                nearer = [a + share * (p.detach() - a) for p, a in zip(self.parameters, self._before, strict=True)]
                _restore(self.parameters, nearer)


def quasi_newton(
    parameters: Sequence[Tensor], loss: Loss, iterations: int, *, tolerance: float = 1e-9
) -> tuple[float, int]:
    """Take L-BFGS steps with a strong Wolfe line search; return the smallest loss met, whose parameters are kept.

    Parameters
    ----------
    parameters
        What is moved.
    loss
        Returns the loss with a graph, or raises :class:`NoTransition`.
    iterations
        Steps at most.
    tolerance
        Stop when the loss falls by less, or the gradient is smaller.

    Returns
    -------
    tuple
        The loss, and how often it was evaluated.

    Raises
    ------
    NoTransition
        If the loss does not exist at the start.

    Examples
    --------
    >>> x = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
    >>> value, _ = quasi_newton([x], lambda: (x - torch.tensor([1.0, 2.0])).square().sum(), 20)
    >>> [round(v, 6) for v in x.tolist()]
    [1.0, 2.0]
    """
    moved = list(parameters)
    best, kept, calls = math.inf, _copies(moved), 0

    def closure() -> Tensor:
        nonlocal best, kept, calls
        calls += 1
        try:
            value = _evaluate(loss, moved)
        except NoTransition:
            if math.isinf(best):
                raise
            # A wall: finite, because the cubic of the line search is, and flat, so that it turns back at once.
            for p in moved:
                p.grad = torch.zeros_like(p)
            return torch.tensor(best + 1e3 * (1 + abs(best)), dtype=moved[0].dtype)
        if value < best:
            best, kept = value, _copies(moved)
        return torch.tensor(value, dtype=moved[0].dtype)

    optimizer = torch.optim.LBFGS(
        moved,
        lr=1.0,
        max_iter=iterations,
        max_eval=2 * iterations + 10,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=tolerance,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    _restore(moved, kept)
    return best, calls


def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


@torch.no_grad()
def _restore(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)


def _evaluate(loss: Loss, parameters: Sequence[Tensor]) -> float:
    """Return the loss and leave its gradients with the parameters; both are numbers, or there is no transition."""
    for p in parameters:
        p.grad = None
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not bool(torch.isfinite(value)) or not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise NoTransition("the reference has no finite likelihood; take other parameters to start from")
    return float(value.detach())
