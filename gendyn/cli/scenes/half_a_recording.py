"""The scene of an irregular series: half of a real recording is removed, and put back with bands.

The recording comes with matplotlib. Its last part is never trained on; what was removed of it is the truth.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gendyn import datasets, plotting
from gendyn.cli.scenes.scene import Scene, Stage
from gendyn.data import ControlPath, Paths, atomic_path, drop_values, windows
from gendyn.plotting import Page
from gendyn.plotting.style import GENERATED, REAL
from gendyn.randomness import derive_seed
from gendyn.sde import StableSDEInterpolator, read_series

__all__ = ["HALF_A_RECORDING"]

_ROWS = 80
_REMOVED = 0.5
_LEVEL = 0.8
_EPOCHS = 30


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Remove, learn, interpolate, compare; write ``paths.npz`` and ``model.safetensors``."""
    recording = cast(Paths, datasets.load("eeg-mri"))
    values, names = recording.values[0], recording.names
    # The first 560 samples are trained on, in windows that overlap; the last 240 are not.
    learned = windows(values[: 7 * _ROWS], _ROWS, stride=8)
    whole = windows(values[7 * _ROWS :], _ROWS, stride=_ROWS)
    step = float(recording.times[1] - recording.times[0])
    clock = step * np.arange(_ROWS)
    seen = drop_values(whole, _REMOVED, seed=derive_seed(stage.seed, "removed"))
    holes = read_series(seen).values
    model = StableSDEInterpolator("channel", _REMOVED, copies=4, hidden=32, epochs=_EPOCHS, patience=None)
    model.fit(learned.values, times=clock, seed=stage.seed, progress=stage.progress)
    mean = model.predict(holes, times=clock, seed=stage.seed)
    low, high = model.predict_interval(holes, times=clock, level=_LEVEL, seed=stage.seed)
    line = ControlPath(torch.from_numpy(clock), holes, method="linear")(torch.from_numpy(clock)).numpy()
    truth, hidden = whole.values.numpy(), holes.isnan().numpy()
    unit = values[: 7 * _ROWS].std(0).numpy()
    numbers: dict[str, Any] = {
        "rmse": _rmse(mean, truth, hidden, unit),
        "rmse_line": _rmse(line, truth, hidden, unit),
        "covered": float(((low <= truth) & (truth <= high))[hidden].mean()),
    }

    Paths(clock, holes.nan_to_num(0.0), ~holes.isnan(), names=names).save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")
    figure = _picture(clock, truth[0], hidden[0], mean[0], (low[0], high[0]), line[0], names or ())
    with atomic_path(stage.folder / "half-a-recording.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    page = Page("Half of a recording", "gendyn demo: a stable neural SDE puts back what was removed of an EEG")
    page.text(
        "An electroencephalogram of four electrodes that comes with matplotlib. Seven seconds are learned from; of the "
        f"last three, {_REMOVED:.0%} of the samples of each electrode are removed, each at its own moments."
    )
    page.figure(
        figure,
        f"The first of three stretches. Dots were observed, crosses were removed. Bands hold {_LEVEL:.0%}.",
    )
    page.heading("How close it is")
    page.table(
        pd.DataFrame(
            [
                {"method": "linear interpolation", "RMSE of what was removed": numbers["rmse_line"]},
                {"method": "stable neural SDE", "RMSE of what was removed": numbers["rmse"]},
            ]
        )
    )
    page.text(
        f"In standard deviations of each electrode. {numbers['covered']:.0%} of what was removed lies in the "
        f"{_LEVEL:.0%} bands; a line has none."
    )
    page.text(f"Seed {stage.seed}; {model!r}.")
    return page, numbers


def _rmse(found: NDArray[Any], truth: NDArray[Any], hidden: NDArray[Any], unit: NDArray[Any]) -> float:
    return float(np.sqrt((((found - truth) / unit)[hidden] ** 2).mean()))


def _picture(
    clock: NDArray[Any],
    truth: NDArray[Any],
    hidden: NDArray[Any],
    mean: NDArray[Any],
    bands: tuple[NDArray[Any], NDArray[Any]],
    line: NDArray[Any],
    names: tuple[str, ...],
) -> Figure:
    """Draw every channel ``(T, D)`` of one stretch."""
    with plotting.style():
        figure = Figure(figsize=(10.0, 1.9 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True)
        for d, (ax, name) in enumerate(zip(panels, names, strict=True)):
            out = hidden[:, d]
            ax.fill_between(clock, bands[0][:, d], bands[1][:, d], color=GENERATED, alpha=0.25, lw=0)
            ax.plot(clock, mean[:, d], color=GENERATED, lw=1.6, label="stable neural SDE")
            ax.plot(clock, line[:, d], color="0.5", lw=0.9, ls="--", label="linear interpolation")
            ax.scatter(clock[~out], truth[~out, d], s=10, color=REAL, zorder=3, linewidths=0, label="observed")
            ax.scatter(
                clock[out], truth[out, d], s=12, color=REAL, zorder=3, marker="x", linewidths=0.8, label="removed"
            )
            ax.set_ylabel(name)
        panels[-1].set_xlabel("seconds")
        panels[0].legend(ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


HALF_A_RECORDING = Scene(
    "half of a real recording removed, and put back with bands, against linear interpolation", play
)
