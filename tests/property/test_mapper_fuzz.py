"""Whatever arrives: only the wire error leaves the mapper, and what passes it can be stored."""

from __future__ import annotations

import json
from typing import Any

import bson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from src.models.errors import WireError
from src.models.messages import Ack, Data, Ignored, Pong, Refusal
from src.models.metrics import Metrics
from src.models.writes import Insert, Rejected, Upsert
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.store.bulk import encode
from src.venues.hyperliquid.mapper import HyperliquidMapper
from tests.support.hyperliquid_frames import COMPOSED, corpus, damaged_bytes, damaged_trees

FRAMES = corpus()
DAMAGED = st.one_of(damaged_trees(FRAMES), damaged_trees(COMPOSED), damaged_bytes(FRAMES), st.binary(max_size=60))
RECEIVED_MS = 1_791_281_000_000

bounded = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def outcome(mapper: HyperliquidMapper, raw: bytes | str) -> Any:
    try:
        return mapper.decode(raw, RECEIVED_MS)
    except WireError as error:
        return error.reason if error.reason and len(error.detail) <= 300 else error


@bounded
@given(DAMAGED)
@example(b"[]")
@example(b"null")
@example(b'""')
def test_only_the_wire_error_leaves_the_mapper(raw):
    found = outcome(HyperliquidMapper(), raw)
    assert isinstance(found, Data | Ack | Pong | Refusal | Ignored | str)
    text = raw.decode("utf-8", "surrogateescape")
    assert isinstance(outcome(HyperliquidMapper(), text), type(found) | str)


@bounded
@given(st.lists(DAMAGED, min_size=1, max_size=8))
def test_what_was_seen_before_does_not_change_what_a_frame_means(frames):
    warm = HyperliquidMapper()
    for raw in frames:
        assert outcome(warm, raw) == outcome(HyperliquidMapper(), raw)


@bounded
@given(DAMAGED)
def test_leaving_out_the_market_changes_nothing_where_the_whole_frame_is_sound(raw):
    whole = HyperliquidMapper()
    whole._shortened = lambda _frame: None  # type: ignore[method-assign]
    expected = outcome(whole, raw)
    if isinstance(expected, str):
        return  # damage in what is not looked at need not be noticed
    assert outcome(HyperliquidMapper(), raw) == expected


WEB_DATA2 = next(frame["data"] for frame in COMPOSED if frame["channel"] == "webData2")
KEPT = ("user", "serverTime", "clearinghouseState", "openOrders")


@bounded
@given(
    st.permutations(list(WEB_DATA2)),
    st.sets(st.sampled_from(sorted(WEB_DATA2)), max_size=3),
    st.dictionaries(
        st.sampled_from(["leadingVaults", "spotState", "assetCtxs", "cumLedger"]), st.sampled_from(KEPT), max_size=2
    ),
)
def test_the_order_of_the_fields_of_a_legacy_frame_does_not_matter(order, missing, nested):
    data = {name: WEB_DATA2[name] for name in order if name not in missing}
    for outer, kept in nested.items():  # a field of the same name further inside is another field
        if outer in data:
            data[outer] = [{"a": 1, kept: WEB_DATA2[kept], "meta": {"b": 2}, "spotAssetCtxs": [], "z": [1]}]
    raw = json.dumps({"channel": "webData2", "data": data}, separators=(",", ":")).encode()
    whole = HyperliquidMapper()
    whole._shortened = lambda _frame: None  # type: ignore[method-assign]
    assert outcome(HyperliquidMapper(), raw) == outcome(whole, raw)


@bounded
@given(st.lists(DAMAGED, min_size=1, max_size=8))
def test_whatever_the_diff_finds_can_be_stored_or_is_refused(frames):
    mapper, diff, builder = HyperliquidMapper(), Diff(metrics=Metrics()), BatchBuilder(1)
    for raw in frames:
        decoded = outcome(mapper, raw)
        if isinstance(decoded, Data):
            for change in diff.apply(decoded):
                builder.add(change)
    for group in builder.build().groups:
        for write in group:
            encoded = encode(write)
            assert isinstance(encoded, Rejected) or encoded.size_bytes > 0
            if not isinstance(encoded, Rejected) and isinstance(write, Insert | Upsert):
                document = write.document if isinstance(write, Insert) else write.values
                assert bson.decode(bson.encode(document)).keys() == document.keys()
