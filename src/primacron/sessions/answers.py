"""The last answers of polling connections, which are kept for requests that are repeated."""

from __future__ import annotations

from typing import Protocol

from primacron.ids import Sid


class Holder(Protocol):
    """Who has an answer."""

    def drop_answer(self) -> None:
        """Forget it: there is no room for it."""


class Answers:
    """Those of a process that count, by sid, the oldest first; when they are more than ``limit`` bytes, they go."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Sid, tuple[Holder, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return self._size

    def keep(self, sid: Sid, holder: Holder, size: int) -> None:
        """Count an answer of so many bytes."""
        self.forget(sid)
        self._held[sid] = (holder, size)
        self._size += size
        while self._size > self._limit:
            oldest = next(iter(self._held))
            self._held[oldest][0].drop_answer()
            self.forget(oldest)

    def forget(self, sid: Sid) -> None:
        """Count the answer of a connection no longer, if it has one."""
        held = self._held.pop(sid, None)
        if held is not None:
            self._size -= held[1]
