"""The venue's times: with and without offset, date and fraction, and on which side of the exchange's midnight they lie."""

import pytest

from src.venues.stockbit.times import NS_PER_MS, day_start_ms, exchange_day, parse_time_ns, to_text

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIDNIGHT_MS = 1_770_138_000_000  # Wednesday, 2026-02-04 in Jakarta
AT_MS = 1_770_177_942_178  # 11:05:42.178 of that day
AT_NS = AT_MS * NS_PER_MS


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-02-04T11:05:42.178723+07:00", AT_NS + 723_000),
        ("2026-02-04T11:05:42.179680676+07:00", AT_NS + 1_680_676),
        ("2026-02-04T04:05:42.178Z", AT_NS),
        ("2026-02-04T04:05:42.178+00:00", AT_NS),
        ("2026-02-04T06:05:42.178+0200", AT_NS),
        ("2026-02-03T23:05:42.178-05:00", AT_NS),
        ("2026-02-04T11:05:42.178", AT_NS),
        ("2026-02-04 11:05:42.178", AT_NS),
        ("2026-02-04T11:05:42,178+07:00", AT_NS),
        ("2026-02-04T11:05:42+07:00", AT_NS - 178_000_000),
        ("2026-02-04T11:05:42.1787234567899+07:00", AT_NS + 723_456),
    ],
)
def test_forms_of_one_moment(text, ns):
    assert parse_time_ns(text, 0) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-02-30T11:05:42+07:00",
        "2026-13-01T11:05:42+07:00",
        "2026-02-04T24:05:42+07:00",
        "2026-02-04T11:05+07:00",
        "2026-02-04T11:05:42.+07:00",
        "2026-02-04T11:05:42+7",
        "2026-02-04T11:05:42+99:00",
        "2026-02-04T11:05:42+07:00 ",
        "٢٠٢٦-02-04T11:05:42+07:00",  # digits of another alphabet
        "0000-01-01T00:00:00Z",
        "1770177942",
        "24:00:00",
        "11:60:00",
        "11:05:61",
        "11:05",
    ],
)
def test_what_is_no_time(text):
    assert parse_time_ns(text, AT_MS) is None


@pytest.mark.parametrize(
    ("text", "near_ms", "at_ms"),
    [
        ("11:05:42", AT_MS, AT_MS - 178),
        ("11:05:42.178", AT_MS + 5_000, AT_MS),
        ("23:59:59", MIDNIGHT_MS + 500, MIDNIGHT_MS - 1_000),  # written before midnight, read after it
        ("00:00:01", MIDNIGHT_MS - 500, MIDNIGHT_MS + 1_000),  # the venue's clock is ahead of ours
        ("00:00:00", MIDNIGHT_MS, MIDNIGHT_MS),
        ("12:00:00", MIDNIGHT_MS, MIDNIGHT_MS + 12 * HOUR_MS),
        ("12:00:01", MIDNIGHT_MS, MIDNIGHT_MS - 12 * HOUR_MS + 1_000),
    ],
)
def test_a_time_of_day_belongs_to_the_day_it_is_nearest_to(text, near_ms, at_ms):
    assert parse_time_ns(text, near_ms) == at_ms * NS_PER_MS


def test_text_has_as_many_digits_as_the_venue_writes():
    assert to_text(AT_NS + 723_456) == "2026-02-04T11:05:42.178723+07:00"
    assert to_text(AT_NS + 723_456, digits=9) == "2026-02-04T11:05:42.178723456+07:00"
    assert to_text(AT_NS, digits=3) == "2026-02-04T11:05:42.178+07:00"


def test_the_day_of_the_exchange_begins_at_its_own_midnight():
    assert exchange_day(MIDNIGHT_MS) == "20260204"
    assert exchange_day(MIDNIGHT_MS - 1) == "20260203"
    assert exchange_day(MIDNIGHT_MS + DAY_MS - 1) == "20260204"
    for at_ms in (MIDNIGHT_MS, AT_MS, MIDNIGHT_MS + DAY_MS - 1):
        assert day_start_ms(at_ms) == MIDNIGHT_MS
