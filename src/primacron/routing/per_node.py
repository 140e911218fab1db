"""
Sends to all that go to each node by itself, because one of them is large.

Each node takes something large at its own pace. That is another way than others
take: to keep their order, a node gets nothing on the one before it has all that
went the other one. Nobody waits for a node but what is sent to that node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from primacron.cluster.cluster import Cluster
from primacron.cluster.items import NO_ID, Answer, Fence
from primacron.cluster.outgoing import Fate, Note
from primacron.cluster.requests import Pending
from primacron.ids import NodeId
from primacron.receipts import Delivery, Reach
from primacron.routing.reach_counter import Make, ReachCounter, Share
from primacron.routing.reached import Reached
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Serial

#: Bytes of content that is sent to all nodes at once.
MAX_FOR_ALL: Final = 200_000
#: Seconds for which sends are held at most, so that what went to each node by itself can arrive before them.
HELD_FOR: Final = 0.25
#: Seconds until that is tried again, when some node was slower.
TRY_AGAIN: Final = 2.0


class Send(NamedTuple):
    """A send to many that waits for its turn, and the bytes of what it sends."""

    make: Make
    here: Reached
    delivery: Delivery[Reach]
    size: int = 0
    #: The number that it has where it was sent.
    serial: Serial | None = None


class _NodeQueue:
    """The way to one node; shares wait until it is open."""

    __slots__ = ("is_open", "shares", "size")

    def __init__(self) -> None:
        self.is_open = False
        self.shares: list[Share] = []
        self.size = 0


class _FanOutFence(Pending):
    """Waits until nodes have all that was sent to all before, each for itself."""

    __slots__ = ("_nodes", "_passed")

    def __init__(self, cluster: Cluster, nodes: set[NodeId], passed: Callable[[NodeId], None]) -> None:
        super().__init__(cluster.requests, cluster.requests.next_id())
        self._nodes = nodes
        self._passed = passed

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """See :meth:`Pending.answered`."""
        if sender is not None:
            self.gone(sender)

    def gone(self, node: NodeId) -> None:
        """See :meth:`Pending.gone`."""
        if node in self._nodes:
            self._nodes.discard(node)
            self._passed(node)
        if not self._nodes:
            self.requests.close(self)

    def end(self, status: str) -> None:
        """See :meth:`Pending.end`."""
        self.requests.close(self)
        while self._nodes:
            self._passed(self._nodes.pop())


class PerNodeFanout:
    """
    What is sent to all while something large is on its way.

    ``begin`` makes the counter of a send, None if nobody wants to know; ``to_all``
    sends at once to all again.
    """

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        begin: Callable[[Delivery[Reach], Reached], ReachCounter | None],
        to_all: Callable[[Send], None],
        unreached: Callable[[Send], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self._begin = begin
        self._to_all = to_all
        self._unreached = unreached
        self._run = run
        self._timeout = hub.options.receipt_timeout
        self._waiting: list[Send] = []
        self._more = asyncio.Event()
        #: Bytes of what waits here, for its turn or for a node.
        self._size = 0
        self._queues: dict[NodeId, _NodeQueue] = {}
        #: Large sends of which not all nodes have said that they came.
        self._arriving: set[asyncio.Future[Reach]] = set()
        #: Whether what is sent to all goes this way.
        self.is_open = False

    def send(self, send: Send) -> None:
        """Send to each node by itself, in the order of the calls."""
        if self._size + send.size > self._hub.options.outbox_total:
            self._unreached(send)
            return
        self._waiting.append(send)
        self._size += send.size
        self._more.set()
        if not self.is_open:
            self.is_open = True
            # In a later tick: whoever sends can ask for the reach until the end of this one.
            self._hub.loop.call_soon(lambda: self._run(self._serve()))

    async def _serve(self) -> None:
        try:
            while True:
                self._more.clear()
                await self._send_waiting()
                if self._waiting:
                    continue
                if self._arriving:
                    await self._until_more(self._arriving)
                elif await self._is_through():
                    if all(send.size <= MAX_FOR_ALL for send in self._waiting):
                        return
                else:
                    await self._until_more((), TRY_AGAIN)
        finally:
            self._end()

    def _end(self) -> None:
        """Let all go at once to all again."""
        self.is_open = False
        for queue in self._queues.values():
            self._drop(queue)
        self._queues.clear()
        for send in self._take_waiting():
            if self._cluster.link.is_reachable:
                self._to_all(send)
            else:
                self._unreached(send)

    def _take_waiting(self) -> list[Send]:
        waiting, self._waiting = self._waiting, []
        self._size -= sum(send.size for send in waiting)
        return waiting

    async def _until_more(self, others: Iterable[asyncio.Future[Any]], seconds: float | None = None) -> None:
        """Wait until more is sent, or one of the others is done."""
        more = self._hub.loop.create_task(self._more.wait())
        try:
            await asyncio.wait({more, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()

    # To each node

    async def _send_waiting(self) -> None:
        """Send what waits to all nodes that are to hear it: those that began to attend just now are read first."""
        if not self._waiting:
            return
        is_known = await self._cluster.meet()
        nodes = self._cluster.attending()
        for node in self._queues.keys() - nodes:
            self._drop(self._queues.pop(node))
        if is_known:
            self._fence(nodes - self._queues.keys())
        for send in self._take_waiting():
            if is_known:
                self._send_each(send, nodes)
            else:
                self._unreached(send)

    def _send_each(self, send: Send, nodes: set[NodeId]) -> None:
        delivery = send.delivery
        if send.size > MAX_FOR_ALL:
            delivery = self._hub.delivery(requested=True)
            self._arriving.add(delivery)
            delivery.add_done_callback(lambda done: self._arrived(send, done))
        counter = self._begin(delivery, send.here)
        item = send.make(NO_ID if counter is None else counter.id)
        if counter is not None:
            counter.expect(nodes)
        for node in nodes:
            self._give(node, Share(item, node, counter), send.size)

    def _arrived(self, send: Send, done: asyncio.Future[Reach]) -> None:
        self._arriving.discard(done)
        send.delivery.settle(done.result())

    def _give(self, node: NodeId, share: Share, size: int) -> None:
        queue = self._queues[node]
        if queue.is_open:
            self._cluster.send(node, share)
        elif self._size + size > self._hub.options.outbox_total:
            share.left(Fate.UNSENT, 0)
        else:
            queue.shares.append(share)
            queue.size += size
            self._size += size

    # Order

    def _fence(self, nodes: set[NodeId]) -> None:
        """Make the ways to nodes; each opens once the node has all that was sent to all before."""
        if not nodes:
            return
        cluster = self._cluster
        self._queues |= {node: _NodeQueue() for node in nodes}
        fence = _FanOutFence(cluster, nodes, self._open)
        cluster.requests.open(fence, self._timeout)

        def left(fate: Fate) -> None:
            if fate not in (Fate.SENT, Fate.UNSURE):
                cluster.requests.end(fence.id, fate.name)

        cluster.send(None, Note(Fence(fence.id, cluster.node), left))

    def _open(self, node: NodeId) -> None:
        queue = self._queues.get(node)
        if queue is not None and not queue.is_open:
            queue.is_open = True
            self._size -= queue.size
            queue.size = 0
            shares, queue.shares = queue.shares, []
            for share in shares:
                self._cluster.send(node, share)

    def _drop(self, queue: _NodeQueue) -> None:
        self._size -= queue.size
        for share in queue.shares:
            share.left(Fate.UNSENT, 0)

    async def _is_through(self) -> bool:
        """Tell whether all nodes have what was sent to each, without waiting long for one that is slow."""
        cluster = self._cluster
        if not all(queue.is_open for queue in self._queues.values()):
            return False
        asked = [cluster.asked(node, lambda id_: Fence(id_, cluster.node), HELD_FOR) for node in self._queues]
        answers = await asyncio.gather(*asked)
        return all(
            answer.status == "accepted" or cluster.is_gone(node)
            for node, answer in zip([*self._queues], answers, strict=True)
        )
