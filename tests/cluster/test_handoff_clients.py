"""The official clients behind a plain balancer find in several servers what they find in one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.ids import AccountId, SessionId
from primacron.protocol.engine import Phase
from primacron.testing import Proxy
from tests.cluster.fleet import Fleet
from tests.cluster.walker import NAME, Walker
from tests.support.hearing import Hearing
from tests.support.node import run_node

BACKENDS = ("memory", "redis", "redis-cluster")

#: Seconds; on a machine that is busy, all servers of this process may stand still for as long as the usual lease.
LEASE = 20
COUNT = 300
CLIENTS = 32


def phase_of(servers: list[Primacron], client: str) -> Phase | None:
    """Return what carries the connection of a client, wherever that is."""
    for server in servers:
        session = server.node.hub.sessions.get(AccountId("a"), SessionId(client))
        if session is not None and session.connection is not None:
            return session.connection.phase
    return None


class Talk:
    """What goes both ways between servers and clients."""

    def __init__(self, servers: list[Primacron]) -> None:
        self.servers = servers
        self.taken: dict[str, list[int]] = {}
        self._sent: dict[str, asyncio.Task[None]] = {}
        for server in servers:
            server.uuid(lambda request: request.query["client"])
            server.event("message")(self._take)
            server.on("connection", self._begin)

    def _begin(self, session: Session) -> None:
        self.taken[session.id] = []
        sender = self.servers[int(session.id) % 3]
        self._sent[session.id] = asyncio.create_task(self._send(sender, session.id, session.query["pace"]))

    async def _take(self, session: Session, content: str) -> None:
        numbers = self.taken[session.id]
        numbers.append(int(content))
        if len(numbers) % 3 == 0:
            await asyncio.sleep(0)
        if len(numbers) == COUNT:
            # By the same server as all others, so that it comes last.
            await self._sent[session.id]
            self.servers[int(session.id) % 3].session("a", session.id).emit("message", f"taken {COUNT}")

    async def _send(self, sender: Primacron, client: str, pace: str) -> None:
        target = sender.session("a", client)
        for number in range(COUNT):
            target.emit("message", f"{number}")
            await self._pause(number, client, pace)

    async def _pause(self, number: int, client: str, pace: str) -> None:
        if pace == "timers" and number % 5 == 0:
            await asyncio.sleep(0.001)
        elif pace == "in answer":
            while len(self.taken[client]) < number:
                await asyncio.sleep(0.001)
        elif pace == "while probed" and number in (COUNT // 3, 2 * COUNT // 3):
            awaited = (Phase.PROBING, Phase.UPGRADED) if number == COUNT // 3 else (Phase.UPGRADED,)
            while phase_of(self.servers, client) not in awaited:
                await asyncio.sleep(0)


async def test_what_goes_both_ways_during_upgrades_comes_once_and_in_order(fleet: Fleet) -> None:
    servers = [fleet.new(dialect="raw", outbox_limit=10_000_000, lease=LEASE) for _ in range(3)]
    talk = Talk(servers)
    errors = [Hearing(server, "error::*") for server in servers]
    await fleet.start(*servers)
    fronts = [await fleet.serve(server) for server in servers]
    async with Proxy(*(front.port for front in fronts)) as proxy:
        results = await run_node("upgrade.mjs", proxy.port, COUNT)
    good = {"wrong": -1, "count": COUNT, "transport": "websocket", "closed": None}
    assert [{name: result[name] for name in good} for result in results] == CLIENTS * [good]
    assert {client: numbers for client, numbers in talk.taken.items() if numbers != [*range(COUNT)]} == {}
    assert len(talk.taken) == CLIENTS
    assert sum(server.metrics["sessions_arrived"] for server in servers) > 0
    assert all(each.is_empty for each in errors)


@pytest.mark.parametrize("backend", ["redis"])
async def test_the_primus_client_talks_as_with_one_server(fleet: Fleet) -> None:
    servers = [fleet.new(lease=LEASE) for _ in range(3)]
    for server in servers:

        @server.event("message")
        def echo(session: Session, content: Any) -> None:
            session.emit("message", content)

        @server.event("greet")
        def greet(session: Session, name: str, count: int) -> None:
            session.emit("greeting", name, count + 1)

        @server.event("finish")
        def finish(session: Session) -> None:
            session.emit("message", {"last": "words"})
            session.disconnect()

    await fleet.start(*servers)
    fronts = [await fleet.serve(server) for server in servers]
    async with Proxy(*(front.port for front in fronts)) as proxy:
        for _ in range(2):
            results = await run_node("primus.mjs", proxy.port, "talk", "talkByPolling", "serverEnds")
            assert [result["ours"] for result in results] == [result["theirs"] for result in results]
            assert results[0]["ours"]["transport"] == "websocket"
    assert sum(server.metrics["sessions_arrived"] for server in servers) > 0


async def test_a_connection_of_protocol_3_moves(fleet: Fleet) -> None:
    servers = [fleet.new(lease=LEASE) for _ in range(3)]
    handled: list[int] = []
    for server in servers:

        @server.event("up")
        def up(session: Session, number: int) -> None:
            handled.append(number)
            session.emit("up", number)

    await fleet.start(*servers)
    walker = await Walker.begin([await fleet.serve(server) for server in servers], eio=3)
    target = servers[2].session(*NAME)

    async def send_down() -> None:
        for number in range(200):
            target.emit("down", number)
            await asyncio.sleep(0.001)

    async def send_up() -> None:
        for number in range(0, 200, 5):
            await walker.send(*({"event": "up", "args": [each]} for each in range(number, number + 5)))

    sending = [asyncio.create_task(send_down()), asyncio.create_task(send_up())]
    await walker.emit("up", -1)
    await walker.upgrade()
    await asyncio.gather(*sending)
    got: dict[str, list[int]] = {"up": [], "down": []}
    for _ in range(401):
        message = await walker.receive()
        got[message["event"]].append(message["args"][0])
    got["up"].remove(-1)
    assert got == {"up": [*range(200)], "down": [*range(200)]}
    assert walker.socket is not None
    await walker.socket.send("2")
    async with asyncio.timeout(5):
        assert await walker._packets.get() == "3"
    await walker.close()
