"""Clients that go away, do not read, or are there when the server or uvicorn ends: nothing may be left of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from primacron import HttpRequest, Primacron, Session
from primacron.errors import ProtocolError, SlowClient
from primacron.times import Times
from tests.asgi.outer import client_of
from tests.hostile.arena import Arena, until
from tests.support.engine import Client, Events
from tests.support.hearing import Hearing
from tests.support.websocket import CLOSE, encode_frame

BOUND = 20.0
#: An end that waits for everything, as uvicorn's does unless it is told otherwise.
PATIENT: dict[str, Any] = {"forced": False, "timeout_graceful_shutdown": None}


def in_fastapi(server: Primacron) -> FastAPI:
    application = FastAPI(lifespan=server.lifespan)
    application.mount("/", server.asgi)
    return application


# Clients that go away


async def test_an_aborted_poll_ends_its_session_at_once() -> None:
    server = Primacron()  # its heartbeat would notice after 45 s
    ended = Hearing(server, "disconnection")
    async with client_of(in_fastapi(server)) as client:
        polling = await client.poll_in()
        connection = await client.raw()
        await connection.send_request("GET", polling.target)
        transport = server.node.hub.connections[polling.sid].transport  # type: ignore[index]
        await until(lambda: transport.ready, "the poll")
        connection.abort()
        assert (await ended.next())[1] == "transport close"
        assert (await polling.poll()).json()["code"] == 1


async def test_an_aborted_post_ends_its_session_at_once() -> None:
    server = Primacron()
    ended = Hearing(server, "disconnection")
    async with client_of(in_fastapi(server)) as client:
        polling = await client.poll_in()
        connection = await client.raw()
        head = f"POST {polling.target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n4half"
        await connection.send(head.encode())
        transport: Any = server.node.hub.connections[polling.sid].transport  # type: ignore[index]
        await until(lambda: transport._post is not None, "the POST")
        connection.abort()
        assert (await ended.next())[1] == "transport close"


async def test_a_slow_body_is_refused_after_body_timeout_and_the_session_ends() -> None:
    server = Primacron(body_timeout=0.2)
    errors, ended = Hearing(server, "error::protocol"), Hearing(server, "disconnection")
    async with client_of(in_fastapi(server)) as client:
        polling = await client.poll_in()
        connection = await client.raw()
        head = f"POST {polling.target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n4half"
        await connection.send(head.encode())
        assert (await connection.read_response()).status == 408
        error, context = await errors.next_error()
        assert isinstance(error, ProtocolError)
        assert context.request is not None
        assert (await ended.next())[1] == "transport close"


@pytest.mark.parametrize(
    ("transport", "ws"),
    [("polling", "websockets-sansio"), ("websocket", "websockets-sansio"), ("websocket", "wsproto")],
)
async def test_a_client_that_leaves_during_its_handshake_leaves_nothing(transport: str, ws: str) -> None:
    server = Primacron(max_connections=1)
    asked, cancelled = asyncio.Event(), asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        if request.query["account"] == "slow":
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return True

    async with client_of(server.asgi, ws=ws) as client:
        connection = await client.raw()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        target = f"/stream/?EIO=4&transport={transport}&account=slow"
        await connection.send_request("GET", target, headers if transport == "websocket" else {})
        async with asyncio.timeout(10):
            await asked.wait()
            connection.abort()
            await cancelled.wait()
        await until(lambda: not server.node._working, "the end of the handshake")
        assert (await client.connect()).sid  # though there may be but one


async def test_a_client_that_goes_away_while_its_handler_is_busy_is_gone_at_once(ws: str) -> None:
    server = Primacron(inbox_limit=2)
    gate = asyncio.Event()
    handled: list[int] = []
    ended = Hearing(server, "disconnection")

    @server.event("work")
    async def work(session: Session, number: int) -> None:
        await gate.wait()
        handled.append(number)

    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = list(server.node.hub.sessions)
        for number in range(3):
            await ann.emit("work", number)
        await until(lambda: session.is_full, "the inbox to be full")
        ann.socket.raw.abort()
        await until(lambda: not session.connected, "the end of the session")
        assert ended.is_empty  # which is heard behind the last message
        gate.set()
        assert await ended.next() == (session, "transport close")
        assert handled == [0, 1, 2]


# Clients that do not read


async def test_a_websocket_that_takes_nothing_is_closed_and_its_memory_comes_back(ws: str) -> None:
    server = Primacron(outbox_limit=200_000)
    opened, slow, ended = (Hearing(server, each) for each in ("connection", "error::slow", "disconnection"))
    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect("account=ann")
        (session,) = await opened.next()
        ben = await client.connect("account=ben")
        transport: Any = ann.socket.raw.writer.transport
        transport.pause_reading()
        statuses: set[str] = set()
        while session.connected:
            receipts = [await session.emit("filler", "x" * 20_000) for _ in range(5)]
            statuses |= {each.status for each in receipts}
            await asyncio.sleep(0)
        assert statuses <= {"accepted", "refused", "unknown_session"}
        assert "refused" in statuses
        error, context = await slow.next_error()
        assert isinstance(error, SlowClient)
        assert context.session is session
        assert await ended.next() == (session, "slow")
        assert slow.is_empty
        assert server.node.hub.blocked_bytes == 0
        server.everyone.emit("hello")
        assert await ben.receive() == {"event": "hello", "args": []}
        transport.abort()
        await until(lambda: len(server.node.hub.connections) == 1, "the end of the connection")


async def test_a_websocket_that_reads_late_gets_everything_in_order(ws: str) -> None:
    server = Primacron(outbox_limit=50_000_000)
    opened = Hearing(server, "connection")
    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = await opened.next()
        transport: Any = ann.socket.raw.writer.transport
        transport.pause_reading()
        sent = 0
        connection = session.connection
        assert connection is not None
        while not connection.is_stuck:
            session.emit("filler", sent, "x" * 100_000)
            sent += 1
            await asyncio.sleep(0)
        for _ in range(20):
            session.emit("filler", sent, "x" * 100_000)
            sent += 1
        assert server.node.hub.blocked_bytes > 2_000_000
        transport.resume_reading()
        assert [(await ann.receive())["args"][0] for _ in range(sent)] == list(range(sent))
        assert server.node.hub.blocked_bytes == 0
        assert connection.transport.ready


async def test_a_client_that_does_not_poll_is_closed_when_too_much_waits() -> None:
    server = Primacron(outbox_limit=1_000)
    slow, ended = Hearing(server, "error::slow"), Hearing(server, "disconnection")
    async with client_of(in_fastapi(server)) as client:
        await client.poll_in()
        (session,) = list(server.node.hub.sessions)
        assert (await session.emit("filler", "x" * 2_000)).status == "accepted"
        assert (await session.emit("filler", "x")).status == "refused"
        await slow.next_error()
        assert await ended.next() == (session, "slow")
        assert server.node.hub.blocked_bytes == 0


# The end of the server


class Crowd:
    """One of each kind of request that may be open when a server ends."""

    def __init__(self, server: Primacron) -> None:
        self.server = server
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.cancelled = 0

        @server.event("work")
        async def work(session: Session) -> str:
            self.begun.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return "done"

    async def gather(self, client: Client) -> None:
        """Open them."""
        self.idle = await client.connect("account=idle")
        self.busy = await client.connect("account=busy")
        await self.busy.emit("work", id=1)
        await self.begun.wait()
        polling, posting, self.absent = [await client.poll_in(f"account={name}") for name in ("p", "q", "r")]
        self.poll, self.post = await client.raw(), await client.raw()
        await self.poll.send_request("GET", polling.target)
        head = f"POST {posting.target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n4x"
        await self.post.send(head.encode())
        transports: list[Any] = [
            self.server.node.hub.connections[each.sid].transport  # type: ignore[index]
            for each in (polling, posting)
        ]
        await until(lambda: transports[0].ready and transports[1]._post is not None, "the poll and the POST")


async def test_destroy_answers_everything_that_is_open(ws: str) -> None:
    server = Primacron()
    crowd = Crowd(server)
    closed = Hearing(server, "close")
    async with client_of(server.asgi, ws=ws) as client:
        await crowd.gather(client)
        ending = asyncio.create_task(server.destroy())
        for each in (crowd.idle, crowd.busy):
            assert await each.receive_close() == (1012, "server shutdown")
        assert (await crowd.poll.read_response()).text == "1"
        assert (await crowd.absent.poll()).text == "1"  # while the handler is waited for
        await crowd.post.send(b"yz")
        assert (await crowd.post.read_response()).json()["code"] == 1
        refused = await client.websocket()
        assert (refused.response.status, refused.response.json()["message"]) == (503, "the server is ending")
        assert closed.is_empty
        crowd.gate.set()
        async with asyncio.timeout(BOUND):
            await ending
        assert crowd.cancelled == 0
        await closed.next()


@pytest.mark.parametrize("place", ["alone", "in FastAPI"])
async def test_uvicorn_ends_in_bounded_time_with_websockets_open(ws: str, place: str) -> None:
    server = Primacron()
    server._times = Times(finish=0.5)
    crowd = Crowd(server)
    ended = Hearing(server, "disconnection")
    application = server.asgi if place == "alone" else in_fastapi(server)
    async with asyncio.timeout(BOUND):
        async with client_of(application, ws=ws, **PATIENT) as client:
            idle = [await client.connect("account=idle") for _ in range(20)]
            busy = await client.connect("account=busy")
            await busy.emit("work")
            await crowd.begun.wait()
            leaving = [asyncio.create_task(leave(each)) for each in (*idle, busy)]
        assert await asyncio.gather(*leaving) == [1012] * 21
    assert {(await ended.next())[1] for _ in range(21)} == {"transport close"}
    assert crowd.cancelled == 1  # once it had its time
    assert server.count() == 0


async def test_uvicorn_ends_in_bounded_time_with_a_session_that_has_too_much_to_do(ws: str) -> None:
    server = Primacron(inbox_limit=2)
    server._times = Times(finish=0.5)
    crowd = Crowd(server)
    async with asyncio.timeout(BOUND):
        async with client_of(server.asgi, ws=ws, **PATIENT) as client:
            busy = await client.connect("account=busy")
            (session,) = list(server.node.hub.sessions)
            for _ in range(20):
                await busy.emit("work")
            await until(lambda: session.is_full, "the inbox to be full")
            leaving = asyncio.create_task(leave(busy))
        assert await leaving == 1012
    assert crowd.cancelled == 20
    assert server.count() == 0


async def leave(client: Events) -> int:
    """Do as clients do when the server closes: answer, and close the connection; return the code."""
    code, _ = await client.receive_close()
    await client.socket.raw.send(encode_frame(code.to_bytes(2, "big"), CLOSE))
    await client.socket.raw.read_eof()
    await client.close()
    return code


async def test_uvicorn_waits_for_a_poll_no_longer_than_the_heartbeat() -> None:
    server = Primacron(ping_interval=0.3)
    async with asyncio.timeout(BOUND):
        async with client_of(server.asgi, **PATIENT) as client:
            polling = await client.poll_in()
            poll = await client.raw()
            await poll.send_request("GET", polling.target)
            transport = server.node.hub.connections[polling.sid].transport  # type: ignore[index]
            await until(lambda: transport.ready, "the poll")
        answer = await poll.read_response()
    assert (answer.text, answer.headers["connection"]) == ("2", "close")


# What is left


async def test_nothing_is_left_of_clients_that_came_and_went(ws: str) -> None:
    server = Primacron(secret="s")

    @server.event("echo")
    async def echo(session: Session, text: str) -> str:
        await asyncio.sleep(0)
        return text

    async with client_of(in_fastapi(server), ws=ws) as client:
        arena = Arena(server, client)
        before = arena.tables()
        for round_ in range(5):
            await _come_and_go(client, round_)
        await client.close()
        for session in list(server.node.hub.sessions):
            session.disconnect()
        await until(lambda: arena.tables() == before, f"{before}, not {arena.tables()}")


async def _come_and_go(client: Client, number: int) -> None:
    websocket = await client.connect(f"account=a{number}")
    await websocket.emit("echo", "x", id=1)
    assert await websocket.receive() == {"ack": 1, "args": ["x"]}
    polling = await client.poll_in(f"account=b{number}")
    await polling.emit("echo", "x")
    waiting = await client.raw()
    await waiting.send_request("GET", polling.target)
    upgrading = await client.poll_in(f"account=c{number}")
    socket = await upgrading.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await (socket.send("5") if number % 2 else socket.close())
    assert (await client.websocket("account=")).response.status == 400
    assert (await client.fetch("PUT", "/primacron/broadcast", {}, b"{}")).status == 401
    await client.fetch("PUT", "/primacron/broadcast", {"Authorization": "Bearer s"}, b'{"everyone":true,"message":1}')
    waiting.abort()
    if number % 2:
        await websocket.socket.send("1")
    else:
        websocket.socket.raw.abort()
