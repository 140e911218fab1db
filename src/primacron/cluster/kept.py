"""What lists keep: items, their positions, and the messages that tell of them."""

from __future__ import annotations

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
