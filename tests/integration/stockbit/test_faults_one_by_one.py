"""Each misfortune of the exchange for itself, over real sockets: what it costs, and that what follows is taken."""

from types import SimpleNamespace

import pytest

from src.models.messages import GapReason
from src.models.metrics import BOOK_ODDITIES, FRAMES_REJECTED
from src.venues.stockbit.simulator import StockbitSimulatorConfig
from src.venues.stockbit.simulator.frames import Bad
from tests.support.books import levels
from tests.support.stockbit_world import stockbit_world, until

pytestmark = pytest.mark.integration

COSTS = {
    Bad.TRUNCATED: ("malformed_protobuf", {}),
    Bad.UNKNOWN_FIELDS: (None, {}),
    Bad.NO_MARK: ("bad_order_book_body", {}),
    Bad.UNKNOWN_SIDE: ("bad_order_book_body", {}),
    Bad.BAD_LEVELS: (None, {"level_skipped": 3}),
    Bad.TEXT: ("text_frame", {}),
}


def counts(world):
    """Frames rejected and oddities so far, by reason."""
    rejected = {labels[1]: value for labels, value in world.metrics.by_label(FRAMES_REJECTED).items()}
    odd = {labels[1]: value for labels, value in world.metrics.by_label(BOOK_ODDITIES).items()}
    return SimpleNamespace(rejected=rejected, odd=odd)


async def paused(world):
    await world.fresh()
    world.sim.is_paused = True
    sent = world.sent()
    await until(lambda: world.told().keys() >= sent.keys(), "everything sent has arrived")


async def heard_next(world, ticker="TLKM"):
    """A good side after whatever was bad: it arrives, on the same connection."""
    rows = world.sim.market.books[ticker].side("BID")[:5]
    world.sim.show(ticker, "BID", rows)
    await until(lambda: world.books(ticker)[-1].bids == rows, "the side after it")


@pytest.mark.parametrize("how", list(Bad))
async def test_a_bad_frame_costs_itself_alone(tmp_path, how):
    reason, odd = COSTS[how]
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        world.sim.spoil("BBCA", how)
        await heard_next(world)
        assert counts(world).rejected == ({} if reason is None else {reason: 1})
        assert counts(world).odd == odd
        assert [letter.reason for letter in world.sink.letters] == ([] if reason is None else [reason])
        if reason is None:
            sent = world.sim.sent[-2]
            assert world.told()["BBCA", "BID", sent.seq] == sent.levels, "what is harmless is taken"
        assert world.sim.connects == 1
        assert world.gaps() == {}


async def test_a_thousand_bad_frames_are_counted_and_a_few_kept(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        for _ in range(1_000):
            world.sim.spoil("BBCA", Bad.NO_MARK)
        await heard_next(world)
        assert counts(world).rejected == {"bad_order_book_body": 1_000}
        assert world.sim.connects == 1


@pytest.mark.parametrize("count", [0, 1, 70, 200])
async def test_sides_of_any_depth(tmp_path, count):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        rows = levels(*((9_000 - 5 * n, n + 1, 100 * (n + 1)) for n in range(count)))
        world.sim.show("TLKM", "BID", rows)
        await until(lambda: world.books("TLKM")[-1].bids == rows)
        assert counts(world).odd == {}


async def test_levels_out_of_order_are_refused_and_the_book_stays(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        before = world.books("TLKM")[-1]
        world.sim.show("TLKM", "BID", levels((3_200, 1, 100), (3_300, 1, 100)))
        world.sim.show("TLKM", "OFFER", levels((3_400, 1, 100), (3_300, 1, 100)))
        await heard_next(world, "BBCA")
        assert counts(world).rejected == {"bad_order_book_body": 2}
        assert world.books("TLKM")[-1] is before


async def test_the_same_message_twice_is_one(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        known = len(world.books("BBCA"))
        for _ in range(3):
            world.sim.repeat("BBCA")
        await heard_next(world)
        assert counts(world).odd == {"repeated_side": 3}
        assert len(world.books("BBCA")) == known


async def test_a_switch_of_the_source_tells_both_sides_anew(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        world.sim.show("BBCA", "BID", levels((10, 1, 100)))
        await until(lambda: world.books("BBCA")[-1].bids[0].px == "10")
        world.sim.switch_source("BBCA")
        book = world.sim.market.books["BBCA"]
        await until(lambda: world.books("BBCA")[-1].bids == book.side("BID"))
        assert world.books("BBCA")[-1].asks == book.side("OFFER")
        assert counts(world).odd == {"switch_reset": 1}
        assert world.gaps() == {}, "nothing was missed"


async def test_boards_do_not_mix(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        regular = world.books("BBCA")[-1]
        for board, name, price in ((2, "TN", 7_000), (3, "NG", 6_000)):
            world.sim.show("BBCA", "BID", levels((price, 1, 100)), board=board)
            world.sim.show("BBCA", "OFFER", levels((price + 25, 1, 100)), board=board)
            await until(lambda name=name: world.books(f"{name}.BBCA"))
            assert world.books(f"{name}.BBCA")[-1].bids[0].px == str(price)
        assert world.books("BBCA")[-1] is regular


@pytest.mark.parametrize("refuses_by", ["error", "close"])
async def test_a_token_that_expires_while_connected(tmp_path, refuses_by):
    """Nothing of the time before is mixed with what comes after; both connections show tokens of their own."""
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, token_life_s=3.0, refuses_by=refuses_by)
    async with stockbit_world(tmp_path, config=config) as world:
        await world.fresh(after=2)
        world.sim.is_paused = True
        assert world.sim.accounts.refreshes >= 2
        assert all(gap.reason in (GapReason.DISCONNECT, GapReason.REFUSED) for gap in world.sink.gaps)
        everything = world.sent()
        assert all(everything[key] == rows for key, rows in world.told().items())
        assert world.source.status()["login"]["state"] == "ready"


async def test_an_exchange_that_refuses_handshakes_is_waited_for(tmp_path):
    async with stockbit_world(tmp_path) as world:
        await paused(world)
        world.sim.is_paused, world.sim.is_down = False, True
        world.sim.drop_all()
        connection = world.source.pool.status
        await until(lambda: connection()["connections"][0]["failures_in_a_row"] >= 3, "several attempts")
        assert world.source.status()["login"]["refusals"] == 0, (
            "a front end that is down says nothing about the token"
        )
        world.sim.is_down = False
        await world.fresh(after=1)
        assert world.gaps() == {"disconnect": 1}, "one hole, however many attempts"
