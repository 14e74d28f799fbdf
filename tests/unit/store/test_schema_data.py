"""The indexes as data: those the documentation promises are there, and only sensible ones expire."""

import pytest

from src.models.writes import Collection
from src.store.schema import (
    INDEXES,
    MAX_KEEP_DAYS,
    SECONDS_PER_DAY,
    Index,
    check_keep_days,
    expire_seconds,
)

PROMISED = {
    Collection.TRADER_ORDERS: {
        "ethAddress_1_oid_1",
        "oid_1",
        "ethAddress_1_timestamp_-1",
        "coin_1_timestamp_-1",
        "ethAddress_1_status_1",
    },
    Collection.TRADER_ORDER_EVENTS: {"ethAddress_1_receivedAt_-1", "coin_1_receivedAt_-1", "receivedAt_1"},
    Collection.TRADER_POSITIONS: {"ethAddress_1_dex_1_coin_1"},
    Collection.TRADER_POSITION_EVENTS: {"receivedAt_1"},
    Collection.TRADER_ACCOUNTS: {"ethAddress_1_timestamp_-1"},
    Collection.TRADER_FILLS: {"ethAddress_1_timestamp_-1", "coin_1_timestamp_-1"},
    Collection.TRADERS: {"ethAddress_1"},
    Collection.ORDERBOOKS: {"venue_1_symbol_1"},
    Collection.ORDERBOOK_SNAPSHOTS: {"venue_1_symbol_1_timestamp_-1"},
    Collection.TRADES: {"venue_1_symbol_1_timestamp_-1"},
    Collection.CANDLES: {"venue_1_symbol_1_interval_1_timestamp_-1"},
    Collection.COVERAGE: {"stream_1_from_1", "subject_1_from_1", "to_1"},
    Collection.DEAD_LETTERS: {"receivedAt_1"},
}
UNIQUE = {
    (Collection.TRADER_ORDERS, "ethAddress_1_oid_1"),
    (Collection.TRADER_POSITIONS, "ethAddress_1_dex_1_coin_1"),
    (Collection.TRADERS, "ethAddress_1"),
    (Collection.ORDERBOOKS, "venue_1_symbol_1"),
}


def test_every_collection_has_an_entry() -> None:
    assert set(INDEXES) == set(Collection)


@pytest.mark.parametrize("collection", PROMISED)
def test_the_promised_indexes_are_there(collection: Collection) -> None:
    assert {index.name for index in INDEXES[collection]} >= PROMISED[collection]


def test_exactly_these_are_unique() -> None:
    found = {(name, index.name) for name, indexes in INDEXES.items() for index in indexes if index.unique}
    assert found == UNIQUE


def test_names_and_fields_do_not_repeat() -> None:
    for indexes in INDEXES.values():
        assert len({index.name for index in indexes}) == len(indexes)


def test_only_indexes_of_one_date_expire() -> None:
    for indexes in INDEXES.values():
        for index in indexes:
            assert not index.expires or index.keys in ((("receivedAt", 1),), (("keptAt", 1),), (("day", 1),))


def test_the_name_of_an_index_is_the_one_mongodb_would_give() -> None:
    assert Index((("a", 1), ("b.c", -1))).name == "a_1_b.c_-1"


def test_seconds_until_expiry() -> None:
    plain, expiring = INDEXES[Collection.ORDERBOOK_SNAPSHOTS]
    keep = {Collection.ORDERBOOK_SNAPSHOTS: 2}
    assert expire_seconds(Collection.ORDERBOOK_SNAPSHOTS, expiring, keep) == 2 * SECONDS_PER_DAY
    assert expire_seconds(Collection.ORDERBOOK_SNAPSHOTS, plain, keep) is None
    assert expire_seconds(Collection.ORDERBOOK_SNAPSHOTS, expiring, {}) is None
    assert expire_seconds(Collection.ORDERBOOK_SNAPSHOTS, expiring, {Collection.ORDERBOOK_SNAPSHOTS: 0}) is None


@pytest.mark.parametrize("days", [0, 1, MAX_KEEP_DAYS])
def test_possible_numbers_of_days(days: int) -> None:
    check_keep_days({Collection.DEAD_LETTERS: days, Collection.TRADER_ORDER_EVENTS: days})
    assert days * SECONDS_PER_DAY < 2**31


@pytest.mark.parametrize("days", [-1, MAX_KEEP_DAYS + 1])
def test_impossible_numbers_of_days(days: int) -> None:
    with pytest.raises(ValueError, match=str(days)):
        check_keep_days({Collection.DEAD_LETTERS: days})


def test_states_never_expire() -> None:
    with pytest.raises(ValueError, match="trader_orders cannot expire"):
        check_keep_days({Collection.TRADER_ORDERS: 1})
