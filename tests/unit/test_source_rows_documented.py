"""Every row of the two source documents has its line in docs/stockbit.md, and the places it names exist."""

import re
from pathlib import Path

import pytest

from src.jobs.order_books.csv_rows import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "stockbit.md"
ROWS = ROOT.parent / "shared" / "spec" / "downstream.md"
ROW_ID = r"[SW]00[01]-\d+"


def rows_told():
    """Row ids of the table on the page, ranges written out."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not re.match(rf"\| {ROW_ID}", line):
            continue
        cell = line.split(" | ")[0]
        for first, last in re.findall(rf"({ROW_ID})(?: … ({ROW_ID}))?", cell):
            prefix, begin = first.split("-")
            end = int(last.split("-")[1]) if last else int(begin)
            width = len(begin)
            found += [f"{prefix}-{number:0{width}}" for number in range(int(begin), end + 1)]
    return found


def test_every_row_has_exactly_one_line():
    if not ROWS.is_file():
        pytest.skip(f"no list of rows in {ROWS}")
    asked = re.findall(rf"^\| ({ROW_ID}) \|", ROWS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = rows_told()
    assert len(set(told)) == len(told)
    assert set(asked) - set(told) == set()
    assert len(asked) > 70


def test_the_places_it_names_exist():
    text = PAGE.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:src|tests|benchmarks)/[\w/.]+\.\w+)", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (PAGE.parent / target).exists(), target


def test_the_layouts_are_told_as_they_are():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{columns}`" in text for columns in COLUMNS.values())
