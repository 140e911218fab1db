"""A proxy that cuts a TCP stream at random, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator

from tests.standalone.peer import DEADLINE

READ = 65_536


@contextlib.asynccontextmanager
async def chopping(port: int, seed: object) -> AsyncIterator[int]:
    """Forward connections to a port of this machine, in pieces; yields the port to connect to."""
    source = random.Random(str(seed))
    forwards: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwards.add(asyncio.ensure_future(_forward(reader, writer, port, source)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        # Both sides have closed by now, or are about to.
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*forwards)
    finally:
        server.close()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, source: random.Random
) -> None:
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_pump(reader, far_writer, source), _pump(far_reader, writer, source))
    for each in (writer, far_writer):
        each.close()
        with contextlib.suppress(ConnectionError):
            await each.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: random.Random) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(READ):
            for piece in _cut(data, source):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # let it leave before the next one
        writer.write_eof()


def _cut(data: bytes, source: random.Random) -> Iterator[bytes]:
    """Cut data into a few tiny pieces, as heads are there, and then into larger ones."""
    at = 0
    tiny = source.randrange(30)
    while at < len(data):
        size = source.randrange(1, 4) if tiny > 0 else source.randrange(1, READ)
        yield data[at : at + size]
        at += size
        tiny -= 1
