"""When a mounted server starts, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from primacron import Primacron, Session
from primacron.errors import NotListening, WrongLoop
from tests.asgi.outer import OneRequest, client_of
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.serving import port_of, under_uvicorn

POLLING = "/stream/?EIO=4&transport=polling&account=ann"


def mounted(server: Primacron) -> Starlette:
    """Return an application that tells the server nothing of its life."""
    return Starlette(routes=[Mount("/", server.asgi)])


@pytest.mark.parametrize("first", ["polling", "websocket", "health", "stranger"])
async def test_without_a_lifespan_it_starts_at_the_first_request(first: str) -> None:
    server = Primacron()
    async with client_of(mounted(server)) as client:
        with pytest.raises(NotListening):
            server.everyone.emit("too early")
        if first == "websocket":
            assert (await client.connect()).sid
        else:
            target = {"polling": POLLING, "health": "/primacron/readyz", "stranger": "/x"}[first]
            assert (await client.fetch("GET", target)).status == (400 if first == "stranger" else 200)
        assert (await server.everyone.emit("hello")).sessions == (first in ("polling", "websocket"))
        assert server.asgi is server.asgi
        await server.destroy()


async def test_many_first_requests_at_once_start_it_once() -> None:
    server = Primacron()
    async with client_of(mounted(server)) as client:
        opening: list[Any] = [client.connect("account=ann") for _ in range(10)]
        opening += [client.poll_in("account=ann") for _ in range(10)]
        await asyncio.gather(*opening)
        assert (await server.account("ann").emit("hello")).sessions == 20
        await server.destroy()


async def test_the_lifespan_of_uvicorn_starts_and_ends_it() -> None:
    server = Primacron()
    closed = Hearing(server, "close")
    async with client_of(server.asgi, forced=False) as client:
        assert (await server.everyone.emit("hello")).sessions == 0
        assert (await client.fetch("GET", "/primacron/livez")).status == 200
        assert closed.is_empty
    await closed.next()
    with pytest.raises(NotListening):
        server.everyone.emit("too late")


@pytest.mark.parametrize("outer", [FastAPI, Starlette])
async def test_server_lifespan_starts_and_ends_it(outer: Any) -> None:
    server = Primacron()
    application = outer(lifespan=server.lifespan)
    application.mount("/", server.asgi)
    ended, closed = Hearing(server, "disconnection"), Hearing(server, "close")
    async with client_of(application, forced=False) as client:
        assert (await server.everyone.emit("hello")).sessions == 0
        await client.poll_in()
        assert closed.is_empty
    assert (await ended.next())[1] == "server shutdown"
    await closed.next()


async def test_a_lifespan_may_have_the_servers_inside() -> None:
    server = Primacron()
    steps: list[str] = []
    server.on("close", lambda: steps.append("the server closed"))

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        async with server.lifespan():
            await server.everyone.emit("a worker may send")
            steps.append("began")
            yield
            await server.everyone.emit("a worker may send")
            steps.append("ending")
        steps.append("ended")

    async with under_uvicorn(Starlette(routes=[Mount("/", server.asgi)], lifespan=lifespan), forced=False):
        assert steps == ["began"]
    assert steps == ["began", "ending", "the server closed", "ended"]


async def test_the_lifespan_ends_the_server_when_the_application_fails_inside() -> None:
    server = Primacron()
    with pytest.raises(LookupError):
        async with server.lifespan():
            raise LookupError
    assert not server.is_started


async def test_what_comes_after_the_end_is_refused_in_json(ws: str) -> None:
    server = Primacron()
    async with client_of(mounted(server), ws=ws) as client:
        assert (await client.connect()).sid
        await server.destroy()
        for target in (POLLING, "/primacron/readyz", "/x"):
            answer = await client.fetch("GET", target)
            assert (answer.status, answer.headers["content-type"]) == (503, "application/json")
            assert answer.json() == {"code": 3, "message": "the server has ended"}
        socket = await client.websocket()
        assert (socket.response.status, socket.response.json()["message"]) == (503, "the server has ended")


async def test_it_may_listen_by_itself_and_be_mounted_at_the_same_time() -> None:
    server = Primacron()

    @server.event("tell")
    def tell(session: Session, text: str) -> None:
        server.everyone.emit("told", text)

    await server.listen(0, "127.0.0.1")
    own = Client(port_of(server))
    first = await own.connect("account=ann")
    async with client_of(mounted(server)) as mount:
        second = await mount.connect("account=ben")
        await second.emit("tell", "both")
        for client in (first, second):
            assert await client.receive() == {"event": "told", "args": ["both"]}
    await own.close()
    await server.destroy()


async def test_one_server_belongs_to_one_event_loop() -> None:
    server = Primacron()

    async def ask() -> int:
        outer = OneRequest("/primacron/livez")
        await server.asgi(outer.scope, outer.receive, outer.send)
        return outer.status

    async def end() -> None:
        await server.destroy()

    async def listen() -> None:
        await server.listen(0, "127.0.0.1")

    assert await ask() == 200
    for elsewhere in (ask, listen, end):
        with pytest.raises(WrongLoop, match=r"started in another event loop, and belongs to that one until"):
            await asyncio.to_thread(asyncio.run, elsewhere())
    assert await ask() == 200
    await server.destroy()
