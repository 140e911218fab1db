"""Clients that take nothing, and a network that carries nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from primacron import Session
from primacron.errors import SlowClient
from primacron.sessions.connection import Connection
from tests.hostile.arena import Arena
from tests.support.engine import SEPARATOR, Events, Polling


class Sluggish:
    """A client that takes nothing: by websocket it does not read, by polling it does not poll."""

    def __init__(self, session: Session, client: Events | Polling) -> None:
        self.session = session
        self._client = client
        if isinstance(client, Events):
            client.socket.raw.writer.transport.pause_reading()  # type: ignore[attr-defined]

    @classmethod
    async def open(cls, arena: Arena, by: str, account: str = "mallory") -> Sluggish:
        """Connect."""
        client: Events | Polling
        if by == "websocket":
            client = await arena.client.connect(f"account={account}")
        else:
            client = await arena.poll_in(account)
        return cls(arena.session(account), client)

    @property
    def connection(self) -> Connection:
        """Its connection, which has not ended."""
        assert self.session.connection is not None
        return self.session.connection

    async def stick(self) -> None:
        """Let it be sent large messages until one waits here, and not in the network."""
        while not self.connection.is_stuck:
            self.session.emit("large", "x" * 200_000)
            await asyncio.sleep(0)

    async def wake(self, count: int) -> list[Any]:
        """Take what waits for it, so many events; return the first argument of each."""
        if isinstance(self._client, Events):
            self._client.socket.raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
            return [(await self._client.receive())["args"][0] for _ in range(count)]
        answer = await self._client.poll()
        return [json.loads(packet[1:])["args"][0] for packet in answer.text.split(SEPARATOR)]


async def assert_slow(arena: Arena, session: Session, limit: int) -> SlowClient:
    """Check that a session was closed because its client is slow, that this is told once, and return the error."""
    error, context = await arena.error("error::slow")
    assert isinstance(error, SlowClient)
    assert context.session is session
    assert error.limit == limit
    assert await arena.reason(session.account) == "slow"
    assert (await session.emit("late")).status == "unknown_session"
    return error


class BlackHole:
    """A network between a client and the server that can fail without a word, so that the server sees silence."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._works = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> BlackHole:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def fail(self) -> None:
        """Carry nothing any more, in neither direction; nobody is told."""
        self._works = False

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far]
        for source, sink in ((reader, far), (near, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink)))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(65_536):
            if self._works:
                sink.write(part)
