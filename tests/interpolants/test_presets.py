"""The published methods against closed forms between Gaussians."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants import PRESETS, FlowMatching, StochasticInterpolant, preset, preset_table
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.conditional_path import MonotonePath, ShrinkingPath, make_path
from gendyn.interpolants.epsilon import bridge_epsilon, get_epsilon
from gendyn.interpolants.fields import targets
from gendyn.interpolants.gamma import Bridge, Brownian, get_gamma
from gendyn.interpolants.schedule import BridgeSchedule, Linear

TIMES = torch.linspace(0.03, 0.97, 20, dtype=torch.float64)


def particles(path, t: torch.Tensor, noise: float, x0: float, x1: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return particle and velocity of one pair in one dimension at many times."""
    points = torch.tensor([[[x0], [x1]]], dtype=torch.float64).expand(len(t), 2, 1)
    x, u = path(t, points, torch.full((len(t), 1), noise, dtype=torch.float64))
    return x[:, 0], u[:, 0]


class BridgePath:
    """The conditional path of a bridge, called as the others are."""

    def __init__(self, *diffusion: float) -> None:
        self.schedule = BridgeSchedule(("bridge", *diffusion))

    def __call__(self, t, points, noise):
        c = self.schedule.at(t[:, None])
        x0, x1 = points[:, 0], points[:, 1]
        mean, moved = self.schedule.path(t[:, None], c, x0, x1)
        return mean + c.gamma * noise, targets(("velocity",), c, moved, x0, x1, noise)[0]


KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)
PATHS = {
    "linear": make_path("linear", KNOTS, 0.1),
    "trigonometric": make_path("trigonometric", KNOTS, 0.1),
    "shrinking": make_path("shrinking", KNOTS, 0.1),
    "bridge": BridgePath(0.7),
    "bridge with a falling diffusion": BridgePath(2.0, 0.5, 0.3),
}


def means_and_deviations(name: str, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of the path from x0 = 1 to x1 = -2, as published."""
    half = math.pi / 2 * t
    if name == "linear":
        return (1 - t) - 2 * t, torch.full_like(t, 0.1)
    if name == "trigonometric":
        return half.cos() - 2 * half.sin(), torch.full_like(t, 0.1)
    if name == "shrinking":
        return -2 * t, 1 - 0.9 * t
    if name == "bridge":
        return (1 - t) - 2 * t, 0.7 * (t * (1 - t)).sqrt()
    gathered, whole = gathered_variance(t)
    return 1 - 3 * gathered / whole, (gathered - gathered**2 / whole).sqrt()


def gathered_variance(t: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Integrate the square of a diffusion through 2, .5 and .3 by brute force."""
    nodes, weights = np.polynomial.legendre.leggauss(5)

    def integral(end: float) -> float:
        cuts = sorted({0.0, min(0.5, end), end})
        total = 0.0
        for a, b in pairwise(cuts):
            at = a + (b - a) * (nodes + 1) / 2
            total += (b - a) / 2 * weights @ np.interp(at, [0.0, 0.5, 1.0], [2.0, 0.5, 0.3]) ** 2
        return total

    return torch.tensor([integral(float(v)) for v in t], dtype=torch.float64), integral(1.0)


@pytest.mark.parametrize("name", PATHS)
def test_mean_deviation_and_velocity_of_each_path(name: str) -> None:
    mean, deviation = means_and_deviations(name, TIMES)
    for noise in (0.0, 1.0, -0.6):
        x, u = particles(PATHS[name], TIMES, noise, 1.0, -2.0)
        torch.testing.assert_close(x, mean + deviation * noise, rtol=1e-10, atol=1e-12)
        h = 1e-6
        ahead, behind = (particles(PATHS[name], TIMES + s, noise, 1.0, -2.0)[0] for s in (h, -h))
        torch.testing.assert_close(u, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PATHS)
def test_the_mean_velocity_moves_gaussians(name: str) -> None:
    """Continuity: between Gaussians dE[x]/dt = E[u] and dVar[x]/dt = 2 Cov[x, u], with correlated ends."""
    path = PATHS[name]
    means = torch.tensor([0.0, 2.0, 0.0] if name == "shrinking" else [-1.0, 2.0, 0.0], dtype=torch.float64)
    cross = 0.0 if name == "shrinking" else 0.3
    covariance = torch.tensor([[0.25, cross, 0.0], [cross, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)

    def coefficients(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Particle and velocity are linear in (x0, x1, z)."""
        unit = [particles(path, t, z, x0, x1) for x0, x1, z in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
        return torch.stack([x for x, _ in unit], 1), torch.stack([u for _, u in unit], 1)

    position, velocity = coefficients(TIMES)
    h = 1e-6
    ahead, behind = coefficients(TIMES + h)[0], coefficients(TIMES - h)[0]
    torch.testing.assert_close(velocity @ means, (ahead - behind) @ means / (2 * h), rtol=1e-6, atol=1e-6)
    spread = [torch.einsum("ti,ij,tj->t", x, covariance, x) for x in (ahead, behind)]
    both = torch.einsum("ti,ij,tj->t", position, covariance, velocity)
    torch.testing.assert_close(2 * both, (spread[0] - spread[1]) / (2 * h), rtol=1e-6, atol=1e-6)


def test_published_numbers_of_a_bridge_and_of_a_shrinking_path() -> None:
    t = torch.tensor([0.3], dtype=torch.float64)
    bridge = BridgePath(0.7)
    x, u = particles(bridge, t, 0.4, 1.0, -2.0)
    c = bridge.schedule.at(t)
    score = -0.4 / c.gamma.item()
    assert c.gamma.item() == pytest.approx(0.32078030, abs=6e-9)
    assert x.item() == pytest.approx(0.22831212, abs=6e-9)
    assert u.item() == pytest.approx(-2.87779798, abs=6e-9)
    assert score == pytest.approx(-1.24695937, abs=6e-9)
    assert 2 * c.gamma.item() / 0.7**2 == pytest.approx(1.30930734, abs=6e-9)
    # Velocity and half the diffusion times the score: the drift that holds the bridge to its end.
    pulled = u.item() + bridge_epsilon(bridge.schedule)(t).item() * score
    assert pulled == pytest.approx(-3.18330303, abs=6e-9)
    assert pulled == pytest.approx((-2.0 - x.item()) / 0.7, abs=1e-12)
    x, u = particles(ShrinkingPath(0.1), t, 0.4, 1.0, -2.0)
    assert (x.item(), u.item()) == pytest.approx((-0.308, -2.36), abs=1e-12)
    assert u.item() == pytest.approx((-2.0 - 0.9 * x.item()) / (1 - 0.9 * 0.3), abs=1e-12)


def test_a_constant_diffusion_is_the_brownian_bridge() -> None:
    one, other = BridgeSchedule(("bridge", 0.7)).at(TIMES), Linear(Brownian(0.49)).at(TIMES)
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert Bridge(0.7) == Bridge(0.7) != Bridge(0.7, 0.7)
    assert len({Bridge(0.7), Bridge(0.7)}) == 1
    torch.testing.assert_close(Bridge(0.7, 0.7, 0.7).value(TIMES), Bridge(0.7).value(TIMES))
    assert repr(get_gamma(("bridge", 2.0, 1.0))) == "Bridge(2.0, 1.0)"


@pytest.mark.parametrize(
    ("sigma", "cross", "middle"),
    [
        (0.1, 0.495025, 0.5625125),
        (0.5, 0.39038820, 0.57019410),
        (1.0, 0.20710678, 0.66605339),
        (2.0, 0.06155281, 1.34327641),
    ],
)
def test_entropic_ends_make_the_bridge_of_two_gaussians(sigma: float, cross: float, middle: float) -> None:
    """The diffusion that velocity and score of the bridge give joins its ends as the entropic plan does."""
    for diffusion in ((sigma,), (sigma * 1.5, sigma * 0.5, sigma)):
        schedule = BridgeSchedule(("bridge", *diffusion))
        whole = schedule.gamma.total
        c01 = (math.sqrt(4 * 0.25 + whole**2) - whole) / 2
        t = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
        c = schedule.at(t)
        variance = 0.25 * c.alpha**2 + c.beta**2 + 2 * c01 * c.alpha * c.beta + c.gamma**2
        half_rate = 0.25 * c.alpha * c.alpha_rate + c.beta * c.beta_rate + c.gamma_product
        half_rate = half_rate + c01 * (c.alpha_rate * c.beta + c.alpha * c.beta_rate)
        # Slope of the drift of the diffusion, and how much of the start is left at the end.
        slope = (half_rate - bridge_epsilon(schedule)(t)) / variance
        assert 0.25 * math.exp(float(slope.mean())) == pytest.approx(c01, rel=1e-4)
        if len(diffusion) == 1:
            assert c01 == pytest.approx(cross, abs=6e-9)
            at = 0.25 * 0.25 + 0.25 + 0.5 * c01 + 0.25 * sigma**2
            assert at == pytest.approx(middle, abs=6e-9)


def test_the_monotone_path_is_that_of_scipy() -> None:
    knots = np.array([0.0, 0.15, 0.5, 0.8, 1.0])
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 5, 3, generator=generator, dtype=torch.float64)
    points[:10] = points[:10].sort(dim=1).values
    points[10:15, 2] = points[10:15, 1]  # a flat gap
    t = torch.rand(50, generator=generator, dtype=torch.float64)
    x, u = MonotonePath(torch.from_numpy(knots), 0.0)(t, points, torch.zeros(50, 3, dtype=torch.float64))
    for k in range(50):
        truth = PchipInterpolator(knots, points[k].numpy(), axis=0)
        np.testing.assert_allclose(x[k].numpy(), truth(t[k].item()), atol=1e-12)
        np.testing.assert_allclose(u[k].numpy(), truth.derivative()(t[k].item()), atol=1e-10)
    two, three = (torch.linspace(0, 1, n, dtype=torch.float64) for n in (2, 3))
    straight, _ = MonotonePath(two, 0.0)(t, points[:, :2], torch.zeros(50, 3, dtype=torch.float64))
    torch.testing.assert_close(straight, torch.lerp(points[:, 0], points[:, 1], t[:, None]))
    for k in range(50):
        bent, _ = MonotonePath(three, 0.0)(t[k : k + 1], points[k : k + 1, :3], torch.zeros(1, 3).double())
        np.testing.assert_allclose(bent[0].numpy(), PchipInterpolator(three, points[k, :3])(t[k].item()), atol=1e-12)


def line(n: int = 800, seed: int = 0) -> Snapshots:
    """Return N(-1, .25) and N(2, 1) on a line, as quantiles in random order: no error of sampling in the moments."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()[:, None]
    return Snapshots(
        [0.0, 1.0],
        [-1 + 0.5 * z[torch.randperm(n, generator=generator)], 2 + z[torch.randperm(n, generator=generator)]],
    )


LEARN = {"steps": 1500, "hidden": (48, 48), "batch_size": 512, "lr": 5e-3, "scale": "none"}


@pytest.mark.parametrize(
    ("sigma", "coupling"), [pytest.param(0.7, "independent", marks=pytest.mark.slow), ((1.5, 0.5), "sinkhorn")]
)
def test_velocity_score_and_paths_of_a_learned_bridge(sigma, coupling: str) -> None:
    data = line()
    model = gendyn.preset("sf2m", sigma, coupling=coupling, **LEARN).fit(data, progress=False)
    schedule = model.fields_.schedule
    whole = schedule.gamma.total
    c01 = (math.sqrt(1 + whole**2) - whole) / 2 if coupling == "sinkhorn" else 0.0

    def law(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        c = schedule.at(t)
        variance = 0.25 * c.alpha**2 + c.beta**2 + 2 * c01 * c.alpha * c.beta + c.gamma**2
        half_rate = 0.25 * c.alpha * c.alpha_rate + c.beta * c.beta_rate + c.gamma_product
        half_rate = half_rate + c01 * (c.alpha_rate * c.beta + c.alpha * c.beta_rate)
        return -c.alpha + 2 * c.beta, variance, -c.alpha_rate + 2 * c.beta_rate, half_rate

    t = torch.rand(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    mean, variance, rate, half_rate = law(t)
    x = mean + variance.sqrt() * torch.randn(400, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    velocity = rate + half_rate / variance * (x - mean)
    found = model.fields_.velocity(t.float(), x.float())
    assert float((found - velocity).square().mean() / velocity.square().mean()) < 0.01
    score = -(x - mean) / variance
    found = model.fields_.score(t.float(), x.float())
    assert float((found - score).square().mean() / score.square().mean()) < 0.02
    start = line(2000, seed=3).samples[0]
    grid = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    wanted = law(grid)
    for options in ({}, {"epsilon": "bridge", "step": 0.0025}):
        made = model.sample(start, grid, seed=4, **options).values[..., 0].double()
        torch.testing.assert_close(made.mean(0), wanted[0], atol=0.08, rtol=0)
        torch.testing.assert_close(made.var(0), wanted[1], atol=0.03, rtol=0.08)
        ends = made[:, -1].float()[:, None], grid.flip(0)
        back = model.sample(*ends, seed=5, **options).values[:, -1, 0]
        assert float(back.mean()) == pytest.approx(-1.0, abs=0.1)
        assert float(back.var()) == pytest.approx(0.25, rel=0.2)


@pytest.mark.parametrize("backward", [False, True])
def test_the_exact_bridge_of_a_changing_diffusion_has_its_marginals(backward: bool) -> None:
    """With exact fields an Euler step is affine: mean and variance of the diffusion without sampling."""
    source, target = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
    exact = GaussianMixtureInterpolant(source, target, BridgeSchedule(("bridge", 2.0, 0.5)))
    diffusion = bridge_epsilon(exact.schedule)
    found = []
    for steps in (500, 1000):
        h, m, v = 1 / steps, *((2.0, 1.0) if backward else (-1.0, 0.25))
        for k in range(steps):
            t = 1 - k * h if backward else k * h
            epsilon = float(diffusion(torch.tensor(t, dtype=torch.float64)))
            at = exact.fields(t, torch.tensor([[0.0], [1.0]], dtype=torch.float64))
            low, high = ((-at.velocity if backward else at.velocity) + epsilon * at.score)[:, 0].tolist()
            m, v = m + h * (low + (high - low) * m), (1 + h * (high - low)) ** 2 * v + 2 * epsilon * h
        found.append((m, v))
    mean, variance = (2 * fine - coarse for coarse, fine in zip(*found, strict=True))
    assert (mean, variance) == pytest.approx((-1.0, 0.25) if backward else (2.0, 1.0), abs=2e-4)


@pytest.mark.parametrize("name", [pytest.param("icfm", marks=pytest.mark.slow), "otcfm", "vp", "sbcfm"])
def test_learned_velocities_are_those_between_gaussians(name: str) -> None:
    model = preset(name, **LEARN).fit(line(), progress=False)
    t = torch.rand(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    half = math.pi / 2
    alpha, beta = (torch.cos(half * t), torch.sin(half * t)) if name == "vp" else (1 - t, t)
    alpha_rate, beta_rate = (-half * beta, half * alpha) if name == "vp" else (-torch.ones_like(t), torch.ones_like(t))
    c01 = {"otcfm": 0.5, "sbcfm": (math.sqrt(2) - 1) / 2}.get(name, 0.0)
    noise, noise_product = (t * (1 - t), 0.5 - t) if name == "sbcfm" else (0.01, 0.0)
    mean, rate = -alpha + 2 * beta, -alpha_rate + 2 * beta_rate
    variance = 0.25 * alpha**2 + beta**2 + 2 * c01 * alpha * beta + noise
    product = 0.25 * alpha * alpha_rate + beta * beta_rate + c01 * (alpha_rate * beta + alpha * beta_rate)
    x = mean + variance.sqrt() * torch.randn(400, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    velocity = rate + (product + noise_product) / variance * (x - mean)
    found = torch.cat([model.process_.drift(s, y[None]) for s, y in zip(t[:, 0], x.float(), strict=True)])
    assert float((found - velocity).square().mean() / velocity.square().mean()) < 0.01
    end = model.sample(line(2000, seed=3).samples[0], [0.0, 1.0]).values[:, -1, 0]
    assert float(end.mean()) == pytest.approx(2.0, abs=0.08)
    assert float(end.std()) == pytest.approx(1.0, abs=0.07)


def test_noise_shrinks_onto_the_data() -> None:
    noise = torch.special.ndtri((torch.arange(800, dtype=torch.float64) + 0.5) / 800).float()[:, None]
    data = Snapshots([0.0, 1.0], [noise, line().samples[1]])
    model = preset("fm", **{**LEARN, "scale": "none"}).fit(data, progress=False)
    t = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    deviation, variance = 1 - 0.9 * t, t**2 + (1 - 0.9 * t) ** 2
    x = 2 * t + variance.sqrt() * torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    velocity = 2 + (t - 0.9 * deviation) / variance * (x - 2 * t)
    found = torch.cat([model.process_.drift(s, y.reshape(1, 1)) for s, y in zip(t, x.float(), strict=True)])[:, 0]
    assert float((found - velocity).square().mean() / velocity.square().mean()) < 0.01
    with pytest.raises(ValueError, match=r"a mean of up to 1 .* \(the preset 'icfm'\)"):
        preset("fm").fit(line(), progress=False)


def test_refitting_to_its_own_pairs_makes_straight_paths() -> None:
    """Between Gaussians with independent ends paths bend in a known way; refitted, they are the lines of transport."""
    start = line(2000, seed=3).samples[0]
    t = torch.linspace(0, 1, 21)
    shrunk = (0.25 * (1 - t) ** 2 + t**2).sqrt() / 0.5
    bend = 0.25 * float((shrunk - (1 - t) - 2 * t).square().mean())
    found = {}
    for rounds in (0, 1):
        model = preset("rectified", reflow=rounds, **LEARN).fit(line(), progress=False)
        made = model.sample(start, t.double(), solver="rk4", step=0.05).values
        straight = torch.lerp(made[:, :1], made[:, -1:], t[None, :, None])
        one = model.sample(start, [0.0, 1.0], solver="euler", step=1.0).values[:, -1]
        found[rounds] = float((made - straight).square().mean()), float((one - made[:, -1]).square().mean())
        assert float((made[:, -1] - 2 - 2 * (start + 1)).square().mean().sqrt()) < 0.1
        assert len(model.history_) == len(model.history_["step"].unique())
        assert int(model.history_["step"].max()) == 1500 * (rounds + 1)
    assert found[0][0] == pytest.approx(bend, rel=0.1)
    assert found[1][0] < 0.02 * bend
    # One step along the first flow ends near the mean of the target, wrong by its variance.
    assert found[0][1] > 0.5
    assert found[1][1] < 0.01


def test_an_interrupted_round_is_the_last(monkeypatch) -> None:
    from gendyn.training import loop

    key_of = loop.derive_seed

    def interrupt(seed, *labels):
        if labels == ("train", 12):
            raise KeyboardInterrupt
        return key_of(seed, *labels)

    monkeypatch.setattr(loop, "derive_seed", interrupt)
    with pytest.warns(UserWarning, match="interrupted after 12 of 30 steps") as caught:
        preset("rectified", reflow=3, steps=30, hidden=(8,)).fit(line(50), progress=False)
    assert len(caught) == 1


@pytest.mark.parametrize("path", ["cubic", "pchip"])
def test_splines_run_through_every_time(path: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(300, 1, generator=generator)
    data = Snapshots([0.0, 1.0, 3.0, 4.0], [x, x + 1.0, x + 1.5, x - 1.0])
    model = preset("spline", path=path, steps=800, hidden=(48, 48)).fit(data, progress=False)
    made = model.sample(x, [0.0, 1.0, 3.0, 4.0]).values
    for k in range(4):
        torch.testing.assert_close(made[:, k].mean(), data.samples[k].mean(), atol=0.12, rtol=0)
    inside = model.sample(x, [0.0, 2.0]).values[:, -1].mean().item()
    truth = PchipInterpolator([0.0, 1.0, 3.0, 4.0], [0.0, 1.0, 1.5, -1.0])(2.0)
    if path == "pchip":
        assert inside == pytest.approx(truth + float(x.mean()), abs=0.12)
    else:
        assert inside > 1.6  # the natural cubic overshoots, and this is why the monotone one is there


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_saved_and_brought_back(name: str, tmp_path: Path) -> None:
    z = torch.special.ndtri((torch.arange(60, dtype=torch.float64) + 0.5) / 60).float()[:, None]
    data = Snapshots([0.0, 1.0], [z, 2 + z]) if name == "fm" else line(60)
    model = preset(name, steps=5, hidden=(8,)).fit(data, progress=False)
    assert type(model) is PRESETS[name].model
    model.save(tmp_path / "model.safetensors")
    again = gendyn.load(tmp_path / "model.safetensors")
    assert again.get_params() == model.get_params()
    assert torch.equal(again.sample(n=5).values, model.sample(n=5).values)
    if name == "sf2m":
        same = [m.sample(n=5, epsilon="bridge", seed=1).values for m in (model, again)]
        assert torch.equal(*same)


def test_the_documentation_holds_the_table_of_presets() -> None:
    table = preset_table()
    assert table.index.tolist() == list(PRESETS)
    text = (Path(__file__).parents[2] / "docs" / "interpolants.md").read_text()
    for name, row in table.iterrows():
        cells = [f"`{name}`", *(f"`{v}`" if c in ("mean", "deviation") else str(v) for c, v in row.items())]
        assert f"| {' | '.join(cells)} |" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: preset("magic"), "there is no preset 'magic'; there are icfm, otcfm, fm"),
        (lambda: preset("icfm", sigma=[1.0, 2.0]), "only bridges have one that changes with time"),
        (lambda: preset("sf2m", sigma=0.0), "must be positive and finite numbers; got"),
        (lambda: preset("sf2m", sigma=[1.0, -1.0]), "must be positive and finite numbers; got"),
        (lambda: preset("otcfm", nonsense=1), "FlowMatching has no parameter 'nonsense'; it has coupling"),
        (lambda: preset("icfm", sigma=-1.0).fit(line(20)), "sigma must be zero or positive"),
        (lambda: preset("fm", sigma=1.0).fit(line(20)), "what is left of unit noise, below 1; got 1"),
        (lambda: preset("fm", coupling="ot").fit(line(20)), "a shrinking path makes its own noise"),
        (lambda: preset("rectified", reflow=-1).fit(line(20)), "reflow must be zero or a number of rounds; got -1"),
        (lambda: preset("icfm", path="bent").fit(line(20)), "path must be None or one of"),
        (lambda: make_path("bent", KNOTS, 0.1), "path must be one of"),
        (lambda: make_path("shrinking", torch.linspace(0, 1, 3), 0.1), "joins noise to one population; got 3 times"),
        (lambda: BridgeSchedule("quadratic"), "a bridge has the amplitude of its diffusion"),
        (lambda: get_gamma(("quadratic", 1.0)), "takes no parameter; got 1.0"),
        (lambda: get_gamma(("brownian", 1.0, 2.0)), "takes 1 parameter; got 1.0, 2.0"),
        (lambda: bridge_epsilon(Linear("quadratic")), "is no bridge"),
        (lambda: get_epsilon("often", Linear()), "or one of .*; got 'often'"),
        (lambda: get_epsilon("path-optimal", Linear()), "that of a one-sided schedule"),
        (
            lambda: StochasticInterpolant(score_weight="much").fit(line(20)),
            "score_weight must be one of .*; got 'much'",
        ),
        (lambda: FlowMatching(sigma=float("nan")).fit(line(20)), "sigma must be zero or positive"),
    ],
)
def test_sentences(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_diffusion_of_next_to_nothing_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="a diffusion of 0.0005 is next to none"):
        preset("sf2m", sigma=5e-4)
