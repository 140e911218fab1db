"""A server that has ended starts again, and nothing of its former life is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from primacron import Primacron, Session
from primacron.cluster.memory import Shared
from primacron.errors import NotListening, WrongLoop
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.http import fetch
from tests.support.serving import port_of

with warnings.catch_warnings(action="ignore"):  # of its deprecated HTTP client
    from fastapi.testclient import TestClient

DEADLINE = 10.0
WEBSOCKET = "/stream/?EIO=4&transport=websocket&account=ann"
POLLING = "/stream/?EIO=4&transport=polling&account=ann"


def answering(*given: Any, **options: Any) -> Primacron:
    """Return a server with one of all that can be registered."""
    server = Primacron(*given, secret="known", **options)

    @server.event("double")
    def double(session: Session, value: int) -> int:
        return 2 * value

    @server.event("compute", thread=True)
    def compute(session: Session, value: int) -> int:
        return 3 * value

    @server.get("/page")
    def page(request: object) -> str:
        return "page"

    return server


async def try_out(server: Primacron) -> None:
    """Use all that is registered."""
    front = Client(port_of(server))
    try:
        client = await front.connect("account=ann")
        for number, (event, expected) in enumerate({"double": 42, "compute": 63}.items()):
            await client.emit(event, 21, id=number)
            assert await client.receive() == {"ack": number, "args": [expected]}
        assert (await front.fetch("GET", "/page")).text == "page"
        assert (await server.account("ann").emit("hello")).sessions == 1
    finally:
        await front.close()


async def test_after_destroy_it_listens_as_new(anyio_backend: object) -> None:
    server = answering(control="127.0.0.1:0")
    connections = Hearing(server, "connection")
    nodes: set[str] = set()
    ports: set[Any] = set()
    for life in range(3):
        with pytest.raises(NotListening):
            server.address()
        assert server.control_address is None
        await server.listen(0, "127.0.0.1")
        nodes.add(server.node.id)
        ports.add(server.control_address)
        assert server.count() == 0
        assert server.unready() == []
        await try_out(server)
        (session,) = await connections.next()
        await server.destroy()
        assert server.metrics["sessions_opened"] == life + 1  # counters go on
        assert not session.connected
    assert len(nodes) == 3
    assert None not in ports


async def test_what_was_of_a_former_life_reaches_nobody(anyio_backend: object) -> None:
    server = answering()
    connections = Hearing(server, "connection")
    await server.listen(0, "127.0.0.1")
    await try_out(server)
    (former,) = await connections.next()
    await server.destroy()
    await server.listen(0, "127.0.0.1")
    front = Client(port_of(server))
    client = await front.connect("account=ann")
    assert (await former.emit("lost")).status == "unknown_session"
    assert (await server.session("ann", former.id).emit("lost")).status == "unknown_session"
    server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}
    await front.close()
    await server.destroy()


async def test_listen_waits_for_an_end_that_is_under_way_and_a_later_end_for_listen(anyio_backend: object) -> None:
    server = answering()
    steps: list[str] = []
    server.on("close", lambda: steps.append("close"))
    server.on("listening", lambda: steps.append("listening"))
    listening = server.listen(0, "127.0.0.1")
    first = asyncio.create_task(server.destroy())
    await asyncio.sleep(0)
    again = server.listen(0, "127.0.0.1")
    second = asyncio.create_task(server.destroy())
    await asyncio.sleep(0)
    last = server.listen(0, "127.0.0.1")
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(listening, first, again, second, last)
    assert steps == ["listening", "close", "listening", "close", "listening"]
    await try_out(server)
    await server.destroy()


async def test_it_may_be_entered_twice(anyio_backend: object) -> None:
    server = answering()
    for _ in range(2):
        async with server:
            assert (await server.everyone.emit("hello")).sessions == 0


async def test_other_servers_see_a_new_one(anyio_backend: object) -> None:
    shared = Shared()
    server, other = answering(shared), answering(shared)
    async with other:
        for _ in range(2):
            await server.listen(0, "127.0.0.1")
            front = Client(port_of(server))
            client = await front.connect("account=ann")
            reach = await other.account("ann").emit("hello")
            assert (reach.sessions, reach.certain) == (1, True)
            assert (await client.receive())["event"] == "hello"
            await front.close()
            await server.destroy()
        assert (await other.account("ann").emit("hello")).sessions == 0


def in_a_thread(server: Primacron) -> tuple[threading.Thread, int]:
    listening = threading.Event()
    server.once("listening", listening.set)
    thread = threading.Thread(target=server.run, args=(0, "127.0.0.1"))
    thread.start()
    assert listening.wait(DEADLINE)
    return thread, port_of(server)


def test_it_runs_twice_each_time_in_an_event_loop_of_its_own() -> None:
    server = answering()
    for _ in range(2):
        thread, port = in_a_thread(server)
        assert asyncio.run(fetch(port, "GET", "/page")).status == 200
        server.from_thread(server.destroy)
        thread.join(DEADLINE)
        assert not thread.is_alive()


# In the test client of Starlette


def with_lifespan(server: Primacron) -> FastAPI:
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/", server.asgi)
    return app


def mounted(server: Primacron) -> FastAPI:
    app = FastAPI()
    app.mount("/", server.asgi)
    return app


@pytest.mark.parametrize("application", [with_lifespan, mounted])
def test_a_test_client_is_entered_twice(
    application: Callable[[Primacron], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    server = answering()
    app = application(server)
    nodes: set[str] = set()
    for _ in range(3):
        with TestClient(app) as client:
            with client.websocket_connect(WEBSOCKET) as stream:
                assert stream.receive_text().startswith("0")
                for number, (event, expected) in enumerate({"double": 42, "compute": 63}.items()):
                    stream.send_text(f'4{{"event":"{event}","args":[21],"id":{number}}}')
                    assert stream.receive_text() == f'4{{"ack":{number},"args":[{expected}]}}'
            assert client.get("/page").text == "page"
            nodes.add(server.node.id)
    assert len(nodes) == 3
    assert not caplog.records


def test_sessions_that_a_closed_event_loop_has_taken_along_are_told(caplog: pytest.LogCaptureFixture) -> None:
    server = answering()
    app = mounted(server)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get(POLLING).status_code == 200
            assert server.count() == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("primacron", logging.WARNING)
    assert record.getMessage().startswith(
        "the event loop of the server was closed without `await server.destroy()`: 1 "
    )
    asyncio.run(server.destroy())
    assert not server.is_started


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_listened_in_a_closed_event_loop_listens_again_in_another_one() -> None:
    server = answering()

    async def listen() -> int:
        await server.listen(0, "127.0.0.1")
        return port_of(server)

    async def try_out_anew() -> None:
        await listen()
        await try_out(server)
        await server.destroy()

    port = asyncio.run(listen())
    asyncio.run(try_out_anew())
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(fetch(port, "GET", "/page"))
    gc.collect()  # what it has left there


async def test_a_second_event_loop_is_refused_while_the_first_is_open(anyio_backend: object) -> None:
    server = answering()
    await server.listen(0, "127.0.0.1")
    with pytest.raises(WrongLoop):
        await asyncio.to_thread(lambda: asyncio.run(server.start()))
    await try_out(server)
    await server.destroy()
