"""A million cells: read from .h5ad, fitted with mini-batch plans, a hundred thousand paths written to disk.

    python benchmarks/million.py

Writes a file of 1,000,000 x 50 simulated cells at five times to a temporary folder, then, in a process of its own,
reads it, fits, samples and reports wall time and peak memory of every stage. The peak is that of the whole process
(resident set), read from the operating system; the limit is 8 GB. The peer is the data set itself: what numpy needs to
hold it once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from table import begin, parser, row, show, store

import gendyn as gd

LIMIT = 8.0


def write(path: Path, cells: int, dim: int, times: int, seed: int) -> None:
    """Write populations that branch in two as an AnnData file."""
    import anndata
    import pandas as pd

    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(times), cells // times)
    side = np.where(rng.random(len(day)) < 0.5, 1.0, -1.0)
    x = rng.normal(size=(len(day), dim)).astype(np.float32)
    x[:, 0] += 2.0 * day
    x[:, 1] += 1.5 * side * np.maximum(day - 1, 0)
    names = pd.Index(np.char.add("c", np.arange(len(day)).astype(str)))
    adata = anndata.AnnData(obs=pd.DataFrame({"day": pd.Categorical([f"D{d}" for d in day])}, index=names))
    adata.obsm["X_pca"] = x
    adata.write_h5ad(path)


def peak() -> float:
    """Return the peak resident memory of this process in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory, from before exec
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def work(options: argparse.Namespace) -> int:
    """Read, fit, sample; print one JSON line a stage."""
    torch.set_num_threads(options.threads)
    began = time.perf_counter()

    def tell(stage: str, **more: float) -> None:
        nonlocal began
        now = time.perf_counter()
        print(json.dumps({"stage": stage, "seconds": now - began, "peak": peak()} | more), flush=True)
        began = time.perf_counter()

    tell("start")
    data = gd.read_snapshots(options.work, time_key="day")
    tell("read", cells=sum(data.sizes))
    model = gd.FlowMatching("ot", **({"steps": 300} if options.quick else {})).fit(data, progress=False)
    tell("fit")
    times = torch.linspace(float(data.times[0]), float(data.times[-1]), 9)
    paths = model.sample(data.at(0.0), times, n=options.paths, to=options.work.with_name("paths.npz"))
    tell("sample", paths=len(paths), gigabytes=options.work.with_name("paths.npz").stat().st_size / 1024**3)
    shown = data.at(float(data.times[-1])).subsample(2000).samples[0]
    last = paths.select(torch.arange(0, len(paths), max(1, len(paths) // 2000))).values[:2000, -1]
    tell(
        "score",
        w1=gd.evaluation.wasserstein_value(shown, last),
        previous=gd.evaluation.wasserstein_value(shown, data.at(float(data.times[-2])).subsample(2000).samples[0]),
        floor=gd.evaluation.wasserstein_value(shown, data.at(float(data.times[-1])).subsample(2000, seed=1).samples[0]),
    )
    return 0


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--cells", type=int, default=None, help="cells in all (default: a million)")
    options.add_argument("--dims", type=int, default=50)
    options.add_argument("--paths", type=int, default=None, help="sampled paths (default: 100000)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--work", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    cells = arguments.cells or (50_000 if arguments.quick else 1_000_000)
    arguments.paths = arguments.paths or (5_000 if arguments.quick else 100_000)
    if arguments.work is not None:
        return work(arguments)
    begin(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        write(path, cells, arguments.dims, 5, arguments.seed)
        line = [sys.executable, __file__, "--work", str(path), "--paths", str(arguments.paths)]
        line += ["--threads", str(arguments.threads)] + (["--quick"] if arguments.quick else [])
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    stages = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    rows = []
    for stage in stages:
        rows.append(row(stage["stage"], "seconds", stage["seconds"], seconds=stage["seconds"]))
        rows.append(row(stage["stage"], "peak memory so far, GB", stage["peak"], peer=f"{LIMIT:g} allowed"))
    last = stages[-1]
    written = next(stage["gigabytes"] for stage in stages if stage["stage"] == "sample")
    rows.append(row("all stages", "seconds", sum(stage["seconds"] for stage in stages)))
    rows.append(row("all stages", "peak memory, GB", last["peak"], peer=f"{LIMIT:g} allowed"))
    rows.append(row("sample", "paths on disk, GB", written))
    rows.append(row("numpy, the cells once", "memory, GB", cells * arguments.dims * 4 / 1024**3, peer="peer"))
    rows.append(row("FlowMatching(ot), from the first time", "W1 at the last time, 2000 cells", last["w1"]))
    rows.append(row("previous time", "W1 at the last time, 2000 cells", last["previous"], peer="baseline"))
    rows.append(row("floor", "W1 at the last time, 2000 cells", last["floor"], peer="floor"))
    show(f"{cells} x {arguments.dims} cells, {arguments.paths} paths", rows)
    store(arguments.json, rows)
    return 0 if last["peak"] < LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
