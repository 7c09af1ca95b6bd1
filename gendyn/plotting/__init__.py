"""Pictures: one function, one picture; axes in, axes out. Nothing is shown, nothing of pyplot is touched."""

from gendyn.plotting.motion import fan, trajectories, velocity
from gendyn.plotting.page import Page, combine
from gendyn.plotting.populations import hold_out, marginals, populations, snapshots
from gendyn.plotting.style import figure_of, style
from gendyn.plotting.tables import distances, history, leave_one_out

__all__ = [
    "Page",
    "combine",
    "distances",
    "fan",
    "figure_of",
    "history",
    "hold_out",
    "leave_one_out",
    "marginals",
    "populations",
    "snapshots",
    "style",
    "trajectories",
    "velocity",
]
