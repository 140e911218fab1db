"""
Clients that send as fast as they can: how long everybody else waits for them.

What counts is the longest turn of the event loop, in CPU time of its thread: on a
busy machine the clock on the wall tells of others as well.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.hostile.arena import STANDALONE, get, until
from tests.support.engine import SEPARATOR, Client
from tests.support.serving import port_of
from tests.support.websocket import KEY, PING, encode_frame

#: Seconds of a turn at most.
PROMISED = 0.015
CLIENTS = 4
DEADLINE = 60.0


def resident() -> int:
    """Return the bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Watch:
    """The longest turn of the event loop so far."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def look(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    watch = Watch()
    gc.collect()
    gc.disable()  # its pauses are not about clients
    task = asyncio.create_task(watch.look())
    try:
        yield watch
    finally:
        task.cancel()
        gc.enable()


class Taker:
    """A server whose handler takes numbers, and what it took from each account."""

    def __init__(self, **options: Any) -> None:
        self.server = Primacron(**options)
        self.taken: dict[str, list[Any]] = {}
        self.done: set[str] = set()
        self.closed: dict[str, int] = {}

        @self.server.event("take")
        async def take(session: Session, value: Any) -> None:
            self.taken.setdefault(session.account, []).append(value if isinstance(value, int) else len(value))

        @self.server.event("done")
        async def done(session: Session) -> None:
            self.done.add(session.account)

        @self.server.on("disconnection")
        def disconnected(session: Session, reason: str) -> None:
            self.closed[session.account] = len(self.taken.get(session.account, []))


def event(name: str, *args: Any) -> bytes:
    return b"4" + json.dumps({"event": name, "args": args}, separators=(",", ":")).encode()


def heavy(head: str = '{"event":"take","args":[[') -> bytes:
    """Return the message that takes longest of all that are allowed: numbers that are read digit by digit."""
    return f"4{head}{','.join(['1e308'] * 290 + ['1.5'] * 310)}]]}}".encode()


EVENTS = 20_000
LOADS: dict[str, Callable[[], bytes]] = {
    "small events": lambda: b"".join(encode_frame(event("take", number)) for number in range(EVENTS)),
    "noops": lambda: encode_frame(b"6") * 60_000,
    "pings": lambda: encode_frame(b"", PING) * 60_000,
    "heavy events": lambda: encode_frame(heavy()) * 60,
    "heavy answers to no call": lambda: encode_frame(heavy('{"ack":7,"args":[[')) * 60,
    "fragments": lambda: (encode_frame(b"6", final=False) + encode_frame(b"", 0)) * 20_000,
}


def send_all(port: int, account: str, data: bytes, tls: ssl.SSLContext | None = None) -> None:
    """Connect by websocket, send everything, and leave without a close frame; what comes back is thrown away."""
    bare = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    with tls.wrap_socket(bare, server_hostname="localhost") if tls is not None else bare as sock:
        fields = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}"
        target = f"/stream/?EIO=4&transport=websocket&account={account}"
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n".encode())
        while b"pingTimeout" not in sock.recv(65_536):
            pass
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65_536):
            pass


@STANDALONE
@pytest.mark.parametrize("load", LOADS)
async def test_no_turn_takes_longer_beside_greedy_clients(kind: str, serve: Serve, load: str) -> None:
    taker = Taker()
    port = (await serve(taker.server)).port
    data = LOADS[load]() + encode_frame(event("done"))
    accounts = {f"greedy-{number}" for number in range(CLIENTS)}
    async with watching() as watch:
        sending = [asyncio.to_thread(send_all, port, account, data) for account in accounts]
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*sending)
        await until(lambda: len(taker.closed) == CLIENTS, "the end of all")
    assert taker.done == accounts
    if load == "small events":
        assert all(taken == list(range(EVENTS)) for taken in taker.taken.values())
        assert set(taker.closed.values()) == {EVENTS}
    assert watch.longest <= PROMISED


@STANDALONE
async def test_no_turn_takes_longer_beside_a_greedy_client_over_tls(
    kind: str, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    taker = Taker()
    ours, theirs = certificate
    await taker.server.listen(0, "127.0.0.1", ssl=ours)
    data = LOADS["small events"]() + encode_frame(event("done"))
    try:
        async with watching() as watch, asyncio.timeout(DEADLINE):
            await asyncio.to_thread(send_all, port_of(taker.server), "greedy", data, theirs)
            await until(lambda: taker.closed, "the end")
    finally:
        await taker.server.destroy()
    assert taker.taken["greedy"] == list(range(EVENTS))
    assert taker.closed == {"greedy": EVENTS}
    assert watch.longest <= PROMISED


@STANDALONE
async def test_no_turn_takes_longer_while_requests_come_ahead(kind: str, serve: Serve) -> None:
    count = 3_000
    port = (await serve(Primacron())).port

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            sock.sendall(get() * (count - 1) + get("/primacron/livez", "Connection: close"))
            answers = b""
            while part := sock.recv(1 << 20):
                answers += part
        return answers

    async with watching() as watch:
        answers = await asyncio.to_thread(ask)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == count
    assert watch.longest <= PROMISED


async def test_no_turn_takes_longer_for_a_post_of_heavy_events(kind: str, serve: Serve) -> None:
    taker = Taker()
    polling = await (await serve(taker.server)).poll_in("account=greedy")
    body = SEPARATOR.join([heavy().decode()] * 16 + [event("take", number).decode() for number in range(20)])
    async with watching() as watch:
        assert (await polling.post(body)).text == "ok"
        await until(lambda: len(taker.taken.get("greedy", ())) == 36, "all events")
    assert taker.taken["greedy"] == [600] * 16 + [*range(20)]
    assert watch.longest <= PROMISED


#: A POST of as many packets as fit into it: its protocol and body, and the messages that are handled.
FULL: dict[str, tuple[int, bytes, int]] = {
    "empty messages": (4, b"4" + b"\x1e4" * 499_999, 500_000),
    "noops": (4, b"6" + b"\x1e6" * 499_999, 0),
    "pongs": (4, b"3" + b"\x1e3" * 499_999, 0),
    "empty binary messages": (4, b"b" + b"\x1eb" * 499_999, 500_000),
    "a bad one at the end": (4, b"4" + b"\x1e4" * 499_998 + b"\x1e2", 0),
    "protocol 3": (3, b"1:4" * 333_333, 333_333),
    "protocol 3, not ASCII": (3, "4:4€😀".encode() + b"2:4a" * 240_000, 240_001),
    "one long text of protocol 3": (3, b"333329:4" + "€".encode() * 333_328, 1),
    "octets of protocol 3": (3, b"\x01\x01\xff\x04" * 250_000, 250_000),
}


@STANDALONE
@pytest.mark.parametrize("load", FULL)
async def test_no_turn_takes_longer_for_a_post_of_as_many_packets_as_fit(kind: str, serve: Serve, load: str) -> None:
    server = Primacron(dialect="raw")
    taken = 0

    @server.event("message")
    async def take(session: Session, content: str | bytes) -> None:
        nonlocal taken
        taken += 1

    eio, body, messages = FULL[load]
    headers = {"Content-Type": "application/octet-stream"} if load.startswith("octets") else None
    polling = await (await serve(server)).poll_in(eio=eio)
    before = resident()
    async with watching() as watch, asyncio.timeout(DEADLINE):
        response = await polling.post(body, headers)
        for session in server.node.hub.sessions:
            while session.connection is not None and session.connection.backlog is not None:
                await asyncio.sleep(0.01)
    assert response.status == (400 if load.startswith("a bad one") else 200), response.text
    assert taken == messages
    assert server.node.hub.unfinished.total == 0
    # What the packets are made of weighs fifty times what they are in the body.
    assert resident() - before < 40_000_000
    assert watch.longest <= PROMISED


async def test_what_comes_behind_a_post_keeps_its_place(kind: str, serve: Serve) -> None:
    taker = Taker()
    polling = await (await serve(taker.server)).poll_in("account=greedy")
    first = [heavy().decode()] * 16 + [event("take", number).decode() for number in range(4)]
    assert (await polling.post(SEPARATOR.join(first))).text == "ok"
    assert (await polling.post(event("take", 4).decode())).text == "ok"
    websocket = await polling.probe()
    await websocket.send("2probe")
    await websocket.send("5")
    await websocket.send(event("take", 5).decode())
    await until(lambda: len(taker.taken.get("greedy", ())) == 22, "all events")
    assert taker.taken["greedy"][16:] == [*range(6)]
    await websocket.close()


async def test_events_of_a_post_that_wait_for_their_turn_are_handled_before_the_end(kind: str, serve: Serve) -> None:
    taker = Taker()
    client: Client = await serve(taker.server)
    polling = await client.poll_in("account=greedy")
    body = SEPARATOR.join([heavy().decode()] * 16 + ["1"])
    await polling.post(body)
    await taker.server.destroy()
    assert taker.taken["greedy"] == [600] * 16
    assert taker.closed == {"greedy": 16}


@STANDALONE
async def test_what_waits_of_a_client_does_not_grow_while_its_session_is_full(kind: str, serve: Serve) -> None:
    server = Primacron()
    taken: list[int] = []
    largest = 0

    @server.event("take")
    async def take(session: Session, value: int) -> None:
        nonlocal largest
        taken.append(value)
        await asyncio.sleep(0)
        transport = session.connection.transport if session.connection is not None else None
        largest = max(largest, len(getattr(transport, "rest", None) or b""))

    port = (await serve(server)).port
    async with asyncio.timeout(DEADLINE):
        await asyncio.to_thread(send_all, port, "greedy", LOADS["small events"]())
        await until(lambda: len(taken) == EVENTS, "all events")
    assert taken == list(range(EVENTS))
    assert 0 < largest <= 81_920
