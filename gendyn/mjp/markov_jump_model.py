"""The jump process as a model: looks at a discrete state in, the rate matrix with intervals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.mjp.door import check_law, check_mask, check_options, check_possible, options_of, plain_options
from gendyn.mjp.embedding import warn_if_far_apart, warn_if_not_embeddable
from gendyn.mjp.emission import Emission
from gendyn.mjp.fitted_rates import FittedRates
from gendyn.mjp.gaussian_emission import observe_levels
from gendyn.mjp.jump_letter import jump_letter
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.maximum_likelihood import LikelihoodFit, likelihood_of
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.polish import polish
from gendyn.mjp.starting_point import StartingPoint
from gendyn.mjp.tables import observe
from gendyn.randomness import Seed, as_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sampling.jumps import JumpPaths, RateMatrix
from gendyn.training import Checkpoint, Estimator, fingerprint

__all__ = ["MarkovJumpModel"]

Method = Literal["auto", "zero-shot", "em"]

Data = Paths | JumpPaths | pd.DataFrame | Sequence[tuple[Any, Any]]


class MarkovJumpModel(Estimator):
    r"""A Markov jump process behind sparse, irregular, noisy looks at its state.

    .. math:: P(X_{t + \Delta} = j \mid X_t = i) = (e^{Q \Delta})_{ij}, \qquad P(\text{label } y \mid s) = E_{sy} .

    A network that ships with the package reads the rates off counts of transitions in milliseconds. Where jumps are
    many the exact likelihood is better than any network, where they are few worse: by default the model takes both, a
    rate from :math:`n` expected jumps by :math:`n / (n + 40)` from the likelihood, none of it where fewer than two
    changes were seen for every possible jump; see :mod:`gendyn.mjp.rate_estimate`. Rates that may well be one are drawn
    together, see :mod:`gendyn.mjp.shared_rates`.

    Parameters
    ----------
    method
        ``"zero-shot"``: the network alone; ``"em"``: the likelihood alone, from no start values; ``"auto"``: both.
    noise
        How labels go wrong: ``"estimate"`` (one probability, found), a known probability, or ``"confusion"`` (a matrix,
        found). 0 takes every label at its word.
    polish
        With ``method="auto"``, how much of a rate is the likelihood's, searched from where the network points:
        ``"auto"`` by its jumps, see above; ``True``: all of it, however few they are; ``False``: nothing, which is
        ``"zero-shot"``.
    allowed
        Which jumps there may be, ``(S, S)`` booleans; by default all, and the likelihood gives links that the network
        thinks absent a rate only where that pays.
    n_states
        Number of states; by default as many as are named or seen.
    emission
        ``"labels"``, or ``"gaussian"``: paths hold measurements, and every one of ``n_states`` states has a level.
    entry
        States, by number or name, that are seen exactly when they are entered, such as death.
    censored
        Labels that stand for one of several states: ``{label: states}``.
    confused
        With ``noise="confusion"``: which state may be labelled as which, ``(S, S)`` booleans; by default all.
    initial
        ``"estimate"`` the law of the first look, or a law ``(S,)``.
    prior_jumps, prior_time
        Jumps of every possible link, and time in every state, that the likelihood counts as if they had been seen
        before: the largest a posteriori estimate under a Gamma law of every rate. Jumps up to .3 help where paths are
        few; many pull all rates to one mean.
    shared_rates
        ``"average"``: with ``method="auto"``, average over which links share a rate, by the evidence; ``False``: every
        link has a rate of its own.
    em_steps, max_iterations, tolerance
        Of the likelihood's search.

    Attributes
    ----------
    rate_matrix_ : Tensor
        :math:`Q`, ``(S, S)``, float64, per time unit of the data.
    process_ : RateMatrix
        The process, for :func:`gendyn.sample`.
    initial_law_ : Tensor
        Law of the first look, ``(S,)``.
    emission_ : Tensor
        :math:`E`, ``(S, labels)``; means and log standard deviations for Gaussian levels.
    noise_ : float
        Mean probability that a label is wrong.
    link_probability_ : Tensor or None
        Probability that each jump is possible at all, ``(S, S)``; ``None`` without the network.
    jumps_, exposure_ : Tensor
        Expected numbers of jumps ``(S, S)`` and times spent ``(S,)``; of labels as they are with ``"zero-shot"``.
    identifiable_ : Tensor
        Whether the data tell how each state is left, ``(S,)``.
    embeddable_ : bool
        Whether a jump process can have the transition matrix that was seen, see :class:`~gendyn.mjp.NotEmbeddable`.
    history_ : pandas.DataFrame
        ``step`` and ``loss``, minus the log-likelihood and the log prior; no rows with ``"zero-shot"``, which searches
        nothing.

    References
    ----------
    Berghaus, Cvejoski, Seifner, Ojeda, Sanchez. Foundation inference models for Markov jump processes. 2024.
    Kalbfleisch, Lawless. The analysis of panel data under a Markov assumption. 1985.
    Jackson. Multi-state models for panel data: the msm package for R. 2011.

    Examples
    --------
    >>> import gendyn as gd
    >>> truth = gd.systems.FlashingRatchet()
    >>> paths = gd.sample(truth, truth.initial(300, seed=0), truth.times, seed=0)
    >>> model = MarkovJumpModel().fit(paths, progress=False)
    >>> float((model.rate_matrix_ - truth.matrix()).abs().mean()) < 0.1
    True
    """

    def __init__(
        self,
        method: Method = "auto",
        *,
        noise: Literal["estimate", "confusion"] | float = "estimate",
        polish: Literal["auto"] | bool = "auto",
        allowed: Any = None,
        n_states: int | None = None,
        emission: Literal["labels", "gaussian"] = "labels",
        entry: Sequence[int | str] = (),
        censored: Mapping[int | str, Sequence[int | str]] | None = None,
        confused: Any = None,
        initial: Any = "estimate",
        prior_jumps: float = 0.0,
        prior_time: float = 0.0,
        shared_rates: Literal["average", False] = "average",
        em_steps: int = 15,
        max_iterations: int = 500,
        tolerance: float = 1e-9,
    ) -> None:
        self.method = method
        self.noise = noise
        self.polish = polish
        self.allowed = allowed
        self.n_states = n_states
        self.emission = emission
        self.entry = entry
        self.censored = censored
        self.confused = confused
        self.initial = initial
        self.prior_jumps = prior_jumps
        self.prior_time = prior_time
        self.shared_rates = shared_rates
        self.em_steps = em_steps
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def fit(
        self,
        data: Data,
        *,
        kinds: Any = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Infer the rates.

        Parameters
        ----------
        data
            Integer :class:`~gendyn.Paths`; :class:`~gendyn.sampling.jumps.JumpPaths`, of which every event is known; a
            table with columns ``id``, ``time`` and ``state``; or a list of pairs of times and states, one a path.
        kinds
            What every look of paths means, ``(K, T)`` in place of ``entry``: 0 a snapshot, 1 the state was entered at
            this very time, 2 nothing but this has happened since the look before.
        seed
            Where a mixture of Gaussians starts; nothing else is random.
        progress
            Accepted for the sake of all models; a fit takes less than a second.
        checkpoint, resume
            File that keeps the steps, and whether to go on from it.
        device
            Accepted for the sake of all models; rates are float64 on the CPU.

        Raises
        ------
        TypeError
            If the data are nothing of the kind.
        ValueError
            If labels, times or a hyper-parameter are unfit, or transitions were seen that ``allowed`` forbids.
        """
        check_options(self)
        self.seed_ = root = as_seed(seed)
        seen, emission = self._read(data, kinds, self.n_states)
        allowed = check_mask(self.allowed, seen.n_states, "allowed")
        if emission.certain:
            check_possible(seen, allowed)
        texts = {name: repr(value) for name, value in self._plain_params().items()}
        identity = fingerprint(seen.times, seen.labels, seen.kinds, model="MarkovJumpModel", seed=root, **texts)
        store = None if checkpoint is None else Checkpoint(checkpoint, identity)
        kept = store.read() if store is not None and resume and store.exists() else None
        law = check_law(self.initial, seen.n_states)
        by = StartingPoint.by_counts if self.method == "em" else StartingPoint.by_network
        start = by(seen, emission, allowed, law)
        if not self._searches and start.counted is not None:
            found = LikelihoodFit(start.parameters, start.counted, [], True, 0)
        else:
            found = polish(
                seen,
                start.parameters,
                absent=start.belief.link < 0.5 if start.belief is not None and allowed is None else None,
                store=store,
                kept=kept,
                estimate_initial=isinstance(self.initial, str),
                em_steps=self.em_steps,
                max_iterations=self.max_iterations,
                tolerance=self.tolerance,
                prior=(float(self.prior_jumps), float(self.prior_time)),
            )
        fitted = FittedRates.of(
            seen,
            found,
            start.belief,
            searched=self._searches,
            mixed=self._mixes,
            share=bool(self.shared_rates),
            allowed=allowed,
            initial=law,
        )
        self._adopt(fitted, seen.states, (float(seen.times.min()), float(seen.times.max())))
        steps = range(1, len(found.history) + 1)
        self.history_ = pd.DataFrame({"step": steps, "loss": [-value for value in found.history]})
        self._warn(seen)
        return self

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of every rate, ``(S, S)`` each, NaN on the diagonal.

        Parameters
        ----------
        level
            Probability that a bound pair holds the rate.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the level is not between 0 and 1.
        """
        self._check_fitted()
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        return self._fitted.interval(level, check_mask(self.allowed, len(self.rate_matrix_), "allowed"))

    def report(self) -> str:
        """Return a letter in plain words: what the data tell, what they do not, and what would help.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        return jump_letter(self)

    def sample(
        self,
        x0: Any = None,
        times: Any = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the process: states at the asked times, without label noise.

        Parameters
        ----------
        x0
            Start states ``(n,)`` or ``(n, 1)``; by default drawn from the initial law.
        times
            Increasing times ``(T,)``; by default 100 over the longest path that was fitted.
        n
            Number of paths; by default 100, or as many as there are start states.
        seed
            Which paths.
        progress
            Show progress.
        **options
            Further options of :func:`gendyn.sample`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        root = as_seed(seed)
        if x0 is None:
            generator = torch_generator(root, "start")
            x0 = torch.multinomial(self.initial_law_, n or 100, replacement=True, generator=generator)[:, None]
        else:
            x0 = torch.as_tensor(x0).reshape(-1, 1)
            if n is not None and n != len(x0):
                x0 = x0[torch.arange(n) % len(x0)]
        grid = np.linspace(*self._span, 100) if times is None else times
        return sample(self.process_, x0, grid, seed=root, progress=progress, **options)

    def score(self, data: Data, *, kinds: Any = None) -> float:
        """Return the mean log-likelihood of an interval between looks; higher is better.

        Parameters
        ----------
        data, kinds
            As of :meth:`fit`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        seen = self._read(data, kinds, len(self.rate_matrix_))[0]
        total = likelihood_of(seen, self._fitted.emission).value(self.rate_matrix_, self.emission_, self.initial_law_)
        return total / max(1, seen.n_pairs)

    def _read(self, data: Data, kinds: Any, n_states: int | None) -> tuple[StateObservations, Emission]:
        """Return the looks, and what is known of how they arise before anything is fitted."""
        if self.emission == "gaussian":
            if kinds is not None:
                raise ValueError("kinds say what labels mean; measurements of levels have none: leave kinds out")
            return observe_levels(cast(Paths, data), int(n_states or 2), self.seed_)
        seen = observe(data, n_states=n_states, entry=self.entry, censored=self.censored, kinds=kinds)
        return seen, LabelNoise.told(seen.meaning, self.noise, check_mask(self.confused, seen.n_states, "confused"))

    def _adopt(self, fitted: FittedRates, states: Sequence[str] | None, span: tuple[float, float]) -> None:
        """Show what was fitted, or read from a file."""
        self._fitted, self._span = fitted, span
        self.rate_matrix_ = fitted.rates
        self.process_ = RateMatrix(self.rate_matrix_, states)
        self.initial_law_, self.emission_, self.noise_ = fitted.initial, fitted.emission.emission, fitted.noise
        self.jumps_, self.exposure_, self.identifiable_ = fitted.jumps, fitted.exposure, fitted.identifiable

    @property
    def _searches(self) -> bool:
        """Whether the likelihood is asked."""
        return self.method != "zero-shot" and self.polish is not False

    @property
    def _mixes(self) -> bool:
        """Whether the network is listened to."""
        return self.polish is not True

    @property
    def link_probability_(self) -> Tensor | None:
        """Probability that each jump is possible at all, ``(S, S)``; ``None`` without the network."""
        return None if self._fitted.belief is None else self._fitted.belief.link

    @property
    def log_likelihood_(self) -> float:
        """Log-likelihood of what was found, the network's estimate with ``"zero-shot"``; computed when asked for."""
        return self._fitted.log_likelihood

    def _warn(self, seen: StateObservations) -> None:
        asked = self._searches and self.noise_ == 0 and self.emission == "labels"
        self.embeddable_ = not (asked and warn_if_not_embeddable(seen, stacklevel=4))
        warn_if_far_apart(seen, self.rate_matrix_, stacklevel=4)

    def _plain_params(self) -> dict[str, Any]:
        return plain_options(self.get_params())

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return options_of(plain)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        names = self.process_.states
        return self._fitted.tensors(), self._fitted.numbers() | {
            "span": list(self._span),
            "states": None if names is None else list(names),
            "embeddable": self.embeddable_,
        }

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        fitted = FittedRates.restored(tensors, extra, searched=self._searches, mixed=self._mixes)
        low, high = extra["span"]
        self._adopt(fitted, extra["states"], (float(low), float(high)))
        self.embeddable_ = bool(extra.get("embeddable", True))
