r"""What a forecaster says without its network: the last observation, and a regression of the change since then.

.. math:: r_q = x_{\text{last}} + \hat f_q(X) ,

with a ridge regression on recent values, or a kernel ridge regression on the last observations, how old they are and
how fast they changed, which learns for each channel what to look at. Outcomes of which some were not observed leave the
last observation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sde.kernel_ridge import KernelRidge
from gendyn.sde.last_observations import last_observations
from gendyn.sde.recent_values import last_values
from gendyn.sde.ridge import Ridge
from gendyn.sde.series import Series
from gendyn.sde.series_estimator import under

__all__ = ["ForecastStart", "Start"]

Start = Literal["ridge", "kernel"]


class ForecastStart:
    """A fitted start.

    Parameters
    ----------
    lead
        Scaled times after the end of a past that it was fitted for ``(Q,)``, increasing.
    gap
        Unit of the ages of observations, in scaled time.
    last
        Whether it begins with the last observation, or with the mean.
    regression
        Of the changes since then, or ``None``.
    deviation
        Of outcomes from it ``(Q, D)``.
    """

    def __init__(
        self, lead: Tensor, gap: float, last: bool, regression: Ridge | KernelRidge | None, deviation: Tensor
    ) -> None:
        self.lead, self.gap, self.last, self.regression, self.deviation = lead, gap, last, regression, deviation

    @classmethod
    def fit(
        cls,
        kind: Start | None,
        scaled: Series,
        told: Tensor,
        outcome: Tensor,
        *,
        lead: Tensor,
        gap: float,
        seed: Seed = 0,
    ) -> tuple[ForecastStart, Tensor]:
        """Fit, and return the start with what it says of series that were left out ``(B, Q, D)``.

        Parameters
        ----------
        kind
            ``"ridge"``, ``"kernel"``, or ``None`` for the mean.
        scaled
            The pasts.
        told
            Their recent values ``(B, T)``, for ``"ridge"``.
        outcome
            ``(B, Q, D)``, NaN where not observed.
        lead, gap
            See the class.
        seed
            Of the choice of centres.
        """
        seen = ~outcome.isnan()
        base = torch.zeros_like(outcome)
        regression: Ridge | KernelRidge | None = None
        if kind is not None:
            base = last_values(scaled)[:, None].expand_as(outcome)
            if bool(seen.all()):
                change = outcome - base
                if kind == "ridge":
                    regression, left_out = Ridge.fit(told, change.flatten(1))
                    left_out = left_out.reshape(outcome.shape)
                else:
                    seen_last = last_observations(scaled, gap)
                    regression, left_out = KernelRidge.fit(seen_last, change.transpose(1, 2), seed=seed)
                    left_out = left_out.transpose(1, 2)
                base = base + left_out
        error = torch.where(seen, outcome - base, 0.0).square().sum(0) / seen.sum(0).clamp_min(1)
        return cls(lead, gap, kind is not None, regression, error.sqrt().clamp_min(1e-4)), base

    def __call__(self, scaled: Series, told: Tensor, leads: Tensor) -> Tensor:
        """Return what is said of series at leads ``(B, Q)``: ``(B, Q, D)``."""
        base = scaled.values.new_zeros(*leads.shape, scaled.dim)
        if not self.last:
            return base
        base = base + last_values(scaled)[:, None]
        if self.regression is None:
            return base
        if isinstance(self.regression, Ridge):
            change = self.regression(told).reshape(len(leads), -1, scaled.dim)
        else:
            change = self.regression(last_observations(scaled, self.gap)).transpose(1, 2)
        left, right, part = self.between(leads)
        rows = torch.arange(len(leads), device=leads.device)[:, None]
        return base + change[rows, left] + part * (change[rows, right] - change[rows, left])

    def between(self, leads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers of the fitted leads around leads ``(B, Q)``, and the way from one to the other."""
        fitted = self.lead.to(leads)
        right = torch.searchsorted(fitted, leads.contiguous()).clamp_max(len(fitted) - 1)
        left = (right - 1).clamp_min(0)
        span = (fitted[right] - fitted[left]).clamp_min(torch.finfo(leads.dtype).tiny)
        return left, right, ((leads - fitted[left]) / span).clamp(0, 1)[:, :, None]

    def along(self, of_leads: Tensor, leads: Tensor) -> Tensor:
        """Return what is known of the fitted leads ``(Q', ...)`` along the lines between them, at leads ``(B, Q)``."""
        left, right, part = self.between(leads)
        return of_leads[left] + part * (of_leads[right] - of_leads[left])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all for a file."""
        tensors = {"lead": self.lead, "deviation": self.deviation}
        about: dict[str, Any] = {"gap": self.gap, "last": self.last, "regression": None}
        if self.regression is not None:
            tensors |= {f"regression.{name}": value for name, value in self.regression.state_dict().items()}
            about["regression"] = "ridge" if isinstance(self.regression, Ridge) else "kernel"
        return tensors, about

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> ForecastStart:
        """Return the start that :meth:`state` described."""
        kinds: dict[str, type[Ridge | KernelRidge]] = {"ridge": Ridge, "kernel": KernelRidge}
        regression = None
        if about["regression"] is not None:
            regression = kinds[about["regression"]].from_state(under(tensors, "regression."))
        return cls(tensors["lead"].cpu(), float(about["gap"]), bool(about["last"]), regression, tensors["deviation"])
