"""Where the recorded messages of Hyperliquid lie (beside the repository, never in it), and how to read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "hyperliquid" / "recorded"

SESSIONS = {
    "no balance": "gareth_webSocketDataSample_1-webData2-ZeroBalance-all.json",
    "perp balance": "gareth_webSocketDataSample_2-webData2-perpBalance-all.json",
    "open position": "gareth_webSocketDataSample_4-webData2-openPosition-all.json",
    "closed position": "gareth_webSocketDataSample_5-webData2-closePosition-all.json",
}

needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason=f"the recordings are not here: no directory {RECORDED.name} beside the repository"
)


def recorded_json(name: str) -> Any:
    return json.loads((RECORDED / name).read_bytes())


def recorded_lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (RECORDED / name).read_text().splitlines()]


def recorded_frames() -> list[tuple[str, bytes]]:
    """(file, frame) of every recorded WebSocket frame, as compact JSON."""
    frames: list[tuple[str, Any]] = []
    for path in sorted(RECORDED.glob("gareth_webSocketDataSample_*webData2*.json")):
        frames += [(path.name, frame) for frame in recorded_json(path.name)]
    for path in sorted(RECORDED.glob("*_ws_*.jsonl")):
        frames += [(path.name, line.get("msg", line)) for line in recorded_lines(path.name)]
    return [(name, json.dumps(frame, separators=(",", ":")).encode()) for name, frame in frames]


def frame(channel: str, data: Any) -> bytes:
    return json.dumps({"channel": channel, "data": data}, separators=(",", ":")).encode()
