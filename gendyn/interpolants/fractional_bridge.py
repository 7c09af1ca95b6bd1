r"""Bridges of fractional noise between aligned pairs: where each point went, along rough or persistent paths.

Row by row it is known where a point was and where it is later. A regression learns what is expected of the end
(:mod:`gendyn.interpolants.fractional_bridge_objective`), and the process of
:mod:`gendyn.interpolants.fractional_bridge_process` runs from new points to ends of the law that the pairs have. The
Hurst index belongs to the paths: with an exact network and fine steps the law of the ends does not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from gendyn.data import Paths, Scaling
from gendyn.interpolants.fractional_bridge_objective import FractionalBridgeObjective
from gendyn.interpolants.fractional_bridge_process import FractionalBridgeProcess, ShrinkingSteps
from gendyn.interpolants.pinned_fractional import PinnedFractional
from gendyn.interpolants.population_model import check_training
from gendyn.nn import VelocityNetwork
from gendyn.population_estimator import draw_starts
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Estimator, fingerprint, load_module, module_tensors

__all__ = ["FractionalBridge"]

_KEPT_STARTS = 5000
_ASKED, _NEIGHBOURS, _BLOCK = 2000, 20_000, 256
"""Starts whose nearest neighbour is looked for, those it is looked for among, and how many at once."""

_STEP = 0.01
"""Step in the clock that shrinks."""

_NOISE = 0.25
"""Deviation of the noise, in largest deviations of the data, where none is given."""


class FractionalBridge(Estimator):
    r"""Learn where points go from aligned pairs, along paths with a Hurst index.

    Parameters
    ----------
    hurst
        :math:`H` of the paths: below one half they turn back, above they persist; one half is Brownian motion.
    sigma
        Standard deviation that the noise alone adds from the first time to the last, in the units of the data. By
        default a quarter of the largest standard deviation of the data.
    count, rates
        Number of processes that carry the memory, or their decay rates, per length of the bridge; see
        :class:`gendyn.sampling.MarkovApproximation`.
    hidden, activation, scale, steps, batch_size, lr, weight_decay, clip, ema
        As for :class:`gendyn.FlowMatching`; ``batch_size`` counts pairs.
    validation_fraction, patience
        As for :class:`gendyn.FlowMatching`; pairs are kept out.

    Attributes
    ----------
    process_ : FractionalBridgeProcess
        Its state is the position and, for each feature, the memory of the noise; ``process_.begin(x)`` starts it.
    spread_ : Tensor
        Deviation of the end given the start that was found of nearest neighbours, ``(d,)``, units of the data; 0 where
        the start decides.
    times_ : Tensor
        The two times.
    initial_ : Tensor
        At most 5000 starts, from which :meth:`sample` runs by default.
    names_ : tuple of str or None
        Names of the features.

    References
    ----------
    Nobis, Springenberg, Arnez, Murphy-Smith, Aversa, et al. Fractional diffusion bridge models. NeurIPS 2025.
    Somnath, Pariset, Hsieh, Martinez, Krause, Bunne. Aligned diffusion Schroedinger bridges. UAI 2023.

    Examples
    --------
    >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> pairs = Paths([0.0, 2.0], torch.stack([x, 3 - x], dim=1))
    >>> model = FractionalBridge(0.3, steps=400, hidden=(32, 32)).fit(pairs, progress=False)
    >>> paths = model.sample(torch.tensor([[-1.0], [1.0]]), [0.0, 1.0, 2.0])
    >>> (paths.values[:, -1, 0] - torch.tensor([4.0, 2.0])).abs().max().item() < 0.2
    True
    """

    process_: FractionalBridgeProcess
    spread_: Tensor
    times_: Tensor
    initial_: Tensor
    names_: tuple[str, ...] | None

    def __init__(
        self,
        hurst: float = 0.3,
        *,
        sigma: float | None = None,
        count: int = 7,
        rates: Sequence[float] | None = None,
        hidden: Sequence[int] = (64, 64, 64),
        activation: str = "silu",
        scale: Literal["global", "whiten", "none"] = "global",
        steps: int = 4000,
        batch_size: int = 256,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.hurst = hurst
        self.sigma = sigma
        self.count = count
        self.rates = rates
        self.hidden = hidden
        self.activation = activation
        self.scale = scale
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.ema = ema
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Paths,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from pairs.

        Parameters
        ----------
        data
            Paths of two times that all share, without holes.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Paths` of real values.
        ValueError
            If they are not pairs, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        check_training(self)
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma must be positive: a bridge without noise has no paths to learn; got {self.sigma}")
        law = self._law()
        values = _check_pairs(data)
        data = data if device is None else data.to(device=device)
        root, values = as_seed(seed), values if device is None else values.to(device)
        scaling = Scaling.fit(values.flatten(0, 1), self.scale)
        sigma = self.sigma or _NOISE * float(values.flatten(0, 1).std(0).max())
        rows = torch.arange(len(values), device=values.device)
        watching = rows[:0]
        if self.validation_fraction > 0:
            order = torch.randperm(len(rows), generator=torch_generator(root, "split")).to(rows.device)
            count = max(1, round(self.validation_fraction * len(rows)))
            watching, rows = order[:count], order[count:]
        scaled = scaling.transform(values)
        spread = _spread(scaled[rows], derive_seed(root, "spread"))
        network = self._network(data.dim, derive_seed(root, "network")).to(values)
        objective = FractionalBridgeObjective(
            network,
            scaled[rows],
            scaled[watching],
            spread=spread,
            sigma=sigma / scaling.scale,
            batch_size=self.batch_size,
        )
        self.times_ = data.times.cpu()
        self._sigma, self.spread_ = sigma, spread * scaling.scale
        self.process_ = self._process(network, law, scaling)
        kept = torch.randperm(len(values), generator=torch_generator(root, "initial"))[:_KEPT_STARTS]
        self.initial_ = values[kept.to(values.device), 0]
        self.names_, self.seed_ = data.names, root
        identity = fingerprint(values, self.times_, model=type(self).__name__, seed=root, **self.get_params())
        return self._learn(objective, identity, progress=progress, checkpoint=checkpoint, resume=resume)

    def sample(
        self,
        x0: Tensor | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        solver: str | None = None,
        step: float | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Draw paths from points to where they may go.

        Parameters
        ----------
        x0
            Points ``(n, d)`` at the first time; by default starts of the data.
        times
            Increasing times ``(T,)`` from the first to the last time of the pairs; by default these two.
        n
            Number of paths; by default as many as there are points.
        seed
            Which paths, and which points are taken.
        solver
            Passed to :func:`gendyn.sample`; by default steps that are exact while what is expected of the end does not
            change (:class:`~gendyn.interpolants.PinnedSolver`).
        step
            Longest step; by default a fiftieth of the bridge. Steps shrink linearly towards the end, where rough paths
            still have far to go.
        progress
            Show a bar of steps.
        **options
            Further options of :func:`gendyn.sample`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of range or do not increase, or points have the wrong shape.
        """
        self._check_fitted()
        root, process = as_seed(seed), self.process_
        points = self.initial_ if x0 is None else torch.as_tensor(x0).to(process.shift)
        if points.ndim != 2 or points.shape[1] != process.noise_dim:
            raise ValueError(f"x0 must have shape (n, {process.noise_dim}); got {tuple(points.shape)}")
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1).cpu()
        first, last = self.times_.tolist()
        if len(grid) == 0 or bool((grid.diff() <= 0).any()) or float(grid[0]) < first or float(grid[-1]) > last:
            raise ValueError(f"times must increase, from {first:g} to {last:g} at most; got {grid.tolist()}")
        if n is not None:
            points = points[draw_starts(len(points), n, root).to(points.device)]
        if float(grid[-1]) == first:
            return Paths(grid, points[:, None], names=self.names_)
        clocked = ShrinkingSteps(process)
        run = clocked.clock(grid if float(grid[0]) == first else torch.cat([self.times_[:1], grid]))
        # Time runs at most twice as fast as the clock.
        longest = _STEP if step is None else 0.5 * step / (last - first)
        options |= {"solver": "auto" if solver is None else solver, "step": longest, "progress": progress}
        paths = sample(clocked, process.begin(points), run, seed=root, **options)
        values = paths.values[:, len(run) - len(grid) :, : process.noise_dim]
        return Paths(grid, values.clone(), names=self.names_, info=paths.info)

    def score(self, data: Paths, *, n: int = 8, seed: Seed = 0) -> float:
        """Return minus the energy score of drawn ends, in units of the scaled data; higher is better.

        Parameters
        ----------
        data
            Pairs of the same times and features.
        n
            Ends drawn for each pair.
        seed
            Which ends.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the data are not pairs of the model's features, or ``n`` is below 2.
        """
        self._check_fitted()
        values = _check_pairs(data).to(self.process_.shift)
        if values.shape[2] != self.process_.noise_dim:
            raise ValueError(
                f"the model was fitted on {self.process_.noise_dim} features; the data have {values.shape[2]}"
            )
        if n < 2:
            raise ValueError(f"n must be at least 2: the score compares ends with each other; got {n}")
        starts, ends = values.unbind(1)
        drawn = self.sample(starts.repeat(n, 1), self.times_[1:], seed=seed).values[:, -1]
        members = (drawn.reshape(n, *starts.shape) / self.process_.scale).transpose(0, 1)
        missed = (members - (ends / self.process_.scale)[:, None]).norm(dim=2).mean()
        apart = torch.cdist(members, members).sum((1, 2)).mean() / (n * (n - 1))
        return -float(missed - 0.5 * apart)

    # --- inside --------------------------------------------------------------------------------------------

    def _law(self) -> PinnedFractional:
        return PinnedFractional(self.hurst, count=self.count, rates=None if self.rates is None else list(self.rates))

    def _network(self, dim: int, seed: int) -> VelocityNetwork:
        return VelocityNetwork(dim, tuple(self.hidden), self.activation, condition_dim=dim, seed=seed)

    def _process(self, network: VelocityNetwork, law: PinnedFractional, scaling: Scaling) -> FractionalBridgeProcess:
        first, last = self.times_.tolist()
        return FractionalBridgeProcess(
            network, law, (first, last), scaling.shift, scaling.scale, self._sigma, self.spread_
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        process = self.process_
        tensors = module_tensors(process.network, "network.")
        tensors |= {"times": self.times_, "shift": process.shift, "scale": process.scale}
        tensors |= {"initial": self.initial_, "spread": self.spread_}
        return tensors, {"names": self.names_, "sigma": self._sigma}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self.times_, self.initial_, self.spread_ = tensors["times"].cpu(), tensors["initial"], tensors["spread"]
        self._sigma = float(extra["sigma"])
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        network = self._network(self.initial_.shape[1], 0).to(self.initial_)
        load_module(network, tensors, "network.")
        network.eval().requires_grad_(False)
        self.process_ = self._process(network, self._law(), Scaling(tensors["shift"], tensors["scale"]))


def _check_pairs(data: Any) -> Tensor:
    """Return pairs ``(n, 2, d)``, or say what they are not."""
    if not isinstance(data, Paths):
        raise TypeError(
            f"pairs are needed as gendyn.Paths; got {type(data).__name__}: read them with gendyn.read_paths"
        )
    if not data.values.is_floating_point():
        raise TypeError(f"pairs of real values are needed; got values of type {data.dtype}")
    if not data.shared_times or data.n_times != 2 or float(data.times[1]) <= float(data.times[0]):
        times = data.times.tolist() if data.shared_times else "times of each path's own"
        raise ValueError(f"pairs are paths of two times that all share, the later one second; got {times}")
    whole = data.mask is None or bool(data.mask.all())
    if not whole or (data.lengths is not None and bool((data.lengths < 2).any())):
        raise ValueError("both ends of every pair must be known; leave out those with holes")
    if len(data) < 2:
        raise ValueError(f"at least 2 pairs are needed; got {len(data)}")
    return data.values


def _spread(pairs: Tensor, seed: int) -> Tensor:
    r"""Return the deviation of the end given the start, ``(d,)``.

    Of two pairs that start at one place the ends are as far apart as two draws, and nearest neighbours nearly do:
    :math:`s^2 = \tfrac12 E\,(x_1 - x_1')^2`.
    """
    rows = torch.randperm(len(pairs), generator=torch_generator(seed))[:_NEIGHBOURS].to(pairs.device)
    start, end = pairs[rows].unbind(1)
    squares = torch.zeros_like(end[0])
    count = min(_ASKED, len(rows))
    for first in range(0, count, _BLOCK):
        block = slice(first, min(first + _BLOCK, count))
        distances = torch.cdist(start[block], start)
        distances[torch.arange(len(distances)), torch.arange(block.start, block.stop)] = torch.inf
        squares += (end[block] - end[distances.argmin(1)]).square().sum(0)
    return (squares / (2 * count)).sqrt()
