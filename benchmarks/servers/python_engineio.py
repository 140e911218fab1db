"""Benchmark server: python-engineio under uvicorn and uvloop, with echo and fan-out."""

from __future__ import annotations

import json

import engineio

from benchmarks.servers.outer import serve

NEWS = "hello broadcast payload"

server = engineio.AsyncServer(async_mode="asgi")


@server.on("message")  # type: ignore[untyped-decorator]
async def message(sid: str, text: str) -> None:
    if text == "b":
        for each in list(server.sockets):
            await server.send(each, NEWS)
    elif text.startswith("["):
        json.loads(text)
    else:
        await server.send(sid, text)


if __name__ == "__main__":
    serve(engineio.ASGIApp(server), __doc__)
