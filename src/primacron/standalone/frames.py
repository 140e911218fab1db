# cython: boundscheck=False, wraparound=False
# Offsets into buffers are checked by hand.
"""
Websocket frames (RFC 6455), server side.

The same source runs as plain Python and compiled by Cython; ``frames.pxd`` supplies
the types and the few functions that work byte by byte.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from primacron.errors import FrameError
from primacron.turns import MUCH

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.standalone.deflate import Inflater

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MAX_CONTROL: Final = 125
#: Bytes of frames parsed between checks of the turn budget, once more has arrived than is read unconditionally.
STEP: Final = 128
#: Codes that a peer may put in a close frame (RFC 6455, 7.4, and its IANA registry).
CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

COMPILED: Final[bool] = bool(cython.compiled)


if not cython.compiled:

    def unmask(data: bytearray, start: int, end: int, source: bytearray, key: int) -> None:
        """Unmask a payload in place; the masking key is in ``source`` at ``key``."""
        size = end - start
        mask = bytes(source[key : key + 4]) * (size // 4 + 1)
        value = int.from_bytes(data[start:end], "little") ^ int.from_bytes(mask[:size], "little")
        data[start:end] = value.to_bytes(size, "little")

    def text_of(data: bytearray, start: int, end: int) -> str:
        """Decode UTF-8; raises UnicodeDecodeError."""
        return data[start:end].decode()

    def bytes_of(data: bytearray, start: int, end: int) -> bytes:
        """Copy a payload."""
        return bytes(memoryview(data)[start:end])

    def join_frame(first: int, prefix: bytes, data: bytes) -> bytes:
        """Build a frame from its first byte and the two parts of its payload."""
        size = len(prefix) + len(data)
        if size < 126:
            return bytes((first, size)) + prefix + data
        if size < 65536:
            return b"%c\x7e%b%b%b" % (first, size.to_bytes(2, "big"), prefix, data)
        return b"%c\x7f%b%b%b" % (first, size.to_bytes(8, "big"), prefix, data)


class FrameSettings:
    """Shared by all connections of a listener: the read buffer and the maximum message size."""

    def __init__(self, max_size: int, buffer_size: int = 262_144) -> None:
        self.max_size = min(max_size, 1 << 60)
        self.buffer = bytearray(buffer_size)
        # Event loops read into the view: asyncio's TLS slices the buffer, and a slice of a bytearray is a copy.
        self.view = memoryview(self.buffer)


class Partial:
    """
    A partly received message: fragments, or the beginning of a frame.

    Its parts are unmasked, inflated and checked as they arrive, so that the message
    is held once and an invalid one is refused before the rest of it is read.
    """

    if not cython.compiled:
        __slots__ = ("checked", "data", "final", "inflater", "key", "left", "opcode")

    def __init__(self, opcode: int, inflater: Inflater | None) -> None:
        self.opcode = opcode
        #: Set if the message is compressed.
        self.inflater = inflater
        self.data = bytearray()
        #: Bytes of a text message known to be valid UTF-8.
        self.checked = 0
        # The current frame: whether it is final, bytes outstanding, and their masking key.
        self.final = False
        self.left = 0
        self.key = bytearray()

    def add(self, payload: bytes, limit: int) -> None:
        """
        Append a part of the current frame.

        Raises:
            FrameError: if it is not valid UTF-8 or deflate data, or the message exceeds ``limit``.

        """
        if self.inflater is not None:
            payload = self.inflater.inflate(payload, limit - len(self.data), final=self.final and not self.left)
        self.data += payload
        if self.opcode == TEXT and (self.left or not self.final):
            self.checked += check_text(self.data[self.checked :])


def check_text(data: bytearray) -> int:
    """
    Return how many bytes are complete UTF-8 characters.

    Raises:
        FrameError: if no UTF-8 text begins like this.

    """
    try:
        _, size = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        raise FrameError(1007, "text is not UTF-8") from None
    rest = data[size:]
    # The decoder waits for the third byte of a surrogate before it rejects it.
    if len(rest) == 2 and rest[0] == 0xED and rest[1] > 0x9F:
        raise FrameError(1007, "text is not UTF-8 but has a surrogate")
    return size


class FrameReader:
    """
    Parses the frames of one client and calls ``on_text``, ``on_binary`` and ``on_control``.

    It holds no buffer between messages. A nonzero ``halted``, or ``has_had_turn``
    returning True, stops parsing after the current message; unparsed input is kept.
    After a FrameError nothing more may be fed.
    """

    if not cython.compiled:
        __slots__ = ("halted", "inflater", "partial", "rest", "settings")

    def __init__(self, settings: FrameSettings, inflater: Inflater | None = None) -> None:
        self.settings = settings
        self.inflater = inflater
        self.rest: bytearray | None = None
        self.partial: Partial | None = None
        self.halted = 0

    def feed(self, data: bytearray, size: int) -> None:
        """
        Parse ``size`` bytes, which are unmasked in place.

        Raises:
            FrameError: carrying the code for the close frame.

        """
        if self.rest is not None:
            self.rest += memoryview(data)[:size]
        elif self.halted:
            self.rest = data[:size]
        else:
            done = self.read(data, size)
            if done < size:
                self.rest = data[done:size]
            return
        self.feed_rest()

    def feed_rest(self) -> None:
        """
        Parse the input that was kept.

        Raises:
            FrameError: carrying the code for the close frame.

        """
        rest = self.rest
        if rest is None or self.halted:
            return
        done = self.read(rest, len(rest))
        if done == len(rest):
            self.rest = None
        elif done:
            del rest[:done]

    def read(self, data: bytearray, end: int) -> int:  # noqa: PLR0912 (one loop, for speed)
        """Parse what is complete; return where the rest begins: a frame whose head is cut short, or not wanted now."""
        pos = 0
        look = STEP if end > MUCH else end
        if self.partial is not None and self.partial.left:
            pos = self.take(data, 0, end)
        while end - pos >= 2 and not self.halted:
            if pos >= look:
                if self.has_had_turn():
                    break
                look = pos + STEP
            first = data[pos]
            length = data[pos + 1] & 0x7F
            start = pos + 6
            if length == 126:
                start = pos + 8
                if end - pos < 4:
                    break
                length = (data[pos + 2] << 8) | data[pos + 3]
                if length < 126:
                    raise FrameError(1002, "length not in its shortest form")
            elif length == 127:
                start = pos + 14
                if end - pos < 10:
                    break
                length = long_length(data, pos + 2)
            if data[pos + 1] < 0x80:
                raise FrameError(1002, "frame is not masked")
            if (first & 0x70) or not (first & 15) or (first & 15) > 2 or self.partial is not None:
                self.check(first, length)
            elif length > self.settings.max_size:
                raise FrameError(1009, f"message is larger than {self.settings.max_size} bytes")
            if end - start < length and (start > end or first & 8):
                break
            if end - start < length or first < 0x81 or first & 0x40:
                self.begin(first, length, data[start - 4 : start])
                pos = self.take(data, start, end)
                continue
            pos = start + length
            unmask(data, start, pos, data, start - 4)
            if first == 0x81:
                try:
                    text = text_of(data, start, pos)
                except UnicodeDecodeError:
                    raise FrameError(1007, "text is not UTF-8") from None
                self.on_text(text)
            elif first == 0x82:
                self.on_binary(bytes_of(data, start, pos))
            else:
                self.on_control(first & 15, bytes_of(data, start, pos))
        return pos

    def check(self, first: int, length: int) -> None:
        """Validate the header of any frame but a whole, uncompressed message."""
        opcode = first & 15
        if opcode >= 8:
            if opcode > 10:
                raise FrameError(1002, f"unknown opcode {opcode}")
            if length > 125 or first < 0x80:
                raise FrameError(1002, "control frame that is fragmented or too long")
            if first & 0x70:
                raise FrameError(1002, "reserved bits in a control frame")
            return
        if opcode > 2:
            raise FrameError(1002, f"unknown opcode {opcode}")
        if first & 0x30 or (first & 0x40 and (self.inflater is None or not opcode)):
            raise FrameError(1002, "reserved bits")
        if not opcode and self.partial is None:
            raise FrameError(1002, "continuation of nothing")
        if opcode and self.partial is not None:
            raise FrameError(1002, "new message inside a fragmented one")
        self.check_size(first, length)

    def check_size(self, first: int, length: int) -> None:
        """Check the length of a fragment or of a compressed frame."""
        limit = self.settings.max_size
        partial = self.partial
        if first & 0x40 or (partial is not None and partial.inflater is not None):
            # The inflated size is checked as it grows; incompressible data expands by less than this.
            allowed = limit + (limit >> 6) + 64
        else:
            allowed = limit - len(partial.data) if partial is not None else limit
        if length > allowed:
            raise FrameError(1009, f"message is larger than {limit} bytes")

    def begin(self, first: int, length: int, key: bytearray) -> None:
        """Begin a frame that is a fragment, compressed, or not complete yet."""
        if self.partial is None:
            self.partial = Partial(first & 15, self.inflater if first & 0x40 else None)
        self.partial.final = first >= 0x80
        self.partial.left = length
        self.partial.key = key

    def take(self, data: bytearray, start: int, end: int) -> int:
        """Consume the available part of the current frame; return where it ends, or ``end``."""
        partial = self.partial
        assert partial is not None
        stop = min(end, start + partial.left)
        unmask(data, start, stop, partial.key, 0)
        partial.left -= stop - start
        partial.add(bytes_of(data, start, stop), self.settings.max_size)
        if not partial.left and partial.final:
            self.partial = None
            self.hand_over(partial)
        else:
            turn = (stop - start) & 3
            partial.key = partial.key[turn:] + partial.key[:turn]
        return stop

    def hand_over(self, partial: Partial) -> None:
        """Deliver a message that is complete."""
        if partial.opcode == BINARY:
            self.on_binary(bytes(partial.data))
            return
        try:
            text = partial.data.decode()
        except UnicodeDecodeError:
            raise FrameError(1007, "text is not UTF-8") from None
        self.on_text(text)

    def has_had_turn(self) -> bool:
        """Tell whether to stop before the next frame because the turn is over; the rest must be fed later."""
        return False

    def on_text(self, text: str) -> None:
        """Receive a text message."""

    def on_binary(self, data: bytes) -> None:
        """Receive a binary message."""

    def on_control(self, opcode: int, payload: bytes) -> None:
        """Receive a close, ping or pong."""


def long_length(data: bytearray, at: int) -> int:
    """Return the 64-bit length at an offset."""
    if data[at] & 0x80:
        raise FrameError(1002, "length with the highest bit set")
    length = int.from_bytes(data[at : at + 8], "big")
    if length < 65536:
        raise FrameError(1002, "length not in its shortest form")
    return length


def encode_frame(opcode: int, data: bytes, prefix: bytes = b"", compressed: bool = False) -> bytes:
    """Encode one unfragmented, unmasked frame with the payload ``prefix + data``."""
    return join_frame(0x80 | opcode | (0x40 if compressed else 0), prefix, data)


def encode_close(code: int, reason: str) -> bytes:
    """Encode a close frame; the reason is truncated to fit."""
    text = reason.encode("utf-8", "replace")[: MAX_CONTROL - 2].decode("utf-8", "ignore").encode()
    return join_frame(0x80 | CLOSE, code.to_bytes(2, "big"), text)


def decode_close(payload: bytes) -> tuple[int, str]:
    """
    Return code and reason of a close frame; 1005 if it is empty.

    Raises:
        FrameError: if the code may not be sent, or the reason is not UTF-8.

    """
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in CLOSE_CODES or 3000 <= code <= 4999):
        raise FrameError(1002, f"close code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(1007, "close reason is not UTF-8") from None
