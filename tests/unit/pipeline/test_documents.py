"""Changes as stored documents: names and types are a contract with users' queries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from src.models.changes import (
    OrderChange,
    OrderLink,
    PositionChange,
    PositionMarks,
)
from src.models.positions import CumFunding, Leverage, Position
from src.models.writes import Collection, Insert, Patch, Upsert
from src.pipeline import documents as d
from src.pipeline import stored_documents as stored
from tests.support.trader_states import TRADER, a_position, an_order

VENUE_MS = 1_791_280_000_123
RECEIVED_MS = 1_791_280_001_456
VENUE_DATE = datetime(2026, 10, 6, 9, 46, 40, 123_000, tzinfo=UTC)
RECEIVED_DATE = datetime(2026, 10, 6, 9, 46, 41, 456_000, tzinfo=UTC)


def order_change(**fields) -> OrderChange:
    known = {
        "venue": "hyperliquid",
        "trader": TRADER,
        "dex": "",
        "action": "new",
        "order": an_order(566617880209, cloid="0x01", timestamp=VENUE_MS),
        "revision": 1,
        "changes": {},
        "venue_ms": None,
        "received_ms": RECEIVED_MS,
    }
    return OrderChange(**{**known, **fields})


def position_change(**fields) -> PositionChange:
    known = {
        "venue": "hyperliquid",
        "trader": TRADER,
        "dex": "xyz",
        "action": "new",
        "kind": "open",
        "position": a_position(
            "xyz:TSLA",
            "-0.4",
            positionValue="34500.0",
            unrealizedPnl="-60.0",
            returnOnEquity="-0.03",
            liquidationPx=None,
            marginUsed="1725.0",
            cumFunding=CumFunding("12.5", "-0.41", None),
        ),
        "revision": 1,
        "changes": {},
        "venue_ms": VENUE_MS,
        "received_ms": RECEIVED_MS,
    }
    return PositionChange(**{**known, **fields})


def types(document) -> dict[str, type]:
    return {name: type(value) for name, value in document.items()}


# -- times and numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_ms", "date"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (VENUE_MS, VENUE_DATE),
        (253_402_300_799_999, datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_are_utc_dates_to_the_millisecond_and_back(time_ms, date):
    assert d.to_date(time_ms) == date
    assert d.to_ms(date) == time_ms


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("84000.0", 84000.0),
        ("-0.5", -0.5),
        ("0.00001", 1e-05),
        (None, None),
        ("NaN", None),
        ("inf", None),
        ("9" * 400, None),
        ("", None),
        ("one", None),
    ],
)
def test_decimals_are_finite_doubles_or_nothing(text, number):
    assert d.to_double(text) == number


# -- orders --------------------------------------------------------------------------------------------------------


def test_a_new_order_is_an_event_and_a_state():
    event, state = d.writes_of_order(order_change())
    assert isinstance(event, Insert)
    assert event.collection is Collection.TRADER_ORDER_EVENTS
    assert event.document == {
        "_id": f"{TRADER}:566617880209:1",
        "ethAddress": TRADER,
        "dex": "",
        "oid": 566617880209,
        "coin": "BTC",
        "side": "B",
        "limitPx": 84000.0,
        "sz": 0.2,
        "origSz": 0.2,
        "orderType": "Limit",
        "tif": "Gtc",
        "timestamp": VENUE_DATE,
        "cloid": "0x01",
        "reduceOnly": False,
        "isTrigger": False,
        "triggerPx": 0.0,
        "triggerCondition": "N/A",
        "isPositionTpsl": False,
        "parentOid": None,
        "status": "open",
        "action": "new",
        "revision": 1,
        "receivedAt": RECEIVED_DATE,
        "changes": {},
        "venueTime": None,
    }
    assert isinstance(state, Upsert)
    assert (state.collection, state.id) == (Collection.TRADER_ORDERS, f"{TRADER}:566617880209")
    assert (state.version_field, state.version) == ("revision", 1)
    assert state.on_insert == {"createdAt": RECEIVED_DATE}


def test_an_orders_document_has_the_fields_and_types_users_rely_on():
    _, state = d.writes_of_order(order_change(order=an_order(7, parentOid=6, cloid="0x01"), venue_ms=VENUE_MS))
    found = types({**state.on_insert, **state.values})
    assert found == {
        "ethAddress": str,
        "oid": int,
        "coin": str,
        "side": str,
        "limitPx": float,
        "sz": float,
        "origSz": float,
        "orderType": str,
        "tif": str,
        "status": str,
        "action": str,
        "timestamp": datetime,
        "createdAt": datetime,
        "updatedAt": datetime,
        "receivedAt": datetime,
        "revision": int,
        "cloid": str,
        "reduceOnly": bool,
        "isTrigger": bool,
        "triggerPx": float,
        "triggerCondition": str,
        "isPositionTpsl": bool,
        "dex": str,
        "parentOid": int,
    }


def test_a_closed_order_tells_when_how_seen_and_that_the_reason_is_not_known_yet():
    change = order_change(action="closed", revision=2, observed="live", venue_ms=VENUE_MS, replaced_by=8)
    event, state = d.writes_of_order(change)
    assert (event.document["status"], event.document["closeObserved"], event.document["replacedBy"]) == (
        "closed",
        "live",
        8,
    )
    assert event.document["venueTime"] == VENUE_DATE
    assert state.values["closedAt"] == VENUE_DATE
    assert state.values["updatedAt"] == RECEIVED_DATE
    assert state.values["closeReason"] == "unknown"
    assert state.values["closeObserved"] == "live"


def test_without_a_venue_time_an_order_closed_when_we_learned_of_it():
    _, state = d.writes_of_order(order_change(action="closed", observed="late"))
    assert state.values["closedAt"] == RECEIVED_DATE


def test_an_updated_order_says_nothing_about_closing():
    event, state = d.writes_of_order(
        order_change(action="updated", revision=2, changes={"sz": {"from": 0.2, "to": 0.1}})
    )
    assert event.document["changes"] == {"sz": {"from": 0.2, "to": 0.1}}
    assert not {"closedAt", "closeReason", "closeObserved", "changes", "venueTime", "_id"} & set(state.values)


def test_a_reopened_order_loses_its_closing_fields():
    _, state = d.writes_of_order(order_change(action="updated", revision=3, reopened=True))
    assert (state.values["status"], state.values["closedAt"], state.values["closeReason"]) == ("open", None, None)
    assert state.values["closeObserved"] is None


def test_an_orders_state_never_forgets_its_parent():
    order = an_order(7, parentOid=None)
    activated = {"parentOid": {"from": 6, "to": None}}
    _, state = d.writes_of_order(order_change(action="updated", order=order, changes=activated))
    assert "parentOid" not in state.values
    assert state.values["activated"] is True
    event, state = d.writes_of_order(order_change(action="closed", order=order))
    assert "parentOid" not in state.values
    assert "activated" not in state.values
    assert event.document["parentOid"] is None


def test_an_order_of_few_fields_has_nulls_where_the_venue_says_nothing():
    from src.models.orders import Order

    event, _ = d.writes_of_order(order_change(order=Order(7, "BTC", "B", "1.0", "2.0")))
    missing = {"origSz", "orderType", "tif", "timestamp", "cloid", "reduceOnly", "triggerPx", "isTrigger"}
    assert {name for name in missing if event.document[name] is None} == missing


def test_a_link_is_set_on_the_existing_order_only():
    assert d.write_of_link(OrderLink("hyperliquid", TRADER, 7, replaced_by=8)) == Patch(
        Collection.TRADER_ORDERS, f"{TRADER}:7", {"replacedBy": 8}
    )
    assert d.write_of_link(OrderLink("hyperliquid", TRADER, 8, replaces=7)).values == {"replaces": 7}


@pytest.mark.parametrize(
    "order",
    [
        an_order(566617880209, cloid="0x01"),
        an_order(1, sz="0.00001", limitPx="3155203.7660619998", triggerPx=None),
        an_order(2, sz="0.0", origSz="0.0", timestamp=None, parentOid=1),
    ],
)
def test_an_order_is_read_back_as_the_same_order(order):
    from src.pipeline.orders import changed_fields

    event, state = d.writes_of_order(order_change(order=order))
    for document in (event.document, {**state.values, **state.on_insert}):
        assert changed_fields(stored.order_of_document(document), order) == {}


# -- positions -----------------------------------------------------------------------------------------------------


def test_a_new_position_is_an_event_and_a_state():
    event, state = d.writes_of_position(position_change())
    assert event.document == {
        "_id": f"{TRADER}:xyz:xyz:TSLA:1",
        "ethAddress": TRADER,
        "dex": "xyz",
        "coin": "xyz:TSLA",
        "szi": -0.4,
        "side": "short",
        "entryPx": 86100.0,
        "leverage": {"type": "cross", "value": 20},
        "maxLeverage": 40,
        "positionValue": 34500.0,
        "unrealizedPnl": -60.0,
        "returnOnEquity": -0.03,
        "liquidationPx": None,
        "marginUsed": 1725.0,
        "cumFunding": {"allTime": 12.5, "sinceOpen": -0.41, "sinceChange": None},
        "status": "open",
        "action": "new",
        "kind": "open",
        "revision": 1,
        "timestamp": VENUE_DATE,
        "receivedAt": RECEIVED_DATE,
        "changes": {},
    }
    assert (state.collection, state.id) == (Collection.TRADER_POSITIONS, f"{TRADER}:xyz:xyz:TSLA")
    assert state.values["openedAt"] == VENUE_DATE
    assert (state.values["closedAt"], state.values["closeObserved"]) == (None, None)
    assert state.on_insert == {"createdAt": RECEIVED_DATE}
    assert (state.version_field, state.version) == ("revision", 1)


def test_a_positions_document_has_the_fields_users_rely_on():
    _, state = d.writes_of_position(position_change(action="closed", kind="close", observed="live", revision=2))
    assert {
        "ethAddress", "dex", "coin", "szi", "side", "entryPx", "positionValue", "unrealizedPnl", "returnOnEquity",
        "liquidationPx", "marginUsed", "leverage", "maxLeverage", "cumFunding", "status", "action", "revision", "timestamp",
        "receivedAt", "createdAt", "updatedAt", "closedAt",
    } <= {*state.values, *state.on_insert}  # fmt: skip


def test_a_closed_position_has_no_size_and_keeps_its_side():
    event, state = d.writes_of_position(position_change(action="closed", kind="close", observed="late", revision=2))
    for document in (event.document, state.values):
        assert (document["szi"], document["side"], document["status"]) == (0.0, "short", "closed")
        assert document["closeObserved"] == "late"
    assert state.values["closedAt"] == VENUE_DATE
    assert "openedAt" not in state.values


@pytest.mark.parametrize(("size", "side"), [("0.1", "long"), ("-0.1", "short")])
def test_the_side_follows_the_size(size, side):
    event, _ = d.writes_of_position(position_change(position=a_position(szi=size)))
    assert event.document["side"] == side


def test_marks_are_set_only_while_the_position_has_not_changed():
    marks = PositionMarks(
        "hyperliquid", TRADER, "", a_position(unrealizedPnl="NaN", marginUsed="2.0"), 3, None, RECEIVED_MS
    )
    patch = d.write_of_marks(marks)
    assert (patch.collection, patch.id, patch.guard) == (
        Collection.TRADER_POSITIONS,
        f"{TRADER}::BTC",
        {"revision": 3},
    )
    assert patch.values["unrealizedPnl"] is None
    assert patch.values["marginUsed"] == 2.0
    assert patch.values["timestamp"] == patch.values["receivedAt"] == RECEIVED_DATE
    assert not {"szi", "entryPx", "leverage", "revision", "status"} & set(patch.values)


@pytest.mark.parametrize(
    "position",
    [
        position_change().position,
        Position("BTC", "1e-05", None, None),
        a_position(leverage=Leverage("isolated", 3, "27985.6"), liquidationPx="5.5"),
    ],
)
def test_a_position_is_read_back_as_the_same_position(position):
    from src.pipeline.positions import _changed_fields

    _, state = d.writes_of_position(position_change(position=position))
    read = stored.position_of_document(state.values)
    assert _changed_fields(read, position) == {}
    assert (
        d.writes_of_position(position_change(position=read))[0].document
        == d.writes_of_position(position_change(position=position))[0].document
    )


# -- events back into states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        order_change(),
        order_change(replaces=3, venue_ms=VENUE_MS),
        order_change(action="updated", revision=2, changes={"sz": {"from": 0.2, "to": 0.1}}),
        order_change(action="updated", revision=2, changes={"parentOid": {"from": 6, "to": None}}),
        order_change(action="updated", revision=2, order=an_order(7, parentOid=6)),
        order_change(action="closed", revision=2, observed="live", venue_ms=VENUE_MS, replaced_by=8),
        order_change(action="closed", revision=2, observed="late"),
        order_change(
            action="updated", revision=3, reopened=True, changes={"status": {"from": "closed", "to": "open"}}
        ),
    ],
)
def test_the_event_of_an_order_leads_to_the_state_it_was_stored_with(change):
    event, state = d.writes_of_order(change)
    assert stored.upsert_of_events(Collection.TRADER_ORDERS, [event.document]) == state


@pytest.mark.parametrize(
    "change",
    [
        position_change(),
        position_change(venue_ms=None),
        position_change(action="updated", kind="flip", revision=2, changes={"szi": {"from": 0.2, "to": -0.1}}),
        position_change(action="closed", kind="close", revision=2, observed="late"),
        position_change(
            action="closed",
            kind="close",
            revision=2,
            venue_ms=None,
            changes={"status": {"from": "open", "to": "closed"}},
        ),
    ],
)
def test_the_event_of_a_position_leads_to_the_state_it_was_stored_with(change):
    event, state = d.writes_of_position(change)
    assert stored.upsert_of_events(Collection.TRADER_POSITIONS, [event.document]) == state


def test_several_events_lead_to_what_their_states_would_have_led_to():
    changes = [
        order_change(replaces=3),
        order_change(action="closed", revision=2, observed="live"),
        order_change(
            action="updated",
            revision=3,
            reopened=True,
            changes={"status": {"from": "closed", "to": "open"}},
            received_ms=RECEIVED_MS + 5,
        ),
    ]
    events = [d.writes_of_order(change)[0].document for change in changes]
    upsert = stored.upsert_of_events(Collection.TRADER_ORDERS, list(reversed(events)))
    assert (upsert.version, upsert.on_insert) == (3, {"createdAt": RECEIVED_DATE})
    assert (upsert.values["replaces"], upsert.values["status"], upsert.values["closedAt"]) == (3, "open", None)
