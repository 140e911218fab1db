"""
Engine.IO payloads: several packets in one polling body.

Protocol 4 joins packets with the record separator. Protocol 3 prefixes each with its
length: ``<characters>:<packet>`` in text, where characters are UTF-16 code units as
JavaScript counts them; in binary, a kind byte, the digits of the length as bytes 0
to 9, ``ff`` and the data. The number of packets is limited only by the size of the
body, so whoever reads a long one yields to other connections in between.
"""

from __future__ import annotations

import re
from typing import Final

from primacron.errors import ProtocolError
from primacron.protocol.outgoing import OutgoingPacket
from primacron.protocol.packets import Packet, decode_binary, decode_text

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

SEPARATOR: Final = "\x1e"
#: Stands for no limit.
UNLIMITED: Final = 2**62

_LENGTH: Final = re.compile(r"([0-9]{1,10}):", re.ASCII)
_MAX_DIGITS: Final = 10


class Payload:
    """
    The body of a POST, from which packets are taken in order.

    A caller that must not act on any packet of an invalid body reads it to the end
    first, then starts over with :meth:`begin`.

    Raises:
        ProtocolError: if the body is not UTF-8.

    """

    if not cython.compiled:
        __slots__ = ("_body", "_count", "_limit", "_position", "_text", "_version", "is_done")

    def __init__(self, body: bytes, version: int, max_packets: int | None, binary: bool = False) -> None:
        self._body = body
        self._text: str | None = None if version == 3 and binary else _decode_utf8(body)
        self._version = version
        self._limit = UNLIMITED if max_packets is None else max_packets
        self._position = 0
        self._count = 0
        #: Whether the last packet was taken.
        self.is_done = False

    def begin(self) -> None:
        """Start over from the first packet."""
        self._position = 0
        self._count = 0
        self.is_done = False

    def take(self, most: int) -> list[Packet]:
        """
        Return the next packets, ``most`` at most.

        Raises:
            ProtocolError: if the body is empty, has a bad packet, a wrong length
                or more than ``max_packets`` packets.

        """
        packets: list[Packet] = []
        text, limit = self._text, self._limit
        while not self.is_done and len(packets) < most:
            if self._count >= limit:
                raise ProtocolError(f"more than {limit} packets in one payload (option 'max_packets')")
            self._count += 1
            if text is None:
                packets.append(self._take_binary(self._body))
            elif self._version == 4:
                packets.append(self._take_separated(text))
            else:
                packets.append(self._take_counted(text))
        return packets

    def _take_separated(self, text: str) -> Packet:
        start = self._position
        end = text.find(SEPARATOR, start)
        if end < 0:
            self.is_done = True
            return decode_text(text[start:] if start else text, 4)
        self._position = end + 1
        return decode_text(text[start:end], 4)

    def _take_counted(self, text: str) -> Packet:
        length = _LENGTH.match(text, self._position)
        if length is None:
            raise ProtocolError("payload without a length")
        start = length.end()
        end = _end_after(text, start, int(length[1]))
        if end < 0:
            raise ProtocolError("payload shorter than its length")
        self._position = end
        self.is_done = end == len(text)
        return decode_text(text[start:end], 3)

    def _take_binary(self, body: bytes) -> Packet:
        position = self._position
        kind = body[position : position + 1]
        mark = body.find(b"\xff", position + 1, position + 2 + _MAX_DIGITS)
        digits = body[position + 1 : mark]
        if kind not in (b"\x00", b"\x01") or mark < 0 or not digits or max(digits) > 9:
            raise ProtocolError("binary payload without a length")
        end = mark + 1 + int("".join(map(str, digits)))
        if end > len(body):
            raise ProtocolError("binary payload shorter than its length")
        self._position = end
        self.is_done = end == len(body)
        data = body[mark + 1 : end]
        return decode_binary(data, 3) if kind == b"\x01" else decode_text(_decode_utf8(data), 3)


def _decode_utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("payload is not UTF-8") from None


def encode_payload(packets: list[OutgoingPacket], version: int, base64: bool) -> tuple[bytes, bool]:
    """Encode the response to a poll; also return whether it is binary (protocol 3 only)."""
    if version == 4:
        return b"\x1e".join([packet.text(4) for packet in packets]), False
    if base64 or not _has_binary(packets):
        return b"".join([_encode_v3_text(packet) for packet in packets]), False
    return b"".join([_encode_v3_binary(packet) for packet in packets]), True


def _has_binary(packets: list[OutgoingPacket]) -> bool:
    return any(packet.binary for packet in packets)


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _end_after(text: str, start: int, units: int) -> int:
    """Return where a run of that many UTF-16 units ends; -1 if the text is too short or a surrogate pair is split."""
    if text.isascii():
        return start + units if start + units <= len(text) else -1
    data = text[start : start + units].encode("utf-16-le")[: 2 * units]
    try:
        return start + len(data.decode("utf-16-le")) if len(data) == 2 * units else -1
    except UnicodeDecodeError:
        return -1


def _encode_v3_text(packet: OutgoingPacket) -> bytes:
    wire = packet.text(3)
    length = len(wire) if wire.isascii() else _utf16_length(wire.decode("utf-8"))
    return b"%d:%b" % (length, wire)


def _encode_v3_binary(packet: OutgoingPacket) -> bytes:
    wire = b"\x04" + packet.data if packet.binary else packet.text(3)
    digits = bytes(int(digit) for digit in str(len(wire)))
    return (b"\x01" if packet.binary else b"\x00") + digits + b"\xff" + wire
