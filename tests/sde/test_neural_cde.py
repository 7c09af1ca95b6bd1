"""Neural CDEs: constant matrices, SciPy's splines and integrator, time that runs at another speed, ragged batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from sklearn.base import clone, is_classifier

import gendyn as gd
from gendyn.data import ControlPath, drop_rows
from gendyn.sampling import sample
from gendyn.sde import NeuralCDEField, NeuralCDEProcess

NAN = float("nan")


def doubles(control_dim, hidden, seed=0, **more):
    return NeuralCDEField(control_dim, hidden, **({"inner": 7, "layers": 2} | more), seed=seed).double()


def smooth(field):
    """The same with an activation that has no kinks, along which high orders of convergence can be had."""
    for k in range(1, len(field.net.layers), 2):
        field.net.layers[k] = torch.nn.SiLU()
    return field


def controls_of(batch, length, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(length, generator=generator, dtype=torch.float64).add(0.05).cumsum(0)
    return times, torch.randn(batch, length, dim, generator=generator, dtype=torch.float64)


def run(field, times, controls, method="hermite", solver="midpoint", **more):
    process = NeuralCDEProcess(field, times, controls, method)
    start = field.begin(controls[:, 0])
    start = start if "gradient" in more else start.detach()
    return sample(process, start, times, **({"substeps": 1, "solver": solver} | more)).values


@pytest.mark.parametrize(
    ("method", "solver"), [("linear", "euler"), ("linear", "midpoint"), ("hermite", "rk4"), ("natural", "rk4")]
)
def test_with_a_constant_matrix_the_state_is_a_linear_map_of_the_control(method, solver):
    times, controls = controls_of(3, 9, 2)
    field = doubles(2, 4)
    with torch.no_grad():
        field.net.layers[-1].weight.zero_()
    matrix = torch.tanh(field.net.layers[-1].bias).reshape(4, 2)
    expected = field.begin(controls[:, 0])[:, None] + (controls - controls[:, :1]) @ matrix.T
    # Simpson's rule, which the last solver is here, is exact for the derivative of a cubic.
    assert torch.allclose(run(field, times, controls, method, solver), expected, atol=1e-12)


def test_the_state_is_that_of_an_adaptive_solver_along_a_spline_of_scipy():
    times, controls = controls_of(1, 8, 3)
    field = smooth(doubles(3, 5))
    spline = CubicSpline(times.numpy(), controls[0].numpy(), bc_type="natural").derivative()

    def slope(t, z):
        return field(torch.from_numpy(z)[None])[0].detach().numpy() @ spline(t)

    start = field.begin(controls[:, 0])[0].detach().numpy()
    told = solve_ivp(slope, (float(times[0]), float(times[-1])), start, rtol=1e-11, atol=1e-12, t_eval=times.numpy())
    ours = run(field, times, controls, "natural", "rk4", substeps=64)[0].numpy()
    assert np.abs(ours - told.y.T).max() < 1e-7


def test_each_solver_converges_by_its_order():
    times, controls = controls_of(4, 6, 2)
    field = smooth(doubles(2, 4))
    truth = run(field, times, controls, solver="rk4", substeps=256)[:, -1]
    for solver, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        ends = [run(field, times, controls, solver=solver, substeps=n)[:, -1] for n in (8, 16)]
        errors = [float((end - truth).abs().max()) for end in ends]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_without_a_channel_of_time_its_speed_does_not_matter():
    times, controls = controls_of(3, 12, 2)
    field = doubles(2, 4)
    warped = times.square() + 3.0
    assert torch.allclose(run(field, times, controls, "linear"), run(field, warped, controls, "linear"), atol=1e-12)
    # A smooth path is another one where its knots stand otherwise.
    assert not torch.allclose(run(field, times, controls), run(field, warped, controls), atol=1e-3)


@pytest.mark.parametrize("method", ["linear", "hermite", "natural"])
def test_a_series_of_a_ragged_batch_runs_as_if_alone(method):
    generator = torch.Generator().manual_seed(1)
    lengths = [9, 4, 2]
    alone = [controls_of(1, n, 2, seed=k) for k, n in enumerate(lengths)]
    times = torch.stack([torch.cat([t, t[-1:].expand(9 - len(t))]) for t, _ in alone])
    controls = torch.stack([torch.cat([x[0], x[0, -1:].expand(9 - x.shape[1], -1)]) for _, x in alone])
    controls[1, 4:] = torch.randn(5, 2, generator=generator, dtype=torch.float64)  # after its end
    field = doubles(2, 4)
    together = run(field, times, controls, method)
    for row, (t, x) in zip(together, alone, strict=True):
        assert torch.allclose(row[: len(t)], run(field, t, x, method)[0], atol=1e-12)
        assert torch.equal(row[len(t) - 1 :], row[len(t) - 1].expand(10 - len(t), -1))
    parts = run(field, times, controls, method, chunk=256)
    assert torch.equal(parts, together)
    process = NeuralCDEProcess(field, times, controls, method)
    t = times[:, 1:2] - 0.01
    z = together[:, 0]
    assert torch.allclose(process.drift(t, z)[1:], process.rows(1, 3).drift(t[1:], z[1:]), atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    times, controls = controls_of(2, 5, 2)
    field = doubles(2, 3)

    def end(weight):
        process = NeuralCDEProcess(field, times, controls)
        named = {"net.layers.0.weight": weight}
        process.field = lambda z: torch.func.functional_call(field, named, z)
        return sample(process, field.begin(controls[:, 0]).detach(), times, substeps=1, gradient="backprop").values

    weight = field.net.layers[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(end, (weight,))
    run(field, times, controls, gradient="backprop").square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in field.parameters())


def waves(n=60, length=40, seed=0):
    """Slow and fast waves of random phase."""
    generator = torch.Generator().manual_seed(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    t = torch.linspace(0, 6.28, length)
    x = torch.sin((1 + torch.arange(n) % 2)[:, None] * t + 6.28 * torch.rand(n, 1, generator=generator))
    return (x + 0.1 * torch.randn(n, length, generator=generator))[:, :, None], y


def small(**more):
    return gd.NeuralCDEClassifier(**{"hidden": 16, "inner": 16, "layers": 1, "lr": 1e-2, "step": 1 / 16} | more)


def test_the_classifier_tells_waves_apart_with_and_without_holes():
    (x, y), (xt, yt) = waves(120), waves(seed=1)
    assert small(epochs=60).fit(x, y, progress=False).score(xt, yt) >= 0.95
    holes, asked = (drop_rows(gd.Paths(range(40), v), 0.4, seed=1) for v in (x, xt))
    # A linear path, unlike a cubic one, is the same with a row of holes as without the row.
    model = small(epochs=60, control="linear").fit(holes, y, progress=False)
    assert model.score(asked, yt) >= 0.9
    ragged = [row[~row.isnan().any(1)].numpy() for row in asked.values]
    times = [np.flatnonzero(~row.isnan().any(1)) for row in asked.values]
    first = [k for k, t in enumerate(times) if t[0] == 0 and t[-1] == 39]
    alone, whole = model.predict_proba(ragged, times=times), model.predict_proba(asked)
    assert np.abs(alone[first] - whole[first]).max() < 1e-5


def test_the_unit_of_time_does_not_matter():
    (x, y), (xt, _) = waves(), waves(seed=1)
    t = torch.arange(40.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = small(epochs=3, patience=None).fit(x, y, times=t * unit, progress=False)
        found.append(model.predict_proba(xt, times=t * unit))
    assert np.allclose(*found, atol=1e-5)


def test_static_covariates_are_seen():
    generator = torch.Generator().manual_seed(0)
    y = np.arange(80) % 2
    x = torch.randn(80, 6, 1, generator=generator)
    static = y[:, None] + 0.1 * np.random.default_rng(0).normal(size=(80, 1))
    model = small(step=None, epochs=40, patience=None).fit(x, y, static=static, progress=False)
    assert model.score(x, y, static=static) == 1.0
    with pytest.raises(ValueError, match="fitted with static covariates"):
        model.predict(x)


def test_scikit_learn_takes_it_for_its_own_and_nothing_observed_has_an_answer():
    x, y = waves(20)
    model = small(epochs=1)
    assert is_classifier(model)
    assert clone(model).get_params() == model.get_params()
    model.fit(x, y, progress=False)
    odds = model.predict_proba(torch.full((1, 40, 1), NAN))
    assert np.isfinite(odds).all()
    assert odds.sum() == pytest.approx(1.0)


def test_the_state_of_series_can_be_looked_at():
    x, y = waves(10)
    model = small(epochs=1, patience=None).fit(x, y, progress=False)
    paths = model.sample(x[:3], n=2)
    assert paths.values.shape == (6, 17, 16)
    assert float(paths.times[-1]) == 39.0
    assert torch.equal(paths.values[0], paths.values[1])
    end = torch.cat([model.sample(x[k : k + 1]).values[:, -1] for k in range(3)])
    odds = model._model.readout(end).softmax(1).numpy()
    assert np.allclose(odds, model.predict_proba(x[:3]), atol=1e-5)
    assert model.sample(x[:1], [0.0, 10.0, 39.0]).times.tolist() == [0.0, 10.0, 39.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"control": "rectilinear"}, "jumps and has no derivative"),
        ({"control": "spline"}, "control must be one of"),
        ({"channels": ("clock",)}, "channels must be some of"),
        ({"solver": "dopri5"}, "solver must be one of euler, midpoint, rk4"),
        ({"solver": "rk4", "control": "linear"}, "needs a smooth control"),
        ({"step": 0.0}, "step must be positive"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie"),
        ({"class_weight": {"slow": 1.0}}, "no weight for 'fast'"),
    ],
)
def test_hyper_parameters_out_of_range_have_a_sentence(options, message):
    x, y = waves(20)
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, progress=False)
    assert not hasattr(model, "process_")


def test_the_derivative_is_that_of_the_control_path_also_at_and_beyond_the_ends():
    times, controls = controls_of(2, 6, 2)
    own = torch.stack([times, times])
    asked = torch.cat([times, times[:-1] + 0.02, times[:1] - 1, times[-1:] + 1])
    for method in ("linear", "hermite", "natural"):
        told = ControlPath(times, controls, method=method).derivative(asked)
        for clock in (times, own):
            process = NeuralCDEProcess(doubles(2, 3), clock, controls, method)
            ours = [process.derivative(t if clock.ndim == 1 else t.expand(2, 1), 2) for t in asked]
            assert torch.allclose(torch.stack(ours, 1), told, atol=1e-12)


def test_shapes_that_do_not_fit_have_a_sentence():
    field, times = NeuralCDEField(2, 4), torch.linspace(0, 1, 5)
    with pytest.raises(ValueError, match="needs controls"):
        NeuralCDEProcess(field, times, torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="for 2 control channels; got 1"):
        NeuralCDEProcess(field, times, torch.zeros(3, 5, 1))
    with pytest.raises(ValueError, match="has no derivative"):
        NeuralCDEProcess(field, times, torch.zeros(3, 5, 2), "rectilinear")
    with pytest.raises(ValueError, match="must be at least 1"):
        NeuralCDEField(0)
