"""One supervised connection: budget, connect, subscribe, read, notice death, back off, again."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import structlog

from src.models.messages import GapReason, Refusal, RefusalKind
from src.models.metrics import CONNECT_ATTEMPTS, CONNECTS, DISCONNECTS
from src.models.streams import StreamKey, Subscription
from src.venues.backoff import Backoff
from src.venues.failures import ABNORMAL, EXPECTED_ERRORS, TOO_BIG, Failure, SocketEndedError, classify, thrown_out
from src.venues.feed import BatchFeed
from src.venues.inbox import Inbox
from src.venues.ledger import Ledger
from src.venues.login import Login
from src.venues.parts import Parts
from src.venues.pulse import Pulse
from src.venues.speaker import Speaker
from src.venues.transport import Transport

log = structlog.get_logger(__name__)

_STOPPED = Failure("stopped")
_IDLE = Failure("idle")
_CANCELLED = Failure("cancelled")
_YIELD_EVERY = 16


class Connection:
    """Carries the subscriptions in its ledger for as long as there are any; `run` returns only after `stop`.

    The methods return at once; what they ask for is done by the task in `run`.
    """

    def __init__(self, home: int, parts: Parts) -> None:
        self.home = home
        self.name = f"{parts.feed.venue}-{parts.label}{home}"
        self._poke = asyncio.Event()
        self.ledger = Ledger(parts.timing, parts.feed.batching if isinstance(parts.feed, BatchFeed) else None)
        self._login = Login(parts.feed, on_refused=self._poke.set)
        self._speaker = Speaker(parts, self.ledger, self._login)
        self.inbox = Inbox(self.name, parts, self.ledger, self._login, self._speaker.news)
        self._parts = parts
        self._backoff = Backoff(parts.timing, random=parts.random)
        self._pulse: Pulse | None = None
        self._ending: Failure | None = None
        self._stopping = False
        self._idle_since: float | None = None
        self._attempts = 0
        self._connects = 0
        self._next_attempt_at = float("-inf")
        self._last_failure: tuple[Failure, int] | None = None
        self._state = "idle"
        self._since_ms = parts.clock.wall_ms()

    @property
    def open(self) -> bool:
        """Whether the handshake is through and the end has not come."""
        return self._state == "open"

    @property
    def connecting(self) -> bool:
        """Whether a handshake is under way; it may take as long as the open timeout."""
        return self._state == "connecting"

    def add(self, subscription: Subscription) -> None:
        """Carry ``subscription`` from now on."""
        self.ledger.add(subscription)
        self._wake()

    def remove(self, key: StreamKey) -> bool:
        """Carry ``key`` no longer; returns whether it had been live. `Ledger.take_left` tells when it is through."""
        live = self.ledger.remove(key)
        self._wake()
        return live

    def resubscribe(self, key: StreamKey) -> None:
        """Ask for a mute stream afresh."""
        self.ledger.resubscribe(key)
        self._speaker.news()

    def retry_users(self) -> None:
        """A user slot became free."""
        self.ledger.retry_users()
        self._speaker.news()

    @property
    def given_up(self) -> bool:
        """Whether the venue refused us for good, and nothing is tried until `reconnect`."""
        return self._state == "refused"

    def reconnect(self, detail: str) -> None:
        """Give the present socket up for a new one; where the venue had refused us for good, try it again now."""
        if self.open:
            self._ending = Failure("silence", detail)
            self._poke.set()
        elif self.given_up:
            self._next_attempt_at = float("-inf")
            self._poke.set()

    def recycle(self) -> None:
        """Say good-bye on the present socket; a new one is opened at once where something is still wanted."""
        if self.open:
            self._ending = _IDLE
            self._poke.set()

    def stop(self) -> None:
        """Close in order and let `run` return."""
        self._stopping = True
        self._ending = _STOPPED
        self._poke.set()

    async def run(self) -> None:
        """Keep the connection up until stopped."""
        try:
            while not self._stopping:
                if self.ledger.idle:
                    self._enter("idle")
                    await self._rest(None)
                elif await self._wait_turn():
                    failure = await self._attempt()
                    self._after(failure)
        finally:
            self._enter("closed")

    def status(self) -> dict[str, Any]:
        """How the connection stands; JSON-ready."""
        now = self._parts.clock.monotonic()
        failure = None
        if self._last_failure is not None:
            last, at_ms = self._last_failure
            failure = {"reason": last.reason, "detail": last.detail, "remedy": last.remedy, "at_ms": at_ms}
        waiting = self._state == "waiting" and not math.isinf(self._next_attempt_at)
        return {
            "name": self.name,
            "state": self._state,
            "since_ms": self._since_ms,
            "attempts": self._attempts,
            "connects": self._connects,
            "failures_in_a_row": self._backoff.failures,
            "last_error": failure,
            "next_attempt_in_s": round(max(0.0, self._next_attempt_at - now), 1) if waiting else None,
            "frames": self.inbox.frames,
            "bytes": self.inbox.size_bytes,
            "heard_age_ms": _age_ms(now, self._pulse.heard_at if self._pulse else None),
            "pong_age_ms": _age_ms(now, self.inbox.pong_at),
            "subscriptions": {state.value: count for state, count in self.ledger.counts().items()},
        }

    # -- before a socket -------------------------------------------------------------------------------------------

    async def _wait_turn(self) -> bool:
        """Wait for the back-off and the budget; False when there is no more reason to connect."""
        self._enter("waiting")
        while not self._stopping and not self.ledger.idle:
            wait_s = self._next_attempt_at - self._parts.clock.monotonic()
            if wait_s == math.inf:
                self._give_up()
            elif wait_s <= 0:
                wait_s = self._parts.budget.acquire_connection()
                if wait_s <= 0:
                    return True
            await self._rest(None if wait_s == math.inf else wait_s)
        return False

    def _give_up(self) -> None:
        """Rest until `reconnect`; what is wanted, now or later, counts as failed."""
        self._enter("refused")
        assert self._last_failure is not None
        failure, parts = self._last_failure[0], self._parts
        why = failure.remedy or failure.detail
        failed = self.ledger.fail_all(why, parts.clock.monotonic())
        if failed:
            self.inbox.failed(failed, why)
            parts.sink.refused(Refusal(RefusalKind.LOGIN, why), failed)

    async def _attempt(self) -> Failure:
        """Open a socket and live on it; returns why it ended. Holds one connection of the budget meanwhile."""
        parts = self._parts
        self._enter("connecting")
        self._attempts += 1
        self._backoff.attempt(parts.clock.monotonic())
        parts.metrics.add(CONNECT_ATTEMPTS, parts.feed.venue)
        try:
            try:
                endpoint = parts.feed.endpoint()
                transport = await parts.opener(endpoint, parts.timing)
            except EXPECTED_ERRORS as error:
                return classify(error, wall_ms=parts.clock.wall_ms())
            self._login.opened()
            self.inbox.opened(binary=endpoint.binary)
            return await self._live(transport)
        finally:
            parts.budget.release_connection()

    # -- with a socket ---------------------------------------------------------------------------------------------

    async def _live(self, transport: Transport) -> Failure:
        parts = self._parts
        self._enter("logging_in" if self._login.needed else "open")
        self._connects += 1
        parts.metrics.add(CONNECTS, parts.feed.venue)
        if self.open:
            self._tell_open()
        self._pulse = Pulse(parts.feed.heartbeat, parts.clock.monotonic())
        self._ending = _STOPPED if self._stopping else None
        self._idle_since = None
        failure = Failure("internal_error")
        try:
            failure = await self._until_end(transport, self._pulse)
            if failure in (_STOPPED, _IDLE):
                await self._say_goodbye(transport)
        except asyncio.CancelledError:
            failure = _CANCELLED
            raise
        finally:
            transport.abort()
            self._mourn(failure)
        return failure

    async def _until_end(self, transport: Transport, pulse: Pulse) -> Failure:
        """Read, write and keep alive until one of them finds that the socket has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(transport), name=f"{self.name} writer")
                group.create_task(self._keep(transport, pulse), name=f"{self.name} keeper")
                await self._read(transport)
        except BaseExceptionGroup as errors:
            ends, faults = errors.split(SocketEndedError)
            if faults is not None or ends is None:
                raise
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # a task group forgets a cancellation that met an error
                raise asyncio.CancelledError from errors
            first = ends.exceptions[0]
            assert isinstance(first, SocketEndedError)
            return first.failure
        raise AssertionError("a reader returned without an end")

    async def _read(self, transport: Transport) -> None:
        receive = self.inbox.receive
        count = 0
        while True:
            try:
                raw, binary = await transport.recv()
            except EXPECTED_ERRORS as error:
                refused = self._login.refused  # some say why and close at once: the word counts, not the close
                raise SocketEndedError(thrown_out(refused) if refused else classify(error)) from error
            receive(raw, binary=binary)
            count += 1
            if count % _YIELD_EVERY == 0:  # messages that are here already do not let anybody else run
                await asyncio.sleep(0)

    async def _write(self, transport: Transport) -> None:
        if self._login.needed:
            await self._speaker.log_in(transport)
            if self._pulse is not None:
                self._pulse.keep(self._parts.feed.heartbeat)
            self._enter("open")
            self._tell_open()
        await self._speaker.subscribe(transport)

    async def _keep(self, transport: Transport, pulse: Pulse) -> None:
        """Look at deadlines at every tick."""
        parts, heard, closing_since = self._parts, transport.heard, None
        while True:
            await self._rest(parts.timing.tick_s)
            now = parts.clock.monotonic()
            if self._login.refused is not None:
                raise SocketEndedError(thrown_out(self._login.refused))
            if self._ending is not None:
                raise SocketEndedError(self._ending)
            if transport.heard != heard:
                heard = transport.heard
                pulse.heard(now)
                self._backoff.heard(now)
            if pulse.dead(now):
                raise SocketEndedError(Failure("pong_timeout", f"nothing heard since {now - pulse.heard_at:.0f} s"))
            if not transport.closing:
                await self._speaker.ping(transport, pulse, now)
            elif closing_since is None:
                closing_since = now
            elif now - closing_since > parts.timing.close_timeout_s:
                transport.abort()  # the peer never finished the closing handshake; the reader learns how it ended
            self._look_at_ledger(now)

    def _look_at_ledger(self, now: float) -> None:
        self.inbox.failed(self.ledger.tick(now), "not acknowledged in time")
        if self.ledger.next_sends():
            self._speaker.news()
        if self.inbox.data_at is not None:
            self._backoff.data(self.inbox.data_at)
        if not self.ledger.idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= self._parts.timing.idle_close_s:
            raise SocketEndedError(_IDLE)

    # -- after a socket --------------------------------------------------------------------------------------------

    async def _say_goodbye(self, transport: Transport) -> None:
        self._enter("closing")
        try:
            async with asyncio.timeout(self._parts.timing.close_timeout_s):
                await transport.close()
        except EXPECTED_ERRORS as error:
            log.debug("goodbye_failed", connection=self.name, error=str(error))

    def _mourn(self, failure: Failure) -> None:
        """Tell the gap and make the ledger ready for the next socket."""
        parts, now = self._parts, self._parts.clock.monotonic()
        if self.inbox.data_at is not None:
            self._backoff.data(self.inbox.data_at)
        parts.metrics.add(DISCONNECTS, parts.feed.venue, failure.reason)
        live = self.ledger.disconnected(now, by_venue=failure.closed_by_venue)
        going = self._stopping or failure is _CANCELLED
        reason = GapReason.PROCESS_DOWN if going else GapReason.DISCONNECT
        # With a closing handshake everything sent before it was read; otherwise only the last frame is certain.
        orderly = failure.closed_by_venue and failure.reason != ABNORMAL
        parts.tell_gap(live, reason, parts.clock.wall_ms() if orderly else self.inbox.last_ms, failure.reason)
        if failure.reason == TOO_BIG:
            self.inbox.reject(TOO_BIG, failure.detail, b"", failure.size_bytes)
        self._pulse = None

    def _after(self, failure: Failure) -> None:
        """Note and log a failure and set the time of the next attempt."""
        if failure in (_STOPPED, _IDLE):
            return
        parts, now = self._parts, self._parts.clock.monotonic()
        self._last_failure = (failure, parts.clock.wall_ms())
        if self._backoff.healthy:
            parts.log_gate.forget(("connection", failure.reason))
        delay_s = self._backoff.delay(failure, now)
        self._next_attempt_at = now + delay_s
        if failure.rate_limited:
            parts.budget.pause_connects(delay_s)
        final = math.isinf(delay_s)
        if not parts.log_gate.due(("connection", failure.reason), now) and not final:
            return
        fields: dict[str, Any] = {"venue": parts.feed.venue, "connection": self.name, "reason": failure.reason}
        fields |= {"detail": failure.detail, "retry_in_s": None if final else round(delay_s, 1)}
        if failure.loud:
            log.error("venue_refuses_connection", remedy=failure.remedy, **fields)
        else:
            log.warning("venue_connection_lost", **fields)

    # -- shared ----------------------------------------------------------------------------------------------------

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._since_ms = self._parts.clock.wall_ms()

    def _tell_open(self) -> None:
        parts = self._parts
        if parts.log_gate.due(("connected", self.name), parts.clock.monotonic()):
            log.info("venue_connected", venue=parts.feed.venue, connection=self.name, streams=len(self.ledger))

    def _wake(self) -> None:
        self._poke.set()
        self._speaker.news()

    async def _rest(self, timeout_s: float | None) -> None:
        """Wait until poked, at most ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._poke.wait()
        except TimeoutError:
            return
        self._poke.clear()


def _age_ms(now: float, then: float | None) -> int | None:
    return None if then is None else round((now - then) * 1000.0)
