"""Counts of a batch, per collection."""

from src.models.writes import Collection, Insert, Rejected
from src.store.tally import Tally


def test_sums_per_collection() -> None:
    tally = Tally()
    tally.add(Collection.TRADES, inserted=2, repeated=1)
    tally.add(Collection.TRADES, inserted=1, modified=4)
    tally.add(Collection.TRADER_ORDERS, repeated=3)
    refused = Rejected(Insert(Collection.TRADES, {}), "missing_id")
    tally.reject(refused)
    result = tally.result()
    assert result.inserted == {"trades": 3}
    assert result.modified == {"trades": 4}
    assert (result.repeated, list(result.rejected)) == (4, [refused])


def test_a_result_is_not_changed_by_what_comes_later() -> None:
    tally = Tally()
    before = tally.result()
    tally.add(Collection.TRADES, inserted=1)
    assert (before.inserted, tally.result().inserted) == ({}, {"trades": 1})
