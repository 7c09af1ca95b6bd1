"""Populations of few cells: bridges that may miss them at a price, on points that they share."""

from __future__ import annotations

import pandas as pd
import torch

from gendyn.bridges.growth import Growth
from gendyn.bridges.interval_laws import interval_log_densities
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.coupling import MarginalRelaxation, SoftChain, soft_chain
from gendyn.data import Snapshots
from gendyn.sampling import Process

__all__ = ["check_soft", "marginal_table", "shared_support", "soften"]


@torch.no_grad()
def soften(
    bridge: MultiMarginalBridge,
    data: Snapshots,
    relaxation: MarginalRelaxation,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 20_000,
) -> tuple[MultiMarginalBridge, SoftChain]:
    """Return the bridge of the same reference that may miss its populations at a price.

    Parameters
    ----------
    bridge
        The bridge that meets them, from which the iteration starts.
    data
        The populations.
    relaxation, tolerance, max_iterations
        As for :func:`~gendyn.coupling.soft_chain`.

    Raises
    ------
    ValueError
        If prices are unfit.
    """
    densities = list(interval_log_densities(bridge.reference, bridge.samples, bridge.times, bridge.substeps))
    chain = soft_chain(
        densities,
        bridge.weights,
        relaxation=relaxation,
        potentials=bridge.potentials,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    soft = MultiMarginalBridge(
        bridge.reference, data, chain.potentials, weights=chain.weights, substeps=bridge.substeps
    )
    return soft, chain


def check_soft(
    reference: Process | LiftedReference, data: Snapshots, growth: Growth | None, rows_at_once: int | None
) -> None:
    """Refuse what soft marginals are not for.

    Raises
    ------
    ValueError
        If cells multiply, coordinates are hidden, or couplings are too large to be held as a whole.
    """
    if growth is not None or isinstance(reference, LiftedReference):
        raise ValueError(
            "marginal_relaxation is for cells that do not multiply, under references without hidden coordinates; leave "
            "it out, or growth_rate, relaxation and the hidden coordinates"
        )
    if MultiMarginalBridge(reference, data, (), rows_at_once=rows_at_once).in_blocks:
        raise ValueError(
            "marginal_relaxation needs couplings that are held as a whole, and populations of "
            f"{' and '.join(map(str, data.sizes))} rows are coupled in blocks; leave it out, for it makes a difference "
            "where populations are small"
        )


def marginal_table(times: torch.Tensor, chain: SoftChain) -> pd.DataFrame:
    """Return one row a population: ``time``, ``divergence`` of the bridge from it in nats, and ``cells``.

    The last is how many equal weights would be as even as those of the bridge, the inverse sum of their squares.
    """
    return pd.DataFrame(
        {
            "time": times.tolist(),
            "divergence": chain.divergences.tolist(),
            "cells": [1 / float(w.square().sum()) for w in chain.weights],
        }
    )


def shared_support(data: Snapshots, width: float) -> Snapshots:
    r"""Return populations that all have the points of all times, each with weights where its own cells are.

    .. math:: \hat\mu_k(z) = \sum_j w_{k,j}\,
        \frac{e^{-\lVert z - y_{k,j} \rVert^2 / 2 h^2}}{\sum_{z'} e^{-\lVert z' - y_{k,j} \rVert^2 / 2 h^2}} .

    A population of few cells leaves gaps; under soft marginals a bridge may then pass through what was seen at other
    times. Where cells of other times are far, weights stay on the cells themselves.

    Parameters
    ----------
    data
        The populations.
    width
        :math:`h > 0`, in units of the data.

    Raises
    ------
    ValueError
        If the width is not positive.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.tensor([[0.0], [9.0]]), torch.tensor([[0.0]])])
    >>> [[round(w, 3) for w in weights.tolist()] for weights in shared_support(data, 1.0).weights]
    [[0.25, 0.5, 0.25], [0.5, 0.0, 0.5]]
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be positive and finite, in units of the data; got {width}")
    points = torch.cat(list(data.samples))
    exact = points.to(torch.float64)
    weights = []
    for t, y in zip(data.times.tolist(), data.samples, strict=True):
        spread = torch.softmax(-torch.cdist(y.to(torch.float64), exact).square() / (2 * width**2), 1)
        weights.append((data.mass(t).to(spread) @ spread).to(points))
    return Snapshots(data.times, [points] * len(data), weights, names=data.names)
