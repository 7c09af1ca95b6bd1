r"""What a model does that has learned velocity and score: flows, diffusions and densities of the same populations.

With velocity b and score s of the laws :math:`\rho_t` the flow :math:`\dot X = b` and, for every
:math:`\epsilon(t) \ge 0`, the diffusion :math:`dX = (b + \epsilon s)\,dt + \sqrt{2\epsilon}\,dW` carry the first law
through all others. An error of the velocity that the flow would carry to the end is repaired by a diffusion:
:math:`\mathrm{KL}(\rho_1 \Vert \hat\rho_1) \le \frac{1}{4\epsilon}\int E\lvert \hat b_F - b_F\rvert^2 dt` with the
drift :math:`b_F = b + \epsilon s` (Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Paths, Scaling, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants.condition import ConditionEncoder
from gendyn.interpolants.epsilon import Epsilon, EpsilonName, get_epsilon
from gendyn.interpolants.fields import InterpolantFields
from gendyn.interpolants.flow_model import Base, DivergenceOption, FlowModel, chosen_divergence, density_of
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import diffusion_log_prob, sample
from gendyn.sampling.diffusion_density import DiffusionDensity

__all__ = ["InterpolantModel"]

Criterion = Literal["W2", "NLL"]
"""How :meth:`InterpolantModel.suggest_epsilon` tells which epsilon is best."""


class InterpolantModel(FlowModel):
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
        denoise: bool = False,
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
        denoise
            Of a one-sided schedule: stop ``margin`` before the end and step from there to the mean of the data given
            where a path is, instead.
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
        x0, n, observation = self._departure(x0, times, n, root)
        grid = self.times_ if times is None else torch.as_tensor(times, dtype=torch.float64).reshape(-1)
        falls = len(grid) > 1 and bool(grid[-1] < grid[0])
        rows = n if n is not None else len(self._start(x0, times)[0])
        encoded = self._encoded(condition, guidance, rows, observation)
        if encoded is not None and encoded.ndim == 2:
            if {"chunk", "to", "n_jobs"} & set(options):
                raise ValueError("paths with a condition of each one's own run at once; leave out chunk, to and n_jobs")
            options["chunk"] = rows
        backward = falls and (callable(epsilon) or epsilon != 0)
        process = self._running(encoded, guidance, epsilon=epsilon, margin=margin, backward=backward)
        options |= {"solver": solver or ("heun" if process.noise_type == "none" else "euler_maruyama")}
        options |= {"step": step, "progress": progress}
        if process.backward:
            return self._backward(process, x0, grid, n, root, extrapolate, **options)
        if denoise:
            run = self._short_of_the_end(grid, margin, options)
            return self._denoised(process, self._simulate(process, x0, run, n, root, extrapolate, **options))
        return self._simulate(process, x0, times, n, root, extrapolate, **options)

    def _check_score(self) -> None:
        """Refuse a diffusion where no score is defined or known."""
        self.fields_.check_score()

    def log_prob_bound(
        self,
        x: Tensor,
        *,
        epsilon: Epsilon | EpsilonName,
        base: Base | None = None,
        paths: int = 64,
        margin: float = 0.01,
        divergence: DivergenceOption = "auto",
        probes: int = 1,
        seed: Seed = 0,
        step: float | None = None,
        condition: Any = None,
        guidance: float = 0.0,
    ) -> DiffusionDensity:
        """Return a lower bound and an estimate of the log-density of points under a diffusion of this model.

        The density is that of what the learned diffusion makes, which is the flow's only if velocity and score are
        exact. See :func:`gendyn.sampling.diffusion_log_prob`.

        Parameters
        ----------
        x
            Points ``(B, d)`` at the last trained time, in the units of the data.
        epsilon, margin, condition, guidance
            Of the diffusion, as for :meth:`sample`.
        base, divergence, probes
            As for :meth:`log_prob`.
        paths
            How many run back from each point; the estimate is the better the more.
        seed, step
            Of these paths.

        Returns
        -------
        DiffusionDensity
            ``bound`` and ``estimate``, ``(B,)`` each.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If no score is defined, there is no base density, or a condition does not fit.
        """
        self._check_fitted()
        encoded = self._encoded(condition, guidance, len(x))
        if encoded is not None and encoded.ndim == 2:
            encoded = encoded.repeat_interleave(paths, dim=0)
        strength = get_epsilon(epsilon, self.fields_.schedule)
        return diffusion_log_prob(
            self._running(encoded, guidance, epsilon=strength, margin=margin),
            torch.as_tensor(x).to(self.process_.shift),
            self.times_[[0, -1]],
            self._base_density(base),
            paths=paths,
            divergence=chosen_divergence(divergence, self.process_.dim),
            probes=probes,
            seed=seed,
            step=step,
        )

    def suggest_epsilon(
        self,
        data: Snapshots,
        grid: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
        *,
        criterion: Criterion = "W2",
        n: int = 1000,
        base: Base | None = None,
        paths: int = 64,
        seed: Seed = 0,
    ) -> pd.DataFrame:
        r"""Return how well a diffusion of each epsilon fits validation data, best first.

        With excess losses :math:`\delta_b, \delta_s` of velocity and score
        :math:`\mathrm{KL} \le \delta_b/2\epsilon + \epsilon\,\delta_s/2`, so that :math:`\epsilon = \sqrt{\delta_b /
        \delta_s}` is best; but how far a loss is above its least is not known, and a grid has to tell.

        Parameters
        ----------
        data
            Populations that were not trained on, of which the last is compared.
        grid
            Values to try.
        criterion
            ``"W2"``: the exact distance between samples and data. ``"NLL"``: minus the mean log-density of the data
            under the diffusion, in nats, as :meth:`log_prob_bound` estimates it. Few paths make that too large, more
            so where epsilon is large: with strong noise give thousands of ``paths``, or use ``"W2"``.
        n
            Points a side, at most.
        base, paths
            As for :meth:`log_prob_bound`, for ``"NLL"``.
        seed
            Seed of the samples.

        Returns
        -------
        pandas.DataFrame
            Columns ``epsilon`` and the criterion.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the criterion is unknown, no score is defined, or ``"NLL"`` has no base density.
        """
        self._check_fitted()
        if criterion not in get_args(Criterion):
            raise ValueError(f"criterion must be one of {get_args(Criterion)}; got {criterion!r}")
        root = as_seed(seed)
        truth = data.subsample(n, seed=derive_seed(root, "truth")).samples[-1]
        if criterion == "NLL":
            return _ranked(
                criterion,
                {e: self._mean_surprise(truth, epsilon=e, base=base, paths=paths, seed=root) for e in grid},
            )
        first = self.fields_.schedule.sides == "one-sided" or len(data) == 1
        start = None if first else data.only([float(data.times[0])])
        times = None if first else [float(data.times[0]), float(data.times[-1])]
        ends = {e: self.sample(start, times, n=n, epsilon=e, seed=root).values[:, -1] for e in grid}
        return _ranked(criterion, {e: wasserstein_value(truth, made, p=2) for e, made in ends.items()})

    def _mean_surprise(self, x: Tensor, *, epsilon: float, base: Base | None, paths: int, seed: int) -> float:
        """Return minus the mean log-density of points under the flow or a diffusion."""
        if epsilon == 0:
            return -float(self.log_prob(x, base=base, seed=seed).mean())
        return -float(self.log_prob_bound(x, epsilon=epsilon, base=base, paths=paths, seed=seed).estimate.mean())

    def score(self, data: Snapshots, *, max_cells: int = 1000, seed: Seed = 0) -> float:
        """Return minus the mean exact W1 between predicted and observed populations, in units of the scaled data.

        As :meth:`gendyn.FlowMatching.score`; a model from noise, or from a source that is made from the data, is
        compared at its end, a mirror after a diffusion of unit epsilon.
        """
        self._check_fitted()
        if self._joins_populations:
            return super().score(data, max_cells=max_cells, seed=seed)
        root = as_seed(seed)
        truth = data.subsample(max_cells, seed=derive_seed(root, "score")).samples[-1]
        epsilon = 1.0 if self.fields_.schedule.sides == "mirror" else 0.0
        made = self.sample(n=len(truth), times=[0.0, 1.0], epsilon=epsilon, seed=root).values[:, -1]
        return -wasserstein_value(self.scaling_.transform(truth), self.scaling_.transform(made))

    @property
    def _joins_populations(self) -> bool:
        """Whether the data were populations at two times or more, not one."""
        return self.fields_.schedule.sides == "two-sided"

    def _departure(
        self, x0: Tensor | Snapshots | None, times: Any, n: int | None, seed: int
    ) -> tuple[Tensor | Snapshots | None, int | None, Tensor | None]:
        """Return where paths start, how many are to be drawn of that, and what the fields see of it."""
        if self.fields_.schedule.sides == "one-sided" and x0 is None:
            return self._noise(1000 if n is None else n, seed, times), None, None
        return x0, n, None

    def _encoded(self, condition: Any, guidance: float, rows: int, observation: Tensor | None = None) -> Tensor | None:
        """Return the encoded condition ``(c,)`` or ``(rows, c)``; zeros where a model that takes one is given none."""
        if observation is not None:
            raise ValueError("this model sees no observation: fit it with observed=True")
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

    def _flow(
        self, rows: int, condition: Any = None, guidance: float = 0.0, observation: Tensor | None = None
    ) -> InterpolantProcess:
        """Return the flow of this many points, under a condition, with what the fields see of the sources."""
        return self._running(self._encoded(condition, guidance, rows, observation), guidance)

    def _running(self, encoded: Tensor | None, guidance: float, **options: Any) -> InterpolantProcess:
        """Return the flow or a diffusion of the fields under an encoded condition."""
        process = InterpolantProcess(
            self.fields_,
            self.scaling_,
            self.process_.times,
            condition=encoded,
            guidance=guidance,
            told=None if self.encoder_ is None else self.encoder_.width,
            **options,
        )
        return process.to(self.process_.shift.device)

    def _starting_points(self, x0: Tensor | None, n: int | None, seed: int) -> Tensor:
        if x0 is None and self.fields_.schedule.sides == "one-sided":
            return self._noise(1000 if n is None else n, seed, None)
        return super()._starting_points(x0, n, seed)

    def _base_density(self, base: Base | None) -> Callable[[Tensor], Tensor]:
        if base is not None or self.fields_.schedule.sides != "one-sided":
            return super()._base_density(base)
        shift, scale = self.process_.shift, self.process_.scale
        return density_of(torch.distributions.Normal(shift, scale.expand(len(shift))))

    def _short_of_the_end(self, grid: Tensor, margin: float, options: Mapping[str, Any]) -> Tensor:
        """Return the times with the last one moved to where a denoising step begins."""
        if self.fields_.schedule.sides != "one-sided" or float(grid[-1]) != 1.0:
            raise ValueError(
                "a denoising step ends at time 1 of a one-sided schedule, where nothing of its noise is left"
            )
        if options.get("to") is not None:
            raise ValueError("a denoising step changes paths after they were run; leave out to=")
        if margin == 0 or (len(grid) > 1 and float(grid[-2]) >= 1 - margin):
            raise ValueError(f"a denoising step needs room: a margin above 0, and no other time beyond {1 - margin:g}")
        return torch.cat([grid[:-1], torch.tensor([1 - margin], dtype=torch.float64)])

    def _denoised(self, process: InterpolantProcess, paths: Paths) -> Paths:
        r"""Return paths whose last values are :math:`E[x_1 \mid x_t] = (x + \alpha^2 s)/\beta` of what they were."""
        t = paths.times[-1]
        x = paths.values[:, -1].to(process.shift)
        c = self.fields_.schedule.at(t)
        score = process.score(t.to(x), x) * process.scale
        clean = (self.scaling_.transform(x) + float(c.alpha) ** 2 * score) / float(c.beta)
        values = torch.cat([paths.values[:, :-1], self.scaling_.inverse(clean)[:, None].to(paths.values)], dim=1)
        times = torch.cat([paths.times[:-1], torch.ones_like(t)[None]])
        return Paths(times, values, names=self.names_, info=paths.info)

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
        x0 = torch.as_tensor(x0).to(self.initial_)
        self._check_range(grid.tolist(), extrapolate)
        points = x0 if n is None else self._resample(x0, n, seed)
        paths = sample(process, points, -grid, seed=seed, names=self.names_, **options)
        return Paths(grid, paths.values, names=self.names_, info=paths.info)


def _ranked(criterion: str, values: Mapping[float, float]) -> pd.DataFrame:
    """Return a table of epsilon and what came of it, the smallest first."""
    return pd.DataFrame({"epsilon": values.keys(), criterion: values.values()}).sort_values(
        criterion, ignore_index=True
    )
