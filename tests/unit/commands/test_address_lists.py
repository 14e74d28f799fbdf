"""Lists of addresses as people keep them in files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.commands.addresses import Listed, checked_addresses, read_list
from src.models.errors import ConfigurationError

A, B = "0x" + "a" * 40, "0x" + "B1" * 20


def test_one_per_line_with_comments_empty_lines_and_repeats():
    text = f"# my list\n\n{A}\n  {B}  # a friend\n{A.upper().replace('0X', '0x')}\n"
    assert read_list(text, what="f") == [Listed(A), Listed(B.lower())]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_with_a_header_and_tags(mark):
    text = mark.join(["name", "ethAddress", "tags"]) + "\n" + mark.join(["x", A, "whale  friend"]) + "\n"
    assert read_list(text, what="f") == [Listed(A, ("whale", "friend"))]


def test_a_table_without_a_header_has_the_address_first():
    assert read_list(f"{A},1052345.12\n{B},5\n", what="f") == [Listed(A), Listed(B.lower())]


def test_what_is_wrong_is_named_by_its_line():
    with pytest.raises(ConfigurationError, match="line 2: '0x12'") as error:
        read_list(f"{A}\n0x12\nnonsense\n", what="whales.txt")
    assert "whales.txt" in str(error.value)
    assert "line 3: 'nonsense'" in str(error.value)


def test_of_many_mistakes_the_first_are_shown():
    with pytest.raises(ConfigurationError, match="and 80 more"):
        read_list("x\n" * 100, what="f")


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n", "ethAddress\n"])
def test_a_list_of_nobody_is_told(text):
    with pytest.raises(ConfigurationError, match="holds no address"):
        read_list(text, what="f")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    try:
        found = read_list(text, what="f")
    except ConfigurationError:
        return
    assert all(one.address == one.address.lower() for one in found)


def test_addresses_of_the_command_line_are_lower_case_and_each_once():
    assert checked_addresses([A, f" {B} ", A]) == [A, B.lower()]
    with pytest.raises(ConfigurationError, match="0x12, nobody"):
        checked_addresses([A, "0x12", "nobody"])
