"""The scene of a jump process: a molecular motor seen now and then, with wrong labels, and its rates.

The flashing ratchet is known exactly, so that every rate, time scale and the entropy that it produces have the truth
beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gendyn import plotting
from gendyn.cli.scenes.scene import Scene, Stage
from gendyn.data import Paths, atomic_path
from gendyn.mjp import MarkovJumpModel
from gendyn.plotting import Page
from gendyn.plotting.style import GENERATED, REAL
from gendyn.randomness import derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sampling.jumps import RateMatrix
from gendyn.sampling.jumps.rate_quantities import entropy_production, relaxation_times
from gendyn.systems import FlashingRatchet

__all__ = ["FLASHING_RATCHET"]

_PATHS = 500
_WRONG = 0.05
_LEVEL = 0.9


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Simulate, mislabel, fit, compare; write ``paths.npz`` and ``model.safetensors``."""
    truth = FlashingRatchet()
    seen = _looks(truth, stage.seed)
    fits = {
        "network alone": MarkovJumpModel("zero-shot", n_states=truth.n_states),
        "network and likelihood": MarkovJumpModel(n_states=truth.n_states),
    }
    for model in fits.values():
        model.fit(seen, seed=stage.seed, progress=stage.progress)
    model = fits["network and likelihood"]
    low, high = model.interval(_LEVEL)
    matrix = truth.matrix()
    off = ~torch.eye(truth.n_states, dtype=torch.bool)
    covered = float(((matrix >= low) & (matrix <= high))[off].double().mean())
    numbers: dict[str, Any] = {
        "rate_rmse": _rmse(model.rate_matrix_, matrix),
        "rate_rmse_network": _rmse(fits["network alone"].rate_matrix_, matrix),
        "rate_rmse_counts": _rmse(_counted(seen, truth.n_states), matrix),
        "covered": covered,
        "noise": model.noise_,
    }
    rows = {name: _quantities(process) for name, process in (("truth", truth), *_processes(fits))}

    seen.save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")
    figure = _picture(matrix, model, low, high)
    with atomic_path(stage.folder / "flashing-ratchet.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    page = Page(
        "A molecular motor, seen now and then", "gendyn demo: a Markov jump process from noisy looks at its state"
    )
    page.text(
        f"{_PATHS} paths of the discrete flashing ratchet, 100 looks each, one label in {1 / _WRONG:.0f} wrong. A "
        "network that ships with the package, trained once on random processes and never on this one, reads rates and "
        "intervals off counts of transitions; the exact likelihood takes over where jumps are many."
    )
    page.figure(
        figure,
        f"Left and middle: the true rate matrix and its estimate. Right: every rate against the truth, with "
        f"{_LEVEL:.0%} intervals; absent jumps lie at zero.",
    )
    page.heading("How close it is")
    page.table(
        pd.DataFrame(
            [
                {"estimate": "changes over time, labels taken at their word", "rate RMSE": numbers["rate_rmse_counts"]},
                {"estimate": "network alone", "rate RMSE": numbers["rate_rmse_network"]},
                {"estimate": "network and likelihood", "rate RMSE": numbers["rate_rmse"]},
            ]
        )
    )
    page.text(
        f"{covered:.0%} of the rates lie in their {_LEVEL:.0%} intervals. Wrong labels: {model.noise_:.1%} found, "
        f"{_WRONG:.1%} true."
    )
    page.heading("What follows from it")
    page.table(pd.DataFrame([{"process": name} | row for name, row in rows.items()]))
    page.text(
        "The potential drives a current although it is switched blindly: the process produces entropy in its "
        "stationary law, which no process in balance does."
    )
    page.heading("The model's own letter")
    for paragraph in model.report().split("\n\n"):
        page.text(paragraph)
    page.text(f"Seed {stage.seed}; {model!r}.")
    return page, numbers


def _looks(truth: FlashingRatchet, seed: int) -> Paths:
    """Return paths of which some labels are wrong."""
    start = truth.initial(_PATHS, seed=derive_seed(seed, "start"))
    paths = sample(truth, start, truth.times, seed=derive_seed(seed, "paths"))
    generator = torch_generator(seed, "labels")
    labels = paths.values
    wrong = torch.rand(labels.shape, generator=generator) < _WRONG
    other = (labels + torch.randint(1, truth.n_states, labels.shape, generator=generator)) % truth.n_states
    return Paths(paths.times, torch.where(wrong, other, labels), names=["state"], states=truth.states)


def _counted(seen: Paths, size: int) -> Tensor:
    """Return changes seen over time spent, ``(S, S)``."""
    labels = seen.values[..., 0].long()
    gaps = seen.times.diff().expand(len(labels), -1).flatten()
    first, last = labels[:, :-1].flatten(), labels[:, 1:].flatten()
    counts = torch.bincount(first * size + last, minlength=size**2).reshape(size, size).double().fill_diagonal_(0.0)
    spent = torch.bincount(first, weights=gaps.double(), minlength=size)
    return counts / spent.clamp_min(float(gaps.min()))[:, None]


def _rmse(estimate: Tensor, truth: Tensor) -> float:
    off = ~torch.eye(len(truth), dtype=torch.bool)
    return float((estimate - truth)[off].square().mean().sqrt())


def _processes(fits: dict[str, MarkovJumpModel]) -> list[tuple[str, RateMatrix]]:
    return [(name, model.process_) for name, model in fits.items()]


def _quantities(process: RateMatrix) -> dict[str, float]:
    """Return the ratchet's parameters, and what physics makes of a rate matrix."""
    potential, switching, diffusion = FlashingRatchet.parameters_of(process)
    return {
        "potential": potential,
        "switching": switching,
        "diffusion": diffusion,
        "slowest relaxation time": float(relaxation_times(process)[0]),
        "entropy production": entropy_production(process),
    }


def _picture(truth: Tensor, model: MarkovJumpModel, low: Tensor, high: Tensor) -> Figure:
    """Draw both matrices, and rates against the truth."""
    off = ~torch.eye(len(truth), dtype=torch.bool)
    with plotting.style():
        figure = Figure(figsize=(12.0, 4.0), layout="constrained")
        panels = figure.subplots(1, 3)
        top = float(truth[off].max())
        for ax, matrix, title in ((panels[0], truth, "truth"), (panels[1], model.rate_matrix_, "estimate")):
            shown = matrix.clone().fill_diagonal_(torch.nan)
            image = ax.imshow(shown.numpy(), cmap="viridis", vmin=0.0, vmax=top)
            names = model.process_.states or tuple(map(str, range(len(truth))))
            ax.set_xticks(range(len(truth)), names, rotation=45, ha="right")
            ax.set_yticks(range(len(truth)), names)
            ax.set_xlabel("to")
            ax.set_ylabel("from")
            ax.set_title(title)
            ax.grid(False)
        figure.colorbar(image, ax=panels[:2], label="jumps per unit of time", shrink=0.8)
        ax = panels[2]
        x, y = truth[off].numpy(), model.rate_matrix_[off].numpy()
        spread = np.random.default_rng(0).uniform(-0.03, 0.03, len(x)) * top
        bars = np.abs(np.stack([y - low[off].numpy(), high[off].numpy() - y])).clip(min=0)
        ax.plot([0, top], [0, top], color=REAL, linewidth=1)
        ax.errorbar(x + spread, y, yerr=bars, fmt="o", markersize=3, linewidth=0.8, color=GENERATED)
        ax.set_xlabel("true rate")
        ax.set_ylabel("estimated rate")
    return figure


FLASHING_RATCHET = Scene(
    "a molecular motor seen now and then, with wrong labels: its rates with intervals, against the truth", play
)
