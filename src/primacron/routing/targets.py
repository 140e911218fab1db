"""The destination of a message: one session, one account, or everyone. All have the same methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from primacron.content import AnyContent, Event
from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId
from primacron.natives import as_name
from primacron.protocol.close_reasons import FORCED_CLOSE
from primacron.receipts import Delivery, Reach, Receipt
from primacron.routing.acts import Deliver, Disconnect
from primacron.routing.audience import EVERYONE, Account, Audience
from primacron.routing.options import PLAIN, SendOptions
from primacron.routing.router import Router
from primacron.sessions.session import Session


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session somewhere in the cluster."""

    account: AccountId
    id: SessionId
    node: NodeId


#: Sessions excluded from a send to many.
Left: TypeAlias = "Session | SessionTarget | SessionInfo"
Except: TypeAlias = "Left | Iterable[Left] | None"

Outcome = TypeVar("Outcome", Receipt, Reach)


class Target(ABC, Generic[Outcome]):
    """A destination for sends."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def emit(
        self,
        event: str,
        *args: Any,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Outcome]:
        """
        Send an event; all sends of a tick go out at its end.

        ``except_`` names sessions to exclude. ``volatile`` drops the event for clients that
        cannot take data right now. For ``receipt`` see :class:`Delivery`. ``key`` makes the
        send idempotent: for 60 seconds a session remembers the keys it has received, and
        takes none of them twice.

        Raises:
            TypeError: if ``event`` is not a string, an argument cannot be encoded, or
                ``except_`` contains anything but sessions.
            ValueError: if the server's dialect cannot express the event, or a number is too
                large for other servers.
            WrongThread: if called from a thread other than the server's.

        """
        self._router.hub.demand_thread("emit")
        name = event if event.__class__ is str else as_name(event, "event")
        return self.send(Event(name, args), except_=except_, volatile=volatile, receipt=receipt, key=key)

    @abstractmethod
    def send(
        self,
        content: AnyContent,
        *,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Outcome]:
        """Send content; see :meth:`emit` for the parameters and errors."""

    @abstractmethod
    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Outcome]:
        """
        Close the connections; clients and ``disconnection`` listeners get the reason.

        Raises:
            TypeError: if the reason is not a string.
            WrongThread: if called from a thread other than the server's.

        """

    @abstractmethod
    async def sessions(self) -> list[SessionInfo]:
        """
        Return the sessions, on all nodes.

        Raises:
            BackendUnavailable: if the other servers cannot be asked, or may not have
                registered all their sessions yet, as right after an outage.

        """


class SessionTarget(Target[Receipt]):
    """One session."""

    def __init__(self, router: Router, account: str, id: str) -> None:
        super().__init__(router)
        self.account = AccountId(as_name(account, "account"))
        self.id = SessionId(as_name(id, "session"))

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and wait for the client's answer; see :meth:`Session.call`."""
        name = as_name(event, "event")
        return await self._router.call((self.account, self.id), name, args, timeout)

    def send(
        self,
        content: AnyContent,
        *,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Receipt]:
        """Send content to the session; see :meth:`Target.emit` for the parameters and errors."""
        options = _options(except_, volatile=volatile, key=key)
        return self._router.send((self.account, self.id), content, options, receipt=receipt)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Receipt]:
        """Close the session's connection; see :meth:`Target.disconnect`."""
        self._router.hub.demand_thread("disconnect")
        return self._router.disconnect((self.account, self.id), as_name(reason, "reason"))

    async def sessions(self) -> list[SessionInfo]:
        """Return the session, or nothing if it does not exist; see :meth:`Target.sessions`."""
        entry = await self._router.find((self.account, self.id))
        return [] if entry is None else [SessionInfo(self.account, entry.id, entry.node)]


class ManyTarget(Target[Reach]):
    """Several sessions: an audience."""

    _audience: Audience

    def send(
        self,
        content: AnyContent,
        *,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Reach]:
        """Send content to all of them; see :meth:`Target.emit` for the parameters and errors."""
        act = Deliver(content, _options(except_, volatile=volatile, key=key))
        return self._router.apply(self._audience, act, receipt=receipt)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Reach]:
        """Close all their connections; see :meth:`Target.disconnect`."""
        self._router.hub.demand_thread("disconnect")
        return self._router.apply(self._audience, Disconnect(as_name(reason, "reason")))


class AccountTarget(ManyTarget):
    """All sessions of an account."""

    def __init__(self, router: Router, account: str) -> None:
        super().__init__(router)
        self.account = AccountId(as_name(account, "account"))
        self._audience = Account(self.account)

    async def sessions(self) -> list[SessionInfo]:
        """Return the sessions of the account; see :meth:`Target.sessions`."""
        entries = await self._router.entries(self.account)
        return [SessionInfo(self.account, entry.id, entry.node) for entry in entries]


class Everyone(ManyTarget):
    """All sessions."""

    _audience = EVERYONE

    async def sessions(self) -> list[SessionInfo]:
        """Return all sessions; every server is asked, so this is meant for small clusters and for operators."""
        found = await self._router.everyone()
        return [SessionInfo(account, id, node) for (account, id), node in found]


def _options(except_: Except, *, volatile: bool, key: str | None) -> SendOptions:
    if except_ is None and not volatile and key is None:
        return PLAIN
    return SendOptions(volatile, None if key is None else as_name(key, "key"), names_of(except_))


def names_of(sessions: Except) -> frozenset[Name]:
    """Return the names of sessions to exclude."""
    if sessions is None:
        return frozenset()
    each = [sessions] if isinstance(sessions, Session | SessionTarget | SessionInfo) else [*sessions]
    for session in each:
        if not isinstance(session, Session | SessionTarget | SessionInfo):  # an id would exclude nobody
            raise TypeError(f"except_: expected a Session or several, got {session!r}")
    return frozenset((session.account, session.id) for session in each)
