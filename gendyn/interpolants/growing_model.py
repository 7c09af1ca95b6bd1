"""What models of populations share whose cells may multiply and die."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.interpolants.flow_model import Base, DivergenceOption, FlowModel, chosen_divergence, density_of
from gendyn.interpolants.growing_flow import GrowingFlow
from gendyn.randomness import Seed, as_seed
from gendyn.sampling import Process, flow_log_prob, sample

__all__ = ["GrowingModel"]


class GrowingModel(FlowModel):
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

    @property
    @abstractmethod
    def _how_not_to_grow(self) -> str:
        """Return the argument with which they do not."""

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

    def log_prob_weighted(
        self,
        x: Tensor,
        *,
        base: Base,
        normalised: bool = True,
        divergence: DivergenceOption = "auto",
        probes: int = 1,
        seed: Seed = 0,
        solver: str = "rk4",
        step: float | None = None,
    ) -> Tensor:
        r"""Return the log-density of points at the last trained time, of the population :meth:`sample_weighted` makes.

        Along the flow of a population that multiplies, :math:`\partial_t \rho = -\nabla\cdot(\rho v) + \rho g`,

        .. math:: \log \rho_T(x_T) = \log \rho_0(x_0) - \int \operatorname{div} v(t, x_t)\,dt + \int g(t, x_t)\,dt .

        Parameters
        ----------
        x
            Points ``(B, d)`` in the units of the data.
        base
            Log-density ``(B, d) -> (B,)`` of the first population, or a distribution of torch; a probability.
        normalised
            Divide by the mass at the end, which the first cells that the model keeps have together: a probability.
            ``False``: mass per volume, with one for the mass at the start.
        divergence, probes, seed, solver, step
            As for :meth:`gendyn.FlowMatching.log_prob`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If cells of the model do not grow, it has noise, or an exact divergence is asked for in more than a thousand
            dimensions.
        """
        self._check_grows()
        self._check_flows()
        points = torch.as_tensor(x).to(self.process_.shift)
        density = density_of(base)
        # The state ends with the logarithm of a weight: run backward from zero, it is minus what the cell has gained.
        found = flow_log_prob(
            GrowingFlow(self.process_),
            torch.cat([points, points.new_zeros(len(points), 1)], dim=1),
            self.times_[[0, -1]],
            lambda state: density(state[:, :-1]) - state[:, -1],
            divergence=chosen_divergence(divergence, self.process_.dim),
            probes=probes,
            seed=seed,
            solver=solver,
            step=step,
        )
        if not normalised:
            return found
        _, gained = self.sample_weighted(self.initial_, self.times_[[0, -1]], step=step)
        return found - gained[:, -1].logsumexp(0) + math.log(len(gained))

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
                self.process_.growth(t.to(device=self.initial_.device), x.to(self.initial_))
                for t, x in zip(data.times, data.samples, strict=True)
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

    def _flow(self, rows: int) -> Process:
        """Return the flow of this many points, where it is all that changes a density."""
        self._check_flows()
        if self.grows:
            raise ValueError(
                "cells of this model multiply, so that its flow alone does not give its densities; use "
                f"log_prob_weighted and sample_weighted, or fit it with {self._how_not_to_grow}"
            )
        return super()._flow(rows)

    def _check_flows(self) -> None:
        if self.process_.noise_type != "none":
            raise ValueError("a density moves along a flow; this model has noise: fit it with sigma=0")

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
