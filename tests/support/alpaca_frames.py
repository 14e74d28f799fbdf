"""Frames and messages of Alpaca's stream for tests, and the samples its vendor prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.venues.alpaca.mapper import AlpacaMapper
from src.venues.alpaca.simulator.frames import Ns, encode
from src.venues.alpaca.times import time_ns

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "alpaca" / "recorded"
RECEIVED_MS = 1_765_553_446_000
TRADE_TIME = "2025-12-12T15:30:45.123456789Z"

TRADE: dict[str, Any] = {
    "T": "t", "S": "AAPL", "i": 1001, "x": "V", "p": 230.15, "s": 100, "c": ["@"], "t": TRADE_TIME, "z": "C",
}  # fmt: skip
CORRECTION: dict[str, Any] = {
    "T": "c", "S": "AAPL", "x": "V", "oi": 1001, "op": 230.15, "os": 100, "oc": ["@"],
    "ci": 1002, "cp": 230.25, "cs": 90, "cc": ["@", "I"], "t": "2025-12-12T15:31:00Z", "z": "C",
}  # fmt: skip
CANCEL: dict[str, Any] = {
    "T": "x", "S": "AAPL", "i": 1001, "x": "V", "p": 230.15, "s": 100, "a": "C", "t": "2025-12-12T15:31:02.004Z", "z": "C",
}  # fmt: skip
QUOTE: dict[str, Any] = {
    "T": "q", "S": "AAPL", "bx": "Q", "bp": 230.14, "bs": 3, "ax": "V", "ap": 230.16, "as": 1, "c": ["R"],
    "t": "2025-12-12T15:30:45.1234571Z", "z": "C",
}  # fmt: skip


def frame(*messages: dict[str, Any], encoding: str = "json") -> str | bytes:
    """An array in either encoding, with times in their form."""
    timed = [
        {name: Ns(time_ns(value)) if name == "t" and isinstance(value, str) else value for name, value in one.items()}
        for one in messages
    ]
    encoded = encode(timed, encoding)
    return encoded.encode() if isinstance(encoded, str) else encoded


def decoded(*messages: dict[str, Any], encoding: str = "json", mapper: AlpacaMapper | None = None) -> Any:
    return (mapper or AlpacaMapper()).decode(frame(*messages, encoding=encoding), RECEIVED_MS)


def only(*messages: dict[str, Any], encoding: str = "json") -> Any:
    """The one message a frame says."""
    (message,) = decoded(*messages, encoding=encoding).messages
    return message


def recorded_stream() -> list[dict[str, Any]]:
    """What the vendor's documentation prints of the stream; skips where the samples are not at hand."""
    path = RECORDED / "stream_vendor_doc_sessions.jsonl"
    if not path.exists():
        pytest.skip(f"the recorded samples are not at {path}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def recorded_pages() -> list[dict[str, Any]]:
    """Answers of the REST history with lists of trades."""
    path = RECORDED / "rest_stock_responses.jsonl"
    if not path.exists():
        pytest.skip(f"the recorded samples are not at {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["response"] for row in rows if row["kind"] == "trades" and "next_page_token" in row["response"]]


def recorded_snapshots() -> list[dict[str, Any]]:
    path = RECORDED / "rest_stock_responses.jsonl"
    if not path.exists():
        pytest.skip(f"the recorded samples are not at {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["response"] for row in rows if row["kind"] == "snapshots"]


PRINTED_GREETING = bytes.fromhex("9182a154a773756363657373a36d7367a9636f6e6e6563746564")
"""``connected`` in MessagePack, as the protocol's description prints it."""
