"""python-engineio's clients, which take at most sixteen packets in one answer to a poll."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import engineio
import pytest

from primacron import Primacron, Session
from tests.conftest import Serve

COUNT = 50
DEADLINE = 20.0

#: Connects by polling, waits for so many messages, and leaves; returns the messages and why it ended.
Talk: TypeAlias = Callable[[int], Awaitable[tuple[list[str], list[Any]]]]


async def talk_blocking(port: int) -> tuple[list[str], list[Any]]:
    """Talk with the client that requests carries."""
    return await asyncio.to_thread(_talk_blocking, port)


def _talk_blocking(port: int) -> tuple[list[str], list[Any]]:
    client, done = engineio.Client(), threading.Event()
    got: list[str] = []
    ends: list[Any] = []

    def take(message: str) -> None:
        got.append(message)
        if len(got) == COUNT:
            done.set()

    def end(*reason: Any) -> None:
        ends.extend(reason)
        done.set()

    client.on("message", take)
    client.on("disconnect", end)
    client.connect(f"http://127.0.0.1:{port}?account=a", transports=["polling"], engineio_path="stream")
    client.send("go")
    assert done.wait(DEADLINE)
    ended = [*ends]
    client.disconnect()
    client.wait()
    return got, ended


async def talk_async(port: int) -> tuple[list[str], list[Any]]:
    """Talk with the client that aiohttp carries."""
    client, done = engineio.AsyncClient(), asyncio.Event()
    got: list[str] = []
    ends: list[Any] = []

    def take(message: str) -> None:
        got.append(message)
        if len(got) == COUNT:
            done.set()

    def end(*reason: Any) -> None:
        ends.extend(reason)
        done.set()

    client.on("message", take)
    client.on("disconnect", end)
    await client.connect(f"http://127.0.0.1:{port}?account=a", transports=["polling"], engineio_path="stream")
    await client.send("go")
    async with asyncio.timeout(DEADLINE):
        await done.wait()
    ended = [*ends]
    await client.disconnect()
    await client.wait()
    return got, ended


@pytest.mark.parametrize("talk", [talk_blocking, talk_async])
async def test_pythons_own_client_by_polling_gets_many_messages_that_were_sent_at_once(
    talk: Talk, kind: str, serve: Serve
) -> None:
    server = Primacron(dialect="raw")

    @server.event("message")
    def go(session: Session, content: str) -> None:
        for number in range(COUNT):
            session.emit("message", str(number))

    client = await serve(server)
    assert await talk(client.port) == ([str(number) for number in range(COUNT)], [])
