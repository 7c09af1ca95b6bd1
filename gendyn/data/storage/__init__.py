"""How the containers are stored: whole or not at all, without loss, without pickle."""

from gendyn.data.storage.paths import PathsWriter, load_paths, save_paths
from gendyn.data.storage.snapshots import load_cohort, load_snapshots, save_cohort, save_snapshots

__all__ = [
    "PathsWriter",
    "load_cohort",
    "load_paths",
    "load_snapshots",
    "save_cohort",
    "save_paths",
    "save_snapshots",
]
