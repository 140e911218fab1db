"""The destination of a message: one session, an account, channels, or everyone. All have the same methods."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from primacron.content import AnyContent, Event
from primacron.entries import Name
from primacron.errors import CallRefused, CallTimedOut, SessionGone, SessionUnreachable
from primacron.ids import AccountId, NodeId, SessionId
from primacron.natives import as_name
from primacron.protocol.close_reasons import FORCED_CLOSE
from primacron.receipts import Delivery, Reach, Receipt
from primacron.routing.acts import Count, Deliver, Disconnect, Join, Leave
from primacron.routing.audience import EVERYONE, Account, Audience, Channels
from primacron.routing.options import PLAIN, SendOptions
from primacron.routing.router import Router
from primacron.sessions.session import Session


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session somewhere in the cluster."""

    account: AccountId
    id: SessionId
    node: NodeId


@dataclass(frozen=True, slots=True)
class CallResult:
    """
    What became of a call to one of several sessions.

    ``status`` is ``answered`` (``value`` is the answer, as :meth:`Session.call` returns it),
    ``refused`` (``value`` is the :class:`CallRefused`), ``left`` (the session has ended), or
    ``missing`` (no answer in time, from the client or its server; or its dialect has no answers).
    """

    account: AccountId
    session: SessionId
    status: str
    value: Any = None


#: Sessions excluded from a send to many; of a target of channels, their members.
Left: TypeAlias = "Session | SessionTarget | SessionInfo | ChannelsTarget"
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

        ``except_`` names sessions to exclude, or channels, whose members are excluded.
        ``volatile`` drops the event for clients that cannot take data right now. For
        ``receipt`` see :class:`Delivery`. ``key`` makes the send idempotent: for 60 seconds
        a session remembers the keys it has received, and
        takes none of them twice.

        Raises:
            TypeError: if ``event`` is not a string, an argument cannot be encoded, or
                ``except_`` contains anything but sessions and channels.
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
    def join(self, channel: str, info: Any = None) -> Delivery[Outcome]:
        """
        Put the sessions that exist now into a channel; see :meth:`Session.join`.

        The count of the outcome is that of the sessions that are in the channel then.

        Raises:
            TypeError: if the name is not a string, or ``info`` cannot be encoded.
            ValueError: if no channel may have this name, or ``info`` is too large.
            WrongThread: if called from a thread other than the server's.

        """

    @abstractmethod
    def leave(self, channel: str) -> Delivery[Outcome]:
        """Take the sessions out of a channel; see :meth:`join` for the errors."""

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
        options = read_options(except_, volatile=volatile, key=key)
        return self._router.send((self.account, self.id), content, options, receipt=receipt)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Receipt]:
        """Close the session's connection; see :meth:`Target.disconnect`."""
        self._router.hub.demand_thread("disconnect")
        return self._router.disconnect((self.account, self.id), as_name(reason, "reason"))

    def join(self, channel: str, info: Any = None) -> Delivery[Receipt]:
        """Put the session into a channel; see :meth:`Target.join`."""
        hub = self._router.hub
        hub.demand_thread("join")
        return hub.channels.change((self.account, self.id), channel, info, joins=True)

    def leave(self, channel: str) -> Delivery[Receipt]:
        """Take the session out of a channel; see :meth:`Target.leave`."""
        hub = self._router.hub
        hub.demand_thread("leave")
        return hub.channels.change((self.account, self.id), channel, None, joins=False)

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
        act = Deliver(content, read_options(except_, volatile=volatile, key=key))
        return self._router.apply(self._audience, act, receipt=receipt)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> Delivery[Reach]:
        """Close all their connections; see :meth:`Target.disconnect`."""
        self._router.hub.demand_thread("disconnect")
        return self._router.apply(self._audience, Disconnect(as_name(reason, "reason")))

    def join(self, channel: str, info: Any = None) -> Delivery[Reach]:
        """Put them into a channel; see :meth:`Target.join`."""
        hub = self._router.hub
        hub.demand_thread("join")
        return self._router.apply(self._audience, Join(hub.channels.read_name(channel), hub.channels.pack_info(info)))

    def leave(self, channel: str) -> Delivery[Reach]:
        """Take them out of a channel; see :meth:`Target.leave`."""
        hub = self._router.hub
        hub.demand_thread("leave")
        return self._router.apply(self._audience, Leave(hub.channels.read_name(channel)))

    async def count(self) -> Reach:
        """Count the sessions, on all nodes; see :class:`Reach` for how certain that is."""
        return await self._router.apply(self._audience, Count(), receipt=True)

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> list[CallResult]:
        """
        Call each session, and return what became of each call; see :meth:`Session.call`.

        Raises:
            TypeError: if ``event`` is not a string, or an argument cannot be encoded.
            ValueError: if a number is too large for other servers.
            BackendUnavailable: if the sessions cannot be determined now.

        """
        name = as_name(event, "event")
        Event(name, args).pack(self._router.hub.encoding)
        sessions = await self.sessions()
        return [*await asyncio.gather(*(self._call(each, name, args, timeout) for each in sessions))]

    async def _call(self, who: SessionInfo, event: str, args: tuple[Any, ...], timeout: float | None) -> CallResult:
        status, value = "answered", None
        try:
            value = await self._router.call((who.account, who.id), event, args, timeout)
        except CallRefused as refusal:
            status, value = "refused", refusal
        except SessionGone:
            status = "left"
        except (CallTimedOut, SessionUnreachable, ValueError):
            status = "missing"
        return CallResult(who.account, who.id, status, value)

    async def sessions(self) -> list[SessionInfo]:
        """Return the sessions; every server is asked, so this is meant for small clusters and for operators."""
        found = await self._router.names(self._audience)
        return [SessionInfo(account, id, node) for (account, id), node in found]


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


class ChannelsTarget(ManyTarget):
    """The members of one or more channels, each once."""

    def __init__(self, router: Router, names: tuple[str, ...]) -> None:
        super().__init__(router)
        if not names:
            raise TypeError("expected the name of a channel, or several; got none")
        #: The names of the channels, each once.
        self.names = tuple(dict.fromkeys(map(router.hub.channels.read_name, names)))
        self._audience = Channels(self.names)


def read_options(except_: Except, *, volatile: bool, key: str | None) -> SendOptions:
    """
    Return the options of a send; see :meth:`Target.emit` for the parameters.

    Raises:
        TypeError: if ``except_`` contains anything but sessions and channels, or ``key`` is not a string.

    """
    if except_ is None and not volatile and key is None:
        return PLAIN
    names, channels = _read_except(except_)
    return SendOptions(volatile, None if key is None else as_name(key, "key"), names, channels)


def _read_except(given: Except) -> tuple[frozenset[Name], frozenset[str]]:
    """Return the names of the sessions to exclude, and those of the channels whose members are to be excluded."""
    if given is None:
        return frozenset(), frozenset()
    one = (Session, SessionTarget, SessionInfo, ChannelsTarget)
    each = [given] if isinstance(given, one) else [*given]
    for left in each:
        if not isinstance(left, one):  # an id would exclude nobody
            raise TypeError(f"except_: expected a Session or several, or channels, got {left!r}")
    channels = frozenset(name for left in each if isinstance(left, ChannelsTarget) for name in left.names)
    return frozenset((left.account, left.id) for left in each if not isinstance(left, ChannelsTarget)), channels
