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
