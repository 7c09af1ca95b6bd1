r"""Flow matching between populations on a sphere or a torus.

Straight lines between coupled points become geodesics, velocities are tangent, and the sampler ends every step on the
manifold (Chen and Lipman 2024); see :mod:`gendyn.interpolants.manifold` and :mod:`gendyn.interpolants.riemannian_flow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import torch
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.interpolants.coupled_paths import CoupledPaths, CouplingName, couple
from gendyn.interpolants.manifold import MANIFOLDS, Manifold, ManifoldName
from gendyn.interpolants.population_model import PopulationModel
from gendyn.interpolants.riemannian_flow import RiemannianFlow, RiemannianObjective, TangentNetwork
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import SOLVERS
from gendyn.sampling.solvers.projected import Projected

__all__ = ["RiemannianFlowMatching"]


_MOST_ANTIPODES = 0.01
"""Part of the joined points that may be antipodes, and is left out; chance joins far fewer."""


class RiemannianFlowMatching(PopulationModel):
    r"""Learn the tangent velocity that carries each population into the next on a manifold.

    Parameters
    ----------
    manifold
        ``"sphere"``: rows of norm 1, in any dimension; ``"torus"``: rows of angles in radians, which come back in
        :math:`[-\pi, \pi)`.
    coupling
        Who is joined to whom: ``"ot"`` and ``"sinkhorn"``, of squared geodesic distance; ``"independent"``; or
        ``"paired"``, row with row.
    hidden, activation, steps, batch_size, lr, weight_decay, clip, ema, block, regularisation
        As for :class:`gendyn.FlowMatching`; nothing is scaled.
    validation_fraction, patience
        As for :class:`gendyn.FlowMatching`.

    Attributes
    ----------
    process_ : RiemannianFlow
        The learned process; its own solver ends every step on the manifold.

    References
    ----------
    Chen, Lipman. Flow matching on general geometries. ICLR 2024.

    Examples
    --------
    >>> angles = 0.3 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [angles + 3.0, angles - 2.5])
    >>> model = RiemannianFlowMatching("torus", steps=300, hidden=(32, 32)).fit(data, progress=False)
    >>> end = model.sample(data.only([0.0]), [1.0]).values[:, -1]
    >>> bool((end + 2.5).mean().abs() < 0.1)  # the short way, through pi
    True
    """

    process_: RiemannianFlow

    def __init__(
        self,
        manifold: ManifoldName = "sphere",
        coupling: CouplingName = "ot",
        *,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
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
        self.manifold = manifold
        self.coupling = coupling
        self.hidden = hidden
        self.activation = activation
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
            The populations, all on the manifold; weights, where given, are the probabilities with which cells are
            drawn.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

        Raises
        ------
        TypeError
            If ``data`` are not :class:`~gendyn.Snapshots`.
        ValueError
            If points are not on the manifold, more than a hundredth of those joined are antipodes, there are fewer than
            two times, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        if self.manifold not in MANIFOLDS:
            raise ValueError(f"manifold must be one of {', '.join(MANIFOLDS)}; got {self.manifold!r}")
        if self.coupling not in get_args(CouplingName):
            raise ValueError(f"coupling must be one of {get_args(CouplingName)}; got {self.coupling!r}")
        self._check_training()
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        for x in data.samples:
            self._space.check(x)
        data = data.with_samples([self._space.project(x) for x in data.samples])
        training, held_out = self._split(data, root)
        field = self._field(data.dim, derive_seed(root, "network")).to(device=data.device, dtype=data.dtype)
        process = RiemannianFlow(field, data.dim, data.times).to(data.device)
        objective = RiemannianObjective(
            field,
            self._coupled(training, root),
            (process.times - process.times[0]) / (process.times[-1] - process.times[0]),
            validation=None if held_out is None else self._coupled(held_out, root),
            batch_size=self.batch_size,
        )
        return self._train(objective, data, process, root, progress=progress, checkpoint=checkpoint, resume=resume)

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
        """Run the learned flow, on the manifold at every step.

        Parameters
        ----------
        x0, times, n, seed, step, extrapolate, progress, options
            As for :meth:`gendyn.FlowMatching.sample`; start points are on the manifold.
        solver
            Name of a fixed-step solver, each step of which is projected.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of the trained range, points are not on the manifold, or the solver cannot be projected.
        """
        self._check_fitted()
        if solver not in SOLVERS:
            raise ValueError(f"solver must be a fixed-step solver, one of {', '.join(SOLVERS)}; got {solver!r}")
        points = self._start(x0, times)[0].to(self.process_.shift)
        if points.ndim == 2 and points.shape[1] == self.process_.dim:
            self._space.check(points)
        method: Any = Projected(SOLVERS[solver], self._space.project)
        return super().sample(
            x0,
            times,
            n=n,
            seed=seed,
            solver=method,
            step=step,
            extrapolate=extrapolate,
            progress=progress,
            **options,
        )

    @property
    def _space(self) -> Manifold:
        return MANIFOLDS[self.manifold]

    def _comparable(self, x: Tensor) -> Tensor:
        """Return points as the manifold embeds them, where distances are chords."""
        return self._space.embed(x)

    def _field(self, dim: int, seed: int) -> TangentNetwork:
        return TangentNetwork(self._space, dim, tuple(self.hidden), self.activation, seed=seed)

    def _coupled(self, data: Snapshots, seed: int) -> CoupledPaths:
        """Join the populations without the few antipodes that chance joins; refuse where they are many."""
        table = couple(
            data,
            self.coupling,
            block=self.block,
            regularisation=self.regularisation,
            cost=self._space.cost,
            seed=derive_seed(seed, "coupling"),
        )
        points = CoupledPaths(data, table).points(torch.arange(len(table)))
        opposite = torch.stack(
            [self._space.is_antipodal(points[:, k], points[:, k + 1]) for k in range(len(data) - 1)]
        ).any(0)
        if float(opposite.double().mean()) > _MOST_ANTIPODES:
            raise ValueError(
                f"{int(opposite.sum())} of {len(table)} joined points are antipodes, between which there is no one "
                "shortest way; leave them out, or join points by transport"
            )
        return CoupledPaths(data, table[~opposite.to(table.device)])

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._stored(field=self.process_.field)

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        initial = tensors["initial"]
        field = self._field(initial.shape[1], 0).to(initial)
        process = RiemannianFlow(field, initial.shape[1], tensors["times"]).to(initial.device)
        self._take_back(process, tensors, extra, field=field)
