"""Several servers in one process that share their sessions in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from primacron.application import Primacron
from primacron.cluster.memory import Shared


class Cluster:
    """
    Several servers of one application, as if each ran in its own process.

    ``create`` builds a server from the object to pass to :class:`Primacron` in place
    of Redis. ``shared`` is what Redis would be to them: set ``shared.away`` to
    simulate an outage and its end, call ``shared.clear()`` to lose all data.
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
        """Let the servers discover each other now rather than within a second."""
        for server in self.servers:
            await server.node.cluster.meet()

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            await server.destroy()
