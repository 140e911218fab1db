"""Sessions that follow others, and what their clients receive."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron import Primacron, Receipt, Session
from primacron.testing import Client
from tests.cluster.fleet import Fleet, local
from tests.support.hearing import Hearing


class Agents:
    """Three servers with handlers, and the clients connected to them."""

    def __init__(self, fleet: Fleet, servers: list[Primacron]) -> None:
        self.fleet = fleet
        self.servers = servers
        self.errors = [Hearing(server, "error::*") for server in servers]

    @classmethod
    async def start(cls, fleet: Fleet, **options: Any) -> Agents:
        """Start the servers."""
        servers = [fleet.new(max_followers=2, **options) for _ in range(3)]
        for server in servers:

            @server.event("say")
            def say(session: Session, *args: Any) -> list[Any]:
                return [*args]

            @server.validate("checked")
            async def check(value: int) -> bool:
                await asyncio.sleep(0)
                return value > 0

        await fleet.start(*servers)
        return cls(fleet, servers)

    async def join(self, number: int, session: str, account: str = "ann", **query: str) -> Client:
        """Connect a client to one of the servers."""
        return await self.fleet.join(self.servers[number], account, session, query)

    async def pipe(self, number: int, follower: str, followed: str, **options: Any) -> Receipt:
        """Have a session of one server follow another session of the same account."""
        server = self.servers[number]
        return await server.pipe(local(server, "ann", follower), "ann", followed, **options)

    @property
    def is_quiet(self) -> bool:
        """Whether no server has reported an error."""
        return all(each.is_empty for each in self.errors)


async def next_of(client: Client) -> tuple[str, tuple[Any, ...], Any]:
    """Return event, arguments and origin of the next message."""
    received = await client.receive()
    return received.event, received.args, received.origin


async def is_empty_after(server: Primacron, client: Client, session: str, account: str = "ann") -> bool:
    """Tell whether a client receives nothing ahead of a message sent now."""
    await server.session(account, session).emit("end of what came")
    return (await client.receive()).event == "end of what came" and client.is_quiet


def came_from(session: str, direction: str = "in", account: str = "ann") -> dict[str, str]:
    """Return the origin of a mirrored message."""
    return {"account": account, "session": session, "direction": direction}
