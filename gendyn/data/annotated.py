r"""AnnData, in memory or in an ``.h5ad`` file: a representation of cells and the column of ``obs`` with their times.

A file is not opened whole. Of a million cells only the representation (in single precision) and the columns that
were asked for are read; the expression matrix stays on the disk.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data.checks import warn_user
from gendyn.data.columns import find_column, numbers_of, time_column
from gendyn.data.rows import Rows, check_dims, few
from gendyn.data.storage.formats import check_exists, damaged, optional

__all__ = ["Selection", "rows_of_anndata", "rows_of_h5ad", "written_by_gendyn"]

_DENSE_ENTRIES = 1 << 26
"""The largest sparse representation that is made dense: 268 MB in single precision."""

_BROKEN = (OSError, KeyError, RuntimeError, EOFError)
"""What HDF5 raises on a damaged file."""

_DRAWINGS = ("umap", "tsne", "t-sne", "draw_graph")


@dataclass(frozen=True)
class Selection:
    """What to read of an AnnData object."""

    time_key: str | None = None
    rep: str = "X_pca"
    layer: str | None = None
    weight_key: str | None = None
    obs_keys: Sequence[str] = ()
    n_dims: int | None = None
    dtype: type[np.floating[Any]] = np.float32

    @property
    def matrix(self) -> str:
        """The name of what is read: a key of ``obsm``, ``"X"``, or a layer."""
        return f"layer {self.layer}" if self.layer is not None else self.rep


def rows_of_anndata(adata: Any, choice: Selection) -> Rows:
    """Return the rows of an AnnData object in memory (or a view of one).

    Raises
    ------
    ValueError
        If the representation or a column is not there, or the representation is too large a sparse matrix.
    """
    if choice.layer is not None:
        matrix, names = adata.layers[_known(choice.layer, list(adata.layers), "layers")], adata.var_names
    elif choice.rep == "X":
        if adata.X is None:
            raise ValueError("this AnnData object has no X; name a representation with rep=")
        matrix, names = adata.X, adata.var_names
    else:
        matrix, names = adata.obsm[_rep(choice.rep, list(adata.obsm))], None
    if hasattr(matrix, "to_memory"):
        matrix = matrix.to_memory()
    values, names, owned = _dense(matrix, names, choice)
    return _rows(values, names, owned, list(adata.obs.columns), adata.obs.__getitem__, adata.obs_names, choice)


def rows_of_h5ad(path: Path, choice: Selection) -> Rows:
    """Return the rows of an ``.h5ad`` file, reading the representation and the columns needed and nothing else.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If anndata is not installed.
    ValueError
        If the file is damaged or holds no AnnData object; and as for :func:`rows_of_anndata`.
    """
    check_exists(path)
    optional("anndata", "bio")
    h5py = optional("h5py", "bio")
    with damaged(path, _BROKEN), h5py.File(path, "r") as file:
        if "obs" not in file:
            raise ValueError(
                f"{path} is an HDF5 file but holds no AnnData object: it has no obs; write one with write_h5ad"
            )
        if not isinstance(file["obs"], h5py.Group):
            raise ValueError(f"{path} was written by anndata before 0.7; read it with anndata and write it again")
        node, names = _node(file, choice)
        values, names, owned = _dense(_read_matrix(node, choice, h5py), names, choice)
        obs = file["obs"]
        columns = [str(name) for name in obs.attrs.get("column-order", [])]
        index = pd.Index(_read(obs[obs.attrs.get("_index", "_index")]), dtype=object) if choice.obs_keys else None
        return _rows(values, names, owned, columns, _column_reader(file, obs), index, choice)


def written_by_gendyn(path: Path) -> bool:
    """Return whether an ``.h5ad`` file is one that ``Snapshots.save`` wrote.

    Raises
    ------
    ValueError
        If the file is not HDF5.
    """
    h5py = optional("h5py", "bio")
    with damaged(path), h5py.File(path, "r") as file:
        header = file.get("uns/gendyn")
        if not isinstance(header, h5py.Dataset) or header.shape != () or header.dtype.kind != "O":
            return False
        return bytes(header[()]).startswith(b'{"kind": "snapshots"')


def _rows(
    values: NDArray[Any],
    names: Sequence[str] | None,
    owned: bool,
    columns: Sequence[str],
    column: Callable[[Any], Any],
    index: pd.Index[Any] | None,
    choice: Selection,
) -> Rows:
    def look(name: Any) -> pd.Series[Any]:
        return pd.Series(column(name)).reset_index(drop=True)

    key = time_column(columns, choice.time_key, look)
    weights, obs = None, None
    if choice.weight_key is not None:
        name = find_column(columns, choice.weight_key, "weight_key")
        weights = numbers_of(look(name).to_frame(name), [name], np.float64)[:, 0]
    if choice.obs_keys:
        keys = [find_column(columns, name, "obs_keys") for name in choice.obs_keys]
        obs = pd.DataFrame({name: look(name) for name in keys})
        obs.index = pd.Index(index, dtype=object, name=None)
    return Rows(values, look(key), weights, obs, names, owned)


def _dense(matrix: Any, names: Any, choice: Selection) -> tuple[NDArray[Any], list[str] | None, bool]:
    """Return a representation as a plain matrix, with the names of its features and whether it is a copy."""
    if any(word in choice.matrix.lower() for word in _DRAWINGS):
        warn_user(
            f"{choice.matrix} is a drawing of the data: distances in it are not metric, so that transport and "
            "speeds mean little; fit in X_pca and draw in it"
        )
    owned = False
    if isinstance(matrix, pd.DataFrame):
        names = matrix.columns
        matrix, owned = numbers_of(matrix, list(matrix.columns), choice.dtype), True
    width = check_dims(choice.n_dims, matrix.shape[1] if len(matrix.shape) == 2 else 1)
    if hasattr(matrix, "toarray"):
        _check_sparse(matrix.shape[0], width, choice.matrix)
        matrix, owned = matrix[:, :width].toarray(), True
    values = np.asarray(matrix)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(
            f"{choice.matrix} must be a matrix of numbers (cells, features); got {values.dtype} {values.shape}"
        )
    values = values[:, :width]
    if choice.layer is not None or choice.rep == "X":
        _warn_of_counts(values, choice.matrix)
    if names is not None:
        named = [str(name) for name in names][:width]
        return values, named if len(set(named)) == width else None, owned
    stem = "PC" if choice.rep == "X_pca" else choice.rep.removeprefix("X_")
    return values, [f"{stem}{i + 1}" for i in range(width)], owned


def _warn_of_counts(values: NDArray[Any], name: str) -> None:
    head = values[:1000]
    if head.size and bool((head >= 0).all()) and float(head.max()) > 1 and bool((head == np.round(head)).all()):
        warn_user(
            f"{name} holds whole numbers, as raw counts do that were not log-normalised: distances between them "
            "mostly say how deeply each cell was sequenced; normalise and take logarithms first"
        )


def _check_sparse(rows: int, width: int, name: str) -> None:
    if rows * width > _DENSE_ENTRIES:
        raise ValueError(
            f"{name} is a sparse matrix of {rows} x {width} entries, too large to be made dense; reduce it first, for "
            "example to 50 principal components, or keep fewer features with n_dims="
        )


def _rep(rep: str, keys: Sequence[str]) -> str:
    if rep in keys:
        return rep
    there = f"obsm has {few(keys)}" if keys else "obsm is empty"
    raise ValueError(
        f"there is no representation {rep!r}; {there}: name one with rep=, or take the expression with rep='X'"
    )


def _known(name: str, keys: Sequence[str], what: str) -> str:
    if name not in keys:
        raise ValueError(f"there is no {name!r} in {what}; there are {few(keys)}")
    return name


# --- h5ad --------------------------------------------------------------------------------------------------


def _read(node: Any) -> Any:
    """Read one element of an AnnData file."""
    for name in ("anndata.io", "anndata.experimental"):
        reader = getattr(importlib.import_module(name), "read_elem", None)
        if reader is not None:
            return reader(node)
    raise ImportError('this needs anndata 0.10 or later; pip install "gendyn[bio]"')


def _node(file: Any, choice: Selection) -> tuple[Any, list[str] | None]:
    """Return the place of the representation in a file, and the names of genes where it is made of them."""
    if choice.layer is None and choice.rep != "X":
        return file["obsm"][_rep(choice.rep, list(file.get("obsm", {})))] if "obsm" in file else _rep(
            choice.rep, []
        ), None
    var = file["var"]
    names = [str(name) for name in _read(var[var.attrs.get("_index", "_index")])]
    if choice.layer is not None:
        return file["layers"][_known(choice.layer, list(file.get("layers", {})), "layers")], names
    if "X" not in file:
        raise ValueError("this AnnData file has no X; name a representation with rep=")
    return file["X"], names


def _read_matrix(node: Any, choice: Selection, h5py: Any) -> Any:
    """Read a matrix: dense ones straight into the precision wanted, sparse ones only if they are small."""
    if isinstance(node, h5py.Dataset):
        if node.dtype.kind not in "fiub":
            raise ValueError(f"{choice.matrix} must hold numbers; got {node.dtype}")
        width = check_dims(choice.n_dims, node.shape[1] if node.ndim == 2 else 1)
        if node.ndim != 2:
            return node[...]
        out = np.empty((node.shape[0], width), dtype=choice.dtype)
        if out.size:
            node.read_direct(out, np.s_[:, :width])
        return out
    if "shape" in node.attrs:
        rows, columns = (int(size) for size in node.attrs["shape"])
        _check_sparse(rows, check_dims(choice.n_dims, columns), choice.matrix)
    return _read(node)


def _column_reader(file: Any, obs: Any) -> Callable[[Any], Any]:
    def column(name: Any) -> Any:
        node = obs[name]
        # anndata 0.7 kept the categories of a column in another place, to which the column points.
        if "categories" in getattr(node, "attrs", {}) and not isinstance(node, Mapping) and hasattr(node, "dtype"):
            categories = pd.Index(file[node.attrs["categories"]][...])
            known = [name.decode() if isinstance(name, bytes) else name for name in categories]
            return pd.Categorical.from_codes(node[...].astype(int).tolist(), categories=pd.Index(known))
        return _read(node)

    return column
