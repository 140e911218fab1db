"""Connections without a transport: what carries them is a list."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron.config import read_options
from primacron.dialects.raw import RawDialect
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.metrics import Metrics
from primacron.protocol.close_reasons import CloseReason
from primacron.protocol.handshake import V4, TransportName
from primacron.protocol.outgoing import OutgoingPacket
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session


class Line:
    """A client that takes data as long as it is ``ready``; each write is one list of what it got."""

    def __init__(self, name: TransportName = TransportName.WEBSOCKET) -> None:
        self.name = name
        self.can_upgrade = self.keeps_for_poll = name is TransportName.POLLING
        self.ready = True
        self.context = None
        self.unsent = 0
        self.writes: list[list[str]] = []
        self.closed: CloseReason | None = None

    def write(self, packets: list[OutgoingPacket]) -> None:
        assert self.ready
        self.writes.append([each.text(4).decode() for each in packets])

    def backlog(self) -> int:
        return self.unsent

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self, reason: CloseReason) -> None:
        assert self.closed is None
        self.closed = reason


class Watcher:
    """Who is told what happens; see :class:`primacron.sessions.session.Receiver`."""

    def __init__(self) -> None:
        self.messages: list[tuple[Session, str | bytes]] = []
        self.ended: list[tuple[Session, CloseReason]] = []
        self.problems: list[tuple[Exception, dict[str, Any]]] = []

    def opened(self, session: Session) -> None: ...

    def channel_joined(self, session: Session, channel: str) -> None: ...

    def channel_left(self, session: Session, channel: str) -> None: ...

    def message(self, session: Session, message: str | bytes) -> None:
        self.messages.append((session, message))

    def closed(self, session: Session, reason: CloseReason) -> None:
        self.ended.append((session, reason))
        session.end()

    def problem(self, error: Exception, **context: Any) -> None:
        self.problems.append((error, context))


class Bench:
    """A hub, and connections on lines."""

    def __init__(self, **options: Any) -> None:
        self.watcher = Watcher()
        self.hub = Hub(read_options(options), asyncio.get_running_loop(), self.watcher, Metrics())

    def connect(self, name: str, transport: TransportName = TransportName.WEBSOCKET) -> tuple[Connection, Line]:
        """Open a connection, by websocket unless another transport is given."""
        line = Line(transport)
        entry = Entry(SessionId("s"), NodeId("node"), 1, Sid(f"sid of {name}"))
        session = Session(self.hub, AccountId(name), entry, "peer", f"account={name}", name)
        connection = Connection(self.hub, entry.sid, session, line, RawDialect(), V4)
        session.attach(connection)
        self.hub.add(session, connection)
        return connection, line

    def close(self) -> None:
        """End the wheel."""
        self.hub.close()
