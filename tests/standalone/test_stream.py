"""A websocket of our own server that carries an Engine.IO connection: pings, closing, slow clients."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.errors import FrameError
from tests.conftest import Serve
from tests.standalone.peer import close, more, ping, text
from tests.support.http import DEADLINE
from tests.support.websocket import BINARY, CLOSE, KEY, PING, PONG, TEXT, Frame, encode_frame

pytestmark = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"])

HANDSHAKE = (
    "GET /stream/?EIO=4&transport=websocket&account=ann HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()


class Watched(Primacron):
    """A server that writes down who connected, what came and how it ended."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sessions: list[Session] = []
        self.messages: list[str] = []
        self.errors: list[Exception] = []
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.on("connection", self.sessions.append)
        self.on("disconnection", lambda session, reason: self.ends.put_nowait(reason))
        self.on("error::*", lambda error, context: self.errors.append(error))

        @self.event("say")
        def say(session: Session, what: str) -> None:
            self.messages.append(what)

    async def next_end(self) -> str:
        """Return the reason of the next end of a session."""
        async with asyncio.timeout(DEADLINE):
            return await self.ends.get()


SAY = '4{"event":"say","args":["%s"]}'


async def test_pings_are_answered_before_the_close_frame_and_messages_before_it_are_handled(
    kind: str, serve: Serve
) -> None:
    server = Watched()
    client = await (await serve(server)).connect()
    await client.socket.raw.send(
        ping(b"1") + text(SAY % "hello") + ping(b"2") + close(4000, "bye") + text(SAY % "late")
    )
    frames = [await client.socket.receive_frame() for _ in range(3)]
    assert frames == [Frame(PONG, b"1"), Frame(PONG, b"2"), Frame(CLOSE, (4000).to_bytes(2, "big"))]
    assert await client.socket.raw.read_eof() == b""
    assert await server.next_end() == "transport close"
    assert server.messages == ["hello"]


async def test_a_close_frame_without_a_code_is_answered_with_one_without_a_code(kind: str, serve: Serve) -> None:
    client = await (await serve(Watched())).connect()
    await client.socket.raw.send(close(None))
    assert await client.socket.receive_frame() == Frame(CLOSE, b"")
    assert await client.socket.raw.read_eof() == b""


async def test_after_its_close_frame_a_server_waits_for_the_answer_and_hears_nothing_else(
    kind: str, serve: Serve
) -> None:
    server = Watched()
    client = await (await serve(server)).connect()
    server.sessions[0].disconnect("enough")
    assert await client.receive_close() == (1000, "enough")
    await client.socket.raw.send(text(SAY % "late") + ping(b"late") + text("", final=False) + close(1000))
    assert await client.socket.raw.read_eof() == b""
    assert await server.next_end() == "enough"
    assert server.messages == []


async def test_who_is_gone_right_behind_its_close_frame_is_no_mistake_of_the_server(kind: str, serve: Serve) -> None:
    server = Watched()
    port = (await serve(server)).port
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, HANDSHAKE)
        async with asyncio.timeout(DEADLINE):
            came = b""
            while not came.endswith(b"}"):  # what is left unread would make another end of it
                came += await loop.sock_recv(sock, 1000)
        sock.send(close(1000))
    # Both are there before the server reads, and its answer finds nobody.
    assert await server.next_end() == "transport close"
    await server.destroy()
    assert server.errors == []


async def test_who_does_not_answer_a_close_frame_or_does_not_hang_up_is_cut_off(kind: str, serve: Serve) -> None:
    server = Watched()
    clients = await serve(server)
    silent, clinging, stubborn = [await clients.connect(f"account={n}") for n in range(3)]
    server.sessions[0].disconnect("enough")
    await clinging.socket.raw.send(close(1000))
    await stubborn.socket.raw.send(text("4", reserved=7))
    for client in (silent, clinging, stubborn):
        await client.receive_close()
    # Only our side of the connection is still open, and it ends within two seconds.
    async with asyncio.timeout(DEADLINE):
        while any(client.open for client in server._listeners):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (text(b"4\xff"), 1007, "invalid text"),
        (text(b"4\xff", final=False), 1007, "invalid text"),
        (
            encode_frame(b"\xff" * 20, BINARY)[:1] + b"\xff" + (1 << 40).to_bytes(8, "big") + b"mask",
            1009,
            "message too large",
        ),
        (text("4" * 600, final=False) + more("4" * 600), 1009, "message too large"),
        (text("4", reserved=1), 1002, "transport error"),
        (encode_frame(b"4", TEXT, masked=False), 1002, "transport error"),
        (close(1005), 1002, "transport error"),
    ],
    ids=["bad text", "bad fragment", "large frame", "large fragments", "reserved bit", "no mask", "bad close code"],
)
async def test_a_broken_rule_is_an_error_event_and_its_reason_goes_into_the_close_frame(
    sent: bytes, code: int, reason: str, kind: str, serve: Serve
) -> None:
    server = Watched(max_payload=1000)
    client = await (await serve(server)).connect()
    await client.socket.raw.send(text(SAY % "before") + sent + text(SAY % "after"))
    assert await client.receive_close() == (code, reason)
    assert await client.socket.raw.read_eof() == b""
    assert await server.next_end() == reason
    assert server.messages == ["before"]
    (error,) = server.errors
    assert isinstance(error, FrameError)
    assert error.code == code


async def test_what_comes_after_a_broken_rule_does_not_reset_the_connection(kind: str, serve: Serve) -> None:
    client = await (await serve(Watched())).connect()
    await client.socket.raw.send(text("4", reserved=1) + bytes(5_000_000))
    assert (await client.receive_close())[0] == 1002
    assert await client.socket.raw.reader.read() == b""


async def test_a_message_in_pieces_arrives_whole(kind: str, serve: Serve) -> None:
    server = Watched()
    client = await (await serve(server)).connect()
    content = "é€😀" * 200
    wire = text(SAY % content) + ping()
    for at in range(0, len(wire), 7):
        await client.socket.raw.send(wire[at : at + 7])
        await asyncio.sleep(0)
    assert await client.socket.receive_frame() == Frame(PONG, b"")
    assert server.messages == [content]


async def test_a_client_that_floods_pings_and_reads_nothing_makes_nothing_grow(kind: str, serve: Serve) -> None:
    server = Watched()
    port = (await serve(server)).port
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(2 * DEADLINE):
            await loop.sock_sendall(sock, HANDSHAKE)
            head = b""
            while b'0{"sid"' not in head:
                head += await loop.sock_recv(sock, 65_536)
            flood = encode_frame(b"*" * 125, PING) * 8000
            for _ in range(30):
                await loop.sock_sendall(sock, flood)
            await loop.sock_sendall(sock, ping(b"the last one"))
            connection = server.sessions[0].connection
            assert connection is not None
            assert connection.transport.backlog() < 1_000_000
            pongs = b""
            while not pongs.endswith(b"the last one"):
                pongs = pongs[-100:] + await loop.sock_recv(sock, 1 << 20)
