"""The state of a fit on disk: one safetensors file, written atomically.

It holds the module, the optimiser's tensors, the averaged weights, the best state so far and the history. It holds
no state of a random generator, because every step makes its own from the seed and its number, and it carries
the fingerprint of the data and hyper-parameters, so that one fit is never resumed with the state of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gendyn.data import read_tensors, write_tensors

__all__ = ["Checkpoint", "fingerprint"]

_FORMAT = 1


def fingerprint(*tensors: Tensor, **parameters: Any) -> str:
    """Return a hash of tensors and parameters: equal for equal data and settings, different otherwise.

    Examples
    --------
    >>> fingerprint(torch.ones(2), steps=3) == fingerprint(torch.ones(2), steps=3)
    True
    >>> fingerprint(torch.ones(2), steps=3) == fingerprint(torch.ones(2), steps=4)
    False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().data if plain.ndim else plain.numpy().tobytes())
    digest.update(json.dumps(parameters, sort_keys=True, default=str).encode())
    return digest.hexdigest()


class Checkpoint:
    """Where a fit keeps its state.

    Parameters
    ----------
    path
        File to write, for example ``fit.checkpoint.safetensors``.
    identity
        Fingerprint of the fit.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "fit.safetensors", "abc")
    ...     checkpoint.write({"x": torch.ones(1)}, {"step": 7})
    ...     checkpoint.read()[1]["step"]
    7
    """

    def __init__(self, path: str | Path, identity: str) -> None:
        self.path = Path(path)
        self.identity = identity
        if self.path.is_dir():
            raise ValueError(f"checkpoint must be a file; {self.path} is a folder: name a file in it")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the checkpoint, {self.path.parent}, does not exist; make it first")

    def exists(self) -> bool:
        """Whether there is something to resume from."""
        return self.path.exists()

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Store tensors and a JSON-able state."""
        write_tensors(self.path, tensors, {"checkpoint": _FORMAT, "identity": self.identity, "state": dict(state)})

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read back what :meth:`write` stored.

        Raises
        ------
        ValueError
            If the file is damaged, is no checkpoint, or belongs to another fit.
        """
        advice = "delete it, name another file, or pass resume=False to start anew"
        try:
            tensors, header = read_tensors(self.path)
        except ValueError as error:
            raise ValueError(f"the checkpoint cannot be read: {error}; {advice}") from error
        if header.get("checkpoint") != _FORMAT:
            raise ValueError(f"{self.path} is not a checkpoint of this version of gendyn; {advice}")
        if header["identity"] != self.identity:
            raise ValueError(
                f"the checkpoint {self.path} belongs to another fit (other data, hyper-parameters or seed); {advice}"
            )
        return tensors, header["state"]

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a module's parameters and buffers under a prefix."""
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Put back what :func:`module_tensors` gave."""
    module.load_state_dict({name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)})


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
