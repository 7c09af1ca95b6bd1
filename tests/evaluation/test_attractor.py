"""The state-space divergence against counts by hand, closed forms, and the Lorenz system."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn import Paths
from gendyn.evaluation import free_run, state_space_divergence, state_space_divergence_value
from gendyn.sampling import ODE
from gendyn.systems import Lorenz63

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def lorenz():
    """Return an independent clean and a noisy run, standardised, as (test, train)."""
    folder = os.environ.get("GENDYN_DATA")
    if not folder:
        pytest.skip("GENDYN_DATA is not set; it holds the folder of lorenz63_dsr.npz of the GTF-shPLRNN repository")
    files = sorted(Path(folder).rglob("lorenz63_dsr.npz"))
    if not files:
        pytest.skip("lorenz63_dsr.npz (of the GTF-shPLRNN repository) is not in $GENDYN_DATA")
    with np.load(files[0]) as data:
        return data["test_clean"], data["train_noise05"]


def by_hand(x, y, bins, smoothing):
    """Return the divergence with every cell allocated."""
    margin = 0.1 * x.std(0)
    low, high = x.min(0) - margin, x.max(0) + margin
    edges = [np.linspace(a, b, bins + 1) for a, b in zip(low, high, strict=True)]
    p, q = (np.histogramdd(z, edges)[0].ravel() + smoothing for z in (x, y))
    p, q = p / p.sum(), q / q.sum()
    return (p * np.log(p / q)).sum()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_sparse_cells_are_all_cells(dim):
    x, y = RNG.normal(size=(400, dim)), RNG.normal(0.3, 1.2, size=(300, dim))
    for bins, smoothing in ((7, 1e-5), (12, 0.5)):
        value = state_space_divergence_value(x, y, bins=bins, smoothing=smoothing)
        assert value == pytest.approx(by_hand(x, y, bins, smoothing), rel=1e-9)


def test_many_cells_are_never_allocated():
    x = RNG.normal(size=(100, 5))
    # 3000^5 cells would take 2e18 bytes.
    assert state_space_divergence_value(x, x[::-1], bins=3000) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="30 bins in 13 dimensions make more cells than there are integers"):
        state_space_divergence_value(RNG.normal(size=(9, 13)), RNG.normal(size=(9, 13)), form="bins")


@given(st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_it_is_a_divergence_and_blind_to_order_and_scale(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(200, 2)), rng.normal(size=(150, 2))
    value = state_space_divergence_value(x, y)
    assert value > 0
    assert state_space_divergence_value(x, x) == pytest.approx(0.0, abs=1e-12)
    assert state_space_divergence_value(rng.permutation(x), rng.permutation(y)) == pytest.approx(value, rel=1e-9)
    shift, size = np.array([3.0, -1.0]), np.array([100.0, 0.01])
    assert state_space_divergence_value(x * size + shift, y * size + shift) == pytest.approx(value, rel=1e-6)


def test_more_of_a_foreign_law_is_farther():
    x, y, foreign = RNG.normal(size=(5000, 2)), RNG.normal(size=(5000, 2)), RNG.normal(2.0, 1.0, size=(5000, 2))
    values = [
        state_space_divergence_value(x, np.concatenate([y[: 5000 - k], foreign[:k]]), bins=10)
        for k in (0, 500, 1250, 2500)
    ]
    assert values == sorted(values)


def test_outside_the_box_nothing_is_left():
    x = RNG.normal(size=(500, 2))
    result = state_space_divergence(x, x + 100.0)
    assert (result.value, result.low, result.high) == (np.inf, None, None)
    assert result.extra["outside"] == 1.0
    assert state_space_divergence(x, np.concatenate([x, x + 100.0])).extra["outside"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("variance", [0.3, 1.0])
def test_the_mixture_form_between_single_points_is_that_of_gaussians(variance):
    # Two mixtures of one component each, at 0 and at a: KL = |a|^2 / 2 s^2.
    a = np.full((1, 8), 0.4)
    value = state_space_divergence_value(
        np.array([[0.0], [1e-9]]) + np.zeros((2, 8)),
        np.repeat(a, 2, 0),
        form="mixture",
        variance=variance,
        scale=None,
        samples=20_000,
    )
    truth = 8 * 0.4**2 / (2 * variance)
    assert value == pytest.approx(truth, abs=4 * np.sqrt(2 * truth / 20_000))


def test_the_mixture_form_does_not_underflow():
    x = RNG.normal(size=(50, 6))
    assert state_space_divergence_value(x, x + 200.0, scale=None) > 6 * 200**2 / 2 * 0.9


def test_six_dimensions_take_the_mixture_by_default():
    x, y = RNG.normal(size=(3000, 6)), RNG.normal(size=(3000, 6))
    result = state_space_divergence(x, y, n_bootstrap=4, samples=200)
    assert result.extra["form"] == "mixture"
    assert result.extra["floor_size"] == 1500
    assert result.low < result.value < result.high
    again = state_space_divergence(x, y, n_bootstrap=4, samples=200)
    assert (again.value, again.floor, again.low) == (result.value, result.floor, result.low)


def test_constant_channels_are_left_out_on_every_side():
    x, y, z = (np.column_stack([RNG.normal(size=(300, 2)), np.full(300, 4.0)]) for _ in range(3))
    with pytest.warns(UserWarning, match="D_stsp leaves out channel 'x2'"):
        result = state_space_divergence(x, y, reference=z, n_bootstrap=2)
    assert result.value == pytest.approx(state_space_divergence_value(x[:, :2], y[:, :2]))
    assert result.floor == pytest.approx(state_space_divergence_value(x[:, :2], z[:, :2]))


def test_lorenz_runs_have_the_reference_values(lorenz):
    clean, noisy = lorenz
    result = state_space_divergence(clean, noisy, n_bootstrap=0)
    assert result.value == pytest.approx(0.119, abs=0.001)
    assert result.floor == pytest.approx(0.231, abs=0.001)
    gaussian = np.random.default_rng(0).multivariate_normal(clean.mean(0), np.cov(clean.T), len(clean))
    assert state_space_divergence_value(clean, gaussian) == pytest.approx(2.28, abs=0.03)
    assert state_space_divergence_value(clean, np.tile(clean[:2000], (50, 1))) == pytest.approx(8.55, abs=0.01)
    assert state_space_divergence_value(clean, np.tile(clean[500], (len(clean), 1))) == pytest.approx(16.4, abs=0.1)


def test_the_mixture_form_is_nearly_blind_at_unit_variance(lorenz):
    clean, _ = lorenz
    gaussian = np.random.default_rng(0).multivariate_normal(clean.mean(0), np.cov(clean.T), len(clean))
    wide = state_space_divergence_value(clean, gaussian, form="mixture")
    narrow = state_space_divergence_value(clean, gaussian, form="mixture", variance=0.01)
    assert wide < 0.1
    assert narrow == pytest.approx(1.48, abs=0.15)


@pytest.mark.slow
def test_independent_runs_of_lorenz_are_a_tenth_apart_on_one_scale():
    from gendyn.sampling import sample

    start = Lorenz63().initial(60, dtype=torch.float64)
    pieces = sample(Lorenz63(), start, torch.arange(6000) * 0.01, step=0.01).values[:, 1000:].numpy()
    runs = pieces.reshape(3, -1, 3)  # twenty pieces of the invariant measure, 100,000 points, each
    pairs = [(0, 1), (1, 2), (2, 0)]
    values = [state_space_divergence_value(runs[i], runs[j]) for i, j in pairs]
    assert 0.02 < np.mean(values) < 0.15
    # A thin attractor is moved out of its cells by statistics of its own.
    standard = [(x - x.mean(0)) / x.std(0) for x in runs]
    assert np.mean([state_space_divergence_value(standard[i], standard[j]) for i, j in pairs]) > np.mean(values)


@pytest.mark.slow
def test_the_interval_is_as_wide_as_independent_runs_differ():
    from gendyn.sampling import sample

    start = Lorenz63().initial(40, dtype=torch.float64)
    runs = sample(Lorenz63(), start, torch.arange(21_000) * 0.01, step=0.01).values[:, 1000:].numpy()
    values = [state_space_divergence_value(runs[2 * i], runs[2 * i + 1]) for i in range(20)]
    results = [state_space_divergence(runs[2 * i], runs[2 * i + 1], n_bootstrap=20) for i in range(5)]
    spread = np.mean([(r.high - r.low) / (2 * 1.96) for r in results])
    assert spread == pytest.approx(np.std(values, ddof=1), rel=0.5)


def test_a_free_run_starts_at_the_first_state_and_drops_its_transient():
    decay = ODE(lambda t, x: torch.ones_like(x), dim=1)
    real = Paths(5.0 + 0.1 * np.arange(40), np.array([[[1.0]], [[2.0]]]) + np.zeros((2, 40, 1)))
    run = free_run(decay, real, step=0.1)
    assert run.times.tolist() == real.times.tolist()
    # Ten times are dropped: a fifth of fifty.
    np.testing.assert_allclose(run.values[:, 0, 0], [2.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(run.values[0, :, 0].numpy(), 2.0 + 0.1 * np.arange(40), rtol=1e-5)


def test_a_free_run_of_the_truth_is_near_the_floor():
    from gendyn.sampling import sample

    start = Lorenz63().initial(50, dtype=torch.float64)
    real = sample(Lorenz63(), start, torch.arange(500) * 0.05, step=0.025)
    real = Paths(real.times[100:] - real.times[100], real.values[:, 100:])
    run = free_run(Lorenz63(), real, step=0.025)
    assert run.values.shape == real.values.shape
    result = state_space_divergence(real, run, bins=12, n_bootstrap=0)
    assert result.value < result.floor
    still = state_space_divergence_value(real, np.broadcast_to(real.values[:1, :1], real.values.shape).copy(), bins=12)
    assert still > 10 * result.floor


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: state_space_divergence(x, x, form="knn"), "form must be 'auto', 'bins' or 'mixture'; got 'knn'"),
        (lambda x: state_space_divergence(x, x, bins=1), "bins and samples must be at least 2"),
        (lambda x: state_space_divergence(x, x, smoothing=0.0), "smoothing and variance must be positive"),
        (lambda x: state_space_divergence(x * 0, x), "all real channels"),
        (lambda x: free_run(ODE(lambda t, z: z, 2), Paths([0, 1, 3], np.zeros((1, 3, 2)))), "evenly spaced"),
        (
            lambda x: free_run(
                ODE(lambda t, z: z, 1), Paths([0, 1, 2], np.zeros((1, 3, 1)), mask=np.array([[0, 1, 1]], dtype=bool))
            ),
            "starts from the first real state, which was not observed",
        ),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(RNG.normal(size=(30, 2)))
