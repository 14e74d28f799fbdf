"""What the program says of its health, with venues that are played."""

from types import SimpleNamespace

import pytest

from src.jobs.sources import Sources
from src.jobs.status import START_GRACE_S, ProgramStatus, RunState
from src.models.clock import ManualClock
from src.models.metrics import Metrics


class PlayedSource:
    off = ""

    def __init__(self, venue, *, connection, streams=1):
        self.venue = venue
        self.is_connected = connection == "open"
        self.asked = 0
        self.told = {
            "venue": venue,
            "connections": [{"state": connection}],
            "streams": {f"{venue}/book/{number}": {} for number in range(streams)},
            "states": {"fresh": 1} if streams else {},
        }

    def status(self):
        self.asked += 1
        return self.told


def status_of(*sources, phase="running", age_s=START_GRACE_S + 1):
    clock = ManualClock()
    status = ProgramStatus(
        state=RunState(phase=phase),
        pipeline=None,
        flusher=SimpleNamespace(outage=None),
        diff=None,
        sources=Sources(sources),
        metrics=Metrics(),
        clock=clock,
        version="1",
    )
    clock.advance(age_s)
    return status


def test_each_venue_is_asked_once():
    sources = [PlayedSource("one", connection="open"), PlayedSource("two", connection="closed")]
    health = status_of(*sources).health()
    assert [source.asked for source in sources] == [1, 1]
    assert {check.name: check.ok for check in health.checks if check.name in {"one", "two"}} == {
        "one": True,
        "two": False,
    }
    assert (health.status, health.ready) == ("degraded", True)


@pytest.mark.parametrize(
    ("connection", "streams", "age_s", "answer"),
    [
        ("open", 1, START_GRACE_S + 1, ("ok", True)),
        ("closed", 1, START_GRACE_S + 1, ("down", False)),
        ("closed", 1, START_GRACE_S - 1, ("degraded", True)),
        ("closed", 0, START_GRACE_S + 1, ("ok", True)),
    ],
)
def test_who_hears_nothing_of_what_is_wanted_is_down_after_a_while(connection, streams, age_s, answer):
    health = status_of(PlayedSource("one", connection=connection, streams=streams), age_s=age_s).health()
    assert (health.status, health.ready) == answer


def test_a_standby_asks_no_venue():
    source = PlayedSource("one", connection="closed")
    health = status_of(source, phase="standby").health()
    assert source.asked == 0
    assert [check.name for check in health.checks if not check.ok] == ["program"]
    assert (health.status, health.ready) == ("degraded", False)
