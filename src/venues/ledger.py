"""What one connection has asked the venue for, and how the venue took it: pure, time is handed in.

A subscription is *pending* until the venue acknowledges it or sends data for it, *failed* when it is refused or not
acknowledged in time. Failed ones are tried again slowly and stay *failed* in everybody's eyes until confirmed.

Where the venue takes lists (`Batching`) and answers them, only one message is under way at a time, so that an answer
can mean no other. A list that is refused as a whole is halved until it is clear who is meant; its good members and,
where a limit was hit, as many as have room are subscribed then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from src.models.messages import Refusal, RefusalKind
from src.models.streams import StreamKey, Subscription, SubscriptionState
from src.venues.feed import Batching
from src.venues.ledger_entry import Entry, Send
from src.venues.timing import Timing

NO_ACK = "not acknowledged in time"
SUSPECT = "the venue closed the connection after this was asked for, several times"
SUSPECT_DROPS = 3

_OF_A_LIST = frozenset(
    {RefusalKind.INVALID, RefusalKind.UNKNOWN_TYPE, RefusalKind.SUBSCRIPTION_CAP, RefusalKind.OTHER}
)
_PENDING = SubscriptionState.PENDING
_CONFIRMED = SubscriptionState.CONFIRMED
_FAILED = SubscriptionState.FAILED


class Ledger:
    """The subscriptions of one connection, in the order in which they were added."""

    def __init__(self, timing: Timing, batching: Batching | None = None) -> None:
        self._timing = timing
        self._batching = batching
        self._entries: dict[StreamKey, Entry] = {}
        self._leaving: dict[StreamKey, Subscription] = {}
        self._leaving_sent: dict[StreamKey, float] = {}
        self._to_subscribe: dict[StreamKey, None] = {}
        self._to_unsubscribe: dict[StreamKey, Subscription] = {}
        self._left: list[Subscription] = []
        self._acked = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def idle(self) -> bool:
        """Nothing is wanted and nothing waits to be taken back."""
        return not self._entries and not self._leaving

    def entry(self, key: StreamKey) -> Entry | None:
        """How ``key`` stands, None when it is not wanted here."""
        return self._entries.get(key)

    def entries(self) -> list[Entry]:
        """All entries, for status."""
        return list(self._entries.values())

    # what is wanted

    def add(self, subscription: Subscription) -> None:
        """Want ``subscription`` (its key is not wanted here yet)."""
        self._entries[subscription.key] = Entry(subscription)
        self._to_subscribe[subscription.key] = None

    def remove(self, key: StreamKey) -> bool:
        """Want ``key`` no longer. Returns whether it had been live (confirmed).

        Where the venue may know of it, an unsubscribe is queued and `take_left` tells when that is through.
        """
        entry = self._entries.pop(key)
        self._to_subscribe.pop(key, None)
        if entry.told:
            self._leaving[key] = entry.subscription
            self._to_unsubscribe[key] = entry.subscription
        else:
            self._left.append(entry.subscription)
        return entry.state is _CONFIRMED

    def resubscribe(self, key: StreamKey) -> None:
        """Ask for a confirmed but mute stream afresh: unsubscribe, then subscribe."""
        entry = self._entries.get(key)
        if entry is not None and entry.state is _CONFIRMED and entry.sent_at is None:
            self._to_unsubscribe[key] = entry.subscription
            self._to_subscribe[key] = None

    def retry_users(self) -> None:
        """A user slot became free somewhere: ask again for those refused for want of one."""
        for key, entry in self._entries.items():
            if entry.by_user_cap and entry.state is _FAILED:
                entry.slot_freed = entry.sent_at is not None
                if entry.retry_at is not None:
                    self._queue(key, entry)

    # what is said to the venue

    def next_send(self) -> Send | None:
        """What to send next, None when there is nothing; `sent` takes it off the list."""
        for subscription in self._to_unsubscribe.values():
            return Send("unsubscribe", subscription)
        for key in self._to_subscribe:
            if key not in self._leaving:  # a key that came back waits until its departure is through
                return Send("subscribe", self._entries[key].subscription)
        return None

    def next_sends(self) -> Sequence[Send]:
        """What to send in the next message; empty when there is nothing, or an answer has to come first."""
        batching = self._batching
        if batching is None:
            send = self.next_send()
            return () if send is None else (send,)
        if batching.acknowledged and (self._leaving_sent or self._in_flight()):
            return ()
        going = [Send("unsubscribe", subscription) for subscription in self._to_unsubscribe.values()]
        if batching.whole:
            return [*going, *self._next_list(len(self._entries))]
        return going[: batching.most] or self._next_list(batching.most)

    def listed(self) -> list[Subscription]:
        """All that the venue shall send from now on, for a venue that is told the whole each time."""
        return [entry.subscription for entry in self._entries.values() if entry.told]

    def sent(self, send: Send, now: float) -> None:
        """``send`` is on its way."""
        key = send.subscription.key
        answered = self._batching is None or self._batching.acknowledged
        if send.verb == "unsubscribe":
            self._to_unsubscribe.pop(key, None)
            if key in self._leaving:
                self._leaving_sent[key] = now
                if not answered:
                    self._gone(key)
            return
        self._to_subscribe.pop(key, None)
        entry = self._entries.get(key)
        if entry is not None:
            entry.sent_at = now if answered else None
            entry.told = True
            entry.retry_at = None
            if entry.state is not _FAILED:
                entry.state = _PENDING

    # what the venue says

    def on_data(self, key: StreamKey) -> bool | None:
        """Data arrived: None = not wanted (any more), True = this confirmed it, False = it was confirmed before."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.state is _CONFIRMED:
            return False
        self._confirm(entry)
        return True

    def on_ack(self, key: StreamKey, *, subscribed: bool) -> bool:
        """The venue acknowledged (or said that it is so already); returns whether that newly confirmed ``key``."""
        if not subscribed:
            self._gone(key)
            return False
        entry = self._entries.get(key)
        if entry is None or entry.state is _CONFIRMED:
            return False
        self._confirm(entry)
        return True

    def on_list(self, subscribed: Collection[StreamKey]) -> tuple[list[StreamKey], list[StreamKey]]:
        """The venue named all it sends; returns what is newly confirmed, and what it sends no longer (asked anew)."""
        confirmed, dropped = [], []
        for key, entry in self._entries.items():
            if key in subscribed:
                if entry.state is not _CONFIRMED:
                    self._confirm(entry)
                    self._to_subscribe.pop(key, None)
                    confirmed.append(key)
            elif entry.state is _CONFIRMED and key not in self._to_subscribe:
                entry.state = _PENDING
                self._queue(key, entry)
                dropped.append(key)
        for key in list(self._leaving_sent):
            if key not in subscribed:
                self._gone(key)
        return confirmed, dropped

    def on_refusal(self, refusal: Refusal, now: float) -> tuple[Subscription, ...]:
        """Find out whom a refusal means; returns those that failed because of it and had not failed before."""
        kind = refusal.kind
        if self._batching is not None and kind in _OF_A_LIST and self._unravel(refusal):
            return ()
        if kind is RefusalKind.MESSAGE_RATE:
            self._send_again()
        if kind is RefusalKind.USER_CAP:
            return self._fail(self._capped_users(), refusal.text, now, by_user_cap=True)
        if kind is RefusalKind.SUBSCRIPTION_CAP:
            return self._fail(self._in_flight(), refusal.text, now)
        if kind in (RefusalKind.INVALID, RefusalKind.UNKNOWN_TYPE):
            return self._fail(self._named(refusal), refusal.text, now, retry_s=self._timing.invalid_retry_s)
        if kind is RefusalKind.OTHER and refusal.stream is not None:
            return self._fail(self._named(refusal), refusal.text, now)
        return ()

    def fail_all(self, why: str, now: float) -> tuple[Subscription, ...]:
        """The venue does not let us in: all are failed; returns those that were not before. Asked for on return."""
        return self._fail(list(self._entries.values()), why, now, retry_s=0.0)

    # what time does

    def tick(self, now: float) -> tuple[Subscription, ...]:
        """Apply deadlines and queue due retries; returns those that newly failed for want of an acknowledgement."""
        deadline_s = self._timing.ack_deadline_s
        late = [e for e in self._in_flight() if e.sent_at is not None and now - e.sent_at > deadline_s]
        failed = self._fail(late, NO_ACK, now)
        for key, entry in self._entries.items():
            if entry.retry_at is not None and entry.retry_at <= now:
                self._queue(key, entry)
        for key, since in list(self._leaving_sent.items()):
            if now - since > deadline_s:
                self._gone(key)
        return failed

    def take_left(self) -> list[Subscription]:
        """Subscriptions the venue no longer counts, each told once; their slots may be used again."""
        left, self._left = self._left, []
        return left

    def disconnected(self, now: float, *, by_venue: bool) -> list[StreamKey]:
        """The connection is gone: queue everything for the next one. Returns the keys that had been live.

        A subscription may be what makes the venue hang up. Frames are handled in order, so when others had been
        acknowledged the first unacknowledged one is suspect; after `SUSPECT_DROPS` times it counts as failed and
        no longer takes the others down. Never confirmed ones go last, the suspect at the very end.
        """
        live = [key for key, entry in self._entries.items() if entry.state is _CONFIRMED]
        suspect = self._suspect() if by_venue else None
        if self._batching is not None and by_venue and self._acked:
            in_flight = self._in_flight()
            if len(in_flight) > 1:
                self._halve(in_flight)
                suspect = None
        if suspect is not None and self._acked:
            suspect.drops += 1
            if suspect.drops >= SUSPECT_DROPS:
                self._fail([suspect], SUSPECT, now, retry_s=self._timing.invalid_retry_s)
        self._left += self._leaving.values()
        self._leaving.clear()
        self._leaving_sent.clear()
        self._to_unsubscribe.clear()
        self._acked = 0
        self._requeue_all(suspect, now)
        return live

    def counts(self) -> dict[SubscriptionState, int]:
        """How many are in each state."""
        found = dict.fromkeys(SubscriptionState, 0)
        for entry in self._entries.values():
            found[entry.state] += 1
        return found

    def _confirm(self, entry: Entry) -> None:
        entry.state = _CONFIRMED
        entry.told = True
        entry.why = ""
        entry.sent_at = None
        entry.retry_at = None
        entry.by_user_cap = False
        entry.slot_freed = False
        entry.proven = True
        entry.drops = 0
        entry.piece = 0
        self._acked += 1

    def _gone(self, key: StreamKey) -> None:
        """An unsubscribe is through; an answer to one of ours that was never sent changes nothing."""
        if self._leaving_sent.pop(key, None) is not None:
            self._left.append(self._leaving.pop(key))

    def _queue(self, key: StreamKey, entry: Entry) -> None:
        entry.retry_at = None
        self._to_subscribe[key] = None

    def _next_list(self, most: int) -> list[Send]:
        """Subscriptions for one message, the first ones first, none of them in a longer list than it may be in."""
        found: list[Send] = []
        for key in self._to_subscribe:
            entry = self._entries[key]
            if key in self._leaving:
                continue
            most = min(most, entry.piece or most)
            if len(found) >= most:
                break
            found.append(Send("subscribe", entry.subscription))
        return found

    def _unravel(self, refusal: Refusal) -> bool:
        """Of a refused list: True when it is not known yet who is meant and all of it is asked for again."""
        in_flight = self._in_flight()
        if refusal.stream is not None and len(in_flight) > 1:
            for entry in in_flight:  # the one that is named fails; whether the venue took the others is not known
                if entry.subscription.key != refusal.stream:
                    entry.sent_at = None
                    self._queue(entry.subscription.key, entry)
            return False
        if not in_flight:
            for key in list(self._leaving_sent):
                self._gone(key)
        elif len(in_flight) > 1:
            self._halve(in_flight)
            for entry in in_flight:
                entry.sent_at = None
                entry.told = False
                self._queue(entry.subscription.key, entry)
            return True
        return False

    @staticmethod
    def _halve(entries: list[Entry]) -> None:
        for entry in entries:
            entry.piece = -(-len(entries) // 2)

    def _in_flight(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.sent_at is not None]

    def _capped_users(self) -> list[Entry]:
        """All feeds of users of whom something is in flight and nothing confirmed: one of them was refused."""
        tracked = {e.subscription.user for e in self._entries.values() if e.state is _CONFIRMED}
        refused = {e.subscription.user for e in self._in_flight()} - tracked - {None}
        return [e for e in self._entries.values() if e.subscription.user in refused]

    def _named(self, refusal: Refusal) -> list[Entry]:
        if refusal.stream is not None:
            entry = self._entries.get(refusal.stream)
            return [entry] if entry is not None else []
        in_flight = self._in_flight()
        return in_flight if len(in_flight) == 1 else []

    def _fail(
        self,
        entries: list[Entry],
        why: str,
        now: float,
        *,
        by_user_cap: bool = False,
        retry_s: float | None = None,
    ) -> tuple[Subscription, ...]:
        pause_s = self._timing.refused_retry_s if retry_s is None else retry_s
        newly = tuple(entry.subscription for entry in entries if entry.state is not _FAILED)
        for entry in entries:
            entry.state = _FAILED
            entry.why = why
            entry.sent_at = None
            entry.told = entry.told and why == NO_ACK  # it may have been taken, and the answer lost
            entry.retry_at = now if entry.slot_freed else now + pause_s
            entry.slot_freed = False
            entry.retry_pause_s = pause_s
            entry.by_user_cap = by_user_cap
            self._to_subscribe.pop(entry.subscription.key, None)
        return newly

    def _send_again(self) -> None:
        """The venue dropped one of our messages and does not say which: repeat all that are unanswered."""
        for entry in self._in_flight():
            entry.sent_at = None
            self._queue(entry.subscription.key, entry)
        for key in list(self._leaving_sent):
            del self._leaving_sent[key]
            self._to_unsubscribe[key] = self._leaving[key]

    def _suspect(self) -> Entry | None:
        in_flight = [e for e in self._in_flight() if e.state is _PENDING]
        return min(in_flight, key=lambda entry: entry.sent_at or 0.0, default=None)

    def _requeue_all(self, suspect: Entry | None, now: float) -> None:
        self._to_subscribe.clear()
        for entry in sorted(self._entries.values(), key=lambda entry: (not entry.proven, entry is suspect)):
            in_flight_or_queued = entry.retry_at is None
            entry.sent_at = None
            entry.told = False
            if entry.state is _FAILED and not entry.by_user_cap and entry.why != NO_ACK:
                # What the venue does not know it will not know on the next connection either.
                if in_flight_or_queued:
                    entry.retry_at = now + entry.retry_pause_s
                continue
            if entry.state is not _FAILED:
                entry.state = _PENDING
            self._queue(entry.subscription.key, entry)
