"""The scene of one interpolant: a flow, and diffusions with as much noise as one likes, through the same populations.

Two mixtures of Gaussians are joined, so that everything has a closed form to stand beside it: velocity and score at
every time, the density at the end, and the population halfway.
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
from gendyn.data import Paths, Snapshots, atomic_path
from gendyn.evaluation import evaluate
from gendyn.interpolants import GaussianMixture, GaussianMixtureInterpolant, StochasticInterpolant
from gendyn.plotting import Page
from gendyn.plotting.style import GENERATED, REAL
from gendyn.randomness import derive_seed

__all__ = ["NOISE_DIAL"]

_CELLS = 2000
_DRAWN = 1000
_STEPS = 2000
_NOISE = (0.0, 0.5, 2.0)
_MIDDLE = 0.5


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Fit, sample at several noise levels, compare with the exact law; write ``paths.npz``, ``model.safetensors``."""
    source, target = _source(), _target()
    exact = GaussianMixtureInterpolant(source, target, "linear")
    first, last = (
        side.sample(_CELLS, seed=derive_seed(stage.seed, "fit", k)) for k, side in enumerate((source, target))
    )
    model = StochasticInterpolant("linear", coupling="independent", scale="none", steps=_STEPS).fit(
        Snapshots([0.0, 1.0], [first, last]), seed=stage.seed, progress=stage.progress
    )
    fresh = source.sample(_DRAWN, seed=derive_seed(stage.seed, "start")).to(first.dtype)
    truth = Snapshots(
        [_MIDDLE, 1.0],
        [
            exact.sample(_MIDDLE, 2 * _DRAWN, seed=derive_seed(stage.seed, "middle")),
            target.sample(2 * _DRAWN, seed=derive_seed(stage.seed, "end")),
        ],
    )
    runs: dict[float, Paths] = {}
    rows, numbers = [], {}
    for epsilon in _NOISE:
        paths = model.sample(fresh, np.linspace(0.0, 1.0, 41).tolist(), epsilon=epsilon, seed=stage.seed)
        runs[epsilon] = paths
        report = evaluate(truth, paths, ["W1", "energy distance"], seed=stage.seed)
        for time, name in ((_MIDDLE, "halfway"), (1.0, "at the end")):
            result = report.result("W1", time)
            rows.append(
                {"epsilon": epsilon, "where": name, "W1": result.value, "low": result.low, "high": result.high}
                | {"floor": result.floor, "energy distance": report.result("energy distance", time).value}
            )
            numbers[f"w1_{name.replace(' ', '_')}_{epsilon:g}"] = result.value
            numbers[f"w1_{name.replace(' ', '_')}_floor"] = float(result.floor or np.nan)
    errors = _errors(model, exact, derive_seed(stage.seed, "errors"))
    log_likelihood = _log_likelihood(model, source, target, derive_seed(stage.seed, "likelihood"))

    runs[_NOISE[-1]].save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")
    figure = _pictures(runs, truth)
    with atomic_path(stage.folder / "noise-dial.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    page = Page(
        "One interpolant, as much noise as you like", "gendyn demo: a stochastic interpolant between two mixtures"
    )
    page.text(
        "A stochastic interpolant joins two populations by x = (1 - t) a + t b + gamma(t) z. From its velocity and its "
        "score one has a flow, and for every epsilon a diffusion; all of them pass through the same populations "
        "(Albergo, Boffi and Vanden-Eijnden 2023). One fit served every epsilon below. Both ends are mixtures of "
        "Gaussians, so that the truth is known at every time."
    )
    page.figure(
        figure,
        "Above: single paths, coloured by time, without noise and with much. Below: the population at the end, "
        "exact in grey, generated in red. The paths differ, the populations do not.",
    )
    page.heading("The populations do not depend on the noise")
    page.text(
        "Exact W1 to fresh samples of the exact law, with intervals; the floor is between halves of such a sample."
    )
    page.table(pd.DataFrame(rows))
    page.heading("The fields beside the exact ones")
    page.text("Mean squared error over the mean square of the exact field, at points of the exact population.")
    page.table(pd.DataFrame(errors))
    page.text(
        f"Mean log-likelihood of fresh cells at the end: {log_likelihood['model']:.3f} by the flow, "
        f"{log_likelihood['exact']:.3f} under the exact density, which none can exceed on average."
    )
    page.figure(plotting.history(model.history_), "The loss does not reach zero: velocities differ where paths cross.")
    page.text(f"Seed {stage.seed}; {model!r}.")
    return page, numbers | {f"log_likelihood_{name}": value for name, value in log_likelihood.items()}


def _source() -> GaussianMixture:
    return GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.25, 0.25])


def _target() -> GaussianMixture:
    turn = 2 * torch.pi * torch.arange(5) / 5
    means = 4 * torch.stack([torch.cos(turn), torch.sin(turn)], dim=1)
    return GaussianMixture([0.3, 0.25, 0.2, 0.15, 0.1], means, [0.15] * 5)


def _errors(model: StochasticInterpolant, exact: GaussianMixtureInterpolant, seed: int) -> list[dict[str, float]]:
    """Return the relative errors of velocity and score at three times."""
    rows = []
    for k, t in enumerate((0.25, 0.5, 0.75)):
        x = exact.sample(t, 4000, seed=derive_seed(seed, k))
        true = exact.fields(t, x)
        at = torch.as_tensor(t, dtype=model.initial_.dtype)
        learned = (model.process_.velocity(at, x.to(at.dtype)), model.process_.score(at, x.to(at.dtype)))
        error = [_relative(a.detach(), b) for a, b in zip(learned, (true.velocity, true.score), strict=True)]
        rows.append({"time": t, "velocity": error[0], "score": error[1]})
    return rows


def _relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).square().sum(1).mean() / true.square().sum(1).mean())


def _log_likelihood(
    model: StochasticInterpolant, source: GaussianMixture, target: GaussianMixture, seed: int
) -> dict[str, float]:
    x = target.sample(500, seed=seed)
    found = model.log_prob(x.to(model.initial_.dtype), base=source.log_prob)
    return {"model": float(found.mean()), "exact": float(target.log_prob(x).mean())}


def _pictures(runs: dict[float, Paths], truth: Snapshots) -> Figure:
    """Draw paths above and their ends below, one column an epsilon."""
    with plotting.style():
        figure = Figure(figsize=(3.6 * len(runs) + 0.4, 7.0), layout="constrained")
        grid = figure.subplots(2, len(runs), sharex=True, sharey=True)
        for column, (epsilon, paths) in enumerate(runs.items()):
            plotting.trajectories(paths, ax=grid[0, column], max_paths=60)
            grid[0, column].set_title(f"epsilon = {epsilon:g}")
            ax = grid[1, column]
            for name, points, colour in (
                ("exact", truth.population(1.0), REAL),
                ("generated", paths.snapshot(1.0).samples[0], GENERATED),
            ):
                ax.scatter(*points[:_DRAWN].T, s=3, color=colour, alpha=0.4, linewidths=0, label=name, rasterized=True)
            for ax in grid[:, column]:
                ax.set_aspect("equal")
                ax.label_outer()
        grid[1, 0].legend(markerscale=3, fontsize="small")
    return figure


NOISE_DIAL = Scene(
    "one interpolant between two populations: a flow, and diffusions with as much noise as one likes", play
)
