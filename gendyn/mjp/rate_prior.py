r"""A Gamma law of every rate, as if some jumps and some time had been seen before.

.. math:: \log p(Q) = \sum_{i \ne j} \bigl( a \log Q_{ij} - b\, Q_{ij} \bigr),

over the links that may be, so that the M-step is :math:`Q_{ij} \leftarrow (E[N_{ij}] + a) / (E[T_i] + b)`. The largest
a posteriori estimate follows from the same search. Small counts help where jumps are few (:math:`a \le 0.3`); large
ones pull all rates to one mean and ruin processes whose rates are spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gendyn.mjp.likelihood import ExpectedEvents, Likelihood

__all__ = ["PriorLikelihood"]


class PriorLikelihood(Likelihood):
    """A likelihood with the prior added to it, value, slopes and expectations alike.

    Parameters
    ----------
    inner
        The likelihood of the looks.
    jumps, time
        a, of every link, and b, of every state.

    Examples
    --------
    >>> from gendyn.data import Paths
    >>> from gendyn.mjp import PanelLikelihood, StateObservations
    >>> panel = PanelLikelihood(StateObservations.of(Paths([0.0, 1.0], torch.tensor([[0, 1]]))))
    >>> rates = torch.tensor([[-1.0, 1.0], [0.5, -0.5]], dtype=torch.float64)
    >>> free = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    >>> round(PriorLikelihood(panel, 2.0, 0.5).value(rates, *free) - panel.value(rates, *free), 6)  # 2 log .5 - .75
    -2.136294
    """

    def __init__(self, inner: Likelihood, jumps: float, time: float) -> None:
        super().__init__(inner.seen)
        self.inner = inner
        self.jumps, self.time = jumps, time
        self.hidden = inner.hidden

    def _parts(self, moved: Tensor, rates: Tensor, emission: Tensor, initial: Tensor) -> Iterator[Tensor]:
        yield from self.inner._parts(moved, rates, emission, initial)
        links = rates[(rates > 0) & ~torch.eye(len(rates), dtype=torch.bool)]
        yield self.jumps * links.log().sum() + self.time * rates.diagonal().sum()

    def expected(self, rates: Tensor, emission: Tensor, initial: Tensor) -> ExpectedEvents:
        """Return expectations with the jumps and times of the prior."""
        found = self.inner.expected(rates, emission, initial)
        links = (rates > 0) & ~torch.eye(len(rates), dtype=torch.bool)
        prior = self.jumps * float(rates[links].log().sum()) + self.time * float(rates.diagonal().sum())
        return replace(
            found,
            log_likelihood=found.log_likelihood + prior,
            jumps=found.jumps + self.jumps * links,
            dwell=found.dwell + self.time,
        )
