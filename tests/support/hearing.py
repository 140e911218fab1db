"""Events of a server, for tests to await."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron import Context, Primacron

DEADLINE = 10.0


class Hearing:
    """Listens to events of a server; every wait has a deadline."""

    def __init__(self, server: Primacron, *events: str) -> None:
        self.heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        for event in events:
            server.on(event, self._listen)

    def _listen(self, *args: Any) -> None:
        self.heard.put_nowait(args)

    async def next(self) -> tuple[Any, ...]:
        """Return the arguments of the next event."""
        async with asyncio.timeout(DEADLINE):
            return await self.heard.get()

    async def next_error(self) -> tuple[Exception, Context]:
        """Return the next error with its context."""
        error, context = await self.next()
        assert isinstance(error, Exception)
        assert isinstance(context, Context)
        return error, context

    @property
    def is_empty(self) -> bool:
        """Whether all events have been consumed."""
        return self.heard.empty()
