"""Flow matching against laws whose flow is known."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from gendyn.data import Snapshots
from gendyn.evaluation import wasserstein_value
from gendyn.interpolants import FlowMatching
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.training import NotFittedError, TrainingDiverged

SMALL = {"hidden": (48, 48), "steps": 600, "batch_size": 256}


def gaussians(n=600, times=(0.0, 2.0, 3.0), dim=2, seed=0, dtype=torch.float32):
    """Populations that translate along a curve and shrink."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for t in times:
        centre = torch.tensor([2.0 * t, 0.5 * t**2] + [0.0] * (dim - 2), dtype=dtype)
        samples.append(torch.randn(n, dim, generator=generator, dtype=dtype) / (1 + 0.2 * t) + centre)
    return Snapshots(times, samples)


@pytest.fixture(scope="module")
def fitted():
    return FlowMatching("ot", **SMALL).fit(gaussians(), progress=False)


@pytest.mark.parametrize("coupling", ["independent", "ot", "sinkhorn", "spline-ot"])
def test_each_population_is_carried_into_the_next(coupling):
    data = gaussians()
    model = FlowMatching(coupling, **SMALL).fit(data, seed=1, progress=False)
    paths = model.sample(data.at(0.0), [0.0, 2.0, 3.0])
    for k, t in ((1, 2.0), (2, 3.0)):
        truth = data.population(t)
        moved = wasserstein_value(truth, paths.values[:, k])
        stayed = wasserstein_value(truth, data.samples[k - 1])
        assert moved < 0.35 < stayed


def test_straight_paths_between_two_shifted_populations():
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    data = Snapshots([1.0, 3.0], [x, x + torch.tensor([4.0, -2.0])])
    model = FlowMatching("ot", **SMALL).fit(data, progress=False)
    velocity = model.velocity(data)
    for v in velocity:
        # Four units in two units of time: the velocity of every cell is (2, -1).
        assert (v.mean(0) - torch.tensor([2.0, -1.0])).abs().max() < 0.1


def test_the_optimum_is_the_conditional_expectation():
    # Independent coupling of N(0, 1) and N(m, s^2): v(t, x) is linear in x, in closed form.
    generator = torch.Generator().manual_seed(0)
    m, s = 3.0, 0.5
    data = Snapshots(
        [0.0, 1.0],
        [torch.randn(4000, 1, generator=generator), m + s * torch.randn(4000, 1, generator=generator)],
    )
    model = FlowMatching("independent", sigma=0.0, scale="none", hidden=(64, 64), steps=1500).fit(data, progress=False)
    for t in (0.25, 0.5, 0.75):
        variance = (1 - t) ** 2 + (t * s) ** 2
        x = torch.linspace(-1.5, 1.5, 7)[:, None] * variance**0.5 + t * m
        exact = m + (t * s**2 - (1 - t)) / variance * (x - t * m)
        found = model.process_.drift(torch.tensor(t), x)
        assert (found - exact).abs().max() < 0.35


def test_a_spline_is_as_bent_as_asked():
    """One cell at each of four times: its path is the spline through its places."""
    times, places = (0.0, 1.0, 2.0, 3.0), (0.0, 2.0, 2.0, 0.0)
    cells = torch.tensor([[-0.01], [0.01]])
    data = Snapshots(times, [cells + 3 * x for x in places])
    mid = {}
    for bend in (0.0, 0.5, 1.0):
        options = {"sigma": 0.0, "hidden": (64, 64), "steps": 1500, "bend": bend}
        model = FlowMatching("spline-ot", **options).fit(data, progress=False)
        mid[bend] = float(model.sample(cells, [0.0, 1.5]).values[:, -1].mean())
    curve = 3 * float(CubicSpline(times, places, bc_type="natural")(1.5))
    for bend, found in mid.items():
        assert found == pytest.approx(6.0 + bend * (curve - 6.0), abs=0.1)


def test_units_come_back(fitted):
    far = Snapshots([0.0, 2.0, 3.0], [1000.0 * x + 5.0 for x in gaussians().samples])
    model = FlowMatching("ot", **SMALL).fit(far, progress=False)
    for v, w in zip(model.velocity(far), fitted.velocity(gaussians()), strict=True):
        assert (v.mean(0) / 1000.0 - w.mean(0)).abs().max() < 0.2


def test_weights_are_probabilities():
    x = torch.cat([torch.zeros(50, 1), torch.ones(50, 1)]) + 0.01 * torch.arange(100)[:, None] / 100
    weights = [[1.0] * 50 + [0.0] * 50] * 2
    data = Snapshots([0.0, 1.0], [x, x], weights)
    model = FlowMatching("ot", steps=20, hidden=(8,)).fit(data, progress=False)
    assert float(model.initial_.max()) < 0.5


def test_sampling_by_itself(fitted):
    paths = fitted.sample(n=37, seed=1)
    assert paths.values.shape == (37, 3, 2)
    assert paths.times.tolist() == [0.0, 2.0, 3.0]
    assert torch.equal(paths.values, fitted.sample(n=37, seed=1).values)
    assert not torch.equal(paths.values[:, 0], fitted.sample(n=37, seed=2).values[:, 0])
    assert len(fitted.sample()) == 600
    assert fitted.sample(n=3, times=[1.0]).values.shape == (3, 1, 2)
    many = fitted.sample(n=1500)
    assert len(many.values[:, 0].unique(dim=0)) == 600


def test_backward_goes_back(fitted):
    x = gaussians().population(3.0)
    back = fitted.sample(x, [3.0, 0.0])
    forth = fitted.sample(back.values[:, -1], [0.0, 3.0])
    assert (forth.values[:, -1] - x).abs().max() < 0.05


def test_populations_in_between_start_where_they_are(fitted):
    paths = fitted.sample(gaussians().at(2.0), [2.5, 3.0])
    assert paths.times.tolist() == [2.5, 3.0]


def test_score_prefers_the_better_model(fitted):
    worse = FlowMatching("ot", steps=2, hidden=(8,)).fit(gaussians(), progress=False)
    fresh = gaussians(seed=7)
    assert 0 > fitted.score(fresh) > worse.score(fresh)


def test_early_stopping_restores_the_best():
    model = FlowMatching("ot", steps=400, hidden=(16,), validation_fraction=0.2, patience=3, lr=5e-3)
    model.fit(gaussians(200), progress=False)
    watched = model.history_["validation"].dropna()
    assert len(watched) >= 3


def test_float64_all_the_way():
    model = FlowMatching("ot", steps=10, hidden=(8,)).fit(gaussians(dtype=torch.float64), progress=False)
    assert model.sample(n=3).dtype == torch.float64


@pytest.mark.parametrize(("given", "kind"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_points_of_another_type_are_taken_into_the_model_s(given, kind):
    data, other = gaussians(40, dtype=kind), gaussians(40, dtype=given)
    model = FlowMatching(hidden=(8,), steps=5).fit(data, progress=False)
    x = data.samples[0]
    expected = model.sample(x, [0.0, 3.0]).values
    for start in (x.to(given), x.to(given).numpy(), Snapshots([0.0], [x.to(given)])):
        made = model.sample(start, [0.0, 3.0]).values
        assert made.dtype == kind
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert {v.dtype for v in model.velocity(other)} == {kind}
    assert np.isfinite(model.score(other))


def test_gradients_that_the_caller_turned_off_are_on_in_a_fit():
    data = gaussians(40)
    model = FlowMatching(hidden=(8,), steps=5)
    with torch.no_grad():
        quiet = model.clone().fit(data, progress=False).sample()
    assert torch.equal(quiet.values, model.fit(data, progress=False).sample().values)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inside torch.inference_mode\(\); call fit outside"):
        model.fit(data, progress=False)


def test_a_fit_that_diverges_leaves_its_last_good_state(monkeypatch):
    loss = FlowMatchingObjective.loss

    def spoilt(self, step, generator):
        return loss(self, step, generator) * (float("nan") if step == 90 else 1.0)

    monkeypatch.setattr(FlowMatchingObjective, "loss", spoilt)
    model = FlowMatching("ot", steps=200, hidden=(8,))
    with pytest.raises(TrainingDiverged, match="stopped being finite before step 91"):
        model.fit(gaussians(), progress=False)
    assert torch.isfinite(model.sample(n=5).values).all()
    assert model.history_["step"].max() == 90


def test_names_travel():
    data = Snapshots([0.0, 1.0], gaussians().samples[:2], names=["a", "b"])
    model = FlowMatching("ot", steps=5, hidden=(8,)).fit(data, progress=False)
    assert model.sample(n=2).names == ("a", "b")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"coupling": "magic"}, "coupling must be one of"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 2.5}, "steps must be at least 1, a whole number; got 2.5"),
        ({"hidden": 16}, "hidden must be the widths of the hidden layers"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"bend": 1.5}, "bend must lie in"),
        ({"sigma": -1.0}, "sigma must be zero or positive"),
        ({"sigma": float("nan")}, "sigma must be zero or positive"),
        ({"validation_fraction": 0.9}, "validation_fraction must lie in"),
        ({"patience": 3}, "patience needs validation_fraction"),
        ({"scale": "log"}, "scal"),
        ({"activation": "magic"}, "activation"),
        ({"hidden": (0,)}, "width"),
    ],
)
def test_sentences_of_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        FlowMatching(**({"steps": 5} | parameters)).fit(gaussians(30), progress=False)


def test_sentences_of_use(fitted):
    model = FlowMatching()
    for call in (model.sample, lambda: model.score(gaussians()), lambda: model.velocity(gaussians())):
        with pytest.raises(NotFittedError, match="call fit"):
            call()
    with pytest.raises(TypeError, match="fit needs gendyn.Snapshots; got ndarray"):
        model.fit(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="two times or more; got 1"):
        model.fit(gaussians(times=(1.0,)))
    with pytest.raises(ValueError, match=r"time 9 lies outside the trained range \[0, 3\]"):
        fitted.sample(times=[0.0, 9.0])
    assert fitted.sample(n=2, times=[0.0, 4.0], extrapolate=True).values.shape == (2, 2, 2)
    with pytest.raises(ValueError, match="n must be at least 1"):
        fitted.sample(n=0)
    with pytest.raises(ValueError, match="at least one time"):
        fitted.sample(times=[])
    with pytest.raises(ValueError, match="one more; got one time"):
        fitted.sample(torch.zeros(3, 2), [1.0])
    with pytest.raises(ValueError, match="population at one time"):
        fitted.sample(gaussians(), [1.0])
    with pytest.raises(ValueError, match="2 features, but x0 has 3"):
        fitted.sample(torch.zeros(4, 3), [0.0, 1.0])
    with pytest.raises(ValueError, match="fitted on 2 features; the data have 3"):
        fitted.velocity(gaussians(dim=3))
