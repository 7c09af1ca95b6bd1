"""Labels of times become the numbers they say, or a sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gendyn.data import parse_times
from gendyn.data.time_labels import looks_like_times


@pytest.mark.parametrize(
    ("labels", "numbers", "unit"),
    [
        (["D0", "D10.5", "D2"], [0, 10.5, 2], "day"),
        (["day 2", "day 10"], [2, 10], "day"),
        (["d2", "D10", "day 3", "4 days"], [2, 10, 3, 4], "day"),
        (["E8.25", "E7.5"], [8.25, 7.5], "embryonic day"),
        (["48h", "0 h", "72 hr", "96hours"], [48, 0, 72, 96], "hour"),
        (["wk1", "2 weeks"], [1, 2], "week"),
        (["5min", "10 minutes"], [5, 10], "minute"),
        (["5s", "10 sec"], [5, 10], "second"),
        (["t0", "t = 1", "timepoint_2", "3"], [0, 1, 2, 3], None),
        (["t=48h", "time 72 h"], [48, 72], "hour"),
        (["24 hpf", "48hpf"], [24, 48], "hpf"),
        (["day -1", "day 2"], [-1, 2], "day"),
        (["-1", "2"], [-1, 2], None),
        (["1e3", "2.5"], [1000, 2.5], None),
        (["\N{MINUS SIGN}1 h", "2 h"], [-1, 2], "hour"),
        (["day-2", "day-10"], [2, 10], "day"),
        ([b"D1", b"D2"], [1, 2], "day"),
        (["D1", None, "nan", "", np.nan], [1, np.nan, np.nan, np.nan, np.nan], "day"),
        ([None, None], [np.nan, np.nan], None),
        ([], [], None),
    ],
)
def test_labels_say_their_number_and_unit(labels, numbers, unit):
    found, told = parse_times(labels)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, numbers)
    assert told == unit


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 10, 0]),
        np.array([2, 10, 0], dtype=np.float32),
        pd.Series([2, 10, 0], dtype="Int64"),
        pd.Categorical([2, 10, 0]),
        pd.Categorical(["2", "10", "0"], categories=["0", "10", "2"]),
        pd.Index([2.0, 10.0, 0.0]),
        torch.tensor([2, 10, 0]),
        pd.Series([2, 10, 0], index=[7, 7, 7]),
        pd.Series(["D2", "D10", "D0"], dtype="category"),
    ],
)
def test_every_kind_of_column_is_read_in_its_order(labels):
    np.testing.assert_array_equal(parse_times(labels)[0], [2.0, 10.0, 0.0])


def test_a_float32_says_what_it_prints():
    assert parse_times(np.array([10.1, 0.1], dtype=np.float32))[0].tolist() == [10.1, 0.1]
    assert parse_times(torch.tensor([0.3]))[0].tolist() == [0.3]


def test_dates_are_days_since_the_first_and_differences_days():
    dates = pd.Series(pd.to_datetime(["2020-01-03 12:00", "2020-01-01 00:00", None]))
    np.testing.assert_array_equal(parse_times(dates)[0], [2.5, 0.0, np.nan])
    np.testing.assert_array_equal(parse_times(dates.dt.tz_localize("Asia/Tokyo"))[0], [2.5, 0.0, np.nan])
    np.testing.assert_array_equal(parse_times(["2020-01-03", "2020-01-01 06:00:00"])[0], [1.75, 0.0])
    spans = pd.Series(pd.to_timedelta([36, 12, None], unit="h"))
    np.testing.assert_array_equal(parse_times(spans)[0], [1.5, 0.5, np.nan])


def test_the_user_says_what_labels_mean():
    labels = pd.Series(["control", "late", "control", None])
    np.testing.assert_array_equal(parse_times(labels, {"control": 0, "late": 6.5})[0], [0, 6.5, 0, np.nan])
    np.testing.assert_array_equal(parse_times([0, 1, 1], {"0": 0.0, "1": 8.0})[0], [0, 8, 8])
    np.testing.assert_array_equal(parse_times(["0", "1"], {0: 0.0, 1: 8.0})[0], [0, 8])
    # Said by the user, two labels of one time are pooled.
    np.testing.assert_array_equal(parse_times(["D2", "day 2"], {"D2": 2.0, "day 2": 2.0, "other": 9})[0], [2, 2])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["control", "D2"], "'control', 'D2': there is no number in 'control'; give times={label: number}"),
        (["Day 00-03", "Day 06-09"], "there are 2 numbers in 'Day 00-03'; give times="),
        (["1,5", "2"], "there are 2 numbers in '1,5'"),
        (["D2", "48h"], r"they are in different units: 'D2' \(day\), '48h' \(hour\); give times="),
        (["0", "48h"], r"'0' \(no unit\), '48h' \(hour\)"),
        (["E18", "P0"], "embryonic day.*postnatal day"),
        (["D2", "day 2"], "'D2', 'day 2' all mean 2, and may or may not be one time point; give times="),
        (["2", "2.0"], "'2', '2.0' all mean 2"),
        (["day 2", "Day_10", "days-3"], "the hyphen in 'days-3' may be a dash or a minus sign"),
        (["D-1", "D0"], "the hyphen in 'D-1' may be a dash or a minus sign; give times="),
        (["inf", "2"], "times must be finite; got the label 'inf'"),
        ([0.0, np.inf], r"times must be finite; got infinity in 1 rows \(first: 1\)"),
        (["2020-01-01", "2020-13-45"], "look like dates, but one is none"),
    ],
)
def test_what_labels_do_not_say_is_asked_for(labels, words):
    with pytest.raises(ValueError, match=words):
        parse_times(labels)


def test_a_mapping_must_be_whole():
    with pytest.raises(ValueError, match="times has no number for 'D2'; give one for every label"):
        parse_times(["D1", "D2"], {"D1": 1.0})
    with pytest.raises(TypeError, match="must give a number for each label; got 'x' for 'D1'"):
        parse_times(["D1"], {"D1": "x"})
    with pytest.raises(TypeError, match="got True"):
        parse_times(["D1"], {"D1": True})
    with pytest.raises(ValueError, match="must give a finite number for each label; got inf for 'D1'"):
        parse_times(["D1"], {"D1": np.inf})
    with pytest.raises(TypeError, match="times must be a mapping"):
        parse_times(["D1"], [1.0])


def test_true_and_false_are_no_times():
    with pytest.raises(TypeError, match="got true and false"):
        parse_times([True, False])


@given(
    st.lists(st.decimals(0, 1000, places=2, allow_nan=False), min_size=1, max_size=8, unique=True),
    st.sampled_from(["D{}", "day {}", "{}h", "E{}", "{}", "t={} min"]),
)
def test_numbers_survive_being_written_into_labels(numbers, form):
    labels = [form.format(number) for number in numbers]
    np.testing.assert_array_equal(parse_times(labels)[0], [float(number) for number in numbers])


def test_many_labels_are_shown_shortened():
    with pytest.raises(ValueError, match=r"'a', 'b', 'c', 'd', 'e', 'f', 'g', \.\.\., 'z'"):
        parse_times(list("abcdefghijklmnopqrstuvwxyz"))


def test_which_columns_look_like_times():
    assert looks_like_times(pd.Series([1, 2]))
    assert looks_like_times(pd.Series(["D1", "D2", None]))
    assert looks_like_times(pd.Series(pd.to_datetime(["2020-01-01"])))
    assert not looks_like_times(pd.Series(["a", "b"]))
    assert not looks_like_times(pd.Series([True, False]))
    assert not looks_like_times(pd.Series([None, None], dtype=object))
