"""Addresses as people write them: on the command line, one per line in a file, or in a column of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from msgspec import Struct

from src.models.errors import ConfigurationError
from src.setting_types import ADDRESS

COLUMNS = ("ethaddress", "address", "trader", "user", "wallet")
"""Names of the column with the address, in lower case."""

TAGS_COLUMN = "tags"
MISTAKES_SHOWN = 20


class Listed(Struct, frozen=True):
    """An address of a file, lower case, and its tags."""

    address: str
    tags: tuple[str, ...] = ()


def checked_addresses(texts: Iterable[str]) -> list[str]:
    """Lower case, each once.

    Raises:
        ConfigurationError: one of them is none; the text names all that are wrong.
    """
    stripped = [text.strip() for text in texts]
    wrong = [text for text in stripped if ADDRESS.fullmatch(text) is None]
    if wrong:
        raise ConfigurationError(f"not an address (0x and 40 hexadecimal digits): {', '.join(wrong)}")
    return list(dict.fromkeys(text.lower() for text in stripped))


def read_list(text: str, *, what: str) -> list[Listed]:
    """Read a file of addresses, each once: one per line, or CSV whose first line names the columns.

    Empty lines and what follows ``#`` are left out. A column ``tags`` may hold words separated by spaces.

    Raises:
        ConfigurationError: a line holds no address, or there is none at all; the text names the lines.
    """
    lines = [line.partition("#")[0] for line in text.splitlines()]
    delimiter = next((mark for mark in (";", "\t", ",") if any(mark in line for line in lines[:50])), ",")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    except csv.Error as error:
        raise ConfigurationError(f"{what} is neither a list of addresses nor CSV: {error}") from error
    address_at, tags_at, has_header = _columns(rows)
    found: dict[str, tuple[str, ...]] = {}
    mistakes = []
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (has_header and number == _first(rows)):
            continue
        address = cells[address_at] if address_at < len(cells) else ""
        if ADDRESS.fullmatch(address) is None:
            mistakes.append(f"line {number}: {(address or ' '.join(cells))[:60]!r}")
            continue
        tags = tuple(cells[tags_at].split()) if tags_at is not None and tags_at < len(cells) else ()
        found[address.lower()] = (*found.get(address.lower(), ()), *tags)
    if mistakes:
        more = "" if len(mistakes) <= MISTAKES_SHOWN else f"\n  and {len(mistakes) - MISTAKES_SHOWN} more"
        shown = "\n  ".join(mistakes[:MISTAKES_SHOWN])
        raise ConfigurationError(
            f"{what}: not an address (0x and 40 hexadecimal digits); nobody was added:\n  {shown}{more}"
        )
    if not found:
        raise ConfigurationError(f"{what} holds no address")
    return [Listed(address, tuple(dict.fromkeys(tags))) for address, tags in found.items()]


def _columns(rows: Sequence[Sequence[str]]) -> tuple[int, int | None, bool]:
    """Where address and tags stand, and whether the first line says so."""
    first = _first(rows)
    names = [cell.strip().lower() for cell in rows[first - 1]] if first else []
    for name in COLUMNS:
        if name in names:
            return names.index(name), names.index(TAGS_COLUMN) if TAGS_COLUMN in names else None, True
    return 0, None, False


def _first(rows: Sequence[Sequence[str]]) -> int:
    """Number of the first line that is not empty, 0 where there is none."""
    return next((number for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)), 0)
