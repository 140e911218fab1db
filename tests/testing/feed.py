"""A numbered feed to clients whose networks drop again and again, and what of it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from primacron import Primacron
from primacron.testing import Proxy
from primacron.testing.proxied import Drop
from tests.support.engine import Client, Events
from tests.support.http import DEADLINE

#: A client is cut every so many numbers, and away for so many of them.
EVERY, AWAY = 10, 2
#: The ways on which a number is sent: to all, and to the client's account alone.
ROUTES = ("everyone", "account")


@dataclass
class Arrived:
    """What came to one client, by route, in the order in which it came."""

    numbers: dict[str, list[int]] = field(default_factory=lambda: {route: [] for route in ROUTES})
    #: The numbers that were sent while it was away.
    missed: list[int] = field(default_factory=list)

    @property
    def doubles(self) -> int:
        """How many came again."""
        return sum(len(each) - len({*each}) for each in self.numbers.values())

    @property
    def is_in_order(self) -> bool:
        """Whether no number came behind a higher one."""
        return all(each == sorted(each) for each in self.numbers.values())


class Listener:
    """A client with a network of its own, which comes back when its network does, by a websocket of its own account."""

    def __init__(self, number: int, proxy: Proxy) -> None:
        self.account = f"account-{number}"
        self.proxy = proxy
        self.arrived = Arrived()
        self.is_away = False
        self._number = number
        self._client = Client(proxy.port)
        self._events: Events

    @classmethod
    @asynccontextmanager
    async def behind_proxy(cls, number: int, port: int) -> AsyncIterator[Self]:
        """Connect for the duration of the block."""
        async with Proxy(port) as proxy:
            made = cls(number, proxy)
            await made.connect()
            yield made
            await made._client.close()

    async def connect(self) -> None:
        """Connect, whatever became of an earlier connection."""
        self._events = await self._client.connect(f"account={self.account}")

    async def pass_through(self, step: int, kind: Drop) -> None:
        """Lose the network, or come back, if it is time; each client has its own."""
        phase = (step - self._number) % EVERY
        if phase == EVERY - AWAY:
            await self.proxy.drop(kind, new="refuse")
            self.is_away = True
        elif phase == 0 and self.is_away:
            self.proxy.mend()
            await self.connect()
            self.is_away = False
        if self.is_away:
            self.arrived.missed.append(step)

    async def take(self, number: int) -> None:
        """Read until a number has come on all routes, unless the network is away."""
        missing = set() if self.is_away else {*ROUTES}
        async with asyncio.timeout(DEADLINE):
            while missing:
                message = await self._events.receive()
                came = int(message["args"][0])
                self.arrived.numbers[message["event"]].append(came)
                if came == number:
                    missing.discard(message["event"])


async def run_feed(server: Primacron, port: int, kind: Drop, *, clients: int, numbers: int) -> Sequence[Arrived]:
    """Send numbers to clients whose networks drop in turn, and return what came to each of them."""
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(Listener.behind_proxy(each, port)) for each in range(clients)]
        for number in range(numbers):
            for listener in listeners:
                await listener.pass_through(number, kind)
            server.everyone.emit("everyone", number)
            for listener in listeners:
                server.account(listener.account).emit("account", number)
            await asyncio.gather(*(listener.take(number) for listener in listeners))
        return [listener.arrived for listener in listeners]
