"""The calendar of IDX: every phase of the specification, Fridays, holidays, unknown years, steps and limits."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.models.errors import ConfigurationError
from src.venues.idx.calendar import IdxCalendar, Limits, local_time
from src.venues.idx.holidays import Holidays, load_holidays, parse_holidays
from src.venues.idx.rules import BAND_TABLES, DAY_PLANS, TICK_TABLES, WIB, Board, Phase

THURSDAY, FRIDAY, SATURDAY = date(2026, 2, 5), date(2026, 2, 6), date(2026, 2, 7)
CALENDAR = IdxCalendar()


def at(day: date, text: str) -> datetime:
    hour, minute, *second = (int(part) for part in text.split(":"))
    return datetime(day.year, day.month, day.day, hour, minute, *second, tzinfo=WIB)


THURSDAY_PHASES = [
    ("08:44:59", Phase.CLOSED),
    ("08:45:00", Phase.PRE_OPENING),
    ("08:59:59", Phase.PRE_OPENING),
    ("09:00:00", Phase.SESSION_1),
    ("11:59:59", Phase.SESSION_1),
    ("12:00:00", Phase.LUNCH),
    ("13:29:59", Phase.LUNCH),
    ("13:30:00", Phase.SESSION_2),
    ("15:49:59", Phase.SESSION_2),
    ("15:50:00", Phase.PRE_CLOSING),
    ("16:00:59", Phase.PRE_CLOSING),
    ("16:01:00", Phase.POST_CLOSING),
    ("16:14:59", Phase.POST_CLOSING),
    ("16:15:00", Phase.CLOSED),
]
FRIDAY_PHASES = [
    ("11:29:59", Phase.SESSION_1),
    ("11:30:00", Phase.LUNCH),
    ("13:59:59", Phase.LUNCH),
    ("14:00:00", Phase.SESSION_2),
    ("15:49:59", Phase.SESSION_2),
    ("15:50:00", Phase.PRE_CLOSING),
]


class TestPhases:
    @pytest.mark.parametrize(("time", "phase"), THURSDAY_PHASES)
    def test_of_a_thursday(self, time, phase):
        assert CALENDAR.session_at(at(THURSDAY, time)).phase is phase

    @pytest.mark.parametrize(("time", "phase"), FRIDAY_PHASES)
    def test_of_a_friday(self, time, phase):
        assert CALENDAR.session_at(at(FRIDAY, time)).phase is phase

    def test_only_the_two_sessions_are_continuous(self):
        continuous = [time for time, _ in THURSDAY_PHASES if CALENDAR.is_continuous(at(THURSDAY, time))]
        assert continuous == ["09:00:00", "11:59:59", "13:30:00", "15:49:59"]

    @pytest.mark.parametrize("day", [SATURDAY, SATURDAY + timedelta(1), date(2026, 2, 17), date(2025, 8, 18)])
    def test_weekends_and_holidays_are_closed_and_have_no_trading_day(self, day):
        session = CALENDAR.session_at(at(day, "10:00"))
        assert (session.phase, session.day) == (Phase.CLOSED, None)
        assert CALENDAR.trading_day(at(day, "10:00")) is None

    def test_a_trading_day_has_its_date_from_midnight_to_midnight(self):
        assert CALENDAR.trading_day(at(THURSDAY, "00:00")) == THURSDAY
        assert CALENDAR.trading_day(at(THURSDAY, "23:59:59")) == THURSDAY
        assert CALENDAR.trading_day(at(THURSDAY, "00:00") - timedelta(microseconds=1)) == date(2026, 2, 4)

    def test_a_phase_tells_its_bounds(self):
        lunch = CALENDAR.session_at(at(FRIDAY, "12:15"))
        assert (lunch.begin, lunch.end, lunch.day) == (at(FRIDAY, "11:30"), at(FRIDAY, "14:00"), FRIDAY)

    def test_a_closure_reaches_over_the_weekend(self):
        closed = CALENDAR.session_at(at(SATURDAY, "12:00"))
        assert (closed.begin, closed.end) == (at(FRIDAY, "16:15"), at(date(2026, 2, 9), "08:45"))

    def test_a_closure_reaches_over_a_row_of_holidays(self):
        closed = CALENDAR.session_at(at(date(2026, 3, 21), "01:00"))
        assert (closed.begin, closed.end) == (at(date(2026, 3, 17), "16:15"), at(date(2026, 3, 25), "08:45"))

    def test_a_closure_before_the_opening_began_the_day_before(self):
        closed = CALENDAR.session_at(at(THURSDAY, "06:00"))
        assert (closed.begin, closed.end) == (at(date(2026, 2, 4), "16:15"), at(THURSDAY, "08:45"))

    def test_a_closure_without_end_is_cut(self):
        shut = IdxCalendar(Holidays([THURSDAY + timedelta(n) for n in range(400)]))
        closed = shut.session_at(at(THURSDAY + timedelta(100), "10:00"))
        assert closed.phase is Phase.CLOSED
        assert closed.end - closed.begin < timedelta(days=70)

    def test_the_cash_market_has_one_session(self):
        phases = {
            time: CALENDAR.session_at(at(FRIDAY, time), Board.CASH).phase for time in ("11:29", "11:30", "14:30")
        }
        assert phases == {"11:29": Phase.SESSION_1, "11:30": Phase.CLOSED, "14:30": Phase.CLOSED}

    def test_the_negotiated_market_goes_on_until_half_past_four(self):
        assert CALENDAR.session_at(at(THURSDAY, "16:29"), Board.NEGOTIATED).phase is Phase.SESSION_2
        assert CALENDAR.session_at(at(THURSDAY, "16:30"), Board.NEGOTIATED).phase is Phase.CLOSED
        assert CALENDAR.session_at(at(THURSDAY, "08:50"), Board.NEGOTIATED).phase is Phase.CLOSED

    def test_shares_traded_by_auctions_are_never_continuous(self):
        session = CALENDAR.session_at(at(THURSDAY, "10:00"), Board.AUCTION)
        assert session.phase is Phase.SESSION_1
        assert not session.is_continuous
        assert not CALENDAR.is_continuous(at(THURSDAY, "10:00"), Board.AUCTION)

    def test_before_the_first_rule_nothing_is_claimed(self):
        session = CALENDAR.session_at(at(date(2023, 3, 31), "10:00"))
        assert session.phase is Phase.UNKNOWN
        assert session.end == at(date(2023, 4, 3), "00:00")
        assert not session.is_continuous
        assert CALENDAR.tick_size(100, at(date(2023, 3, 31), "10:00")) is None
        assert CALENDAR.is_on_tick(101, at(date(2020, 1, 2), "10:00"))
        assert CALENDAR.limits(1000, at(date(2023, 3, 31), "10:00")) is None

    def test_a_moment_is_the_same_however_it_is_written(self):
        moment = at(THURSDAY, "09:30")
        same = [
            moment.astimezone(UTC),
            moment.astimezone(timezone(timedelta(hours=-8))),
            int(moment.timestamp() * 1000),
        ]
        assert {CALENDAR.session_at(when) for when in same} == {CALENDAR.session_at(moment)}

    def test_a_time_without_an_offset_is_refused(self):
        with pytest.raises(ValueError, match="offset"):
            CALENDAR.session_at(at(THURSDAY, "09:00").replace(tzinfo=None))

    @given(st.integers(1_680_480_000_000, 1_827_000_000_000), st.sampled_from(Board))
    def test_every_moment_lies_in_its_phase_and_phases_meet(self, moment, board):
        when = local_time(moment)
        if when.date() < DAY_PLANS[board][0].since:
            return
        session = CALENDAR.session_at(when, board)
        assert session.begin <= when < session.end
        following = CALENDAR.session_at(session.end, board)
        assert following.begin == session.end or session.phase is Phase.CLOSED
        assert CALENDAR.session_at(session.end - timedelta(microseconds=1), board).phase is session.phase
        assert (session.day is None) == (session.phase is Phase.CLOSED)


class TestHolidays:
    @pytest.mark.parametrize(("year", "days"), [(2023, 239), (2024, 237), (2025, 236), (2026, 239)])
    def test_trading_days_add_up_to_what_the_exchange_announced(self, year, days):
        every = (date(year, 1, 1) + timedelta(n) for n in range(366))
        assert sum(CALENDAR.is_trading_day(day) for day in every if day.year == year) == days

    @pytest.mark.parametrize("year", [2023, 2024, 2025, 2026])
    def test_every_holiday_is_a_weekday(self, year):
        listed = Holidays()
        assert len(listed.in_year(year)) >= 20
        assert all(day in listed for day in listed.in_year(year))

    def test_a_year_that_is_not_known_is_told(self):
        assert CALENDAR.notice(at(date(2026, 12, 31), "23:59")) == ""
        notice = CALENDAR.notice(at(date(2027, 1, 1), "00:00"))
        assert "2027" in notice
        assert "IDX_HOLIDAYS_FILE" in notice

    def test_a_file_adds_and_removes_days(self, tmp_path):
        file = tmp_path / "holidays.txt"
        file.write_text(
            "# of 2027\n\n2027-01-01 New Year\n 2027-02-06\t Lunar New Year \n!2026-12-24 open after all\n"
        )
        calendar = IdxCalendar(load_holidays(file))
        assert not calendar.is_trading_day(date(2027, 1, 1))
        assert calendar.is_trading_day(date(2026, 12, 24))
        assert not calendar.is_trading_day(date(2026, 12, 25))
        assert calendar.notice(at(date(2027, 5, 3), "10:00")) == ""

    def test_every_wrong_line_is_named(self, tmp_path):
        file = tmp_path / "holidays.txt"
        file.write_text("2027-01-01\n01/02/2027\n2027-13-01\n2027-02-30 x\nhello\n")
        with pytest.raises(ConfigurationError) as told:
            load_holidays(file)
        for part in ("line 2", "line 3", "line 4", "line 5 'hello'", "IDX_HOLIDAYS_FILE"):
            assert part in str(told.value)

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"2027-01-01\n" * 30_000])
    def test_an_unusable_file_is_refused(self, tmp_path, content):
        file = tmp_path / "holidays.txt"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="IDX_HOLIDAYS_FILE"):
            load_holidays(file)

    def test_no_file_means_the_announced_days(self):
        assert load_holidays(None).in_year(2026) == Holidays().in_year(2026)

    @given(st.text(max_size=200))
    def test_any_text_is_either_understood_or_told(self, text):
        closed, opened, wrong = parse_holidays(text)
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(closed) + len(opened) + len(wrong) == len(lines)


class TestPrices:
    NOW = at(THURSDAY, "10:00")

    @pytest.mark.parametrize(
        ("price", "step"),
        [
            (50, 1),
            (199, 1),
            (200, 2),
            (498, 2),
            (500, 5),
            (1995, 5),
            (2000, 10),
            (4990, 10),
            (5000, 25),
            (90_000, 25),
        ],
    )
    def test_steps(self, price, step):
        assert CALENDAR.tick_size(price, self.NOW) == step

    def test_prices_between_steps_are_told(self):
        assert CALENDAR.is_on_tick(7725, self.NOW)
        assert not CALENDAR.is_on_tick(7730, self.NOW)
        assert not CALENDAR.is_on_tick(Decimal("100.5"), self.NOW)
        assert not CALENDAR.is_on_tick(0, self.NOW)

    def test_the_recorded_sample(self):
        assert CALENDAR.limits(885, self.NOW) == Limits(755, 1105)

    @pytest.mark.parametrize(
        ("day", "reference", "limits"),
        [
            (date(2023, 4, 4), 1000, Limits(930, 1250)),
            (date(2023, 6, 5), 1000, Limits(850, 1250)),
            (date(2023, 9, 4), 1000, Limits(750, 1250)),
            (date(2025, 4, 7), 1000, Limits(750, 1250)),
            (date(2025, 4, 8), 1000, Limits(850, 1250)),
            (THURSDAY, 200, Limits(170, 270)),
            (THURSDAY, 202, Limits(172, 252)),
            (THURSDAY, 5000, Limits(4250, 6250)),
            (THURSDAY, 5025, Limits(4280, 6025)),
            (THURSDAY, 50, Limits(50, 67)),
        ],
    )
    def test_limits_by_day_and_price(self, day, reference, limits):
        assert CALENDAR.limits(reference, at(day, "10:00")) == limits

    def test_limits_of_shares_traded_by_auctions(self):
        assert CALENDAR.limits(5, self.NOW, Board.AUCTION) == Limits(4, 6)
        assert CALENDAR.limits(1, self.NOW, Board.AUCTION) == Limits(1, 2)
        assert CALENDAR.limits(50, self.NOW, Board.AUCTION) == Limits(45, 55)
        assert CALENDAR.limits(50, at(date(2024, 3, 22), "10:00"), Board.AUCTION) is None

    def test_the_negotiated_market_has_no_limits_and_cash_those_of_the_regular_one(self):
        assert CALENDAR.limits(885, self.NOW, Board.NEGOTIATED) is None
        assert CALENDAR.limits(885, self.NOW, Board.CASH) == Limits(755, 1105)

    @given(st.integers(50, 200_000))
    def test_limits_hold_the_reference_and_lie_on_steps(self, reference):
        low, high = CALENDAR.limits(reference, self.NOW)
        assert 50 <= low <= reference <= high
        assert CALENDAR.is_on_tick(low, self.NOW)
        assert CALENDAR.is_on_tick(high, self.NOW)


def test_tables_are_in_the_order_of_their_days():
    for tables in (*DAY_PLANS.values(), *BAND_TABLES.values(), TICK_TABLES):
        days = [table.since for table in tables]
        assert days == sorted(set(days))
    for plans in DAY_PLANS.values():
        for plan in plans:
            for spans in (plan.normal, plan.friday):
                assert all(before.end <= after.begin for before, after in pairwise(spans))


def test_local_time_is_seven_hours_ahead():
    assert local_time(0).isoformat() == "1970-01-01T07:00:00+07:00"
