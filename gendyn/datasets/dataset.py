"""What a data set is: files that somebody published, what they hold, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendyn.data import Paths, Snapshots

__all__ = ["ROOT", "Dataset", "Files", "Kind", "Publication"]

ROOT = "GENDYN_DATA"
"""Name of the environment variable with the folder of the data."""

Files = dict[str, Path]
"""The files of a set by name."""

Kind = Literal["snapshots", "paths"]


@dataclass(frozen=True)
class Publication:
    """Files that somebody published.

    Attributes
    ----------
    folder
        Folder in ``$GENDYN_DATA`` that the files belong to.
    files
        Their names.
    description
        What they hold, in a phrase up to the first semicolon; then what one must know to use it.
    source
        Who published them.
    licence
        Under what terms, where they are known.
    """

    folder: str
    files: tuple[str, ...]
    description: str
    source: str
    licence: str

    @property
    def phrase(self) -> str:
        """What it is, in a few words."""
        return self.description.partition(";")[0]

    def locate(self, file: str) -> Path | None:
        """Return where a file is, or ``None``: in the folder of ``$GENDYN_DATA``, or in ``$GENDYN_DATA`` itself."""
        root = os.environ.get(ROOT)
        places = [] if not root else [Path(root) / self.folder / file, Path(root) / file]
        return next((place for place in places if place.is_file()), None)

    def locate_all(self, name: str, wanted: Sequence[str] | None = None) -> Files:
        """Return where its files are, all or those wanted.

        Raises
        ------
        FileNotFoundError
            If one is absent; the message says what the set is, who publishes it and where to put it.
        """
        found = {file: self.locate(file) for file in wanted or self.files}
        missing = [file for file, path in found.items() if path is None]
        if missing:
            raise FileNotFoundError(self._absent(name, missing))
        return {file: path for file, path in found.items() if path is not None}

    def _absent(self, name: str, missing: list[str]) -> str:
        root = os.environ.get(ROOT)
        if root:
            where = f"the folder {Path(root) / self.folder}"
        else:
            where = f"a folder, and set the environment variable {ROOT} to it"
        return (
            f"the data set {name!r} ({self.phrase}) is not here: get {' and '.join(missing)} from its publisher "
            f"({self.source}), and put it into {where}"
        )


@dataclass(frozen=True)
class Dataset(Publication):
    """A public set of populations or paths.

    Attributes
    ----------
    read
        Files and a split, ``"all"`` or one of ``splits``, to the data.
    time
        What a unit of the published times is.
    units
        What a unit of the values is.
    splits
        Parts that its publishers divided it into.
    kind
        What it holds.
    real
        Times of the snapshots in days or hours, where the published ones only number them.
    few, width
        Where the first file is enough for up to ``few`` of ``width`` features.
    """

    read: Callable[[Files, str], Snapshots | Paths]
    time: str
    units: str = "pure numbers"
    splits: tuple[str, ...] = ()
    kind: Kind = "paths"
    real: tuple[float, ...] | None = None
    few: int | None = None
    width: int | None = None

    def needed(self, dims: int | None) -> tuple[str, ...]:
        """Return the files that so many features are read from."""
        if self.few is not None and (dims is None or dims <= self.few):
            return self.files[:1]
        return self.files
