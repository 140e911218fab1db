"""
Fan-out to the nodes that hear a topic.

Nodes without members neither receive nor answer such a send. To count its reach, those
that may have missed it are asked whether they have members.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.items import NO_ID, HasMembers
from primacron.cluster.outgoing import Dispatch, Fate, Note
from primacron.receipts import Delivery, Reach
from primacron.routing.per_node import Send
from primacron.routing.reach_counter import CERTAIN, UNCERTAIN, ReachCounter
from primacron.routing.reached import Reached
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Serial

#: Sends to several channels that are remembered, so that a node which hears more than one of them applies them once.
MAX_SEEN: Final = 10_000


class _Publication:
    """One send, published on each of its topics."""

    def __init__(self, fanout: TopicFanout, topics: tuple[str, ...], send: Send) -> None:
        self._fanout = fanout
        self._topics = topics
        self._send = send
        self._encoded: bytes | None = None
        self._counter: ReachCounter | None = None
        self._left = len(topics)
        self._nodes = 0
        self._is_sent = True

    def publish(self, cluster: Cluster) -> None:
        """Publish on each topic."""
        for topic in self._topics:
            cluster.send_by_topic(topic, _OnTopic(self, topic))

    def encode(self) -> bytes:
        """Encode the request once, with a counter if the reach is wanted."""
        if self._encoded is None:
            self._counter = self._fanout.counter(self._send.delivery, self._send.here)
            self._encoded = encode_item(self._send.make(NO_ID if self._counter is None else self._counter.id))
        return self._encoded

    def left(self, topic: str, fate: Fate, nodes: int) -> None:
        """Record the fate on one topic; ``nodes`` includes this one if it hears the topic."""
        self._is_sent = self._is_sent and fate is Fate.SENT
        self._nodes += nodes
        self._left -= 1
        if self._left or self._counter is None:
            return
        if self._is_sent:
            self._fanout.published(self._counter, self._topics)
        else:
            self._counter.doubt()
            self._counter.end(fate.name)


class _OnTopic(Dispatch):
    """A publication on one of its topics."""

    __slots__ = ("_publication", "_topic")

    def __init__(self, publication: _Publication, topic: str) -> None:
        self._publication = publication
        self._topic = topic

    def encode(self) -> bytes:
        """Encode the request."""
        return self._publication.encode()

    def left(self, fate: Fate, nodes: int) -> None:
        """Tell the publication."""
        self._publication.left(self._topic, fate, nodes)


class TopicFanout:
    """
    Publishes fan-outs on topics.

    ``counter`` opens the counter of a send, or returns None if its reach is not wanted.
    """

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        counter: Callable[[Delivery[Reach], Reached], ReachCounter | None],
        unreached: Callable[[Send], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self.counter = counter
        self._unreached = unreached
        self._run = run
        #: Sends to several channels that were applied already, oldest first.
        self._seen: OrderedDict[Serial, None] = OrderedDict()
        #: Sends whose receivers are not determined yet.
        self._published: list[tuple[ReachCounter, tuple[str, ...]]] = []
        self._is_checking = False
        cluster.on(HasMembers, lambda item, _: self._tell_members(item))

    def send(self, topics: tuple[str, ...], send: Send) -> None:
        """Publish a send on each of its topics at the end of this tick."""
        if self._cluster.link.is_reachable:
            _Publication(self, topics, send).publish(self._cluster)
        else:
            self._unreached(send)

    def is_first(self, topics: tuple[str, ...], serial: Serial) -> bool:
        """Record the arrival of a send; tell whether it has not arrived before, on another of its topics."""
        if len(topics) == 1:
            return True
        if serial in self._seen:
            return False
        self._seen[serial] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return True

    # Reach

    def published(self, counter: ReachCounter, topics: tuple[str, ...]) -> None:
        """Count the answers to a send that was published."""
        self._published.append((counter, topics))
        if not self._is_checking:
            self._is_checking = True
            self._run(self._check_attending())

    async def _check_attending(self) -> None:
        """Determine which nodes may have members, and ask those that have none to say so."""
        try:
            while self._published:
                published, self._published = self._published, []
                is_known = await self._cluster.check_attending()
                for counter, topics in published:
                    if not is_known:
                        counter.doubt()
                    self._ask_members(counter, topics)
                    counter.expect(self._cluster.attending())
        finally:
            self._is_checking = False

    def _ask_members(self, counter: ReachCounter, topics: tuple[str, ...]) -> None:
        def left(fate: Fate) -> None:
            if fate is not Fate.SENT:
                counter.end(fate.name)

        if self._cluster.attending() - counter.answering:
            self._cluster.send(None, Note(HasMembers(counter.id, self._cluster.node, [*topics]), left))

    def _tell_members(self, item: HasMembers) -> None:
        nobody = msgspec.Raw(msgspec.msgpack.encode(0))
        if not any(self._hub.groups.get(name) for name in item.channels):
            self._cluster.answer(item, CERTAIN, nobody)
        elif not all(map(self._cluster.topics.hears, item.channels)):
            self._cluster.answer(item, UNCERTAIN, nobody)
