"""The contract of every system; a new one joins through the catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gendyn.data import Paths
from gendyn.randomness import derive_seed
from gendyn.sampling import ODE, sample
from gendyn.systems import (
    SYSTEMS,
    ClosedFormSystem,
    DiffusionSystem,
    InteractingSystem,
    JumpSystem,
    System,
    get_system,
    simulate_paths,
    simulate_snapshots,
)

KINDS = (DiffusionSystem, JumpSystem, InteractingSystem, ClosedFormSystem)

every_system = pytest.mark.parametrize("name", SYSTEMS)
DIFFUSIONS = [n for n in SYSTEMS if isinstance(get_system(n), DiffusionSystem)]
every_diffusion = pytest.mark.parametrize("name", DIFFUSIONS)
every_start = pytest.mark.parametrize("name", [n for n in SYSTEMS if hasattr(get_system(n), "initial")])

FIXED_STARTS = ("geometric-brownian-motion", "brownian-motion", "merton-jump-diffusion")


@every_system
def test_each_is_of_one_kind(name):
    system = get_system(name)
    assert isinstance(system, System)
    assert sum(isinstance(system, kind) for kind in KINDS) == 1
    assert len(system.names) == system.dim == len(set(system.names))
    assert (np.diff(system.times) > 0).all()


@every_system
def test_systems_are_values(name):
    assert get_system(name) == get_system(name)
    assert hash(get_system(name)) == hash(get_system(name))
    assert eval(repr(get_system(name)), {type(get_system(name)).__name__: SYSTEMS[name]}) == get_system(name)


@every_system
def test_paths_stay_finite_repeat_and_touch_no_global_state(name):
    system = get_system(name)
    times, state = system.times[:4], torch.random.get_rng_state()
    first, again = (simulate_paths(system, times, n=6, seed=5) for _ in range(2))
    assert isinstance(first, Paths)
    assert first.values.shape == (6, 4, getattr(system, "recorded", system.dim))
    assert torch.isfinite(first.values).all()
    assert torch.equal(first.values, again.values)
    assert first.names == system.names[: first.dim]
    assert first.times.tolist() == list(times)
    assert not torch.equal(first.values, simulate_paths(system, times, n=6, seed=6).values)
    if not isinstance(system, JumpSystem):
        assert first.dtype == torch.float32
        assert simulate_paths(system, times, n=2, dtype=torch.float64).dtype == torch.float64
    assert torch.equal(torch.random.get_rng_state(), state)


@every_system
def test_populations_are_named_and_repeat(name):
    system = get_system(name)
    times = system.times[:3]
    first, again = (simulate_snapshots(system, times, n=[4, 3, 2], seed=5) for _ in range(2))
    assert first.sizes == (4, 3, 2)
    assert first == again
    assert first.names == system.names[: first.dim]
    assert (first.weights is not None) == hasattr(system, "weighted")


@pytest.mark.parametrize("name", [n for n in SYSTEMS if not isinstance(get_system(n), DiffusionSystem)])
def test_the_usual_times_are_simulated(name):
    system = get_system(name)
    assert torch.isfinite(simulate_paths(system, n=2, seed=1).values).all()


@every_diffusion
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes_follow_the_state(name, dtype):
    system = get_system(name)
    x = system.initial(7, seed=1, dtype=dtype)
    assert x.shape == (7, system.dim)
    assert x.dtype == dtype
    for t in (torch.zeros((), dtype=dtype), torch.zeros(7, 1, dtype=dtype)):
        drift, diffusion = system.drift(t, x), system.diffusion(t, x)
        assert drift.shape == (7, system.dim)
        assert drift.dtype == diffusion.dtype == dtype
        if system.noise_type == "additive":
            assert diffusion.shape == (system.dim, system.noise_dim)
        elif system.noise_type == "diagonal":
            assert diffusion.shape == (7, system.dim)
            assert system.noise_dim == system.dim
        else:
            assert system.noise_type == "none"
            assert system.noise_dim == 0


@every_diffusion
def test_the_step_resolves_the_times(name):
    system = get_system(name)
    assert 0 < system.time_step <= np.diff(system.times).min() * (1 + 1e-9)


@every_start
def test_start_states_depend_on_the_seed_alone(name):
    system = get_system(name)
    state = torch.random.get_rng_state()
    first, again = system.initial(5, 3), system.initial(5, 3)
    assert first.shape == (5, system.dim)
    assert torch.equal(first, again)
    if not isinstance(system, JumpSystem):
        torch.testing.assert_close(first, system.initial(5, 3, dtype=torch.float64).float())
    assert torch.equal(torch.random.get_rng_state(), state)
    if name not in FIXED_STARTS:
        assert not torch.equal(system.initial(50, 3), system.initial(50, 4))


@pytest.mark.parametrize("name", [n for n in DIFFUSIONS if get_system(n).noise_type == "diagonal"])
def test_diagonal_noise_is_diagonal_and_its_derivative_is_right(name):
    system = get_system(name)
    x = system.initial(4, seed=0, dtype=torch.float64) + 0.1
    t = torch.zeros((), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: system.diffusion(t, y), x)
    per_row = torch.stack([jacobian[i, :, i, :] for i in range(4)])
    expected = torch.diag_embed(system.diffusion_dx(t, x))
    torch.testing.assert_close(per_row, expected)


@every_diffusion
def test_drift_can_be_differentiated(name):
    system = get_system(name)
    x = system.initial(3, seed=0, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda y: system.drift(torch.zeros((), dtype=torch.float64), y), x)


@pytest.mark.parametrize("name", ["lorenz63", "lorenz96", "roessler", "hyper-roessler", "thomas", "halvorsen"])
def test_chaos_takes_noise_on_every_coordinate(name):
    quiet, noisy = get_system(name), get_system(name, volatility=0.5)
    t, x = torch.zeros(()), quiet.initial(3)
    assert (quiet.noise_type, quiet.noise_dim) == ("none", 0)
    assert (noisy.noise_type, noisy.noise_dim) == ("additive", noisy.dim)
    torch.testing.assert_close(noisy.drift(t, x), quiet.drift(t, x))
    assert torch.equal(noisy.diffusion(t, x), 0.5 * torch.eye(noisy.dim))
    assert not torch.equal(*(simulate_paths(s, s.times[:3], 4).values for s in (quiet, noisy)))


@pytest.mark.parametrize(
    ("name", "parameters", "error", "words"),
    [
        ("toggle", {}, ValueError, "there is no system 'toggle'; there are toggle-switch"),
        ("lorenz63", {"sigma": 1.0}, ValueError, "lorenz63 has no parameter sigma; it has volatility, prandtl"),
        ("lorenz63", {"prandtl": 0.0}, ValueError, "Lorenz63: prandtl must be positive; got 0.0"),
        ("lotka-volterra", {"volatility": -1.0}, ValueError, "volatility must not be negative; got -1.0"),
        ("lotka-volterra", {"growth": float("nan")}, ValueError, "growth must be finite; got nan"),
        ("lotka-volterra", {"growth": "fast"}, TypeError, "growth must be a number; got str"),
        ("toggle-switch", {"bias": 2.0}, ValueError, "bias must lie between -1 and 1; got 2.0"),
        ("double-well", {"volatility": 0.0}, ValueError, "volatility must be positive"),
        ("fitzhugh-nagumo", {"time_scale": -1.0}, ValueError, "time_scale must be positive"),
        ("repressilator", {"hill": 0}, ValueError, "hill must be positive"),
        ("geometric-brownian-motion", {"dim": 0}, ValueError, "dim must be at least 1; got 0"),
        ("geometric-brownian-motion", {"dim": 1.5}, TypeError, "dim must be an integer; got float"),
        ("geometric-brownian-motion", {"start": -1.0}, ValueError, "start must be positive"),
        ("ornstein-uhlenbeck", {"rate": [1.0, 2.0], "mean": [0.0] * 3}, ValueError, "must have length 2"),
        ("ornstein-uhlenbeck", {"rate": [[1.0, 2.0]]}, ValueError, "rate must be square"),
        ("ornstein-uhlenbeck", {"rate": float("inf")}, ValueError, "rate must be finite"),
        ("ornstein-uhlenbeck", {"rate": "quick"}, TypeError, "rate must be a number, a row of numbers"),
        ("ornstein-uhlenbeck", {"mean": []}, ValueError, "mean is empty"),
        ("ornstein-uhlenbeck", {"mean": [[0.0]]}, ValueError, "mean has 2 axes; give at most 1"),
        (
            "ornstein-uhlenbeck",
            {"start_deviation": -1.0},
            ValueError,
            "start_deviation must be one number >= 0",
        ),
        ("ornstein-uhlenbeck", {"dim": -1}, ValueError, "dim must be at least 1; got -1"),
        ("lorenz96", {"sites": 3}, ValueError, "sites must be at least 4; got 3"),
        ("logistic", {"growth": 4.5}, ValueError, "growth must lie between 0 and 4; got 4.5"),
        ("henon", {"shrink": 0}, ValueError, "shrink must not be 0"),
        ("double-ornstein-uhlenbeck", {"correlation": 2.0}, ValueError, "correlation must lie between -1 and 1"),
        ("brusselator", {"correlation": -2.0}, ValueError, "correlation must lie between -1 and 1"),
        ("rough-bergomi", {"correlation": 2.0}, ValueError, "correlation must lie between -1 and 1"),
        ("rough-bergomi", {"hurst": 1.0}, ValueError, "Hurst index must lie between 0 and 1"),
        ("fractional-brownian-motion", {"hurst": 0.0}, ValueError, "Hurst index must lie between 0 and 1"),
        ("fractional-brownian-motion", {"kind": "III"}, ValueError, "kind must be 'I' .* or 'II'"),
        ("fractional-ornstein-uhlenbeck", {"kind": "II"}, ValueError, "never stationary; give a start"),
        ("growing-toggle-switch", {"death": -1.0}, ValueError, "death must not be negative"),
        ("flashing-ratchet", {"switching": 0.0}, ValueError, "switching must be positive"),
        ("alanine-dipeptide", {"rate": 1.0}, ValueError, "alanine-dipeptide has no parameter rate; it has none"),
        ("merton-jump-diffusion", {"jump_rate": 0.0}, ValueError, "jump_rate must be positive"),
        ("sines", {"features": 0}, ValueError, "features must be at least 1"),
        ("two-state-folding", {"step": 0.0}, ValueError, "step must be positive"),
    ],
)
def test_bad_parameters_have_a_sentence(name, parameters, error, words):
    with pytest.raises(error, match=words):
        get_system(name, **parameters)


@every_system
@pytest.mark.parametrize(("n", "error", "words"), [(0, ValueError, "at least 1"), (2.5, TypeError, "integer")])
def test_bad_numbers_of_states_have_a_sentence(name, n, error, words):
    system = get_system(name)
    with pytest.raises(error, match=words):
        simulate_paths(system, n=n)
    if hasattr(system, "initial"):
        with pytest.raises(error, match=words):
            system.initial(n)
    if isinstance(system, ClosedFormSystem):
        with pytest.raises(error, match=words):
            system.paths(system.times, n)


def test_snapshots_hold_fresh_cells_at_each_time():
    system = replace(get_system("toggle-switch"), volatility=0.0)
    snapshots = simulate_snapshots(system, [0.0, 1.0, 1.5], n=[5, 4, 3], seed=0, step=0.1)
    assert snapshots.sizes == (5, 4, 3)
    assert snapshots.times.tolist() == [0.0, 1.0, 1.5]
    assert snapshots.names == ("gene 1", "gene 2")
    # Without noise a row at 1.0 would reappear, moved on, at 1.5 if the same cell were measured twice.
    moved = simulate_snapshots(system, [0.0, 1.5], n=[9, 3], seed=0, step=0.1)
    torch.testing.assert_close(moved.samples[1], snapshots.samples[2], rtol=1e-4, atol=1e-5)


def test_snapshots_may_begin_after_the_start():
    early = simulate_snapshots(get_system("lotka-volterra"), [1.0], n=50, seed=0)
    assert early.sizes == (50,)
    assert early.samples[0][:, 0].mean() < 4.0  # 2.72 in the linear-noise approximation; 5.05 at the start


@pytest.mark.parametrize(
    ("times", "n", "error", "words"),
    [
        ([0.0, 2.0, 2.0], 3, ValueError, "times must increase strictly; got 2 after 2 at position 2"),
        ([-1.0, 2.0], 3, ValueError, "times must not come before the start of the system at 0; got -1"),
        ([], 3, ValueError, "one row of at least one number"),
        ([[0.0, 1.0]], 3, ValueError, "one row of at least one number"),
        ([0.0, float("nan")], 3, ValueError, "times must be finite; got nan"),
        (["soon"], 3, TypeError, "times must be numbers"),
        ([0.0, 1.0], [3], ValueError, r"n must be one number or one a time \(2\); got 1"),
        ([0.0, 1.0], 0, ValueError, "n must be at least 1; got 0"),
        ([0.0, 1.0], "many", TypeError, "n must be an integer; got str"),
    ],
)
def test_bad_simulations_have_a_sentence(times, n, error, words):
    with pytest.raises(error, match=words):
        simulate_snapshots(get_system("lotka-volterra"), times, n=n)


def test_only_systems_are_simulated():
    with pytest.raises(TypeError, match=r"system must be one of gendyn\.systems; got str"):
        simulate_snapshots("lotka-volterra")


@pytest.mark.parametrize("name", ["sines", "flashing-ratchet", "rough-bergomi"])
def test_what_is_exact_takes_no_step(name):
    with pytest.raises(ValueError, match="is exact at any times and takes no step"):
        simulate_paths(get_system(name), n=2, step=0.1)


@pytest.mark.parametrize("name", ["flashing-ratchet", "opinion-dynamics", "henon", "sines"])
def test_snapshots_of_every_kind_show_other_rows_at_each_time(name):
    system = get_system(name)
    times = system.times[1:4]
    snapshots = simulate_snapshots(system, times, n=[5, 4, 3], seed=2)
    if isinstance(system, DiffusionSystem):
        return
    whole = [system.times[0], *times] if not isinstance(system, ClosedFormSystem) else times
    paths = simulate_paths(system, whole, n=12, seed=2)
    for k, rows in enumerate((slice(0, 5), slice(5, 9), slice(9, 12))):
        assert torch.equal(snapshots.samples[k], paths.values[rows, k - 3].float())


def test_a_simulated_ring_keeps_its_phase():
    # Steps of Euler or Milstein of the same length are off by 0.9 after ten lifetimes.
    ring = replace(get_system("repressilator"), volatility=1e-4)
    x = simulate_snapshots(ring, [10.0], n=4, dtype=torch.float64).samples[0]
    path = simulate_paths(ring, [0.0, 10.0], n=4, dtype=torch.float64).values
    still = ODE(ring.drift, dim=3)
    for start, end in ((path[:, 0], path[:, 1]), (ring.initial(4, derive_seed(0, "start"), dtype=torch.float64), x)):
        exact = sample(still, start, [0.0, 10.0], rtol=1e-10, atol=1e-10).values[:, -1]
        torch.testing.assert_close(end, exact, rtol=0, atol=0.01)
