"""The end of a server: what is under way has its time, and what comes behind it too."""

from __future__ import annotations

import asyncio

import pytest

from primacron import Primacron, Session
from primacron.times import Times
from tests.conftest import Serve
from tests.support.hearing import Hearing


async def test_messages_that_wait_and_the_end_of_their_session_are_handled(kind: str, serve: Serve) -> None:
    server = Primacron()
    steps: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    @server.event("work")
    async def work(session: Session, number: int) -> None:
        begun.set()
        await gate.wait()
        await asyncio.sleep(0.01)
        steps.append(f"message {number}")

    @server.on("disconnection")
    async def disconnected(session: Session, reason: str) -> None:
        steps.append(f"disconnection begins: {reason}")
        await asyncio.sleep(0.01)
        steps.append("disconnection ends")

    @server.on("close")
    async def closing() -> None:
        steps.append("close begins")
        await asyncio.sleep(0.01)
        steps.append("close ends")

    client = await (await serve(server)).connect()
    for number in range(3):
        await client.emit("work", number)
    await begun.wait()
    while server.metrics.messages_received < 3:
        await asyncio.sleep(0)
    ending = asyncio.create_task(server.destroy())
    assert await client.receive_close() == (1012, "server shutdown")
    gate.set()
    async with asyncio.timeout(10):
        await ending
    assert steps == [
        "message 0",
        "message 1",
        "message 2",
        "disconnection begins: server shutdown",
        "disconnection ends",
        "close begins",
        "close ends",
    ]
    assert server.metrics["error::handler"] == 0


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_never_ends_is_cancelled_and_what_waits_behind_it_too(serve: Serve, hurried: bool) -> None:
    server = Primacron()
    server._times = Times(finish=60.0 if hurried else 0.1)
    failed, closed = Hearing(server, "error::handler"), Hearing(server, "close")
    ended: list[str] = []
    begun = asyncio.Event()

    @server.event("hang")
    async def hang(session: Session) -> None:
        begun.set()
        await asyncio.Event().wait()

    @server.on("disconnection")
    def disconnected(session: Session, reason: str) -> None:
        ended.append(reason)

    client = await (await serve(server)).connect()
    for _ in range(3):
        await client.emit("hang")
    await begun.wait()
    while server.metrics.messages_received < 3:
        await asyncio.sleep(0)
    ending = asyncio.create_task(server.destroy())
    assert await client.receive_close() == (1012, "server shutdown")
    if hurried:
        server.hurry()
    async with asyncio.timeout(10):
        await ending
    for _ in range(3):
        error, context = await failed.next_error()
        assert "cancelled" in str(error)
        assert context.event == "hang"
    assert ended == ["server shutdown"]
    await closed.next()


async def test_a_close_listener_that_never_ends_is_cancelled(serve: Serve) -> None:
    server = Primacron()
    server._times = Times(finish=0.1, cancel=0.1)
    cancelled = asyncio.Event()

    @server.on("close")
    async def closing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await serve(server)
    async with asyncio.timeout(10):
        await server.destroy()
    assert cancelled.is_set()


async def test_everyone_can_still_be_sent_to_while_the_server_ends(serve: Serve) -> None:
    server = Primacron()
    reached: list[int] = []

    @server.on("close")
    async def closing() -> None:
        reached.append((await server.everyone.emit("too late")).sessions)

    client = await (await serve(server)).connect()
    await server.destroy()
    assert await client.receive_close() == (1012, "server shutdown")
    assert reached == [0]


@pytest.mark.parametrize("after_a_wait", [False, True])
async def test_a_handler_may_end_the_server_and_goes_on_after_it(serve: Serve, after_a_wait: bool) -> None:
    server = Primacron()
    steps: list[str] = []
    done = asyncio.Event()
    server.on("close", lambda: steps.append("closed"))

    @server.event("end")
    async def end(session: Session) -> None:
        if after_a_wait:
            await asyncio.sleep(0)
        await server.destroy()
        steps.append("went on")
        done.set()

    client = await (await serve(server)).connect()
    await client.emit("end")
    assert await client.receive_close() == (1012, "server shutdown")
    async with asyncio.timeout(4):  # it does not wait for itself, as it would for other handlers
        await done.wait()
    assert steps == ["closed", "went on"]
    assert server.metrics["error::handler"] == 0


async def test_another_thread_may_end_the_server(serve: Serve) -> None:
    server = Primacron()
    client = await (await serve(server)).connect()
    async with asyncio.timeout(4):
        assert await asyncio.to_thread(lambda: server.from_thread(server.destroy).result(10)) is None
    assert await client.receive_close() == (1012, "server shutdown")
