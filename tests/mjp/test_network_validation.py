"""What the card says of the shipped network, and that it says what a run gives."""

from __future__ import annotations

from gendyn.mjp import RateNetwork, network_card
from gendyn.mjp.network_validation import validate_rate_network
from gendyn.mjp.shipped_network import shipped_network


def test_the_card_has_a_table_in_which_the_network_beats_counting() -> None:
    table = network_card()["validation"]
    assert [row["states"] for row in table] == list(range(2, 11))
    for row in table:
        assert row["data sets"] >= 256
        assert row["relative error"] < 0.8 * row["of counts"]
        assert 0.85 < row["coverage of 90 %"] < 0.97
        assert row["link AUC"] > 0.85


def test_a_run_gives_what_the_card_says_and_gives_it_again() -> None:
    rows = validate_rate_network(shipped_network(), draws=64)
    assert rows == validate_rate_network(shipped_network(), draws=64)
    for row, stored in zip(rows, network_card()["validation"], strict=True):
        assert abs(row["of counts"] - stored["of counts"]) < 0.2
        assert abs(row["relative error"] - stored["relative error"]) < 0.2


def test_a_network_that_learned_nothing_is_told_from_one_that_did() -> None:
    fresh = validate_rate_network(RateNetwork(8, 1, seed=0).eval(), draws=32)
    assert all(row["link AUC"] < 0.75 for row in fresh)
