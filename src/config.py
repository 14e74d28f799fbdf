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
    Coins,
    DatabaseName,
    Dexes,
    Directory,
    Egress,
    Host,
    HttpUrl,
    JournalSync,
    LowerCase,
    MongoUri,
    Origins,
    Token,
    WebSocketUrl,
    is_loopback,
)

ENVIRONMENT = "environment"
FILES = (".env", ".env.local")
OUR_PREFIXES = (
    "HYPERLIQUID_",
    "TRADER_",
    "MONGODB_",
    "DIFF_",
    "HTTP_HOST",
    "HTTP_PORT",
    "ORDERBOOK_SNAPSHOT_",
    "DEAD_LETTER_",
    "PENDING_WRITES_",
    "JOURNAL_",
    "STATUS_LINE_",
)
FUTURE_PREFIXES = ("GATEWAY_", "STOCKBIT_", "ALPACA_", "FUTU_", "REDIS_URL")
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

    http_host: Host = Field("127.0.0.1", description="address to listen on; other than loopback needs API_TOKEN")
    http_port: int = Field(8002, ge=0, le=65_535, description="port to listen on; 0 = any free one")
    api_token: Token = Field(SecretStr(""), description="bearer token for changing requests; empty = loopback only")
    allowed_origins: Origins = Field(
        (), description="browser origins let in besides the program's own, comma separated"
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
        10, ge=1, le=10_000, description="traders followed at once; the venue allows 10 per egress address"
    )
    hyperliquid_egress: Egress = Field(
        (SecretStr("direct"),), description="how to reach the venue: direct, or the URL of one HTTP proxy"
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
    settings = settings.model_copy(update={"data_dir": (directory / settings.data_dir).absolute()})
    settings._notices = (*notices, *_oddities(settings, given))  # noqa: SLF001 - its own module
    return settings


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
        elif name.startswith(FUTURE_PREFIXES) and not SERVICE_LINK.fullmatch(name):
            notices.append(f"{name} is set in the environment but not used: not available yet in this version")
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
    if name.startswith(FUTURE_PREFIXES):
        return f"{name} ({source}): not available yet in this version; remove it"
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
    return str(value).lower() if isinstance(value, bool) else _plain(value)


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _oddities(settings: Settings, given: Mapping[str, _Given]) -> Iterator[str]:
    """Sentences about values that are allowed but probably not meant."""
    traders, room = len(settings.hyperliquid_traders), settings.hyperliquid_max_users
    if traders > room:
        yield f"HYPERLIQUID_TRADERS names {traders} traders, HYPERLIQUID_MAX_USERS allows {room} at once"
    if settings.trader_ws_enabled and not (
        settings.trader_orders_ws_enabled or settings.trader_positions_ws_enabled or settings.hyperliquid_fills
    ):
        yield "TRADER_WS_ENABLED is true, but orders, positions and fills are all switched off: nothing to follow"
    token = settings.api_token.get_secret_value()
    if 0 < len(token) < SHORT_TOKEN:
        yield f"API_TOKEN is short; use {SHORT_TOKEN} random characters or more"
    for name, mark in (("API_TOKEN", ""), ("MONGODB_URI", "@")):
        entry = given.get(name)
        if entry is not None and entry.source == ".env" and entry.value and mark in entry.value:
            yield f"{name} stands in .env, which is meant to be committed; secrets belong in .env.local"
