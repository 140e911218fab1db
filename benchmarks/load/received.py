"""What a client that drops has received, and how the program that it runs in is asked about that."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field


@dataclass
class Received:
    """What one client has received, in order, and how often it came back."""

    room: list[int] = field(default_factory=list)
    direct: list[int] = field(default_factory=list)
    returns: int = 0
    recovered: int = 0
    is_connected: bool = False

    def take(self, event: str, args: list[int]) -> None:
        """Take an event."""
        if event in ("room", "direct"):
            getattr(self, event).append(args[0])


async def answer(clients: list[Received], begin: Callable[[int], Awaitable[object]]) -> None:
    """Answer the lines of standard input until it ends, as the README beside this says."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while words := (await reader.readline()).split():
        match words:
            case [b"begin", count]:
                await begin(int(count))
            case [b"connected"]:
                tell(sum(client.is_connected for client in clients))
            case [b"report"]:
                tell([asdict(client) for client in clients])


def tell(what: object) -> None:
    """Print a line of JSON."""
    print(json.dumps(what), flush=True)
