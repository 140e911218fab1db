"""
Clients that drop: python-socketio's own, as it is.

Usage: ``python -m benchmarks.load.python_socketio_clients PORT...``
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import socketio

from benchmarks.load.received import Received, answer


async def main(ports: list[str]) -> None:
    """Connect a client to each port, and count what it gets."""
    received = [Received(returns=-1) for _ in ports]
    clients = [make_client(number, each) for number, each in enumerate(received)]
    for client, port in zip(clients, ports, strict=True):
        await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
    await answer(received, lambda count: clients[0].emit("begin", (len(ports), count)))
    for client in clients:
        await client.disconnect()


def make_client(number: int, received: Received) -> socketio.AsyncClient:
    """Return a client that says who it is whenever it has connected: its sessions end with their connections."""
    client = socketio.AsyncClient()

    def named(_: bool) -> None:
        received.returns += 1
        received.is_connected = True

    async def connect() -> None:
        await client.emit("who", number, callback=named)

    def disconnect(_: str) -> None:
        received.is_connected = False

    client.on("connect", connect)
    client.on("disconnect", disconnect)
    for event in ("room", "direct"):
        client.on(event, partial(_take, received, event))
    return client


def _take(received: Received, event: str, number: int) -> None:
    received.take(event, [number])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
