"""Delivery to the sessions of this process."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from primacron.content import Content, unpack
from primacron.dialects.base import Dialect
from primacron.dialects.choice import Dialects
from primacron.metrics import Metrics
from primacron.protocol.outgoing import OutgoingPacket
from primacron.receipts import ACCEPTED, REFUSED, UNSENT, Receipt
from primacron.routing.audience import Audience
from primacron.routing.options import PLAIN, SendOptions
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent, Serial
from primacron.sessions.send_keys import SendKeys
from primacron.sessions.session import Session


class Local:
    """Delivers content to the connections of this process."""

    __slots__ = ("_dialects", "_metrics", "hub", "restricts")

    def __init__(self, hub: Hub, dialects: Dialects, metrics: Metrics) -> None:
        self.hub = hub
        self._dialects = dialects
        self._metrics = metrics
        #: Whether the server's dialect cannot express all events.
        self.restricts = dialects.main.restricts

    def check(self, content: Content) -> None:
        """
        Reject content that no client could receive, whether or not there are clients on this node.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        content.write(self._dialects.main)

    def deliver(self, session: Session, content: Content, options: SendOptions) -> Receipt:
        """
        Deliver content to one session of this node.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the session's dialect has no such event.

        """
        connection, hub = session.connection, self.hub
        assert connection is not None
        if options.excludes(session):
            return UNSENT
        if options.key is not None and (earlier := options.receipt_of(session, hub.loop.time())) is not None:
            return earlier
        if options.volatile and connection.is_stuck:
            self._metrics.count("messages_volatile_dropped")
            return UNSENT
        if not connection.send(content.write(connection.dialect)):
            return REFUSED
        if session in hub.taps:
            hub.tell_taps(session, content, "out")
        if options.key is not None:
            session.demand(SendKeys).remember(options.key, ACCEPTED, hub.loop.time())
        return ACCEPTED

    def deliver_remote(self, session: Session, packed: bytes | msgspec.Raw, options: SendOptions) -> Receipt:
        """Deliver content from another node; refuse it if it is malformed or the dialect cannot express it."""
        try:
            return self.deliver(session, unpack(packed), options)
        except (TypeError, ValueError, RecursionError):
            self._metrics.count("messages_unwritable")
            return REFUSED

    def deliver_once(self, session: Session, content: Content, options: SendOptions, serial: Serial) -> None:
        """Deliver the content of a fan-out to a session that was in transit, unless it has already received it."""
        if options.is_known_by(session, self.hub.loop.time(), serial):
            return
        session.demand(Recent).serials[serial] = ""
        try:
            self.deliver(session, content, options)
        except (TypeError, ValueError, RecursionError):
            self._metrics.count("messages_unwritable")

    def deliver_many(self, audience: Audience, content: Content, options: SendOptions, serial: Serial | None) -> int:
        """
        Deliver content to the sessions of an audience on this node, encoded once per dialect; return their number.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        hub = self.hub
        connections = audience.connections(hub)
        packets = self._encode(content, {connection.dialect for connection in connections})
        if hub.taps:
            self._tell_taps(audience, content, options, serial)
        reached = 0
        if hub.moving or options != PLAIN:
            connections, reached = self._select(audience, connections, options, serial)
        return reached + hub.send_each(connections, packets)

    def deliver_each(self, sessions: Collection[Session], content: Content, options: SendOptions) -> int:
        """
        Deliver content to sessions of this node, encoded once per dialect; return their number.

        Unlike a send to an audience it is not remembered for those that move: the caller knows what each has had.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        if options != PLAIN:
            sessions = [session for session in sessions if not options.excludes(session)]
        connections = self.hub.connections_of(sessions)
        packets = self._encode(content, {connection.dialect for connection in connections})
        if self.hub.taps:
            for session in self.hub.taps.keys() & sessions:
                self.hub.tell_taps(session, content, "out")
        return self.hub.send_each(connections, packets)

    def _encode(self, content: Content, dialects: set[Dialect]) -> dict[Dialect, OutgoingPacket]:
        """Encode content for all dialects before it is sent: what one of them cannot express is sent to nobody."""
        main = self._dialects.main
        packets = {main: content.write(main)}
        for dialect in dialects - packets.keys():
            shared = dialect if content.names_channel else self._dialects.plain(dialect)
            if shared not in packets:
                packets[shared] = content.write(shared)
            packets[dialect] = packets[shared]
        return packets

    def _tell_taps(self, audience: Audience, content: Content, options: SendOptions, serial: Serial | None) -> None:
        """Show taps the content that their sessions are about to receive."""
        now = self.hub.loop.time()
        for session in tuple(self.hub.taps):
            # For a session in transit the destination delivers it, and shows it to the taps; so does this node later.
            recent = session.peek(Recent)
            is_due = session.connected and not (recent is not None and recent.is_behind)
            is_meant = is_due and audience.matches(session)
            if is_meant and not options.is_known_by(session, now, serial):
                self.hub.tell_taps(session, content, "out")

    def _select(
        self, audience: Audience, connections: Collection[Connection], options: SendOptions, serial: Serial | None
    ) -> tuple[list[Connection], int]:
        """Return the connections to deliver to, and the number of those that have already received it."""
        now = self.hub.loop.time()
        selected: list[Connection] = []
        repeated = 0
        for connection in connections:
            session = self.hub.session_of(connection)
            if options.excludes(session):
                continue
            if self._came_around(session, audience, serial):
                continue  # counted by its previous node, or the reach is uncertain
            if self._has_key(session, options, now):
                repeated += 1
            elif options.volatile and connection.is_stuck:
                self._metrics.count("messages_volatile_dropped")
            else:
                selected.append(connection)
        return selected, repeated

    def _came_around(self, session: Session, audience: Audience, serial: Serial | None) -> bool:
        """Record that a moving session receives this send; tell whether it already has, or will in its turn."""
        if serial is None or session not in self.hub.moving:
            return False
        recent = session.demand(Recent)
        if serial in recent.serials or recent.is_behind:
            return True
        recent.serials[serial] = audience.kind
        return False

    def _has_key(self, session: Session, options: SendOptions, now: float) -> bool:
        """Record that a session receives a send with this key; tell whether it already had."""
        if options.key is None:
            return False
        if options.receipt_of(session, now) is not None:
            return True
        session.demand(SendKeys).remember(options.key, ACCEPTED, now)
        return False
