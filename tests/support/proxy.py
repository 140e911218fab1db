"""A network between a server and its Redis that can be broken and repaired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

#: Bytes per read.
CHUNK: Final = 65_536


class Proxy:
    """
    Forwards TCP connections to a local port.

    ``delay`` is how many seconds it holds back each chunk sent to the target.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self._target = target
        self._passes = asyncio.Event()
        self._passes.set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Redis' address through the proxy."""
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Stop forwarding: connections stay open, and new ones get no answer."""
        self._passes.clear()

    def mend(self) -> None:
        """Forward new connections again; existing ones are dropped, since data on them was lost."""
        for link in tuple(self._links):
            link.drop()
        self._passes.set()

    def deafen(self, marker: bytes) -> None:
        """Discard replies on the connections on which these bytes were sent."""
        for link in self._links:
            if marker in link.sent:
                link.is_deaf = True

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Proxy]:
        """Accept connections on a free local port for the duration of the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._passes.wait()
            with contextlib.suppress(OSError):
                there, back = await self._open(link)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(link, reader, back, is_back=False))
                    group.create_task(self._pass(link, there, writer, is_back=True))
        finally:
            self._links.discard(link)
            link.drop()

    async def _open(self, link: _Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to Redis; when cancelled, wait for the connection so that it does not leak."""
        opening = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", self._target))
        try:
            await asyncio.shield(opening)
        finally:
            await asyncio.wait([opening])
            if opening.exception() is None:
                link.ends.append(opening.result()[1])
        return opening.result()

    async def _pass(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_back: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if not self._passes.is_set():
                    continue  # lost in transit
                if is_back and link.is_deaf:
                    continue
                if not is_back:
                    link.sent = (link.sent + data)[-CHUNK:]
                    await asyncio.sleep(self.delay)
                if writer.is_closing():  # where uvloop raises no OSError
                    break
                writer.write(data)
                await writer.drain()
        link.drop()


class _Link:
    """One connection: its two ends, and what was last sent to Redis on it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.ends = [writer]
        self.sent = b""
        self.is_deaf = False

    def drop(self) -> None:
        """Close both ends."""
        for end in self.ends:
            end.transport.abort()
