r"""The training loop: the only one in the package.

An objective holds a module and returns a loss for a step; the loop does

.. math:: \theta_{k+1} = \theta_k - \eta_k\, A_k\bigl(\operatorname{clip}(\nabla_\theta L_k(\theta_k))\bigr),
    \qquad \eta_k = \eta\, h(k / K),

with the optimiser :math:`A` and the schedule :math:`h`. The random numbers of step :math:`k` come from a generator
seeded with (seed, ``"train"``, k), whatever happened before. A fit is therefore a function of its arguments
alone: killed and resumed from a checkpoint, it ends at the same weights, bit for bit on the same machine.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.training.checkpoint import Checkpoint, load_module, load_optimizer, module_tensors, optimizer_tensors
from gendyn.training.ema import WeightAverage
from gendyn.training.schedule import get_schedule

__all__ = ["FitResult", "Objective", "TrainingDiverged", "ValidatedObjective", "fit"]

Stopped = Literal["steps", "early", "interrupted"]

_CHECKPOINT_SECONDS = 5.0
"""How often a state is written; a state of a small network takes milliseconds."""


class Objective(Protocol):
    """What is trained, and how well it does."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch, a scalar with a graph, with randomness from ``generator`` alone."""
        ...


@runtime_checkable
class ValidatedObjective(Protocol):
    """An objective that can also be judged on data it does not learn from."""

    def validation_loss(self) -> float:
        """Return the loss on held-out data; the same number for the same weights."""
        ...


class TrainingDiverged(FloatingPointError):
    """The loss or the weights stopped being finite; the module was put back to its last good state.

    Attributes
    ----------
    history : pandas.DataFrame
        The history up to the last good state.
    """

    def __init__(self, message: str, history: pd.DataFrame) -> None:
        super().__init__(message)
        self.history = history


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves behind, next to the trained module.

    Attributes
    ----------
    history
        Columns ``step``, ``loss`` (mean since the row before), ``validation``, ``lr``.
    steps
        Steps that were done.
    stopped
        Why it stopped: ``"steps"`` (all done), ``"early"`` or ``"interrupted"``.
    best_step
        The step whose weights the module holds after early stopping; otherwise ``None``.
    seconds
        Wall time of this call.
    """

    history: pd.DataFrame
    steps: int
    stopped: Stopped
    best_step: int | None
    seconds: float


@dataclass
class _Progress:
    """Everything about a running fit that is neither weights nor optimiser."""

    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = math.inf
    best_step: int | None = None
    stale: int = 0

    def history(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows, columns=["step", "loss", "validation", "lr"])
        return frame.astype({"step": "int64", "loss": "float64", "validation": "float64", "lr": "float64"})


@torch.enable_grad()  # also where the caller has turned gradients off
def fit(
    objective: Objective,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    lr: float = 2e-3,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    clip: float | None = 1.0,
    ema: float | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    record_every: int | None = None,
    seed: Seed = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    fingerprint: str = "",
    callbacks: Iterable[Callable[[int, float], None]] = (),
) -> FitResult:
    """Train the module of an objective, in place.

    Parameters
    ----------
    objective
        Holds ``module`` and gives ``loss(step, generator)``; with ``validation_loss()`` it can be watched, and with
        ``steps_per_epoch`` counted in epochs.
    steps, epochs
        How long: exactly one of the two.
    lr, optimizer, weight_decay
        Peak learning rate; ``"adam"``, ``"adamw"`` or ``"sgd"``; weight decay (decoupled for ``"adamw"``).
    schedule
        Name of a learning-rate schedule, see :data:`~gendyn.training.SCHEDULES`.
    clip
        Largest norm of the gradient; ``None`` does not clip.
    ema
        Decay of averaged weights, which the module then holds after the fit and at validation.
    validate_every, patience
        Steps between validations (default: a twentieth of the fit); validations without improvement after which
        training stops. With ``patience`` the weights of the best validation are restored.
    record_every
        Steps per row of the history (default: 200 rows).
    seed
        Root of the randomness of all steps.
    progress
        Show a progress bar on stderr.
    checkpoint, resume, fingerprint
        File for the state, whether to go on from it, and what identifies this fit. The file is kept at the end: the
        same call then returns at once.
    callbacks
        Called with ``(step, loss)`` at every row of the history.

    Returns
    -------
    FitResult
        History and how the fit ended. Ctrl-C ends it early with a warning and the weights so far.

    Raises
    ------
    TrainingDiverged
        If the loss or a weight stops being finite.
    ValueError
        If an option is out of range, the checkpoint belongs to another fit, or it is called in
        ``torch.inference_mode()``, where nothing can be learned.

    Examples
    --------
    >>> class Line:
    ...     module = nn.Linear(1, 1)
    ...     def loss(self, step, generator):
    ...         x = torch.randn(64, 1, generator=generator)
    ...         return (self.module(x) - 3 * x).square().mean()
    >>> result = fit(Line(), steps=300, lr=0.1, progress=False)
    >>> round(Line.module.weight.item(), 2)
    3.0
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("nothing can be learned inside torch.inference_mode(); call fit outside of it")
    total = _check_length(objective, steps, epochs)
    _check_options(lr, clip, patience, objective)
    root = as_seed(seed)
    module = objective.module
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("the module has no parameters that ask for a gradient; there is nothing to train")
    engine = _make_optimizer(optimizer, parameters, lr, weight_decay)
    rate = get_schedule(schedule)
    average = None if ema is None else WeightAverage(module, ema)
    record_every = record_every or max(1, total // 200)
    watched = isinstance(objective, ValidatedObjective) and (patience is not None or validate_every is not None)
    rows_between = max(1, round((validate_every or max(1, total // 20)) / record_every))
    store = None if checkpoint is None else Checkpoint(checkpoint, fingerprint)

    state = _Progress()
    running = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
    best: dict[str, Tensor] = {}
    if store is not None and resume and store.exists():
        best = _resume(store, state, running, module, engine, average)
    last_good = _copy(module)
    generator = torch.Generator()
    stopped: Stopped = "steps"
    began = saved = time.monotonic()
    bar = tqdm(total=total, initial=state.step, disable=not progress, desc="fit", unit="step", mininterval=0.5)
    module.train()
    try:
        while state.step < total:
            if patience is not None and state.stale >= patience:
                stopped = "early"
                break
            key = derive_seed(root, "train", state.step)
            generator.manual_seed((key ^ (key >> 32)) & 0xFFFFFFFF)
            factor = lr * rate(state.step / total)
            for group in engine.param_groups:
                group["lr"] = factor
            for p in parameters:
                p.grad = None
            loss = objective.loss(state.step, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                _clip(parameters, clip)
            engine.step()
            if average is not None:
                average.update(state.step)
            running += loss.detach()
            state.step += 1
            if state.step % record_every and state.step != total:
                continue

            mean = float(running) / (state.step % record_every or record_every)
            _check_finite(mean, parameters, state, module, last_good)
            running.zero_()
            last_good = _copy(module)
            row = {"step": state.step, "loss": mean, "validation": math.nan, "lr": factor}
            if watched and (len(state.rows) + 1) % rows_between == 0:
                row["validation"] = _validate(objective, module, average)
                best = _judge(row["validation"], state, module, average, best)
            state.rows.append(row)
            for callback in callbacks:
                callback(state.step, mean)
            bar.set_postfix(loss=f"{mean:.4g}", lr=f"{factor:.2g}", refresh=False)
            bar.update(state.step - bar.n)
            if store is not None and (state.step == total or time.monotonic() - saved >= _CHECKPOINT_SECONDS):
                _save(store, state, running, module, engine, average, best)
                saved = time.monotonic()
    except KeyboardInterrupt:
        stopped = "interrupted"
        warnings.warn(
            f"the fit was interrupted after {state.step} of {total} steps; the model keeps what it has learned so far",
            UserWarning,
            stacklevel=2,
        )
    finally:
        bar.close()
    if average is not None:
        average.swap()
    if patience is not None and best:
        module.load_state_dict(best)
    module.eval()
    best_step = state.best_step if patience is not None else None
    return FitResult(state.history(), state.step, stopped, best_step, time.monotonic() - began)


def _check_length(objective: Objective, steps: int | None, epochs: float | None) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError("give either steps or epochs")
    if epochs is not None:
        per_epoch = getattr(objective, "steps_per_epoch", None)
        if per_epoch is None:
            raise ValueError("epochs need an objective with steps_per_epoch; give steps instead")
        steps = math.ceil(epochs * per_epoch)
    if steps is None or steps < 1:
        raise ValueError(f"a fit needs at least 1 step; got {steps}")
    return int(steps)


def _check_options(lr: float, clip: float | None, patience: int | None, objective: Objective) -> None:
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr must be positive; got {lr}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive or None; got {clip}")
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1; got {patience}")
    if patience is not None and not isinstance(objective, ValidatedObjective):
        raise ValueError(
            "patience needs an objective with validation_loss(); without held-out data there is nothing to watch"
        )


def _make_optimizer(name: str, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype in (torch.float32, torch.float64) for p in parameters)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
    raise ValueError(f"optimizer must be one of adam, adamw, sgd; got {name!r}")


def _clip(parameters: list[nn.Parameter], limit: float) -> None:
    """Shorten the gradient to a norm of at most ``limit``.

    The arithmetic of :func:`torch.nn.utils.clip_grad_norm_`, without its grouping by device and type, which takes as
    long as a small network.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _check_finite(
    mean: float, parameters: list[nn.Parameter], state: _Progress, module: nn.Module, last_good: dict[str, Tensor]
) -> None:
    """Stop a fit whose loss or weights are no longer numbers."""
    healthy = math.isfinite(mean) and all(bool(torch.isfinite(p).all()) for p in parameters)
    if healthy:
        return
    module.load_state_dict(last_good)
    module.eval()
    last = f"the last finite loss was {state.rows[-1]['loss']:.4g}" if state.rows else "no loss was finite"
    what = "the loss" if not math.isfinite(mean) else "a weight"
    raise TrainingDiverged(
        f"{what} stopped being finite before step {state.step} ({last}); the weights were put back to the last good "
        "state: try a smaller lr, gradient clipping, or look for outliers in the data",
        state.history(),
    )


def _validate(objective: Objective, module: nn.Module, average: WeightAverage | None) -> float:
    """Judge the weights that the fit would return now."""
    if not isinstance(objective, ValidatedObjective):
        return math.nan
    if average is not None:
        average.swap()
    module.eval()
    value = float(objective.validation_loss())
    module.train()
    if average is not None:
        average.swap()
    return value


def _judge(
    value: float, state: _Progress, module: nn.Module, average: WeightAverage | None, best: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Keep the weights if they are the best so far, else count one more check without improvement."""
    if value < state.best_loss:
        state.best_loss, state.best_step, state.stale = value, state.step, 0
        if average is not None:
            average.swap()
        best = _copy(module)
        if average is not None:
            average.swap()
    else:
        state.stale += 1
    return best


def _save(
    store: Checkpoint,
    state: _Progress,
    running: Tensor,
    module: nn.Module,
    engine: torch.optim.Optimizer,
    average: WeightAverage | None,
    best: dict[str, Tensor],
) -> None:
    tensors = module_tensors(module, "module.") | optimizer_tensors(engine) | {"running": running}
    if average is not None:
        tensors |= {f"average.{i}": value for i, value in enumerate(average.values)}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    plain: dict[str, Any] = {
        "step": state.step,
        "rows": [{k: (None if math.isnan(v) else v) for k, v in row.items()} for row in state.rows],
        "best_loss": None if math.isinf(state.best_loss) else state.best_loss,
        "best_step": state.best_step,
        "stale": state.stale,
    }
    store.write(tensors, plain)


def _resume(
    store: Checkpoint,
    state: _Progress,
    running: Tensor,
    module: nn.Module,
    engine: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> dict[str, Tensor]:
    """Put everything back as :func:`_save` found it, and return the best weights so far."""
    tensors, plain = store.read()
    load_module(module, tensors, "module.")
    load_optimizer(engine, tensors)
    running.copy_(tensors["running"])
    if average is not None:
        for i, value in enumerate(average.values):
            value.copy_(tensors[f"average.{i}"])
    state.step = plain["step"]
    state.rows = [{k: (math.nan if v is None else v) for k, v in row.items()} for row in plain["rows"]]
    state.best_loss = math.inf if plain["best_loss"] is None else plain["best_loss"]
    state.best_step = plain["best_step"]
    state.stale = plain["stale"]
    device = running.device
    return {k.removeprefix("best."): v.to(device) for k, v in tensors.items() if k.startswith("best.")}
