"""The simulator answers as the vendor's documentation says, also where clients do wrong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from src.venues.alpaca.simulator import Account, Market, SimulatorConfig
from src.venues.alpaca.simulator.__main__ import configure, parse_arguments
from src.venues.alpaca.simulator.frames import encode
from src.venues.alpaca.simulator.rest import RestService
from src.venues.alpaca.simulator.server import prepared_trades
from src.venues.alpaca.simulator.session import Session
from src.venues.alpaca.times import rfc3339
from tests.support.alpaca_frames import PRINTED_GREETING

PLUS = Account(key="P", secret="p", plan="plus")
FREE = Account(key="F", secret="f", plan="free")
NOW_NS = 1_765_553_445_000_000_000


class OpenDoor:
    def __init__(self) -> None:
        self.taken = False

    def account(self, key: str, secret: str) -> Account | None:
        return next((one for one in (PLUS, FREE) if (one.key, one.secret) == (key, secret)), None)

    def take_slot(self, session: Session) -> bool:
        del session
        was, self.taken = self.taken, True
        return not was


def said(session: Session, message: Any) -> Any:
    """The one answer to a message."""
    (answer,) = session.take(message if isinstance(message, str | bytes) else json.dumps(message))
    return answer.get("code") or answer.get("msg") or {name: value for name, value in answer.items() if name != "T"}


def session(path: str = "/v2/sip", account: Account | None = PLUS, door: OpenDoor | None = None) -> Session:
    """A session, logged in unless ``account`` is None."""
    one = Session(path, "json", door or OpenDoor())
    if account is not None:
        assert said(one, {"action": "auth", "key": account.key, "secret": account.secret}) == "authenticated"
    return one


def test_greetings_with_and_without_a_key_in_the_handshake() -> None:
    assert Session("/v2/sip", "json", OpenDoor()).greeting({}) == [{"T": "success", "msg": "connected"}]
    assert encode(Session("/v2/sip", "msgpack", OpenDoor()).greeting({}), "msgpack") == PRINTED_GREETING
    headers = {"APCA-API-KEY-ID": "P", "APCA-API-SECRET-KEY": "p"}
    assert [one["msg"] for one in Session("/v2/sip", "json", OpenDoor()).greeting(headers)] == [
        "connected",
        "authenticated",
    ]


def test_the_printed_session() -> None:
    one = session()
    everything = {"action": "subscribe", "trades": ["AAPL", "TSLA"], "quotes": ["AAPL"], "statuses": ["*"]}
    assert said(one, everything) == {
        "trades": ["AAPL", "TSLA"], "quotes": ["AAPL"], "bars": [], "updatedBars": [], "dailyBars": [], "statuses": ["*"],
        "lulds": [], "corrections": ["AAPL", "TSLA"], "cancelErrors": ["AAPL", "TSLA"],
    }  # fmt: skip
    assert said(one, {"action": "unsubscribe", "trades": ["TSLA"]})["corrections"] == ["AAPL"]
    assert said(one, {"action": "subscribe", "trades": "AAPL"}) == 400


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 400),
        ("[]", 400),
        ({"action": "nonsense"}, 400),
        ({"action": "subscribe", "trades": [1]}, 400),
        ({"action": "subscribe", "trades": [""]}, 400),
        ({"action": "subscribe", "orderbooks": ["AAPL"]}, 410),
        ({"action": "auth", "key": "P", "secret": "p"}, 403),
    ],
)
def test_wrong_messages(message: Any, code: int) -> None:
    assert said(session(), message) == code


def test_who_may_come_in() -> None:
    assert said(session(account=None), {"action": "subscribe", "trades": ["A"]}) == 401
    assert said(session(account=None), {"action": "auth", "key": "P", "secret": "wrong"}) == 402
    assert said(session(account=None), {"action": "auth"}) == 402
    assert said(session(account=None), {"action": "auth", "key": "F", "secret": "f"}) == 409
    door = OpenDoor()
    session("/v2/iex", FREE, door)
    assert said(session("/v2/iex", None, door), {"action": "auth", "key": "F", "secret": "f"}) == 406


def test_the_limit_of_the_free_plan_changes_nothing_when_it_refuses() -> None:
    one = session("/v2/iex", FREE)
    names = [f"S{number}" for number in range(30)]
    said(one, {"action": "subscribe", "trades": names})
    assert said(one, {"action": "subscribe", "trades": ["ONE"]}) == 405
    assert said(one, {"action": "subscribe", "quotes": ["ONE"]}) == 405
    assert said(one, {"action": "subscribe", "bars": ["ONE"]})["trades"] == sorted(names)
    assert said(one, {"action": "subscribe", "trades": ["*"]}) == 405
    assert said(one, {"action": "unsubscribe", "trades": names[:1]})["trades"] == sorted(names[1:])
    assert "ONE" in said(one, {"action": "subscribe", "trades": ["ONE"]})["trades"]


def test_the_test_feed_has_three_channels_and_a_short_acknowledgement() -> None:
    one = session("/v2/test", FREE)
    assert said(one, {"action": "subscribe", "trades": ["FAKEPACA"]}) == {
        "trades": ["FAKEPACA"],
        "quotes": [],
        "bars": [],
    }
    assert said(one, {"action": "subscribe", "statuses": ["FAKEPACA"]}) == 410


def test_who_wants_what() -> None:
    one = session()
    said(one, {"action": "subscribe", "trades": ["AAPL"], "statuses": ["*"]})
    for kind, symbol, wants in (("t", "AAPL", True), ("c", "AAPL", True), ("x", "AAPL", True), ("t", "TSLA", False),
                                ("q", "AAPL", False), ("s", "TSLA", True), ("zz", "AAPL", False)):  # fmt: skip
        assert one.wants({"T": kind, "S": symbol}) is wants


# -- the market --------------------------------------------------------------------------------------------------------


def test_the_same_seed_trades_the_same_at_the_rate_it_is_told() -> None:
    config = SimulatorConfig(trades_per_s=100.0, correction_share=0.1, cancel_share=0.1, seed=5)
    one, other = Market(config, NOW_NS), Market(config, NOW_NS)
    said = [market.step(NOW_NS + 10**10) for market in (one, other)]
    assert said[0] == said[1]
    assert sum(message["T"] == "t" for message in said[0]) == 1_000
    assert len(one.corrected) > 50
    assert len(one.cancelled) > 50
    times = [message["t"] for message in said[0] if message["T"] == "t"]
    assert times == sorted(times)
    assert one.step(NOW_NS) == [], "time does not run backwards"


def test_ids_are_unique_within_symbol_exchange_and_day_and_nothing_is_amended_twice() -> None:
    market = Market(SimulatorConfig(trades_per_s=500.0, correction_share=0.2, cancel_share=0.2), NOW_NS)
    said = market.step(NOW_NS + 10**10)
    ids = [(one["S"], one["x"], one["i"]) for one in said if one["T"] == "t"] + [
        (one["S"], one["x"], one["ci"]) for one in market.corrected
    ]
    assert len(set(ids)) == len(ids)
    amended = [(one["S"], one["x"], one["oi"]) for one in market.corrected] + [
        (one["S"], one["x"], one["i"]) for one in market.cancelled
    ]
    assert len(set(amended)) == len(amended)
    assert set(amended) <= set(ids)


def test_a_minute_that_ends_is_a_bar_of_its_trades() -> None:
    market = Market(SimulatorConfig(), NOW_NS)
    minute_ns = NOW_NS - NOW_NS % (60 * 10**9)
    market.trade("AAPL", minute_ns, price=10.0, size=5)
    market.trade("AAPL", minute_ns + 1, price=12.0, size=5)
    bar, _ = market.trade("AAPL", minute_ns + 60 * 10**9, price=11.0, size=1)
    assert {name: bar[name] for name in "TSohlcvn"} == {
        "T": "b",
        "S": "AAPL",
        "o": 10.0,
        "h": 12.0,
        "l": 10.0,
        "c": 12.0,
        "v": 10.0,
        "n": 2,
    }


def test_prepared_trades_are_all_different() -> None:
    arrays = prepared_trades(100, ["A", "B"], per_frame=7)
    assert [len(array) for array in arrays] == [7] * 14 + [2]
    assert len({(one["S"], one["x"], one["i"]) for array in arrays for one in array}) == 100


# -- HTTP --------------------------------------------------------------------------------------------------------------


def ask(service: RestService, target: str, account: Account = PLUS) -> tuple[int, Any]:
    headers = {"APCA-API-KEY-ID": account.key, "APCA-API-SECRET-KEY": account.secret}
    answer = service.answer(target, headers, now_s=0.0, now_ns=NOW_NS)
    return answer.status, msgspec.json.decode(answer.body)


@pytest.fixture
def service() -> RestService:
    config = SimulatorConfig(accounts=(PLUS, FREE), rest_per_minute=20, page_most=2)
    market = Market(config, NOW_NS)
    for number in range(5):
        market.trade("AAPL", NOW_NS - 3_600 * 10**9 + number)
    return RestService(config, market)


def test_the_printed_pages(service: RestService) -> None:
    start = rfc3339(NOW_NS - 3_600 * 10**9)
    status, first = ask(service, f"/v2/stocks/trades?symbols=AAPL&start={start}&limit=100")
    assert (status, len(first["trades"]["AAPL"])) == (200, 2)
    assert set(first["trades"]["AAPL"][0]) == {"t", "x", "p", "s", "c", "i", "z"}
    _, last = ask(service, f"/v2/stocks/trades?symbols=AAPL&start={start}&limit=100&page_token=cm93fDQ=")
    assert (len(last["trades"]["AAPL"]), last["next_page_token"]) == (1, None)
    assert ask(service, f"/v2/stocks/trades?symbols=NOSUCH&start={start}") == (
        200,
        {"trades": {}, "next_page_token": None},
    )


@pytest.mark.parametrize(
    ("target", "account", "status"),
    [
        ("/v2/stocks/trades?symbols=AAPL&start=2025-12-12&end=2025-12-12T10:00:00-05:00", PLUS, 200),
        ("/v2/stocks/trades?symbols=AAPL", Account(key="X", secret="x"), 403),
        ("/v2/stocks/trades?symbols=AAPL", FREE, 403),
        ("/v2/stocks/trades?symbols=AAPL&feed=iex", FREE, 200),
        ("/v2/stocks/trades", PLUS, 400),
        ("/v2/stocks/trades?symbols=AAPL&limit=0", PLUS, 400),
        ("/v2/stocks/trades?symbols=AAPL&limit=x", PLUS, 400),
        ("/v2/stocks/trades?symbols=AAPL&start=nonsense", PLUS, 400),
        ("/v2/stocks/trades?symbols=AAPL&page_token=%21", PLUS, 400),
        ("/v2/stocks/trades?symbols=AAPL&feed=delayed_sip", PLUS, 400),
        ("/v2/stocks/snapshots", PLUS, 400),
        ("/v2/elsewhere", PLUS, 404),
    ],
)
def test_requests_right_and_wrong(service: RestService, target: str, account: Account, status: int) -> None:
    assert ask(service, target, account)[0] == status


def test_too_many_requests_are_refused(service: RestService) -> None:
    assert [ask(service, "/v2/stocks/snapshots?symbols=AAPL")[0] for _ in range(22)] == [200] * 20 + [429] * 2


def test_the_command_line() -> None:
    options = parse_arguments(
        ["--symbols", "A,AAPL", "--trades-per-s", "7", "--plan", "free", "--corrections", "0.5", "--seed", "9"]
    )
    config = configure(options)
    assert (config.symbols, config.trades_per_s, config.correction_share, config.seed) == (
        {"A": 100.0, "AAPL": 230.0},
        7.0,
        0.5,
        9,
    )
    assert config.accounts[0].symbols == 30
    assert configure(parse_arguments(["--prepared", "10"])).trades_per_s == 0
