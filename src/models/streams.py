"""Names of streams and the subscriptions that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct


class StreamKey(NamedTuple):
    """Identity of one stream of one venue.

    ``channel`` is the venue's own name (``openOrders``, ``l2Book``), ``subject`` a symbol or a lower-case trader
    address, ``dex`` the perpetual exchange inside the venue (empty = the main one).
    """

    venue: str
    channel: str
    subject: str
    dex: str = ""

    def __str__(self) -> str:
        tail = f"/{self.dex}" if self.dex else ""
        return f"{self.venue}/{self.channel}/{self.subject}{tail}"

    @classmethod
    def parse(cls, name: str) -> StreamKey:
        """The reverse of ``str``; a subject that is no address may itself hold a slash (``PURR/USDC``).

        Raises:
            ValueError: it is not the name of a stream.
        """
        venue, channel, rest = name.split("/", 2)
        if rest.startswith("0x") and "/" in rest:
            subject, _, dex = rest.partition("/")
            return cls(venue, channel, subject, dex)
        return cls(venue, channel, rest)


class SubscriptionState(StrEnum):
    """Where a subscription stands. It counts only when the venue has confirmed it (or sent data for it)."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Subscription(Struct, frozen=True):
    """One thing to ask a venue for, with the original arguments so that it can be replayed after a reconnect.

    Attributes:
        key: the stream this subscription feeds.
        args: the venue's subscription object, sent as it is.
        user: the trader this counts against in the venue's unique-user limit, None for market data.
        silent_after_s: arrival age in seconds after which the stream counts as silent; None = may be quiet for ever.
        stale_after_s: age of the venue's own time after which data counts as stale; None = not watched.
    """

    key: StreamKey
    args: Mapping[str, Any]
    user: str | None = None
    silent_after_s: float | None = None
    stale_after_s: float | None = None
