"""Running trades, batches of them, the candle of the day, errors, and frames that are not kept."""

import math

import pytest

from src.models.errors import WireError
from src.models.messages import Bar, Data, Ignored, LoginRefused, Refusal, RefusalKind, Several, Trade
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.pipeline.documents import write_of_trade
from src.venues.stockbit.mapper import BAD_TICKER, BAD_TRADE, StockbitMapper
from src.venues.stockbit.simulator.frames import trade_frame, trades_frame
from src.venues.stockbit.simulator.market import SimTrade
from src.venues.stockbit.stockbit_pb2 import Error, Frame, Instant, LivePrice, RunningTrade, RunningTradeBatch
from tests.support.stockbit_frames import START_MS

DAY_START_MS = START_MS - (11 * 3600 + 5 * 60 + 42) * 1000 - 178


def decode(frame):
    return StockbitMapper().decode(frame.SerializeToString() if isinstance(frame, Frame) else frame, START_MS + 9)


def row(**fields):
    time = Instant(seconds=START_MS // 1000, nanos=START_MS % 1000 * 1_000_000)
    return RunningTrade(
        **{"stock": "BBCA", "price": 7725.0, "volume": 500.0, "trade_number": 17, "time": time, "market_board": 1}
        | fields
    )


def only(decoded):
    (message,) = decoded.messages
    return message


class TestTrades:
    def test_a_trade(self):
        data = decode(Frame(running_trade=row(action=1)))
        assert str(data.stream) == "stockbit/running_trade/BBCA"
        trade = only(data)
        assert trade == Trade(
            "stockbit", "BBCA", "20260204-17", "7725", "500", "B", START_MS, START_MS + 9, board="RG"
        )

    @pytest.mark.parametrize(("action", "side"), [(1, "B"), (2, "A"), (0, None), (9, None)])
    def test_sides(self, action, side):
        assert only(decode(Frame(running_trade=row(action=action)))).side == side

    @pytest.mark.parametrize(
        ("board", "symbol"), [(0, "BBCA"), (1, "BBCA"), (2, "TN.BBCA"), (3, "NG.BBCA"), (4, "B4.BBCA")]
    )
    def test_boards_stay_apart(self, board, symbol):
        data = decode(Frame(running_trade=row(market_board=board)))
        assert only(data).symbol == symbol
        assert data.stream.subject == "BBCA"

    def test_the_other_time_counts_where_the_exchange_gives_none(self):
        frame = row()
        frame.ClearField("time")
        assert only(decode(Frame(running_trade=frame))).time_ms == START_MS + 9
        frame.websocket_time.seconds = 1_770_000_000
        assert only(decode(Frame(running_trade=frame))).time_ms == 1_770_000_000_000

    def test_numbers_begin_anew_each_day_of_the_exchange(self):
        late = Instant(seconds=DAY_START_MS // 1000 + 24 * 3600 - 1)
        early = Instant(seconds=DAY_START_MS // 1000 + 24 * 3600)
        ids = [only(decode(Frame(running_trade=row(time=time)))).trade_id for time in (late, early)]
        assert ids == ["20260204-17", "20260205-17"]

    def test_a_trade_without_a_number_is_told_apart_by_what_it_is(self):
        one, other = (only(decode(Frame(running_trade=row(trade_number=0, volume=v)))) for v in (100.0, 200.0))
        assert one.trade_id != other.trade_id

    @pytest.mark.parametrize(
        "fields",
        [
            {"price": 0.0},
            {"price": -1.0},
            {"price": math.nan},
            {"price": math.inf},
            {"volume": 0.0},
            {"volume": math.nan},
            {"time": Instant(seconds=-5)},
            {"time": Instant(seconds=1 << 60)},
        ],
    )
    def test_impossible_trades_are_refused(self, fields):
        with pytest.raises(WireError) as caught:
            decode(Frame(running_trade=row(**fields)))
        assert caught.value.reason == BAD_TRADE

    def test_an_impossible_ticker_is_refused(self):
        with pytest.raises(WireError) as caught:
            decode(Frame(running_trade=row(stock="=1+1")))
        assert caught.value.reason == BAD_TICKER

    def test_fractions_survive(self):
        trade = only(decode(Frame(running_trade=row(price=0.1, volume=12.5))))
        assert (trade.price, trade.size) == ("0.1", "12.5")


class TestBatches:
    def test_one_share(self):
        data = decode(Frame(running_trade_batch=RunningTradeBatch(trades=[row(), row(trade_number=18)])))
        assert [trade.trade_id for trade in data.messages] == ["20260204-17", "20260204-18"]

    def test_several_shares_become_several_streams(self):
        batch = RunningTradeBatch(trades=[row(), row(stock="TLKM"), row(trade_number=18)])
        decoded = decode(Frame(running_trade_batch=batch))
        assert isinstance(decoded, Several)
        assert {part.stream.subject: len(part.messages) for part in decoded.parts} == {"BBCA": 2, "TLKM": 1}

    def test_a_bad_trade_costs_itself_alone(self):
        counted = {}
        mapper = StockbitMapper(odd=counted.__setitem__)
        batch = RunningTradeBatch(trades=[row(price=0.0), row()])
        data = mapper.decode(Frame(running_trade_batch=batch).SerializeToString(), START_MS)
        assert len(data.messages) == 1
        assert counted == {"bad_trade": 1}
        with pytest.raises(WireError):
            decode(Frame(running_trade_batch=RunningTradeBatch(trades=[row(price=0.0)])))

    def test_an_empty_batch_is_nothing(self):
        assert decode(Frame(running_trade_batch=RunningTradeBatch())) == Ignored("empty_batch")

    def test_trades_replayed_after_a_reconnect_are_stored_once(self):
        diff, mapper = Diff(metrics=Metrics()), StockbitMapper()
        trades = [SimTrade("BBCA", 7725, 100, is_buy=True, number=n, at_ms=START_MS + n) for n in range(1, 41)]
        written = []
        for frame in [*map(trade_frame, trades), trades_frame(trades), trades_frame(trades[20:])]:
            changes = diff.apply(mapper.decode(frame, START_MS + 100))
            written += [write_of_trade(change).document["_id"] for change in changes]
        assert written == [f"stockbit:BBCA:20260204-{n}" for n in range(1, 41)]


PRICE = {
    "stock_code": "BBCA",
    "lastprice": 7725.0,
    "open": 7700.0,
    "high": 7750.0,
    "low": 7675.0,
    "volume": 1000.0,
    "frequency": 7.0,
    "average": 7712.5,
    "board": 1,
}


class TestPrices:
    def test_the_candle_of_the_day(self):
        bar = only(decode(Frame(liveprice=LivePrice(**PRICE))))
        assert isinstance(bar, Bar)
        assert (bar.symbol, bar.interval, bar.time_ms) == ("BBCA", "1d", DAY_START_MS)
        assert (bar.open, bar.high, bar.low, bar.close) == ("7700", "7750", "7675", "7725")
        assert (bar.volume, bar.count, bar.vwap) == ("1000", 7, "7712.5")

    def test_before_the_first_trade_there_is_none(self):
        data = decode(Frame(liveprice=LivePrice(**PRICE | {"open": 0.0})))
        assert isinstance(data, Data)
        assert data.messages == ()

    @pytest.mark.parametrize("wrong", [{"lastprice": math.nan}, {"high": -1.0}, {"stock_code": "bb"}])
    def test_impossible_prices_are_refused(self, wrong):
        with pytest.raises(WireError):
            decode(Frame(liveprice=LivePrice(**PRICE | wrong)))


class TestOthers:
    @pytest.mark.parametrize(
        ("error", "meaning"),
        [
            (Error(code=401, message="x"), LoginRefused),
            (Error(message="You are not authorised"), LoginRefused),
            (Error(code=400, message="UNAUTHORIZED"), LoginRefused),
            (Error(code=400, message="bad request"), Refusal),
            (Error(), Refusal),
        ],
    )
    def test_errors(self, error, meaning):
        decoded = decode(Frame(error=error))
        assert isinstance(decoded, meaning)
        if meaning is Refusal:
            assert decoded.kind is RefusalKind.OTHER

    @pytest.mark.parametrize("name", ["top20", "watchlist", "iepiev", "best_bid_offer", "orderbook_v3", "tradebook"])
    def test_what_is_not_kept_is_counted_by_its_name(self, name):
        assert decode(Frame(**{name: b"\x0a\x01x"})) == Ignored(name)

    def test_a_field_nobody_knows(self):
        assert decode(b"\xa2\x06\x01x") == Ignored("unknown_channel")

    def test_text_and_nothing_are_refused(self):
        for frame in ("text", b""):
            with pytest.raises(WireError):
                StockbitMapper().decode(frame, START_MS)
