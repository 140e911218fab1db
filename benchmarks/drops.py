"""Clients behind networks of their own, each cut now and then while a server feeds them; what arrives is counted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from benchmarks.load.received import Received
from benchmarks.processes import ROOT
from benchmarks.servers.feed import FOR_EACH_DIRECT, PERIOD
from benchmarks.yardsticks import YardstickFailed
from primacron.testing.proxied import Drop
from primacron.testing.proxy import Proxy

#: Seconds for all clients to connect, or to come back: Socket.IO's wait up to 7.5 s between two attempts.
DEADLINE: Final = 30.0
#: Seconds of being fed before the first cut: Socket.IO recovers no session that has not received an event.
BEFORE: Final = 1.0
#: Seconds that what comes late has, once the clients are back.
AFTER: Final = 1.0
#: The longest line of a program: the numbers that its clients received.
LINE: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Plan:
    """How clients are cut: each for ``away`` seconds every ``every`` seconds, while they are fed for ``seconds``."""

    clients: int
    kind: Drop
    seconds: float
    every: float
    away: float

    @property
    def for_room(self) -> int:
        """Messages to the room."""
        return round(self.seconds / PERIOD)

    @property
    def for_each(self) -> int:
        """Messages to each client by itself."""
        return -(-self.for_room // FOR_EACH_DIRECT)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived at all clients together."""

    #: Shares of what was sent, in percent.
    room: float
    direct: float
    returns: int
    recovered: int
    #: Messages that came once more, and those that came behind a later one.
    doubles: int
    disorder: int

    @classmethod
    def count(cls, received: Sequence[Received], plan: Plan) -> Arrivals:
        """Count what has arrived."""
        streams = [stream for each in received for stream in (each.room, each.direct)]
        return cls(
            100 * sum(len(set(each.room)) for each in received) / (len(received) * plan.for_room),
            100 * sum(len(set(each.direct)) for each in received) / (len(received) * plan.for_each),
            sum(each.returns for each in received),
            sum(each.recovered for each in received),
            sum(len(stream) - len(set(stream)) for stream in streams),
            sum(later < earlier for stream in streams for earlier, later in itertools.pairwise(stream)),
        )


class Clients:
    """A program with clients in it, which is asked by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, count: int) -> None:
        """Have the server begin to send so many messages to the room."""
        await self._say(f"begin {count}")

    async def wait_until_connected(self, count: int) -> None:
        """
        Wait until all clients are connected.

        Raises:
            YardstickFailed: if they are not in time.

        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                while await self._ask("connected", int) < count:  # noqa: ASYNC110 (it is another process)
                    await asyncio.sleep(0.1)
                return
        raise YardstickFailed(f"not all clients are connected after {DEADLINE:g} s")

    async def report(self) -> list[Received]:
        """Return what each client has received."""
        received: list[Received] = await self._ask("report", list[Received])
        return received

    async def _ask(self, line: str, kind: Any) -> Any:
        await self._say(line)
        assert self._process.stdout is not None
        answer = await self._process.stdout.readline()
        if not answer:
            raise YardstickFailed(f"the program of the clients ended with {await self._process.wait()}")
        return msgspec.json.decode(answer, type=kind)

    async def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()


async def drop_clients(command: Sequence[str], servers: Sequence[int], plan: Plan) -> Arrivals:
    """
    Start a program with clients, cut them as planned, and return what arrived.

    Connections go to the servers' ports in turn.

    Raises:
        YardstickFailed: if the clients could not be asked, or did not all connect and come back.

    """
    async with contextlib.AsyncExitStack() as stack:
        turns = [[*servers[place % len(servers) :], *servers[: place % len(servers)]] for place in range(plan.clients)]
        proxies = [await stack.enter_async_context(Proxy(*ports)) for ports in turns]
        clients = await stack.enter_async_context(_running([*command, *(str(proxy.port) for proxy in proxies)]))
        await clients.wait_until_connected(plan.clients)
        await clients.begin(plan.for_room)
        async with asyncio.TaskGroup() as cutting:
            cutting.create_task(asyncio.sleep(plan.seconds))  # for as long as the server sends
            for place, proxy in enumerate(proxies):
                cutting.create_task(_cut(proxy, plan, plan.every * place / plan.clients))
        await clients.wait_until_connected(plan.clients)
        await asyncio.sleep(AFTER)
        return Arrivals.count(await clients.report(), plan)


async def _cut(proxy: Proxy, plan: Plan, phase: float) -> None:
    """Cut one client again and again, from its own moment on, as long as it is fed."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in itertools.count():
        cut = BEFORE + phase + number * plan.every
        if cut + plan.away > plan.seconds:
            return
        await asyncio.sleep(begin + cut - loop.time())
        await proxy.drop(plan.kind, new="refuse")
        await asyncio.sleep(plan.away)
        proxy.mend()


@contextlib.asynccontextmanager
async def _running(command: Sequence[str]) -> AsyncIterator[Clients]:
    """Run a program with clients for the duration of the block; it ends with its standard input."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=LINE
    )
    assert process.stdin is not None
    try:
        yield Clients(process)
        process.stdin.close()
        async with asyncio.timeout(DEADLINE):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
