"""The Schroedinger bridge as a model: what it is asked, what it refuses, and how well it fills a hidden time."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.evaluation import wasserstein_value
from gendyn.sampling import ODE, SDE, LinearProcess


def normals(*shifts, n=200):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return gd.Snapshots([float(k) for k in range(len(shifts))], [x + shift for shift in shifts])


LOTKA = gd.systems.LotkaVolterra()
PREDATORS = gd.systems.simulate_snapshots(LOTKA, [0.0, 1.0, 2.0, 3.0, 4.0], 80, step=0.02)


def test_the_mechanism_fills_hidden_times_better_than_brownian_motion():
    train, hidden = PREDATORS.without([1.0, 3.0]), PREDATORS.only([1.0, 3.0])
    errors = {}
    for name, model in {
        "mechanism": gd.SchrodingerBridge(LOTKA),
        "brownian": gd.SchrodingerBridge(sigma=0.1),
        "guessed": gd.SchrodingerBridge(),
    }.items():
        model.fit(train, progress=False)
        errors[name] = [
            float(wasserstein_value(hidden.population(t), model.interpolate(t, 80))) for t in hidden.times.tolist()
        ]
        assert model.score(hidden) > -3
    assert max(errors["mechanism"]) < 0.1
    assert min(errors["brownian"]) > 0.15
    assert all(math.isfinite(e) for e in errors["guessed"])


def test_the_true_reference_has_the_smaller_divergence():
    constant = SDE(LOTKA.drift, lambda t, x: torch.full_like(x, 0.1), 2)
    true = gd.SchrodingerBridge(constant).fit(PREDATORS, progress=False)
    other = gd.SchrodingerBridge(sigma=0.1).fit(PREDATORS, progress=False)
    assert true.kl_ < other.kl_
    assert true.kl_ == pytest.approx(float(true.history_["loss"].sum()), rel=1e-9)


def test_sample_runs_between_and_beyond():
    model = gd.SchrodingerBridge(LOTKA).fit(PREDATORS, progress=False)
    paths = model.sample()
    assert paths.times.tolist() == PREDATORS.times.tolist()
    assert paths.values.shape == (80, 5, 2)
    assert paths.values.dtype == torch.float32
    assert paths.names == ("prey", "predator")
    for k, t in enumerate(PREDATORS.times.tolist()):
        assert (paths.values[:, k, None] == PREDATORS.population(t)).all(-1).any(1).all()
    late = model.sample(times=[3.5, 4.5, 5.5], n=30, extrapolate=True, seed=1)
    assert late.values.shape == (30, 3, 2)
    truth = gd.systems.simulate_snapshots(LOTKA, [4.5, 5.5], 200, seed=3, start=0.0, step=0.02)
    for k, t in enumerate((4.5, 5.5), start=1):
        torch.testing.assert_close(late.values[:, k].mean(0), truth.population(t).mean(0), atol=0.25, rtol=0)
    only_late = model.sample(times=[4.5], n=30, extrapolate=True)
    assert only_late.values.shape == (30, 1, 2)
    given = model.sample(PREDATORS.only([1.0]), [1.5, 2.0], n=100, seed=2)
    assert given.values.shape == (100, 2, 2)
    assert (given.values[:, 1, None] == PREDATORS.population(2.0)).all(-1).any(1).all()
    points = PREDATORS.population(2.0)[:7]
    assert torch.equal(model.sample(points, [2.0, 2.5]).values[:, 0], points)
    forecast = model.forecast([4.5, 5.0], 50)
    assert forecast.values.shape == (50, 2, 2)
    assert forecast.names == ("prey", "predator")


def test_a_solver_walks_to_the_same_places():
    data = normals(0.0, 3.0, 1.0, n=100)
    model = gd.SchrodingerBridge(sigma=1.0).fit(data, progress=False)
    x0 = data.only([0.0])
    walked = model.sample(x0, [0.5, 1.5, 2.0], n=2000, solver="euler_maruyama").values
    drawn = model.sample(x0, [0.5, 1.5, 2.0], n=2000).values
    for k in range(3):
        error = 4 * math.sqrt(2 / 2000) * float(drawn[:, k].std())
        torch.testing.assert_close(walked[:, k].mean(0), drawn[:, k].mean(0), atol=error + 0.02, rtol=0)
        torch.testing.assert_close(walked[:, k].std(0), drawn[:, k].std(0), rtol=4 / math.sqrt(2000), atol=0)
    place = torch.zeros(1, 2)
    assert torch.equal(model.drift(0.5, place), model.process_.drift(torch.tensor(0.5), place))
    assert model.velocity(data)[2].shape == (100, 2)


def test_a_solver_walks_along_a_function_that_has_no_jacobian():
    data = normals(0.0, 1.0, n=30)
    model = gd.SchrodingerBridge(lambda t, x: torch.sin(x.flip(1)), sigma=1.0, substeps=4).fit(data, progress=False)
    walked = model.sample(times=[0.0, 0.5, 1.0], n=60, solver="euler_maruyama", step=0.02).values
    drawn = model.sample(times=[0.0, 0.5, 1.0], n=60).values
    assert ((walked - drawn).mean(0).abs() < 4 * math.sqrt(2 / 60) * drawn.std(0) + 0.02).all()


def test_a_reference_with_parameters_leaves_no_graph_behind():
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    process = SDE(lambda t, x: -rate * x, lambda t, x: torch.ones_like(x), 2)
    model = gd.SchrodingerBridge(process, substeps=4).fit(normals(0.0, 1.0, n=20), progress=False)
    assert not model.interpolate(0.5).requires_grad
    assert not any(part.requires_grad for pair in model.bridge_.potentials for part in pair)


def test_brownian_noise_is_estimated_from_populations_alone():
    x = 5 * torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    after = [
        x + math.sqrt(gap) * 0.7 * torch.randn(400, 1, generator=torch.Generator().manual_seed(gap)) for gap in (1, 4)
    ]
    model = gd.SchrodingerBridge().fit(gd.Snapshots([0.0, 1.0, 4.0], [x, *after]), progress=False)
    # Independent cells every time, so the second gap is one of independent samples as well.
    assert 0.5 < model.sigma_ < 1.0


def test_leaving_out_and_the_command_line_know_it():
    report = gd.leave_one_out(normals(0.0, 1.0, 2.0, n=60), {"bridge": gd.SchrodingerBridge(sigma=0.3)})
    assert "bridge" in str(report)
    from gendyn.cli.methods import build

    assert build("schrodinger-bridge:sigma=0.3").sigma == 0.3


@pytest.mark.parametrize(
    "reference",
    [LinearProcess([[-0.1, 1.0], [-1.0, -0.1]], [0.0, 0.1], [[0.5, 0.0], [0.2, 0.4]]), LOTKA],
    ids=["linear", "system"],
)
def test_processes_come_back_from_a_file(reference, tmp_path):
    model = gd.SchrodingerBridge(reference).fit(PREDATORS.between(0, 2), progress=False)
    model.save(tmp_path / "m.safetensors")
    again = gd.load(tmp_path / "m.safetensors")
    assert torch.equal(again.sample(times=[0.0, 0.7]).values, model.sample(times=[0.0, 0.7]).values)
    assert again.kl_ == model.kl_


def test_functions_do_not_go_into_a_file(tmp_path):
    model = gd.SchrodingerBridge(lambda t, x: -x, sigma=1.0).fit(normals(0.0, 1.0), progress=False)
    with pytest.raises(TypeError, match="a model file holds no code, and so no function as reference"):
        model.save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_drifts_and_modules_are_references():
    data = normals(1.0, 0.5)
    process = gd.SchrodingerBridge(LinearProcess(-torch.eye(2), torch.zeros(2), torch.eye(2))).fit(data, progress=False)
    by_function = gd.SchrodingerBridge(lambda t, x: -x, sigma=(1.0, 1.0)).fit(data, progress=False)
    assert by_function.kl_ == pytest.approx(process.kl_, rel=1e-4)

    class Decay(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2, bias=False)
            torch.nn.init.eye_(self.linear.weight)

        def forward(self, t, x):
            return -self.linear(x)

    module = Decay()
    by_module = gd.SchrodingerBridge(module, sigma=1.0).fit(data, progress=False)
    assert by_module.kl_ == pytest.approx(process.kl_, rel=1e-4)
    assert module.linear.weight.dtype == torch.float32
    assert module.linear.weight.requires_grad


@pytest.mark.parametrize(("volatility", "power"), [("proportional", 1.0), ("sqrt", 0.5)])
def test_noise_may_grow_with_the_state(volatility, power):
    data = gd.Snapshots([0.0, 0.01], [torch.tensor([[4.0]]), torch.tensor([[4.0]])])
    model = gd.SchrodingerBridge(sigma=0.1, volatility=volatility).fit(data, progress=False)
    middle = model.interpolate(0.005, 20_000)
    assert float(middle.std()) == pytest.approx(0.1 * 4**power * math.sqrt(0.01) / 2, rel=0.03)


def test_what_does_not_fit_is_refused():
    data = normals(0.0, 1.0)

    def fit(*arguments, **options):
        gd.SchrodingerBridge(*arguments, **options).fit(data, progress=False)

    with pytest.raises(ValueError, match="there is no reference 'brown'; give 'brownian', a process"):
        fit("brown")
    with pytest.raises(TypeError, match=r"reference must be 'brownian', a process or a drift f\(t, x\); got int"):
        fit(3)
    for sigma in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must be positive and finite; got"):
            fit(sigma=sigma)
    with pytest.raises(ValueError, match=r"sigma must be a number or 2 numbers, one a feature; got shape \(3,\)"):
        fit(sigma=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="a reference from a drift needs sigma"):
        fit(lambda t, x: -x)
    with pytest.raises(ValueError, match="LotkaVolterra has noise of its own; leave out sigma"):
        fit(LOTKA, sigma=1.0)
    with pytest.raises(ValueError, match="the reference Repressilator has 3 features; the data have 2"):
        fit(gd.systems.Repressilator())
    with pytest.raises(ValueError, match="the reference ODE has no noise, and so reaches no other points"):
        fit(ODE(lambda t, x: -x, 2))
    with pytest.raises(ValueError, match=r"noise does not reach feature 1 by itself"):
        fit(LinearProcess(torch.zeros(2, 2), torch.zeros(2), [[1.0], [0.0]]))
    with pytest.raises(ValueError, match=r"proportional noise vanishes at 0, but feature .* at least 1e-06"):
        fit(sigma=1.0, volatility="proportional")
    with pytest.raises(ValueError, match="volatility must be one of constant, proportional, sqrt; got 'cubic'"):
        fit(sigma=1.0, volatility="cubic")
    for name in ("substeps", "max_iterations"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            fit(sigma=1.0, **{name: 0})
    with pytest.raises(ValueError, match="tolerance must be positive; got 0"):
        fit(sigma=1.0, tolerance=0)
    with pytest.raises(ValueError, match="needs populations at two times or more; got 1"):
        gd.SchrodingerBridge(sigma=1.0).fit(data.only([0.0]), progress=False)


def test_questions_out_of_range_are_refused():
    model = gd.SchrodingerBridge(sigma=1.0).fit(normals(0.0, 1.0), progress=False)
    with pytest.raises(ValueError, match=r"time 2 lies outside the trained range \[0, 1\]"):
        model.sample(times=[0.5, 2.0])
    with pytest.raises(ValueError, match="use forecast for what comes after the last"):
        model.interpolate(1.5)
    with pytest.raises(ValueError, match="a forecast needs times after 1"):
        model.forecast([0.5])
    with pytest.raises(TypeError, match="chunk are options of a solver, and by default there is none"):
        model.sample(chunk=10)
    with pytest.raises(ValueError, match="paths of a bridge run forward"):
        model.sample(normals(0.0, 1.0).only([1.0]), [0.5])
    with pytest.raises(ValueError, match=r"states must have shape \(n, 2\)"):
        model.sample(torch.zeros(3, 5), [0.0, 1.0])
