"""Requests to other nodes that await an answer, each with a deadline."""

from __future__ import annotations

import itertools
import secrets
from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from primacron.cluster.items import Answer
from primacron.ids import NodeId
from primacron.wheel import NEVER, Timed, Wheel

#: Local statuses, which no node sends: why there is no answer.
TIMED_OUT: Final = "timed_out"
NODE_GONE: Final = "node_gone"
UNSENT: Final = "unsent"
UNSUPPORTED: Final = "unsupported"

#: Called once with the answer; if none arrived, with the request's id and one of the statuses above.
Settled: TypeAlias = Callable[[Answer], None]


class Pending(Timed):
    """A request that awaits its answer, or more of several answers."""

    __slots__ = ("id", "requests")

    def __init__(self, requests: Requests, id: int) -> None:
        self.bucket = None
        self.due = NEVER
        self.place = 0
        self.requests = requests
        self.id = id

    def on_due(self, now: float) -> None:
        """Time out."""
        self.end(TIMED_OUT)

    @abstractmethod
    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Handle an answer; ``sender`` is None if it was generated locally."""

    @abstractmethod
    def gone(self, node: NodeId) -> None:
        """Note that a node will not answer any more."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Stop waiting, with a status that tells why."""


class One(Pending):
    """A request to a single node."""

    __slots__ = ("_node", "_settled")

    def __init__(self, requests: Requests, id: int, node: NodeId, settled: Settled) -> None:
        super().__init__(requests, id)
        self._node = node
        self._settled = settled

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Settle the request."""
        self.requests.close(self)
        self._settled(answer)

    def gone(self, node: NodeId) -> None:
        """End the request if it was sent to this node."""
        if node == self._node:
            self.end(NODE_GONE)

    def end(self, status: str) -> None:
        """Settle the request with a locally generated answer."""
        self.answered(Answer(self.id, status), None)


class Requests:
    """The open requests of this node, by id."""

    __slots__ = ("_ids", "_open", "_wheel")

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._open: dict[int, Pending] = {}
        # A random start: an answer to a request of an earlier process must not match one of ours.
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
        """Wait up to ``seconds`` for the answers to a request."""
        self._open[pending.id] = pending
        self._wheel.set_after(pending, seconds)

    def close(self, pending: Pending) -> None:
        """Remove a request and cancel its deadline."""
        if self._open.pop(pending.id, None) is not None:
            self._wheel.cancel(pending)

    def drop(self, id: int) -> None:
        """Abandon a request without settling it; does nothing if it has ended."""
        pending = self._open.get(id)
        if pending is not None:
            self.close(pending)

    def take(self, answer: Answer, sender: NodeId) -> bool:
        """Deliver an answer to its request; return False if there is none."""
        pending = self._open.get(answer.id)
        if pending is None:
            return False
        pending.answered(answer, sender)
        return True

    def end(self, id: int, status: str) -> None:
        """End a request without an answer; does nothing if it has ended."""
        pending = self._open.get(id)
        if pending is not None:
            pending.end(status)

    def gone(self, node: NodeId) -> None:
        """Tell every request that a node's lease has expired."""
        for pending in tuple(self._open.values()):
            pending.gone(node)

    def close_all(self, status: str) -> None:
        """End all requests."""
        for pending in tuple(self._open.values()):
            pending.end(status)
