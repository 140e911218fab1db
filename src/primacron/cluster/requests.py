"""Requests to other nodes that wait for their answers, each with a deadline."""

from __future__ import annotations

import itertools
import secrets
from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from primacron.cluster.wire import Answer
from primacron.ids import NodeId
from primacron.wheel import NEVER, Timed, Wheel

#: Statuses that no node answers: they tell why there is no answer.
TIMED_OUT: Final = "timed_out"
NODE_GONE: Final = "node_gone"
UNSENT: Final = "unsent"
UNSUPPORTED: Final = "unsupported"

#: Called once, with the answer; one that never came has a status of this module and the id of the request.
Settled: TypeAlias = Callable[[Answer], None]


class Pending(Timed):
    """A request without its answer, or with some of several."""

    __slots__ = ("id", "requests")

    def __init__(self, requests: Requests, id: int) -> None:
        self.bucket = None
        self.due = NEVER
        self.place = 0
        self.requests = requests
        self.id = id

    def on_due(self, now: float) -> None:
        """Wait no longer."""
        self.end(TIMED_OUT)

    @abstractmethod
    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Take an answer; ``sender`` is None for one that no node gave."""

    @abstractmethod
    def gone(self, node: NodeId) -> None:
        """Take note that a node will not answer any more."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Wait no longer, for the reason that the status tells."""


class One(Pending):
    """A request to one node."""

    __slots__ = ("_node", "_settled")

    def __init__(self, requests: Requests, id: int, node: NodeId, settled: Settled) -> None:
        super().__init__(requests, id)
        self._node = node
        self._settled = settled

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """See :meth:`Pending.answered`."""
        self.requests.close(self)
        self._settled(answer)

    def gone(self, node: NodeId) -> None:
        """See :meth:`Pending.gone`."""
        if node == self._node:
            self.end(NODE_GONE)

    def end(self, status: str) -> None:
        """See :meth:`Pending.end`."""
        self.answered(Answer(self.id, status), None)


class Requests:
    """The open requests of this node, by id."""

    __slots__ = ("_ids", "_open", "_wheel")

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._open: dict[int, Pending] = {}
        # Not from 1 on: the answer to a request of an earlier process must not meet one of this.
        self._ids = itertools.count(secrets.randbits(62) + 1)

    def __len__(self) -> int:
        return len(self._open)

    def next_id(self) -> int:
        """Return an id that no request of this node has had."""
        return next(self._ids)

    def ask(self, node: NodeId, seconds: float, settled: Settled) -> int:
        """Open a request to one node and return its id."""
        pending = One(self, self.next_id(), node, settled)
        self.open(pending, seconds)
        return pending.id

    def open(self, pending: Pending, seconds: float) -> None:
        """Wait so many seconds for answers to a request."""
        self._open[pending.id] = pending
        self._wheel.set_after(pending, seconds)

    def close(self, pending: Pending) -> None:
        """Wait no longer."""
        if self._open.pop(pending.id, None) is not None:
            self._wheel.cancel(pending)

    def drop(self, id: int) -> None:
        """Wait no longer, and tell nobody; nothing happens if the request has ended."""
        pending = self._open.get(id)
        if pending is not None:
            self.close(pending)

    def take(self, answer: Answer, sender: NodeId) -> bool:
        """Hand an answer to who waits for it; False if nobody does."""
        pending = self._open.get(answer.id)
        if pending is None:
            return False
        pending.answered(answer, sender)
        return True

    def end(self, id: int, status: str) -> None:
        """End a request without an answer; nothing happens if it has ended."""
        pending = self._open.get(id)
        if pending is not None:
            pending.end(status)

    def gone(self, node: NodeId) -> None:
        """Let nobody wait for a node whose lease has ended."""
        for pending in tuple(self._open.values()):
            pending.gone(node)

    def close_all(self, status: str) -> None:
        """End all requests."""
        for pending in tuple(self._open.values()):
            pending.end(status)
