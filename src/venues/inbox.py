"""What arrives on one connection: frame -> decode -> ledger, freshness, sink. Nothing here waits."""

from __future__ import annotations

import structlog

from src.models.changes import DeadLetter, kept
from src.models.errors import WireError
from src.models.messages import Ack, Data, Decoded, GapReason, Ignored, Pong, Refusal, RefusalKind
from src.models.metrics import BYTES_RECEIVED, FRAMES_IGNORED, FRAMES_RECEIVED, FRAMES_REJECTED, REFUSALS
from src.models.streams import Subscription
from src.venues.ledger import Ledger
from src.venues.parts import Parts

log = structlog.get_logger(__name__)

SAMPLE_BYTES = 4096
MAPPER_BUG = "mapper_bug"
BINARY_FRAME = "binary_frame"
INVALID_UTF8 = "invalid_utf8"

_NAMED_MOST = 5
_ALREADY = {RefusalKind.ALREADY_SUBSCRIBED: True, RefusalKind.ALREADY_UNSUBSCRIBED: False}


class Inbox:
    """Takes every frame of one connection; keeps what its status needs.

    Attributes:
        frames, size_bytes: received in the life of the program.
        data_at: monotonic time of the first valid data on the present socket, None = none yet.
        pong_at: monotonic time of the last answer to a ping.
        last_ms: wall time of the last frame.
    """

    def __init__(self, name: str, parts: Parts, ledger: Ledger) -> None:
        self.frames = 0
        self.size_bytes = 0
        self.data_at: float | None = None
        self.pong_at: float | None = None
        self.last_ms = 0
        self._name = name
        self._parts = parts
        self._ledger = ledger
        self._venue = parts.feed.venue
        self._decode = parts.feed.decode
        self._takes_binary = False
        self._tap = parts.tap

    def opened(self, *, binary: bool) -> None:
        """A new socket is open; ``binary`` as in `Endpoint`."""
        self.data_at = None
        self.pong_at = None
        self.last_ms = self._parts.clock.wall_ms()
        self._takes_binary = binary

    def receive(self, raw: bytes, *, binary: bool) -> None:
        """Take one message. Whatever is wrong with it is counted and the connection goes on."""
        parts = self._parts
        wall_ms = parts.clock.wall_ms()
        self.frames += 1
        self.size_bytes += len(raw)
        self.last_ms = wall_ms
        parts.metrics.add(FRAMES_RECEIVED, self._venue)
        parts.metrics.add(BYTES_RECEIVED, self._venue, amount=len(raw))
        if self._tap is not None:
            self._hand_to_tap(raw, wall_ms)
        try:
            decoded = self._decode(self._frame(raw, binary=binary), wall_ms)
        except WireError as error:
            self.reject(error.reason, error.detail, raw, len(raw))
        except Exception as error:  # noqa: BLE001 - a fault in a mapper costs one frame, not the connection
            self._report_bug(error)
            self.reject(MAPPER_BUG, f"{type(error).__name__}: {error}", raw, len(raw))
        else:
            if type(decoded) is Data:
                self._on_data(decoded)
            else:
                self._on_other(decoded)

    def reject(self, reason: str, detail: str, sample: bytes, size_bytes: int) -> None:
        """Count a frame that cannot be used; hand on a sample of it, not more than a few a minute of each reason."""
        parts, now = self._parts, self._parts.clock.monotonic()
        parts.metrics.add(FRAMES_REJECTED, self._venue, reason)
        if parts.letter_gate.due(reason, now):
            letter = DeadLetter(
                venue=self._venue,
                stage="decode",
                reason=reason,
                detail=detail[:SAMPLE_BYTES],
                sample=sample[:SAMPLE_BYTES],
                size_bytes=size_bytes,
                received_ms=parts.clock.wall_ms(),
                payload=kept(sample) if len(sample) == size_bytes else b"",
            )
            parts.sink.rejected(letter)
        if reason != MAPPER_BUG and parts.log_gate.due(("rejected", reason), now):
            log.warning(
                "frame_rejected", venue=self._venue, reason=reason, detail=detail[:200], size_bytes=size_bytes
            )

    def failed(self, subscriptions: tuple[Subscription, ...], why: str) -> None:
        """These newly count as failed: say so once, and that their streams are not seen."""
        if not subscriptions:
            return
        parts, keys = self._parts, [subscription.key for subscription in subscriptions]
        parts.tell_gap(keys, GapReason.REFUSED, parts.clock.wall_ms(), why[:200])
        if parts.log_gate.due(("failed", why), parts.clock.monotonic()):
            log.warning(
                "subscriptions_failed",
                venue=self._venue,
                connection=self._name,
                why=why[:200],
                count=len(keys),
                users=len({s.user for s in subscriptions if s.user is not None}),
                streams=[str(key) for key in keys[:_NAMED_MOST]],
            )

    def _frame(self, raw: bytes, *, binary: bool) -> str | bytes:
        if self._takes_binary:
            if binary:
                return raw
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                raise WireError(INVALID_UTF8, str(error)) from error
        if binary:
            raise WireError(BINARY_FRAME, f"{len(raw)} bytes")
        return raw

    def _on_data(self, data: Data) -> None:
        confirmed = self._ledger.on_data(data.stream)
        parts = self._parts
        if confirmed is None:
            # Still under way when we unsubscribed; handed on it would bring back what was just let go.
            parts.metrics.add(FRAMES_IGNORED, self._venue, "not_subscribed")
            return
        now = parts.clock.monotonic()
        if self.data_at is None:
            self.data_at = now
        if confirmed:
            parts.freshness.confirmed(data.stream, now)
        parts.freshness.seen(data.stream, now, data.venue_ms)
        parts.sink.data(data)

    def _on_other(self, decoded: Decoded) -> None:
        match decoded:
            case Ack(stream, subscribed):
                if self._ledger.on_ack(stream, subscribed=subscribed):
                    self._parts.freshness.confirmed(stream, self._parts.clock.monotonic())
            case Pong():
                self.pong_at = self._parts.clock.monotonic()
            case Refusal():
                self._on_refusal(decoded)
            case Ignored(reason):
                self._parts.metrics.add(FRAMES_IGNORED, self._venue, reason)
            case Data():
                self._on_data(decoded)

    def _on_refusal(self, refusal: Refusal) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        parts.metrics.add(REFUSALS, self._venue, refusal.kind.value)
        if refusal.kind in _ALREADY:
            if refusal.stream is not None:
                self._on_other(Ack(refusal.stream, _ALREADY[refusal.kind]))
            return
        if refusal.kind is RefusalKind.MESSAGE_RATE:
            parts.budget.pause_messages(parts.timing.message_pause_s)
        failed = self._ledger.on_refusal(refusal, now)
        self.failed(failed, refusal.text)
        told_before = failed or refusal.kind is RefusalKind.USER_CAP
        if not told_before and parts.log_gate.due(("refused", refusal.kind), now):
            log.warning("venue_refused", venue=self._venue, kind=refusal.kind.value, text=refusal.text[:200])
        parts.sink.refused(refusal, failed)

    def _hand_to_tap(self, raw: bytes, wall_ms: int) -> None:
        assert self._tap is not None
        try:
            self._tap(self._name, raw, wall_ms)
        except Exception:  # a recording that fails (disk full) must not cost the collection
            self._tap = None
            log.exception("raw_tap_failed", venue=self._venue, connection=self._name)

    def _report_bug(self, error: Exception) -> None:
        if self._parts.log_gate.due(("bug", type(error).__name__), self._parts.clock.monotonic()):
            log.error("mapper_raised", venue=self._venue, exc_info=error)
