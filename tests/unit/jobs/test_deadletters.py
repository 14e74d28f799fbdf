"""Dead letters: kept with what is needed to try again, listed, retried once, resolved or counted."""

import pytest

from src.config import Settings
from src.core import build_core
from src.jobs.deadletters import DeadLetters
from src.jobs.hyperliquid.source import make_feed
from src.jobs.recordings.replay import Replay
from src.models.changes import KEPT_BYTES, DeadLetter, FillSeen, TradeSeen, kept
from src.models.clock import ManualClock
from src.models.errors import ConfigurationError, StoreError, WireError
from src.models.messages import Fill, Trade
from src.models.metrics import Metrics
from src.models.writes import Collection, Insert, Patch, Rejected, Upsert, WriteBatch, WriteResult
from src.pipeline.documents import to_date, write_of_dead_letter
from src.pipeline.flush import Flusher
from src.pipeline.kept_writes import pack_write
from src.pipeline.pending import Pending
from src.store.memory import MemoryStore

TRADER = "0x" + "a" * 40
BOOK = b'{"channel":"l2Book","data":{"coin":"BTC","time":1700000000000,"levels":[[{"px":"1","sz":"1","n":1}],[]]}}'


def a_trade(identity, size="1.0"):
    return TradeSeen(
        Trade("hyperliquid", "BTC", str(identity), "1.0", size, "B", 1_700_000_000_000, 1_700_000_000_000)
    )


def a_fill(oid):
    return FillSeen(
        Fill(
            venue="hyperliquid",
            trader=TRADER,
            coin="BTC",
            px="1",
            sz="1",
            side="B",
            oid=oid,
            tid=1,
            crossed=True,
            dir="Open Long",
            start_position="0",
            closed_pnl="0",
            fee="0",
            fee_token="USDC",
            time_ms=1_700_000_000_000,
            received_ms=1_700_000_000_000,
        )
    )


def a_frame_letter(payload=BOOK, *, venue="hyperliquid", reason="malformed_json", at_ms=1_700_000_000_500):
    return DeadLetter(venue, "decode", reason, "", payload[:4096], len(payload), at_ms, kept(payload))


async def put(store, *letters):
    await store.write(WriteBatch(0, [[write_of_dead_letter(letter) for letter in letters]]))


@pytest.fixture
def store():
    return MemoryStore()


class PickyStore(MemoryStore):
    """Refuses writes for their content as long as a test asks for it."""

    def __init__(self):
        super().__init__()
        self.refuses = lambda _write: False

    async def write(self, batch):
        refused = [write for group in batch.groups for write in group if self.refuses(write)]
        accepted = [[write for write in group if write not in refused] for group in batch.groups]
        result = await super().write(WriteBatch(batch.seq, accepted))
        rejected = [*result.rejected, *(Rejected(write, "refused", "not wanted") for write in refused)]
        return WriteResult(result.inserted, result.modified, result.repeated, rejected)


class FlushRig:
    """A flusher over a picky store."""

    def __init__(self):
        metrics, clock = Metrics(), ManualClock()
        self.store = PickyStore()
        self.pending = Pending(10_000, clock=clock, metrics=metrics)
        self.flusher = Flusher(store=self.store, pending=self.pending, metrics=metrics, clock=clock, interval_s=1.0)


@pytest.fixture
async def rig():
    return FlushRig()


@pytest.fixture
def letters(store):
    return DeadLetters(store, ManualClock())


class PickyFeed:
    """The venue's own feed, which refuses everything until it is mended."""

    def __init__(self):
        self._feed = make_feed(Settings())
        self.error = WireError("malformed_json", "at byte 0")
        self.venue = self._feed.venue

    def decode(self, frame, received_ms):
        if self.error is not None:
            raise self.error
        return self._feed.decode(frame, received_ms)


@pytest.fixture
def feed():
    return PickyFeed()


@pytest.fixture
def replay(store, feed):
    metrics, clock = Metrics(), ManualClock()
    core = build_core(Settings(), store=store, metrics=metrics, clock=clock)
    return Replay(
        store=store,
        feed=feed,
        diff=core.diff,
        pipeline=core.pipeline,
        flusher=core.flusher,
        metrics=metrics,
        clock=clock,
    )


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_one_poisoned_document_among_a_thousand_is_put_aside_and_the_others_are_stored(rig):
    rig.pending.add([a_trade(number) for number in range(999)])
    rig.pending.add([a_fill(2**70)])
    await rig.flusher.drain()
    assert len(rig.store.documents(Collection.TRADES)) == 999
    assert rig.store.documents(Collection.TRADER_FILLS) == []
    (letter,) = await DeadLetters(rig.store, ManualClock()).listed()
    assert (letter.stage, letter.reason) == ("store", "not_encodable")
    assert str(2**70) in letter.sample
    assert "trader_fills" in letter.detail
    assert str(2**70).encode() in letter.payload


async def test_a_refused_document_is_stored_by_a_retry_once_mongodb_takes_it(rig):
    rig.store.refuses = lambda write: isinstance(write, Insert) and write.document.get("tradeId") == "500"
    rig.pending.add([a_trade(number) for number in range(1000)])
    await rig.flusher.drain()
    assert len(rig.store.documents(Collection.TRADES)) == 999
    letters = DeadLetters(rig.store, ManualClock())
    (letter,) = await letters.listed()

    tried = await letters.retry_write(letter)
    assert (tried.outcome, tried.error) == ("failed", "refused: not wanted")
    (again,) = await letters.listed()
    assert (again.attempts, again.last_error) == (1, "refused: not wanted")

    rig.store.refuses = lambda _write: False
    assert (await letters.retry_write(again)).outcome == "stored"
    assert len(rig.store.documents(Collection.TRADES)) == 1000
    assert await letters.listed() == []
    (document,) = rig.store.documents(Collection.DEAD_LETTERS)
    assert (document["resolved"], document["outcome"], document["attempts"]) == (True, "stored", 2)
    assert len(rig.store.documents(Collection.DEAD_LETTERS)) == 1


def test_what_is_too_large_is_kept_as_a_sample_only():
    assert kept(b"x" * KEPT_BYTES) == b"x" * KEPT_BYTES
    assert kept(b"x" * (KEPT_BYTES + 1)) == b""
    document = write_of_dead_letter(a_frame_letter(b"x" * (KEPT_BYTES + 1))).document
    assert "payload" not in document
    assert len(document["sample"]) == 4096


def test_letters_with_the_same_beginning_are_different_letters():
    one, two = (write_of_dead_letter(a_frame_letter(b"x" * 5000 + end)).document["_id"] for end in (b"1", b"2"))
    assert one != two


# -- listing and choosing ----------------------------------------------------------------------------------------------


async def test_the_newest_come_first_and_can_be_narrowed(store, letters):
    await put(store, *(a_frame_letter(b"%d" % n, reason="odd" if n % 2 else "even", at_ms=n) for n in range(10)))
    assert [letter.sample for letter in await letters.listed(limit=3)] == ["9", "8", "7"]
    assert [letter.sample for letter in await letters.listed(reason="odd", limit=2)] == ["9", "7"]
    assert [letter.sample for letter in await letters.chosen(reason="odd", identities=[])] == [
        "1",
        "3",
        "5",
        "7",
        "9",
    ]


async def test_an_unknown_or_resolved_id_is_told(store, letters):
    await put(store, a_frame_letter())
    (letter,) = await letters.listed()
    assert await letters.chosen(reason=None, identities=[letter.id]) == [letter]
    with pytest.raises(ConfigurationError, match="nobody"):
        await letters.chosen(reason=None, identities=[letter.id, "nobody"])
    await store.write(WriteBatch(0, [[Patch(Collection.DEAD_LETTERS, letter.id, {"resolved": True})]]))
    with pytest.raises(ConfigurationError, match=letter.id):
        await letters.chosen(reason=None, identities=[letter.id])


async def test_letters_of_an_older_program_are_listed_and_cannot_be_tried(store, letters, feed, replay):
    document = dict(write_of_dead_letter(a_frame_letter()).document)
    del document["payload"]
    await store.write(WriteBatch(0, [[Insert(Collection.DEAD_LETTERS, document)]]))
    (letter,) = await letters.listed()
    tried = await letters.retry_frame(letter, feed, replay)
    assert (tried.outcome, tried.error) == ("cannot be tried", f"only a sample of its {len(BOOK)} bytes was kept")
    assert (await letters.listed())[0].attempts == 0


# -- writes ------------------------------------------------------------------------------------------------------------


def a_write_letter(write):
    return DeadLetter("", "store", "refused", "", b"{}", 2, 1_700_000_000_000, pack_write(write))


async def retried(store, letters, write):
    await put(store, a_write_letter(write))
    (letter,) = await letters.listed()
    return await letters.retry_write(letter)


async def test_an_older_state_does_not_undo_a_newer_one(store, letters):
    newer = Upsert(Collection.TRADER_ORDERS, "a:1", "revision", 5, {"sz": 5.0})
    await store.write(WriteBatch(0, [[newer]]))
    older = Upsert(Collection.TRADER_ORDERS, "a:1", "revision", 4, {"sz": 4.0})
    assert (await retried(store, letters, older)).outcome == "stored"  # nothing was left to do
    assert store.documents(Collection.TRADER_ORDERS)[0]["sz"] == 5.0


@pytest.mark.parametrize(("ours_ms", "outcome", "value"), [(1_000, "outdated", "new"), (3_000, "stored", "old")])
async def test_an_older_patch_does_not_undo_a_newer_one(store, letters, ours_ms, outcome, value):
    await store.write(
        WriteBatch(
            0, [[Insert(Collection.TRADER_POSITIONS, {"_id": "p", "receivedAt": to_date(2_000), "mark": "new"})]]
        )
    )
    patch = Patch(Collection.TRADER_POSITIONS, "p", {"mark": "old", "receivedAt": to_date(ours_ms)})
    assert (await retried(store, letters, patch)).outcome == outcome
    assert store.documents(Collection.TRADER_POSITIONS)[0]["mark"] == value


async def test_a_letter_whose_kept_write_is_damaged_stays(store, letters):
    await put(store, DeadLetter("", "store", "refused", "", b"", 0, 1, b"garbage"))
    (letter,) = await letters.listed()
    tried = await letters.retry_write(letter)
    assert tried.outcome == "cannot be tried"
    assert tried.error


async def test_without_a_database_nothing_is_noted(store, letters):
    await put(store, a_write_letter(Insert(Collection.TRADES, {"_id": "t"})))
    (letter,) = await letters.listed()
    store.fail_next(StoreError("away"))
    with pytest.raises(StoreError, match="away"):
        await letters.retry_write(letter)
    assert await letters.listed() == [letter]


# -- frames ------------------------------------------------------------------------------------------------------------


async def test_a_frame_is_stored_once_the_mapper_understands_it(store, letters, feed, replay):
    await put(store, a_frame_letter())
    (letter,) = await letters.listed()
    tried = await letters.retry_frame(letter, feed, replay)
    assert (tried.outcome, tried.error) == ("failed", "malformed_json: at byte 0")
    assert len(store.documents(Collection.DEAD_LETTERS)) == 1
    assert store.documents(Collection.ORDERBOOKS) == []

    feed.error = None
    (letter,) = await letters.listed()
    assert letter.attempts == 1
    assert (await letters.retry_frame(letter, feed, replay)).outcome == "stored"
    (book,) = store.documents(Collection.ORDERBOOKS)
    assert book["receivedAt"] == letter.received
    assert await letters.listed() == []


async def test_a_fault_of_the_mapper_is_a_failed_attempt(store, letters, feed, replay):
    feed.error = KeyError("px\ud800\0")
    await put(store, a_frame_letter(reason="mapper_bug"))
    (letter,) = await letters.listed()
    assert (await letters.retry_frame(letter, feed, replay)).outcome == "failed"
    assert (await letters.listed())[0].last_error.startswith("KeyError")


async def test_a_frame_that_is_understood_and_not_kept_is_resolved(store, letters, feed, replay):
    feed.error = None
    await put(store, a_frame_letter(b'{"channel":"pong"}'))
    (letter,) = await letters.listed()
    assert (await letters.retry_frame(letter, feed, replay)).outcome == "not kept"
    assert await letters.listed() == []


async def test_frames_of_another_venue_stay(store, letters, feed, replay):
    await put(store, a_frame_letter(venue="elsewhere"))
    (letter,) = await letters.listed()
    tried = await letters.retry_frame(letter, feed, replay)
    assert (tried.outcome, tried.error) == ("cannot be tried", "no such venue: elsewhere")


async def test_a_frame_whose_document_is_refused_again_is_not_called_stored(
    store, letters, feed, replay, monkeypatch
):
    feed.error = None
    book = BOOK.replace(b"BTC", b"BTC" + b"x" * 10)
    future = book.replace(b"1700000000000", b"1900000000000")
    await put(store, a_frame_letter(future))
    (letter,) = await letters.listed()
    tried = await letters.retry_frame(letter, feed, replay)
    assert tried.outcome == "failed"
