"""Stable SDEs: what the published networks compute, what the theory guarantees, and each series alone in its batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.stats import kstest, norm
from torch import nn

from gendyn.sampling import SDE, NonFiniteStateError, sample
from gendyn.sde import KINDS, NOISE_LEVELS, StableDesign, StableField, StableProcess, stable_design

EVERY_DESIGN = [
    stable_design(kind, parametrisation, sharing)
    for kind in KINDS
    for parametrisation in ("bounded", "exact")
    for sharing in ("diagonal", "scalar")
]
every_design = pytest.mark.parametrize(
    "design", EVERY_DESIGN, ids=lambda d: f"{d.noise}-{d.geometric}-{d.parametrisation}-{d.noise_sharing}"
)


class GivenNoise:
    """Brownian increments from normals that the test made, ``(n_steps, B, m)``."""

    brownian = True
    name = "given"

    def __init__(self, normals):
        self.normals = normals

    def layout(self, grid):
        return grid

    def start(self, key, grid, shape, first_row, like, area):
        normals = self.normals[:, first_row : first_row + shape[0], : shape[1]].to(like)

        class Driver:
            def increments(self, interval, first, count):
                start = grid.offsets[interval] + first
                return normals[start : start + count] * grid.root(interval, like), None

        return Driver()


def reference_path(field, times, controls, normals):
    """Return the same path with every layer written out, step by step, for one series of a bounded design."""
    z = field.start(controls[0])
    path = [z]
    for k in range(len(times) - 1):
        t, dt = times[k], times[k + 1] - times[k]
        tau = torch.stack([t.sin(), t.cos()]).to(z)
        parts = []
        if field.design.state or field.design.clock:
            told = ([tau] if field.design.clock else []) + ([z] if field.design.state else [])
            parts.append(field.project(torch.cat(told)))
        if field.design.control:
            parts.append(field.control(controls[k]))
        u = field.mix(torch.cat(parts))
        for layer in field.net:
            u = layer(torch.relu(u))
        drift = torch.tanh(u * torch.tanh(z)) if field.design.geometric else torch.tanh(u)
        noise = field.noise
        first = noise.waves(tau) + (noise.state(z) if noise.knows_state else 0)
        v = torch.relu(noise.out(torch.relu(first)))
        g = torch.tanh(torch.sigmoid(noise.weight) * v * (z if noise.shape == "state" else 1))
        z = z + drift * dt.to(z) + g * (normals[k] * dt.to(z).sqrt())
        path.append(z)
    return torch.stack(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_bounded_families_are_the_published_ones(kind, shared):
    field = StableField(3, hidden=8, layers=3, design=KINDS[kind], seed=1).double()
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(4, 10, dtype=torch.float64, generator=generator).cumsum(1)
    times = times[0] if shared else times
    controls = torch.randn(4, 10, 3, dtype=torch.float64, generator=generator)
    normals = torch.randn(9, 4, 8, dtype=torch.float64, generator=generator)
    process = StableProcess(field, times, controls)
    found = sample(process, field.begin(controls[:, 0]).detach(), times, substeps=1, noise=GivenNoise(normals)).values
    for i in range(4):
        expected = reference_path(field, times if shared else times[i], controls[i], normals[:, i])
        assert torch.allclose(found[i], expected, atol=1e-12)


@every_design
def test_a_ragged_batch_is_each_series_alone(design):
    generator = torch.Generator().manual_seed(2)
    lengths = [12, 5, 9, 2]
    times = torch.rand(4, 12, dtype=torch.float64, generator=generator).cumsum(1) / 6
    controls = torch.randn(4, 12, 2, generator=generator)
    for i, n in enumerate(lengths):
        times[i, n:] = times[i, n - 1]
    field = StableField(2, hidden=6, layers=2, design=design, seed=3)
    z0 = field.begin(controls[:, 0]).detach()
    normals = torch.randn(11, 4, 6, generator=generator)
    whole = sample(StableProcess(field, times, controls), z0, times, substeps=1, noise=GivenNoise(normals)).values
    for i, n in enumerate(lengths):
        process = StableProcess(field, times[i, :n], controls[i : i + 1, :n])
        noise = GivenNoise(normals[: n - 1, i : i + 1])
        alone = sample(process, z0[i : i + 1], times[i, :n], substeps=1, noise=noise).values[0]
        assert float((whole[i, :n] - alone).abs().max()) < 1e-6
        # A series that has ended stays where it is.
        assert bool((whole[i, n:] == whole[i, n - 1]).all())


@every_design
def test_what_is_computed_ahead_is_what_would_be_computed_then(design):
    generator = torch.Generator().manual_seed(4)
    field = StableField(2, hidden=6, design=design, seed=0).double()
    times, controls = torch.linspace(0, 1, 6, dtype=torch.float64), torch.randn(3, 6, 2, generator=generator).double()
    process, z = StableProcess(field, times, controls), torch.rand(3, 6, dtype=torch.float64, generator=generator)
    later = process.times[2] + 1e-9
    for field_of in (process.drift, process.diffusion):
        assert torch.allclose(field_of(times[2], z), field_of(later, z), atol=1e-7)
        # Between the times of the grid the control is linear.
        middle = StableProcess(field, torch.tensor([0.3, 1.0]), controls[:, 1:3].mean(1, keepdim=True).expand(3, 2, 2))
        half = getattr(middle, field_of.__name__)(torch.tensor(0.3, dtype=torch.float64), z)
        assert torch.allclose(field_of(torch.tensor(0.3, dtype=torch.float64), z), half, atol=1e-12)


@every_design
def test_chunks_of_rows_are_the_whole(design):
    field = StableField(1, hidden=4, design=design, seed=0)
    controls = torch.randn(600, 5, 1, generator=torch.Generator().manual_seed(0))
    for times in (torch.linspace(0, 1, 5), torch.rand(600, 5, generator=torch.Generator().manual_seed(1)).cumsum(1)):
        process = StableProcess(field, times, controls)
        z0 = field.begin(controls[:, 0]).detach()
        whole = sample(process, z0, times, substeps=1, seed=5).values
        parts = sample(process, z0, times, substeps=1, seed=5, chunk=256).values
        assert torch.allclose(whole, parts, atol=1e-6)
    with pytest.raises(ValueError, match="coefficients for each of 600 paths, but x0 has 7"):
        sample(process, z0[:7], torch.linspace(0, 1, 5), substeps=1)


@every_design
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_gradients_reach_every_parameter_and_are_right(design, gradient):
    field = StableField(2, hidden=4, layers=2, design=design, static_dim=2, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    controls = torch.randn(5, 7, 2, dtype=torch.float64, generator=generator)
    static = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    times = torch.linspace(0, 1, 7, dtype=torch.float64)

    def loss():
        process = StableProcess(field, times, controls)
        z0 = field.begin(controls[:, 0], static)
        return sample(process, z0, times, substeps=1, seed=2, gradient=gradient).values[:, -1].square().sum()

    loss().backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
        flat, gradients = parameter.data.view(-1), parameter.grad.view(-1)
        k = int(gradients.abs().argmax())
        with torch.no_grad():
            old, step = float(flat[k]), 1e-6
            flat[k] = old + step
            up = float(loss())
            flat[k] = old - step
            down = float(loss())
            flat[k] = old
        assert (up - down) / (2 * step) == pytest.approx(float(gradients[k]), rel=1e-4), name


def test_milstein_on_additive_noise_is_euler():
    field = StableField(1, hidden=3, design=StableDesign(), seed=0).double()
    controls = torch.zeros(8, 9, 1, dtype=torch.float64)
    process = StableProcess(field, torch.linspace(0, 1, 9), controls)
    z0 = torch.ones(8, 3, dtype=torch.float64)
    one, two = (
        sample(process, z0, process.times, substeps=1, solver=s, seed=1).values for s in ("euler_maruyama", "milstein")
    )
    assert torch.allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("name", NOISE_LEVELS)
@pytest.mark.parametrize("parametrisation", ["bounded", "exact"])
def test_every_noise_of_the_ablation(name, parametrisation):
    field = StableField(1, hidden=5, design=StableDesign(noise=name, parametrisation=parametrisation), seed=2)
    noise, z, t = field.noise, torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) + 0.5, torch.tensor([[0.4]])
    g = noise(noise.table(t), z)
    assert g.shape == z.shape
    level, shape = NOISE_LEVELS[name]
    factor = {"one": torch.ones_like(z), "state": z, "sqrt": z.sqrt(), "cube": z**3, "sigmoid": z.sigmoid(), "relu": z}
    if level in ("none", "constant", "constant*time", "per-feature"):
        v = {"none": 0.0, "constant": 1.0, "constant*time": 0.4, "per-feature": 1.0}[level]
        raw = v * factor[shape]
        expected = torch.tanh(torch.sigmoid(torch.ones(())) * raw) if parametrisation == "bounded" else raw
        assert torch.allclose(g, expected, atol=1e-6)
    if parametrisation == "bounded":
        assert float(g.detach().abs().max()) < 1
    if shape == "state":
        still = noise(noise.table(t), torch.zeros(2, 5))
        assert not still.any()
    if shape == "state" and parametrisation == "exact":
        assert torch.allclose(noise.relative(noise.table(t), z) * z, g, atol=1e-6)


def test_the_bad_noises_say_so():
    times, controls = torch.linspace(0, 5, 101), torch.zeros(64, 101, 1)
    for name in ("constant*sqrt(state)", "constant*cube(state)"):
        field = StableField(1, hidden=2, design=StableDesign(noise=name, parametrisation="exact"), seed=0)
        with pytest.raises(NonFiniteStateError, match=r"not finite any more in \d+ of 64 paths by t=.* \(step \d+"):
            sample(StableProcess(field, times, controls), torch.full((64, 2), 3.0), times, substeps=1)


# What the theory says of the exact parametrisation.


def exact(kind, noise=None, hidden=4, force=1.0, pull=1.0, sharing="diagonal", seed=0):
    design = stable_design(kind, "exact", sharing)
    design = design if noise is None else StableDesign(**design.__dict__ | {"noise": noise})
    field = StableField(2, hidden=hidden, layers=2, design=design, seed=seed).double()
    with torch.no_grad():
        field.log_force.fill_(math.log(force))
        if hasattr(field, "raw_pull"):
            field.raw_pull.fill_(math.log(math.expm1(pull)))
    return field.requires_grad_(False)


def run(field, times, controls, z0, **options):
    return sample(StableProcess(field, times, controls), z0, times, substeps=1, **options).values


def test_second_moments_of_the_langevin_family_stay_below_their_bound():
    field = exact("langevin", "per-feature", force=1.5, pull=1.2)
    field.noise.log_level.copy_(torch.tensor([-0.5, 0.0, 0.3, -1.0]))
    bounds = field.bounds()
    assert (bounds.a, bounds.b) == (pytest.approx(0.6), pytest.approx(4 * 1.5**2 / 2.4))
    generator = torch.Generator().manual_seed(0)
    z, x = (5 * torch.randn(20_000, k, dtype=torch.float64, generator=generator) for k in (4, 2))
    matrix = field.mixing().matrix
    drift = field.drift(matrix, field.table(field.mixing(), z[:, :1], x)[0], z)
    assert bool(((drift * z).sum(1) <= -bounds.a * z.square().sum(1) + bounds.b + 1e-9).all())
    n, times = 4000, torch.linspace(0, 3, 301, dtype=torch.float64)
    controls = x[:n, None].expand(-1, 301, -1)
    z0 = torch.full((n, 4), 2.0, dtype=torch.float64)
    squares = run(field, times, controls, z0).square().sum(2)
    noise = float((2 * field.noise.log_level).exp().sum())
    limit = (2 * bounds.b + noise) / (2 * bounds.a)
    decay = torch.exp(-2 * bounds.a * times)
    bound = decay * z0[0].square().sum() + limit * (1 - decay)
    error = squares.std(0) / math.sqrt(n)
    assert bool((squares.mean(0) <= bound + 4 * error).all())


def test_the_langevin_family_contracts_and_forgets_a_shift_of_the_control():
    field = exact("langevin", hidden=3, force=0.5, pull=2.0)
    bounds = field.bounds()
    m, lipschitz, k = bounds.monotonicity, bounds.lipschitz, bounds.control_lipschitz
    assert m > 1
    generator = torch.Generator().manual_seed(1)
    steps, end = 400, 2.0
    dt = end / steps
    assert dt < 2 * m / lipschitz**2
    times = torch.linspace(0, end, steps + 1, dtype=torch.float64)
    controls = torch.randn(50, steps + 1, 2, dtype=torch.float64, generator=generator)
    one, two = (torch.randn(50, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    a, b = (run(field, times, controls, z, seed=3) for z in (one, two))
    start = (one - two).norm(dim=1)
    per_step = math.sqrt(1 - 2 * m * dt + lipschitz**2 * dt**2)
    factors = per_step ** torch.arange(steps + 1)
    assert bool(((a - b).norm(dim=2) <= factors * start[:, None] + 1e-12).all())
    # In continuous time exp(-m t), to which the factor of a step tends.
    assert per_step**steps == pytest.approx(math.exp(-m * end), rel=0.1)
    shift = 0.3 * torch.nn.functional.normalize(
        torch.randn(controls.shape, dtype=torch.float64, generator=generator), dim=2
    )
    c = run(field, times, controls + shift, two, seed=3)
    bound = factors * start[:, None] + k * 0.3 * (1 - torch.exp(-m * times)) / m * 1.02
    assert bool(((a - c).norm(dim=2) <= bound + 1e-12).all())


def test_a_shifted_control_worked_out_by_hand():
    def gap(shift):
        process = SDE(lambda t, z: -3 * (z - shift), lambda t, z: torch.full_like(z, 0.7), dim=1)
        return sample(
            process, torch.ones(5, 1, dtype=torch.float64), [0.0, 1.0], step=1e-4, seed=0, solver="euler_maruyama"
        ).values[:, -1]

    assert (gap(0.2) - gap(0.0)).flatten().tolist() == pytest.approx([0.190043] * 5, abs=5e-5)


def test_the_langevin_family_settles_at_its_gibbs_density():
    field = exact("langevin", "constant", hidden=1, force=2.0, pull=1.0, seed=5)
    for layer in field.net:
        layer.weight.fill_(1.5)
    field.mix.weight.fill_(1.0)
    field.project.weight.fill_(1.0)
    times = torch.linspace(0, 12, 1201, dtype=torch.float64)
    n = 4000
    z = run(field, times, torch.zeros(n, 1201, 2).double(), torch.zeros(n, 1).double(), save="final")[:, -1, 0].numpy()
    x = np.linspace(-8, 8, 8001)
    matrix, points = field.mixing().matrix, torch.from_numpy(x)[:, None]
    offset = field.table(field.mixing(), points, torch.zeros(len(x), 2).double())[0]
    drift = field.drift(matrix, offset, points).numpy()[:, 0]
    log_density = 2 * cumulative_trapezoid(drift, x, initial=0)
    cdf = cumulative_trapezoid(np.exp(log_density - log_density.max()), x, initial=0)
    assert kstest(z, lambda q: np.interp(q, x, cdf / cdf[-1])).pvalue > 0.001


def silent(field):
    """Without biases and control the drift of a linear-noise equation vanishes at zero."""
    for name, parameter in field.named_parameters():
        if name.split(".")[0] in ("project", "control", "mix", "net") and name.endswith("bias"):
            parameter.zero_()
    if field.waves:
        field.project.weight[:, : field.waves] = 0
    return field


def test_scalar_linear_noise_stabilises_almost_surely_and_low_moments():
    field = silent(exact("linear-noise", "constant*state", hidden=3, force=0.8, pull=0.05, sharing="scalar", seed=3))
    sigma = 1.6
    field.noise.log_level.fill_(math.log(sigma))
    bounds = field.bounds()
    growth = -bounds.monotonicity
    rate = growth - sigma**2 / 2
    assert growth > 0 > rate
    end, n, steps = 6.0, 1000, 1500
    times = torch.linspace(0, end, steps + 1, dtype=torch.float64)
    z0 = torch.full((n, 3), 1 / math.sqrt(3), dtype=torch.float64)
    z = run(field, times, torch.zeros(n, steps + 1, 2).double(), z0, save="final")[:, -1]
    logs = z.norm(dim=1).log() / end
    assert float(logs.mean()) <= rate + 4 * float(logs.std()) / math.sqrt(n) + 0.02
    p = 0.5
    assert p < 1 - 2 * growth / sigma**2
    moments = (p * end * logs).exp()
    bound = math.exp(p * (growth + (p - 1) * sigma**2 / 2) * end)
    assert float(moments.mean()) <= bound + 4 * float(moments.std()) / math.sqrt(n)


def test_independent_linear_noise_need_not():
    """Of d independent motions with drift z, log|z| grows by 1 + s^2/2 - s^2/d at most, but more than 1 - s^2/2."""
    sigma, d, end, steps, n = 1.0, 20, 4.0, 2000, 400
    process = SDE(lambda t, z: 0 * z, lambda t, z: sigma * z, dim=d)
    z = sample(process, torch.ones(n, d).double(), [0.0, end], step=end / steps, solver="log_euler").values[:, -1]
    rate = z.norm(dim=1).div(math.sqrt(d)).log() / end
    error = 4 * float(rate.std()) / math.sqrt(n)
    assert -(sigma**2) / 2 + 0.2 < float(rate.mean()) <= sigma**2 / 2 - sigma**2 / d + error


def test_the_geometric_family_keeps_its_sign_where_euler_flips_it():
    field = exact("geometric", "constant*state", hidden=6, force=1.0)
    field.noise.log_level.fill_(math.log(2.0))
    n, times = 500, torch.linspace(0, 1, 21, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    controls = torch.randn(n, 21, 2, dtype=torch.float64, generator=generator)
    z0 = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    z0[:, 0] = 0
    paths = run(field, times, controls, z0, seed=1)
    assert bool((paths.sign() == z0.sign()[:, None]).all())
    assert not paths[..., 0].any()
    flipped = run(field, times, controls, z0, seed=1, solver="euler_maruyama")[:, :, 1:]
    assert bool((flipped.sign() != z0.sign()[:, None, 1:]).any())


@pytest.mark.parametrize(("sigma", "dt", "known"), [(1.5, 0.25, 0.0912), (2.0, 0.05, 0.01267)])
def test_how_often_euler_flips_a_sign(sigma, dt, known):
    process = SDE(lambda t, z: 0 * z, lambda t, z: sigma * z, dim=1)
    n = 40_000
    z = sample(process, torch.ones(n, 1).double(), [0.0, dt], substeps=1, solver="euler_maruyama").values[:, -1, 0]
    share = float((z < 0).double().mean())
    exact_share = norm.cdf(-1 / (sigma * math.sqrt(dt)))
    assert exact_share == pytest.approx(known, abs=1e-4)
    assert abs(share - exact_share) < 4 * math.sqrt(exact_share / n)


def test_bounds_are_claimed_of_what_has_them_alone():
    for design in (stable_design("langevin"), stable_design("geometric", "exact")):
        with pytest.raises(ValueError, match="exact Langevin-type and linear-noise drifts"):
            StableField(1, hidden=2, design=design).bounds()


# Closed forms, by the same sampler.


def moments(process, z0, solver, step, n=40_000, end=1.0):
    z = sample(process, torch.full((n, 1), z0).double(), [0.0, end], step=step, solver=solver).values[:, -1, 0]
    return z, 4 / math.sqrt(n)


def test_ornstein_uhlenbeck():
    process = SDE(lambda t, z: -2 * z, lambda t, z: torch.full_like(z, 0.5), dim=1)
    z, band = moments(process, 1.0, "euler_maruyama", 0.05)
    assert abs(float(z.mean()) - 0.121577) < band * math.sqrt(0.0648)
    assert abs(float(z.var()) - 0.064817) < band * 0.064817 * math.sqrt(2)
    z, _ = moments(process, 0.0, "euler_maruyama", 0.05, end=6.0)
    assert abs(float(z.var()) - 0.065789) < band * 0.065789 * math.sqrt(2)


def test_linear_noise():
    process = SDE(lambda t, z: -z, lambda t, z: z, dim=1)
    z, band = moments(process, 1.0, "euler_maruyama", 0.05)
    squares = z.square()
    assert abs(float(squares.mean()) - 0.377833) < band * float(squares.std())
    z, band = moments(process, 1.0, "log_euler", 1.0)
    roots, logs = z.abs().sqrt(), z.abs().log()
    assert abs(float(roots.mean()) - 0.535261) < band * float(roots.std())
    assert abs(float(logs.mean()) + 1.5) < band * float(logs.std())
    # Beyond the step (2 a - s^2) / a^2 Euler's mean square grows.
    stiff = SDE(lambda t, z: -4 * z, lambda t, z: z, dim=1)
    for step, grows in ((0.42, False), (0.46, True)):
        end, _ = moments(stiff, 1.0, "euler_maruyama", step, n=2000, end=step)
        assert ((1 - 4 * step) ** 2 + step > 1) == grows
        assert torch.isfinite(end).all()


def test_geometric_brownian_motion_is_exact_in_one_logarithmic_step():
    process = SDE(lambda t, z: 0.1 * z, lambda t, z: 0.5 * z, dim=1)
    z, band = moments(process, 1.0, "log_euler", 1.0)
    assert abs(float(z.mean()) - 1.105171) < band * math.sqrt(0.346909)
    assert abs(float(z.median()) - 0.975310) < band * 0.975310 * 0.5 * 1.2533
    assert abs(float(z.var()) - 0.346909) < 5 * band * 0.346909


def test_coarse_steps_of_euler_turn_stability_around():
    process = SDE(lambda t, z: z, lambda t, z: 2 * z, dim=1)
    for step, known in ((0.01, -1.10), (0.1, -1.13), (0.5, 0.364)):
        z = sample(process, torch.ones(2000, 1).double(), [0.0, 20.0], step=step, solver="euler_maruyama").values[:, -1]
        rates = z.abs().log() / 20
        assert abs(float(rates.mean()) - known) < 4 * float(rates.std()) / math.sqrt(2000) + 0.01


def test_designs_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="kind must be one of langevin, linear-noise, geometric, naive; got 'lsde'"):
        stable_design("lsde")
    with pytest.raises(ValueError, match="needs noise proportional to the state"):
        StableDesign(geometric=True, noise="constant", parametrisation="exact")
    with pytest.raises(ValueError, match="must see the state, the control or both"):
        StableDesign(state=False, control=False)
    with pytest.raises(ValueError, match="noise must be one of none, constant"):
        StableDesign(noise="white")
    with pytest.raises(ValueError, match="is for 2 control channels; got 1"):
        StableProcess(StableField(2, hidden=2), torch.zeros(3), torch.zeros(1, 3, 1))
    assert isinstance(StableField(1).net, nn.ModuleList)
