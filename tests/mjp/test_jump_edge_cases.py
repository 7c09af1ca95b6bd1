"""Every error and edge case that a jump process may meet: what is said, and what comes out."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import gendyn
from gendyn.data import Paths
from gendyn.mjp import HiddenLikelihood, LabelNoise, MarkovJumpModel, NotEmbeddable, PanelLikelihood, StateObservations
from gendyn.sampling.jumps import RateMatrix, sample_events

ONE = [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]]
RING = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
TRAP = RateMatrix([[-1.0, 0.7, 0.3], [0.5, -1.0, 0.5], [0.0, 0.0, 0.0]])


def table(*rows: tuple[int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["id", "time", "state"])


def after(time: float, state: float) -> pd.DataFrame:
    return table((0, 0.0, 0), (0, time, state))


def paths(*labels: list[float], times: list[float] | None = None) -> Paths:
    return Paths(times or [float(k) for k in range(len(labels[0]))], torch.tensor(labels))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        pytest.param(lambda: paths([0, 1, -2]), {}, "got -2 at time 2 of path 0", id="negative"),
        pytest.param(lambda: paths([0, 1, 1], [0, 4, 1]), {}, "got 4 at time 1 of path 1", id="too large"),
        pytest.param(lambda: paths([0.0, 1.0, 0.5]), {}, "got 0.5 at time 2 of path 0", id="not whole"),
        pytest.param(lambda: [([0.0, 1.0, 0.5], [0, 1, 0])], {}, "got 0.5 after 1 at position 2", id="time falls"),
        pytest.param(lambda: paths([0, 1, 1], times=[0.0, 2.0, 1.0]), {}, "times", id="times of paths fall"),
        pytest.param(lambda: after(1.0, math.nan), {}, "finite state; got nan in row 1", id="a state is NaN"),
        pytest.param(lambda: after(math.nan, 1), {}, "finite time; got nan in row 1", id="a time is NaN"),
        pytest.param(lambda: after(math.inf, 1), {}, "finite time; got inf in row 1", id="a time is infinite"),
        pytest.param(lambda: paths([0.0, math.inf]), {}, "finite|whole", id="a state is infinite"),
        pytest.param(
            lambda: [([0.0, math.nan], [0, 1])],
            {},
            "times must be finite; got nan at position 1 of path 0",
            id="a listed time is NaN",
        ),
        pytest.param(lambda: table((0, 0.0, 0), (0, 1.0, 0), (0, 1.0, 1)), {}, "two states at time 1", id="twice"),
        pytest.param(lambda: table((0, 0.0, 0), (1, 1.0, 0)), {}, "no path has two looks", id="single looks"),
        pytest.param(
            lambda: paths(*[[0, 2]] * 7, [0, 1]),
            {"method": "em", "noise": 0.0, "allowed": [[0, 1, 0], [1, 0, 0], [1, 0, 0]]},
            "7 transitions from state 0 to 2 were seen",
            id="forbidden",
        ),
        pytest.param(lambda: paths([0, 1]), {"allowed": [[1]]}, r"allowed must have shape \(3, 3\)", id="mask"),
    ],
)
def test_what_cannot_be_fitted_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MarkovJumpModel(**{"n_states": 3, **options}).fit(data(), progress=False)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[-1.0, 1.0], [-0.5, 0.5]], "must not be negative; got -0.5 from state 1 to state 0"),
        ([[-1.0, 2.0], [0.5, -0.5]], "row 0"),
        ([[-1.0, 1.0]], "shape"),
        ([[-math.inf, math.inf], [0.5, -0.5]], "finite"),
    ],
)
def test_what_is_no_rate_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        RateMatrix(matrix)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_rows_of_a_rate_matrix_sum_to_zero_within_rounding_in_any_unit(scale):
    matrix = torch.tensor(ONE, dtype=torch.float64) * scale
    RateMatrix(matrix + 1e-10 * scale)
    with pytest.raises(ValueError, match="row"):
        RateMatrix(matrix + 1e-3 * scale * torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_repeated_looks_are_counted_once(method):
    rows = [(0, 0.0, 0), (0, 1.0, 1), (0, 2.0, 1), (1, 0.0, 1), (1, 1.5, 0)]
    once = MarkovJumpModel(method, n_states=3).fit(table(*rows), progress=False)
    with pytest.warns(UserWarning, match="2 looks repeat another"):
        twice = MarkovJumpModel(method, n_states=3).fit(table(*rows, rows[1], rows[4]), progress=False)
    assert torch.equal(once.rate_matrix_, twice.rate_matrix_)


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 3e7])
def test_a_path_without_a_jump_gives_rates_of_its_length_and_wide_intervals(method, unit):
    still = Paths(unit * torch.arange(10.0, dtype=torch.float64), torch.zeros(1, 10, dtype=torch.int64))
    model = MarkovJumpModel(method, n_states=3).fit(still, progress=False)
    low, high = model.interval()
    off = ~torch.eye(3, dtype=torch.bool)
    assert bool(torch.isfinite(model.rate_matrix_).all())
    assert bool((model.rate_matrix_[off] >= 0).all())
    # Less than a jump in the time that was seen, and room for more.
    assert float(model.rate_matrix_[0, 1:].sum()) * 9 * unit < 1.5
    assert bool((high[0, 1:] * 9 * unit > 1.0).all())
    assert bool((low[off] <= model.rate_matrix_[off]).all())
    assert not bool(model.identifiable_.any())
    if method != "em":
        assert bool((model.rate_matrix_[off] > 0).all())


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_states_that_were_never_seen_keep_their_rows_and_are_flagged(method):
    process = RateMatrix([[-1.0, 1.0], [2.0, -2.0]])
    seen = gendyn.sample(process, torch.zeros(100, 1, dtype=torch.int64), np.linspace(0, 5, 40), seed=0)
    model = MarkovJumpModel(method, n_states=4).fit(Paths(seen.times, seen.values), progress=False)
    assert model.rate_matrix_.shape == (4, 4)
    assert model.identifiable_.tolist() == [True, True, False, False]
    assert bool(torch.isfinite(model.rate_matrix_).all())
    # What is not known does not spoil what is.
    assert model.rate_matrix_[0, 1].item() == pytest.approx(1.0, rel=0.25)
    assert model.rate_matrix_[1, 0].item() == pytest.approx(2.0, rel=0.25)
    if method == "em":
        assert bool(torch.isinf(model.interval()[1][2, [0, 1, 3]]).all())
    assert "2, 3 is left cannot be told" in model.report()


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_a_state_may_be_for_ever(method):
    start = torch.arange(400)[:, None] % 2
    seen = gendyn.sample(TRAP, start, np.linspace(0, 6, 40), seed=1)
    model = MarkovJumpModel(method, n_states=3).fit(Paths(seen.times, seen.values), progress=False)
    assert float(-model.rate_matrix_[2, 2]) < 0.01
    assert model.rate_matrix_[1, 2].item() == pytest.approx(0.5, abs=0.12)
    events = sample_events(TRAP, start, 6.0, seed=1)
    whole = MarkovJumpModel("em", noise=0.0, n_states=3).fit(events, progress=False)
    assert float(-whole.rate_matrix_[2, 2]) < 1e-6
    assert whole.rate_matrix_[0, 1].item() == pytest.approx(0.7, abs=0.12)


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_structural_zeros_stay_zero(method):
    ring = RateMatrix(ONE)
    seen = gendyn.sample(ring, torch.zeros(200, 1, dtype=torch.int64), np.linspace(0, 6, 30), seed=2)
    model = MarkovJumpModel(method, noise=0.0, allowed=RING).fit(Paths(seen.times, seen.values), progress=False)
    forbidden = ~(torch.tensor(RING, dtype=torch.bool) | torch.eye(3, dtype=torch.bool))
    assert bool((model.rate_matrix_[forbidden] == 0).all())
    low, high = model.interval()
    assert bool((high[forbidden] == 0).all())
    assert bool((low[forbidden] == 0).all())
    assert model.rate_matrix_[0, 1].item() == pytest.approx(1.0, abs=0.2)


def test_labels_that_allowed_forbids_are_noise_where_labels_may_be_wrong():
    labels = torch.zeros(60, 12, dtype=torch.int64)
    labels[::2, 6:] = 1
    labels[7, 3] = 2
    forbidden = [[0, 1, 0], [1, 0, 0], [1, 1, 0]]
    model = MarkovJumpModel("em", allowed=forbidden).fit(Paths(torch.arange(12.0), labels), progress=False)
    assert 0 < model.noise_ < 0.05
    assert bool(torch.isfinite(model.rate_matrix_).all())


def test_more_states_than_were_trained_are_read_with_a_warning():
    labels = torch.arange(120).reshape(10, 12) % 12
    with pytest.warns(UserWarning, match="trained on 2 to 10 states; it reads 12"):
        model = MarkovJumpModel("zero-shot", n_states=12).fit(Paths(torch.arange(12.0), labels), progress=False)
    assert model.rate_matrix_.shape == (12, 12)


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_looks_that_are_too_far_apart_tell_the_law_alone(method):
    process = RateMatrix([[-1.0, 1.0], [3.0, -3.0]])
    seen = gendyn.sample(process, torch.zeros(400, 1, dtype=torch.int64), np.linspace(0, 200, 11), seed=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = MarkovJumpModel(method, n_states=2).fit(Paths(seen.times, seen.values), progress=False)
    assert any("further apart than the process remembers" in str(w.message) for w in said)
    assert model.process_.stationary()[0].item() == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize(("apart", "n"), [(0.05, 3), (0.2, 400), (0.5, 400)])
def test_looks_that_tell_of_rates_are_not_warned_of(apart, n):
    process = RateMatrix([[-1.0, 1.0], [3.0, -3.0]])
    seen = gendyn.sample(process, torch.zeros(n, 1, dtype=torch.int64), apart * np.arange(11), seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the looks are further apart")
        for method in ("zero-shot", "auto"):
            MarkovJumpModel(method, n_states=2).fit(Paths(seen.times, seen.values), progress=False)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
@pytest.mark.parametrize("noise", [0.0, "estimate", "confusion"])
def test_no_unit_of_time_is_special(unit, noise):
    process = gendyn.systems.FlashingRatchet()
    seen = gendyn.sample(process, process.initial(60, seed=4), process.times, seed=4)
    times = seen.times.to(torch.float64)
    options = {"n_states": 6, "noise": noise}
    one = MarkovJumpModel(**options).fit(Paths(times, seen.values), progress=False)
    other = MarkovJumpModel(**options).fit(Paths(times * unit, seen.values), progress=False)
    torch.testing.assert_close(other.rate_matrix_ * unit, one.rate_matrix_, rtol=2e-3, atol=2e-3)


def test_what_cannot_happen_has_a_finite_log_likelihood():
    seen = StateObservations.of(Paths([0.0, 1.0], torch.tensor([[1, 0]])), n_states=3)
    one_way = torch.tensor([[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    emission = LabelNoise.fixed(seen.meaning).emission
    law = torch.full((3,), 1 / 3, dtype=torch.float64)
    for likelihood in (PanelLikelihood(seen), HiddenLikelihood(seen)):
        value = likelihood.value(one_way, emission, law)
        assert math.isfinite(value)
        assert value < -600
        assert bool(torch.isfinite(likelihood.slopes(one_way, emission, law).rates).all())


def test_two_states_that_no_process_has_are_bounded_by_what_looks_resolve():
    rows = [[0, 0]] * 20 + [[0, 1]] * 80 + [[1, 0]] * 70 + [[1, 1]] * 30
    for unit in (1e-6, 1e6):
        with pytest.warns(NotEmbeddable, match="not above 1"):
            model = MarkovJumpModel("em", noise=0.0).fit(Paths([0.0, unit], torch.tensor(rows)), progress=False)
        assert not model.embeddable_
        assert 1 < float(-model.rate_matrix_[0, 0]) * unit < 1e4
