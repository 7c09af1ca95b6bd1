r"""What every model of populations shares, whatever it learns: where paths start, when they run, how they are scored.

A fitted model holds a process in the units of the data, the times it was trained on, and some cells of the first
population, so that it can start paths by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gendyn.data import Paths, Snapshots
from gendyn.population_estimator import PopulationEstimator
from gendyn.randomness import Seed, as_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Objective, fingerprint, load_module, module_tensors

__all__ = ["PopulationModel", "check_training"]

_KEPT_CELLS = 5000
"""Cells of the first population that a model keeps."""


class PopulationModel(PopulationEstimator):
    """A trained model between populations at two or many times.

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

    steps: int
    batch_size: int
    lr: float
    validation_fraction: float
    patience: int | None

    @property
    def _scaling(self) -> Any:
        return self.process_

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
        """Refuse what is not populations of two cells or more at two times or more."""
        super()._check_data(data)
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

    def _stored(self, **networks: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a file keeps of every model: weights of its networks, trained times, scaling, first cells."""
        process = self.process_
        tensors = {"times": self.times_, "shift": process.shift, "scale": process.scale, "initial": self.initial_}
        for name, network in networks.items():
            tensors |= module_tensors(network, f"{name}.")
        return tensors, {"names": self.names_}

    def _take_back(
        self, process: Any, tensors: Mapping[str, Tensor], extra: Mapping[str, Any], **networks: nn.Module
    ) -> None:
        """Put back what :meth:`_stored` gave: weights into networks of the process, and the rest."""
        for name, network in networks.items():
            load_module(network, tensors, f"{name}.")
            network.eval().requires_grad_(False)
        self.process_ = process
        self.times_, self.initial_ = tensors["times"], tensors["initial"]
        self.names_ = None if extra["names"] is None else tuple(extra["names"])

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


def check_training(model: Any) -> None:
    """Raise a ValueError for the first hyper-parameter of a model's training that is out of range."""
    for name in ("steps", "batch_size"):
        value = getattr(model, name)
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be at least 1, a whole number; got {value!r}")
    widths = model.hidden
    if not isinstance(widths, Sequence) or isinstance(widths, str):
        raise ValueError(f"hidden must be the widths of the hidden layers, such as (128, 128); got {widths!r}")
    if not model.lr > 0:
        raise ValueError(f"lr must be positive; got {model.lr}")
    if not 0 <= model.validation_fraction <= 0.5:
        raise ValueError(f"validation_fraction must lie in [0, 0.5]; got {model.validation_fraction}")
    if model.patience is not None and model.validation_fraction == 0:
        raise ValueError("patience needs validation_fraction above 0: where all train there is nothing to watch")
