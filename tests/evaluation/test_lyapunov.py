"""Lyapunov exponents against closed forms, known values, and each other."""

import math

import numpy as np
import pytest
import torch

from gendyn import Paths
from gendyn.evaluation import LyapunovSpectrum, kaplan_yorke_dimension, lyapunov_spectrum, rosenstein
from gendyn.sampling import ODE
from gendyn.systems import Lorenz63, OrnsteinUhlenbeck


def logistic(x):
    return 4 * x * (1 - x)


def henon(s):
    return torch.stack([1 - 1.4 * s[:, 0] ** 2 + s[:, 1], 0.3 * s[:, 0]], dim=1)


def starts(n, dim, low=0.0, high=0.1):
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(n, dim, generator=generator, dtype=torch.float64)


def series(f, x, n):
    values = [x]
    for _ in range(n - 1):
        values.append(f(values[-1]))
    return np.array(values)


def test_the_logistic_map_doubles():
    # 1e5 steps in all.
    spectrum = lyapunov_spectrum(logistic, starts(200, 1, 0.1, 0.4), 500)
    assert spectrum.exponents[0] == pytest.approx(math.log(2), abs=1e-3)
    assert abs(spectrum.exponents[0] - math.log(2)) < 4 * spectrum.errors[0]
    assert (spectrum.n_starts, spectrum.n_steps, spectrum.time_step) == (200, 500, 1.0)


@pytest.mark.slow
def test_one_long_trajectory_of_the_logistic_map():
    spectrum = lyapunov_spectrum(logistic, [0.3], 100_000, jacobian=lambda x: (4 - 8 * x)[:, :, None])
    assert spectrum.exponents[0] == pytest.approx(0.693147, abs=1e-3)


def test_henon():
    spectrum = lyapunov_spectrum(henon, starts(200, 2), 500, transient=200)
    assert spectrum.exponents[0] == pytest.approx(0.419, abs=0.004)
    assert sum(spectrum.exponents) == pytest.approx(math.log(0.3), abs=1e-9)
    assert spectrum.dimension == pytest.approx(1.258, abs=0.01)
    given_jacobian = lyapunov_spectrum(
        henon,
        starts(200, 2),
        500,
        transient=200,
        jacobian=lambda s: torch.stack(
            [
                torch.stack([-2.8 * s[:, 0], torch.ones(len(s)).to(s)], 1),
                torch.tensor([0.3, 0.0]).to(s).expand(len(s), 2),
            ],
            1,
        ),
    )
    assert given_jacobian.exponents == pytest.approx(spectrum.exponents, abs=1e-6)


def test_lorenz():
    start = Lorenz63().initial(64, dtype=torch.float64)
    spectrum = lyapunov_spectrum(Lorenz63(), start, 1000, step=0.01, transient=500)
    truth = (0.906, 0.0, -14.57)
    for value, error, exact in zip(spectrum.exponents, spectrum.errors, truth, strict=True):
        assert value == pytest.approx(exact, abs=4 * error + 0.003)
        assert error < 0.03
    # The scheme's own volumes shrink at the rate of the flow's up to its order.
    assert sum(spectrum.exponents) == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-3)
    assert spectrum.dimension == pytest.approx(2.06, abs=0.01)


@pytest.mark.parametrize("rates", [[0.5], [1.0, -2.0], [0.3, -0.7, -3.0, -6.0]])
def test_a_linear_flow_has_its_eigenvalues(rates):
    d = len(rates)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    matrix = torch.from_numpy(basis @ np.diag(rates) @ basis.T)
    flow = ODE(lambda t, x: x @ matrix.T, d)
    spectrum = lyapunov_spectrum(flow, torch.zeros(d, dtype=torch.float64), 100, step=0.05, transient=400)
    assert spectrum.exponents == pytest.approx(sorted(rates, reverse=True), abs=1e-3)
    leading = lyapunov_spectrum(flow, torch.zeros(d, dtype=torch.float64), 100, step=0.05, transient=400, n_exponents=1)
    assert leading.exponents[0] == pytest.approx(max(rates), abs=1e-6)


def test_the_leading_exponents_alone():
    start = starts(20, 2)
    whole, first = (lyapunov_spectrum(henon, start, 300, n_exponents=k) for k in (2, 1))
    assert first.exponents[0] == pytest.approx(whole.exponents[0], abs=0.01)
    assert len(first.exponents) == 1


def test_time_enters_a_driven_flow():
    # x' = -cos(t) x has exponent 0 over whole turns, and not that of its value at t = 0.
    driven = ODE(lambda t, x: -torch.cos(t) * x, 1)
    turn = 2 * math.pi / 50
    spectrum = lyapunov_spectrum(driven, torch.zeros(1, dtype=torch.float64), 100, step=turn, transient=0)
    assert spectrum.exponents[0] == pytest.approx(0.0, abs=1e-6)
    with_jacobian = lyapunov_spectrum(
        driven,
        torch.zeros(1, dtype=torch.float64),
        100,
        step=turn,
        transient=0,
        jacobian=lambda t, x: -torch.cos(t) * torch.ones(len(x), 1, 1, dtype=x.dtype),
    )
    assert with_jacobian.exponents[0] == pytest.approx(0.0, abs=1e-6)


def test_no_graph_is_left_by_a_network():
    network = torch.nn.Linear(2, 2).double()
    spectrum = lyapunov_spectrum(lambda x: network(x), torch.zeros(3, 2, dtype=torch.float64), 50, transient=10)
    moduli = np.sort(np.abs(np.linalg.eigvals(network.weight.detach().numpy())))[::-1]
    assert sum(spectrum.exponents) == pytest.approx(np.log(moduli).sum(), abs=1e-6)
    assert all(p.grad is None for p in network.parameters())


def test_kaplan_yorke():
    assert kaplan_yorke_dimension([0.906, 0.0, -14.57]) == pytest.approx(2.0622, abs=1e-4)
    assert kaplan_yorke_dimension([-1.0, -3.0]) == 0.0
    assert kaplan_yorke_dimension([0.2, 0.1]) == 2.0
    assert "0.9 ± 0.01" in repr(LyapunovSpectrum((0.9,), (0.01,), 1, 10, 1.0))


def test_equal_seeds_are_equal():
    one, two = (lyapunov_spectrum(henon, starts(3, 2), 50, seed=5) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lyapunov_spectrum(henon, [[1, 2]], 5), ValueError, "real states"),
        (
            lambda: lyapunov_spectrum(henon, starts(1, 2), 5, n_exponents=3),
            ValueError,
            "n_exponents must lie in 1 to 2",
        ),
        (lambda: lyapunov_spectrum(henon, starts(1, 2), 0), ValueError, "n_steps must be at least 1"),
        (lambda: lyapunov_spectrum(henon, starts(1, 2), 5, step=0.1), ValueError, "a map has steps of 1"),
        (lambda: lyapunov_spectrum(3.0, starts(1, 2), 5), TypeError, "system must be a map or a process; got float"),
        (lambda: lyapunov_spectrum(lambda x: x[:, :1], starts(1, 2), 5), ValueError, "must return states"),
        (lambda: lyapunov_spectrum(ODE(lambda t, x: -x, 2), starts(1, 2), 5), ValueError, "ODE needs a positive step"),
        (lambda: lyapunov_spectrum(OrnsteinUhlenbeck(), starts(1, 1), 5, step=0.1), ValueError, "flow without noise"),
        (
            lambda: lyapunov_spectrum(henon, starts(1, 2), 5, jacobian=lambda x: x),
            ValueError,
            r"jacobian must have shape \(1, 2, 2\)",
        ),
        (
            lambda: lyapunov_spectrum(torch.nn.Embedding(1, 2).double().weight.expand_as, starts(1, 2), 5),
            ValueError,
            "in a differentiable way",
        ),
        (lambda: lyapunov_spectrum(torch.zeros_like, starts(1, 2), 5), ValueError, "in a differentiable way"),
        (lambda: lyapunov_spectrum(henon, 10 + starts(2, 2), 50), FloatingPointError, "2 of 2 trajectories stopped"),
        (lambda: rosenstein(np.zeros((2, 50, 1)), window=(0, 5)), ValueError, "one complete trajectory"),
        (lambda: rosenstein(np.arange(50.0), window=(5, 5)), ValueError, "window must hold two times"),
        (lambda: rosenstein(np.arange(50.0), window=(0, 49)), ValueError, "too short for a window of 49 steps"),
        (lambda: rosenstein(np.arange(50.0), window=(0, 5), dimension=0), ValueError, "at least 1; got 0, 1"),
        (lambda: rosenstein(np.arange(50.0), window=(0, 5), dimension=9, delay=9), ValueError, "do not fit"),
        (lambda: rosenstein(np.full(90, 0.5), window=(0, 5), theiler=1), ValueError, "the series repeats itself"),
    ],
)
def test_sentences(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- from data ---------------------------------------------------------------------------------------------


def test_the_logistic_map_from_data():
    x = series(logistic, 0.3, 5000)
    curve = rosenstein(x, window=(0, 4))
    assert curve.exponent == pytest.approx(0.690, abs=0.01)
    assert curve.times.tolist() == [0, 1, 2, 3, 4]
    # The time step is the unit of the exponent.
    paths = Paths(0.5 * np.arange(5000), x[None, :, None])
    assert rosenstein(paths, window=(0, 2)).exponent == pytest.approx(2 * curve.exponent)


def test_lorenz_from_data_is_biased_low():
    from gendyn.sampling import sample

    start = torch.tensor([[1.0, 1.0, 20.0]], dtype=torch.float64)
    run = sample(Lorenz63(), start, torch.arange(5000) * 0.03, solver="rk4", step=0.015)
    curve = rosenstein(run.values[0, 500:, 0].numpy(), time_step=0.03, window=(0.5, 2.5), dimension=3, delay=3)
    assert 0.7 < curve.exponent < 0.95


def test_neighbours_are_nearest_outside_the_theiler_window():
    from gendyn.evaluation.lyapunov import _delay_vectors, _neighbours

    x = np.random.default_rng(0).normal(size=(300, 1)).cumsum(0)
    vectors = _delay_vectors(x, 3, 2)
    assert vectors[5].tolist() == [x[5, 0], x[7, 0], x[9, 0]]
    reference = np.arange(0, len(vectors), 7)
    found = _neighbours(vectors, reference, 20)
    distance = np.linalg.norm(vectors[reference][:, None] - vectors[None], axis=2)
    distance[np.abs(reference[:, None] - np.arange(len(vectors))) <= 20] = np.inf
    np.testing.assert_array_equal(found, distance.argmin(1))


def test_the_theiler_window_is_a_mean_period():
    x = np.sin(2 * np.pi * np.arange(5000) / 50) + 1e-3 * np.random.default_rng(0).normal(size=5000)
    assert rosenstein(x, window=(0, 5), dimension=2, delay=12).theiler == pytest.approx(50, abs=1)
