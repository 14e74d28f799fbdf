"""Two hours of many traders in virtual time, with a storm in the middle, held against the venue's truth log."""

import asyncio
import math
from collections import Counter
from http import HTTPStatus

from src.models.writes import Collection
from src.pipeline.documents import to_date, to_ms
from tests.support.following_world import World

FIRST_MINUTE_S = 60.0
BAN_S = 60.0
CURSORS_EVERY_S = 5.0
TELL_EVERY_S = 300.0


class Run:
    """What is seen on the way: refusals of the venue, cursors that went back."""

    def __init__(self, world, *, seconds, storm_s, bursts, burst_decisions=1_600, tell=None):
        self.world = world
        self.seconds = seconds
        self.storm_s = storm_s
        self.bursts, self.bursters = bursts, []
        self.burst_decisions = burst_decisions
        self._tell, self._told_s = tell, 0.0
        self.first_minute = {}
        self.back = []
        self.modes, self.late, self.settled_s = {}, 0, 0.0
        self.failed_reads = self.turned_away = self.cursors_lost = 0
        self._cursors = {}

    async def live(self):
        """The whole time: half of it, the storm, the other half, and the end."""
        async with self.world.running():
            watching = asyncio.create_task(self._watch_cursors())
            await asyncio.sleep(FIRST_MINUTE_S)
            self.first_minute = self.world.refusals()
            storm_s = 2 * self.storm_s + BAN_S if self.storm_s else 0
            calm_s = (self.seconds - FIRST_MINUTE_S - storm_s) / 2
            await asyncio.sleep(calm_s)
            if self.storm_s:
                await self._storm()
            await asyncio.sleep(calm_s)
            following = self.world.side.source.status()["following"]
            self.modes, self.late = following["modes"], following["late"]
            await self.world.settle()
            self.settled_s = self.world.clock.monotonic() - self.seconds
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.note_cursors()

    async def _storm(self):
        world, before = self.world, self.world.cursors()
        self.bursters = [trader for trader in world.venue.traders if not world.is_live(trader)][: self.bursts]
        for trader in self.bursters:
            world.burst(trader, self.burst_decisions)
        await world.ask_for_histories()  # there is something to lose
        await world.storm(HTTPStatus.TOO_MANY_REQUESTS, self.storm_s)
        await world.storm(HTTPStatus.INTERNAL_SERVER_ERROR, self.storm_s)
        await world.ban(BAN_S)
        self.turned_away = world.weather.refused
        self.failed_reads = world.failed_reads()
        self.cursors_lost = sum(key not in world.cursors() for key in before)

    async def _watch_cursors(self):
        while True:
            await asyncio.sleep(CURSORS_EVERY_S)
            self.note_cursors()
            if self._tell and self.world.clock.monotonic() - self._told_s >= TELL_EVERY_S:
                self._told_s = self.world.clock.monotonic()
                self._tell(self.world)

    def note_cursors(self):
        """A cursor never goes back and never vanishes."""
        now = self.world.cursors()
        for key, before in self._cursors.items():
            after = now.get(key, (None, None))
            if any(old is not None and (new is None or new < old) for old, new in zip(before, after, strict=True)):
                self.back.append((key, before, after))
        self._cursors = now


class Verdict:
    """All documents against the truth log.

    Attributes:
        lived: orders that ever lived.
        right: those with a document that says how they ended (and when), or that they are open.
        missing, wrong: (trader, oid, truth, document) of the others.
        outside: those of them outside every hole.
    """

    def __init__(self, world, *, only=None):
        self.lived = self.right = self.with_document = 0
        self.missing, self.wrong, self.outside = [], [], []
        self.reasons, self.sources = Counter(), Counter()
        documents = {(d["ethAddress"], d["oid"]): d for d in world.store.all(Collection.TRADER_ORDERS)}
        holes = _holes(world.store)
        truth = ends(world.venue)
        self.invented = [key for key in documents if key not in truth]
        for (trader, oid), end in truth.items():
            if only is None or trader in only:
                self._judge(trader, oid, end, documents.get((trader, oid)), holes.get(trader, ()))

    def share(self):
        """Of all that lived, how much is right."""
        return self.right / self.lived

    def _judge(self, trader, oid, end, document, holes):
        self.lived += 1
        if document is None:
            self.missing.append((trader, oid, end, None))
        else:
            self.with_document += 1
            self.sources[document.get("source")] += 1
            if _agrees(document, end):
                self.right += 1
                self.reasons[end and end[0]] += 1
                return
            self.wrong.append((trader, oid, end, document))
        ended_ms = math.inf if end is None else end[1]
        if not any(begin <= ended_ms <= to for begin, to in holes):
            self.outside.append((trader, oid, end, document and (document["status"], document.get("closeReason"))))


def ends(venue):
    """(trader, oid) -> (reason, time) of what ended, None of what is open, of every order that ever lived, with its children."""
    found = {}
    for event in venue.market.truth.events:
        if event.oid is None or not event.trader:
            continue
        key = event.trader, event.oid
        if event.kind in ("filled", "canceled"):
            found[key] = (event.reason or "filled", event.time_ms)
        else:
            found.setdefault(key, None)
    return found


def events_out_of_order(store):
    """Orders whose events do not count 1, 2, 3, … from ``new`` to at most one ``closed``."""
    events = {}
    for event in store.all(Collection.TRADER_ORDER_EVENTS):
        events.setdefault((event["ethAddress"], event["oid"]), []).append((event["revision"], event["action"]))
    found = []
    for key, told in events.items():
        told.sort()
        actions = [action for _, action in told]
        counts = [revision for revision, _ in told] == list(range(1, len(told) + 1))
        if not counts or actions[0] != "new" or actions.count("closed") > 1:
            found.append((key, told))
    return found


def _agrees(document, end):
    if end is None:
        return document["status"] == "open"
    reason, ended_ms = end
    return (
        document["status"] == "closed"
        and document["closeReason"] == reason
        and document["closedAt"] == to_date(ended_ms)
    )


def _holes(store):
    found = {}
    for hole in store.all(Collection.COVERAGE):
        if hole["stream"].split("/")[1] == "history:orders":
            to_ms_ = math.inf if hole["to"] is None else to_ms(hole["to"])
            found.setdefault(hole["subject"], []).append((to_ms(hole["from"]), to_ms_))
    return found


async def run(*, traders, seconds, storm_s=180.0, bursts=2, burst_decisions=1_600, tell=None, **options):
    """Live through it; gives the run."""
    life = Run(
        World(traders=traders, **options),
        seconds=seconds,
        storm_s=storm_s,
        bursts=bursts,
        burst_decisions=burst_decisions,
        tell=tell,
    )
    await life.live()
    return life
