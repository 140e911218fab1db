"""Numbers that go both ways between a server and clients whose networks drop, again and again, and what arrives."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from primacron import Primacron, Session
from primacron.ids import SessionId
from primacron.testing import Proxy
from primacron.testing.proxied import Drop, Way
from tests.resume.client import ResumingClient
from tests.resume.links import Transport
from tests.support.http import DEADLINE
from tests.transports.test_repeats import until

#: A client is cut every so many numbers, and away for so many of them.
EVERY, AWAY = 8, 2
#: The ways on which a number is sent: to a session, to an account, in a channel, and to all.
ROUTES = ("direct", "account", "room", "everyone")


@dataclass(frozen=True)
class Fault:
    """How connections drop."""

    kind: Drop
    way: Way = "to_client"

    def __str__(self) -> str:
        return f"one-way {self.way}" if self.kind == "one-way" else self.kind

    async def strike(self, proxy: Proxy) -> None:
        """Drop all connections, and let no new one pass."""
        await proxy.drop(self.kind, way=self.way, new="refuse")


class Teller:
    """A server that tells numbers on all routes, and notes the numbers of its sessions and what befalls them."""

    def __init__(self, server: Primacron) -> None:
        self.server = server
        self.next = 0
        self.sessions: dict[SessionId, Session] = {}
        #: The numbers that came, by session.
        self.heard: dict[str, list[int]] = defaultdict(list)
        #: ``lost`` and ``resumed`` by session, in order.
        self.story: dict[str, list[str]] = defaultdict(list)
        self.ends: list[tuple[Session, str]] = []
        server.on("connection", self._open)
        server.on("lost", lambda session, reason: self.story[session.id].append("lost"))
        server.on("resumed", lambda session, recovery: self.story[session.id].append("resumed"))
        server.on("disconnection", lambda session, reason: self.ends.append((session, reason)))
        server.event("number")(self._hear)

    async def exchange(self, listeners: list[Listener]) -> None:
        """Let a number go to and from all clients, and wait until it has come to and from those that are not away."""
        number = self._tell([each.client.account for each in listeners])
        for each in listeners:
            each.send(number)
        here = [each for each in listeners if not each.is_away]
        await each_of(here, partial(Listener.take, number=number))
        await until(lambda: all(self.heard[each.session][-1:] == [number] for each in here))

    def _tell(self, accounts: list[str]) -> int:
        number, self.next = self.next, self.next + 1
        self.server.everyone.emit("everyone", number)
        self.server.channel("room").emit("room", number)
        for account in accounts:
            self.server.account(account).emit("account", number)
        for session in self.sessions.values():
            session.emit("direct", number)
        return number

    async def _open(self, session: Session) -> None:
        await session.join("room")
        session.emit("from", self.next)
        self.sessions[session.id] = session

    def _hear(self, session: Session, number: int) -> None:
        self.heard[session.id].append(number)


class Listener:
    """A client with a network of its own, which drops; it sends a number with each that it is to be told."""

    def __init__(self, number: int, proxy: Proxy, client: ResumingClient) -> None:
        self.proxy = proxy
        self.client = client
        self.arrived: dict[str, list[int]] = {route: [] for route in ROUTES}
        #: The first number that was sent after its session was open.
        self.start = -1
        self.sent: list[int] = []
        self.is_away = False
        self._number = number
        self._rounds = itertools.count(number)

    @classmethod
    @asynccontextmanager
    async def behind_proxy(cls, number: int, port: int, transport: Transport, form: str) -> AsyncIterator[Self]:
        """Make one for the duration of the block."""
        account = f"account-{number}"
        async with Proxy(port) as proxy, ResumingClient.at(proxy.port, account, transport, form) as client:
            yield cls(number, proxy, client)

    @property
    def session(self) -> str:
        """The session that it has."""
        return self.client.opened[-1].session

    async def connect(self, fault: Fault) -> None:
        """Connect, or come back: at once, or after connections that drop before their first message, or its answer."""
        self.is_away = False
        self.proxy.mend()
        case = next(self._rounds) % 3
        if case == 1:
            await self.client.come_back(lambda: fault.strike(self.proxy))
            self.proxy.mend()
        elif case == 2:
            await self.client.come_back(self._cut_answers)
            lost = self.proxy.lost
            await until(lambda: self.proxy.lost > lost)
            await fault.strike(self.proxy)
            self.proxy.mend()
        await self.client.connect()

    async def _cut_answers(self) -> None:
        """Let nothing that is open bring anything any more; by polling that is the first poll."""
        if self.client.transport == "polling":
            await until(self._is_polling)
        await self.proxy.drop("one-way")

    async def pass_through(self, step: int, fault: Fault) -> None:
        """Lose the network, or come back, if it is time; each client has its own."""
        phase = (step - self._number) % EVERY
        if phase == EVERY - AWAY:
            self.is_away = True
            await fault.strike(self.proxy)
        elif phase == 0 and self.is_away:
            await self.connect(fault)

    async def until_polling(self) -> None:
        """Wait until all that it has to ask is what there is to hear."""
        await self.client.until_idle()
        await until(self._is_polling)

    def _is_polling(self) -> bool:
        return any(each._waits and not each.cuts for each in self.proxy.connections)

    def send(self, number: int) -> None:
        """Send a number, now or when the network is back."""
        self.sent.append(number)
        self.client.send("number", number)

    async def take(self, number: int) -> None:
        """Read until a number has come on all routes, unless the network is away."""
        if not self.is_away:
            async with asyncio.timeout(DEADLINE):
                while any(number not in self.arrived[route][-1:] for route in ROUTES):
                    self._note(await self.client.receive())

    def _note(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "from":
            assert self.start == -1, "its session is a new one"
            self.start = message["args"][0]
        elif event in self.arrived:
            self.arrived[event].append(message["args"][0])

    def faults(self, numbers: int) -> list[str]:
        """Return where a number is missing, double or out of order: what should have come, and what came instead."""
        found = []
        for route, came in self.arrived.items():
            own = [each for each in came if each >= self.start]
            expected = [*range(self.start, numbers)]
            if own != expected:
                at = next((at for at, pair in enumerate(zip(own, expected, strict=False)) if len({*pair}) > 1), -1)
                found.append(f"{route}: {expected[at:][:5]}, but {own[at:][:5]}")
        return found


@asynccontextmanager
async def listeners_at(
    port: int, transport: Transport, count: int, form: str = "json"
) -> AsyncIterator[list[Listener]]:
    """Make clients for the duration of the block."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Listener.behind_proxy(each, port, transport, form)) for each in range(count)
        ]


async def run_feed(teller: Teller, listeners: list[Listener], fault: Fault, numbers: int) -> None:
    """Send numbers both ways while the networks of the clients drop in turn, until all are back."""
    await each_of(listeners, partial(Listener.connect, fault=fault))
    for step in range(numbers):
        await each_of(listeners, partial(Listener.pass_through, step=step, fault=fault))
        await teller.exchange(listeners)
    await each_of([each for each in listeners if each.is_away], partial(Listener.connect, fault=fault))
    await teller.exchange(listeners)


async def each_of(listeners: list[Listener], do: Callable[[Listener], Awaitable[object]]) -> None:
    """Do something with all of them, at the same time."""
    await asyncio.gather(*(do(each) for each in listeners))
