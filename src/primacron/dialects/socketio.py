"""
Detects Socket.IO clients by their first packet, since they speak a protocol of their own over Engine.IO.

None of their packets is an envelope, so only refused messages are examined.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from primacron.errors import SocketIoClient
from primacron.protocol.outgoing import OutgoingPacket

# CONNECT, as in `0`, `0{...}`, `0/chat,{...}`, `0/chat?a=b`, or EVENT, as in `2["name"]`, `2/chat,17["name"]`.
_PACKET: Final = re.compile(r"(?:0(?=\{|/|\Z)|2(?=[0-9]*\[|/))(?:(?!/)|(/[^,?]{0,128})(?:\?[^,]*)?(?:,|\Z))")
_ROOT: Final = "/"


def find_namespace(message: str | bytes) -> str | None:
    """Return the namespace of a Socket.IO packet; None if the message is not one."""
    found = _PACKET.match(message) if isinstance(message, str) else None
    return None if found is None else found[1] or _ROOT


def write_connect_error(namespace: str, error: SocketIoClient) -> OutgoingPacket:
    """Return a CONNECT_ERROR packet, which the client reports as ``connect_error``."""
    text = msgspec.json.encode({"message": str(error)}).decode()
    return OutgoingPacket.message(f"4{text}" if namespace == _ROOT else f"4{namespace},{text}")
