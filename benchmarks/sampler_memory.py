"""What the sampler needs of memory: a million paths to disk, and gradients in four ways.

    python benchmarks/sampler_memory.py

Every row is a process of its own, whose peak resident memory is read from the operating system; the peer of the paths
is what they take as one array, the peer of the gradients is plain backpropagation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from million import peak
from sampler_speed import Neural, Relaxation
from table import begin, parser, row, show, store

import gendyn as gd

LIMIT = 2.0
MODES = (("backprop", "ees25"), ("checkpoint", "ees25"), ("reversible", "ees25"), ("reversible", "reversible_heun"))


def work(options: argparse.Namespace) -> int:
    """Do one of the jobs and print what it took."""
    torch.set_num_threads(options.threads)
    start = peak()
    began = time.perf_counter()
    if options.work == "paths":
        x0 = torch.zeros(options.paths, 10)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "paths.npz"
            paths = gd.sample(Relaxation(10), x0, torch.linspace(0, 9.9, 100), step=0.1, to=target)
            size = target.stat().st_size / 1024**3
            shape = list(paths.values.shape)
    else:
        mode, solver = options.work.split(":")
        process, x = Neural(calculus="stratonovich"), torch.zeros(1024, 3)
        paths = gd.sample(process, x, [0.0, 4.0], solver=solver, step=0.01, gradient=mode, save="final")
        paths.values.sum().backward()
        size, shape = 0.0, list(paths.values.shape)
    print(
        json.dumps(
            {"seconds": time.perf_counter() - began, "start": start, "peak": peak(), "size": size, "shape": shape}
        )
    )
    return 0


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--paths", type=int, default=None, help="paths to disk (default: a million)")
    options.add_argument("--work", default=None, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    arguments.paths = arguments.paths or (20_000 if arguments.quick else 1_000_000)
    if arguments.work is not None:
        return work(arguments)
    begin(arguments)
    rows, over = [], False
    for job in ("paths", *(f"{mode}:{solver}" for mode, solver in MODES)):
        line = [sys.executable, "-W", "ignore", __file__, "--work", job, "--paths", str(arguments.paths)]
        done = subprocess.run(
            [*line, "--threads", str(arguments.threads)], check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if job == "paths":
            name = f"{arguments.paths} paths x 100 times x 10 features to disk"
            rows.append(
                row(name, "peak memory, GB", found["peak"], peer=f"{LIMIT:g} allowed", seconds=found["seconds"])
            )
            rows.append(row(name, "file, GB", found["size"], peer="one array"))
            over = found["peak"] > LIMIT
        else:
            name = "gradient, 1024 paths, 400 steps, two networks: " + job.replace(":", ", ")
            own = 1024 * (found["peak"] - found["start"])
            peer = "peer" if job.startswith("backprop") else None
            rows.append(row(name, "memory beyond the start, MB", own, peer=peer, seconds=found["seconds"]))
    show("the sampler's memory", rows)
    store(arguments.json, rows)
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
