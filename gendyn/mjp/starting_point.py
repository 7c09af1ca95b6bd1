"""Where the search for rates starts: at counts of changes, or where the network sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gendyn.mjp.emission import Emission
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.likelihood import ExpectedEvents
from gendyn.mjp.maximum_likelihood import JumpParameters, anchor_rates
from gendyn.mjp.network_belief import NetworkBelief
from gendyn.mjp.observations import StateObservations

__all__ = ["StartingPoint"]


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """Rates, noise and initial law to start from, and what the network believes.

    Attributes
    ----------
    parameters
        Where the likelihood starts.
    belief
        The network's, or ``None``.
    counted
        Jumps and times that these rates and the labels as they are give, without a pass over the paths; ``None``
        without the network.

    Examples
    --------
    >>> from gendyn.data import Paths
    >>> seen = StateObservations.of(Paths([0.0, 1.0, 2.0], torch.tensor([[0, 1, 0]])))
    >>> start = StartingPoint.by_network(seen, LabelNoise.fixed(seen.meaning), None, None)
    >>> bool((start.parameters.rates.sum(1).abs() < 1e-9).all()), start.counted.dwell.tolist()
    (True, [1.0, 1.0])
    """

    parameters: JumpParameters
    belief: NetworkBelief | None = None
    counted: ExpectedEvents | None = None

    @classmethod
    def by_counts(
        cls, seen: StateObservations, emission: Emission, allowed: Tensor | None, initial: Tensor | None
    ) -> Self:
        """Start at changes over time spent.

        Parameters
        ----------
        seen
            The looks.
        emission
            What is known of how they arise.
        allowed
            Which jumps there may be, ``(S, S)`` booleans, or ``None`` for all.
        initial
            Law of the first look, ``(S,)``, or ``None`` where it is not known.
        """
        size = seen.n_states
        law = torch.full((size,), 1 / size, dtype=torch.float64) if initial is None else initial
        return cls(JumpParameters(anchor_rates(seen, allowed), emission, law))

    @classmethod
    def by_network(
        cls, seen: StateObservations, emission: Emission, allowed: Tensor | None, initial: Tensor | None
    ) -> Self:
        """Start where the network sees the rates and the noise; parameters as of :meth:`by_counts`."""
        belief, summary, law, wrong = NetworkBelief.read(seen, allowed)
        rates, spent = belief.estimate, summary.dwell[0]
        counted = ExpectedEvents(
            math.nan, rates * spent[:, None], spent, summary.counts.new_zeros(0), summary.starts[0]
        )
        if isinstance(emission, LabelNoise) and emission.kind == "uniform":
            emission = LabelNoise.uniform(seen.meaning, wrong)
        parameters = JumpParameters(rates - torch.diag(rates.sum(1)), emission, law if initial is None else initial)
        return cls(parameters, belief, counted)
