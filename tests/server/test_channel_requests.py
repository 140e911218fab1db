"""What clients ask of channels: in turn with their messages, and answered like these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from primacron import Primacron, Refused, Session
from primacron.dialects.base import Joining, Leaving
from tests.cluster.fleet import until
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing

JOIN: dict[str, Any] = {"join": "lot:7", "id": 1}
LEAVE: dict[str, Any] = {"leave": "lot:7", "id": 2}
REFUSAL = {"type": "refused", "message": "no channel 'lot:7' that clients may join", "path": ""}


@pytest.mark.parametrize("query", ["account=ann", "account=ann&resume=1"])
async def test_where_no_channel_is_open_to_clients_all_are_refused(kind: str, serve: Serve, query: str) -> None:
    server = Primacron()
    errors = Hearing(server, "error::*")
    client = await (await serve(server)).connect(query)
    if "resume" in query:
        assert (await client.receive())["event"] == "session"
    for request in (JOIN, LEAVE):
        await client.send(request)
        assert await client.receive() == {"ack": request["id"], "error": REFUSAL}
        error, context = await errors.next_error()
        assert isinstance(error, Refused)
        assert isinstance(context.session, Session)
        assert context.session.account == "ann"


async def test_a_malformed_one_is_answered_under_its_id_and_counts_as_a_bad_message(serve: Serve) -> None:
    server = Primacron(bad_messages=2)
    client = await (await serve(server)).connect()
    await client.send({"join": "lot:7", "id": 5, "since": {"epoch": "e", "offset": -1}})
    error = {"type": "validation", "message": "Expected `int` >= 0", "path": "$.since.offset"}
    assert await client.receive() == {"ack": 5, "error": error}
    await client.send({"leave": 5, "id": 6})
    assert (await client.receive())["error"]["path"] == "$.leave"
    assert await client.receive_close() == (1008, "bad messages")


async def test_without_an_id_it_is_a_message(serve: Serve) -> None:
    server = Primacron()
    seen = Hearing(server, "stream::message")
    server.validate("message", lambda content: isinstance(content, dict))
    client = await (await serve(server)).connect()
    for message in ({"join": "lot:7"}, {"leave": "lot:7", "id": "x"}):
        await client.send(message)
        assert (await seen.next())[1] == message


async def test_it_takes_its_turn_among_the_messages(kind: str, serve: Serve) -> None:
    server = Primacron()
    goes_on = asyncio.Event()

    @server.event("wait")
    async def wait(session: Session, number: int) -> int:
        await goes_on.wait()
        return number

    client = await (await serve(server)).connect()
    await client.emit("wait", 1, id=0)
    await client.send(JOIN)
    await client.emit("wait", 2, id=3)
    await client.send(LEAVE)
    await client.emit("wait", 3, id=4)
    await until(lambda: server.metrics.messages_received == 5, "the messages")
    goes_on.set()
    answers = [await client.receive() for _ in range(5)]
    assert [answer["ack"] for answer in answers] == [0, 1, 3, 2, 4]


class Door:
    """Lets clients in, once it is open."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.asked: list[Joining | Leaving] = []

    async def take(self, session: Session, request: Joining | Leaving, answer: Callable[[Any], None]) -> None:
        """Let a session in, or out."""
        self.asked.append(request)
        if request.channel == "broken":
            raise RuntimeError("secret")
        if isinstance(request, Joining):
            await self.is_open.wait()
            answer({"channel": request.channel})
        else:
            answer(None)


async def with_door(serve: Serve, **options: Any) -> tuple[Primacron, Door, Client]:
    """Return a server whose channels are behind a door, and a client for it."""
    server, door = Primacron(**options), Door()
    client = await serve(server)
    server._handlers.channels = door.take
    return server, door, client


async def test_an_answer_may_take_time_and_what_comes_later_waits(kind: str, serve: Serve) -> None:
    server, door, front = await with_door(serve)

    @server.event("say")
    def say(session: Session, number: int) -> int:
        return number

    client = await front.connect()
    await client.send(JOIN)
    await client.emit("say", 1, id=5)
    await client.send(LEAVE)
    await client.emit("say", 2, id=6)
    await until(lambda: server.metrics.messages_received == 4, "the messages")
    door.is_open.set()
    assert await client.receive() == {"ack": 1, "args": [{"channel": "lot:7"}]}
    assert await client.receive() == {"ack": 5, "args": [1]}
    assert await client.receive() == {"ack": 2, "args": []}
    assert await client.receive() == {"ack": 6, "args": [2]}
    assert door.asked == [Joining("lot:7", 1), Leaving("lot:7", 2)]


async def test_one_that_is_accepted_resets_the_count_of_bad_messages(serve: Serve) -> None:
    _, _, front = await with_door(serve, bad_messages=2)
    client = await front.connect()
    for _ in range(3):
        await client.send({"leave": 5, "id": 6})
        assert "error" in await client.receive()
        await client.send(LEAVE)
        assert await client.receive() == {"ack": 2, "args": []}


async def test_one_that_fails_or_takes_too_long_says_no_more_than_that_it_is_refused(serve: Serve) -> None:
    server, _, front = await with_door(serve, handler_timeout=0.1)
    errors = Hearing(server, "error::handler")
    client = await front.connect()
    failure = {"type": "refused", "message": "refused", "path": ""}
    await client.send({"join": "broken", "id": 3})
    assert await client.receive() == {"ack": 3, "error": failure}
    assert str((await errors.next_error())[0]) == "secret"
    await client.send(JOIN)
    assert await client.receive() == {"ack": 1, "error": failure}
    assert "request for the channel 'lot:7' took longer than 0.1 s" in str((await errors.next_error())[0])


async def test_a_session_that_has_ended_is_let_in_nowhere(kind: str, serve: Serve) -> None:
    server, door, front = await with_door(serve)
    goes_on, ended = asyncio.Event(), Hearing(server, "disconnection")

    @server.event("wait")
    async def wait(session: Session) -> None:
        await goes_on.wait()

    client = await front.connect()
    await client.emit("wait")
    await client.send(JOIN)
    await client.emit("wait")
    await client.close()
    await until(lambda: server.count() == 0, "the end")
    goes_on.set()
    await ended.next()
    assert door.asked == []
