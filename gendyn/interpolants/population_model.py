r"""What every model of populations shares, whatever it learns: where paths start, when they run, how they are scored.

A fitted model holds a process in the units of the data, the times it was trained on, and some cells of the first
population, so that it can start paths by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Estimator, Objective, fingerprint

__all__ = ["PopulationModel", "check_training"]

_KEPT_CELLS = 5000
"""Cells of the first population that a model keeps."""


class PopulationModel(Estimator):
    """A model between populations at two or many times.

    Attributes
    ----------
    process_
        The learned process, in the units of the data; it has ``shift`` and ``scale`` ``(d,)``, the model's scaling.
    times_ : Tensor
        The trained times ``(T,)``.
    initial_ : Tensor
        At most 5000 cells of the first population, kept so that :meth:`sample` can start by itself.
    names_ : tuple of str or None
        Names of the features.
    """

    times_: Tensor
    initial_: Tensor
    names_: tuple[str, ...] | None

    steps: int
    batch_size: int
    lr: float
    validation_fraction: float
    patience: int | None

    def sample(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        solver: str = "heun",
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the learned process and return paths at the asked times.

        Parameters
        ----------
        x0
            Where paths start: points ``(n, d)`` at ``times[0]``, or a population at one time, from which paths run
            to ``times``. By default ``n`` cells of the first trained population, run from there.
        times
            Increasing times ``(T,)`` (decreasing, to run backward from ``x0``); by default the trained times.
        n
            Number of paths; by default as many as there are start points.
        seed
            Which start points are drawn, when ``n`` is given. The flow itself has no randomness.
        solver, step
            Passed to :func:`gendyn.sample`; ``step`` defaults to a fiftieth of the shortest gap between trained times.
        extrapolate
            Allow times outside the trained range.
        progress
            Show a progress bar.
        **options
            Further options of :func:`gendyn.sample`, for example ``chunk`` and ``to`` to stream paths to disk.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of the trained range or points have the wrong shape.
        """
        self._check_fitted()
        return self._simulate(
            self.process_, x0, times, n, seed, extrapolate, solver=solver, step=step, progress=progress, **options
        )

    def velocity(self, data: Snapshots) -> list[Tensor]:
        """Return where each measured cell is heading: the learned velocity at its place and time.

        Parameters
        ----------
        data
            Populations at times within the trained range.

        Returns
        -------
        list of Tensor
            One ``(n_k, d)`` a time, in units of the data per unit of time.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If a time is out of the trained range or cells have another number of features.
        """
        self._check_fitted()
        if data.dim != self.process_.dim:
            raise ValueError(f"the model was fitted on {self.process_.dim} features; the data have {data.dim}")
        self._check_range(data.times.tolist(), extrapolate=False)
        with torch.no_grad():
            return [
                self.process_.drift(torch.as_tensor(t, dtype=x.dtype, device=x.device), x)
                for t, x in zip(data.times, data.samples, strict=True)
            ]

    def score(self, data: Snapshots, *, max_cells: int = 1000, seed: Seed = 0) -> float:
        """Return minus the mean exact W1 between predicted and observed populations, in units of the scaled data.

        Each population of ``data`` is pushed to the next of its times; a first population later than the
        first trained time is predicted from the cells the model keeps. Higher is better; zero is
        out of reach, because two samples of one law are also some distance apart.

        Parameters
        ----------
        data
            Populations inside the trained time range.
        max_cells
            Cells drawn from each population for the distance.
        seed
            Which cells are drawn.
        """
        self._check_fitted()
        root = as_seed(seed)
        few = data.subsample(max_cells, seed=derive_seed(root, "score"))
        scores = []
        for k, time in enumerate(few.times.tolist()):
            if k == 0 and time <= float(self.times_[0]):
                continue
            predicted, source_weights = self._push(few, k, max_cells, root)
            weights = None if few.weights is None else few.weights[k]
            scaling = self.process_
            scores.append(
                wasserstein_value(
                    (few.samples[k] - scaling.shift) / scaling.scale,
                    (predicted - scaling.shift) / scaling.scale,
                    weights_real=weights,
                    weights_generated=source_weights,
                )
            )
        if not scores:
            raise ValueError("score needs at least one time after the first trained time")
        return -sum(scores) / len(scores)

    def _push(self, data: Snapshots, k: int, max_cells: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return the cells predicted at the k-th time, from the time before or the model's own, and their weights."""
        time = float(data.times[k])
        if k == 0:
            return self.sample(n=max_cells, times=[time], seed=seed).values[:, -1], None
        predicted = self.sample(data.only([float(data.times[k - 1])]), [time], seed=seed).values[:, -1]
        return predicted, None if data.weights is None else data.weights[k - 1]

    def _simulate(
        self,
        process: Any,
        x0: Tensor | Snapshots | None,
        times: Tensor | Sequence[float] | None,
        n: int | None,
        seed: Seed,
        extrapolate: bool,
        **options: Any,
    ) -> Paths:
        """Run a process of this model from where paths start to the asked times."""
        root = as_seed(seed)
        points, start, grid = self._start(x0, times)
        self._check_range([start, *grid.tolist()], extrapolate)
        if n is not None:
            points = self._resample(points, n, root)
        if start == float(grid[0]):
            return sample(process, points, grid, seed=root, names=self.names_, **options)
        run = torch.cat([torch.tensor([start], dtype=torch.float64), grid])
        paths = sample(process, points, run, seed=root, names=self.names_, **options)
        return Paths(grid, paths.values[:, 1:], names=self.names_, info=paths.info)

    def _check_data(self, data: Any) -> None:
        """Refuse what is not populations at two times or more."""
        if not isinstance(data, Snapshots):
            raise TypeError(
                f"fit needs gendyn.Snapshots; got {type(data).__name__}: "
                "read your data with gendyn.read_snapshots first"
            )
        if len(data) < 2:
            raise ValueError(
                f"{type(self).__name__} needs populations at two times or more; "
                f"got {len(data)} (time {data.times.tolist()})"
            )
        for time, size in zip(data.times.tolist(), data.sizes, strict=True):
            if size < 2:
                raise ValueError(
                    f"{type(self).__name__} needs populations of at least 2 cells; at time {time:g} there is {size}"
                )

    def _train(
        self,
        objective: Objective,
        data: Snapshots,
        process: Any,
        root: int,
        *,
        progress: bool,
        checkpoint: str | Path | None,
        resume: bool,
    ) -> Self:
        """Train the objective's module with this model's hyper-parameters, and set what a fitted model has."""
        identity = self._identity(data, root)
        # Before the loop: a fit that diverges leaves its last good state behind.
        self.process_ = process
        self.times_ = process.times.cpu()
        self.names_ = data.names
        self.initial_ = self._initial_cells(data, root)
        self.seed_ = root
        return self._learn(objective, identity, progress=progress, checkpoint=checkpoint, resume=resume)

    def _identity(self, data: Snapshots, root: int) -> str:
        """Return what tells a fit of these data with these hyper-parameters and this seed from every other."""
        return fingerprint(
            *data.samples, *(data.weights or ()), data.times, model=type(self).__name__, seed=root, **self.get_params()
        )

    def _check_training(self) -> None:
        """Raise a ValueError for the first hyper-parameter of the training that is out of range."""
        check_training(self)

    def _split(self, scaled: Snapshots, seed: int) -> tuple[Snapshots, Snapshots | None]:
        """Divide the cells of every time into those that train and those that watch."""
        if self.validation_fraction == 0:
            return scaled, None
        training, held_out = [], []
        for k, size in enumerate(scaled.sizes):
            count = max(1, round(self.validation_fraction * size))
            if size - count < 2:
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} leaves {size - count} of the {size} cells at time "
                    f"{float(scaled.times[k])} for training; at least 2 are needed: lower it"
                )
            order = torch.randperm(size, generator=torch_generator(seed, "split", k)).to(scaled.device)
            held_out.append(order[:count])
            training.append(order[count:])
        return scaled.rows(training), scaled.rows(held_out)

    def _initial_cells(self, data: Snapshots, seed: int) -> Tensor:
        """Draw the cells of the first population that the model keeps."""
        first, count = data.samples[0], len(data.samples[0])
        if data.weights is not None:
            rows = torch.multinomial(
                data.weights[0].double().cpu(),
                min(count, _KEPT_CELLS),
                replacement=True,
                generator=torch_generator(seed, "initial"),
            )
        elif count <= _KEPT_CELLS:
            return first.clone()
        else:
            rows = torch.randperm(count, generator=torch_generator(seed, "initial"))[:_KEPT_CELLS]
        return first[rows.to(first.device)]

    def _start(
        self, x0: Tensor | Snapshots | None, times: Tensor | Sequence[float] | None
    ) -> tuple[Tensor, float, Tensor]:
        """Return start points, the time they stand at, and the asked times."""
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        if len(grid) == 0:
            raise ValueError("times must hold at least one time; got none")
        if x0 is None:
            return self.initial_, float(self.times_[0]), grid
        if isinstance(x0, Snapshots):
            if len(x0) != 1:
                raise ValueError(
                    f"x0 must be a population at one time; got {len(x0)} times: pick one with snapshots.only([t])"
                )
            return x0.samples[0], float(x0.times[0]), grid
        if len(grid) < 2:
            raise ValueError("points given as x0 stand at times[0], so times must hold at least one more; got one time")
        return torch.as_tensor(x0), float(grid[0]), grid

    def _check_range(self, times: Sequence[float], extrapolate: bool) -> None:
        """Refuse times outside the trained range unless asked to go there."""
        low, high = float(self.times_[0]), float(self.times_[-1])
        slack = 1e-9 * (high - low)
        outside = [t for t in times if not low - slack <= t <= high + slack]
        if outside and not extrapolate:
            raise ValueError(
                f"time {outside[0]:g} lies outside the trained range [{low:g}, {high:g}]; "
                "pass extrapolate=True to run the process there all the same"
            )

    @staticmethod
    def _resample(points: Tensor, n: int, seed: Seed) -> Tensor:
        """Draw ``n`` start points, every one before any twice."""
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        generator = torch_generator(seed, "start")
        rounds = [torch.randperm(len(points), generator=generator) for _ in range(-(-n // len(points)))]
        return points[torch.cat(rounds)[:n].to(points.device)]


def check_training(model: Any) -> None:
    """Raise a ValueError for the first hyper-parameter of a model's training that is out of range."""
    for name in ("steps", "batch_size"):
        if int(getattr(model, name)) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(model, name)}")
    if not model.lr > 0:
        raise ValueError(f"lr must be positive; got {model.lr}")
    if not 0 <= model.validation_fraction <= 0.5:
        raise ValueError(f"validation_fraction must lie in [0, 0.5]; got {model.validation_fraction}")
    if model.patience is not None and model.validation_fraction == 0:
        raise ValueError("patience needs validation_fraction above 0: without held-out cells there is nothing to watch")
