r"""Gradients through a simulation: four ways to pay for them.

==============  =============================================  ==========================================
mode            memory                                         for
==============  =============================================  ==========================================
``backprop``    every step's graph                             short runs
``checkpoint``  about :math:`\sqrt N` steps' graphs            long runs of any solver; two forward passes
``reversible``  one step's graph, at most 64 MB of states      very long runs; a solver that can go back
``auto``        ``backprop`` below 1 GB, else ``checkpoint``   not thinking about it
==============  =============================================  ==========================================

The reversible mode goes back along the run, and pulls the gradient through each step with a graph of that step only;
the noise is drawn again from its key. With EES(2,5) the states from which the last steps began are kept as long as
they are few; from there each step is taken in reverse, which is right up to :math:`O(h^6)`, and put right at every
output time. Reversible Heun keeps the end alone, and goes back exactly up to rounding.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gendyn.sampling.process import Process
from gendyn.sampling.runner import Run, Segment, State, value_of
from gendyn.sampling.tiles import STEPS

__all__ = ["checkpointed_outputs", "gradient_bytes", "parameters_of", "reversible_outputs"]

_KEPT_BYTES = 1 << 26
"""Bytes of states that a reversible run keeps."""


def parameters_of(process: Process, given: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """Return the tensors that a gradient is wanted of."""
    if given is not None:
        found = tuple(given)
    else:
        method = getattr(process, "parameters", None)
        found = tuple(method()) if callable(method) else ()
    return tuple(p for p in found if p.requires_grad)


def _pieces(run: Run) -> list[list[Segment]]:
    """Return the segments of a run in about ``sqrt(N)`` pieces, none shorter than a segment."""
    target = max(1, math.ceil(math.sqrt(run.grid.n_steps)))
    found: list[list[Segment]] = [[]]
    for segment in run.segments():
        if sum(s.steps for s in found[-1]) >= target:
            found.append([])
        found[-1].append(segment)
    return found


def gradient_bytes(run: Run) -> dict[str, int]:
    """Return about how many bytes each mode takes for a run, whose first two steps are taken.

    What the second step keeps for its gradient is weighed. ``"reversible"`` is there if the solver can go back.
    """
    first, later, state = _step_bytes(run)
    size = run.x0.numel() * run.x0.element_size()
    kept = (2 * len(run.grid.counts) + 1) * size + (2 * STEPS * size if run.driver is not None else 0)
    parts = [sum(segment.steps for segment in piece) for piece in _pieces(run)]
    # What the first step keeps beyond the others is how the run begins.
    step, extra = (later, max(0, first - later)) if run.grid.n_steps > 1 else (first, 0)
    found = {
        "backprop": kept + extra + run.grid.n_steps * step,
        "checkpoint": kept + extra + max(parts) * step + len(parts) * state,
    }
    if hasattr(run.method, "back"):
        found["reversible"] = kept + extra + 2 * step + 2 * state + _kept_states(run) * size
    return found


def _step_bytes(run: Run) -> tuple[int, int, int]:
    """Return what the graphs of the first and the second step keep, and the state between."""
    fixed = {p.data_ptr() for p in parameters_of(run.process, None)}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        # What is expanded takes no more than what it was expanded from.
        seen[tensor.data_ptr()] = min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
        return tensor

    singles = (
        Segment(s.interval, s.first + k, 1, s.last and k + 1 == s.steps) for s in run.segments() for k in range(s.steps)
    )
    kept, held = [], []
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        state = run.begin()
        for single in islice(singles, 2):
            state = run.advance(state, single)
            # Kept alive, so that no address is given twice.
            held.append(state)
            kept.append(sum(size for pointer, size in seen.items() if pointer not in fixed))
    carried = state if isinstance(state, tuple) else (state,)
    between = sum(part.numel() * part.element_size() for part in carried if part is not None)
    if not value_of(state).requires_grad:
        return 0, 0, between
    return kept[0], kept[-1] - kept[0], between


def checkpointed_outputs(run: Run, tick: Callable[[int], Any]) -> Iterator[Tensor]:
    """Return the values at the output times, with a graph in about ``sqrt(N)`` pieces that are computed again."""
    state, done = run.begin(), 0
    for piece in _pieces(run):

        def through(*parts: Tensor, piece: list[Segment] = piece) -> tuple[Tensor, ...]:
            inner: State = parts if run.forth is not None else parts[0]
            kept = []
            for segment in piece:
                inner = run.advance(inner, segment)
                if segment.last:
                    kept.append(value_of(inner))
            return (*kept, *(inner if isinstance(inner, tuple) else (inner,)))

        parts = state if isinstance(state, tuple) else (state,)
        found = checkpoint(through, *parts, use_reentrant=False, preserve_rng_state=False)
        size = len(parts)
        state = tuple(found[-size:]) if run.forth is not None else found[-1]
        outputs = iter(found[:-size])
        for segment in piece:
            done += segment.steps
            tick(segment.steps)
            if segment.last:
                value = next(outputs)
                run.check(value, segment, done)
                yield value
        run.check(state, piece[-1], done)


def reversible_outputs(run: Run, parameters: tuple[Tensor, ...], tick: Callable[[int], Any]) -> tuple[Tensor, ...]:
    """Return the values at the output times; their gradient goes back along the run step by step."""
    return tuple(_Reversible.apply(run, tick, run.x0, *parameters))  # type: ignore[no-untyped-call]


class _Reversible(torch.autograd.Function):
    """The whole run as one function."""

    @staticmethod
    def forward(ctx: Any, run: Run, tick: Callable[[int], Any], x0: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        starts: deque[Tensor] = deque(maxlen=_kept_states(run))
        state, done = run.begin(), 0
        for segment in run.segments():
            state = run.advance(state, segment, starts)
            done += segment.steps
            tick(segment.steps)
            if segment.last:
                run.check(state, segment, done)
                outputs.append(value_of(state))
        ctx.run, ctx.parameters, ctx.end, ctx.starts = run, parameters, state, starts
        ctx.save_for_backward(*outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pull = _Pull(ctx.parameters)
        if ctx.run.forth is not None:
            of_start = _through_carried(ctx.run, ctx.end, gradients, pull)
        else:
            of_start = _through_steps(ctx.run, [*ctx.starts], ctx.saved_tensors, gradients, pull)
        return (None, None, of_start, *pull.collected)


def _kept_states(run: Run) -> int:
    """Return how many of the last steps' starts are kept, so that no way back to them is needed."""
    size = run.x0.numel() * run.x0.element_size()
    return 0 if run.forth is not None else min(run.grid.n_steps, _KEPT_BYTES // size)


class _Pull:
    """Pulls gradients from where a function leads back to where it was evaluated, and collects the parameters' own."""

    def __init__(self, parameters: tuple[Tensor, ...]) -> None:
        self._parameters = parameters
        self.collected = [torch.zeros_like(p) for p in parameters]

    def __call__(self, leaf: Tensor, results: Sequence[Any], adjoints: Sequence[Any]) -> Tensor:
        """Return the gradient by ``leaf`` of the results, weighted by their adjoints."""
        pairs = [(r, a) for r, a in zip(results, adjoints, strict=True) if r is not None and r.requires_grad]
        if not pairs:
            return torch.zeros_like(leaf)
        wanted, weights = [leaf, *self._parameters], [a for _, a in pairs]
        found: list[Tensor | None] = [*torch.autograd.grad([r for r, _ in pairs], wanted, weights, allow_unused=True)]
        for total, gradient in zip(self.collected, found[1:], strict=True):
            if gradient is not None:
                total += gradient
        return torch.zeros_like(leaf) if found[0] is None else found[0]


def _through_steps(
    run: Run, starts: list[Tensor], outputs: Sequence[Tensor], gradients: Sequence[Tensor], pull: _Pull
) -> Tensor:
    """Return the gradient by the start of a run, going back from one value to the one before."""
    method: Any = run.method
    ends = [run.x0, *outputs]
    x, adjoint = ends[-1], torch.zeros_like(run.x0)
    for segment in reversed(list(run.segments())):
        if segment.last:
            x, adjoint = ends[segment.interval + 1], adjoint + gradients[segment.interval]
        times, h = run.steps(segment)
        increments, areas = run.increments(segment)
        for k in reversed(range(segment.steps)):
            t, dw = times[k], increments[k]
            if starts:
                x = starts.pop()
            elif segment.first + k == 0:
                x = ends[segment.interval]
            else:
                x = method.back(run.process, t, h, x, dw)
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                after = method.step(run.process, t, h, x, dw, areas[k])
            adjoint = pull(x, [after], [adjoint])
            x = x.detach()
    return adjoint


def _through_carried(run: Run, end: State, gradients: Sequence[Tensor], pull: _Pull) -> Tensor:
    """Return the gradient by the start of a run whose solver carries coefficients from one step to the next.

    They are evaluated once a step, with the graph that the gradient is pulled through.
    """
    method: Any = run.method
    state: State = None
    adjoint: list[Any] = [None if part is None else torch.zeros_like(part) for part in end]
    for segment in reversed(list(run.segments())):
        if segment.last:
            adjoint[0] = adjoint[0] + gradients[segment.interval]
        times, h = run.steps(segment)
        increments, _ = run.increments(segment)
        for t, dw in zip(reversed(times), reversed(increments), strict=True):
            with torch.enable_grad():
                if state is None:
                    state = end[0], *method.begin(run.process, t + h, end[1].detach().requires_grad_(True))[1:]
                before = method.back(run.process, t, h, state, dw)
            adjoint = method.adjoint_before(run.process, h, state, dw, adjoint, pull)
            state = before
    _, z, *coefficients = state
    of_start: Tensor = adjoint[0] + adjoint[1] + pull(z, coefficients, adjoint[2:])
    return of_start
