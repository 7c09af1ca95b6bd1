"""Pictures: one function, one picture; axes in, axes out. Nothing is shown, nothing of pyplot is touched."""

from gendyn.plotting.dynamics import complexity_plane, koopman_spectrum, power_spectra
from gendyn.plotting.forecasts import coverage, forecast_fans, rank_histogram
from gendyn.plotting.motion import fan, trajectories, velocity
from gendyn.plotting.page import Page, combine
from gendyn.plotting.path_sets import autocorrelations, fans, orbits, sample_paths
from gendyn.plotting.populations import hold_out, marginals, populations, snapshots
from gendyn.plotting.style import figure_of, style
from gendyn.plotting.tables import distances, history, leave_one_out, methods

__all__ = [
    "Page",
    "autocorrelations",
    "combine",
    "complexity_plane",
    "coverage",
    "distances",
    "fan",
    "fans",
    "figure_of",
    "forecast_fans",
    "history",
    "hold_out",
    "koopman_spectrum",
    "leave_one_out",
    "marginals",
    "methods",
    "orbits",
    "populations",
    "power_spectra",
    "rank_histogram",
    "sample_paths",
    "snapshots",
    "style",
    "trajectories",
    "velocity",
]
