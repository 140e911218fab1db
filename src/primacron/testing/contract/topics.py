"""What topics do."""

from __future__ import annotations

import asyncio
from typing import Final

from primacron.cluster.topics import Topics
from primacron.ids import NodeId
from primacron.testing.contract.ground import DEADLINE, Case, Ground, adding_to

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


class TopicEars:
    """The messages that a node received on topics, and the changes of its subscriptions."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.changes: list[tuple[str, bool]] = []
        self._has_changed = asyncio.Event()

    @classmethod
    async def join(cls, ground: Ground, node: str, *topics: str) -> TopicEars:
        """Subscribe a node to topics, and wait until the subscriptions are active."""
        subscriber = cls(ground.backend().topics)
        await subscriber.topics.join(
            NodeId(node), lambda topic, body: subscriber.heard.put_nowait((topic, body)), subscriber._change
        )
        await subscriber.subscribe(*topics)
        return subscriber

    def _change(self, topic: str, heard: bool) -> None:
        self.changes.append((topic, heard))
        self._has_changed.set()

    async def subscribe(self, *topics: str) -> None:
        """Subscribe to topics, and wait until the subscriptions are active."""
        for topic in topics:
            self.topics.subscribe(topic)
        await self.until_told(*((topic, True) for topic in topics))

    async def until_told(self, *changes: tuple[str, bool]) -> None:
        """Wait until all these changes were reported, in any order, and clear them."""
        async with asyncio.timeout(DEADLINE):
            while not set(changes) <= set(self.changes):
                self._has_changed.clear()
                await self._has_changed.wait()
        self.changes.clear()

    async def next(self) -> tuple[str, bytes]:
        """Return the next message, with its topic."""
        async with asyncio.timeout(DEADLINE):
            return await self.heard.get()


@case
async def what_is_published_on_a_topic_reaches_those_that_subscribed_and_in_order(ground: Ground) -> None:
    first, second = [await TopicEars.join(ground, node, "lot:7") for node in "ab"]
    other = await TopicEars.join(ground, "c", "lot:8")
    sent = [first.topics.publish("lot:7", b"%d" % number) for number in range(200)]
    assert [await each for each in sent] == [2] * 200
    for subscriber in (first, second):
        assert [await subscriber.next() for _ in range(200)] == [("lot:7", b"%d" % number) for number in range(200)]
    assert await first.topics.publish("lot:8", b"last") == 1
    assert await other.next() == ("lot:8", b"last")
    assert first.heard.empty()
    assert await first.topics.publish("lot:9", b"to nobody") == 0


@case
async def a_topic_that_is_given_up_is_heard_no_longer(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    receiver = await TopicEars.join(ground, "b", "lot:7", "lot:8")
    receiver.topics.unsubscribe("lot:7")
    assert not receiver.topics.hears("lot:7")
    async with asyncio.timeout(DEADLINE):
        while await sender.topics.publish("lot:7", b"x"):
            await asyncio.sleep(0.01)
    assert await sender.topics.publish("lot:8", b"y") == 1
    assert await receiver.next() == ("lot:8", b"y")
    assert receiver.heard.empty()
    assert receiver.changes == []


@case
async def a_topic_that_is_given_up_and_wanted_again_is_told_again(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    receiver = await TopicEars.join(ground, "b", "lot:7")
    for waits in (False, True) * 10:
        receiver.topics.unsubscribe("lot:7")
        if waits:
            await asyncio.sleep(0)
        await receiver.subscribe("lot:7")
        assert receiver.topics.hears("lot:7")
        assert await sender.topics.publish("lot:7", b"x") == 1
        assert await receiver.next() == ("lot:7", b"x")


@case
async def thousands_of_topics_are_heard_at_once(ground: Ground) -> None:
    names = [f"lot:{number}" for number in range(3_000)]
    receiver = await TopicEars.join(ground, "a", *names)
    assert receiver.topics.is_complete
    sent = [receiver.topics.publish(name, name.encode()) for name in names]
    assert set(await asyncio.gather(*sent)) == {1}
    assert {await receiver.next() for _ in names} == {(name, name.encode()) for name in names}


@case
async def topics_have_names_of_any_characters(ground: Ground) -> None:
    names = ["a", "A", "a:b", "a b", "{a}", "a}{b", "%61", "*", "[ab]?", "\x00", "\r\n", "ä", "💥", "x" * 255]
    receiver = await TopicEars.join(ground, "a", *names)
    for name in names:
        assert await receiver.topics.publish(name, name.encode()) == 1
        assert await receiver.next() == (name, name.encode())


@case
async def a_node_that_has_left_its_topics_gets_nothing(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    gone = await TopicEars.join(ground, "b", "lot:7")
    await gone.topics.leave()
    async with asyncio.timeout(DEADLINE):
        while await sender.topics.publish("lot:7", b"x"):
            await asyncio.sleep(0.01)
    assert gone.changes == []
