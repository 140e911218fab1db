"""The count of elements in JSON text, made before anything is built from it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.dialects.primacron import JsonDialect, check_items
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage
from tests.dialects.reading import heard

values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a,[]{}"\\\n€'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=',["\\'), inner),
    max_leaves=30,
)


def count(value: Any) -> int:
    """Return the commas and opening brackets of a value as JSON, by walking through it."""
    if not isinstance(value, list | dict):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(inner) - 1) + sum(map(count, inner))


def is_refused(text: str, limit: int) -> bool:
    """Tell whether a text has too many elements."""
    try:
        check_items(text, limit)
    except InvalidMessage:
        return True
    return False


@given(values)
def test_what_stands_inside_strings_does_not_count(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert not is_refused(text, count(value))
    assert count(value) == 0 or is_refused(text, count(value) - 1)


HARD = [
    pytest.param('"' + '\\"' * 500_000, id="quotes behind backslashes, without an end"),
    pytest.param('"' * 1_000_001, id="quotes"),
    pytest.param("\\" * 1_000_000, id="backslashes"),
    pytest.param('"' + "\\" * 1_000_001, id="backslashes behind a quote"),
    pytest.param('"' + "a" * 1_000_000, id="text without an end"),
    pytest.param('"",' * 300_000, id="empty strings"),
    pytest.param(',"\\' * 300_000, id="everything"),
]


@pytest.mark.parametrize("text", HARD)
def test_any_text_is_gone_through_once(text: str) -> None:
    # Milliseconds. With one pass per quote, as an expression that must find its closing quote makes, it is an hour.
    with pytest.raises(MessageError):
        JsonDialect(10_000).read("{" + text + ",,,,,[[[[" * 5000, "sid")


@given(st.text(alphabet='{}[]",:\\ae1') | st.text())
def test_any_text_is_read_or_refused_with_a_documented_error(text: str) -> None:
    with contextlib.suppress(InvalidMessage, UndecodableMessage):
        JsonDialect(10).read(text, "sid")


# Numbers that take long to read

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,4})?", fullmatch=True)
long_numbers = st.integers(min_value=1, max_value=600).map("7".__mul__)
pieces = (
    numbers | long_numbers | st.text(alphabet='ae1.5-+"\\').map(json.dumps) | st.sampled_from(["1e308", "[]", "{}"])
)


def weight(number: str) -> int:
    """Return for how many elements a number counts, besides that it is one."""
    digits, _, exponent = number.lower().lstrip("-").partition("e")
    size = abs(int(exponent or 0))
    is_extreme = size > 250 or (size > 22 and len(digits) > 20)
    return 32 * is_extreme + (len(digits) // 16 if len(digits) >= 128 else 0)


@given(st.lists(pieces, max_size=20))
def test_numbers_that_take_long_to_read_count_as_many_elements(values: list[str]) -> None:
    text = f"[{','.join(values)}]"
    expected = text_free(values) + sum(weight(value) for value in values if value[0] not in '"[{')
    assert not is_refused(text, expected)
    assert expected == 0 or is_refused(text, expected - 1)


def text_free(values: list[str]) -> int:
    """Return the commas and opening brackets of a list of values, of which none has elements."""
    return 1 + max(0, len(values) - 1) + sum(value in ("[]", "{}") for value in values)


def test_extreme_numbers_are_refused_before_they_are_read_and_a_few_are_not() -> None:
    dialect = JsonDialect(10_000)
    dialect.read(f'{{"event":"e","args":[[{",".join(["1e308"] * 290)}]]}}', "sid")
    for count in (310, 9_800):
        with pytest.raises(InvalidMessage, match="more than 10000 elements"):
            dialect.read(f'{{"event":"e","args":[[{",".join(["1e308"] * count)}]]}}', "sid")
    many = f'{{"event":"e","args":[[{",".join(["-1.2345678901234567e-100"] * 9_000)}]]}}'
    assert len(bytes(heard(dialect, many).args)) > 200_000


@pytest.mark.parametrize("letter", ["x", "ж", "😀"])
@pytest.mark.parametrize("spaces", [0, 1, 126, 127, 128, 129, 300])
def test_the_width_of_characters_and_their_place_change_nothing(letter: str, spaces: int) -> None:
    text = f'{" " * spaces}["{letter}",1e308,{"8" * 160},2E-300]'
    assert not is_refused(text, 4 + 32 + 10 + 32)
    assert is_refused(text, 4 + 32 + 10 + 32 - 1)
