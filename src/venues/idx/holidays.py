"""Days on which IDX does not trade: the announced ones, and a file for what is announced later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from src.models.errors import ConfigurationError

_LINE = re.compile(r"(?P<open>!?)\s*(?P<day>\d{4}-\d{2}-\d{2})(\s.*)?")
LARGEST_FILE_BYTES = 256 * 1024

# One line per year: months with their weekdays without trading. Every year adds up to the number of trading days
# that the exchange announced: 239, 237, 236 and 239.
_ANNOUNCED: Mapping[int, str] = {
    2023: "1:23 3:22,23 4:7,19,20,21,24,25 5:1,18 6:1,2,28,29,30 7:19 8:17 9:28 12:25,26",
    2024: "1:1 2:8,9,14 3:11,12,29 4:8,9,10,11,12,15 5:1,9,10,23,24 6:17,18 9:16 11:27 12:25,26,31",
    2025: "1:1,27,28,29 3:28,31 4:1,2,3,4,7,18 5:1,12,13,29,30 6:6,9,27 8:18 9:5 12:25,26,31",
    2026: "1:1,16 2:16,17 3:18,19,20,23,24 4:3 5:1,14,15,27,28 6:1,16 8:17,25 12:24,25,31",
}


class Holidays:
    """Weekdays without trading, and for which years they are known."""

    def __init__(
        self, closed: Iterable[date] = (), opened: Iterable[date] = (), *, years: Iterable[int] = ()
    ) -> None:
        """The announced holidays, with ``closed`` added and ``opened`` removed; ``years`` are known besides those."""
        self._days = frozenset((_announced() | frozenset(closed)) - frozenset(opened))
        self._years = frozenset(_ANNOUNCED) | frozenset(years)

    def __contains__(self, day: date) -> bool:
        return day in self._days

    def in_year(self, year: int) -> list[date]:
        """The weekdays of a year without trading, in order."""
        return sorted(day for day in self._days if day.year == year and day.weekday() < 5)  # noqa: PLR2004 - Mon..Fri

    def is_known(self, year: int) -> bool:
        """Whether holidays of this year are known; of others every weekday is taken for a trading day."""
        return year in self._years


def load_holidays(path: Path | None) -> Holidays:
    """The announced holidays, completed by a file.

    A line is ``2027-03-10 any text`` for a day without trading or ``!2027-03-10`` for one with trading after all;
    empty lines and lines that begin with ``#`` are skipped. A year named in the file counts as known.

    Raises:
        ConfigurationError: the file cannot be read or a line is not understood; the text names all such lines.
    """
    if path is None:
        return Holidays()
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ConfigurationError(f"IDX_HOLIDAYS_FILE={path}: larger than {LARGEST_FILE_BYTES} bytes")
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"IDX_HOLIDAYS_FILE={path}: cannot be read ({error}); write a UTF-8 text") from error
    closed, opened, wrong = parse_holidays(text)
    if wrong:
        raise ConfigurationError(
            f"IDX_HOLIDAYS_FILE={path}: not understood: {'; '.join(wrong)}; "
            "write 2027-03-10 for a day without trading, !2027-03-10 for one with trading after all"
        )
    return Holidays(closed, opened, years={day.year for day in (*closed, *opened)})


def parse_holidays(text: str) -> tuple[list[date], list[date], list[str]]:
    """Closed days, opened days, and a few words about each line that is neither."""
    closed: list[date] = []
    opened: list[date] = []
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        match = _LINE.fullmatch(words)
        try:
            day = date.fromisoformat(match["day"]) if match else None
        except ValueError:
            day = None
        if match is None or day is None:
            wrong.append(f"line {number} '{words[:40]}'")
        else:
            (opened if match["open"] else closed).append(day)
    return closed, opened, wrong


def _announced() -> frozenset[date]:
    days = set()
    for year, months in _ANNOUNCED.items():
        for part in months.split():
            month, _, numbers = part.partition(":")
            days |= {date(year, int(month), int(number)) for number in numbers.split(",")}
    return frozenset(days)
