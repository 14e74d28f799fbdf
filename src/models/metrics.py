"""Every metric of the program: its name, its help text, its labels. A misspelt name does not type-check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Metric(NamedTuple):
    """A counter (only goes up) or a gauge. ``labels`` are label names in the order of the values given."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", text, labels)


FRAMES_RECEIVED = _counter("frames_received", "Frames that arrived, of any kind.", "venue")
BYTES_RECEIVED = _counter("bytes_received", "Payload bytes that arrived.", "venue")
FRAMES_REJECTED = _counter("frames_rejected", "Frames that could not be used, by reason.", "venue", "reason")
FRAMES_IGNORED = _counter("frames_ignored", "Well-formed frames that are not kept.", "venue", "reason")
REFUSALS = _counter("venue_refusals", "Error frames of a venue, by kind.", "venue", "kind")
CONNECT_ATTEMPTS = _counter("connect_attempts", "WebSocket handshakes started.", "venue")
CONNECTS = _counter("connects", "WebSocket handshakes that succeeded.", "venue")
DISCONNECTS = _counter("disconnects", "Connections lost, by reason.", "venue", "reason")
CONNECTIONS_OPEN = _gauge("connections_open", "Connections open now.", "venue")
SUBSCRIPTIONS = _gauge("subscriptions", "Subscriptions by state.", "venue", "state")
SUBSCRIPTIONS_OVER_LIMIT = _gauge(
    "subscriptions_over_limit", "Subscriptions beyond the limits per address, therefore not sent.", "venue"
)
REST_REQUESTS = _counter("rest_requests", "REST requests, by outcome.", "venue", "outcome")

MESSAGES_BUFFERED = _counter("messages_buffered", "Messages put into the buffer.")
MESSAGES_COALESCED = _counter(
    "messages_coalesced", "Messages replaced by a newer full state because the buffer was full.", "kind"
)
MESSAGES_DROPPED = _counter("messages_dropped", "Messages lost, by reason.", "kind", "reason")
MESSAGES_OUTDATED = _counter("messages_outdated", "Messages older than what was already applied.", "kind")
MESSAGES_HELD = _counter("snapshots_held", "Snapshots not believed until the next one agrees.", "reason")
BUFFER_LENGTH = _gauge("buffer_length", "Messages waiting for the diff.")
ORDER_CHANGES = _counter("order_changes", "Order events found by the diff.", "action")
POSITION_CHANGES = _counter("position_changes", "Position events found by the diff.", "kind")
TRACKED_ORDERS = _gauge("tracked_orders", "Open orders in memory.")
TRACKED_POSITIONS = _gauge("tracked_positions", "Open positions in memory.")

JOURNAL_ERRORS = _counter("journal_errors", "Batches the journal did not take or give back, by reason.", "reason")
JOURNAL_BYTES = _gauge("journal_bytes", "Bytes of changes on disk that wait for MongoDB.")
WRITES_PENDING = _gauge("writes_pending", "Write operations waiting for a flush.")
FLUSHES = _counter("flushes", "Batches acknowledged by MongoDB.")
FLUSH_RETRIES = _counter("flush_retries", "Attempts to store a batch that failed and were repeated.")
DOCUMENTS_INSERTED = _counter("documents_inserted", "Documents that did not exist before.", "collection")
DOCUMENTS_MODIFIED = _counter("documents_modified", "Documents that changed.", "collection")
WRITES_REPEATED = _counter("writes_repeated", "Writes that found their work already done.")
WRITER_LEASE_HELD = _gauge("writer_lease_held", "1 while this collector may write to the database, else 0.")
WRITER_LEASE_RENEWAL_FAILURES = _counter(
    "writer_lease_renewal_failures", "Renewals of the writer's lease that MongoDB did not answer."
)
DEAD_LETTERS = _counter("dead_letters", "Documents or frames put aside, by stage and reason.", "stage", "reason")
TASK_FAILURES = _counter("task_failures", "Supervised tasks that raised.", "task")
EVENT_LOOP_LAG_MS = _gauge("event_loop_lag_ms", "How late the event loop ran its last timer, milliseconds.")

FRAMES_RECORDED = _counter("frames_recorded", "Raw frames handed to the recording.")
RECORDING_DROPPED = _counter("recording_dropped", "Raw frames missing from the recording, by reason.", "reason")
CANDLES_COMPUTED = _counter("candles_computed", "Candles computed anew from stored trades, by interval.", "interval")
CANDLE_FAILURES = _counter("candle_failures", "Passes over the touched candles that failed and are repeated.")
CANDLES_GIVEN_UP = _counter("candles_given_up", "Touched minutes whose trade never appeared in the database.")

REPAIRS = _counter(
    "repairs", "Holes and late closes looked up in the venue's history, by outcome.", "what", "outcome"
)
REPAIRS_DROPPED = _counter(
    "repairs_dropped", "Repairs not made or put off to a later look, by reason.", "what", "reason"
)
REPAIRS_WAITING = _gauge("repairs_waiting", "Holes and late closes waiting to be looked up.")

ALL_METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class Metrics:
    """Plain in-process numbers; the HTTP side turns them into Prometheus text and ``/stats``."""

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, tuple[str, ...]], float] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Increase a counter; ``labels`` in the order in which the metric declares them."""
        key = (metric, labels)
        self._values[key] = self._values.get(key, 0) + amount

    def put(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        self._values[metric, labels] = value

    def value(self, metric: Metric, *labels: str) -> float:
        """Current value, 0 when it was never touched."""
        return self._values.get((metric, labels), 0)

    def total(self, metric: Metric) -> float:
        """Sum over all label values."""
        return sum(v for (m, _), v in self._values.items() if m is metric)

    def by_label(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """Values of one metric keyed by its label values."""
        return {labels: v for (m, labels), v in self._values.items() if m is metric}

    def samples(self) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
        """Everything, for exporters."""
        for (metric, labels), value in list(self._values.items()):
            yield metric, labels, value
