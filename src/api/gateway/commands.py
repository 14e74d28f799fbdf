"""What clients say: one JSON object per message. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from src.models.live import KINDS
from src.models.symbols import ADDRESS, LONGEST_SYMBOL, WRITABLE

ACTIONS = ("subscribe", "unsubscribe", "ping", "health")
_KINDS = {name: kind for kind in KINDS for name in (kind, f"{kind}s")} | {
    "orderbook": "book",
    "order_book": "book",
    "status": "status",
}
SHOWN = 80
EXAMPLE = '{"action":"subscribe","symbol":"AAPL"}'


class CommandError(Exception):
    """A message that cannot be carried out; ``code`` is a short constant, the text says what to change."""

    def __init__(self, code: str, text: str, symbol: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.symbol = symbol


class Command(Struct, frozen=True):
    """A well-formed message. ``kinds`` is empty when the client left the topic to its dialect."""

    action: str
    symbols: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    venue: str | None = None


class _Wire(Struct):
    action: str
    symbol: str | None = None
    symbols: list[str] | None = None
    address: str | None = None
    topic: str | None = None
    topics: list[str] | None = None
    venue: str | None = None


_decode_any = msgspec.json.Decoder().decode


def parse_command(raw: str | bytes) -> Command:
    """Read one message.

    Raises:
        CommandError: it is not JSON, not a command, or names no usable symbol.
    """
    try:
        value = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CommandError("bad_json", f"send one JSON object, for example {EXAMPLE}") from None
    try:
        wire = msgspec.convert(value, _Wire)
    except msgspec.ValidationError as error:
        raise CommandError("bad_request", f"not a command: {error}"[: 3 * SHOWN]) from None
    if wire.action not in ACTIONS:
        raise CommandError("unknown_action", f"unknown action {wire.action[:SHOWN]!r}; known: {', '.join(ACTIONS)}")
    if wire.action in ("ping", "health"):
        return Command(wire.action)
    return Command(wire.action, _symbols(wire), _kinds(wire), wire.venue.lower() if wire.venue else None)


def _symbols(wire: _Wire) -> tuple[str, ...]:
    named = [one for one in (wire.symbol, wire.address) if one is not None]
    symbols = tuple(dict.fromkeys(one.strip() for one in [*named, *(wire.symbols or [])]))
    if not symbols:
        raise CommandError("bad_symbol", 'name a "symbol", or several in "symbols"')
    for symbol in symbols:
        if not WRITABLE.fullmatch(symbol):
            shown = symbol[:LONGEST_SYMBOL]
            raise CommandError("bad_symbol", f"{shown!r} cannot be a symbol", shown)
    return symbols


def _kinds(wire: _Wire) -> tuple[str, ...]:
    named = [*([wire.topic] if wire.topic is not None else []), *(wire.topics or [])]
    kinds = []
    for name in named:
        kind = _KINDS.get(name.lower())
        if kind is None:
            raise CommandError("bad_request", f"unknown topic {name[:SHOWN]!r}; known: {', '.join(KINDS)}")
        kinds.append(kind)
    return tuple(dict.fromkeys(kinds))


def default_kinds(symbol: str, usual: str) -> tuple[str, ...]:
    """The topics of a symbol when none is named: orders and positions of an address, else what the dialect is for."""
    return ("order", "position") if ADDRESS.fullmatch(symbol) else (usual,)
