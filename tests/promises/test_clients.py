"""That clients of the scenarios leave nothing behind of a connection that has ended, however it did."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from primacron.testing.promises import AnyRecord, Closed
from tests.promises.clients import Returning


async def test_works_of_a_connection_that_end_at_once_are_all_asked_for(anyio_backend: object) -> None:
    written: list[AnyRecord] = []
    unasked: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    earlier = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unasked.append(context))
    client = Returning("polling", lambda: 0, ("ann", "a"), written.append, random.Random(0))
    client.sid = "sid"

    async def fail() -> None:
        raise ConnectionError("ended")

    async def fail_when_cancelled() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            raise ConnectionError("ended meanwhile") from None

    with pytest.raises(ConnectionError, match=r"ended$"):
        await client._until_closed([fail(), fail(), fail_when_cancelled()])
    gc.collect()
    loop.set_exception_handler(earlier)
    assert unasked == []
    assert [type(each) for each in written] == [Closed]
