"""Refinement as a model: populations and a family of dynamics in, its likeliest member and the bridge under it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pandas as pd
import torch
from torch import Tensor

from gendyn.bridges.bridge_estimator import BridgeEstimator
from gendyn.bridges.iterative_projection import IterativeProjection
from gendyn.bridges.learned_parameters import learned_parameters
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.linear_noise_check import warn_of_linear_noise
from gendyn.bridges.marginals import Lift, Marginals
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.noise_matching import NoiseMatch
from gendyn.bridges.reference_choice import CANDIDATE_ITERATIONS, NOISE_SHARES, reference_choice
from gendyn.bridges.references import LearnableReference, PartlyObserved, ReferenceFamily, get_family
from gendyn.bridges.refinement_schedule import Method, Schedule
from gendyn.bridges.refinement_starts import likeliest, start_reference
from gendyn.data import Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.training import Checkpoint

__all__ = ["ReferenceRefinement"]

_Single = str | ReferenceFamily | PartlyObserved
"""What stands for one family."""


class ReferenceRefinement(BridgeEstimator):
    r"""Learn a reference from populations, and with it the process through all of them.

    .. math:: \min_\theta \min_P \mathrm{KL}(P \Vert Q_\theta) \quad\text{with}\quad P_{t_k} = \mu_k .

    A family says how the system moves up to its parameters, as predators and prey do up to their rates; they are shared
    by all intervals, so that every population teaches what happens between all others. The reference at the learned
    parameters then defines the bridge, and runs on after the last population.

    Parameters
    ----------
    family
        A family of :mod:`gendyn.references`, such as ``gd.references.LotkaVolterra()``, or its name; or several, of
        which the one that best predicts training populations left out of training is taken (learned for that from 200
        rows a population and by 15 alternations at most). Where it has coordinates
        that the data do not show, :class:`gendyn.references.PartlyObserved` around it, alone; it is then learned by
        ``"pushforward"``, without intervals.
    method
        ``"pushforward"``: by the likelihood of every population under the one before, the only one that learns the
        noise; that of mechanisms is then matched, see :mod:`gendyn.bridges.noise_matching`. ``"coupling_em"``: by
        alternating couplings and reference at fixed noise. ``"path_em"``: likewise, the reference by regression on
        bridges between coupled points, without derivatives through transition laws. ``"auto"``: the first for
        mechanisms; for linear drifts the second, with the noise from the first where it is not given; for networks the
        second, then the first.
    engine
        ``"static"``: couplings and densities. ``"ipml"``: the published simulations and regressions, slow and only to
        compare with; a :class:`~gendyn.bridges.IterativeProjection` says how far they go. The bridge under the learned
        reference is the same exact one.
    learn_sigma
        Whether the noise is learned; by default where the method can and ``sigma`` is not given.
    sigma
        The noise: where learning starts, or what it is. By default the family's. ``"held-out"``: the likeliest, or a
        half, quarter or eighth of it, whichever best predicts training populations left out of training.
    iterations
        Alternations of couplings and reference at most.
    gradient_steps
        Steps of Adam on the likelihood.
    learning_rate
        Their learning rate.
    ridge
        Factor of the squared norm of what a family penalises: the matrix of linear drifts.
    restarts
        Starts; the one with the smallest objective is kept.
    intervals
        ``"laplace"``: intervals for :attr:`parameters_` from the curvature of the objective and its variation from row
        to row. ``"bootstrap"``: from fits to rows drawn again, a hundred times the cost of the last steps of one.
        ``None``: none.
    level
        Probability that they are to cover the truth.
    substeps, tolerance, max_iterations
        As for :class:`~gendyn.SchrodingerBridge`.

    Attributes
    ----------
    reference_ : LearnableReference
        The learned reference, a process.
    bridge_ : MultiMarginalBridge or LiftedBridge
        The couplings and bridges.
    process_ : BridgeProcess
        The bridge as a diffusion, for :func:`gendyn.sample`; after the last population it is the reference.
    parameters_ : pandas.DataFrame
        ``parameter``, ``value``, ``low``, ``high``, ``level``.
    choice_ : pandas.DataFrame
        Where there was a choice, its candidates: ``family``, ``sigma``, ``objective`` (minus the log-likelihood of the
        populations), ``score`` (mean W2 to populations left out) and ``chosen``; else empty.
    kl_ : float
        Divergence of the bridge from the reference, in nats.
    history_ : pandas.DataFrame
        One row an iteration: ``step``, ``stage``, ``loss``, ``objective``, ``sigma`` (before any match). With
        ``coupling_em`` and ``path_em`` the objective never rises while sigma stays.

    References
    ----------
    Shen, Berlinghieri, Broderick. Multi-marginal Schroedinger bridges with iterative reference refinement. 2025.

    Examples
    --------
    >>> import gendyn as gd
    >>> truth = gd.systems.OrnsteinUhlenbeck()
    >>> data = gd.systems.simulate_snapshots(truth, [0.0, 0.5, 1.0, 1.5], n=200)
    >>> model = ReferenceRefinement("linear", intervals=None).fit(data, progress=False)
    >>> model.parameters_["parameter"].tolist()
    ['rate[0,0]', 'offset[0]', 'sigma']
    """

    reference_: LearnableReference
    parameters_: pd.DataFrame
    choice_: pd.DataFrame

    def __init__(
        self,
        family: str | ReferenceFamily | PartlyObserved | Sequence[str | ReferenceFamily] = "linear",
        *,
        method: Method = "auto",
        engine: Literal["static", "ipml"] | IterativeProjection = "static",
        learn_sigma: bool | None = None,
        sigma: float | Literal["held-out"] | None = None,
        iterations: int = 60,
        gradient_steps: int = 120,
        learning_rate: float = 0.05,
        ridge: float = 1e-3,
        restarts: int = 1,
        intervals: Literal["laplace", "bootstrap"] | None = "laplace",
        level: float = 0.9,
        substeps: int = 16,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        self.family = family
        self.method = method
        self.engine = engine
        self.learn_sigma = learn_sigma
        self.sigma = sigma
        self.iterations = iterations
        self.gradient_steps = gradient_steps
        self.learning_rate = learning_rate
        self.ridge = ridge
        self.restarts = restarts
        self.intervals = intervals
        self.level = level
        self.substeps = substeps
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def fit(
        self,
        data: Snapshots,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn the reference, and solve the bridge under it.

        Parameters
        ----------
        data
            Populations at two or more times; weights are normalised at each.
        seed
            Where restarts and networks start.
        progress
            Show bars of iterations.
        checkpoint
            File that keeps the state; a fit that was killed goes on from there. Restarts after the first have files of
            their own beside it.
        resume
            Whether to go on from them.
        device
            Where to compute; by default where the data are.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If there are fewer than two times, a hyper-parameter is out of range, the family does not fit the data, or
            the reference explodes from every start.

        Warns
        -----
        UserWarning
            If a coupling of the bridge did not converge, or simulated paths contradict the linear-noise approximation.
        """
        self._check_hyper_parameters()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        chooses = self.sigma == "held-out" or not isinstance(self.family, _Single)
        learn = self._fit_best if chooses else self._fit_one
        learn(data, root, progress=progress, checkpoint=checkpoint, resume=resume)
        warn_of_linear_noise(self.bridge_, self.substeps, derive_seed(root, "linear-noise"))
        return self

    def _fit_one(
        self,
        data: Snapshots,
        root: int,
        *,
        progress: bool,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        matched: bool = True,
    ) -> Self:
        """Learn one reference and solve the bridge under it."""
        reference = self._learn_reference(
            data, root, progress=progress, checkpoint=checkpoint, resume=resume, matched=matched
        )
        self._adopt(self._solve(reference, data, self._family(data.dim)[1]), data)
        return self

    def _learn_reference(
        self,
        data: Snapshots,
        root: int,
        *,
        progress: bool,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        matched: bool = True,
    ) -> LearnableReference:
        """Learn one reference, and match the noise of a mechanism."""
        family, lift = self._family(data.dim)
        marginals = Marginals.of(data, self.substeps, lift)
        stages, objective, learns_sigma = self._schedule(root).of(family, marginals)
        sigma = None if isinstance(self.sigma, str) else self.sigma
        starts = [
            start_reference(family, data, root, number, sigma=sigma, hidden=lift is not None)
            for number in range(self.restarts)
        ]
        stores = self._stores(checkpoint, data, root)
        reference, rows = likeliest(starts, marginals, stages, stores, resume=resume, progress=progress)
        learned = reference.learned_parameters() if learns_sigma else reference.drift_parameters()
        matched = matched and learns_sigma and lift is None and NoiseMatch.suits(reference)
        match_seed = derive_seed(root, "match") if matched else None
        self.parameters_ = learned_parameters(
            objective,
            reference,
            learned,
            intervals=self.intervals,
            level=self.level,
            seed=derive_seed(root, "intervals"),
            match_seed=match_seed,
        )
        self.seed_ = root
        self.history_ = pd.DataFrame(rows)
        self.reference_ = reference.requires_grad_(False)
        self.choice_ = pd.DataFrame()
        return self.reference_

    def _stores(self, checkpoint: str | Path | None, data: Snapshots, root: int) -> list[Checkpoint | None]:
        """Return the file of every restart."""
        if checkpoint is None:
            return [None] * self.restarts
        places = [Path(checkpoint), *(Path(f"{checkpoint}.{number}") for number in range(1, self.restarts))]
        return [Checkpoint(place, f"{self._identity(data, root)}-{number}") for number, place in enumerate(places)]

    def _solve(
        self, reference: LearnableReference, data: Snapshots, lift: Lift | None = None
    ) -> MultiMarginalBridge | LiftedBridge:
        """Solve the bridge under a learned reference."""
        options: dict[str, Any] = {
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            "substeps": self.substeps,
        }
        if lift is not None:
            return LiftedBridge.solve(lift(reference), data, **options)[0]
        return MultiMarginalBridge.solve(reference, data, **options)[0]

    def _fit_best(self, data: Snapshots, root: int, **options: Any) -> Self:
        """Choose family and noise, and fit the chosen."""
        held_out = self.sigma == "held-out"
        families = [get_family(family) for family in self._families()]
        sigma = None if held_out else self.sigma
        known = [family.name for family in families if "sigma" in family.fixed]
        if held_out and known:
            raise ValueError(
                f"{known[0]} holds its sigma fixed, and sigma='held-out' would choose it; leave 'sigma' out of "
                "fixed, or leave sigma='held-out' out"
            )

        def fitting(family: ReferenceFamily) -> Callable[[Snapshots], LearnableReference]:
            few = min(self.iterations, CANDIDATE_ITERATIONS)
            plain = self.clone().set_params(family=family, sigma=sigma, intervals=None, iterations=few)
            return lambda part: plain.clone()._learn_reference(part, root, progress=False, matched=not held_out)

        choice, index, share = reference_choice(
            [(family.name, fitting(family)) for family in families],
            data,
            NOISE_SHARES if held_out else (1.0,),
            substeps=self.substeps,
            tolerance=self.tolerance,
            seed=root,
            progress=bool(options["progress"]),
        )
        best = self.clone().set_params(family=families[index], sigma=sigma)
        best._learn_reference(data, root, matched=not held_out, **options)
        for name in ("seed_", "history_", "reference_", "parameters_"):
            setattr(self, name, getattr(best, name))
        self.choice_ = choice
        if share < 1:
            self.reference_.log_sigma.add_(math.log(share))
            noise = self.parameters_["parameter"].str.startswith("sigma")
            # What left-out populations prefer has no interval from the likelihood.
            self.parameters_.loc[noise, "value"] *= share
            self.parameters_.loc[noise, ["low", "high"]] = math.nan
        self._adopt(self._solve(self.reference_, data), data)
        return self

    def _families(self) -> tuple[str | ReferenceFamily, ...]:
        given = self.family
        if isinstance(given, PartlyObserved):
            raise ValueError(
                "families and noise are chosen among references without hidden coordinates; with PartlyObserved give "
                "sigma or leave it out"
            )
        return (given,) if isinstance(given, str | ReferenceFamily) else tuple(given)

    def _family(self, features: int) -> tuple[ReferenceFamily, Lift | None]:
        """Return the family, and what of it the data show where some of it is hidden."""
        given = self.family
        if not isinstance(given, PartlyObserved):
            assert isinstance(given, str | ReferenceFamily)
            return get_family(given), None
        family = given.process
        if not isinstance(family, ReferenceFamily):
            raise TypeError(
                "a PartlyObserved that is to be learned holds a family of gendyn.references; got "
                f"{type(family).__name__}"
            )
        return family, partial(given.around, features=features)

    def _schedule(self, root: int) -> Schedule:
        """Return which engines run, and with what."""
        return Schedule(
            method=self.method,
            engine=self._projection(),
            sigma=None if isinstance(self.sigma, str) else self.sigma,
            learn_sigma=self.learn_sigma,
            iterations=self.iterations,
            gradient_steps=self.gradient_steps,
            learning_rate=self.learning_rate,
            ridge=self.ridge,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            seed=derive_seed(root, "schedule"),
        )

    def _projection(self) -> IterativeProjection | None:
        """Return the settings of the published engine where it is asked for."""
        if isinstance(self.engine, IterativeProjection):
            return self.engine
        return IterativeProjection() if self.engine == "ipml" else None

    def _check_hyper_parameters(self) -> None:
        super()._check_hyper_parameters()
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}; got {self.method!r}")
        if not (isinstance(self.engine, IterativeProjection) or self.engine in ("static", "ipml")):
            raise ValueError(
                f"engine must be 'static', 'ipml' or a gendyn.bridges.IterativeProjection; got {self.engine!r}"
            )
        if self.intervals not in ("laplace", "bootstrap", None):
            raise ValueError(f"intervals must be 'laplace', 'bootstrap' or None; got {self.intervals!r}")
        for name in ("iterations", "gradient_steps", "restarts"):
            if int(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {self.learning_rate}")
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0; got {self.ridge}")
        if not isinstance(self.family, _Single) and not self._families():
            raise ValueError("family must name one family or more; got none")
        if isinstance(self.sigma, str):
            if self.sigma != "held-out":
                raise ValueError(f"sigma must be a positive number, 'held-out' or None; got {self.sigma!r}")
        elif self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma must be positive; got {self.sigma}: leave it out to have it learned")
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {self.level}")

    def _plain_params(self) -> dict[str, Any]:
        params = self.get_params()
        if isinstance(self.engine, IterativeProjection):
            params["engine"] = asdict(self.engine)
        if isinstance(self.family, PartlyObserved):
            return params | {"family": self.family.describe()}
        plain = [family if isinstance(family, str) else family.describe() for family in self._families()]
        return params | {"family": plain[0] if isinstance(self.family, str | ReferenceFamily) else plain}

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        family = plain["family"]
        if isinstance(plain.get("engine"), Mapping):
            plain = plain | {"engine": IterativeProjection(**plain["engine"])}
        if isinstance(family, list):
            return plain | {"family": [one if isinstance(one, str) else get_family(one) for one in family]}
        if isinstance(family, Mapping) and "partly_observed" in family:
            parts = dict(family["partly_observed"])
            return plain | {"family": PartlyObserved(get_family(parts.pop("process")), **parts)}
        return plain | {"family": family if isinstance(family, str) else get_family(family)}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self._bridge_tensors()
        tensors |= {f"reference.{name}": value for name, value in self.reference_.state_dict().items()}
        extra = {"names": self.names_, "family": self.reference_.family.describe(), "dim": self.reference_.dim}
        return tensors, extra | {"parameters": _plain(self.parameters_), "choice": _plain(self.choice_)}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        data = self._stored_data(tensors, extra["names"])
        kept = {k.removeprefix("reference."): v for k, v in tensors.items() if k.startswith("reference.")}
        given = self.family
        lift = partial(given.around, features=data.dim) if isinstance(given, PartlyObserved) else None
        reference = get_family(extra["family"]).restore(extra.get("dim", data.dim), kept)
        self.reference_ = reference.requires_grad_(False)
        self._restore_bridge(tensors, data, reference if lift is None else lift(reference))
        table = pd.DataFrame(extra["parameters"])
        self.parameters_ = table.astype(dict.fromkeys(("value", "low", "high", "level"), float))
        choice = pd.DataFrame(extra["choice"])
        self.choice_ = choice.astype({name: float for name in ("sigma", "objective", "score") if name in choice})


def _plain(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table as JSON can hold it."""
    columns = {str(name): column.tolist() for name, column in table.items()}
    return {name: [None if v != v else v for v in column] for name, column in columns.items()}
