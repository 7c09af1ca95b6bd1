r"""Gradients through a simulation: four ways to pay for them.

==============  =============================================  ==========================================
mode            memory                                         for
==============  =============================================  ==========================================
``backprop``    every step's graph                             short runs
``checkpoint``  about :math:`\sqrt N` steps' graphs            long runs of any solver; two forward passes
``reversible``  one step's graph                               very long runs; a solver that can go back
``auto``        ``backprop`` below 1 GB, else ``checkpoint``   not thinking about it
==============  =============================================  ==========================================

The reversible mode keeps the end alone. Going back, it takes each step in reverse, and pulls the gradient through
the step with a graph of that step only; the noise is drawn again from its key. EES(2,5) goes back up to
:math:`O(h^6)` a step, and is put right at every output time; reversible Heun goes back exactly up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gendyn.sampling.process import Process
from gendyn.sampling.runner import Run, Segment, State, check_state, value_of

__all__ = ["checkpointed_outputs", "graph_bytes", "parameters_of", "reversible_outputs"]


def parameters_of(process: Process, given: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """Return the tensors that a gradient is wanted of."""
    if given is not None:
        found = tuple(given)
    else:
        method = getattr(process, "parameters", None)
        found = tuple(method()) if callable(method) else ()
    return tuple(p for p in found if p.requires_grad)


def graph_bytes(run: Run) -> int:
    """Return what the graph of a whole run would hold, from that of one step.

    Parameters
    ----------
    run
        The run; its first step is taken once.
    """
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run.advance(run.begin(), Segment(0, 0, 1, False))
    fixed = {p.untyped_storage().data_ptr() for p in parameters_of(run.process, None)}
    return run.grid.n_steps * sum(size for pointer, size in seen.items() if pointer not in fixed)


def checkpointed_outputs(run: Run, tick: Callable[[int], Any]) -> Iterator[Tensor]:
    """Return the values at the output times, with a graph in about ``sqrt(N)`` pieces that are computed again."""
    target = max(1, math.ceil(math.sqrt(run.grid.n_steps)))
    pieces: list[list[Segment]] = [[]]
    for segment in run.segments():
        if sum(s.steps for s in pieces[-1]) >= target:
            pieces.append([])
        pieces[-1].append(segment)
    state, done = run.begin(), 0
    for piece in pieces:

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
        count = sum(s.steps for s in piece)
        done += count
        tick(count)
        check_state(value_of(state), run.time_after(piece[-1]), done, run.method.name)
        yield from found[:-size]


def reversible_outputs(run: Run, parameters: tuple[Tensor, ...], tick: Callable[[int], Any]) -> tuple[Tensor, ...]:
    """Return the values at the output times; their gradient goes back along the run step by step."""
    return tuple(_Reversible.apply(run, tick, run.x0, *parameters))  # type: ignore[no-untyped-call]


class _Reversible(torch.autograd.Function):
    """The whole run as one function."""

    @staticmethod
    def forward(ctx: Any, run: Run, tick: Callable[[int], Any], x0: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        state, done = run.begin(), 0
        for segment in run.segments():
            state = run.advance(state, segment)
            done += segment.steps
            tick(segment.steps)
            if segment.last:
                check_state(value_of(state), run.time_after(segment), done, run.method.name)
                outputs.append(value_of(state))
        ctx.run, ctx.parameters, ctx.end = run, parameters, state
        ctx.save_for_backward(*outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        run: Run = ctx.run
        method: Any = run.method
        outputs: tuple[Tensor, ...] = ctx.saved_tensors
        state = ctx.end if isinstance(ctx.end, tuple) else (ctx.end,)
        adjoint: list[Any] = [None if part is None else torch.zeros_like(part) for part in state]
        collected = [torch.zeros_like(p) for p in ctx.parameters]
        carried = run.forth is not None

        def pull(forward: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
            """Pull the adjoint through a function of the state, collecting the gradients of the parameters."""
            with torch.enable_grad():
                leaves = [None if part is None else part.detach().requires_grad_(True) for part in inputs]
                result = forward(leaves)
                results = result if isinstance(result, tuple) else (result,)
                pairs = [(r, a) for r, a in zip(results, adjoint, strict=True) if r is not None and r.requires_grad]
                wanted = [*(leaf for leaf in leaves if leaf is not None), *ctx.parameters]
                found = torch.autograd.grad(
                    [r for r, _ in pairs], wanted, [a for _, a in pairs], materialize_grads=True
                )
            size = sum(leaf is not None for leaf in leaves)
            for total, gradient in zip(collected, found[size:], strict=True):
                total += gradient
            of_leaves = iter(found[:size])
            return [None if leaf is None else next(of_leaves) for leaf in leaves]

        for segment in reversed(list(run.segments())):
            if segment.last:
                adjoint[0] = adjoint[0] + gradients[segment.interval]
                if not carried:
                    state = (outputs[segment.interval],)
            times, h = run.steps(segment.interval)
            increments, areas = run.increments(segment)
            for k in reversed(range(segment.steps)):
                t, dw = times[segment.first + k], increments[k]
                with torch.no_grad():
                    if carried:
                        before = method.back(run.process, t, h, state, dw)
                    else:
                        before = (method.back(run.process, t, h, state[0], dw),)

                def step(leaves: Any, t: Tensor = t, h: Any = h, dw: Any = dw, area: Any = areas[k]) -> Any:
                    if carried:
                        return method.forth(run.process, t, h, tuple(leaves), dw)
                    return method.step(run.process, t, h, leaves[0], dw, area)

                adjoint = pull(step, before)
                state = before
        if carried:
            times, _ = run.steps(0)
            adjoint = pull(lambda leaves: method.begin(run.process, times[0], leaves[0]), [run.x0])
        return (None, None, adjoint[0], *collected)
