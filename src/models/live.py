"""What live clients ask for and how it stands: the words shared by hub, demand and gateway. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from src.models.changes import (
    BookChange,
    Change,
    OrderChange,
    PositionChange,
    TradeCancelledSeen,
    TradeCorrectedSeen,
    TradeSeen,
)
from src.models.messages import Trade, TradeCancelled, TradeCorrected

STAR = "*"
"""The subject that means: all of this venue."""

CLIENT_HOLDER = "client:"
"""With this the names of holders begin that are clients of the gateway: together they may want only so much."""

KINDS = ("book", "trade", "order", "position", "status")


class Topic(NamedTuple):
    """One thing to listen to. ``subject`` is a symbol in the venue's spelling, or a lower-case trader address."""

    kind: str
    venue: str
    subject: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.venue}/{self.subject}"

    @classmethod
    def parse(cls, name: str) -> Topic:
        """The reverse of ``str``; a subject may itself hold a slash (``PURR/USDC``).

        Raises:
            ValueError: it is not the name of a topic.
        """
        kind, venue, subject = name.split("/", 2)
        return cls(kind, venue, subject)


class Standing(Struct, frozen=True):
    """Where a wanted topic stands with its venue.

    Attributes:
        state: ``wanted`` = asked for, no answer yet; ``accepted``; ``refused`` (it may still be accepted later).
        code: why it was refused, a short constant; empty otherwise.
        text: the same in words.
    """

    state: Literal["wanted", "accepted", "refused"]
    code: str = ""
    text: str = ""


WANTED = Standing("wanted")
ACCEPTED = Standing("accepted")


class Upstream(Protocol):
    """Who brings topics in: takes demand, says how it stands. Every method answers from memory, at once."""

    def hold(self, holder: str, topic: Topic) -> Standing:
        """Want a topic on behalf of ``holder``; the first holder makes its venue subscribe. Safe to repeat."""

    def release(self, holder: str, topic: Topic) -> None:
        """Want it no longer; the last holder's release takes effect after a grace period."""

    def standing(self, topic: Topic) -> Standing:
        """How a held topic stands now."""

    def connected(self) -> Mapping[str, bool]:
        """Whether each venue can be heard now, by name."""


def topic_of(change: Change) -> Topic | None:
    """The topic under which a change is published, None for what is nobody's topic.

    Holes are no topic of their own: `src.models.symbols` knows which topics a stream feeds.
    """
    if isinstance(change, BookChange):
        return Topic("book", change.book.venue, change.book.symbol)
    if isinstance(change, OrderChange | PositionChange):
        return Topic("order" if isinstance(change, OrderChange) else "position", change.venue, change.trader)
    told = _trade_of(change)
    return None if told is None else Topic("trade", told.venue, told.symbol)


def by_topic(changes: Sequence[Change]) -> dict[Topic, list[Change]]:
    """Changes in their order, grouped by topic; those without one are left out."""
    found: dict[Topic, list[Change]] = {}
    for change in changes:
        topic = topic_of(change)
        if topic is not None:
            found.setdefault(topic, []).append(change)
    return found


def _trade_of(change: Change) -> Trade | TradeCorrected | TradeCancelled | None:
    """What a change says about a trade, where it is about one."""
    if isinstance(change, TradeSeen):
        return change.trade
    if isinstance(change, TradeCorrectedSeen):
        return change.correction
    return change.cancel if isinstance(change, TradeCancelledSeen) else None
