"""Books, times and notices: what the gateway's words mean."""

from datetime import UTC, datetime

import pytest

from src.models.errors import WireError
from src.models.messages import Ignored, Level, LoginRefused, RefusalKind
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import mapper
from src.venues.futu.mapper import decimal_text, read_book, read_notice, refusal_kind, server_time_ms

NOW_MS = 1_770_170_400_500  # 2026-02-04 02:00:00.500 UTC, 10:00 in Hong Kong, 21:00 of the day before in New York


def said(*, market=1, code="00700", bids=(), asks=(), **fields):
    return pb.OrderBook.S2C(
        security=pb.Security(market=market, code=code),
        orderBookBidList=[level(*bid) for bid in bids],
        orderBookAskList=[level(*ask) for ask in asks],
        **fields,
    )


def level(price, volume, orders, hp=None):
    made = pb.OrderBookLevel(price=price, volume=volume, orederCount=orders)
    if hp is not None:
        made.hpVolume = hp
    return made


def utc_ms(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


class TestBooks:
    def test_levels_with_order_counts(self):
        reading = read_book(said(bids=[(414.2, 60600, 63)], asks=[(414.4, 74200, 61)]), NOW_MS)
        assert reading.symbol == "HK.00700"
        assert reading.bids == (Level("414.2", "60600", 63),)
        assert reading.asks == (Level("414.4", "74200", 61),)

    def test_the_fine_volume_is_preferred(self):
        reading = read_book(said(market=91, code="BTCUSD", bids=[(97000.5, 0, 2, 0.01234)]), NOW_MS)
        assert reading.bids == (Level("97000.5", "0.01234", 2),)
        assert reading.symbol == "CC.BTCUSD"

    def test_empty_sides(self):
        reading = read_book(said(), NOW_MS)
        assert (reading.bids, reading.asks, reading.server_ms) == ((), (), None)

    def test_odd_lots_are_another_book(self):
        assert read_book(said(orderBookType=1), NOW_MS) is None

    @pytest.mark.parametrize(
        "bad",
        [
            (float("nan"), 1, 1),
            (float("inf"), 1, 1),
            (1.0, -1, 1),
            (1.0, 1, -1),
            (1.0, 1, 1, float("nan")),
            (1.0, 1, 1, -0.5),
        ],
    )
    def test_impossible_levels(self, bad):
        with pytest.raises(WireError, match="bad_level"):
            read_book(said(bids=[bad]), NOW_MS)

    def test_a_price_may_be_negative(self):
        assert read_book(said(bids=[(-37.63, 1, 1)]), NOW_MS).bids[0].px == "-37.63"

    @pytest.mark.parametrize(("market", "code"), [(99, "X"), (0, "X"), (11, ""), (11, "A B"), (11, "x" * 49)])
    def test_securities_that_are_none(self, market, code):
        with pytest.raises(WireError):
            read_book(said(market=market, code=code), NOW_MS)

    def test_a_side_without_end(self, monkeypatch):
        monkeypatch.setattr(mapper, "MOST_LEVELS", 2)
        with pytest.raises(WireError, match="too_many_levels"):
            read_book(said(bids=[(1.0, 1, 1)] * 3), NOW_MS)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(414.2, "414.2"), (180.0, "180"), (0.0, "0"), (-0.0, "0"), (1e-7, "0.0000001"), (1e22, "1" + "0" * 22)],
    )
    def test_numbers_as_text(self, value, text):
        assert decimal_text(value) == text


class TestTimes:
    def test_the_newer_side_counts(self):
        reading = read_book(
            said(svrRecvTimeBidTimestamp=1_770_170_400.123, svrRecvTimeAskTimestamp=1_770_170_400.125), NOW_MS
        )
        assert reading.server_ms == 1_770_170_400_125

    @pytest.mark.parametrize(
        ("market", "text", "expected"),
        [
            ("HK", "2026-02-04 10:00:00.123", "2026-02-04T02:00:00.123"),
            ("SZ", "2026-02-04 10:00:00", "2026-02-04T02:00:00"),
            ("US", "2026-02-03 21:00:00.123", "2026-02-04T02:00:00.123"),
            ("US", "2025-07-01 09:30:00", "2025-07-01T13:30:00"),
        ],
    )
    def test_local_time_of_the_market(self, market, text, expected):
        assert server_time_ms(0.0, text, market, NOW_MS) == utc_ms(expected)

    @pytest.mark.parametrize(
        ("received", "expected"),
        [("2025-11-02T05:30:01", "2025-11-02T05:30:00"), ("2025-11-02T06:30:01", "2025-11-02T06:30:00")],
    )
    def test_of_the_hour_that_comes_twice_the_nearer_one(self, received, expected):
        assert server_time_ms(0.0, "2025-11-02 01:30:00", "US", utc_ms(received)) == utc_ms(expected)

    @pytest.mark.parametrize(
        ("seconds", "text", "market"),
        [
            (0.0, "", "HK"),
            (0.0, "0000-00-00 00:00:00", "HK"),
            (0.0, "1970-01-01 08:00:00", "HK"),
            (0.0, "yesterday", "US"),
            (0.0, "2026-02-04 10:00:00", "JP"),
            (float("nan"), "", "HK"),
            (float("inf"), "", "HK"),
            (-5.0, "", "HK"),
            (1e300, "", "HK"),
            (NOW_MS / 1000 + 3600, "", "HK"),
            (0.0, "9999-12-31 23:59:59", "US"),
            (0.0, "0001-01-01 00:00:00", "US"),
        ],
    )
    def test_what_is_no_time_is_none(self, seconds, text, market):
        assert server_time_ms(seconds, text, market, NOW_MS) is None


class TestWords:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("subscription quota exceeded", RefusalKind.SUBSCRIPTION_CAP),
            ("订阅额度不足", RefusalKind.SUBSCRIPTION_CAP),
            ("Unknown stock US.XXXX", RefusalKind.INVALID),
            ("未知股票", RefusalKind.INVALID),
            ("No permission for this market", RefusalKind.INVALID),
            ("request too frequent", RefusalKind.MESSAGE_RATE),
            ("network timeout", RefusalKind.OTHER),
            ("", RefusalKind.OTHER),
        ],
    )
    def test_refusals(self, text, kind):
        assert refusal_kind(text) is kind

    @pytest.mark.parametrize(
        ("event", "reason"),
        [
            (1, "gateway_unusable"),
            (4, "account_refused"),
            (7, "kicked_out"),
            (9, "account_refused"),
            (15, "human_needed"),
        ],
    )
    def test_events_that_end_quotes(self, event, reason):
        notice = pb.Notify.S2C(type=1, event=pb.Notify.GatewayEvent(eventType=event, desc="words"))
        found = read_notice(notice)
        assert isinstance(found, LoginRefused)
        assert (found.kind, found.reason) == ("slow", reason)
        assert "words" in found.text
        assert found.remedy

    @pytest.mark.parametrize("event", [6, 12, 13, 14, 0, 77])
    def test_events_that_do_not(self, event):
        notice = pb.Notify.S2C(type=1, event=pb.Notify.GatewayEvent(eventType=event, desc=""))
        assert read_notice(notice) == Ignored("gateway_event")

    def test_the_state_of_the_connection(self):
        lost = pb.Notify.S2C(type=3, connectStatus=pb.Notify.ConnectStatus(qotLogined=False, trdLogined=True))
        back = pb.Notify.S2C(type=3, connectStatus=pb.Notify.ConnectStatus(qotLogined=True, trdLogined=False))
        assert read_notice(lost).reason == "login_lost"
        assert read_notice(back) == Ignored("notice")
        assert read_notice(pb.Notify.S2C(type=3)) == Ignored("notice")
        assert read_notice(pb.Notify.S2C(type=1)) == Ignored("notice")
