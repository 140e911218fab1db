"""One websocket of our own server: frames in, packets out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from primacron.errors import FrameError
from primacron.protocol.close_reasons import INTERNAL, NOT_TEXT, TOO_LARGE, TOO_MUCH, TRANSPORT_ERROR, CloseReason
from primacron.protocol.handshake import V4, TransportName
from primacron.protocol.outgoing import OutgoingPacket
from primacron.standalone.deflate import Agreement, Deflater
from primacron.standalone.frames import BINARY, TEXT, encode_frame
from primacron.standalone.websocket import FrameStream

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.transport import ConnectionOwner
    from primacron.standalone.listener import Listener

#: Message size in bytes from which compression is worthwhile, if negotiated.
DEFLATE_FROM: Final = 256
_REASONS: Final = {1007: NOT_TEXT, 1009: TOO_LARGE, 1013: TOO_MUCH}


class PacketStream(FrameStream):
    """Our own server's websocket: of a connection, or of an upgrade probe; see :mod:`primacron.sessions.transport`."""

    if not cython.compiled:
        __slots__ = ("connection",)

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False
    context = None

    def __init__(
        self, listener: Listener, transport: asyncio.Transport, fd: int, head: bytes, agreement: Agreement | None
    ) -> None:
        super().__init__(listener, transport, fd, head, agreement)
        self.connection: ConnectionOwner | None = None

    # Event loop and frame callbacks

    def resume_writing(self) -> None:
        """Accept packets again."""
        super().resume_writing()
        if self.connection is not None:
            self.connection.flush()

    def on_text(self, text: str) -> None:
        """Deliver a text frame."""
        if self.connection is not None:
            self.connection.receive_text(text, self)

    def on_binary(self, data: bytes) -> None:
        """Deliver a binary frame."""
        if self.connection is not None:
            self.connection.receive_binary(data, self)

    def on_broken(self, error: FrameError) -> None:
        """Let the connection choose the close reason."""
        if self.connection is not None:
            self.connection.refuse(error, self, _REASONS.get(error.code, TRANSPORT_ERROR))

    def on_failed(self, error: Exception) -> None:
        """Close the connection as well."""
        if self.connection is not None:
            self.connection.refuse(error, self, INTERNAL)
        else:
            super().on_failed(error)

    def on_lost(self) -> None:
        """Tell the connection that the client is gone."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.lose(self)

    # For the connection

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Send packets as frames, in one write."""
        transport = self._transport
        if transport is None:
            return
        if len(packets) == 1 and self._head is None:
            self.push(transport, self._frame(packets[0]))
        else:
            self.put([self._frame(packet) for packet in packets])

    def _frame(self, packet: OutgoingPacket) -> bytes:
        if self._deflater is not None and packet.size > DEFLATE_FROM:
            return self._compressed(packet, self._deflater)
        if packet.frame is not None:
            return packet.frame
        if not packet.binary:
            frame = packet.frame = encode_frame(TEXT, packet.data, packet.prefix)
            return frame
        return self._unusual(packet)

    def _unusual(self, packet: OutgoingPacket) -> bytes:
        """Return the frame of binary data, whose encoding depends on the client."""
        wire_format = self.connection.format if self.connection is not None else V4
        binary, data = packet.content(wire_format.version, wire_format.base64)
        frame = encode_frame(BINARY if binary else TEXT, data)
        if wire_format is V4:
            packet.frame = frame
        return frame

    def _compressed(self, packet: OutgoingPacket, deflater: Deflater) -> bytes:
        wire_format = self.connection.format if self.connection is not None else V4
        binary, data = packet.content(wire_format.version, wire_format.base64)
        return encode_frame(BINARY if binary else TEXT, deflater.deflate(data), compressed=True)

    def close(self, reason: CloseReason) -> None:
        """Send a close frame with the reason, and end."""
        self.connection = None
        self.say_goodbye(reason.code, reason.text)


class WebSocketStream(PacketStream, asyncio.BufferedProtocol):
    """:class:`PacketStream` as an asyncio protocol."""

    __slots__ = ()
