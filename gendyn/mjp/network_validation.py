r"""How well a rate network reads data sets that nobody has seen: fresh draws of its prior, beside counting.

For each number of states the median over data sets of the relative error
:math:`\lVert \hat Q - Q \rVert / \lVert Q \rVert` over all pairs of different states, of the network and of changes
seen over time spent; the share of true rates, absent links among them, that 90 % intervals hold; and the area under
the curve of link probabilities.

``python -m gendyn.mjp.network_validation FILE`` writes the table into the card of a file, for one that was trained
before its card had one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from gendyn.data import read_header, read_tensors, write_tensors
from gendyn.mjp.prior import draw_tasks
from gendyn.mjp.rate_interval import mixture_interval
from gendyn.mjp.rate_network import RateNetwork, rate_features

__all__ = ["validate_rate_network"]

_FRESH = 987_654_321
"""Part of the seed that no training uses."""


@torch.no_grad()
def validate_rate_network(network: RateNetwork, draws: int = 256, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the table, a row for each number of states from 2 to 10.

    Parameters
    ----------
    network
        On the CPU.
    draws
        Data sets for each number of states, at least.
    seed
        Which data sets.

    Examples
    --------
    >>> from gendyn.mjp.shipped_network import shipped_network
    >>> rows = validate_rate_network(shipped_network(), draws=8)
    >>> [row["states"] for row in rows]
    [2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    rows = []
    for size in range(2, 11):
        generator = np.random.default_rng([_FRESH, seed, size])
        errors: list[float] = []
        counted: list[float] = []
        held: list[Tensor] = []
        links: list[Tensor] = []
        present: list[Tensor] = []
        off = ~torch.eye(size, dtype=torch.bool)
        while len(errors) < draws:
            tasks = draw_tasks(32, generator, size=size)
            found = network(rate_features(tasks.summary))
            unit = tasks.summary.unit[:, None, None]
            truth = (tasks.rates * unit)[:, off]
            link = torch.sigmoid(found.link.double())
            estimate = (found.mean.double() * link * found.shrinkage.double())[:, off]
            dwell = (tasks.summary.dwell[:, :, None] / unit).clamp_min(1e-12)
            naive = (tasks.summary.counts[:, 0] / dwell)[:, off]
            errors += _relative(estimate, truth)
            counted += _relative(naive, truth)
            low, high = mixture_interval(found.mean.double(), found.shape.double(), link, 0.9)
            held.append(((truth >= low[:, off] - 1e-12) & (truth <= high[:, off] + 1e-12)).flatten())
            links.append(link[:, off].flatten())
            present.append((truth > 0).flatten())
        rows.append(
            {
                "states": size,
                "data sets": len(errors),
                "relative error": round(float(np.median(errors)), 4),
                "of counts": round(float(np.median(counted)), 4),
                "coverage of 90 %": round(float(torch.cat(held).double().mean()), 4),
                "link AUC": _area(torch.cat(links).numpy(), torch.cat(present).numpy()),
            }
        )
    return rows


def _relative(estimate: Tensor, truth: Tensor) -> list[float]:
    found: list[float] = ((estimate - truth).norm(dim=1) / truth.norm(dim=1)).tolist()
    return found


def _area(scores: np.ndarray[Any, Any], present: np.ndarray[Any, Any]) -> float | None:
    """Return the area under the curve of true against false positives; ``None`` if all or none are present."""
    count = int(present.sum())
    if count in (0, len(present)):
        return None
    ranks = rankdata(scores)
    return round(float((ranks[present].sum() - count * (count + 1) / 2) / (count * (len(present) - count))), 4)


def main() -> None:
    """Validate a file from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--draws", type=int, default=256)
    given = parser.parse_args()
    tensors, _ = read_tensors(given.file)
    card = json.loads(read_header(given.file)["network"])
    network = RateNetwork(card["width"], card["layers"])
    network.load_state_dict(tensors)
    card["validation"] = validate_rate_network(network.eval(), given.draws)
    write_tensors(given.file, tensors, {"network": json.dumps(card)})


if __name__ == "__main__":
    main()
