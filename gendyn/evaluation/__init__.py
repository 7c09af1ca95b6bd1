"""The evaluation core: every number with its floor and its interval."""

from gendyn.evaluation.attractor import free_run, state_space_divergence, state_space_divergence_value
from gendyn.evaluation.baselines import Prediction, mean_shift, neighbours, ot_interpolant, training_free_rows, union
from gendyn.evaluation.calibration import coverage, pit, pit_histogram, rank_histogram
from gendyn.evaluation.catalogue import KINDS, METRICS, metrics_for
from gendyn.evaluation.cohorts import PopulationComparison, compare_populations, correlation_agreement
from gendyn.evaluation.density import kde_kl, marginal_kde_kl
from gendyn.evaluation.dictionary import fourier, legendre, monomials, radial
from gendyn.evaluation.discriminative import discriminative_score, strong_discriminative_score
from gendyn.evaluation.ensemble import Ensemble
from gendyn.evaluation.features import (
    autocorrelation_difference,
    correlational_score,
    kurtosis_difference,
    marginal_difference,
    marginal_ks,
    skewness_difference,
)
from gendyn.evaluation.filling import bridge_gaps
from gendyn.evaluation.forecasters import (
    FORECASTERS,
    Climatology,
    LastValue,
    LinearInterpolation,
    RidgeRegression,
    training_free_forecasts,
)
from gendyn.evaluation.frechet import frechet_distance, gaussian_frechet
from gendyn.evaluation.generators import (
    GENERATORS,
    BlockBootstrap,
    GaussianPaths,
    IncrementWalk,
    LocalGaussianMixture,
    training_free_paths,
)
from gendyn.evaluation.holdout import leave_one_out
from gendyn.evaluation.holdout_report import LeaveOneOutReport
from gendyn.evaluation.hurst import HURST_ESTIMATORS, HurstEstimate, hurst_index
from gendyn.evaluation.kernels import energy_distance, energy_value, mmd, mmd_value
from gendyn.evaluation.koopman import KoopmanModes, residual_dmd, successors
from gendyn.evaluation.line_transport import marginal_wasserstein
from gendyn.evaluation.lyapunov import (
    LyapunovSpectrum,
    NeighbourDivergence,
    kaplan_yorke_dimension,
    lyapunov_spectrum,
    rosenstein,
)
from gendyn.evaluation.memorisation import memorisation
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.ordinal import (
    OrdinalStatistics,
    complexity_limits,
    entropy_complexity,
    natural_time,
    ordinal_counts,
    ordinal_patterns,
    ordinal_statistics,
    sampling_lags,
)
from gendyn.evaluation.ordinal_distance import ordinal_distance, ordinal_distance_value
from gendyn.evaluation.permutation import PermutationTest, permutation_test
from gendyn.evaluation.polylines import polyline
from gendyn.evaluation.power_spectrum import power_spectrum, power_spectrum_distance, power_spectrum_distance_value
from gendyn.evaluation.predictive import predictive_score
from gendyn.evaluation.random_convolutions import RandomConvolutions, rc_fid
from gendyn.evaluation.report import Report
from gendyn.evaluation.scores import (
    crps,
    crps_gaussian,
    crps_scores,
    energy_score,
    energy_scores,
    score_difference,
    variogram_score,
    variogram_scores,
)
from gendyn.evaluation.scoring import evaluate
from gendyn.evaluation.selection import InnerHoldOut
from gendyn.evaluation.signature_kernels import kernel_score, signature_gram, signature_kernel, unit_scale
from gendyn.evaluation.signature_mmd import signature_mmd
from gendyn.evaluation.signatures import signature, signature_distance
from gendyn.evaluation.sliced import max_sliced_wasserstein, sliced_wasserstein, sliced_wasserstein_value
from gendyn.evaluation.transport import debiased_wasserstein, wasserstein, wasserstein_value
from gendyn.evaluation.utility import utility

__all__ = [
    "FORECASTERS",
    "GENERATORS",
    "HURST_ESTIMATORS",
    "KINDS",
    "METRICS",
    "BlockBootstrap",
    "Climatology",
    "Ensemble",
    "GaussianPaths",
    "HurstEstimate",
    "IncrementWalk",
    "InnerHoldOut",
    "KoopmanModes",
    "LastValue",
    "LeaveOneOutReport",
    "LinearInterpolation",
    "LocalGaussianMixture",
    "LyapunovSpectrum",
    "MetricResult",
    "NeighbourDivergence",
    "OrdinalStatistics",
    "PermutationTest",
    "PopulationComparison",
    "Prediction",
    "RandomConvolutions",
    "Report",
    "RidgeRegression",
    "autocorrelation_difference",
    "bridge_gaps",
    "compare_populations",
    "complexity_limits",
    "correlation_agreement",
    "correlational_score",
    "coverage",
    "crps",
    "crps_gaussian",
    "crps_scores",
    "debiased_wasserstein",
    "discriminative_score",
    "energy_distance",
    "energy_score",
    "energy_scores",
    "energy_value",
    "entropy_complexity",
    "evaluate",
    "fourier",
    "frechet_distance",
    "free_run",
    "gaussian_frechet",
    "hurst_index",
    "kaplan_yorke_dimension",
    "kde_kl",
    "kernel_score",
    "kurtosis_difference",
    "leave_one_out",
    "legendre",
    "lyapunov_spectrum",
    "marginal_difference",
    "marginal_kde_kl",
    "marginal_ks",
    "marginal_wasserstein",
    "max_sliced_wasserstein",
    "mean_shift",
    "memorisation",
    "metrics_for",
    "mmd",
    "mmd_value",
    "monomials",
    "natural_time",
    "neighbours",
    "ordinal_counts",
    "ordinal_distance",
    "ordinal_distance_value",
    "ordinal_patterns",
    "ordinal_statistics",
    "ot_interpolant",
    "permutation_test",
    "pit",
    "pit_histogram",
    "polyline",
    "power_spectrum",
    "power_spectrum_distance",
    "power_spectrum_distance_value",
    "predictive_score",
    "radial",
    "rank_histogram",
    "rc_fid",
    "residual_dmd",
    "rosenstein",
    "sampling_lags",
    "score_difference",
    "signature",
    "signature_distance",
    "signature_gram",
    "signature_kernel",
    "signature_mmd",
    "skewness_difference",
    "sliced_wasserstein",
    "sliced_wasserstein_value",
    "state_space_divergence",
    "state_space_divergence_value",
    "strong_discriminative_score",
    "successors",
    "training_free_forecasts",
    "training_free_paths",
    "training_free_rows",
    "union",
    "unit_scale",
    "utility",
    "variogram_score",
    "variogram_scores",
    "wasserstein",
    "wasserstein_value",
]
