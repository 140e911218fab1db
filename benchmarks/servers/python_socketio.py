"""Benchmark server: python-socketio under uvicorn and uvloop, with echo and fan-out of events."""

from __future__ import annotations

import socketio

from benchmarks.servers.outer import serve

NEWS = "hello broadcast payload"

server = socketio.AsyncServer(async_mode="asgi")


@server.on("echo")  # type: ignore[untyped-decorator]
async def echo(sid: str, text: object) -> None:
    if isinstance(text, str):
        await server.emit("echo", text, to=sid)


@server.on("b")  # type: ignore[untyped-decorator]
async def broadcast(sid: str) -> None:
    await server.emit("news", NEWS)


if __name__ == "__main__":
    serve(socketio.ASGIApp(server), __doc__)
