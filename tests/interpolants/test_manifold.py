"""Geodesics of the sphere and the torus: closed forms, inverses and velocities."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn.interpolants import MANIFOLDS, Manifold, Sphere, Torus

every_manifold = pytest.mark.parametrize("space", MANIFOLDS.values(), ids=MANIFOLDS.keys())


def points(space: Manifold, n: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    x = 2 * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return space.project(x)


@every_manifold
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_exponential_and_logarithm_undo_each_other(space: Manifold, dim: int) -> None:
    x, y = points(space, 200, dim, 1), points(space, 200, dim, 2)
    v = space.log(x, y)
    assert space.distance(space.exp(x, v), y).max() < 1e-7
    assert torch.allclose(v.norm(dim=1), space.distance(x, y))
    assert torch.allclose(space.tangent(x, v), v)
    assert torch.allclose(space.log(x, space.exp(x, 0.3 * v)), 0.3 * v, atol=1e-9)
    assert torch.equal(space.log(x, x), torch.zeros_like(x))
    assert torch.allclose(space.project(x), x)


@every_manifold
def test_distances_are_those_of_a_metric(space: Manifold) -> None:
    x, y, z = (points(space, 300, 3, seed) for seed in (3, 4, 5))
    assert torch.allclose(space.distance(x, y), space.distance(y, x))
    assert (space.distance(x, z) <= space.distance(x, y) + space.distance(y, z) + 1e-9).all()
    pairs = torch.stack([space.distance(x[:20], other.expand(20, -1)) for other in y[:30]], dim=1)
    assert torch.allclose(space.cost(x[:20], y[:30]), pairs.square(), atol=1e-9)


def test_angles_on_the_sphere() -> None:
    sphere = Sphere()
    x, y = points(sphere, 500, 4, 6), points(sphere, 500, 4, 7)
    assert torch.allclose(sphere.distance(x, y), (x * y).sum(1).acos(), atol=1e-7)
    for angle in (1e-9, 1e-4, 1.0, math.pi - 1e-3):
        a = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
        b = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64)
        assert float(sphere.distance(a, b)) == pytest.approx(angle, rel=1e-6)
        assert float(sphere.log(a, b)[0, 1]) == pytest.approx(angle, rel=1e-6)


def test_differences_on_the_torus_go_the_short_way() -> None:
    torus = Torus()
    x, y = points(torus, 500, 2, 8), points(torus, 500, 2, 9)
    turns = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) * 2 * math.pi
    shortest = ((y - x)[..., None] + turns).abs().min(-1).values
    assert torch.allclose(torus.log(x, y).abs(), shortest)
    assert torch.allclose(torus.distance(x + 2 * math.pi, y - 6 * math.pi), torus.distance(x, y))


@every_manifold
def test_geodesics_have_constant_speed_and_the_velocity_of_their_points(space: Manifold) -> None:
    x, y = points(space, 100, 3, 10), points(space, 100, 3, 11)
    t = torch.rand(100, 1, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    point, velocity = space.geodesic(x, y, t)
    space.check(point)
    assert torch.allclose(space.distance(x, point), t[:, 0] * space.distance(x, y), atol=1e-9)
    assert torch.allclose(velocity.norm(dim=1), space.distance(x, y))
    assert torch.allclose(space.tangent(point, velocity), velocity)
    step = 1e-6
    later = space.geodesic(x, y, t + step)[0]
    assert torch.allclose(space.log(point, later) / step, velocity, atol=1e-4)
    ends = [space.geodesic(x, y, torch.full_like(t, s))[0] for s in (0.0, 1.0)]
    assert space.distance(ends[0], x).max() < 1e-7
    assert space.distance(ends[1], y).max() < 1e-7


@every_manifold
def test_antipodes_are_refused(space: Manifold) -> None:
    x = points(space, 5, 2, 13)
    y = -x if space.name == "sphere" else space.project(x + torch.tensor([math.pi, 0.3]))
    with pytest.raises(ValueError, match=r"5 of 5 pairs are antipodes \(first: pair 0\)"):
        space.geodesic(x, y, torch.zeros(5, 1, dtype=torch.float64))


def test_points_off_the_sphere_are_refused() -> None:
    with pytest.raises(ValueError, match="must have norm 1; 1 of 2 are off by up to 1: divide them"):
        Sphere().check(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    with pytest.raises(ValueError, match="at least two features"):
        Sphere().check(torch.ones(2, 1))
