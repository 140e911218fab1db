"""The life of a session, as applications hear it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.support.hearing import Hearing


async def test_connection_and_disconnection_are_heard_once_each(kind: str, serve: Serve) -> None:
    server = Primacron()
    opened, ended = Hearing(server, "connection"), Hearing(server, "disconnection")
    front = await serve(server)
    client = await front.connect("account=ann&color=red")
    (session,) = await opened.next()
    assert isinstance(session, Session)
    assert (session.account, session.peer, session.query["color"]) == ("ann", "127.0.0.1", "red")
    assert session.connected
    await client.close()
    assert await ended.next() == (session, "transport close")
    assert not session.connected
    assert opened.is_empty
    assert ended.is_empty
    assert server.count() == 0


async def test_session_ids_are_long_random_and_not_the_sid(serve: Serve) -> None:
    server = Primacron()
    opened = Hearing(server, "connection")
    front = await serve(server)
    clients = [await front.connect() for _ in range(100)]
    sessions = [(await opened.next())[0] for _ in clients]
    assert len({session.id for session in sessions}) == 100
    assert all(len(session.id) >= 24 for session in sessions)
    assert not {client.sid for client in clients} & {session.id for session in sessions}


async def test_a_session_id_of_the_client_is_not_believed(serve: Serve) -> None:
    server = Primacron()
    opened = Hearing(server, "connection")
    await (await serve(server)).connect("account=ann&session=mine")
    (session,) = await opened.next()
    assert session.id != "mine"


async def test_messages_wait_for_an_asynchronous_connection_listener(serve: Serve) -> None:
    server = Primacron()
    gate = asyncio.Event()
    order: list[str] = []

    @server.on("connection")
    async def connected(session: Session) -> None:
        await gate.wait()
        session.data["ready"] = True
        order.append("connected")

    @server.event("hello")
    def hello(session: Session) -> bool:
        order.append("hello")
        return bool(session.data["ready"])

    client = await (await serve(server)).connect()
    await client.emit("hello", id=1)
    asyncio.get_running_loop().call_later(0.02, gate.set)
    assert await client.receive() == {"ack": 1, "args": [True]}
    assert order == ["connected", "hello"]


async def test_disconnection_is_heard_after_the_last_message_was_handled(serve: Serve) -> None:
    server = Primacron()
    order: list[str] = []
    ended = Hearing(server, "disconnection")
    server.on("disconnection", lambda *_: order.append("disconnection"))

    @server.event("slow")
    async def slow(session: Session, name: str) -> None:
        await asyncio.sleep(0.02)
        order.append(name)

    client = await (await serve(server)).connect()
    await client.emit("slow", "first")
    await client.emit("slow", "second")
    await client.socket.send("1")
    assert (await ended.next())[1] == "client close"
    assert order == ["first", "second", "disconnection"]


async def test_tasks_of_a_session_end_with_it(serve: Serve) -> None:
    server = Primacron()
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def tick() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @server.on("connection")
    def connected(session: Session) -> None:
        session.task(tick())

    client = await (await serve(server)).connect()
    await started.wait()
    await client.close()
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_task_of_a_session_that_fails_is_a_handler_error(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::handler")

    async def fail() -> None:
        raise LookupError("in the background")

    server.on("connection", lambda session: session.task(fail()))
    await (await serve(server)).connect("account=ann")
    error, context = await errors.next_error()
    assert isinstance(error, LookupError)
    assert context.session is not None
    assert context.session.account == "ann"


class Basket(msgspec.Struct):
    items: list[str] = msgspec.field(default_factory=list)


class Strict(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("kind_of_data", "first", "good", "bad"),
    [
        (dict, {}, {"a": [1]}, 5),
        (Basket, Basket(), Basket(["x"]), {"items": 5}),
        (Strict, None, Strict("x"), Strict(5)),  # type: ignore[arg-type]
        (list[int], [], [1], ["x"]),
        (int | None, None, 5, "x"),
    ],
)
async def test_data_has_the_declared_type(serve: Serve, kind_of_data: Any, first: Any, good: Any, bad: Any) -> None:
    server = Primacron(data=kind_of_data)
    opened = Hearing(server, "connection")
    await (await serve(server)).connect()
    (session,) = await opened.next()
    assert session.data == first
    session.data = good
    assert session.data is good
    with pytest.raises(TypeError, match=r"session\.data"):
        session.data = bad
    assert session.data is good


async def test_a_listener_that_raises_disturbs_nobody_and_is_told_once(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::handler")
    server.on("connection", lambda session: 1 / 0)
    opened = Hearing(server, "connection")
    client = await (await serve(server)).connect()
    await opened.next()
    error, context = await errors.next_error()
    assert isinstance(error, ZeroDivisionError)
    assert context.event == "connection"
    assert server.metrics["error::handler"] == 1

    @server.event("echo")
    def echo(session: Session) -> int:
        return 1

    await client.emit("echo", id=1)
    assert await client.receive() == {"ack": 1, "args": [1]}


async def test_a_listener_of_errors_that_raises_does_not_hear_of_itself(serve: Serve) -> None:
    server = Primacron()
    calls: list[Exception] = []

    @server.on("error::*")
    def broken(error: Exception, context: object) -> None:
        calls.append(error)
        raise RuntimeError

    errors = Hearing(server, "error::validation")
    client = await (await serve(server)).connect()
    await client.emit("nothing")
    await errors.next()
    assert len(calls) == 1
    assert server.metrics["error::handler"] == 1


async def test_once_hears_one_and_off_hears_no_more(serve: Serve) -> None:
    server = Primacron()
    heard: list[str] = []

    def always(session: Session) -> None:
        heard.append("always")

    server.once("connection", lambda session: heard.append("once")).on("connection", always)
    front = await serve(server)
    await front.connect()
    await front.connect()
    server.off("connection", always)
    last = Hearing(server, "connection")
    await front.connect()
    await last.next()
    assert heard == ["once", "always", "always"]


async def test_off_takes_back_what_once_registered(serve: Serve) -> None:
    server = Primacron()
    heard: list[str] = []

    def listen(session: Session) -> None:
        heard.append(session.account)

    server.once("connection", listen).off("connection", listen)
    server.once("connection", listen).on("connection", listen)
    last = Hearing(server, "connection")
    front = await serve(server)
    for account in ("ann", "ben"):
        await front.connect(f"account={account}")
        await last.next()
    assert heard == ["ann", "ann", "ben"]
    with pytest.raises(TypeError, match="expected a function, got 5"):
        server.once("connection", 5)  # type: ignore[arg-type]


async def test_events_of_a_connection_listener_come_after_the_open_packet(kind: str, serve: Serve) -> None:
    server = Primacron()
    server.on("connection", lambda session: session.emit("welcome", session.id))
    front = await serve(server)
    client = await front.connect()
    assert (await client.receive())["event"] == "welcome"
    polling = await front.poll_in()
    assert json.loads((await polling.poll()).text[1:])["event"] == "welcome"
