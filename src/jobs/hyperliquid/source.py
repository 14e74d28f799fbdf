"""Hyperliquid as one source of the running program: its pool, who it follows, which feeds it asks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct, structs

from src.config import Settings
from src.jobs.following.egress import Egress, Means, Way, names_of, open_rest
from src.jobs.following.following import Following
from src.jobs.following.looks import Looks
from src.jobs.following.past_looks import PastLooks
from src.jobs.following.planner import Wishes
from src.jobs.following.polling import poll_weight
from src.jobs.source import Work
from src.jobs.tracking import Candidate
from src.models.clock import Clock
from src.models.live import ACCEPTED, STAR, WANTED, Standing
from src.models.messages import Refusal, RefusalKind
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription, SubscriptionState
from src.pipeline.supervise import supervise
from src.venues.feed import Heartbeat, RawTap, Sink
from src.venues.hyperliquid.feed import (
    HISTORY_CHANNEL,
    FeedChoice,
    HyperliquidFeed,
    TraderStreams,
    market_subscriptions,
)
from src.venues.hyperliquid.leaderboard import read_ranking, top_traders
from src.venues.hyperliquid.mapper import VENUE
from src.venues.hyperliquid.ranking import Ranking
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import WeightBudget
from src.venues.pool import Pool
from src.venues.timing import Timing

log = structlog.get_logger(__name__)

_NOBODY = "0x" + "0" * 40

MARKET_KINDS = frozenset({"book", "trade"})


class Pace(Struct, frozen=True):
    """Waiting times other than the usual ones; simulations hand in shorter ones."""

    timing: Timing
    heartbeat: Heartbeat


class HyperliquidSource:
    """Turns settings and followed traders into subscriptions of one pool."""

    def __init__(
        self,
        settings: Settings,
        *,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        tap: RawTap | None = None,
        pace: Pace | None = None,
        ways: Sequence[Way] = (),
    ) -> None:
        """Nothing is opened yet; ``ways`` take the place of sockets, one for each egress address."""
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._choice = FeedChoice(settings.hyperliquid_trader_feed)
        self._tells_history = settings.trader_orders_ws_enabled
        self.followed: tuple[str, ...] = ()
        self._replaced: tuple[StreamKey, ...] = ()
        self._demanded: dict[str, frozenset[str]] = {}
        self._closing = asyncio.Event()
        self.looks = Looks(clock=clock, metrics=metrics)
        self.past_looks = PastLooks(clock=clock, metrics=metrics)
        self.egresses = self._open_egresses(sink, tap, pace, ways)
        self.following = Following(
            self.egresses,
            looks=self.looks,
            sink=sink,
            clock=clock,
            metrics=metrics,
            wishes=Wishes(settings.hyperliquid_pinned, settings.hyperliquid_look_within),
            markets=self._markets,
            trader_streams=self._live_streams,
            look_streams=self._look_streams,
            poll_weight=lambda: poll_weight([s.key for s in self._look_streams(_NOBODY)]),
        )

    @property
    def pool(self) -> Pool:
        """The pinned slots of the first egress address, which also carries the markets."""
        return self.egresses[0].pool

    @property
    def rests(self) -> list[HyperliquidRest]:
        """REST from each egress address; the source closes them."""
        return [egress.rest for egress in self.egresses]

    @property
    def weight_budgets(self) -> list[WeightBudget]:
        """The REST budget of each egress address; every other request from there has to be paid from it, too."""
        return [egress.weights for egress in self.egresses]

    def follow(self, addresses: Sequence[str]) -> None:
        """Follow exactly these traders, the most wanted first; books and trades of the coins always."""
        self.followed = tuple(addresses)
        self.following.follow(self.followed)

    def want(self, kinds_by_symbol: Mapping[str, frozenset[str]]) -> None:
        """Collect books and trades of these coins besides the configured ones. Traders are followed, not wanted."""
        demanded = {
            symbol: kinds & MARKET_KINDS
            for symbol, kinds in kinds_by_symbol.items()
            if symbol != STAR and kinds & MARKET_KINDS
        }
        if demanded != self._demanded:
            self._demanded = demanded
            self.following.carry()

    def standing(self, kind: str, symbol: str) -> Standing:
        """How the venue answered to what a live client wants; ``*`` means what is collected anyway."""
        if symbol == STAR:
            return ACCEPTED
        if kind not in MARKET_KINDS:
            text = "this trader is not followed; add the address with POST /api/traders"
            return ACCEPTED if symbol in self.followed else Standing("refused", "not_followed", text)
        found = self.pool.standing(StreamKey(VENUE, "l2Book" if kind == "book" else "trades", symbol))
        if found is None or found[0] is SubscriptionState.PENDING:
            return WANTED
        state, why = found
        return ACCEPTED if state is SubscriptionState.CONFIRMED else Standing("refused", "upstream_refused", why)

    @property
    def off(self) -> str:
        """Nothing: this venue needs no account."""
        return ""

    def works(self, stopping: asyncio.Event) -> Sequence[Work]:
        """The connections, which end with `close`."""
        del stopping
        return [(VENUE, self.run)]

    @property
    def is_connected(self) -> bool:
        """Whether any connection to the venue is open."""
        return any(egress.pool.open_connections > 0 for egress in self.egresses)

    @property
    def venue(self) -> str:
        """Name of the venue."""
        return VENUE

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for, all the time or now and then."""
        return self.streams_with(self.followed)

    def streams_with(self, followed: Sequence[str]) -> tuple[StreamKey, ...]:
        """Everything that would be asked for when following exactly these traders."""
        return tuple(self.following.streams(followed))

    async def run(self) -> None:
        """Collect until `close`."""
        async with asyncio.TaskGroup() as group:
            for egress in self.egresses:
                group.create_task(egress.run(), name=f"hyperliquid {egress.weights.name}")
            planning = supervise(
                "planner", lambda: self.following.run(self._closing), metrics=self._metrics, clock=self._clock
            )
            group.create_task(planning, name="planner")

    async def close(self) -> None:
        """Say good-bye on all connections and let `run` return."""
        self._closing.set()
        await asyncio.gather(*(egress.close() for egress in self.egresses))

    def look_times(self) -> dict[str, int]:
        """When each followed trader was looked at last, in ms; live ones with every state that arrives."""
        return self.looks.times()

    def view(self, address: str) -> Mapping[str, Any] | None:
        """How one trader is followed now, see `Looks.view`; None when he is not."""
        return self.looks.view(address)

    def on_refused(self, refusal: Refusal, failed: Sequence[Subscription]) -> bool:
        """Where the server does not know the modern trader feeds, use the legacy one; True when that was decided."""
        if refusal.kind is not RefusalKind.UNKNOWN_TYPE:
            return False
        channels = {subscription.key.channel for subscription in failed}
        if refusal.stream is not None:
            channels.add(refusal.stream.channel)
        replaced = self._trader_streams()
        if HISTORY_CHANNEL in channels and self._tells_history:
            self._tells_history = False  # reasons are asked for over REST then
            log.warning("order_history_feed_unknown", because=refusal.text[:120])
        elif any(self._choice.refused(channel) for channel in channels):
            log.warning("trader_feed_changed", feed=self._choice.current, because=refusal.text[:120])
        else:
            return False
        self._replaced = replaced
        asyncio.get_running_loop().call_soon(self.follow, self.followed)
        return True

    def replaced_streams(self) -> tuple[StreamKey, ...]:
        """The streams that the last change of the trader feed made superfluous."""
        kept = set(self.streams())
        return tuple(stream for stream in self._replaced if stream not in kept)

    async def discover(self, count: int) -> list[Candidate]:
        """The best ``count`` traders of the leaderboard.

        Raises:
            VenueError: it could not be read.
        """
        proxy = self._settings.hyperliquid_proxy
        rows = await top_traders(
            self._settings.hyperliquid_stats_url,
            count,
            clock=self._clock,
            metrics=self._metrics,
            proxy=None if proxy is None else proxy.get_secret_value(),
        )
        return [Candidate(row.address, None if row.month is None else row.month.pnl) for row in rows]

    async def read_leaderboard(self, begin: Callable[[], Ranking]) -> Ranking:
        """Let every row of the leaderboard pass by a ranking.

        Raises:
            VenueError: it could not be read.
        """
        return await leaderboard_reader(self._settings, clock=self._clock, metrics=self._metrics)(begin)

    def status(self) -> dict[str, Any]:
        """See `Pool.status`, over all egress addresses; with the trader feed in use and how traders are followed."""
        told = [egress.pool.status() for egress in self.egresses]
        looking = [egress.look_pool.status() for egress in self.egresses]
        used = [one for pool in looking for one in pool["connections"] if one["attempts"]]
        states: Counter[str] = Counter()
        for one in told:
            states.update(one["states"])
        following = {**self.following.status(), "past": self.past_looks.status()}
        if following["late"]:
            states["late"] = following["late"]
        return {
            **told[0],
            "connections": [*(connection for one in told for connection in one["connections"]), *used],
            "streams": {name: row for one in told for name, row in one["streams"].items()},
            "states": dict(states),
            "over_limit": sum(one["over_limit"] for one in told),
            "trader_feed": self._choice.current,
            "following": following,
        }

    def _open_egresses(self, sink: Sink, tap: RawTap | None, pace: Pace | None, ways: Sequence[Way]) -> list[Egress]:
        settings = self._settings
        means = Means(
            sink=sink,
            clock=self._clock,
            metrics=self._metrics,
            looks=self.looks,
            look_subscriptions=self._look_streams,
            past=self.past_looks,
            clients=settings.trader_ws_clients,
            release=settings.hyperliquid_rotation,
            poll_share=settings.hyperliquid_poll_share,
            tap=tap,
            timing=pace.timing if pace else None,
        )
        written = [secret.get_secret_value() for secret in settings.hyperliquid_egress]
        proxies = [None if text == "direct" else text for text in written]
        names = names_of(proxies)
        open_by: list[Way | None] = list(ways) or [None] * len(proxies)
        return [
            Egress(
                number,
                feed=make_feed(settings, pace, proxy),
                rest=open_rest(
                    settings.hyperliquid_api_url,
                    proxy,
                    name=names[number],
                    clock=self._clock,
                    metrics=self._metrics,
                    way=way,
                ),
                means=means if way is None else structs.replace(means, opener=way.opener),
            )
            for number, (proxy, way) in enumerate(zip(proxies, open_by, strict=True))
        ]

    def _trader_streams(self) -> tuple[StreamKey, ...]:
        return tuple(key for key in self.streams() if key.subject in self.looks)

    def _markets(self) -> list[Subscription]:
        settings = self._settings
        wanted = market_subscriptions(
            settings.hyperliquid_coins,
            books=settings.hyperliquid_books,
            trades=settings.hyperliquid_trades,
            fast_books=settings.hyperliquid_book_fast,
        )
        carried = {subscription.key for subscription in wanted}
        for coin, kinds in self._demanded.items():
            more = market_subscriptions(
                [coin], books="book" in kinds, trades="trade" in kinds, fast_books=settings.hyperliquid_book_fast
            )
            wanted.extend(subscription for subscription in more if subscription.key not in carried)
        return wanted

    def _live_streams(self, trader: str) -> list[Subscription]:
        return self._kinds(fills=self._settings.hyperliquid_fills, history=self._tells_history).subscriptions(trader)

    def _look_streams(self, trader: str) -> list[Subscription]:
        """A look shows states only: fills and past orders come as thousands of rows each time."""
        return self._kinds(fills=False, history=False).subscriptions(trader)

    def _kinds(self, *, fills: bool, history: bool) -> TraderStreams:
        settings = self._settings
        return TraderStreams(
            feed=self._choice.current,
            orders=settings.trader_orders_ws_enabled,
            positions=settings.trader_positions_ws_enabled,
            fills=fills,
            dexes=settings.hyperliquid_dexes,
            history=history,
        )


def leaderboard_reader(
    settings: Settings, *, clock: Clock, metrics: Metrics
) -> Callable[[Callable[[], Ranking]], Awaitable[Ranking]]:
    """Reads the leaderboard the settings name into a ranking."""
    proxy = settings.hyperliquid_proxy
    return lambda begin: read_ranking(
        settings.hyperliquid_stats_url,
        begin,
        clock=clock,
        metrics=metrics,
        proxy=None if proxy is None else proxy.get_secret_value(),
    )


def make_feed(settings: Settings, pace: Pace | None = None, proxy: str | None = None) -> HyperliquidFeed:
    """The feed the settings describe; it leaves through ``proxy``, None = directly."""
    return HyperliquidFeed(
        settings.hyperliquid_ws_url,
        max_users=settings.hyperliquid_max_users,
        proxy=proxy,
        heartbeat=pace.heartbeat if pace else None,
    )
