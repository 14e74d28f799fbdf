"""Shapes of the settings: each type turns the text of one setting into a checked value or says what is wrong.

Pure functions without I/O; the settings themselves stand in `src.config`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from src.models.filters import Filter
from src.models.market_symbols import canonical

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
MAIN_COIN = re.compile(r"k?[A-Z0-9]{1,20}")
OTHER_COIN = re.compile(r"@\d{1,6}|#\d{1,9}|[A-Z0-9]{1,20}/[A-Z0-9]{1,20}|[a-z0-9]{1,16}:[A-Za-z0-9]{1,30}")
STOCK = re.compile(r"[A-Z]{1,8}([./-][A-Z]{1,4})?")
ALPACA_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses")
DEX = re.compile(r"[a-z0-9]{1,16}")
TICKER = re.compile(r"[A-Z0-9][A-Z0-9.-]{0,23}")
DATABASE = re.compile(r"[A-Za-z0-9_-]{1,63}")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
HIGHEST_PORT = 65_535
SYNC_MS_LEAST = 10
SYNC_MS_MOST = 60_000


def is_loopback(host: str) -> bool:
    """Whether this name or address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def split_list(value: Any) -> Any:
    """Cut comma-separated text into its non-empty parts; other sequences pass as they are."""
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return tuple(value) if isinstance(value, Sequence) else value


def _distinct(check: Callable[[str], str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Check every part, report all wrong ones at once, keep the first of equal ones."""

    def apply(parts: tuple[str, ...]) -> tuple[str, ...]:
        good, bad = [], []
        for part in parts:
            try:
                good.append(check(part))
            except ValueError as error:
                bad.append(str(error))
        if bad:
            raise ValueError("; ".join(bad))
        return tuple(dict.fromkeys(good))

    return apply


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text):
        raise ValueError(f"'{text[:60]}' is not an address; write 0x and 40 hexadecimal digits")
    return text.lower()


def _coin(text: str) -> str:
    if MAIN_COIN.fullmatch(text) or OTHER_COIN.fullmatch(text):
        return text
    likely = [text.upper(), *(["k" + text[1:].upper()] if text[0] in "kK" else [])]
    hint = "write BTC, kPEPE, @107, PURR/USDC or xyz:TSLA"
    if MAIN_COIN.fullmatch(text.upper()):
        hint = f"upper and lower case differ; did you mean {' or '.join(likely)}?"
    raise ValueError(f"'{text[:60]}' is not a coin; {hint}")


def _dex(text: str) -> str:
    if not DEX.fullmatch(text):
        raise ValueError(f"'{text[:60]}' is not the name of a builder dex; write it as in xyz:TSLA before the colon")
    return text


def _database(text: str) -> str:
    if not DATABASE.fullmatch(text):
        raise ValueError("use 1 to 63 letters, digits, '_' or '-'")
    return text


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    remedy = f"write {schemes[0]}://host"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL ({error}); {remedy}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}; {remedy}")
    if not parts.hostname or re.search(r"\s", text) or port == 0:
        raise ValueError(f"names no usable host or port; {remedy}")
    return parts


def _url(*schemes: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        _split_url(text, schemes)
        return text.rstrip("/")

    return check


def _origin(text: str) -> str:
    if text == "*":
        raise ValueError(
            "'*' would let every page on the internet in; name the origins, for example https://desk.example"
        )
    parts = _split_url(text, ("https", "http"))
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise ValueError(f"'{text[:60]}' is more than an origin; write scheme://host:port only")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _egress(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in secrets:
        if secret.get_secret_value() != "direct":
            _split_url(secret.get_secret_value(), ("http", "https"))
    if not secrets:
        raise ValueError("write 'direct', proxy URLs, or both")
    if len({secret.get_secret_value() for secret in secrets}) < len(secrets):
        raise ValueError("names one way twice; each address has its limits once")
    return secrets


def _ticker(text: str) -> str:
    if not TICKER.fullmatch(text.upper()):
        raise ValueError(f"'{text[:60]}' is not a ticker; write BBCA")
    return text.upper()


def _stock(text: str) -> str:
    symbol = text.upper()
    if symbol != "*" and not STOCK.fullmatch(symbol):
        raise ValueError(f"'{text[:60]}' is not a US stock; write AAPL, BRK.B, or * for all")
    return symbol


def _alpaca_channel(text: str) -> str:
    known = {name.lower(): name for name in ALPACA_CHANNELS}
    if text.lower() not in known:
        raise ValueError(f"'{text[:60]}' is not a channel; write some of {', '.join(ALPACA_CHANNELS)}")
    return known[text.lower()]


def _proxy(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value():
        _split_url(secret.get_secret_value(), ("http", "https"))
    return secret


def _mongodb_uri(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text:
        return secret
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("must begin with mongodb:// or mongodb+srv://; leave it empty for the embedded server")
    if not text.split("://", 1)[1].rsplit("@", 1)[-1].split("/")[0]:
        raise ValueError("names no host; write mongodb://host:27017")
    return secret


def _redis_url(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value():
        _split_url(secret.get_secret_value(), ("redis", "rediss"))
    return secret


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("use printable ASCII without spaces, as it travels in an HTTP header")
    return secret


def _host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(text) or re.fullmatch(r"[\d.]+", text):
        raise ValueError("write an address or host name without scheme or port, for example 127.0.0.1 or 0.0.0.0")
    return text


def _optional_host(text: str) -> str:
    return _host(text) if text else text


def _directory(path: Path) -> Path:
    if not str(path).strip() or path == Path():
        raise ValueError("name a directory")
    path = _expanded(path)
    if path.exists() and not path.is_dir():
        raise ValueError("is a file; name a directory, it is created when missing")
    return path


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("begins with the home directory of a user who is not known here; write it out") from None


def _file(path: Path) -> Path:
    path = _expanded(path)
    if path.is_dir():
        raise ValueError("is a directory; name a file, or leave it empty")
    return path


def _empty_as_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _journal_sync(text: str) -> str:
    if text in {"always", "never"}:
        return text
    if not text.isdigit() or not SYNC_MS_LEAST <= int(text) <= SYNC_MS_MOST:
        raise ValueError(f"write always, never, or milliseconds from {SYNC_MS_LEAST} to {SYNC_MS_MOST}")
    return text


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _comma_list(check: Callable[[str], str]) -> tuple[BeforeValidator, AfterValidator]:
    return BeforeValidator(split_list), AfterValidator(_distinct(check))


Addresses = Annotated[tuple[str, ...], *_comma_list(_address)]
Coins = Annotated[tuple[str, ...], *_comma_list(_coin)]
Dexes = Annotated[tuple[str, ...], *_comma_list(_dex)]
Tickers = Annotated[tuple[str, ...], *_comma_list(_ticker)]
Stocks = Annotated[tuple[str, ...], *_comma_list(_stock)]
AlpacaChannels = Annotated[tuple[str, ...], *_comma_list(_alpaca_channel), Field(min_length=1)]
Proxy = Annotated[SecretStr, AfterValidator(_proxy)]
Origins = Annotated[tuple[str, ...], *_comma_list(_origin)]
Filters = Annotated[tuple[str, ...], *_comma_list(lambda text: str(Filter.parse(text)))]
Egress = Annotated[tuple[SecretStr, ...], BeforeValidator(split_list), AfterValidator(_egress)]
DatabaseName = Annotated[str, AfterValidator(_database)]
WebSocketUrl = Annotated[str, AfterValidator(_url("wss", "ws"))]
HttpUrl = Annotated[str, AfterValidator(_url("https", "http"))]
MongoUri = Annotated[SecretStr, AfterValidator(_mongodb_uri)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Host = Annotated[str, AfterValidator(_host)]
OptionalHost = Annotated[str, AfterValidator(_optional_host)]
Shares = Annotated[tuple[str, ...], *_comma_list(canonical)]
Directory = Annotated[Path, AfterValidator(_directory)]
OptionalDirectory = Annotated[Annotated[Path, AfterValidator(_directory)] | None, BeforeValidator(_empty_as_none)]
OptionalFile = Annotated[Annotated[Path, AfterValidator(_file)] | None, BeforeValidator(_empty_as_none)]
LowerCase = BeforeValidator(_lower)
JournalSync = Annotated[str, LowerCase, AfterValidator(_journal_sync)]
