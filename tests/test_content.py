"""Content that goes to other servers: what a client there gets is what a client here gets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.content import Content, Event, InChannel, Message, Mirrored, unpack
from primacron.dialects.base import Dialect, Origin
from primacron.dialects.channels import ChannelJsonDialect, ChannelMsgpackDialect
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from tests.cluster.items import VALUES

DIALECTS: list[Dialect] = [
    JsonDialect(10_000),
    MsgpackDialect(10_000),
    PrimusDialect(10_000),
    ChannelJsonDialect(10_000),
    ChannelMsgpackDialect(10_000),
]
UTC = dt.UTC
NOON = dt.datetime(2026, 5, 17, 12, 0, 0, 250, tzinfo=UTC)


class Lot(msgspec.Struct):
    id: uuid.UUID
    ends: dt.datetime
    cents: int = 0


class Pair(msgspec.Struct, array_like=True, tag="pair"):
    left: str
    right: bytes


@dataclasses.dataclass
class Bid:
    cents: int
    image: bytes


class Person(pydantic.BaseModel):
    name: str
    born: dt.date
    balance: decimal.Decimal


class Colour(enum.Enum):
    RED = "red"


KNOWN: dict[str, Any] = {
    "a datetime": NOON,
    "a datetime without a zone": NOON.replace(tzinfo=None),
    "the first datetime": dt.datetime(1, 1, 1, tzinfo=UTC),
    "the last datetime": dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "a date": NOON.date(),
    "a time": NOON.time(),
    "a duration": dt.timedelta(minutes=5),
    "bytes": b"\xff\x00",
    "a bytearray": bytearray(b"\xff\x00"),
    "a memoryview": memoryview(b"\xff\x00"),
    "a UUID": uuid.UUID(int=5),
    "a Decimal": decimal.Decimal("1.10"),
    "an Enum": Colour.RED,
    "a set": {1},
    "a tuple": (1, (2, "three")),
    "numbers as keys": {1: {2: 3}},
    "a UUID as key": {uuid.UUID(int=5): 1},
    "a Struct": Lot(uuid.UUID(int=5), NOON, 7),
    "a Struct like an array": Pair("x", b"y"),
    "a dataclass": Bid(5, b"\x89PNG"),
    "a pydantic model": Person(name="Ann", born=NOON.date(), balance=decimal.Decimal("2.50")),
    "a list of models": [Person(name="Ann", born=NOON.date(), balance=decimal.Decimal(1))] * 2,
    "the largest integer": 2**64 - 1,
    "the smallest integer": -(2**63),
    "a whole float": 3.0,
}


def travelled(content: Content) -> Content:
    """Return what another server makes of it."""
    return unpack(content.pack())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
@pytest.mark.parametrize("value", KNOWN.values(), ids=KNOWN)
def test_what_applications_send_is_the_same_for_clients_of_other_servers(value: Any, dialect: Dialect) -> None:
    for content in (
        Event("lot", (value, [value], {"key": value})),
        Message({"event": "lot", "args": [value]}),
        Message(value),
        Mirrored("lot", (value,), "ann", "one", "in"),
        InChannel("lot", (value,), "lot:7", 5),
        InChannel("lot", (value,), "lot:7"),
    ):
        assert travelled(content).write(dialect).data == content.write(dialect).data


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
@given(name=st.text(max_size=20), args=st.lists(VALUES, max_size=4).map(tuple))
def test_what_is_plain_data_comes_as_it_was_sent(dialect: Dialect, name: str, args: tuple[Any, ...]) -> None:
    event = Event(name, args)
    assert travelled(event).write(dialect).data == event.write(dialect).data


def test_a_datetime_of_another_zone_is_the_same_moment() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    assert travelled(Event("at", (NOON.astimezone(zone),))) == Event("at", (NOON,))


@given(
    st.text(max_size=9),
    st.lists(VALUES, max_size=3),
    st.text(max_size=9),
    st.text(max_size=9),
    st.sampled_from(["in", "out"]),
)
def test_a_mirrored_event_keeps_its_origin(
    name: str, args: list[Any], account: str, session: str, direction: Literal["in", "out"]
) -> None:
    found = travelled(Mirrored(name, tuple(args), account, session, direction))
    assert isinstance(found, Mirrored)
    assert (found.name, found.origin) == (name, Origin(account, session, direction))


@given(st.text(max_size=9), st.lists(VALUES, max_size=3), st.text(max_size=9), st.none() | st.integers(0, 2**53))
def test_an_event_of_a_channel_keeps_its_place(name: str, args: list[Any], channel: str, offset: int | None) -> None:
    found = travelled(InChannel(name, tuple(args), channel, offset))
    assert isinstance(found, InChannel)
    assert (found.name, found.channel, found.offset) == (name, channel, offset)


@pytest.mark.parametrize(
    ("content", "event"),
    [
        (Event("lot", (1, 2)), ("lot", (1, 2))),
        (InChannel("lot", (1, 2), "lot:7", 5), ("lot", (1, 2))),
        (Message({"event": "lot"}), ("message", ({"event": "lot"},))),
        (Mirrored("lot", (1, 2), "ann", "one", "in"), None),
    ],
)
def test_followers_get_all_but_what_is_mirrored_already(content: Content, event: object) -> None:
    assert content.as_event() == event


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**1000])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"deep": [{"er": n}]}, lambda n: Bid(n, b"")])
def test_a_number_of_more_than_64_bits_is_a_clear_error(number: int, wrap: Any) -> None:
    for content in (Event("count", (wrap(number),)), Message(wrap(number))):
        with pytest.raises(ValueError, match="not for other servers"):
            content.pack()


def test_what_cannot_be_encoded_is_a_type_error() -> None:
    for value in (object(), {object(): 1}, [1j]):
        with pytest.raises(TypeError):
            Event("x", (value,)).pack()


def test_text_that_is_none_is_a_value_error() -> None:
    for content in (Event("\ud800", ()), Event("x", ("\udfff",)), Message({"\ud800": 1})):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            content.pack()


def test_what_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        Event("x", (circle,)).pack()


# What another server may not have sent


def is_refused(data: bytes) -> bool:
    try:
        unpack(data)
    except ValueError:
        return True
    return False


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    is_refused(data)
    is_refused(msgspec.msgpack.encode(["event", "x", []])[:-1] + data)


@given(st.lists(VALUES, max_size=7))
def test_any_list_is_read_or_refused(fields: list[Any]) -> None:
    for start in (
        [],
        ["event"],
        ["message"],
        ["mirrored"],
        ["in"],
        ["event", "x"],
        ["in", "x", [], "c"],
        ["mirrored", "x", []],
    ):
        is_refused(msgspec.msgpack.encode(start + fields))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["event"],
        ["event", "x"],
        ["event", "x", {}],
        ["event", 1, []],
        ["event", "x", [], 1],
        ["message"],
        ["message", 1, 2],
        ["mirrored", "x", [], "a", "b", "sideways"],
        ["mirrored", "x", [], "a", None, "in"],
        ["mirrored", "x", []],
        ["in", "x", []],
        ["in", "x", [], None],
        ["in", "x", [], "c", "5"],
        ["in", "x", [], "c", 5, 6],
        ["other", "x", []],
        [1, 2, 3],
        {"event": "x"},
        "event",
        None,
    ],
)
def test_what_is_no_content_is_refused(fields: Any) -> None:
    assert is_refused(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x93\xa5event\xa1x", b"\x91" * 50_000, b"\x90\x90"]
)
def test_what_is_cut_or_nested_without_end_is_refused(data: bytes) -> None:
    assert is_refused(data)
