"""What a jump process is told by its user, checked: options, masks, laws, and transitions that can have happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gendyn.mjp.observations import StateObservations

__all__ = ["check_law", "check_mask", "check_options", "check_possible", "options_of", "plain_options"]

METHODS = ("auto", "zero-shot", "em")
"""How rates may be found."""


def check_mask(value: Any, size: int, name: str) -> Tensor | None:
    """Return booleans ``(S, S)``, or ``None`` where none are given."""
    if value is None:
        return None
    mask = torch.as_tensor(value).to(torch.bool)
    if mask.shape != (size, size):
        raise ValueError(f"{name} must have shape ({size}, {size}), a row per state; got {tuple(mask.shape)}")
    return mask


def check_law(value: Any, size: int) -> Tensor | None:
    """Return a law ``(S,)``, or ``None`` where it is to be estimated."""
    if isinstance(value, str):
        if value != "estimate":
            raise ValueError(f"initial must be 'estimate' or a law; got {value!r}")
        return None
    law = torch.as_tensor(value, dtype=torch.float64)
    if law.shape != (size,) or bool((law < 0).any()) or abs(float(law.sum()) - 1) > 1e-6:
        raise ValueError(f"initial must be {size} probabilities that sum to 1, one a state; got {law.tolist()}")
    return law


def check_possible(seen: StateObservations, allowed: Tensor | None) -> None:
    """Refuse transitions that no allowed jumps lead to."""
    if allowed is None:
        return
    size = seen.n_states
    reach = (allowed | torch.eye(size, dtype=torch.bool)).to(torch.float64)
    for _ in range(size):
        reach = (reach @ reach > 0).to(torch.float64)
    before, after = seen.labels[:, :-1][seen.inside], seen.labels[:, 1:][seen.inside]
    proper = (before < size) & (after < size)
    counts = torch.bincount(before[proper] * size + after[proper], minlength=size**2).reshape(size, size)
    wrong = torch.nonzero((counts > 0) & (reach == 0))
    if len(wrong):
        i, j = wrong[0].tolist()
        raise ValueError(
            f"{int(counts[i, j])} transitions from state {i} to {j} were seen, but allowed has no way from one to the "
            "other: allow one, or let labels be wrong with noise='estimate'"
        )


def check_options(model: Any) -> None:
    """Raise a ValueError for the first hyper-parameter of a model that is out of range."""
    if model.method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {model.method!r}")
    if not isinstance(model.polish, bool) and model.polish != "auto":
        raise ValueError(f"polish must be 'auto', True or False; got {model.polish!r}")
    if (model.method == "zero-shot" and model.polish is True) or (model.method == "em" and model.polish is False):
        raise ValueError(
            f"method={model.method!r} and polish={model.polish} contradict each other: leave polish 'auto', or take "
            "method='auto'"
        )
    if model.emission not in ("labels", "gaussian"):
        raise ValueError(f"emission must be 'labels' or 'gaussian'; got {model.emission!r}")
    if isinstance(model.noise, str):
        if model.noise not in ("estimate", "confusion"):
            raise ValueError(f"noise must be 'estimate', 'confusion' or a probability; got {model.noise!r}")
    elif not 0 <= model.noise < 1:
        raise ValueError(f"noise must be a probability from 0 to below 1; got {model.noise}")
    if model.emission == "gaussian" and model.n_states is None:
        raise ValueError("Gaussian levels need n_states, how many there are")
    if model.confused is not None and model.noise != "confusion":
        raise ValueError("confused says which labels may be mixed up; give noise='confusion' with it")
    if model.shared_rates not in ("average", False):
        raise ValueError(f"shared_rates must be 'average' or False; got {model.shared_rates!r}")
    if model.em_steps < 0 or model.max_iterations < 0 or not model.tolerance > 0:
        raise ValueError("em_steps and max_iterations must not be negative, and tolerance must be positive")
    if not (0 <= model.prior_jumps < math.inf and 0 <= model.prior_time < math.inf):
        raise ValueError(
            "prior_jumps and prior_time must be finite and not negative; "
            f"got {model.prior_jumps} and {model.prior_time}"
        )


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters as lists, numbers and texts, for a file."""
    plain = dict(options)
    for name in ("allowed", "confused", "initial"):
        if plain[name] is not None and not isinstance(plain[name], str):
            plain[name] = torch.as_tensor(plain[name]).tolist()
    plain["entry"] = tuple(plain["entry"])
    if plain["censored"] is not None:
        plain["censored"] = [[label, list(states)] for label, states in plain["censored"].items()]
    return plain


def options_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters from what :func:`plain_options` made of them."""
    options = dict(plain)
    if options["censored"] is not None:
        options["censored"] = {label: tuple(states) for label, states in options["censored"]}
    return options
