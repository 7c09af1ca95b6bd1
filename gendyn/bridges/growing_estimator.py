"""A model of a bridge whose cells may multiply: paths with the weights they gain, and how fast cells gain them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gendyn.bridges.bridge_estimator import BridgeEstimator
from gendyn.bridges.growth import GrowthRate
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.coupling.entropic import Relaxation, check_relaxation
from gendyn.data import Paths, Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["GrowingBridgeEstimator"]


class GrowingBridgeEstimator(BridgeEstimator):
    """A bridge as a model, with what follows where its couplings are unbalanced; see :mod:`gendyn.bridges.growth`."""

    growth_rate: GrowthRate | None
    relaxation: Relaxation

    @property
    def grows(self) -> bool:
        """Whether cells multiply and die."""
        return self.growth_rate is not None or not all(map(math.isinf, check_relaxation(self.relaxation)))

    def sample_weighted(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
    ) -> tuple[Paths, Tensor]:
        r"""Draw paths with the logarithm of the weight each cell has gained.

        The population at a time is the paths' values there under the weights, which are one at the start. Between two
        observed times a path gains weight at a constant rate, that of the cell it left; points that are not cells of
        the data multiply as the nearest do.

        Parameters
        ----------
        x0, times, n, seed
            As for :meth:`sample`; times lie between the observed ones.

        Returns
        -------
        paths, log_weights
            Paths with values ``(n, T, d)`` and logarithms of weights ``(n, T)``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If cells of the model do not multiply, times are out of range or fall, or points have the wrong shape.
        """
        bridge = self._growing_bridge()
        root = as_seed(seed)
        points, start, grid = self._start(x0, times)
        self._check_range([start, *grid.tolist()], extrapolate=False)
        asked = grid.tolist()
        if x0 is None:
            count = bridge.size_before(asked[0]) if n is None else n
            values, logs = bridge.sample_weighted(asked, count, derive_seed(root, "bridge"))
        else:
            points = points if n is None else self._resample(points, n, root)
            if start > asked[0]:
                raise ValueError(f"paths of a bridge run forward; got time {asked[0]:g} from a start at {start:g}")
            run = asked if start == asked[0] else [start, *asked]
            values, logs = bridge.continue_weighted(points, run, derive_seed(root, "bridge"))
            values, logs = values[:, -len(asked) :], logs[:, -len(asked) :]
        kind = self.initial_.dtype
        return Paths(asked, values.to(kind), names=self.names_, info={"seed": root, "solver": "exact"}), logs.to(kind)

    def growth(self, data: Snapshots) -> list[Tensor]:
        """Return how fast cells multiply in the interval after the time of each population.

        Parameters
        ----------
        data
            Populations from the first observed time to before the last.

        Returns
        -------
        list of Tensor
            One ``(n_k,)`` a time, per unit of time; of points that are not cells of the data, that of the nearest.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If cells of the model do not multiply, cells have other features, or a time is out of range.
        """
        bridge = self._growing_bridge()
        self._check_cells(data)
        last = float(self.times_[-1])
        if float(data.times[-1]) >= last:
            raise ValueError(f"growth is known up to the last observed time, {last:g}, and not from then on")
        rates = []
        for t, x in zip(data.times.tolist(), data.samples, strict=True):
            end = float(self.times_[self.times_ > t][0])
            _, logs = bridge.continue_weighted(x, [t, end])
            rates.append((logs[:, -1] / (end - t)).to(x.dtype))
        return rates

    def _growing_bridge(self) -> MultiMarginalBridge:
        self._check_fitted()
        if not isinstance(self.bridge_, MultiMarginalBridge) or self.bridge_.log_gains is None:
            raise ValueError("cells of this model do not multiply: fit it with growth_rate or a finite relaxation")
        return self.bridge_

    def _push(self, data: Snapshots, k: int, max_cells: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return predicted cells with the weights they have gained."""
        if not self.grows:
            return super()._push(data, k, max_cells, seed)
        asked = [float(data.times[k])]
        if k == 0:
            # The population at a time is drawn as often as cells have descendants.
            return self.sample(n=max_cells, times=asked, seed=seed).values[:, -1], None
        paths, logs = self.sample_weighted(data.only([float(data.times[k - 1])]), asked, seed=seed)
        before = logs.new_ones(len(paths)) if data.weights is None else data.weights[k - 1]
        return paths.values[:, -1], before * torch.softmax(logs[:, -1], 0)
