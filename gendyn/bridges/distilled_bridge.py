r"""The drift of a bridge as one network over all intervals.

The drift of a bridge through points, :math:`f + g g^\top \nabla \log h`, asks every point of the next population at
every step, and towards the end of an interval leads paths onto those points. A network that is regressed on it,

.. math::

    \min_u \; E\Bigl[\frac{t_{k+1} - t}{t_{k+1} - t_k}\,
    \bigl\lVert u(t, X_t) - (g g^\top \nabla \log h)(t, X_t) \bigr\rVert^2\Bigr],
    \qquad X_t \sim P_t,

costs the same for any number of points, and is as smooth as networks are: paths end between the points, not on them.
Regression on the pull of a drawn end, as bridge matching has it (Shi et al. 2023), has the same minimiser; the
conditional mean is known here, and has less noise. The rest grows like one over the time that is left, which the weight
evens out. The reference :math:`f` is not learned, and takes over after the last population.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.glued_paths import GluedPaths
from gendyn.nn import MLP
from gendyn.randomness import derive_seed, torch_generator
from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.training import fingerprint
from gendyn.training import fit as train

__all__ = ["DistilledBridge", "PullObjective"]

_LATEST = 0.98
"""Part of an interval after which the pull is that of this time: beyond, points pull more than populations do."""


class DistilledBridge(nn.Module):
    r"""The diffusion :math:`dX = (f + u)\,dt + g\,dW` of a reference and a network :math:`u`.

    The network sees states and time in units of the data, and how much of the interval has passed, because the drift of
    a bridge jumps at the observed times.

    Parameters
    ----------
    reference
        The process :math:`f, g`, in the Ito sense.
    times
        Observed times ``(K + 1,)``.
    network
        ``(n, d + 2) -> (n, d)``.
    centre, spread
        Mean and standard deviation of the states, ``(d,)``.
    strength
        Root mean square of the pull, ``(d,)``.

    Attributes
    ----------
    history : pandas.DataFrame
        How the network was trained: ``step``, ``loss`` (in squares of ``strength``), ``validation``, ``lr``.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> network = MLP(3, 1, hidden=(), seed=0)
    >>> one = torch.ones(1)
    >>> bridge = DistilledBridge(BrownianMotion(), torch.tensor([0.0, 1.0]), network, one, one, one)
    >>> bridge.drift(torch.tensor(2.0), torch.tensor([[5.0]])).item()  # after the last time: Brownian motion
    0.0
    """

    calculus: Calculus = "ito"
    reference: Process
    times: Tensor
    centre: Tensor
    spread: Tensor
    strength: Tensor
    history: pd.DataFrame

    def __init__(
        self, reference: Process, times: Tensor, network: nn.Module, centre: Tensor, spread: Tensor, strength: Tensor
    ) -> None:
        super().__init__()
        # Not a part of the module: its parameters are not learned, nor written.
        self.__dict__["reference"] = reference
        self.network = network
        self.register_buffer("times", times.to(torch.float64))
        for name, value in (("centre", centre), ("spread", spread), ("strength", strength)):
            self.register_buffer(name, value.to(torch.float64))
        self.dim = reference.dim
        self.noise_type: NoiseType = reference.noise_type
        self.noise_dim = int(getattr(reference, "noise_dim", 1 if self.noise_type == "scalar" else self.dim))
        own = getattr(reference, "time_step", None) or float("inf")
        self.time_step = min(float(self.times.diff().min()) / 100, own)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion of the reference."""
        return self.reference.diffusion(t, x)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(n, d)`` in the type of ``x``, for a time or for the times ``(n, 1)`` of each row.

        Raises
        ------
        ValueError
            If a time lies before the first population.
        """
        state = x.to(self.centre)
        time = t.to(state)
        inside, k = self._interval(time)
        drift = self.reference.drift(time, state)
        pull = self.strength * self.network(self.inputs(time, state, k)).to(state)
        return (drift + torch.where(inside, pull, 0.0)).to(x)

    def inputs(self, t: Tensor, x: Tensor, k: Tensor) -> Tensor:
        """Return what the network sees of states ``(n, d)`` at times in intervals ``k``: ``(n, d + 2)``."""
        low, high = self.times[k], self.times[k + 1]
        passed = ((t - low) / (high - low)).clamp(0.0, _LATEST)
        seen = low + passed * (high - low)
        clock = (seen - self.times[0]) / (self.times[-1] - self.times[0])
        clocks = torch.stack([torch.as_tensor(c).expand(len(x), 1) for c in (clock, passed)], 1)[..., 0]
        kind = next((p.dtype for p in self.network.parameters()), torch.float32)
        # Between -1 and 1, as the states are.
        return torch.cat([(x - self.centre) / self.spread, 2 * clocks - 1], 1).to(kind)

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether times are before the last observed one, and their intervals."""
        slack = 1e-3 * float(self.times.diff().min())
        if bool((t < self.times[0] - slack).any()):
            raise ValueError(f"time {float(t.min()):g} lies before the first population, at {float(self.times[0]):g}")
        # A time in single precision may stand just before the population where its path arrived.
        k = torch.searchsorted(self.times, t + slack, right=True) - 1
        last = len(self.times) - 2
        return k <= last, k.clamp(0, last)


class PullObjective:
    r"""The regression of a network on the pull of a bridge, over states that were drawn from it.

    Parameters
    ----------
    module
        What is trained.
    t, x, pull
        Times ``(N, 1)``, states ``(N, d)`` and :math:`g g^\top \nabla \log h` there, ``(N, d)``.
    intervals
        Which interval each time lies in, ``(N, 1)``.
    batch_size
        Rows a step.
    """

    def __init__(
        self, module: DistilledBridge, t: Tensor, x: Tensor, pull: Tensor, intervals: Tensor, batch_size: int
    ) -> None:
        self.module = module
        self.seen = module.inputs(t, x, intervals)
        self.pull = (pull / module.strength).to(self.seen)
        low, high = module.times[intervals], module.times[intervals + 1]
        self.left = ((high - t) / (high - low)).to(self.seen)
        self.batch_size = batch_size

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        bridge: GluedPaths,
        process: BridgeProcess,
        *,
        network: nn.Module | None,
        hidden: Sequence[int],
        paths: int,
        times: int,
        batch_size: int,
        seed: int,
    ) -> PullObjective:
        """Draw paths of a bridge, and look where they are pulled.

        Parameters
        ----------
        bridge, process
            The law of paths, and the same as a diffusion.
        network
            ``(n, d + 2) -> (n, d)``; by default a perceptron with layers ``hidden``.
        hidden
            Widths of its hidden layers.
        paths, times
            How many paths are drawn, and at how many times in every interval they are looked at.
        batch_size
            Rows a step.
        seed
            Which paths, times and initial weights.

        Raises
        ------
        ValueError
            If a number is not positive.
        """
        for name, number in (("paths", paths), ("times", times), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1; got {number}")
        low, high = bridge.times[:-1], bridge.times[1:]
        shift = torch.rand(len(low), times, generator=torch_generator(seed, "times"), dtype=torch.float64)
        passed = _LATEST * (torch.arange(times, dtype=torch.float64) + shift) / times
        grid = (low.cpu()[:, None] + passed * (high - low).cpu()[:, None]).reshape(-1)
        states = bridge.sample_states(grid, paths, derive_seed(seed, "paths")).transpose(0, 1)
        reference = process.reference
        pulls = [process.drift(t, x) - reference.drift(t, x) for t, x in zip(grid.to(states), states, strict=True)]
        t = grid.to(states).repeat_interleave(paths)[:, None]
        k = torch.arange(len(low), device=states.device).repeat_interleave(times * paths)[:, None]
        x, pull = states.flatten(0, 1), torch.stack(pulls).flatten(0, 1)
        dim = x.shape[1]
        if network is None:
            network = MLP(dim + 2, dim, tuple(hidden), seed=derive_seed(seed, "network")).to(x.device)
        centre, spread, strength = x.mean(0), x.std(0, correction=0), pull.square().mean(0).sqrt()
        # A feature that stays where it is, or is never pulled, has no scale of its own.
        spread, strength = (torch.where(scale > 0, scale, 1.0) for scale in (spread, strength))
        module = DistilledBridge(reference, bridge.times.to(x.device), network, centre, spread, strength)
        return cls(module, t, x, pull, k, batch_size)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        rows = torch.randint(0, len(self.seen), (self.batch_size,), generator=generator).to(self.seen.device)
        gaps = self.module.network(self.seen[rows]) - self.pull[rows]
        total: Tensor = (self.left[rows] * gaps.square()).mean()
        return total

    def learn(
        self, *, steps: int, lr: float, seed: int, progress: bool, checkpoint: str | Path | None, resume: bool
    ) -> DistilledBridge:
        """Train the network; see :meth:`gendyn.SchrodingerBridge.distill`."""
        learner = {"network": str(self.module.network), "steps": steps, "lr": lr, "batch_size": self.batch_size}
        result = train(
            self,
            steps=steps,
            lr=lr,
            seed=derive_seed(seed, "train"),
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            fingerprint=fingerprint(self.seen, self.pull, seed=seed, **learner),
        )
        self.module.history = result.history
        return self.module.requires_grad_(False)
