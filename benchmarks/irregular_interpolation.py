"""Interpolation of irregular series, and what else patients' series tell: a stable neural SDE beside regressions.

    python benchmarks/irregular_interpolation.py --json out.json
    python benchmarks/irregular_interpolation.py --quick

1500 patients of PhysioNet 2012, read from ``$GENDYN_DATA/stable_sde``: 36 channels (``MechVent`` is always 1) over 48
hours, at times of their own. Four fifths are trained on, one fifth is counted (seed 42). A share of the moments is
observed, in both; only moments that were hidden are counted, in standard deviations of what was trained on.

``stable SDE``     the mean over noise paths; ``80 % held`` is how much of the truth its 80 % intervals hold.
``ridge``          for each channel by itself on the line between observations, the mean of the series and an
                   exponential kernel of 90 minutes, each also times log count and gap: the strongest peer.
``line``           between observations.
``last value``     the last observation.
``mean``           of what was trained on: the floor.

Death in hospital, from whole series and static covariates: area under the curve over divisions 70/15/15 by seeds, of
the classifier and of logistic regression on first, last, mean, smallest, largest and log count of every channel.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as PlainRidge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.sde import SeriesScaling, read_series
from gendyn.sde.hidden_entries import hide
from gendyn.sde.series import Series
from gendyn.sde.series_features import summaries
from gendyn.sde.surroundings import surroundings

SHARES = (0.5, 0.7, 0.9)


def patients() -> Series:
    """Return all series without the channel that is constant."""
    paths = gd.datasets.load("physionet2012")
    series = read_series(paths)
    names = series.names or ()
    kept = [k for k, name in enumerate(names) if name != "MechVent"]
    return Series(series.times, series.values[:, :, kept], series.lengths, series.labels, tuple(names[k] for k in kept))


def as_paths(series: Series) -> gd.Paths:
    """Return series as the models take them."""
    return gd.Paths(
        series.times, series.values.nan_to_num(0.0), series.seen, series.lengths, series.labels, series.names
    )


def peers(train: Series, test: Series, asked: torch.Tensor, shown: float, seed: int) -> dict[str, torch.Tensor]:
    """Return what others say of scaled test series at the times asked about ``(B, Q, D)``."""
    # The unit of scaled time is 48 hours.
    kernel = (1.5 / 48, 1.5 / 48)
    rest, at, outcome = hide(train, 1 - shown, "row", seed)

    def told(series: Series, when: torch.Tensor) -> torch.Tensor:
        found = surroundings(series, when, kernel)
        values, count, gap = found[..., :3], found[..., 4:5], found[..., 5:].amin(-1, keepdim=True)
        return torch.cat([values, values * count, values * gap], dim=-1)

    known, wanted = told(rest, at), told(test, asked)
    line = wanted[..., 0]
    ridge = line.clone()
    for d in range(train.dim):
        seen = ~outcome[..., d].isnan()
        if int(seen.sum()) >= 30:
            fitted = PlainRidge(alpha=1.0).fit(known[..., d, :][seen].numpy(), outcome[..., d][seen].numpy())
            ridge[..., d] = torch.from_numpy(fitted.predict(wanted[..., d, :].flatten(0, 1).numpy())).reshape(
                line.shape[:2]
            )
    rows = torch.searchsorted(test.times.contiguous(), asked.contiguous(), right=True) - 1
    place = torch.arange(test.values.shape[1])[None, :, None].expand(test.values.shape)
    latest = torch.where(test.seen, place, -1).cummax(1).values.gather(1, rows[:, :, None].expand(-1, -1, test.dim))
    last = torch.where(latest < 0, 0.0, test.values.nan_to_num(0.0).gather(1, latest.clamp_min(0)))
    return {"ridge": ridge, "line": line, "last value": last, "mean": torch.zeros_like(line)}


def interpolate(series: Series, shown: float, seeds: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one share of moments that are observed."""
    train, test = (
        torch.from_numpy(k) for k in train_test_split(np.arange(len(series)), test_size=0.2, random_state=42)
    )
    scaling = SeriesScaling.fit(series.rows(train))
    rest, asked, outcome = hide(series.rows(test), 1 - shown, "row", 1)
    truth = (outcome - scaling.mean) / scaling.deviation
    seen = ~truth.isnan()
    which = f"physionet2012, {100 * shown:.0f} % observed"
    errors, held, seconds = [], [], []
    for seed in range(seeds):
        began = time.perf_counter()
        model = gd.StableSDEInterpolator("row", 1 - shown, **options)
        model.fit(as_paths(series.rows(train)), seed=seed, progress=False)
        seconds.append(time.perf_counter() - began)
        mean = (torch.from_numpy(model.predict(as_paths(rest), asked)) - scaling.mean) / scaling.deviation
        low, high = (torch.from_numpy(x) for x in model.predict_interval(as_paths(rest), asked, n=40))
        errors.append(float((mean - truth)[seen].square().mean()))
        held.append(float(((low <= outcome) & (outcome <= high))[seen].double().mean()))
        print(f"{which}: seed {seed}: MSE {errors[-1]:.4f}, 80 % intervals hold {held[-1]:.3f}", flush=True)
    took = float(np.mean(seconds))
    rows = [
        row(f"{which}: stable SDE", metric, float(np.mean(found)), low=min(found), high=max(found), seconds=took)
        for metric, found in (("MSE hidden", errors), ("80 % held", held))
    ]
    scaled = scaling.transform(series)
    others = peers(scaled.rows(train), scaling.transform(rest), scaling.clock(asked, rest), shown, 0)
    for label, found in others.items():
        peer = {"ridge": "peer", "mean": "floor"}.get(label, "trivial")
        rows.append(row(f"{which}: {label}", "MSE hidden", float((found - truth)[seen].square().mean()), peer=peer))
    return rows


def mortality(series: Series, seeds: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of death in hospital."""
    table = gd.datasets.table("physionet2012-patients")
    static = table.drop(columns=["record", "died"]).to_numpy(np.float32)
    # The kind of ward is unknown of every patient of this file.
    static = static[:, ~np.isnan(static).all(0)]
    died = table["died"].to_numpy()
    found: dict[str, list[float]] = {"stable SDE": [], "logistic regression": []}
    for seed in range(seeds):
        train, other = train_test_split(np.arange(len(died)), test_size=0.3, random_state=seed, stratify=died)
        held, test = train_test_split(other, test_size=0.5, random_state=seed, stratify=died[other])
        parts = {
            name: as_paths(series.rows(torch.from_numpy(k))) for name, k in (("a", train), ("b", held), ("c", test))
        }
        model = gd.StableSDEClassifier(**options)
        watched = {"data": parts["b"], "static": static[held]}
        model.fit(parts["a"], static=static[train], validation=watched, seed=seed, progress=False)
        chance = model.predict_proba(parts["c"], static=static[test])[:, model.classes_.tolist().index("died")]
        found["stable SDE"].append(float(roc_auc_score(died[test], chance)))
        scaling = SeriesScaling.fit(series.rows(torch.from_numpy(train)))
        filled = np.where(np.isnan(static), np.nanmean(static[train], axis=0), static)
        told = np.concatenate([summaries(scaling.transform(series)).numpy(), filled], axis=1)
        units = StandardScaler().fit(told[train])
        strengths = {"C": np.logspace(-4, 0, 5)}
        plain = GridSearchCV(LogisticRegression(max_iter=2000), strengths, cv=5, scoring="neg_log_loss")
        plain.fit(units.transform(told[train]), died[train])
        odds = plain.predict_proba(units.transform(told[test]))[:, 1]
        found["logistic regression"].append(float(roc_auc_score(died[test], odds)))
        print(
            f"mortality: seed {seed}: {found['stable SDE'][-1]:.3f}, {found['logistic regression'][-1]:.3f}", flush=True
        )
    rows = [
        row(f"mortality: {label}", "AUROC", float(np.mean(x)), low=min(x), high=max(x),
            peer="peer" if label != "stable SDE" else None)
        for label, x in found.items()
    ]  # fmt: skip
    return [*rows, row("mortality: chance", "AUROC", 0.5, peer="floor")]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--shares", nargs="+", type=float, help="shares of observed moments (default: .5 .7 .9)")
    options.add_argument("--seeds", type=int, help="starts and divisions (default: 5)")
    options.add_argument("--epochs", type=int, help="at most (default: 20)")
    options.add_argument("--tasks", nargs="+", default=["interpolation", "mortality"], help="which (default: both)")
    given = options.parse_args()
    begin(given)
    seeds = given.seeds or (1 if given.quick else 5)
    more: dict[str, Any] = {"epochs": given.epochs or (3 if given.quick else 20)}
    series = patients()
    rows: list[dict[str, Any]] = []
    if "interpolation" in given.tasks:
        for shown in given.shares or ((0.5,) if given.quick else SHARES):
            rows.extend(interpolate(series, shown, seeds, more))
            store(given.json, rows)
    if "mortality" in given.tasks:
        # A thousand patients, of whom one in seven dies: few steps, small ones, and much hidden.
        slow = {"channels": ("time", "intensity"), "lr": 5e-4, "dropout": 0.3, "patience": 5}
        rows.extend(mortality(series, seeds, slow | more))
    show("Interpolation of irregular series", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
