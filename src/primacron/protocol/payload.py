"""
Engine.IO payloads: several packets in one polling body.

Protocol 4 joins packets with the record separator. Protocol 3 puts the length
before each: ``<characters>:<packet>`` in text, where characters are UTF-16
units as JavaScript counts them; in binary a kind byte, the digits of the length
as bytes 0 to 9, ``ff`` and the data. A body is decoded whole or not at all.
"""

from __future__ import annotations

import re
from typing import Final

from primacron.errors import ProtocolError
from primacron.protocol.packets import Packet, decode_binary, decode_text
from primacron.protocol.parcels import Parcel

SEPARATOR: Final = "\x1e"

_LENGTH: Final = re.compile(r"([0-9]{1,10}):", re.ASCII)
_MAX_DIGITS: Final = 10


def decode_payload(body: bytes, version: int, max_packets: int, binary: bool = False) -> list[Packet]:
    """
    Decode the body of a POST.

    ``binary`` tells that a protocol 3 body came as ``application/octet-stream``.

    Raises:
        ProtocolError: if the body is empty, not UTF-8, has a bad packet, a wrong
            length or more than ``max_packets`` packets.

    """
    if version == 3 and binary:
        return _decode_v3_binary(body, max_packets)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("payload is not UTF-8") from None
    if version == 3:
        return _decode_v3_text(text, max_packets)
    if text.count(SEPARATOR) >= max_packets:
        raise _too_many(max_packets)
    return [decode_text(part, 4) for part in text.split(SEPARATOR)]


def encode_payload(parcels: list[Parcel], version: int, base64: bool) -> tuple[bytes, bool]:
    """Return the body of a poll's answer, and whether it is binary (protocol 3 only)."""
    if version == 4:
        return b"\x1e".join([parcel.text(4) for parcel in parcels]), False
    if base64 or not _has_binary(parcels):
        return b"".join([_encode_v3_text(parcel) for parcel in parcels]), False
    return b"".join([_encode_v3_binary(parcel) for parcel in parcels]), True


def _has_binary(parcels: list[Parcel]) -> bool:
    return any(parcel.binary for parcel in parcels)


def _too_many(limit: int) -> ProtocolError:
    return ProtocolError(f"more than {limit} packets in one payload")


def _utf16_length(text: str) -> int:
    return len(text) + sum(1 for character in text if character > "\uffff") if not text.isascii() else len(text)


def _end_after(text: str, start: int, units: int) -> int:
    """Return where a run of so many UTF-16 units ends, or -1 when the text is too short."""
    if text.isascii():
        return start + units if start + units <= len(text) else -1
    end = start
    while units > 0 and end < len(text):
        units -= 2 if text[end] > "\uffff" else 1
        end += 1
    return end if units == 0 else -1


def _decode_v3_text(text: str, max_packets: int) -> list[Packet]:
    packets: list[Packet] = []
    position = 0
    while position < len(text) or not packets:
        length = _LENGTH.match(text, position)
        if length is None:
            raise ProtocolError("payload without a length")
        end = _end_after(text, length.end(), int(length[1]))
        if end < 0:
            raise ProtocolError("payload shorter than its length")
        if len(packets) == max_packets:
            raise _too_many(max_packets)
        packets.append(decode_text(text[length.end() : end], 3))
        position = end
    return packets


def _decode_v3_binary(body: bytes, max_packets: int) -> list[Packet]:
    packets: list[Packet] = []
    position = 0
    while position < len(body) or not packets:
        kind = body[position : position + 1]
        mark = body.find(b"\xff", position + 1, position + 2 + _MAX_DIGITS)
        digits = body[position + 1 : mark]
        if kind not in (b"\x00", b"\x01") or mark < 0 or not digits or max(digits) > 9:
            raise ProtocolError("binary payload without a length")
        end = mark + 1 + int("".join(map(str, digits)))
        if end > len(body):
            raise ProtocolError("binary payload shorter than its length")
        if len(packets) == max_packets:
            raise _too_many(max_packets)
        data = body[mark + 1 : end]
        packets.append(decode_binary(data, 3) if kind == b"\x01" else _decode_v3_string(data))
        position = end
    return packets


def _decode_v3_string(data: bytes) -> Packet:
    try:
        return decode_text(data.decode("utf-8"), 3)
    except UnicodeDecodeError:
        raise ProtocolError("payload is not UTF-8") from None


def _encode_v3_text(parcel: Parcel) -> bytes:
    wire = parcel.text(3)
    length = len(wire) if wire.isascii() else _utf16_length(wire.decode("utf-8"))
    return b"%d:%b" % (length, wire)


def _encode_v3_binary(parcel: Parcel) -> bytes:
    wire = b"\x04" + parcel.data if parcel.binary else parcel.text(3)
    digits = bytes(int(digit) for digit in str(len(wire)))
    return (b"\x01" if parcel.binary else b"\x00") + digits + b"\xff" + wire
