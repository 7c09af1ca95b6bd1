"""The couplings of a bridge as they are solved: a table of how they went, a table of what they cost, and a file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from torch import Tensor

from gendyn.bridges.batched_bridge import BatchedBridge
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.coupling import StaticBridge
from gendyn.training import Checkpoint

__all__ = ["coupling_costs", "coupling_history", "read_couplings", "write_couplings"]


def coupling_history(solved: Sequence[StaticBridge], *, masses: bool) -> pd.DataFrame:
    """Return one row a coupling: ``step``, ``loss``, ``iterations``, ``marginal_error``, and ``mass`` where asked for.

    Examples
    --------
    >>> import torch
    >>> one = StaticBridge((torch.zeros(1), torch.zeros(1)), 0.5, 1e-6, 12, True)
    >>> coupling_history([one], masses=False).to_dict("list")
    {'step': [1], 'loss': [0.5], 'iterations': [12.0], 'marginal_error': [1e-06]}
    """
    return pd.DataFrame(
        {
            "step": range(1, len(solved) + 1),
            "loss": [result.kl for result in solved],
            "iterations": [float(result.iterations) for result in solved],
            "marginal_error": [result.marginal_error for result in solved],
            **({"mass": [result.mass for result in solved]} if masses else {}),
        }
    )


def coupling_costs(
    bridge: MultiMarginalBridge | LiftedBridge, solved: Sequence[StaticBridge], marks: Sequence[float]
) -> pd.DataFrame:
    """Return what the latest couplings cost: ``pairs``, ``iterations``, ``seconds``, ``rows_at_once``, ``gigabytes``.

    Parameters
    ----------
    bridge
        The bridge they belong to.
    solved
        All couplings; with hidden coordinates sweep after sweep.
    marks
        When the first of the latest couplings began and when each ended, in seconds.
    """
    fresh = len(marks) - 1
    rows = []
    for number, result in enumerate(solved[len(solved) - fresh :], start=len(solved) - fresh):
        # With hidden coordinates sweeps go back and forth.
        sweep, place = divmod(number, len(bridge.times) - 1)
        k = len(bridge.times) - 2 - place if sweep % 2 else place
        n0, n1 = len(bridge.samples[k]), len(bridge.samples[k + 1])
        block = bridge.block_rows(k) if isinstance(bridge, MultiMarginalBridge) else None
        count = bridge.batches[k].count if isinstance(bridge, BatchedBridge) else 1
        held = (block or n0) * (n1 // count) * 8e-9 * (2 if block and count == 1 else 4)
        rows.append((n0 * n1 // count, result.iterations, block, held))
    table = pd.DataFrame(rows, columns=["pairs", "iterations", "rows_at_once", "gigabytes"])
    table.insert(2, "seconds", [b - a for a, b in pairwise(marks)])
    return table


def write_couplings(store: Checkpoint, solved: Sequence[StaticBridge]) -> None:
    """Write couplings to a checkpoint."""
    tensors: dict[str, Tensor] = {}
    for k, result in enumerate(solved):
        tensors |= {f"f.{k}": result.potentials[0], f"g.{k}": result.potentials[1]}
        if result.log_gain is not None:
            tensors[f"gain.{k}"] = result.log_gain
    figures = [[one.kl, one.marginal_error, one.iterations, one.converged, one.mass] for one in solved]
    store.write(tensors, {"step": len(solved), "figures": figures})


def read_couplings(store: Checkpoint) -> list[StaticBridge]:
    """Return the couplings of a checkpoint."""
    tensors, state = store.read()
    return [
        StaticBridge(
            (tensors[f"f.{k}"], tensors[f"g.{k}"]),
            float(kl),
            float(error),
            int(iterations),
            bool(converged),
            float(mass),
            tensors.get(f"gain.{k}"),
        )
        for k, (kl, error, iterations, converged, mass) in enumerate(state["figures"])
    ]
