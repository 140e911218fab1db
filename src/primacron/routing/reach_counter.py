"""The reach of a fan-out: the answers of the other nodes, counted until all expected ones have arrived."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeAlias

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.items import Answer, Request
from primacron.cluster.outgoing import Fate, Note
from primacron.cluster.requests import Pending
from primacron.ids import NodeId
from primacron.receipts import Delivery, Reach
from primacron.routing.reached import Reached

#: Makes a request from its id.
Make: TypeAlias = Callable[[int], Request]

#: Status of an answer whose count is complete, and of one where sessions or earlier sends may have been missed.
CERTAIN: Final = "accepted"
UNCERTAIN: Final = "uncertain"


class ReachCounter(Pending):
    """
    Counts the answers to a fan-out.

    It ends when all expected nodes have answered. If the bus has reported how many nodes the
    send was handed to, it also ends once that many have answered: the others have missed it.
    """

    __slots__ = (
        "_answered",
        "_cluster",
        "_delivery",
        "_expected",
        "_handed",
        "_is_certain",
        "_lost",
        "_sessions",
        "_stuck",
    )

    def __init__(self, cluster: Cluster, id: int, delivery: Delivery[Reach], here: Reached) -> None:
        super().__init__(cluster.requests, id)
        self._cluster = cluster
        self._delivery = delivery
        self._sessions, self._is_certain = here
        #: The expected nodes and the number of nodes that it was handed to, once known.
        self._expected: set[NodeId] | None = None
        self._handed: int | None = None
        self._answered: set[NodeId] = set()
        #: Expected nodes that will not answer.
        self._lost: set[NodeId] = set()
        #: Nodes that will not answer soon.
        self._stuck: set[NodeId] = set()

    @property
    def answering(self) -> set[NodeId]:
        """The nodes that have answered so far."""
        return self._answered

    def doubt(self) -> None:
        """Mark the reach as uncertain: there may be sessions that are not counted."""
        self._is_certain = False

    def expect(self, nodes: Collection[NodeId], handed: int | None = None) -> None:
        """Set the expected nodes, and the number of nodes that it was handed to."""
        self._expected = set(nodes)
        self._handed = handed
        self._stuck = self._cluster.stuck()
        self.look()

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Add a node's count."""
        if sender is None or sender in self._answered:
            return
        self._answered.add(sender)
        if answer.status in (CERTAIN, UNCERTAIN):
            self._sessions += msgspec.msgpack.decode(answer.value, type=int)
        if answer.status == UNCERTAIN:
            self.doubt()
        self.look()

    def gone(self, node: NodeId) -> None:
        """Record that a node will not answer any more."""
        if self._expected is not None and node in self._expected and node not in self._answered:
            self._lost.add(node)
            self.look()

    def look(self) -> None:
        """Finish if no further answers can arrive."""
        if self._expected is None:
            return
        has_all = self._expected <= self._answered | self._lost | self._stuck
        if has_all or (self._handed is not None and len(self._answered) >= self._handed):
            self._finish(len(self._expected - self._answered))

    def end(self, status: str) -> None:
        """Finish with the answers received so far."""
        expected = self._cluster.attending() if self._expected is None else self._expected
        self._finish(max(1, len(expected - self._answered)))

    def _finish(self, missing: int) -> None:
        self.requests.close(self)
        is_certain = not missing and self._is_certain and self._cluster.knows_all()
        self._delivery.settle(Reach(1 + len(self._answered), self._sessions, certain=is_certain, missing=missing))


class Share(Note):
    """One node's share of a request to several."""

    __slots__ = ("_counter", "_node")

    def __init__(self, item: Request, node: NodeId, counter: ReachCounter | None) -> None:
        super().__init__(item)
        self._node = node
        self._counter = counter

    def left(self, fate: Fate, nodes: int) -> None:
        """Tell the counter if the share was not sent."""
        if self._counter is not None and fate not in (Fate.SENT, Fate.UNSURE):
            self._counter.gone(self._node)
