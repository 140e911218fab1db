"""
The contract of lists: what was published on a topic, kept for those that come later.

Each list numbers its items from 1, without holes, so that a position says what is
missing. A number counts within an *epoch*: a new one begins when the data may have been
lost behind a backend's back, as after a restart, and goes on with the next number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kept:
    """
    What a list keeps: so many newest items, at least, each for so many seconds after the newest.

    Its numbers are remembered ``outlives`` seconds longer.
    """

    items: int
    seconds: float
    outlives: float


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list: the offset of an item, and the epoch in which that counts."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Appended:
    """
    Where an item is.

    ``start`` is the first offset of its epoch. ``is_repeat`` tells that an item with
    this key was there already; nothing was appended or published.
    """

    position: Position
    start: int
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """
    Some items of a list, in their order.

    ``top`` is the last that the list has ever had, ``start`` the first offset of its epoch, ``before`` the epoch that
    came before, if any is known. ``first`` is the offset of the first of ``items``, or of where it would be.
    """

    top: Position
    start: int
    before: str
    first: int
    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Published:
    """What arrives on the topic of a list; without the item where that is large: then it is to be read."""

    position: Position
    start: int
    item: bytes | None


#: Bytes of an item above which its topic carries the position alone.
MAX_PUBLISHED: Final = 200_000
#: Seconds for which an append with a key is done once.
KEY_COUNTS: Final = 60.0


def pack_published(published: Published) -> bytes:
    """Return what is published: a line ``epoch offset start has_item``, and the item behind it."""
    position, item = published.position, published.item
    head = f"{position.epoch} {position.offset} {published.start} {int(item is not None)}\n"
    return head.encode() + (item or b"")


def unpack_published(body: bytes) -> Published:
    """
    Read what was published on the topic of a list.

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
    Lists by the names of their topics.

    Every method raises ``BackendUnavailable`` when there is no answer in time. What is
    given up is not done later.
    """

    @abstractmethod
    async def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> Appended:
        """
        Append an item and publish it on the topic of this name, both or neither.

        With a ``key`` it is done once in 60 seconds, whoever asks.
        """

    @abstractmethod
    async def read(self, name: str, kept: Kept, after: int, limit: int) -> Page:
        """Return at most so many items with a higher offset, from the oldest that is left on."""

    @abstractmethod
    async def last(self, name: str, kept: Kept, limit: int) -> Page:
        """Return the newest items, at most so many."""

    @abstractmethod
    async def clear(self, name: str) -> None:
        """Remove all items; numbers and epoch stay."""
