"""How much goes wrong in the demo."""

from __future__ import annotations

from enum import StrEnum


class DemoFaults(StrEnum):
    """How much goes wrong in the demo: nothing, a little (so that holes can be seen), or everything, often."""

    NONE = "none"
    SOME = "some"
    MANY = "many"
