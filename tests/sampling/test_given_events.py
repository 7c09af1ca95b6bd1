"""Paths that are moved at given times, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.sampling import ODE, SDE, sample_with_events
from gendyn.sde import StableField, StableProcess

INF = math.inf


def decay():
    return ODE(lambda t, x: -x, dim=1)


def falling(t, start, events, dose):
    """``exp(-t)`` of the start and of every dose so far."""
    return start * math.exp(-t) + sum(dose * math.exp(-(t - s)) for s in events if s <= t)


def test_doses_decay_as_they_should_of_each_path_by_its_own_clock():
    times = torch.tensor([[0.0, 0.5, 1.0, 2.0, 3.0], [0.0, 0.1, 0.7, 0.7, 0.7], [1.0, 1.5, 2.0, 4.0, 9.0]])
    events = torch.tensor([[0.5, 0.6, 2.5], [0.05, 8.0, INF], [INF, INF, INF]], dtype=torch.float64)
    x0 = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    seen = []

    def dose(x, event):
        seen.append((event.number, event.time[:, 0].tolist(), event.there.tolist()))
        return x + 0.3

    paths = sample_with_events(decay(), x0, times, events, dose, solver="rk4", step=0.02)
    for row, (t, own, start) in enumerate(
        zip(times.double().tolist(), events.tolist(), x0[:, 0].tolist(), strict=True)
    ):
        told = [falling(s - t[0], start, [e - t[0] for e in own], 0.3) for s in t]
        assert paths.values[row, :, 0].tolist() == pytest.approx(told, abs=1e-7)
    assert torch.equal(paths.values[:, 0], x0)
    assert [number for number, _, _ in seen] == [0, 1, 2]
    assert [there for _, _, there in seen] == [[True, True, False], [True, False, False], [True, False, False]]
    assert seen[0][1] == pytest.approx([0.5, 0.05, 9.0])


def test_shared_times_and_events_and_none_at_all():
    times = torch.linspace(0, 2, 5, dtype=torch.float64)
    x0 = torch.ones(3, 1, dtype=torch.float64)
    run = {"step": 0.01, "solver": "rk4"}
    paths = sample_with_events(decay(), x0, times, [0.5, 2.0], lambda x, event: x + event.number, **run)
    told = [math.exp(-t) + (1.0 if t >= 2 else 0.0) for t in times.tolist()]
    assert paths.values[1, :, 0].tolist() == pytest.approx(told, abs=1e-8)
    assert torch.equal(paths.times, times)
    nothing = torch.empty(0, dtype=torch.float64)
    alone = sample_with_events(decay(), x0, times, nothing, lambda x, event: x, **run)
    assert torch.allclose(alone.values, gd.sample(decay(), x0, times, **run).values, atol=1e-12)


def test_moments_of_noisy_paths_are_those_of_the_closed_form():
    # Ornstein-Uhlenbeck, doubled at t = 1: mean and variance go on from 2 m and 4 v.
    x0 = torch.ones(20000, 1, dtype=torch.float64)
    run = {"step": 0.02, "solver": "shark", "seed": 1}
    process = SDE(
        lambda t, x: -2 * x, lambda t, x: torch.full((1, 1), 0.5, dtype=torch.float64), dim=1, noise_type="additive"
    )
    paths = sample_with_events(process, x0, [0.0, 1.5], [1.0], lambda x, event: 2 * x, **run)
    mean = 2 * math.exp(-2) * math.exp(-1)
    var = 4 * 0.0625 * (1 - math.exp(-4)) * math.exp(-2) + 0.0625 * (1 - math.exp(-2))
    end = paths.values[:, -1, 0]
    assert float(end.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / 20000))
    assert float(end.var()) == pytest.approx(var, abs=4 * var * math.sqrt(2 / 20000))
    again = sample_with_events(process, x0[:50], [0.0, 1.5], [1.0], lambda x, event: 2 * x, **run)
    assert torch.equal(again.values, paths.values[:50])


def test_gradients_flow_through_jumps():
    dose = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x0 = torch.ones(2, 1, dtype=torch.float64)
    paths = sample_with_events(
        decay(), x0, [0.0, 2.0], [[0.5, 1.0], [1.5, INF]], lambda x, event: x + dose, step=0.01, solver="rk4",
        gradient="backprop",
    )  # fmt: skip
    told = (math.exp(-1.5) + math.exp(-1.0), math.exp(-0.5))
    for row, slope in enumerate(told):
        (found,) = torch.autograd.grad(paths.values[row, -1, 0], dose, retain_graph=True)
        assert float(found) == pytest.approx(slope, abs=1e-8)


def test_latent_paths_of_series_can_be_moved():
    field = StableField(2, hidden=3).double()
    times = torch.linspace(0, 1, 9, dtype=torch.float64)
    controls = torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    process = StableProcess(field, times, controls)
    x0 = torch.zeros(4, 3, dtype=torch.float64)
    paths = sample_with_events(process, x0, times, [0.5], lambda z, event: z + 1, substeps=1, seed=3)
    plain = sample_with_events(process, x0, times, [0.5], lambda z, event: z, substeps=1, seed=3)
    assert torch.equal(paths.values[:, :4], plain.values[:, :4])
    assert torch.allclose(paths.values[:, 4], plain.values[:, 4] + 1, atol=1e-12)
    # From there it is the same process, from another state.
    assert not torch.allclose(paths.values[:, 5:], plain.values[:, 5:] + 1, atol=1e-3)


@pytest.mark.parametrize(
    ("times", "events", "jump", "message"),
    [
        ([0.0, 1.0], [0.0], lambda x, e: x, "path 0 begins at 0 and has an event at 0"),
        ([0.0, 1.0], [0.5, 0.5], lambda x, e: x, "path 0 has 0.5 after 0.5"),
        ([0.0, 1.0], [[0.5]], lambda x, e: x, r"events must have shape \(E,\) or \(2, E\); got \(1, 1\)"),
        ([0.0, 1.0], [float("nan")], lambda x, e: x, "event at nan"),
        ([0.0, 1.0], [0.5], lambda x, e: x[:1], r"must return states of shape \(2, 1\); got \(1, 1\)"),
        ([0.0, 1.0], [0.5], lambda x, e: 3.0, "got float"),
        ([0.0], [0.5], lambda x, e: x, "T at least 2"),
    ],
)
def test_what_does_not_fit_has_a_sentence(times, events, jump, message):
    with pytest.raises(ValueError, match=message):
        sample_with_events(decay(), torch.ones(2, 1), times, events, jump, step=0.1)


def test_states_that_are_not_finite_after_an_event_are_told():
    with pytest.raises(FloatingPointError, match="not finite after event 0"):
        sample_with_events(decay(), torch.ones(2, 1), [0.0, 1.0], [0.5], lambda x, e: x / 0, step=0.1)
