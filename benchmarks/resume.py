"""How long a fit takes, what the loop costs, and whether a killed fit ends where an undisturbed one does.

    python benchmarks/resume.py

Fits 3,000 x 50 simulated cells with the defaults of ``FlowMatching``. Beside it, in the same run, a bare PyTorch loop:
the same network, batch and number of steps on pairs that are drawn at random, with nothing around it. Then a fit is
killed with ``kill -9`` at half-way, begun again, and its model file is compared with that of the undisturbed fit.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.nn import VelocityNetwork

CELLS, DIM, TIMES = 1000, 50, 3


def cells(seed: int) -> gd.Snapshots:
    """Return three populations in fifty dimensions that move along a curve."""
    generator = torch.Generator().manual_seed(seed)
    direction, bend = torch.randn(2, DIM, generator=generator)
    spread = torch.linspace(2.0, 0.2, DIM)
    samples = [
        torch.randn(CELLS, DIM, generator=generator) * spread + t * direction + t**2 / 4 * bend for t in range(TIMES)
    ]
    return gd.Snapshots(range(TIMES), samples)


def bare_loop(data: gd.Snapshots, model: gd.FlowMatching) -> float:
    """Return the seconds of the least that a fit of this size can do in PyTorch."""
    began = time.perf_counter()
    network = VelocityNetwork(data.dim, hidden=tuple(model.hidden), seed=0)
    engine = torch.optim.Adam(network.parameters(), lr=model.lr, fused=True)
    x, y = data.samples[0], data.samples[1]
    for _ in range(model.steps):
        rows = torch.randint(0, len(x), (2, model.batch_size))
        s = torch.rand(model.batch_size, 1)
        a, b = x[rows[0]], y[rows[1]]
        loss = (network(s, (1 - s) * a + s * b) - (b - a)).square().sum(1).mean()
        engine.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        engine.step()
    return time.perf_counter() - began


def child(options: argparse.Namespace) -> int:
    """Fit with a checkpoint and save: the process that is killed."""
    torch.set_num_threads(options.threads)
    settings = {"steps": options.steps} if options.steps else {}
    model = gd.FlowMatching(**settings)
    model.fit(cells(options.seed), progress=False, checkpoint=options.child / "state", seed=options.seed)
    model.save(options.child / "model.safetensors")
    return 0


def undisturbed_and_killed(options: argparse.Namespace, steps: int) -> tuple[bool, int]:
    """Return whether both end at the same bytes, and the step at which one was killed."""
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for name in ("undisturbed", "killed"):
            place = Path(folder) / name
            place.mkdir()
            line = [sys.executable, __file__, "--child", str(place), "--steps", str(steps)]
            line += ["--threads", str(options.threads), "--seed", str(options.seed)]
            if name == "killed":
                process = subprocess.Popen(line)
                reached = 0
                while process.poll() is None and reached < steps // 2:
                    time.sleep(0.1)
                    if (place / "state").exists():
                        reached = gd.data.read_header(place / "state")["state"]["step"]
                process.send_signal(signal.SIGKILL)
                process.wait()
                if (place / "model.safetensors").exists():
                    raise RuntimeError("the fit was over before it was killed; ask for more --steps")
            subprocess.run(line, check=True, env=os.environ)
            models.append((place / "model.safetensors").read_bytes())
    return models[0] == models[1], reached


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=None, help="steps of the fit that is killed (default: 8000)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child is not None:
        return child(arguments)
    begin(arguments)
    data, model = cells(arguments.seed), gd.FlowMatching(**({"steps": 500} if arguments.quick else {}))
    began = time.perf_counter()
    model.fit(data, seed=arguments.seed, progress=False)
    ours = time.perf_counter() - began
    bare = bare_loop(data, model)
    same, step = undisturbed_and_killed(arguments, arguments.steps or (3000 if arguments.quick else 8000))
    fresh = cells(arguments.seed).without(1.0)
    rows = [
        row("FlowMatching, defaults", "seconds, 3000 x 50 cells", ours, peer="60 allowed", seconds=ours),
        row("bare PyTorch loop", "seconds, 3000 x 50 cells", bare, peer="peer", seconds=bare),
        row("FlowMatching, defaults", "ratio to the bare loop", ours / bare, peer="peer = 1"),
        row(f"killed at step {step}, resumed", "same model file (1: yes)", float(same), peer="1 wanted"),
        row("FlowMatching, defaults", "score on the outer times (minus W1)", model.score(fresh)),
    ]
    show("fits: time, and kill -9", rows)
    store(arguments.json, rows)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
