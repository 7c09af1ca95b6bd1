r"""The interpolant whose diffusion is the Schroedinger bridge: optimised while its fields are learned.

A stochastic interpolant between two laws gives a diffusion between them, but one of many. The one of least action
:math:`\tfrac12\int E\lvert b + \epsilon s\rvert^2 dt` is the Schroedinger bridge of :math:`\sqrt{2\epsilon}\,W`; with
:math:`\epsilon = 0` it is optimal transport. See :mod:`gendyn.interpolants.optimal_objective` for how it is found
without simulating anything (Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from gendyn.data import Paths, Scaling, Snapshots
from gendyn.interpolants.bent_path import BentPath
from gendyn.interpolants.conditional_path import ConditionalPath, make_path
from gendyn.interpolants.coupled_paths import CoupledPaths, CouplingName, couple
from gendyn.interpolants.epsilon import Epsilon, EpsilonName
from gendyn.interpolants.fields import InterpolantFields
from gendyn.interpolants.interpolant_model import InterpolantModel
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.interpolants.optimal_objective import OptimalObjective, TrainableInterpolant
from gendyn.interpolants.schedule import Linear
from gendyn.nn import VelocityNetwork
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator

__all__ = ["OptimalInterpolant"]

_ACTION_ROWS = 20_000
"""Draws from which the action is estimated."""


class OptimalInterpolant(InterpolantModel):
    r"""Learn the interpolant of least action, and its velocity and score.

    Parameters
    ----------
    epsilon
        Half the squared diffusion of the bridge, in scaled units with every gap of length 1:
        :math:`\sigma^2 = 2\epsilon`. Zero asks for optimal transport.
    bend
        Learn how the mean of a path bends, not only how much noise there is around it. Without it a gap has one
        parameter, which is enough between Gaussians on a line.
    coupling
        Who is joined to whom: ``"independent"``, ``"ot"``, ``"sinkhorn"`` or ``"paired"``. The optimum is the same
        for all; a start nearer to it is the dearer one.
    field_steps
        Steps of the fields between two steps of the interpolant.
    hidden, activation, scale, steps, batch_size, lr, weight_decay, clip, ema, block, regularisation
        As for :class:`gendyn.FlowMatching`.

    Attributes
    ----------
    process_ : InterpolantProcess
        The flow with the same populations.
    fields_ : InterpolantFields
        Velocity and score in scaled units.
    amplitude_ : Tensor
        a of every gap: the noise of a path has the variance a t(1-t), in squared scaled units.
    action_ : float
        The least action that was found, a mean over gaps in scaled units.

    References
    ----------
    Albergo, Boffi, Vanden-Eijnden. Stochastic interpolants: a unifying framework for flows and diffusions. 2023.

    Examples
    --------
    >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0], [x, x.flip(0) + 2.0])
    >>> model = OptimalInterpolant(0.2, steps=300, hidden=(32, 32), scale="none").fit(data, progress=False)
    >>> end = model.sample(x, [0.0, 1.0], seed=1).values[:, -1]
    >>> bool((end.mean() - 2.0).abs() < 0.3)
    True
    """

    amplitude_: Tensor
    action_: float
    encoder_: None

    unconditional = 0.0
    validation_fraction = 0.0
    patience: int | None = None

    def __init__(
        self,
        epsilon: float = 0.5,
        *,
        bend: bool = True,
        coupling: CouplingName = "independent",
        field_steps: int = 5,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        scale: Literal["global", "whiten", "none"] = "global",
        steps: int = 6000,
        batch_size: int = 512,
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        ema: float | None = 0.999,
        block: int | None = None,
        regularisation: float | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.bend = bend
        self.coupling = coupling
        self.field_steps = field_steps
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
        """Learn interpolant and fields from populations at two or more times.

        Parameters
        ----------
        data, seed, progress, checkpoint, resume, device
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
        scaled = scaling.populations(data)
        options = {"block": self.block, "regularisation": self.regularisation}
        table = couple(scaled, self.coupling, seed=derive_seed(root, "coupling"), **options)  # type: ignore[arg-type]
        times = data.times.to(torch.float64)
        fields = self._fields(times, torch.stack([x.mean(0) for x in scaled.samples[1:]]), root)
        interpolant = TrainableInterpolant(self._path(fields.knots, scaled, root), len(data) - 1, data.dtype)
        self.scaling_ = scaling
        self.fields_ = fields.to(data.device)
        self.encoder_ = None
        objective = OptimalObjective(
            self.fields_,
            interpolant.to(data.device),
            epsilon=self.epsilon,
            training=CoupledPaths(scaled, table),
            field_steps=self.field_steps,
            batch_size=self.batch_size,
        )
        process = InterpolantProcess(self.fields_, scaling, times).to(data.device)
        self._train(objective, data, process, root, progress=progress, checkpoint=checkpoint, resume=resume)
        self.amplitude_ = interpolant.amplitude().detach().cpu()
        self.action_ = objective.action(_ACTION_ROWS, torch_generator(root, "action"))
        return self

    def sample(
        self,
        x0: Tensor | Snapshots | None = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        epsilon: Epsilon | EpsilonName = "bridge",
        margin: float = 0.0,
        seed: Seed = 0,
        **options: Any,
    ) -> Paths:
        """Run the bridge, or another process with the same populations.

        Parameters
        ----------
        x0, times, n, margin, seed, options
            As for :meth:`gendyn.StochasticInterpolant.sample`.
        epsilon
            Half the squared diffusion; ``"bridge"`` is the one that the action was made least for, and zero the flow.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If times are out of range, or points have the wrong shape.
        """
        chosen = self.epsilon if epsilon == "bridge" else epsilon
        return super().sample(x0, times, n=n, epsilon=chosen, margin=margin, seed=seed, **options)

    def _check_hyper_parameters(self) -> None:
        """Raise a ValueError for the first hyper-parameter that is out of range."""
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be zero or positive; got {self.epsilon}")
        if self.coupling not in get_args(CouplingName):
            raise ValueError(f"coupling must be one of {get_args(CouplingName)}; got {self.coupling!r}")
        if self.field_steps < 1:
            raise ValueError(f"field_steps must be at least 1; got {self.field_steps}")
        self._check_training()

    def _fields(self, times: Tensor, mean_target: Tensor, seed: int) -> InterpolantFields:
        networks: dict[str, nn.Module] = {
            name: VelocityNetwork(
                mean_target.shape[1], tuple(self.hidden), self.activation, seed=derive_seed(seed, "network", name)
            ).to(mean_target.dtype)
            for name in ("velocity", "score")
        }
        return InterpolantFields(networks, Linear(), (times - times[0]) / (times[-1] - times[0]), mean_target)

    def _path(self, knots: Tensor, scaled: Snapshots, seed: int) -> ConditionalPath:
        if not self.bend:
            return make_path("linear", knots, 0.0)
        # Nearly straight to begin with.
        network = VelocityNetwork(
            scaled.dim,
            tuple(self.hidden),
            self.activation,
            condition_dim=scaled.dim,
            final_scale=0.01,
            seed=derive_seed(seed, "path"),
        )
        return BentPath(knots, 0.0, network.to(scaled.dtype))

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._stored(fields=self.fields_)
        return tensors | {"amplitude": self.amplitude_}, extra | {"action": self.action_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self.encoder_ = None
        self.scaling_ = Scaling(tensors["shift"], tensors["scale"])
        self.fields_ = self._fields(tensors["times"], tensors["fields.mean_target"], 0).to(tensors["shift"].device)
        process = InterpolantProcess(self.fields_, self.scaling_, tensors["times"])
        self._take_back(process, tensors, extra, fields=self.fields_)
        self.amplitude_, self.action_ = tensors["amplitude"], extra["action"]
