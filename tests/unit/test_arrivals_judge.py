"""The judge of runs with kills can say no."""

import pytest

from tests.support.arrivals import _order_step, _played, explain

ROW = dict.fromkeys(
    (
        "coin",
        "side",
        "limitPx",
        "sz",
        "origSz",
        "timestamp",
        "orderType",
        "tif",
        "cloid",
        "reduceOnly",
        "isTrigger",
        "triggerPx",
        "triggerCondition",
        "isPositionTpsl",
        "parentOid",
    )
)
SMALLER = {**ROW, "sz": "1"}
SMALLEST = {**ROW, "sz": "0.5"}
LIFE = [(ROW, True), (SMALLER, True), (SMALLEST, False), (None, True)]


@pytest.mark.parametrize(
    "stored",
    [
        ["new", "updated", "closed"],  # the uncertain list did not arrive
        ["new", "updated", "updated", "closed"],  # it did
    ],
)
def test_what_some_choice_explains_is_right(stored):
    assert explain(LIFE, stored, _order_step)


@pytest.mark.parametrize(
    "stored",
    [
        [],
        ["new"],
        ["new", "closed"],  # a sure update is missing
        ["new", "updated"],  # the end is missing
        ["new", "new", "updated", "closed"],  # twice
        ["new", "updated", "updated", "updated", "closed"],  # more than there ever was
        ["updated", "new", "closed"],
        ["new", "updated", "closed", "closed"],
    ],
)
def test_what_no_choice_explains_is_wrong(stored):
    assert not explain(LIFE, stored, _order_step)


def test_an_order_that_lived_only_in_uncertain_lists_may_be_missing():
    history = [(None, True), (ROW, False), (None, True)]
    assert explain(history, [], _order_step)
    assert explain(history, ["new", "closed"], _order_step)
    assert not explain(history, ["new"], _order_step)


def test_both_readings_are_told_when_something_is_wrong():
    assert _played(LIFE, _order_step, certain_only=True) == ["new", "updated", "closed"]
    assert _played(LIFE, _order_step, certain_only=False) == ["new", "updated", "updated", "closed"]


def test_an_order_that_comes_back_is_reopened():
    assert explain([(ROW, True), (None, True), (ROW, True)], ["new", "closed", "reopened"], _order_step)
