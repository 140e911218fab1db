"""Envelopes as MessagePack: what only binary data can get wrong; the structure has a suite of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.dialects.msgpack import MAX_DEPTH
from primacron.dialects.primacron import MsgpackDialect
from primacron.errors import InvalidMessage, UndecodableMessage
from tests.dialects.reading import heard, refusal, values

dialect = MsgpackDialect(10_000)
pack = msgspec.msgpack.encode


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x81\xa5event",
        b"\x81\xa5event\xa3bi",
        b"\x81\xa5event\xdb\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        pack({"event": "bid"}) + b"\x00",
        pack({"event": "bid"}) * 2,
        pack({"event": "bid", "args": [1]})[:-1],
    ],
)
def test_what_is_not_messagepack_cannot_be_decoded(wire: bytes) -> None:
    assert refusal(dialect, wire) is UndecodableMessage


@pytest.mark.parametrize(
    "value",
    [
        {1: "event"},
        {b"event": "bid"},
        {None: 1},
        {"event": "bid", "args": [{5: 1}]},
        {"event": "bid", "args": [msgspec.msgpack.Ext(5, b"x")]},
        {"event": "bid", "args": [dt.datetime(2025, 1, 1, tzinfo=dt.UTC)]},
        {"event": "bid", "args": [math.nan]},
        {"event": "bid", "args": [[math.inf]]},
        {"x": -math.inf},
        {"event": b"bid"},
        {"event": "bid", "id": b"1"},
        math.inf,
        b"bid",
    ],
)
def test_what_has_no_place_in_a_message_is_invalid(value: object) -> None:
    assert refusal(dialect, pack(value)) is InvalidMessage


def test_bytes_are_arguments_like_any_other() -> None:
    incoming = heard(dialect, pack({"event": "file", "args": ["a", b"\x00\xff"]}))
    assert msgspec.msgpack.decode(incoming.args) == ["a", b"\x00\xff"]
    incoming = heard(dialect, pack({"data": b"\xff"}))
    assert msgspec.msgpack.decode(incoming.args) == [{"data": b"\xff"}]


def test_a_repeated_key_counts_once_the_last_one() -> None:
    assert heard(dialect, b"\x82\xa5event\xa3ask\xa5event\xa3bid").event == "bid"
    assert refusal(dialect, b"\x82\xa5event\x05\xa5event\xa3bid") is InvalidMessage


@pytest.mark.parametrize(
    "wide",
    [b"\xcd\x00\x07", b"\xce\x00\x00\x00\x07", b"\xcf" + bytes(7) + b"\x07", b"\xd0\x07", b"\xd3" + bytes(7) + b"\x07"],
)
def test_a_number_may_be_written_wider_than_it_needs(wide: bytes) -> None:
    assert heard(dialect, b"\x82\xa5event\xa3bid\xa2id" + wide).id == 7


def nested(depth: int) -> bytes:
    return b"\x82\xa5event\xa3bid\xa4args" + b"\x91" * depth + b"\xc0"


def test_depth_and_elements_are_limited() -> None:
    assert refusal(dialect, nested(MAX_DEPTH - 1)) is None
    for wire in (nested(MAX_DEPTH), nested(100_000), pack({"event": "bid", "args": [0] * 10_000})):
        assert refusal(dialect, wire) is InvalidMessage
    assert refusal(dialect, pack({"event": "bid", "args": [0] * 9_998})) is None


BAD = b"\xa2\xc3("


@pytest.mark.parametrize(
    ("wire", "id"),
    [
        (b"\x83\xa5event" + BAD + b"\xa4args\x91\x01\xa2id\x07", 7),
        (b"\x83\xa2id\x07\xa4args\x91" + BAD + b"\xa5event" + BAD, 7),
        (b"\x82\xa5event" + BAD + b"\xa4args\x91\x01", None),
        (b"\x81\xa5event\xa3\xed\xa0\x80", None),
        (b"\x83\xa5event" + BAD + b"\xa4args\x91\x01\xa2id\xff", None),
        (b"\x83\xa5event" + BAD + b"\xa3ack\x07\xa2id\x07", None),
        (b"\x82\xa3ack\x07\xa5error\x81\xa7message" + BAD, None),
    ],
)
def test_text_that_is_not_utf8_is_a_wrong_value_and_its_sender_is_answered(wire: bytes, id: int | None) -> None:
    with pytest.raises(InvalidMessage, match="not UTF-8") as caught:
        dialect.read(wire, "sid")
    assert caught.value.id == id


@given(st.binary() | values.map(pack))
def test_any_bytes_are_read_or_refused_with_a_documented_error(wire: bytes) -> None:
    refusal(dialect, wire)


@given(values, st.data())
def test_damaged_envelopes_are_read_or_refused_with_a_documented_error(value: Any, data: st.DataObject) -> None:
    wire = bytearray(pack({"event": "bid", "args": [value], "id": 1}))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(wire)))
        wire[start : start + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    if refusal(dialect, bytes(wire)) is None:
        # What stands there can be walked: the contract decodes it, and finds at worst text that is not UTF-8.
        with contextlib.suppress(UnicodeDecodeError):
            msgspec.msgpack.decode(heard(dialect, bytes(wire)).args)
