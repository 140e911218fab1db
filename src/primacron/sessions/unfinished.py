"""What has come in part of messages and requests of all clients, against one total."""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol

from primacron.errors import TooMuchInput


class Sender(Protocol):
    """A client's connection that may hold a part of something; hashed by identity."""

    def overflow(self, error: TooMuchInput) -> None:
        """End it: all clients together hold too much, and this one most of all."""


class Unfinished:
    """
    Counts the bytes of unfinished input, by connection.

    Each connection has limits of its own; this is for thousands of them that send
    almost all of a message, and never its end.
    """

    __slots__ = ("_limit", "_sizes", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[Sender, int] = {}
        #: Bytes that all clients hold.
        self.total = 0

    def hold(self, sender: Sender, size: int) -> None:
        """Take note of how much a connection holds now; end those that hold most when all of it is too much."""
        self.total += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        if self.total > self._limit:
            self._make_room()

    def release(self, sender: Sender) -> None:
        """Take note that a connection holds nothing more."""
        self.total -= self._sizes.pop(sender, 0)

    def _make_room(self) -> None:
        """End so many in one go that the next ones find room."""
        enough = self._limit - self._limit // 10
        for sender, _ in sorted(self._sizes.items(), key=itemgetter(1), reverse=True):
            if self.total <= enough:
                break
            if sender in self._sizes:
                error = TooMuchInput(self.total, self._limit)
                self.release(sender)
                sender.overflow(error)
