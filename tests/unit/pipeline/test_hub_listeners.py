"""Listeners get every change right away; one that fails is let go."""

from __future__ import annotations

from structlog.testing import capture_logs

from src.models.changes import OrderLink
from src.models.metrics import TASK_FAILURES, Metrics
from src.pipeline.hub import Hub

CHANGES = [OrderLink("hyperliquid", "0x", 1, replaced_by=2)]


def test_every_listener_gets_the_changes_in_order_of_joining():
    hub, heard = Hub(metrics=Metrics()), []
    hub.listen("first", lambda changes: heard.append(("first", changes)))
    hub.listen("second", lambda changes: heard.append(("second", changes)))
    hub.publish(CHANGES)
    assert heard == [("first", CHANGES), ("second", CHANGES)]


def test_nobody_listening_is_fine():
    Hub(metrics=Metrics()).publish(CHANGES)


def test_a_listener_that_raises_is_removed_and_costs_the_others_nothing():
    metrics = Metrics()
    hub, heard = Hub(metrics=metrics), []

    def broken(_changes):
        heard.append("broken")
        raise RuntimeError("no")

    hub.listen("broken", broken)
    hub.listen("sound", lambda _changes: heard.append("sound"))
    with capture_logs() as logs:
        hub.publish(CHANGES)
        hub.publish(CHANGES)
    assert heard == ["broken", "sound", "sound"]
    assert metrics.by_label(TASK_FAILURES) == {("listener:broken",): 1}
    assert [entry["event"] for entry in logs] == ["listener_removed"]


def test_a_listener_may_join_while_changes_are_told():
    hub, heard = Hub(metrics=Metrics()), []
    hub.listen("first", lambda _changes: hub.listen("late", heard.append))
    hub.publish(CHANGES)
    assert heard == []
    hub.publish(CHANGES)
    assert heard == [CHANGES]
