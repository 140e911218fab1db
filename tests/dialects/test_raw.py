"""Messages as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from primacron.dialects.base import AnswerError, Form
from primacron.dialects.raw import RawDialect
from tests.dialects.reading import arguments, heard

dialect = RawDialect()
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x1e"))


@given(st.text() | st.binary())
def test_each_message_is_one_event_with_one_argument(message: str | bytes) -> None:
    incoming = heard(dialect, message)
    assert (incoming.event, arguments(incoming)) == ("message", (message,))
    assert incoming.id is incoming.ack is UNSET
    assert dialect.form is Form.VALUE


@given(texts | st.binary())
def test_what_is_written_goes_out_as_it_is_and_reads_back(message: str | bytes) -> None:
    for packet in (dialect.write_event("message", (message,)), dialect.write_message(message)):
        assert packet.binary is isinstance(message, bytes)
        assert packet.data == (message if isinstance(message, bytes) else message.encode())
        read = packet.data if packet.binary else packet.data.decode()
        assert arguments(heard(dialect, read)) == (message,)


@pytest.mark.parametrize("event", ["", "bid", "Message", "message ", "error::json"])
def test_there_is_no_other_event(event: str) -> None:
    with pytest.raises(ValueError, match="the raw dialect has only 'message'"):
        dialect.write_event(event, ("text",))


def test_there_are_no_answers() -> None:
    assert dialect.answers is False
    with pytest.raises(ValueError, match="without an answer"):
        dialect.write_event("message", ("text",), 1)
    with pytest.raises(ValueError, match="the raw dialect has no answers"):
        dialect.write_answer(1, ())
    with pytest.raises(ValueError, match="the raw dialect has no answers"):
        dialect.write_refusal(1, AnswerError())


@pytest.mark.parametrize("args", [(), ("a", "b"), (5,), (None,), ({"a": 1},), (["a"],), (bytearray(b"a"),)], ids=repr)
def test_an_event_takes_one_argument_text_or_bytes(args: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="a raw message takes one argument, a str or bytes"):
        dialect.write_event("message", args)


@pytest.mark.parametrize(
    ("content", "text"), [(None, "null"), (5, "5"), ([1, "a"], '[1,"a"]'), ({"event": "bid"}, '{"event":"bid"}')]
)
def test_forwarded_values_are_json_text(content: object, text: str) -> None:
    packet = dialect.write_message(content)
    assert (packet.binary, packet.data.decode()) == (False, text)


def test_it_says_nothing_of_its_own() -> None:
    assert dialect.write_heartbeat(1) is dialect.write_goodbye() is dialect.write_session("ann", "tab-1") is None


@pytest.mark.parametrize("text", ["\x1e", "a\x1eb", "hi\x1e1"])
def test_text_that_a_poll_would_split_is_refused_where_a_client_may_poll(text: str) -> None:
    for write in (dialect.write_message, lambda content: dialect.write_event("message", (content,))):
        with pytest.raises(ValueError, match=r"U\+001E"):
            write(text)
        assert RawDialect(separated=False).write_message(text).data == text.encode()
        assert dialect.write_message(text.encode()).data == text.encode()
    # As JSON it is escaped.
    assert dialect.write_message([text]).data.decode() == f'["{text}"]'.replace("\x1e", "\\u001e")
