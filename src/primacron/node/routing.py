"""Sending to a session, an account or everyone: what is here at once, what is elsewhere by the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from primacron.content import Content
from primacron.entries import Entry, Name
from primacron.errors import ForwardFailed, SessionGone
from primacron.ids import AccountId, NodeId, Sid
from primacron.node.local import PLAIN, Local, Manner
from primacron.node.tally import Reached
from primacron.protocol.closing import forced
from primacron.protocol.engine import ENDED
from primacron.receipts import ACCEPTED, UNKNOWN_SESSION, Delivery, Reach, Receipt
from primacron.sessions.hub import Hub

if TYPE_CHECKING:
    from primacron.node.afar import Afar
    from primacron.node.following import Following
    from primacron.node.giving import Givings
    from primacron.node.many import Many
    from primacron.sessions.calls import Answer
    from primacron.sessions.connection import Connection


class Router:
    """Sends, wherever the receivers are; without ``afar``, ``many`` and ``givings`` they are all here."""

    __slots__ = ("_hub", "_local", "afar", "following", "givings", "many")

    def __init__(self, hub: Hub, local: Local) -> None:
        self._hub = hub
        self._local = local
        self.afar: Afar | None = None
        self.many: Many | None = None
        self.givings: Givings | None = None
        self.following: Following

    def to_session(
        self,
        name: Name,
        content: Content,
        *,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Receipt]:
        """Send to one session; see :meth:`send`."""
        return self.send(
            name, content, Manner(volatile, key) if volatile or key is not None else PLAIN, receipt=receipt
        )

    def send(self, name: Name, content: Content, manner: Manner, *, receipt: bool) -> Delivery[Receipt]:
        """
        Send to one session in a manner; see :meth:`primacron.targets.Target.emit`.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        afar = self.afar
        if afar is None or not afar.holds(name[0]):
            session = self._hub.live(name)
            if session is not None:
                outcome = self._local.deliver(session, content, manner)
                return self._hub.delivered(outcome, requested=receipt)
        if afar is not None:
            return afar.to_session(name, content, manner, receipt=receipt)
        self._local.check(content)
        delivery: Delivery[Receipt] = self._hub.delivery(requested=receipt)
        delivery.settle(UNKNOWN_SESSION)
        if not receipt:
            self._hub.loop.call_soon(self.report, delivery, UNKNOWN_SESSION, name)
        return delivery

    def report(self, delivery: Delivery[Receipt], outcome: Receipt, name: Name) -> None:
        """Tell of a send that failed and of which nobody wants to know."""
        if not delivery.wanted:
            self._hub.receiver.problem(ForwardFailed(outcome.status, f"session {name[0]}/{name[1]}"), key=name)

    def to_account(
        self, account: AccountId, content: Content, manner: Manner, *, receipt: bool = False
    ) -> Delivery[Reach]:
        """Send to all sessions of an account; see :meth:`to_session` for the errors."""
        if self.many is None:
            reached = self._deliver_here(account, content, manner).sessions
            return self._hub.delivered(Reach(1, reached), requested=receipt)
        # What cannot travel is refused before anybody gets it.
        manner, packed = self.many.numbered(manner), content.pack(self._hub.encoding)
        here = self._deliver_here(account, content, manner)
        return self.many.to_account(account, packed, manner, here, receipt=receipt)

    def to_everyone(self, content: Content, manner: Manner, *, receipt: bool = False) -> Delivery[Reach]:
        """Send to all sessions; see :meth:`to_session` for the errors."""
        if self.many is None:
            reached = self._deliver_here(None, content, manner).sessions
            return self._hub.delivered(Reach(1, reached), requested=receipt)
        manner, packed = self.many.numbered(manner), content.pack(self._hub.encoding)
        here = self._deliver_here(None, content, manner)
        return self.many.to_everyone(packed, manner, here, receipt=receipt)

    def _deliver_here(self, account: AccountId | None, content: Content, manner: Manner) -> Reached:
        if self._hub.overheard:
            self._local.check(content)
            self.following.got_by_many(account, content, manner)
        reached = self._local.deliver_many(self._connections(account), content, manner)
        is_held = self.givings is not None and self.givings.hold_many(account, content, manner)
        return Reached(reached, not is_held)

    # Other things than sending

    async def call(self, name: Name, event: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """Send an event to one session and return what its client answers; see :meth:`Session.call`."""
        session = self._hub.live(name)
        if session is not None:
            return await session.call(event, *args, timeout=timeout)
        if self.afar is None:
            raise SessionGone(name[1])
        seconds = self._hub.options.call_timeout if timeout is None else timeout
        return await self.afar.call(name, event, args, seconds)

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of one session."""
        session = self._hub.live(name)
        if session is not None:
            session.disconnect(reason)
            return self._hub.delivered(ACCEPTED, requested=False)
        if self.afar is None:
            return self._hub.delivered(UNKNOWN_SESSION, requested=False)
        return self.afar.disconnect(name, reason)

    def disconnect_many(self, account: AccountId | None, reason: str) -> Delivery[Reach]:
        """Close the connections of an account, or with None all."""
        connections = [each for each in self._connections(account) if each.phase not in ENDED]
        for connection in connections:
            connection.end(forced(reason))
        givings, is_held = self.givings, False
        if givings is not None:
            is_held = givings.disconnect_many(givings.cluster.node, account, reason)
        if self.many is None:
            return self._hub.delivered(Reach(1, len(connections)), requested=False)
        return self.many.disconnect(account, reason, Reached(len(connections), not is_held))

    def _connections(self, account: AccountId | None) -> list[Connection]:
        if account is None:
            return [*self._hub.connections.values()]
        sessions = self._hub.sessions.of(account)
        return [session.connection for session in sessions if session.connection is not None]

    async def find(self, name: Name) -> Entry | None:
        """
        Return the entry of a session, or None.

        Raises:
            BackendUnavailable: if that cannot be said now.

        """
        session = self._hub.sessions.get(*name)
        if session is not None:
            return session.entry
        return None if self.afar is None else await self.afar.find(name)

    async def entries(self, account: AccountId) -> list[Entry]:
        """
        Return the entries of an account's sessions.

        Raises:
            BackendUnavailable: if the registry cannot be asked, or may not know all of them yet.

        """
        if self.afar is None:
            return [session.entry for session in self._hub.sessions.of(account)]
        return await self.afar.entries(account)

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Hand what a client answered to the node where the call was made."""
        if self.afar is not None:
            self.afar.relay(name, node, number, answer)

    async def whose(self, sid: Sid) -> Name | Receipt:
        """Return the session that has a connection, or what becomes of anything that is sent there."""
        connection = self._hub.connection(sid)
        if connection is not None:
            return connection.session.account, connection.session.id
        return UNKNOWN_SESSION if self.afar is None else await self.afar.whose(sid)

    async def everyone(self) -> list[tuple[Name, NodeId]]:
        """
        Return the names of all sessions with their nodes.

        Raises:
            BackendUnavailable: if some node does not answer.

        """
        here = [((session.account, session.id), session.entry.node) for session in self._hub.sessions]
        return here if self.many is None else here + await self.many.names()
