"""One subscription in a ledger, and one thing to tell the venue."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from src.models.streams import Subscription, SubscriptionState


class Send(Struct, frozen=True):
    """The next thing to tell the venue."""

    verb: Literal["subscribe", "unsubscribe"]
    subscription: Subscription


class Entry(Struct):
    """One subscription and how it stands; ``why`` explains a failure in words for a person."""

    subscription: Subscription
    state: SubscriptionState = SubscriptionState.PENDING
    why: str = ""
    sent_at: float | None = None  # in flight since; None = nothing is
    retry_at: float | None = None  # when a failed one is asked for again; None = it is queued or in flight
    retry_pause_s: float = 0.0
    by_user_cap: bool = False
    slot_freed: bool = False  # a user slot became free while this was under way: once refused, ask again at once
    told: bool = False  # the venue may count it on the present connection
    proven: bool = False  # was confirmed once, on whatever connection
    drops: int = 0  # connections that ended while this was the first thing not acknowledged
    piece: int = 0  # most members of a list this may be in, after one was refused; 0 = any
