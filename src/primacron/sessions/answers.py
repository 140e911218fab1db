"""The last response to each polling client, kept in case the client repeats the request."""

from __future__ import annotations

from typing import Protocol

from primacron.ids import Sid


class Holder(Protocol):
    """A polling transport that keeps its last response."""

    def drop_answer(self) -> None:
        """Discard the response to free memory."""


class Answers:
    """Accounts for all kept responses, by sid; beyond ``limit`` bytes in total, the oldest are dropped."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Sid, tuple[Holder, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Total bytes of the kept responses."""
        return self._size

    def keep(self, sid: Sid, holder: Holder, size: int) -> None:
        """Account for a response of ``size`` bytes, in place of the previous one of this connection."""
        self.forget(sid)
        self._held[sid] = (holder, size)
        self._size += size
        while self._size > self._limit:
            oldest = next(iter(self._held))
            self._held[oldest][0].drop_answer()
            self.forget(oldest)

    def forget(self, sid: Sid) -> None:
        """Stop accounting for the response of a connection, if there is one."""
        held = self._held.pop(sid, None)
        if held is not None:
            self._size -= held[1]
