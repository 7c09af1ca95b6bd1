r"""Which jump processes are expected, and how they are looked at: the prior that the network is trained on.

Processes on 2 to 10 states: complete graphs; sparse ones, one- or two-way, every state of which can be reached from
every other; rings, chains of births and deaths, and some with a state that is never left. Rates, in equal parts,
independent Beta (as in the prior of Berghaus et al. 2024), log-normal with a spread of up to two e-folds or more,
Arrhenius laws :math:`e^{E_i - B_{ij}}` with symmetric barriers and, for half of them, a drive that breaks detailed
balance, and Gamma. Paths begin in the stationary law, a random law, or one state. They are looked at every .03 to 1
mean holding times, 2 to 100 times, regularly or with looks left out at random; 1 to 1000 paths, now and then 10 000;
up to 20 % of the labels wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendyn.mjp.summary import TransitionSummary, summarise

__all__ = ["JumpTasks", "draw_rate_matrices", "draw_tasks"]

VERSION = 1
"""Raised whenever the prior changes; the card of the shipped weights names it."""

_LENGTHS = (2, 5, 15, 25, 34, 50, 100, 100)
_SIZES = (2, 3, 4, 5, 6, 6, 6, 7, 8, 9, 10)
_MANY_PATHS = 0.04
"""Share of batches with up to 10 000 paths a data set, and an eighth of the data sets."""


@dataclass(frozen=True, eq=False)
class JumpTasks:
    """A batch of data sets and the truth about them.

    Attributes
    ----------
    summary
        Of ``B`` data sets.
    rates
        True :math:`Q`, ``(B, S, S)``.
    initial
        True law of the first look, ``(B, S)``.
    noise
        True probability of a wrong label, ``(B,)``.
    """

    summary: TransitionSummary
    rates: Tensor
    initial: Tensor
    noise: Tensor


def draw_rate_matrices(n: int, size: int, generator: np.random.Generator) -> Tensor:
    """Draw ``n`` rate matrices on ``size`` states, ``(n, S, S)``, float64."""
    links = _draw_links(n, size, generator)
    rates = _draw_rates(n, size, generator) * links
    return torch.from_numpy(rates - np.einsum("ni,ij->nij", rates.sum(2), np.eye(size)))


def _draw_links(n: int, size: int, generator: np.random.Generator) -> Any:
    """Draw which jumps there are, ``(n, S, S)``."""
    off = ~np.eye(size, dtype=bool)
    links = np.broadcast_to(off, (n, size, size)).copy()
    place = np.arange(size)
    kind = generator.choice(5, n, p=[0.45, 0.35, 0.05, 0.07, 0.08])
    sparse = np.flatnonzero((kind == 1) | (kind == 4))
    waiting = sparse
    for _ in range(60):
        if not len(waiting):
            break
        density = generator.uniform(0.3, 0.8, (len(waiting), 1, 1))
        drawn = generator.random((len(waiting), size, size)) < density
        both = generator.random(len(waiting)) < 0.5
        upper = np.triu(drawn, 1)
        drawn = np.where(both[:, None, None], upper | upper.transpose(0, 2, 1), drawn) & off
        links[waiting] = drawn
        waiting = waiting[~_connected(drawn)]
    links[waiting] = off
    ring = (place[:, None] + 1) % size == place
    chain = np.abs(place[:, None] - place) == 1
    one_way = generator.random(n) < 0.5
    for k in np.flatnonzero(kind == 2):
        links[k] = (ring if one_way[k] else ring | ring.T) & off
    links[kind == 3] = chain
    # One state of these is never left; the others still reach it, as all were connected.
    for k in np.flatnonzero(kind == 4):
        links[k, generator.integers(size)] = False
    return links


def _connected(links: Any) -> Any:
    """Return which graphs ``(n, S, S)`` lead from every state to every other."""
    size = links.shape[1]
    reach = (links | np.eye(size, dtype=bool)).astype(np.float32)
    for _ in range(max(1, int(np.ceil(np.log2(size))))):
        reach = (reach @ reach > 0).astype(np.float32)
    return (reach > 0).all((1, 2))


def _draw_rates(n: int, size: int, generator: np.random.Generator) -> Any:
    """Draw rates of all pairs, ``(n, S, S)``, positive."""
    shape = (n, size, size)
    kind = generator.integers(4, size=n)[:, None, None]
    beta = generator.beta(generator.choice([1, 2], shape), generator.choice([1, 3, 5, 10], shape))
    spread = generator.uniform(0.3, 2.0, (n, 1, 1))
    normal = np.exp(spread * generator.standard_normal(shape))
    wells = 1.2 * generator.standard_normal((n, size, 1))
    barriers = 0.6 * generator.standard_normal(shape)
    barriers = (barriers + barriers.transpose(0, 2, 1)) / np.sqrt(2)
    drive = 0.4 * generator.standard_normal(shape) * (generator.random((n, 1, 1)) < 0.5)
    arrhenius = np.exp(wells - barriers + (drive - drive.transpose(0, 2, 1)) / np.sqrt(2))
    gamma = generator.gamma(1.2, size=shape)
    return np.maximum(np.choose(kind, [beta, normal, arrhenius, gamma]), 1e-9)


def draw_tasks(n: int, generator: np.random.Generator, *, size: int | None = None) -> JumpTasks:
    """Draw processes and data sets of one number of states, and summarise them.

    Parameters
    ----------
    n
        Number of data sets; an eighth of it where they are large.
    generator
        Where all randomness comes from.
    size
        Number of states; drawn by default.
    """
    size = int(generator.choice(_SIZES)) if size is None else size
    many = generator.random() < _MANY_PATHS
    n = max(1, n // 8) if many else n
    fewest, most = (300, 10_000) if many else (1, 1000)
    paths = np.exp(generator.uniform(math.log(fewest), math.log(most), n)).astype(int)
    paths[generator.random(n) < 0.05] = 1
    rates = draw_rate_matrices(n, size, generator)
    occupied = _long_run(rates)
    holding = 1 / (occupied * -rates.diagonal(dim1=1, dim2=2)).sum(1)
    step = holding * torch.from_numpy(np.exp(generator.uniform(math.log(0.03), 0.0, n)))
    initial = _draw_initial(occupied, generator)
    noise = torch.from_numpy(np.where(generator.random(n) < 0.35, 0.0, generator.uniform(0, 0.1, n)))
    noise = torch.where(torch.from_numpy(generator.random(n) < 0.15), 2 * noise, noise)
    owner = torch.from_numpy(np.repeat(np.arange(n), paths))
    length = int(generator.choice(_LENGTHS))
    kept = float(generator.choice([0.5, 0.25])) if generator.random() < 0.5 else 1.0
    grid = length if kept == 1.0 else max(4, min(100, round(length / kept)))
    labels = _simulate(rates, step, initial, owner, grid, generator)
    labels = _mislabel(labels, noise[owner], size, generator)
    times = torch.arange(grid, dtype=torch.float64) * step[owner][:, None]
    lengths = torch.full((len(owner),), grid)
    if kept < 1.0:
        seen = torch.from_numpy(generator.random(labels.shape) < kept)
        # Every data set has a pair of looks at least.
        first = torch.from_numpy(np.concatenate([[0], np.cumsum(paths)[:-1]]))
        poor = first[seen[first].sum(1) < 2]
        seen[poor, 0] = seen[poor, grid - 1] = True
        order = torch.argsort((~seen).to(torch.int8), dim=1, stable=True)[:, : max(2, int(seen.sum(1).max()))]
        lengths = seen.sum(1)
        labels, times = labels.gather(1, order), times.gather(1, order)
    middle = step if kept == 1.0 else step * (1.0 if kept == 0.5 else 3.0)
    summary = summarise(labels, times, lengths, owner, n_sets=n, n_states=size, middle=middle * 1.001)
    return JumpTasks(summary, rates, initial, noise)


def _long_run(rates: Tensor) -> Tensor:
    """Return where processes are before they are caught, or for ever: the law after a few mean holding times."""
    size = rates.shape[1]
    exits = -rates.diagonal(dim1=1, dim2=2)
    # A state that is never left would hold everything: it is let go at the mean rate.
    caught = exits <= 0
    let_go = torch.where(caught, exits.sum(1, keepdim=True) / size, 0.0)
    opened = rates + let_go[:, :, None] * (1 / size) - torch.diag_embed(let_go)
    system = torch.cat([opened.mT, torch.ones(len(rates), 1, size, dtype=rates.dtype)], 1)
    right = torch.zeros(len(rates), size + 1, 1, dtype=rates.dtype)
    right[:, -1] = 1.0
    law: Tensor = torch.linalg.lstsq(system, right).solution[..., 0].clamp_min(1e-12)
    result: Tensor = law / law.sum(1, keepdim=True)
    return result


def _draw_initial(occupied: Tensor, generator: np.random.Generator) -> Tensor:
    n, size = occupied.shape
    laws = torch.from_numpy(generator.dirichlet(np.full(size, 2.0), n))
    one = torch.eye(size, dtype=torch.float64)[torch.from_numpy(generator.integers(size, size=n))]
    kind = torch.from_numpy(generator.choice(3, n, p=[0.5, 0.4, 0.1]))[:, None]
    return torch.where(kind == 0, occupied, torch.where(kind == 1, laws, one))


def _simulate(
    rates: Tensor, step: Tensor, initial: Tensor, owner: Tensor, grid: int, generator: np.random.Generator
) -> Tensor:
    """Draw paths on a regular grid, exactly in law: ``(N, grid)``, int64."""
    size = rates.shape[1]
    moved = torch.linalg.matrix_exp(rates * step[:, None, None]).clamp_min(0.0).cumsum(2)
    ladder = (moved / moved[..., -1:])[..., :-1].reshape(-1, size - 1).to(torch.float32)
    first = (initial.cumsum(1) / initial.sum(1, keepdim=True))[:, :-1].to(torch.float32)
    uniform = torch.from_numpy(generator.random((grid, len(owner)), dtype=np.float32))
    state = (uniform[0][:, None] > first[owner]).sum(1)
    labels = [state]
    base = owner * size
    for u in uniform[1:]:
        state = (u[:, None] > ladder[base + state]).sum(1)
        labels.append(state)
    return torch.stack(labels, 1)


def _mislabel(labels: Tensor, noise: Tensor, size: int, generator: np.random.Generator) -> Tensor:
    """Replace labels by any of the others with a path's probability."""
    wrong = torch.from_numpy(generator.random(labels.shape, dtype=np.float32)) < noise[:, None]
    other = torch.from_numpy(generator.integers(1, size, labels.shape))
    return torch.where(wrong, (labels + other) % size, labels)
