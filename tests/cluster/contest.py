"""Many clients that claim the same session at several servers at once, and who owns it in the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter

from primacron import Primacron, Session
from primacron.cluster.solo import Solo
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.engine import Client
from tests.support.redis import RedisProcess
from tests.support.websocket import CLOSE, WebSocket

ACCOUNT, ID = "ann", "d"
#: Concurrent clients.
CROWD = 6
#: Seconds within which the servers must agree.
AGREED_WITHIN = 10.0


class Contest:
    """Servers and their ports, the sockets opened there, and the events of the sessions."""

    def __init__(self, fleet: Fleet, servers: list[Primacron], fronts: list[Client]) -> None:
        self.fleet = fleet
        self.servers: list[Primacron] = []
        self.fronts: list[Client] = []
        self.sockets: list[WebSocket] = []
        self.statuses: Counter[int] = Counter()
        self.opened: list[Session] = []
        self.ended: list[tuple[Session, str]] = []
        for server, front in zip(servers, fronts, strict=True):
            self.add(server, front)

    def add(self, server: Primacron, front: Client) -> None:
        """Add a server and its port."""
        self.servers.append(server)
        self.fronts.append(front)
        server.on("connection", self.opened.append)
        server.on("disconnection", lambda session, reason: self.ended.append((session, reason)))

    async def run(self, seconds: float) -> None:
        """Have clients connect for this many seconds, each to the next server."""
        turns = itertools.cycle(self.fronts)
        loop = asyncio.get_running_loop()
        until_then = loop.time() + seconds

        async def connect_on() -> None:
            while loop.time() < until_then:
                await self.connect(next(turns))

        await asyncio.gather(*(connect_on() for _ in range(CROWD)))

    async def connect(self, front: Client) -> WebSocket:
        """Connect one client; it stays until the server closes it."""
        socket = await front.websocket(f"account={ACCOUNT}&session={ID}")
        self.statuses[socket.response.status] += 1
        if socket.response.status == 101:
            self.sockets.append(socket)
        return socket

    @property
    def redis(self) -> RedisProcess:
        """The servers' Redis."""
        (redis,) = self.fleet.primaries
        return redis

    @property
    def living(self) -> list[tuple[Primacron, Session]]:
        """Sessions with a live connection, and their servers."""
        return [
            (server, server.node.hub.session_of(connection))
            for server in self.servers
            for connection in server.node.hub.connections.values()
        ]

    async def has_one_owner(self) -> Session:
        """Wait until one connection is left, and check that servers, registry and clients agree on it."""
        with contextlib.suppress(AssertionError):
            await until(lambda: len(self.living) == 1, "one connection", AGREED_WITHIN)
        ((owner, session),) = self.living
        assert [server.count() for server in self.servers] == [int(server is owner) for server in self.servers]
        assert owner.node.hub.sessions.get(session.account, session.id) is session
        await self._is_registered(owner, session)
        ends = Counter(id(ended) for ended, _ in self.ended)
        assert set(ends.values()) <= {1}
        assert set(ends) == {id(opened) for opened in self.opened} - {id(session)}
        assert {reason for _, reason in self.ended} <= {"replaced"}
        await self._is_alone(session)
        return session

    async def _is_registered(self, owner: Primacron, session: Session) -> None:
        if isinstance(owner.node.cluster, Solo):
            return
        registry = cluster_of(owner).registry
        async with asyncio.timeout(AGREED_WITHIN):
            while (await registry.sessions(session.account))[0] != [session.entry]:
                await asyncio.sleep(0.01)

    async def _is_alone(self, session: Session) -> None:
        """Check that the session receives on one socket only, and that all others were closed."""
        session.emit("you")
        said = Counter(await asyncio.gather(*(self._last_word(socket) for socket in self.sockets)))
        assert said == Counter(replaced=len(self.sockets) - 1, you=1)

    @staticmethod
    async def _last_word(socket: WebSocket) -> str:
        """Return why a socket was closed, or the event that it received as the owner."""
        opened = await socket.receive_frame()
        if opened.opcode != CLOSE:
            assert opened.text.startswith("0")
            opened = await socket.receive_frame()
        return opened.reason if opened.opcode == CLOSE else json.loads(opened.text[1:])["event"]
