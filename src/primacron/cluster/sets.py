"""The contract of sets that belong to sessions, which a backend has beside registry and bus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from primacron.entries import Name


class Sets(ABC):
    """
    Sets of bytes; a session has one of each kind.

    They outlive the session's entry for a while, since the session may come back: a claim
    returns their members. Every method raises :class:`BackendUnavailable` if there is no
    answer in time.
    """

    @abstractmethod
    async def add(self, kind: str, name: Name, member: bytes) -> None:
        """Add a member to a set of a registered session."""

    @abstractmethod
    async def remove(self, kind: str, name: Name, member: bytes) -> None:
        """Remove a member from a set of a session."""

    @abstractmethod
    async def keep(self, kind: str, name: Name, members: Sequence[bytes]) -> bool:
        """Add members for an unregistered session, for a while; return False and add nothing if it is registered."""
