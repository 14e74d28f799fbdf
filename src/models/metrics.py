"""Every metric of the program: its name, its help text, its labels. A misspelt name does not type-check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A counter (only goes up) or a gauge. ``labels`` are label names in the order of the values given.

    Each exists once and is looked up several times for every frame, so its identity is all that is compared.
    """

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
OUTSIDE_BOOKS = _counter("outside_books", "Order books handed in over HTTP, by outcome.", "outcome")
REST_WEIGHT_SPENT = _counter(
    "rest_weight_spent", "Request weight spent at a venue, by address and priority.", "venue", "egress", "priority"
)
REST_WEIGHT_USED = _gauge(
    "rest_weight_used", "Request weight spent in the last minute or set aside for requests.", "venue", "egress"
)
REST_WEIGHT_USABLE = _gauge(
    "rest_weight_usable", "Request weight that may be spent per minute; shrinks after refusals.", "venue", "egress"
)
REST_WAITING = _gauge(
    "rest_waiting", "Requests waiting for the weight budget, by priority.", "venue", "egress", "priority"
)
REST_REFUSALS = _counter("rest_refusals", "REST requests refused as too many (429).", "venue", "egress")

FOLLOWED = _gauge("traders_followed", "Followed traders by how they are seen: live, rotation, poll.", "venue", "mode")
LOOKS = _counter("looks", "Looks at traders who are not live, by mode and outcome.", "venue", "mode", "outcome")
LOOK_AGE = _gauge(
    "look_age_seconds", "Seconds since the last look at those who are not live: p50, p95, max.", "venue", "quantile"
)
LOOK_BOUND = _gauge("look_bound_seconds", "Seconds within which everybody is looked at, as promised.", "venue")
PAST_LOOKS = _counter("past_looks", "Histories taken along by looks, by outcome.", "venue", "channel", "outcome")
LOOKS_LATE = _gauge("looks_late", "Traders not looked at within what was promised.", "venue")

BOOK_ODDITIES = _counter(
    "book_oddities", "Order book messages or parts of them passed over or worth a look, by reason.", "venue", "reason"
)
BOOKS_CROSSED = _gauge(
    "books_crossed", "Order books whose best bid stays at or above the best offer during trading.", "venue"
)

MESSAGES_BUFFERED = _counter("messages_buffered", "Messages put into the buffer.")
MESSAGES_COALESCED = _counter(
    "messages_coalesced", "Messages replaced by a newer full state because the buffer was full.", "kind"
)
MESSAGES_DROPPED = _counter("messages_dropped", "Messages lost, by reason.", "kind", "reason")
MESSAGES_OUTDATED = _counter("messages_outdated", "Messages older than what was already applied.", "kind")
MESSAGES_HELD = _counter("snapshots_held", "Snapshots not believed until the next one agrees.", "reason")
TRADES_AMENDED = _counter(
    "trades_amended", "Trades that a venue corrected or cancelled afterwards, by kind.", "venue", "kind"
)
MOVERS = _gauge("movers", "Stocks subscribed because they rise on high volume.", "venue")
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

GATEWAY_CONNECTIONS = _gauge("gateway_connections", "Clients of the gateway connected now.")
GATEWAY_SUBSCRIPTIONS = _gauge("gateway_subscriptions", "Subscriptions of all clients of the gateway.")
GATEWAY_MESSAGES_SENT = _counter("gateway_messages_sent", "Messages written to clients of the gateway.")
GATEWAY_BYTES_SENT = _counter("gateway_bytes_sent", "Bytes written to clients of the gateway.")
GATEWAY_DROPPED = _counter("gateway_dropped", "Messages clients of the gateway did not get, by reason.", "reason")
GATEWAY_REFUSED = _counter("gateway_refused", "Connections the gateway did not let in, by reason.", "reason")
GATEWAY_CLOSED = _counter("gateway_closed", "Connections the gateway ended, by cause.", "cause")

RELAY_UP = _gauge("relay_up", "1 while live data is shared with other processes through Redis, else 0.")
RELAY_PUBLISHED = _counter("relay_published", "Messages published for other processes.")
RELAY_RECEIVED = _counter("relay_received", "Messages of other processes taken in.")
RELAY_DROPPED = _counter("relay_dropped", "Messages other processes did not get, by reason.", "reason")

FRAMES_RECORDED = _counter("frames_recorded", "Raw frames handed to the recording.")
RECORDING_DROPPED = _counter("recording_dropped", "Raw frames missing from the recording, by reason.", "reason")
CANDLES_COMPUTED = _counter("candles_computed", "Candles computed anew from stored trades, by interval.", "interval")
CANDLE_FAILURES = _counter("candle_failures", "Passes over the touched candles that failed and are repeated.")
CANDLES_GIVEN_UP = _counter("candles_given_up", "Touched minutes whose trade never appeared in the database.")

REPAIRS = _counter("repairs", "Holes and closes looked up in the venue's history, by outcome.", "what", "outcome")
REPAIRS_DROPPED = _counter(
    "repairs_dropped", "Repairs not made or put off to a later look, by reason.", "what", "reason"
)
REPAIRS_WAITING = _gauge("repairs_waiting", "Holes waiting to be looked up.")
CLOSE_REASONS = _counter("close_reasons", "Reasons of closed orders, by what told them.", "venue", "source")
REASONS_WAITING = _gauge("reasons_waiting", "Closed orders waiting for their reason.")

LEADERBOARD_READS = _counter("leaderboard_reads", "Readings of the leaderboard, by outcome.", "outcome")
BACKFILL_READS = _counter("backfill_reads", "Questions about the past of a trader, by outcome.", "kind", "outcome")
BACKFILL_FOUND = _counter("backfill_found", "Orders and fills that only the venue's history knew.", "kind")
BACKFILL_BEHIND = _gauge("backfill_behind", "Traders whose history is due to be read.", "kind")

CSV_BOOKS_WRITTEN = _counter("csv_books_written", "Order book messages written to CSV files.", "venue")
CSV_DROPPED = _counter("csv_dropped", "Order book messages missing from CSV files, by reason.", "reason")
CSV_FAILURES = _counter("csv_failures", "Failures to write or compress CSV files, by what failed.", "what")
CSV_COMPRESSED = _counter("csv_compressed", "CSV files of ended days that were compressed.")
CSV_FILES_OPEN = _gauge("csv_files_open", "CSV files open now.")
CSV_QUEUED = _gauge("csv_queued", "Order book messages waiting for a CSV file.")
STREAM_SESSIONS = _gauge("stream_sessions", "Order book sessions by state.", "state")

ALL_METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


Cell = list[float]
"""One number; a part that counts very often keeps it and adds to its only element."""


class Metrics:
    """Plain in-process numbers; the HTTP side turns them into Prometheus text and ``/stats``."""

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, tuple[str, ...]], Cell] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Increase a counter; ``labels`` in the order in which the metric declares them."""
        self.cell(metric, *labels)[0] += amount

    def put(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        self.cell(metric, *labels)[0] = value

    def cell(self, metric: Metric, *labels: str) -> Cell:
        """The place of a number; it counts as touched."""
        key = (metric, labels)
        cell = self._values.get(key)
        if cell is None:
            cell = self._values[key] = [0]
        return cell

    def value(self, metric: Metric, *labels: str) -> float:
        """Current value, 0 when it was never touched."""
        cell = self._values.get((metric, labels))
        return 0 if cell is None else cell[0]

    def total(self, metric: Metric) -> float:
        """Sum over all label values."""
        return sum(cell[0] for (m, _), cell in self._values.items() if m is metric)

    def by_label(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """Values of one metric keyed by its label values."""
        return {labels: cell[0] for (m, labels), cell in self._values.items() if m is metric}

    def samples(self) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
        """Everything, for exporters."""
        for (metric, labels), cell in list(self._values.items()):
            yield metric, labels, cell[0]
