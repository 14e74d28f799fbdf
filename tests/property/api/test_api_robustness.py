"""Whatever is asked, the answer is JSON with a reason, never a fault of ours; and pages are a partition of the result."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.api.app import create_app
from src.api.cursors import newest_first, scope_of
from src.api.reading import Reader
from src.models.clock import ManualClock
from src.models.errors import CollectorError
from src.models.metrics import Metrics
from src.models.status import Health
from src.models.writes import Collection, Insert, WriteBatch
from src.store.base import Query
from src.store.memory import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
PARAMETERS = [
    "ethAddress", "coin", "status", "from", "to", "limit", "cursor", "venue", "symbol", "interval", "stream", "reason",
    "open", "dex", "enabled", "source", "$where", "coin[$ne]",
]  # fmt: skip
PATHS = ["orders", "positions", "trades", "candles", "coverage", "traders", "orderbook/hyperliquid/BTC"]
VALUES = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.sampled_from(
        ["BTC", "open", "0x" + "a" * 40, "2026-01-01", "true", "1m", "hyperliquid", "W10", "{}", '{"$gt":""}']
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Status:
    def health(self):
        return Health("ok", ready=True, checks=())

    def stats(self):
        return {}


class Traders:
    async def add(self, addresses, *, source, tags):
        assert all(address == address.lower() and len(address) == 42 for address in addresses)
        return len(addresses)

    async def remove(self, addresses):
        return 0

    def view(self, address):
        return None


@pytest.fixture(scope="module")
def app():
    return create_app(
        status=Status(),
        store=MemoryStore(),
        metrics=Metrics(),
        traders=Traders(),
        token=None,
        allowed_origins=(),
        clock=ManualClock(),
        version="1",
    )


def ask(app, method: str, url: str, **arguments) -> httpx.Response:
    """One request; an exception inside the application comes out of this call."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, url, **arguments)

    return asyncio.run(run())


def check(answer: httpx.Response) -> None:
    """An answer is good, or says what is wrong within a readable length."""
    assert answer.status_code < 500
    body = answer.json()
    if answer.status_code >= 400:
        assert isinstance(body["detail"], str)
        assert 0 < len(body["detail"]) < 3000


@RELAXED
@given(path=st.sampled_from(PATHS), query=st.lists(st.tuples(st.sampled_from(PARAMETERS), VALUES), max_size=5))
def test_any_query(app, path, query):
    check(ask(app, "GET", f"/api/{path}", params=query))


@RELAXED
@given(
    parts=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4),
    method=st.sampled_from(["GET", "DELETE"]),
)
def test_any_path(app, parts, method):
    for prefix in ("orders", "orderbook", "traders", ""):
        path = "/".join(quote(part, safe="") for part in [prefix, *parts] if part)
        check(ask(app, method, f"/api/{path}"))


@RELAXED
@given(body=JSON | st.fixed_dictionaries({"addresses": JSON}, optional={"tags": JSON}) | st.binary(max_size=60))
def test_any_body(app, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    check(ask(app, "POST", "/api/traders", content=content, headers={"content-type": "application/json"}))


@RELAXED
@given(
    header=st.sampled_from(["host", "origin", "authorization", "content-type", "content-length", "x-forwarded-for"]),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)
def test_any_header(app, header, value):
    for method in ("GET", "POST"):
        check(ask(app, method, "/api/traders", content=b"{}", headers={header: value}))


@RELAXED
@given(
    minutes=st.lists(st.none() | st.integers(0, 5), max_size=30),
    limit=st.integers(1, 12),
    begin=st.none() | st.integers(0, 6),
    end=st.none() | st.integers(0, 6),
)
def test_pages_are_a_partition_of_the_sorted_result(minutes, limit, begin, end):
    documents = [
        {"_id": f"{number:03}", "timestamp": None if minute is None else START + timedelta(minutes=minute)}
        for number, minute in enumerate(minutes)
    ]
    query = Query(
        at_least={} if begin is None else {"timestamp": START + timedelta(minutes=begin)},
        below={} if end is None else {"timestamp": START + timedelta(minutes=end)},
    )
    expected = sorted(
        (
            (minute is not None, minute or 0, f"{number:03}")
            for number, minute in enumerate(minutes)
            if (begin is None and end is None)
            or (minute is not None and (begin is None or minute >= begin) and (end is None or minute < end))
        ),
        reverse=True,
    )

    async def read_all() -> list[str]:
        store = MemoryStore()
        await store.write(WriteBatch(1, [[Insert(Collection.TRADES, document) for document in documents]]))
        reader, scope = Reader(store, timeout_s=5), scope_of("x", {})
        seen, cursor = [], None
        while True:
            page = await newest_first(
                reader, Collection.TRADES, [query], field="timestamp", limit=limit, scope=scope, cursor=cursor
            )
            assert len(page.items) == limit or page.next_cursor is None
            seen += [item["_id"] for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return seen

    assert asyncio.run(read_all()) == [key for _, _, key in expected]


def test_a_reader_refuses_to_read_without_a_bound():
    with pytest.raises(AssertionError, match="without a bound"):
        asyncio.run(Reader(MemoryStore(), timeout_s=1).find(Collection.TRADES, Query()))


def test_errors_of_the_reader_are_ours():
    class Never(MemoryStore):
        async def find(self, collection, query):
            await asyncio.Event().wait()
            yield {}

    with pytest.raises(CollectorError, match="did not answer within"):
        asyncio.run(Reader(Never(), timeout_s=0.01).find(Collection.TRADES, Query(limit=1)))
