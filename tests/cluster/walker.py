"""A client that starts with polling, through any server, and upgrades to a websocket at another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, Self

from primacron import Primacron, Session
from primacron.entries import Name
from primacron.ids import AccountId, SessionId, Sid
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.support.engine import SEPARATOR, Client, Polling
from tests.support.hearing import DEADLINE
from tests.support.websocket import WebSocket

NAME: Name = (AccountId("ann"), SessionId("a"))


class Walker:
    """
    An Engine.IO client that behaves as the official one: it stops polling before it upgrades.

    ``fronts`` are clients of all servers' ports; the first server has the connection
    initially. Requests go through all servers, or through some of them, in turn.
    """

    def __init__(self, fronts: list[Client], polling: Polling, eio: int, through: Sequence[int]) -> None:
        self.fronts = fronts
        self._through = itertools.cycle(through)
        self.sid = Sid(polling.sid)
        self.socket: WebSocket | None = None
        self._eio = eio
        self._opened = polling.opened
        self._is_pausing = False
        self._packets: asyncio.Queue[str] = asyncio.Queue()
        self._posting = asyncio.Lock()
        self._reading = asyncio.create_task(self._poll_on())

    @classmethod
    async def begin(
        cls,
        fronts: list[Client],
        query: str = "account=ann&session=a",
        eio: int = 4,
        through: Sequence[int] = (1, 2, 0),
    ) -> Self:
        """Connect to the first server, and poll."""
        return cls(fronts, await fronts[0].poll_in(query, eio=eio), eio, through)

    def through(self) -> Polling:
        """Return the connection as seen through the next server."""
        return Polling(self.fronts[next(self._through)], self._opened, self._eio)

    # Receiving

    async def _poll_on(self) -> None:
        while not self._is_pausing:
            response = await self.through().poll()
            assert response.status == 200, response
            for packet in self._split(response.text):
                self._packets.put_nowait(packet)

    def _split(self, text: str) -> list[str]:
        if self._eio == 4:
            return text.split(SEPARATOR)
        packets = []
        while text:
            size, _, text = text.partition(":")
            packets.append(text[: int(size)])
            text = text[int(size) :]
        return packets

    async def _read_on(self, socket: WebSocket) -> None:
        # Ends when the server closes the socket.
        with contextlib.suppress(asyncio.IncompleteReadError, AssertionError, ConnectionError):
            while True:
                self._packets.put_nowait(str(await socket.receive()))

    async def receive(self) -> Any:
        """Return the next message, decoded."""
        async with asyncio.timeout(DEADLINE):
            while True:
                packet = await self._packets.get()
                if packet[0] == "4":
                    return json.loads(packet[1:])
                assert packet == "6", packet

    @property
    def is_quiet(self) -> bool:
        """Whether all messages that arrived have been received."""
        return all(packet == "6" for packet in self._packets._queue)  # type: ignore[attr-defined]

    # Sending

    async def send(self, *messages: Any) -> None:
        """Send messages by the current transport."""
        packets = ["4" + json.dumps(message) for message in messages]
        async with self._posting:
            if self.socket is not None:
                for packet in packets:
                    await self.socket.send(packet)
                return
            body = SEPARATOR.join(packets)
            if self._eio == 3:
                body = "".join(f"{len(packet)}:{packet}" for packet in packets)
            response = await self.through().post(body)
            assert (response.status, response.text) == (200, "ok"), response

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event."""
        await self.send({"event": event, "args": args})

    # The upgrade

    async def probe(self, number: int = 1) -> WebSocket:
        """Open a websocket at another server, and probe it."""
        socket = await self.fronts[number].websocket_to(f"/stream/?EIO={self._eio}&transport=websocket&sid={self.sid}")
        assert socket.response.status == 101, socket.response
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
        return socket

    async def pause(self) -> None:
        """Stop polling: wait for the outstanding responses."""
        self._is_pausing = True
        async with asyncio.timeout(DEADLINE):
            await self._reading

    async def upgrade(self, number: int = 1) -> None:
        """Upgrade to a websocket at another server."""
        socket = await self.probe(number)
        async with self._posting:
            await self.pause()
            await socket.send("5")
            self.take(socket)

    def take(self, socket: WebSocket) -> None:
        """Continue on a websocket."""
        self.socket = socket
        self._reading = asyncio.create_task(self._read_on(socket))

    async def close(self) -> None:
        """Disconnect."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        if self.socket is not None:
            await self.socket.close()


class Scene:
    """Listening servers and the walkers between them: from source to destination, with a third as a relay."""

    def __init__(self, fleet: Fleet, servers: list[Primacron], fronts: list[Client]) -> None:
        self.fleet = fleet
        self.servers = servers
        self.source, self.destination, self.third = servers
        self.fronts = fronts
        self.walkers: list[Walker] = []

    async def walker(
        self, query: str = "account=ann&session=a", eio: int = 4, through: Sequence[int] = (1, 2, 0)
    ) -> Walker:
        """Connect a walker to the source."""
        walker = await Walker.begin(self.fronts, query, eio, through)
        self.walkers.append(walker)
        return walker

    async def arrival(self, name: Name = NAME) -> Session:
        """Wait until a session is at the destination, and the source knows it."""
        hubs = [server.node.hub for server in (self.source, self.destination)]
        await until(lambda: hubs[1].sessions.get(*name) is not None, "the arrival")
        await until(lambda: hubs[0].sessions.get(*name) is None, "the source to know it")
        return local(self.destination, *name)

    async def close(self) -> None:
        """Disconnect all walkers."""
        for walker in self.walkers:
            await walker.close()


def hold_claims(server: Primacron) -> asyncio.Event:
    """Hold back a server's claims of arriving sessions until the event is set."""
    registry, go_on = cluster_of(server).registry, asyncio.Event()
    swap = registry.swap

    async def wait_and_swap(*args: Any) -> Any:
        await go_on.wait()
        return await swap(*args)

    registry.swap = wait_and_swap  # type: ignore[method-assign, assignment]
    return go_on


def is_frozen(server: Primacron, name: Name = NAME) -> bool:
    """Tell whether a session of a server is in transit to another."""
    session = server.node.hub.sessions.get(*name)
    return session is not None and session.connection is None
