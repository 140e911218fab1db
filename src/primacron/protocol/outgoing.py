"""
Outgoing packets, encoded once for all their receivers.

Many connections may queue the same object, so that a fan-out costs one encoding
and one copy in memory.
"""

from __future__ import annotations

import binascii
from typing import Final

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Bytes charged for a packet at least: otherwise millions of tiny ones would outweigh their charge many times over.
LEAST_SIZE: Final = 64


class OutgoingPacket:
    """
    One outgoing packet.

    ``prefix`` is the type digit of a text packet and ``data`` its text in UTF-8;
    the prefix of a binary message is empty. ``size`` is what it is charged while
    queued. ``frame`` is where a websocket server caches the encoded frame of the
    usual format.
    """

    if not cython.compiled:
        __slots__ = ("binary", "data", "frame", "prefix", "size")

    def __init__(self, prefix: bytes, data: bytes, *, binary: bool = False) -> None:
        self.prefix = prefix
        self.data = data
        self.binary = binary
        size = len(data) + 1
        self.size = size if size > LEAST_SIZE else LEAST_SIZE  # noqa: FURB136 (a call costs more)
        self.frame: bytes | None = None

    @classmethod
    def message(cls, content: str | bytes) -> OutgoingPacket:
        """Return the message packet of a text or of binary data."""
        if isinstance(content, str):
            return cls(b"4", content.encode())
        return cls(b"", content, binary=True)

    def text(self, version: int) -> bytes:
        """Return its encoding for text-only channels, as UTF-8."""
        if not self.binary:
            return self.prefix + self.data
        return (b"b" if version == 4 else b"b4") + binascii.b2a_base64(self.data, newline=False)

    def content(self, version: int, base64: bool) -> tuple[bool, bytes]:
        """Return whether the websocket frame for this packet is binary, and the frame's payload."""
        if not self.binary or base64:
            return False, self.text(version)
        return True, self.data if version == 4 else b"\x04" + self.data

    def __repr__(self) -> str:
        return f"OutgoingPacket({self.prefix!r}, {self.data[:60]!r})"


OPEN: Final = b"0"
MESSAGE: Final = b"4"
CLOSE: Final = OutgoingPacket(b"1", b"")
PING: Final = OutgoingPacket(b"2", b"")
PONG: Final = OutgoingPacket(b"3", b"")
PROBE_PONG: Final = OutgoingPacket(b"3", b"probe")
NOOP: Final = OutgoingPacket(b"6", b"")
