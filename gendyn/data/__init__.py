"""What goes in and what comes out: populations, trajectories, readers, scaling."""

from gendyn.data.cohort import Cohort
from gendyn.data.control_path import LOOK_AHEAD, ControlMethod, ControlPath
from gendyn.data.files import atomic_path, read_header, read_tensors, write_tensors
from gendyn.data.irregularity import (
    drop_blocks,
    drop_high_values,
    drop_published_rows,
    drop_rows,
    drop_values,
    jitter_times,
    keep_sporadic,
)
from gendyn.data.observation_channels import observation_counts, time_since_observation
from gendyn.data.paths import Paths
from gendyn.data.readers import read_paths, read_snapshots
from gendyn.data.scaling import Scaling
from gendyn.data.snapshots import Snapshots
from gendyn.data.time_labels import parse_times
from gendyn.data.windows import blocked_split, table_windows, windows

__all__ = [
    "LOOK_AHEAD",
    "Cohort",
    "ControlMethod",
    "ControlPath",
    "Paths",
    "Scaling",
    "Snapshots",
    "atomic_path",
    "blocked_split",
    "drop_blocks",
    "drop_high_values",
    "drop_published_rows",
    "drop_rows",
    "drop_values",
    "jitter_times",
    "keep_sporadic",
    "observation_counts",
    "parse_times",
    "read_header",
    "read_paths",
    "read_snapshots",
    "read_tensors",
    "table_windows",
    "time_since_observation",
    "windows",
    "write_tensors",
]
