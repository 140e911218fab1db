"""
Fan-out to each node individually, while a large send is in transit.

Each node receives a large send at its own pace. That is a different path from the shared
one, so to preserve order a node is sent nothing on one path before it has received
everything on the other. A slow node delays only what is sent to that node.
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

#: Maximum size in bytes of content that is sent to all nodes on the shared path.
MAX_FOR_ALL: Final = 200_000
#: Maximum seconds for which sends are held so that what was sent to individual nodes can arrive before them.
HELD_FOR: Final = 0.25
#: Seconds until the next attempt, if a node was slower.
TRY_AGAIN: Final = 2.0


class Send(NamedTuple):
    """A queued fan-out, with the size of its content in bytes."""

    make: Make
    here: Reached
    delivery: Delivery[Reach]
    size: int = 0
    #: Its serial number.
    serial: Serial | None = None


class _NodeQueue:
    """The queue to one node; shares are held until it is open."""

    __slots__ = ("is_open", "shares", "size")

    def __init__(self) -> None:
        self.is_open = False
        self.shares: list[Share] = []
        self.size = 0


class _FanOutFence(Pending):
    """Tells for each node when it has received everything that was sent on the shared path before."""

    __slots__ = ("_nodes", "_passed")

    def __init__(self, cluster: Cluster, nodes: set[NodeId], passed: Callable[[NodeId], None]) -> None:
        super().__init__(cluster.requests, cluster.requests.next_id())
        self._nodes = nodes
        self._passed = passed

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Open the path to a node that has answered."""
        if sender is not None:
            self.gone(sender)

    def gone(self, node: NodeId) -> None:
        """Stop waiting for a node."""
        if node in self._nodes:
            self._nodes.discard(node)
            self._passed(node)
        if not self._nodes:
            self.requests.close(self)

    def end(self, status: str) -> None:
        """Stop waiting for all nodes."""
        self.requests.close(self)
        while self._nodes:
            self._passed(self._nodes.pop())


class PerNodeFanout:
    """
    Sends to all nodes while a large send is in transit.

    ``begin`` returns the counter of a send, or None if its reach is not wanted; ``to_all``
    sends on the shared path.
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
        #: Total size in bytes of what is queued.
        self._size = 0
        self._queues: dict[NodeId, _NodeQueue] = {}
        #: Large sends that not all nodes have confirmed.
        self._arriving: set[asyncio.Future[Reach]] = set()
        #: Whether sends to all use this path.
        self.is_open = False

    def send(self, send: Send) -> None:
        """Send to each node individually, in the order of the calls."""
        if self._size + send.size > self._hub.options.outbox_total:
            self._unreached(send)
            return
        self._waiting.append(send)
        self._size += send.size
        self._more.set()
        if not self.is_open:
            self.is_open = True
            # In a later tick: the sender may request the reach until the end of this one.
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
        """Return to the shared path."""
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
        """Wait until more is sent, or one of the futures is done."""
        more = self._hub.loop.create_task(self._more.wait())
        try:
            await asyncio.wait({more, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()

    # To each node

    async def _send_waiting(self) -> None:
        """Send what is queued to all attending nodes, after reading which have just begun to attend."""
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
        """Create queues to nodes; each opens once its node has received what was sent on the shared path before."""
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
        """Tell whether all nodes have received what was sent to them individually; waits only briefly for slow ones."""
        cluster = self._cluster
        if not all(queue.is_open for queue in self._queues.values()):
            return False
        asked = [cluster.asked(node, lambda id_: Fence(id_, cluster.node), HELD_FOR) for node in self._queues]
        answers = await asyncio.gather(*asked)
        return all(
            answer.status == "accepted" or cluster.is_gone(node)
            for node, answer in zip([*self._queues], answers, strict=True)
        )
