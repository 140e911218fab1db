"""The contract of sets that go with sessions; it is a part of a backend, beside registry and bus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from primacron.entries import Name


class Sets(ABC):
    """
    Sets of bytes, of each kind one for a session.

    They last as long as the session's entry, and for a while after it, since the session may come back: a claim returns
    what they have. Every method raises :class:`BackendUnavailable` when there is no answer in time.
    """

    @abstractmethod
    async def add(self, kind: str, name: Name, member: bytes) -> None:
        """Add to a set of a session that is there."""

    @abstractmethod
    async def remove(self, kind: str, name: Name, member: bytes) -> None:
        """Remove from a set of a session."""

    @abstractmethod
    async def keep(self, kind: str, name: Name, members: Sequence[bytes]) -> bool:
        """Add to a set of a session that is not there, for a while; False, and nothing added, if it is."""
