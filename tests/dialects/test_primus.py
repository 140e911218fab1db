"""What the Primus client says, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from primacron.dialects.base import AnswerError, Control, Incoming
from primacron.dialects.primus import PrimusDialect
from primacron.errors import InvalidMessage, UndecodableMessage
from tests.dialects.reading import SID, control, heard, refusal, values

dialect = PrimusDialect(10_000)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ('"primus::ping::1795397565134"', b'"primus::pong::1795397565134"'),
        ('"primus::ping::"', b'"primus::pong::"'),
        ('"primus::ping::' + "9" * 1_000 + '"', b'"primus::pong::' + b"9" * 32 + b'"'),
        ('"primus::ping::a\\"b"', b'"primus::pong::a\\"b"'),
        ('"primus::id::"', f'"primus::id::{SID}"'.encode()),
        ('"primus::id::other"', f'"primus::id::{SID}"'.encode()),
        (' \n"primus::id::" ', f'"primus::id::{SID}"'.encode()),
        ('"primus::pong::1795397565134"', None),
        ('"primus::server::close"', None),
        ('"primus::foo::1"', None),
        ('"primus::"', None),
        ('"primus::__class__::1"', None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_its_own_protocol_is_answered_and_never_an_event(text: str, reply: bytes | None) -> None:
    assert control(dialect, text) == reply


@pytest.mark.parametrize(
    "value", [None, 5, -1.5, True, "text", "", "primus:", " primus::id::", [], [1, 2], {}, {"a": 1}]
)
def test_any_other_value_is_the_event_message(value: object) -> None:
    incoming = heard(dialect, json.dumps(value))
    assert (incoming.event, json.loads(bytes(incoming.args))) == ("message", [value])
    assert incoming.id is incoming.ack is UNSET


@pytest.mark.parametrize(
    ("text", "event", "args"),
    [
        ('{"emit":["bid",1,{"a":2}]}', "bid", [1, {"a": 2}]),
        ('{"emit":["bid"]}', "bid", []),
        (' { "emit" : [ "bid" , 1 ] } ', "bid", [1]),
        ('{"more":1,"emit":["bid",1]}', "bid", [1]),
        ('{"emit":["ask"],"emit":["bid"]}', "bid", []),
        ('{"emit":["primus::id::"]}', "primus::id::", []),
        ('{"emit":["error::json"]}', "error::json", []),
        ('{"emit":[""]}', "", []),
    ],
)
def test_packets_of_primus_emit_are_events(text: str, event: str, args: list[Any]) -> None:
    incoming = heard(dialect, text)
    assert (incoming.event, json.loads(bytes(incoming.args))) == (event, args)


@pytest.mark.parametrize(
    "value",
    [
        {"emit": "bid"},
        {"emit": {"0": "bid"}},
        {"emit": None},
        {"emit": 5},
        {"emit": ""},
        {"a": {"emit": ["bid"]}},
        {"a": 'the word "emit"'},
        {"Emit": ["bid"]},
    ],
)
def test_objects_that_only_look_like_them_are_messages(value: dict[str, Any]) -> None:
    incoming = heard(dialect, json.dumps(value))
    assert (incoming.event, json.loads(bytes(incoming.args))) == ("message", [value])


@pytest.mark.parametrize("name", ["", "5", "null", "true", "{}", '["bid"]', "1e999", '{"toString":"foo"}'])
def test_an_emit_without_a_name_is_invalid(name: str) -> None:
    assert refusal(dialect, f'{{"emit":[{name}]}}') is InvalidMessage


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{bad",
        "nul",
        "NaN",
        "'text'",
        '"primus::id',
        '"primus::id::" x',
        '"primus::\ud800"',
        '{"emit":["bid",NaN]}',
        '{"emit":["bid",',
        '{"emit":["bid"],}',
        '{"emit":["\\ud80"]}',
        '{"emit":["bid","\\ud800"}',
        "\ud800",
        "\u2028",
        "\ufeff1",
        "\x0b1",
        "1 2",
    ],
)
def test_what_is_not_json_cannot_be_decoded(text: str) -> None:
    assert refusal(dialect, text) is UndecodableMessage


@pytest.mark.parametrize(
    "text",
    ['"primus::\\ud800"', '{"emit":["\\ud800"]}', '{"emit":["bid",{"\\ud800":1}]}', '"\\ud800"', '{"x":["\\ud800"]}'],
)
def test_half_a_surrogate_pair_is_a_wrong_value(text: str) -> None:
    assert refusal(dialect, text) is InvalidMessage


def test_binary_messages_are_invalid() -> None:
    assert refusal(dialect, b'"primus::id::"') is InvalidMessage


@pytest.mark.parametrize("head", ["", '{"emit":["bid",', '{"emit":'])
def test_depth_and_elements_are_limited(head: str) -> None:
    assert refusal(dialect, head + "[" * 100_000) is InvalidMessage
    assert refusal(PrimusDialect(1_000_000), head + "[" * 100_000) is UndecodableMessage
    assert refusal(PrimusDialect(5), "[1,2,3,4,5]") is None
    assert refusal(PrimusDialect(5), "[1,2,3,4,5,6]") is InvalidMessage


@given(st.text() | values.map(json.dumps) | st.text(alphabet='{}[]",:emit primus1'))
def test_any_text_is_read_or_refused_with_a_documented_error(text: str) -> None:
    refusal(dialect, text)


# What goes out


def test_events_are_packets_of_primus_emit_and_a_single_message_is_bare() -> None:
    assert dialect.write_event("bid", (1, "a")).data == b'{"emit":["bid",1,"a"]}'
    assert dialect.write_event("bid", ()).data == b'{"emit":["bid"]}'
    assert dialect.write_event("message", ({"a": 1},)).data == b'{"a":1}'
    assert dialect.write_event("message", ()).data == b'{"emit":["message"]}'
    assert dialect.write_event("message", (1, 2)).data == b'{"emit":["message",1,2]}'


@pytest.mark.parametrize("content", [None, 5, "text", [1], {"event": "bid", "args": []}, {"emit": ["bid"]}])
def test_forwarded_messages_are_bare(content: object) -> None:
    assert json.loads(dialect.write_message(content).data) == content


@pytest.mark.parametrize("text", ["primus::server::close", "primus::id::x", "primus::"])
def test_text_that_its_protocol_would_act_on_is_wrapped(text: str) -> None:
    wrapped = b'{"emit":["message","%b"]}' % text.encode()
    assert dialect.write_event("message", (text,)).data == wrapped
    assert dialect.write_message(text).data == wrapped


def test_line_ends_of_older_javascript_are_escaped() -> None:
    wire = dialect.write_event("message", ("a\u2028b\u2029c",)).data
    assert wire == b'"a\\u2028b\\u2029c"'
    wire = dialect.write_event("a\u2028", ({"\u2029": "é"},)).data
    assert wire == '{"emit":["a\\u2028",{"\\u2029":"é"}]}'.encode()


def test_its_heartbeat_and_its_goodbye() -> None:
    assert dialect.write_heartbeat(1795397565134).data == b'"primus::ping::1795397565134"'
    assert dialect.write_goodbye().data == b'"primus::server::close"'
    assert dialect.write_session("ann", "tab-1") is None


def test_it_has_no_answers() -> None:
    assert dialect.answers is False
    with pytest.raises(ValueError, match="cannot answer a call"):
        dialect.write_event("bid", (), 1)
    with pytest.raises(ValueError, match="the primus dialect has no answers"):
        dialect.write_answer(1, ())
    with pytest.raises(ValueError, match="the primus dialect has no answers"):
        dialect.write_refusal(1, AnswerError())


@given(st.text(st.characters(codec="utf-8")), st.lists(values, max_size=3))
def test_what_is_written_as_an_event_reads_back(name: str, args: list[Any]) -> None:
    wire = dialect.write_event(name, tuple(args)).data.decode()
    assert "\u2028" not in wire
    assert "\u2029" not in wire
    incoming = heard(dialect, wire)
    assert (incoming.event, json.loads(bytes(incoming.args))) == (name, args)


@given(st.text(st.characters(codec="utf-8")) | st.text("primus:").map("primus::".__add__))
def test_no_text_of_the_application_is_taken_for_its_protocol(text: str) -> None:
    found = dialect.read(dialect.write_message(text).data.decode(), SID)
    assert not isinstance(found, Control)
    assert isinstance(found, Incoming)
    assert json.loads(bytes(found.args)) == [text]
