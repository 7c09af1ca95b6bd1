"""The published refinement: its regression against an independent one, its bridge against the exact one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

import gendyn as gd
from gendyn.bridges import IterativeProjection
from gendyn.bridges.iterative_projection import GaussianProcessDrift, ProjectionEngine, proportional_fitting
from gendyn.bridges.marginals import Marginals


def moving(n: int = 20) -> gd.Snapshots:
    """Populations that move to the right at rate 1."""
    generator = torch.Generator().manual_seed(0)
    x = [0.5 * torch.randn(n, 2, generator=generator, dtype=torch.float64) + torch.tensor([k, 0.0]) for k in range(3)]
    return gd.Snapshots([0.0, 1.0, 2.0], x)


def test_the_regression_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    z, y, new = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), rng.normal(size=(7, 2))
    drift = GaussianProcessDrift.fit(torch.from_numpy(z), torch.from_numpy(y), noise=0.3, length=1.7)
    # The kernel of Matern 1/2 is exp(-r / length).
    peer = GaussianProcessRegressor(Matern(1.7, nu=0.5), alpha=0.3, optimizer=None).fit(z, y)
    expected = peer.predict(np.column_stack([new, np.full(7, 0.4)]))
    np.testing.assert_allclose(drift(torch.from_numpy(new), 0.4).numpy(), expected, atol=1e-10)


def test_inducing_points_at_all_inputs_are_the_whole_regression():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y, new = z[:, :2].sin(), torch.randn(5, 2, generator=generator, dtype=torch.float64)
    whole = GaussianProcessDrift.fit(z, y, noise=0.2)
    # One point twice makes the inputs one more than the inducing points that span the same kernels.
    doubled = GaussianProcessDrift.fit(torch.cat([z, z[:1]]), torch.cat([y, y[:1]]), noise=0.2)
    few = [
        GaussianProcessDrift.fit(z, y, noise=0.2, max_points=m, generator=torch.Generator().manual_seed(1))
        for m in (5, 29)
    ]
    errors = [float((drift(new, 0.1) - whole(new, 0.1)).abs().max()) for drift in few]
    assert errors[1] < errors[0]
    assert errors[1] < 0.02
    assert float((doubled(new, 0.1) - whole(new, 0.1)).abs().max()) > 0


def test_proportional_fitting_meets_the_bridge_of_normal_populations():
    """N(0, 1) to N(2, 1) under Brownian motion of sigma 1: variance of the middle is 1/2 + C/2 + 1/4 with C = .618."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1000, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    y = 2 + (y - y.mean()) / y.std()
    x = (x - x.mean()) / x.std()
    settings = IterativeProjection(n_ipf=4, max_points=300)
    forward, backward = proportional_fitting(lambda x, s: torch.zeros_like(x), x, y, 1.0, 20, 1.0, settings, generator)
    state, middle = x.repeat(3, 1), None
    for k in range(20):
        noise = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = state + forward(state, k / 20) / 20 + math.sqrt(1 / 20) * noise
        middle = state if k == 9 else middle
    assert float(state.mean()) == pytest.approx(2.0, abs=0.15)
    assert float(middle.mean()) == pytest.approx(1.0, abs=0.12)
    assert float(middle.var()) == pytest.approx(0.5 + 0.309 + 0.25, rel=0.12)
    # Going back, the mean moves the other way.
    assert float(backward(y, 1.0).mean()) == pytest.approx(-2.0, abs=0.5)


def test_paths_run_from_every_population_to_both_ends_and_teach_the_drift():
    data = moving()
    marginals = Marginals.of(data)
    reference = gd.references.Linear(sigma=0.5).start(data)
    settings = IterativeProjection(n_outer=3, n_ipf=2, max_points=None, time_step=0.1, epochs=40)
    engine = ProjectionEngine(reference, marginals, settings=settings, ridge=0.01, rate=0.05, seed=0)
    start = engine.objective.solve(reference)[0]
    values = [engine.step(m)["objective"] for m in range(3)]
    assert engine.paths.shape == (60, 21, 2)
    torch.testing.assert_close(engine.times, torch.linspace(0, 2, 21, dtype=torch.float64))
    for k in range(3):  # every population is in the middle of its own paths, untouched
        torch.testing.assert_close(engine.paths[20 * k : 20 * (k + 1), 10 * k], marginals.samples[k])
        mean = engine.paths[:, 10 * k].mean(0)
        torch.testing.assert_close(mean, marginals.samples[k].mean(0), atol=0.25, rtol=0)
    # From round to round it rises and falls with what was drawn.
    assert max(values) < start - 1.0
    exact = gd.ReferenceRefinement("linear", sigma=0.5, ridge=0.01, intervals=None, iterations=20)
    assert values[-1] < exact.fit(data, progress=False).kl_ + 0.5
    x = torch.cat(marginals.samples)
    assert float(reference.drift(torch.tensor(0.0), x).detach().mean(0)[0]) == pytest.approx(1.0, abs=0.3)


def test_the_estimator_takes_the_published_engine(tmp_path):
    settings = IterativeProjection(n_outer=2, n_ipf=1, max_points=30, time_step=0.1)
    model = gd.ReferenceRefinement("linear", engine=settings, sigma=0.5, intervals=None).fit(moving(), progress=False)
    assert len(model.history_) == 2
    assert model.kl_ == pytest.approx(model.history_["objective"].iloc[-1], abs=0.05)
    model.save(tmp_path / "model.safetensors")
    assert gd.load(tmp_path / "model.safetensors").engine == settings


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"engine": "magic"}, "engine must be 'static'"),
        ({"engine": "ipml", "method": "path_em"}, "a method of its own"),
        ({"engine": "ipml", "learn_sigma": True}, "cannot learn sigma"),
        ({"engine": "ipml", "family": gd.references.Linear(sigma_per_feature=True)}, "one constant noise"),
    ],
)
def test_unfit_settings_are_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        gd.ReferenceRefinement(**({"family": "linear"} | parameters)).fit(moving(), progress=False)
    with pytest.raises(ValueError, match="n_ipf must be at least 1"):
        IterativeProjection(n_ipf=0)
    with pytest.raises(ValueError, match="time_step must be positive"):
        IterativeProjection(time_step=-0.1)
