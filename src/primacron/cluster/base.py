"""
The contracts of a backend: the registry and the bus.

Whoever implements them passes the suite in ``tests/cluster/contract.py``. A
backend knows nothing of sessions: the node introduces the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from primacron.ids import AccountId, NodeId, SessionId, Sid

#: Called with the body of each message that comes over the bus; it must not raise.
Receive: TypeAlias = Callable[[bytes], None]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """
    One session in the registry.

    ``id`` is the session's, ``node`` holds it, ``sid`` is its connection.
    ``generation`` orders the claims of one session: the highest is the latest.
    """

    id: SessionId
    node: NodeId
    generation: int
    sid: Sid


class Registry(ABC):
    """Which node holds which session."""

    @abstractmethod
    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> tuple[Entry, Entry | None]:
        """
        Register a session, and return its entry and the one it replaced.

        Raises:
            SessionTaken: if there is an entry and ``replace`` is False.

        """

    @abstractmethod
    async def release(self, account: AccountId, entry: Entry) -> bool:
        """Remove an entry; False, and nothing removed, when a later claim has its place."""

    @abstractmethod
    async def find(self, account: AccountId, session: SessionId) -> Entry | None:
        """Return the entry of a session."""

    @abstractmethod
    async def sessions(self, account: AccountId) -> list[Entry]:
        """Return the entries of an account."""


class Bus(ABC):
    """Messages between nodes: at most once, in order from one node to one other."""

    @abstractmethod
    async def join(self, node: NodeId, receive: Receive) -> None:
        """Let a node receive what is published to it and to all."""

    @abstractmethod
    async def leave(self, node: NodeId) -> None:
        """Let a node receive nothing any more."""

    @abstractmethod
    async def publish(self, sender: NodeId, destination: NodeId | None, body: bytes) -> int:
        """
        Send to one node, or with None to all others.

        Returns how many nodes it was handed to.
        """
