"""The metrics by name: which kinds of data each is for, how it is called, and what must be read beside its value."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

from torch import Tensor

from gendyn.evaluation.attractor import state_space_divergence
from gendyn.evaluation.calibration import coverage, rank_histogram
from gendyn.evaluation.density import kde_kl, marginal_kde_kl
from gendyn.evaluation.discriminative import discriminative_score, strong_discriminative_score
from gendyn.evaluation.features import (
    autocorrelation_difference,
    correlational_score,
    kurtosis_difference,
    marginal_difference,
    marginal_ks,
    skewness_difference,
)
from gendyn.evaluation.frechet import frechet_distance
from gendyn.evaluation.kernels import energy_distance, mmd
from gendyn.evaluation.line_transport import marginal_wasserstein
from gendyn.evaluation.memorisation import memorisation
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.ordinal_distance import ordinal_distance
from gendyn.evaluation.power_spectrum import power_spectrum_distance
from gendyn.evaluation.predictive import predictive_score
from gendyn.evaluation.random_convolutions import rc_fid
from gendyn.evaluation.scores import crps, energy_score, variogram_score
from gendyn.evaluation.signature_mmd import signature_mmd
from gendyn.evaluation.signatures import signature_distance
from gendyn.evaluation.sliced import max_sliced_wasserstein, sliced_wasserstein
from gendyn.evaluation.transport import debiased_wasserstein, wasserstein
from gendyn.evaluation.utility import utility

__all__ = ["KINDS", "METRICS", "Kind", "Metric", "Settings", "chosen", "metrics_for"]

Kind = Literal["populations", "paths", "forecasts", "trajectories"]

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "populations": "points against points, at each time that both have",
        "paths": "a set of paths against a set of paths",
        "forecasts": "outcomes against an ensemble for each",
        "trajectories": "long runs against long runs, whatever their lengths",
    }
)
"""The kinds of data that can be compared, and what each is."""

MANY_FEATURES = 5
"""Above this many features a distance between samples is mostly its own bias."""


@dataclass(frozen=True)
class Settings:
    """What a metric is called with beside the two samples.

    Attributes
    ----------
    seed
        Root of its randomness.
    weights_real, weights_generated
        Of populations.
    train
        What the generator was fitted on, where ``real`` is held out from it.
    reference
        A second real run, against which floors of trajectories are computed.
    on_nan
        What is done with generated paths that are not finite.
    options
        Further arguments of the metric.
    """

    seed: int
    weights_real: Tensor | None = None
    weights_generated: Tensor | None = None
    train: Any = None
    reference: Any = None
    on_nan: Literal["raise", "count"] = "raise"
    options: Mapping[str, Any] = field(default_factory=dict)


class Call(Protocol):
    """How a metric is called."""

    def __call__(self, real: Any, generated: Any, settings: Settings, /) -> MetricResult:
        """Return the result of the metric."""
        ...


def _nothing(result: MetricResult) -> str:
    return ""


def _always(dim: int) -> bool:
    return True


def _never(dim: int) -> bool:
    return False


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue.

    Attributes
    ----------
    kinds
        Kinds of data that it is for.
    about
        What it measures, in a few words.
    call
        ``(real, generated, settings) -> MetricResult``.
    default
        Whether it is computed where no metric is named, by the number of features.
    exact
        Whether it solves exact transport, for which large samples are drawn from.
    note
        What must be read beside the value, from the result; or nothing.
    """

    kinds: tuple[Kind, ...]
    about: str
    call: Call
    default: Callable[[int], bool] = _always
    exact: bool = False
    note: Callable[[MetricResult], str] = _nothing


def _weighted(metric: Callable[..., MetricResult], **usual: Any) -> Call:
    """Return the call of a metric between weighted populations."""

    def call(real: Any, generated: Any, s: Settings, /) -> MetricResult:
        weights = {"weights_real": s.weights_real, "weights_generated": s.weights_generated}
        return metric(real, generated, **({"seed": s.seed} | weights | usual | dict(s.options)))

    return call


def _sets(metric: Callable[..., MetricResult]) -> Call:
    """Return the call of a metric between sets of paths."""
    return lambda real, generated, s, /: metric(
        real, generated, **({"seed": s.seed, "on_nan": s.on_nan} | dict(s.options))
    )


def _runs(metric: Callable[..., MetricResult]) -> Call:
    """Return the call of a metric between long runs, whose floor may be that against a second real run."""
    return lambda real, generated, s, /: metric(
        real, generated, **({"seed": s.seed, "on_nan": s.on_nan, "reference": s.reference} | dict(s.options))
    )


def _fitted(metric: Callable[..., MetricResult]) -> Call:
    """Return the call of a metric that may know what the generator was fitted on."""
    return lambda real, generated, s, /: metric(
        real, generated, **({"seed": s.seed, "on_nan": s.on_nan, "train": s.train} | dict(s.options))
    )


def _scored(metric: Callable[..., MetricResult]) -> Call:
    """Return the call of a score of forecasts, which has no randomness."""
    return lambda real, generated, s, /: replace(
        metric(real, generated, **({"on_nan": s.on_nan} | dict(s.options))), seed=s.seed
    )


def _utility(real: Any, generated: Any, s: Settings, /) -> MetricResult:
    return utility(real, generated, **({"train": s.train, "seed": s.seed} | dict(s.options)))


def _copies(result: MetricResult) -> str:
    flags = [word for word in ("copies", "collapsed") if result.extra[word]]
    said = f"{' and '.join(flags)}; " if flags else ""
    against = "held-out paths" if result.extra["reference"] == "held-out" else "training paths among themselves"
    return f"{said}diversity {result.extra['diversity']:.2f}; against {against}"


def _judge(result: MetricResult) -> str:
    return f"best judge: {result.extra['judge']}; share told apart beyond one half"


def _trials(result: MetricResult) -> str:
    return f"with strong judges {result.extra['maximum']:.3g}" if "maximum" in result.extra else ""


def _windows(result: MetricResult) -> str:
    needed = 10 * math.factorial(result.extra["order"])
    few = "too few windows; " if result.extra["windows"] < needed else ""
    entropy, complexity = (result.extra[f"{name}_difference"] for name in ("entropy", "complexity"))
    return f"{few}entropy {entropy:+.3g}, complexity {complexity:+.3g}"


def _lengths(result: MetricResult) -> str:
    if "floor_times" not in result.extra:
        return ""
    return f"floor between {result.extra['floor_times']} times, value between {min(result.extra['times'])}"


def _marginals(result: MetricResult) -> str:
    return f"{result.extra['rejected']:.0%} of {result.extra['marginals']} marginals told apart at 5 %"


def _climate(result: MetricResult) -> str:
    if "skill" not in result.extra:
        return ""
    return f"skill {result.extra['skill']:.3g} over climatology, {result.extra['climatology']:.4g}"


def _expected(result: MetricResult) -> str:
    return f"a calibrated forecast would have {result.extra['expected']:.4g}"


def _promised(result: MetricResult) -> str:
    return f"promised {result.extra['level']:.0%}"


def _flatness(result: MetricResult) -> str:
    return "" if result.p_value is None else "p of a flat histogram"


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "W1": Metric(
            ("populations",), "mean distance that mass must be moved, exact", _weighted(wasserstein, p=1), exact=True
        ),
        "W2": Metric(
            ("populations",),
            "root mean square distance that mass must be moved, exact",
            _weighted(wasserstein, p=2),
            exact=True,
        ),
        "debiased W2": Metric(
            ("populations",),
            "squared W2 less the mean of those within the samples; about 0 for equal laws, where W2 is mostly bias",
            _weighted(debiased_wasserstein),
            default=lambda d: d > MANY_FEATURES,
            exact=True,
        ),
        "sliced W2": Metric(
            ("populations",), "W2 along random directions; cheap at any size", _weighted(sliced_wasserstein)
        ),
        "max-sliced W2": Metric(
            ("populations",),
            "W2 along the direction that tells them apart most",
            _weighted(max_sliced_wasserstein),
            default=_never,
        ),
        "energy distance": Metric(
            ("populations",), "mean distances across less those within; unbiased", _weighted(energy_distance)
        ),
        "MMD^2": Metric(
            ("populations",), "Gaussian kernels at three bandwidths of the real sample; unbiased", _weighted(mmd)
        ),
        "Frechet distance": Metric(
            ("populations",),
            "means and covariances alone, extrapolated to infinite samples",
            _weighted(frechet_distance),
            default=_never,
        ),
        "KDE-KL": Metric(
            ("populations",),
            "divergence of smoothed marginal densities, mean over features",
            _weighted(kde_kl),
            default=_never,
        ),
        "marginal W1": Metric(
            ("paths",),
            "W1 at each time and channel in standard deviations of the real paths, averaged",
            _sets(marginal_wasserstein),
        ),
        "marginal difference": Metric(
            ("paths",),
            "histograms at each time and channel, averaged (MDD of published tables)",
            _sets(marginal_difference),
        ),
        "marginal KS": Metric(
            ("paths",),
            "largest gap of distribution functions at each time and channel, with Holm's p",
            _sets(marginal_ks),
            note=_marginals,
        ),
        "marginal KDE-KL": Metric(
            ("paths",),
            "divergence of smoothed densities at each time and channel, averaged",
            _sets(marginal_kde_kl),
            default=_never,
        ),
        "correlational score": Metric(
            ("paths",), "correlations between channels (that of published tables)", _sets(correlational_score)
        ),
        "autocorrelation difference": Metric(
            ("paths",),
            "autocorrelations of each channel; blind to what is not Gaussian",
            _sets(autocorrelation_difference),
        ),
        "skewness difference": Metric(
            ("paths",), "skewness of each channel, pooled over times", _sets(skewness_difference)
        ),
        "kurtosis difference": Metric(
            ("paths",), "excess kurtosis of each channel, pooled over times", _sets(kurtosis_difference)
        ),
        "signature distance": Metric(
            ("paths",), "expected signatures to depth 4 (Sig-W1 of published tables)", _sets(signature_distance)
        ),
        "signature MMD^2": Metric(
            ("paths",), "signature kernel, all depths, with a permutation test", _sets(signature_mmd)
        ),
        "rc-FID": Metric(
            ("paths",),
            "Frechet distance of random-convolution features, extrapolated to infinite samples",
            _sets(rc_fid),
        ),
        "state-space divergence": Metric(
            ("trajectories",),
            "where the long run spends its time (D_stsp)",
            _runs(state_space_divergence),
            note=_lengths,
        ),
        "power-spectrum distance": Metric(
            ("trajectories",), "at which frequencies it moves (D_H)", _runs(power_spectrum_distance)
        ),
        "ordinal distance": Metric(
            ("paths", "trajectories"),
            "in which orders successive values come; entropy and complexity beside it",
            _runs(ordinal_distance),
            note=_windows,
        ),
        "CRPS": Metric(
            ("forecasts",),
            "mean error of each value's ensemble, fair for any number of members",
            _scored(crps),
            note=_climate,
        ),
        "energy score": Metric(
            ("forecasts",), "mean error of the whole path's ensemble", _scored(energy_score), note=_expected
        ),
        "rank histogram": Metric(
            ("forecasts",),
            "how far the ranks of outcomes among members are from even",
            _sets(rank_histogram),
            note=_flatness,
        ),
        "coverage": Metric(
            ("forecasts",), "share of outcomes inside the central 90 % of members", _scored(coverage), note=_promised
        ),
        "variogram score": Metric(
            ("forecasts",),
            "error of the dependence between times and channels",
            _scored(variogram_score),
            default=_never,
        ),
        "copy ratio": Metric(
            ("paths",),
            "distance of generated to training paths over that of held-out ones; small where a generator copies",
            _fitted(memorisation),
            note=_copies,
        ),
        "strong discriminative score": Metric(
            ("paths",),
            "how much better than chance boosting or a recurrent network tells them apart",
            _fitted(strong_discriminative_score),
            note=_judge,
        ),
        "discriminative score": Metric(
            ("paths",),
            "the same of the small network of published tables, ten of them",
            _fitted(discriminative_score),
            default=_never,
            note=_trials,
        ),
        "predictive score": Metric(
            ("paths",),
            "error on real paths of a predictor trained on generated ones, beside one trained on real ones",
            _fitted(predictive_score),
            default=_never,
        ),
        "utility": Metric(
            ("paths",),
            "accuracy on real paths of a classifier trained on generated ones; needs labels",
            _utility,
            default=_never,
        ),
    }
)
"""Metrics by name, within each kind the cheap ones first; a new metric joins by a line here."""


def metrics_for(kind: Kind, dim: int | None = None) -> list[str]:
    """Return the names of the metrics for one kind of data; with a number of features, only the default ones.

    Examples
    --------
    >>> metrics_for("trajectories", dim=3)
    ['state-space divergence', 'power-spectrum distance', 'ordinal distance']
    """
    return [n for n, m in METRICS.items() if kind in m.kinds and (dim is None or m.default(dim))]


def chosen(metrics: str | Sequence[str], kind: Kind, dim: int) -> list[str]:
    """Return the names of the metrics that are asked for; case, hyphens and underscores do not count.

    Raises
    ------
    ValueError
        If one is unknown or not for this kind of data, or none is named.

    Examples
    --------
    >>> chosen("state_space_divergence", "trajectories", 3)
    ['state-space divergence']
    """
    if isinstance(metrics, str):
        if metrics == "default":
            return metrics_for(kind, dim)
        metrics = [metrics]
    if not metrics:
        raise ValueError("metrics must name at least one metric; got none")
    known = {_key(name): name for name in METRICS}
    suited = metrics_for(kind)
    names = []
    for asked in metrics:
        name = known.get(_key(asked))
        if name is None:
            near = difflib.get_close_matches(_key(asked), known, n=1, cutoff=0.5)
            hint = f"; did you mean {known[near[0]]!r}" if near else ""
            raise ValueError(f"there is no metric {asked!r}{hint}; for {kind} there are {', '.join(suited)}")
        if name not in suited:
            raise ValueError(
                f"{name!r} is a metric for {' and '.join(METRICS[name].kinds)}, and these are {kind}; for them there "
                f"are {', '.join(suited)}: name one of these, or give kind="
            )
        if name not in names:
            names.append(name)
    return names


def _key(name: str) -> str:
    return re.sub(r"[\s_\-^]+", "", str(name).lower())
