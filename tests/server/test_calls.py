"""Calls to a client, and its answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import CallRefused, CallTimedOut, Primacron, Session, SessionGone
from tests.conftest import Serve
from tests.support.engine import Events
from tests.support.hearing import Hearing


async def connect(serve: Serve, server: Primacron, query: str = "account=ann") -> tuple[Events, Session]:
    opened = Hearing(server, "connection")
    client = await (await serve(server)).connect(query)
    (session,) = await opened.next()
    return client, session


@pytest.mark.parametrize(("args", "result"), [([], None), ([1], 1), ([None], None), ([1, "two"], (1, "two"))])
async def test_a_call_returns_what_the_client_answers(serve: Serve, args: list[Any], result: Any) -> None:
    client, session = await connect(serve, Primacron())
    call = asyncio.create_task(session.call("ask", "what?"))
    assert await client.receive() == {"event": "ask", "args": ["what?"], "id": 0}
    await client.send({"ack": 0, "args": args})
    assert await call == result


async def test_calls_of_a_session_are_told_apart(serve: Serve) -> None:
    client, session = await connect(serve, Primacron())
    calls = [asyncio.create_task(session.call("ask", number)) for number in range(3)]
    asked = [await client.receive() for _ in calls]
    assert [question["id"] for question in asked] == [0, 1, 2]
    for question in reversed(asked):
        await client.send({"ack": question["id"], "args": [question["args"][0] * 10]})
    assert [await call for call in calls] == [0, 10, 20]


async def test_a_call_by_target_reaches_the_session(serve: Serve) -> None:
    server = Primacron()
    client, session = await connect(serve, server)
    call = asyncio.create_task(server.session("ann", session.id).call("ask"))
    await client.send({"ack": (await client.receive())["id"], "args": ["yes"]})
    assert await call == "yes"
    with pytest.raises(SessionGone):
        await server.session("ann", "nobody").call("ask")


async def test_an_error_answer_is_raised_with_its_parts(serve: Serve) -> None:
    client, session = await connect(serve, Primacron())
    call = asyncio.create_task(session.call("ask"))
    await client.receive()
    await client.send({"ack": 0, "error": {"type": "validation", "message": "no number", "path": "$[0]"}})
    with pytest.raises(CallRefused, match="no number") as caught:
        await call
    assert (caught.value.type, caught.value.message, caught.value.path) == ("validation", "no number", "$[0]")


@pytest.mark.parametrize("given", [True, False])
async def test_a_call_without_an_answer_ends_at_its_deadline(serve: Serve, given: bool) -> None:
    client, session = await connect(serve, Primacron(call_timeout=10.0 if given else 0.1))
    begin = asyncio.get_running_loop().time()
    with pytest.raises(CallTimedOut, match=r"'ask'.*0\.1 s"):
        await session.call("ask", timeout=0.1 if given else None)
    assert asyncio.get_running_loop().time() - begin < 5.0
    await client.receive()


async def test_a_call_ends_when_the_session_does(serve: Serve) -> None:
    client, session = await connect(serve, Primacron())
    call = asyncio.create_task(session.call("ask"))
    await client.receive()
    await client.close()
    with pytest.raises(SessionGone):
        await call
    with pytest.raises(SessionGone):
        await session.call("ask")


async def test_a_call_inside_a_handler_of_the_same_session_is_answered(serve: Serve) -> None:
    server = Primacron()

    @server.event("start")
    async def start(session: Session) -> str:
        answer = await session.call("confirm")
        return f"confirmed {answer}"

    client, _ = await connect(serve, server)
    await client.emit("start", id=9)
    # Messages wait behind the handler; the answer does not.
    await client.emit("start", id=10)
    assert await client.receive() == {"event": "confirm", "args": [], "id": 0}
    await client.send({"ack": 0, "args": ["yes"]})
    received = [await client.receive(), await client.receive()]
    assert {"ack": 9, "args": ["confirmed yes"]} in received
    assert {"event": "confirm", "args": [], "id": 1} in received


@pytest.mark.parametrize("number", [0, 5, 2**53 - 1])
async def test_an_answer_that_nobody_awaits_is_counted_and_dropped(serve: Serve, number: int) -> None:
    server = Primacron()

    @server.event("echo")
    def echo(session: Session) -> None:
        session.emit("echo")

    client, _ = await connect(serve, server)
    await client.send({"ack": number, "args": []})
    await client.emit("echo")
    assert await client.receive() == {"event": "echo", "args": []}
    assert server.metrics["answers_unknown"] == 1


async def test_answers_that_are_no_array_are_refused(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::invalid")
    client, session = await connect(serve, server)
    call = asyncio.create_task(session.call("ask"))
    await client.receive()
    await client.send({"ack": 0, "args": {"not": "an array"}})
    await errors.next_error()
    await client.send({"ack": 0, "args": ["right"]})
    assert await call == "right"


@pytest.mark.parametrize("query", ["account=ann&_primuscb=x"])
async def test_a_client_whose_dialect_has_no_answers_cannot_be_called(serve: Serve, query: str) -> None:
    _, session = await connect(serve, Primacron(), query)
    with pytest.raises(ValueError, match="cannot answer"):
        await session.call("ask")


async def test_a_call_that_cannot_be_encoded_raises_and_leaves_nothing_behind(serve: Serve) -> None:
    client, session = await connect(serve, Primacron())
    with pytest.raises(TypeError):
        await session.call("ask", object())
    call = asyncio.create_task(session.call("ask"))
    assert (await client.receive())["id"] == 1
    call.cancel()
