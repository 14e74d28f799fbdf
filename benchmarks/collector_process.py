"""The real program with the venue's limit of subscriptions lifted.

500 traders with three feeds each and 50 books are 1,550 subscriptions; the venue allows 1,000 per address, and the
program keeps to that. The limit is the only thing that is different here.
"""

from __future__ import annotations

from src.venues.hyperliquid import feed

UNLIMITED = 100_000


def run() -> None:
    feed.MAX_SUBSCRIPTIONS = UNLIMITED
    from src.main import app  # noqa: PLC0415 - after the limit is lifted

    app()


if __name__ == "__main__":
    run()
