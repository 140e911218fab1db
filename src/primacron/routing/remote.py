"""
The router's interfaces to the other nodes, and their implementation for a single node.

In a cluster :mod:`primacron.routing.remote_session` sends to one session, and
:mod:`primacron.routing.remote_audience` to many: an account, a channel, everyone.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from primacron.content import Content
from primacron.entries import Entry, Name
from primacron.errors import SessionGone
from primacron.ids import AccountId, NodeId, Sid
from primacron.receipts import UNKNOWN_SESSION, Delivery, Reach, Receipt
from primacron.routing.acts import Act
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.routing.options import SendOptions
from primacron.routing.reached import Reached
from primacron.sessions.calls import Answer
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Serial


class Remote(Protocol):
    """Sends to single sessions of other nodes; the methods mirror :class:`primacron.routing.router.Router`."""

    def holds(self, account: AccountId) -> bool:
        """Tell whether sends to an account are held, so that later ones must queue behind them."""

    def to_session(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """Send to a session that is not known to be on this node."""

    async def call(self, name: Name, event: str, args: tuple[Any, ...], seconds: float) -> Any:
        """Send an event to a session and return its client's answer."""

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """Send a request to a feature of the session's node, and return the outcome."""

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of a session."""

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Relay a client's answer to the node that made the call."""

    async def find(self, name: Name) -> Entry | None:
        """Return the entry of a session of another node."""

    async def entries(self, account: AccountId) -> list[Entry]:
        """Return the entries of an account's sessions on all nodes."""

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """Return the session of a connection of another node."""


class Fanout(Protocol):
    """Applies acts to audiences on the other nodes."""

    def pack(self, act: Act) -> tuple[Serial | None, bytes]:
        """Assign an act its serial number, and serialize it."""

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Apply a packed act on the other nodes; ``here`` is the reach on this one."""

    def is_first(self, audience: Audience, serial: Serial) -> bool:
        """Record a send from another node that arrived by topic; tell whether it arrives for the first time."""

    async def names(self, audience: Audience) -> list[tuple[Name, NodeId]]:
        """Return the names of an audience's sessions on other nodes."""


class Deferral(Protocol):
    """Holds acts for those sessions of their audience that are in transit."""

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """Hold an act; return whether it may reach sessions that this node does not count."""


class Nowhere:
    """The other nodes of a single node: none has a session, and nothing is serialized or numbered."""

    def __init__(self, hub: Hub, local: Local) -> None:
        self._hub = hub
        self._local = local

    def holds(self, account: AccountId) -> bool:
        """Return False, as nothing is looked up."""
        return False

    def to_session(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """Report the session as unknown."""
        self._local.check(content)
        delivery: Delivery[Receipt] = self._hub.delivery(requested=receipt)
        delivery.settle(UNKNOWN_SESSION)
        if not receipt:
            self._hub.loop.call_soon(self._hub.report, delivery, UNKNOWN_SESSION, name)
        return delivery

    async def call(self, name: Name, event: str, args: tuple[Any, ...], seconds: float) -> Any:
        """Raise, as the session does not exist."""
        raise SessionGone(name[1])

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """Report the session as unknown."""
        return UNKNOWN_SESSION

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Report the session as unknown."""
        return self._hub.delivered(UNKNOWN_SESSION, requested=False)

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Do nothing, as no other node makes calls."""

    async def find(self, name: Name) -> Entry | None:
        """Return None, as the session does not exist."""
        return None

    async def entries(self, account: AccountId) -> list[Entry]:
        """Return the entries of the account's sessions on this node."""
        return [session.entry for session in self._hub.sessions.of(account)]

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """Report the session as unknown."""
        return UNKNOWN_SESSION

    def pack(self, act: Act) -> tuple[Serial | None, bytes]:
        """Return neither a serial number nor data, as nothing is sent."""
        return None, b""

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Report the reach on this node."""
        return self._hub.delivered(Reach(1, here.sessions), requested=receipt)

    def is_first(self, audience: Audience, serial: Serial) -> bool:
        """Return True; nothing arrives."""
        return True

    async def names(self, audience: Audience) -> list[tuple[Name, NodeId]]:
        """Return nothing, as there are no other nodes."""
        return []

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """Return False, as no session is in transit."""
        return False
