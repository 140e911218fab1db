"""Clients that send to each other continually, and the receipts that their servers gave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.nodes import NodeProcess
from tests.support.engine import Events
from tests.support.http import DEADLINE
from tests.support.websocket import CLOSE, Frame

#: Seconds between a client's sends.
PACE: Final = 0.02
#: Seconds to wait for a receipt: the server's own deadline, a lookup before it, and slack for a slow machine.
RECEIPT_DEADLINE: Final = 5.0 + 1.5
_TROUBLE: Final = ("bus_envelopes_", "bus_items_")


@dataclass(frozen=True)
class Told:
    """A number sent to another client, its receipt, and how many seconds that took."""

    number: int
    status: str
    certain: bool
    seconds: float


class Talker:
    """A client that sends numbers to another one, each as soon as it has the receipt for the previous one."""

    def __init__(self, name: str, node: NodeProcess, events: Events) -> None:
        self.name = name
        self.node = node
        self.told: list[Told] = []
        #: What others have sent to it.
        self.heard: list[int] = []
        #: Why its connection was closed; None while it is open.
        self.closed: str | None = None
        #: The number whose receipt is outstanding.
        self.asking: int | None = None
        self._events = events
        self._answered: asyncio.Future[tuple[str, bool] | None] | None = None
        self._stops = False
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self._telling: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, node: NodeProcess, name: str) -> Talker:
        """Connect to a server."""
        return cls(name, node, await node.client.connect(f"account={name}"))

    def tell(self, name: str) -> None:
        """Start sending to another client."""
        self._telling = asyncio.create_task(self._tell(name))

    async def stop(self) -> None:
        """Stop sending, and wait for the last receipt."""
        self._stops = True
        if self._telling is not None:
            await self._telling

    async def close(self) -> None:
        """Disconnect."""
        tasks = {task for task in (self._telling, self._reading) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._events.close()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def until_told(self, status: str, seconds: float) -> Told:
        """Wait until a send that starts from now on has this receipt."""
        begin = len(self.told) + 1  # the outstanding receipt may be for an earlier send
        async with asyncio.timeout(seconds):
            while True:
                for told in self.told[begin:]:
                    if told.status == status:
                        return told
                self._changed.clear()
                await self._changed.wait()

    async def until_closed(self) -> None:
        """Wait until the connection is closed."""
        async with asyncio.timeout(DEADLINE):
            while self.closed is None:
                self._changed.clear()
                await self._changed.wait()

    async def until_heard(self, number: int) -> None:
        """Wait until a number has arrived, or none can arrive any more."""
        async with asyncio.timeout(DEADLINE):
            while number not in self.heard and self.closed is None:
                self._changed.clear()
                await self._changed.wait()

    async def _tell(self, name: str) -> None:
        loop, number = asyncio.get_running_loop(), 0
        while not self._stops and self.closed is None:
            number += 1
            self._answered, self.asking, began = loop.create_future(), number, loop.time()
            await self._events.emit("tell", name, name, number, id=number)
            receipt = await self._answered
            if receipt is None:
                return
            self.asking = None
            self.told.append(Told(number, *receipt, loop.time() - began))
            self._changed.set()
            await asyncio.sleep(PACE)

    async def _read(self) -> None:
        try:
            while (frame := await self._next_frame()).opcode != CLOSE:
                await self._take(frame.text)
            self.closed = frame.reason
        except (OSError, EOFError) as error:
            self.closed = repr(error)
        finally:
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(None)
            self._changed.set()

    async def _next_frame(self) -> Frame:
        while True:
            with contextlib.suppress(TimeoutError):  # some clients are not sent anything
                return await self._events.socket.receive_frame()

    async def _take(self, packet: str) -> None:
        if packet == "2":
            await self._events.socket.send("3")
            return
        message = json.loads(packet[1:])
        if "ack" not in message:
            self.heard += message["args"]
            self._changed.set()
        elif self._answered is not None:
            assert message["ack"] == self.asking, message
            self._answered.set_result((message["args"][0], message["args"][1]))


class Traffic:
    """Clients in a ring, each sending to the next."""

    def __init__(self, talkers: Sequence[Talker], step: int) -> None:
        self.talkers = talkers
        self._step = step

    def pairs(self) -> Iterable[tuple[Talker, Talker]]:
        """Return the pairs of sender and receiver."""
        for number, talker in enumerate(self.talkers):
            yield talker, self.talkers[(number + self._step) % len(self.talkers)]

    def begin(self) -> None:
        """Start sending."""
        for talker, other in self.pairs():
            talker.tell(other.name)

    async def stop(self) -> None:
        """Stop sending, and wait for what is still in transit."""
        await asyncio.gather(*(talker.stop() for talker in self.talkers if talker.closed is None))

    async def until_accepted(self) -> None:
        """Wait until each remaining client has a send accepted that it started after this call."""
        living = [talker for talker, other in self.pairs() if talker.closed is None and other.closed is None]
        await asyncio.gather(*(talker.until_told("accepted", 2 * RECEIPT_DEADLINE) for talker in living))

    @property
    def closed(self) -> dict[str, str]:
        """The clients whose connection was closed, and why."""
        return {talker.name: talker.closed for talker in self.talkers if talker.closed is not None}

    @property
    def statuses(self) -> Counter[tuple[str, bool]]:
        """How often each kind of receipt occurred."""
        return Counter((told.status, told.certain) for talker in self.talkers for told in talker.told)

    async def check(self) -> None:
        """Check that every receipt was truthful and in time, and that messages arrived in order and once."""
        for talker, other in self.pairs():
            accepted = [told.number for told in talker.told if told.status == "accepted"]
            if accepted:
                await other.until_heard(accepted[-1])
            heard = set(other.heard)
            assert other.heard == sorted(heard), f"{talker.name} to {other.name}: out of order, or twice"
            for told in talker.told:
                assert told.seconds < RECEIPT_DEADLINE, (talker.name, other.name, told)
                if told.certain and told.status == "accepted":
                    assert told.number in heard or other.closed is not None, told
                elif told.certain:
                    assert told.number not in heard, told


@asynccontextmanager
async def traffic(nodes: Sequence[NodeProcess], each: int = 3, *, step: int = 1) -> AsyncIterator[Traffic]:
    """Connect clients to each server; with a step of 1 they send to the next server, of ``len(nodes)`` to their own."""
    talkers: list[Talker] = []
    try:
        talkers += [
            await Talker.connect(nodes[number % len(nodes)], f"talker-{step}-{number}")
            for number in range(each * len(nodes))
        ]
        running = Traffic(talkers, step)
        running.begin()
        yield running
    finally:
        for talker in talkers:
            await talker.close()


def troubles(state: Mapping[str, Any]) -> dict[str, int]:
    """
    Return how often a server had trouble with messages from other servers.

    Answers that nobody awaits any more do not count: the client concerned has gone away.
    """
    return {name: count for name, count in state["counters"].items() if name.startswith(_TROUBLE)}


def problems(state: Mapping[str, Any]) -> list[list[str]]:
    """
    Return the errors that a server reported.

    An unknown session is expected: a client that drops its poll as it leaves may say goodbye to a connection that has
    ended already.
    """
    return [error for error in state["errors"] if error != ["error::protocol", "Session ID unknown"]]
