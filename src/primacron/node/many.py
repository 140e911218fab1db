"""Sending to many sessions of other nodes, and counting who got it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.finder import Finder
from primacron.cluster.outgoing import Dispatch, Fate, Note
from primacron.cluster.requests import UNSENT, Pending, Requests
from primacron.cluster.wire import NO_ID, Answer, DisconnectMany, How, Request, ToAccount, ToEveryone, Who
from primacron.content import Content
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

    def numbered(self, manner: Manner) -> Manner:
        """Return the manner of a send that has a number, so that a session which moves gets it once."""
        serial = (self._cluster.node, self._cluster.next_serial())
        return Manner(manner.volatile, manner.key, manner.left_out, serial)

    def to_account(
        self, account: AccountId, content: Content, manner: Manner, here: int, *, receipt: bool
    ) -> Delivery[Reach]:
        """Send to the sessions of an account."""
        packed, how = content.pack(), _how(manner)

        def make(number: int) -> Request:
            return ToAccount(number, *_fields(manner), account, msgspec.Raw(packed), how)

        return self._ask_holders(account, make, here, receipt=receipt)

    def to_everyone(self, content: Content, manner: Manner, here: int, *, receipt: bool) -> Delivery[Reach]:
        """Send to all sessions."""
        packed, how = content.pack(), _how(manner)

        def make(number: int) -> Request:
            return ToEveryone(number, *_fields(manner), msgspec.Raw(packed), how)

        return self._ask_all(make, here, receipt=receipt, is_large=len(packed) > MAX_FOR_ALL)

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

    def _ask_all(self, make: Make, here: int, *, receipt: bool, is_large: bool = False) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        if not self._cluster.link.is_reachable:
            delivery.settle(self._unreached(here))
        elif is_large:
            # To each node by itself, so that each takes it at its own pace; once it is known whether anybody awaits it.
            self._hub.loop.call_soon(self._ask_each, frozenset(self._cluster.others()), make, here, delivery)
        else:
            self._cluster.send(None, _ToAll(self, make, delivery, here))
        return delivery

    def _ask_holders(self, account: AccountId, make: Make, here: int, *, receipt: bool) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        self._run(self._find_holders(account, make, here, delivery))
        return delivery

    async def _find_holders(self, account: AccountId, make: Make, here: int, delivery: Delivery[Reach]) -> None:
        try:
            entries = await self._finder.sessions(account)
        except BackendUnavailable:
            delivery.settle(self._unreached(here))
        else:
            nodes = frozenset(entry.node for entry in entries)
            self._ask_each(nodes - {self._cluster.node}, make, here, delivery)

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
