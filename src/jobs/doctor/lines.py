"""The form of a check's result."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from src.logs import mask_secrets

NAME_WIDTH = 12


class CheckLine(Struct, frozen=True):
    """What one check found; ``remedy`` says what to do about a ``warn`` or ``FAIL``."""

    name: str
    state: Literal["ok", "warn", "FAIL", "skip"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """As in ``FAIL mongodb      no answer  -> start it``; secrets are masked."""
        head = f"{self.state:<4} {self.name:<{NAME_WIDTH}} {self.text}"
        return mask_secrets(f"{head}  -> {self.remedy}" if self.remedy else head)


def clock_line(name: str, whose: str, offset_ms: float, *, warn_above_ms: float, remedy: str) -> CheckLine:
    """A line about another clock, ``offset_ms`` ahead of ours (negative = behind)."""
    shown = f"{whose} is {abs(offset_ms) / 1000:.1f} s {'ahead of' if offset_ms > 0 else 'behind'} this machine"
    if abs(offset_ms) > warn_above_ms:
        return CheckLine(name, "warn", shown, remedy)
    return CheckLine(name, "ok", f"within {max(1.0, abs(offset_ms)):.0f} ms of {whose}")
