"""Delivery to the sessions of this process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from primacron.content import Content, unpack
from primacron.dialects.choice import Dialects
from primacron.entries import Name
from primacron.metrics import Metrics
from primacron.receipts import ACCEPTED, REFUSED, UNSENT, Receipt
from primacron.sessions.extras import Serial
from primacron.sessions.hub import Hub

if TYPE_CHECKING:
    from primacron.sessions.connection import Connection
    from primacron.sessions.session import Session


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is sent: see :meth:`primacron.targets.Target.emit`; ``serial`` names a send to many."""

    volatile: bool = False
    key: str | None = None
    left_out: frozenset[Name] = frozenset()
    serial: Serial | None = None

    def is_known_by(self, session: Session, now: float) -> bool:
        """Tell whether a session is not to get it: it is left out, or has got it already."""
        if (session.account, session.id) in self.left_out:
            return True
        if not session.has_extras:
            return False
        extras = session.extras
        return self.serial in extras.recent or (self.key is not None and extras.receipt_of(self.key, now) is not None)


PLAIN: Final = Manner()


class Local:
    """Hands content to the connections of this process."""

    __slots__ = ("_dialects", "_hub", "_metrics", "restricts")

    def __init__(self, hub: Hub, dialects: Dialects, metrics: Metrics) -> None:
        self._hub = hub
        self._dialects = dialects
        self._metrics = metrics
        #: Whether some events cannot be written for the clients of this server.
        self.restricts = dialects.main.restricts

    def check(self, content: Content) -> None:
        """
        Refuse what no client could get, whoever is here.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        content.write(self._dialects.main)

    def deliver(self, session: Session, content: Content, manner: Manner) -> Receipt:
        """
        Hand content to one session, which is deliverable here.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the session's dialect has no such event.

        """
        connection = session.connection
        assert connection is not None
        if (session.account, session.id) in manner.left_out:
            return UNSENT
        if manner.key is not None:
            earlier = session.extras.receipt_of(manner.key, self._hub.loop.time())
            if earlier is not None:
                return earlier
        if manner.volatile and connection.is_stuck:
            self._metrics.count("messages_volatile_dropped")
            return UNSENT
        if not connection.send(content.write(connection.dialect)):
            return REFUSED
        if self._hub.overheard and session in self._hub.overheard:
            self._hub.mirror.got(session, content)
        if manner.key is not None:
            session.extras.remember(manner.key, ACCEPTED, self._hub.loop.time())
        return ACCEPTED

    def deliver_from_afar(self, session: Session, packed: bytes | msgspec.Raw, manner: Manner) -> Receipt:
        """Hand content to one session that another node sent; what is malformed, or not for its dialect, is refused."""
        try:
            return self.deliver(session, unpack(packed), manner)
        except (TypeError, ValueError, RecursionError):
            self._metrics.count("messages_unwritable")
            return REFUSED

    def deliver_once(self, content: Content, manner: Manner, session: Session) -> None:
        """Hand content that was sent to many to a session that has moved meanwhile, unless it has got it already."""
        if manner.serial is None or manner.is_known_by(session, self._hub.loop.time()):
            return
        session.extras.recent.add(manner.serial)
        try:
            self.deliver(session, content, manner)
        except (TypeError, ValueError, RecursionError):
            self._metrics.count("messages_unwritable")

    def deliver_many(self, connections: Collection[Connection], content: Content, manner: Manner) -> int:
        """
        Hand content to many connections, encoded once per dialect; return how many got it.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event.

        """
        # All of them before the first is sent: what one dialect cannot write goes to nobody.
        dialects = {connection.dialect for connection in connections} | {self._dialects.main}
        parcels = {dialect: content.write(dialect) for dialect in dialects}
        reached = 0
        if manner.volatile or manner.key is not None or manner.left_out or self._hub.moving:
            connections, reached = self._select(connections, manner)
        return reached + self._hub.send_each(connections, parcels)

    def _select(self, connections: Collection[Connection], manner: Manner) -> tuple[list[Connection], int]:
        """Return the connections that get it now, and how many have got it before."""
        now = self._hub.loop.time()
        selected: list[Connection] = []
        repeated = 0
        for connection in connections:
            session = connection.session
            if (session.account, session.id) in manner.left_out:
                continue
            if self._came_around(session, manner):
                continue  # it is counted where it came from, or the reach is not certain
            if self._has_key(session, manner, now):
                repeated += 1
            elif manner.volatile and connection.is_stuck:
                self._metrics.count("messages_volatile_dropped")
            else:
                selected.append(connection)
        return selected, repeated

    def _came_around(self, session: Session, manner: Manner) -> bool:
        """Tell whether a session that moves has got this send already, here or where it was; from now on it has."""
        if manner.serial is None or session not in self._hub.moving:
            return False
        recent = session.extras.recent
        if manner.serial in recent:
            return True
        recent.add(manner.serial)
        return False

    def _has_key(self, session: Session, manner: Manner, now: float) -> bool:
        """Tell whether a session has got a send with this key already; from now on it has."""
        if manner.key is None:
            return False
        if session.extras.receipt_of(manner.key, now) is not None:
            return True
        session.extras.remember(manner.key, ACCEPTED, now)
        return False
