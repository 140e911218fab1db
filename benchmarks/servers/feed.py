"""What servers send to clients that drop: numbered messages, at fixed times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

#: Seconds between two messages to the room.
PERIOD: Final = 0.1
#: Messages to the room for each one that is sent to the clients by themselves.
FOR_EACH_DIRECT: Final = 5


async def feed(
    to_room: Callable[[int], Awaitable[object]],
    to_client: Callable[[int, int], Awaitable[object]],
    clients: int,
    count: int,
) -> None:
    """Send so many messages to the room and, at every fifth, the next one to each client: its number comes first."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(count):
        await asyncio.sleep(begin + number * PERIOD - loop.time())
        await to_room(number)
        if number % FOR_EACH_DIRECT == 0:
            for client in range(clients):
                await to_client(client, number // FOR_EACH_DIRECT)
