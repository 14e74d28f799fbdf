"""One client of the simulated venue."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from msgspec import Struct
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.protocol import State

from src.models.errors import WireError
from src.venues.stockbit.flat import COLONS, KEY, TOKEN, USER_ID
from src.venues.stockbit.stockbit_pb2 import Request
from src.venues.stockbit.varints import read_fields

BOOKS = "order_book"
TRADES = "running_trade"
LIVE_PRICES = "liveprice"
_CHANNELS = (BOOKS, TRADES, LIVE_PRICES)


class Asked(Struct):
    """What a client said in one frame; ``channels`` None = nothing about subscriptions."""

    user_id: str = ""
    key: str = ""
    access: str = ""
    is_ping: bool = False
    channels: dict[str, list[str]] | None = None


class Session:
    """One socket: who it is, what it wants, when it pinged."""

    def __init__(self, number: int, ws: ServerConnection, now_s: float) -> None:
        self.number = number
        self.ws = ws
        self.access = ""
        self.is_let_in = False
        self.pinged_s = now_s
        self.wants: dict[str, set[str]] = {channel: set() for channel in _CHANNELS}
        self.subscribes = 0
        self._is_cut = False

    @property
    def is_open(self) -> bool:
        """Whether anything that is sent can still arrive."""
        return self.ws.state is State.OPEN and not self._is_cut

    def send(self, frame: bytes | str) -> None:
        """Send without waiting."""
        broadcast([self.ws], frame)

    def abort(self) -> None:
        """Drop the socket without a word (close code 1006 at the other end)."""
        self._is_cut = True
        self.ws.transport.abort()

    def subscribe(self, channels: dict[str, list[str]], *, adds: bool) -> None:
        """Take what is wanted from now on; an empty set clears in any case."""
        self.subscribes += 1
        for channel in _CHANNELS:
            named = set(channels.get(channel, ()))
            self.wants[channel] = self.wants[channel] | named if adds and any(channels.values()) else named


def read_request(frame: bytes, layout: str) -> Asked | None:
    """What a client says, None for what is no request."""
    return _read_flat(frame) if layout == "flat" else _read_nested(frame)


def _read_nested(frame: bytes) -> Asked | None:
    try:
        request = Request.FromString(frame)
    except DecodeError:
        return None
    channels = None
    if request.HasField("channel"):
        channels = {name: list(getattr(request.channel, name)) for name in _CHANNELS}
    return Asked(
        user_id=request.user_id,
        key=request.key,
        access=request.access_token,
        is_ping=request.HasField("ping"),
        channels=channels,
    )


def _read_flat(frame: bytes) -> Asked | None:
    if frame == b"ping":
        return Asked(is_ping=True)
    try:
        found = {number: value for number, _, value in read_fields(frame)}
    except WireError:
        return None
    tickers = [ticker for ticker in _text(found.get(COLONS)).split(":") if ticker]
    return Asked(
        user_id=str(found.get(USER_ID, "")),
        key=_text(found.get(KEY)),
        access=_text(found.get(TOKEN)),
        channels={BOOKS: tickers},
    )


def _text(value: int | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def wanting(sessions: Iterable[Session], channel: str, ticker: str) -> list[Session]:
    """The sessions that are to be told about a ticker."""
    return [s for s in sessions if s.is_let_in and s.is_open and ticker in s.wants[channel]]
