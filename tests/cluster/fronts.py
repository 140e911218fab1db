"""Listening servers, one of which has the connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from primacron import Primacron, Session
from primacron.ids import Sid
from tests.cluster.fleet import Fleet, until
from tests.support.engine import Client, Polling
from tests.support.http import Response

CODE_1 = {"code": 1, "message": "Session ID unknown"}


class Fronts:
    """Listening servers; the first one has the connections."""

    def __init__(self, servers: list[Primacron], clients: list[Client]) -> None:
        self.servers = servers
        self.owner = servers[0]
        self.clients = clients
        #: The arguments with which the owner's ``echo`` handler was called.
        self.echoed: list[Any] = []

    @classmethod
    async def start(cls, fleet: Fleet, count: int = 3, **options: Any) -> Fronts:
        """Start ``count`` servers."""
        servers = [fleet.new(**options) for _ in range(count)]
        fronts = cls(servers, [])
        for server in servers:

            @server.event("echo")
            def echo(session: Session, value: Any) -> Any:
                fronts.echoed.append(value)
                session.emit("echo", value)
                return value

        await fleet.start(*servers)
        fronts.clients += [await fleet.serve(server) for server in servers]
        return fronts

    async def handshake(self, query: str = "account=ann&session=a", eio: int = 4) -> Polling:
        """Open a connection at the owner."""
        return await self.clients[0].poll_in(query, eio=eio)

    def via(self, polling: Polling, number: int, eio: int = 4) -> Polling:
        """Return the same connection as seen through another server."""
        return Polling(self.clients[number], polling.opened, eio)

    def held(self, polling: Polling) -> bool:
        """Tell whether the owner is holding a poll."""
        connection = self.owner.node.hub.connections.get(Sid(polling.sid))
        return connection is not None and connection.transport.ready

    async def poll(self, polling: Polling) -> asyncio.Task[Response]:
        """Send a poll, and wait until the owner holds it."""
        task = asyncio.create_task(polling.poll())
        await until(lambda: self.held(polling), "the poll at the owner")
        return task


def messages(response: Response) -> list[Any]:
    """Return the messages of a payload."""
    assert response.status == 200, response
    return [json.loads(packet[1:]) for packet in response.text.split("\x1e") if packet[0] == "4"]


async def refused_with_code_1(polling: Polling) -> None:
    """Check that no server has the connection."""
    for response in (await polling.poll(), await polling.post("4x")):
        assert (response.status, response.json()) == (400, CODE_1)
