"""What arrives on one connection: frame -> decode -> ledger, freshness, sink. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from src.models.changes import DeadLetter, kept
from src.models.errors import WireError
from src.models.messages import (
    Ack,
    AckList,
    Data,
    Decoded,
    GapReason,
    Ignored,
    LoggedIn,
    LoginRefused,
    Pong,
    Refusal,
    RefusalKind,
    Several,
    Unusable,
    Welcome,
)
from src.models.metrics import BYTES_RECEIVED, FRAMES_IGNORED, FRAMES_RECEIVED, FRAMES_REJECTED, REFUSALS
from src.models.streams import Subscription
from src.venues.ledger import Ledger
from src.venues.login import Login
from src.venues.parts import Parts

log = structlog.get_logger(__name__)

SAMPLE_BYTES = 4096
MAPPER_BUG = "mapper_bug"
BINARY_FRAME = "binary_frame"
INVALID_UTF8 = "invalid_utf8"

NO_LONGER_LISTED = "the venue no longer lists it among what it sends"

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

    def __init__(self, name: str, parts: Parts, ledger: Ledger, login: Login, answered: Callable[[], None]) -> None:
        """Nothing has arrived yet; ``answered`` is called when the venue answered something we asked it."""
        self.frames = 0
        self.size_bytes = 0
        self.data_at: float | None = None
        self.pong_at: float | None = None
        self.last_ms = 0
        self._name = name
        self._parts = parts
        self._ledger = ledger
        self._login = login
        self._answered = answered
        self._venue = parts.feed.venue
        self._decode = parts.feed.decode
        self._takes_binary = False
        self._frame_count = parts.metrics.cell(FRAMES_RECEIVED, self._venue)
        self._byte_count = parts.metrics.cell(BYTES_RECEIVED, self._venue)
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
        self._frame_count[0] += 1
        self._byte_count[0] += len(raw)
        if self._tap is not None:
            self._hand_to_tap(raw, wall_ms)
        try:
            decoded = self._decode(raw if binary is self._takes_binary else self._text(raw, binary=binary), wall_ms)
        except WireError as error:
            self.reject(error.reason, error.detail, raw, len(raw))
        except Exception as error:  # noqa: BLE001 - a fault in a mapper costs one frame, not the connection
            self._report_bug(error)
            self.reject(MAPPER_BUG, f"{type(error).__name__}: {error}", raw, len(raw))
        else:
            if type(decoded) is Data:
                self._on_data(decoded, parts.clock.monotonic())
            elif type(decoded) is Several:
                self._on_several(decoded)
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

    def _text(self, raw: bytes, *, binary: bool) -> str:
        """A message of the other kind than the venue speaks: text is taken, binary is not."""
        if binary:
            raise WireError(BINARY_FRAME, f"{len(raw)} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise WireError(INVALID_UTF8, str(error)) from error

    def _on_several(self, several: Several) -> None:
        monotonic = self._parts.clock.monotonic
        now = monotonic()
        for part in several.parts:
            if type(part) is Data:
                self._on_data(part, now)
                continue
            if type(part) is Several:
                self._on_several(part)
            else:
                self._on_other(part)
            now = monotonic()  # data behind an acknowledgement must not look older than it

    def _on_data(self, data: Data, now: float) -> None:
        confirmed = self._ledger.on_data(data.stream)
        parts = self._parts
        if confirmed is None:
            # Still under way when we unsubscribed; handed on it would bring back what was just let go.
            parts.metrics.add(FRAMES_IGNORED, self._venue, "not_subscribed")
            return
        if self.data_at is None:
            self.data_at = now
        if confirmed:
            parts.freshness.confirmed(data.stream, now)
        parts.freshness.seen(data.stream, now, data.venue_ms)
        parts.sink.data(data)

    def _on_other(self, decoded: Decoded) -> None:
        match decoded:
            case Ack():
                self._on_ack(decoded)
            case AckList():
                self._on_list(decoded)
            case Pong():
                self.pong_at = self._parts.clock.monotonic()
            case Refusal():
                self._on_refusal(decoded)
            case Ignored(reason):
                self._parts.metrics.add(FRAMES_IGNORED, self._venue, reason)
            case Unusable(reason, detail, sample):
                self.reject(reason, detail, sample, len(sample))
            case Welcome() | LoggedIn() | LoginRefused():
                self._login.take(decoded)

    def _on_ack(self, ack: Ack) -> None:
        if self._ledger.on_ack(ack.stream, subscribed=ack.subscribed):
            self._parts.freshness.confirmed(ack.stream, self._parts.clock.monotonic())
        self._answered()

    def _on_list(self, acks: AckList) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        confirmed, dropped = self._ledger.on_list(acks.subscribed)
        for stream in confirmed:
            parts.freshness.confirmed(stream, now)
        if dropped:
            parts.tell_gap(dropped, GapReason.REFUSED, parts.clock.wall_ms(), NO_LONGER_LISTED)
        self._answered()

    def _on_refusal(self, refusal: Refusal) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        parts.metrics.add(REFUSALS, self._venue, refusal.kind.value)
        if refusal.kind in _ALREADY:
            if refusal.stream is not None:
                self._on_ack(Ack(refusal.stream, _ALREADY[refusal.kind]))
            return
        if refusal.kind is RefusalKind.MESSAGE_RATE:
            parts.budget.pause_messages(parts.timing.message_pause_s)
        failed = self._ledger.on_refusal(refusal, now)
        self._answered()
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
