r"""Action matching: the one gradient field that moves a family of populations.

Whatever the populations at the times between, if they change smoothly there is one potential s with
:math:`\partial_t \rho = -\nabla\cdot(\rho\nabla s)`, whose flow spends the least kinetic energy of all. It minimises an
action that asks for samples of every :math:`\rho_t` and for no velocities (Neklyudov et al. 2023). The entropic
variant gives the drift :math:`\nabla s` of a diffusion with the same marginals; the unbalanced one lets cells multiply
and die at the rate s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from gendyn.data import Paths, Scaling, Snapshots
from gendyn.interpolants.action_objective import ActionObjective, Interpolation
from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths, CouplingName, couple
from gendyn.interpolants.growing_model import GrowingModel
from gendyn.interpolants.potential_flow import PotentialFlow
from gendyn.nn import VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["ActionMatching"]


class ActionMatching(GrowingModel):
    r"""Learn the potential that moves each population into the next.

    Parameters
    ----------
    sigma
        Diffusion of the process, in scaled positions and with the whole trained time as unit; above zero the learned
        process is :math:`dX = \nabla s\,dt + \sigma\,dW` (entropic action matching). It is the full coefficient:
        :math:`\sigma^2 = 2\epsilon`.
    unbalanced
        Let cells multiply at the rate s. One e-fold of growth then costs as much as a move by one unit of the scaled
        data. Masses are the sums of the populations' weights, equal where none are given.
    interpolation
        What the populations between two observed times are. ``"line"``, ``"spline"``: points on straight lines or
        natural cubic splines through coupled tuples; ``"mixture"``: the one population fades into the next, which
        moves nobody and leaves most to growth. With many times all are nearly the same.
    coupling
        Who is joined to whom: ``"ot"``, ``"sinkhorn"``, ``"independent"`` or ``"paired"``.
    blur
        Standard deviation of noise around the points, in units of the scaled data.
    hidden, activation, scale, steps, batch_size, lr, weight_decay, clip, ema, block, regularisation
        As for :class:`gendyn.FlowMatching`; the activation must be smooth.
    validation_fraction, patience
        As for :class:`gendyn.FlowMatching`.

    Attributes
    ----------
    process_ : PotentialFlow
        The learned process, in the units of the data.

    References
    ----------
    Neklyudov, Brekelmans, Severo, Makhzani. Action matching: learning stochastic dynamics from samples. ICML 2023.

    Examples
    --------
    >>> x = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, x + 3.0])
    >>> model = ActionMatching(steps=300, hidden=(32, 32), batch_size=128).fit(data, progress=False)
    >>> end = model.sample(x, [0.0, 1.0]).values[:, -1]
    >>> bool((end.mean() - x.mean() - 3.0).abs() < 0.3)
    True
    """

    process_: PotentialFlow

    def __init__(
        self,
        sigma: float = 0.0,
        *,
        unbalanced: bool = False,
        interpolation: Interpolation = "line",
        coupling: CouplingName = "ot",
        blur: float = 0.0,
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
        self.sigma = sigma
        self.unbalanced = unbalanced
        self.interpolation = interpolation
        self.coupling = coupling
        self.blur = blur
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
        """Learn the potential from populations at two or more times.

        Parameters
        ----------
        data
            The populations; weights, where given, are the probabilities with which cells are drawn, and in the
            unbalanced variant their sums are the masses.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.FlowMatching.fit`.

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
        self._check_data(data)
        data = data if device is None else data.to(device=device)
        root = as_seed(seed)
        scaling = Scaling.fit(data, self.scale)
        training, held_out = self._split(scaling.populations(data), root)
        potential = self._potential(data.dim, derive_seed(root, "network")).to(device=data.device, dtype=data.dtype)
        process = PotentialFlow(potential, scaling, data.times, self.sigma).to(data.device)
        knots = (process.times - process.times[0]) / (process.times[-1] - process.times[0])
        objective = ActionObjective(
            potential,
            CardinalSpline(knots.cpu(), "cubic" if self.interpolation == "spline" else "linear").to(data.device),
            self._coupled(training, root),
            validation=None if held_out is None else self._coupled(held_out, root),
            masses=self._masses(data) if self.unbalanced else torch.ones(len(data), dtype=torch.float64),
            mixture=self.interpolation == "mixture",
            sigma=self.sigma,
            unbalanced=self.unbalanced,
            blur=self.blur,
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
        solver: str | None = None,
        step: float | None = None,
        extrapolate: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the learned process; of the unbalanced one, without the weights that its cells gain.

        Parameters
        ----------
        x0, times, n, seed, step, extrapolate, progress, options
            As for :meth:`gendyn.FlowMatching.sample`; a diffusion (``sigma`` above zero) runs forward only.
        solver
            By default ``"heun"`` for the flow and ``"euler_maruyama"`` for the diffusion.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of the trained range or points have the wrong shape.
        """
        return super().sample(
            x0,
            times,
            n=n,
            seed=seed,
            solver=solver or self._solver,
            step=step,
            extrapolate=extrapolate,
            progress=progress,
            **options,
        )

    @property
    def grows(self) -> bool:
        """Whether cells multiply and die."""
        return self.unbalanced

    @property
    def _how_to_grow(self) -> str:
        return "unbalanced=True"

    @property
    def _how_not_to_grow(self) -> str:
        return "unbalanced=False"

    @property
    def _solver(self) -> str:
        return "euler_maruyama" if self.sigma > 0 else "heun"

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        for name, kind in (("interpolation", Interpolation), ("coupling", CouplingName)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}; got {getattr(self, name)!r}")
        for name in ("sigma", "blur"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be zero or positive; got {getattr(self, name)}")
        if self.activation == "relu":
            raise ValueError(
                f"the potential must be smooth, because its gradient is the velocity; got activation "
                f"{self.activation!r}: use 'silu'"
            )
        self._check_training()

    def _potential(self, dim: int, seed: int) -> VelocityNetwork:
        return VelocityNetwork(dim, tuple(self.hidden), self.activation, out_features=1, seed=seed)

    def _coupled(self, data: Snapshots, seed: int) -> CoupledPaths:
        options = {"block": self.block, "regularisation": self.regularisation}
        return CoupledPaths(data, couple(data, self.coupling, seed=derive_seed(seed, "coupling"), **options))  # type: ignore[arg-type]

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._stored(potential=self.process_.potential)

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        scaling = Scaling(tensors["shift"], tensors["scale"])
        potential = self._potential(len(scaling.shift), 0).to(tensors["initial"])
        process = PotentialFlow(potential, scaling, tensors["times"], self.sigma)
        self._take_back(process, tensors, extra, potential=potential)
