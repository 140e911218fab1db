"""Sending to many sessions of other nodes, and counting who got it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.finder import Finder
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.requests import TIMED_OUT, UNSENT
from primacron.cluster.wire import NO_ID, DisconnectMany, How, Request, ToAccount, ToEveryone, Who
from primacron.entries import Name
from primacron.ids import AccountId, NodeId
from primacron.node.line import MAX_FOR_ALL, Line, Send
from primacron.node.local import Manner
from primacron.node.tally import Make, Reached, Share, Tally
from primacron.receipts import Delivery, Reach
from primacron.sessions.extras import Serial
from primacron.sessions.hub import Hub


class _ToAll(Dispatch):
    """A request on its way to all other nodes."""

    __slots__ = ("_many", "_send", "_tally")

    def __init__(self, many: Many, send: Send) -> None:
        self._many = many
        self._send = send
        self._tally: Tally | None = None

    def encode(self) -> bytes:
        """See :meth:`Dispatch.encode`."""
        self._tally = self._many.tally(self._send.delivery, self._send.here)
        return encode_item(self._send.make(NO_ID if self._tally is None else self._tally.id))

    def left(self, fate: Fate, nodes: int) -> None:
        """See :meth:`Dispatch.left`."""
        if self._tally is None:
            return
        if fate is Fate.SENT:
            self._many.published(self._tally, nodes)
        elif fate is not Fate.UNSURE:
            self._tally.end(UNSENT)


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
        self._line = Line(hub, cluster, self.tally, self._to_all, self._not_reached, run)
        #: Sends to all of which it is not known yet who should hear them, and to how many nodes each was handed.
        self._published: list[tuple[Tally, int]] = []
        self._is_checking = False
        #: Sends to accounts of which it is not known yet who holds their sessions.
        self._waiting: dict[AccountId, list[Send]] = {}

    def numbered(self, manner: Manner) -> Manner:
        """Return the manner of a send that has a number, so that a session which moves gets it once."""
        serial = (self._cluster.node, self._cluster.next_serial())
        return Manner(manner.volatile, manner.key, manner.left_out, serial)

    def to_account(
        self, account: AccountId, packed: bytes, manner: Manner, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Send packed content to the sessions of an account."""
        how = _how(manner)

        def make(number: int) -> Request:
            return ToAccount(number, *_fields(manner), account, msgspec.Raw(packed), how)

        return self._ask_holders(account, make, here, receipt=receipt, serial=manner.serial)

    def to_everyone(self, packed: bytes, manner: Manner, here: Reached, *, receipt: bool) -> Delivery[Reach]:
        """Send packed content to all sessions."""
        how = _how(manner)

        def make(number: int) -> Request:
            return ToEveryone(number, *_fields(manner), msgspec.Raw(packed), how)

        return self._ask_all(make, here, receipt=receipt, size=len(packed))

    def disconnect(self, account: AccountId | None, reason: str, here: Reached) -> Delivery[Reach]:
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
            BackendUnavailable: if a node does not answer, or not all nodes are known for certain.

        """
        is_known = await self._cluster.meet()
        nodes = [*self._cluster.hearers()]
        answers = await asyncio.gather(
            *(
                self._cluster.asked(node, lambda number: Who(number, self._cluster.node), self._timeout)
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

    def _ask_all(self, make: Make, here: Reached, *, receipt: bool, size: int = 0) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        send = Send(make, here, delivery, size)
        if not self._cluster.link.is_reachable:
            self._not_reached(send)
        elif size > MAX_FOR_ALL or self._line.is_open:
            self._line.send(send)
        else:
            self._to_all(send)
        return delivery

    def _to_all(self, send: Send) -> None:
        self._cluster.send(None, _ToAll(self, send))

    def published(self, tally: Tally, nodes: int) -> None:
        """Take note to how many nodes something was handed; who should have heard it is known from now on."""
        self._published.append((tally, nodes))
        if not self._is_checking:
            self._is_checking = True
            self._run(self._check_hearers())

    async def _check_hearers(self) -> None:
        """Find out who should have heard: some node may have begun to have sessions since the leases were read."""
        try:
            while self._published:
                published, self._published = self._published, []
                is_known = await self._cluster.check_hearers()
                for tally, nodes in published:
                    self._expect(tally, nodes, is_known=is_known)
        finally:
            self._is_checking = False

    def _expect(self, tally: Tally, nodes: int, *, is_known: bool) -> None:
        if not is_known:
            tally.doubt()
        tally.expect(self._cluster.hearers(), nodes)
        if not self._cluster.bus.hearing:
            tally.end(TIMED_OUT)  # no answer is heard either

    # The holders of an account

    def _ask_holders(
        self, account: AccountId, make: Make, here: Reached, *, receipt: bool, serial: Serial | None = None
    ) -> Delivery[Reach]:
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        send = Send(make, here, delivery, serial=serial)
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
        sends: list[Send] = []
        try:
            while waiting:
                sends, waiting[:] = [*waiting], []
                entries, is_certain = await self._finder.sessions(account)
                nodes = {entry.node for entry in entries} - {self._cluster.node}
                while sends:
                    send = sends.pop(0)
                    self._ask_each(nodes, send, is_certain=is_certain and not self._has_missed(account, send))
        except BackendUnavailable:
            pass
        finally:
            del self._waiting[account]
            for send in (*sends, *waiting):
                self._not_reached(send)

    def _has_missed(self, account: AccountId, send: Send) -> bool:
        """Tell whether a session has come here after something was sent to those that were here."""
        return any(
            session in self._hub.moving and send.serial not in session.extras.recent
            for session in self._hub.sessions.of(account)
        )

    def _ask_each(self, nodes: set[NodeId], send: Send, *, is_certain: bool) -> None:
        tally = self.tally(send.delivery, send.here)
        item = send.make(NO_ID if tally is None else tally.id)
        if tally is not None:
            if not is_certain:
                tally.doubt()
            tally.expect(nodes)
        for node in nodes:
            self._cluster.send(node, Share(item, node, tally))

    # Reaches

    def _not_reached(self, send: Send) -> None:
        """Let a send have reached those that are here; when no other node is known, there may be one."""
        missing = max(1, len(self._cluster.hearers()))
        send.delivery.settle(Reach(1, send.here.sessions, certain=False, missing=missing))

    def tally(self, delivery: Delivery[Reach], here: Reached) -> Tally | None:
        """Count the answers to a request, if anybody wants to know."""
        if not delivery.wanted:
            return None
        requests = self._cluster.requests
        tally = Tally(self._cluster, requests.next_id(), delivery, here)
        requests.open(tally, self._timeout)
        return tally


def _fields(manner: Manner) -> tuple[NodeId, int]:
    assert manner.serial is not None
    return manner.serial


def _how(manner: Manner) -> How:
    return How([*manner.left_out], manner.volatile, manner.key or "")
