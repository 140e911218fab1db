"""Whatever a client sends: values of the declared types, or a documented error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from primacron.contract.arguments import Arguments, read_arguments
from primacron.dialects.base import Form
from primacron.errors import InvalidMessage, UndecodableMessage, ValidationFailed
from tests.contract.arguing import taking
from tests.contract.test_pydantic import Limited, Order, Positive
from tests.contract.test_types import REFUSED, TAKEN
from tests.dialects.reading import values

TYPES = [*{str(annotation): annotation for annotation, *_ in (*TAKEN, *REFUSED)}.values(), Order, Limited, Positive]
READERS = [
    *(taking(annotation) for annotation in TYPES),
    *(taking(int, annotation, optional=1) for annotation in TYPES),
    *(taking(rest=annotation) for annotation in TYPES),
]
readers = st.sampled_from(READERS)
#: Values with the names and the words that the types know, so that more than their first check is reached.
near = st.recursive(
    st.sampled_from(
        [None, True, 0, 1, -1, 2**63, 1.5, "", "a", "red", "Dog", "2025-11-25", "12:00:00Z", "AQI=", "1.5"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["lot", "cents", "x", "y", "type", "tricks", "name", "children", "content", "items", "count"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def outcome(arguments: Arguments, raw: bytes, form: Form) -> None:
    """Read arguments; an error that is not documented fails the test."""
    with contextlib.suppress(InvalidMessage, UndecodableMessage, ValidationFailed):
        assert isinstance(read_arguments(arguments.readers[form], msgspec.Raw(raw)), tuple)


@given(readers, st.lists(near | values, max_size=4) | near | values)
def test_any_value_is_read_or_refused(arguments: Arguments, value: Any) -> None:
    outcome(arguments, json.dumps(value).encode(), Form.JSON)
    outcome(arguments, msgspec.msgpack.encode(value), Form.MSGPACK)


@given(
    readers,
    st.binary()
    | st.text(alphabet='[]{}",:0123456789.eE-+truefalsnul\\ \ud800').map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
)
def test_any_bytes_are_read_or_refused(arguments: Arguments, raw: bytes) -> None:
    outcome(arguments, raw, Form.JSON)
    outcome(arguments, raw, Form.MSGPACK)


@given(readers, st.text() | st.binary())
def test_any_raw_message_is_read_or_refused(arguments: Arguments, message: str | bytes) -> None:
    with contextlib.suppress(ValidationFailed):
        assert read_arguments(arguments.readers[Form.VALUE], (message,)) == (message,)
