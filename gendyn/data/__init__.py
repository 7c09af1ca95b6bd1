"""What goes in and what comes out: populations, trajectories, readers, scaling."""

from gendyn.data.files import atomic_path, read_header, read_tensors, write_tensors
from gendyn.data.paths import Paths
from gendyn.data.scaling import Scaling
from gendyn.data.snapshots import Cohort, Snapshots

__all__ = [
    "Cohort",
    "Paths",
    "Scaling",
    "Snapshots",
    "atomic_path",
    "read_header",
    "read_tensors",
    "write_tensors",
]
