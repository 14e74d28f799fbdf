"""The text of an order-book message: what is read, what is passed over, what is refused."""

import pytest

from src.models.errors import WireError
from src.models.messages import Level
from src.venues.stockbit.body import BAD_BODY, parse_body, parse_flat_body, write_body, write_trailer

ONE = {"100;3;500": Level("100", "500", 3)}


def test_an_empty_side_is_a_body_without_levels():
    for body in ("#O|BBCA|OFFER", "#O|BBCA|OFFER|", "#O|BBCA|OFFER||"):
        assert parse_body(body).sides == {"OFFER": {}}
    assert parse_body("#O|BBCA|OFFER|1770177942-0&0").trailer == "1770177942-0&0"


@pytest.mark.parametrize("trailer", ["1770177942-3&500", "17-1-2-3", "59-2026-02-04T11:05:42-x", "anything"])
def test_whatever_comes_last_and_is_no_level_is_the_trailer(trailer):
    for end in ("", "|"):
        body = parse_body(f"#O|BBCA|BID|100;3;500|{trailer}{end}")
        assert (body.sides, body.trailer, body.skipped) == ({"BID": ONE}, trailer, 0)


@pytest.mark.parametrize(
    "odd",
    ["100;3", "0;3;500", "-1;3;500", "1e9;3;500", "x;y;z", "100;3;500;7", "²;3;500", "1;1234567890;100", "junk"],
)
def test_parts_that_are_no_level_are_passed_over_and_counted(odd):
    body = parse_body(f"#O|BBCA|BID|{odd}|100;3;500")
    assert (body.sides, body.skipped) == ({"BID": ONE}, 1)


def test_a_bad_level_at_the_end_is_no_trailer():
    body = parse_body("#O|BBCA|BID|100;3;500|99;x;100")
    assert (body.trailer, body.skipped) == ("", 1)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "O|BBCA|BID|100;3;500",
        "#O",
        "#O|BBCA",
        "#O|BBCA|",
        "#O|BBCA|bid|100;3;500",
        "#O|BBCA|BUY|100;3;500",
        "BID|100;3;500",
        "#O|BBCA|BID|100;3;500|101;1;100",
        "#O|BBCA|OFFER|100;3;500|99;1;100",
        "#O|BBCA|BID|100;3;500|100;1;100",
        "#O|BBCA|BID" + "|x" * 10_001,
    ],
)
def test_what_is_refused(body):
    with pytest.raises(WireError) as caught:
        parse_body(body)
    assert caught.value.reason == BAD_BODY
    assert len(caught.value.detail) < 200


def test_both_sides_in_one_body_are_taken_apart():
    body = parse_body("#O|BBCA|BID|100;3;500|OFFER|101;1;100|102;1;100|1-2&3")
    assert list(body.sides["BID"]) == ["100;3;500"]
    assert list(body.sides["OFFER"]) == ["101;1;100", "102;1;100"]


def test_decimals_are_kept_as_written():
    ((_, levels),) = parse_body("#O|BTC|BID|100.50;3;0.00010").sides.items()
    assert list(levels.values()) == [Level("100.50", "0.00010", 3)]


def test_levels_that_are_known_are_not_made_anew():
    before = parse_body("#O|BBCA|BID|100;3;500|99;1;100")
    after = parse_body("#O|BBCA|BID|100;3;500|98;1;100", before.sides)
    assert after.sides["BID"]["100;3;500"] is before.sides["BID"]["100;3;500"]
    assert list(after.sides["BID"]) == ["100;3;500", "98;1;100"]


def test_the_flat_body_has_no_mark_and_its_own_words_for_sides():
    for side, name in (("BID", "BID"), ("BUY", "BID"), ("OFFER", "OFFER"), ("SELL", "OFFER")):
        body = parse_flat_body(f"{side}|100;3;500")
        assert (body.ticker, body.sides) == ("", {name: ONE})
    assert parse_flat_body("#O|BBCA|BID|100;3;500").ticker == "BBCA"
    with pytest.raises(WireError):
        parse_flat_body("ASK|100;3;500")


def test_writing():
    row = [Level("100", "500", 3), Level("99", "100", None)]
    assert write_body("BBCA", "BID", row) == "#O|BBCA|BID|100;3;500|99;0;100"
    assert write_trailer(row, 17) == "17-3&600"
