"""Benchmark server: python-socketio with its Redis manager, under uvicorn and uvloop, as one node of several."""

from __future__ import annotations

import sys
from urllib.parse import parse_qs

import socketio

from benchmarks.servers.outer import serve

NEWS = "hello broadcast payload"

# The last argument is Redis' port; the others are those of every server.
manager = socketio.AsyncRedisManager(f"redis://127.0.0.1:{sys.argv.pop()}")
server = socketio.AsyncServer(async_mode="asgi", client_manager=manager)


@server.on("connect")  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, str]) -> None:
    (account,) = parse_qs(environ["QUERY_STRING"])["account"]
    await server.enter_room(sid, account)


@server.on("b")  # type: ignore[untyped-decorator]
async def broadcast(sid: str) -> None:
    await server.emit("news", NEWS)


@server.on("each")  # type: ignore[untyped-decorator]
async def send_to_each(sid: str, count: int) -> None:
    for number in range(count):
        await server.emit("news", NEWS, to=f"a{number}")


if __name__ == "__main__":
    serve(socketio.ASGIApp(server), __doc__)
