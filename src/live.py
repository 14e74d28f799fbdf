"""The live side put together: demand, gateway, and the exchange with other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from src.api.gateway.admission import Rules
from src.api.gateway.gateway import Gateway
from src.api.gateway.options import Options
from src.api.gateway.remembered import LocalMemory, Recalled
from src.api.gateway.session import Limits, SubKey
from src.api.gateway.socket import GatewaySocket
from src.config import Settings
from src.jobs.live.live import Live, LiveSource
from src.models.changes import Change
from src.models.clock import Clock
from src.models.live import STAR, Topic
from src.models.metrics import Metrics
from src.models.symbols import ALL_VENUES, ALPACA, FUTU, HYPERLIQUID, STOCKBIT, Directory
from src.pipeline.demand import Demand
from src.pipeline.hub import Hub
from src.pipeline.pipeline import Pipeline
from src.pipeline.supervise import supervise

if TYPE_CHECKING:
    from src.jobs.live.relay import Relay

CLOSE_S = 1.0
OFF = frozenset({"off", "no_source"})
"""Codes of a source that collects nothing for want of credentials or by its settings."""


class LiveSide:
    """What the composition root holds of it.

    Args:
        settings: ``GATEWAY_…``, ``REDIS_URL``.
        sources: the venues collected by this program, whether they run now or not.
        hub: what is published.
        pipeline: hurries while somebody listens.
        clock: for everything.
        metrics: for everything.
        is_collecting: whether the sources run now (a standby waits).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sources: Sequence[LiveSource],
        hub: Hub,
        pipeline: Pipeline,
        clock: Clock,
        metrics: Metrics,
        is_collecting: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._enabled = settings.gateway_enabled
        demand = Demand(grace_s=settings.gateway_release_after_s, most_topics=settings.gateway_max_symbols)
        self.live = Live(demand=demand, sources=sources, clock=clock, is_collecting=is_collecting)
        self._sources = {source.venue: source for source in sources}
        self._configured = configured_topics(settings)
        memory = SharedMemory(clock)
        self.gateway = Gateway(
            gateway_options(settings),
            upstream=self.live,
            directory=Directory(
                [venue for venue in ALL_VENUES if venue.pushed or venue.venue in self._sources],
                self._is_known,
                self._is_on,
            ),
            memory=memory,
            clock=clock,
            metrics=metrics,
        )
        self.live.on_released = self.gateway.released
        self.live.on_change = self.gateway.stood
        self.relay = self._make_relay(settings, memory, is_collecting)
        if self._enabled:
            hub.listen("live", self.live.heard)
            hub.listen("gateway", self.gateway.heard)
            pipeline.is_hurried = self._is_hurried
            if self.relay is not None:
                hub.listen("relay", self.relay.heard)

    @property
    def socket_of(self) -> Callable[[], asyncio.Protocol] | None:
        """Makes the protocol object of a WebSocket connection; None when the gateway is switched off."""
        return (lambda: GatewaySocket(self.gateway)) if self._enabled else None

    def book_subscribers(self, venue: str, symbol: str) -> int:
        """See `src.api.live.Audience`."""
        return self.gateway.book_subscribers(venue, symbol)

    @asynccontextmanager
    async def kept(self, on_fault: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Serve clients for as long as the block runs, then send them away.

        Args:
            on_fault: told when a task keeps dying.
        """
        stopping = asyncio.Event()
        works = {"demand": self.live.run}  # sessions want symbols, too
        if self._enabled:
            works["gateway"] = self.gateway.run
        if self.relay is not None:
            works["relay"] = self.relay.run
        tasks = [
            asyncio.create_task(self._supervised(name, work, stopping), name=name) for name, work in works.items()
        ]
        for task in tasks:
            task.add_done_callback(lambda done: _tell(done, on_fault))
        try:
            yield
        finally:
            stopping.set()
            await self.gateway.close(CLOSE_S)
            _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def redis_state(self) -> str:
        """How the exchange with other processes stands: ``off``, ``ok`` or why not."""
        return "off" if self.relay is None else str(self.relay.stats()["state"])

    def stats(self) -> dict[str, Any]:
        """The section ``gateway`` of ``/stats``."""
        if not self._enabled:
            return {"enabled": False}
        relay = {"redis": {"state": "off"}} if self.relay is None else {"redis": self.relay.stats()}
        return {"enabled": True, **self.gateway.stats(), "demand": self.live.stats(), **relay}

    def _is_hurried(self) -> bool:
        return not self.gateway.is_idle or (self.relay is not None and self.relay.is_wanted)

    def _is_known(self, topic: Topic) -> bool:
        return topic in self._configured or topic in self.live or self.gateway.board.knows(topic)

    def _is_on(self, venue: str) -> bool:
        """Whether a venue is collected from; without credentials its source is there, but off."""
        source = self._sources.get(venue)
        return source is not None and any(source.standing(kind, STAR).code not in OFF for kind in ("book", "trade"))

    def _make_relay(
        self, settings: Settings, memory: SharedMemory, is_collecting: Callable[[], bool]
    ) -> Relay | None:
        url = settings.redis_url.get_secret_value()
        if not url or not self._enabled:
            return None
        from src.jobs.live.relay import Relay  # noqa: PLC0415 - Redis costs a third of a second that few need

        relay = Relay(
            url,
            live=self.live,
            clock=self._clock,
            metrics=self._metrics,
            is_collecting=is_collecting,
            inject=self._inject,
            current=self.gateway.board.snapshot,
            listeners=self.gateway.board.counts,
        )
        memory.relay = relay
        self.gateway.listeners_elsewhere = relay.listeners

        def on_change(topic: Topic) -> None:
            self.gateway.stood(topic)
            relay.wake()

        self.live.on_change = on_change
        self.live.on_demand = relay.wake
        return relay

    def _inject(self, changes: Sequence[Change]) -> None:
        """Take what another process published; trades that came already (it repeats the last ones) are left out."""
        fresh = [change for change in changes if not self.gateway.board.is_repeated(change)]
        self.live.heard(fresh)
        self.gateway.heard(fresh)

    async def _supervised(self, name: str, work: Callable[[asyncio.Event], Any], stopping: asyncio.Event) -> None:
        await supervise(name, lambda: work(stopping), metrics=self._metrics, clock=self._clock)


class SharedMemory:
    """Remembers in this process, and in Redis where there is one."""

    def __init__(self, clock: Clock) -> None:
        self._local = LocalMemory(clock)
        self.relay: Relay | None = None

    def remember(self, client_id: str, keys: Collection[SubKey]) -> None:
        """See `src.api.gateway.remembered.Memory`."""
        self._local.remember(client_id, keys)
        if self.relay is not None:
            self.relay.remember(client_id, keys)

    def recall(self, client_id: str, recalled: Recalled) -> None:
        """See `src.api.gateway.remembered.Memory`."""
        if self.relay is None or self.relay.state != "ok":
            self._local.recall(client_id, recalled)
            return
        self.relay.recall(client_id, lambda keys: recalled([SubKey(*key) for key in keys]))


def configured_topics(settings: Settings) -> frozenset[Topic]:
    """What the settings name, in the spelling of its venue."""
    named = (
        (HYPERLIQUID, settings.hyperliquid_coins if settings.hyperliquid_enabled else ()),
        (ALPACA, settings.alpaca_symbols),
        (FUTU, settings.futu_symbols),
        (STOCKBIT, settings.stockbit_tickers),
    )
    return frozenset(
        Topic(kind, venue.venue, venue.native(symbol) or symbol)
        for venue, symbols in named
        for symbol in symbols
        for kind in venue.kinds
    )


def gateway_options(settings: Settings) -> Options:
    """The gateway's options as the settings say."""
    return Options(
        connections_per_client=settings.gateway_max_connections_per_client,
        connections=settings.gateway_max_connections,
        limits=Limits(
            subscriptions=settings.gateway_max_subscriptions_per_client,
            commands_per_s=settings.gateway_commands_per_second,
            events=settings.gateway_queue_size,
            slow_s=settings.gateway_slow_client_s,
        ),
        message_bytes=settings.gateway_max_message_kb * 1024,
        interval_s=settings.gateway_batch_interval_ms / 1000,
        recent=settings.gateway_recent_trades,
        compression=settings.gateway_compression,
        rules=Rules(
            token=settings.gateway_token.get_secret_value(),
            allowed_origins=settings.allowed_origins,
            check_host=not settings.api_token.get_secret_value(),
        ),
    )


def _tell(task: asyncio.Task[None], on_fault: Callable[[BaseException], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        on_fault(error)
