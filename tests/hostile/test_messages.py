"""Messages that are no envelope, or name events that are not for clients."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Session
from tests.hostile.arena import HONEST, Arena
from tests.hostile.conftest import Attack
from tests.support.engine import SEPARATOR, Events

BY = ("websocket", "polling")

Send = Callable[[str], Any]


class Exact(msgspec.Struct, forbid_unknown_fields=True):
    """What has no other fields than its own, so that errors name those of the client."""

    lot: str = ""


def events_server(**options: Any) -> Primacron:
    """Return a server with events of some types."""
    server = Primacron(None, options)

    @server.event("any")
    def take_any(session: Session, value: Any) -> str:
        return type(value).__name__

    @server.event("int")
    def take_int(session: Session, value: int) -> int:
        return value

    @server.event("text")
    def take_text(session: Session, value: str) -> str:
        return value

    return server


async def begin(attack: Attack, **options: Any) -> tuple[Arena, Events]:
    """Return an arena with such a server, and the attacker's websocket."""
    arena = await attack(events_server(**{"bad_messages": 1000, **options}))
    return arena, await arena.client.connect("account=mallory")


def envelope(event: str, arg: str, id: int = 1) -> str:
    """Return an event whose argument is JSON as given."""
    return f'{{"event":"{event}","args":[{arg}],"id":{id}}}'


async def assert_goes_on(arena: Arena, client: Events, case: object = None) -> None:
    """Check that the next message is handled as if nothing had been, and that nothing came before its answer."""
    await client.socket.send("4" + envelope("text", '"still"', 77))
    assert await client.receive() == {"ack": 77, "args": ["still"]}, case
    assert arena.is_quiet, case


# JSON

UNDECODABLE = [
    "",
    " ",
    "{",
    "}",
    '{"event":"any","args":[1],}',
    "{'event':'any'}",
    "{event:1}",
    "{}{}",
    "{}//",
    "{}\x00",
    "\ufeff{}",
    "undefined",
    "NaN",
    "Infinity",
    "-Infinity",
    envelope("any", "NaN"),
    envelope("any", "Infinity"),
    envelope("any", "-Infinity"),
    envelope("any", "01"),
    envelope("any", ".5"),
    envelope("any", "+1"),
    envelope("any", "1_000"),
    envelope("any", "0x10"),
    envelope("any", '"\x01"'),
    envelope("any", '"\\x41"'),
    envelope("any", '"\\ud80"'),
    envelope("any", "'a'"),
    envelope("any", "[" * 5_000),
    "[" * 9_000,
]
INVALID = [
    '{"event":"any","args":["\\ud800"]}',
    '{"event":"any","args":[{"\\udc00\\ud800":1}]}',
    '{"event":"\\ud800","args":[]}',
    "null",
    "true",
    "1",
    "-1.5",
    '"text"',
    "[]",
    '["any",[1]]',
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    envelope("any", "[" * 100_000 + "]" * 100_000),
    envelope("any", '{"a":' * 100_000 + "1" + "}" * 100_000),
    envelope("any", "[" + ",".join(["1"] * 20_000) + "]"),
    envelope("any", "{" + ",".join(f'"{number}":1' for number in range(70_000)) + "}"),
    envelope("any", "{" + ",".join('"a":1' for _ in range(100_000)) + "}"),
    '{"event":"any","args":{}}',
    '{"event":"any","args":"text"}',
    '{"event":"any","args":null}',
    '{"event":"any","args":0}',
]


@pytest.mark.parametrize(("messages", "event"), [(UNDECODABLE, "error::json"), (INVALID, "error::invalid")])
async def test_what_is_no_envelope_is_told_in_its_kind_and_the_next_message_is_handled(
    kind: str, attack: Attack, messages: list[str], event: str
) -> None:
    arena, client = await begin(attack)
    for message in messages:
        await client.socket.send("4" + message)
        _, context = await arena.error(event)
        assert context.message == message
        assert context.session is arena.session("mallory")
        await assert_goes_on(arena, client, message[:100])


HALF = "half of a surrogate pair"


@pytest.mark.parametrize(
    "message", [envelope("any", '"\\ud83d"'), envelope("\\ud83d", "1"), envelope("no", '{"\\ud83d":1}')]
)
async def test_text_that_cannot_be_written_again_is_answered_as_a_wrong_value(
    kind: str, attack: Attack, message: str
) -> None:
    arena, client = await begin(attack)
    await client.socket.send("4" + message)
    answer = await client.receive()
    assert (answer["ack"], answer["error"]["type"]) == (1, "invalid")
    assert HALF in answer["error"]["message"]
    error, context = await arena.error("error::invalid")
    assert (HALF in str(error), context.message) == (True, message)
    await assert_goes_on(arena, client)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_nesting_as_deep_as_can_be_is_refused_or_handled_and_raises_nothing(
    kind: str, attack: Attack, opening: str
) -> None:
    arena, client = await begin(attack)
    closing = "]" if opening == "[" else "}"
    for depth in (100, 900, 9_900):
        await client.socket.send("4" + envelope("any", opening * depth + "1" + closing * depth))
        await client.socket.send("4" + envelope("text", '"still"', 77))
        answer = await client.receive()
        if answer["ack"] == 77:  # Python decides how deep its stack may become
            assert depth > 900
            await arena.error("error::json")
        else:
            assert answer == {"ack": 1, "args": ["list" if opening == "[" else "dict"]}
            assert await client.receive() == {"ack": 77, "args": ["still"]}
    assert arena.is_quiet


async def test_numbers_out_of_any_range_are_refused_with_an_answer(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    for event, number in (
        ("any", "1e999"),
        ("any", "-1e999"),
        ("int", "1e400000"),
        ("int", "1.5"),
        ("int", "9" * 5_000),
        ("any", "9" * 5_000),
        ("any", "-" + "9" * 900_000),
        ("text", "9" * 5_000),
    ):
        await client.socket.send("4" + envelope(event, number))
        error, context = await arena.error("error::validation")
        assert await client.receive() == {
            "ack": 1,
            "error": {"type": "validation", "message": str(error), "path": "$[0]"},
        }, number[:20]
        assert context.event == event
        await assert_goes_on(arena, client, number[:20])


async def test_names_of_python_and_javascript_are_keys_like_any_other(kind: str, attack: Attack) -> None:
    server = events_server()
    seen: list[Any] = []

    @server.event("keep")
    def keep(session: Session, value: dict[str, Any]) -> None:
        seen.append(value)

    arena = await attack(server)
    client = await arena.client.connect("account=mallory")
    value = {name: {"polluted": True} for name in ("__proto__", "constructor", "__class__", "__dict__", "self")}
    await client.emit("keep", value, id=1)
    assert await client.receive() == {"ack": 1, "args": []}
    assert seen == [value]
    fields = {"__proto__": {"event": "int"}, "__class__": 1, "session": 2, "event": "text", "args": ["x"], "id": 1}
    await client.send(fields)
    assert await client.receive() == {"ack": 1, "args": ["x"]}
    await assert_goes_on(arena, client)


async def test_of_a_key_given_twice_the_last_one_counts_as_in_javascript(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    await client.socket.send('4{"event":"int","event":"text","args":[1],"args":["x"],"id":1,"id":2}')
    assert await client.receive() == {"ack": 2, "args": ["x"]}
    await assert_goes_on(arena, client)


async def test_a_message_of_ten_thousand_elements_is_handled_and_one_more_is_not(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack, max_items=10_000)
    # The envelope and its arguments have four.
    for count, is_handled in ((9_990, True), (10_010, False)):
        await client.socket.send("4" + envelope("any", "[" + ",".join(["1"] * count) + "]"))
        if is_handled:
            assert await client.receive() == {"ack": 1, "args": ["list"]}
        else:
            error, _ = await arena.error("error::invalid")
            assert str(error) == "more than 10000 elements"
    await assert_goes_on(arena, client)


# MessagePack


async def test_what_is_no_messagepack_is_told_in_its_kind(kind: str, attack: Attack) -> None:
    arena = await attack(events_server(bad_messages=1000))
    socket = await arena.client.websocket("account=mallory&format=msgpack")
    await socket.receive()
    pack = msgspec.msgpack.encode
    good = pack({"event": "text", "args": ["still"], "id": 77})
    for message, event in (
        (b"", "error::json"),
        (b"\xc1", "error::json"),
        (b"\x93\xc0", "error::json"),
        (b"\xdf\xff\xff\xff\xff", "error::invalid"),
        (b"\xdd\xff\xff\xff\xff", "error::invalid"),
        (b"\xc6\xff\xff\xff\xff", "error::json"),
        (b"\x91" * 100_000, "error::invalid"),
        (good + b"\x00", "error::json"),
        (good[:-1], "error::json"),
        (b"\x81\x01\x02", "error::invalid"),
        (b"\xd6\xff\x00\x00\x00\x00", "error::invalid"),
        (pack(None), "error::invalid"),
        (pack([1]), "error::invalid"),
        (pack({"event": 5}), "error::invalid"),
        (pack({"event": "any", "args": [float("nan")]}), "error::invalid"),
        (b"\x81\xa5event\xa2\xff\xff", "error::invalid"),
        (b"\x82\xa5event\xa3any\xa4args\x91\xa2\xff\xff", "error::invalid"),
    ):
        await socket.send(message)
        await arena.error(event)
        await socket.send(good)
        answer = await socket.receive()
        assert isinstance(answer, bytes)
        assert msgspec.msgpack.decode(answer) == {"ack": 77, "args": ["still"]}, message[:20]
        assert arena.is_quiet


async def test_text_where_messagepack_was_agreed_and_binary_where_not_is_invalid(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    packed = await arena.client.websocket("account=packed&format=msgpack")
    await packed.receive()
    await client.socket.send(msgspec.msgpack.encode({"event": "text", "args": ["x"], "id": 1}))
    await arena.error("error::invalid")
    await packed.send("4" + envelope("text", '"x"'))
    await arena.error("error::invalid")
    await assert_goes_on(arena, client)


# Names of events

NO_NAMES = ['{"toString":"foo"}', "true", "false", "null", "[]", "{}", '["text"]', "0", "1.5", "-1", "1e308"]


async def test_an_event_whose_name_is_no_text_is_refused_with_an_answer(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    for name in NO_NAMES:
        for rest in ("", ',"args":["x"]'):
            await client.socket.send(f'4{{"event":{name}{rest},"id":1}}')
            error, _ = await arena.error("error::invalid")
            answer = await client.receive()
            assert answer == {"ack": 1, "error": {"type": "invalid", "message": str(error), "path": ""}}, name
            await assert_goes_on(arena, client, name)


INTERNAL = [
    "",
    " ",
    "text ",
    "Text",
    "error",
    "connect",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "connection",
    "disconnection",
    "listening",
    "close",
    "leaving",
    "arrived",
    "session",
    "message",
    "error::*",
    "error::json",
    "error::handler",
    "error::slow",
    "stream::text",
    "stream::any",
    "validate::text",
    "*",
    "__class__",
    "__init__",
    "__proto__",
    "constructor",
    "events",
    "emit",
    "primus::server::close",
    "\x00",
    "text\x00",
    "\n",
    "\u202e",
    "ｔext",  # noqa: RUF001 (full width)
    "x" * 129,
    "x" * 500_000,
]


@pytest.mark.parametrize("by", BY)
async def test_an_event_of_any_name_without_a_validator_is_refused_and_calls_nobody(
    kind: str, attack: Attack, by: str
) -> None:
    server = events_server(bad_messages=1000)
    called: list[tuple[Any, ...]] = []
    for name in ("listening", "close", "leaving", "arrived", "error::slow", "stream::text", "stream::any"):
        server.on(name, lambda *args: called.append(args))
    for name in ("connection", "disconnection"):
        server.on(name, lambda session, *args: called.append(args) if session.account != HONEST else None)
    arena = await attack(server)
    before = len(called)
    polling = await arena.poll_in() if by == "polling" else None
    client = None if polling else await arena.client.connect("account=mallory")
    assert len(called) == before + 1  # the connection
    for name in INTERNAL:
        message = {"event": name, "args": ["x"], "id": 1}
        if polling is not None:
            assert (await polling.post("4" + json.dumps(message))).text == "ok"
            answer = json.loads((await polling.poll()).text[1:])
        else:
            assert client is not None
            await client.send(message)
            answer = await client.receive()
        error, context = await arena.error("error::validation")
        assert str(error).startswith("no validator for the event")
        assert len(str(error)) < 700
        assert answer == {"ack": 1, "error": {"type": "validation", "message": str(error), "path": ""}}, name[:50]
        assert context.event == name
        assert len(called) == before + 1, name[:50]
    assert arena.is_quiet
    assert arena.ended == {}


async def test_an_event_may_be_named_like_one_of_the_server_and_is_kept_apart_from_it(
    kind: str, attack: Attack
) -> None:
    server = events_server()
    names = ("listening", "leaving", "close", "__class__")
    handled: list[str] = []
    for name in names:
        server.event(name)(make_handler(handled, name))
    arena = await attack(server)
    client = await arena.client.connect("account=mallory")
    for number, name in enumerate(names):
        await client.emit(name, id=number)
        assert await client.receive() == {"ack": number, "args": []}
    assert handled == list(names)
    assert (arena.ended, arena.is_quiet) == ({}, True)


def make_handler(handled: list[str], name: str) -> Callable[[Session], None]:
    """Return a handler without arguments that writes down that it was called."""

    def handler(session: Session) -> None:
        handled.append(name)

    return handler


async def test_a_message_that_is_an_object_without_an_event_is_the_event_message_alone(
    kind: str, attack: Attack
) -> None:
    arena, client = await begin(attack)
    messages: list[dict[str, Any]] = [{}, {"Event": "text"}, {"args": ["x"]}, {"error": {}}, {"event ": "text"}]
    for message in (*messages, {"id": 1}):
        await client.send(message)
        _, context = await arena.error("error::validation")
        assert context.event == "message"
        await assert_goes_on(arena, client, message)


@pytest.mark.parametrize("count", [0, 2, 32, 33, 5000])
async def test_more_or_fewer_arguments_than_declared_are_refused(kind: str, attack: Attack, count: int) -> None:
    arena, client = await begin(attack)
    await client.emit("text", *["x"] * count, id=1)
    error, _ = await arena.error("error::validation")
    assert await client.receive() == {"ack": 1, "error": {"type": "validation", "message": str(error), "path": ""}}
    await assert_goes_on(arena, client)


async def test_long_words_of_a_client_do_not_fill_the_log(
    kind: str, attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    server = events_server()
    server.log_errors(logging.getLogger("shop"))

    @server.event("exact")
    def exact(session: Session, value: Exact) -> None: ...

    arena = await attack(server)
    client = await arena.client.connect("account=mallory")
    long = "x" * 500_000
    await client.emit(long)
    await client.emit("exact", {long: 1})
    for _ in range(2):
        await arena.error("error::validation")
    lines = [record.getMessage() for record in caplog.records if record.name == "shop"]
    assert len(lines) == 2
    assert all(len(line) < 2000 and "mallory/" in line for line in lines)
    assert "event 'exact'" in lines[1]


# Too many


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("message", ["{", "[]", '{"event":"nobody"}', '{"event":"int","args":["x"]}', '{"event":5}'])
async def test_refused_messages_in_a_row_end_the_connection_with_the_reason(
    kind: str, attack: Attack, by: str, message: str
) -> None:
    arena = await attack(events_server(bad_messages=5))
    good = "4" + envelope("text", '"good"')
    packets = [*["4" + message] * 4, good, *["4" + message] * 5, good]
    if by == "polling":
        polling = await arena.poll_in()
        assert (await polling.post(SEPARATOR.join(packets))).text == "ok"
        answers = []
        while "1" not in answers:  # on a busy machine some of it is handled in a later turn
            answers += (await polling.poll()).text.split(SEPARATOR)
        assert answers.pop() == "1"
    else:
        client = await arena.client.connect("account=mallory")
        for packet in packets:
            await client.socket.send(packet)
        answers = [str(await client.socket.receive())]
        assert await client.receive_close() == (1008, "bad messages")
    assert answers == ['4{"ack":1,"args":["good"]}']
    assert await arena.reason("mallory") == "bad messages"
    kinds = {"{": "error::json", "[]": "error::invalid", '{"event":5}': "error::invalid"}
    for _ in range(9):
        await arena.error(kinds.get(message, "error::validation"))
    assert arena.is_quiet


async def test_a_client_that_mixes_one_good_message_into_each_few_bad_ones_stays(kind: str, attack: Attack) -> None:
    arena = await attack(events_server(bad_messages=5))
    client = await arena.client.connect("account=mallory")
    for _ in range(20):
        for _ in range(4):
            await client.socket.send("4{")
            await arena.error("error::json")
        await assert_goes_on(arena, client)
    assert arena.ended == {}
