"""Logging: one renderer for everybody, secrets masked, repeats limited."""

import io
import json
import logging
import sys
import warnings

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from src.logs import LONGEST_TEXT, MOST_KEYS, RepeatLimiter, configure_logging, mask_event, mask_secrets
from src.models.clock import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream():
    """A stream to log to; the logging of the process is put back afterwards."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestFormats:
    def test_json_lines_with_level_logger_and_utc_time(self, stream):
        configure_logging(log_format="json", stream=stream)
        structlog.get_logger("src.here").warning("something_happened", count=3, name="x")
        (line,) = lines(stream)
        assert line["event"] == "something_happened"
        assert (line["level"], line["logger"], line["count"]) == ("warning", "src.here", 3)
        assert line["timestamp"].endswith("Z")

    def test_libraries_come_out_the_same_way(self, stream):
        configure_logging(log_format="json", stream=stream)
        logging.getLogger("pymongo.topology").warning("lost %s", "mongodb://u:hunter2@host")
        (line,) = lines(stream)
        assert (line["event"], line["level"]) == ("lost mongodb://***@host", "warning")

    def test_exceptions_are_in_the_line(self, stream):
        configure_logging(log_format="json", stream=stream)
        try:
            int("password=hunter2")
        except ValueError:
            structlog.get_logger("x").exception("failed")
            logging.getLogger("lib").exception("failed too")
        for line in lines(stream):
            assert "ValueError: invalid literal" in line["exception"]
            assert "Traceback" in line["exception"]
            assert "hunter2" not in line["exception"]

    def test_auto_is_json_in_a_pipe_and_console_in_a_terminal(self, stream, monkeypatch):
        monkeypatch.delenv("NO_COLOR", raising=False)
        configure_logging(stream=stream)
        structlog.get_logger("x").info("one", n=1)
        assert lines(stream)[0]["n"] == 1
        terminal = Terminal()
        configure_logging(stream=terminal)
        structlog.get_logger("x").info("two", n=2)
        assert "\x1b[" in terminal.getvalue()
        assert "two" in terminal.getvalue()

    def test_no_color_and_console_in_a_pipe(self, stream, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        terminal = Terminal()
        configure_logging(stream=terminal)
        structlog.get_logger("x").info("one")
        configure_logging(log_format="console", stream=stream)
        structlog.get_logger("x").info("two")
        assert "\x1b" not in terminal.getvalue() + stream.getvalue()

    def test_default_is_standard_error(self, stream, capsys):
        configure_logging(log_format="json", stream=sys.stderr)
        structlog.get_logger("x").info("one")
        out, err = capsys.readouterr()
        assert (out, json.loads(err)["event"]) == ("", "one")

    def test_loggers_made_before_follow(self, stream):
        early = structlog.get_logger("early")
        configure_logging(log_format="json", stream=stream)
        early.info("one")
        assert lines(stream)[0]["logger"] == "early"

    def test_repeating_the_set_up_does_not_double_lines(self, stream):
        for _ in range(3):
            configure_logging(log_format="json", stream=stream)
        structlog.get_logger("x").info("one")
        assert len(lines(stream)) == 1

    def test_python_warnings_are_lines_too(self, stream):
        configure_logging(log_format="json", stream=stream)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        assert "old thing" in lines(stream)[0]["event"]

    def test_a_full_disk_behind_the_stream_is_no_error(self, stream):
        class Full(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(28, "No space left on device")

        configure_logging(log_format="json", stream=Full())
        structlog.get_logger("x").info("one")


class TestLevels:
    @pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
    def test_ours(self, stream, level, seen):
        configure_logging(level=level, log_format="json", stream=stream)
        log = structlog.get_logger("src.x")
        log.debug("a")
        log.info("b")
        log.warning("c")
        assert len(lines(stream)) == seen

    @pytest.mark.parametrize("name", ["uvicorn.error", "websockets.client", "pymongo.command", "httpx", "asyncio"])
    def test_libraries_are_quieter(self, stream, name):
        configure_logging(log_format="json", stream=stream)
        logging.getLogger(name).info("chatter")
        assert lines(stream) == []
        logging.getLogger(name).warning("trouble")
        assert len(lines(stream)) == 1
        configure_logging(level="debug", log_format="json", stream=stream)
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).debug("noise")
        assert len(lines(stream)) == 2


class TestMasking:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("mongodb://root:hunter2@db:27017/x", "mongodb://***@db:27017/x"),
            ("mongodb+srv://root:hun@ter2@db", "mongodb+srv://***@db"),
            (
                "to http://u:hunter2@proxy:3128 and https://b.example/a@b",
                "to http://***@proxy:3128 and https://b.example/a@b",
            ),
            ("Authorization: Bearer hunter2hunter2", "Authorization: ***"),
            ("{'authorization': 'Basic aHVudGVyMg=='}", "{'authorization': '***'}"),
            ("sent bearer hunter2hunter2 twice", "sent bearer *** twice"),
            ("/ws?token=hunter2&x=1", "/ws?token=***&x=1"),
            ("api_key=hunter2, access_token=hunter2", "api_key=***, access_token=***"),
            ("https://api.hyperliquid.xyz/info", "https://api.hyperliquid.xyz/info"),
            ("the bearer of bad news", "the bearer of bad news"),
            ("hyperliquid/l2Book/BTC, coin @107 ://", "hyperliquid/l2Book/BTC, coin @107 ://"),
        ],
    )
    def test_text(self, text, masked):
        assert mask_secrets(text) == masked

    @pytest.mark.parametrize(
        "key",
        [
            "token",
            "api_token",
            "API-Token",
            "accessToken",
            "password",
            "db_password",
            "authorization",
            "api_key",
            "Cookie",
            "client_secret",
        ],
    )
    def test_fields_by_name_at_any_depth(self, key):
        event = mask_event(None, "info", {"event": "x", key: "hunter2", "deep": [{"in": {key: "hunter2"}}]})
        assert "hunter2" not in json.dumps(event)
        assert event[key] == "***"

    @pytest.mark.parametrize(
        ("key", "value"), [("feeToken", "USDC"), ("tokens", 3), ("token", None), ("has_token", True)]
    )
    def test_what_only_sounds_like_a_secret_stays(self, key, value):
        assert mask_event(None, "info", {key: value})[key] == value

    def test_through_the_whole_chain(self, stream):
        configure_logging(log_format="json", stream=stream)
        structlog.get_logger("x").info(
            "connecting",
            uri="mongodb://u:hunter2@h",
            headers={"Authorization": "Bearer hunter2hunter2"},
            error=ConnectionError("https://u:hunter2@h refused"),
            raw=b"password=hunter2",
        )
        assert "hunter2" not in stream.getvalue()
        assert lines(stream)[0]["error"] == "https://***@h refused"

    def test_text_from_outside_cannot_steer_the_terminal(self, stream):
        configure_logging(log_format="console", stream=stream)
        structlog.get_logger("x").info("refused", text="\x1b]0;owned\x07\x1b[2Jhello\r\x9b31m")
        assert not any(character in stream.getvalue() for character in "\x1b\x07\r\x9b")
        assert "hello" in stream.getvalue()

    def test_huge_and_odd_values_are_cut_and_still_json(self, stream):
        configure_logging(log_format="json", stream=stream)
        loop: list = []
        loop.append(loop)
        structlog.get_logger("x").info(
            "odd",
            text="a" * 1_000_000,
            nan=float("nan"),
            surrogate="\ud800",
            loop=loop,
            keys={1: {2, 3}},
            thing=object,
        )
        (line,) = lines(stream)
        assert len(line["text"]) < LONGEST_TEXT + 100
        assert line["nan"] == "nan"
        assert line["keys"] == {"1": [2, 3]}

    @given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats() | st.text() | st.binary(), st.lists)))
    def test_any_event_becomes_strict_json(self, event):
        json.dumps(mask_event(None, "info", dict(event)), allow_nan=False)


class TestRepeatLimiter:
    def test_once_per_interval_with_a_count(self):
        clock = ManualClock()
        limiter = RepeatLimiter(clock, interval_s=30)
        assert [limiter.allow("a") for _ in range(3)] == [0, None, None]
        assert limiter.allow("b") == 0
        clock.advance(29.9)
        assert limiter.allow("a") is None
        clock.advance(0.2)
        assert limiter.allow("a") == 3
        assert limiter.allow("a") is None

    def test_a_jump_of_the_wall_clock_changes_nothing(self):
        clock = ManualClock()
        limiter = RepeatLimiter(clock, interval_s=30)
        limiter.allow("a")
        clock.jump(3600)
        assert limiter.allow("a") is None

    def test_memory_is_bounded(self):
        limiter = RepeatLimiter(ManualClock(), interval_s=30)
        for number in range(3 * MOST_KEYS):
            limiter.allow(number)
        assert len(limiter._seen) == MOST_KEYS
        assert limiter.allow(3 * MOST_KEYS - 1) is None
        assert limiter.allow(0) == 0

    def test_logging_through_it(self, stream):
        configure_logging(log_format="json", stream=stream)
        clock = ManualClock()
        limiter = RepeatLimiter(clock, interval_s=30)
        log = structlog.get_logger("x")
        assert limiter.log(log, "warning", "refused", key=("refused", "a"), user="a")
        assert not limiter.log(log, "warning", "refused", key=("refused", "a"), user="a")
        assert limiter.log(log, "warning", "refused", key=("refused", "b"), user="b")
        clock.advance(31)
        assert limiter.log(log, "error", "refused", key=("refused", "a"), user="a")
        assert [line.get("repeats_held_back") for line in lines(stream)] == [None, None, 1]
        assert lines(stream)[2]["level"] == "error"
