"""Cohorts: populations by name, with what was done to each."""

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn.data import Cohort, Snapshots


def member(seed, n=4, dim=2):
    generator = np.random.default_rng(seed)
    obs = [pd.DataFrame({"kind": pd.Categorical(["a", "b"] * (n // 2))}) for _ in range(2)]
    return Snapshots(
        [0.0, 1.5 + seed], [generator.normal(size=(n, dim)) for _ in range(2)], obs=obs, names=["p", "q"][:dim]
    )


def made(conditions=None):
    return Cohort({"patient-2": member(0), "patient-10": member(1, 6), "patient-1": member(2)}, conditions)


def test_it_is_a_mapping_in_its_own_order():
    cohort = made()
    assert list(cohort) == ["patient-2", "patient-10", "patient-1"]
    assert len(cohort) == 3
    assert cohort.dim == 2
    assert cohort["patient-10"] == member(1, 6)
    assert "patient-3" not in cohort
    assert repr(cohort) == "Cohort(3 members, 2 features)"
    with pytest.raises(KeyError, match="there is no member 'patient-3'; there are patient-2, patient-10, patient-1"):
        cohort["patient-3"]


def test_holding_members_out_keeps_their_conditions():
    cohort = made({"patient-1": "A", "patient-2": "B", "patient-10": "C"})
    assert list(cohort.without(["patient-10"])) == ["patient-2", "patient-1"]
    assert cohort.only(["patient-1", "patient-2"]).conditions == {"patient-1": "A", "patient-2": "B"}
    with pytest.raises(KeyError, match="there is no member 'x'"):
        cohort.without(["x"])
    with pytest.raises(KeyError, match="there is no member 'x'"):
        cohort.only(["x"])
    with pytest.raises(ValueError, match="at least one member; got none"):
        cohort.without(list(cohort))


def test_one_long_table():
    frame = made().to_frame()
    assert frame["member"].value_counts().to_dict() == {"patient-2": 8, "patient-10": 12, "patient-1": 8}
    assert list(frame.columns) == ["member", "time", "p", "q", "kind"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("drug", "drug"),
        (1.5, 1.5),
        (np.float32(0.5), 0.5),
        ([1, 2], (1, 2)),
        (np.array([0.0, 1.0]), (0.0, 1.0)),
        (torch.tensor([1, 0]), (1, 0)),
        ({"dose": np.float64(2.0), "names": ["a"]}, {"dose": 2.0, "names": ("a",)}),
        (pd.Series({"dose": 2.0}), {"dose": 2.0}),
        (None, None),
    ],
)
def test_conditions_are_plain_and_survive_a_file(tmp_path, given, kept):
    cohort = made(dict.fromkeys(["patient-1", "patient-2", "patient-10"], given))
    assert cohort.conditions["patient-1"] == kept
    cohort.save(tmp_path / "a.npz")
    assert Cohort.load(tmp_path / "a.npz") == cohort


def test_conditions_may_be_a_table():
    table = pd.DataFrame({"drug": ["A", "B", "A"], "dose": [1, 2, 3]}, index=["patient-1", "patient-2", "patient-10"])
    assert made(table).conditions["patient-2"] == {"drug": "B", "dose": 2}


def test_equality_counts_conditions():
    assert made() == made()
    assert made() != made().without(["patient-1"])
    assert made(dict.fromkeys(made(), 1)) != made(dict.fromkeys(made(), 2))
    assert made() != dict(made())
    with pytest.raises(TypeError, match="unhashable"):
        hash(made())


def test_what_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a mapping of names to Snapshots; got list"):
        Cohort([member(0)])
    with pytest.raises(ValueError, match="at least one member; got none"):
        Cohort({})
    with pytest.raises(TypeError, match="names of members must be strings; got 1"):
        Cohort({1: member(0)})
    with pytest.raises(TypeError, match="member 'a' must be Snapshots; got int"):
        Cohort({"a": 1})
    with pytest.raises(ValueError, match=r"the same number of features; got \{'a': 2, 'b': 1\}"):
        Cohort({"a": member(0), "b": member(0, dim=1)})
    with pytest.raises(ValueError, match="conditions must name each member once; 'patient-1' is missing or unknown"):
        made({"patient-2": 1, "patient-10": 1})
    with pytest.raises(ValueError, match="'patient-99' is missing or unknown"):
        made(dict.fromkeys([*made(), "patient-99"], 1))
    with pytest.raises(
        TypeError, match="the condition of 'patient-2' must be of strings, numbers, rows or mappings; got set"
    ):
        made(dict.fromkeys(made(), {1}))
    with pytest.raises(ValueError, match="'a.csv' says no format known here; use one of .npz"):
        made().save(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Cohort.load(tmp_path / "a.npz")
    member(0).save(tmp_path / "s.npz")
    with pytest.raises(ValueError, match="holds snapshots, where cohort are needed"):
        Cohort.load(tmp_path / "s.npz")
