"""Envelopes as JSON text: what only text can get wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.dialects.primacron import JsonDialect
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage
from tests.dialects.reading import heard, refusal, values
from tests.support.memory import peak_of
from tests.support.naming import brief

dialect = JsonDialect(10_000)
#: One that would let everything through by its number of elements.
patient = JsonDialect(10_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "{",
        "}",
        "{]",
        "[1,2",
        "nul",
        "nulll",
        "undefined",
        "NaN",
        "-Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "0x10",
        "'event'",
        "{'event':'bid'}",
        "{event:'bid'}",
        '{"event":"bid"',
        '{"event":"bid',
        '{"event"}',
        '{"event":}',
        '{"event":5,',
        '{"event":"bid",}',
        '{"event":"bid"}x',
        '{"event":"bid"}{}',
        '{"event":"bid"} {"event":"bid"}',
        '{"event":"bid","args":[1,]}',
        '{"event":"bid","args":[NaN]}',
        '{"event":"bid","args":[Infinity]}',
        '{"event":"bid","args":[-Infinity]}',
        '{"event":"bid","args":[1 2]}',
        '{"event":"bid"/* */}',
        '{"event":"bid"}//',
        '{"x":NaN}',
        '\ufeff{"event":"bid"}',
        '{"event":"a\nb"}',
        '{"event":"a\x00b"}',
        '{"event":"\\x41"}',
        '{"event":"\\u12"}',
        '{"event":"\\ud80"}',
        '{"event":"\\ud800","args":[NaN]}',
        '{"event":"\\ud800"',
        '{"event":"\\ud800" "\x01"}',
        '{"event":"\\ud83d\\ude00",}',
        "\ud800",
        '{"event":"\ud800"}',
        '{"event":"bid","args":["\udfff"]}',
        '{"x":"\ud800"}',
        "\u2028",
    ],
)
def test_what_is_not_json_cannot_be_decoded(text: str) -> None:
    assert refusal(dialect, text) is UndecodableMessage


HALVES = [
    '{"event":"bid","args":[H],"id":7}',
    '{"id":7,"args":[[{"a":H}]],"event":"bid"}',
    '{"event":"bid","args":[{H:1}],"id":7}',
    '{"event":H,"args":[1],"id":7}',
    '{"event":"bid","args":H,"id":7}',
    '{"event":5,"args":[H],"id":7}',
    '{"event":"bid","args":[],"id":7,H:2}',
    '{"\\u0065vent":"bid","args":[H],"id":7}',
]
HALVES_WITHOUT_ID = [
    "H",
    "[H]",
    '{"x":H}',
    '{"x":H,"id":7}',
    "{H:1}",
    '{"event":"bid","args":[H]}',
    '{"event":"bid","args":[H],"id":"7"}',
    '{"event":"bid","args":[H],"id":H}',
    '{"event":"bid","args":[H],"id":true}',
    '{"event":"bid","args":[H],"id":-1}',
    '{"event":"bid","args":[H],"id":9007199254740992}',
    '{"ack":7,"args":[H]}',
    '{"ack":7,"id":7,"event":"bid","args":[H]}',
    '{"ack":7,"error":{"message":H}}',
]


@pytest.mark.parametrize("half", ["\\ud83d", "a\\uDE00b", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00", "\\\\\\ud83d"])
@pytest.mark.parametrize("text", HALVES + HALVES_WITHOUT_ID)
def test_half_a_surrogate_pair_is_a_wrong_value_and_its_sender_is_answered(text: str, half: str) -> None:
    with pytest.raises(InvalidMessage, match="half of a surrogate pair") as caught:
        dialect.read(text.replace("H", f'"{half}"'), "sid")
    assert caught.value.id == (7 if text in HALVES else None)


def test_what_only_looks_like_half_a_surrogate_pair_is_text() -> None:
    for text in ("\\\\ud83d", "\\ud83d\\ude00", "\\\\\\ud83d\\ude00"):
        incoming = heard(dialect, f'{{"event":"bid","args":["{text}"]}}')
        assert json.loads(bytes(incoming.args)) == [json.loads(f'"{text}"')]


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"bid","args":[1]}',
        ' \t\r\n{ "event" : "bid" , "args" : [1] } \n',
        '{"args":[1],"event":"bid"}',
        '{"\\u0065vent":"\\u0062id","args":[1]}',
        '{"event":"ask","event":"bid","args":[2],"args":[1]}',  # the last one counts, as in JavaScript
    ],
)
def test_the_ways_to_write_one_event(text: str) -> None:
    incoming = heard(dialect, text)
    assert (incoming.event, json.loads(bytes(incoming.args))) == ("bid", [1])


@pytest.mark.parametrize("text", ['{"event":5,"event":"bid"}', '{"event":"bid","event":5}', '{"ack":1,"ack":-1}'])
def test_a_repeated_key_hides_no_wrong_value(text: str) -> None:
    assert refusal(dialect, text) is InvalidMessage


def test_other_objects_stay_as_they_were_written() -> None:
    assert bytes(heard(dialect, ' {"x": 1e999, "y":1.0}\n').args) == b'[ {"x": 1e999, "y":1.0}\n]'


def test_line_separators_of_javascript_are_text_like_any_other() -> None:
    incoming = heard(dialect, '{"event":"a\u2028b","args":["\u2029"]}')
    assert (incoming.event, json.loads(bytes(incoming.args))) == ("a\u2028b", ["\u2029"])


NUMBERS = ["1e999", "-1e999", "1e308", "9" * 5_000, "-" + "9" * 5_000, "0." + "9" * 5_000, "1e-999", "1E+400"]


@pytest.mark.parametrize("number", NUMBERS, ids=brief)
@pytest.mark.parametrize("field", ["id", "ack", "event"])
def test_numbers_beyond_all_bounds_are_no_names_and_no_ids(field: str, number: str) -> None:
    text = f'{{"event":"bid","{field}":{number}}}'
    assert refusal(dialect, text) is InvalidMessage
    assert refusal(dialect, number) is InvalidMessage


NESTED = {
    "arrays that end": "[" * 100_000 + "]" * 100_000,
    "arrays that do not end": "[" * 100_000,
    "objects that end": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "objects that do not end": '{"a":' * 100_000,
    "arguments that end": '{"event":"bid","args":' + "[" * 100_000 + "]" * 100_000 + "}",
    "arguments that do not end": '{"event":"bid","args":' + "[" * 100_000,
    "a name": '{"event":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a field nobody knows": '{"event":"bid","x":' + '{"a":[' * 50_000 + "]}" * 50_000 + "}",
    "another object": '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
}


@pytest.mark.parametrize("name", NESTED)
def test_any_depth_is_refused_whether_or_not_the_count_finds_it_first(name: str) -> None:
    assert refusal(dialect, NESTED[name]) is InvalidMessage
    assert refusal(patient, NESTED[name]) in (InvalidMessage, UndecodableMessage)
    with pytest.raises(MessageError) as caught:
        dialect.read(NESTED[name], "sid")
    assert str(caught.value) == "more than 10000 elements"


def test_elements_are_commas_and_opening_brackets_and_as_many_as_allowed() -> None:
    text = '{"event":"bid","args":[1,[2,3],{"a":4}, "{[,,,"]}'
    count = 2 + 5 + 1 + 1  # the envelope and its comma, args and its commas, and what is in it
    assert refusal(JsonDialect(count - 1), text) is InvalidMessage
    assert refusal(JsonDialect(count), text) is None


FLOODS = {
    "a million keys": "{" + ",".join(f'"k{number}":1' for number in range(1_000_000)) + "}",
    "a million arguments": '{"event":"bid","args":[' + "1," * 999_999 + "1]}",
    "a million empty arrays": '{"event":"bid","args":[' + "[]," * 999_999 + "[]]}",
    "a million empty objects": '{"x":[' + "{}," * 999_999 + "{}]}",
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_elements_is_refused_before_much_is_made_of_it(name: str) -> None:
    text = FLOODS[name]
    # The pieces of the text between its strings, at most.
    assert peak_of(lambda: refusal(dialect, text)) < 8 * len(text)
    with pytest.raises(InvalidMessage, match="more than 10000 elements"):
        dialect.read(text, "sid")


@given(values, st.data())
def test_damaged_envelopes_are_read_or_refused_with_a_documented_error(value: object, data: st.DataObject) -> None:
    text = json.dumps({"event": "bid", "args": [value], "id": 1}, ensure_ascii=False)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(st.text(max_size=2)) + text[start + data.draw(st.integers(0, 2)) :]
    refusal(dialect, text)


def test_any_number_of_event_names_is_written_right_and_few_are_remembered() -> None:
    for number in range(10_000):
        assert dialect.write_event(f"event-{number}", (1,)).data == b'{"event":"event-%d","args":[1]}' % number
    assert len(dialect._heads) <= 4096
    assert dialect.write_event("event-1", ()).data == b'{"event":"event-1","args":[]}'


def test_names_are_escaped() -> None:
    assert dialect.write_event('"],\n\\', ()).data == b'{"event":"\\"],\\n\\\\","args":[]}'
