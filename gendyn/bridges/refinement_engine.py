"""Refine a reference iteration by iteration: what all engines have, and the loop that runs and resumes them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor
from tqdm.auto import tqdm

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.training import Checkpoint, loop

__all__ = ["Engine", "Stage", "refine"]


class Engine(ABC):
    """One way to move the parameters of a reference towards populations.

    Parameters
    ----------
    reference
        What is refined, in place.
    marginals
        The populations.

    Attributes
    ----------
    total
        Iterations at most.
    finished
        Whether further iterations would change nothing.
    """

    name: ClassVar[str]
    total: int
    finished: bool = False

    def __init__(self, reference: LearnableReference, marginals: Marginals) -> None:
        self.reference = reference
        self.marginals = marginals

    @abstractmethod
    def step(self, m: int) -> dict[str, float]:
        """Do iteration ``m`` and return its row of the history: ``objective`` and what else there is."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what the next iteration needs besides the reference."""

    @abstractmethod
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave."""


Stage = Callable[[LearnableReference, Marginals], Engine]
"""Starts an engine on a reference."""


def refine(
    reference: LearnableReference,
    marginals: Marginals,
    stages: Sequence[Stage],
    *,
    store: Checkpoint | None = None,
    resume: bool = True,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Run engines one after the other on a reference; return the rows of the history.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`.
    stages
        What to run.
    store, resume
        File of the state, and whether to go on from it.
    progress
        Show a bar of iterations.
    """
    rows: list[dict[str, Any]] = []
    first_stage, first_step = 0, 0
    state: dict[str, Tensor] = {}
    if store is not None and resume and store.exists():
        tensors, plain = store.read()
        rows, first_stage, first_step = plain["rows"], plain["stage"], plain["iteration"]
        reference.load_state_dict(_under(tensors, "reference."))
        state = _under(tensors, "engine.")

    def save(stage: int, iteration: int, engine: Engine | None) -> None:
        if store is not None:
            tensors = {f"reference.{k}": v for k, v in reference.state_dict().items()}
            tensors |= {f"engine.{k}": v for k, v in (engine.tensors() if engine else {}).items()}
            store.write(tensors, {"step": len(rows), "rows": rows, "stage": stage, "iteration": iteration})

    saved = time.monotonic()
    for index in range(first_stage, len(stages)):
        engine = stages[index](reference, marginals)
        start = first_step if index == first_stage else 0
        if start:
            engine.load(state)
        with tqdm(total=engine.total, initial=start, desc=engine.name, disable=not progress) as bar:
            for m in range(start, engine.total):
                if engine.finished:
                    break
                row = engine.step(m)
                rows.append({"step": len(rows) + 1, "stage": index + 1, "loss": row["objective"], **row})
                bar.set_postfix(objective=f"{row['objective']:.5g}", refresh=False)
                bar.update()
                if time.monotonic() - saved >= loop._CHECKPOINT_SECONDS:
                    save(index, m + 1, engine)
                    saved = time.monotonic()
        save(index + 1, 0, None)
    return rows


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def geometric_mean(values: Tensor) -> float:
    """Return the geometric mean of what is kept as logarithms."""
    return math.exp(float(values.detach().mean()))
