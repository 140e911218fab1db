"""
A send to one session, put together from parts of which most are encoded already.

:class:`ToSession` is what nodes send most. Its content is packed when it is sent,
its beginning is the same for all that one node sends, its address for all that goes
to one session: joining them costs a third of encoding the item.
"""

from __future__ import annotations

from typing import Final

import msgspec

from primacron.cluster.wire import NO_ID, ToSession
from primacron.entries import Name
from primacron.ids import NodeId

_ENCODER: Final = msgspec.msgpack.Encoder()
#: The head of a list, and its first element: the kind of the item.
_BEGIN: Final = bytes([0x90 + 1 + len(ToSession.__struct_fields__)]) + _ENCODER.encode("session")
#: What follows the content of what is neither volatile nor has a key.
PLAIN_END: Final = _ENCODER.encode(False) + _ENCODER.encode("")


class SendEncoder:
    """Encodes what one node sends."""

    __slots__ = ("_begin", "_origin")

    def __init__(self, origin: NodeId) -> None:
        self._origin = _ENCODER.encode(origin)
        self._begin = _BEGIN + _ENCODER.encode(NO_ID) + self._origin

    def encode(self, id: int, address: bytes, content: bytes, end: bytes) -> bytes:
        """Return a :class:`ToSession` from its parts."""
        if id == NO_ID:
            return b"".join((self._begin, address, content, end))
        return b"".join((_BEGIN, _ENCODER.encode(id), self._origin, address, content, end))


def encode_address(name: Name, generation: int) -> bytes:
    """Return what leads to a session; nobody has passed it on yet."""
    # Without the head of its list, which is one byte.
    return _ENCODER.encode((*name, generation, 0))[1:]


def encode_end(*, volatile: bool, key: str | None) -> bytes:
    """Return what follows the content."""
    return _ENCODER.encode(volatile) + _ENCODER.encode(key or "")
