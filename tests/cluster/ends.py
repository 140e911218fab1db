"""Both ends of a bus in memory, with a clock that only advances on request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from primacron.cluster.bus import Bus, Hear
from primacron.cluster.envelope import Envelope, Unsupported, decode_envelope, decode_item, encode_item
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.incoming import Incoming
from primacron.cluster.items import Answer, Confirm, Item
from primacron.cluster.outgoing import Dispatch, Fate, Outgoing
from primacron.ids import NodeId
from primacron.metrics import Metrics
from primacron.wheel import Wheel
from tests.transports.world import Loop

HERE = NodeId("here-here-here-1")
THERE = NodeId("there-there-ther")
ELSEWHERE = NodeId("elsewhere-elsewh")
MAX_WAITING = 16_000_000
PATIENCE = 1.0


class Recorder(Bus):
    """A bus that records what is published; the test decides its fate."""

    keeps_order = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.hearing = True
        self.attends = False
        self.published: list[tuple[NodeId | None, bytes]] = []
        self.unsettled: list[asyncio.Future[int]] = []
        #: The number of receivers of each message; None leaves it pending.
        self.nodes: int | None = 1

    async def join(self, node: NodeId, hear: Hear, changed: object) -> None: ...

    async def leave(self) -> None: ...

    def want(self) -> None: ...

    async def attend(self) -> None: ...

    def quit(self) -> None: ...

    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self._loop.create_future()
        self.published.append((destination, body))
        if self.nodes is None:
            self.unsettled.append(future)
        else:
            future.set_result(self.nodes)
        return future

    def settle(self, nodes: int | None) -> None:
        """Resolve pending messages with a number of receivers; None fails them."""
        unsettled, self.unsettled = self.unsettled, []
        for future in unsettled:
            if nodes is None:
                future.set_exception(BackendUnavailable("no answer"))
            else:
                future.set_result(nodes)

    def take(self) -> list[tuple[NodeId | None, Envelope]]:
        """Return what was published since the last call."""
        published, self.published = self.published, []
        return [(destination, decode_envelope(body)) for destination, body in published]


class Letter(Dispatch):
    """An item with a number and a size that records its fate."""

    def __init__(self, number: int, size: int = 20) -> None:
        self.number = number
        self.size = size
        self.fates: list[tuple[Fate, int]] = []

    def encode(self) -> bytes:
        return encode_item(Answer(self.number, "x" * self.size))

    def left(self, fate: Fate, nodes: int) -> None:
        self.fates.append((fate, nodes))

    @property
    def fate(self) -> Fate | None:
        """Its fate; fails if it was reported twice."""
        assert len(self.fates) <= 1
        return self.fates[0][0] if self.fates else None


class BulkLetter(Letter):
    bulk = True


def letters(count: int, size: int = 20, first: int = 0) -> list[Letter]:
    """Return letters with consecutive numbers."""
    return [Letter(number, size) for number in range(first, first + count)]


def fates(sent: list[Letter]) -> list[Fate | None]:
    """Return the fates of letters."""
    return [letter.fate for letter in sent]


class Sender:
    """The sending side of a node."""

    def __init__(self, loop: Loop, max_waiting: int = MAX_WAITING) -> None:
        self.loop = loop
        self.wheel = Wheel(loop)
        self.bus = Recorder(loop)
        self.outgoing = Outgoing(HERE, self.bus, loop, self.wheel, max_waiting=max_waiting)
        self.outgoing.open = True

    def send(self, *letters: Dispatch, to: NodeId | None = THERE) -> None:
        """Send everything in one tick, and end it."""

        def send() -> None:
            for letter in letters:
                self.outgoing.send(to, letter)

        self.loop.turn(send, times=3)

    def confirm(self, envelope: Envelope, node: NodeId = THERE, *, to_all: bool = False) -> None:
        """Receive the confirmation of an envelope."""
        confirm = Confirm(envelope.epoch, envelope.number, to_all)
        self.loop.turn(lambda: self.outgoing.confirmed(node, confirm), times=3)

    @property
    def deadlines(self) -> int:
        """The number of pending deadlines."""
        return len(self.wheel)


class Receiver:
    """The receiving side of a node."""

    def __init__(self, loop: Loop, node: NodeId = THERE) -> None:
        self.metrics = Metrics()
        self.taken: list[tuple[Item | Unsupported, NodeId]] = []
        self.confirms: list[tuple[NodeId, Confirm]] = []
        self.incoming = Incoming(
            node,
            loop,
            self.metrics,
            lambda item, sender: self.taken.append((item, sender)),
            lambda node, confirm: self.confirms.append((node, confirm)),
            PATIENCE,
        )

    @property
    def numbers(self) -> list[int]:
        """The numbers of the letters received."""
        return [item.id for item, _ in self.taken if isinstance(item, Answer)]

    @property
    def counted(self) -> dict[str, int]:
        """The counters that are not zero."""
        return {name: number for name, number in self.metrics.counters.items() if number}


@contextmanager
def time_that_stands() -> Iterator[Loop]:
    """Yield an event loop with a stopped clock; check afterwards that nothing failed in it."""
    loop = Loop()
    try:
        yield loop
        loop.turn(times=3)
        assert loop.failures == []
    finally:
        loop.close()


def numbers_of(envelopes: list[tuple[NodeId | None, Envelope]]) -> list[int]:
    """Return the numbers of the unfragmented letters in envelopes."""
    items = [decode_item(raw) for _, envelope in envelopes for raw in envelope.items]
    return [item.id for item in items if isinstance(item, Answer)]


def size_of(envelope: Envelope) -> int:
    """Return the total size of an envelope's items, in bytes."""
    return sum(len(bytes(raw)) for raw in envelope.items)


def raw_of(*items: Item) -> list[bytes]:
    """Return items in their wire form."""
    return [msgspec.msgpack.encode(item) for item in items]
