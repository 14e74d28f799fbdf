"""The HTTP side of order-book sessions: exact bodies, both ways to name tickers, refusals, who may change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.streams import parse_start
from src.models.errors import StoreError, StreamRefusedError

STATS = {"session_id": "stream_20260204_090001", "running": True, "status": "running", "tickers": ["BBCA"]}


class FakeStreams:
    """Remembers what was asked; ``error`` is raised by everything that changes."""

    def __init__(self):
        self.asked = []
        self.error = None

    def _note(self, *what):
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    async def start(self, tickers, *, venue, session_id):
        self._note("start", list(tickers), venue, session_id)
        return {
            "session_id": session_id or "s1",
            "tickers": list(tickers),
            "started_at": "2026-02-04T09:00:01.120331",
        }

    async def stop(self, session_id):
        self._note("stop", session_id)
        return {"session_id": session_id, "stopped_at": "2026-02-04T09:00:41"}

    async def refresh(self, session_id):
        self._note("refresh", session_id)
        return {"session_id": session_id, "refreshed_at": "2026-02-04T09:00:41"}

    def sessions(self):
        self._note("sessions")
        return [STATS]

    def session(self, session_id):
        self._note("session", session_id)
        return STATS if session_id == STATS["session_id"] else None

    def market_status(self):
        return {"exchange": "IDX", "status": "lunch"}


@pytest.fixture
def streams():
    return FakeStreams()


@pytest.fixture
async def client(world, streams):
    async with world.client(streams=streams) as made:
        yield made


URL = "/api/orderbook/streams"


class TestBodies:
    async def test_a_start_answers_as_documented(self, client, streams):
        answer = await client.post(URL, json={"tickers": ["BBCA", "TLKM"]})
        assert answer.status_code == 200
        assert answer.json() == {
            "success": True,
            "session_id": "s1",
            "tickers": ["BBCA", "TLKM"],
            "started_at": "2026-02-04T09:00:01.120331",
        }
        assert streams.asked == [("start", ["BBCA", "TLKM"], "stockbit", None)]

    async def test_lists_and_statistics(self, client):
        assert (await client.get(URL)).json() == {"success": True, "sessions": [STATS]}
        assert (await client.get(f"{URL}/{STATS['session_id']}")).json() == {"success": True, "stats": STATS}

    async def test_an_unknown_session(self, client):
        answer = await client.get(f"{URL}/nosuch")
        assert (answer.status_code, answer.json()) == (404, {"success": False, "error": "Session nosuch not found"})

    async def test_a_stop(self, client, streams):
        answer = await client.post(f"{URL}/s1/stop")
        assert answer.json() == {"success": True, "session_id": "s1", "stopped_at": "2026-02-04T09:00:41"}
        assert streams.asked == [("stop", "s1")]

    async def test_a_refresh_and_the_market(self, client, streams):
        assert (await client.post(f"{URL}/s1/refresh")).json()["success"] is True
        assert streams.asked == [("refresh", "s1")]
        market = (await client.get("/api/orderbook/market-status")).json()
        assert market == {"success": True, "exchange": "IDX", "status": "lunch"}

    @pytest.mark.parametrize("path", [URL, f"{URL}/s1/stop", f"{URL}/s1/refresh"])
    async def test_a_refusal_is_400_in_the_documented_shape(self, client, streams, path):
        streams.error = StreamRefusedError("Session s1 already exists")
        answer = await client.post(path, json={"tickers": ["BBCA"]})
        assert answer.status_code == 400
        assert answer.json() == {"success": False, "error": "Session s1 already exists"}

    async def test_a_missing_login_says_so(self, client, streams):
        streams.error = StreamRefusedError("No valid token", requires_login=True)
        answer = await client.post(URL, json={"tickers": ["BBCA"]})
        assert answer.status_code == 400
        assert answer.json() == {"success": False, "error": "No valid token", "requires_login": True}

    async def test_what_may_work_later_is_503(self, client, streams):
        streams.error = StreamRefusedError("not yet", later=True)
        for answer in (
            await client.post(URL, json={"tickers": ["BBCA"]}),
            await client.get(URL),
            await client.get(f"{URL}/s1"),
        ):
            assert (answer.status_code, answer.json()) == (503, {"success": False, "error": "not yet"})

    async def test_a_database_that_is_away_is_503(self, client, streams):
        streams.error = StoreError("away")
        answer = await client.post(URL, json={"tickers": ["BBCA"]})
        assert (answer.status_code, list(answer.json())) == (503, ["detail"])


class TestWaysToAsk:
    @pytest.mark.parametrize(
        ("content", "content_type"),
        [
            ('{"tickers": ["BBCA", "TLKM"]}', "application/json"),
            ('{"tickers": "BBCA\\nTLKM\\n"}', "application/json"),
            ('{"tickers": ["BBCA", "TLKM"], "max_retries": null}', "application/json"),
            ('["BBCA", "TLKM"]', "application/json; charset=utf-8"),
            ('{"tickers": ["BBCA", "TLKM"]}', "application/x-www-form-urlencoded"),
            ("BBCA\nTLKM\n", "text/plain"),
            ("BBCA\r\n\r\n TLKM", ""),
            ("BBCA, TLKM", "application/x-www-form-urlencoded"),
            ("tickers=BBCA%0ATLKM", "application/x-www-form-urlencoded"),
            ("\ufeffBBCA\nTLKM", "text/plain"),
        ],
    )
    async def test_json_and_lines_of_text_mean_the_same(self, client, streams, content, content_type):
        headers = {"content-type": content_type} if content_type else {}
        answer = await client.post(URL, content=content.encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        assert streams.asked == [("start", ["BBCA", "TLKM"], "stockbit", None)]

    async def test_venue_and_id_are_handed_on(self, client, streams):
        body = {"tickers": ["PURR/USDC"], "venue": "hyperliquid", "session_id": "mine-1"}
        answer = await client.post(URL, json=body)
        assert streams.asked == [("start", ["PURR/USDC"], "hyperliquid", "mine-1")]
        assert answer.json()["venue"] == "hyperliquid"

    @pytest.mark.parametrize(
        ("body", "part"),
        [
            (b"{", "not JSON"),
            (b"[" * 5000, "not JSON"),
            (b'"BBCA"', "tickers"),
            (b"\xff\xfe", "UTF-8"),
            (b'{"tickers": {"$gt": ""}}', "tickers is a list"),
            (b'{"tickers": [1]}', "tickers is a list"),
            (b'{"tickers": ["BBCA"], "venue": ["x"]}', "venue is a text"),
            (b'{"tickers": ["BBCA"], "session_id": {"$ne": 1}}', "session_id is a text"),
            (b'{"tickers": ["BBCA"], "session_id": "../x"}', "session_id takes"),
            (b'{"tickers": ["BBCA"], "session_id": "' + b"x" * 65 + b'"}', "session_id takes"),
            (b'{"tickers": ["BBCA"], "colour": "red"}', "Not known: colour"),
            (b'{"tickers": ["BBCA"], "max_retries": 3}', "max_retries"),
        ],
    )
    async def test_what_is_not_understood_is_refused_in_the_same_shape(self, client, streams, body, part):
        answer = await client.post(URL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["success"] is False
        assert part in answer.json()["error"]
        assert streams.asked == []

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"tickers": []}', b'{"tickers": ""}'])
    async def test_no_ticker_reaches_the_one_who_says_so(self, client, streams, body):
        streams.error = StreamRefusedError("At least one ticker required")
        answer = await client.post(URL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["success"] is False

    @given(st.binary(max_size=200), st.sampled_from(["", "application/json", "text/plain"]))
    def test_any_body_is_understood_or_refused(self, body, content_type):
        try:
            wish = parse_start(body, content_type)
        except StreamRefusedError:
            return
        assert all(isinstance(ticker, str) for ticker in wish.tickers)

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda x: st.lists(x) | st.dictionaries(st.text(max_size=9), x),
        )
    )
    def test_any_json_is_understood_or_refused(self, value):
        refused = ""
        try:
            parse_start(json.dumps(value).encode(), "application/json")
        except StreamRefusedError as error:
            refused = str(error)
        assert len(refused) < 600


class TestWho:
    async def test_changes_need_the_token_and_reading_does_not(self, world, streams):
        async with world.client(streams=streams, token="t" * 20) as client:
            for path in (URL, f"{URL}/s1/stop", f"{URL}/s1/refresh"):
                assert (await client.post(path, json={"tickers": ["BBCA"]})).status_code == 401
            assert (await client.get(URL)).status_code == 200
            headers = {"authorization": f"Bearer {'t' * 20}"}
            assert (await client.post(URL, json={"tickers": ["BBCA"]}, headers=headers)).status_code == 200
        assert [one[0] for one in streams.asked] == ["sessions", "start"]

    async def test_a_foreign_page_cannot_start_sessions(self, client, streams):
        headers = {"origin": "https://evil.example", "content-type": "text/plain"}
        assert (await client.post(URL, content="BBCA", headers=headers)).status_code == 403
        assert streams.asked == []

    async def test_a_process_without_sessions_says_so(self, world):
        async with world.client() as client:
            for answer in (await client.get(URL), await client.post(URL, json={"tickers": ["BBCA"]})):
                assert (answer.status_code, list(answer.json())) == (409, ["detail"])

    async def test_unknown_parameters_are_refused(self, client):
        assert (await client.get(f"{URL}?limit=3")).status_code == 422

    async def test_books_of_symbols_are_still_served(self, client, world):
        assert (await client.get("/api/orderbook/hyperliquid/PURR/USDC")).status_code == 404
        assert world.store.queries
