"""Benchmark server: python-socketio under uvicorn and uvloop, which feeds clients that drop."""

from __future__ import annotations

from functools import partial

import socketio

from benchmarks.servers.feed import feed
from benchmarks.servers.outer import serve

server = socketio.AsyncServer(async_mode="asgi")


@server.on("who")  # type: ignore[untyped-decorator]
async def who(sid: str, client: int) -> bool:
    await server.enter_room(sid, "room")
    await server.enter_room(sid, f"client-{client}")
    return True


@server.on("begin")  # type: ignore[untyped-decorator]
async def begin(sid: str, clients: int, count: int) -> None:
    async def to_client(client: int, number: int) -> None:
        await server.emit("direct", number, to=f"client-{client}")

    server.start_background_task(feed, partial(server.emit, "room", to="room"), to_client, clients, count)


if __name__ == "__main__":
    serve(socketio.ASGIApp(server), __doc__)
