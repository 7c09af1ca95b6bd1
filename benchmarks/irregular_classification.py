"""Classes of irregular series: stable neural SDEs, their neighbours, random kernels with ridge, and the largest class.

    python benchmarks/irregular_classification.py --json out.json
    python benchmarks/irregular_classification.py --quick
    python benchmarks/irregular_classification.py --sets basic-motions gunpoint --kinds langevin

Sets of the UCR/UEA archive, read from ``$GENDYN_DATA/stable_sde``. The archive's two parts are merged and divided
70/15/15 within classes, by a seed; a share of the rows of every series, of its own, is hidden in all three parts.
Scalings are fitted on what is observed of the training part; training stops by the second; the third is only counted.

``stable SDE (kind)``        as it comes: starts from a ridge regression, and learns what that leaves.
``stable SDE alone (kind)``  the network without the regression.
``neural CDE``, ``GRU-D``,   the neighbours, networks alone as well, as they come; the neural CDE takes 50 steps for a
``GRU-dt``, ``mTAN``         series of any length. ``--quick`` runs the neural CDE alone.
``latent SDE``               learns the process behind all series without their labels; a ridge regression on the mean
                             of the posterior of each, at 50 times, classifies.
``random kernels + ridge``   that regression: 500 random convolutions and summaries of the lines between observations.
``largest class``            nothing is looked at.

Accuracy is the mean over seeds; ``low`` and ``high`` are mean -+ standard deviation over seeds. Test parts are small
(12 series of BasicMotions, 9 of Coffee): ``pooled accuracy`` counts all seeds together, with a 95 % Wilson interval.
Then come the falls of accuracy from nothing hidden to most hidden, and from complete test series to such as nobody was
trained on: 60 % of their rows hidden, or one gap of 40 %; and those of models that learn from copies with gaps too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.data import drop_blocks, drop_rows
from gendyn.sde import Ridge, SeriesScaling, read_series
from gendyn.sde.series_features import SeriesFeatures

SETS = ("basic-motions", "japanese-vowels", "coffee", "gunpoint", "arrowhead", "trace")
RATES = (0.0, 0.3, 0.5, 0.7)

Right = np.ndarray[Any, np.dtype[np.bool_]]
Method = Callable[[gd.Paths, gd.Paths, gd.Paths, int], Right]


def stable(kind: str, **options: Any) -> Method:
    """Return what trains a stable SDE and says which series of the test part are right."""

    def run(train: gd.Paths, held: gd.Paths, test: gd.Paths, seed: int) -> Right:
        model = gd.StableSDEClassifier(kind, **options).fit(train, validation=held, seed=seed, progress=False)
        return np.asarray(model.predict(test, seed=seed) == test.labels)

    return run


def neighbour(make: Callable[[], Any]) -> Method:
    """Return what trains a network and says which series of the test part are right."""

    def run(train: gd.Paths, held: gd.Paths, test: gd.Paths, seed: int) -> Right:
        model = make().fit(train, validation=held, seed=seed, progress=False)
        return np.asarray(model.predict(test) == test.labels)

    return run


NEIGHBOURS: dict[str, Method] = {
    "neural CDE": neighbour(lambda: gd.NeuralCDEClassifier(step=1 / 50)),
    "GRU-D": neighbour(lambda: gd.GRUClassifier("gru-d")),
    "GRU-dt": neighbour(lambda: gd.GRUClassifier("gru-dt")),
    "mTAN": neighbour(lambda: gd.MTANClassifier()),
}


def latent_sde(train: gd.Paths, held: gd.Paths, test: gd.Paths, seed: int) -> Right:
    """Return which series of the test part are right by the posterior of a process that was learned without labels."""
    model = gd.LatentSDE(step=1 / 25, epochs=30).fit(train, seed=seed, progress=False)

    def told(paths: gd.Paths) -> torch.Tensor:
        series = read_series(paths)
        first, last = series.times[:, :1], series.times[:, -1:]
        at = first + (last - first) * torch.linspace(0, 1, 50, dtype=torch.float64)
        return torch.from_numpy(model.predict_samples(paths, at, n=8, observed=False, seed=seed).mean(0)).flatten(1)

    classes, codes = np.unique(train.labels, return_inverse=True)
    features = told(train)
    ridge, _ = Ridge.fit(features, features.new_tensor(2.0 * np.eye(len(classes))[codes] - 1))
    return np.asarray(classes[ridge(told(test)).argmax(1).numpy()] == test.labels)


def random_kernels(train: gd.Paths, held: gd.Paths, test: gd.Paths, seed: int) -> Right:
    """Return which series of the test part random kernels with ridge classify rightly."""
    series, asked = read_series(train), read_series(test)
    scaling = SeriesScaling.fit(series)
    features = SeriesFeatures.fit(scaling.transform(series), seed=seed)
    classes, codes = np.unique(series.labels, return_inverse=True)
    told = features(scaling.transform(series))
    ridge, _ = Ridge.fit(told, told.new_tensor(2.0 * np.eye(len(classes))[codes] - 1))
    chosen = ridge(features(scaling.transform(asked))).argmax(1).numpy()
    return np.asarray(classes[chosen] == test.labels)


def largest_class(train: gd.Paths, held: gd.Paths, test: gd.Paths, seed: int) -> Right:
    """Return which series are of the largest class of the training part."""
    classes, counts = np.unique(train.labels, return_counts=True)
    return np.asarray(test.labels == classes[counts.argmax()])


def parts_of(name: str, rate: float, seed: int) -> tuple[gd.Paths, gd.Paths, gd.Paths]:
    """Return what is trained on, what stops training, and what is counted."""
    paths = gd.datasets.load(name)
    hidden = drop_rows(paths, rate, seed=seed) if rate else paths
    rows, labels = np.arange(len(paths)), paths.labels
    train, rest = train_test_split(rows, test_size=0.3, stratify=labels, random_state=seed)
    held, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=seed)
    return hidden.select(train), hidden.select(held), hidden.select(test)


def shifted(name: str, kind: str, seeds: int) -> list[dict[str, Any]]:
    """Return how much accuracy falls where test series have holes that the training series have not."""
    rows = []
    for told, gaps in (("trained on complete series", 0.0), ("trained on copies with gaps too", 0.5)):
        found: dict[str, list[float]] = {"accuracy": [], "fall to 60 % of rows hidden": [], "fall to a gap of 40 %": []}
        for seed in range(seeds):
            train, held, test = parts_of(name, 0.0, seed)
            model = gd.StableSDEClassifier(kind, gaps=gaps).fit(train, validation=held, seed=seed, progress=False)
            whole = model.score(test, seed=seed)
            spoilt = drop_rows(test, 0.6, seed=seed), drop_blocks(test, 0.4, seed=seed)
            falls = [whole - model.score(part, seed=seed) for part in spoilt]
            for part, value in zip(found.values(), (whole, *falls), strict=True):
                part.append(value)
        rows += [
            row(f"{name}: stable SDE ({kind}), {told}", metric, float(np.mean(part)), low=min(part), high=max(part))
            for metric, part in found.items()
        ]
    return rows


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    z, share = 1.96, right / n
    centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float((centre - reach) / (1 + z**2 / n)), float((centre + reach) / (1 + z**2 / n))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", choices=SETS, help="which sets (default: all)")
    options.add_argument("--kinds", nargs="+", default=("langevin", "linear-noise", "geometric"), help="which SDEs")
    options.add_argument("--seeds", type=int, help="how many splits (default: 5)")
    options.add_argument(
        "--neighbours", nargs="*", choices=[*NEIGHBOURS, "latent SDE"], help="which others (default: all)"
    )
    given = options.parse_args()
    begin(given)
    sets = given.sets or (("basic-motions", "gunpoint") if given.quick else SETS)
    rates = (0.0, 0.7) if given.quick else RATES
    seeds = given.seeds or (2 if given.quick else 5)
    kinds = given.kinds[:1] if given.quick else given.kinds
    methods: dict[str, Method] = {f"stable SDE ({kind})": stable(kind) for kind in kinds}
    methods[f"stable SDE alone ({kinds[0]})"] = stable(kinds[0], residual=False, lr=1e-2)
    chosen = (
        given.neighbours
        if given.neighbours is not None
        else ("neural CDE",)
        if given.quick
        else [*NEIGHBOURS, "latent SDE"]
    )
    methods |= {name: (NEIGHBOURS | {"latent SDE": latent_sde})[name] for name in chosen}
    methods |= {"random kernels + ridge": random_kernels, "largest class": largest_class}
    rows: list[dict[str, Any]] = []
    for name in sets:
        means: dict[tuple[str, float], float] = {}
        for rate in rates:
            parts = [parts_of(name, rate, seed) for seed in range(seeds)]
            for label, method in methods.items():
                began = time.perf_counter()
                found = [method(*part, seed) for seed, part in enumerate(parts)]
                seconds = (time.perf_counter() - began) / seeds
                shares = np.array([right.mean() for right in found])
                mean, sd = float(shares.mean()), float(shares.std(ddof=1)) if seeds > 1 else 0.0
                means[label, rate] = mean
                which = f"{name}, {100 * rate:.0f} % hidden"
                peer = None if label.startswith("stable") else "trivial" if label == "largest class" else "peer"
                rows.append(
                    row(
                        f"{which}: {label}", "accuracy", mean, low=mean - sd, high=mean + sd, peer=peer, seconds=seconds
                    )
                )
                pooled = np.concatenate(found)
                low, high = wilson(int(pooled.sum()), len(pooled))
                rows.append(
                    row(f"{which}: {label}", "pooled accuracy", float(pooled.mean()), low=low, high=high, peer=peer)
                )
                print(f"{which}: {label}: {mean:.3f} +- {sd:.3f} ({seconds:.1f} s a fit)", flush=True)
        for label in methods:
            fall = means[label, rates[0]] - means[label, rates[-1]]
            rows.append(row(f"{name}: {label}", f"fall to {100 * rates[-1]:.0f} % hidden", fall))
        rows += shifted(name, kinds[0], seeds)
    show("Accuracy on irregular series", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
