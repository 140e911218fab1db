"""Where a message goes: one session, one account, or everyone. All have the same methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from primacron.dialects.base import Dialect
from primacron.errors import SessionGone
from primacron.ids import AccountId, NodeId, SessionId
from primacron.protocol.closing import FORCED_CLOSE, forced
from primacron.protocol.engine import ENDED
from primacron.protocol.parcels import Parcel
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Delivery, Reach, Receipt
from primacron.sessions.session import Session

if TYPE_CHECKING:
    from primacron.node import Node
    from primacron.sessions.connection import Connection

#: Sessions that a send to many leaves out.
Except: TypeAlias = Session | Iterable[Session] | None

Outcome = TypeVar("Outcome", Receipt, Reach)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session somewhere in the cluster."""

    account: AccountId
    id: SessionId
    node: NodeId


class Content(ABC):
    """What is sent, before it is known which dialects its receivers speak."""

    @abstractmethod
    def write(self, dialect: Dialect) -> Parcel:
        """Return it in a dialect."""


@dataclass(frozen=True, slots=True)
class Event(Content):
    """An event with its arguments."""

    name: str
    args: tuple[Any, ...]

    def write(self, dialect: Dialect) -> Parcel:
        """Return the event in a dialect."""
        return dialect.write_event(self.name, self.args)


@dataclass(frozen=True, slots=True)
class Message(Content):
    """A forwarded message: an object with ``event`` goes out as it is, anything else as the event ``message``."""

    content: Any

    def write(self, dialect: Dialect) -> Parcel:
        """Return the message in a dialect."""
        return dialect.write_message(self.content)


class Target(ABC, Generic[Outcome]):
    """Somewhere to send to."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def emit(
        self, event: str, *args: Any, except_: Except = None, volatile: bool = False, receipt: bool = False
    ) -> Delivery[Outcome]:
        """
        Send an event; what a tick sends leaves at its end.

        ``except_`` names sessions to leave out. ``volatile`` drops the event for
        clients that take no data now. For ``receipt`` see :class:`Delivery`.

        Raises:
            TypeError: if an argument cannot be encoded, or ``except_`` names no sessions.
            ValueError: if the server's dialect has no such event.
            WrongThread: if called from another thread than the server's.

        """
        self._node.hub.demand_thread("emit")
        return self.send(Event(event, args), except_=except_, volatile=volatile, receipt=receipt)

    def send(
        self, content: Content, *, except_: Except = None, volatile: bool = False, receipt: bool = False
    ) -> Delivery[Outcome]:
        """Send content; see :meth:`emit`."""
        outcome = self.deliver(content, except_=except_, volatile=volatile)
        return self._node.hub.delivered(outcome, requested=receipt)

    @abstractmethod
    def deliver(self, content: Content, *, except_: Except = None, volatile: bool = False) -> Outcome:
        """Send content and return what became of it; see :meth:`emit`."""

    @abstractmethod
    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Outcome]:
        """
        Close the connections; clients and ``disconnection`` get the reason.

        Raises:
            WrongThread: if called from another thread than the server's.

        """

    @abstractmethod
    async def sessions(self) -> list[SessionInfo]:
        """Return the sessions, wherever they are."""


class SessionTarget(Target[Receipt]):
    """One session."""

    def __init__(self, node: Node, account: str, id: str) -> None:
        super().__init__(node)
        self.account = AccountId(account)
        self.id = SessionId(id)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for the client's answer; see :meth:`Session.call`."""
        session = self._find()
        if session is None:
            raise SessionGone(self.id)
        return await session.call(event, *args, timeout=timeout)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Receipt]:
        """See :meth:`Target.disconnect`."""
        self._node.hub.demand_thread("disconnect")
        session = self._find()
        if session is not None:
            session.disconnect(reason)
        return self._node.hub.delivered(ACCEPTED if session else UNKNOWN_SESSION, requested=False)

    async def sessions(self) -> list[SessionInfo]:
        """See :meth:`Target.sessions`."""
        entry = await self._node.registry.find(self.account, self.id)
        return [] if entry is None else [SessionInfo(self.account, entry.id, entry.node)]

    def deliver(self, content: Content, *, except_: Except = None, volatile: bool = False) -> Receipt:
        """See :meth:`Target.deliver`."""
        left_out = _left_out(except_)
        session = self._find()
        if session is None or session.connection is None:
            content.write(self._node.dialects.main)  # what cannot be encoded is a mistake, whoever is here
            return UNKNOWN_SESSION
        if session in left_out:
            return UNSENT
        if volatile and session.connection.is_stuck:
            self._node.metrics.count("messages_volatile_dropped")
            return UNSENT
        return ACCEPTED if session.connection.send(content.write(session.connection.dialect)) else REFUSED

    def _find(self) -> Session | None:
        return self._node.hub.sessions.get(self.account, self.id)


class ManyTarget(Target[Reach]):
    """Several sessions."""

    @abstractmethod
    def _here(self) -> list[Connection]:
        """Return the connections of those in this process."""

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Reach]:
        """See :meth:`Target.disconnect`."""
        self._node.hub.demand_thread("disconnect")
        connections = [each for each in self._here() if each.phase not in ENDED]
        for connection in connections:
            connection.end(forced(reason))
        return self._node.hub.delivered(Reach(1, len(connections)), requested=False)

    def deliver(self, content: Content, *, except_: Except = None, volatile: bool = False) -> Reach:
        """See :meth:`Target.deliver`."""
        left_out = _left_out(except_)
        here = self._here()
        # All of them before the first is sent: what one dialect cannot write goes to nobody.
        dialects = {each.dialect for each in here} | {self._node.dialects.main}
        parcels = {dialect: content.write(dialect) for dialect in dialects}
        reached = 0
        for connection in here:
            if left_out and connection.session in left_out:
                continue
            if volatile and connection.is_stuck:
                self._node.metrics.count("messages_volatile_dropped")
                continue
            reached += connection.send(parcels[connection.dialect])
        return Reach(1, reached)


class AccountTarget(ManyTarget):
    """All sessions of an account."""

    def __init__(self, node: Node, account: str) -> None:
        super().__init__(node)
        self.account = AccountId(account)

    async def sessions(self) -> list[SessionInfo]:
        """See :meth:`Target.sessions`."""
        entries = await self._node.registry.sessions(self.account)
        return [SessionInfo(self.account, entry.id, entry.node) for entry in entries]

    def _here(self) -> list[Connection]:
        return [each.connection for each in self._node.hub.sessions.of(self.account) if each.connection is not None]


class Everyone(ManyTarget):
    """All sessions."""

    async def sessions(self) -> list[SessionInfo]:
        """See :meth:`Target.sessions`."""
        return [SessionInfo(each.account, each.id, self._node.id) for each in self._node.hub.sessions]

    def _here(self) -> list[Connection]:
        return list(self._node.hub.connections.values())


def _left_out(sessions: Except) -> frozenset[Session]:
    if sessions is None:
        return frozenset()
    left_out = frozenset({sessions} if isinstance(sessions, Session) else sessions)
    for each in left_out:
        if not isinstance(each, Session):  # an id would leave out nobody, and nobody would know
            raise TypeError(f"except_: expected a Session or several, got {each!r}")
    return left_out
