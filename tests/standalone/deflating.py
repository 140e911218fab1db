"""The client's side of permessage-deflate, on zlib alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from tests.standalone.peer import Peer
from tests.support.websocket import BINARY, TEXT, Frame, encode_frame

TAIL = b"\x00\x00\xff\xff"


class DeflatingPeer:
    """A connection whose messages travel compressed as the server agreed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        name, *parameters = (part.strip() for part in peer.headers["sec-websocket-extensions"].split(";"))
        assert name == "permessage-deflate"
        self.agreed = dict(parameter.partition("=")[::2] for parameter in parameters)
        # Asked for a window of 8 bits, zlib's users write with one of 9.
        self._client_bits = max(9, int(self.agreed.get("client_max_window_bits", "15")))
        self._server_bits = int(self.agreed.get("server_max_window_bits", "15"))
        self._deflater = zlib.compressobj(wbits=-self._client_bits)
        self._inflater = zlib.decompressobj(wbits=-self._server_bits)

    def deflate(self, payload: bytes) -> bytes:
        """Return the payload of a compressed message."""
        if "client_no_context_takeover" in self.agreed:
            self._deflater = zlib.compressobj(wbits=-self._client_bits)
        return (self._deflater.compress(payload) + self._deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    def send(self, opcode: int, payload: bytes, fragment: int = 0) -> None:
        """Send a message, compressed and then cut into fragments of so many bytes."""
        data = self.deflate(payload)
        size = fragment or max(1, len(data))
        parts: Sequence[bytes] = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        last = len(parts) - 1
        self.peer.send(
            b"".join(
                encode_frame(part, 0 if n else opcode, final=n == last, reserved=0 if n else 4)
                for n, part in enumerate(parts)
            )
        )

    def receive(self) -> Frame:
        """Read a message, which must be compressed."""
        frame = self.peer.receive()
        assert frame.opcode in (TEXT, BINARY), frame
        assert frame.final
        assert frame.reserved == 4
        payload = self.inflate(frame.payload)
        return Frame(frame.opcode, payload)

    def inflate(self, payload: bytes) -> bytes:
        """Return the message in the payload of a compressed frame."""
        message = self._inflater.decompress(payload + TAIL)
        assert not self._inflater.unconsumed_tail
        if "server_no_context_takeover" in self.agreed:
            self._inflater = zlib.decompressobj(wbits=-self._server_bits)
        return message
