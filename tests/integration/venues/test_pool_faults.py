"""The pool against a server that misbehaves; every fault is real bytes on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest
from structlog.testing import capture_logs

from src.models.messages import GapReason, RefusalKind
from src.models.metrics import CONNECT_ATTEMPTS, DISCONNECTS, FRAMES_REJECTED, REFUSALS, TASK_FAILURES
from src.venues.feed import Endpoint, Heartbeat, VenueLimits
from src.venues.timing import Timing
from src.venues.transport import Transport, open_websocket
from tests.support.toy_venue import QUICK, ToyFeed, ToyServer, key, market, until, user_feeds

TcpHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# -- handshakes and closes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4000])
async def test_accept_then_close_backs_off_whatever_the_code(server: ToyServer, start, code: int) -> None:
    server.close_at_once = code
    # A minute in small: 60 times faster than the default.
    timing = msgspec.structs.replace(
        QUICK,
        retry_first_s=1 / 60,
        retry_cap_s=32 / 60,
        healthy_after_s=0.5,
        attempts_most=8,
        attempts_window_s=60.5 / 60,
    )
    async with start(ToyFeed(server.url), timing=timing) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: server.attempts >= 9, within_s=10)
        times = server.attempt_times
    for first, ninth in zip(times, times[8:], strict=False):
        assert ninth - first > 0.95, "more than 8 attempts in a (small) minute"
    assert running.sink.gaps == []


async def test_an_expired_healthy_connection_is_replaced_at_once(server: ToyServer, start) -> None:
    timing = msgspec.structs.replace(QUICK, retry_first_s=30.0, retry_cap_s=30.0, healthy_after_s=0.1)
    async with start(ToyFeed(server.url), timing=timing) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.subjects()["BTC"] > 15)
        await server.close_all(1000, "Expired")
        await until(lambda: server.accepted == 2, within_s=2)
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        assert [gap.reason for gap in running.sink.gaps] == [GapReason.DISCONNECT]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_refused_handshakes_are_tried_again(server: ToyServer, start, status: int) -> None:
    server.status = status
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: server.attempts >= 2)
        assert running.last_error() == f"http_{status}"
        server.status = None
        await until(lambda: running.sink.received)
        assert running.metrics.value(CONNECT_ATTEMPTS, "toy") == server.attempts


async def test_too_many_requests_pauses_the_whole_address_for_as_long_as_asked(server: ToyServer, start) -> None:
    server.status, server.status_headers = 429, {"Retry-After": "1"}
    async with start(ToyFeed(server.url), clients=3) as running:
        running.pool.set_target([market("A"), market("B"), market("C")])
        await until(lambda: server.attempts >= 1)
        await asyncio.sleep(0.3)
        early = server.attempts
        await asyncio.sleep(0.5)
        assert server.attempts == early <= 3
        assert running.pool.status()["budget"]["connects_paused_s"] > 0
        server.status = None
        await until(lambda: len(running.sink.subjects()) == 3)
    assert server.attempt_times[early] - server.attempt_times[0] >= 1.0


@pytest.mark.parametrize("status", [401, 403])
async def test_what_only_a_person_can_mend_is_loud_slow_and_never_given_up(server, start, status: int) -> None:
    server.status = status
    with capture_logs() as logs:
        async with start(ToyFeed(server.url)) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: server.attempts >= 3)
            error = running.pool.status()["connections"][0]["last_error"]
            server.status = None
            await until(lambda: running.sink.received)
    assert error["reason"] == f"http_{status}"
    assert error["remedy"]
    gaps = [b - a for a, b in itertools.pairwise(server.attempt_times[:3])]
    assert min(gaps) >= QUICK.retry_cap_s * 0.9
    loud = [line for line in logs if line["log_level"] == "error"]
    assert [line["event"] for line in loud] == ["venue_refuses_connection"], "once, not per attempt"
    assert loud[0]["remedy"] == error["remedy"]


@pytest.fixture
def self_signed(tmp_path) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl program is needed to make a certificate nobody trusts")
    pem, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-days", "2", "-keyout", str(private), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context


async def test_a_certificate_nobody_trusts_is_loud(self_signed: ssl.SSLContext, start) -> None:
    with capture_logs() as logs:
        async with ToyServer().running(tls=self_signed) as server, start(ToyFeed(server.url)) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.last_error() == "tls_verification")
            assert server.accepted == 0
    loud = [line for line in logs if line["log_level"] == "error"]
    assert len(loud) == 1
    assert "certificate" in loud[0]["remedy"]


async def test_nobody_listens(start) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        async with start(ToyFeed(f"ws://127.0.0.1:{port}")) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.last_error() == "refused")


async def test_an_unknown_host(start) -> None:
    async with start(ToyFeed("ws://no-such-host.invalid")) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.last_error() in ("dns", "timeout"))


async def test_a_handshake_that_is_never_answered_times_out(start) -> None:
    ended = asyncio.Event()

    async def ignore(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with tcp_server(ignore, ended) as port:
        timing = msgspec.structs.replace(QUICK, open_timeout_s=0.1)
        async with start(ToyFeed(f"ws://127.0.0.1:{port}"), timing=timing) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.last_error() == "timeout")


async def test_closing_does_not_wait_for_a_handshake_that_is_never_answered(start) -> None:
    ended = asyncio.Event()

    async def ignore(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with tcp_server(ignore, ended) as port:
        timing = msgspec.structs.replace(QUICK, open_timeout_s=60.0, drain_s=60.0)
        async with start(ToyFeed(f"ws://127.0.0.1:{port}"), timing=timing) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.connections("connecting") == 1)
            await asyncio.wait_for(running.pool.close(), 2)
            assert running.connections("closed") == 1
            assert running.budget.usage()["connections"]["used"] == 0


async def test_an_answer_that_is_no_http(start) -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01garbage\n" * 10)
        writer.close()

    async with tcp_server(babble) as port, start(ToyFeed(f"ws://127.0.0.1:{port}")) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.last_error() in ("handshake", "network"))


# -- death of a socket -------------------------------------------------------------------------------------------------


async def test_half_open_is_noticed_by_the_pong_deadline_and_the_gap_begins_with_the_last_frame(
    server, start
) -> None:
    feed = ToyFeed(server.url, heartbeat=Heartbeat(ping_every_s=0.1, deadline_s=0.2))
    async with start(feed) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        server.deaf, server.answers_ping = True, False
        server.mute = {"BTC"}
        last_ms = running.sink.received[-1].messages[0].received_ms
        await until(lambda: running.last_error() == "pong_timeout")
        gap = running.sink.gaps[0]
        assert (gap.reason, gap.streams) == (GapReason.DISCONNECT, (key("BTC"),))
        assert last_ms <= gap.at_ms <= last_ms + 150, "not the moment of the discovery"
        server.deaf, server.answers_ping, server.mute = False, True, set()
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        assert len(running.sink.gaps) == 1


async def test_a_busy_venue_that_forgets_to_pong_is_not_dead(server: ToyServer, start) -> None:
    server.answers_ping = False
    feed = ToyFeed(server.url, heartbeat=Heartbeat(ping_every_s=0.05, deadline_s=0.15))
    async with start(feed) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: server.pings >= 10)
        assert (server.accepted, running.sink.gaps) == (1, [])


async def test_a_peer_that_stops_reading_does_not_hang_the_sender(server: ToyServer, start) -> None:
    timing = msgspec.structs.replace(QUICK, send_timeout_s=0.2)
    async with start(ToyFeed(server.url), timing=timing) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        server.deaf = True
        big = {"ch": "price", "pad": "x" * 500_000}
        running.pool.add([msgspec.structs.replace(market(f"S{n}"), args={**big, "s": f"S{n}"}) for n in range(40)])
        await until(lambda: running.metrics.value(DISCONNECTS, "toy", "send_timeout"), within_s=10)
        server.deaf = False


async def test_a_close_frame_without_an_end_of_the_socket_does_not_hang(start) -> None:
    """The peer says good-bye and keeps the TCP connection open."""
    accepted = 0
    ended = asyncio.Event()

    async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await answer_handshake(reader, writer)
        await reader.read(1)  # the subscribe is through: from now on the client has nothing to send
        await asyncio.sleep(0.05)
        writer.write(b"\x88\x02\x03\xe9")  # close, 1001
        await ended.wait()
        writer.close()

    async with tcp_server(half_close, ended) as port:
        timing = msgspec.structs.replace(QUICK, refused_retry_s=3600.0)  # a retry would notice it by accident
        async with start(ToyFeed(f"ws://127.0.0.1:{port}"), timing=timing) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: accepted >= 2)
            assert running.last_error() == "closed_1001"
            ended.set()


async def test_an_upgrade_drops_everything_and_the_return_is_staggered(server: ToyServer, start) -> None:
    timing = msgspec.structs.replace(QUICK, retry_first_s=0.5, retry_cap_s=2.0, ack_deadline_s=10.0)
    async with start(ToyFeed(server.url), clients=5, timing=timing) as running:
        running.pool.set_target([market(f"S{n}") for n in range(20)])
        await until(lambda: len(running.sink.subjects()) == 20)
        assert server.accepted == 5
        server.drop_all()
        await until(lambda: server.accepted == 10)
        await until(lambda: set(running.states().values()) == {"fresh"})
        back = server.attempt_times[5:]
        assert max(back) - min(back) > 0.1, "they all came back together"
        assert sum(len(gap.streams) for gap in running.sink.gaps) == 20
        assert running.sink.gap_reasons() == {"disconnect": 5}


# -- bad frames --------------------------------------------------------------------------------------------------------


async def test_bad_frames_are_counted_sampled_and_cost_nothing_else(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        bad: list[str | bytes] = ['{"k": "dat', "", "[]", "nonsense", '{"k": "' + "x" * 9000 + '"}', b"\x00\xff\x01"]
        for frame in bad:
            await server.say_to_all(frame)
        await until(lambda: len(running.sink.letters) == len(bad))
        count = running.metrics.value
        assert count(FRAMES_REJECTED, "toy", "malformed_json") == 4
        assert count(FRAMES_REJECTED, "toy", "unknown_kind") == 1
        assert count(FRAMES_REJECTED, "toy", "binary_frame") == 1
        long = next(letter for letter in running.sink.letters if letter.size_bytes > 9000)
        assert (len(long.sample), len(long.payload)) == (4096, long.size_bytes)
        seen = len(running.sink.received)
        await until(lambda: len(running.sink.received) > seen + 2)
        assert server.accepted == 1


async def test_text_that_is_no_utf8_does_not_end_the_connection(start) -> None:
    frames = [text_frame(b'{"k": "\xff\xfe"}'), text_frame(b'{"k": "hello"}')]
    async with raw_server(frames) as port, start(ToyFeed(f"ws://127.0.0.1:{port}")) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.letters)
        assert running.sink.letters[0].reason == "malformed_json"
        await until(lambda: running.pool.status()["connections"][0]["frames"] == 2)
        assert running.connections("open") == 1


async def test_a_venue_that_speaks_binary_gets_text_as_str_and_binary_as_bytes(start) -> None:
    kinds: list[type] = []

    class BinaryFeed(ToyFeed):
        def decode(self, frame, received_ms):
            kinds.append(type(frame))
            return super().decode(frame, received_ms)

    frames = [text_frame(b'{"k": "hello"}'), b"\x82\x0e" + b'{"k": "hello"}', text_frame(b"\xff")]
    async with raw_server(frames) as port, start(BinaryFeed(f"ws://127.0.0.1:{port}", binary=True)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.metrics.value(FRAMES_REJECTED, "toy", "invalid_utf8") == 1)
    assert kinds == [str, bytes]


async def test_a_fault_in_the_mapper_costs_one_frame_and_is_logged_once(server: ToyServer, start) -> None:
    with capture_logs() as logs:
        async with start(ToyFeed(server.url)) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.sink.received)
            for _ in range(50):
                await server.say_to_all('{"k": "bug"}')
            await until(lambda: running.metrics.value(FRAMES_REJECTED, "toy", "mapper_bug") == 50)
            assert running.states() == {"price/BTC": "fresh"}
            assert len(running.sink.letters) == 20, "samples are limited, counts are not"
    assert len([line for line in logs if line["event"] == "mapper_raised"]) == 1


async def test_a_frame_above_the_limit_is_counted_told_without_body_and_backed_off(server: ToyServer, start) -> None:
    huge = "x" * (20 * 1024 * 1024)

    async def say_huge(connection, said) -> None:
        if server.accepted <= 3:
            await connection.send(huge)

    server.on_subscribe = say_huge
    async with start(ToyFeed(server.url, max_size_bytes=16 * 1024 * 1024)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: server.accepted == 4, within_s=20)
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        assert running.metrics.value(FRAMES_REJECTED, "toy", "frame_too_big") == 3
        letter = running.sink.letters[0]
        assert (letter.reason, letter.sample, letter.size_bytes) == ("frame_too_big", b"", len(huge))
        assert running.metrics.value(DISCONNECTS, "toy", "frame_too_big") == 3


async def test_frames_in_one_byte_slices_and_in_fragments_arrive_whole(start) -> None:
    data = json.dumps({"k": "data", "ch": "price", "s": "BTC", "n": 1, "t": 1}).encode()
    fragments = b"\x01\x05" + data[:5] + b"\x00\x07" + data[5:12] + b"\x80" + bytes([len(data) - 12]) + data[12:]
    frames = [text_frame(data), fragments, text_frame(data)]
    async with raw_server(frames, slice_bytes=1) as port, start(ToyFeed(f"ws://127.0.0.1:{port}")) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: len(running.sink.received) == 3)
        assert running.sink.letters == []


async def test_a_flood_does_not_starve_the_event_loop(server: ToyServer, start) -> None:
    async def flood(connection, said) -> None:
        for _ in range(3000):
            await connection.send('{"k": "hello"}')

    server.on_subscribe = flood
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    async with start(ToyFeed(server.url)) as running:
        watcher = asyncio.create_task(measure())
        running.pool.set_target([market("BTC")])
        await until(lambda: running.pool.status()["connections"][0]["frames"] > 3000)
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    assert longest < 0.25


async def test_messages_that_are_always_there_do_not_keep_others_from_running(start) -> None:
    class Fountain:
        heard = 0
        closing = False
        closed = False

        async def recv(self) -> tuple[bytes, bool]:  # never suspends
            self.heard += 1
            return b'{"k": "hello"}', False

        async def send(self, frame: str | bytes) -> None:
            pass

        async def ping(self) -> None:
            pass

        async def close(self) -> None:
            self.closed = True

        def abort(self) -> None:
            pass

    fountain = Fountain()

    async def open_fountain(endpoint: Endpoint, timing: Timing) -> Transport:
        return fountain

    async with start(ToyFeed(), opener=open_fountain) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: fountain.heard > 1000)
        await asyncio.wait_for(running.pool.close(), 2)
    assert fountain.closed


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_the_user_cap_is_visible_logged_once_and_heals_when_a_slot_is_free(server: ToyServer, start) -> None:
    server.user_cap = 2
    with capture_logs() as logs:
        async with start(ToyFeed(server.url, limits=VenueLimits(users=10))) as running:
            running.pool.set_target([*[f for n in "abcd" for f in user_feeds(n)], market("BTC")])
            await until(lambda: set(running.sink.subjects()) == {"a", "b", "BTC"})
            await until(lambda: running.states()["orders/d"] == "failed")
            states = running.states()
            assert {name for name, state in states.items() if state == "failed"} == {
                "orders/c", "state/c", "orders/d", "state/d",
            }  # fmt: skip
            assert "Cannot track more than 2" in running.pool.status()["streams"]["toy/orders/c"]["why"]
            await until(lambda: server.ops("sub").count("c") >= 4)  # tried again, slowly, without a word
            assert running.sink.gap_reasons()["refused"] <= 2
            server.user_cap = 3
            await until(lambda: len({"c", "d"} & set(running.sink.subjects())) == 1)
            assert server.accepted == 1
    told = [line for line in logs if line["event"] == "subscriptions_failed"]
    assert len(told) == 1
    assert told[0]["users"] >= 1
    failed = {s.user for _, subscriptions in running.sink.refusals for s in subscriptions}
    assert failed == {"c", "d"}


async def test_a_slot_that_becomes_free_is_used_before_the_slow_retry(server: ToyServer, start) -> None:
    server.user_cap = 1
    timing = msgspec.structs.replace(QUICK, refused_retry_s=3600.0)
    async with start(ToyFeed(server.url), timing=timing, clients=2) as running:
        running.pool.set_target([*user_feeds("a"), *user_feeds("b")])
        await until(lambda: list(running.states().values()).count("failed") == 2)
        await until(lambda: running.sink.received)
        taken = next(iter(running.sink.subjects()))
        running.pool.remove([f.key for f in user_feeds(taken)])
        await until(lambda: set(running.sink.subjects()) == {"a", "b"})


async def test_an_unacknowledged_subscription_fails_and_is_tried_again(server: ToyServer, start) -> None:
    server.no_ack = {"a"}
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([*user_feeds("a"), market("BTC")])
        await until(lambda: running.states()["orders/a"] == "failed")
        assert running.pool.status()["streams"]["toy/orders/a"]["why"] == "not acknowledged in time"
        assert running.states()["price/BTC"] == "fresh"
        server.no_ack = set()
        await until(lambda: running.states()["orders/a"] == "fresh")
        assert server.accepted == 1


async def test_an_invalid_subscription_fails_alone(server: ToyServer, start) -> None:
    server.invalid = {"NOPE"}
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("NOPE"), market("BTC"), *user_feeds("a")])
        await until(lambda: running.states()["price/NOPE"] == "failed")
        await until(lambda: list(running.states().values()).count("fresh") == 3)
        refusal, failed = running.sink.refusals[0]
        assert (refusal.kind, [s.key for s in failed]) == (RefusalKind.INVALID, [key("NOPE")])
        server.drop_all()
        await until(lambda: server.accepted == 2)
        await until(lambda: list(running.states().values()).count("fresh") == 3)
        assert server.ops("sub").count("NOPE") == 1, "must not be asked for again on every reconnect"


async def test_the_venue_code_may_change_the_target_when_something_is_refused(server: ToyServer, start) -> None:
    server.invalid = {"old"}
    async with start(ToyFeed(server.url)) as running:
        running.sink.on_refused = lambda _refusal: running.pool.set_target([market("new")])
        running.pool.set_target([market("old")])
        await until(lambda: running.sink.subjects()["new"])
        assert running.states() == {"price/new": "fresh"}


async def test_data_before_the_acknowledgement_confirms(server: ToyServer, start) -> None:
    server.data_before_ack = True
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.states() == {"price/BTC": "fresh"})


async def test_already_subscribed_is_harmless(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        error = {"k": "err", "kind": "already_subscribed", "ch": "price", "s": "BTC"}
        await server.say_to_all(json.dumps(error))
        await until(lambda: running.metrics.value(REFUSALS, "toy", "already_subscribed"))
        assert (running.states(), running.sink.refusals) == ({"price/BTC": "fresh"}, [])


async def test_too_many_messages_pauses_and_repeats(server: ToyServer, start) -> None:
    refused = False

    async def complain(connection, said) -> None:
        nonlocal refused
        if not refused:
            refused = True
            server.subscribed[connection].clear()
            await connection.send('{"k": "err", "kind": "message_rate", "text": "Cannot send more"}')

    server.on_subscribe, server.no_ack = complain, {"BTC"}
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: refused)
        server.no_ack = set()
        await until(lambda: running.pool.status()["budget"]["messages_paused_s"] > 0)
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        assert server.ops("sub") == ["BTC", "BTC"]


async def test_a_subscription_that_makes_the_venue_hang_up_does_not_take_the_others_down(server, start) -> None:
    server.poison = {"BAD"}
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BAD"), market("BTC"), market("ETH")])
        await until(lambda: running.states()["price/BAD"] == "failed", within_s=10)
        await until(lambda: list(running.states().values()).count("fresh") == 2)
        accepted = server.accepted
        seen = len(running.sink.received)
        await until(lambda: len(running.sink.received) > seen + 20)
        assert server.accepted == accepted


# -- silence -----------------------------------------------------------------------------------------------------------


async def test_silence_of_one_stream_resubscribes_then_reconnects(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC", silent=0.2), market("ETH", silent=0.2)])
        await until(lambda: len(running.sink.subjects()) == 2)
        server.mute = {"BTC"}
        await until(lambda: running.states()["price/BTC"] == "silent")
        assert running.states()["price/ETH"] == "fresh"
        await until(lambda: server.ops("unsub") == ["BTC"])
        assert server.accepted == 1
        await until(lambda: server.accepted == 2)
        assert running.last_error() == "silence"
        silences = [gap for gap in running.sink.gaps if gap.reason is GapReason.SILENCE]
        assert [gap.streams for gap in silences] == [(key("BTC"),)]
        server.mute = set()
        await until(lambda: set(running.states().values()) == {"fresh"})


async def test_a_resubscribe_alone_may_cure_it(server: ToyServer, start) -> None:
    async def unmute(connection, said) -> None:
        if server.ops("unsub"):
            server.mute = set()

    server.on_subscribe = unmute
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC", silent=0.15)])
        await until(lambda: running.sink.received)
        server.mute = {"BTC"}
        await until(lambda: server.ops("unsub"))
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        await asyncio.sleep(0.3)
        assert (server.accepted, running.sink.gap_reasons()) == (1, {"silence": 1})


async def test_a_stream_that_never_speaks_does_not_take_its_neighbours_down_again_and_again(server, start) -> None:
    server.mute = {"DEAD"}
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("DEAD", silent=0.1), market("BTC", silent=0.1)])
        await until(lambda: server.accepted == 2)
        await asyncio.sleep(1.0)  # ten thresholds long: nothing may happen
        assert server.accepted == 2
        assert running.states()["price/BTC"] == "fresh"


# -- our own faults ----------------------------------------------------------------------------------------------------


async def test_the_death_of_a_connection_task_is_counted_logged_once_and_cured(server: ToyServer, start) -> None:
    broken = 3

    async def open_badly(endpoint: Endpoint, timing: Timing) -> Transport:
        nonlocal broken
        if broken:
            broken -= 1
            raise ZeroDivisionError("a fault in this program")
        return await open_websocket(endpoint, timing)

    with capture_logs() as logs:
        async with start(ToyFeed(server.url), opener=open_badly) as running:
            running.pool.set_target([market("BTC")])
            await until(lambda: running.sink.received)
            assert running.metrics.value(TASK_FAILURES, "toy-0") == 3
            assert running.budget.usage()["connections"]["used"] == 1, "a dead task must give its slot back"
    assert len([line for line in logs if line["event"] == "task_died"]) == 1


async def test_a_sink_that_raises_does_not_end_the_collection(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        deliver, failures = running.sink.data, 2

        def fail_twice(data) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError("this must not look like a network error")
            deliver(data)

        running.sink.data = fail_twice
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        assert running.metrics.value(TASK_FAILURES, "toy-0") == 2
        assert running.last_error() == ""


# -- raw bytes ---------------------------------------------------------------------------------------------------------


def text_frame(payload: bytes) -> bytes:
    assert len(payload) < 126
    return b"\x81" + bytes([len(payload)]) + payload


async def answer_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from websockets.utils import accept_key

    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    nonce = next(
        line.split(": ")[1] for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key")
    )
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Accept: {accept_key(nonce)}\r\n\r\n".encode())


@contextlib.asynccontextmanager
async def raw_server(frames: list[bytes], *, slice_bytes: int = 1 << 20) -> AsyncIterator[int]:
    """Answers the handshake and sends these very bytes after the first subscribe, in slices."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer_handshake(reader, writer)
            await reader.read(1)
            for part in slices(b"".join(frames), slice_bytes):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()
        writer.close()

    async with tcp_server(serve) as port:
        yield port


@contextlib.asynccontextmanager
async def tcp_server(handler: TcpHandler, ended: asyncio.Event | None = None) -> AsyncIterator[int]:
    """A port where ``handler`` answers; at the end ``ended`` is set and every socket is closed."""
    handling: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.current_task())
        writers.append(writer)
        await handler(reader, writer)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        if ended is not None:
            ended.set()
        await asyncio.gather(*handling, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


def slices(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
