r"""Sinkhorn's alternation with longer steps than its own, as long as the problem bears them.

Near the solution the alternation is a block Gauss-Seidel iteration, whose error falls by a factor :math:`\mu^2` a
round. Moving each potential :math:`\omega` times as far, :math:`1 \le \omega < 2`, changes that factor to the
:math:`\lambda` of

.. math:: (\lambda + \omega - 1)^2 = \omega^2 \mu^2 \lambda,

which is least, :math:`\omega - 1`, at :math:`\omega = 2 / (1 + \sqrt{1 - \mu^2})` (Young 1954): where rounds are many,
about their square root is left (Thibault, Chizat, Dossal and Papadakis 2021; Lehmann, von Renesse, Sambale and
Uschmajew 2022). How fast the error falls under one :math:`\omega` tells :math:`\mu`, and that the next.
"""

from __future__ import annotations

import math

__all__ = ["Overrelaxation"]

_NEAR = 0.2
"""Mass amiss above which steps are plain: far from the solution the theory says nothing."""

_LONGEST = 1.9999
"""Largest factor."""

_MEMORY = 3.0
"""Rounds, times ``2 - omega``, after which the jolt of another factor is over, and again until its rate is seen."""


class Overrelaxation:
    r"""Chooses :math:`\omega` from the errors of rounds.

    Parameters
    ----------
    window
        Rounds under one factor, at least, after which its effect is judged.

    Attributes
    ----------
    omega
        The factor of the next round.

    Examples
    --------
    >>> pace = Overrelaxation(window=5)
    >>> for k in range(7):
    ...     _ = pace.watch(0.1 * 0.99**k)
    >>> round(pace.omega, 3)  # 2 / (1 + sqrt(0.01))
    1.818
    """

    def __init__(self, window: int = 20) -> None:
        self.window = window
        self.omega = 1.0
        self._limit = _LONGEST
        self._count = self._settled = self._judged = 0
        self._before = self._first = math.inf
        self._begin(math.inf)

    @property
    def began(self) -> bool:
        """Whether the next round is the first under its factor: a state to go back to."""
        return self._count == 0

    def watch(self, missed: float) -> bool:
        """Take note of the mass that is amiss before a round; return whether the factor led away from the solution."""
        self._count += 1
        longer = self.omega > 1
        if longer and not missed < max(_NEAR, 10 * self._before):
            return self._retreat(missed)
        if self._count <= self._settled:
            return False
        if self._count == self._settled + 1:
            self._first = missed
            return False
        if self._count <= self._judged:
            return False
        rate = (missed / self._first) ** (1 / (self._judged - self._settled))
        if not rate < 1:
            return self._retreat(missed) if longer else self._begin(missed)
        omega = self.omega
        if rate > omega - 1 and missed < _NEAR:
            square = min((rate + omega - 1) ** 2 / (omega**2 * rate), 1.0)
            omega = min(max(omega, 2 / (1 + math.sqrt(1 - square))), self._limit)
        if omega > self.omega + 0.1 * (2 - self.omega):
            self.omega = omega
            return self._begin(missed)
        # Go on under the same factor, whose rate is measured anew.
        self._count, self._first = self._settled + 1, missed
        return False

    def _begin(self, missed: float) -> bool:
        """Start to judge a factor."""
        memory = 0 if self.omega == 1 else math.ceil(_MEMORY / (2 - self.omega))
        self._count, self._before, self._first = 0, missed, missed
        self._settled, self._judged = memory, memory + max(self.window, memory)
        return False

    def _retreat(self, missed: float) -> bool:
        """Go back to plain rounds, and less far from them the next time."""
        self._limit = max(1.0, 2 * self.omega - 2)
        self.omega = 1.0
        self._begin(missed)
        return True
