"""Several servers of one application in this process, on any backend, with helpers for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

from primacron import BackendUnavailable, Primacron, Session
from primacron.cluster.cluster import Cluster
from primacron.cluster.memory import Shared
from primacron.node.forwarding import Forwarder
from primacron.node.registration import Registration
from primacron.testing import Client
from primacron.times import Times
from primacron.web import HttpRequest
from tests.support import engine
from tests.support.hearing import DEADLINE
from tests.support.redis import RedisProcess
from tests.support.serving import port_of


def cluster_of(server: Primacron) -> Cluster:
    """Return a server's view of its cluster."""
    cluster = server.node.cluster
    assert isinstance(cluster, Cluster)
    return cluster


def forwarder_of(server: Primacron) -> Forwarder:
    """Return a server's forwarding of HTTP requests."""
    forwarder = server.node.forwarder
    assert isinstance(forwarder, Forwarder)
    return forwarder


def registration_of(server: Primacron) -> Registration:
    """Return a server's registration, which tracks what it has told the registry."""
    registration = server.node.admissions.registrar
    assert isinstance(registration, Registration)
    return registration


def local(server: Primacron, account: str, session: str) -> Session:
    """Return a session that a server of this process has."""
    found = server.node.hub.sessions.get(account, session)  # type: ignore[arg-type]
    assert found is not None, f"{account}/{session} is not here"
    return found


async def is_found(server: Primacron, account: str, session: str) -> bool:
    """Tell whether a server finds a session; False if it cannot say."""
    try:
        return await server.find(account, session) is not None
    except BackendUnavailable:
        return False


async def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition that no event announces."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s for: {what}") from None


def named_by_query(request: HttpRequest) -> str:
    """Name a session as its client asks, so that tests know the name."""
    return request.query.get("session") or request.query["account"]


class Fleet:
    """Servers that share one backend, and their clients; all are closed with it."""

    def __init__(self, given: Callable[[], Any], namespace: str, primaries: list[RedisProcess]) -> None:
        self.namespace = namespace
        self.servers: list[Primacron] = []
        #: The Redis processes that hold the data; none in memory.
        self.primaries = primaries
        self.given = given
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # Servers

    def new(
        self, kind: Callable[..., Primacron] = Primacron, *, times: Times | None = None, **options: Any
    ) -> Primacron:
        """Return a server, not started, whose clients name their sessions."""
        server = kind(self.given(), **{"namespace": self.namespace, "redis_timeout": 5, **options})
        server._times = times or server._times
        server.uuid(named_by_query)
        return server

    async def start(self, *servers: Primacron) -> None:
        """Start servers, and have all of them discover each other."""
        for server in servers:
            await server.start()
            self.servers.append(server)
            self._stack.push_async_callback(server.destroy)
        await self.meet()

    async def started(self, count: int, **options: Any) -> list[Primacron]:
        """Return ``count`` servers, started."""
        servers = [self.new(**options) for _ in range(count)]
        await self.start(*servers)
        return servers

    async def serve(self, server: Primacron) -> engine.Client:
        """Make a server listen, and return a client for its port."""
        await server.listen(0, "127.0.0.1")
        client = engine.Client(port_of(server))
        self._stack.push_async_callback(client.close)
        return client

    async def meet(self) -> None:
        """Have all servers discover each other, as if they and the backend's data were a minute old."""
        for server in self._alive():
            await cluster_of(server).meet()
        await self.age()
        async with asyncio.timeout(DEADLINE):
            while not all(self._is_settled(server) for server in self._alive()):
                for server in self._alive():
                    await cluster_of(server).meet()
                await asyncio.sleep(0.005)

    def _alive(self) -> list[Primacron]:
        return [server for server in self.servers if server._node is not None]

    def _is_settled(self, server: Primacron) -> bool:
        cluster = cluster_of(server)
        complete = cluster._membership.complete
        return (
            cluster.others() >= {other.node.id for other in self._alive()} - {server.node.id}
            and bool(complete)
            and all(cluster._membership.leases.all_complete(epoch, cluster.loop.time()) for epoch in complete)
        )

    async def age(self, seconds: float = 60.0) -> None:
        """Backdate the backend's data, and the time since which it has answered."""
        for server in self._alive():
            membership = cluster_of(server)._membership
            membership.up_since -= seconds
            membership._began = {epoch: began - seconds for epoch, began in membership._began.items()}
        given = self.given()
        if isinstance(given, Shared):
            given.epoch_began -= seconds
        for primary in self.primaries:
            primary.make_older(self.namespace, seconds)

    # Clients

    async def join(
        self, server: Primacron, account: str, session: str = "", query: Mapping[str, str] | None = None
    ) -> Client:
        """Connect a client without a socket."""
        named = {"session": session} if session else {}
        client = await Client.connect(server, account, query={**named, **(query or {})})
        self._stack.push_async_callback(client.close)
        return client

    # What the backend holds

    def stored(self) -> list[str]:
        """Return all keys of the namespace in Redis."""
        return sorted(
            key for primary in self.primaries for key in primary.command("KEYS", f"{self.namespace}:*").split()
        )
