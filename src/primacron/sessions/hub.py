"""The sessions and connections of this process."""

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
from primacron.sessions.feature_state import FeatureState
from primacron.sessions.lifecycle import DELIVERABLE
from primacron.sessions.limits import Limits
from primacron.sessions.memberships import Memberships
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
        __slots__ = ("connections", "encoding", "groups", "kinds", "limits", "moving")

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, receiver: Receiver, metrics: Metrics) -> None:
        super().__init__(options, loop, receiver, metrics)
        self.limits = Limits(options)
        self.connections: dict[Sid, Connection] = {}
        #: The sessions in each channel that has any; see :class:`primacron.sessions.memberships.Memberships`.
        self.groups: dict[str, set[Session]] = {}
        #: Sessions being handed off, or just received from another node.
        self.moving: set[Session] = set()
        self.encoding = ENCODING
        #: The types of feature state, by name.
        self.kinds: dict[str, type[FeatureState]] = {kind.name: kind for kind in (Calls, Memberships, SendKeys, Recent)}

    def connection(self, sid: str) -> Connection | None:
        """Return the connection of a sid if it is alive; one past its deadline is ended."""
        connection = self.connections.get(Sid(sid))
        if connection is not None and connection.is_overdue(self.loop.time()):
            connection.give_up()
            return None
        return connection

    def live(self, name: Name) -> Session | None:
        """Return a session if this node delivers to it, which it does not while the session is in transit."""
        session = self.sessions.get(*name)
        return session if session is not None and session.state in DELIVERABLE else None

    def session_of(self, connection: Connection) -> Session:
        """Return the session of a connection."""
        session = connection.session
        assert isinstance(session, Session)
        return session

    def add(self, session: Session, connection: Connection) -> Session | None:
        """
        Add a session and its connection.

        If the session is already present, the later claim wins. The loser is returned, which
        may be the session being added; the caller must end its connection.
        """
        self.connections[connection.sid] = connection
        earlier = self.sessions.add(session.account, session)
        if earlier is None or earlier.entry.is_older_than(session.entry):
            return earlier
        self.sessions.add(session.account, earlier)
        return session

    def remove(self, connection: Outlet) -> None:
        """Remove a connection that has ended, which frees its slot in the limits."""
        removed = self.connections.pop(connection.sid, None)
        if removed is not None:
            self.limits.leave(removed.session.peer)

    def connections_of(self, sessions: Iterable[Session]) -> list[Connection]:
        """Return the connections of those sessions that this node delivers to."""
        found: list[Connection] = []
        for session in sessions:
            if session.connection is not None:
                found.append(session.connection)  # noqa: PERF401 - a comprehension is not typed when compiled
        return found

    def send_each(self, connections: Iterable[Connection], packets: dict[Dialect, OutgoingPacket]) -> int:
        """Send each connection the packet in its dialect; return how many accepted it."""
        reached = 0
        for connection in connections:
            reached += connection.send(packets[connection.dialect])
        return reached

    def close(self) -> None:
        """Stop the timers and discard all connections."""
        super().close()
        self.connections.clear()

    def report(self, delivery: Delivery[Receipt], outcome: Receipt, name: Name) -> None:
        """Report a failed send to a session, unless its sender has asked for the outcome."""
        if not delivery.wanted:
            self.receiver.problem(ForwardFailed(outcome.status, f"session {name[0]}/{name[1]}"), key=name)
