"""Who is here: all sessions and connections of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.dialects.encoding import ENCODING
from primacron.entries import Name
from primacron.errors import ForwardFailed
from primacron.ids import Sid
from primacron.metrics import Metrics
from primacron.protocol.outgoing import OutgoingPacket
from primacron.receipts import Delivery, Receipt
from primacron.sessions.calls import Calls
from primacron.sessions.connection import Connection
from primacron.sessions.feature import FeatureState
from primacron.sessions.lifecycle import DELIVERABLE
from primacron.sessions.limits import Limits
from primacron.sessions.recent import Recent
from primacron.sessions.runtime import Outlet
from primacron.sessions.send_keys import SendKeys
from primacron.sessions.session import Receiver, Session, SessionRuntime

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython


class Hub(SessionRuntime):
    """The sessions of a process by account and id, and its connections by sid."""

    if not cython.compiled:
        __slots__ = ("connections", "encoding", "kinds", "limits", "moving")

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, receiver: Receiver, metrics: Metrics) -> None:
        super().__init__(options, loop, receiver, metrics)
        self.limits = Limits(options)
        self.connections: dict[Sid, Connection] = {}
        #: Those that are about to move, or have just come.
        self.moving: set[Session] = set()
        self.encoding = ENCODING
        #: What features keep with sessions, by their names.
        self.kinds: dict[str, type[FeatureState]] = {kind.name: kind for kind in (Calls, SendKeys, Recent)}

    def connection(self, sid: str) -> Connection | None:
        """Return the living connection of a sid; one past its deadline ends now."""
        connection = self.connections.get(Sid(sid))
        if connection is not None and connection.is_overdue(self.loop.time()):
            connection.give_up()
            return None
        return connection

    def live(self, name: Name) -> Session | None:
        """Return a session that is delivered to here: one on its way to another node is not."""
        session = self.sessions.get(*name)
        return session if session is not None and session.state in DELIVERABLE else None

    def session_of(self, connection: Connection) -> Session:
        """Return the session that a connection carries."""
        session = connection.session
        assert isinstance(session, Session)
        return session

    def add(self, session: Session, connection: Connection) -> Session | None:
        """
        Let a session and its connection be found.

        Of two claims of one session the later has the place. The other one is
        returned, be it the one that was added: whoever calls ends its connection.
        """
        self.connections[connection.sid] = connection
        earlier = self.sessions.add(session.account, session)
        if earlier is None or earlier.entry.is_older_than(session.entry):
            return earlier
        self.sessions.add(session.account, earlier)
        return session

    def remove(self, connection: Outlet) -> None:
        """Forget a connection of which nothing is kept any more; only now another one may have its place."""
        removed = self.connections.pop(connection.sid, None)
        if removed is not None:
            self.limits.leave(removed.session.peer)

    def send_each(self, connections: Iterable[Connection], packets: dict[Dialect, OutgoingPacket]) -> int:
        """Send each connection the packet in its dialect; return how many took it."""
        reached = 0
        for connection in connections:
            reached += connection.send(packets[connection.dialect])
        return reached

    def close(self) -> None:
        """Forget everything."""
        super().close()
        self.connections.clear()

    def report(self, delivery: Delivery[Receipt], outcome: Receipt, name: Name) -> None:
        """Tell of a send to a session that failed, and of which nobody wants to know."""
        if not delivery.wanted:
            self.receiver.problem(ForwardFailed(outcome.status, f"session {name[0]}/{name[1]}"), key=name)
