"""A limit on the partly received messages and requests of all clients together."""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol

from primacron.errors import TooMuchInput


class Sender(Protocol):
    """A client's connection that may hold unfinished input; hashed by identity."""

    def overflow(self, error: TooMuchInput) -> None:
        """End the connection: unfinished input exceeds the limit, and this one is among those that hold most."""


class Unfinished:
    """
    Counts the bytes of unfinished input, by connection.

    Each connection has limits of its own; this one defends against thousands of clients
    that send almost all of a message, but never its end.
    """

    __slots__ = ("_limit", "_sizes", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[Sender, int] = {}
        #: Bytes of unfinished input of all clients.
        self.total = 0

    def hold(self, sender: Sender, size: int) -> None:
        """Record how much a connection holds; end those that hold most if the total exceeds the limit."""
        self.total += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        if self.total > self._limit:
            self._make_room()

    def release(self, sender: Sender) -> None:
        """Record that a connection holds nothing any more."""
        self.total -= self._sizes.pop(sender, 0)

    def _make_room(self) -> None:
        """End the connections that hold most, all at once, until a tenth of the limit is free."""
        enough = self._limit - self._limit // 10
        for sender, _ in sorted(self._sizes.items(), key=itemgetter(1), reverse=True):
            if self.total <= enough:
                break
            if sender in self._sizes:
                error = TooMuchInput(self.total, self._limit)
                self.release(sender)
                sender.overflow(error)
