"""The opening handshake of a websocket (RFC 6455, 4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from primacron.config import Options
from primacron.errors import ProtocolError
from primacron.standalone.deflate import Agreement, negotiate, read_offers
from primacron.transports.websocket import choose_subprotocol
from primacron.web import HttpRequest

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


#: Required header fields, in the spelling for error messages.
_NEEDED: Final = {"sec-websocket-key": "Sec-WebSocket-Key", "sec-websocket-version": "Sec-WebSocket-Version"}


class VersionRequired(ProtocolError):
    """The handshake asks for a websocket version other than 13."""

    http_status = 426

    def __init__(self, version: str) -> None:
        super().__init__(f"Sec-WebSocket-Version {version[:20]!r}: 13 is needed")


class FieldMissing(ProtocolError):
    """A header field that the handshake requires is missing."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"websocket handshake without {' and '.join(names)}")


def check_handshake(request: HttpRequest) -> None:
    """
    Check that a request is a valid websocket handshake.

    Raises:
        ProtocolError: naming the offending field.

    """
    headers = request.headers
    if request.method != "GET":
        raise ProtocolError(f"websocket handshake with method {request.method}")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise ProtocolError("websocket handshake with a body")
    version, nonce = headers.get("sec-websocket-version"), headers.get("sec-websocket-key")
    if version is None or nonce is None:
        raise FieldMissing([shown for name, shown in _NEEDED.items() if name not in headers])
    if version != "13":
        raise VersionRequired(version)
    try:
        key = binascii.a2b_base64(nonce, strict_mode=True)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise ProtocolError(f"Sec-WebSocket-Key {nonce[:40]!r} is not 16 bytes in base64")
    if "sec-websocket-extensions" in headers:
        read_offers(headers["sec-websocket-extensions"])


def accept_head(request: HttpRequest, options: Options) -> tuple[bytes, Agreement | None]:
    """Return the head of the response, and the negotiated compression."""
    key = request.headers["sec-websocket-key"].encode("latin-1")
    head = _HEAD + base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    agreement = None
    if options.deflate:
        agreement = negotiate(request.headers.get("sec-websocket-extensions", ""))
    if agreement is not None:
        head += b"\r\nSec-WebSocket-Extensions: " + agreement.header().encode("ascii")
    if "sec-websocket-protocol" in request.headers:
        chosen = choose_subprotocol(request, options)
        if chosen is not None:
            head += b"\r\nSec-WebSocket-Protocol: " + chosen.encode("ascii")
    return head + b"\r\n\r\n", agreement
