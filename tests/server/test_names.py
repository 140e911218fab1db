"""What applications give as names and arguments: texts and numbers of any subclass, and no other names."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec
import pytest
from django.utils.safestring import SafeString  # type: ignore[import-untyped]

from primacron import HttpRequest, Primacron, RegistrationError, Session
from tests.conftest import Serve
from tests.support.engine import Client, Events
from tests.support.hearing import Hearing

SECRET = "a secret of the back end"


class Name(StrEnum):
    NEWS = "news"
    ASK = "ask"
    ANN = "ann"
    PHONE = "phone"


class Real(float):
    """What numpy's float64 is: a subclass of float."""


class Whole(int):
    pass


class Blob(bytes):
    pass


class Room:
    """A server with one client, ann/phone."""

    def __init__(self, server: Primacron, front: Client) -> None:
        self.server = server
        self.front = front

    async def enter(self, query: str = "account=someone") -> tuple[Events, Session]:
        opened = Hearing(self.server, "connection")
        client = await self.front.connect(query)
        (session,) = await opened.next()
        return client, session


@pytest.fixture
async def room(serve: Serve) -> Room:
    server = Primacron(secret=SECRET)
    server.authorize(lambda request: SafeString("ann"))
    server.uuid(lambda request: Name.PHONE)
    return Room(server, await serve(server))


async def test_hooks_may_return_a_subclass_of_str(kind: str, room: Room) -> None:
    _, session = await room.enter()
    assert (session.account, session.id) == ("ann", "phone")
    assert (type(session.account), type(session.id)) == (str, str)


def targets(server: Primacron, session: Session) -> list[Any]:
    """Return all that sends events."""
    return [
        session,
        server.session(SafeString("ann"), Name.PHONE),
        server.session("ann", "nobody"),
        server.account(Name.ANN),
        server.account(SafeString("nobody")),
        server.everyone,
    ]


async def test_the_name_of_an_event_may_be_a_member_of_an_enum_or_a_safe_string(room: Room) -> None:
    client, session = await room.enter()
    sends = [target for target in targets(room.server, session) if getattr(target, "id", "") != "nobody"]
    for target in sends:
        target.emit(Name.NEWS, 1)
        target.emit(SafeString("news"), 2)
    for _ in range(4):
        assert await client.receive() == {"event": "news", "args": [1]}
        assert await client.receive() == {"event": "news", "args": [2]}


async def test_arguments_of_a_subclass_are_sent_as_their_base(room: Room) -> None:
    args = (SafeString("<b>"), Real(1.5), Whole(2**40), {SafeString("key"): [Real(-0.25)], Name.NEWS: Name.ASK})
    plain = ["<b>", 1.5, 2**40, {"key": [-0.25], "news": "ask"}]
    client, session = await room.enter()
    session.emit("x", *args)
    assert await client.receive() == {"event": "x", "args": plain}
    session.emit("x", Blob(b"ab"))
    assert await client.receive() == {"event": "x", "args": ["YWI="]}
    await client.close()
    socket = await room.front.websocket("account=a&format=msgpack")
    await socket.receive()
    room.server.everyone.emit("x", *args, Blob(b"ab"))
    packed = await socket.receive()
    assert isinstance(packed, bytes)
    assert msgspec.msgpack.decode(packed) == {"event": "x", "args": [*plain, b"ab"]}


async def test_raw_texts_and_bytes_may_be_of_a_subclass(kind: str, serve: Serve) -> None:
    server = Primacron(dialect="raw")
    front = await serve(server)
    socket = await front.websocket()
    await socket.receive()
    for sent, data in ((SafeString("<b>"), "4<b>"), (Blob(b"ab"), b"ab"), (Name.NEWS, "4news")):
        server.everyone.emit("message", sent)
        assert await socket.receive() == data


async def test_handlers_answers_and_listeners_are_registered_by_any_text(room: Room) -> None:
    server = room.server

    @server.event(Name.ASK)
    def ask(session: Session, value: int) -> Any:
        return SafeString(str(value))

    server.validate(SafeString("bid"), lambda value: True)
    heard = Hearing(server)
    server.on(SafeString("stream::bid"), heard._listen)
    server.on(SafeString("stream::ask"), heard._listen)
    server.off(SafeString("stream::ask"), heard._listen)
    server.get(SafeString("/page"))(lambda request: SafeString("<p>"))
    client, _ = await room.enter()
    await client.emit("ask", 5, id=1)
    assert await client.receive() == {"ack": 1, "args": ["5"]}
    await client.emit("bid", 7)
    assert (await heard.next())[1:] == (7,)
    assert (await room.front.fetch("GET", "/page")).body == b"<p>"
    with pytest.raises(RegistrationError, match="'ask' already has"):
        server.event("ask")(ask)


async def test_sessions_are_found_and_closed_by_any_text(room: Room) -> None:
    ended = Hearing(room.server, "disconnection")
    client, session = await room.enter()
    found = await room.server.find(Name.ANN, SafeString("phone"))
    assert found is not None
    assert type(found.account) is str
    assert room.server.socket(Name.PHONE) is session
    assert (await room.server.pipe(session, Name.ANN, Name.PHONE)).ok
    assert (await room.server.unpipe(session, Name.ANN, Name.PHONE)).ok
    receipt = await room.server.session(Name.ANN, Name.PHONE).emit("x", key=SafeString("once"))
    assert receipt == await room.server.session("ann", "phone").emit("x", key="once")
    assert await client.receive() == {"event": "x", "args": []}
    session.disconnect(SafeString("see you"))
    assert await client.receive_close() == (1000, "see you")
    assert (await ended.next())[1] == "see you"


def _take(session: Any = None) -> None: ...


NO_NAMES = [None, 5, 1.5, b"news", True, ["news"]]


@pytest.mark.parametrize("wrong", NO_NAMES)
async def test_nothing_else_names_an_event_whatever_the_target(room: Room, wrong: Any) -> None:
    client, session = await room.enter()
    for target in targets(room.server, session):
        with pytest.raises(TypeError, match="event: expected a str"):
            target.emit(wrong, 1)
        if hasattr(target, "call"):
            with pytest.raises(TypeError, match="event: expected a str"):
                await target.call(wrong, 1)
    for send in (room.server.broadcast, lambda message: room.server.forward("ann", "phone", message)):
        with pytest.raises(TypeError, match="event: expected a str"):
            send({"event": wrong, "args": [1]})
    room.server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


@pytest.mark.parametrize("wrong", NO_NAMES)
async def test_nothing_else_names_an_account_a_session_a_reason_or_a_key(room: Room, wrong: Any) -> None:
    client, session = await room.enter()
    server = room.server
    mistakes: list[Callable[[], Any]] = [
        lambda: server.account(wrong),
        lambda: server.session(wrong, "phone"),
        lambda: server.session("ann", wrong),
        lambda: server.forward(wrong, "phone", 1),
        lambda: server.socket(wrong),
        lambda: server.on(wrong, print),
        lambda: server.once(wrong, print),
        lambda: server.off(wrong, print),
    ]
    mistakes += [partial(target.disconnect, wrong) for target in targets(server, session)]
    if wrong is not None:
        mistakes += [partial(target.emit, "x", key=wrong) for target in targets(server, session)]
    for mistake in mistakes:
        with pytest.raises(TypeError, match="expected a str"):
            mistake()
    for asking in (server.find(wrong, "phone"), server.pipe(session, "ann", wrong), server.unpipe(session, wrong, "a")):
        with pytest.raises(TypeError, match="expected a str"):
            await asking
    for register in (server.event, server.validate):
        with pytest.raises(RegistrationError, match="expected a text"):
            register(wrong)(_take)
    with pytest.raises(RegistrationError, match="expected a path"):
        server.get(wrong)(lambda request: "")
    server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


@pytest.mark.parametrize("wrong", [None, 5, True, ["news"], {}])
async def test_a_put_of_an_event_without_a_name_is_400_and_reaches_nobody(kind: str, room: Room, wrong: Any) -> None:
    client, _ = await room.enter()
    for where in ({"everyone": True}, {"account": "ann"}, {"account": "ann", "session": "phone"}):
        body = json.dumps({**where, "message": {"event": wrong, "args": [1]}}).encode()
        headers = {"Authorization": f"Bearer {SECRET}"}
        answer = await room.front.fetch("PUT", "/primacron/broadcast", headers, body)
        assert (answer.status, answer.json()["type"]) == (400, "invalid"), answer.body
        assert "event: expected a str" in answer.json()["description"]
    room.server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


def give_bytes(request: HttpRequest) -> Any:
    return Blob(b"ann")


async def test_bytes_are_no_account(kind: str, serve: Serve) -> None:
    server = Primacron()
    server.authorize(give_bytes)
    front = await serve(server)
    answer = await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann")
    assert answer.status >= 400
