"""What every model of the package can do: fit, sample, score, save, load.

The constructor stores hyper-parameters and nothing else; ``fit`` returns the model itself and sets attributes with a
trailing underscore (``process_``, ``history_``, ``seed_``); a saved model is one safetensors file whose JSON header
names its class and hyper-parameters, so that reading it runs no code.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Paths, read_header, read_tensors, write_tensors
from gendyn.randomness import Seed
from gendyn.training.loop import Objective, TrainingDiverged, fit

__all__ = ["Estimator", "NotFittedError", "read_model_header"]

_FORMAT = 1


class NotFittedError(ValueError):
    """A model was asked for what only a fitted model has."""


class Estimator(ABC):
    """Base of all models; see the module's docstring for the contract.

    Attributes
    ----------
    process_
        The learned process, which :func:`gendyn.sample` runs.
    history_ : pandas.DataFrame
        Loss by step.
    seed_ : int
        The seed of the fit.
    """

    process_: Any
    history_: pd.DataFrame
    seed_: int

    @abstractmethod
    def fit(
        self,
        data: Any,
        *,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from data and return the model itself."""

    @abstractmethod
    def sample(
        self,
        x0: Any = None,
        times: Any = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Run the learned process."""

    @abstractmethod
    def score(self, data: Any) -> float:
        """Return how well the model describes data; higher is better."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the fitted state: tensors, and what JSON can hold."""

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        """Put back what :meth:`_state` gave."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        signature = inspect.signature(cls.__init__)
        return {name: p.default for name, p in signature.parameters.items() if name != "self"}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name (``deep`` is there for scikit-learn and changes nothing)."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **parameters: Any) -> Self:
        """Set hyper-parameters by name and return the model itself.

        Raises
        ------
        ValueError
            If there is no hyper-parameter of that name; the message lists those there are.
        """
        known = self._defaults()
        for name, value in parameters.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def _plain_params(self) -> dict[str, Any]:
        """Return the hyper-parameters as a file can hold them."""
        return self.get_params()

    @classmethod
    def _params_from(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Undo :meth:`_plain_params`."""
        return plain

    def clone(self) -> Self:
        """Return an unfitted model with the same hyper-parameters."""
        return type(self)(**self.get_params())

    def __repr__(self) -> str:
        defaults = self._defaults()
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v is not defaults[k] and v != defaults[k]]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "process_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "process_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit(data) first")

    def _learn(
        self,
        objective: Objective,
        identity: str,
        *,
        progress: bool,
        checkpoint: str | Path | None,
        resume: bool,
    ) -> Self:
        """Train an objective's module with the model's own hyper-parameters, and keep the history.

        Of the hyper-parameters ``steps`` and ``lr`` must be there; ``weight_decay``, ``clip``, ``ema`` and ``patience``
        are taken where the model has them.
        """
        options = {name: getattr(self, name) for name in ("clip", "ema", "patience") if hasattr(self, name)}
        decay = float(getattr(self, "weight_decay", 0.0))
        try:
            result = fit(
                objective,
                steps=self.steps,  # type: ignore[attr-defined]
                lr=self.lr,  # type: ignore[attr-defined]
                optimizer="adamw" if decay else "adam",
                weight_decay=decay,
                seed=self.seed_,
                progress=progress,
                checkpoint=checkpoint,
                resume=resume,
                fingerprint=identity,
                **options,
            )
        except TrainingDiverged as error:
            self.history_ = error.history
            raise
        finally:
            objective.module.eval().requires_grad_(False)
        self.history_ = result.history
        self._interrupted = result.stopped == "interrupted"
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one safetensors file, atomically.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        OSError
            If the file cannot be written.
        """
        self._check_fitted()
        tensors, extra = self._state()
        history = {name: [_plain(v) for v in column] for name, column in self.history_.items()}
        header = {
            "format": _FORMAT,
            "class": type(self).__name__,
            "gendyn": _version(),
            "parameters": _encode(self._plain_params()),
            "seed": self.seed_,
            "history": history,
            "extra": _encode(extra),
        }
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str | None = None) -> Self:
        """Bring back a model of this class; :func:`gendyn.load` does so for any class.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no model file, damaged, written by a version whose models held something else, or holds a model of
            another class.
        """
        header = read_model_header(path)
        if header["class"] != cls.__name__:
            raise ValueError(f"{path} holds a {header['class']}, not a {cls.__name__}; use gendyn.load")
        tensors, _ = read_tensors(path)
        try:
            model = cls().set_params(**cls._params_from(_decode(header["parameters"])))
        except ValueError as error:
            raise _other_version(path, header, str(error)) from error
        moved = tensors if device is None else {name: tensor.to(device) for name, tensor in tensors.items()}
        try:
            model._restore(moved, _decode(header["extra"]))
        except KeyError as error:
            raise _other_version(path, header, f"it has no entry {error}") from error
        except RuntimeError as error:
            raise _other_version(path, header, str(error)) from error
        history = {k: [math.nan if v is None else v for v in column] for k, column in header["history"].items()}
        model.history_ = pd.DataFrame(history)
        model.seed_ = int(header["seed"])
        return model


def read_model_header(path: str | Path) -> dict[str, Any]:
    """Return the header of a saved model: its class, hyper-parameters, seed, history and version.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a model file, or one of a later format.
    """
    header = read_header(path)
    if "class" not in header or "format" not in header:
        raise ValueError(f"{path} was written by gendyn but holds no model; a file from a model's save is needed")
    if header["format"] > _FORMAT:
        raise ValueError(
            f"{path} was written by gendyn {header.get('gendyn')} in format {header['format']}; this version reads "
            f"up to format {_FORMAT}: upgrade gendyn"
        )
    return header


def _other_version(path: str | Path, header: Mapping[str, Any], what: str) -> ValueError:
    """Return what is said of a file that does not hold what models of this version hold."""
    return ValueError(
        f"{path} is not a whole {header['class']} of gendyn {_version()}: {what}. It was written by gendyn "
        f"{header.get('gendyn', 'unknown')}: fit the model anew and save it, or load it with the version that wrote it"
    )


def _version() -> str:
    try:
        return version("gendyn")
    except PackageNotFoundError:
        return "unknown"


def _plain(value: Any) -> Any:
    """Return a history value for JSON; integers stay integers, NaN becomes null."""
    if isinstance(value, float) or hasattr(value, "is_integer"):
        number = float(value)
        return None if math.isnan(number) else (int(value) if isinstance(value, int) else number)
    return int(value)


def _encode(value: Any) -> Any:
    """Return a JSON-able form in which tuples are told from lists."""
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, Mapping):
        return {"dict": {str(k): _encode(v) for k, v in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"a hyper-parameter must be a number, a string, a bool, None or a tuple, list or dict of these to be saved; "
        f"got {type(value).__name__}"
    )


def _decode(value: Any) -> Any:
    """Undo :func:`_encode`."""
    if isinstance(value, list):
        return [_decode(v) for v in value]
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(_decode(v) for v in value["tuple"])
        return {k: _decode(v) for k, v in value["dict"].items()}
    return value
