"""Every family of references through one contract, and each against its own truth."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy.integrate import solve_ivp

import gendyn as gd
from gendyn.bridges import transition_law
from gendyn.bridges.interval_laws import interval_log_densities
from gendyn.bridges.references import get_family
from gendyn.sampling import LinearProcess

DOUBLE = torch.float64
NOW = torch.tensor(0.3, dtype=DOUBLE)


def levels(dim, n=40, times=(0.0, 1.0, 2.5), seed=0):
    """Return populations with positive levels that move."""
    generator = torch.Generator().manual_seed(seed)
    samples = [
        2 + 0.5 * math.sin(t) + 0.4 * torch.rand(n, dim, generator=generator, dtype=DOUBLE) + torch.arange(dim) / 4
        for t in times
    ]
    return gd.Snapshots(list(times), samples)


def logistic(t, x, rate, capacity):
    return rate * x * (1 - x / capacity) + 0.1 * torch.sin(t)


def logistic_jacobian(t, x, rate, capacity):
    return torch.diag_embed(rate * (1 - 2 * x / capacity))


class Pulsating(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.layer = torch.nn.Linear(dim, dim, dtype=DOUBLE)
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(dim * dim).reshape(dim, dim) / 10)
            self.layer.bias.fill_(0.1)

    def forward(self, t, x):
        return torch.cos(t) * torch.tanh(self.layer(x))


FAMILIES = {
    "brownian": (gd.references.Brownian(), 3),
    "brownian, root": (gd.references.Brownian(volatility="sqrt", sigma=(0.1, 0.2, 0.3)), 3),
    "linear": (gd.references.Linear(), 3),
    "linear, proportional": (gd.references.Linear(volatility="proportional", sigma_per_feature=True), 3),
    "spring": (gd.references.Spring(), 2),
    "lotka-volterra": (gd.references.LotkaVolterra(), 2),
    "lotka-volterra, given": (gd.references.LotkaVolterra(1.0, 0.4, 0.4, 0.1, sigma=0.02), 2),
    "repressilator": (gd.references.Repressilator(), 3),
    "protein repressilator": (gd.references.ProteinRepressilator(leak=0.1), 6),
    "messengers": (gd.references.ProteinRepressilator(), 3),
    "big vortex": (gd.references.BigVortex(decay=0.2), 2),
    "lamb-oseen": (gd.references.LambOseen(), 2),
    "lamb-oseen, drifting": (gd.references.LambOseen(core=0.7, centre=(2.0, 2.5), drifting=True), 2),
    "gradient field": (gd.references.GradientField((16, 8, 8)), 3),
    "gradient field, silu": (gd.references.GradientField((16,), "silu"), 3),
    "mlp": (gd.references.MLP((16, 8)), 3),
    "mlp, tanh": (gd.references.MLP((8,), "tanh", volatility="proportional"), 2),
    "linear plus mlp": (gd.references.LinearPlusMLP((8, 8), "softplus"), 3),
    "hill mlp": (gd.references.HillMLP(hidden=(8, 6)), 3),
    "custom": (gd.references.Custom(logistic, {"rate": 0.5, "capacity": [3.0, 4.0]}, positive=("rate",)), 2),
    "custom, jacobian": (
        gd.references.Custom(logistic, {"rate": 0.5, "capacity": 4.0}, jacobian=logistic_jacobian, sigma=0.3),
        2,
    ),
    "network": (gd.references.Network(Pulsating(2)), 2),
    "ring of five": (gd.references.Repressilator(hill=3.0, volatility=lambda t, x: 1 + 0 * x), 5),
}
"""A new family joins by a line: the family and a number of features."""


@pytest.fixture(params=FAMILIES)
def started(request):
    family, dim = FAMILIES[request.param]
    data = levels(dim)
    reference = family.start(data, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in reference.drift_parameters():
            # Away from starts that are zero, but not far.
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=DOUBLE)
    # States a little past the data, where formulas that clamp are still smooth.
    x = 1.5 + 2 * torch.rand(7, reference.dim, generator=generator, dtype=DOUBLE)
    return family, data, reference, x


def test_shapes_and_types(started):
    _, data, reference, x = started
    assert isinstance(reference, gd.sampling.Process)
    assert reference.recorded == data.dim
    for dtype in (DOUBLE, torch.float32):
        state = x.to(dtype)
        for t in (NOW.to(dtype), torch.linspace(0, 1, len(x), dtype=dtype)[:, None]):
            assert reference.drift(t, state).shape == x.shape
            assert reference.diffusion(t, state).shape == x.shape
            assert reference.jacobian(t, state).shape == (*x.shape, reference.dim)
            assert {f(t, state).dtype for f in (reference.drift, reference.diffusion, reference.jacobian)} == {dtype}
    assert {parameter.dtype for parameter in reference.parameters()} == {DOUBLE}
    assert (reference.diffusion(NOW, x) > 0).all()


def test_jacobian_is_the_derivative_of_the_drift(started):
    _, _, reference, x = started
    expected = torch.stack([torch.func.jacrev(lambda z: reference.drift(NOW, z[None])[0])(row) for row in x])
    torch.testing.assert_close(reference.jacobian(NOW, x), expected, rtol=1e-10, atol=1e-10)
    drift, jacobian = reference.drift_and_jacobian(NOW, x)
    torch.testing.assert_close(drift, reference.drift(NOW, x))
    torch.testing.assert_close(jacobian, expected, rtol=1e-10, atol=1e-10)


def test_rows_do_not_influence_each_other(started):
    _, _, reference, x = started
    torch.testing.assert_close(reference.drift(NOW, x)[2:3], reference.drift(NOW, x[2:3]))
    torch.testing.assert_close(reference.jacobian(NOW, x)[2:3], reference.jacobian(NOW, x[2:3]))


def test_gradients_reach_every_parameter(started):
    _, data, reference, _ = started
    if reference.dim == data.dim:
        loss = sum(log.logsumexp(0).sum() for log in interval_log_densities(reference, data.samples, data.times))
    else:
        x = torch.ones(5, reference.dim, dtype=DOUBLE)
        law = transition_law(reference, x, 0.0, torch.tensor([0.5], dtype=DOUBLE))
        loss = law.means.sum() + law.covariances.sum()
    loss.backward()
    for name, parameter in reference.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_gradient_of_the_likelihood_is_its_slope(started):
    _, data, reference, _ = started
    if reference.dim != data.dim:
        pytest.skip("populations do not show the whole state")
    few = data.subsample(6, seed=0)

    def loss():
        return sum(log.logsumexp(0).sum() for log in interval_log_densities(reference, few.samples, few.times))

    loss().backward()
    for parameter in reference.parameters():
        place = parameter.grad.abs().flatten().argmax()
        slope, step = parameter.grad.flatten()[place], 1e-5
        with torch.no_grad():
            ends = []
            for sign in (1, -2):
                parameter.view(-1)[place] += sign * step
                ends.append(loss())
            parameter.view(-1)[place] += step
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5, atol=1e-6)


def test_coefficients_tell_the_parameters(started):
    _, _, reference, _ = started
    coefficients = reference.coefficients()
    assert list(coefficients)[-1] == "sigma"
    for name in reference.positive:
        assert (coefficients[name] > 0).all()
    assert {id(p) for p in reference.drift_parameters()} | {id(reference.log_sigma)} == {
        id(p) for p in reference.parameters()
    }


def test_features_times_weights_are_the_drift(started):
    _, _, reference, x = started
    features = reference.features(NOW, x)
    if features is None:
        with pytest.raises(TypeError, match="not linear in its parameters"):
            reference.weights()
        return
    torch.testing.assert_close(features @ reference.weights(), reference.drift(NOW, x))
    assert len(reference.penalised) == features.shape[2]
    torch.testing.assert_close(reference.weights()[reference.penalised].square().sum(), reference.ridge_terms())
    theta = 0.5 + torch.rand(features.shape[2], dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    reference.set_weights(theta)
    torch.testing.assert_close(reference.drift(NOW, x), features @ theta)


def test_a_file_can_hold_it(started):
    family, _, reference, x = started
    if any(callable(getattr(family, name)) for name in family.__dataclass_fields__):
        with pytest.raises(TypeError, match="holds no code"):
            family.describe()
        again = family
    else:
        again = get_family(json.loads(json.dumps(family.describe())))
        assert again == family
    restored = again.restore(reference.dim, {name: value.clone() for name, value in reference.state_dict().items()})
    for t in (NOW, NOW + 1):
        assert torch.equal(restored.drift(t, x), reference.drift(t, x))
        assert torch.equal(restored.diffusion(t, x), reference.diffusion(t, x))
    with pytest.raises(ValueError, match="tensors are not those"):
        again.restore(reference.dim, {"weight": torch.zeros(2)})


def test_starts_follow_the_units_of_the_data(started):
    family, data, _, _ = started
    given = [getattr(family, name) for name in family.__dataclass_fields__ if name != "hidden"]
    if any(callable(value) or isinstance(value, float | tuple | dict) for value in given):
        pytest.skip("units are given")
    length, time = 1000.0, 1 / 60
    other = gd.Snapshots([t * time for t in data.times.tolist()], [x * length for x in data.samples])
    one, two = (family.start(d, seed=1) for d in (data, other))
    x = torch.cat([data.samples[0][:3], torch.ones(3, one.dim - data.dim, dtype=DOUBLE)], 1)
    torch.testing.assert_close(two.drift(NOW, x * length), one.drift(NOW, x) * length / time)
    noise = one.diffusion(NOW, x) * length / math.sqrt(time)
    torch.testing.assert_close(two.diffusion(NOW, x * length), noise)


def test_start_is_reproducible_and_draws_nothing_global(started):
    family, data, _, _ = started
    state = torch.random.get_rng_state()
    one, two = family.start(data, seed=3), family.start(data, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_start_noise_covers_half_the_spread():
    data = levels(2, times=(0.0, 2.0, 4.0))
    for volatility in ("constant", "proportional", "sqrt"):
        reference = gd.references.Brownian(volatility=volatility).start(data)
        squares = torch.stack([reference.diffusion(NOW, x).square().mean() for x in data.samples])
        pooled = torch.cat(data.samples)
        assert math.sqrt(2 * squares.mean().item()) == pytest.approx(0.5 * float(pooled.var(0).mean().sqrt()), rel=0.01)


LOTKA_VOLTERRA = {"growth": 1.1, "predation": 0.5, "death": 0.3, "reproduction": 0.2}
PROTEINS = {"leak": 0.2, "translation": 0.7, "protein_decay": 1.3}
RING = {"production": 9.0, "threshold": 1.2, "hill": 2.5, "decay": 0.8}


@pytest.mark.parametrize(
    ("family", "system", "size", "parameters"),
    [
        (gd.references.LotkaVolterra, gd.systems.LotkaVolterra, 2, LOTKA_VOLTERRA),
        (gd.references.Repressilator, gd.systems.Repressilator, 3, RING),
        (gd.references.ProteinRepressilator, gd.systems.ProteinRepressilator, 3, RING | PROTEINS),
    ],
)
def test_same_drift_as_the_system(family, system, size, parameters):
    reference, truth = family(**parameters, sigma=0.05).start(levels(size)), system(**parameters, volatility=0.05)
    x = 3 * torch.rand(20, reference.dim, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) + 0.01
    torch.testing.assert_close(reference.drift(NOW, x), truth.drift(NOW, x), rtol=1e-12, atol=1e-12)
    noise = truth.diffusion(NOW, x)
    noise = noise if truth.noise_type == "diagonal" else noise.diag().expand_as(x)
    torch.testing.assert_close(reference.diffusion(NOW, x), noise)
    if hasattr(truth, "jacobian"):
        torch.testing.assert_close(reference.jacobian(NOW, x), truth.jacobian(NOW, x), rtol=1e-11, atol=1e-11)
    for name, value in parameters.items():
        assert reference.coefficients()[name].item() == pytest.approx(value, rel=1e-12)


def test_same_eddy_as_the_system():
    truth = gd.systems.Vortex(rotation=-0.8, core=0.6)
    reference = gd.references.LambOseen(rotation=-0.8, core=0.6, centre=(0.0, 0.0), sigma=0.01).start(levels(2))
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    x[:4] *= torch.tensor([1e-1, 1e-4, 1e-8, 0.0], dtype=DOUBLE)[:, None]
    torch.testing.assert_close(reference.drift(NOW, x), truth.drift(NOW, x), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(reference.diffusion(NOW, x), torch.full_like(x, 0.01))


def test_an_eddy_is_smooth_through_its_core():
    reference = gd.references.LambOseen(rotation=1.0, core=1.0, centre=(0.0, 0.0)).start(levels(2))
    radii = torch.tensor([0.0, 1e-9, 1e-5, 1e-3, 0.2, 0.2236, 0.22361, 0.5, 3.0], dtype=DOUBLE)
    x = torch.stack([radii, 0 * radii], 1)
    drift, jacobian = reference.drift_and_jacobian(NOW, x)
    # Along the x axis the flow is (0, -(1 - exp(-r^2)) / r), which falls by 2 exp(-r^2) - (1 - exp(-r^2)) / r^2.
    speeds = [0.0 if r == 0 else -math.expm1(-r * r) / r for r in radii.tolist()]
    torch.testing.assert_close(drift[:, 1], -torch.tensor(speeds, dtype=DOUBLE), rtol=1e-13, atol=1e-15)
    slopes = [1.0 if r == 0 else 2 * math.exp(-r * r) + math.expm1(-r * r) / (r * r) for r in radii.tolist()]
    torch.testing.assert_close(jacobian[:, 1, 0], -torch.tensor(slopes, dtype=DOUBLE), rtol=1e-6, atol=0)
    # The third derivative: the loss of a fit is differentiated through the Jacobian.
    _gradcheck_core(reference)


def _gradcheck_core(reference):
    def jacobian(x):
        return reference.jacobian(NOW, x)

    for radius in (1e-4, 0.22, 0.23, 1.0):
        x = torch.tensor([[radius, 0.3 * radius]], dtype=DOUBLE, requires_grad=True)
        assert torch.autograd.gradcheck(jacobian, (x,), eps=1e-7, atol=1e-6)


def test_eddies_start_to_the_side_to_which_the_populations_turn():
    for rotation in (1.0, -1.0):
        data = gd.systems.simulate_snapshots(gd.systems.Vortex(rotation=rotation), [0.0, 0.8, 1.6, 2.4], n=50)
        for family, name in ((gd.references.LambOseen(), "rotation"), (gd.references.BigVortex(), "strength")):
            value = family.start(data).coefficients()[name].item()
            assert math.copysign(1.0, value) == rotation
            assert 0.2 < abs(value) < 2.0


def test_formula_of_the_big_vortex():
    reference = gd.references.BigVortex(2.0, 0.3, (0.5, -1.0)).start(levels(2))
    x, y = 0.7, 1.2
    expected = [[2.0 * math.exp(-0.3 * y) * (y + 1.0), -2.0 * (x - 0.5)]]
    torch.testing.assert_close(
        reference.drift(NOW, torch.tensor([[x, y]], dtype=DOUBLE)), torch.tensor(expected, dtype=DOUBLE)
    )


def test_formula_of_production_and_decay():
    reference = gd.references.HillMLP(5.0, 1.0, hidden=(4,)).start(levels(3))
    x = torch.tensor([[0.5, -1.0, 2.0]], dtype=DOUBLE)
    first, last = reference.network.layers
    levels_in = x.clamp_min(0) / reference.spread
    made = torch.sigmoid(last(torch.nn.functional.silu(first(levels_in))))
    torch.testing.assert_close(reference.drift(NOW, x), 5 * made - x.clamp_min(0))


def test_a_network_starts_near_the_linear_reference_it_takes_over():
    data = levels(2)
    linear = gd.references.Linear().start(data)
    with torch.no_grad():
        linear.matrix.copy_(torch.tensor([[-0.5, 1.0], [-1.0, -0.5]]))
        linear.log_sigma.fill_(-1.0)
    richer = gd.references.LinearPlusMLP().start(data).adopt(linear)
    x = data.samples[0]
    assert (richer.drift(NOW, x) - linear.drift(NOW, x)).norm() < 0.05 * linear.drift(NOW, x).norm()
    assert richer.log_sigma.item() == -1.0
    assert not hasattr(richer, "noise_covariance")


def test_hidden_proteins_extend_the_state():
    data = levels(3)
    reference = gd.references.ProteinRepressilator().start(data)
    assert (reference.recorded, reference.dim) == (3, 6)
    assert gd.references.ProteinRepressilator().start(levels(6)).recorded == 6


def test_linear_transitions_are_exact_and_so_are_their_gradients():
    data = levels(2)
    reference = gd.references.Linear(sigma=(0.5, 0.8)).start(data)
    with torch.no_grad():
        reference.matrix.copy_(torch.tensor([[-0.4, -1.5], [1.2, -0.2]]))
        reference.shift.copy_(torch.tensor([0.3, -0.1]))
    truth = LinearProcess(
        reference.rate.detach(), reference.offset.detach(), torch.diag(torch.tensor([0.5, 0.8], dtype=DOUBLE))
    )
    x = data.samples[0]
    elapsed = torch.tensor([0.3, 1.1], dtype=DOUBLE)
    law = transition_law(reference, x, 0.0, elapsed)
    assert law.steps.shape[1] == 1
    torch.testing.assert_close(law.means[1], truth.mean(1.1, x))
    torch.testing.assert_close(law.covariances[1, 0], truth.covariance(1.1))

    density = _Density(reference, x[:3], x[3:5])
    names = ("matrix", "shift", "log_sigma")

    def log_density(*values):
        named = {f"reference.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(density, named, ())

    assert torch.autograd.gradcheck(
        log_density, [getattr(reference, name).detach().clone().requires_grad_() for name in names]
    )


class _Density(torch.nn.Module):
    def __init__(self, reference, x, y):
        super().__init__()
        self.reference, self.x, self.y = reference, x, y

    def forward(self):
        return transition_law(self.reference, self.x, 0.0, torch.tensor([0.7], dtype=DOUBLE)).log_density(self.y)


def test_noise_that_depends_on_the_state_has_no_exact_transitions():
    data = levels(2)
    reference = gd.references.Linear(volatility="proportional").start(data)
    assert not hasattr(reference, "noise_covariance")
    law = transition_law(reference, data.samples[0], 0.0, torch.tensor([0.5], dtype=DOUBLE))
    assert law.steps.shape[1] == len(data.samples[0])


def test_predators_and_prey_start_around_the_mean_of_the_data():
    data = gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), n=200)
    found = {name: value.item() for name, value in gd.references.LotkaVolterra().start(data).coefficients().items()}
    centre = torch.stack([x.mean(0) for x in data.samples]).mean(0)
    assert found["death"] / found["reproduction"] == pytest.approx(float(centre[0]), rel=1e-5)
    assert found["growth"] / found["predation"] == pytest.approx(float(centre[1]), rel=1e-5)


def test_repression_ends_at_zero():
    reference = gd.references.Repressilator(10.0, 1.0, 3.0, 1.0).start(levels(3))
    x = torch.tensor([[-1.0, 0.0, 1e-3], [1e200, 1.0, 1.0]], dtype=DOUBLE)
    drift, jacobian = reference.drift_and_jacobian(NOW, x)
    assert torch.isfinite(jacobian).all()
    torch.testing.assert_close(drift[0], torch.tensor([10.0 / (1 + 1e-9) + 1, 10.0, 10.0 - 1e-3], dtype=DOUBLE))
    assert drift[1, 1].item() == pytest.approx(-1.0)
    drift.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in reference.drift_parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gd.references.LotkaVolterra(growth=-1.0), "growth must be positive; got -1.0"),
        (lambda: gd.references.LotkaVolterra(growth=math.nan), "growth must be finite; got nan"),
        (lambda: gd.references.Linear(sigma=0.0), "sigma must be positive and finite; got 0.0"),
        (lambda: gd.references.Linear(volatility="cubic"), "volatility must be one of constant, proportional, sqrt"),
        (lambda: gd.references.Linear(sigma=(1.0, 2.0)).start(levels(3)), "sigma must be a number or 3 numbers"),
        (lambda: gd.references.LotkaVolterra().start(levels(3)), "2 features, prey and predators; the data have 3"),
        (lambda: gd.references.Repressilator().start(levels(1)), "two genes or more; the data have 1"),
        (lambda: gd.references.Linear().start(levels(2, times=(0.0,))), "two times or more; got 1"),
        (
            lambda: gd.references.LotkaVolterra().start(
                gd.Snapshots([0.0, 1.0], [torch.ones(2, 2), torch.zeros(2, 2)])
            ),
            "proportional noise vanishes at 0, but feature 0 of row 0 at time 1 is 0",
        ),
        (lambda: get_family("lotka"), "there is no family of references 'lotka'; there are big-vortex, brownian"),
        (lambda: gd.references.LambOseen(core=0.0), "core must be positive; got 0.0"),
        (lambda: gd.references.LambOseen(centre=(0.0, math.inf)), "centre must be finite; got inf"),
        (lambda: gd.references.BigVortex().start(levels(3)), "in the plane, with 2 features; the data have 3"),
        (lambda: gd.references.ProteinRepressilator().start(levels(4)), "3 messengers, or in these and 3 proteins"),
        (lambda: gd.references.MLP(()), "hidden must be one width or more"),
        (lambda: gd.references.GradientField(activation="relu"), "activation must be smooth, one of silu, softplus"),
        (lambda: gd.references.Custom(logistic, {"rate": -1.0}, ("rate",)), "rate must be positive; got -1.0"),
        (lambda: gd.references.Custom(logistic, {"rate": 1.0}, ("capacity",)), "positive names 'capacity', but"),
        (lambda: gd.references.Custom(logistic, {"sigma": 1.0}), "cannot be called 'sigma'"),
        (
            lambda: gd.references.Custom(lambda t, x, a: a * x.sum(1), {"a": 1.0}).start(levels(2)),
            r"shape of the states, \(2, 2\); got \(2,\)",
        ),
    ],
)
def test_errors_at_the_door(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_network_must_be_a_module():
    with pytest.raises(TypeError, match="takes a torch.nn.Module"):
        gd.references.Network(logistic)


def test_a_parameter_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="hill must be a number, or None to start from the data; got str"):
        gd.references.Repressilator(hill="3")


def test_it_runs_as_a_process():
    reference = gd.references.LotkaVolterra(1.0, 0.4, 0.4, 0.1, sigma=1e-6).start(levels(2)).requires_grad_(False)
    paths = gd.sample(reference, torch.tensor([[5.0, 4.0]]), [0.0, 1.0], step=0.001)
    truth = solve_ivp(
        lambda t, x: [x[0] - 0.4 * x[0] * x[1], 0.1 * x[0] * x[1] - 0.4 * x[1]], (0, 1), [5.0, 4.0], rtol=1e-10
    ).y[:, -1]
    torch.testing.assert_close(paths.values[0, 1], torch.tensor(truth, dtype=torch.float32), rtol=2e-3, atol=0)
