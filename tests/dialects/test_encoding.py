"""What is sent follows one rule, whatever a client speaks: it gets the same, or nobody gets anything."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import uuid
from typing import Any

import msgspec
import pytest
from django.utils.safestring import SafeString  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from primacron.content import Event, Message, Mirrored, pack_values
from primacron.dialects.base import Dialect
from primacron.dialects.encoding import SHORT, Encoding
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from primacron.dialects.raw import RawDialect

JSON, MSGPACK, PRIMUS, RAW = JsonDialect(10_000), MsgpackDialect(10_000), PrimusDialect(10_000), RawDialect()
NOON = dt.datetime(2026, 5, 17, 12, tzinfo=dt.UTC)


class Level(enum.IntEnum):
    LOW = 1


class Lot(msgspec.Struct):
    ends: dt.datetime
    bids: dict[int, float]


def as_json(*args: Any) -> Any:
    """Return the arguments that a JSON client gets."""
    return json.loads(JSON.write_event("x", args).data)["args"]


def as_msgpack(*args: Any) -> Any:
    """Return the arguments that a MessagePack client gets."""
    return msgspec.msgpack.decode(MSGPACK.write_event("x", args).data)["args"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (NOON, "2026-05-17T12:00:00Z"),
        (NOON.replace(tzinfo=None), "2026-05-17T12:00:00"),
        ([{"at": NOON}], [{"at": "2026-05-17T12:00:00Z"}]),
        ({1: "a", -5: "b"}, {"1": "a", "-5": "b"}),
        ({"outer": [{2**40: {"inner": 1}}]}, {"outer": [{str(2**40): {"inner": 1}}]}),
        ({1.5: 1, "b": 2}, {"1.5": 1, "b": 2}),
        ({NOON: 1}, {"2026-05-17T12:00:00Z": 1}),
        ({Level.LOW: 1}, {"1": 1}),
        ({uuid.UUID(int=7): decimal.Decimal("1.50")}, {str(uuid.UUID(int=7)): "1.50"}),
        (Lot(NOON, {7: 1.5}), {"ends": "2026-05-17T12:00:00Z", "bids": {"7": 1.5}}),
        ([None, {"a": None}, "null", 'a "null"'], [None, {"a": None}, "null", 'a "null"']),
        (dt.timedelta(days=1), "P1D"),
        ([1.5, -0.0, 1e308, 5e-324], [1.5, -0.0, 1e308, 5e-324]),
        (decimal.Decimal("NaN"), "NaN"),
        ({1, 2}, [1, 2]),
        ([{SafeString("a"): [{SafeString("b"): 1}]}], [{"a": [{"b": 1}]}]),
    ],
)
def test_clients_of_both_forms_get_the_same(value: Any, sent: Any) -> None:
    assert as_json(value) == as_msgpack(value) == [sent]
    assert as_json("before", value) == as_msgpack("before", value) == ["before", sent]


# Of numbers with an exponent the two forms spell the text of a key in their own ways.
KEYS = st.text() | st.integers(-(2**63), 2**64 - 1) | st.integers(-(2**30), 2**30).map(lambda value: value / 4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.datetimes(timezones=st.just(dt.UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_whatever_it_is(args: list[Any]) -> None:
    assert as_json(*args) == as_msgpack(*args)


def has_odd_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_odd_number, value.values()))
    return isinstance(value, list) and any(map(has_odd_number, value))


ODD = st.recursive(
    st.none() | st.floats() | st.text() | st.sampled_from([math.nan, math.inf, "null", b"\xcb\x7f\xf8\0\0\0\0\0\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(ODD, max_size=3), st.sampled_from([JSON, MSGPACK, PRIMUS]))
def test_nan_and_infinity_are_refused_wherever_they_are_and_nothing_else_is(args: list[Any], dialect: Dialect) -> None:
    if not has_odd_number(args):
        dialect.write_event("x", tuple(args))
        Event("x", tuple(args)).pack()
        return
    for write in (lambda: dialect.write_event("x", tuple(args)), Event("x", tuple(args)).pack):
        with pytest.raises(ValueError, match="cannot be sent"):
            write()


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, float("-nan")])
def test_so_they_are_in_everything_that_is_sent(odd: float) -> None:
    far = "x" * 2 * SHORT
    writes: list[Any] = [
        lambda: RAW.write_message({"a": odd}),
        lambda: pack_values((odd,)),
        lambda: pack_values((2**70, odd)),
        Message({"event": "x", "args": [odd]}).pack,
        Mirrored("x", (odd,), "ann", "s", "in").pack,
        lambda: JSON.write_event("x", (2**70, odd)),
    ]
    for dialect in (JSON, MSGPACK, PRIMUS):
        writes += [
            lambda dialect=dialect: dialect.write_event("x", (odd,)),
            lambda dialect=dialect: dialect.write_event("message", (odd,)),
            lambda dialect=dialect: dialect.write_event("x", (far, [odd])),
            lambda dialect=dialect: dialect.write_event("x", (far, odd)),
            lambda dialect=dialect: dialect.write_message({"event": "x", "args": [odd]}),
        ]
    for dialect in (JSON, MSGPACK):
        writes += [
            lambda dialect=dialect: dialect.write_event("x", (odd,), 5),
            lambda dialect=dialect: dialect.write_answer(5, (odd,)),
        ]
    for write in writes:
        with pytest.raises(ValueError, match=r"cannot be sent|not for other servers"):
            write()


@pytest.mark.parametrize("value", [{None: 1}, {(1, 2): 1}, {b"a": 1}, msgspec.msgpack.Ext(5, b"a"), 1j, object()])
def test_what_has_no_form_is_refused_for_messagepack(value: Any) -> None:
    for args in ((value,), ("before", [value])):
        with pytest.raises(TypeError):
            MSGPACK.write_event("x", args)


def test_a_number_that_messagepack_cannot_hold_is_refused_there_alone() -> None:
    assert as_json(2**70) == [2**70]
    for args in ((2**70,), ([2**70],)):
        with pytest.raises(ValueError, match="not for a client with format=msgpack"):
            MSGPACK.write_event("x", args)


# Types of the application


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class Unknown:
    pass


def encode(value: Any) -> Any:
    if isinstance(value, Money):
        return {"cents": value.cents}
    raise NotImplementedError


def test_a_hook_encodes_types_of_the_application_in_each_form() -> None:
    encoding = Encoding(encode)
    sent = {"cents": 5}
    assert json.loads(encoding.json((Money(5), [Money(5)]))) == [sent, [sent]]
    packed = encoding.msgpack({"event": "x", "args": (Money(5), [Money(5)])})
    assert msgspec.msgpack.decode(packed)["args"] == [sent, [sent]]
    assert msgspec.msgpack.decode(encoding.pack((Money(5),))) == [sent]


def test_what_a_hook_leaves_is_encoded_as_without_it() -> None:
    class Text(str):
        __slots__ = ()

    encoding = Encoding(encode)
    assert encoding.json((Text("a"),)) == b'["a"]'
    for write in (encoding.json, encoding.pack, lambda value: encoding.msgpack({"args": value})):
        with pytest.raises(TypeError, match="cannot encode Unknown for a client"):
            write((Unknown(),))
