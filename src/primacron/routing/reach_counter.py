"""Who got what was sent to many: the answers of other nodes, counted until all have come that should."""

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

#: How a node answers that has told all whom it reached, and one that may have missed some, or been missed.
CERTAIN: Final = "accepted"
UNCERTAIN: Final = "uncertain"


class ReachCounter(Pending):
    """
    The answers to a send to many.

    It ends when all nodes have answered that should hear. Where the bus has said
    how many it was handed to, it also ends when so many have answered: the others
    have missed it.
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
        #: Who should hear, as soon as that is known, and how many nodes it was handed to, if that is.
        self._expected: set[NodeId] | None = None
        self._handed: int | None = None
        self._answered: set[NodeId] = set()
        #: Who should have heard and will not answer.
        self._lost: set[NodeId] = set()
        #: Who will not answer soon.
        self._stuck: set[NodeId] = set()

    def doubt(self) -> None:
        """Take note that more sessions may have been meant than can be known."""
        self._is_certain = False

    def expect(self, nodes: Collection[NodeId], handed: int | None = None) -> None:
        """Take note who should hear."""
        self._expected = set(nodes)
        self._handed = handed
        self._stuck = self._cluster.stuck()
        self.look()

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """See :meth:`Pending.answered`."""
        if sender is None or sender in self._answered:
            return
        self._answered.add(sender)
        if answer.status in (CERTAIN, UNCERTAIN):
            self._sessions += msgspec.msgpack.decode(answer.value, type=int)
        if answer.status == UNCERTAIN:
            self.doubt()
        self.look()

    def gone(self, node: NodeId) -> None:
        """See :meth:`Pending.gone`."""
        if self._expected is not None and node in self._expected and node not in self._answered:
            self._lost.add(node)
            self.look()

    def look(self) -> None:
        """End, if all that can come has come."""
        if self._expected is None:
            return
        has_all = self._expected <= self._answered | self._lost | self._stuck
        if has_all or (self._handed is not None and len(self._answered) >= self._handed):
            self._finish(len(self._expected - self._answered))

    def end(self, status: str) -> None:
        """See :meth:`Pending.end`."""
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
        """See :meth:`Dispatch.left`."""
        if self._counter is not None and fate not in (Fate.SENT, Fate.UNSURE):
            self._counter.gone(self._node)
