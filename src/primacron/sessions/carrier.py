"""What carries a connection: the contract between it and a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from primacron.protocol.closing import CloseReason
from primacron.protocol.parcels import Parcel

if TYPE_CHECKING:
    from primacron.sessions.connection import Connection


class Carrier(Protocol):
    """
    One websocket, or the polls of one client.

    ``ready`` tells whether ``write`` may be called: the client takes data now.
    When it turns true again the carrier calls ``connection.flush()``.
    """

    ready: bool

    def write(self, parcels: list[Parcel]) -> None:
        """Send packets, in this order, in one piece."""

    def backlog(self) -> int:
        """Return how many bytes were written and have not left yet."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read again."""

    def close(self, reason: CloseReason) -> None:
        """Say goodbye and end; nothing is called afterwards."""


class Wire(Carrier, Protocol):
    """
    A websocket that carries a connection, or tries to take one over.

    It hands frames to ``connection.receive_text`` and ``receive_binary``, and
    calls ``connection.lose`` when the client has closed it.
    """

    connection: Connection | None
