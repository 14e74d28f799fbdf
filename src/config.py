"""The settings, and the only place that reads the environment.

Read in this order, the later wins: defaults, ``.env`` (committed, every setting with its default), ``.env.local``
(yours, for secrets and changes), the environment of the process.
"""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from dotenv.parser import parse_stream
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from src.logs import mask_secrets
from src.models.errors import ConfigurationError
from src.setting_types import (
    Addresses,
    AlpacaChannels,
    Coins,
    DatabaseName,
    Dexes,
    Directory,
    Egress,
    Filters,
    Host,
    HttpUrl,
    JournalSync,
    LowerCase,
    MongoUri,
    OptionalDirectory,
    OptionalFile,
    OptionalHost,
    Origins,
    Proxy,
    RedisUrl,
    Shares,
    Stocks,
    Tickers,
    Token,
    WebSocketUrl,
    is_loopback,
)

ENVIRONMENT = "environment"
FILES = (".env", ".env.local")
OUR_PREFIXES = (
    "ALPACA_",
    "FUTU_",
    "HYPERLIQUID_",
    "TRADER_",
    "MONGODB_",
    "DIFF_",
    "HTTP_HOST",
    "HTTP_PORT",
    "ORDERBOOK_",
    "IDX_",
    "DEAD_LETTER_",
    "PENDING_WRITES_",
    "JOURNAL_",
    "STATUS_LINE_",
    "STOCKBIT_",
    "GATEWAY_",
    "REDIS_URL",
)
SHORT_TOKEN = 16
# Kubernetes puts such variables into every pod for a Service that happens to be called "mongodb" or "trader".
SERVICE_LINK = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?)")

Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting with its default and its meaning.

    ``Settings(...)`` takes values from its arguments alone (for tests and the demo); `load_settings` reads files and
    environment. Attribute names are the settings' names in lower case.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )

    mongodb_uri: MongoUri = Field(SecretStr(""), description="MongoDB to write to; empty = the embedded server")
    mongodb_database: DatabaseName = Field("market_collector", description="name of the database")
    mongodb_timeout_s: Seconds = Field(5.0, ge=0.5, le=300, description="seconds one database operation may take")
    mongodb_cache_gb: Seconds = Field(
        0.5, ge=0.25, le=10_000, description="memory for the embedded server's cache, in GB"
    )

    data_dir: Directory = Field(Path("data"), description="directory of the embedded database and of recordings")
    orderbook_snapshot_days: int = Field(
        30, ge=0, le=24_800, description="days to keep order book history; 0 = for ever"
    )
    dead_letter_days: int = Field(30, ge=0, le=24_800, description="days to keep rejected input; 0 = for ever")
    orderbook_csv: Annotated[Literal["sessions", "all", "off"], LowerCase] = Field(
        "sessions", description="order books to write to CSV files: those of sessions, all, or off"
    )
    orderbook_dir: OptionalDirectory = Field(
        None, description="directory of the CSV files; empty = orderbook below DATA_DIR"
    )
    orderbook_csv_layout: Annotated[Literal["simple", "full"], LowerCase] = Field(
        "simple", description="columns of the CSV files: simple (five, as documented) or full"
    )
    orderbook_csv_compress: Annotated[Literal["zstd", "gzip", "off"], LowerCase] = Field(
        "zstd", description="compress the CSV files of ended days: zstd, gzip or off"
    )
    idx_holidays_file: OptionalFile = Field(
        None, description="file with holidays of IDX besides the known ones; empty = none"
    )

    http_host: Host = Field("127.0.0.1", description="address to listen on; other than loopback needs API_TOKEN")
    http_port: int = Field(8002, ge=0, le=65_535, description="port to listen on; 0 = any free one")
    api_token: Token = Field(SecretStr(""), description="bearer token for changing requests; empty = loopback only")
    allowed_origins: Origins = Field(
        (), description="browser origins let in besides the program's own, comma separated"
    )

    gateway_enabled: bool = Field(default=True, description="serve live data to browsers and programs at /ws")
    gateway_token: Token = Field(SecretStr(""), description="bearer token clients of the gateway need; empty = none")
    gateway_max_connections: int = Field(
        5000, ge=1, le=100_000, description="connections of all clients of the gateway together"
    )
    gateway_max_connections_per_client: int = Field(
        10, ge=1, le=10_000, description="connections of one client id of the gateway"
    )
    gateway_max_subscriptions_per_client: int = Field(
        50, ge=1, le=10_000, description="subscriptions of one client id of the gateway"
    )
    gateway_max_symbols: int = Field(
        500, ge=1, le=100_000, description="topics that clients of the gateway may want of venues, all together"
    )
    gateway_commands_per_second: Seconds = Field(
        20.0, ge=0.1, le=10_000, description="lasting rate of messages from one connection to the gateway"
    )
    gateway_max_message_kb: int = Field(64, ge=1, le=1024, description="largest message to the gateway, in KiB")
    gateway_batch_interval_ms: int = Field(
        100, ge=5, le=60_000, description="milliseconds within which a busy symbol is sent once"
    )
    gateway_recent_trades: int = Field(
        20, ge=0, le=1000, description="trades sent when a client subscribes; 0 = none"
    )
    gateway_queue_size: int = Field(
        1000, ge=10, le=1_000_000, description="trades and events kept for a connection that does not read"
    )
    gateway_slow_client_s: Seconds = Field(
        10.0, ge=1, le=3600, description="seconds a connection may not read before it is closed"
    )
    gateway_release_after_s: Seconds = Field(
        30.0, ge=0, le=86_400, description="seconds a symbol is collected on after its last client has left"
    )
    gateway_compression: bool = Field(default=False, description="offer permessage-deflate to clients of the gateway")
    redis_url: RedisUrl = Field(
        SecretStr(""), description="Redis that several processes share live data by; empty = none"
    )

    log_level: Annotated[Literal["debug", "info", "warning", "error"], LowerCase] = Field(
        "info", description="debug, info, warning or error"
    )
    log_format: Annotated[Literal["auto", "console", "json"], LowerCase] = Field(
        "auto", description="console, json, or auto: console in a terminal, else json"
    )
    status_line_interval: Seconds = Field(
        30.0, ge=0, le=86_400, description="seconds between status lines in a terminal; 0 = none"
    )

    hyperliquid_enabled: bool = Field(default=True, description="collect from Hyperliquid")
    hyperliquid_ws_url: WebSocketUrl = Field("wss://api.hyperliquid.xyz/ws", description="WebSocket address")
    hyperliquid_api_url: HttpUrl = Field("https://api.hyperliquid.xyz", description="REST address")
    hyperliquid_stats_url: HttpUrl = Field(
        "https://stats-data.hyperliquid.xyz/Mainnet", description="address of the leaderboard file's directory"
    )
    hyperliquid_coins: Coins = Field(
        ("BTC", "ETH", "SOL"), description="coins to collect order books and trades of, comma separated"
    )
    hyperliquid_books: bool = Field(default=True, description="collect order books of the coins")
    hyperliquid_book_fast: bool = Field(
        default=False, description="true: 5 levels every 0.5 s; false: 20 levels every 5 s"
    )
    hyperliquid_trades: bool = Field(default=True, description="collect public trades of the coins")
    hyperliquid_traders: Addresses = Field(
        (), description="addresses to follow, comma separated; empty = the top of the leaderboard"
    )
    hyperliquid_trader_feed: Literal["auto", "webData2", "split"] = Field(
        "auto", description="auto, webData2 (older nodes) or split (clearinghouseState and openOrders)"
    )
    hyperliquid_fills: bool = Field(default=True, description="collect fills of the followed traders")
    hyperliquid_dexes: Dexes = Field((), description="builder dexes to follow besides the main one, comma separated")
    hyperliquid_max_users: int = Field(
        10, ge=1, le=10_000, description="traders subscribed at once per egress address; the venue allows 10"
    )
    hyperliquid_pinned: int = Field(
        5, ge=0, le=10_000, description="of these slots, how many stay with one trader when not all fit"
    )
    hyperliquid_rotation: Annotated[Literal["auto", "unsubscribe", "connection", "never"], LowerCase] = Field(
        "auto", description="what frees a slot: unsubscribe, connection (its end), auto; never = no rotation"
    )
    hyperliquid_look_within: Seconds = Field(
        120.0, ge=10, le=86_400, description="seconds within which to look at everybody; where slots fail, REST helps"
    )
    hyperliquid_poll_share: Seconds = Field(
        1.0, ge=0, le=1, description="part of the REST weight left over that looks may take; 0 = no looks over REST"
    )
    hyperliquid_egress: Egress = Field(
        (SecretStr("direct"),), description="ways to the venue, comma separated: direct, URLs of HTTP proxies"
    )

    hyperliquid_leaderboard: Annotated[Literal["auto", "always", "never"], LowerCase] = Field(
        "auto", description="follow the best of the leaderboard: always, never, or auto: unless others are named"
    )
    hyperliquid_leaderboard_count: int = Field(
        10, ge=0, le=10_000, description="traders of the leaderboard to follow; 0 = none"
    )
    hyperliquid_leaderboard_filters: Filters = Field(
        ("accountValue>=100000", "week.vlm>0"),
        description="conditions on them: accountValue, or pnl, roi, vlm of day, week, month, allTime",
    )
    hyperliquid_leaderboard_interval: Seconds = Field(
        3600.0, ge=60, le=604_800, description="seconds between readings of the leaderboard"
    )
    hyperliquid_leaderboard_days: int = Field(
        365, ge=0, le=24_800, description="days to keep the daily leaderboard; 0 = for ever"
    )
    hyperliquid_backfill: bool = Field(
        default=True, description="read what was missed from the venue's history with the weight left over"
    )
    hyperliquid_backfill_interval: Seconds = Field(
        3600.0, ge=60, le=604_800, description="seconds after which each trader's history is read again at the latest"
    )

    alpaca_enabled: bool = Field(default=True, description="collect from Alpaca once there are a key and a secret")
    alpaca_api_key: Token = Field(
        SecretStr(""), description="key id of your Alpaca account; empty = nothing is collected"
    )
    alpaca_secret_key: Token = Field(SecretStr(""), description="secret of that key")
    alpaca_feed: Annotated[Literal["iex", "sip", "delayed_sip", "test", "boats", "overnight"], LowerCase] = Field(
        "iex", description="iex (free), sip (paid), delayed_sip, boats, overnight, or test (always on, FAKEPACA only)"
    )
    alpaca_encoding: Annotated[Literal["msgpack", "json"], LowerCase] = Field(
        "msgpack", description="msgpack or json; msgpack is the faster"
    )
    alpaca_ws_url: WebSocketUrl = Field(
        "wss://stream.data.alpaca.markets", description="address of the stream, without the feed's path"
    )
    alpaca_api_url: HttpUrl = Field("https://data.alpaca.markets", description="address of the history over HTTP")
    alpaca_symbols: Stocks = Field((), description="stocks to collect, comma separated; * = all (paid plan)")
    alpaca_channels: AlpacaChannels = Field(
        ("trades",), description="of trades, quotes, bars, updatedBars, dailyBars, statuses: what to collect of them"
    )
    alpaca_max_symbols: int = Field(
        0,
        ge=0,
        le=100_000,
        description="most stocks at once; 0 = what the feed's plan allows (30 without a paid one)",
    )
    alpaca_requests_per_minute: int = Field(
        200, ge=1, le=100_000, description="HTTP requests a minute; a paid plan allows 10000"
    )
    alpaca_silent_after: Seconds = Field(
        120.0,
        ge=0,
        le=86_400,
        description="seconds of regular hours without any trade that mean a dead stream; 0 = never",
    )
    alpaca_proxy: Proxy = Field(
        SecretStr(""), description="URL of an HTTP proxy to reach Alpaca through; empty = directly"
    )
    alpaca_movers: bool = Field(default=False, description="subscribe stocks by themselves that rise on high volume")
    alpaca_movers_gain: Seconds = Field(
        30.0, ge=0, le=100_000, description="per cent above the previous close from which a stock is a mover"
    )
    alpaca_movers_surge: Seconds = Field(
        5.0, ge=0, le=100_000, description="times the usual volume from which a stock is a mover"
    )
    alpaca_movers_surge_of: Annotated[Literal["day", "minute"], LowerCase] = Field(
        "day", description="volume that is compared: of the day so far, or of the last minute; see docs/alpaca.md"
    )
    alpaca_movers_symbols: Stocks = Field(
        (), description="stocks looked at for movers, comma separated; empty = the venue's list of gainers"
    )
    alpaca_movers_most: int = Field(10, ge=1, le=10_000, description="most movers subscribed at once")
    alpaca_movers_interval: Seconds = Field(60.0, ge=5, le=86_400, description="seconds between looks for movers")

    stockbit_enabled: bool = Field(default=True, description="collect from Stockbit (IDX) once there is a token")
    stockbit_access_token: Token = Field(
        SecretStr(""), description="bearer token of your account; it may also be handed in later, see docs/http.md"
    )
    stockbit_refresh_token: Token = Field(
        SecretStr(""), description="refresh token of your account; renews the other one before it expires"
    )
    stockbit_ws_url: WebSocketUrl = Field("wss://wss-jkt.trading.stockbit.com/ws", description="WebSocket address")
    stockbit_api_url: HttpUrl = Field("https://exodus.stockbit.com", description="REST address")
    stockbit_tickers: Tickers = Field((), description="shares to collect, comma separated")
    stockbit_books: bool = Field(default=True, description="collect order books of the shares")
    stockbit_trades: bool = Field(default=True, description="collect running trades of the shares")
    stockbit_live_prices: bool = Field(default=False, description="collect the candle of the day of the shares")
    stockbit_layout: Annotated[Literal["nested", "flat"], LowerCase] = Field(
        "nested", description="layout of frames: nested (what the venue sends) or flat (of older documents)"
    )
    stockbit_ping_interval: Seconds = Field(
        15.0, ge=0, le=600, description="seconds between pings of the application; 0 = none"
    )
    stockbit_ws_ping_interval: Seconds = Field(
        30.0, ge=0, le=600, description="seconds between pings of the WebSocket protocol; 0 = none"
    )
    stockbit_proxy: Proxy = Field(
        SecretStr(""), description="URL of an HTTP proxy to reach Stockbit through; empty = directly"
    )

    trader_ws_enabled: bool = Field(default=True, description="follow traders at all")
    trader_ws_clients: int = Field(
        5, ge=1, le=10, description="WebSocket connections; the venue allows 10 per address"
    )
    trader_ws_message_buffer_size: int = Field(
        1000, ge=1, le=1_000_000, description="messages waiting for the diff; a full buffer drains at once"
    )
    trader_orders_ws_enabled: bool = Field(default=True, description="collect orders of the followed traders")
    trader_positions_ws_enabled: bool = Field(default=True, description="collect positions of the followed traders")
    trader_orders_ws_flush_interval: Seconds = Field(
        5.0, ge=0.05, le=3600, description="seconds between flushes to MongoDB"
    )

    diff_interval: Seconds = Field(0.1, ge=0.005, le=60, description="seconds between drains of the buffer")
    pending_writes_limit: int = Field(
        50_000, ge=1000, le=100_000_000, description="changes kept in memory while MongoDB is away; more wait on disk"
    )
    journal_enabled: bool = Field(default=True, description="keep changes on disk until MongoDB has them")
    journal_limit_mb: int = Field(2048, ge=16, le=10_000_000, description="most the journal may take on disk, in MiB")
    journal_fsync: JournalSync = Field(
        "500", description="milliseconds between forced writes to disk, or always, or never"
    )
    shutdown_timeout: Seconds = Field(
        25.0, ge=1, le=600, description="seconds a stop may take to store what is pending"
    )

    futu_host: OptionalHost = Field(
        "", description="where the Futu gateway (OpenD) runs, for example 127.0.0.1; empty = off"
    )
    futu_port: int = Field(11_111, ge=1, le=65_535, description="its port for programs")
    futu_symbols: Shares = Field(
        (), description="symbols to collect order books of, comma separated: US.AAPL or AAPL, HK.00700"
    )
    futu_quota: int = Field(
        100, ge=1, le=100_000, description="subscriptions the account may hold: 100, 300, 1000 or 2000"
    )

    _notices: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments only: `load_settings` reads the rest itself, so that it can report every mistake at once."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        problems = []
        if not self.api_token.get_secret_value() and not is_loopback(self.http_host):
            problems.append(
                f"HTTP_HOST={self.http_host}: would let everybody on the network change what is collected; "
                "set API_TOKEN (in .env.local), or HTTP_HOST=127.0.0.1"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about odd but usable settings, to be logged as warnings once at start."""
        return self._notices

    @property
    def journal_fsync_s(self) -> float | None:
        """Seconds between forced writes of the journal; 0 = after each, None = never."""
        if self.journal_fsync == "never":
            return None
        return 0.0 if self.journal_fsync == "always" else int(self.journal_fsync) / 1000

    @property
    def csv_dir(self) -> Path:
        """Where CSV files of order books go."""
        return self.data_dir / "orderbook" if self.orderbook_dir is None else self.orderbook_dir

    @property
    def hyperliquid_proxy(self) -> SecretStr | None:
        """URL of the proxy to reach Hyperliquid through, None for a direct connection."""
        first = self.hyperliquid_egress[0]
        return None if first.get_secret_value() == "direct" else first


class _Given(NamedTuple):
    """A value somebody wrote, and where."""

    value: str
    source: str


def load_settings(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from ``.env`` and ``.env.local`` in ``directory`` and from the environment.

    Args:
        directory: where the files are and what a relative ``DATA_DIR`` is relative to; default: the current one.
        environ: the environment; default: that of the process.

    Raises:
        ConfigurationError: something is wrong. The text has one line for each mistake: name, value (secrets masked),
            where it was written, remedy.
    """
    directory = Path.cwd() if directory is None else directory
    given, problems, notices = _gather(directory, os.environ if environ is None else environ)
    try:
        settings = Settings.model_validate({name.lower(): entry.value for name, entry in given.items()})
    except ValidationError as error:
        problems += _field_problems(error, given)
        problems += _cross_problems(error, given)
    if problems:
        raise ConfigurationError("wrong settings:\n" + "\n".join(f"  {line}" for line in problems))
    settings = settings.model_copy(update=_absolute(settings, directory))
    settings._notices = (*notices, *_oddities(settings, given))  # noqa: SLF001 - its own module
    return settings


def _absolute(settings: Settings, directory: Path) -> dict[str, Path]:
    """The paths among the settings, made absolute."""
    paths = {name: getattr(settings, name) for name in ("data_dir", "orderbook_dir", "idx_holidays_file")}
    return {name: (directory / path).absolute() for name, path in paths.items() if path is not None}


def setting_names() -> tuple[str, ...]:
    """Names of all settings as they are written in files and environment, in their documented order."""
    return tuple(name.upper() for name in Settings.model_fields)


def _gather(directory: Path, environ: Mapping[str, str]) -> tuple[dict[str, _Given], list[str], list[str]]:
    """Collect what was written for known names, the problems with the rest, and notices."""
    known = setting_names()
    given: dict[str, _Given] = {}
    problems: list[str] = []
    notices: list[str] = []
    for file_name in FILES:
        values, unreadable = _read_file(directory / file_name)
        problems += unreadable
        problems += [_unknown(name, file_name) for name in values if name not in known]
        given |= {name: _Given(value, file_name) for name, value in values.items() if name in known}
    for name, value in environ.items():
        if name in known:
            given[name] = _Given(value, ENVIRONMENT)
        elif name.startswith(OUR_PREFIXES) and not SERVICE_LINK.fullmatch(name):
            problems.append(_unknown(name, ENVIRONMENT))
    return given, problems, notices


def _read_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Values and unreadable lines of a dotenv file; a missing file is an empty one. ``$`` has no special meaning."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path.name}: cannot be read ({error}); make it a readable UTF-8 text file or remove it"]
    values: dict[str, str] = {}
    problems: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{path.name} line {binding.original.line}: not understood; write NAME=value")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values, problems


def _unknown(name: str, source: str) -> str:
    """One line about a name that is no setting. Its value may be a secret and is not shown."""
    close = difflib.get_close_matches(name.upper(), setting_names(), n=1, cutoff=0.6)
    remedy = f"did you mean {close[0]}?" if close else "remove it; docs/settings.md lists all settings"
    return f"{name} ({source}): no such setting; {remedy}"


def _field_problems(error: ValidationError, given: Mapping[str, _Given]) -> Iterator[str]:
    """One line for each setting whose value is wrong in itself."""
    seen = set()
    for item in error.errors(include_url=False, include_context=False):
        if not item["loc"] or item["loc"][0] in seen:
            continue
        seen.add(item["loc"][0])
        name = str(item["loc"][0]).upper()
        entry = given[name]
        reason = "is empty; write a value or remove the line" if not entry.value.strip() else _reason(item["msg"])
        default = _default_text(name)
        hint = f" (default: {default})" if default else ""
        yield f"{name}={_shown(name, entry.value)} ({entry.source}): {reason}{hint}"


def _cross_problems(error: ValidationError, given: Mapping[str, _Given]) -> list[str]:
    """Lines about settings that do not fit together, judged with the wrong ones left at their defaults."""
    wrong = {str(item["loc"][0]).upper() for item in error.errors() if item["loc"]}
    fitting = {name.lower(): entry.value for name, entry in given.items() if name not in wrong}
    if "API_TOKEN" in wrong:
        fitting.pop("http_host", None)  # with a usable token it would be fine
    try:
        Settings.model_validate(fitting)
    except ValidationError as rest:
        return [line for item in rest.errors() for line in _reason(item["msg"]).splitlines()]
    return []


def _reason(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[0].lower() + text[1:] if text.startswith("Input should") else text


def _shown(name: str, value: str) -> str:
    """The value as it may be shown: secrets as stars, credentials inside URLs masked, long ones cut."""
    longest = 80
    if Settings.model_fields[name.lower()].annotation is SecretStr:
        return "***"
    text = mask_secrets(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def _default_text(name: str) -> str:
    """A default the way it stands in ``.env``."""
    value: Any = Settings.model_fields[name.lower()].get_default()
    if isinstance(value, tuple):
        return ",".join(_plain(part) for part in value)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else _plain(value)


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _oddities(settings: Settings, given: Mapping[str, _Given]) -> Iterator[str]:
    """Sentences about values that are allowed but probably not meant."""
    if settings.trader_ws_enabled and not (
        settings.trader_orders_ws_enabled or settings.trader_positions_ws_enabled or settings.hyperliquid_fills
    ):
        yield "TRADER_WS_ENABLED is true, but orders, positions and fills are all switched off: nothing to follow"
    for name, secret in (("API_TOKEN", settings.api_token), ("GATEWAY_TOKEN", settings.gateway_token)):
        if 0 < len(secret.get_secret_value()) < SHORT_TOKEN:
            yield f"{name} is short; use {SHORT_TOKEN} random characters or more"
    for name, mark in (
        ("API_TOKEN", ""),
        ("GATEWAY_TOKEN", ""),
        ("MONGODB_URI", "@"),
        ("REDIS_URL", "@"),
        ("STOCKBIT_ACCESS_TOKEN", ""),
        ("STOCKBIT_REFRESH_TOKEN", ""),
    ):
        entry = given.get(name)
        if entry is not None and entry.source == ".env" and entry.value and mark in entry.value:
            yield f"{name} stands in .env, which is meant to be committed; secrets belong in .env.local"
