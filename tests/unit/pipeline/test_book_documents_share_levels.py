"""Documents of order books share the levels that stay as they were; each says the same as if it stood alone."""

from src.models.changes import BookChange
from src.models.writes import Insert, Upsert
from src.pipeline.batches import BatchBuilder
from src.pipeline.documents import _level, writes_of_book
from tests.support.books import ASKS, BIDS, T0, levels, sided, told


def alone(change):
    """The writes of a change as nobody before it would have left them."""
    _level.cache_clear()
    return writes_of_book(change)


def test_each_document_is_what_it_would_be_alone():
    other = levels((7725, 412, 1840600), *((int(level.px), level.n, int(level.sz)) for level in BIDS[1:]))
    changes = [
        BookChange(sided(bids=bids, bids_told=told(T0 + n), asks_told=told(T0), at=T0 + n), changed=True)
        for n, bids in enumerate((BIDS, other, BIDS[:1], (), BIDS))
    ]
    together = [writes_of_book(change) for change in changes]
    assert together == [alone(change) for change in changes]
    assert together[0][0].document["bids"][0] == [7725.0, 1840500.0, 412]
    assert together[1][0].document["bids"][1] is not None


def test_what_stayed_is_one_object():
    _level.cache_clear()
    first, second = (
        writes_of_book(BookChange(sided(asks_told=told(T0 + n), at=T0 + n), changed=True))[0].document for n in (0, 1)
    )
    assert first["asks"] is not second["asks"]
    assert all(one is other for one, other in zip(first["asks"], second["asks"], strict=True))


def test_several_states_in_one_batch_leave_the_history_alone():
    builder = BatchBuilder(1)
    for n, asks in enumerate((ASKS, ASKS[:1])):
        builder.add(BookChange(sided(asks=asks, asks_told=told(T0 + n), at=T0 + n), changed=True))
    inserts, upserts = builder.build().groups
    assert [type(write) for write in (*inserts, *upserts)] == [Insert, Insert, Upsert]
    assert [len(write.document["asks"]) for write in inserts] == [2, 1]
    assert len(upserts[0].values["asks"]) == 1
    assert upserts[0].values["asks"][0] == [7750.0, 2211100.0, 388]


def test_the_number_of_orders_is_told_apart_from_its_absence():
    with_orders, without = (levels((7725, n, 100)) for n in (3, None))
    rows = [
        writes_of_book(BookChange(sided(bids=bids, bids_told=told()), changed=False))[0].values["bids"]
        for bids in (with_orders, without, with_orders)
    ]
    assert rows == [[[7725.0, 100.0, 3]], [[7725.0, 100.0]], [[7725.0, 100.0, 3]]]
