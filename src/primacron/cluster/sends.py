"""
Encodes sends to one session from parts that are mostly encoded already.

:class:`ToSession` is the most frequent item. Its content is packed once per send,
its head is the same for everything this node sends, its address the same for
everything sent to one session: joining them costs a third of encoding the item.
"""

from __future__ import annotations

from typing import Final

import msgspec

from primacron.cluster.items import NO_ID, ToSession
from primacron.entries import Name
from primacron.ids import NodeId

_ENCODER: Final = msgspec.msgpack.Encoder()
#: The list header and the first element, the item's tag.
_BEGIN: Final = bytes([0x90 + 1 + len(ToSession.__struct_fields__)]) + _ENCODER.encode("session")
#: The fields after the content, for a send that is neither volatile nor has a key.
PLAIN_END: Final = _ENCODER.encode(False) + _ENCODER.encode("")


class SendEncoder:
    """Encodes the sends of one node."""

    __slots__ = ("_begin", "_origin")

    def __init__(self, origin: NodeId) -> None:
        self._origin = _ENCODER.encode(origin)
        self._begin = _BEGIN + _ENCODER.encode(NO_ID) + self._origin

    def encode(self, id: int, address: bytes, content: bytes, end: bytes) -> bytes:
        """Return a :class:`ToSession` assembled from its parts."""
        if id == NO_ID:
            return b"".join((self._begin, address, content, end))
        return b"".join((_BEGIN, _ENCODER.encode(id), self._origin, address, content, end))


def encode_address(name: Name, generation: int) -> bytes:
    """Return the encoded address of a session, with a hop count of 0."""
    # Without the list header, which is one byte.
    return _ENCODER.encode((*name, generation, 0))[1:]


def encode_end(*, volatile: bool, key: str | None) -> bytes:
    """Return the encoded fields that follow the content."""
    return _ENCODER.encode(volatile) + _ENCODER.encode(key or "")
