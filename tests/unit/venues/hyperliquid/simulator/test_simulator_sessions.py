"""What is known to have arrived: only what was sent before a ping that was answered."""

import asyncio
from types import SimpleNamespace

from websockets.protocol import State

from src.venues.hyperliquid.simulator.config import Limits
from src.venues.hyperliquid.simulator.faults import Faults
from src.venues.hyperliquid.simulator.limits import ClientUsage
from src.venues.hyperliquid.simulator.sessions import Session
from src.venues.hyperliquid.simulator.truth import Delivery


class Socket:
    """Answers pings when told to."""

    def __init__(self):
        self.pings = []
        self.protocol = SimpleNamespace(state=State.OPEN)
        self.transport = SimpleNamespace(abort=lambda: None)

    async def ping(self):
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]


def make_session(socket):
    usage = ClientUsage(Limits())
    return Session(1, socket, usage, now_s=0.0, max_write_buffer_bytes=1_000)


def note(session, count):
    deliveries = [Delivery(n, 1, "openOrders", "0xa", "", None, 0) for n in range(count)]
    session.note(deliveries)
    return deliveries


async def pinged(socket, count):
    async with asyncio.timeout(5):
        while len(socket.pings) < count:  # noqa: ASYNC110 - a counter, not an event
            await asyncio.sleep(0)


async def test_what_was_sent_after_the_ping_stays_unknown():
    socket = Socket()
    session = make_session(socket)
    before = note(session, 2)
    asking = asyncio.create_task(session.confirm())
    await pinged(socket, 1)
    after = note(session, 2)
    socket.pings[0].set_result(0.1)
    assert await asking
    assert [item.delivered for item in before + after] == [True, True, None, None]


async def test_two_round_trips_at_a_time_do_not_confirm_too_much():
    socket = Socket()
    session = make_session(socket)
    first = note(session, 2)
    one = asyncio.create_task(session.confirm())
    await pinged(socket, 1)
    second = note(session, 1)
    two = asyncio.create_task(session.confirm())
    await pinged(socket, 2)
    third = note(session, 2)
    socket.pings[1].set_result(0.1)  # the later answer is noticed first
    assert await two
    socket.pings[0].set_result(0.1)
    assert await one
    assert [item.delivered for item in first + second + third] == [True, True, True, None, None]


async def test_no_answer_confirms_nothing():
    session = make_session(Socket())
    items = note(session, 1)
    assert not await session.confirm(timeout_s=0.01)
    assert items[0].delivered is None


async def test_a_fault_stops_sending_asks_and_only_then_ends_the_connection():
    socket = Socket()
    session = make_session(socket)
    items = note(session, 3)
    ended = []
    socket.transport.abort = lambda: ended.append([item.delivered for item in items])
    faults = Faults(lambda: [session], lambda: 0.0)
    dropping = asyncio.create_task(faults.drop())
    await pinged(socket, 1)
    assert session.muted
    assert not session.send(b"{}", 1.0)
    assert ended == []
    socket.pings[0].set_result(0.1)
    await dropping
    assert ended == [[True, True, True]]
