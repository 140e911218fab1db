"""
The contract of lists: what was published on a topic, kept for those that join later.

Each list numbers its items from 1 without gaps, so that a position reveals what is
missing. A number is valid within an *epoch*: a new one begins when the backend may have
lost data, as in a restart, and continues with the next number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from primacron.positions import Position


@dataclass(frozen=True, slots=True)
class Kept:
    """
    What a list keeps: at least this many of the newest items, until this many seconds after the newest.

    Its numbers are remembered for ``outlives`` seconds more.
    """

    items: int
    seconds: float
    outlives: float


@dataclass(frozen=True, slots=True)
class Appended:
    """
    The position of an item.

    ``start`` is the first offset of its epoch. ``is_repeat`` tells that there was already an
    item with this key, so that nothing was appended or published.
    """

    position: Position
    start: int
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """
    Consecutive items of a list.

    ``top`` is the last position ever used, ``start`` the first offset of its epoch, ``before`` the previous epoch, if
    known. ``first`` is the offset of the first of ``items``, or the one that it would have.
    """

    top: Position
    start: int
    before: str
    first: int
    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Published:
    """A message on a list's topic; a large item is left out, and must be read from the list."""

    position: Position
    start: int
    item: bytes | None


#: Size in bytes above which an item is not published, only its position.
MAX_PUBLISHED: Final = 200_000
#: Size in bytes of a page, if nothing else is said.
MAX_PAGE: Final = 1_048_576
#: Seconds for which a key prevents a second append.
KEY_COUNTS: Final = 60.0


def pack_published(published: Published) -> bytes:
    """Encode a message: a line ``epoch offset start has_item``, followed by the item."""
    position, item = published.position, published.item
    head = f"{position.epoch} {position.offset} {published.start} {int(item is not None)}\n"
    return head.encode() + (item or b"")


def unpack_published(body: bytes) -> Published:
    """
    Decode a message on a list's topic.

    Raises:
        ValueError: if it is malformed.

    """
    head, mark, item = body.partition(b"\n")
    parts = head.decode("ascii").split(" ")
    if not mark or len(parts) != 4 or not all(part.isdecimal() and len(part) < 16 for part in parts[1:]):
        raise ValueError(f"not from a list: {head[:100]!r}")
    return Published(Position(parts[0], int(parts[1])), int(parts[2]), item if parts[3] == "1" else None)


class Lists(ABC):
    """
    Lists, each named after its topic.

    Every method raises ``BackendUnavailable`` if there is no answer in time. A call that was
    given up must not take effect later.
    """

    @abstractmethod
    async def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> Appended:
        """
        Append an item and publish it on the topic of this name, both or neither.

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
