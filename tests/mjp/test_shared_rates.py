"""Rates that may be one: the recursion against all partitions written out, closed forms, limits and symmetries."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp
from scipy.stats import gamma
from torch.overrides import TorchFunctionMode

import gendyn
from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel, shared_rates
from gendyn.mjp.shared_rates import _CONCENTRATIONS, _DISTINCT, _SCALES, _SHAPES, SharedRates
from gendyn.sampling.jumps import RateMatrix

Partition = list[list[int]]


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def contiguous(n: int) -> Iterator[Partition]:
    for cuts in range(2 ** (n - 1)):
        groups: Partition = [[0]]
        for k in range(1, n):
            if cuts >> (k - 1) & 1:
                groups.append([k])
            else:
                groups[-1].append(k)
        yield groups


def every(n: int) -> Iterator[Partition]:
    if n == 0:
        yield []
        return
    for smaller in every(n - 1):
        for k in range(len(smaller)):
            yield [[*group, n - 1] if k == i else group for i, group in enumerate(smaller)]
        yield [*smaller, [n - 1]]


def written_out(jumps: list[float], times: list[float], partitions: list[Partition]) -> tuple[np.ndarray, ...]:
    """Return the probability to be alone, and what shared rates and their squares add to the mean, by enumeration."""
    count, spent, n = np.array(jumps), np.array(times), len(jumps)
    usual = count.sum() / spent.sum()
    logs, alone, first, second = [], [], [], []
    grid = [(a, a / usual * s) for a in _SHAPES for s in _SCALES]

    def evidence(groups: Partition, a: float, b: float) -> float:
        return sum(
            a * math.log(b)
            - gammaln(a)
            + gammaln(a + count[g].sum())
            - (a + count[g].sum()) * math.log(b + spent[g].sum())
            for g in groups
        )

    def add(log_weight: float, groups: Partition, a: float, b: float) -> None:
        rows = np.zeros((3, n))
        for g in groups:
            if len(g) == 1:
                rows[0, g] = 1.0
            else:
                middle = (a + count[g].sum()) / (b + spent[g].sum())
                rows[1, g], rows[2, g] = middle, middle * (a + count[g].sum() + 1) / (b + spent[g].sum())
        logs.append(log_weight)
        for store, row in zip((alone, first, second), rows, strict=True):
            store.append(row)

    for a, b in grid:
        add(math.log(_DISTINCT / len(grid)) + evidence([[k] for k in range(n)], a, b), [[k] for k in range(n)], a, b)
        for theta in _CONCENTRATIONS.tolist():
            prior = math.log((1 - _DISTINCT) / len(grid) / len(_CONCENTRATIONS))
            for groups in partitions:
                ewens = gammaln(theta) - gammaln(theta + n) + sum(math.log(theta) + gammaln(len(g)) for g in groups)
                add(prior + ewens + evidence(groups, a, b), groups, a, b)
    weights = np.exp(np.array(logs) - logsumexp(logs))
    return tuple(weights @ np.array(store) for store in (alone, first, second))


@pytest.mark.parametrize(
    ("jumps", "times"),
    [
        ([3.0, 8.0, 9.0, 40.0], [4.0, 8.0, 7.0, 6.0]),
        ([0.0, 2.5, 31.0, 29.0, 400.0], [3.0, 5.0, 30.0, 25.0, 90.0]),
        ([0.2, 0.1], [1.0, 0.3]),
    ],
)
def test_the_recursion_is_the_sum_over_all_groups_of_neighbours(jumps, times):
    shared = SharedRates.of(doubles(*jumps), doubles(*times))
    alone, first, second = written_out(jumps, times, list(contiguous(len(jumps))))
    np.testing.assert_allclose(shared.alone, alone, rtol=1e-9)
    together = 1 - shared.alone
    np.testing.assert_allclose(together * shared.mean, first, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(together * shared.mean**2 * (1 + 1 / shared.shape), second, rtol=1e-9, atol=1e-12)


def test_groups_of_links_that_are_no_neighbours_hardly_matter():
    jumps, times = [30.0, 29.0, 42.0, 160.0, 150.0], [30.0, 28.0, 38.0, 40.0, 35.0]
    shared = SharedRates.of(doubles(*jumps), doubles(*times))
    alone, first, _ = written_out(jumps, times, list(every(5)))
    np.testing.assert_allclose(shared.mean, first / (1 - alone), rtol=0.02)
    np.testing.assert_allclose(shared.alone, alone, atol=0.1)


def test_two_links_of_one_rate_have_all_jumps_over_all_time():
    shared = SharedRates.of(doubles(9000.0, 4510.0), doubles(3000.0, 1500.0))
    np.testing.assert_allclose(shared.mean, 13510 / 4500, rtol=1e-3)
    assert bool((shared.alone < 0.2).all())
    # The law is nearly that of a Gamma law of all jumps.
    np.testing.assert_allclose(shared.shape, 13510, rtol=1e-2)
    low, high = shared.interval(shared.mean, shared.mean, 0.9)
    only = 1 - shared.alone
    for bound, p in ((low, 0.05), (high, 0.95)):
        np.testing.assert_allclose(
            bound,
            shared.alone * shared.mean
            + only * torch.from_numpy(gamma.ppf(p, shared.shape.numpy(), scale=(shared.mean / shared.shape).numpy())),
        )


def test_links_that_differ_for_sure_are_alone():
    shared = SharedRates.of(doubles(1e4, 2e4, 4e4), doubles(1e4, 1e4, 1e4))
    assert bool((shared.alone > 1 - 1e-9).all())
    rates = doubles(1.0, 2.0, 4.0)
    torch.testing.assert_close(shared.average(rates), rates)


def test_many_links_of_one_rate_are_as_sharp_as_one_link_of_all_jumps():
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(20):
        jumps = torch.from_numpy(rng.poisson(50.0, 20).astype(float))
        shared = SharedRates.of(jumps, torch.full((20,), 50.0, dtype=torch.float64))
        errors.append(float((shared.average(jumps / 50) - 1).square().mean()))
    # Poisson counts have 1 / 50 a link; all together 1 / 1000.
    assert math.sqrt(np.mean(errors)) < 0.3 * math.sqrt(1 / 50)


def test_links_without_time_or_jumps_are_alone():
    nothing = SharedRates.of(doubles(0.0, 0.0), doubles(0.0, 0.0))
    assert nothing.alone.tolist() == [1.0, 1.0]
    assert SharedRates.of(doubles(5.0), doubles(2.0)).alone.tolist() == [1.0]
    assert SharedRates.of(doubles(0.0, 0.0), doubles(2.0, 3.0)).alone.tolist() == [1.0, 1.0]
    some = SharedRates.of(doubles(5.0, 0.0, 6.0), doubles(2.0, 0.0, 2.0))
    assert some.alone[1] == 1.0
    assert some.alone[0] < 1.0
    low, high = some.interval(doubles(0.1, 0.0, 0.1), doubles(9.0, math.inf, 9.0), 0.9)
    assert high[1] == math.inf
    assert bool(torch.isfinite(low).all())


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e4, allow_subnormal=True), st.floats(0, 1e4, allow_subnormal=True)),
        min_size=1,
        max_size=7,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_was_counted_gives_a_law(counts, random):
    jumps, times = (torch.tensor(v, dtype=torch.float64) for v in zip(*counts, strict=True))
    shared = SharedRates.of(jumps, times)
    for value in (shared.alone, shared.mean, shared.shape):
        assert bool(torch.isfinite(value).all())
    assert bool(((shared.alone >= 0) & (shared.alone <= 1)).all())
    assert bool((shared.mean >= 0).all())
    assert bool((shared.shape > 0).all())


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_order_of_links_and_the_unit_of_time_carry_over(unit):
    rng = np.random.default_rng(3)
    jumps = torch.from_numpy(rng.gamma(2.0, 10.0, 12))
    jumps[3] = jumps[4]
    times = torch.from_numpy(rng.gamma(2.0, 5.0, 12))
    times[3] = times[4]
    order = torch.from_numpy(rng.permutation(12))
    one, moved, slow = (
        SharedRates.of(*v) for v in ((jumps, times), (jumps[order], times[order]), (jumps, times * unit))
    )
    for name in ("alone", "mean", "shape"):
        torch.testing.assert_close(getattr(moved, name), getattr(one, name)[order], rtol=1e-9, atol=0.0)
    torch.testing.assert_close(slow.alone, one.alone, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(slow.mean * unit, one.mean, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(slow.shape, one.shape, rtol=1e-8, atol=0.0)


def test_what_the_likelihood_found_counts_as_it_is_known():
    likely = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 1e-6], [4.0, 3.0, 0.0]], dtype=torch.float64)
    errors = torch.tensor([[math.inf, 0.1, math.inf], [0.01, math.inf, 5.0], [math.inf, 0.2, math.inf]])
    jumps = torch.tensor([[0.0, 150.0, 0.0], [80.0, 0.0, 1e-4], [30.0, 40.0, 0.0]], dtype=torch.float64)
    dwell = doubles(75.0, 80.0, 12.0)
    shared = SharedRates.of_likelihood(likely, errors.double(), jumps, dwell)
    # 1 / .1^2 jumps; no more than there were; as many as there were in all of the time; nothing; 1 / .2^2.
    direct = SharedRates.of(doubles(100.0, 80.0, 1e-4, 0.0, 25.0), doubles(50.0, 80.0, 80.0, 0.0, 25 / 3))
    links = likely > 0
    for name in ("alone", "mean", "shape"):
        torch.testing.assert_close(getattr(shared, name)[links], getattr(direct, name))
    assert bool((shared.alone[~links] == 1).all())


class Largest(TorchFunctionMode):
    """Numbers of the largest tensor that is made."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numbers = max(self.numbers, found.untyped_storage().nbytes() // 8)
        return found


def test_sums_over_groups_are_made_in_parts_of_which_none_is_large(monkeypatch):
    rng = np.random.default_rng(2)
    jumps = torch.from_numpy(rng.poisson(rng.choice([5.0, 40.0, 60.0], 24)).astype(float))
    times = torch.full((24,), 10.0, dtype=torch.float64)
    whole = SharedRates.of(jumps, times)
    monkeypatch.setattr(shared_rates, "_ENTRIES", 600)
    with Largest() as largest:
        parts = SharedRates.of(jumps, times)
    for name in ("alone", "mean", "shape"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-12)
    # Matrices over pairs of places come one at a time, but for the three moments.
    assert largest.numbers <= 3 * 25**2


def ring(size: int, n: int, seed: int, slower: float = 1.0) -> tuple[RateMatrix, Paths]:
    rates = torch.roll(torch.eye(size, dtype=torch.float64), 1, 1)
    rates[0] *= slower
    process = RateMatrix(rates - torch.diag(rates.sum(1)))
    start = torch.arange(n)[:, None] % size
    return process, gendyn.sample(process, start, np.arange(0.0, 10.0, 0.2), seed=seed)


def test_a_ring_of_one_rate_is_known_from_all_of_its_jumps():
    better, worse = [], []
    for seed in range(4):
        process, paths = ring(5, 60, seed)
        found = MarkovJumpModel().fit(paths, progress=False)
        single = MarkovJumpModel(shared_rates=False).fit(paths, progress=False)
        better.append(float((found.rate_matrix_ - process.matrix()).square().mean().sqrt()))
        worse.append(float((single.rate_matrix_ - process.matrix()).square().mean().sqrt()))
        low, high = found.interval()
        off = ~torch.eye(5, dtype=torch.bool)
        assert bool((low[off] <= found.rate_matrix_[off] + 1e-12).all())
        assert bool((found.rate_matrix_[off] <= high[off] + 1e-12).all())
    assert np.mean(better) < 0.6 * np.mean(worse)


def test_a_link_that_is_slower_than_its_ring_keeps_its_rate():
    process, paths = ring(5, 400, 0, slower=0.5)
    found = MarkovJumpModel().fit(paths, progress=False)
    assert found.rate_matrix_[0, 1].item() == pytest.approx(0.5, rel=0.15)
    assert float((found.rate_matrix_ - process.matrix()).abs().max()) < 0.08


def test_structural_zeros_and_files_keep_what_is_shared(tmp_path):
    _, paths = ring(4, 80, 1)
    allowed = torch.roll(torch.eye(4, dtype=torch.bool), 1, 1) | torch.roll(torch.eye(4, dtype=torch.bool), -1, 1)
    model = MarkovJumpModel(noise=0.0, allowed=allowed).fit(paths, progress=False)
    assert bool((model.rate_matrix_[~allowed & ~torch.eye(4, dtype=torch.bool)] == 0).all())
    model.save(tmp_path / "ring.safetensors")
    again = MarkovJumpModel.load(tmp_path / "ring.safetensors")
    assert again.shared_rates == "average"
    for one, two in zip(model.interval(0.8), again.interval(0.8), strict=True):
        torch.testing.assert_close(one, two, equal_nan=True)


def test_the_likelihood_and_the_network_alone_share_nothing():
    _, paths = ring(4, 80, 2)
    for method in ("em", "zero-shot"):
        one = MarkovJumpModel(method).fit(paths, progress=False)
        two = MarkovJumpModel(method, shared_rates=False).fit(paths, progress=False)
        assert torch.equal(one.rate_matrix_, two.rate_matrix_)
    with pytest.raises(ValueError, match="shared_rates must be 'average' or False; got 'some'"):
        MarkovJumpModel(shared_rates="some").fit(paths, progress=False)
