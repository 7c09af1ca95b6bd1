"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gendyn.data import Paths, Snapshots

__all__ = [
    "Columns",
    "Debug",
    "Dims",
    "Json",
    "Labels",
    "Reading",
    "Rep",
    "Seed",
    "TimeKey",
    "WeightKey",
    "check_device",
    "check_output",
    "parse_numbers",
    "parse_settings",
    "parse_times",
    "parse_words",
]

_READING = "How to read the data"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="On an error, also show where in the code it arose.")]
Seed = Annotated[int, typer.Option(help="Root of all randomness: the same seed gives the same result.")]
TimeKey = Annotated[
    str | None,
    typer.Option(
        help="Column that says when a cell was measured, e.g. day. Left out, it is guessed from its name.",
        rich_help_panel=_READING,
    ),
]
Rep = Annotated[
    str,
    typer.Option(
        help="For .h5ad: which representation of the cells to use: a key of obsm, or X for the expression.",
        rich_help_panel=_READING,
    ),
]
Dims = Annotated[
    int | None,
    typer.Option(help="Use only the first so many dimensions, e.g. 5 principal components.", rich_help_panel=_READING),
]
WeightKey = Annotated[
    str | None, typer.Option(help="Column with the weight (mass) of each cell.", rich_help_panel=_READING)
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="For tables: the columns with measured values, separated by commas. Left out: all numeric ones.",
        rich_help_panel=_READING,
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="What number a time label stands for, e.g. --label control=0; repeat for each label.",
        rich_help_panel=_READING,
    ),
]


@dataclass(frozen=True)
class Reading:
    """How a user's data are to be read."""

    time_key: str | None = None
    rep: str = "X_pca"
    dims: int | None = None
    weight_key: str | None = None
    columns: str | None = None
    labels: Sequence[str] = ()

    def snapshots(self, source: str) -> Snapshots:
        """Return the populations in a file, or in a data set given by its name.

        Raises
        ------
        FileNotFoundError
            If there is neither a file nor a data set of that name.
        """
        from gendyn import datasets
        from gendyn.data import Snapshots, read_snapshots

        if self.dims is not None and self.dims < 1:
            raise ValueError(f"--dims must be at least 1; got {self.dims}")
        if not Path(source).exists() and source in set(datasets.available()["name"]):
            found = datasets.load(source)
            if not isinstance(found, Snapshots):
                raise ValueError(f"data set {source!r} holds {type(found).__name__}; this command needs populations")
            return found if self.dims is None else _first_dims(found, self.dims)
        if not Path(source).exists():
            raise FileNotFoundError(
                f"there is no file {source!r}, nor a data set of that name; "
                "`gendyn info` lists the data sets, `gendyn simulate` makes data to try"
            )
        times = {key: _number(value, "--label") for key, value in _pairs(self.labels, "--label").items()}
        return read_snapshots(
            source,
            time_key=self.time_key,
            rep=self.rep,
            weight_key=self.weight_key,
            values=None if self.columns is None else parse_words(self.columns, "--columns"),
            times=times or None,
            n_dims=self.dims,
        )

    def populations(self, source: str) -> Snapshots:
        """Return the populations in a file of snapshots, or those that the paths of a file form at their times."""
        from gendyn.data import Snapshots

        found = self.read(source)
        return found if isinstance(found, Snapshots) else found.snapshots()

    def read(self, source: str) -> Snapshots | Paths:
        """Return what a file of gendyn's or a data set holds, snapshots or paths; other files are read as snapshots."""
        from gendyn import datasets
        from gendyn.data import Paths
        from gendyn.data.storage.formats import kind_of

        if Path(source).exists():
            return Paths.load(source) if kind_of(Path(source)) == "paths" else self.snapshots(source)
        if source in set(datasets.available()["name"]):
            found = datasets.load(source)
            if isinstance(found, Paths):
                return found
        return self.snapshots(source)


def parse_times(text: str, option: str = "--times") -> list[float]:
    """Read ``0,1,2.5`` or ``start:stop:step`` (stop included where a step lands on it).

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> parse_times("0,1,2.5"), parse_times("0:1:0.25")
    ([0.0, 1.0, 2.5], [0.0, 0.25, 0.5, 0.75, 1.0])
    """
    if ":" not in text:
        return parse_numbers(text, option)
    parts = text.split(":")
    try:
        # Decimal, so that 0:1:0.1 ends at 1 and every time is the number that a person would write.
        start, stop, step = (Decimal(part.strip()) for part in parts)
    except (InvalidOperation, ValueError):
        raise ValueError(f"{option} must look like 0,1,2.5 or start:stop:step; got {text!r}") from None
    if not all(part.is_finite() for part in (start, stop, step)) or step == 0 or (stop - start) / step < 0:
        raise ValueError(f"{option} {text!r} never arrives: step must lead from start to stop")
    count = int((stop - start) / step)
    if count > 1_000_000:
        raise ValueError(f"{option} {text!r} has {count + 1} times; give at most a million")
    return [float(start + k * step) for k in range(count + 1)]


def parse_numbers(text: str, option: str) -> list[float]:
    """Read numbers separated by commas.

    Examples
    --------
    >>> parse_numbers("1, 2e3", "--times")
    [1.0, 2000.0]
    """
    return [_number(word, option) for word in parse_words(text, option)]


def parse_words(text: str, option: str) -> list[str]:
    """Read words separated by commas.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> parse_words("a, b", "--columns")
    ['a', 'b']
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{option} must be a list separated by commas without gaps; got {text!r}")
    return words


def parse_settings(pairs: Sequence[str] | None, option: str = "--set") -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is a number, true, false, null, a list, or else a word.

    Examples
    --------
    >>> parse_settings(["steps=500", "coupling=ot", "hidden=[64, 64]"])
    {'steps': 500, 'coupling': 'ot', 'hidden': [64, 64]}
    """
    return {key.replace("-", "_"): _value(text) for key, text in _pairs(pairs or (), option).items()}


def check_output(path: str | Path, suffixes: Sequence[str], inputs: Sequence[str | Path] = ()) -> Path:
    """Return a path to write to, or say at once, before any work, why it cannot be written.

    Parameters
    ----------
    path
        Where the user wants the result.
    suffixes
        Endings that the result can have.
    inputs
        Files that are read in the same command and must not be lost.

    Raises
    ------
    ValueError
        If the ending is wrong, the folder is missing, or an input would be overwritten.
    """
    target = Path(path)
    if not any(target.name.lower().endswith(suffix) and target.name != suffix for suffix in suffixes):
        raise ValueError(f"cannot write {str(path)!r}: give a name that ends in {' or '.join(suffixes)}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(target.parent)!r}; make it first")
    if target.is_dir() and target.suffix != ".zarr":
        raise ValueError(f"cannot write {str(path)!r}: it is a folder")
    for source in inputs:
        if Path(source).exists() and target.exists() and target.resolve() == Path(source).resolve():
            raise ValueError(f"{str(path)!r} is also the input; give the result another name")
    return target


def check_device(name: str | None) -> str | None:
    """Return the name of a device that is there.

    Raises
    ------
    ValueError
        If it is not.
    """
    if name is None or name == "cpu":
        return name
    import torch

    there = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    there += ["cuda"] if len(there) > 1 else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there:
        raise ValueError(f"there is no device {name!r} here; there are {', '.join(there)}")
    return name


def _pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise ValueError(f"{option} must look like name=value; got {pair!r}")
        if key.strip() in result:
            raise ValueError(f"{option} gives {key.strip()} twice")
        result[key.strip()] = value.strip()
    return result


def _value(text: str) -> Any:
    if text in ("None", "none"):
        return None
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None


def _first_dims(snapshots: Snapshots, dims: int) -> Snapshots:
    from gendyn.data import Snapshots

    if dims > snapshots.dim:
        raise ValueError(f"--dims {dims} is more than the data have: {snapshots.dim}")
    names = None if snapshots.names is None else snapshots.names[:dims]
    samples = [x[:, :dims] for x in snapshots.samples]
    return Snapshots(snapshots.times, samples, weights=snapshots.weights, obs=snapshots.obs, names=names)
