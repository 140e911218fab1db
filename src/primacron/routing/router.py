"""Sends to a session or an audience: on this node directly, to others through the cluster."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from primacron.content import Content
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, Sid
from primacron.receipts import ACCEPTED, Delivery, Reach, Receipt
from primacron.routing.acts import Act
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.routing.options import PLAIN, SendOptions
from primacron.routing.reached import Reached
from primacron.routing.remote import Deferral, Fanout, Nowhere, Remote
from primacron.sessions.calls import Answer
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Serial
from primacron.sessions.session import Session


class Router:
    """Routes sends to their receivers, on whichever node."""

    __slots__ = ("_local", "deferral", "fanout", "hub", "remote")

    def __init__(self, hub: Hub, local: Local) -> None:
        self.hub = hub
        self._local = local
        nowhere = Nowhere(hub, local)
        self.remote: Remote = nowhere
        self.fanout: Fanout = nowhere
        self.deferral: Deferral = nowhere

    # To one session

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
        options = SendOptions(volatile, key) if volatile or key is not None else PLAIN
        return self.send(name, content, options, receipt=receipt)

    def send(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """
        Send to one session; see :meth:`primacron.routing.targets.Target.emit`.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        if not self.remote.holds(name[0]):
            session = self.hub.live(name)
            if session is not None:
                outcome = self._local.deliver(session, content, options)
                return self.hub.delivered(outcome, requested=receipt)
        return self.remote.to_session(name, content, options, receipt=receipt)

    async def call(self, name: Name, event: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """Send an event to one session and return its client's answer; see :meth:`Session.call`."""
        session = self.hub.live(name)
        if session is not None:
            return await session.call(event, *args, timeout=timeout)
        seconds = self.hub.options.call_timeout if timeout is None else timeout
        return await self.remote.call(name, event, args, seconds)

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of one session."""
        session = self.hub.live(name)
        if session is None:
            return self.remote.disconnect(name, reason)
        session.disconnect(reason)
        return self.hub.delivered(ACCEPTED, requested=False)

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Relay a client's answer to the node that made the call."""
        self.remote.relay(name, node, number, answer)

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """Send a request to a feature of the session's node; see :meth:`Feature.asked`."""
        return await self.remote.ask(name, feature, body)

    # To an audience

    def apply(self, audience: Audience, act: Act, *, receipt: bool = False) -> Delivery[Reach]:
        """
        Apply an act to an audience on all nodes.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event, or a value cannot be sent to other nodes.

        """
        # An act that cannot be serialized is refused before anyone receives it.
        serial, packed = self.fanout.pack(act)
        here = self.apply_here(audience, act, serial)
        return self.fanout.apply(audience, packed, serial, here, receipt=receipt)

    def apply_here(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> Reached:
        """Apply an act to the audience on this node or in transit; for ``is_alone`` see :meth:`DeferredActs.hold`."""
        number = act.apply(self._local, audience, serial)
        is_held = self.deferral.hold(audience, act, serial, is_alone=is_alone)
        return Reached(number, not is_held)

    def deliver_each(self, sessions: Collection[Session], content: Content, options: SendOptions) -> int:
        """Deliver content to sessions of this node; see :meth:`Local.deliver_each`."""
        return self._local.deliver_each(sessions, content, options)

    def check(self, content: Content) -> None:
        """Reject content that no client could receive; see :meth:`Local.check`."""
        self._local.check(content)

    # Locations

    async def find(self, name: Name) -> Entry | None:
        """
        Return the entry of a session, or None.

        Raises:
            BackendUnavailable: if that cannot be determined now.

        """
        session = self.hub.sessions.get(*name)
        return await self.remote.find(name) if session is None else session.entry

    async def entries(self, account: AccountId) -> list[Entry]:
        """
        Return the entries of an account's sessions.

        Raises:
            BackendUnavailable: if the registry cannot be asked, or may not know all of them yet.

        """
        return await self.remote.entries(account)

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """Return the session of a connection, or the receipt for anything sent to it if there is none."""
        connection = self.hub.connection(sid)
        if connection is None:
            return await self.remote.session_of(sid)
        return connection.session.account, connection.session.id

    async def names(self, audience: Audience) -> list[tuple[Name, NodeId]]:
        """
        Return the names of an audience's sessions, with their nodes.

        Raises:
            BackendUnavailable: if some node does not answer.

        """
        here = [((each.account, each.id), each.entry.node) for each in audience.sessions(self.hub)]
        return here + await self.fanout.names(audience)
