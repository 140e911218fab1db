"""permessage-deflate (RFC 7692), server side."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from primacron.errors import FrameError, ProtocolError

_TAIL: Final = b"\x00\x00\xff\xff"
#: The payload of an empty message (RFC 7692, 7.2.3.6).
_EMPTY: Final = b"\x00"
#: Bytes inflated at a time once deflate streams may end after any of them.
_PIECE: Final = 1024
#: Deflate streams allowed in one message. A whole one takes two bytes, and a megabyte of those took seconds.
MAX_STREAMS: Final = 1_000
#: Offers and parameters read from a handshake.
MAX_PARTS: Final = 100

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PARAMETER: Final = re.compile(rf'[ \t]*+({_WORD})[ \t]*+(?:=[ \t]*+("?)({_WORD})\2[ \t]*+)?')


class MalformedExtensions(ProtocolError):
    """The Sec-WebSocket-Extensions field of a handshake is malformed (RFC 6455, 9.1)."""

    def __init__(self, part: str) -> None:
        super().__init__(f"Sec-WebSocket-Extensions is malformed at {part[:60]!r}")


class TooManyExtensions(MalformedExtensions):
    """The field has more offers and parameters than any client needs."""

    def __init__(self) -> None:
        ProtocolError.__init__(self, f"Sec-WebSocket-Extensions has more than {MAX_PARTS} offers and parameters")


#: The name of an extension or parameter, and the parameter's value, empty if there is none.
Parameter = tuple[str, str]


def read_offers(field: str) -> list[list[Parameter]]:
    """
    Parse a Sec-WebSocket-Extensions field: per offer the extension's name, without a value, then its parameters.

    Raises:
        MalformedExtensions: if the field is malformed.

    """
    if field.count(",") + field.count(";") >= MAX_PARTS:
        raise TooManyExtensions
    offers = (offer for offer in field.split(",") if offer.strip(" \t"))
    return [[_read_parameter(part) for part in offer.split(";")] for offer in offers]


def _read_parameter(part: str) -> Parameter:
    match = _PARAMETER.fullmatch(part)
    if match is None:
        raise MalformedExtensions(part)
    return match[1], match[3] or ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    The negotiated parameters: window bits (8 to 15), and whether each side resets its context after each message.

    ``server_bits`` is None if the client did not ask for any; a value it asks for must be confirmed, even 15.
    """

    server_bits: int | None = None
    client_bits: int = 15
    server_forgets: bool = False
    client_forgets: bool = False

    def header(self) -> str:
        """Return the Sec-WebSocket-Extensions field of the response."""
        parts = ["permessage-deflate"]
        if self.server_forgets:
            parts.append("server_no_context_takeover")
        if self.client_forgets:
            parts.append("client_no_context_takeover")
        if self.server_bits is not None:
            parts.append(f"server_max_window_bits={self.server_bits}")
        if self.client_bits != 15:
            parts.append(f"client_max_window_bits={self.client_bits}")
        return "; ".join(parts)


def negotiate(field: str) -> Agreement | None:
    """
    Return the agreement on the first acceptable offer of a Sec-WebSocket-Extensions field, None if there is none.

    Raises:
        MalformedExtensions: if the field is malformed.

    """
    for (name, _), *parameters in read_offers(field):
        if name == "permessage-deflate":
            agreement = _accept(parameters)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: list[Parameter]) -> Agreement | None:
    values = dict(parameters)
    if len(values) != len(parameters):
        return None
    server_bits: int | None = None
    client_bits = 15
    forgets = {"server_no_context_takeover": False, "client_no_context_takeover": False}
    for name, value in values.items():
        if name in forgets and not value:
            forgets[name] = True
        elif name == "server_max_window_bits" and _is_bits(value):
            server_bits = int(value)
        elif name == "client_max_window_bits" and (not value or _is_bits(value)):
            client_bits = int(value or 15)
        else:
            return None
    # zlib cannot write raw deflate with a window of 8 bits.
    if server_bits == 8:
        return None
    return Agreement(server_bits, client_bits, *forgets.values())


def _is_bits(value: str) -> bool:
    return value in ("8", "9", "10", "11", "12", "13", "14", "15")


class Inflater:
    """Decompresses a client's messages incrementally; without context takeover it holds nothing between messages."""

    __slots__ = ("_bits", "_ended", "_forgets", "_stream")

    def __init__(self, agreement: Agreement) -> None:
        # zlib silently compresses with 9 bits when asked for 8.
        self._bits = max(9, agreement.client_bits)
        self._forgets = agreement.client_forgets
        self._stream: zlib._Decompress | None = None
        #: Deflate streams of this message that have ended.
        self._ended = 0

    def inflate(self, data: bytes, limit: int, *, final: bool = True) -> bytes:
        """
        Decompress the next part of a message; ``final`` marks the last one.

        Raises:
            FrameError: if the data is not deflate, has too many streams, or inflates to more than ``limit`` bytes.

        """
        if self._stream is None:
            self._stream = self._new()
        try:
            found = self._stream.decompress(data + _TAIL if final else data, limit + 1)
            if self._stream.eof and len(found) <= limit:
                found = self._go_on(found, self._stream.unused_data, limit, final=final)
        except zlib.error as error:
            raise FrameError(1007, f"message is not compressed: {error}") from None
        if len(found) > limit:
            raise FrameError(1009, "message is too large when decompressed")
        if final:
            self._ended = 0
            if self._forgets:
                self._stream = None
        return found

    def _go_on(self, found: bytes, rest: bytes, limit: int, *, final: bool) -> bytes:
        """Continue behind a final block, where another stream may begin (RFC 7692, 7.2.3.4), and so on."""
        message = bytearray(found)
        self._end_stream()
        pos, end = 0, len(rest) - len(_TAIL) if final else len(rest)
        while pos < end and len(message) <= limit:
            stream = self._stream = self._stream or self._new()
            piece = rest[pos : min(pos + _PIECE, end)]
            message += stream.decompress(piece, limit + 1 - len(message))
            pos += len(piece)
            if stream.eof:
                pos -= len(stream.unused_data)
                self._end_stream()
        if final and self._stream is not None:
            message += self._stream.decompress(_TAIL, max(1, limit + 1 - len(message)))
        return bytes(message)

    def _end_stream(self) -> None:
        self._stream = None
        self._ended += 1
        if self._ended > MAX_STREAMS:
            raise FrameError(1009, f"message of more than {MAX_STREAMS} deflate streams")

    def _new(self) -> zlib._Decompress:
        return zlib.decompressobj(-self._bits)


class Deflater:
    """Compresses messages for a client."""

    __slots__ = ("_bits", "_forgets", "_stream")

    def __init__(self, agreement: Agreement) -> None:
        self._bits = agreement.server_bits or 15
        self._forgets = agreement.server_forgets
        self._stream: zlib._Compress | None = None

    def deflate(self, data: bytes) -> bytes:
        """Return the payload of a compressed frame."""
        if not data:
            return _EMPTY
        stream = self._stream
        if stream is None:
            stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits)
        if not self._forgets:
            self._stream = stream
        return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
