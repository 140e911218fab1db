"""Fan-out of acts to the other nodes, with a count of the sessions reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.finder import Finder
from primacron.cluster.items import NO_ID, Fence, ListSessions, Request, ToChannels, ToMany
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.requests import TIMED_OUT, UNSENT
from primacron.entries import Name
from primacron.ids import NodeId
from primacron.receipts import Delivery, Reach
from primacron.routing.acts import Act
from primacron.routing.audience import Audience, pack_audience
from primacron.routing.by_topic import TopicFanout
from primacron.routing.per_node import HELD_FOR, MAX_FOR_ALL, PerNodeFanout, Send
from primacron.routing.reach_counter import Make, ReachCounter, Share
from primacron.routing.reached import Reached
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent, Serial

#: Number of audiences whose nodes are remembered.
MAX_HOLDERS: Final = 10_000


class _ToAll(Dispatch):
    """A request to all other nodes."""

    __slots__ = ("_counter", "_fanout", "_send")

    def __init__(self, fanout: ClusterFanout, send: Send) -> None:
        self._fanout = fanout
        self._send = send
        self._counter: ReachCounter | None = None

    def encode(self) -> bytes:
        """Encode the request, with a counter if the reach is wanted."""
        self._counter = self._fanout.counter(self._send.delivery, self._send.here)
        return encode_item(self._send.make(NO_ID if self._counter is None else self._counter.id))

    def left(self, fate: Fate, nodes: int) -> None:
        """Tell the counter to how many nodes the request was handed, or that it was not sent."""
        if self._counter is None:
            return
        if fate is Fate.SENT:
            self._fanout.published(self._counter, nodes)
        elif fate is not Fate.UNSURE:
            self._counter.end(UNSENT)


class ClusterFanout:
    """Applies acts to audiences on the other nodes; ``here`` is the reach on this one."""

    def __init__(
        self, hub: Hub, cluster: Cluster, finder: Finder, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self._finder = finder
        self._run = run
        self._timeout = hub.options.receipt_timeout
        self._per_node = PerNodeFanout(hub, cluster, self.counter, self._to_all, self._not_reached, run)
        self._by_topic = TopicFanout(hub, cluster, self.counter, self._not_reached, run)
        #: Sends to all whose receivers are not determined yet, with the number of nodes that each was handed to.
        self._published: list[tuple[ReachCounter, int]] = []
        self._is_checking = False
        #: Sends that await the lookup of their audience's nodes.
        self._waiting: dict[Audience, list[Send]] = {}
        #: The nodes of the audiences that were sent to last, oldest first.
        self._holders: dict[Audience, set[NodeId]] = {}

    def pack(self, act: Act) -> tuple[Serial, bytes]:
        """
        Assign an act its serial number, and serialize it.

        Raises:
            TypeError, ValueError: if it cannot be serialized.

        """
        packed = act.pack(self._hub.encoding)
        return (self._cluster.node, self._cluster.next_serial()), packed

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Apply a packed act to the audience on the other nodes."""
        assert serial is not None
        to_whom, act = pack_audience(audience), msgspec.Raw(packed)

        def make(number: int) -> Request:
            return ToMany(number, *serial, to_whom, act)

        if audience.topics:
            return self._ask_topics(audience, ToChannels(NO_ID, *serial, to_whom, act), here, receipt=receipt)
        if audience.is_everywhere:
            return self._ask_all(make, here, receipt=receipt, size=len(packed))
        return self._ask_holders(audience, make, here, serial, receipt=receipt)

    async def names(self, audience: Audience) -> list[tuple[Name, NodeId]]:
        """
        Return the names of an audience's sessions on the other nodes, with their nodes.

        Raises:
            BackendUnavailable: if a node does not answer, or the list of nodes may be incomplete.

        """
        is_known = await self._cluster.meet()
        nodes = [*self._cluster.attending()]
        packed = pack_audience(audience)
        answers = await asyncio.gather(
            *(
                self._cluster.asked(
                    node, lambda number: ListSessions(number, self._cluster.node, packed), self._timeout
                )
                for node in nodes
            )
        )
        if not is_known or not self._cluster.knows_all():
            raise BackendUnavailable("not all servers may be known yet")
        found: list[tuple[Name, NodeId]] = []
        for node, answer in zip(nodes, answers, strict=True):
            if answer.status != "accepted":
                raise BackendUnavailable(f"node {node} does not tell its sessions: {answer.status}")
            found += [(name, node) for name in msgspec.msgpack.decode(answer.value, type=list[Name])]
        return found

    # To the nodes that hear a topic

    def _ask_topics(self, audience: Audience, item: ToChannels, here: Reached, *, receipt: bool) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        self._by_topic.send(audience.topics, Send(partial(_numbered, item), here, delivery))
        return delivery

    def is_first(self, audience: Audience, serial: Serial) -> bool:
        """Record a send that arrived by topic; tell whether it has not arrived by another one already."""
        return self._by_topic.is_first(audience.topics, serial)

    # To all nodes

    def _ask_all(self, make: Make, here: Reached, *, receipt: bool, size: int) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        send = Send(make, here, delivery, size)
        if not self._cluster.link.is_reachable:
            self._not_reached(send)
        elif size > MAX_FOR_ALL or self._per_node.is_open:
            self._per_node.send(send)
        else:
            self._to_all(send)
        return delivery

    def _to_all(self, send: Send) -> None:
        self._cluster.send(None, _ToAll(self, send))

    def published(self, counter: ReachCounter, nodes: int) -> None:
        """Record the number of nodes that a send was handed to, and determine who should have received it."""
        self._published.append((counter, nodes))
        if not self._is_checking:
            self._is_checking = True
            self._run(self._check_attending())

    async def _check_attending(self) -> None:
        """Determine the receivers again: a node may have begun to attend since the leases were read."""
        try:
            while self._published:
                published, self._published = self._published, []
                is_known = await self._cluster.check_attending()
                for counter, nodes in published:
                    self._expect(counter, nodes, is_known=is_known)
        finally:
            self._is_checking = False

    def _expect(self, counter: ReachCounter, nodes: int, *, is_known: bool) -> None:
        if not is_known:
            counter.doubt()
        counter.expect(self._cluster.attending(), nodes)
        if not self._cluster.bus.hearing:
            counter.end(TIMED_OUT)  # answers are not received either

    # To the nodes of an audience

    def _ask_holders(
        self, audience: Audience, make: Make, here: Reached, serial: Serial, *, receipt: bool
    ) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        send = Send(make, here, delivery, serial=serial)
        waiting = self._waiting.get(audience)
        if waiting is not None:
            waiting.append(send)
        else:
            self._waiting[audience] = [send]
            self._hub.loop.call_soon(lambda: self._run(self._find_holders(audience)))
        return delivery

    async def _find_holders(self, audience: Audience) -> None:
        """Look up the nodes of an audience for all waiting sends; sends made in the meantime need another lookup."""
        waiting = self._waiting[audience]
        sends: list[Send] = []
        try:
            while waiting:
                sends, waiting[:] = [*waiting], []
                nodes, is_certain = await audience.nodes(self._finder)
                await self._flush(self._left(audience, nodes))
                while sends:
                    send = sends.pop(0)
                    is_whole = is_certain and not self._has_missed(audience, send)
                    self._ask_each(nodes - {self._cluster.node}, send, is_certain=is_whole)
        except BackendUnavailable:
            pass
        finally:
            del self._waiting[audience]
            for send in (*sends, *waiting):
                self._not_reached(send)

    def _left(self, audience: Audience, nodes: set[NodeId]) -> set[NodeId]:
        """Record the nodes of an audience; return those that it has left since it was last sent to."""
        before = self._holders.pop(audience, nodes)
        self._holders[audience] = nodes
        if len(self._holders) > MAX_HOLDERS:
            del self._holders[next(iter(self._holders))]
        return before - nodes - {self._cluster.node}

    async def _flush(self, nodes: set[NodeId]) -> None:
        """Let nodes pass on what was sent to them before, so that later sends to others do not overtake it."""
        if nodes:
            ask, origin = self._cluster.asked, self._cluster.node
            await asyncio.gather(*(ask(node, lambda number: Fence(number, origin), HELD_FOR) for node in nodes))

    def _has_missed(self, audience: Audience, send: Send) -> bool:
        """Tell whether a session has arrived on this node after the send was delivered to those on it."""
        return bool(self._hub.moving) and any(
            session in self._hub.moving and send.serial not in session.demand(Recent).serials
            for session in audience.sessions(self._hub)
        )

    def _ask_each(self, nodes: set[NodeId], send: Send, *, is_certain: bool) -> None:
        counter = self.counter(send.delivery, send.here)
        item = send.make(NO_ID if counter is None else counter.id)
        if counter is not None:
            if not is_certain:
                counter.doubt()
            counter.expect(nodes)
        for node in nodes:
            self._cluster.send(node, Share(item, node, counter))

    # Reach

    def _not_reached(self, send: Send) -> None:
        """Settle a send with the reach on this node; at least one other node counts as missing, known or not."""
        missing = max(1, len(self._cluster.attending()))
        send.delivery.settle(Reach(1, send.here.sessions, certain=False, missing=missing))

    def counter(self, delivery: Delivery[Reach], here: Reached) -> ReachCounter | None:
        """Open a counter for the answers to a request; None if the reach is not wanted."""
        if not delivery.wanted:
            return None
        requests = self._cluster.requests
        counter = ReachCounter(self._cluster, requests.next_id(), delivery, here)
        requests.open(counter, self._timeout)
        return counter


def _numbered(item: ToChannels, number: int) -> Request:
    return msgspec.structs.replace(item, id=number)
