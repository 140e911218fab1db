"""Envelopes in both forms, JSON and MessagePack: every shape that a client may send, and what goes out."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from primacron.dialects.base import MAX_ACK, AnswerError
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.errors import InvalidMessage
from tests.dialects.reading import Tongue, values

JSON = Tongue(JsonDialect(10_000))
MSGPACK = Tongue(MsgpackDialect(10_000))
FORMS = [pytest.param(JSON, id="json"), pytest.param(MSGPACK, id="msgpack")]
forms = st.sampled_from([JSON, MSGPACK])


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Tongue:
    """A dialect of envelopes."""
    found = request.param
    assert isinstance(found, Tongue)
    return found


# Events


@pytest.mark.parametrize("args", [[], [1], ["a", None, {"b": [2.5]}], [[]], [{}], [True] * 40])
def test_an_event_has_a_name_and_arguments_that_wait_undecoded(form: Tongue, args: list[Any]) -> None:
    incoming = form.heard({"event": "bid", "args": args})
    assert incoming.event == "bid"
    assert isinstance(incoming.args, msgspec.Raw)
    assert form.unpack(incoming.args) == args
    assert incoming.id is incoming.ack is incoming.error is UNSET


def test_arguments_may_be_left_out(form: Tongue) -> None:
    assert form.unpack(form.heard({"event": "bid"}).args) == []


@pytest.mark.parametrize("number", [0, 1, 2**31, 2**32, MAX_ACK])
def test_an_event_may_ask_for_an_answer(form: Tongue, number: int) -> None:
    incoming = form.heard({"event": "bid", "args": [1], "id": number})
    assert (incoming.event, incoming.id) == ("bid", number)


def test_fields_stand_in_any_order_and_unknown_ones_are_ignored(form: Tongue) -> None:
    incoming = form.heard({"more": {"args": 1}, "id": 3, "args": [1], "__class__": "x", "event": "bid", "type": 5})
    assert (incoming.event, incoming.id, form.unpack(incoming.args)) == ("bid", 3, [1])


NAMES = [
    "",
    " ",
    "message",
    "error::json",
    "connection",
    "stream::x",
    "__class__",
    "__proto__",
    "a\x00b",
    "é😀",
    "x" * 500,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_is_any_text_and_left_as_it_is(form: Tongue, name: str) -> None:
    assert form.heard({"event": name}).event == name


@pytest.mark.parametrize("args", [None, 5, "x", {"0": 1}, True, 1.5])
def test_arguments_of_any_type_are_left_to_the_contract(form: Tongue, args: object) -> None:
    incoming = form.heard({"event": "bid", "args": args})
    assert form.unpack(incoming.args) == args


# Answers


def test_an_answer_has_the_number_of_the_call(form: Tongue) -> None:
    incoming = form.heard({"ack": 7, "args": ["yes", 1]})
    assert (incoming.event, incoming.ack, form.unpack(incoming.args)) == (UNSET, 7, ["yes", 1])
    assert form.unpack(form.heard({"ack": 0}).args) == []


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ({}, AnswerError()),
        ({"type": "busy"}, AnswerError("busy")),
        ({"type": "a", "message": "b", "path": "c", "more": 5}, AnswerError("a", "b", "c")),
    ],
)
def test_an_answer_may_be_an_error(form: Tongue, error: dict[str, Any], read: AnswerError) -> None:
    assert form.heard({"ack": 7, "error": error}).error == read


def test_an_answer_that_is_an_event_too_shows_both(form: Tongue) -> None:
    incoming = form.heard({"ack": 7, "event": "bid", "args": [1]})
    assert (incoming.event, incoming.ack) == ("bid", 7)


# Other objects


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"x": 1},
        {"id": "x"},
        {"id": 5},
        {"args": 5},
        {"args": [1]},
        {"error": 5},
        {"error": {"type": 5}},
        {"Event": "bid"},
        {"event ": "bid"},
        {"__proto__": {"event": "bid"}, "constructor": None},
        {"nested": {"event": "bid", "ack": 1}},
        {"": ""},
    ],
)
def test_any_other_object_is_the_event_message(form: Tongue, value: dict[str, Any]) -> None:
    incoming = form.heard(value)
    assert (incoming.event, form.unpack(incoming.args)) == ("message", [value])
    assert incoming.id is incoming.ack is UNSET


# What is no envelope

NOT_TEXT: list[object] = [None, True, False, 0, 5, 1.5, [], ["bid"], {}, {"toString": "foo"}, {"length": 3}]
NOT_A_NUMBER: list[object] = [
    None,
    True,
    -1,
    -(2**63),
    2**53,
    2**63,
    2**64 - 1,
    0.0,
    1.0,
    1.5,
    1e308,
    "1",
    "",
    [],
    [1],
    {},
]
NOT_AN_ERROR: list[object] = [None, True, 5, "busy", [], {"type": 5}, {"message": None}, {"path": ["a"]}]
MALFORMED = [
    *({"event": name, "args": [1], "id": 1} for name in NOT_TEXT),
    *({"event": "bid", "id": number} for number in NOT_A_NUMBER),
    *({"ack": number, "args": []} for number in NOT_A_NUMBER),
    *({"ack": 1, "error": error} for error in NOT_AN_ERROR),
    {"ack": 1, "event": 5},
    {"ack": "1", "event": "bid"},
    {"ack": 1, "id": -1},
]


@pytest.mark.parametrize("value", MALFORMED, ids=repr)
def test_an_envelope_with_a_field_of_another_kind_is_invalid(form: Tongue, value: dict[str, Any]) -> None:
    assert form.refusal(value) is InvalidMessage


@pytest.mark.parametrize("value", [None, True, 0, -5, 1.5, "", "bid", [], [1], [{"event": "bid"}], ["event", "bid"]])
def test_what_is_no_object_is_invalid(form: Tongue, value: object) -> None:
    assert form.refusal(value) is InvalidMessage


def test_the_error_says_what_was_expected_and_where(form: Tongue) -> None:
    with pytest.raises(InvalidMessage, match=r"Expected `str`, got `int` - at `\$\.event`"):
        form.heard({"event": 5})
    with pytest.raises(InvalidMessage, match="Expected `object`, got `array`"):
        form.heard([1])


def test_a_message_of_the_other_kind_is_invalid_and_says_what_to_do() -> None:
    with pytest.raises(InvalidMessage, match="connect with format=msgpack to send binary data"):
        JSON.dialect.read(b'{"event":"bid"}', "sid")
    with pytest.raises(InvalidMessage, match="text message from a client that connected with format=msgpack"):
        MSGPACK.dialect.read('{"event":"bid"}', "sid")


# What goes out


class Color(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Place:
    at: Point


class Model(pydantic.BaseModel):
    color: Color
    tags: set[str]


def test_events_are_written_with_the_number_of_a_call_when_an_answer_is_wanted(form: Tongue) -> None:
    assert form.sent(form.dialect.write_event("bid", (1, "a"))) == {"event": "bid", "args": [1, "a"]}
    assert form.sent(form.dialect.write_event("bid", ())) == {"event": "bid", "args": []}
    assert form.sent(form.dialect.write_event("bid", (), 0)) == {"event": "bid", "args": [], "id": 0}
    assert form.sent(form.dialect.write_event("bid", (1,), MAX_ACK)) == {"event": "bid", "args": [1], "id": MAX_ACK}


def test_answers_and_refusals_are_written_with_the_number_of_the_event(form: Tongue) -> None:
    assert form.sent(form.dialect.write_answer(7, ("yes", None))) == {"ack": 7, "args": ["yes", None]}
    refusal = form.dialect.write_refusal(7, AnswerError("validation", "wrong", "$[0]"))
    assert form.sent(refusal) == {"ack": 7, "error": {"type": "validation", "message": "wrong", "path": "$[0]"}}


def test_a_forwarded_object_with_an_event_goes_out_as_it_is_and_anything_else_as_a_message(form: Tongue) -> None:
    for whole in ({"event": "bid", "args": [1]}, {"event": 5}, {"event": None, "more": 1}):
        assert form.sent(form.dialect.write_message(whole)) == whole
    for content in (None, 5, "text", "", [1], {"a": 1}, {}, True):
        assert form.sent(form.dialect.write_message(content)) == {"event": "message", "args": [content]}


def test_a_client_is_told_who_it_is(form: Tongue) -> None:
    assert form.sent(form.dialect.write_session("ann", "tab-1")) == {
        "event": "session",
        "args": [{"account": "ann", "session": "tab-1", "recovered": False}],
    }


def test_structs_dataclasses_enums_and_models_are_written_as_plain_data(form: Tongue) -> None:
    args = (
        Point(1),
        Place(Point(2, 3)),
        Color.RED,
        Model(color=Color.RED, tags={"a"}),
        {"deep": [Model(color=Color.RED, tags=set())]},
    )
    assert form.sent(form.dialect.write_event("bid", args))["args"] == [
        {"x": 1, "y": 0},
        {"at": {"x": 2, "y": 3}},
        "red",
        {"color": "red", "tags": ["a"]},
        {"deep": [{"color": "red", "tags": []}]},
    ]


@pytest.mark.parametrize(
    "value", [object(), print, Point, 1j, {"a": [object()]}], ids=lambda value: type(value).__name__
)
def test_what_cannot_be_encoded_is_the_callers_error(form: Tongue, value: object) -> None:
    with pytest.raises(TypeError, match=r"cannot encode"):
        form.dialect.write_event("bid", (value,))


def test_a_value_within_itself_is_the_callers_error(form: Tongue) -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        form.dialect.write_event("bid", (loop,))


def test_integers_beyond_64_bits_are_for_json_alone() -> None:
    assert JSON.sent(JSON.dialect.write_event("bid", (2**64,)))["args"] == [2**64]
    with pytest.raises(ValueError, match="not for a client with format=msgpack"):
        MSGPACK.dialect.write_event("bid", (2**64,))


def test_bytes_stay_bytes_in_messagepack_and_are_base64_in_json() -> None:
    assert MSGPACK.sent(MSGPACK.dialect.write_event("file", (b"\xff",)))["args"] == [b"\xff"]
    assert JSON.sent(JSON.dialect.write_event("file", (b"\xff",)))["args"] == ["/w=="]


names = st.text(st.characters(codec="utf-8"))
numbers = st.integers(0, MAX_ACK)


@given(forms, names, st.lists(values, max_size=4), st.none() | numbers)
def test_what_is_written_as_an_event_reads_back(form: Tongue, name: str, args: list[Any], number: int | None) -> None:
    incoming = form.back(form.dialect.write_event(name, tuple(args), number))
    assert (incoming.event, form.unpack(incoming.args)) == (name, args)
    assert incoming.id == (UNSET if number is None else number)
    assert incoming.ack is UNSET


@given(forms, numbers, st.lists(values, max_size=4))
def test_what_is_written_as_an_answer_reads_back(form: Tongue, number: int, args: list[Any]) -> None:
    incoming = form.back(form.dialect.write_answer(number, tuple(args)))
    assert (incoming.event, incoming.ack, form.unpack(incoming.args)) == (UNSET, number, args)


@given(forms, numbers, names, names, names)
def test_what_is_written_as_a_refusal_reads_back(form: Tongue, number: int, kind: str, text: str, path: str) -> None:
    incoming = form.back(form.dialect.write_refusal(number, AnswerError(kind, text, path)))
    assert (incoming.ack, incoming.error) == (number, AnswerError(kind, text, path))


@given(forms, values)
def test_any_value_is_an_event_an_answer_or_invalid(form: Tongue, value: object) -> None:
    error = form.refusal(value)
    assert error in (None, InvalidMessage)
    if not isinstance(value, dict):
        assert error is InvalidMessage
    elif not value.keys() & {"event", "ack", "join", "leave"}:
        assert form.unpack(form.heard(value).args) == [value]
