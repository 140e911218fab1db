"""The yardsticks, built for these tests, and small servers to run them against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from benchmarks.yardsticks import Report, YardstickFailed, compile_floor, compile_load, run_load, write_options

#: Runs a load generator against a port, and returns what it found.
Load: TypeAlias = Callable[..., Awaitable[Report]]
#: Runs it where it has to fail, and returns what it said.
LoadFails: TypeAlias = Callable[..., Awaitable[str]]

Handler: TypeAlias = Callable[[ServerConnection], Awaitable[None]]
RawHandler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DEADLINE = 20.0


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, built without OpenSSL."""
    return compile_load(tmp_path_factory.mktemp("load"), tls=False)


@pytest.fixture(scope="session")
def floor_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The floor, built."""
    return compile_floor(tmp_path_factory.mktemp("floor"))


@pytest.fixture
def load(generator: Path) -> Load:
    """Runs the load generator beside the event loop."""

    async def run(port: int, **options: object) -> Report:
        given = {"port": port, "settle": 0.05, **options}
        return await asyncio.to_thread(run_load, generator, write_options(**given), deadline=DEADLINE)

    return run


@pytest.fixture
def load_fails(load: Load) -> LoadFails:
    """Runs the load generator and returns its sentence about what went wrong."""

    async def run(port: int, **options: object) -> str:
        with pytest.raises(YardstickFailed) as caught:
            await load(port, **options)
        return str(caught.value)

    return run


@contextlib.asynccontextmanager
async def plain_server(handler: Handler) -> AsyncIterator[int]:
    """Serve websockets by another library than ours; the port."""
    async with serve_websockets(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port: int = next(iter(server.sockets)).getsockname()[1]
        yield port


@contextlib.asynccontextmanager
async def raw_server(handler: RawHandler) -> AsyncIterator[int]:
    """Serve bytes; the port. The handlers end with the block, and what they assert fails the test."""
    serving: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        for task in serving:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def accept_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the handshake of the load generator, whose key is constant."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    await writer.drain()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Read a frame of the load generator, and return its payload without the mask."""
    _, second = await reader.readexactly(2)
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(size)
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
