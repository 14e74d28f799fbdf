"""Whatever happens to the writing process, the files stay readable: one header, whole lines, nothing twice, in order."""

import tempfile
import threading
from datetime import UTC, date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from src.jobs.order_books.csv_directory import CsvDirectory, CsvOptions
from src.jobs.order_books.csv_files import DayFile
from src.jobs.order_books.csv_rows import COLUMNS, Layout
from src.jobs.order_books.exchange_days import WIB, day_at, day_of
from tests.support.books import DAY_MS, T0, levels, read_rows, sided, told

HEAD = b"timestamp,price,lots,total_value,side\n"
DAY = day_of(date(2026, 2, 4), UTC)
MESSAGES = st.lists(st.integers(0, 4), min_size=1, max_size=12)  # each so many lines


def lines_of(number, count):
    return "".join(f"{number},{level}\n" for level in range(count)).encode()


@given(MESSAGES, st.data())
@settings(max_examples=150, deadline=None)
def test_killed_at_any_byte_a_file_is_gone_on_with(messages, data):
    """A kill leaves a prefix of what was handed over: all messages before, and a part of the last one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "2026-02-04_BBCA.csv"
        expected = HEAD
        for number, count in enumerate(messages):
            file = DayFile(path, HEAD, DAY)
            assert path.read_bytes() == expected
            file.append(lines_of(number, count))
            file.close()
            whole = path.read_bytes()
            assert whole == expected + lines_of(number, count)
            kept = data.draw(st.integers(0, len(whole)), label="bytes that survive the kill")
            path.write_bytes(whole[:kept])
            expected = HEAD if kept < len(HEAD) else whole[: whole[:kept].rfind(b"\n") + 1]
        DayFile(path, HEAD, DAY).close()
        assert path.read_bytes() == expected
        assert path.read_bytes().count(HEAD) == 1


BOOK = st.tuples(st.just("book"), st.sampled_from(["BBCA", "TLKM", "PURR/USDC"]), st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        BOOK,
        BOOK,
        BOOK,
        st.tuples(st.just("wait"), st.sampled_from([1, 3_600_000, DAY_MS // 2, DAY_MS]), st.just(0)),
        st.sampled_from([("tick", 0, 0), ("restart", 0, 0)]),
        st.tuples(st.just("kill"), st.integers(1, 40), st.just(0)),
    ),
    min_size=5,
    max_size=30,
)


@given(STEPS, st.sampled_from(Layout), st.integers(1, 3))
@settings(max_examples=120, deadline=None)
def test_days_restarts_and_few_handles_never_mix_or_lose_messages(steps, layout, handles):
    """Against a model: per symbol and day of the exchange the messages in their order, but for the torn ones."""
    with tempfile.TemporaryDirectory() as folder:
        options = CsvOptions(Path(folder), layout, most_handles=handles)
        directory = CsvDirectory(options, guard=threading.Lock())
        model, now, last = {}, T0, None
        for number, (what, first, count) in enumerate(steps):
            if what == "book":
                rows = [(100 - level, level + 1, 100 * number) for level in range(count)]
                book = sided(first, bids=levels(*rows), asks=(), at=now, bids_told=told(now, f"m{number}", number))
                directory.write(book)
                day = day_at(book.received_ms, WIB).date
                last = (day, first)
                written = count or (1 if layout is Layout.FULL else 0)
                model.setdefault(last, []).extend([f"m{number}"] * written)
                now += 1
            elif what == "wait":
                now += first
            elif what == "tick":
                directory.close_ended(now)
            elif what == "restart":
                directory.close()
                directory = CsvDirectory(options, guard=threading.Lock())
            elif last is not None:
                directory.close()
                _tear(Path(folder), last, first, model)
                directory = CsvDirectory(options, guard=threading.Lock())
            assert len(directory) <= handles
        directory.close()
        column = COLUMNS[layout].split(",").index("timestamp" if layout is Layout.SIMPLE else "event_time")
        for (day, symbol), messages in model.items():
            path = _path(Path(folder), day, symbol)
            if not path.exists():
                assert not messages
                continue
            DayFile(path, COLUMNS[layout].encode() + b"\n", DAY).close()
            header, *rows = read_rows(path)
            assert header == COLUMNS[layout].split(",")
            assert [row[column] for row in rows] == messages


def _tear(folder, last, size, model):
    """Cut the end off the file last written to, as a kill in the middle of a write would."""
    path = _path(folder, *last)
    if not path.exists():
        return
    before = path.read_bytes()
    after = before[: max(0, len(before) - size)]
    path.write_bytes(after)
    whole_lines = after.count(b"\n") - 1
    del model[last][max(0, whole_lines) :]


def _path(folder, day, symbol):
    return folder / f"{day}_{symbol.replace('/', '%2F')}.csv"


def test_a_day_is_as_long_as_a_day():
    assert DAY.end_ms - DAY.begin_ms == DAY_MS
