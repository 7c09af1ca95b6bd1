r"""The scene of fractional noise: how rough the volatility of a stock is, and paths as rough.

The prices come with matplotlib. The logarithm of a day's range, :math:`\ln(\text{high}/\text{low})`, tells the day's
volatility with a known error: that of a Brownian motion's range has the standard deviation .29, whatever the volatility
(Alizadeh, Brandt and Diebold 2002). Taken at face value the series looks rougher than volatility is.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gendyn import datasets, plotting
from gendyn.cli.scenes.scene import Scene, Stage
from gendyn.data import Paths, atomic_path
from gendyn.evaluation import hurst_index
from gendyn.plotting import Page
from gendyn.plotting.style import GENERATED, REAL
from gendyn.randomness import derive_seed
from gendyn.sde import FractionalOU

__all__ = ["ROUGH_VOLATILITY"]

_NOISE, _LEVEL = 0.29, 0.9
_MADE = 40
_LAGS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)

Array = NDArray[np.float64]


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Estimate the index, generate, compare; write ``paths.npz`` and ``model.safetensors``."""
    prices = cast(Paths, datasets.load("google"))
    high, low = (prices.values[0, :, (prices.names or ()).index(name)].double() for name in ("high", "low"))
    # Parkinson (1980): the mean square of the range of Brownian motion is 4 ln 2 times its variance.
    series = torch.log(torch.log(high / low) / math.sqrt(4 * math.log(2)))
    clock = torch.arange(len(series), dtype=torch.float64)
    fits = {
        "as if the range told it exactly": FractionalOU(noise=0.0),
        f"with the range's error of {_NOISE:g}": FractionalOU(noise=_NOISE),
    }
    rows = []
    for name, model in fits.items():
        model.fit(series[None], times=clock, seed=stage.seed, progress=stage.progress)
        edges = [v.item() for v in model.interval(_LEVEL)]
        rows.append({"by likelihood": name, "H": model.hurst_.item(), "low": edges[0], "high": edges[1]})
    seed = derive_seed(stage.seed, "estimators")
    for method in ("variogram", "whittle"):
        found = hurst_index(series, "path", method=method, level=_LEVEL, seed=seed)
        rows.append({"by likelihood": f"{method}, no error", "H": found.value, "low": found.low, "high": found.high})
    made = model.sample(n=_MADE, times=clock, observed=True, seed=derive_seed(stage.seed, "paths"))
    generated, data = made.values[:, :, 0].double().numpy(), series.numpy()
    real, ours = variogram(data), variogram(generated)
    ratio = ours.mean(0) / real
    numbers: dict[str, Any] = {
        "hurst": rows[1]["H"],
        "hurst_low": rows[1]["low"],
        "hurst_high": rows[1]["high"],
        "hurst_without_error": rows[0]["H"],
        "variogram_ratio_least": float(ratio.min()),
        "variogram_ratio_largest": float(ratio.max()),
    }
    made.save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")
    figure = _picture(clock.numpy(), data, generated, real, ours)
    with atomic_path(stage.folder / "rough-volatility.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    page = Page("How rough is volatility?", "gendyn demo: fractional Ornstein-Uhlenbeck noise in the range of a stock")
    page.text(
        f"{len(series)} trading days of a stock, in matplotlib's sample data. What is looked at is the logarithm of "
        "the volatility that each day's highest and lowest price tell. Its increments are those of fractional noise "
        f"with the Hurst index H = {numbers['hurst']:.2f} ({_LEVEL:.0%}: {numbers['hurst_low']:.2f} to "
        f"{numbers['hurst_high']:.2f}), far from the one half of Brownian motion."
    )
    page.figure(
        figure,
        "Left: the series, and two that the model made. Right: mean squared change over a lag, of the data and of "
        f"{_MADE} series as long; the band holds nine in ten of them.",
    )
    page.heading("The index, and what it is said to be without the error of a range")
    page.table(pd.DataFrame(rows))
    page.text(
        "A range tells the volatility with an error whose size is known. Who takes it for the path finds it rougher."
    )
    page.heading("Are the paths as rough as the data?")
    page.table(pd.DataFrame({"lag in days": _LAGS, "data": real, "generated": ours.mean(0), "ratio": ratio}))
    page.text(f"Seed {stage.seed}; {model!r}.")
    return page, numbers


def variogram(paths: Array) -> Array:
    """Return mean squared changes over the lags, ``(..., L)`` of paths ``(..., n)``."""
    squares = [np.mean((paths[..., lag:] - paths[..., :-lag]) ** 2, axis=-1) for lag in _LAGS]
    return np.stack(squares, -1)


def _picture(clock: Array, data: Array, generated: Array, real: Array, ours: Array) -> Figure:
    with plotting.style():
        figure = Figure(figsize=(10.5, 5.0), layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1.7, 1.0))
        shared = None
        for k, (values, colour, name) in enumerate(
            ((data, REAL, "data"), (generated[0], GENERATED, "generated"), (generated[1], GENERATED, "generated"))
        ):
            ax = figure.add_subplot(grid[k, 0], sharex=shared, sharey=shared)
            shared = shared or ax
            ax.plot(clock, values, color=colour, lw=0.7)
            ax.set_ylabel(name)
            ax.label_outer()
        ax.set_xlabel("trading days")
        figure.axes[0].set_title("log volatility of a day, from its range")
        ax = figure.add_subplot(grid[:, 1])
        low, high = np.quantile(ours, (0.05, 0.95), axis=0)
        ax.fill_between(_LAGS, low, high, color=GENERATED, alpha=0.25, lw=0)
        ax.plot(_LAGS, ours.mean(0), color=GENERATED, label="generated")
        ax.plot(_LAGS, real, "o", color=REAL, ms=4, label="data")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("lag, days")
        ax.set_title("mean squared change")
        ax.legend()
    return figure


ROUGH_VOLATILITY = Scene(
    "how rough the volatility of a stock is, with an interval, and generated paths as rough as the data", play
)
