"""What a journal still holds although another collector has written since: the newer word stays.

A collector that was replaced while MongoDB did not take its changes keeps them in its journal. What happened to an
order or position that the other one has not described since is history worth having. Where it has, older changes with
higher revisions must not be put on top. Changes whose revision is stored already change nothing and may pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from src.models.changes import Change, OrderChange, PositionChange, PositionMarks
from src.models.metrics import MESSAGES_DROPPED, Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_ms
from src.pipeline.identities import order_id, position_id
from src.store.base import Store
from src.store.by_id import find_by_id

log = structlog.get_logger(__name__)


class SupersededSieve:
    """Leaves out changes of orders and positions of which a later state is stored, and all that follow them.

    Later is told by ``receivedAt``, so the clocks of the two machines have to agree as well as they do elsewhere.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._outdated: set[str] = set()

    async def __call__(self, changes: Sequence[Change]) -> list[Change]:
        """The changes that may still be stored, in their order.

        Raises:
            StoreError: MongoDB does not answer.
        """
        orders = {_identity(change) for change in changes if isinstance(change, OrderChange)}
        positions = {_identity(change) for change in changes if isinstance(change, PositionChange | PositionMarks)}
        stored = await _states(self._store, Collection.TRADER_ORDERS, sorted(orders))
        stored |= await _states(self._store, Collection.TRADER_POSITIONS, sorted(positions))
        kept = [change for change in changes if self._is_current(change, stored)]
        if dropped := len(changes) - len(kept):
            self._metrics.add(MESSAGES_DROPPED, "change", "superseded", amount=dropped)
            log.info(
                "journal_superseded", changes=dropped, why="another collector has stored later states of the same"
            )
        return kept

    def _is_current(self, change: Change, stored: Mapping[str, _Stored]) -> bool:
        if not isinstance(change, OrderChange | PositionChange | PositionMarks):
            return True
        identity = _identity(change)
        state = stored.get(identity)
        if state is not None and change.revision > state.revision and state.received_ms > change.received_ms:
            self._outdated.add(identity)
        return identity not in self._outdated


def _identity(change: OrderChange | PositionChange | PositionMarks) -> str:
    """The ``_id`` of the state; those of orders and of positions never look alike."""
    if isinstance(change, OrderChange):
        return order_id(change.trader, change.order.oid)
    return position_id(change.trader, change.dex, change.position.coin)


class _Stored(NamedTuple):
    revision: int
    received_ms: int


async def _states(store: Store, collection: Collection, identities: Sequence[str]) -> dict[str, _Stored]:
    states: dict[str, _Stored] = {}
    async for state in find_by_id(store, collection, identities, ("_id", "revision", "receivedAt")):
        states[state["_id"]] = _Stored(state["revision"], to_ms(state["receivedAt"]) or 0)
    return states
