"""Shares live topics, demand and client subscriptions with other processes through Redis.

One process collects (the writer), the others are in standby. Each says every few seconds what its clients want and
how what it collects stands; the collecting one publishes the topics that others want. Without Redis, or while it is
away, every process goes on alone with what it collects itself: nothing here is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from src.jobs.live.live import Live
from src.jobs.live.relay_keys import (
    LIVE_S,
    PROCESSES,
    WAKE,
    ProcessFacts,
    Published,
    client_key,
    decode_facts,
    decode_keys,
    decode_published,
    encode,
    process_key,
    topic_channel,
    topic_of_channel,
)
from src.jobs.stoppable import is_set_within
from src.models.changes import Change
from src.models.clock import Clock
from src.models.live import STAR, Standing, Topic, by_topic
from src.models.metrics import RELAY_DROPPED, RELAY_PUBLISHED, RELAY_RECEIVED, RELAY_UP, Metrics

log = structlog.get_logger(__name__)

SAY_EVERY_S = 3.0
TIMEOUT_S = 3.0
RETRY_FIRST_S = 0.5
RETRY_CAP_S = 10.0
MOST_WAITING = 5_000
CLIENT_KEPT_S = 86_400
MOST_TOPICS_TOLD = 20_000

Keys = Sequence[tuple[str, str, str]]
Recalled = Callable[[Keys], None]


class Relay:
    """The connection of one process to the others.

    Args:
        url: of Redis.
        live: takes the demand of other processes, and asks here how their topics stand.
        clock: for ages.
        metrics: counters.
        is_collecting: whether this process runs its sources now.
        inject: takes what other processes publish.
        current: the changes that tell a newcomer the present state of a topic.
        listeners: how many local clients listen to each topic.
    """

    def __init__(
        self,
        url: str,
        *,
        live: Live,
        clock: Clock,
        metrics: Metrics,
        is_collecting: Callable[[], bool],
        inject: Callable[[Sequence[Change]], None],
        current: Callable[[Topic], Sequence[Change]],
        listeners: Callable[[], Mapping[Topic, int]],
    ) -> None:
        self.process = secrets.token_hex(8)
        self.state = "connecting"
        self._url = url
        self._live = live
        self._clock = clock
        self._metrics = metrics
        self._is_collecting = is_collecting
        self._inject = inject
        self._current = current
        self._listeners = listeners
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._memories: dict[str, list[tuple[str, str, str]]] = {}
        self._questions: deque[tuple[str, Recalled]] = deque(maxlen=MOST_WAITING)
        self._woken = asyncio.Event()
        self._others: dict[str, ProcessFacts] = {}
        self._wanted_elsewhere: set[Topic] = set()
        self._listening: set[str] = set()
        self._heard: set[str] = set()
        self._is_asked = False
        live.remote, live.remote_connected = self.standing, self.connected

    # -- for the others in this process ----------------------------------------------------------------------------

    def heard(self, changes: Sequence[Change]) -> None:
        """Publish what other processes want of what this one collects (a listener of the hub)."""
        if not self._wanted_elsewhere:
            return
        for topic, found in by_topic(changes).items():
            if topic in self._wanted_elsewhere or Topic(topic.kind, topic.venue, STAR) in self._wanted_elsewhere:
                self._publish(topic, found)

    def standing(self, topic: Topic) -> Standing | None:
        """How a topic stands with the process that collects its venue, None when none of the others does."""
        for facts in self._others.values():
            if topic.venue in facts.connected:
                return facts.standings.get(str(topic), Standing("wanted"))
        return None

    def connected(self) -> dict[str, bool]:
        """Which venues other processes collect, and whether they hear them."""
        return {venue: hears for facts in self._others.values() for venue, hears in facts.connected.items()}

    def listeners(self, topic: Topic) -> int:
        """How many clients of other processes listen to a topic."""
        return sum(facts.listeners.get(str(topic), 0) for facts in self._others.values())

    def remember(self, client_id: str, keys: Collection[tuple[str, str, str]]) -> None:
        """Write down a client's subscriptions as soon as may be; only the latest word counts."""
        if len(self._memories) < MOST_WAITING or client_id in self._memories:
            self._memories[client_id] = [tuple(key) for key in keys]  # type: ignore[misc]
            self._woken.set()

    def recall(self, client_id: str, recalled: Recalled) -> None:
        """Hand over what is written down about a client as soon as it is read."""
        self._questions.append((client_id, recalled))
        self._woken.set()

    @property
    def is_wanted(self) -> bool:
        """Whether another process waits for something."""
        return bool(self._wanted_elsewhere)

    def wake(self) -> None:
        """Local demand changed: tell the others soon."""
        self._woken.set()

    def stats(self) -> dict[str, Any]:
        """How the exchange with the others goes; JSON-ready."""
        return {
            "state": self.state,
            "process": self.process,
            "processes": len(self._others) + 1,
            "wanted_elsewhere": len(self._wanted_elsewhere),
            "waiting": len(self._outbox),
        }

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep up the exchange until ``stopping``; comes back by itself when Redis does."""
        pause_s = RETRY_FIRST_S
        while not stopping.is_set():
            redis = Redis.from_url(self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
            try:
                await self._exchange(redis, stopping)
                pause_s = RETRY_FIRST_S
            except (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as error:
                pause_s = RETRY_FIRST_S if self.state == "ok" else min(RETRY_CAP_S, 2 * pause_s)
                self._went_away(error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose()
            await is_set_within(stopping, pause_s)

    async def _exchange(self, redis: Redis, stopping: asyncio.Event) -> None:
        pubsub = redis.pubsub()
        self._listening, self._heard = set(), set()
        try:
            said = await self._say(redis, pubsub)
            self._came_back()
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(pubsub))
                group.create_task(self._write(redis, pubsub, said, stopping, reader))
        except* (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as errors:
            raise errors.exceptions[0] from None
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _write(
        self, redis: Redis, pubsub: PubSub, said: ProcessFacts, stopping: asyncio.Event, reader: asyncio.Task[None]
    ) -> None:
        stopped = asyncio.ensure_future(stopping.wait())
        said_at = self._clock.monotonic()
        try:
            while not stopping.is_set():
                await self._post(redis)
                await self._tune(pubsub)
                facts, now = self._facts(), self._clock.monotonic()
                is_news = _news(facts) != _news(said)
                if is_news or self._is_asked or now - said_at >= SAY_EVERY_S:
                    self._is_asked = False
                    said_at, said = now, await self._say(redis, pubsub)
                    if is_news:
                        await redis.publish(WAKE, self.process)
                woken = asyncio.ensure_future(self._woken.wait())
                await asyncio.wait({woken, stopped}, timeout=SAY_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                self._woken.clear()
            await self._post(redis)
            await redis.delete(process_key(self.process))
            await redis.srem(PROCESSES, self.process)
        finally:
            stopped.cancel()
            reader.cancel()

    async def _post(self, redis: Redis) -> None:
        """Send what waits: topics, memories, questions."""
        while self._outbox:
            batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), 500))]
            pipe = redis.pipeline(transaction=False)
            for channel, payload in batch:
                pipe.publish(channel, payload)
            await pipe.execute()
            self._metrics.add(RELAY_PUBLISHED, amount=len(batch))
        while self._memories:
            client_id = next(iter(self._memories))
            keys = self._memories[client_id]
            if keys:
                await redis.set(client_key(client_id), encode(keys), ex=CLIENT_KEPT_S)
            else:
                await redis.delete(client_key(client_id))
            if self._memories.get(client_id) is keys:
                del self._memories[client_id]
        while self._questions:
            client_id, recalled = self._questions[0]
            found = await redis.get(client_key(client_id))
            self._questions.popleft()
            if found is not None:
                recalled(decode_keys(_bytes(found)))

    def _facts(self) -> ProcessFacts:
        """What is wanted is told once it would be heard: the answer, the present state, comes only once."""
        collects, channels = self._is_collecting(), self._channels()
        return ProcessFacts(
            demand=[str(topic) for topic in self._own_topics() if channels.get(topic) in {None, *self._heard}],
            standings={str(topic): self._live.own_standing(topic) for topic in self._wanted_elsewhere},
            connected=dict(self._live.own_connected()) if collects else {},
            listeners={str(topic): count for topic, count in list(self._listeners().items())[:MOST_TOPICS_TOLD]},
        )

    async def _say(self, redis: Redis, pubsub: PubSub) -> ProcessFacts:
        """Tell the others about this process, and look what they say; returns what was told."""
        said = self._facts()
        await redis.set(process_key(self.process), encode(said), ex=LIVE_S)
        await redis.sadd(PROCESSES, self.process)
        await self._look(redis)
        await self._tune(pubsub)
        return said

    async def _look(self, redis: Redis) -> None:
        names = {_bytes(name).decode() for name in await redis.smembers(PROCESSES)} - {self.process}
        ordered = sorted(names)
        found = await redis.mget([process_key(name) for name in ordered]) if ordered else []
        gone = [name for name, raw in zip(ordered, found, strict=True) if raw is None]
        if gone:
            await redis.srem(PROCESSES, *gone)
        self._others = {
            name: decode_facts(_bytes(raw)) for name, raw in zip(ordered, found, strict=True) if raw is not None
        }
        self._take_demand()

    def _take_demand(self) -> None:
        """Hold for the others what they want, and show what became wanted its present state."""
        wanted = {Topic.parse(name) for facts in self._others.values() for name in facts.demand}
        if not self._is_collecting():
            wanted = set()
        self._live.keep("others", wanted)
        added = wanted - self._wanted_elsewhere
        if wanted != self._wanted_elsewhere:
            self._woken.set()  # the others want to know how these stand
        self._wanted_elsewhere = wanted
        for topic in added:
            if changes := self._current(topic):
                self._publish(topic, changes)
        for topic in self._live.topics:
            self._live.notice(topic)

    async def _tune(self, pubsub: PubSub) -> None:
        """Listen to the channels of what local clients want and others collect."""
        wanted = {WAKE, *self._channels().values()}
        fresh, gone = wanted - self._listening, self._listening - wanted
        self._listening, self._heard = wanted, self._heard - gone
        if plain := [channel for channel in fresh if not channel.endswith(STAR)]:
            await pubsub.subscribe(*plain)
        if starred := [channel for channel in fresh if channel.endswith(STAR)]:
            await pubsub.psubscribe(*starred)
        if plain := [channel for channel in gone if not channel.endswith(STAR)]:
            await pubsub.unsubscribe(*plain)
        if starred := [channel for channel in gone if channel.endswith(STAR)]:
            await pubsub.punsubscribe(*starred)

    def _channels(self) -> dict[Topic, str]:
        """Where what local clients want and others collect is published."""
        collected, collects = self.connected(), self._is_collecting()
        return {
            topic: topic_channel(topic) for topic in self._own_topics() if topic.venue in collected or not collects
        }

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=1.0)
            if message is None:
                continue
            channel = message["channel"].decode()
            if message["type"] not in {"message", "pmessage"}:
                if message["type"] in {"subscribe", "psubscribe"} and channel in self._listening:
                    self._heard.add(channel)
                    self._woken.set()
                continue
            if channel == WAKE:
                if message["data"].decode() != self.process:
                    self._is_asked = True
                    self._woken.set()
                continue
            topic_of_channel(channel)
            published = decode_published(message["data"])
            if published.origin != self.process:
                self._metrics.add(RELAY_RECEIVED)
                self._inject(published.changes)

    # -- private ---------------------------------------------------------------------------------------------------

    def _own_topics(self) -> list[Topic]:
        return self._live.topics_held_besides("others")

    def _publish(self, topic: Topic, changes: Sequence[Change]) -> None:
        if len(self._outbox) >= MOST_WAITING:
            self._outbox.popleft()
            self._metrics.add(RELAY_DROPPED, "redis_away" if self.state != "ok" else "redis_slow")
        self._outbox.append((topic_channel(topic), encode(Published(self.process, list(changes)))))
        self._woken.set()

    def _came_back(self) -> None:
        if self.state != "ok":
            log.info("redis_reached", processes=len(self._others) + 1)
        self.state = "ok"
        self._metrics.put(RELAY_UP, value=1)

    def _went_away(self, error: BaseException) -> None:
        if self.state != "down":
            log.warning("redis_away", error=str(error)[:200], effect="this process goes on alone")
        self.state = "down"
        self._metrics.put(RELAY_UP, value=0)
        self._others = {}
        self._wanted_elsewhere = set()
        self._outbox.clear()


def _bytes(value: bytes | str) -> bytes:
    """The client library may answer with text when told to; ours is not."""
    return value if isinstance(value, bytes) else value.encode()


def _news(facts: ProcessFacts) -> tuple[object, ...]:
    """What others want to know at once; counts of listeners can wait."""
    return sorted(facts.demand), facts.standings, facts.connected
