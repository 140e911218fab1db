"""Envelopes: several items for one destination, published as one message. See :mod:`primacron.cluster.wire`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Union

import msgspec

from primacron.cluster.wire import KINDS, VERSION, Item
from primacron.ids import NodeId

#: Bytes of one envelope.
MAX_ENVELOPE: Final = 262_144
#: Items that one envelope can have.
MAX_ITEMS: Final = 60_000
#: Bytes of an envelope beside its items, at most.
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
    """What came from a node: its number, its flags, and items that are still encoded."""

    node: NodeId
    epoch: int
    number: int
    flags: int
    items: Sequence[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A request of a kind that this node does not know; ``id`` is 0 if it wants no answer."""

    id: int
    origin: NodeId


def encode_item(item: Item) -> bytes:
    """Return an item as it travels."""
    return _ENCODER.encode(item)


def encode_envelope(node: NodeId, epoch: int, number: int, flags: int, items: Sequence[bytes]) -> bytes:
    """Return an envelope with items that are encoded already."""
    head = _ENCODER.encode((VERSION, node, epoch, number, flags))
    # The head's own length is in its first byte; there it becomes that of the whole list.
    return b"".join((b"\xdc", (_FIXED + len(items)).to_bytes(2, "big"), head[1:], *items))


def decode_envelope(body: bytes) -> Envelope:
    """
    Read an envelope.

    Raises:
        ValueError: if it is none, is too large, or of a newer version.

    """
    # Before anything is made of it: an item may be of one byte.
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
    Read an item.

    Raises:
        ValueError: if it is none.

    """
    try:
        item: Item = _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        return _unsupported(raw, error)
    except _BROKEN as error:
        raise ValueError(str(error)) from None
    return item


def _unsupported(raw: msgspec.Raw | bytes, error: msgspec.ValidationError) -> Unsupported:
    """Tell a kind that is not known from an item that is malformed."""
    try:
        head = _HEAD.decode(raw)
    except _BROKEN:
        raise ValueError(str(error)) from None
    if head.kind in _KNOWN:
        raise ValueError(str(error))
    return Unsupported(head.id, NodeId(head.origin))


class _Head(msgspec.Struct, array_like=True, gc=False):
    """How a request of any kind begins; what follows is not looked at."""

    kind: str
    id: int
    origin: str


_HEAD: Final = msgspec.msgpack.Decoder(_Head)
_KNOWN: Final = frozenset(kind.__struct_config__.tag for kind in KINDS)
