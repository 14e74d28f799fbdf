"""The past of traders at no weight: a look takes the first frames of the history feeds along.

However many feeds are subscribed for a user, the venue counts him once, and the first frame of
``userHistoricalOrders`` and ``userFills`` tells the newest rows (``isSnapshot``). How many is not documented, so an
answer counts only as far back as it reaches, unless it is known to be whole; for more there is REST, whose limits are
documented.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import structlog
from msgspec import Struct

from src.models.clock import Clock
from src.models.messages import Data, Fill, OrderHistory
from src.models.metrics import PAST_LOOKS, Metrics
from src.models.streams import StreamKey, Subscription
from src.venues.hyperliquid.feed import FILLS_CHANNEL, HISTORY_CHANNEL, user_stream
from src.venues.hyperliquid.mapper import VENUE

log = structlog.get_logger(__name__)

WAIT_S = 20.0
"""For so long an answer is waited for; then REST has to tell it."""

MOST_PER_MINUTE = 40
"""Answers asked for in a minute: each takes two messages more than the look that takes it along."""

MOST_ROWS_PER_MINUTE = 30_000
"""Rows taken in a minute (about 10 MB): an answer may have thousands."""

MINUTE_S = 60.0
UNKNOWN_FOR_S = 6 * 3600.0
"""A feed the venue does not know is asked for again after so long."""


CHECKS = 5
"""So many answers that seem to be whole are compared with REST before the others are believed."""

REACH: Mapping[str, int] = {HISTORY_CHANNEL: 2_000}
"""Rows beyond which REST tells no more either."""

T = TypeVar("T")


class Told(Struct, Generic[T], frozen=True):
    """What a look has taken along.

    Attributes:
        is_whole: it is all that the venue knows, not only what was asked for.
    """

    rows: T
    is_whole: bool


class Looker(Protocol):
    """Who looks at traders by turns."""

    def looks_at(self, trader: str) -> bool:
        """Whether this trader has turns."""

    def hurry(self, trader: str) -> None:
        """Let this trader have one of the next turns."""


class PastLooks:
    """Wishes for the past of traders, which looks take along. Not thread-safe.

    Methods that ask return None where no look can tell: the trader has no turns, the minute's share is used up, the
    venue refused or was slow, or the answer does not reach back far enough.
    """

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._lookers: list[Looker] = []
        self._wishes: dict[StreamKey, asyncio.Future[Data | None]] = {}
        self._asked: deque[float] = deque()
        self._rows: deque[tuple[float, int]] = deque()
        self._unknown_until: dict[str, float] = {}
        self._most_rows: Counter[str] = Counter()
        self._checks: Counter[str] = Counter()
        self._never_whole: set[str] = set()

    def use(self, looker: Looker) -> None:
        """Let wishes be taken along by ``looker``, too."""
        self._lookers.append(looker)

    # -- asking ----------------------------------------------------------------------------------------------------

    def may_ask(self, trader: str, channel: str = HISTORY_CHANNEL) -> bool:
        """Whether a look at ``trader`` could take this along now."""
        self._forget()
        return (
            self._clock.monotonic() >= self._unknown_until.get(channel, 0.0)
            and len(self._asked) < MOST_PER_MINUTE
            and sum(rows for _, rows in self._rows) < MOST_ROWS_PER_MINUTE
            and self._looker_of(trader) is not None
        )

    async def orders(self, trader: str, since_ms: int | None) -> Told[OrderHistory] | None:
        """All statuses of a trader's orders from ``since_ms`` on; None = however few the venue tells."""
        data = await self._ask(trader, HISTORY_CHANNEL)
        history = next((m for m in data.messages if isinstance(m, OrderHistory)), None) if data else None
        if history is None:
            return None
        times = [row.status_ms for row in history.rows]
        is_whole = self._is_whole(HISTORY_CHANNEL, len(times))
        if is_whole or since_ms is None or min(times) < since_ms:
            return Told(history, is_whole)
        self._note(HISTORY_CHANNEL, "short")
        return None

    async def fills(self, trader: str, since_ms: int) -> Told[list[Fill]] | None:
        """All fills of a trader from ``since_ms`` (inclusive) on, oldest first."""
        data = await self._ask(trader, FILLS_CHANNEL)
        if data is None:
            return None
        fills = sorted((m for m in data.messages if isinstance(m, Fill)), key=lambda fill: fill.time_ms)
        is_whole = self._is_whole(FILLS_CHANNEL, len(fills))
        if is_whole or fills[0].time_ms < since_ms:
            return Told([fill for fill in fills if fill.time_ms >= since_ms], is_whole)
        self._note(FILLS_CHANNEL, "short")
        return None

    def wants_check(self, channel: str) -> bool:
        """Whether what seems to be whole is still to be compared with what REST tells."""
        return self._checks[channel] < CHECKS

    def checked(self, channel: str, *, was_whole: bool) -> None:
        """REST told as much as the look, or more."""
        self._checks[channel] += 1
        if not was_whole and channel not in self._never_whole:
            self._never_whole.add(channel)
            log.warning("first_frames_are_cut", channel=channel)

    def _is_whole(self, channel: str, rows: int) -> bool:
        """Whether an answer of so many rows is all that the venue knows.

        It is, where another answer had more: the number at which answers are cut must be above it, then.
        """
        most = self._most_rows[channel] = max(self._most_rows[channel], rows)
        return not rows or (rows < most and channel not in self._never_whole) or rows >= REACH.get(channel, math.inf)

    async def _ask(self, trader: str, channel: str) -> Data | None:
        key = StreamKey(VENUE, channel, trader)
        wish = self._wishes.get(key)
        if wish is None:
            looker = self._looker_of(trader)
            if looker is None or not self.may_ask(trader, channel):
                return None
            wish = self._wishes[key] = asyncio.get_running_loop().create_future()
            self._asked.append(self._clock.monotonic())
            looker.hurry(trader)
        await asyncio.wait({wish}, timeout=WAIT_S)
        if not wish.done():
            self._note(channel, "late")
            self._settle(key, None)
        return wish.result()

    # -- for who looks ---------------------------------------------------------------------------------------------

    def subscriptions(self, trader: str) -> list[Subscription]:
        """What the next look at ``trader`` is to take along."""
        channels = (HISTORY_CHANNEL, FILLS_CHANNEL)
        return [
            user_stream(channel, trader) for channel in channels if StreamKey(VENUE, channel, trader) in self._wishes
        ]

    def took(self, data: Data) -> bool:
        """A look has received this; False when it is not the past that was asked for, but news."""
        for message in data.messages:
            if not isinstance(message, OrderHistory | Fill) or not message.is_snapshot:
                return False
            rows = len(message.rows) if isinstance(message, OrderHistory) else len(data.messages)
            self._rows.append((self._clock.monotonic(), rows))
            break
        if self._settle(data.stream, data):
            self._note(data.stream.channel, "told")
        return True

    def ended(self, keys: Iterable[StreamKey]) -> None:
        """A look has ended without these."""
        for key in keys:
            if self._settle(key, None):
                self._note(key.channel, "failed")

    def unknown(self, channel: str) -> None:
        """The venue does not know this feed."""
        self._unknown_until[channel] = self._clock.monotonic() + UNKNOWN_FOR_S

    def status(self) -> dict[str, Any]:
        """What the last minute took; JSON-ready."""
        self._forget()
        return {"asked_last_minute": len(self._asked), "rows_last_minute": sum(rows for _, rows in self._rows)}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _looker_of(self, trader: str) -> Looker | None:
        return next((looker for looker in self._lookers if looker.looks_at(trader)), None)

    def _settle(self, key: StreamKey, answer: Data | None) -> bool:
        wish = self._wishes.pop(key, None)
        if wish is None or wish.done():
            return False
        wish.set_result(answer)
        return True

    def _note(self, channel: str, outcome: str) -> None:
        self._metrics.add(PAST_LOOKS, VENUE, channel, outcome)

    def _forget(self) -> None:
        horizon = self._clock.monotonic() - MINUTE_S
        while self._asked and self._asked[0] <= horizon:
            self._asked.popleft()
        while self._rows and self._rows[0][0] <= horizon:
            self._rows.popleft()
