"""Populations on a sphere and a torus: rotations, concentrations, and states that stay where they belong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import i0, i1
from scipy.stats import vonmises

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants import Sphere, Torus
from gendyn.sampling import ODE, SOLVERS, Projected

SMALL = {"hidden": (64, 64), "steps": 800, "batch_size": 256}


def cap(n: int, seed: int, spread: float = 0.3) -> torch.Tensor:
    """Points around the north pole."""
    x = spread * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return Sphere().project(x + torch.tensor([0.0, 0.0, 1.0]))


def rotated(x: torch.Tensor, angle: float) -> torch.Tensor:
    """Turn points about the y axis."""
    c, s = math.cos(angle), math.sin(angle)
    return x @ torch.tensor([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def test_a_cap_moves_over_the_sphere_and_stays_on_it() -> None:
    x = cap(600, 0)
    data = Snapshots([0.0, 1.0, 2.0], [x, rotated(cap(600, 1), 1.2), rotated(cap(600, 2), 2.4)])
    model = gendyn.RiemannianFlowMatching("sphere", **SMALL).fit(data, progress=False)
    fresh = cap(500, 3)
    paths = model.sample(fresh, [0.0, 0.5, 1.0, 1.5, 2.0])
    assert (paths.values.double().norm(dim=-1) - 1).abs().max() < 1e-6
    for k, angle in enumerate((0.0, 0.6, 1.2, 1.8, 2.4)):
        mean = paths.values[:, k].mean(0)
        centre = rotated(torch.tensor([[0.0, 0.0, 1.0]]), angle)
        assert float(Sphere().distance(Sphere().project(mean)[None], centre)) < 0.08
        # Great circles side by side bulge on their way, and meet the width of the cap, which shows in the length of the
        # mean, at its end; at the time between their velocity jumps, which one smooth field does not.
        width = float(mean.norm()) / float(fresh.mean(0).norm())
        assert width == pytest.approx(1.0, abs=0.01 if k in (0, 4) else 0.05)
    back = model.sample(paths.values[:, -1], [2.0, 0.0]).values[:, -1]
    assert float(Sphere().distance(back, fresh).mean()) < 0.05
    speed = torch.cat(model.velocity(data.only([1.0])))
    assert (speed * data.samples[1]).sum(1).abs().max() < 1e-5, "velocities are tangent"
    assert model.score(data) > -0.15


def test_the_process_stays_on_the_sphere_by_its_own_solver() -> None:
    x = cap(100, 4)
    model = gendyn.RiemannianFlowMatching("sphere", **(SMALL | {"steps": 50})).fit(
        Snapshots([0.0, 1.0], [x, rotated(x, 2.0)]), progress=False
    )
    made = gendyn.sample(model.process_, x, [0.0, 1.0])
    assert made.info["solver"] == "projected_heun"
    assert (made.values.double().norm(dim=-1) - 1).abs().max() < 1e-6


def test_a_uniform_law_becomes_a_von_mises_law() -> None:
    """Along a circle the mean resultant length of concentration k is I1(k) / I0(k)."""
    rng = np.random.default_rng(0)
    kappa = np.array([2.0, 5.0])
    uniform = torch.from_numpy(rng.uniform(-math.pi, math.pi, (20_000, 2))).float()
    target = torch.from_numpy(vonmises.rvs(kappa, loc=[3.0, 1.0], size=(20_000, 2), random_state=rng)).float()
    data = Snapshots([0.0, 1.0], [uniform, target])
    options = SMALL | {"steps": 1500, "batch_size": 512}
    model = gendyn.RiemannianFlowMatching("torus", "independent", **options).fit(data, progress=False)
    fresh = torch.from_numpy(rng.uniform(-math.pi, math.pi, (3000, 2))).float()
    end = model.sample(fresh, [0.0, 1.0]).values[:, -1]
    assert (end >= -math.pi).all()
    assert (end < math.pi).all()
    wave = torch.polar(torch.ones_like(end), end).mean(0)
    assert torch.allclose(wave.abs().double(), torch.from_numpy(i1(kappa) / i0(kappa)), atol=0.04)
    assert Torus().distance(wave.angle()[None], torch.tensor([[3.0, 1.0]])) < 0.08


def test_a_wrapped_normal_law_moves_through_the_cut() -> None:
    """N(3, .04) to N(-2.5, .16), wrapped: the way is .783 long, not 5.5; on it deviations are averaged."""
    z = torch.randn(1500, 1, generator=torch.Generator().manual_seed(5))
    torus = Torus()
    data = Snapshots([0.0, 1.0], [torus.project(3.0 + 0.2 * z), torus.project(-2.5 + 0.4 * z.flip(0))])
    model = gendyn.RiemannianFlowMatching("torus", **SMALL).fit(data, progress=False)
    paths = model.sample(data.only([0.0]), [0.5, 1.0]).values
    for k, (mean, deviation) in enumerate(((3.0 + 0.5 * (2 * math.pi - 5.5), 0.3), (-2.5, 0.4))):
        away = torus.log(torch.full((1500, 1), mean), paths[:, k])
        assert float(away.mean()) == pytest.approx(0.0, abs=0.04)
        assert float(away.std()) == pytest.approx(deviation, rel=0.1)


def test_projected_steps_keep_their_order() -> None:
    """A rotation about an axis, whose steps leave the sphere: rk4 and heun keep orders 4 and 2 and end on it."""
    turn = ODE(lambda t, x: torch.stack([-x[:, 1], x[:, 0], torch.zeros_like(x[:, 0])], dim=1) * (1 + x[:, 2:]), dim=3)
    x = cap(20, 6).double()
    angle = 1 + x[:, 2]
    c, s = angle.cos(), angle.sin()
    truth = torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1], x[:, 2]], dim=1)
    for name, order in (("heun", 2), ("rk4", 4)):
        errors = []
        for steps in (10, 20):
            solver = Projected(SOLVERS[name], Sphere().project)
            end = gendyn.sample(turn, x, [0.0, 1.0], solver=solver, step=1 / steps).values[:, -1]
            assert (end.norm(dim=1) - 1).abs().max() < 1e-14
            errors.append(float((end - truth).abs().max()))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)


def test_sentences() -> None:
    x = cap(20, 7)
    data = Snapshots([0.0, 1.0], [x, x])
    for options, words in (
        ({"manifold": "plane"}, "manifold must be one of sphere, torus; got 'plane'"),
        ({"coupling": "magic"}, "coupling must be one of"),
        ({"steps": 0}, "steps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            gendyn.RiemannianFlowMatching(**options).fit(data, progress=False)
    with pytest.raises(ValueError, match="must have norm 1"):
        gendyn.RiemannianFlowMatching().fit(Snapshots([0.0, 1.0], [x, 2 * x]), progress=False)
    with pytest.raises(ValueError, match="20 of 20 joined points are antipodes"):
        gendyn.RiemannianFlowMatching("sphere", "paired").fit(Snapshots([0.0, 1.0], [x, -x]), progress=False)
    model = gendyn.RiemannianFlowMatching(steps=2, hidden=(4,)).fit(data, progress=False)
    with pytest.raises(ValueError, match="must have norm 1"):
        model.sample(2 * x, [0.0, 1.0])
    with pytest.raises(ValueError, match="solver must be a fixed-step solver"):
        model.sample(x, [0.0, 1.0], solver="dopri5")
    with pytest.raises(ValueError, match="cannot be projected; use 'heun'"):
        model.sample(x, [0.0, 1.0], solver="reversible_heun")


def test_a_few_antipodes_are_left_out() -> None:
    x = cap(400, 8)
    opposite = x.clone()
    opposite[:3] = -x[:3]
    data = Snapshots([0.0, 1.0], [x, opposite])
    model = gendyn.RiemannianFlowMatching("sphere", "paired", steps=5, hidden=(4,))
    assert len(model._coupled(data, 0)) == 397
    assert math.isfinite(model.fit(data, progress=False).history_["loss"].iloc[-1])
