"""The main scene: populations at a few times in, a process out, and a time that nobody measured, predicted.

The embedded input is a gene circuit with known truth (:class:`gendyn.systems.Repressilator`): cells that start in step
go once around an oscillation and fall out of step. Between two measured times they turn by a quarter of it, so that
straight lines between optimally transported cells cut the corner, and what is learned from all times does not. With
``--data eb`` the same is done on real embryoid-body cells.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gendyn import plotting
from gendyn.cli.scenes.scene import Scene, Stage
from gendyn.data import Paths, Snapshots, atomic_path
from gendyn.datasets import load
from gendyn.evaluation import LeaveOneOutReport, evaluate, leave_one_out, ot_interpolant
from gendyn.interpolants import FlowMatching
from gendyn.plotting import Page
from gendyn.randomness import derive_seed
from gendyn.systems import Repressilator, simulate_snapshots

__all__ = ["POPULATIONS"]

_CELLS = 300
_REAL_CELLS = 1000
_STEPS = 1500


@dataclass(frozen=True)
class _Input:
    """What the scene starts from."""

    title: str
    story: str
    data: Snapshots
    hole: float


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Fit, sample, score; write ``snapshots.npz``, ``paths.npz``, ``model.safetensors``."""
    given = _embedded(stage.seed) if stage.data is None else _embryoid_body(stage.seed)
    data, hole = given.data, given.hole
    train, truth = data.without(hole), data.only(hole)

    model = FlowMatching("spline-ot", steps=_STEPS).fit(train, seed=stage.seed, progress=stage.progress)
    low, high = float(train.times[0]), float(train.times[-1])
    grid = sorted({*np.linspace(low, high, 41).tolist(), *data.times.tolist()})
    paths = model.sample(train.at(low), grid)
    predicted = paths.snapshots(hole)

    score = evaluate(truth, predicted, seed=stage.seed)
    methods = {
        "FlowMatching(spline-ot)": FlowMatching("spline-ot", steps=_STEPS),
        "FlowMatching(ot)": FlowMatching("ot", steps=_STEPS),
    }
    held_out = leave_one_out(data, methods, times=[hole], scale="global", seed=stage.seed, progress=stage.progress)

    data.save(stage.folder / "snapshots.npz")
    paths.save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")

    ours = held_out.mean("FlowMatching(spline-ot)", "rollout")
    transport, floor = held_out.mean("OT interpolant"), held_out.mean("floor")
    skill_note = f"95 % interval {ours['skill_low']:.2f} to {ours['skill_high']:.2f}; 0 is transport, 1 perfect"
    figure = plotting.hold_out(train, paths, truth)
    with atomic_path(stage.folder / "populations.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    page = Page(given.title, f"gendyn demo: populations observed at {len(train)} times, time {hole:g} held out")
    page.text(given.story)
    page.figure(
        figure,
        "Left: what the fit sees. Middle: trajectories of the learned process, coloured by time, from the cells of the "
        f"first time. Right: the population at time {hole:g}, which the fit never saw: measured, and where the "
        "trajectories are.",
    )
    page.numbers(
        [
            (
                "W1 to the held-out cells",
                f"{ours['value_at_half']:.3f}",
                f"at {len(truth.samples[0]) // 2} cells a side",
            ),
            ("optimal transport alone", f"{transport['value_at_half']:.3f}", "no learning, between neighbouring times"),
            ("sampling floor", f"{floor['value_at_half']:.3f}", "between two halves of the held-out cells"),
            ("skill, from the first time", f"{ours['skill']:.2f}", skill_note),
        ]
    )
    _learned(page, given, train, held_out, paths, model)
    page.heading("The held-out population in five metrics")
    page.table(score.display())
    page.figure(score.plot(), "Values in units of their floors.")
    page.heading("The fit")
    page.figure(plotting.history(model.history_), "The loss does not reach zero: velocities differ where paths cross.")
    page.text(
        f"Seed {stage.seed}; {model!r}; torch {torch.__version__}, Python {platform.python_version()}. "
        "A flow has no noise of its own: each start cell has one future."
    )
    numbers = {
        "hole": hole,
        "w1": ours["value_at_half"],
        "w1_optimal_transport": transport["value_at_half"],
        "w1_floor": floor["value_at_half"],
        "skill": ours["skill"],
        "skill_low": ours["skill_low"],
        "skill_high": ours["skill_high"],
        "rows": held_out.rows(),
    }
    return page, numbers


def _learned(
    page: Page, given: _Input, train: Snapshots, held_out: LeaveOneOutReport, paths: Paths, model: FlowMatching
) -> None:
    """Show the prediction against what needs no learning, and what the process does."""
    data, hole = given.data, given.hole
    page.heading("The held-out population against what needs no learning")
    page.text(
        "Exact W1 in scaled units. Restart: the cells of the time before the hole are pushed into it. Rollout: those "
        "of the first time are. Two-sided: cells before and after the hole are pushed into it, and partners meet."
    )
    page.table(held_out.display())
    cells = ot_interpolant(train, hole).draw(len(data.population(hole)), derive_seed(model.seed_, "transport"))
    page.figure(
        plotting.populations(data, Snapshots([hole], [cells])),
        f"Without learning: the population at time {hole:g}, and where optimal transport in straight lines between the "
        "neighbouring times puts it.",
    )
    page.figure(held_out.plot(), "Distance to the held-out population; grey rows need no learning.")
    page.heading("What the process does")
    page.figure(plotting.velocity(model.process_, train, hole), f"The learned velocity at the held-out time {hole:g}.")
    for feature in range(min(2, data.dim)):
        caption = (
            f"Median, 50 % and 90 % of the generated paths; dots are all measured cells, those of time {hole:g} unseen."
        )
        page.figure(plotting.fan(paths, data, feature=feature), caption)


def _embedded(seed: int) -> _Input:
    circuit = Repressilator(volatility=0.1)
    times = [1.0, 1.6, 2.2, 2.8, 3.4, 4.0, 4.6, 5.2]
    data = simulate_snapshots(circuit, times, n=_CELLS, seed=derive_seed(seed, "demo"))
    return _Input(
        "Three genes in a ring",
        "Each of three genes switches off the next, and the ring oscillates (Elowitz and Leibler, Nature 2000). Cells "
        f"start in step and fall out of it. {_CELLS} cells are measured, and destroyed, at each of {len(times)} times, "
        "so that no cell is seen twice. Between the times that the fit sees next to the hidden one, cells turn by a "
        "quarter of the cycle: transport in straight lines cuts the corner. The truth is known: it is simulated.",
        data,
        hole=3.4,
    )


def _embryoid_body(seed: int) -> _Input:
    full = load("eb", dims=5, time_scale="real")
    if not isinstance(full, Snapshots):
        raise TypeError("the data set 'eb' holds no populations")
    data = full.subsample(_REAL_CELLS, seed=derive_seed(seed, "demo"))
    return _Input(
        "Embryoid bodies",
        "Human embryonic stem cells differentiate over 27 days (Moon et al., Nature Biotechnology 2019). Sequencing "
        "destroys a cell, so that no cell is seen twice. Five principal components, at most "
        f"{_REAL_CELLS} cells of each of five times (all of them are scored in benchmarks/leave_one_out.py).",
        data,
        hole=float(data.times[2]),
    )


POPULATIONS = Scene("populations at a few times in, a process out, and a time that nobody measured", play, data=("eb",))
