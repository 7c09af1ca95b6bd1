"""Labels of series, and a division of labelled series that leaves every class on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendyn.randomness import numpy_generator
from gendyn.sde.series import Series

__all__ = ["labelled", "stratified"]


def labelled(series: Series) -> tuple[Series, NDArray[Any]]:
    """Return series and their labels, integers or strings.

    Raises
    ------
    TypeError
        If labels are numbers that are not whole.
    ValueError
        If there are none, or one is missing.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> labelled(read_series([[1.0], [2.0]], ["a", "b"]))[1].tolist()
    ['a', 'b']
    """
    labels = series.labels
    if labels is None:
        raise ValueError("a classifier needs labels: give y, or paths with labels")
    if labels.dtype.kind not in "iubUSO":
        raise TypeError(f"labels must be integers or strings; got type {labels.dtype}")
    if labels.dtype.kind == "O":
        missing = [i for i, label in enumerate(labels.tolist()) if label is None or label != label]
        if missing:
            raise ValueError(f"every series needs a label; series {missing[0]} has {labels[missing[0]]}: drop it")
    return series, labels.astype(str) if labels.dtype.kind in "SO" else labels


def stratified(
    codes: NDArray[Any], classes: NDArray[Any], fraction: float, root: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows to learn from and rows to stop by, of every class a share of at least one.

    Parameters
    ----------
    codes
        Number of each row's class ``(n,)``.
    classes
        The classes, for the message.
    fraction
        To stop by.
    root
        Seed of the draw.

    Raises
    ------
    ValueError
        If a class has fewer than three rows.

    Examples
    --------
    >>> kept, held = stratified(np.array([0, 0, 0, 1, 1, 1]), np.array(["a", "b"]), 0.2, 0)
    >>> len(kept), len(held)
    (4, 2)
    """
    counts = np.bincount(codes)
    if counts.min() < 3:
        small = classes.tolist()[int(counts.argmin())]
        raise ValueError(
            f"class {small!r} has {int(counts.min())} series, too few to hold one out; give at least 3, a validation "
            "set, or patience=None"
        )
    rng = numpy_generator(root, "validation split")
    out = []
    for c, count in enumerate(counts):
        rows = rng.permutation(np.flatnonzero(codes == c))
        out.append(rows[: max(1, round(fraction * count))])
    held = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(codes)), held), held
