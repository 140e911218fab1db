"""The contract between a connection and its transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from typing import Protocol

from primacron.protocol.close_reasons import CloseReason
from primacron.protocol.handshake import Format, TransportName
from primacron.protocol.outgoing import OutgoingPacket


class Transport(Protocol):
    """
    One websocket, or the polls of one client.

    ``ready`` tells whether ``write`` may be called. When it becomes true again, the
    transport calls ``connection.flush()``.
    """

    ready: bool

    @property
    def name(self) -> TransportName:
        """The transport."""

    @property
    def can_upgrade(self) -> bool:
        """Whether a websocket may take over."""

    @property
    def keeps_for_poll(self) -> bool:
        """Whether its client fetches what is sent, so that the last packets are kept for the next poll."""

    @property
    def context(self) -> Context | None:
        """The context of the outer ASGI application in which the last messages arrived, if there is one."""

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Write packets, in order and in a single write."""

    def backlog(self) -> int:
        """Return how many bytes have been written but not yet sent."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Resume reading."""

    def close(self, reason: CloseReason) -> None:
        """Say goodbye to the client and close; no calls follow."""


class LongPost(Protocol):
    """A POST whose packets the connection has not processed completely."""

    def hand_on(self) -> None:
        """Hand packets to the connection until the session is full or the turn is over."""

    def go_on(self) -> None:
        """Resume handing over in a later turn, as the session has room again."""

    def end(self, *, is_wanted: bool) -> Iterator[str | bytes] | None:
        """Stop handing over; return the remaining messages if they are still to be handled."""

    def drop(self) -> None:
        """Discard the POST."""


class ConnectionOwner(Protocol):
    """The owner of a websocket: a connection, or what will become one."""

    @property
    def format(self) -> Format:
        """The wire format of packets to the client."""

    def receive_text(self, text: str, transport: Transport) -> None:
        """Handle a text frame."""

    def receive_binary(self, data: bytes, transport: Transport) -> None:
        """Handle a binary frame."""

    def refuse(self, error: Exception, transport: Transport, reason: CloseReason) -> None:
        """Handle a protocol violation, or an internal error, after which nothing more can be read."""

    def lose(self, transport: Transport) -> None:
        """Handle the loss of the client."""

    def flush(self) -> None:
        """Send what is queued, as the client takes data again."""


class WebSocket(Transport, Protocol):
    """A websocket and its owner, ``connection``; once that is None, the websocket reports nothing."""

    connection: ConnectionOwner | None
