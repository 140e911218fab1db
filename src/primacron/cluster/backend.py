"""
What a backend is made of.

A backend knows nothing of sessions: the node introduces the two. Whoever writes
another one passes the suite in ``primacron.testing.contract``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from primacron.cluster.bus import Bus
from primacron.cluster.lists import Lists
from primacron.cluster.registry import Registry
from primacron.cluster.sets import Sets
from primacron.cluster.topics import Topics


async def _nothing() -> None:
    """Close nothing."""


@dataclass(frozen=True, slots=True)
class Backend:
    """
    A registry, a bus, topics, sets and lists that belong together; ``close`` releases what they share.

    ``again`` opens another instance, for the event loop of another thread; without it
    no watchdog covers for a blocked event loop. ``place`` is the backend's location, for
    people to read.
    """

    registry: Registry
    bus: Bus
    topics: Topics
    sets: Sets
    lists: Lists
    close: Callable[[], Awaitable[None]] = _nothing
    again: Callable[[], Backend] | None = None
    place: str = "the backend"
