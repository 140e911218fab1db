"""A network between clients and servers that breaks in the ways in which networks do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, Self

from primacron.testing.proxied import Drop, New, ProxiedConnection, Traffic, Way, check, until_all

HOST: Final = "127.0.0.1"


class Proxy:
    """
    A TCP proxy between clients and servers, whose connections a test can drop.

    ``ports`` are those of the servers, at 127.0.0.1: each new connection goes to the next
    one, in turn. ``async with Proxy(port) as proxy:`` accepts connections at ``proxy.port``
    for the duration of the block, and at its end resets those that are still open. Until a
    connection is dropped, bytes, the ends of streams and resets pass, and a side is read no
    faster than the other one takes it. To drop clients at different moments, give each a
    proxy of its own.

    Set ``latency`` to the seconds that all bytes are to take, in each direction.

    Raises:
        ValueError: if there is no port.

    """

    def __init__(self, *ports: int) -> None:
        if not ports:
            raise ValueError("a proxy needs the port of a server")
        self.port = 0
        self._ports = itertools.cycle(ports)
        self._traffic = Traffic(self._connect)
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> list[ProxiedConnection]:
        """All connections that are open on either side, the oldest first."""
        return [*self._traffic.connections]

    @property
    def lost(self) -> int:
        """How many bytes were thrown away so far."""
        return self._traffic.lost

    @property
    def latency(self) -> float:
        """How many seconds bytes take, in each direction; can be set at any time."""
        return self._traffic.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._traffic.latency = seconds

    async def drop(self, kind: Drop, *, way: Way = "to_client", new: New = "pass") -> int:
        """
        Drop all connections, and return how many that were. When it returns, it is done.

        ``clean``: both sides get a reset.

        ``half-open``: the client gets a reset. The server's side stays open and silent, as
        when a phone changes networks: what the server sends is read and thrown away.

        ``silent``: both sides stay open, and all that they send is thrown away, even the
        end of the stream or a reset.

        ``one-way``: the same, but only in the direction ``way``: ``to_client`` or
        ``to_server``.

        ``repeat``: where a client waits for the answer to a GET, and nothing of it has
        come, the connection to the server is lost, and the proxy sends the GET again, to
        the next server, as many proxies do. The client notices nothing; the first server's
        side stays open and silent. All other connections are left as they are. For an
        answer that is lost after it left, drop ``one-way`` first, and ``repeat`` once
        ``lost`` has grown.

        ``new`` is what becomes of new connections until the next drop, or ``mend``:
        ``pass``, or ``refuse``: they are reset at once, or ``silent``: they are accepted,
        and that is all. A direction that was cut never carries a byte again, but for a
        ``repeat``; a later drop can end the connection.

        Raises:
            ValueError: if ``kind``, ``way`` or ``new`` is none of these.

        """
        for value, literal in ((kind, Drop), (way, Way), (new, New)):
            check(value, literal)
        dropped = [each.begin_drop(kind, way) for each in self.connections]
        self._traffic.new = new
        await until_all(future for each in dropped for future in each or ())
        return sum(each is not None for each in dropped)

    def mend(self) -> None:
        """Let new connections pass again. What was dropped stays as it is."""
        self._traffic.new = "pass"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ProxiedConnection(self._traffic).client_side, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop("clean", new="refuse")

    async def _connect(self, create: Callable[[], asyncio.Protocol]) -> None:
        await asyncio.get_running_loop().create_connection(create, HOST, next(self._ports))
