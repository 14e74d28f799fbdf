"""Logging: structured, to standard error, one renderer for this program and its libraries, secrets masked.

Standard output is left to the output of commands.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Hashable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from src.models.clock import Clock

MASK = "***"
LONGEST_TEXT = 16_384
DEEPEST_NESTING = 6
MOST_KEYS = 1024
QUIET_LIBRARIES = ("uvicorn", "uvicorn.error", "websockets", "pymongo", "motor", "httpx", "httpcore", "asyncio")

_SECRET_KEY = re.compile(
    r"(password|passwd|secret|authorization|apikey|privatekey|credentials?|cookie)$"
    r"|^(api|access|refresh|auth|bearer|session|trading)?token$"
)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)((?:[a-z]+ +)?[^\s'\",}]+)")
_BEARER = re.compile(r"(?i)\b(bearer) +[a-z0-9._~+/=-]{4,}")
_PARAMETER = re.compile(
    r"(?i)\b((?:api_?|access_?|refresh_?|auth_?)?(?:token|key|password|passwd|secret))=([^\s&'\",;]+)"
)
# Text from a venue must not be able to steer the terminal it is shown in; line feed and tab are harmless.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure_logging(
    *, level: str = "info", log_format: Literal["auto", "console", "json"] = "auto", stream: TextIO | None = None
) -> None:
    """Send all logging of the process to ``stream``; safe to repeat.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; libraries speak from ``warning`` on (``info`` in debug).
        log_format: ``auto`` is ``console`` when the stream is a terminal and ``json`` otherwise.
        stream: where to write; default: standard error.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a module-level logger made before this call must follow it
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                mask_event,
                _console_renderer(colors=terminal and "NO_COLOR" not in os.environ) if console else _json_renderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a full disk behind the stream must not turn each line into a traceback
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.WARNING)


def mask_secrets(text: str) -> str:
    """Replace credentials in URLs, bearer tokens and ``token=…`` parameters by stars."""
    text = _URL_CREDENTIALS.sub(f"{MASK}@", text)
    text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    return _PARAMETER.sub(rf"\1={MASK}", text)


def mask_event(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: mask secrets, cut long text, and make control characters harmless in every field."""
    del logger, name
    return {key: MASK if _is_secret(key, value) else _clean(value, 0) for key, value in event.items()}


class RepeatLimiter:
    """Lets the same thing be logged once per interval and counts what it held back.

    Remembers at most `MOST_KEYS` keys; the one that was let through longest ago is forgotten first.
    """

    def __init__(self, clock: Clock, *, interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def allow(self, key: Hashable) -> int | None:
        """Say whether to log now: None = hold it back, else the number held back since the last time."""
        now = self._clock.monotonic()
        last = self._seen.get(key)
        if last is not None and now - last[0] < self._interval_s:
            self._seen[key] = (last[0], last[1] + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_KEYS:
            self._seen.popitem(last=False)
        return 0 if last is None else last[1]

    def log(self, logger: Any, level: str, event: str, *, key: Hashable = None, **fields: Any) -> bool:
        """Log ``event`` unless its key (default: the event) was logged within the interval; returns whether it did.

        Adds ``repeats_held_back`` when some were.
        """
        held_back = self.allow(event if key is None else key)
        if held_back is None:
            return False
        if held_back:
            fields["repeats_held_back"] = held_back
        getattr(logger, level)(event, **fields)
        return True


def _console_renderer(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False, pad_event_to=32
    )


def _json_renderer() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer(serializer=json.dumps, default=repr)


def _is_secret(key: Any, value: Any) -> bool:
    name = str(key).lower().replace("_", "").replace("-", "")
    return value not in (None, "", True, False) and _SECRET_KEY.search(name) is not None


def _clean(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return "…" if depth >= DEEPEST_NESTING else _clean_inside(value, depth + 1)
    return _clean_text(repr(value) if isinstance(value, bytes | bytearray) else str(value))


def _clean_inside(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(k): MASK if _is_secret(k, v) else _clean(v, depth) for k, v in value.items()}
    return [_clean(item, depth) for item in value]


def _clean_text(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", mask_secrets(text))
