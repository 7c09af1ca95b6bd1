"""The scene of a mechanism that is learned: predators and prey counted once each, and the rates by which they live.

Nobody is counted twice, and every second population is hidden. The truth is simulated, so that rates, hidden
populations and the future have it beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.bridges import ReferenceRefinement, SchrodingerBridge
from gendyn.bridges.references import LotkaVolterra as Family
from gendyn.cli.scenes.scene import Scene, Stage
from gendyn.data import Paths, Snapshots, atomic_path
from gendyn.evaluation import evaluate, ot_interpolant
from gendyn.plotting import Page
from gendyn.plotting.style import GENERATED, REAL
from gendyn.randomness import derive_seed
from gendyn.systems import LotkaVolterra, simulate_snapshots

__all__ = ["PREDATOR_AND_PREY"]

_ANIMALS = 150
_STEPS = 120
_SEEN = (0.0, 2.0, 4.0, 6.0, 8.0)
_BETWEEN = (1.0, 3.0, 5.0, 7.0)
_LATER = (9.0, 10.0)


def play(stage: Stage) -> tuple[Page, dict[str, Any]]:
    """Simulate, hide, fit, compare; write the data, ``paths.npz``, ``parameters.csv`` and ``model.safetensors``."""
    truth = LotkaVolterra()
    times = sorted((*_SEEN, *_BETWEEN, *_LATER))
    data = simulate_snapshots(truth, times, n=_ANIMALS, seed=derive_seed(stage.seed, "animals"))
    train = data.only(_SEEN)
    model = ReferenceRefinement(Family(), gradient_steps=_STEPS)
    model.fit(train, seed=stage.seed, progress=stage.progress)
    blind = SchrodingerBridge().fit(train, seed=stage.seed, progress=False)
    parameters = _against(model.parameters_, truth)
    scores = _scores(data, train, model, blind, stage.seed)
    grid = np.linspace(_SEEN[0], _LATER[-1], 81).tolist()
    paths = model.sample(n=_ANIMALS, times=grid, seed=derive_seed(stage.seed, "paths"), extrapolate=True)

    data.save(stage.folder / "snapshots.npz")
    paths.save(stage.folder / "paths.npz")
    model.save(stage.folder / "model.safetensors")
    with atomic_path(stage.folder / "parameters.csv") as temporary:
        parameters.to_csv(temporary, index=False)
    figure = _picture(data, train, paths, parameters)
    with atomic_path(stage.folder / "predator-and-prey.png") as temporary:
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})

    covered = int(((parameters["low"] <= parameters["truth"]) & (parameters["truth"] <= parameters["high"])).sum())
    page = Page("Predators and prey", "gendyn demo: a Schroedinger bridge whose reference is learned")
    page.text(
        f"Prey are born and eaten, predators live on prey and die. {_ANIMALS} colonies are counted at each of "
        f"{len(_SEEN)} times, and none twice, so that no path is ever seen. The fit knows the form of the equations "
        "and nothing else: rates, noise and the paths between the counts are learned together, each population "
        "teaching what happens between all others. The populations in between are hidden, and so is the future."
    )
    page.figure(
        figure,
        "Left: what the fit sees, coloured by time. Middle: generated paths, and the populations that were hidden in "
        f"grey. Right: every parameter over its true value, with {_level(parameters):.0%} intervals.",
    )
    page.heading("The rates")
    page.table(parameters)
    page.text(
        f"{covered} of {len(parameters)} intervals hold the truth. Where populations are sparse the noise is estimated "
        "too large, by a tenth to a fifth, and its interval does not cover that."
    )
    page.heading("The hidden populations")
    page.text(
        "Exact W2 to the hidden colonies, on average over times; the floor is that between random halves of them. "
        "Transport joins the neighbouring populations by straight lines; the Brownian bridge has noise and no "
        "mechanism."
    )
    page.table(scores)
    for feature, name in enumerate(truth.names):
        page.figure(
            plotting.fan(paths, data, feature=feature),
            f"The {name}: median, 50 % and 90 % of the generated paths, and all colonies, the hidden ones too.",
        )
    page.figure(plotting.velocity(model.reference_, train, _SEEN[0]), "The learned mechanism.")
    page.text(f"Seed {stage.seed}; {model!r}.")
    numbers = {f"w2_{row['where']}_{row['method']}".replace(" ", "_"): row["W2"] for row in scores.to_dict("records")}
    numbers |= {f"w2_{where}_floor": float(part["floor"].iloc[0]) for where, part in scores.groupby("where")}
    found = dict(zip(parameters["parameter"], parameters["value"], strict=True))
    return page, {"covered": covered / len(parameters)} | numbers | found


def _against(table: pd.DataFrame, truth: LotkaVolterra) -> pd.DataFrame:
    """Put the truth beside the learned parameters."""
    true = [truth.volatility if name == "sigma" else getattr(truth, name) for name in table["parameter"]]
    together = table.copy()
    together.insert(1, "truth", true)
    return together


def _level(parameters: pd.DataFrame) -> float:
    return float(parameters["level"].iloc[0])


def _scores(
    data: Snapshots, train: Snapshots, model: ReferenceRefinement, blind: SchrodingerBridge, seed: int
) -> pd.DataFrame:
    """Return mean distances to what was hidden, method by method."""
    own = derive_seed(seed, "generated")
    straight = [ot_interpolant(train, t).draw(_ANIMALS, derive_seed(own, k)) for k, t in enumerate(_BETWEEN)]
    generated = {
        ("between", "learned mechanism"): [model.interpolate(t, _ANIMALS, own) for t in _BETWEEN],
        ("between", "transport"): straight,
        ("between", "Brownian bridge"): [blind.interpolate(t, _ANIMALS, own) for t in _BETWEEN],
        ("later", "learned mechanism"): [*model.forecast(_LATER, _ANIMALS, seed=own).values.unbind(1)],
        ("later", "last population"): [train.samples[-1]] * len(_LATER),
    }
    rows = []
    for (where, method), samples in generated.items():
        asked = _BETWEEN if where == "between" else _LATER
        report = evaluate(data.only(asked), Snapshots(asked, samples, names=data.names), ["W2"], seed=seed)
        found = [report.result("W2", t) for t in asked]
        floor = float(np.mean([np.nan if one.floor is None else one.floor for one in found]))
        value = float(np.mean([one.value for one in found]))
        rows.append({"where": where, "method": method, "W2": value, "floor": floor})
    return pd.DataFrame(rows)


def _picture(data: Snapshots, train: Snapshots, paths: Paths, parameters: pd.DataFrame) -> Figure:
    """Draw what is seen, what is generated, and the parameters."""
    with plotting.style():
        figure = Figure(figsize=(12.0, 4.0), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        plotting.snapshots(train, ax=left)
        left.set_title("counted")
        plotting.trajectories(paths, data.only((*_BETWEEN, *_LATER)), ax=middle, max_paths=60)
        middle.set_title("generated, over the hidden")
        ratio = parameters[["value", "low", "high"]].div(parameters["truth"], axis=0)
        places = np.arange(len(ratio))[::-1]
        bars = np.abs(np.stack([ratio["value"] - ratio["low"], ratio["high"] - ratio["value"]]))
        right.axvline(1.0, color=REAL, linewidth=1)
        right.errorbar(ratio["value"], places, xerr=bars, fmt="o", color=GENERATED, capsize=3)
        right.set_yticks(places, parameters["parameter"])
        right.set_xlabel("learned over true")
        right.set_title("parameters")
    return figure


PREDATOR_AND_PREY = Scene(
    "predators and prey from populations alone: their rates with intervals, against the truth", play
)
