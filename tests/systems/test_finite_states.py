"""Flashing ratchet and molecular switches: laws, time scales, passages and entropy in known numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.stats import chisquare

from gendyn.sampling import RateMatrix, sample
from gendyn.sampling.jumps.rate_quantities import (
    entropy_production,
    mean_first_passage_times,
    relaxation_times,
    slowest_period,
)
from gendyn.systems import AlanineDipeptide, FlashingRatchet, IonChannel, simulate_paths

THREE = RateMatrix([[-1.5, 1.0, 0.5], [0.2, -0.5, 0.3], [0.4, 0.6, -1.0]])


@pytest.mark.parametrize(
    ("potential", "law"),
    [
        (1.0, (0.3011915, 0.1365417, 0.0622667, 0.2002979, 0.1591354, 0.1405667)),
        (3.0, (0.4474413, 0.0463331, 0.0062256, 0.2368603, 0.1365833, 0.1265564)),
        (0.0, (1 / 6,) * 6),
    ],
)
def test_stationary_law_of_the_ratchet(potential, law):
    np.testing.assert_allclose(FlashingRatchet(potential).stationary(), law, atol=1e-7)


def test_time_scales_of_the_ratchet():
    rates = 1 / relaxation_times(FlashingRatchet(1.0))
    np.testing.assert_allclose(rates, [2, 2.8600456, 3.5642895, 4.8772281, 6.2951019], atol=1e-7)
    np.testing.assert_allclose(1 / relaxation_times(FlashingRatchet(0.0)), [2, 3, 3, 5, 5], atol=1e-9)


@pytest.mark.parametrize(("potential", "rate"), [(0.0, 0.0), (1.0, 0.1791936), (2.0, 0.5656472), (3.0, 0.9927352)])
def test_entropy_production_of_the_ratchet(potential, rate):
    assert entropy_production(FlashingRatchet(potential)) == pytest.approx(rate, abs=1e-7)


@pytest.mark.parametrize(("potential", "mean"), [(1.0, 0.2073133), (2.0, 0.6884098), (3.0, 1.3227626)])
def test_entropy_production_on_the_way_from_the_uniform_law(potential, mean):
    ratchet = FlashingRatchet(potential)
    laws = torch.full((6,), 1 / 6, dtype=torch.float64) @ ratchet.transition(torch.linspace(0, 5, 100).double())
    assert np.mean([entropy_production(ratchet, law) for law in laws]) == pytest.approx(mean, abs=1e-7)


def test_first_passages_of_the_ratchet():
    to_zero = mean_first_passage_times(FlashingRatchet(1.0))[:, 0]
    np.testing.assert_allclose(to_zero, [0, 0.9714483, 0.7899131, 1.4403404, 1.6832024, 1.6378186], atol=1e-7)
    flat = mean_first_passage_times(FlashingRatchet(0.0))[:, 0]
    np.testing.assert_allclose(flat, [0, 1.6, 1.6, 1.8, 2.2, 2.2], atol=1e-9)


def test_transitions_and_jumps_of_the_ratchet():
    ratchet = FlashingRatchet(1.0)
    row = [0.5037184, 0.1239117, 0.0563096, 0.1842834, 0.0715282, 0.0602487]
    np.testing.assert_allclose(ratchet.transition(0.5)[0], row, atol=1e-7)
    assert (ratchet.stationary() @ ratchet.exit_rates).item() == pytest.approx(2.8733390, abs=1e-7)


def test_parameters_are_read_off_a_matrix():
    found = FlashingRatchet.parameters_of(FlashingRatchet(0.7, 1.3, 0.4))
    assert found == pytest.approx((0.7, 1.3, 0.4))
    with pytest.raises(ValueError, match="a flashing ratchet has 6 states; got 3"):
        FlashingRatchet.parameters_of(THREE)
    with pytest.raises(ValueError, match="every jump among states 0, 1, 2 needs a positive rate"):
        FlashingRatchet.parameters_of(RateMatrix(torch.zeros(6, 6)))


def test_paths_of_the_ratchet_have_its_law():
    ratchet = FlashingRatchet(1.0)
    paths = simulate_paths(ratchet, n=10_000, seed=0)
    assert paths.states == ratchet.states
    assert paths.values.dtype == torch.int64
    for k in (0, 99):
        counts = torch.bincount(paths.values[:, k, 0], minlength=6)
        assert chisquare(counts.numpy(), 10_000 * ratchet.stationary().numpy()).pvalue > 1e-3
    pairs = torch.zeros(6, 6).index_put_(
        (paths.values[:, 0, 0], paths.values[:, 20, 0]), torch.ones(10_000), accumulate=True
    )
    expected = 10_000 * ratchet.stationary()[:, None] * ratchet.transition(float(paths.times[20]))
    assert chisquare(pairs.reshape(-1).numpy(), expected.reshape(-1).numpy(), sum_check=False).pvalue > 1e-3


def test_a_three_state_process_in_known_numbers():
    np.testing.assert_allclose(THREE.stationary(), [0.1474654, 0.5990783, 0.2534562], atol=1e-7)
    np.testing.assert_allclose(1 / relaxation_times(THREE), [1.2171573, 1.7828427], atol=1e-7)
    assert entropy_production(THREE) == pytest.approx(0.0191654, abs=1e-7)
    times = [[0, 1.1538462, 2.7272727], [4.0625, 0, 3.0909091], [3.4375, 1.4615385, 0]]
    np.testing.assert_allclose(mean_first_passage_times(THREE), times, atol=1e-7)


def test_ways_that_do_not_lead_back():
    absorbing = RateMatrix([[-1.0, 0.5, 0.5], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    times = mean_first_passage_times(absorbing)
    # From 0 the process may end in 2 and never see 1; from 2 nothing is reached.
    assert times[0, 1] == times[2, 0] == times[2, 1] == np.inf
    assert times[1, 2].item() == pytest.approx(4.0)  # 1 to 0 in 1; from 0 in 2 with half the chance after 1
    assert entropy_production(absorbing, [0.5, 0.5, 0.0]) == np.inf
    assert entropy_production(absorbing, [0.0, 0.0, 1.0]) == 0.0
    with pytest.raises(ValueError, match="a law must be 3 probabilities that sum to 1"):
        entropy_production(THREE, [0.5, 0.6, -0.1])
    assert len(relaxation_times(RateMatrix([[0.0]]))) == 0


def test_alanine_dipeptide_in_known_numbers():
    molecule = AlanineDipeptide()
    law = [0.2982, 0.3123, 0.2323, 0.0966, 0.0528, 0.0077]
    np.testing.assert_allclose(molecule.stationary(), law, atol=5e-5)
    np.testing.assert_allclose(relaxation_times(molecule), [0.6910, 0.0679, 0.0387, 0.0088, 0.0088], atol=5e-5)


def test_ion_channel_is_near_what_was_published():
    channel = IonChannel()
    np.testing.assert_allclose(channel.stationary(), [0.180, 0.150, 0.671], atol=0.004)
    times = [[0, 0.068, 0.054], [0.133, 0, 0.033], [0.181, 0.092, 0]]
    np.testing.assert_allclose(mean_first_passage_times(channel), times, atol=0.004)


def test_every_solver_of_jumps_takes_a_system():
    ratchet = FlashingRatchet(2.0)
    x0 = torch.zeros(4000, 1)
    expected = 4000 * expm(0.8 * ratchet.matrix().numpy())[0]
    for solver in ("skeleton", "direct_method", "uniformisation", "thinning"):
        end = sample(ratchet, x0, [0.0, 0.8], solver=solver, seed=1).values[:, 1, 0]
        assert chisquare(torch.bincount(end, minlength=6).numpy(), expected).pvalue > 1e-3


def test_entropy_of_pairs_that_jump_both_ways_is_finite():
    mixed = RateMatrix([[-3.0, 2.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    law = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert entropy_production(mixed, law) == np.inf
    # Only 0 and 1 jump both ways: flows 1 and 1/4.
    expected = (1 - 0.25) * np.log(1 / 0.25)
    assert entropy_production(mixed, law, two_way=True) == pytest.approx(expected)
    assert entropy_production(THREE, two_way=True) == pytest.approx(entropy_production(THREE))


def test_driven_cycles_decay_in_turns():
    forth, back, size = 2.0, 0.5, 5
    ring = torch.zeros(size, size, dtype=torch.float64)
    for k in range(size):
        ring[k, (k + 1) % size], ring[k, k - 1] = forth, back
    angle = 2 * np.pi / size
    # Eigenvalues of a ring: forth (w - 1) + back (1/w - 1) at roots of one w.
    period = 2 * np.pi / ((forth - back) * np.sin(angle))
    assert slowest_period(RateMatrix(ring - torch.diag(ring.sum(1)))) == pytest.approx(period)
    assert slowest_period(THREE) == np.inf
    assert slowest_period(RateMatrix(1e-9 * (ring - torch.diag(ring.sum(1))))) == pytest.approx(1e9 * period)
