"""Serves a server for the duration of a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import uvicorn

from primacron import Primacron

KINDS: Final = ("standalone", "standalone-asyncio", "asgi")
DEADLINE: Final = 10.0


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the test runner."""
        yield


def port_of(server: Primacron) -> int:
    """Return the port to which a server is bound."""
    address = server.address()
    assert isinstance(address, tuple)
    return address[1]


@contextlib.asynccontextmanager
async def serving(server: Primacron, kind: str) -> AsyncIterator[int]:
    """Serve on a free local port, and destroy the server afterwards."""
    if kind == "asgi":
        async with under_uvicorn(server.asgi) as port:
            try:
                yield port
            finally:
                await server.destroy()
        return
    await server.listen(0, "127.0.0.1")
    try:
        yield port_of(server)
    finally:
        await server.destroy()


@contextlib.asynccontextmanager
async def under_uvicorn(application: object, *, forced: bool = True, **settings: Any) -> AsyncIterator[int]:
    """Run an ASGI application under uvicorn; ``forced`` ends it without waiting for open connections."""
    given = {"log_level": "error", "ws": "websockets-sansio", "timeout_graceful_shutdown": 1, **settings}
    given.setdefault("log_config", None)  # uvicorn's own would remove the handlers that tests install
    with socket.create_server(("127.0.0.1", 0)) as sock:
        outer = _Uvicorn(uvicorn.Config(application, **given))  # type: ignore[arg-type]
        running = asyncio.create_task(outer.serve(sockets=[sock]))
        async with asyncio.timeout(DEADLINE):
            while not outer.started:  # uvicorn offers no other signal
                await asyncio.sleep(0.01)
        try:
            yield sock.getsockname()[1]
        finally:
            outer.should_exit = True
            outer.force_exit = forced
            await running
            if forced:
                await outer.lifespan.shutdown()  # which a forced exit skips
