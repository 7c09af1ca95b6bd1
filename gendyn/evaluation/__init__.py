"""The evaluation core: every number with its floor and its interval."""

from gendyn.evaluation.attractor import free_run, state_space_divergence, state_space_divergence_value
from gendyn.evaluation.baselines import Prediction, mean_shift, neighbours, ot_interpolant, training_free_rows, union
from gendyn.evaluation.calibration import coverage, pit, pit_histogram, rank_histogram
from gendyn.evaluation.cohorts import PopulationComparison, compare_populations, correlation_agreement
from gendyn.evaluation.density import kde_kl, marginal_kde_kl
from gendyn.evaluation.dictionary import fourier, legendre, monomials, radial
from gendyn.evaluation.frechet import frechet_distance, gaussian_frechet
from gendyn.evaluation.holdout import leave_one_out
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
from gendyn.evaluation.random_convolutions import RandomConvolutions, rc_fid
from gendyn.evaluation.report import METRICS, LeaveOneOutReport, Report, evaluate
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
from gendyn.evaluation.selection import InnerHoldOut
from gendyn.evaluation.signature_kernels import kernel_score, signature_gram, signature_kernel, unit_scale
from gendyn.evaluation.signature_mmd import signature_mmd
from gendyn.evaluation.signatures import signature, signature_distance
from gendyn.evaluation.sliced import max_sliced_wasserstein, sliced_wasserstein, sliced_wasserstein_value
from gendyn.evaluation.transport import debiased_wasserstein, wasserstein, wasserstein_value

__all__ = [
    "METRICS",
    "InnerHoldOut",
    "KoopmanModes",
    "LeaveOneOutReport",
    "LyapunovSpectrum",
    "MetricResult",
    "NeighbourDivergence",
    "OrdinalStatistics",
    "PermutationTest",
    "PopulationComparison",
    "Prediction",
    "RandomConvolutions",
    "Report",
    "compare_populations",
    "complexity_limits",
    "correlation_agreement",
    "coverage",
    "crps",
    "crps_gaussian",
    "crps_scores",
    "debiased_wasserstein",
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
    "kaplan_yorke_dimension",
    "kde_kl",
    "kernel_score",
    "leave_one_out",
    "legendre",
    "lyapunov_spectrum",
    "marginal_kde_kl",
    "marginal_wasserstein",
    "max_sliced_wasserstein",
    "mean_shift",
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
    "sliced_wasserstein",
    "sliced_wasserstein_value",
    "state_space_divergence",
    "state_space_divergence_value",
    "successors",
    "training_free_rows",
    "union",
    "unit_scale",
    "variogram_score",
    "variogram_scores",
    "wasserstein",
    "wasserstein_value",
]
