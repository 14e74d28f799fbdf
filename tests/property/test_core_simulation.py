"""Thousands of seeded lives with kills, outages and half-stored batches: every event that was seen exactly once.

``CORE_SEEDS=5000 pytest tests/property/test_core_simulation.py`` tries more; ``CORE_SEED=17`` repeats one.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from structlog.testing import capture_logs

from src.models.writes import Collection
from src.pipeline import flush as flush_module
from src.pipeline import journal as journal_module
from tests.support.core_simulation import Simulation
from tests.support.lifecycle_expectations import assert_state, expected_orders, expected_positions

SEEDS = int(os.environ.get("CORE_SEEDS", "300"))
FIRST_SEED = int(os.environ.get("CORE_SEED", "0"))
STEPS = 80


async def live(seed: int) -> Simulation:
    """One seed from beginning to end, with everything that must hold."""
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        simulation = Simulation(seed, Path(folder))
        await simulation.run(STEPS)
        check(simulation)
        before = everything(simulation)
        await simulation.repeat_everything()
        assert everything(simulation) == before, "storing a second time changed something"
        simulation.journal.close()
    return simulation


def check(simulation: Simulation) -> None:
    orders = simulation.events(Collection.TRADER_ORDER_EVENTS, "oid", "action")
    assert orders == expected_orders(simulation.seen_orders)
    positions = simulation.events(Collection.TRADER_POSITION_EVENTS, "coin", "kind")
    assert positions == expected_positions(simulation.seen_positions)
    assert_state(simulation.store, simulation.exchange)
    for states, events in (
        (Collection.TRADER_ORDERS, orders),
        (Collection.TRADER_POSITIONS, positions),
    ):
        for state in simulation.store.documents(states):
            assert state["revision"] == len(events[state["oid" if states is Collection.TRADER_ORDERS else "coin"]])
    holes = simulation.store.documents(Collection.COVERAGE)
    assert all(hole["to"] is not None and hole["to"] >= hole["from"] for hole in holes)
    assert {hole["stream"] + str(int(hole["from"].timestamp() * 1000)) for hole in holes} >= {
        stream + str(at_ms) for stream, at_ms in simulation.gaps
    }
    assert (len(simulation.pending), simulation.journal.changes) == (0, 0)
    assert simulation.store.documents(Collection.DEAD_LETTERS) == []


def everything(simulation: Simulation) -> dict[str, list[dict[str, object]]]:
    return {name: simulation.store.documents(name) for name in Collection}


def test_every_event_that_was_drained_is_stored_exactly_once_whatever_happens(monkeypatch):
    monkeypatch.setattr(journal_module, "SMALLEST_SEGMENT_BYTES", 2_000)
    monkeypatch.setattr(journal_module.os, "fdatasync", lambda _descriptor: None)
    monkeypatch.setattr(flush_module, "RETRY_CAP_S", 0.0)
    starts = events = 0
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS if "CORE_SEED" not in os.environ else FIRST_SEED + 1):
        try:
            simulation = asyncio.run(live(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}: repeat it with CORE_SEED={seed}")
            raise
        starts += simulation.starts
        events += len(simulation.store.documents(Collection.TRADER_ORDER_EVENTS))
    if SEEDS >= 100 and "CORE_SEED" not in os.environ:
        assert starts > 2 * SEEDS, "hardly anything was killed"
        assert events > 5 * SEEDS, "hardly anything happened"
