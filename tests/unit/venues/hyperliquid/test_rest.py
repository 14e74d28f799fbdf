"""Requests to ``/info``: what is sent, what is charged, and what each kind of bad answer becomes."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from src.models.clock import ManualClock
from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError, VenueRequestError
from src.models.metrics import REST_REQUESTS, Metrics
from src.venues.hyperliquid.answers import is_loopback, new_client, retry_after_s
from src.venues.hyperliquid.rest import ATTEMPTS, HyperliquidRest
from src.venues.hyperliquid.weight_budget import WeightBudget

USER = "0x00000000000000000000000000000000000000aa"
RECORDED = Path(__file__).parents[5] / "shared/data/hyperliquid/recorded"
Handler = Callable[[httpx.Request], httpx.Response]


def recorded(name: str) -> bytes:
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"recorded data is not here: {name}")
    return path.read_bytes()


class Bench:
    """A client whose venue is a function and whose waiting moves a manual clock."""

    def __init__(self, handler: Handler, **options) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.budget = WeightBudget(clock=self.clock, sleep=self._sleep)
        self.requests: list[dict[str, object]] = []
        self.slept: list[float] = []
        self.rest = HyperliquidRest(
            "http://127.0.0.1:1/",
            clock=self.clock,
            metrics=self.metrics,
            budget=self.budget,
            client=httpx.AsyncClient(transport=httpx.MockTransport(self._record(handler))),
            sleep=self._sleep,
            rng=random.Random(1),
            **options,
        )

    def _record(self, handler: Handler) -> Handler:
        def handle(request: httpx.Request) -> httpx.Response:
            assert request.method == "POST"
            assert str(request.url) == "http://127.0.0.1:1/info"
            assert request.headers["content-type"] == "application/json"
            self.requests.append(json.loads(request.content))
            return handler(request)

        return handle

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def outcome(self, label: str) -> float:
        return self.metrics.value(REST_REQUESTS, "hyperliquid", label)


def answering(*answers: httpx.Response | Exception) -> Handler:
    remaining = list(answers)

    def handle(_request: httpx.Request) -> httpx.Response:
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


def ok(body: bytes) -> httpx.Response:
    return httpx.Response(200, content=body)


@pytest.mark.parametrize(
    ("ask", "payload"),
    [
        (lambda r: r.clearinghouse_state(USER), {"type": "clearinghouseState", "user": USER}),
        (lambda r: r.clearinghouse_state(USER, "xyz"), {"type": "clearinghouseState", "user": USER, "dex": "xyz"}),
        (lambda r: r.frontend_open_orders(USER), {"type": "frontendOpenOrders", "user": USER}),
        (lambda r: r.user_fills(USER), {"type": "userFills", "user": USER, "aggregateByTime": False}),
        (
            lambda r: r.user_fills_by_time(USER, 5, 9),
            {"type": "userFillsByTime", "user": USER, "startTime": 5, "endTime": 9, "aggregateByTime": False},
        ),
        (
            lambda r: r.user_fills_by_time(USER, 5),
            {"type": "userFillsByTime", "user": USER, "startTime": 5, "aggregateByTime": False},
        ),
        (lambda r: r.recent_trades("BTC"), {"type": "recentTrades", "coin": "BTC"}),
    ],
)
async def test_a_request_is_sent_as_documented_and_its_answer_comes_back_untouched(ask, payload) -> None:
    body = b'[ {"oid" :1, "px":"1.50"} ]'
    bench = Bench(answering(ok(body)))
    assert await ask(bench.rest) == body
    assert bench.requests == [payload]
    assert bench.outcome("ok") == 1


async def test_the_base_weight_is_charged_for_plain_requests() -> None:
    bench = Bench(answering(ok(b"{}")))
    await bench.rest.clearinghouse_state(USER)
    await bench.rest.frontend_open_orders(USER)
    assert bench.budget.in_use() == 22


async def test_rows_are_charged_after_the_answer() -> None:
    bench = Bench(answering(ok(json.dumps([{}] * 41).encode())))
    await bench.rest.user_fills(USER)
    assert bench.budget.in_use() == 20 + 3


async def test_a_failed_request_costs_its_base_weight_each_time() -> None:
    bench = Bench(answering(httpx.Response(422, text="Failed to deserialize the JSON body into the target type")))
    with pytest.raises(VenueRequestError):
        await bench.rest.user_fills(USER)
    assert bench.budget.in_use() == 20


async def test_requests_beyond_the_budget_wait_for_the_next_minute() -> None:
    bench = Bench(answering(ok(b"[]")))
    for _ in range(60):
        await bench.rest.frontend_open_orders(USER)
    assert len(bench.requests) == 60
    assert sum(bench.slept) == pytest.approx(60.0, abs=1.0)  # 54 fit into 1080


async def test_concurrent_requests_share_the_budget_and_all_get_through() -> None:
    bench = Bench(answering(ok(b"[]")))
    await asyncio.gather(*(bench.rest.user_fills(USER) for _ in range(70)))
    assert len(bench.requests) == 70
    assert bench.outcome("ok") == 70
    assert bench.budget.in_use() <= bench.budget.usable


async def test_order_status_tells_known_from_unknown() -> None:
    unknown = Bench(answering(ok(recorded("gohl_QueryOrderByOid_0_orderStatus.json"))))
    assert await unknown.rest.order_status(USER, 141622259364) is None
    inner = b'{"coin":"ETH","side":"B","sz":"0.0","oid":37907159219}'
    answer = b'{"status":"order","order":{"order":' + inner + b',"status":"filled","statusTimestamp":1755857898644}}'
    known = Bench(answering(ok(answer)))
    outcome = await known.rest.order_status(USER, 37907159219)
    assert outcome is not None
    assert (outcome.oid, outcome.status, outcome.status_ms) == (37907159219, "filled", 1755857898644)
    assert outcome.order == inner
    assert known.requests == [{"type": "orderStatus", "user": USER, "oid": 37907159219}]


async def test_recorded_historical_orders_give_their_outcomes() -> None:
    body = recorded("pysdk_historical_orders.json")
    rows = await Bench(answering(ok(body))).rest.historical_orders(USER)
    expected = json.loads(body)
    assert [(row.oid, row.status) for row in rows] == [(row["order"]["oid"], row["status"]) for row in expected]
    assert json.loads(rows[0].order) == expected[0]["order"]


async def test_recorded_dexes_and_meta_decode() -> None:
    dexes = await Bench(answering(ok(recorded("gohl_PerpDexs_0_perpDexs.json")))).rest.perp_dexs()
    assert dexes[:3] == ["", "xyz", "flx"]
    meta = await Bench(answering(ok(recorded("gohl_Meta_0_meta.json")))).rest.meta()
    assert [asset.name for asset in meta.universe[:2]] == ["BTC", "ETH"]
    assert {asset.name for asset in meta.universe if asset.isDelisted} >= {"MATIC"}


async def test_exchange_status_carries_the_venues_clock() -> None:
    bench = Bench(answering(ok(b'{"time":1791280777681,"specialStatuses":null}')))
    assert (await bench.rest.exchange_status()).time == 1791280777681


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        (
            httpx.Response(422, text="Failed to deserialize the JSON body into the target type"),
            VenueRequestError,
            "422",
        ),
        (httpx.Response(403, text="<html>blocked</html>"), VenueFatalError, "refuses this machine"),
        (httpx.Response(404, text="no such page"), VenueRequestError, "404"),
        (
            httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
            VenueFatalError,
            "elsewhere.example",
        ),
        (ok(b"null"), VenueRequestError, "does not know"),
        (ok(b'{"type":"error","message":"no such thing"}'), VenueRequestError, "no such thing"),
        (ok(b'{"status":"err","response":"User does not exist"}'), VenueRequestError, "User does not exist"),
    ],
)
async def test_an_answer_that_will_not_change_is_raised_at_once(response, error, says) -> None:
    bench = Bench(answering(response))
    with pytest.raises(error, match=says) as raised:
        await bench.rest.info({"type": "meta"})
    assert not raised.value.retryable
    assert len(bench.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(500, text="null"),
        httpx.Response(502, html="<html><h1>502 Bad Gateway</h1></html>"),
        httpx.Response(503),
        ok(b"<html>maintenance</html>"),
        ok(b""),
        ok(b'{"universe": ['),
        ok(b"[" * 100_000),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("half an answer"),
    ],
)
async def test_what_may_pass_is_tried_again_with_jitter_and_then_raised(failure) -> None:
    bench = Bench(answering(failure))
    with pytest.raises(VenueError) as raised:
        await bench.rest.info({"type": "meta"})
    assert raised.value.retryable
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert len(bench.requests) == ATTEMPTS
    assert len(bench.slept) == ATTEMPTS - 1
    assert sum(bench.slept) < 10

    recovering = Bench(answering(failure, ok(b"{}")))
    assert await recovering.rest.info({"type": "meta"}) == b"{}"
    assert len(recovering.requests) == 2


async def test_a_500_with_null_names_the_likely_cause() -> None:
    with pytest.raises(VenueError, match="unknown coin"):
        await Bench(answering(httpx.Response(500, text="null"))).rest.info({"type": "l2Book", "coin": "NOPE"})


async def test_a_429_pauses_the_whole_address_for_as_long_as_it_says() -> None:
    limited = httpx.Response(429, text="null", headers={"retry-after": "7"})
    bench = Bench(answering(limited, ok(b"{}")))
    started = bench.clock.monotonic()
    await bench.rest.info({"type": "meta"})
    assert bench.clock.monotonic() - started >= 7
    assert bench.outcome("rate_limited") == 1


async def test_a_429_without_a_time_pauses_longer_each_time_and_is_raised_in_the_end() -> None:
    bench = Bench(answering(httpx.Response(429)))
    started = bench.clock.monotonic()
    with pytest.raises(VenueRateLimitedError) as raised:
        await bench.rest.info({"type": "meta"})
    assert raised.value.retry_after_s is None
    assert len(bench.requests) == ATTEMPTS
    assert bench.clock.monotonic() - started >= 5 + 10 + 20
    assert bench.budget.delay(2) > 0  # the next caller waits too


async def test_a_very_long_retry_after_is_handed_to_the_caller() -> None:
    bench = Bench(answering(httpx.Response(429, headers={"retry-after": "3600"})))
    with pytest.raises(VenueRateLimitedError) as raised:
        await bench.rest.info({"type": "meta"})
    assert raised.value.retry_after_s == 3600
    assert len(bench.requests) == 1


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "not a url", "http://[::bad"])
async def test_an_address_that_is_none_is_fatal(url) -> None:
    clock = ManualClock()
    rest = HyperliquidRest(url, clock=clock, metrics=Metrics(), budget=WeightBudget(clock=clock))
    try:
        with pytest.raises(VenueFatalError, match="not a usable address"):
            await rest.exchange_status()
    finally:
        await rest.close()


async def test_a_bad_certificate_is_fatal() -> None:
    error = httpx.ConnectError("handshake")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    with pytest.raises(VenueFatalError, match="certificate"):
        await Bench(answering(error)).rest.info({"type": "meta"})


@pytest.mark.parametrize("body", [b'{"status":"order","order":5}', b'{"status":3}', b"[1]", b'"text"'])
async def test_an_answer_of_another_shape_is_a_venue_error(body) -> None:
    with pytest.raises(VenueError, match="another shape"):
        await Bench(answering(ok(body))).rest.order_status(USER, 1)


async def test_rows_that_are_no_list_are_a_venue_error() -> None:
    with pytest.raises(VenueError, match="another shape"):
        await Bench(answering(ok(b'{"fills":[]}'))).rest.user_fills(USER)


async def test_an_oversized_answer_is_not_read_to_its_end() -> None:
    bench = Bench(answering(ok(b"[" + b"1," * 1_000_000 + b"1]")), max_answer_bytes=1000)
    with pytest.raises(VenueError, match="larger than 1,000 bytes"):
        await bench.rest.info({"type": "meta"})


async def test_a_compressed_bomb_is_bounded_by_its_unpacked_size() -> None:
    bomb = httpx.Response(200, content=gzip.compress(b"0" * 5_000_000), headers={"content-encoding": "gzip"})
    with pytest.raises(VenueError, match="larger than"):
        await Bench(answering(bomb), max_answer_bytes=100_000).rest.info({"type": "meta"})


async def test_cancelling_a_request_gives_its_hold_back() -> None:
    entered = asyncio.Event()

    async def hang(_request: httpx.Request) -> httpx.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    clock = ManualClock()
    budget = WeightBudget(clock=clock)
    async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as client:
        rest = HyperliquidRest("http://127.0.0.1:1", clock=clock, metrics=Metrics(), budget=budget, client=client)
        task = asyncio.create_task(rest.user_fills(USER))
        await entered.wait()
        assert budget.in_use() == 120
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert budget.in_use() == 20


async def test_over_a_real_socket_a_stalled_answer_ends_in_time(scripted_http) -> None:
    async def stall(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,")
        await writer.drain()
        await asyncio.sleep(30)

    scripted_http.script.append(stall)
    clock = ManualClock()
    rest = HyperliquidRest(
        scripted_http.url,
        clock=clock,
        metrics=Metrics(),
        budget=WeightBudget(clock=clock),
        timeout_s=0.1,
        sleep=lambda _seconds: asyncio.sleep(0),
    )
    try:
        with pytest.raises(VenueError, match="no answer in time"):
            await rest.exchange_status()
    finally:
        await rest.close()
        await rest.close()
    assert len(scripted_http.requests) == ATTEMPTS


async def test_over_a_real_socket_a_cut_answer_is_tried_again(scripted_http) -> None:
    async def cut(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,")
        await writer.drain()

    scripted_http.script.append(cut)
    scripted_http.answer(200, b'{"time":5}')
    clock = ManualClock()
    rest = HyperliquidRest(
        scripted_http.url,
        clock=clock,
        metrics=Metrics(),
        budget=WeightBudget(clock=clock),
        sleep=lambda _seconds: asyncio.sleep(0),
    )
    try:
        assert (await rest.exchange_status()).time == 5
    finally:
        await rest.close()
    assert len(scripted_http.requests) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 12 ", 12),
        ("soon", None),
        ("-5", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds) -> None:
    assert retry_after_s(value, wall_ms=1_700_000_000_000) == seconds


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:80/x", True),
        ("http://localhost", True),
        ("http://[::1]:5", True),
        ("https://api.hyperliquid.xyz", False),
        ("http://127.0.0.1.example.org", False),
        ("http://[::bad", False),
    ],
)
async def test_the_environments_proxy_is_never_asked_for_loopback(url, expected, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert is_loopback(url) is expected
    if "bad" in url:
        return
    async with new_client(url) as client:
        assert client.trust_env is not expected
        assert client.follow_redirects is False
