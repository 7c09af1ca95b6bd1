"""torchcfm, trained as its tutorials do: the peer of the benchmarks of flow matching in the plane.

Fresh points of either law at every step, a plan of every mini-batch, Adam at 1e-3. Its own functions that draw the
points loop over them in Python; here they are drawn in one piece, which only makes the peer faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from planar import Draw
from torch import Tensor

INSTALLED = importlib.util.find_spec("torchcfm") is not None
MISSING = "not installed: pip install --no-deps torchcfm==1.0.7"


class Trainer:
    """A network of torchcfm with its optimiser and the source of its batches.

    Parameters
    ----------
    method
        ``"icfm"``, ``"otcfm"`` or ``"sf2m"``.
    source, target
        What draws the points.
    seed
        Of its weights and of its points.
    sigma, lr, batch_size
        As in the tutorials.
    """

    def __init__(
        self,
        method: str,
        source: Draw,
        target: Draw,
        *,
        seed: int = 0,
        sigma: float = 0.1,
        lr: float = 1e-3,
        batch_size: int = 256,
    ) -> None:
        from torchcfm.conditional_flow_matching import (
            ConditionalFlowMatcher,
            ExactOptimalTransportConditionalFlowMatcher,
            SchrodingerBridgeConditionalFlowMatcher,
        )
        from torchcfm.models.models import MLP

        kinds: dict[str, Callable[..., Any]] = {
            "icfm": ConditionalFlowMatcher,
            "otcfm": ExactOptimalTransportConditionalFlowMatcher,
            "sf2m": SchrodingerBridgeConditionalFlowMatcher,
        }
        torch.manual_seed(seed)  # torchcfm draws its plans, times and noise from the global state
        self.matcher = kinds[method](sigma=sigma)
        self.flow = MLP(dim=2, time_varying=True)
        self.score = MLP(dim=2, time_varying=True) if method == "sf2m" else None
        parameters = [*self.flow.parameters(), *(self.score.parameters() if self.score else ())]
        self.engine = torch.optim.Adam(parameters, lr)
        self.source, self.target, self.batch_size, self.lr = source, target, batch_size, lr
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, steps: int) -> None:
        """Take some steps."""
        for _ in range(steps):
            self.engine.zero_grad()
            x0, x1 = (draw(self.batch_size, self.generator) for draw in (self.source, self.target))
            if self.score is None:
                t, x, u = self.matcher.sample_location_and_conditional_flow(x0, x1)
                loss = (self.flow(torch.cat([x, t[:, None]], dim=-1)) - u).square().mean()
            else:
                t, x, u, noise = self.matcher.sample_location_and_conditional_flow(x0, x1, return_noise=True)
                seen = torch.cat([x, t[:, None]], dim=-1)
                weight = self.matcher.compute_lambda(t)[:, None]
                loss = (self.flow(seen) - u).square().mean() + (weight * self.score(seen) + noise).square().mean()
            loss.backward()
            self.engine.step()

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the learned velocity."""
        return self.flow(torch.cat([x, t.to(x).expand(len(x), 1)], dim=1))

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift of the learned bridge: velocity and (scaled) score together."""
        if self.score is None:
            raise ValueError("only 'sf2m' learns a score")
        return self.velocity(t, x) + self.score(torch.cat([x, t.to(x).expand(len(x), 1)], dim=1))

    def loop(self, x: Tensor, steps: int = 100) -> Tensor:
        """Return the points ``(steps + 1, n, 2)`` of Euler's method, by the loop that a person would write."""
        points = [x]
        with torch.no_grad():
            for k in range(steps):
                x = x + self.velocity(torch.tensor(k / steps), x) / steps
                points.append(x)
        return torch.stack(points)
