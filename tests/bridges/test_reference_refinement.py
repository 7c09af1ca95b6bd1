"""Refinement: parameters come back, the objective never rises, gradients are those of the divergence."""

from __future__ import annotations

import pytest
import torch

import gendyn as gd
from gendyn.bridges.coupling_em import CouplingEngine, CouplingObjective
from gendyn.bridges.descent import LossDescent, quasi_newton
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.noise_engine import NoiseEngine
from gendyn.bridges.parameter_intervals import parameter_covariance
from gendyn.bridges.pushforward import PushforwardObjective
from gendyn.bridges.simpler_engine import SimplerEngine
from gendyn.bridges.transition import NoTransition
from gendyn.sampling import LinearProcess

LOTKA = gd.systems.LotkaVolterra()
PREDATORS = gd.systems.simulate_snapshots(LOTKA, [float(k) for k in range(6)], 80, step=0.02)
RATE = torch.tensor([[-0.3, 1.0], [-1.0, -0.3]], dtype=torch.float64)


def turning(n: int) -> gd.Snapshots:
    """Independent rows of a linear process at every time."""
    process = LinearProcess(RATE, [0.2, 0.0], 0.3 * torch.eye(2))
    generator = torch.Generator().manual_seed(0)
    samples = []
    for k in range(5):
        x = torch.randn(n, 2, generator=generator, dtype=torch.float64) * 0.3 + torch.tensor([2.0, 0.0])
        normals = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        samples.append(process.step(x, 0.5 * k, normals) if k else x)
    return gd.Snapshots([0.5 * k for k in range(5)], samples)


def test_rates_of_predators_and_prey_come_back():
    model = gd.ReferenceRefinement(gd.references.LotkaVolterra(), substeps=8).fit(PREDATORS, progress=False)
    table = model.parameters_.set_index("parameter")
    truth = {"growth": 1.0, "predation": 0.4, "death": 0.4, "reproduction": 0.1}
    for name, value in truth.items():
        assert table.loc[name, "value"] == pytest.approx(value, rel=0.05)
        assert table.loc[name, "low"] < table.loc[name, "value"] < table.loc[name, "high"]
    assert 0.015 < table.loc["sigma", "value"] < 0.03
    assert torch.isfinite(model.forecast([6.0, 7.0], 20).values).all()


@pytest.mark.parametrize("method", ["auto", "pushforward"])
def test_a_linear_drift_comes_back(method):
    data = turning(500)
    model = gd.ReferenceRefinement("linear", method=method, ridge=0.0).fit(data, progress=False)
    torch.testing.assert_close(model.reference_.rate, RATE, atol=0.05 * float(RATE.norm()), rtol=0)
    if method == "pushforward":  # couplings do not learn the noise consistently
        assert float(model.reference_.log_sigma.exp()) == pytest.approx(0.3, rel=0.1)


def test_the_objective_never_rises_at_fixed_noise():
    model = gd.ReferenceRefinement("linear", sigma=0.4, intervals=None, iterations=20).fit(turning(60), progress=False)
    fixed = model.history_[model.history_["sigma"] == model.history_["sigma"].iloc[-1]]
    assert len(fixed) >= 3
    assert (fixed["objective"].diff().dropna() <= 1e-6).all()
    assert model.history_["sigma"].is_monotonic_decreasing
    assert model.history_["sigma"].iloc[-1] == pytest.approx(0.4)
    assert model.kl_ <= fixed["objective"].iloc[-1] + 1e-5


def test_the_gradient_with_plans_held_fixed_is_that_of_the_divergence():
    data = turning(40)
    reference = gd.references.Linear(sigma=0.5).start(data)
    objective = CouplingObjective(Marginals.of(data), ridge=0.01, tolerance=1e-12)
    (gradient,) = torch.autograd.grad(objective.value(reference), [reference.matrix])
    for i, j in ((0, 0), (0, 1), (1, 0)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                reference.matrix[i, j] += sign * 1e-4
                ends.append(objective.solve(reference)[0])
                reference.matrix[i, j] -= sign * 1e-4
        assert float(gradient[i, j]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("kind", [PushforwardObjective, CouplingObjective])
def test_row_terms_are_derivatives_in_the_weights(kind):
    data = turning(15)
    marginals = Marginals.of(data)
    reference = gd.references.Linear(sigma=0.5).start(data)

    def value(weights):
        objective = kind(marginals.reweighted(weights))
        if kind is CouplingObjective:
            objective.tolerance = 1e-12
            return objective.solve(reference)[0]
        return float(objective.value(reference).detach())

    objective = kind(marginals)
    if kind is CouplingObjective:
        objective.tolerance = 1e-12
    terms = objective.row_terms(reference)
    for k in (0, 2, 4):
        # Mass moves from one row to another, so that the sum stays 1.
        moved = torch.zeros(15, dtype=torch.float64)
        moved[3], moved[7] = 1e-6, -1e-6
        ends = [value([w + sign * moved if j == k else w for j, w in enumerate(marginals.weights)]) for sign in (1, -1)]
        assert float(terms[k][3] - terms[k][7]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_the_covariance_is_that_of_repeated_fits():
    """A mean shift over one interval: the estimate is nearly the difference of means, whose variance is known."""
    n, gap = 400, 1.0
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = 3 + torch.randn(n, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    data = gd.Snapshots([0.0, gap], [x, y])
    reference = gd.references.Linear(sigma=10.0).start(data)
    objective = PushforwardObjective(Marginals.of(data))
    with torch.no_grad():
        reference.matrix.zero_()
    quasi_newton([reference.shift], lambda: objective.value(reference), 30)
    scale = float(reference.pace * reference.spread)
    variance = float(parameter_covariance(objective, reference, [reference.shift])) * scale**2
    # With noise far above the spread every source counts alike, and the shift is the difference of the two means.
    assert variance == pytest.approx(float(x.var() + y.var()) / n, rel=0.05)


def test_steps_to_where_there_is_no_loss_are_taken_back():
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)

    def loss():
        if float(x.detach()) > 1.0:
            raise NoTransition("too far")
        return (x - 1.2).square().sum()

    descent = LossDescent([x], loss, 0.4)
    for _ in range(30):
        descent.step()
    descent.settle()
    assert 0.8 < float(x.detach()) <= 1.0
    value, _ = quasi_newton([x], loss, 10)
    assert float(x.detach()) <= 1.0
    assert value <= 0.16
    with torch.no_grad():
        x.fill_(3.0)
    with pytest.raises(NoTransition):
        quasi_newton([x], loss, 10)
    with pytest.raises(NoTransition):
        LossDescent([x], loss, 0.1).step()


def test_a_killed_fit_goes_on_where_it_was(tmp_path, monkeypatch):
    from gendyn.bridges import refinement_engine

    data = turning(40)
    monkeypatch.setattr("gendyn.training.loop._CHECKPOINT_SECONDS", 0.0)
    alternated = {"sigma": 0.4, "iterations": 9}
    options = {"pushforward": {"gradient_steps": 12}, "coupling_em": alternated, "path_em": alternated}
    for method, more in options.items():
        whole = gd.ReferenceRefinement("linear", method=method, intervals=None, **more).fit(data, progress=False)
        file = tmp_path / f"{method}.safetensors"
        kind = refinement_engine.Engine.__subclasses__()
        engine = next(k for k in kind if k.name == method)
        step = engine.step

        def interrupted(self, m, step=step):
            if m == 5:
                raise KeyboardInterrupt
            return step(self, m)

        monkeypatch.setattr(engine, "step", interrupted)
        model = gd.ReferenceRefinement("linear", method=method, intervals=None, **more)
        with pytest.raises(KeyboardInterrupt):
            model.fit(data, progress=False, checkpoint=file)
        monkeypatch.setattr(engine, "step", step)
        model.fit(data, progress=False, checkpoint=file)
        assert model.history_.equals(whole.history_)
        assert torch.equal(model.reference_.matrix, whole.reference_.matrix)


def test_networks_learn_and_come_back_from_a_file(tmp_path):
    family = gd.references.LinearPlusMLP(hidden=(8,))
    model = gd.ReferenceRefinement(family, iterations=3, gradient_steps=5, substeps=4).fit(turning(30), progress=False)
    assert set(model.history_["stage"]) == set(range(1, 10))
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    x = torch.randn(5, 2)
    assert torch.equal(again.drift(0.3, x), model.drift(0.3, x))
    assert again.parameters_.equals(model.parameters_)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"intervals": "wide"}, "intervals must be"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"ridge": -1.0}, "ridge must be at least 0"),
        ({"sigma": "small"}, "'held-out' or None"),
        ({"family": ()}, "one family or more"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"level": 1.0}, "level must lie between"),
        ({"method": "coupling_em", "learn_sigma": True}, "cannot learn sigma"),
        ({"family": "magic"}, "no family of references"),
    ],
)
def test_unfit_parameters_are_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        gd.ReferenceRefinement(**parameters).fit(turning(10), progress=False)


def test_hidden_features_are_refused():
    data = gd.systems.simulate_snapshots(gd.systems.Repressilator(), [0.0, 1.0, 2.0], 20, step=0.02)
    with pytest.raises(ValueError, match="the data show 3 of them"):
        gd.ReferenceRefinement("protein-repressilator").fit(data, progress=False)
    with pytest.raises(ValueError, match="LotkaVolterra has 2 features"):
        gd.ReferenceRefinement("lotka-volterra").fit(data, progress=False)


def test_an_engine_without_drift_parameters_only_solves():
    data = turning(20)
    reference = gd.references.Brownian(sigma=0.5).start(data)
    engine = CouplingEngine(reference, Marginals.of(data), ridge=0.0, iterations=3, gradient_steps=2)
    assert engine.step(0)["objective"] == pytest.approx(engine.step(1)["objective"], abs=1e-8)


@pytest.mark.parametrize("family", [gd.references.LinearPlusMLP(hidden=(4,)), gd.references.LotkaVolterra()])
def test_the_search_for_the_noise_finds_where_the_likelihood_is_flat(family):
    data = PREDATORS
    reference = family.start(data)
    marginals = Marginals.of(data, 6)
    row = NoiseEngine(reference, marginals).step(0)
    value = PushforwardObjective(marginals).value(reference)
    assert row["objective"] == pytest.approx(float(value.detach()), abs=1e-8)
    (slope,) = torch.autograd.grad(value, [reference.log_sigma])
    assert abs(float(slope)) < 1e-3


def test_a_network_starts_from_the_linear_drift_and_shrinks_the_noise():
    family = gd.references.LinearPlusMLP(hidden=(8,))
    model = gd.ReferenceRefinement(family, iterations=6, gradient_steps=5, substeps=4).fit(turning(60), progress=False)
    last = model.history_.groupby("stage")["sigma"].last()
    assert last.iloc[-1] == pytest.approx(0.3, rel=0.15)
    # Linear part and network share the work in many ways; what counts is their sum where the data are.
    x = torch.cat(model.bridge_.samples)
    truth = x @ RATE.T + torch.tensor([0.2, 0.0], dtype=torch.float64)
    error = model.reference_.drift(torch.tensor(0.0), x) - truth
    assert float(error.norm() / truth.norm()) < 0.35


def test_a_simpler_reference_is_the_same_without_its_network():
    reference = gd.references.LinearPlusMLP(hidden=(4,)).start(turning(10))
    with torch.no_grad():
        reference.matrix.normal_(generator=torch.Generator().manual_seed(0))
    simple = reference.simpler()
    assert torch.equal(simple.rate, reference.rate)
    assert torch.equal(simple.offset, reference.offset)
    with pytest.raises(ValueError, match="no simpler reference than Linear"):
        SimplerEngine(simple, Marginals.of(turning(10)), stage=NoiseEngine)


def test_populations_left_out_choose_the_family_that_made_the_data(tmp_path):
    data = turning(80)
    families = ("brownian", gd.references.Linear())
    model = gd.ReferenceRefinement(families, intervals=None, iterations=20).fit(data, progress=False)
    assert model.choice_["family"].tolist() == ["brownian", "linear"]
    assert model.choice_["chosen"].tolist() == [False, True]
    assert model.choice_["score"].is_monotonic_decreasing
    alone = gd.ReferenceRefinement("linear", intervals=None, iterations=20).fit(data, progress=False)
    assert torch.equal(model.reference_.matrix, alone.reference_.matrix)
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert again.choice_.equals(model.choice_)
    assert torch.equal(again.interpolate(0.7, 20), model.interpolate(0.7, 20))


def test_populations_left_out_choose_less_noise_where_the_drift_is_missed():
    """Straight lines between tight, far populations: likelihood lays the way to noise, what is between denies it."""
    x = 0.05 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    data = gd.Snapshots([0.0, 1.0, 2.0], [x, x + 3.0, x + 6.0])
    model = gd.ReferenceRefinement("brownian", sigma="held-out").fit(data, progress=False)
    assert model.choice_["score"].is_monotonic_decreasing
    assert model.choice_["chosen"].tolist() == [False, False, False, True]
    assert float(model.reference_.log_sigma.exp()) == pytest.approx(model.choice_["sigma"].iloc[-1])
    assert model.choice_["sigma"].iloc[0] == pytest.approx(8 * model.choice_["sigma"].iloc[-1])
    assert (model.interpolate(0.5, 100) - 1.5).norm(dim=1).mean() < 0.5


def test_without_a_population_between_the_likelihood_chooses(capsys):
    data = turning(40).only([0.0, 0.5])
    model = gd.ReferenceRefinement(("brownian", "linear"), intervals=None, iterations=10).fit(data)
    assert "choose: 100%" in capsys.readouterr().err
    assert model.choice_["score"].isna().all()
    assert model.choice_.loc[model.choice_["chosen"], "objective"].item() == model.choice_["objective"].min()


def test_states_that_do_not_count_rises_are_resumed():
    data = turning(10)
    reference = gd.references.Linear(sigma=0.5).start(data)
    options = {"ridge": 0.0, "iterations": 3, "gradient_steps": 1, "provisional": True}
    engine = CouplingEngine(reference, Marginals.of(data), **options)
    engine.step(0)
    engine.rises = 1
    tensors = engine.tensors()
    again = CouplingEngine(reference, Marginals.of(data), **options)
    again.load(tensors)
    assert (again.last, again.rises) == (engine.last, 1)
    again.load(tensors | {"figures": tensors["figures"][:2]})
    assert (again.last, again.sigma_factor, again.rises) == (engine.last, engine.sigma_factor, 0)
