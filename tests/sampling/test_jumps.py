"""Jump processes: closed forms, agreement of the exact methods, reproducibility, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gendyn.sampling.jumps import JUMP_SOLVERS, JumpPaths, RateMatrix, ReactionNetwork, run_jumps, sample_events
from gendyn.sampling.jumps.counts import binomial_quantile, poisson_quantile
from gendyn.sampling.jumps.direct_method import direct_method
from gendyn.sampling.jumps.segments import gather_events
from gendyn.sampling.jumps.thinning import thinning
from gendyn.sampling.jumps.uniformisation import uniformisation
from gendyn.sampling.jumps.uniforms import UniformStream

N = 20_000
EXACT = ("skeleton", "direct_method", "uniformisation", "thinning")
EVENTS = ("direct_method", "uniformisation", "thinning")


def six_states():
    rates = torch.rand(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1.9
    rates.fill_diagonal_(0.0)
    rates[2, 4] = 0.0
    return RateMatrix(rates - torch.diag(rates.sum(1)), states=list("abcdef"))


SWITCH = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
SIX = six_states()
BIRTH_DEATH = ReactionNetwork(
    [[1], [-1]], lambda t, x: torch.cat([x, 1.5 * x], dim=1), names=["cells"], bound=lambda x: 2.5 * x[:, 0]
)
IMMIGRATION_DEATH = ReactionNetwork([[1], [-1]], lambda t, x: torch.cat([torch.full_like(x, 10.0), x], dim=1))
ARRIVALS = ReactionNetwork([[1]], lambda t, x: 2 * (1 + torch.sin(t)), bound=4.0, autonomous=False)
ZEROS = torch.zeros(N, 1)


def within(values, mean, variance, sigmas=4.5):
    values = values.double().flatten()
    assert abs(float(values.mean()) - mean) < sigmas * math.sqrt(variance / len(values))


# --- closed forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
def test_two_states(solver):
    values, info = run_jumps(SWITCH, ZEROS, [0.0, 0.5, 1.0, 2.0], solver=solver, key=11)
    assert info["solver"] == solver
    assert values.dtype == torch.int64
    for k, p in ((1, 0.474090), (2, 0.648499), (3, 0.736263)):
        within(values[:, k], p, p * (1 - p))


def test_the_matrix_knows_its_laws():
    p = SWITCH.transition(torch.tensor([0.5, 1.0, 2.0]))[:, 0, 1]
    np.testing.assert_allclose(p.numpy(), [0.474090, 0.648499, 0.736263], atol=5e-7)
    law = SIX.stationary()
    np.testing.assert_allclose((law @ SIX.matrix()).numpy(), 0.0, atol=1e-12)
    np.testing.assert_allclose(SIX.transition(50.0)[3].numpy(), law.numpy(), atol=1e-10)
    np.testing.assert_allclose(SIX.exit_rates.numpy(), -SIX.matrix().diagonal().numpy())
    assert SIX.n_states == 6


@pytest.mark.parametrize("solver", ["direct_method", "thinning"])
def test_linear_birth_and_death(solver):
    values, _ = run_jumps(BIRTH_DEATH, torch.full((N, 1), 20), [0.0, 1.0], solver=solver, key=1)
    end = values[:, 1].double()
    within(end, 12.130613, 23.865122)
    assert float(end.var()) == pytest.approx(23.865122, rel=0.05)
    assert int(end.min()) >= 0


def test_immigration_and_death_is_poisson():
    values, _ = run_jumps(IMMIGRATION_DEATH, ZEROS, [0.0, 1.0], key=2)
    counts = np.bincount(values[:, 1, 0].clamp(max=14).numpy(), minlength=15)
    expected = N * stats.poisson(6.321206).pmf(np.arange(15))
    expected[14] = N - expected[:14].sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_arrivals_at_a_changing_rate():
    values, info = run_jumps(ARRIVALS, ZEROS, [0.0, 5.0, 10.0], key=3)
    assert info["solver"] == "thinning"
    for k, t in ((1, 5.0), (2, 10.0)):
        mean = 2 * (t + 1 - math.cos(t))
        within(values[:, k], mean, mean)
        assert float(values[:, k].double().var()) == pytest.approx(mean, rel=0.05)
    assert 2 * (11 - math.cos(10)) == pytest.approx(23.678143, abs=1e-6)


def test_a_rate_matrix_that_changes():
    ring = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    process = RateMatrix(lambda t: ring * (1 + torch.cos(t)), bound=2.0)
    values, info = run_jumps(process, ZEROS, [0.0, 0.7, 2.0], key=4)
    assert info["solver"] == "thinning"
    for k, t in ((1, 0.7), (2, 2.0)):
        p = (1 - math.exp(-2 * (t + math.sin(t)))) / 2
        within(values[:, k], p, p * (1 - p))


def test_waiting_times_are_exponential():
    paths = sample_events(RateMatrix([[-0.7, 0.7], [0.0, 0.0]]), torch.zeros(4000), end=100.0, seed=5)
    assert paths.counts.tolist() == [1] * 4000  # the second state is never left
    assert stats.kstest(paths.event_times[:, 0].numpy(), "expon", args=(0, 1 / 0.7)).pvalue > 1e-3


@pytest.mark.parametrize(("step", "mean"), [(0.1, 6.5132), (0.01, 6.3397)])
def test_the_bias_of_tau_leaping(step, mean):
    paths = N if step == 0.1 else N // 4
    values, info = run_jumps(
        IMMIGRATION_DEATH, torch.zeros(paths, 1), [0.0, 1.0], solver="tau_leaping", step=step, key=6
    )
    assert info["n_steps"] == round(1 / step)
    within(values[:, 1], mean, mean)


def test_tau_leaping_chooses_its_steps():
    few, _ = run_jumps(IMMIGRATION_DEATH, torch.zeros(5000, 1), [0.0, 1.0], solver="tau_leaping", key=7)
    assert float(few[:, 1].double().mean()) == pytest.approx(6.3212, rel=0.05)
    death = ReactionNetwork([[-1]], lambda t, x: x)
    many, info = run_jumps(death, torch.full((500, 1), 1_000_000), [0.0, 0.4, 1.0], solver="tau_leaping", key=8)
    # Steps of length 0.03 / 3 in the relative change: an Euler step is off by half of that, times t.
    assert info["n_steps"] < 120
    assert float(many[:, 2].double().mean()) == pytest.approx(1e6 * math.exp(-1), rel=0.006)


def test_scarce_molecules_react_one_at_a_time():
    # With few molecules every reaction is critical, and the law exact.
    values, _ = run_jumps(IMMIGRATION_DEATH, ZEROS, [0.0, 1.0], solver="tau_leaping", key=12)
    counts = np.bincount(values[:, 1, 0].clamp(max=14).numpy(), minlength=15)
    expected = N * np.append(stats.poisson(6.321206).pmf(np.arange(14)), stats.poisson(6.321206).sf(13))
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    values, _ = run_jumps(BIRTH_DEATH, torch.full((N, 1), 20), [0.0, 1.0], solver="tau_leaping", key=13)
    within(values[:, 1], 12.130613, 23.865122)
    assert float(values[:, 1].double().var()) == pytest.approx(23.865122, rel=0.05)


def test_a_critical_reaction_within_leaps():
    # A gene of one copy goes on at rate 1 for good, while a hundred thousand others flip to and fro: these leap.
    network = ReactionNetwork(
        [[-1, 1, 0, 0], [1, -1, 0, 0], [0, 0, -1, 1]],
        lambda t, x: torch.stack([x[:, 0], 3 * x[:, 1], x[:, 2]], dim=1),
    )
    x0 = torch.tensor([[50_000, 50_000, 1, 0]]).expand(2000, 4)
    values, info = run_jumps(network, x0, [0.0, 0.4, 1.0], solver="tau_leaping", key=14)
    assert info["n_steps"] < 400  # of two hundred thousand reactions
    for k, t in ((1, 0.4), (2, 1.0)):
        p = 1 - math.exp(-t)
        within(values[:, k, 3], p, p * (1 - p))
        share = 0.75 - 0.25 * math.exp(-4 * t)
        assert float(values[:, k, 0].double().mean()) == pytest.approx(1e5 * share, rel=0.003)
    assert torch.equal(values[:, :, 2] + values[:, :, 3], torch.ones(2000, 3, dtype=torch.int64))


def test_leaps_down_to_the_last_molecule():
    death = ReactionNetwork([[-1]], lambda t, x: x)
    values, info = run_jumps(death, torch.full((300, 1), 20_000), [0.0, 6.0, 40.0], solver="tau_leaping", key=15)
    # An Euler step in the leaps down to a thousand molecules, exact from there on.
    bias = math.exp(math.log(20) / 0.01 * (math.log1p(-0.01) + 0.01))
    within(values[:, 1], 20_000 * math.exp(-6.0) * bias, 20_000 * math.exp(-6.0))
    assert not bool(values[:, 2].any())
    assert info["n_steps"] < 2000


def test_leaps_never_fall_below_zero():
    pairs = ReactionNetwork(
        [[-2, 0, 1], [-1, -1, 1], [0, 0, -1]],
        lambda t, x: torch.stack([x[:, 0] * (x[:, 0] - 1), x[:, 0] * x[:, 1], x[:, 2]], dim=1),
    )
    x0 = torch.tensor([[30, 5, 0]]).expand(500, 3)
    values, _ = run_jumps(pairs, x0, np.linspace(0, 3, 5), solver="tau_leaping", step=0.5, key=9)
    assert int(values.min()) == 0
    chosen, _ = run_jumps(pairs, x0, np.linspace(0, 3, 5), solver="tau_leaping", key=9)
    exact, _ = run_jumps(pairs, x0, np.linspace(0, 3, 5), key=9)
    torch.testing.assert_close(chosen.double().mean(0), exact.double().mean(0), rtol=0.1, atol=0.5)


# --- the exact methods agree -------------------------------------------------------------------------------


def test_exact_methods_agree():
    tables = []
    for key, solver in enumerate(EXACT):
        values, _ = run_jumps(SIX, ZEROS, [0.0, 0.1, 0.4], solver=solver, key=20 + key)
        tables.append(np.bincount((6 * values[:, 1] + values[:, 2]).flatten().numpy(), minlength=36))
        p = (SIX.transition(0.1)[0][:, None] * SIX.transition(0.3)).flatten().numpy()
        assert stats.chisquare(tables[-1], N * p).pvalue > 1e-3
    assert stats.chi2_contingency(np.stack(tables)).pvalue > 1e-3


def test_numbers_of_events_agree():
    counts = [sample_events(SIX, torch.full((N,), 2), 3.0, solver=s, seed=30 + i).counts for i, s in enumerate(EVENTS)]
    top = int(max(c.max() for c in counts))
    table = np.stack([np.bincount(c.numpy(), minlength=top + 1) for c in counts])
    common = table.sum(0) > 60
    assert stats.chi2_contingency(table[:, common]).pvalue > 1e-3


def test_impossible_jumps_do_not_happen():
    paths = sample_events(SIX, torch.full((2000,), 2), 5.0, seed=1)
    before, after = paths.event_states[:, :-1, 0], paths.event_states[:, 1:, 0]
    happened = torch.isfinite(paths.event_times)
    assert int(((before == 2) & happened).sum()) > 1000
    assert not bool((happened & (before == 2) & (after == 4)).any())
    assert not bool((happened & (before == after)).any())


@pytest.mark.parametrize("mean", [0.0, 1e-6, 0.3, 4.0, 57.0, 3e4])
def test_quantiles_are_those_of_scipy(mean):
    u = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u[:3] = torch.tensor([0.0, 2.0**-53, 1 - 1e-9], dtype=torch.float64)
    inner = u.clamp(2.0**-54)
    counts = poisson_quantile(u, torch.full_like(u, mean))
    np.testing.assert_array_equal(counts.numpy(), stats.poisson(mean).ppf(inner.numpy()).clip(0))
    for trials in (0, 1, 7, 40_000):
        p = min(1.0, mean / max(trials, 1))
        drawn = binomial_quantile(u, torch.full_like(u, trials), torch.full_like(u, p))
        np.testing.assert_array_equal(drawn.numpy(), stats.binom(trials, p).ppf(inner.numpy()).clip(0))


# --- one seed, one path ------------------------------------------------------------------------------------

CASES = [
    (SIX, "skeleton", None),
    (SIX, "direct_method", None),
    (SIX, "uniformisation", None),
    (SIX, "thinning", None),
    (BIRTH_DEATH, "direct_method", None),
    (BIRTH_DEATH, "thinning", None),
    (BIRTH_DEATH, "tau_leaping", 0.05),
    (BIRTH_DEATH, "tau_leaping", None),
    (ARRIVALS, "thinning", None),
]


@pytest.mark.parametrize(("process", "solver", "step"), CASES)
def test_neither_batch_nor_chunk_shows(process, solver, step):
    x0 = torch.arange(600)[:, None] % 6 * (1 if process is SIX else 7)
    times = np.linspace(0.0, 2.0, 41)
    common = {"solver": solver, "step": step, "key": 2}
    state = torch.random.get_rng_state()
    whole, info = run_jumps(process, x0, times, **common)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(whole[:, 0], x0)
    done = []
    parts, same = run_jumps(process, x0, times, **common, chunk_rows=200, advance=done.append)
    assert torch.equal(parts, whole)
    assert same == info
    assert done == [256, 256, 88]
    for small in (1, 77, 300):
        assert torch.equal(run_jumps(process, x0[:small], times, **common)[0], whole[:small])
    later, _ = run_jumps(process, x0[256:], times, **common, first_row=256)
    assert torch.equal(later, whole[256:])
    other, _ = run_jumps(process, x0, times, **{**common, "key": 3})
    assert not torch.equal(other, whole)


@pytest.mark.parametrize(("process", "solver", "step"), [case for case in CASES if case[1] in EVENTS])
def test_the_grid_and_the_record_agree(process, solver, step):
    x0 = torch.arange(300)[:, None] % 6
    times = np.linspace(1.0, 14.0, 53)
    values, info = run_jumps(process, x0, times, solver=solver, key=2)
    paths = sample_events(process, x0, 14.0, start=1.0, solver=solver, seed=2)
    assert int(paths.counts.max()) > 32 or process is BIRTH_DEATH  # more than one segment
    assert torch.equal(paths.at(times).values, values)
    assert paths.n_events == info["n_events"]
    own = torch.from_numpy(np.sort(np.random.default_rng(0).uniform(1, 14, (300, 9))))
    own[:, 0] = 1.0
    own[:, -1] = 14.0
    assert torch.equal(run_jumps(process, x0, own, solver=solver, key=2)[0], paths.at(own).values)


@pytest.mark.parametrize("solver", EVENTS)
def test_long_paths_are_looked_up_in_pieces(solver):
    fast = RateMatrix([[-300.0, 300.0], [300.0, -300.0]])
    times = np.linspace(0.0, 8.0, 97)
    values, info = run_jumps(fast, torch.zeros(500, 1), times, solver=solver, key=2)
    paths = sample_events(fast, torch.zeros(500, 1), 8.0, solver=solver, seed=2)
    assert info["n_events"] == paths.n_events > 1_100_000
    assert torch.equal(paths.at(times).values, values)


def test_a_longer_run_begins_like_a_shorter_one():
    times = np.linspace(0, 5, 30)
    for solver in EVENTS:
        short, long = (sample_events(SIX, torch.zeros(300), end, seed=4, solver=solver) for end in (5.0, 20.0))
        assert torch.equal(short.at(times).values, long.at(times).values)


def test_uniform_numbers_belong_to_their_rows():
    stream, part = UniformStream(1, 700, 2), UniformStream(1, 700, 2)
    rows = torch.tensor([5, 300, 699])
    for _ in range(2):
        assert torch.equal(stream.draw(torch.arange(700))[:, rows], part.draw(rows))


class Fixed:
    """Uniform numbers that are all the same."""

    def __init__(self, value):
        self.value = value

    def draw(self, rows):
        return torch.full((32, len(rows), 2), self.value, dtype=torch.float64)


@pytest.mark.parametrize("method", [direct_method, thinning, uniformisation])
def test_the_smallest_and_the_largest_number(method):
    # From 0 one comes to 1, from 1 to 2, and there it ends; other rates are zero, first and last.
    chain = RateMatrix([[-1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, -1.0]])
    start, x0 = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.int64)
    for value in (0.0, 1.0 - 2.0**-52):
        times, states, counts = gather_events([next(method(chain, x0, start, 100.0, Fixed(value)))], x0)
        assert states[0, : counts[0] + 1, 0].tolist() == [0, 1, 2]
        assert bool((times[0, :2] > 0).all())
        assert counts.tolist() == [2, 2]


def test_own_starts():
    times = torch.tensor([[0.0, 1.0], [5.0, 6.0]], dtype=torch.float64).repeat(4000, 1)
    values, info = run_jumps(SWITCH, torch.zeros(8000, 1), times, key=1)
    assert info["solver"] == "direct_method"
    for part in (values[::2], values[1::2]):
        within(part[:, 1], 0.648499, 0.648499 * 0.351501)


# --- containers --------------------------------------------------------------------------------------------


def test_paths_carry_names():
    paths = sample_events(SIX, torch.zeros(5), 2.0)
    assert repr(paths).startswith("JumpPaths(5 paths, ")
    assert repr(paths).endswith("from 0 to 2, 6 states)")
    assert paths.at([0.0, 1.0]).states == tuple("abcdef")
    assert sample_events(BIRTH_DEATH, [20], 1.0).at([0.5]).names == ("cells",)
    assert paths.info["solver"] == "direct_method"
    assert len(paths) == 5


def test_states_are_continuous_from_the_right():
    paths = JumpPaths([[1.0, 2.0], [math.inf, math.inf]], [[[0], [1], [2]], [[7], [7], [7]]], [2, 0], end=3.0)
    assert paths.at([0.0, 1.0 - 1e-12, 1.0, 2.0, 3.0]).values[..., 0].tolist() == [[0, 0, 1, 2, 2], [7] * 5]
    still = sample_events(RateMatrix([[0.0]]), torch.zeros(3), 2.0)
    assert still.event_times.shape == (3, 0)
    assert still.at([0.0, 2.0]).values.flatten().tolist() == [0] * 6


@pytest.mark.parametrize(
    ("times", "states", "counts", "more", "message"),
    [
        ([1.0], [[[0], [1]]], [1], {}, "event_times must have shape"),
        ([[1.0]], [[[0]]], [1], {}, "one more state than events"),
        ([[1.0]], [[[0], [0.5]]], [1], {}, "event_states must hold whole numbers"),
        ([[1.0]], [[[0], [1]]], [1, 1], {}, "counts must have shape"),
        ([[1.0]], [[[0], [1]]], [2], {}, "counts must lie in 0 to 1"),
        ([[1.0]], [[[0], [1]]], [0], {}, "infinite after"),
        ([[2.0, 1.0]], [[[0], [1], [2]]], [2], {}, "increase along a row; got 1 after 2"),
        ([[2.0]], [[[0], [1]]], [1], {"end": 1.0}, "must lie in 0 to 1; got 2"),
        ([[2.0]], [[[0], [1]]], [1], {"end": -1.0}, "end must come after start"),
    ],
)
def test_records_that_do_not_fit(times, states, counts, more, message):
    with pytest.raises(ValueError, match=message):
        JumpPaths(times, states, counts, **more)


def test_only_where_the_path_is_known():
    paths = sample_events(SWITCH, torch.zeros(3), 2.0)
    with pytest.raises(ValueError, match="where the paths are known; got 0 to 3"):
        paths.at([0.0, 3.0])


# --- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RateMatrix([[-1.0, 1.0]]), ValueError, r"must have shape \(K, K\)"),
        (lambda: RateMatrix([[1.0, -1.0], [1.0, -1.0]]), ValueError, "got -1 from state 0 to state 1"),
        (lambda: RateMatrix([[-1.0, 1.0], [1.0, -1.1]]), ValueError, "row 1 of the rate matrix sums to -0.1"),
        (lambda: RateMatrix([[-1.0, math.nan], [1.0, -1.0]]), ValueError, "rates must be finite"),
        (lambda: RateMatrix([[-1.0, 1.0], [1.0, -1.0]], bound=2.0), ValueError, "leave out bound"),
        (lambda: RateMatrix([[-1.0, 1.0], [1.0, -1.0]], ["a"]), ValueError, "names"),
        (lambda: RateMatrix(lambda t: t), ValueError, "need bound="),
        (lambda: RateMatrix(lambda t: t, bound=-1.0), ValueError, "bound must be a positive number"),
        (lambda: RateMatrix(lambda t: 1.0, bound=1.0), TypeError, "must return a tensor"),
        (lambda: RateMatrix(lambda t: torch.zeros(2, 3), bound=1.0), ValueError, r"\(B, K, K\)"),
        (lambda: RateMatrix("ab"), TypeError, "rates must be an array"),
        (lambda: RateMatrix(torch.zeros(2, 2)).stationary(), ValueError, "several stationary laws"),
        (lambda: SWITCH.transition(-1.0), ValueError, "not negative"),
        (lambda: ReactionNetwork([1], lambda t, x: x), ValueError, r"shape \(R, d\)"),
        (lambda: ReactionNetwork([[0.5]], lambda t, x: x), ValueError, "whole numbers; got fractions"),
        (lambda: ReactionNetwork([[1]], 3.0), TypeError, "must be a function"),
        (lambda: ReactionNetwork([[1]], lambda t, x: x, bound=0.0), ValueError, "bound must be"),
    ],
)
def test_processes_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


def network(propensities, **more):
    return ReactionNetwork([[1], [-1]], propensities, **more)


ONE = torch.ones(3, 1)


@pytest.mark.parametrize(
    ("process", "x0", "times", "more", "error", "message"),
    [
        (object(), ONE, [0, 1], {}, TypeError, "a jump process needs dim, autonomous, rates, jump"),
        (SWITCH, torch.ones(3, 2), [0, 1], {}, ValueError, r"x0 must have shape \(B, 1\)"),
        (SWITCH, ONE * 0.5, [0, 1], {}, ValueError, "whole numbers; got .0.5. in row 0"),
        (SWITCH, ONE * 2, [0, 1], {}, ValueError, "must lie in 0 to 1, the states; got 2 to 2"),
        (BIRTH_DEATH, -ONE, [0, 1], {}, ValueError, "must not be negative, as it counts; got -1"),
        (BIRTH_DEATH, ONE * math.nan, [0, 1], {}, ValueError, "x0 must be finite"),
        (SWITCH, ONE, [0.0], {}, ValueError, "T at least 2"),
        (SWITCH, ONE, [0, math.nan], {}, ValueError, "times must be finite"),
        (SWITCH, ONE, [0, 1, 1], {}, ValueError, "increase strictly; got 1 after 1 at position 2"),
        (SWITCH, ONE, [[0, 1]], {}, ValueError, "one row for each of 3 paths; got 1"),
        (SWITCH, ONE, [[0, 1], [0, 1], [1, 0]], {}, ValueError, "must increase"),
        (SWITCH, ONE, [0, 1], {"solver": "rk4"}, ValueError, "must be one of auto, direct_method"),
        (SWITCH, ONE, [0, 1], {"step": 0.1}, ValueError, "step belongs to solver 'tau_leaping'"),
        (SWITCH, ONE, [0, 1], {"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1"),
        (SWITCH, ONE, [0, 1], {"first_row": 3}, ValueError, "multiple of 256"),
        (SWITCH, ONE, [0, 1], {"solver": "tau_leaping"}, ValueError, "tau-leaping is for a ReactionNetwork"),
        (BIRTH_DEATH, ONE, [0, 1], {"solver": "tau_leaping", "step": 0.0}, ValueError, "step must be positive"),
        (ARRIVALS, ONE, [0, 1], {"solver": "tau_leaping"}, ValueError, "rates that depend on time give step="),
        (
            network(lambda t, x: torch.cat([0 * x, 9 + 0 * x], 1)),
            ONE, [0, 9], {"solver": "tau_leaping"}, ValueError, "led to the state .-1. by time",
        ),
        (BIRTH_DEATH, ONE, [0, 1], {"solver": "skeleton"}, ValueError, "constant RateMatrix"),
        (BIRTH_DEATH, ONE, [0, 1], {"solver": "uniformisation"}, ValueError, "constant RateMatrix"),
        (SWITCH, ONE, [[0, 1]] * 3, {"solver": "skeleton"}, ValueError, "shared by all paths"),
        (ARRIVALS, ONE, [0, 1], {"solver": "direct_method"}, ValueError, "use solver='thinning' and a bound"),
        (network(lambda t, x: x), ONE, [0, 1], {}, ValueError, r"must have shape \(3, 2\)"),
        (network(lambda t, x: 1.0), ONE, [0, 1], {}, TypeError, "must be a tensor; got float"),
        (network(lambda t, x: torch.cat([x, -x], 1)), ONE, [0, 1], {}, ValueError, "got -1 for jump 1 in state .1."),
        (network(lambda t, x: torch.cat([x, x / 0], 1)), ONE, [0, 1], {}, ValueError, "got inf for jump 1"),
        (network(lambda t, x: torch.cat([x, x + 9], 1)), ONE, [0, 9], {}, ValueError, "led to the state .-1. by time"),
        (network(lambda t, x: torch.cat([x * 0, 9 + 0 * x], 1)), ONE, [0, 9], {}, ValueError, "never negative"),
        (network(lambda t, x: torch.cat([x, x], 1)), ONE, [0, 1], {"solver": "thinning"}, ValueError, "needs a bound"),
        (
            ReactionNetwork([[1]], lambda t, x: 5 + t, bound=5.5, autonomous=False),
            ONE, [0, 9], {}, ValueError, "exceeds its bound 5.5; thinning would be wrong",
        ),
        (
            RateMatrix(lambda t: t * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), bound=2.0),
            ONE, [0, 9], {}, ValueError, "exceeds its bound 2",
        ),
        (
            RateMatrix(lambda t: t * torch.tensor([[-1.0, 1.0], [1.0, 0.0]]), bound=9.0),
            ONE, [0, 9], {}, ValueError, "row 1 of the rate matrix sums to",
        ),
    ],
)  # fmt: skip
def test_sentences(process, x0, times, more, error, message):
    with pytest.raises(error, match=message):
        run_jumps(process, x0, times, key=0, **more)


def test_events_need_a_method_that_has_them():
    with pytest.raises(ValueError, match="'tau_leaping' keeps no events"):
        sample_events(BIRTH_DEATH, ONE, 1.0, solver="tau_leaping")
    with pytest.raises(ValueError, match="end must be a time after start; got 0 after 1"):
        sample_events(BIRTH_DEATH, ONE, 0.0, start=1.0)
    assert set(EVENTS) < set(JUMP_SOLVERS)
