"""What a bus does with messages between nodes."""

from __future__ import annotations

import asyncio
from typing import Final

from primacron.cluster.bus import Bus
from primacron.ids import NodeId
from primacron.testing.contract.ground import DEADLINE, Case, Ground, adding_to

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


class Subscriber:
    """The messages received by a node."""

    def __init__(self, bus: Bus, node: str) -> None:
        self.bus = bus
        self.node = NodeId(node)
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.changes: list[bool] = []

    @classmethod
    async def join(cls, ground: Ground, node: str, *, attends: bool = False) -> Subscriber:
        """Subscribe a node to its messages."""
        subscriber = cls(ground.backend().bus, node)
        await subscriber.bus.join(subscriber.node, subscriber.hear, subscriber.changes.append)
        if attends:
            await subscriber.bus.attend()
        return subscriber

    def hear(self, body: bytes) -> None:
        """Take a message, unless it is one of the backend's own probes."""
        if not body.startswith(b"\xdc"):
            self.heard.put_nowait(body)

    async def next(self) -> bytes:
        """Return the next message."""
        async with asyncio.timeout(DEADLINE):
            return await self.heard.get()


@case
async def what_is_published_to_a_node_reaches_it_alone_and_in_order(ground: Ground) -> None:
    sender, receiver, other = [await Subscriber.join(ground, node) for node in "abc"]
    sent = [sender.bus.publish(receiver.node, b"%d" % number) for number in range(200)]
    assert [await receiver.next() for _ in range(200)] == [b"%d" % number for number in range(200)]
    assert [await each for each in sent] == [1] * 200
    await other.bus.publish(other.node, b"last")
    assert await other.next() == b"last"
    assert sender.heard.empty()


@case
async def what_is_published_to_all_reaches_those_that_attend(ground: Ground) -> None:
    first = await Subscriber.join(ground, "a", attends=True)
    second = await Subscriber.join(ground, "b", attends=True)
    third = await Subscriber.join(ground, "c")
    assert first.bus.attends
    assert not third.bus.attends
    assert await third.bus.publish(None, b"hello") == 2
    assert [await first.next(), await second.next()] == [b"hello"] * 2
    second.bus.quit()
    async with asyncio.timeout(DEADLINE):
        while await third.bus.publish(None, b"again") != 1:
            await first.next()
    assert await first.next() == b"again"
    assert third.heard.empty()


@case
async def a_node_that_never_joined_or_has_left_gets_nothing(ground: Ground) -> None:
    sender = await Subscriber.join(ground, "a")
    gone = await Subscriber.join(ground, "b")
    assert await sender.bus.publish(NodeId("never"), b"x") == 0
    await gone.bus.leave()
    async with asyncio.timeout(DEADLINE):
        while await sender.bus.publish(gone.node, b"x"):
            await asyncio.sleep(0.01)
    assert not gone.bus.hearing


@case
async def publishing_does_not_run_the_receiver_inside_the_sender(ground: Ground) -> None:
    subscriber = await Subscriber.join(ground, "a")
    sent = subscriber.bus.publish(subscriber.node, b"x")
    assert subscriber.heard.empty()
    assert await subscriber.next() == b"x"
    assert await sent == 1


@case
async def large_messages_come_whole(ground: Ground) -> None:
    sender, receiver = [await Subscriber.join(ground, node) for node in "ab"]
    bodies = [bytes([number]) * 262_144 for number in range(8)]
    for body in bodies:
        sender.bus.publish(receiver.node, body)
    assert [await receiver.next() for _ in bodies] == bodies


@case
async def a_bus_that_has_joined_hears(ground: Ground) -> None:
    subscriber = await Subscriber.join(ground, "a")
    async with asyncio.timeout(DEADLINE):
        while not subscriber.bus.hearing:
            await asyncio.sleep(0.01)
    assert subscriber.changes == [True]
