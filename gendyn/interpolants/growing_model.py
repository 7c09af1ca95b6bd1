"""What models of populations share whose cells may multiply and die."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.interpolants.growing_flow import GrowingFlow
from gendyn.interpolants.population_model import PopulationModel
from gendyn.randomness import Seed, as_seed
from gendyn.sampling import sample

__all__ = ["GrowingModel"]


class GrowingModel(PopulationModel):
    """A model of populations that may know how fast cells multiply.

    Attributes
    ----------
    process_
        The learned process, with ``growth(t, x)`` where the model grows.
    """

    process_: Any

    @property
    @abstractmethod
    def grows(self) -> bool:
        """Whether cells multiply and die."""

    @property
    @abstractmethod
    def _how_to_grow(self) -> str:
        """Return the argument with which cells grow, for sentences."""

    def sample_weighted(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        step: float | None = None,
        extrapolate: bool = False,
    ) -> tuple[Paths, Tensor]:
        r"""Run the process and return paths with the logarithm of the weight each cell has gained.

        The population at a time is the paths' values there under the weights :math:`w`, with
        :math:`d \log w/dt = g(t, X)` and weight one at the start. Where ``x0`` has weights of its own, they are to be
        multiplied with these.

        Parameters
        ----------
        x0, times, n, seed, step, extrapolate
            As for :meth:`sample`.

        Returns
        -------
        paths, log_weights
            Paths with values ``(n, T, d)`` and logarithms of weights ``(n, T)``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If cells of the model do not grow, or as in :meth:`sample`.
        """
        self._check_grows()
        root = as_seed(seed)
        points, start, grid = self._start(x0, times)
        self._check_range([start, *grid.tolist()], extrapolate)
        if points.ndim != 2 or points.shape[1] != self.process_.dim:
            raise ValueError(f"x0 must have shape (n, {self.process_.dim}); got {tuple(points.shape)}")
        if n is not None:
            points = self._resample(points, n, root)
        state = torch.cat([points, points.new_zeros(len(points), 1)], dim=1)
        later = start != float(grid[0])
        run = torch.cat([torch.tensor([start], dtype=torch.float64), grid]) if later else grid
        made = sample(GrowingFlow(self.process_), state, run, seed=root, solver=self._solver, step=step)
        values = made.values[:, 1:] if later else made.values
        return Paths(grid, values[..., :-1], names=self.names_, info=made.info), values[..., -1]

    def growth(self, data: Snapshots) -> list[Tensor]:
        """Return how fast each measured cell multiplies.

        What all cells grow together is what the sums of the weights that the model was fitted to grew; without
        weights no mass is known, and only differences between cells mean something.

        Parameters
        ----------
        data
            Populations at times within the trained range.

        Returns
        -------
        list of Tensor
            One ``(n_k,)`` a time, per unit of time.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If cells of the model do not grow, a time is out of the trained range, or cells have another number of
            features.
        """
        self._check_grows()
        self._check_cells(data)
        with torch.no_grad():
            return [
                self.process_.growth(t.to(device=x.device), x) for t, x in zip(data.times, data.samples, strict=True)
            ]

    @property
    def _solver(self) -> str:
        return "heun"

    @staticmethod
    def _masses(data: Snapshots) -> Tensor:
        """Return the mass of each population ``(T,)``: the sum of its weights, equal where none are given."""
        if data.weights is None:
            return torch.ones(len(data), dtype=torch.float64)
        return torch.stack([w.double().sum().cpu() for w in data.weights])

    def _check_grows(self) -> None:
        self._check_fitted()
        if not self.grows:
            raise ValueError(f"cells of this model do not grow: fit it with {self._how_to_grow}")

    def _push(self, data: Snapshots, k: int, max_cells: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return predicted cells with the weights they have gained."""
        if not self.grows:
            return super()._push(data, k, max_cells, seed)
        time = [float(data.times[k])]
        if k == 0:
            paths, logs = self.sample_weighted(n=max_cells, times=time, seed=seed)
            return paths.values[:, -1], torch.softmax(logs[:, -1], 0)
        paths, logs = self.sample_weighted(data.only([float(data.times[k - 1])]), time, seed=seed)
        before = logs.new_ones(len(paths)) if data.weights is None else data.weights[k - 1]
        return paths.values[:, -1], before * torch.softmax(logs[:, -1], 0)
