"""The network that ships with the package: its weights, read once, and its card."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import as_file, files
from typing import Any

from gendyn.data import read_header, read_tensors
from gendyn.mjp.rate_network import RateNetwork

__all__ = ["network_card", "shipped_network"]

_FILE = "rate_network.safetensors"


@cache
def shipped_network() -> RateNetwork:
    """Return the network, on the CPU, in evaluation mode; do not train it."""
    with as_file(files("gendyn.mjp") / _FILE) as path:
        tensors, _ = read_tensors(path)
    card = network_card()
    network = RateNetwork(card["width"], card["layers"])
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


@cache
def network_card() -> dict[str, Any]:
    """Return how the network was trained: prior, seed, steps, and what it scored on fresh draws of the prior.

    Examples
    --------
    >>> network_card()["width"]
    64
    """
    with as_file(files("gendyn.mjp") / _FILE) as path:
        card: dict[str, Any] = json.loads(read_header(path)["network"])
    return card
