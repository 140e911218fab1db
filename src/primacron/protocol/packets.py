"""
Engine.IO packets on the wire.

Text packets are a type digit and the data. Binary data is always a message:
a protocol 4 websocket frame holds it bare, a protocol 3 frame behind a type
byte; over a text-only channel it is ``b`` (protocol 3: ``b4``) and base64.
"""

from __future__ import annotations

import binascii
from enum import Enum
from typing import Final

import msgspec

from primacron.errors import ProtocolError


class PacketType(Enum):
    """The packet types; the value is the digit on the wire."""

    __hash__ = object.__hash__  # by identity, in C: looked up for every packet

    OPEN = "0"
    CLOSE = "1"
    PING = "2"
    PONG = "3"
    MESSAGE = "4"
    UPGRADE = "5"
    NOOP = "6"


class Packet(msgspec.Struct, frozen=True):
    """One incoming packet; ``data`` is bytes only for a binary message."""

    type: PacketType
    data: str | bytes = ""


# A dict, not int() or isdigit(): both accept digits outside ASCII.
_TYPES: Final = {packet_type.value: packet_type for packet_type in PacketType}
_V3_TYPES: Final = dict(enumerate(PacketType))


def decode_text(wire: str, version: int) -> Packet:
    """
    Decode one packet of a polling body or of a websocket text frame.

    Raises:
        ProtocolError: if the text is empty, of unknown type or bad base64.

    """
    if wire[:1] == "b":
        return _decode_base64(wire[1:], version)
    try:
        return Packet(_TYPES[wire[:1]], wire[1:])
    except KeyError:
        raise ProtocolError(f"unknown packet type {wire[:1]!r}") from None


def decode_binary(wire: bytes, version: int) -> Packet:
    """
    Decode one packet of a websocket binary frame, or of a protocol 3 binary payload.

    Raises:
        ProtocolError: if a protocol 3 packet has an unknown type byte, or should be UTF-8 and is not.

    """
    if version == 4:
        return Packet(PacketType.MESSAGE, wire)
    packet_type = _V3_TYPES.get(wire[0]) if wire else None
    if packet_type is None:
        raise ProtocolError(f"unknown packet type {wire[:1]!r}")
    if packet_type is PacketType.MESSAGE:
        return Packet(packet_type, wire[1:])
    try:
        return Packet(packet_type, wire[1:].decode("ascii"))
    except UnicodeDecodeError:
        raise ProtocolError(f"binary data in a {packet_type.name} packet") from None


def _decode_base64(text: str, version: int) -> Packet:
    if version == 3:
        if text[:1] != PacketType.MESSAGE.value:
            raise ProtocolError(f"binary packet of type {text[:1]!r}")
        text = text[1:]
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise ProtocolError("binary packet is not base64") from None
    # Even in strict mode, superfluous padding after a complete group goes unnoticed.
    if len(text) != (len(data) + 2) // 3 * 4:
        raise ProtocolError("binary packet is not base64")
    return Packet(PacketType.MESSAGE, data)
