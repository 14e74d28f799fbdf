"""The simulated venue: a WebSocket server and an HTTP server around one market, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus

import structlog
from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from src.models.clock import Clock
from src.models.messages import Level
from src.venues.clock import SystemClock
from src.venues.simulating import Startable
from src.venues.stockbit.body import Side
from src.venues.stockbit.simulator import frames
from src.venues.stockbit.simulator.accounts import Accounts
from src.venues.stockbit.simulator.config import StockbitSimulatorConfig
from src.venues.stockbit.simulator.day import Hours
from src.venues.stockbit.simulator.market import SimBook, SimMarket, SimTrade
from src.venues.stockbit.simulator.rest import RestServer
from src.venues.stockbit.simulator.sessions import (
    BOOKS,
    LIVE_PRICES,
    TRADES,
    Asked,
    Session,
    read_request,
    wanting,
)
from src.venues.stockbit.stockbit_pb2 import RG
from src.venues.stockbit.times import exchange_day

_log = structlog.get_logger(__name__)

WS_PATH = "/ws"
SIDES: tuple[Side, Side] = ("BID", "OFFER")
_PUMP_EVERY_S = 0.01
_QUIET_SHARE = 0.1
"""Of the usual activity: what happens in auctions."""


class SentSide(Struct, frozen=True):
    """One side as it was sent to somebody; ``session`` is the number of the connection."""

    session: int
    ticker: str
    board: int
    side: Side
    levels: tuple[Level, ...]
    seq: int
    at_ms: int


class StockbitSimulator(Startable):
    """A loopback venue; use as ``async with StockbitSimulator(config) as sim``.

    Attributes:
        ws_url, api_url: where to connect, known after the start.
        accounts: issues and kills tokens.
        market: the books.
        rest: the HTTP side, with its switches in ``rest.faults``.
        sessions: live connections by number.
        sent: every side sent, in order; ``trades``: every trade that somebody was told of.
        is_silent: send nothing but pongs.
        is_paused: let nothing happen in the market.
        failure: the error that stopped the simulator, if one did.
    """

    def __init__(self, config: StockbitSimulatorConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or StockbitSimulatorConfig()
        self._clock = clock or SystemClock()
        self._hours = Hours(always_open=self.config.always_open)
        self.accounts = Accounts(token_life_s=self.config.token_life_s, refresh_life_s=self.config.refresh_life_s)
        self.market = SimMarket(self.config.tickers, seed=self.config.seed, levels=self.config.levels)
        self.rest = RestServer(accounts=self.accounts, market=self.market, clock=self._clock)
        self.sessions: dict[int, Session] = {}
        self.sent: list[SentSide] = []
        self.trades: list[SimTrade] = []
        self.is_silent = False
        self.is_paused = False
        self.is_down = False
        self.connects = 0
        self.pings = 0
        self.refusals = 0
        self.failure: BaseException | None = None
        self.ws_url = self.api_url = ""
        self._seq = 0
        self._debts: dict[tuple[str, str], float] = {}
        self._day = exchange_day(self._clock.wall_ms())
        self._volumes: dict[str, tuple[int, int]] = {}
        self._server: Server | None = None
        self._pumping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on loopback and let the market run."""
        config = self.config
        self._server = await serve(
            self._serve_client,
            config.host,
            config.port,
            process_request=self._check_handshake,
            subprotocols=[Subprotocol("web")],
            compression=None,
            ping_interval=None,
            server_header=None,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        api_port = await self.rest.start(config.host, config.api_port)
        self.ws_url = f"ws://{config.host}:{port}{WS_PATH}"
        self.api_url = f"http://{config.host}:{api_port}"
        self._pumping = asyncio.create_task(self._pump(), name="stockbit-simulator-pump")

    async def stop(self) -> None:
        """Close everything; raises what made the simulator fail."""
        if self._pumping is not None:
            self._pumping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pumping
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self.rest.stop()
        if self.failure is not None:
            raise self.failure

    def log_in(self) -> tuple[str, str]:
        """A new pair of tokens, as a person gets it in the browser."""
        return self.accounts.log_in(self._clock.wall_ms())

    # -- misfortunes -------------------------------------------------------------------------------------------------

    def drop_all(self) -> None:
        """Break every socket without a word."""
        for session in list(self.sessions.values()):
            session.abort()

    def spoil(self, ticker: str, how: frames.Bad) -> None:
        """Send a bad frame about a ticker to everybody who wants it; only what is harmless counts as sent."""
        levels = self.market.books[ticker].side("BID")
        for session in wanting(self.sessions.values(), BOOKS, ticker):
            self._seq += 1
            now_ms = self._clock.wall_ms()
            frame = frames.book_frame(ticker, "BID", levels, seq=self._seq, at_ms=now_ms)
            session.send(frames.spoiled(frame, how))
            if how in (frames.Bad.UNKNOWN_FIELDS, frames.Bad.BAD_LEVELS):
                self._note(session, ticker, "BID", levels, self._seq, now_ms)

    def show(self, ticker: str, side: Side, levels: Sequence[Level], *, board: int = RG) -> None:
        """Send a side of your own making: empty, seventy levels, crossing the other."""
        for session in wanting(self.sessions.values(), BOOKS, ticker):
            self._send_side(session, ticker, side, tuple(levels), board=board)

    def repeat(self, ticker: str) -> None:
        """Send the last side of a ticker once more, number and time included."""
        for session in wanting(self.sessions.values(), BOOKS, ticker):
            last = next((s for s in reversed(self.sent) if s.ticker == ticker and s.session == session.number), None)
            if last is not None:
                session.send(
                    frames.book_frame(
                        ticker, last.side, last.levels, seq=last.seq, at_ms=last.at_ms, layout=self.config.layout
                    )
                )

    def switch_source(self, ticker: str) -> None:
        """Tell that the book begins anew, then tell it."""
        for session in wanting(self.sessions.values(), BOOKS, ticker):
            session.send(frames.reset_frame(ticker, self._clock.wall_ms()))
            self._send_book(session, self.market.books[ticker])

    # -- clients -----------------------------------------------------------------------------------------------------

    def _check_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.is_down:
            return connection.respond(HTTPStatus.BAD_GATEWAY, "<html>502 Bad Gateway</html>")
        if request.path.split("?")[0] != WS_PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, "not found\n")
        return None

    async def _serve_client(self, ws: ServerConnection) -> None:
        self.connects += 1
        session = Session(self.connects, ws, self._clock.monotonic())
        self.sessions[session.number] = session
        try:
            async for message in ws:
                asked = read_request(message, self.config.layout) if isinstance(message, bytes) else None
                if asked is not None:
                    self._answer(session, asked)
        except ConnectionClosed:
            pass  # gone without good-bye, as clients do
        except Exception as error:
            self.failure = error
            _log.exception("stockbit_simulator_failed")
            raise
        finally:
            del self.sessions[session.number]

    def _answer(self, session: Session, asked: Asked) -> None:
        if asked.is_ping:
            self.pings += 1
            session.pinged_s = self._clock.monotonic()
            if self.config.layout == "nested":
                session.send(frames.PONG)
            return
        now_ms = self._clock.wall_ms()
        session.access = asked.access
        session.is_let_in = self.accounts.lets_in(asked.user_id, asked.key, asked.access, now_ms)
        if not session.is_let_in:
            self._refuse(session)
        elif asked.channels is not None:
            session.subscribe(asked.channels, adds=self.config.adds)
            for ticker in sorted(set(asked.channels.get(BOOKS, ())) & self.market.books.keys()):
                self._send_book(session, self.market.books[ticker])
            for ticker in sorted(set(asked.channels.get(TRADES, ())) & self.market.books.keys()):
                recent = list(self.market.books[ticker].trades)
                if recent:
                    session.send(frames.trades_frame(recent))

    def _refuse(self, session: Session) -> None:
        self.refusals += 1
        session.is_let_in = False
        session.send(frames.REFUSAL)
        if self.config.refuses_by == "close":
            session.abort()

    # -- the market --------------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        last_s = self._clock.monotonic()
        try:
            while True:
                await asyncio.sleep(_PUMP_EVERY_S)
                now_s = self._clock.monotonic()
                self._step(now_s - last_s)
                self._look_after_sessions(now_s)
                last_s = now_s
        except Exception as error:
            self.failure = error
            _log.exception("stockbit_simulator_failed")
            raise

    def _step(self, seconds: float) -> None:
        now_ms = self._clock.wall_ms()
        day = exchange_day(now_ms)
        if day != self._day:
            self._day = day
            self._volumes.clear()
            self.market.new_day()
        phase = self._hours.phase_at(now_ms)
        if self.is_silent or self.is_paused or phase in ("closed", "lunch"):
            return
        share = 1.0 if phase == "continuous" else _QUIET_SHARE
        for book in self.market:
            for _ in range(self._due(book.ticker, "book", seconds * self.config.updates_per_s * share)):
                for side in book.change():
                    self._tell_side(book, side)
            if phase == "pre-opening":
                continue
            for _ in range(self._due(book.ticker, "trade", seconds * self.config.trades_per_s * share)):
                self._trade(book, now_ms, in_auction=phase != "continuous")

    def _due(self, ticker: str, what: str, amount: float) -> int:
        """How often something is to happen now; what is less than once is owed."""
        owed = self._debts.get((ticker, what), 0.0) + amount
        self._debts[ticker, what] = owed - int(owed)
        return int(owed)

    def _trade(self, book: SimBook, now_ms: int, *, in_auction: bool) -> None:
        trade, side = book.trade(self.market.next_number(), now_ms, in_auction=in_auction)
        self._tell_side(book, side)
        volume, count = self._volumes.get(book.ticker, (0, 0))
        self._volumes[book.ticker] = (volume + trade.shares, count + 1)
        told = wanting(self.sessions.values(), TRADES, book.ticker)
        if told and self.config.keeps_log:
            self.trades.append(trade)
        for session in told:
            session.send(frames.trade_frame(trade))
        for session in wanting(self.sessions.values(), LIVE_PRICES, book.ticker):
            session.send(frames.live_price_frame(trade, volume=volume + trade.shares, count=count + 1))

    def _tell_side(self, book: SimBook, side: Side) -> None:
        levels = book.side(side)
        for session in wanting(self.sessions.values(), BOOKS, book.ticker):
            self._send_side(session, book.ticker, side, levels)

    def _send_book(self, session: Session, book: SimBook) -> None:
        for side in SIDES:
            self._send_side(session, book.ticker, side, book.side(side))

    def _send_side(
        self, session: Session, ticker: str, side: Side, levels: tuple[Level, ...], *, board: int = RG
    ) -> None:
        self._seq += 1
        now_ms = self._clock.wall_ms()
        session.send(
            frames.book_frame(
                ticker, side, levels, seq=self._seq, at_ms=now_ms, board=board, layout=self.config.layout
            )
        )
        self._note(session, ticker, side, levels, self._seq, now_ms, board)

    def _note(
        self,
        session: Session,
        ticker: str,
        side: Side,
        levels: tuple[Level, ...],
        seq: int,
        at_ms: int,
        board: int = RG,
    ) -> None:
        if self.config.keeps_log:
            self.sent.append(SentSide(session.number, ticker, board, side, levels, seq, at_ms))

    def _look_after_sessions(self, now_s: float) -> None:
        now_ms, deadline_s = self._clock.wall_ms(), self.config.ping_deadline_s
        for session in list(self.sessions.values()):
            if session.is_let_in and not self.accounts.is_good(session.access, now_ms):
                self._refuse(session)
            elif deadline_s is not None and now_s - session.pinged_s > deadline_s:
                session.abort()
