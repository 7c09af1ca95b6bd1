"""Rates of jump processes: the network, the likelihood and both, beside counting, rivals and what no estimate can beat.

    python benchmarks/mjp.py --quick
    python benchmarks/mjp.py --json out.json

Files come from ``$GENDYN_DATA``; processes that the network was not trained on. Rows:

``constant``        one rate for all pairs, the mean of the true ones: it knows what nobody knows, and looks at nothing.
``count``           changes seen over time spent.
``EM``              the exact likelihood of right labels, from no start values.
``HMM-EM``          the likelihood that finds the label noise.
``network``         zero-shot.
``ours``            the default of ``gd.MarkovJumpModel``: both.
``complete paths``  Cramer-Rao bound of paths of which every jump is known.
``literature``      quoted from Berghaus et al. 2024, not run.

Rate RMSE is the root of the mean over all pairs, absent links among them, averaged over draws of K of the paths;
``low`` and ``high`` are two standard errors of that mean. ``coverage`` is that of 90 % intervals over all pairs, ``link
AUC`` how well link probabilities tell present from absent links. ``Hellinger`` is that of the laws over time, exact.
Seconds are of the processor, one fit.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd
from gendyn.evaluation.power_spectrum import hellinger
from gendyn.mjp import StateObservations, TransitionSummary
from gendyn.mjp.maximum_likelihood import anchor_rates
from gendyn.mjp.prior import draw_rate_matrices
from gendyn.sampling.jumps import RateMatrix, sample_events
from gendyn.sampling.jumps.rate_quantities import mean_first_passage_times, relaxation_times

LITERATURE = {1: 0.648, 30: 0.293, 100: 0.175, 300: 0.120, 500: 0.116, 1000: 0.230, 5000: 0.723}
"""Better of the two published networks by number of paths, V = 1."""

SIZES = (1, 10, 30, 100, 300, 1000, 5000)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--draws", type=int, default=33)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--parts", default="ratchet,corrupted,prior,heart,stress,speed", help="which parts, separated by commas"
    )
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    parts = {
        "ratchet": ratchet_rows,
        "corrupted": corrupted_rows,
        "prior": prior_rows,
        "heart": heart_rows,
        "stress": stress_rows,
        "speed": speed_rows,
    }
    rows, began = [], time.perf_counter()
    for name in arguments.parts.split(","):
        found = parts[name](arguments)
        show(f"Jump processes: {name}", found)
        rows += found
    rows.append(row("all", "seconds", time.perf_counter() - began))
    print(f"{rows[-1]['value']:.0f} s")
    store(arguments.json, rows)


class Score:
    """What one way to estimate has got over draws."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.coverage: list[float] = []
        self.areas: list[float] = []
        self.apart: list[float] = []
        self.noise: list[float] = []
        self.seconds: list[float] = []

    def add(self, truth: Tensor, estimate: Tensor, seconds: float | None = None) -> None:
        """Count one estimate."""
        self.errors.append(rmse(estimate, truth))
        if seconds is not None:
            self.seconds.append(seconds)

    def add_model(self, truth: Tensor, model: gd.MarkovJumpModel, seconds: float) -> None:
        """Count one fitted model, with all that it says."""
        self.add(truth, model.rate_matrix_, seconds)
        off = ~torch.eye(len(truth), dtype=torch.bool)
        low, high = model.interval(0.9)
        slack = 1e-9 * float(truth.abs().max())
        self.coverage.append(float(((truth >= low - slack) & (truth <= high + slack))[off].double().mean()))
        present = (truth > 0)[off]
        if model.link_probability_ is not None and 0 < int(present.sum()) < len(present):
            self.areas.append(area(model.link_probability_[off].numpy(), present.numpy()))
        self.noise.append(model.noise_)

    def rows(self, name: str, what: str, peer: float | None = None) -> list[dict[str, Any]]:
        """Return the means over what was counted."""
        middle, low, high = spread(self.errors)
        found = [
            row(name, f"rate RMSE, {what}", middle, low=low, high=high, peer=peer, seconds=mean(self.seconds)),
        ]
        for values, metric in (
            (self.coverage, "coverage"),
            (self.areas, "link AUC"),
            (self.apart, "Hellinger"),
            (self.noise, "label noise found"),
        ):
            if values and not (metric == "label noise found" and max(values) == 0):
                found.append(row(name, f"{metric}, {what}", mean(values)))
        return found


def ratchet_rows(arguments) -> list[dict[str, Any]]:
    """Return the rows of the flashing ratchet without noise, by number of paths."""
    rows = []
    for potential in (1, 3, 0):
        # What is asked for rests on the first potential; the others show how it changes.
        draws = 4 if arguments.quick else arguments.draws if potential == 1 else min(10, arguments.draws)
        paths = gd.datasets.load(f"ratchet-v{potential}")
        truth = torch.tensor(paths.info["rates"], dtype=torch.float64)
        sizes = (1, 30, 300) if arguments.quick else SIZES if potential == 1 else (1, 300, 5000)
        for size in sizes:
            what = f"V={potential}, K={size}"
            names = ("constant", "count", "EM", "network", "ours")
            scores = {name: Score() for name in names}
            for chosen in subsets(len(paths.values), size, draws, arguments.seed):
                some = gd.Paths(paths.times, paths.values[chosen], states=paths.states)
                one_draw(scores, truth, some, torch.tensor(paths.info["initial"]), paths.times)
            for name in names:
                peer = LITERATURE.get(size) if potential == 1 and name == "ours" else None
                rows += scores[name].rows(name, what, peer)
            rows.append(row("complete paths", f"rate RMSE, {what}", bound(truth, paths, size)))
    return rows


def one_draw(scores: dict[str, Score], truth: Tensor, paths: gd.Paths, initial: Tensor, times: Tensor) -> None:
    """Fit everything to one draw."""
    seen = StateObservations.of(paths, n_states=len(truth))
    flat = torch.full_like(truth, float((truth.sum() - truth.diagonal().sum()) / (truth.numel() - len(truth))))
    scores["constant"].add(truth, flat)
    scores["count"].add(truth, anchor_rates(seen))
    for name, model in (
        ("EM", gd.MarkovJumpModel("em", n_states=len(truth), noise=0.0)),
        ("network", gd.MarkovJumpModel("zero-shot", n_states=len(truth))),
        ("ours", gd.MarkovJumpModel(n_states=len(truth))),
    ):
        if name in scores:
            fitted, seconds = timed(model, paths)
            if name == "EM":
                scores[name].add(truth, fitted.rate_matrix_, seconds)
            else:
                scores[name].add_model(truth, fitted, seconds)
            if name != "network":
                scores[name].apart.append(laws_apart(fitted.rate_matrix_, truth, initial, times))


def corrupted_rows(arguments) -> list[dict[str, Any]]:
    """Return the rows of 300 paths of the ratchet with wrong labels or fewer looks."""
    paths = gd.datasets.load("ratchet-v1")
    truth = torch.tensor(paths.info["rates"], dtype=torch.float64)
    rows = []
    cases = ((0.01, 1), (0.05, 2), (0.1, 1), (0.1, 2), (0.0, 4))
    for noise, stride in cases[2:3] if arguments.quick else cases:
        scores = {name: Score() for name in ("count", "EM", "HMM-EM", "network", "ours")}
        generator = torch.Generator().manual_seed(arguments.seed)
        for chosen in subsets(len(paths.values), 300, 2 if arguments.quick else 5, arguments.seed):
            labels = wrong(paths.values[chosen].squeeze(-1)[:, ::stride].long(), noise, len(truth), generator)
            some = gd.Paths(paths.times[::stride], labels)
            scores["count"].add(truth, anchor_rates(StateObservations.of(some, n_states=len(truth))))
            for name, model in (
                ("EM", gd.MarkovJumpModel("em", n_states=len(truth), noise=0.0)),
                ("HMM-EM", gd.MarkovJumpModel("em", n_states=len(truth))),
                ("network", gd.MarkovJumpModel("zero-shot", n_states=len(truth))),
                ("ours", gd.MarkovJumpModel(n_states=len(truth))),
            ):
                if name == "EM":
                    scores[name].add(truth, timed(model, some)[0].rate_matrix_)
                else:
                    scores[name].add_model(truth, *timed(model, some))
        what = f"V=1, K=300, {noise:.0%} wrong, every {stride}. look"
        for name, score in scores.items():
            rows += score.rows(name, what)
    return rows


def prior_rows(arguments) -> list[dict[str, Any]]:
    """Return the rows of processes of the published prior, and of random processes on 8 and 10 states."""
    rows = []
    file = np.load(Path(os.environ["GENDYN_DATA"]) / "mjp" / "fim_prior_rates.npz")
    rng = np.random.default_rng(arguments.seed)
    grid = torch.arange(100, dtype=torch.float64) * 10 / 99
    cases = []
    for k in range(400, 404 if arguments.quick else 440):
        truth = torch.tensor(file["6st_irregular_Q"][k], dtype=torch.float64).fill_diagonal_(0.0)
        truth = truth - torch.diag(truth.sum(1))
        law = torch.tensor(file["6st_irregular_init"][k], dtype=torch.float64)
        cases.append(("published prior, 6 states, K=300, 1% wrong", truth, law, file["6st_irregular_lengths"][k], grid))
    for size in () if arguments.quick else (8, 10):
        for truth in draw_rate_matrices(5, size, np.random.default_rng([arguments.seed, size])):
            unit = 1 / float(-truth.diagonal().mean())
            law = torch.full((size,), 1 / size, dtype=torch.float64)
            lengths = np.full(300, 50)
            cases.append((f"{size} states, K=300, 1% wrong", truth, law, lengths, grid * unit * 2))
    scores: dict[tuple[str, str], Score] = {}
    for what, truth, law, lengths, times in cases:
        paths = irregular(truth, law, lengths, times, 0.01, rng)
        seen = StateObservations.of(paths, n_states=len(truth))
        scale = float(truth[~torch.eye(len(truth), dtype=torch.bool)].square().mean().sqrt())
        relative = truth if "published" in what else truth / scale
        factor = 1.0 if "published" in what else scale
        scores.setdefault(("count", what), Score()).add(relative, anchor_rates(seen) / factor)
        for name, method in (("HMM-EM", "em"), ("network", "zero-shot"), ("ours", "auto")):
            fitted, seconds = timed(gd.MarkovJumpModel(method, n_states=len(truth)), paths)
            score = scores.setdefault((name, what), Score())
            score.add_model(truth, fitted, seconds)
            score.errors[-1] = rmse(fitted.rate_matrix_ / factor, relative)
    for (name, what), score in scores.items():
        unit = "rate RMSE" if "published" in what else "rate RMSE over rms rate"
        rows.append(row(name, f"median {unit}, {what}", float(np.median(score.errors)), seconds=mean(score.seconds)))
        rows += [entry for entry in score.rows(name, what)[1:] if "noise" not in entry["metric"]]
    return rows


def heart_rows(arguments) -> list[dict[str, Any]]:
    """Return the rows of transplanted hearts, in years and in seconds, beside the published fits of msm."""
    paths = gd.datasets.load("cav")
    links = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    forward = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    confused = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    rows = []
    for unit, factor in (("years", 1.0), ("seconds", 365.25 * 86400)):
        some = gd.Paths(paths.times * factor, paths.values, lengths=paths.lengths, names=["state"], states=paths.states)
        fits = {
            "exact deaths": (gd.MarkovJumpModel("em", noise=0.0, entry=["death"], allowed=links), 3968.798),
            "misclassified": (
                gd.MarkovJumpModel(
                    "em",
                    noise="confusion",
                    entry=["death"],
                    allowed=forward,
                    confused=confused,
                    initial=[1.0, 0.0, 0.0, 0.0],
                ),
                3951.829,
            ),
        }
        for name, (model, published) in fits.items():
            fitted, seconds = timed(model, some)
            value = -2 * fitted.log_likelihood_
            # The density of an exact death is per unit of time.
            value -= 2 * int((paths.values[..., 0] == 3).any(1).sum()) * np.log(factor)
            rows.append(row("EM", f"-2 log L, {name}, {unit}", value, peer=published, seconds=seconds))
    return rows


def stress_rows(arguments) -> list[dict[str, Any]]:
    """Return the rows of rates over almost four decades, and of a channel's recordings."""
    rows = []
    system = gd.systems.AlanineDipeptide()
    slowest = float(relaxation_times(system)[0])
    # Two hundred paths hold one or two of the slowest jumps: the first row says what knowing every jump would give.
    for count in (200,) if arguments.quick else (200, 20_000):
        ratios: dict[str, list[float]] = {"complete paths": [], "EM": [], "network": [], "ours": []}
        for draw in range(2 if arguments.quick else 10 if count == 200 else 3):
            start = system.initial(count, seed=draw)
            paths = gd.sample(system, start, system.times, seed=draw)
            events = sample_events(system, start, system.times[-1], seed=draw)
            for name, model, data in (
                ("complete paths", gd.MarkovJumpModel("em", n_states=6, noise=0.0), events),
                ("EM", gd.MarkovJumpModel("em", n_states=6, noise=0.0), paths),
                ("network", gd.MarkovJumpModel("zero-shot", n_states=6), paths),
                ("ours", gd.MarkovJumpModel(n_states=6), paths),
            ):
                fitted, _ = timed(model, data)
                ratios[name].append(float(relaxation_times(fitted.process_)[0]) / slowest)
        for name, values in ratios.items():
            what = f"slowest relaxation time over the true one, ADP-like, {count} paths"
            rows.append(row(name, what, float(np.median(values)), low=min(values), high=max(values)))
    channel = gd.systems.IonChannel()
    stationary, passages = channel.stationary(), mean_first_passage_times(channel)
    off = ~torch.eye(3, dtype=torch.bool)
    for count in (1, 20) if arguments.quick else (1, 20, 200):
        found: dict[str, list[tuple[float, float]]] = {"EM": [], "network": [], "ours": []}
        for draw in range(2 if arguments.quick else 5):
            paths = gd.sample(channel, channel.initial(count, seed=draw), channel.times, seed=draw)
            for name in found:
                method = {"EM": "em", "network": "zero-shot", "ours": "auto"}[name]
                fitted, _ = timed(gd.MarkovJumpModel(method, n_states=3, noise=0.0), paths)
                law = float((fitted.process_.stationary() - stationary).abs().max())
                ratio = mean_first_passage_times(fitted.process_)[off] / passages[off]
                found[name].append((law, float((ratio - 1).abs().max())))
        for name, values in found.items():
            law, passage = np.mean(values, 0)
            what = f"ion channel, {count} s"
            rows.append(row(name, f"stationary law, largest error, {what}", float(law)))
            rows.append(row(name, f"first passage times, largest relative error, {what}", float(passage)))
    return rows


def speed_rows(arguments) -> list[dict[str, Any]]:
    """Return seconds of fits and summaries."""
    paths = gd.datasets.load("ratchet-v1")
    rows = []
    sets = [
        gd.Paths(paths.times, paths.values[chosen])
        for chosen in subsets(len(paths.values), 300, 20 if arguments.quick else 100, arguments.seed)
    ]
    for name, method in (("network", "zero-shot"), ("ours", "auto")):
        seconds = [timed(gd.MarkovJumpModel(method, n_states=6), some)[1] for some in sets]
        rows.append(row(name, "seconds, 300 paths of 100 looks", float(np.median(seconds))))
    generator = torch.Generator().manual_seed(arguments.seed)
    seconds = []
    for some in sets[: 3 if arguments.quick else 10]:
        labels = wrong(some.values.squeeze(-1).long(), 0.05, 6, generator)
        seconds.append(timed(gd.MarkovJumpModel(n_states=6), gd.Paths(paths.times, labels))[1])
    rows.append(row("ours", "seconds, 300 paths of 100 looks, 5% wrong", float(np.median(seconds))))
    began = time.process_time()
    count = 100 if arguments.quick else 1000
    for k in range(count):
        gd.MarkovJumpModel("zero-shot", n_states=6).fit(sets[k % len(sets)], progress=False)
    rows.append(row("network", f"seconds, {count} data sets", time.process_time() - began))
    many = gd.Paths(paths.times, paths.values.repeat(10, 1, 1))
    began = time.process_time()
    TransitionSummary.of(StateObservations.of(many, n_states=6))
    rows.append(row("summary", "seconds, 100,000 paths of 100 looks", time.process_time() - began))
    return rows


def irregular(
    rates: Tensor, law: Tensor, lengths: np.ndarray, grid: Tensor, noise: float, rng: np.random.Generator
) -> gd.Paths:
    """Simulate paths of which each is seen at that many random points of a grid, with wrong labels."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**60)))
    start = torch.multinomial(law.clamp_min(0), len(lengths), replacement=True, generator=generator)
    full = gd.sample(RateMatrix(rates), start[:, None], grid, seed=generator).values.squeeze(-1).long()
    kept = np.sort(np.argsort(rng.random((len(lengths), len(grid))), 1)[:, : lengths.max()], 1)
    for k, length in enumerate(lengths):
        kept[k, :length] = np.sort(rng.permutation(kept[k])[:length])
        kept[k, length:] = kept[k, length - 1]
    places = torch.from_numpy(kept)
    labels = wrong(full.gather(1, places), noise, len(rates), generator)
    return gd.Paths(grid[places], labels, lengths=torch.from_numpy(lengths.astype(np.int64)))


def wrong(labels: Tensor, noise: float, size: int, generator: torch.Generator) -> Tensor:
    """Replace labels by any other with a probability."""
    chosen = torch.rand(labels.shape, generator=generator) < noise
    other = (labels + torch.randint(1, size, labels.shape, generator=generator)) % size
    return torch.where(chosen, other, labels)


def subsets(total: int, size: int, draws: int, seed: int) -> Iterable[Tensor]:
    """Yield which paths a draw has."""
    rng = np.random.default_rng([seed, size])
    for _ in range(draws):
        yield torch.from_numpy(rng.permutation(total)[:size])


def timed(model: gd.MarkovJumpModel, paths: gd.Paths) -> tuple[gd.MarkovJumpModel, float]:
    """Fit; return the model and seconds of the processor."""
    began = time.process_time()
    model.fit(paths, progress=False)
    return model, time.process_time() - began


def rmse(estimate: Tensor, truth: Tensor) -> float:
    """Return the root mean square over all pairs of different states."""
    off = ~torch.eye(len(truth), dtype=torch.bool)
    return float((estimate - truth)[off].square().mean().sqrt())


def bound(truth: Tensor, paths: gd.Paths, size: int) -> float:
    """Return the Cramer-Rao bound of complete paths: rate over expected time in its state."""
    law = torch.tensor(paths.info["initial"], dtype=torch.float64)
    grid = torch.linspace(float(paths.times[0]), float(paths.times[-1]), 200, dtype=torch.float64)
    step = torch.linalg.matrix_exp(truth * (grid[1] - grid[0]))
    laws = [law / law.sum()]
    for _ in grid[1:]:
        laws.append(laws[-1] @ step)
    spent = torch.trapezoid(torch.stack(laws), grid, dim=0) * size
    off = ~torch.eye(len(truth), dtype=torch.bool)
    return float((truth / spent[:, None])[off].mean().sqrt())


def laws_apart(estimate: Tensor, truth: Tensor, initial: Tensor, times: Tensor) -> float:
    """Return the Hellinger distance of the laws from the same start, averaged over the times."""
    initial = initial.double() / initial.sum()
    moved = [initial @ torch.linalg.matrix_exp(q * times[:, None, None].double()) for q in (estimate, truth)]
    one, two = (m.clamp_min(0).T.numpy() for m in moved)
    return float(np.mean(hellinger(one, two)))


def area(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the area under the curve of true against false positives."""
    ranks, count = rankdata(scores), int(present.sum())
    return float((ranks[present].sum() - count * (count + 1) / 2) / (count * (len(present) - count)))


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the mean, and two standard errors to either side."""
    middle, error = float(np.mean(values)), 2 * float(np.std(values)) / max(1, len(values) - 1) ** 0.5
    return middle, middle - error, middle + error


def mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main()
