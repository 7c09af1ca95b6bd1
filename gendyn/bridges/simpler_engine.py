"""Refinement of a simpler reference, from which a richer one takes over what they share.

A linear drift is learned in a second, by exact transitions; a network that starts from it has only the bends left to
find.
"""

from __future__ import annotations

from torch import Tensor

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.refinement_engine import Engine, Stage

__all__ = ["SimplerEngine"]


class SimplerEngine(Engine):
    """An engine on what a reference is without its network, to which every iteration's gain is given.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`; the reference must have a simpler one, see ``LearnableReference.simpler``.
    stage
        Starts the engine that refines the simpler one.

    Examples
    --------
    >>> import torch
    >>> from functools import partial
    >>> from gendyn.bridges.pushforward import PushforwardEngine
    >>> from gendyn.bridges.references import LinearPlusMLP
    >>> from gendyn.data import Snapshots
    >>> x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, x + 1.0])
    >>> rich = LinearPlusMLP((4,)).start(data)
    >>> stage = partial(PushforwardEngine, ridge=0.0, steps=2, rate=0.1)
    >>> engine = SimplerEngine(rich, Marginals.of(data), stage=stage)
    >>> _ = engine.step(0), engine.step(1)
    >>> bool(rich.shift > 0)
    True
    """

    name = "simpler"

    def __init__(self, reference: LearnableReference, marginals: Marginals, *, stage: Stage) -> None:
        super().__init__(reference, marginals)
        simple = reference.simpler()
        if simple is None:
            raise ValueError(f"there is no simpler reference than {type(reference.family).__name__} to start it from")
        self.simple = simple
        self.engine = stage(simple, marginals)
        self.total = self.engine.total

    def step(self, m: int) -> dict[str, float]:
        """Do iteration ``m`` of the simpler reference."""
        row = self.engine.step(m)
        self.finished = self.engine.finished
        self.reference.adopt(self.simple)
        return row

    def tensors(self) -> dict[str, Tensor]:
        """Return the simpler reference, and the state of its engine."""
        parts = {f"simple.{name}": value for name, value in self.simple.state_dict().items()}
        return parts | {f"engine.{name}": value for name, value in self.engine.tensors().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        for prefix, load in (("simple.", self.simple.load_state_dict), ("engine.", self.engine.load)):
            load({name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
