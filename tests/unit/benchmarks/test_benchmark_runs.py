"""Every benchmark runs in a tiny form and does the work that it times. No figure is held against anything here."""

import re

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import (
    changed_message,
    collector_load,
    decoding,
    flush_speed,
    following,
    journal_speed,
    order_memory,
    stockbit_book,
    trader_scaling,
    unchanged_message,
)
from benchmarks.rows import Effort, Goal, MeasureError, Row, spread
from src.models.writes import Upsert


@pytest.mark.parametrize("module", [changed_message, unchanged_message])
def test_decoding_is_compared_with_the_json_parser_on_the_same_messages(module):
    judged = [row for row in module.measure(Effort.TINY) if row.goal is not None]
    assert judged
    for row in judged:
        assert row.peer == "json.loads"
        assert 0 < row.ratio.low <= row.ratio.median <= row.ratio.high
        assert row.value.median < row.peer_value.high * row.ratio.high * 1.01
        assert re.search(r"1\d\d,\d\d\d bytes, 40 orders, 12 positions", row.note)


def test_a_side_of_an_order_book_is_timed_as_it_follows_others_and_afresh():
    live, afresh, compared = stockbit_book.measure(Effort.TINY)
    assert live.goal == Goal(50.0)
    assert 0 < live.value.low <= afresh.value.high
    assert compared.peer_value.low > 0
    assert "60 levels" in live.note


def test_a_mapper_that_finds_no_change_is_not_timed(monkeypatch):
    monkeypatch.setattr(decoding.Collected, "take", lambda *_: None)
    with pytest.raises(MeasureError, match="0 order changes"):
        changed_message.measure(Effort.TINY)


def test_a_change_where_there_is_none_is_an_error_too(monkeypatch):
    take = decoding.Collected.take

    def twice(collected, frame):
        take(collected, frame)
        collected.order_changes += 1

    monkeypatch.setattr(decoding.Collected, "take", twice)
    with pytest.raises(MeasureError):
        unchanged_message.measure(Effort.TINY)


def test_memory_is_counted_per_tracked_order():
    assert order_memory.asked_per_order(200) == pytest.approx(order_memory.asked_per_order(1_000), rel=0.25)
    [row] = order_memory.measure(Effort.TINY)
    assert row.unit == "bytes"
    assert row.value.median > 100  # an order's texts alone are longer


def test_orders_that_are_not_tracked_are_not_counted(monkeypatch):
    monkeypatch.setattr(order_memory.Diff, "apply", lambda *_: [])
    with pytest.raises(MeasureError, match="0 of 200"):
        order_memory.asked_per_order(200)


def test_traders_are_looked_at_in_turn_and_each_look_finds_its_change(monkeypatch):
    crowd = trader_scaling.Crowd(3)
    assert crowd.spend_us(7) > 0
    assert crowd.spend_us(2) > 0
    seen = []
    monkeypatch.setattr(crowd, "_take", lambda frame: seen.append(frame) or [])
    with pytest.raises(MeasureError, match="0 changed orders in 3 looks"):
        crowd.spend_us(3)
    assert [frame[:25] for frame in seen[:2]] == [b'{"channel":"openOrders","', b'{"channel":"clearinghouse']
    assert len({frame.split(b'"user":"')[1][:42] for frame in seen}) == 3


def test_scaling_compares_many_traders_with_few():
    [row] = trader_scaling.measure(Effort.TINY)
    assert (row.peer, row.name) == ("2 traders", "CPU per message, 4 traders")
    assert row.ratio.low > 0


def test_both_sides_of_the_flush_get_the_same_operations():
    [upsert] = flush_speed.order_upserts(5, 1, 2)
    assert isinstance(upsert, Upsert)
    operation = flush_speed._operation(upsert)
    assert operation._filter == {"_id": upsert.id, "revision": {"$not": {"$gte": 2}}}
    assert operation._doc["$set"] == {**upsert.values, "revision": 2}
    assert operation._doc["$setOnInsert"] == upsert.on_insert


@pytest.mark.integration
def test_flush_speed_stores_on_both_sides(mongod_binary):
    rows = flush_speed.measure(Effort.TINY)
    assert [row.name for row in rows] == ["flush of 500 new orders", "flush of 500 changed orders"]
    assert all(row.value.median > 0 and row.ratio.median > 0 for row in rows)


@pytest.mark.integration
def test_journal_speed_appends_opens_and_drains(mongod_binary):
    encoded, written, opened, drained = journal_speed.measure(Effort.TINY)
    assert encoded.ratio.median > 1
    assert written.ratio.median > 1
    assert opened.value.median > 0
    assert drained.value.median > 0
    assert "MiB" in opened.name


@pytest.mark.integration
@pytest.mark.slow
def test_under_load_everything_the_venue_sent_is_stored(mongod_binary):
    row, *others = collector_load.measure(Effort.TINY)
    assert row.holds
    assert [name for name, held in row.holds.items() if not held] == []
    assert any(re.fullmatch(r"frames sent \d\d+ = received \d\d+", name) for name in row.holds)
    assert {other.unit for other in others} == {"% of a core", "MB"}


def run(*arguments):
    app = Typer()
    app.command()(command.run)
    return CliRunner().invoke(app, arguments)


def test_the_command_prints_one_table_and_fails_when_a_goal_is_missed(monkeypatch, tmp_path):
    efforts = []

    def measure(effort):
        efforts.append(effort)
        return [Row("something", spread([2.0]), "µs", goal=Goal(1.0))]

    monkeypatch.setattr(command, "MEASURES", {"one": measure, "two": measure})
    result = run("--quick", "--only", "two", "--json", str(tmp_path / "rows.json"))
    assert result.exit_code == command.EXIT_MISSED
    assert efforts == [Effort.QUICK]
    assert result.output.count("something") == 1
    assert (tmp_path / "rows.json").exists()
    assert run().exit_code == command.EXIT_MISSED
    assert efforts[1:] == [Effort.FULL, Effort.FULL]


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--only", "nothing"], "changed-message"), (["--json", "/nowhere/at/all"], "directory")]
)
def test_a_wrong_option_is_refused_before_anything_is_measured(arguments, told):
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_order_changes_are_what_the_decoding_measure_counts():
    collected = decoding.Collected()
    session = decoding.legacy_session(orders=3, positions=1)
    collected.take(session.voice.same())
    assert collected.order_changes == 3
    collected.take(session.voice.changed())
    assert collected.order_changes == 4


def test_following_measures_every_way_and_what_ten_subscriptions_miss():
    rows = following.measure(Effort.TINY)
    assert len(rows) == len(following.CASES)
    for row in rows:
        assert all(row.holds.values()), row
        assert row.value.median > 0
        assert re.search(r"of \d[\d,]* order events seen", row.note)
    shares = [float(re.search(r"([\d.]+)% of", row.note)[1]) for row in rows]
    assert shares[0] > shares[-1]  # thirty by turns against ten live


def test_following_nobody_is_no_figure(monkeypatch):
    async def blind(*_):
        return following.Seen([], 0.0, 1, 0.0, 0, 0)

    monkeypatch.setattr(following, "_live", blind)
    with pytest.raises(MeasureError, match="nobody"):
        following.measure(Effort.TINY)
