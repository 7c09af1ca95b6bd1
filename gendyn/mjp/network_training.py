r"""How the network that ships with the package was trained, for anyone to do again.

Data sets are drawn from the prior as they are needed, none twice. The loss of a data set is

.. math::

    \mathrm{BCE}(\lambda, \text{link}) - \text{mean over links}\ \log \mathrm{Gamma}(\tau Q_{ij};\, k_{ij}, \mu_{ij})
    + 0.2\,\mathrm{CE}(p_0) + 0.2\,(20\hat\varepsilon - 20\varepsilon)^2
    + \log\bigl(1 + \lVert \hat Q - Q \rVert^2 / \lVert Q \rVert^2\bigr) ,

the last for the shrinkage of the point estimate alone, and damped, so that a young network is not ruled by it.

Run it by ``python -m gendyn.mjp.network_training --steps 25000 --out rate_network.safetensors``; it resumes where it
was killed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gendyn.data import read_header, read_tensors, write_tensors
from gendyn.mjp.network_validation import validate_rate_network
from gendyn.mjp.prior import VERSION, JumpTasks, draw_tasks
from gendyn.mjp.rate_network import RateNetwork, rate_features
from gendyn.training import fit

__all__ = ["RateObjective", "rate_loss", "train_rate_network"]

_WORST = 20.0
"""Terms of the likelihood above this are cut, so that one rate does not rule a step."""


class RateObjective:
    """The network and a stream of fresh data sets, for :func:`gendyn.training.fit`.

    Parameters
    ----------
    network
        What is trained.
    batch_size
        Data sets a step.
    """

    def __init__(self, network: RateNetwork, batch_size: int = 64) -> None:
        self.module = network
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of fresh data sets."""
        seed = int(torch.randint(2**62, (), generator=generator))
        tasks = draw_tasks(self.batch_size, np.random.default_rng(seed))
        return rate_loss(self.module, tasks)


def rate_loss(network: nn.Module, tasks: JumpTasks) -> Tensor:
    """Return the mean loss of data sets; see the module's docstring."""
    found = network(rate_features(tasks.summary))
    size = tasks.rates.shape[1]
    off = ~torch.eye(size, dtype=torch.bool).expand(len(tasks.rates), -1, -1)
    target = (tasks.rates * tasks.summary.unit[:, None, None]).to(torch.float32)
    linked = off & (tasks.rates > 0)
    links = nn.functional.binary_cross_entropy_with_logits(found.link[off], linked[off].to(torch.float32))
    rate, mean, shape = target[linked], found.mean[linked], found.shape[linked]
    likelihood = shape * (shape / mean).log() + (shape - 1) * rate.log() - shape * rate / mean - torch.lgamma(shape)
    rates = (-likelihood).clamp_max(_WORST).mean()
    initial = -(tasks.initial.to(torch.float32) * found.initial.log_softmax(1)).sum(1).mean()
    noise = (20 * (found.noise - tasks.noise.to(torch.float32))).square().mean()
    size_off = off.to(torch.float32)
    # The posterior is not bent towards the estimate: only the shrinkage learns from its error.
    estimate = found.mean.detach() * torch.sigmoid(found.link.detach()) * found.shrinkage
    missed = ((estimate - target).square() * size_off).sum((1, 2)) / (target.square() * size_off).sum((1, 2))
    result: Tensor = links + rates + 0.2 * initial + 0.2 * noise + missed.log1p().mean()
    return result


@torch.no_grad()
def _standardise(network: RateNetwork, seed: int, batches: int = 200) -> None:
    """Measure the features once on the prior; batch statistics would leak what data sets of a batch share."""
    generator = np.random.default_rng([seed, 7])
    total, first, second = 0, torch.zeros(len(network.shift)), torch.zeros(len(network.shift))
    for _ in range(batches):
        tokens = rate_features(draw_tasks(16, generator).summary).tokens().flatten(0, 2)
        # Every data set counts alike, however many states it has.
        total += 1
        first, second = first + tokens.mean(0), second + tokens.square().mean(0)
    mean = first / total
    network.shift.copy_(mean)
    network.scale.copy_((second / total - mean.square()).clamp_min(1e-6).sqrt())


def train_rate_network(
    steps: int,
    *,
    width: int = 64,
    layers: int = 4,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    start: str | Path | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> RateNetwork:
    """Train a network on the prior; its features are standardised by a sample of it first.

    Parameters
    ----------
    steps
        Steps of AdamW.
    width, layers
        Of the network.
    batch_size
        Data sets a step.
    lr
        Peak learning rate; it warms up, then falls along a cosine.
    seed
        Of everything.
    start
        File of a network of the same size whose training goes on, in place of random weights. Heads that it lacks
        start at zero.
    checkpoint
        File from which a killed training goes on.
    progress
        Show a bar.
    """
    network = RateNetwork(width, layers, seed=seed)
    if start is None:
        _standardise(network, seed)
    else:
        network.load_state_dict(network.state_dict() | read_tensors(start)[0])
    fit(
        RateObjective(network, batch_size),
        steps=steps,
        lr=lr,
        optimizer="adamw",
        weight_decay=1e-2,
        schedule="warmup-cosine",
        ema=0.995,
        seed=seed,
        checkpoint=checkpoint,
        fingerprint=f"rate network {width} {layers} {batch_size} {lr} {seed} {start} prior {VERSION}",
        progress=progress,
    )
    return network


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args())
    out, start = given.pop("out"), given.pop("start")
    network = train_rate_network(**given, start=start, checkpoint=out.with_suffix(".checkpoint"))
    card = {"prior": VERSION, **given}
    if start is not None:
        card["start"] = json.loads(read_header(start)["network"])
    card["validation"] = validate_rate_network(network.eval())
    write_tensors(out, {k: v.contiguous() for k, v in network.state_dict().items()}, {"network": json.dumps(card)})


if __name__ == "__main__":
    main()
