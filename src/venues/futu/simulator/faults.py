"""What a simulated gateway can do wrong; switched at any time."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class GatewayFaults:
    """All off at first.

    Attributes:
        logged_out: the gateway has lost its session with the vendor: no pushes, and it says so when asked.
        refuse_login: text with which InitConnect is refused.
        accept_then_close: new connections are closed at once.
        deaf: nothing is answered or pushed, TCP stays.
        mute: symbols whose books still move but are no longer pushed.
        no_keep_alive: keep-alives are not answered.
        refused: symbols that are refused, with the gateway's words.
        forgetful: symbols whose subscription vanishes right after it was acknowledged.
        slice_bytes: everything is sent in pieces of so many bytes, 0 = whole.
        delay_s: every answer and push waits so long.
        json: bodies are sent as JSON.
        bad_sha1: how many of the next frames carry a wrong hash.
        wrong_magic: how many of the next frames begin with something else than FT.
    """

    logged_out: bool = False
    refuse_login: str = ""
    accept_then_close: bool = False
    deaf: bool = False
    mute: set[str] = field(default_factory=set)
    no_keep_alive: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    forgetful: set[str] = field(default_factory=set)
    slice_bytes: int = 0
    delay_s: float = 0.0
    json: bool = False
    bad_sha1: int = 0
    wrong_magic: int = 0
