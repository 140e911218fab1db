"""Several servers in one process, which share their sessions in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from primacron.application import Primacron
from primacron.cluster.memory import Shared


class Cluster:
    """
    Several servers of one application, as if each ran in a process of its own.

    ``create`` makes a server from what it has to pass on to :class:`Primacron` in
    the place of a Redis. ``shared`` is what Redis is to them: set ``shared.away``
    to take it away and to bring it back, call ``shared.clear()`` to empty it.
    """

    def __init__(self, create: Callable[[Shared], Primacron], nodes: int = 3) -> None:
        self.shared = Shared()
        self.servers = [create(self.shared) for _ in range(nodes)]

    async def __aenter__(self) -> Self:
        for server in self.servers:
            await server.start()
        await self.meet()
        return self

    async def meet(self) -> None:
        """Let the servers learn of each other now, and not in a second."""
        for server in self.servers:
            await server.node.cluster.meet()

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            await server.destroy()
