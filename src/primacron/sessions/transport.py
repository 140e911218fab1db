"""What carries a connection: the contract between it and a transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from typing import Protocol

from primacron.protocol.close_reasons import CloseReason
from primacron.protocol.handshake import Format
from primacron.protocol.outgoing import OutgoingPacket


class Transport(Protocol):
    """
    One websocket, or the polls of one client.

    ``ready`` tells whether ``write`` may be called: the client takes data now.
    When it turns true again the transport calls ``connection.flush()``. ``context``
    is that of the outer ASGI application which the last messages came by, if any.
    """

    ready: bool

    @property
    def context(self) -> Context | None:
        """See above."""

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Send packets, in this order, in one piece."""

    def backlog(self) -> int:
        """Return how many bytes were written and have not left yet."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read again."""

    def close(self, reason: CloseReason) -> None:
        """Say goodbye and end; nothing is called afterwards."""


class LongPost(Protocol):
    """The packets of a POST, for as long as the connection has not acted on all of them."""

    def hand_on(self) -> None:
        """Let the connection act on what comes next."""

    def go_on(self) -> None:
        """Hand on what is left, in a later turn: the session has room."""

    def end(self, *, is_wanted: bool) -> Iterator[str | bytes] | None:
        """Hand nothing on any more; return the messages that are left, if they are still to be handled."""

    def drop(self) -> None:
        """Let go of all of it."""


class ConnectionOwner(Protocol):
    """Who a websocket works for: a connection, or what is to become one."""

    @property
    def format(self) -> Format:
        """How packets are written for the client."""

    def receive_text(self, text: str, transport: Transport) -> None:
        """Take a text frame."""

    def receive_binary(self, data: bytes, transport: Transport) -> None:
        """Take a binary frame."""

    def refuse(self, error: Exception, transport: Transport, reason: CloseReason) -> None:
        """Hear that the client broke a rule, or the server made a mistake, after which nothing can be read any more."""

    def lose(self, transport: Transport) -> None:
        """Hear that the client is gone."""

    def flush(self) -> None:
        """Send what waits: the client takes data again."""


class WebSocket(Transport, Protocol):
    """A websocket, and who it works for; it calls nobody any more when that is None."""

    connection: ConnectionOwner | None
