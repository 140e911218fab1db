"""Doing something to an audience on other nodes, and counting to whom it was done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.finder import Finder
from primacron.cluster.items import NO_ID, ListSessions, Request, ToMany
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.requests import TIMED_OUT, UNSENT
from primacron.entries import Name
from primacron.ids import NodeId
from primacron.receipts import Delivery, Reach
from primacron.routing.acts import Act
from primacron.routing.audience import Audience, pack_audience
from primacron.routing.per_node import MAX_FOR_ALL, PerNodeFanout, Send
from primacron.routing.reach_counter import Make, ReachCounter, Share
from primacron.routing.reached import Reached
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent, Serial


class _ToAll(Dispatch):
    """A request on its way to all other nodes."""

    __slots__ = ("_counter", "_fanout", "_send")

    def __init__(self, fanout: ClusterFanout, send: Send) -> None:
        self._fanout = fanout
        self._send = send
        self._counter: ReachCounter | None = None

    def encode(self) -> bytes:
        """See :meth:`Dispatch.encode`."""
        self._counter = self._fanout.counter(self._send.delivery, self._send.here)
        return encode_item(self._send.make(NO_ID if self._counter is None else self._counter.id))

    def left(self, fate: Fate, nodes: int) -> None:
        """See :meth:`Dispatch.left`."""
        if self._counter is None:
            return
        if fate is Fate.SENT:
            self._fanout.published(self._counter, nodes)
        elif fate is not Fate.UNSURE:
            self._counter.end(UNSENT)


class ClusterFanout:
    """Does something to audiences on other nodes; ``here`` is to how many it was done on this one."""

    def __init__(
        self, hub: Hub, cluster: Cluster, finder: Finder, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self._finder = finder
        self._run = run
        self._timeout = hub.options.receipt_timeout
        self._per_node = PerNodeFanout(hub, cluster, self.counter, self._to_all, self._not_reached, run)
        #: Sends to all of which it is not known yet who should hear them, and to how many nodes each was handed.
        self._published: list[tuple[ReachCounter, int]] = []
        self._is_checking = False
        #: Sends to audiences of which it is not known yet which nodes have them.
        self._waiting: dict[Audience, list[Send]] = {}

    def pack(self, act: Act) -> tuple[Serial, bytes]:
        """
        Return what an act is everywhere: its number, and how it travels.

        Raises:
            TypeError, ValueError: if it cannot travel.

        """
        packed = act.pack(self._hub.encoding)
        return (self._cluster.node, self._cluster.next_serial()), packed

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Have a packed act done to an audience."""
        assert serial is not None
        to_whom, act = pack_audience(audience), msgspec.Raw(packed)

        def make(number: int) -> Request:
            return ToMany(number, *serial, to_whom, act)

        if audience.is_everywhere:
            return self._ask_all(make, here, receipt=receipt, size=len(packed))
        return self._ask_holders(audience, make, here, serial, receipt=receipt)

    async def names(self) -> list[tuple[Name, NodeId]]:
        """
        Return the names of all sessions with their nodes.

        Raises:
            BackendUnavailable: if a node does not answer, or not all nodes are known for certain.

        """
        is_known = await self._cluster.meet()
        nodes = [*self._cluster.attending()]
        answers = await asyncio.gather(
            *(
                self._cluster.asked(node, lambda number: ListSessions(number, self._cluster.node), self._timeout)
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

    # All nodes

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
        """Take note to how many nodes something was handed; who should have heard it is known from now on."""
        self._published.append((counter, nodes))
        if not self._is_checking:
            self._is_checking = True
            self._run(self._check_attending())

    async def _check_attending(self) -> None:
        """Find out who should have heard: some node may have begun to have sessions since the leases were read."""
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
            counter.end(TIMED_OUT)  # no answer is heard either

    # Those that have some of an audience

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
        """Look up who has some of an audience, for all that wait; what comes meanwhile waits for the next look."""
        waiting = self._waiting[audience]
        sends: list[Send] = []
        try:
            while waiting:
                sends, waiting[:] = [*waiting], []
                nodes, is_certain = await audience.nodes(self._finder)
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

    def _has_missed(self, audience: Audience, send: Send) -> bool:
        """Tell whether a session has come here after something was done to those that were here."""
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

    # Reaches

    def _not_reached(self, send: Send) -> None:
        """Let a send have reached those that are here; when no other node is known, there may be one."""
        missing = max(1, len(self._cluster.attending()))
        send.delivery.settle(Reach(1, send.here.sessions, certain=False, missing=missing))

    def counter(self, delivery: Delivery[Reach], here: Reached) -> ReachCounter | None:
        """Count the answers to a request, if anybody wants to know."""
        if not delivery.wanted:
            return None
        requests = self._cluster.requests
        counter = ReachCounter(self._cluster, requests.next_id(), delivery, here)
        requests.open(counter, self._timeout)
        return counter
