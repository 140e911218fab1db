"""Other threads: what they may not call says so and does nothing, and `from_thread` runs it where it belongs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest

from primacron import Primacron, Session, WrongThread
from primacron.errors import NotListening
from primacron.times import Times
from tests.conftest import Serve
from tests.support.engine import Events
from tests.support.hearing import Hearing


async def connect(serve: Serve, server: Primacron) -> tuple[Events, Session]:
    opened = Hearing(server, "connection")
    client = await (await serve(server)).connect("account=ann")
    (session,) = await opened.next()
    return client, session


async def background() -> None:
    await asyncio.sleep(0)


CALLS: dict[str, tuple[str, Callable[[Primacron, Session], Any]]] = {
    "session.emit": ("emit", lambda server, session: session.emit("x")),
    "session.emit with a receipt": ("emit", lambda server, session: session.emit("x", receipt=True)),
    "session.disconnect": ("disconnect", lambda server, session: session.disconnect()),
    "session.task": ("task", lambda server, session: session.task(background())),
    "server.session.emit": ("emit", lambda server, session: server.session("ann", session.id).emit("x")),
    "server.session of nobody": ("emit", lambda server, session: server.session("ann", "nobody").emit("x")),
    "server.account.emit": ("emit", lambda server, session: server.account("ann").emit("x")),
    "server.everyone.emit": ("emit", lambda server, session: server.everyone.emit("x")),
    "server.session.disconnect": ("disconnect", lambda server, session: server.session("ann", "x").disconnect()),
    "server.account.disconnect": ("disconnect", lambda server, session: server.account("ann").disconnect()),
    "server.everyone.disconnect": ("disconnect", lambda server, session: server.everyone.disconnect()),
    "server.forward": ("forward", lambda server, session: server.forward("ann", session.id, "x")),
    "server.broadcast": ("broadcast", lambda server, session: server.broadcast("x")),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_another_thread_is_refused_and_does_nothing(serve: Serve, name: str) -> None:
    server = Primacron()
    client, session = await connect(serve, server)
    method, call = CALLS[name]
    with pytest.raises(WrongThread, match=rf"^{method} was called from another thread; use server\.from_thread\("):
        await asyncio.to_thread(call, server, session)
    assert session.connected
    server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


@pytest.mark.parametrize("name", CALLS)
async def test_the_same_call_goes_through_from_thread(serve: Serve, name: str) -> None:
    server = Primacron()
    _, session = await connect(serve, server)
    _, call = CALLS[name]
    calling = threading.Thread(target=lambda: server.from_thread(call, server, session).result(10))
    outcome = await asyncio.to_thread(lambda: server.from_thread(call, server, session).result(10))
    assert outcome is None or hasattr(outcome, "certain")
    calling.start()
    await asyncio.to_thread(calling.join)


async def test_another_event_loop_is_another_thread(serve: Serve) -> None:
    server = Primacron()
    await connect(serve, server)

    async def send() -> None:
        server.everyone.emit("x")

    with pytest.raises(WrongThread):
        await asyncio.to_thread(lambda: asyncio.run(send()))


async def test_a_thread_handler_that_sends_is_told_and_its_client_learns_nothing(serve: Serve) -> None:
    server = Primacron()
    failed = Hearing(server, "error::handler")

    @server.event("work", thread=True)
    def work(session: Session) -> None:
        session.emit("x")

    client, session = await connect(serve, server)
    await client.emit("work", id=1)
    answer = await client.receive()
    assert answer == {"ack": 1, "error": {"type": "handler", "message": "the handler failed", "path": ""}}
    error, context = await failed.next_error()
    assert isinstance(error, WrongThread)
    assert context.session is session


async def test_a_call_that_is_cancelled_before_its_turn_is_never_made(serve: Serve) -> None:
    server = Primacron()
    await connect(serve, server)
    called: list[str] = []
    gate = threading.Event()

    def hold() -> None:
        gate.wait(10)  # the server's thread does nothing else meanwhile

    def schedule() -> tuple[concurrent.futures.Future[Any], concurrent.futures.Future[Any]]:
        server.from_thread(hold)
        cancelled, kept = server.from_thread(called.append, "cancelled"), server.from_thread(called.append, "kept")
        assert cancelled.cancel()
        gate.set()
        return cancelled, kept

    cancelled, kept = await asyncio.to_thread(schedule)
    assert await asyncio.wrap_future(kept) is None
    assert cancelled.cancelled()
    assert called == ["kept"]


async def test_without_a_node_there_is_no_thread_to_run_it_in() -> None:
    server = Primacron()
    with pytest.raises(NotListening):
        server.from_thread(print)
    async with server:
        assert await asyncio.wrap_future(await asyncio.to_thread(server.from_thread, lambda: 5)) == 5
    with pytest.raises(NotListening):
        server.from_thread(print)


async def test_what_runs_from_a_thread_is_waited_for_at_the_end_and_then_cancelled() -> None:
    server = Primacron()
    server._times = Times(finish=0.2)

    async def finish() -> str:
        await asyncio.sleep(0.02)
        return "finished"

    async with server:
        finishing, hanging = await asyncio.to_thread(
            lambda: (server.from_thread(finish), server.from_thread(asyncio.Event().wait))
        )
        await asyncio.sleep(0)
    assert finishing.result(0) == "finished"
    assert isinstance(hanging.exception(0), asyncio.CancelledError)
