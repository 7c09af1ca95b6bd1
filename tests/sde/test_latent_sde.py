"""The latent SDE as a model: against the exact evidence and filter of an Ornstein-Uhlenbeck process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gendyn as gd

NOISE, STEP, LENGTH = 0.3, 0.5, 12


def relaxing(n: int, seed: int = 0) -> torch.Tensor:
    """Return noisy looks at stationary Ornstein-Uhlenbeck paths of rate 1, variance 1, every half unit of time."""
    draw = torch.Generator().manual_seed(seed)
    keep = math.exp(-STEP)
    x = [torch.randn(n, generator=draw)]
    for _ in range(LENGTH - 1):
        x.append(keep * x[-1] + (1 - keep**2) ** 0.5 * torch.randn(n, generator=draw))
    path = torch.stack(x, dim=1)
    return path + NOISE * torch.randn(path.shape, generator=draw)


def exact(series: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the log density for each value, and the mean a unit of time after the end, of the joint normal law."""
    t = STEP * np.arange(LENGTH)
    cov = np.exp(-abs(t[:, None] - t)) + NOISE**2 * np.eye(LENGTH)
    solved = np.linalg.solve(cov, series.T).T
    density = -0.5 * ((series * solved).sum(1) + np.linalg.slogdet(cov)[1] + LENGTH * math.log(2 * math.pi))
    return float(density.mean()) / LENGTH, solved @ np.exp(-abs(t[-1] + 1 - t))


@pytest.fixture(scope="module")
def model() -> gd.LatentSDE:
    model = gd.LatentSDE(latent=1, hidden=16, context=8, step=1 / 22, epochs=120, batch_size=100)
    return model.fit(relaxing(400), times=STEP * np.arange(LENGTH), progress=False)


def test_the_bound_lies_below_the_evidence_and_near_it(model: gd.LatentSDE) -> None:
    fresh = relaxing(400, seed=1)
    evidence, _ = exact(fresh.double().numpy())
    bound = model.score(fresh, times=STEP * np.arange(LENGTH))
    assert evidence - 0.1 < bound < evidence + 0.01


def test_forecasts_are_those_of_the_exact_filter(model: gd.LatentSDE) -> None:
    fresh = relaxing(100, seed=2)
    _, right = exact(fresh.double().numpy())
    found = model.predict(fresh, [STEP * (LENGTH - 1) + 1], times=STEP * np.arange(LENGTH), n=100)[:, 0, 0]
    assert np.corrcoef(found, right)[0, 1] > 0.9
    assert np.abs(found - right).mean() < 0.15


def test_new_series_have_the_law_of_the_series(model: gd.LatentSDE) -> None:
    made = model.sample(times=STEP * torch.arange(LENGTH), n=2000, observed=True).values[:, :, 0]
    assert float(made.var()) == pytest.approx(1 + NOISE**2, abs=0.25)
    near = float((made[:, 1:] * made[:, :-1]).mean())
    assert near == pytest.approx(math.exp(-STEP), abs=0.2)


def test_the_unit_of_time_does_not_matter() -> None:
    x = relaxing(20)
    options: dict[str, Any] = {"latent": 1, "hidden": 8, "context": 4, "step": 0.1, "epochs": 3}
    scores = [
        gd.LatentSDE(**options).fit(x, times=unit * np.arange(LENGTH), progress=False).score(
            x, times=unit * np.arange(LENGTH)
        )
        for unit in (1.0, 1000.0)
    ]  # fmt: skip
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_fit_by_the_adjoint_improves_is_near_that_by_backpropagation_and_is_kept(tmp_path: Path) -> None:
    x, times = relaxing(60), STEP * np.arange(LENGTH)
    options: dict[str, Any] = {"latent": 1, "hidden": 8, "context": 4, "step": 0.05, "batch_size": 60, "annealing": 0.0}

    def fitted(gradient: str, epochs: int) -> gd.LatentSDE:
        model = gd.LatentSDE(**options, gradient=gradient, epochs=epochs)  # type: ignore[arg-type]
        return model.fit(x, times=times, progress=False)

    found = fitted("adjoint", 30)
    score = found.score(x, times=times)
    assert score > fitted("adjoint", 1).score(x, times=times) + 0.1
    assert score == pytest.approx(fitted("backprop", 30).score(x, times=times), abs=0.1)
    found.save(tmp_path / "model")
    again = gd.load(tmp_path / "model")
    assert again.gradient == "adjoint"
    assert again.score(x, times=times) == score


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latent": 0}, "latent must be at least 1"),
        ({"step": 0.0}, "step must be positive"),
        ({"annealing": 2.0}, "annealing must lie"),
        ({"gradient": "none"}, "gradient must be"),
        ({"gradient": "reversible"}, "gradient must be 'backprop', 'checkpoint' or 'adjoint'"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie"),
    ],
)
def test_hyper_parameters_out_of_range_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gd.LatentSDE(**options).fit(relaxing(5), progress=False)
