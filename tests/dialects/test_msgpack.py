"""The check of MessagePack's structure, against what msgspec thinks of the same data."""

from __future__ import annotations

import datetime as dt
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primacron.dialects.msgpack import MAX_DEPTH, check_structure
from primacron.errors import InvalidMessage, UndecodableMessage

LIMIT = 1000

finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text() | st.binary()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)

refused = (
    st.sampled_from([math.nan, math.inf, -math.inf, msgspec.msgpack.Ext(1, b"x"), msgspec.msgpack.Ext(-1, bytes(12))])
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.dictionaries(st.integers(0, 9) | st.binary() | st.none() | st.booleans(), st.none(), min_size=1)
)


def verdict(data: bytes, limit: int = LIMIT) -> type[Exception] | None:
    """Return what the check raises; anything undocumented is let through, and fails the test."""
    try:
        check_structure(data, limit)
    except (InvalidMessage, UndecodableMessage) as error:
        return type(error)
    return None


def surround(value: Any, steps: list[int]) -> Any:
    """Put a value somewhere deep inside."""
    for step in steps:
        value = [value] if step == 0 else {"key": value} if step == 1 else [None, value, "after"]
    return value


@given(values)
def test_what_msgspec_writes_of_plain_values_passes(value: Any) -> None:
    assert verdict(msgspec.msgpack.encode(value)) is None


@given(refused, st.lists(st.integers(0, 2), max_size=5))
def test_what_has_no_place_in_a_message_is_invalid_wherever_it_stands(value: Any, steps: list[int]) -> None:
    assert verdict(msgspec.msgpack.encode(surround(value, steps))) is InvalidMessage


@given(values, st.data())
def test_data_that_is_cut_short_cannot_be_decoded(value: Any, data: st.DataObject) -> None:
    wire = msgspec.msgpack.encode(value)
    assert verdict(wire[: data.draw(st.integers(0, len(wire) - 1))]) is UndecodableMessage


@given(values, st.binary(min_size=1))
def test_data_with_bytes_left_cannot_be_decoded(value: Any, more: bytes) -> None:
    assert verdict(msgspec.msgpack.encode(value) + more) is UndecodableMessage


def decodes(data: bytes) -> bool | None:
    """Tell whether msgspec takes data; None when it only misses UTF-8 in a text, which the check leaves to it."""
    try:
        msgspec.msgpack.decode(data)
    except UnicodeDecodeError:
        return None
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        return False
    return True


messy = st.binary() | st.builds(
    lambda value, noise: msgspec.msgpack.encode(value) + noise, values, st.binary(max_size=2)
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return good data with a few bytes exchanged."""
    wire = bytearray(msgspec.msgpack.encode(draw(values)))
    for _ in range(draw(st.integers(1, 3))):
        wire[draw(st.integers(0, len(wire) - 1))] = draw(st.integers(0, 255))
    return bytes(wire)


@given(messy | damaged())
@example(b"")
@example(b"\xc1")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xdb\xff\xff\xff\xff")
@example(b"\x81\xa1a")
@example(b"\xa1\xff")
@example(b"\xd6\xff\x00\x00\x00\x00")
def test_what_passes_can_be_decoded_and_what_cannot_be_decoded_does_not_pass(data: bytes) -> None:
    outcome, decoded = verdict(data), decodes(data)
    if outcome is None:
        assert decoded is not False
    if outcome is UndecodableMessage:
        assert not decoded


@given(st.integers(0, 60), st.integers(0, 60))
def test_elements_are_counted_wherever_they_stand(outer: int, inner: int) -> None:
    data = msgspec.msgpack.encode([[None] * inner] * outer + [{"a": None, "b": None}])
    count = outer * (inner + 1) + 3
    assert verdict(data, count) is None
    assert verdict(data, count - 1) is InvalidMessage


@pytest.mark.parametrize(
    "opener", [b"\x91", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01", b"\x81\xa1a", b"\xde\x00\x01\xa1a"]
)
def test_the_depth_is_limited(opener: bytes) -> None:
    assert verdict(opener * MAX_DEPTH + b"\xc0") is None
    assert verdict(opener * (MAX_DEPTH + 1) + b"\xc0") is InvalidMessage
    assert verdict(opener * 100_000 + b"\xc0", 200_000) is InvalidMessage


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf"])
@pytest.mark.parametrize("size", [LIMIT + 1, 2**31, 2**32 - 1])
def test_a_container_that_claims_too_much_is_refused_before_it_is_walked(head: bytes, size: int) -> None:
    assert verdict(head + struct.pack(">I", size)) is InvalidMessage


@pytest.mark.parametrize("number", [b"\xca" + struct.pack(">f", math.nan), b"\xca" + struct.pack(">f", -math.inf)])
def test_short_floats_are_checked_too(number: bytes) -> None:
    assert verdict(number) is InvalidMessage
    assert verdict(b"\x92\x01" + number) is InvalidMessage
