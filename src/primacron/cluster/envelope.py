"""
Encodes and decodes envelopes: several items for one destination, published as one message.

:mod:`primacron.cluster.items` documents the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Union

import msgspec

from primacron.cluster.items import KINDS, VERSION, Item
from primacron.ids import NodeId

#: Maximum size of an envelope in bytes.
MAX_ENVELOPE: Final = 262_144
#: Maximum number of items in an envelope.
MAX_ITEMS: Final = 60_000
#: Maximum bytes of an envelope besides its items.
HEAD_SIZE: Final = 64

_ENCODER: Final = msgspec.msgpack.Encoder()
_PARTS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_INTEGER: Final = msgspec.msgpack.Decoder(int)
_TEXT: Final = msgspec.msgpack.Decoder(str)
_ITEM: Final = msgspec.msgpack.Decoder(Union[KINDS])  # noqa: UP007 (made from a list)
_BROKEN: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
_FIXED: Final = 5


@dataclass(frozen=True, slots=True)
class Envelope:
    """A received envelope; its items are still encoded."""

    node: NodeId
    epoch: int
    number: int
    flags: int
    items: Sequence[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A request of a kind unknown to this node; ``id`` is 0 if it wants no answer."""

    id: int
    origin: NodeId


def encode_item(item: Item) -> bytes:
    """Return the wire form of an item."""
    return _ENCODER.encode(item)


def encode_envelope(node: NodeId, epoch: int, number: int, flags: int, items: Sequence[bytes]) -> bytes:
    """Return the wire form of an envelope, from items that are already encoded."""
    head = _ENCODER.encode((VERSION, node, epoch, number, flags))
    # The header was encoded as a 5-element list; replace its length with that of the whole list.
    return b"".join((b"\xdc", (_FIXED + len(items)).to_bytes(2, "big"), head[1:], *items))


def decode_envelope(body: bytes) -> Envelope:
    """
    Decode an envelope; its items stay encoded.

    Raises:
        ValueError: if it is malformed, too large, or of a newer version.

    """
    # Checked before decoding: an item may be as small as one byte.
    if len(body) > MAX_ENVELOPE:
        raise ValueError(f"an envelope of {len(body)} bytes")
    try:
        version, node, epoch, number, flags, *items = _PARTS.decode(body)
        if _INTEGER.decode(version) > VERSION:
            raise ValueError("an envelope of a newer version")
        if len(items) > MAX_ITEMS:
            raise ValueError(f"an envelope of {len(items)} items")
        return Envelope(
            NodeId(_TEXT.decode(node)), _INTEGER.decode(epoch), _INTEGER.decode(number), _INTEGER.decode(flags), items
        )
    except _BROKEN as error:
        raise ValueError(str(error)) from None


def decode_item(raw: msgspec.Raw | bytes) -> Item | Unsupported:
    """
    Decode an item.

    Raises:
        ValueError: if it is malformed.

    """
    try:
        item: Item = _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        return _unsupported(raw, error)
    except _BROKEN as error:
        raise ValueError(str(error)) from None
    return item


def _unsupported(raw: msgspec.Raw | bytes, error: msgspec.ValidationError) -> Unsupported:
    """Distinguish an unknown kind from a malformed item."""
    try:
        head = _HEAD.decode(raw)
    except _BROKEN:
        raise ValueError(str(error)) from None
    if head.kind in _KNOWN:
        raise ValueError(str(error))
    return Unsupported(head.id, NodeId(head.origin))


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The fields that every request begins with; the rest is ignored."""

    kind: str
    id: int
    origin: str


_HEAD: Final = msgspec.msgpack.Decoder(_Head)
_KNOWN: Final = frozenset(kind.__struct_config__.tag for kind in KINDS)
