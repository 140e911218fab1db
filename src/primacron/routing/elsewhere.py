"""What a router asks of the other nodes, and the answers where there are none."""

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
from primacron.sessions.session import Session


class Remote(Protocol):
    """Sends to one session of another node; see :class:`primacron.routing.router.Router` for what is alike."""

    def holds(self, account: AccountId) -> bool:
        """Tell whether sends to an account wait, so that later ones must wait behind them."""

    def to_session(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """Send to a session that is not here, as far as it is known."""

    def session_opened(self, session: Session) -> None:
        """Deliver what waits for a session in transit to here, which has just opened here anew."""

    async def call(self, name: Name, event: str, args: tuple[Any, ...], seconds: float) -> Any:
        """Send an event to a session and return what its client answers."""

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """Have a feature do something with a session, and return what became of it."""

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of a session."""

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Hand what a client answered to the node where the call was made."""

    async def find(self, name: Name) -> Entry | None:
        """Return the entry of a session that is not here."""

    async def entries(self, account: AccountId) -> list[Entry]:
        """Return the entries of an account's sessions, wherever they are."""

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """Return the session of a connection that is not here."""


class Fanout(Protocol):
    """Does something to an audience on the other nodes."""

    def pack(self, act: Act) -> tuple[Serial | None, bytes]:
        """Return the number of an act, and how it travels."""

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """Have a packed act done to an audience; ``here`` is to how many it was done on this node."""

    async def names(self) -> list[tuple[Name, NodeId]]:
        """Return the names of all sessions of other nodes."""


class Deferral(Protocol):
    """Keeps what is done to an audience for those that are in transit from one node to another."""

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """Keep it; return whether there may be any that are not counted here."""


class Nowhere:
    """The other nodes where there are none: nobody else has a session, and nothing is packed or numbered."""

    def __init__(self, hub: Hub, local: Local) -> None:
        self._hub = hub
        self._local = local

    def holds(self, account: AccountId) -> bool:
        """See :meth:`Remote.holds`."""
        return False

    def to_session(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """See :meth:`Remote.to_session`."""
        self._local.check(content)
        delivery: Delivery[Receipt] = self._hub.delivery(requested=receipt)
        delivery.settle(UNKNOWN_SESSION)
        if not receipt:
            self._hub.loop.call_soon(self._hub.report, delivery, UNKNOWN_SESSION, name)
        return delivery

    def session_opened(self, session: Session) -> None:
        """See :meth:`Remote.session_opened`."""

    async def call(self, name: Name, event: str, args: tuple[Any, ...], seconds: float) -> Any:
        """See :meth:`Remote.call`."""
        raise SessionGone(name[1])

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """See :meth:`Remote.ask`."""
        return UNKNOWN_SESSION

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """See :meth:`Remote.disconnect`."""
        return self._hub.delivered(UNKNOWN_SESSION, requested=False)

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """See :meth:`Remote.relay`."""

    async def find(self, name: Name) -> Entry | None:
        """See :meth:`Remote.find`."""
        return None

    async def entries(self, account: AccountId) -> list[Entry]:
        """See :meth:`Remote.entries`."""
        return [session.entry for session in self._hub.sessions.of(account)]

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """See :meth:`Remote.session_of`."""
        return UNKNOWN_SESSION

    def pack(self, act: Act) -> tuple[Serial | None, bytes]:
        """See :meth:`Fanout.pack`."""
        return None, b""

    def apply(
        self, audience: Audience, packed: bytes, serial: Serial | None, here: Reached, *, receipt: bool
    ) -> Delivery[Reach]:
        """See :meth:`Fanout.apply`."""
        return self._hub.delivered(Reach(1, here.sessions), requested=receipt)

    async def names(self) -> list[tuple[Name, NodeId]]:
        """See :meth:`Fanout.names`."""
        return []

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """See :meth:`Deferral.hold`."""
        return False
