"""What every model between populations is asked: where paths start, how fast cells move, how well it predicts.

A fitted model holds a process in the units of the data, the times it was fitted to, and cells of the first population,
so that it can start paths by itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.training import Estimator

__all__ = ["PopulationEstimator", "draw_starts"]


class _Scaled(Protocol):
    """What scores are measured in: what is subtracted from a feature, and what it is divided by, ``(d,)`` each."""

    shift: Tensor
    scale: Tensor


class PopulationEstimator(Estimator):
    """A model between populations at two or many times, whatever it learns and however.

    Attributes
    ----------
    process_
        The learned process, in the units of the data.
    times_ : Tensor
        The fitted times ``(T,)``.
    initial_ : Tensor
        Cells of the first population, kept so that paths can start by themselves.
    names_ : tuple of str or None
        Names of the features.
    """

    times_: Tensor
    initial_: Tensor
    names_: tuple[str, ...] | None

    @property
    @abstractmethod
    def _scaling(self) -> _Scaled:
        """In which units :meth:`score` measures."""

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
        self._check_cells(data)
        with torch.no_grad():
            return [
                self.process_.drift(t.to(self.initial_), x.to(self.initial_))
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
            scores.append(
                wasserstein_value(
                    self._comparable(few.samples[k]),
                    self._comparable(predicted),
                    weights_real=weights,
                    weights_generated=source_weights,
                )
            )
        if not scores:
            raise ValueError("score needs at least one time after the first trained time")
        return -sum(scores) / len(scores)

    def _comparable(self, x: Tensor) -> Tensor:
        """Return points as distances to the truth are measured between."""
        scaling = self._scaling
        return (x - scaling.shift) / scaling.scale

    def _push(self, data: Snapshots, k: int, max_cells: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return the cells predicted at the k-th time, from the time before or the model's own, and their weights."""
        time = float(data.times[k])
        if k == 0:
            return self.sample(n=max_cells, times=[time], seed=seed).values[:, -1], None
        predicted = self.sample(data.only([float(data.times[k - 1])]), [time], seed=seed).values[:, -1]
        return predicted, None if data.weights is None else data.weights[k - 1]

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
                f"got {len(data)} (time {data.times.tolist()}): add a population of another time"
            )

    def _start(
        self, x0: Tensor | Snapshots | None, times: Tensor | Sequence[float] | None
    ) -> tuple[Tensor, float, Tensor]:
        """Return start points in the model's type and place, the time they stand at, and the asked times."""
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
            return x0.samples[0].to(self.initial_), float(x0.times[0]), grid
        if len(grid) < 2:
            raise ValueError("points given as x0 stand at times[0], so times must hold at least one more; got one time")
        return torch.as_tensor(x0).to(self.initial_), float(grid[0]), grid

    def _check_cells(self, data: Snapshots) -> None:
        """Refuse cells with other features, or at times outside the trained range."""
        self._check_fitted()
        if data.dim != self.process_.dim:
            raise ValueError(f"the model was fitted on {self.process_.dim} features; the data have {data.dim}")
        self._check_range(data.times.tolist(), extrapolate=None)

    def _check_range(self, times: Sequence[float], extrapolate: bool | None) -> None:
        """Refuse times outside the trained range unless asked to go there (``None``: nobody can ask)."""
        low, high = float(self.times_[0]), float(self.times_[-1])
        slack = 1e-9 * (high - low)
        outside = [t for t in times if not low - slack <= t <= high + slack]
        if outside and not extrapolate:
            how = "" if extrapolate is None else "; pass extrapolate=True to run the process there all the same"
            raise ValueError(f"time {outside[0]:g} lies outside the trained range [{low:g}, {high:g}]{how}")

    @staticmethod
    def _resample(points: Tensor, n: int, seed: Seed) -> Tensor:
        """Draw ``n`` start points, every one before any twice."""
        return points[draw_starts(len(points), n, seed).to(points.device)]


def draw_starts(count: int, n: int, seed: Seed) -> Tensor:
    """Draw ``n`` of ``count`` rows, every one before any twice.

    Raises
    ------
    ValueError
        If ``n`` is below 1.

    Examples
    --------
    >>> sorted(draw_starts(3, 6, 0).tolist())
    [0, 0, 1, 1, 2, 2]
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    generator = torch_generator(seed, "start")
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-n // count))])[:n]
