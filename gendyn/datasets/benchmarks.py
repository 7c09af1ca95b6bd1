"""Populations on which multi-marginal bridges are compared: simulated draws as published, and real cells.

Each benchmark trains on some times and is judged at others; these are the splits. Systems of
:mod:`gendyn.systems` of the same names draw more of the simulated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendyn.data import Snapshots
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["BENCHMARKS"]

_FOLDER = "bridges"
_UNLICENSED = "none stated: research use"

Reader = Callable[[Files, str], Snapshots]


def _parts(names: Sequence[str]) -> Reader:
    """Read a file with times to train on, to validate at and to forecast."""

    def read(files: Files, split: str) -> Snapshots:
        arrays = open_npz(next(iter(files.values())))
        found: list[tuple[float, NDArray[Any]]] = []
        for part, stored in (("train", "train"), ("validation", "val"), ("forecast", "forecast")):
            if split in ("all", part) and stored in arrays:
                values = arrays[stored] if stored != "forecast" else arrays[stored][None]
                found += list(zip(np.atleast_1d(arrays[f"t_{stored}"]).tolist(), values, strict=True))
        return _snapshots(found, names)

    return read


def _alternating(names: Sequence[str], train: Sequence[int] | None = None) -> Reader:
    """Read a file of which some snapshots, by default every second, are to train on."""

    def read(files: Files, split: str) -> Snapshots:
        arrays = open_npz(next(iter(files.values())))
        values = arrays["X"] if "X" in arrays else [arrays[f"x{k}"] for k in range(len(arrays["t"]))]
        kept = set(range(0, len(values), 2) if train is None else train)
        found = [
            (float(t), x)
            for k, (t, x) in enumerate(zip(arrays["t"], values, strict=True))
            if split == "all" or (k in kept) == (split == "train")
        ]
        return _snapshots(found, names)

    return read


def _member(key: str, names: Sequence[str]) -> Reader:
    """Read one of several arrays ``(T, n, d)`` in a file, at times 0, 1, 2, ..."""

    def read(files: Files, split: str) -> Snapshots:
        arrays = open_npz(next(iter(files.values())))
        return _snapshots([(float(k), x) for k, x in enumerate(arrays[key])], names)

    return read


def _snapshots(found: list[tuple[float, NDArray[Any]]], names: Sequence[str]) -> Snapshots:
    found = sorted(found, key=lambda pair: pair[0])
    return Snapshots([t for t, _ in found], [x for _, x in found], names=names)


def _numbered(stem: str, count: int) -> list[str]:
    return [f"{stem}{k + 1}" for k in range(count)]


def _snapmmd(
    file: str,
    description: str,
    source: str,
    licence: str,
    names: Sequence[str],
    time: str,
    *more: str,
    units: str = "pure numbers",
) -> Dataset:
    splits = ("train", *more)
    return Dataset(_FOLDER, (file,), description, source, licence, _parts(names), time, units, splits, "snapshots")


def _sbirr(
    file: str, description: str, source: str, names: Sequence[str], time: str, units: str = "pure numbers"
) -> Dataset:
    read, splits = _alternating(names), ("train", "held-out")
    return Dataset(_FOLDER, (file,), description, source, _UNLICENSED, read, time, units, splits, "snapshots")


def _smooth(key: str, description: str, source: str, names: Sequence[str]) -> Dataset:
    read, time = _member(key, names), "number of the time point"
    return Dataset(_FOLDER, ("smoothsb_small.npz",), description, source, _UNLICENSED, read, time, kind="snapshots")


_GENES = ("gene 1", "gene 2", "gene 3")
_SNAPMMD = "Berlinghieri et al. 2025 (SnapMMD)"
_SBIRR = "Shen, Berlinghieri and Broderick 2025 (SBIRR)"
_SSB = "Hong et al. 2025 (Smooth SB)"

BENCHMARKS: dict[str, Dataset] = {
    "lv200": _snapmmd(
        "bench_lv200.npz",
        "simulated: Lotka-Volterra, 200 fresh pairs of prey and predators at each of 20 times; volatility 0.02 x",
        _SNAPMMD, _UNLICENSED, ("prey", "predator"), "time units of the system", "validation", "forecast",
    ),
    "repressilator200": _snapmmd(
        "bench_repressilator200.npz",
        "simulated: repressilator, 200 fresh cells at each of 20 times; volatility 0.02 x",
        _SNAPMMD, _UNLICENSED, _GENES, "time units of the system", "validation", "forecast",
    ),
    "protein-repressilator200": _snapmmd(
        "bench_reprprotein200.npz",
        "simulated: repressilator with hidden proteins, 200 fresh cells at each of 11 times, messengers only",
        _SNAPMMD, _UNLICENSED, ("messenger 1", "messenger 2", "messenger 3"), "time units of the system", "forecast",
    ),
    "vortex200": _snapmmd(
        "bench_gom200.npz",
        "particles in the currents of an eddy of the Gulf of Mexico, 200 at each of 20 times; "
        "distances from its centre, volatility 0.01",
        f"{_SNAPMMD}; currents by HYCOM", "currents: US public domain; draws: none stated",
        ("longitude", "latitude"), "time units of the benchmark", "validation", "forecast", units="degrees",
    ),
    "pbmc": _snapmmd(
        "bench_pbmc500.npz",
        "activation of T cells: 500 cells at each of 41 times, 30 gene programmes; train at whole hours, validation at "
        "half hours (of which 0.5 to 18.5 are scored), forecast at hour 20",
        f"Jiang et al., as prepared by {_SNAPMMD}", "CC BY-NC 4.0",
        _numbered("programme", 30), "hours", "validation", "forecast",
    ),
    "lv50": _sbirr(
        "sbirr_lv50.npz", "simulated: Lotka-Volterra, 50 pairs of prey and predators at each of 9 times",
        _SBIRR, ("prey", "predator"), "time units of the system",
    ),
    "repressilator50": _sbirr(
        "sbirr_repressilator50.npz", "simulated: repressilator, 50 cells at each of 11 times",
        _SBIRR, _GENES, "time units of the system",
    ),
    "vortex111": _sbirr(
        "sbirr_gom111.npz", "particles in an eddy of the Gulf of Mexico, 111 at each of 9 times",
        f"{_SBIRR}; currents by HYCOM", ("longitude", "latitude"), "time units of the benchmark", "degrees",
    ),
    "eb300": _sbirr(
        "sbirr_eb300.npz", "embryoid body: 300 cells at each of 5 times, 5 whitened principal components",
        f"Moon et al., Nature Biotechnology 2019, as prepared by {_SBIRR}", _numbered("PC", 5),
        "half of the distance between measurements",
    ),
    "hesc": _sbirr(
        "sbirr_hesc.npz",
        "definitive endoderm: 66 to 172 human embryonic stem cells at 5 times, 5 principal components; the published "
        "notebook reads its held-out times (12 and 36 hours) at equally spaced places, here they are the true ones",
        f"Chu et al., Genome Biology 2016, as prepared by {_SBIRR}", _numbered("PC", 5), "days",
    ),
    "eb5d": Dataset(_FOLDER, ("eb5d_2381.npz",),
        "embryoid body: 2381 cells at each of 5 times, 5 principal components",
        "Moon et al., Nature Biotechnology 2019, as prepared by Gravier et al. (MMDSBM)", _UNLICENSED,
        _alternating(_numbered("PC", 5)), "number of the time point", kind="snapshots",
    ),
    "converging-gaussians": _smooth("CG", "simulated: Gaussians that converge, 48 points at 4 times", _SSB, ("x", "y")),
    "petal": _smooth("Petal", "simulated: petals, 40 points at 6 times in a plane", _SSB, ("x", "y")),
    "eb-plane": _smooth(
        "EB", "embryoid body: 100 cells at each of 5 times in a plane",
        f"Moon et al., Nature Biotechnology 2019, as prepared by {_SSB}", ("x", "y"),
    ),
    "dyngen40": _smooth(
        "Dyngen", "simulated: a bifurcation made with dyngen, 40 cells at each of 5 times, 5 features", _SSB,
        _numbered("latent", 5),
    ),
}  # fmt: skip
