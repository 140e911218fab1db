"""Sending to many sessions of other nodes, and counting who got it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.finder import Finder
from primacron.cluster.outgoing import Dispatch, Fate, Note
from primacron.cluster.requests import UNSENT, Pending, Requests
from primacron.cluster.wire import NO_ID, Answer, DisconnectMany, Fence, How, Request, ToAccount, ToEveryone, Who
from primacron.entries import Name
from primacron.ids import AccountId, NodeId
from primacron.node.local import Manner
from primacron.receipts import Delivery, Reach
from primacron.sessions.hub import Hub

#: Makes a request from its id.
Make: TypeAlias = Callable[[int], Request]

#: Bytes of content that is sent to all nodes at once.
MAX_FOR_ALL: Final = 200_000


class Tally(Pending):
    """The answers to a send to many, counted until all have come."""

    __slots__ = ("_answered", "_asked", "_delivery", "_expected", "_here", "_missing", "_sessions")

    def __init__(
        self, requests: Requests, id: int, delivery: Delivery[Reach], here: int, asked: frozenset[NodeId] | None
    ) -> None:
        super().__init__(requests, id)
        self._delivery = delivery
        self._here = here
        #: The nodes that were asked, if that is known, and how many they are, if that is.
        self._asked = asked
        self._expected = None if asked is None else len(asked)
        self._answered: set[NodeId] = set()
        self._missing: set[NodeId] = set()
        self._sessions = 0

    def expect(self, nodes: int) -> None:
        """Take note how many nodes were asked."""
        self._expected = nodes
        self.look()

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """See :meth:`Pending.answered`."""
        if sender is None or sender in self._answered:
            return
        self._answered.add(sender)
        if answer.status == "accepted":
            self._sessions += msgspec.msgpack.decode(answer.value, type=int)
        self.look()

    def gone(self, node: NodeId) -> None:
        """See :meth:`Pending.gone`."""
        if node not in self._answered and (self._asked is None or node in self._asked):
            self._missing.add(node)
            self.look()

    def look(self) -> None:
        """End, if all that can come has come."""
        if self._expected is not None and len(self._answered) + len(self._missing) >= self._expected:
            self._finish(len(self._missing - self._answered))

    def end(self, status: str) -> None:
        """See :meth:`Pending.end`."""
        expected = self._expected if self._expected is not None else len(self._answered) + 1
        self._finish(expected - len(self._answered))

    def _finish(self, missing: int) -> None:
        self.requests.close(self)
        sessions = self._here + self._sessions
        self._delivery.settle(Reach(1 + len(self._answered), sessions, certain=missing <= 0, missing=max(0, missing)))


class _ToAll(Dispatch):
    """A request on its way to all other nodes."""

    __slots__ = ("_delivery", "_here", "_make", "_many", "_tally")

    def __init__(self, many: Many, make: Make, delivery: Delivery[Reach], here: int) -> None:
        self._many = many
        self._make = make
        self._delivery = delivery
        self._here = here
        self._tally: Tally | None = None

    def encode(self) -> bytes:
        """See :meth:`Dispatch.encode`."""
        self._tally = self._many.tally(self._delivery, self._here, None)
        return encode_item(self._make(NO_ID if self._tally is None else self._tally.id))

    def left(self, fate: Fate, nodes: int) -> None:
        """See :meth:`Dispatch.left`."""
        if self._tally is None:
            return
        if fate is Fate.SENT:
            self._tally.expect(nodes)
        elif fate is not Fate.UNSURE:
            self._tally.expect(self._many.others)
            self._tally.end(UNSENT)


class _Share(Note):
    """One node's share of a request to several."""

    __slots__ = ("_node", "_tally")

    def __init__(self, item: Request, node: NodeId, tally: Tally | None) -> None:
        super().__init__(item)
        self._node = node
        self._tally = tally

    def left(self, fate: Fate, nodes: int) -> None:
        """See :meth:`Dispatch.left`."""
        if self._tally is not None and fate not in (Fate.SENT, Fate.UNSURE):
            self._tally.gone(self._node)


class _Send:
    """A send that waits for its turn, and the bytes of what it sends."""

    __slots__ = ("delivery", "here", "make", "size")

    def __init__(self, make: Make, here: int, delivery: Delivery[Reach], size: int = 0) -> None:
        self.make = make
        self.here = here
        self.delivery = delivery
        self.size = size


class Many:
    """Sends to the sessions of an account, or to all, on other nodes; ``here`` is how many this one has reached."""

    def __init__(
        self, hub: Hub, cluster: Cluster, finder: Finder, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self._finder = finder
        self._run = run
        self._timeout = hub.options.receipt_timeout
        #: Sends to all that wait for one which is large.
        self._line: deque[_Send] = deque()
        self._line_size = 0
        #: Sends to accounts of which it is not known yet who holds their sessions.
        self._waiting: dict[AccountId, list[_Send]] = {}

    def numbered(self, manner: Manner) -> Manner:
        """Return the manner of a send that has a number, so that a session which moves gets it once."""
        serial = (self._cluster.node, self._cluster.next_serial())
        return Manner(manner.volatile, manner.key, manner.left_out, serial)

    def to_account(
        self, account: AccountId, packed: bytes, manner: Manner, here: int, *, receipt: bool
    ) -> Delivery[Reach]:
        """Send packed content to the sessions of an account."""
        how = _how(manner)

        def make(number: int) -> Request:
            return ToAccount(number, *_fields(manner), account, msgspec.Raw(packed), how)

        return self._ask_holders(account, make, here, receipt=receipt)

    def to_everyone(self, packed: bytes, manner: Manner, here: int, *, receipt: bool) -> Delivery[Reach]:
        """Send packed content to all sessions."""
        how = _how(manner)

        def make(number: int) -> Request:
            return ToEveryone(number, *_fields(manner), msgspec.Raw(packed), how)

        return self._ask_all(make, here, receipt=receipt, size=len(packed))

    def disconnect(self, account: AccountId | None, reason: str, here: int) -> Delivery[Reach]:
        """Close the connections of an account, or with None all."""

        def make(number: int) -> Request:
            return DisconnectMany(number, self._cluster.node, account, reason)

        if account is None:
            return self._ask_all(make, here, receipt=False)
        return self._ask_holders(account, make, here, receipt=False)

    async def names(self) -> list[tuple[Name, NodeId]]:
        """
        Return the names of all sessions with their nodes.

        Raises:
            BackendUnavailable: if a node does not answer.

        """
        await self._cluster.meet()
        nodes = [*self._cluster.others()]
        answers = await asyncio.gather(
            *(
                self._cluster.asked(node, lambda number: Who(number, self._cluster.node), self._timeout)
                for node in nodes
            )
        )
        found: list[tuple[Name, NodeId]] = []
        for node, answer in zip(nodes, answers, strict=True):
            if answer.status != "accepted":
                raise BackendUnavailable(f"node {node} does not tell its sessions: {answer.status}")
            found += [(name, node) for name in msgspec.msgpack.decode(answer.value, type=list[Name])]
        return found

    # Whom to ask

    def _ask_all(self, make: Make, here: int, *, receipt: bool, size: int = 0) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        if not self._cluster.link.is_reachable:
            delivery.settle(self._unreached(here))
        elif size > MAX_FOR_ALL or self._line:
            self._stand_in_line(_Send(make, here, delivery, size))
        else:
            self._cluster.send(None, _ToAll(self, make, delivery, here))
        return delivery

    def _stand_in_line(self, send: _Send) -> None:
        """
        Send something large to each node by itself, so that each takes it at its own pace.

        That is another way than others take: to keep their order, nothing is sent
        on the one before all has come that went the other one.
        """
        if self._line_size + send.size > self._hub.options.outbox_total:
            send.delivery.settle(self._unreached(send.here))
            return
        self._line.append(send)
        self._line_size += send.size
        if len(self._line) == 1:
            # In a later tick: whoever sends can ask for the reach until the end of this one.
            self._hub.loop.call_soon(lambda: self._run(self._serve_line()))

    async def _serve_line(self) -> None:
        try:
            while self._line:
                send = self._line[0]
                if send.size > MAX_FOR_ALL:
                    await self._send_large(send)
                else:
                    self._cluster.send(None, _ToAll(self, send.make, send.delivery, send.here))
                self._line_size -= self._line.popleft().size
        finally:
            for send in self._line:
                send.delivery.settle(self._unreached(send.here))
            self._line.clear()
            self._line_size = 0

    async def _send_large(self, send: _Send) -> None:
        fence: Delivery[Reach] = self._hub.delivery(requested=True)
        self._cluster.send(None, _ToAll(self, lambda number: Fence(number, self._cluster.node), fence, 0))
        await fence
        counted: Delivery[Reach] = self._hub.delivery(requested=True)
        self._ask_each(frozenset(self._cluster.others()), send.make, send.here, counted)
        send.delivery.settle(await counted)

    def _ask_holders(self, account: AccountId, make: Make, here: int, *, receipt: bool) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        send = _Send(make, here, delivery)
        waiting = self._waiting.get(account)
        if waiting is not None:
            waiting.append(send)
        else:
            self._waiting[account] = [send]
            self._hub.loop.call_soon(lambda: self._run(self._find_holders(account)))
        return delivery

    async def _find_holders(self, account: AccountId) -> None:
        """Look up who holds sessions of an account, for all that wait; what comes meanwhile waits for the next look."""
        waiting = self._waiting[account]
        sends: list[_Send] = []
        try:
            while waiting:
                sends, waiting[:] = [*waiting], []
                entries = await self._finder.sessions(account)
                nodes = frozenset(entry.node for entry in entries) - {self._cluster.node}
                while sends:
                    send = sends.pop(0)
                    self._ask_each(nodes, send.make, send.here, send.delivery)
        except BackendUnavailable:
            pass
        finally:
            del self._waiting[account]
            for send in (*sends, *waiting):
                send.delivery.settle(self._unreached(send.here))

    def _ask_each(self, nodes: frozenset[NodeId], make: Make, here: int, delivery: Delivery[Reach]) -> None:
        tally = self.tally(delivery, here, nodes)
        item = make(NO_ID if tally is None else tally.id)
        for node in nodes:
            self._cluster.send(node, _Share(item, node, tally))
        if tally is not None:
            tally.look()

    def _unreached(self, here: int) -> Reach:
        return Reach(1, here, certain=False, missing=self.others)

    @property
    def others(self) -> int:
        """How many other nodes there are; when none is known, there may be one."""
        return max(1, len(self._cluster.others()))

    def tally(self, delivery: Delivery[Reach], here: int, asked: frozenset[NodeId] | None) -> Tally | None:
        """Count the answers to a request, if anybody wants to know."""
        if not delivery.wanted:
            return None
        requests = self._cluster.requests
        tally = Tally(requests, requests.next_id(), delivery, here, asked)
        requests.open(tally, self._timeout)
        return tally


def _fields(manner: Manner) -> tuple[NodeId, int]:
    assert manner.serial is not None
    return manner.serial


def _how(manner: Manner) -> How:
    return How([*manner.left_out], manner.volatile, manner.key or "")
