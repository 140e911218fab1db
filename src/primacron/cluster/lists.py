"""
The contract of lists: what was published on a topic, kept for those that join later.

Each list numbers its items from 1 without gaps, so that a position reveals what is
missing. A number is valid within an *epoch*: a new one begins when the backend may have
lost data, as in a restart, and continues with the next number.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from primacron.cluster.kept import MAX_PAGE, Appended, Kept, Page


class Lists(ABC):
    """
    Lists, each named after its topic.

    Every method raises ``BackendUnavailable`` if there is no answer in time. A call that was
    given up must not take effect later.
    """

    @abstractmethod
    def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> asyncio.Future[Appended]:
        """
        Append an item and publish it on the topic of this name, both or neither, in the order of the calls.

        With a ``key`` it is appended once within 60 seconds, no matter who asks.
        """

    @abstractmethod
    async def read(self, name: str, kept: Kept, after: int, limit: int, size: int = MAX_PAGE) -> Page:
        """
        Return up to ``limit`` items above an offset, beginning with the oldest one left.

        They are fewer if they would have more than ``size`` bytes, but for the first.
        """

    @abstractmethod
    async def last(self, name: str, kept: Kept, limit: int, size: int = MAX_PAGE) -> Page:
        """Return the newest items, up to ``limit``, and ``size`` bytes but for the very newest."""

    @abstractmethod
    async def clear(self, name: str) -> None:
        """Remove all items; numbers and epoch remain."""
