"""A network between a server and its Redis that can be broken and repaired."""

from __future__ import annotations

from primacron.testing import Proxy


class RedisProxy(Proxy):
    """The way to a local Redis."""

    @property
    def url(self) -> str:
        """Redis' address through the proxy."""
        return f"redis://127.0.0.1:{self.port}"

    async def cut(self) -> None:
        """Let nothing pass: connections stay open, and new ones get no answer."""
        await self.drop("silent", new="silent")

    async def restore(self) -> None:
        """Let new connections pass again, and end the others, since what was on them is lost."""
        await self.drop("clean")

    async def deafen(self, marker: bytes) -> None:
        """Throw away the replies on the connections on which these bytes were sent."""
        for connection in self.connections:
            if marker in connection.sent:
                await connection.drop("one-way")
