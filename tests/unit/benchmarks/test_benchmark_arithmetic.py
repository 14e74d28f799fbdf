"""The arithmetic of the table: medians, ratios by round, goals, and what is printed of them."""

import json

import pytest
from rich.console import Console

from benchmarks.rows import Goal, Row, ratio, spread
from benchmarks.table import print_table, write_json


def test_a_spread_is_the_median_between_the_extremes():
    found = spread([3.0, 1.0, 2.0, 9.0])
    assert (found.median, found.low, found.high) == (2.5, 1.0, 9.0)


def test_a_ratio_compares_round_with_round():
    # the second round was disturbed on both sides: of the medians the ratio would be 1.5
    found = ratio([1.0, 30.0, 3.0], [2.0, 60.0, 2.0])
    assert (found.median, found.low, found.high) == (0.5, 0.5, 1.5)


def test_a_ratio_needs_as_many_rounds_of_both():
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [
        (Goal(0.2), 0.2, True),
        (Goal(0.2), 0.21, False),
        (Goal(0.8, at_most=False), 0.8, True),
        (Goal(0.8, at_most=False), 0.79, False),
    ],
)
def test_a_goal_is_a_bound_that_counts_itself(goal, value, reached):
    assert goal.reached(value) is reached


def test_a_row_is_judged_by_its_ratio_and_else_by_its_value():
    slow_but_better_than_the_peer = Row("r", spread([900.0]), "µs", "p", spread([1800.0]), spread([0.5]), Goal(0.6))
    assert slow_but_better_than_the_peer.ok is True
    assert Row("r", spread([900.0]), "µs", goal=Goal(0.6)).ok is False
    assert Row("r", spread([900.0]), "µs").ok is None


def test_a_row_with_a_broken_condition_is_not_ok_however_fast():
    row = Row("r", spread([1.0]), "%", goal=Goal(25), holds={"all stored": True, "none dropped": False})
    assert row.ok is False


def test_the_table_names_what_did_not_hold():
    console = Console(width=160)
    rows = [
        Row(
            "fast", spread([100.0, 200.0, 300.0]), "µs", "json", spread([1000.0]), spread([0.1, 0.2, 0.3]), Goal(0.15)
        ),
        Row("broken", spread([1.0]), "%", goal=Goal(25), holds={"none dropped": False}, note="a word about it"),
    ]
    with console.capture() as captured:
        print_table(rows, console)
    text = captured.get()
    assert "200 (100-300) µs" in text
    assert "0.200 (0.100-0.300)" in text
    assert "<= 0.15" in text
    assert text.count("NO") == 2
    assert "broken: did not hold: none dropped" in text
    assert "a word about it" in text


def test_the_json_has_every_row_with_its_verdict(tmp_path):
    path = tmp_path / "rows.json"
    write_json([Row("a", spread([2.0]), "µs", goal=Goal(1.0)), Row("b", spread([2.0]), "µs")], path)
    document = json.loads(path.read_bytes())
    assert [(row["name"], row["ok"], row["value"]["median"]) for row in document["rows"]] == [
        ("a", False, 2.0),
        ("b", None, 2.0),
    ]
    assert "cores" in document["machine"]
