"""What a fit to looks at a jump process leaves behind: rates, how well each is known, and the law of looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.mjp.emission import Emission
from gendyn.mjp.gaussian_emission import GaussianEmission
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.likelihood import Likelihood
from gendyn.mjp.maximum_likelihood import JumpParameters, LikelihoodFit, anchor_rates, likelihood_of, time_unit
from gendyn.mjp.network_belief import NetworkBelief
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.rate_estimate import RateEstimate
from gendyn.mjp.rate_interval import log_rate_errors
from gendyn.mjp.shared_rates import SharedRates

__all__ = ["FittedRates"]


@dataclass(eq=False)
class FittedRates:
    """Rates of one data set, and what their intervals, letters and files need.

    Attributes
    ----------
    likely
        Rates ``(S, S)`` where the search ended, zero on the diagonal; where it began, if nothing was searched.
    jumps, exposure
        Expected jumps ``(S, S)`` and times spent ``(S,)``.
    changes
        Changes of the label that were seen.
    identifiable
        Whether the data tell how each state is left, ``(S,)``.
    emission, initial
        How labels go wrong, and the law of the first look ``(S,)``.
    belief
        The network's, or ``None``.
    searched
        Whether the likelihood was asked.
    mixed
        Whether belief and likelihood are both listened to.
    shared
        What links tell of each other, or ``None``.
    """

    likely: Tensor
    jumps: Tensor
    exposure: Tensor
    changes: int
    identifiable: Tensor
    emission: Emission
    initial: Tensor
    belief: NetworkBelief | None
    searched: bool
    mixed: bool
    shared: SharedRates | None = None
    _source: tuple[Likelihood, JumpParameters] | None = field(default=None, repr=False)
    _known_errors: Tensor | None = field(default=None, repr=False)
    _log_likelihood: float | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        seen: StateObservations,
        found: LikelihoodFit,
        belief: NetworkBelief | None,
        *,
        searched: bool,
        mixed: bool,
        share: bool,
        allowed: Tensor | None,
        initial: Tensor | None,
    ) -> Self:
        """Take what a search found.

        Parameters
        ----------
        seen
            The looks.
        found
            Where the search ended, or where it would have begun.
        belief
            The network's.
        searched, mixed
            As of the class.
        share
            Whether links may tell of each other.
        allowed
            Which jumps there may be, ``(S, S)`` booleans, or ``None`` for all.
        initial
            Law of the first look ``(S,)``, or ``None`` where it was not known.
        """
        now, events = found.parameters, found.events
        likelihood = likelihood_of(seen, now.noise)
        counted = not likelihood.hidden and initial is None
        result = cls(
            likely=now.rates.clone().fill_diagonal_(0.0),
            jumps=events.jumps,
            exposure=events.dwell,
            changes=seen.n_changes,
            identifiable=events.dwell > time_unit(seen),
            emission=now.noise,
            initial=(events.starts + 0.5) / (events.starts + 0.5).sum() if counted else now.initial,
            belief=belief,
            searched=searched,
            mixed=mixed,
            _source=(likelihood, now),
            _log_likelihood=events.log_likelihood if found.history else None,
        )
        if result.estimate.belief is None and not bool(result.identifiable.all()):
            # What nothing tells of is not left where the search went astray.
            prior = anchor_rates(seen, allowed).fill_diagonal_(0.0)
            result.likely = torch.where(result.identifiable[:, None], result.likely, prior)
        if share and result.estimate.belief is not None and bool(result.estimate.weight().any()):
            result.shared = SharedRates.of_likelihood(result.likely, result.errors, result.jumps, result.exposure)
        return result

    @property
    def estimate(self) -> RateEstimate:
        """The rates, as all witnesses have them."""
        likely = self.likely if self.searched else None
        belief = self.belief if self.mixed else None
        return RateEstimate(likely, self.jumps, self.exposure, self.changes, belief, self.shared)

    @property
    def rates(self) -> Tensor:
        """The estimate as a rate matrix, ``(S, S)``."""
        off = self.estimate.rates()
        return off - torch.diag(off.sum(1))

    @property
    def errors(self) -> Tensor:
        """Standard errors of log rates ``(S, S)``, infinite where nothing is known; computed when asked for."""
        if self._known_errors is None:
            if self._source is None or not self.searched:
                return torch.zeros_like(self.likely)
            errors = log_rate_errors(*self._source)
            self._known_errors = torch.where(torch.isnan(errors), torch.inf, errors)
        return self._known_errors

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood where the search ended, or of the network's estimate; computed when asked for."""
        if self._log_likelihood is None:
            if self._source is None:
                raise ValueError("the looks are gone: only a fit knows how likely they are")
            likelihood, now = self._source
            self._log_likelihood = likelihood.value(*now.triple)
        return self._log_likelihood

    @property
    def noise(self) -> float:
        """Mean probability that a label is wrong."""
        return self.emission.wrong if isinstance(self.emission, LabelNoise) else 0.0

    def interval(self, level: float, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of rates, ``(S, S)`` each, NaN on the diagonal.

        Parameters
        ----------
        level
            Probability between them.
        allowed
            Which jumps there may be, or ``None`` for all.
        """
        estimate = self.estimate
        low, high = estimate.interval(self.errors if self.searched else None, level)
        if estimate.belief is None:
            high = torch.where(self.identifiable[:, None], high, torch.inf)
        if allowed is not None:
            low, high = low * allowed, torch.where(allowed, high, 0.0)
        return low.fill_diagonal_(torch.nan), high.fill_diagonal_(torch.nan)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file keeps."""
        kept = {
            "likely": self.likely,
            "errors": self.errors,
            "emission": self.emission.emission,
            "initial": self.initial,
            "jumps": self.jumps,
            "exposure": self.exposure,
            "identifiable": self.identifiable,
        }
        if self.belief is not None:
            kept |= vars(self.belief)
        if self.shared is not None:
            kept |= {f"shared_{name}": value for name, value in vars(self.shared).items()}
        return kept

    def numbers(self) -> dict[str, Any]:
        """Return what else a file keeps."""
        kind = self.emission.kind if isinstance(self.emission, LabelNoise) else "gaussian"
        return {
            "emission": kind,
            "noise": self.noise,
            "log_likelihood": self.log_likelihood,
            "changes": self.changes,
        }

    @classmethod
    def restored(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], *, searched: bool, mixed: bool
    ) -> Self:
        """Return what :meth:`tensors` and :meth:`numbers` kept."""
        kept = {name: value.cpu() for name, value in tensors.items()}
        kind = numbers["emission"]
        belief = shared = None
        if "mean" in kept:
            belief = NetworkBelief(*(kept[k] for k in ("mean", "shape", "link", "estimate")))
        if "shared_mean" in kept:
            shared = SharedRates(*(kept[f"shared_{k}"] for k in ("alone", "mean", "shape")))
        return cls(
            likely=kept["likely"],
            jumps=kept["jumps"],
            exposure=kept["exposure"],
            changes=int(numbers["changes"]),
            identifiable=kept["identifiable"].to(torch.bool),
            emission=GaussianEmission(kept["emission"]) if kind == "gaussian" else LabelNoise(kept["emission"], kind),
            initial=kept["initial"],
            belief=belief,
            searched=searched,
            mixed=mixed,
            shared=shared,
            _known_errors=kept["errors"],
            _log_likelihood=float(numbers["log_likelihood"]),
        )
