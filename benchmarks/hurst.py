"""Hurst indices: bias, spread and coverage of every estimator, indices learned from noisy looks, and real series.

    GENDYN_DATA=... python benchmarks/hurst.py [--part estimators|noisy|variational|series|generated|varying]

- ``estimators``: fractional noise of 1024 values, 40 series for each H. The floor of the spread is that of the exact
  likelihood.
- ``noisy``: ``gd.FractionalOU`` on 64 paths of fractional Brownian motion, 128 looks each over one time unit, with
  noise of .05; 40 such data sets for each H. The peer is the mean Whittle estimate of the same paths, which takes the
  noise for roughness; for coverage it is the nominal .9.
- ``variational``: the same by ``gd.FractionalSDE``, data sets as channels, each with an index of its own.
- ``series``: real series by the exact estimators and by ``gd.FractionalOU``; the peer is the published value.
- ``generated``: series that ``gd.FractionalOU`` makes after a fit: their own index less that of the data, and the
  variogram of rough volatility beside that of the data at lags up to 100. The peer is how far published neural
  generators miss (NANSDE-Net 2026, its own estimator: fractional SDE, the better of the two where both are given).
- ``varying``: an index that falls with time, learned by likelihood from 200 paths of X = exp(B/2 + t/2 - t^2H(t)/8), B
  exact. The peer is the best constant index; the goal is .08.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.evaluation import HURST_ESTIMATORS, hurst_index
from gendyn.sampling import sample_fractional_brownian_motion, sample_fractional_noise
from gendyn.sampling.fractional import HurstCurve, MultifractionalMotion, variance_constant

Rows = list[dict[str, Any]]
Array = NDArray[np.float64]

PATHS, LOOKS, NOISE = 64, 128, 0.05
INDICES = (0.15, 0.3, 0.5, 0.7, 0.85)

# Of each series the feature, what it is, the index as published by estimator, and the least miss of a published
# generator.
SERIES: dict[str, tuple[str, str, dict[str, float], float | None]] = {
    "nile": ("level", "noise", {"whittle": 0.8388, "likelihood": 0.8315}, 0.021),
    "nbs": ("deviation", "noise", {"whittle": 0.5890, "likelihood": 0.5805}, None),
    "hemisphere": ("anomaly", "noise", {"whittle": 0.8347, "likelihood": 0.8272}, None),
    "ethernet": ("bytes", "noise", {"whittle": 0.6913}, 0.011),
    "spx": ("rv", "path", {"whittle": 0.1368, "likelihood": 0.1368}, None),
}
GENERATED = ("nile", "hemisphere", "ethernet", "spx")
VARIOGRAM_LAGS = (1, 2, 5, 10, 20, 50, 100)


def load(name: str) -> tuple[Array, str]:
    """Return a real series ``(n,)`` and what it is; realised variance as its logarithm."""
    feature, kind, _, _ = SERIES[name]
    paths = gd.datasets.load(name)
    values = paths.values[0, :, (paths.names or ()).index(feature)].double().numpy()
    return (np.log(values) if kind == "path" else values), kind


def as_path(values: Array, kind: str) -> Array:
    """Return a series as a path: noise is centred and summed."""
    return values if kind == "path" else np.concatenate([[0.0], np.cumsum(values - values.mean())])


def whittle(values: Array, kind: str = "path") -> float:
    """Return the Whittle estimate of a series."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return hurst_index(values, kind, method="whittle").value


def learned(paths: Array) -> gd.FractionalOU:
    """Fit fractional Brownian motion to a path ``(n,)`` that was looked at without noise."""
    model = gd.FractionalOU(rate=0, level="own", noise=0)
    return model.fit(torch.from_numpy(paths)[None], times=torch.arange(float(len(paths))), progress=False)


def estimators(quick: bool) -> Rows:
    """Return bias, spread and coverage of each estimator of one series."""
    count, rows = 4 if quick else 40, []
    for hurst in (0.1, 0.3, 0.5, 0.7, 0.9):
        noise = sample_fractional_noise(hurst, count, 1024, seed=0)[:, :, 0].numpy()
        for method in HURST_ESTIMATORS:
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = [hurst_index(np.cumsum(x), "path", method=method) for x in noise]
            values = np.array([f.value for f in found])
            spent = (time.perf_counter() - start) / count
            name = f"H = {hurst}, {method}"
            rows.append(row(name, "bias", float(values.mean() - hurst), seconds=spent))
            rows.append(row(name, "spread", float(values.std(ddof=1))))
            rows.append(row(name, "coverage of 90 %", float(np.mean([f.covers(hurst) for f in found]))))
    return rows


def noisy(quick: bool) -> Rows:
    """Return bias, spread and coverage of indices learned from noisy looks, with the noise known and learned."""
    count, rows = 3 if quick else 40, []
    times = torch.arange(1, LOOKS + 1, dtype=torch.float64) / LOOKS
    for hurst in INDICES:
        clean = sample_fractional_brownian_motion(hurst, times, count * PATHS, seed=1)
        draw = torch.Generator().manual_seed(1)
        looks = clean + NOISE * torch.randn(clean.shape, generator=draw, dtype=torch.float64)
        sets = looks.reshape(count, PATHS, LOOKS, 1)
        naive = np.mean([[whittle(x) for x in part[:, :, 0].numpy()] for part in sets[: 1 if quick else 5]])
        for noise in (NOISE, "estimate"):
            start = time.perf_counter()
            found, covered = [], []
            for part in sets:
                model = gd.FractionalOU(rate=0, level="own", noise=noise).fit(part, times=times, progress=False)
                low, high = (v.item() for v in model.interval(0.9))
                found.append(model.hurst_.item())
                covered.append(low <= hurst <= high)
            spent = (time.perf_counter() - start) / count
            name = f"H = {hurst}, {PATHS} noisy paths, noise {'known' if noise == NOISE else 'learned'}"
            rows.append(row(name, "bias", float(np.mean(found) - hurst), peer=float(naive - hurst), seconds=spent))
            rows.append(row(name, "spread", float(np.std(found, ddof=1))))
            rows.append(row(name, "coverage of 90 %", float(np.mean(covered)), peer=0.9))
    return rows


def variational(quick: bool) -> Rows:
    """Return bias, spread and coverage of indices learned by a bound of the evidence."""
    count, rows = 3 if quick else 40, []
    times = torch.arange(1, LOOKS + 1, dtype=torch.float64) / LOOKS
    for hurst in INDICES:
        clean = sample_fractional_brownian_motion(hurst, times, count * PATHS, seed=1)
        draw = torch.Generator().manual_seed(1)
        looks = clean + NOISE * torch.randn(clean.shape, generator=draw, dtype=torch.float64)
        sets = looks.reshape(count, PATHS, LOOKS).permute(1, 2, 0)
        start = time.perf_counter()
        # Channels share nothing without a drift, so that one fit is many.
        model = gd.FractionalSDE(drift="none", noise=NOISE, epochs=200, lr=0.1, clip=None)
        model.fit(sets, times=times, progress=False)
        spent = (time.perf_counter() - start) / count
        low, high = model.interval(0.9)
        covered = float(((low <= hurst) & (hurst <= high)).double().mean())
        name = f"H = {hurst}, {PATHS} noisy paths, variational"
        rows.append(row(name, "bias", float(model.hurst_.mean()) - hurst, seconds=spent))
        rows.append(row(name, "spread", float(model.hurst_.std())))
        rows.append(row(name, "coverage of 90 %", covered, peer=0.9))
    return rows


def series(quick: bool) -> Rows:
    """Return the indices of real series beside the published ones."""
    rows = []
    for name, (_, _, published, _) in SERIES.items():
        values, kind = load(name)
        for method, value in published.items():
            if quick and method == "likelihood" and len(values) > 2000:
                continue
            start = time.perf_counter()
            estimate = hurst_index(values, kind, method=method)
            spent = time.perf_counter() - start
            bounds = {"low": estimate.low, "high": estimate.high}
            rows.append(row(f"{name}, {method}", "H", estimate.value, peer=value, seconds=spent, **bounds))
        if quick and len(values) > 2000:
            continue
        start = time.perf_counter()
        model = learned(as_path(values, kind))
        spent = time.perf_counter() - start
        bounds = dict(zip(("low", "high"), (v.item() for v in model.interval(0.9)), strict=True))
        peer = published.get("likelihood", published["whittle"])
        rows.append(row(f"{name}, FractionalOU", "H", model.hurst_.item(), peer=peer, seconds=spent, **bounds))
    return rows


def generated(quick: bool) -> Rows:
    """Return how near series that a fitted model makes are to those it was fitted to."""
    rows, count = [], 4 if quick else 20
    made_of: list[tuple[str, Array, float, float | None]] = []
    for name in GENERATED[:1] if quick else GENERATED:
        values, kind = load(name)
        path = as_path(values, kind)
        made_of.append((name, path, whittle(path), SERIES[name][3]))
    rough = sample_fractional_brownian_motion(0.2, torch.arange(1.0 + (512 if quick else 2048)), 1, seed=2)
    made_of.append(("fBM, H = .2", rough[0, :, 0].numpy(), 0.2, 0.253))
    for name, path, index, miss in made_of:
        start = time.perf_counter()
        model = learned(path)
        made = model.sample(n=count, times=torch.arange(float(len(path))), seed=0).values[:, :, 0].double().numpy()
        spent = time.perf_counter() - start
        own = [whittle(x) for x in made]
        rows.append(row(f"generated, {name}", "miss of H", float(np.mean(own)) - index, peer=miss, seconds=spent))
        rows.append(row(f"generated, {name}", "spread of H", float(np.std(own, ddof=1))))
        if name == "spx":
            ratios = [variogram(made, lag) / variogram(path, lag) for lag in range(1, 101)]
            for lag in VARIOGRAM_LAGS:
                rows.append(row(f"generated, {name}, lag {lag}", "variogram over data's", ratios[lag - 1], peer=1.0))
            worst = float(np.abs(np.array(ratios) - 1).max())
            rows.append(row(f"generated, {name}, lags 1 to 100", "largest miss of the variogram", worst, peer=0.1))
    return rows


def varying(quick: bool) -> Rows:
    """Return how far a learned curve of the index is from the true one."""
    times = torch.linspace(0, 2, 41 if quick else 81, dtype=torch.float64)
    truth = 0.3 + 0.5 * torch.sigmoid(7 * (1 - times))
    exact = torch.linalg.cholesky(riemann_liouville(times[1:], truth[1:]))
    draw = torch.Generator().manual_seed(3)
    motion = torch.randn(200, len(times) - 1, dtype=torch.float64, generator=draw) @ exact.mT
    level = times[1:] / 2 - times[1:] ** (2 * truth[1:]) / 8
    logs = torch.nn.functional.pad(motion / 2 + level, (1, 0))
    rows = []
    flat = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    curve = HurstCurve(seed=0).double()
    models: tuple[tuple[str, Any, list[Any]], ...] = (
        ("constant", lambda t: torch.sigmoid(flat).expand(len(t)), [flat]),
        ("learned curve", curve, list(curve.parameters())),
    )
    for name, index, parameters in models:
        start = time.perf_counter()
        optimiser = torch.optim.Adam(parameters, lr=0.03)
        for _ in range(100 if quick else 300):
            optimiser.zero_grad()
            hurst = index(times)
            # B is what remains of the logarithm, and so depends on the index too.
            own = 2 * (logs - times / 2) + times ** (2 * hurst) / 4
            loss = -MultifractionalMotion(times, hurst).log_density(own).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        missed = (index(times).detach() - truth)[1:].abs().mean()
        rows.append(row(f"H(t), {name}", "mean absolute error", float(missed), seconds=time.perf_counter() - start))
    rows[1]["peer"] = rows[0]["value"]
    return rows


def riemann_liouville(times: torch.Tensor, hurst: torch.Tensor) -> torch.Tensor:
    """Return the covariance ``(T, T)`` of the motion with the index of the moment, its kernels integrated."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(200))
    unit, power = (nodes + 1) / 2, hurst - 0.5
    # Time before the earlier of two, graded to its singularity.
    v = times[:, None] * unit**8
    density = times[:, None] * 8 * unit**7 * weights / 2
    later = (times[None, :, None] - times[:, None, None] + v[:, None]).clamp_min(1e-300)
    kernels = v[:, None] ** power[:, None, None] * later ** power[None, :, None]
    scale = (
        torch.exp(torch.lgamma(power + 1)) * torch.tensor([variance_constant(h, "II") for h in hurst.tolist()]).sqrt()
    )
    upper = torch.triu((kernels * density[:, None]).sum(-1) / scale[:, None] / scale)
    return upper + torch.triu(upper, 1).mT


def variogram(paths: Array, lag: int) -> float:
    """Return the mean squared increment of paths ``(..., n)`` over a lag."""
    return float(np.mean((paths[..., lag:] - paths[..., :-lag]) ** 2))


PARTS = {
    "estimators": estimators,
    "noisy": noisy,
    "variational": variational,
    "series": series,
    "generated": generated,
    "varying": varying,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--part", choices=PARTS, action="append", help="this part only; may be given more than once")
    options.set_defaults(threads=1)
    given = options.parse_args()
    begin(given)
    rows: Rows = []
    for name in given.part or PARTS:
        try:
            rows += PARTS[name](given.quick)
        except FileNotFoundError as error:
            rows.append(row(f"{name} (no data: {error})", "H", None))
    show("Hurst indices", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
