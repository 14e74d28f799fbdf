"""What the venue's words for the status of an order mean. The list grows; unknown words are told by their suffix.

Words as of August 2026 (info-endpoint page): ``open``, ``triggered`` and ``filled``, a dozen ending in ``Canceled``
or ``Cancel``, and the refusals ending in ``Rejected``.
"""

from __future__ import annotations

LIVE_STATUSES = frozenset({"open", "triggered"})
_ENDS = ("filled", "canceled", "cancel", "rejected")


def is_end(status: str) -> bool:
    """Whether an order with this status is gone; False for a word that nobody knows."""
    return status.lower().endswith(_ENDS)


def is_refusal(status: str) -> bool:
    """Whether the order was refused when it was placed, so that it never lived."""
    return status.lower().endswith("rejected")
