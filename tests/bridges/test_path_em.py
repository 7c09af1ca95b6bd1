"""Refinement by paths: the regression is the divergence, and ends where the alternation with densities does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import gendyn as gd
from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.path_em import PathSample, draw_paths, project
from gendyn.sampling import LinearProcess

RATE = torch.tensor([[-0.3, 1.0], [-1.0, -0.3]], dtype=torch.float64)


def turning(n: int) -> gd.Snapshots:
    process = LinearProcess(RATE, [0.2, 0.0], 0.3 * torch.eye(2))
    generator = torch.Generator().manual_seed(0)
    samples = []
    for k in range(5):
        x = torch.randn(n, 2, generator=generator, dtype=torch.float64) * 0.3 + torch.tensor([2.0, 0.0])
        normals = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        samples.append(process.step(x, 0.5 * k, normals) if k else x)
    return gd.Snapshots([0.5 * k for k in range(5)], samples)


def test_the_regression_is_the_divergence_of_a_brownian_bridge():
    """From 0 to 3 in 2: drift b lowers it by b y - b^2 tau / 2, most at b = y / tau."""
    data = gd.Snapshots([1.0, 3.0], [torch.zeros(1, 1), torch.tensor([[3.0]])])
    reference = gd.references.Linear(sigma=1.0).start(data)
    with torch.no_grad():
        reference.matrix.zero_()
        reference.shift.zero_()
    plans = [torch.ones(1, 1, dtype=torch.float64)]
    sample = draw_paths(reference, Marginals.of(data), plans, 4000, torch.Generator().manual_seed(0))
    still = float(sample.loss(reference).detach())
    assert float(sample.precisions.sum()) == pytest.approx(2.0, rel=2e-3)
    project(sample, reference, ridge=1e9, steps=0)  # the ridge keeps the matrix out
    assert float(reference.offset.detach()) == pytest.approx(1.5, rel=5e-3)
    assert still - float(sample.loss(reference).detach()) == pytest.approx(2.25, rel=1e-2)


def test_the_regression_predicts_how_the_divergence_changes():
    """At fixed plans -sum pi log p and the loss on paths are one function of a linear reference, up to a constant."""
    data = turning(60)
    marginals = Marginals.of(data)
    reference = gd.references.Linear(sigma=0.5).start(data)
    objective = CouplingObjective(marginals)
    _, plans = objective.solve(reference)
    sample = draw_paths(reference, marginals, plans, 4000, torch.Generator().manual_seed(1))
    before = [float(f.detach()) for f in (objective.loss(reference, plans), sample.loss(reference))]
    # Only to first order: further away densities know other bridges, which are nearer than the old ones.
    slopes = [
        torch.cat([g.flatten() for g in torch.autograd.grad(f, reference.drift_parameters())])
        for f in (objective.loss(reference, plans), sample.loss(reference))
    ]
    assert float((slopes[0] - slopes[1]).norm() / slopes[0].norm()) < 0.02
    # Paths at their own drift are at the least divergence from it.
    project(sample, reference, ridge=0.0, steps=0)
    assert float(objective.loss(reference, plans).detach()) < before[0]
    assert float(sample.loss(reference).detach()) < before[1]


def test_it_ends_where_couplings_and_densities_end():
    data = turning(60)
    fits = [
        gd.ReferenceRefinement(
            gd.references.Linear(sigma=0.5), method=method, ridge=0.01, intervals=None, iterations=15
        ).fit(data, progress=False)
        for method in ("coupling_em", "path_em")
    ]
    assert fits[1].kl_ == pytest.approx(fits[0].kl_, abs=2e-3)
    gap = fits[0].reference_.rate - fits[1].reference_.rate
    assert float(gap.norm() / RATE.norm()) < 0.05
    fixed = fits[1].history_.query("sigma == sigma.iloc[-1]")
    assert len(fixed) > 5
    assert (fixed["objective"].diff().dropna() <= 0).all()


def test_rates_of_predators_and_prey_come_back_from_paths():
    lotka = gd.systems.LotkaVolterra()
    data = gd.systems.simulate_snapshots(lotka, [float(k) for k in range(5)], 50, step=0.02)
    family = gd.references.LotkaVolterra(sigma=0.05)
    options = {"intervals": None, "substeps": 6, "iterations": 12}
    model = gd.ReferenceRefinement(family, method="path_em", **options).fit(data, progress=False)
    values = model.parameters_.set_index("parameter")["value"]
    truth = {"growth": 1.0, "predation": 0.4, "death": 0.4, "reproduction": 0.1, "sigma": 0.05}
    for name, value in truth.items():
        assert values[name] == pytest.approx(value, rel=0.1)


def test_drifts_without_a_closed_form_are_learned():
    family = gd.references.BigVortex(sigma=0.5)
    fits = [
        gd.ReferenceRefinement(family, method=method, intervals=None, substeps=4, iterations=9).fit(
            turning(30), progress=False
        )
        for method in ("coupling_em", "path_em")
    ]
    assert fits[1].kl_ == pytest.approx(fits[0].kl_, abs=5e-3)
    torch.testing.assert_close(
        fits[1].reference_.coefficients()["strength"], fits[0].reference_.coefficients()["strength"], rtol=0.02, atol=0
    )
    family = gd.references.MLP(hidden=(6,), sigma=0.5)
    model = gd.ReferenceRefinement(family, method="path_em", intervals=None, substeps=3, iterations=6)
    found = model.fit(turning(20), progress=False).history_.query("sigma == sigma.iloc[-1]")["objective"]
    assert (found.diff().dropna() <= 0).all()
    still = gd.SchrodingerBridge(sigma=0.5).fit(turning(20), progress=False)
    assert model.kl_ < still.kl_ - 2.0


def test_parameters_that_must_be_positive_stay_so_and_held_ones_stay():
    generator = torch.Generator().manual_seed(0)
    data = gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0], 10, step=0.02)
    reference = gd.references.LotkaVolterra(sigma=0.1).start(data)
    states = 1 + torch.rand(200, 2, generator=generator, dtype=torch.float64)
    times = torch.zeros(200, 1, dtype=torch.float64)
    features = reference.features(times, states)
    drifts = features @ torch.tensor([1.0, -0.2, 0.4, 0.3], dtype=torch.float64)
    sample = PathSample(times, states, drifts, torch.rand(200, 2, generator=generator, dtype=torch.float64))
    project(sample, reference, ridge=0.0, steps=10)
    weighted = sample.precisions.sqrt().numpy()[..., None]
    expected, _ = nnls(
        (weighted * features.detach().numpy()).reshape(-1, 4), (weighted[..., 0] * drifts.numpy()).reshape(-1)
    )
    assert (expected == 0).any()
    np.testing.assert_allclose(reference.weights().detach().numpy(), expected, atol=1e-9)
    held = gd.references.LotkaVolterra(growth=0.7, fixed=("growth",), sigma=0.1).start(data)
    project(sample, held, ridge=0.0, steps=10)
    assert float(held.coefficients()["growth"].detach()) == pytest.approx(0.7)
    assert float(held.coefficients()["reproduction"].detach()) != pytest.approx(0.1)


def test_paths_do_not_learn_the_noise():
    with pytest.raises(ValueError, match="path_em keeps the noise fixed"):
        gd.ReferenceRefinement("linear", method="path_em", learn_sigma=True).fit(turning(10), progress=False)
