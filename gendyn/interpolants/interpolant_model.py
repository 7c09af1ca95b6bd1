r"""What a model does that has learned velocity and score: flows, diffusions and densities of the same populations.

With velocity b and score s of the laws :math:`\rho_t` the flow :math:`\dot X = b` and, for every
:math:`\epsilon(t) \ge 0`, the diffusion :math:`dX = (b + \epsilon s)\,dt + \sqrt{2\epsilon}\,dW` carry the first law
through all others. An error of the velocity that the flow would carry to the end is repaired by a diffusion:
:math:`\mathrm{KL}(\rho_1 \Vert \hat\rho_1) \le \frac{1}{4\epsilon}\int E\lvert \hat b_F - b_F\rvert^2 dt` with the
drift :math:`b_F = b + \epsilon s` (Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Paths, Scaling, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants.condition import ConditionEncoder
from gendyn.interpolants.epsilon import Epsilon, EpsilonName, get_epsilon
from gendyn.interpolants.fields import InterpolantFields
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.interpolants.population_model import PopulationModel
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import flow_log_prob, sample

__all__ = ["InterpolantModel"]

Base = Callable[[Tensor], Tensor] | torch.distributions.Distribution

_EXACT_DIVERGENCE = 16
"""Features up to which a divergence is exact by default."""


class InterpolantModel(PopulationModel):
    """A model of populations that knows velocity and score.

    Attributes
    ----------
    process_ : InterpolantProcess
        The flow.
    fields_ : InterpolantFields
        Velocity and score in scaled units.
    scaling_ : Scaling
        Shift and scale of the positions.
    encoder_ : ConditionEncoder or None
        Turns the values of a condition into what the fields see.
    """

    process_: InterpolantProcess
    fields_: InterpolantFields
    scaling_: Scaling
    encoder_: ConditionEncoder | None

    unconditional: float

    def sample(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        epsilon: Epsilon | EpsilonName = 0.0,
        margin: float = 0.01,
        condition: Any = None,
        guidance: float = 0.0,
        seed: Seed = 0,
        solver: str | None = None,
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        r"""Run the flow (``epsilon=0``) or a diffusion with the same marginals.

        Parameters
        ----------
        x0
            Where paths start: points ``(n, d)`` at ``times[0]``, or a population at one time. By default cells of the
            first trained population; of a one-sided schedule ``n`` draws of Gaussian noise.
        times
            Increasing times, or decreasing ones to run backward from ``x0``; by default the trained times.
        n
            Number of paths; by default as many as there are start points (1000 draws of noise).
        epsilon
            Half the squared diffusion: a number, a function of the local time such as
            :func:`~gendyn.interpolants.vanishing`, ``"bridge"`` for that of the process whose bridge the schedule is,
            or ``"path-optimal"`` (one-sided).
        margin
            Part of a gap next to its ends in which epsilon is zero, so that the flow takes out the last noise.
        condition
            One value for all paths, or one for each; of the column that the model was fitted with.
        guidance
            Weight of classifier-free guidance; zero is the conditional field itself.
        seed
            Seed of the noise and of the start points.
        solver, step
            Passed to :func:`gendyn.sample`; by default ``"heun"`` for the flow, ``"euler_maruyama"`` for a diffusion.
        extrapolate, progress, options
            As for :meth:`gendyn.FlowMatching.sample`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If no score is defined but ``epsilon`` is not zero, times are out of range, or a condition does not fit.
        """
        self._check_fitted()
        root = as_seed(seed)
        epsilon = get_epsilon(epsilon, self.fields_.schedule)
        if callable(epsilon) or epsilon != 0:
            self._check_score()
        if self.fields_.schedule.sides == "one-sided" and x0 is None:
            x0, n = self._noise(1000 if n is None else n, root, times), None
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        falls = len(grid) > 1 and bool(grid[-1] < grid[0])
        rows = n if n is not None else len(self._start(x0, times)[0])
        encoded = self._encoded(condition, guidance, rows)
        if encoded is not None and encoded.ndim == 2:
            if {"chunk", "to", "n_jobs"} & set(options):
                raise ValueError("paths with a condition of each one's own run at once; leave out chunk, to and n_jobs")
            options["chunk"] = rows
        process = InterpolantProcess(
            self.fields_,
            self.scaling_,
            self.process_.times,
            epsilon=epsilon,
            margin=margin,
            backward=falls and (callable(epsilon) or epsilon != 0),
            condition=encoded,
            guidance=guidance,
        ).to(self.process_.shift.device)
        options |= {"solver": solver or ("heun" if process.noise_type == "none" else "euler_maruyama")}
        options |= {"step": step, "progress": progress}
        if process.backward:
            return self._backward(process, x0, grid, n, root, extrapolate, **options)
        return self._simulate(process, x0, times, n, root, extrapolate, **options)

    def _check_score(self) -> None:
        """Refuse a diffusion where no score is defined or known."""
        self.fields_.check_score()

    def log_prob(
        self,
        x: Tensor,
        *,
        base: Base | None = None,
        condition: Any = None,
        guidance: float = 0.0,
        divergence: Literal["auto", "exact", "hutchinson"] = "auto",
        probes: int = 1,
        seed: Seed = 0,
        solver: str = "rk4",
        step: float | None = None,
        gradient: Literal["none", "backprop"] = "none",
    ) -> Tensor:
        r"""Return the log-density of points at the last trained time under the flow.

        .. math:: \log \hat\rho_T(x) = \log \rho_0(x_0) - \int \operatorname{div} b(t, x_t)\,dt

        Parameters
        ----------
        x
            Points ``(B, d)`` in the units of the data.
        base
            Log-density ``(B, d) -> (B,)`` of the first population, or a distribution of torch; not needed of a
            one-sided schedule, which starts from noise.
        condition, guidance
            As for :meth:`sample`.
        divergence, probes, seed
            ``"exact"``: one backward pass a feature; ``"hutchinson"``: unbiased, with random probes; ``"auto"``: exact
            up to 16 features.
        solver, step, gradient
            As for :func:`gendyn.sampling.flow_log_prob`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no base density, or an exact divergence is asked for in more than a thousand dimensions.
        """
        self._check_fitted()
        dim = self.process_.dim
        if divergence == "exact" and dim > 1000:
            raise ValueError(
                f"an exact divergence in {dim} dimensions takes {dim} passes a step; use 'hutchinson' with probes"
            )
        if divergence == "auto":
            divergence = "exact" if dim <= _EXACT_DIVERGENCE else "hutchinson"
        process = InterpolantProcess(
            self.fields_,
            self.scaling_,
            self.process_.times,
            condition=self._encoded(condition, guidance, len(x)),
            guidance=guidance,
        ).to(self.process_.shift.device)
        return flow_log_prob(
            process,
            torch.as_tensor(x).to(self.process_.shift),
            self.times_[[0, -1]],
            self._base_density(base),
            divergence=divergence,
            probes=probes,
            seed=seed,
            solver=solver,
            step=step,
            gradient=gradient,
        )

    def suggest_epsilon(
        self,
        data: Snapshots,
        grid: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
        *,
        n: int = 1000,
        seed: Seed = 0,
    ) -> pd.DataFrame:
        """Return the exact W2 between samples and validation data for each epsilon, best first.

        Parameters
        ----------
        data
            Populations that were not trained on, of which the last is compared.
        grid
            Values to try.
        n
            Points a side.
        seed
            Seed of the samples.

        Returns
        -------
        pandas.DataFrame
            Columns ``epsilon`` and ``W2``.
        """
        self._check_fitted()
        root = as_seed(seed)
        truth = data.subsample(n, seed=derive_seed(root, "truth")).samples[-1]
        first = self.fields_.schedule.sides == "one-sided" or len(data) == 1
        start = None if first else data.only([float(data.times[0])])
        times = None if first else [float(data.times[0]), float(data.times[-1])]
        rows = []
        for epsilon in grid:
            made = self.sample(start, times, n=n, epsilon=epsilon, seed=root).values[:, -1]
            rows.append({"epsilon": float(epsilon), "W2": wasserstein_value(truth, made, p=2)})
        return pd.DataFrame(rows).sort_values("W2", ignore_index=True)

    def score(self, data: Snapshots, *, max_cells: int = 1000, seed: Seed = 0) -> float:
        """Return minus the mean exact W1 between predicted and observed populations, in units of the scaled data.

        As :meth:`gendyn.FlowMatching.score`; a model from noise is compared at its end, a mirror after a diffusion of
        unit epsilon.
        """
        self._check_fitted()
        if self.fields_.schedule.sides == "two-sided":
            return super().score(data, max_cells=max_cells, seed=seed)
        root = as_seed(seed)
        truth = data.subsample(max_cells, seed=derive_seed(root, "score")).samples[-1]
        epsilon = 1.0 if self.fields_.schedule.sides == "mirror" else 0.0
        made = self.sample(n=len(truth), times=[0.0, 1.0], epsilon=epsilon, seed=root).values[:, -1]
        return -wasserstein_value(self.scaling_.transform(truth), self.scaling_.transform(made))

    def _encoded(self, condition: Any, guidance: float, rows: int) -> Tensor | None:
        """Return the encoded condition ``(c,)`` or ``(rows, c)``; zeros where a model that takes one is given none."""
        if self.encoder_ is None:
            if condition is not None or guidance != 0:
                raise ValueError("this model takes no condition: fit it with condition= the name of a column of obs")
            return None
        if condition is None:
            if self.unconditional == 0:
                raise ValueError(f"this model needs a condition: a value of {self.encoder_.column!r}")
            encoded = torch.zeros(self.encoder_.width)
        else:
            encoded = self.encoder_(condition, rows=rows)
        if guidance != 0 and self.unconditional == 0:
            raise ValueError("guidance needs a model that was fitted with unconditional above 0")
        return encoded.to(self.process_.shift)

    def _noise(self, n: int, seed: int, times: Any) -> Tensor:
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        if times is not None and float(torch.as_tensor(times, dtype=torch.float64).reshape(-1)[0]) != 0.0:
            raise ValueError("a model from noise starts at time 0; begin times there, or give x0")
        shift = self.process_.shift
        z = torch.randn(n, len(shift), generator=torch_generator(seed, "noise"), dtype=shift.dtype).to(shift.device)
        return self.scaling_.inverse(z)

    def _base_density(self, base: Base | None) -> Callable[[Tensor], Tensor]:
        if base is None and self.fields_.schedule.sides == "one-sided":
            shift, scale = self.process_.shift, self.process_.scale
            normal = torch.distributions.Normal(shift, scale.expand(len(shift)))
            return lambda x: normal.log_prob(x).sum(1)  # type: ignore[no-untyped-call]
        if base is None:
            raise ValueError(
                "the log-density of the first population is needed: give base= a function (B, d) -> (B,), or a "
                "distribution of torch"
            )
        if not isinstance(base, torch.distributions.Distribution):
            return base
        distribution = base

        def density(x: Tensor) -> Tensor:
            found: Tensor = distribution.log_prob(x)
            return found.sum(1) if found.ndim == 2 else found

        return density

    def _backward(
        self,
        process: InterpolantProcess,
        x0: Tensor | Snapshots | None,
        grid: Tensor,
        n: int | None,
        seed: int,
        extrapolate: bool,
        **options: Any,
    ) -> Paths:
        """Run a diffusion backward: forward over minus time, and the sign put back."""
        if x0 is None:
            raise ValueError("a diffusion that runs backward needs x0: points at times[0], or a population there")
        if isinstance(x0, Snapshots):
            if abs(float(x0.times[0]) - float(grid[0])) > 1e-9:
                raise ValueError(f"x0 stands at time {float(x0.times[0]):g}, but times begin at {float(grid[0]):g}")
            x0 = x0.samples[0]
        self._check_range(grid.tolist(), extrapolate)
        points = torch.as_tensor(x0) if n is None else self._resample(torch.as_tensor(x0), n, seed)
        paths = sample(process, points, -grid, seed=seed, names=self.names_, **options)
        return Paths(grid, paths.values, names=self.names_, info=paths.info)
