"""What is outside: a client of an application under uvicorn, and ASGI servers that do no more than they must."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.engine import Client
from tests.support.serving import under_uvicorn


@contextlib.asynccontextmanager
async def client_of(application: object, *, forced: bool = True, **settings: Any) -> AsyncIterator[Client]:
    """Run an ASGI application under uvicorn, and return a client; it is closed after one that ends without force."""
    async with contextlib.AsyncExitStack() as later, under_uvicorn(application, forced=forced, **settings) as port:
        client = Client(port)
        later.push_async_callback(client.close)
        yield client
        if forced:
            await client.close()


class OneWebSocket:
    """An ASGI server of one websocket, as far as a server needs to be one: it can do nothing that ASGI leaves open."""

    def __init__(self, **scope: Any) -> None:
        self.scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "path": "/stream/",
            "query_string": b"EIO=4&transport=websocket&account=ann",
            "headers": [(b"host", b"localhost")],
            **scope,
        }
        self.coming: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.coming.put_nowait({"type": "websocket.connect"})

    async def receive(self) -> Any:
        return await self.coming.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.coming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})


class OneRequest:
    """An ASGI server of one GET."""

    def __init__(self, path: str) -> None:
        self.scope = {"type": "http", "asgi": {"version": "3.0"}, "method": "GET", "path": path, "headers": []}
        self.status = 0

    async def receive(self) -> Any:
        return {"type": "http.request"}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
