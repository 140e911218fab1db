"""Handlers that only in effect are coroutine functions: decorated ones, and those that return futures."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from primacron import Primacron, Session
from tests.conftest import Serve


async def add(session: Session, a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def decorated() -> Callable[..., Any]:
    @functools.wraps(add)
    def wrapper(session: Session, a: int, b: int) -> Any:
        return add(session, a, b)

    return wrapper


class Adder:
    async def add(self, session: Session, a: int, b: int) -> int:
        return a + b


def soon(session: Session, a: int, b: int) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, a + b)
    return future


def begun(session: Session, a: int, b: int) -> Coroutine[Any, Any, int]:
    return add(session, a, b)


HANDLERS: dict[str, Callable[[], Callable[..., Any]]] = {
    "a coroutine function": lambda: add,
    "one that is decorated": decorated,
    "a method": lambda: Adder().add,
    "a function that returns a future": lambda: soon,
    "a function that returns a coroutine": lambda: begun,
}


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("heard", [False, True])
async def test_what_a_handler_returns_to_be_awaited_is_awaited(serve: Serve, name: str, heard: bool) -> None:
    server = Primacron()
    server.event("add")(HANDLERS[name]())
    told: list[tuple[int, int]] = []
    if heard:
        server.on("stream::add", lambda session, a, b: told.append((a, b)))
    client = await (await serve(server)).connect()
    for number in range(3):
        await client.emit("add", number, 10, id=number)
    assert [await client.receive() for _ in range(3)] == [{"ack": n, "args": [n + 10]} for n in range(3)]
    assert told == [(n, 10) for n in range(3) if heard]
    assert server.metrics["error::handler"] == 0


async def test_one_that_fails_while_it_is_awaited_is_a_handler_error(serve: Serve) -> None:
    server = Primacron()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    @server.event("fail")
    def failing(session: Session) -> Any:
        return fail()

    client = await (await serve(server)).connect()
    await client.emit("fail", id=1)
    assert (await client.receive())["error"]["type"] == "handler"
    assert server.metrics["error::handler"] == 1


async def test_a_decorated_one_may_run_in_a_thread_and_is_awaited_outside(serve: Serve) -> None:
    server = Primacron()
    server.event("add", thread=True)(decorated())
    client = await (await serve(server)).connect()
    await client.emit("add", 1, 2, id=1)
    assert await client.receive() == {"ack": 1, "args": [3]}
