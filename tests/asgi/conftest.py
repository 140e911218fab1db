"""The websocket implementations of uvicorn, and what must hold after each test."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    # The oldest of the three says of itself, when it is imported, that it will be left out one day.
    warnings.simplefilter("ignore")
    importlib.import_module("uvicorn.protocols.websockets.websockets_impl")

#: What uvicorn says of each websocket handshake that is refused as ASGI lays down, with an answer of its own.
REFUSED = "ASGI callable returned without completing handshake."


#: It warns of a part of its own library at each connection.
OLDEST = pytest.param("websockets", marks=pytest.mark.filterwarnings("ignore:remove second argument of ws_handler"))


@pytest.fixture(params=["websockets-sansio", "wsproto", OLDEST])
def ws(request: pytest.FixtureRequest) -> str:
    """How uvicorn speaks websocket."""
    return str(request.param)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() != REFUSED:
            self.lines.append(f"{record.getMessage()} {record.exc_info or ''}")


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    """Fail when uvicorn caught an exception of ours, or asyncio had something to say."""
    records = _Records()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(records)
    yield
    for logger in loggers:
        logger.removeHandler(records)
    assert records.lines == []


@pytest.fixture(autouse=True)
async def nothing_is_left(anyio_backend: object) -> AsyncIterator[None]:
    """Fail when a task outlives its test, or when anything was raised where nobody catches it."""
    loop = asyncio.get_running_loop()
    raised: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: raised.append(context))
    tasks = asyncio.all_tasks()
    yield
    left = {each for each in asyncio.all_tasks() - tasks if "_call_in_runner_task" not in repr(each.get_coro())}
    if left:
        await asyncio.wait(left, timeout=10)
    assert {each for each in left if not each.done()} == set()
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(before)
    assert raised == []
