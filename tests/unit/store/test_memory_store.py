"""What the in-memory store offers to tests beyond the contract of all stores."""

import subprocess
import sys

import pytest

from src.models.errors import StoreError, StoreFatalError
from src.models.writes import Collection, Insert, Upsert, WriteBatch
from src.store.base import Query, Store
from src.store.memory import MemoryStore

TRADES, ORDERS = Collection.TRADES, Collection.TRADER_ORDERS


def batch(seq: int = 1, *numbers: int) -> WriteBatch:
    return WriteBatch(seq, [[Insert(TRADES, {"_id": number}) for number in numbers]])


async def test_it_is_a_store() -> None:
    store: Store = MemoryStore("x")
    facts = await store.prepare()
    assert (facts.database, facts.uri, facts.topology) == ("x", "memory:", "standalone")
    assert await store.ping() == 0


async def test_failures_come_one_per_call_and_store_nothing() -> None:
    store = MemoryStore()
    store.fail_next(StoreError("away"), StoreFatalError("no rights"))
    with pytest.raises(StoreError, match="away"):
        await store.write(batch(1, 1))
    with pytest.raises(StoreFatalError, match="no rights"):
        await store.ping()
    assert store.documents(TRADES) == []
    assert store.batches == []
    await store.write(batch(1, 1))
    assert store.documents(TRADES) == [{"_id": 1}]


async def test_it_remembers_the_batches_it_stored() -> None:
    store = MemoryStore()
    first, second = batch(1, 1), batch(2, 2)
    await store.write(first)
    await store.write(second)
    assert store.batches == [first, second]


async def test_documents_are_copies() -> None:
    store = MemoryStore()
    await store.write(batch(1, 1))
    store.documents(TRADES)[0]["_id"] = 2
    assert store.documents(TRADES) == [{"_id": 1}]


async def test_unique_values_become_free_when_a_document_moves_away() -> None:
    store = MemoryStore()

    def order(id_: str, oid: int, revision: int) -> WriteBatch:
        return WriteBatch(1, [[Upsert(ORDERS, id_, "revision", revision, {"ethAddress": "x", "oid": oid})]])

    await store.write(order("a", 1, 1))
    assert (await store.write(order("b", 1, 1))).rejected
    await store.write(order("a", 2, 2))
    assert not (await store.write(order("b", 1, 1))).rejected
    assert await store.count(ORDERS, Query()) == 2


def test_it_needs_no_driver() -> None:
    """Tests of other parts stay quick, and the in-memory store cannot lean on the driver by mistake."""
    program = (
        "import sys; import src.store.memory; "
        "sys.exit(','.join(m for m in ('motor', 'pymongo', 'bson') if m in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
