"""One training step of a stable SDE: the sampler against torchsde, with the same networks.

    python benchmarks/sde_training_speed.py --json out.json
    python benchmarks/sde_training_speed.py --quick

64 series of 150 times, 64 features, two layers, float32, Euler-Maruyama from observation to observation: forward,
backward through the steps, and a step of Adam. Both sides hold the same weights and read the same controls.

``torchsde``              drift and diffusion as published, evaluated at every step; its own Brownian path.
``torchsde, hinted``      the same, with its Brownian path told the length of the steps.
``torchsde, noise free``  the same, with increments that were drawn beforehand: its loop alone.

First the gradients of both along one Brownian path, in double precision. Then times, in rounds in which everything runs
once, so that whatever else the machine does meets all; the processor's seconds with one thread, those of the clock with
more. A ratio is the median of the rounds' own, with its quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torchsde
from table import begin, parser, row, show, store
from torch import Tensor, nn

from gendyn.sampling import BrownianStream, StepGrid
from gendyn.sde import StableField, stable_design
from gendyn.sde.noise_level import time_waves
from gendyn.sde.stable_model import latent_paths

SEED = 1
CLASSES = 5


class Published(nn.Module):
    """The field of a stable SDE as torchsde takes it: everything is evaluated at every step, as in the published code.

    Parameters
    ----------
    field
        Whose weights.
    times
        ``(L,)``.
    controls
        ``(B, L, d_x)``, linear between the times.
    """

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, field: StableField, times: Tensor, controls: Tensor) -> None:
        super().__init__()
        self.field = field
        self.times, self.controls = times, controls

    def control(self, t: Tensor) -> Tensor:
        """Return the controls at a time ``(B, d_x)``."""
        k = int(torch.searchsorted(self.times, t, right=True).clamp(1, len(self.times) - 1))
        before, after = self.times[k - 1], self.times[k]
        left = self.controls[:, k - 1]
        return left + (t - before) / (after - before) * (self.controls[:, k] - left)

    def f(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the drift."""
        field, design = self.field, self.field.design
        told = torch.cat([time_waves(t[None]).expand(len(z), 2), z], dim=1) if design.clock else z
        u = field.mix(torch.cat([field.project(told), field.control(self.control(t))], dim=1))
        for layer in field.net:
            u = layer(torch.relu(u))
        return torch.tanh(u * torch.tanh(z)) if design.geometric else torch.tanh(u)

    def g(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the diffusion."""
        noise = self.field.noise
        level = torch.relu(noise.out(torch.relu(noise.waves(time_waves(t[None]).expand(len(z), 2)))))
        return torch.tanh(torch.sigmoid(noise.weight) * (level * z if noise.shape == "state" else level))


class GivenNoise(torchsde.BaseBrownian):
    """Increments of our sampler's over equal steps, as torchsde asks for them."""

    levy_area_approximation = "none"
    dtype, device, shape = torch.float32, torch.device("cpu"), (0, 0)

    def __init__(self, times: Tensor, shape: tuple[int, int], seed: int) -> None:
        self.dtype, self.shape, self.step = times.dtype, shape, float(times[1] - times[0])
        driver = BrownianStream().start(seed, StepGrid(times.double(), substeps=1), shape, 0, times, False)
        self.increments = [driver.increments(k, 0, 1)[0][0] for k in range(len(times) - 1)]

    def __call__(self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False) -> Tensor:
        """Return the increment of the step that begins at a time."""
        k = round(float(ta) / self.step)
        # Rounding makes torchsde take one more step, of length zero, to the last time.
        return self.increments[k] if k < len(self.increments) else torch.zeros_like(self.increments[0])

    def __repr__(self) -> str:
        return f"GivenNoise(step={self.step:g})"


class Task:
    """A family with controls, classes and a readout; what both sides have in common."""

    def __init__(self, kind: str, batch: int, length: int, hidden: int, dtype: torch.dtype = torch.float32) -> None:
        draw = torch.Generator().manual_seed(0)
        self.times = torch.linspace(0, 1, length, dtype=dtype)
        channels = torch.randn(batch, length, 6, generator=draw, dtype=torch.float64).cumsum(1) / length**0.5
        clock = self.times.double().expand(batch, -1)[..., None]
        self.controls = torch.cat([clock, channels], dim=2).to(dtype)
        self.target = torch.randint(CLASSES, (batch,), generator=draw)
        field = StableField(7, hidden, 2, design=stable_design(kind), seed=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.ModuleDict({"field": field, "head": nn.Linear(hidden, CLASSES)}).to(dtype)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.0)
        self.grid = self.times.double()

    def ours(self) -> Tensor:
        """Return the states at the end by the sampler."""
        field: Any = self.model["field"]
        return latent_paths(field, self.grid, self.controls, seed=SEED, gradient="backprop")[0, :, -1]

    def theirs(self, noise: torchsde.BaseBrownian | None = None) -> Tensor:
        """Return the states at the end by torchsde."""
        field: Any = self.model["field"]
        sde = Published(field, self.times, self.controls)
        step = float(self.grid[1])
        ends = self.times[[0, -1]]
        return torchsde.sdeint(sde, field.begin(self.controls[:, 0]), ends, bm=noise, dt=step, method="euler")[-1]

    def hinted(self) -> Tensor:
        """Return the same with the length of the steps told to its Brownian path."""
        step = float(self.grid[1])
        size = (len(self.controls), self.model["field"].hidden)
        return self.theirs(torchsde.BrownianInterval(0.0, 1 + 2 * step, size=size, dt=step, entropy=SEED))

    def given(self) -> torchsde.BaseBrownian:
        """Return our increments for torchsde."""
        return GivenNoise(self.times, (len(self.controls), int(self.model["field"].hidden)), SEED)

    def gradients(self, ends: Callable[[], Tensor]) -> Tensor:
        """Return all gradients of the cross-entropy in a row."""
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model["head"](ends()), self.target).backward()
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])

    def step(self, ends: Callable[[], Tensor]) -> None:
        """Take a training step."""
        self.gradients(ends)
        self.optimizer.step()


def agreement(kind: str, batch: int, length: int, hidden: int) -> dict[str, Any]:
    """Return the largest difference of gradients along one Brownian path, of the largest gradient."""
    task = Task(kind, batch, length, hidden, torch.float64)
    noise = task.given()
    theirs, ours = task.gradients(lambda: task.theirs(noise)), task.gradients(task.ours)
    worst = float((ours - theirs).abs().max() / theirs.abs().max())
    return row(kind, "gradients: largest difference / largest gradient (1e-5 at most)", worst, peer="torchsde")


def speed(kind: str, threads: int, rounds: int, batch: int, length: int, hidden: int) -> list[dict[str, Any]]:
    """Return times of a training step and their ratios."""
    torch.set_num_threads(threads)
    task = Task(kind, batch, length, hidden)
    drawn = task.given()
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": task.ours,
        "torchsde": task.theirs,
        "torchsde, hinted": task.hinted,
        "torchsde, noise free": lambda: task.theirs(drawn),
    }
    clock = time.process_time if threads == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, ends in calls.items():
            began = clock()
            task.step(ends)
            if k:
                found[name].append(clock() - began)
    where = f"{kind}, {threads} thread{'s' if threads > 1 else ''}"
    rows = [
        row(where, "ms a training step", 1e3 * min(seconds), peer=None if name == "ours" else name)
        for name, seconds in found.items()
    ]
    for name in list(calls)[1:]:
        ratios = [a / b for a, b in zip(found[name], found["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        wanted = " (2 at least)" if name == "torchsde" else ""
        rows.append(row(where, f"{name} / ours{wanted}", middle, low=low, high=high, peer=name))
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, help="rounds that are timed (default: 15)")
    given = options.parse_args()
    begin(given)
    size = {"batch": 32, "length": 50, "hidden": 32} if given.quick else {"batch": 64, "length": 150, "hidden": 64}
    rounds = given.rounds or (3 if given.quick else 15)
    kinds = ("langevin",) if given.quick else ("langevin", "linear-noise", "geometric")
    rows = [agreement(kind, **size) for kind in kinds]
    for threads in (1, 2):
        for kind in kinds:
            rows += speed(kind, threads, rounds, **size)
    show("Training a stable SDE", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
