r"""Flow matching between populations at two or many times.

Given populations :math:`\rho_1, \dots, \rho_T` at times :math:`t_1 < \dots < t_T`, a coupling joins
one point of each into a tuple, a conditional path :math:`x_t` runs through the tuple
(:mod:`gendyn.interpolants.conditional_path`), and one network over real time learns

.. math:: v^\star = \arg\min_v \; \mathbb{E}_{t,\, x_t} \lVert v(t, x_t) - \dot x_t \rVert^2 .

Its flow :math:`\dot X = v^\star(t, X)` carries :math:`\rho_1` through the law of :math:`x_t` at every
time, and so through every population (Lipman et al., ICLR 2023; Tong et al., TMLR 2024). What
happens between the observed times is the coupling's and the path's answer: straight lines
between optimally transported pairs, or, with ``coupling="spline-ot"``, natural cubic splines through chains of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from gendyn.data import Paths, Scaling, Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths, couple
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.interpolants.velocity_field import VelocityField
from gendyn.nn import VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.training import Estimator, TrainingDiverged, fingerprint, fit

__all__ = ["FlowMatching"]

CouplingOption = Literal["independent", "ot", "sinkhorn", "spline-ot"]

_KEPT_CELLS = 5000
"""Cells of the first population that the model keeps, so that it can start paths by itself."""


class FlowMatching(Estimator):
    r"""Learn the velocity that carries each population into the next.

    Minimises :math:`\mathbb{E}\lVert v_\theta(t, x_t) - \dot x_t\rVert^2` over one network on real time.
    The learned process is an ordinary differential equation: each start point has one future, and the
    spread of a later population comes from the spread of the first.

    Parameters
    ----------
    coupling
        Who is joined to whom. ``"independent"``: anyone to anyone. ``"ot"``: exact optimal transport between
        consecutive times, straight conditional paths. ``"sinkhorn"``: entropic transport. ``"spline-ot"``: the exact
        plans chained through all times, conditional paths are natural cubic splines; best where there are four times
        or more.
    sigma
        Standard deviation of the noise around a conditional path, in units of the scaled data.
    hidden
        Widths of the hidden layers of the velocity network.
    activation
        Name of the nonlinearity, see :data:`gendyn.nn.ACTIVATIONS`.
    scale
        ``"global"`` (centre, divide by the largest standard deviation: geometry kept), ``"whiten"``
        (each feature by its own) or ``"none"``; fitted on the training data only.
    steps, batch_size, lr, weight_decay, clip, ema
        Optimiser steps, coupled tuples per step, peak learning rate of Adam (cosine decay to zero),
        decoupled weight decay, gradient-norm limit, decay of the averaged weights (``None``: no averaging).
    block
        Cells per block of the mini-batch plans; ``None`` solves whole plans while they are affordable.
    regularisation
        Entropic regularisation of ``"sinkhorn"`` in squared scaled units; ``None`` takes 5 % of the median squared
        distance.
    validation_fraction, patience
        Fraction of cells kept out of training to watch the loss, and the number of checks without improvement after
        which training stops and the best weights are restored. Zero and ``None``: a fixed number of steps.

    Attributes
    ----------
    process_ : VelocityField
        The learned process, in the units of the data.
    times_ : Tensor
        The trained times ``(T,)``.
    initial_ : Tensor
        At most 5000 cells of the first population, kept so that :meth:`sample` can start by itself.
    history_ : pandas.DataFrame
        Loss by step.

    Notes
    -----
    ``sigma`` is the blur of a conditional path, not a diffusion: the process has none.

    References
    ----------
    Lipman, Chen, Ben-Hamu, Nickel, Le. Flow matching for generative modeling. ICLR 2023.
    Tong, Fatras, Malkin, Huguet, Zhang, Rector-Brooks, Wolf, Bengio. Improving and generalizing
    flow-based generative models with minibatch optimal transport. TMLR 2024.

    Examples
    --------
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, x + 3.0])
    >>> model = FlowMatching("ot", steps=300, hidden=(32, 32)).fit(data, progress=False)
    >>> paths = model.sample(x0=x, times=[0.0, 0.5, 1.0])
    >>> bool((paths.values[:, 1] - x - 1.5).abs().max() < 0.5)
    True
    """

    process_: VelocityField
    times_: Tensor
    initial_: Tensor

    def __init__(
        self,
        coupling: CouplingOption = "ot",
        *,
        sigma: float = 0.1,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        scale: Literal["global", "whiten", "none"] = "global",
        steps: int = 4000,
        batch_size: int = 512,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        block: int | None = None,
        regularisation: float | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        self.coupling = coupling
        self.sigma = sigma
        self.hidden = hidden
        self.activation = activation
        self.scale = scale
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.ema = ema
        self.block = block
        self.regularisation = regularisation
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Snapshots,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn the velocity from populations at two or more times.

        Parameters
        ----------
        data
            The populations; weights, where given, are the probabilities with which cells are drawn.
        seed
            Root of all randomness: equal seeds give equal models.
        progress
            Show a progress bar.
        checkpoint
            File to which the state is written now and then. A fit that was killed and is called again
            with the same data, hyper-parameters, seed and file goes on where it was, to the same model.
        resume
            Whether to go on from an existing checkpoint; ``False`` starts anew.
        device
            Where to train; by default where the data are.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If there are fewer than two times, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        if not isinstance(data, Snapshots):
            raise TypeError(
                f"fit needs gendyn.Snapshots; got {type(data).__name__}: "
                "read your data with gendyn.read_snapshots first"
            )
        if len(data) < 2:
            raise ValueError(
                f"flow matching needs populations at two times or more; got {len(data)} (time {data.times.tolist()})"
            )
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        scaling = Scaling.fit(data, self.scale)
        scaled = data.with_samples([scaling.transform(x) for x in data.samples])
        training, held_out = self._split(scaled, root)
        network = VelocityNetwork(
            data.dim, hidden=tuple(self.hidden), activation=self.activation, seed=derive_seed(root, "network")
        ).to(device=data.device, dtype=data.dtype)
        process = VelocityField(network, scaling, data.times).to(data.device)
        objective = FlowMatchingObjective(
            network,
            self._spline(process).to(data.device),
            CoupledPaths(training, self._couple(training, root)),
            validation=None if held_out is None else CoupledPaths(held_out, self._couple(held_out, root)),
            sigma=self.sigma,
            batch_size=self.batch_size,
        )
        identity = fingerprint(
            *data.samples, *(data.weights or ()), data.times, model=type(self).__name__, seed=root, **self.get_params()
        )
        # Before the loop: a fit that diverges leaves its last good state behind.
        self.process_ = process
        self.times_ = data.times.cpu()
        self.names_ = data.names
        self.initial_ = self._initial_cells(data, root)
        self.seed_ = root
        try:
            result = fit(
                objective,
                steps=self.steps,
                lr=self.lr,
                optimizer="adamw" if self.weight_decay else "adam",
                weight_decay=self.weight_decay,
                schedule="cosine",
                clip=self.clip,
                ema=self.ema,
                patience=self.patience,
                seed=root,
                progress=progress,
                checkpoint=checkpoint,
                resume=resume,
                fingerprint=identity,
            )
        except TrainingDiverged as error:
            self.history_ = error.history
            raise
        finally:
            network.eval().requires_grad_(False)
        self.history_ = result.history
        return self

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
        points, start, grid = self._start(x0, times)
        self._check_range([start, *grid.tolist()], extrapolate)
        if n is not None:
            points = self._resample(points, n, seed)
        if start == float(grid[0]):
            run, kept = grid, slice(None)
        else:
            run, kept = torch.cat([torch.tensor([start], dtype=torch.float64), grid]), slice(1, None)
        paths = sample(
            self.process_,
            points,
            run,
            solver=solver,
            step=step,
            seed=seed,
            progress=progress,
            names=self.names_,
            **options,
        )
        if kept == slice(None):
            return paths
        return Paths(grid, paths.values[:, kept], names=self.names_, info=paths.info)

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
            if k == 0 and time <= self.process_.start:
                continue
            source = self.initial_[:max_cells] if k == 0 else few.only([float(few.times[k - 1])])
            if k == 0:
                predicted = self.sample(n=max_cells, times=[time], seed=root).values[:, -1]
            else:
                predicted = self.sample(source, [time]).values[:, -1]
            weights = None if few.weights is None else few.weights[k]
            source_weights = None if few.weights is None or k == 0 else few.weights[k - 1]
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

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        if self.coupling not in get_args(CouplingOption):
            raise ValueError(f"coupling must be one of {get_args(CouplingOption)}; got {self.coupling!r}")
        for name in ("steps", "batch_size"):
            if int(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive; got {self.lr}")
        if not self.sigma >= 0:
            raise ValueError(f"sigma must be zero or positive; got {self.sigma}")
        if not 0 <= self.validation_fraction <= 0.5:
            raise ValueError(f"validation_fraction must lie in [0, 0.5]; got {self.validation_fraction}")
        if self.patience is not None and self.validation_fraction == 0:
            raise ValueError(
                "patience needs validation_fraction above 0: without held-out cells there is nothing to watch"
            )

    def _couple(self, snapshots: Snapshots, seed: int) -> Tensor:
        """Draw the table of coupled tuples."""
        name = "ot" if self.coupling == "spline-ot" else self.coupling
        return couple(
            snapshots,
            name,
            block=self.block,
            regularisation=self.regularisation,
            seed=derive_seed(seed, "coupling"),
        )

    def _spline(self, process: VelocityField) -> CardinalSpline:
        """Return the conditional path, in time scaled to [0, 1]."""
        scaled_times = (process.times - process.start) / process.span
        return CardinalSpline(scaled_times, "cubic" if self.coupling == "spline-ot" else "linear")

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

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"network.{name}": value for name, value in self.process_.network.state_dict().items()}
        tensors |= {
            "times": self.times_,
            "shift": self.process_.shift,
            "scale": self.process_.scale,
            "initial": self.initial_,
        }
        return tensors, {"names": self.names_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        scaling = Scaling(tensors["shift"], tensors["scale"])
        network = VelocityNetwork(len(scaling.shift), hidden=tuple(self.hidden), activation=self.activation)
        network.to(dtype=tensors["initial"].dtype)
        prefix = "network."
        network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        network.eval().requires_grad_(False)
        self.process_ = VelocityField(network, scaling, tensors["times"])
        self.times_ = tensors["times"]
        self.initial_ = tensors["initial"]
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
