"""Many clients that want the same session at once, at several servers, and who has it in the end."""

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
#: Clients that connect at the same time.
CROWD = 6
#: Seconds that servers may take to agree.
AGREED_WITHIN = 10.0


class Contest:
    """Servers with their ports, the sockets that were opened there, and what the servers told of sessions."""

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
        """Add one more server and its port."""
        self.servers.append(server)
        self.fronts.append(front)
        server.on("connection", self.opened.append)
        server.on("disconnection", lambda session, reason: self.ended.append((session, reason)))

    async def run(self, seconds: float) -> None:
        """Let clients connect for so long, each to the next server."""
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
        """The Redis of the servers."""
        (redis,) = self.fleet.primaries
        return redis

    @property
    def living(self) -> list[tuple[Primacron, Session]]:
        """Sessions whose connection lives, with their servers."""
        return [
            (server, connection.session)
            for server in self.servers
            for connection in server.node.hub.connections.values()
        ]

    async def has_one_owner(self) -> Session:
        """Wait until one connection lives, and check that servers, registry and clients agree about it."""
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
        """Check that what is sent to the session comes by one socket, and that all others were closed."""
        session.emit("you")
        said = Counter(await asyncio.gather(*(self._last_word(socket) for socket in self.sockets)))
        assert said == Counter(replaced=len(self.sockets) - 1, you=1)

    @staticmethod
    async def _last_word(socket: WebSocket) -> str:
        """Return why a socket was closed, or that the word for the owner came by it."""
        opened = await socket.receive_frame()
        if opened.opcode != CLOSE:
            assert opened.text.startswith("0")
            opened = await socket.receive_frame()
        return opened.reason if opened.opcode == CLOSE else json.loads(opened.text[1:])["event"]
