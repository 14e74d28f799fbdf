"""A whole HTTP application around small fakes; requests go through ASGI, without a socket."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from src.api.app import create_app
from src.models.clock import ManualClock
from src.models.metrics import Metrics
from src.models.status import Check, Health
from src.models.writes import Collection
from src.store.base import Query

START = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = "0x" + "a1" * 20
BOB = "0x" + "b0" * 20


class FakeStore:
    """Documents in lists, read with the meaning of `Query`; records every query and can be made to fail."""

    def __init__(self) -> None:
        self.documents: dict[Collection, list[dict[str, Any]]] = {}
        self.queries: list[tuple[Collection, Query]] = []
        self.error: Exception | None = None
        self.gate: Any = None

    async def find(self, collection: Collection, query: Query) -> AsyncIterator[Mapping[str, Any]]:
        self.queries.append((collection, query))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        rows = [row for row in self.documents.get(collection, []) if self._matches(row, query)]
        for field, descending in reversed(query.sort):
            rows.sort(key=lambda row, name=field: (row.get(name) is not None, row.get(name)), reverse=descending)
        for row in rows[: query.limit]:
            yield row

    @staticmethod
    def _matches(row: Mapping[str, Any], query: Query) -> bool:
        return (
            all(row.get(name) == value for name, value in query.equals.items())
            and all(row.get(name) is not None and row[name] >= bound for name, bound in query.at_least.items())
            and all(row.get(name) is not None and row[name] < bound for name, bound in query.below.items())
        )


class FakeStatus:
    def __init__(self) -> None:
        self.now = Health("ok", ready=True, checks=(Check("mongodb", ok=True, text="answers"),))
        self.numbers: dict[str, Any] = {"tracked_orders": 3, "streams": [{"name": "x", "age_s": 0.2}]}

    def health(self) -> Health:
        return self.now

    def stats(self) -> Mapping[str, Any]:
        return self.numbers


class FakeTraders:
    def __init__(self) -> None:
        self.known: set[str] = set()
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.views: dict[str, dict[str, Any]] = {}

    async def add(self, addresses: list[str], *, source: str, tags: list[str]) -> int:
        if self.error:
            raise self.error
        self.calls.append(("add", addresses, {"source": source, "tags": tags}))
        new = set(addresses) - self.known
        self.known |= new
        return len(new)

    def view(self, address: str) -> Mapping[str, Any] | None:
        return self.views.get(address)

    async def remove(self, addresses: list[str]) -> int:
        self.calls.append(("remove", addresses, {}))
        gone = set(addresses) & self.known
        self.known -= gone
        return len(gone)


def order(oid: int, *, trader: str = ALICE, minutes: float | None = None, **fields: Any) -> dict[str, Any]:
    """An order document placed ``minutes`` after START (default: its oid)."""
    placed = START + timedelta(minutes=oid if minutes is None else minutes)
    return {
        "_id": f"{trader}:{oid}",
        "ethAddress": trader,
        "oid": oid,
        "coin": "BTC",
        "status": "open",
        "revision": 1,
        "timestamp": placed,
    } | fields


@pytest.fixture
def world() -> SimpleNamespace:
    """The fakes, and ``app(**changes)`` and ``client(...)`` built on them."""
    world = SimpleNamespace(
        store=FakeStore(),
        status=FakeStatus(),
        metrics=Metrics(),
        traders=FakeTraders(),
        clock=ManualClock(),
        order=order,
        start=START,
        alice=ALICE,
        bob=BOB,
    )

    def app(**changes: Any) -> Any:
        arguments = {
            "status": world.status,
            "store": world.store,
            "metrics": world.metrics,
            "traders": world.traders,
            "token": None,
            "allowed_origins": (),
            "clock": world.clock,
            "version": "1.2.3",
        } | changes
        return create_app(**arguments)

    def client(
        *, peer: str = "127.0.0.1", base_url: str = "http://127.0.0.1:8002", token: str | None = None, **changes: Any
    ) -> httpx.AsyncClient:
        built = app(token=SecretStr(token) if token is not None else None, **changes)
        transport = httpx.ASGITransport(built, raise_app_exceptions=False, client=(peer, 50_000))
        return httpx.AsyncClient(transport=transport, base_url=base_url)

    world.app, world.client = app, client
    return world


@pytest.fixture
async def client(world: SimpleNamespace) -> AsyncIterator[httpx.AsyncClient]:
    """A client on this machine, of a program without a token."""
    async with world.client() as made:
        yield made
