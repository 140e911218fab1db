"""A server without sockets and clients on wires: all layers, in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron import Primacron, Session
from primacron.features.channels import Channels
from primacron.routes.endpoint import Endpoint
from primacron.standalone.connection import HttpConnection
from primacron.standalone.listener import Listener
from primacron.standalone.packet_socket import WebSocketStream

#: Channels that the server hears before any session is in them.
CHANNELS = [f"channel-{number}" for number in range(21)]


class Wire(asyncio.Transport):
    """A socket's place: what a client sends is fed to the protocol, and what is written is counted."""

    __slots__ = ("protocol", "written")

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.written = 0

    def feed(self, data: bytes) -> None:
        """Let the protocol read what a client sent."""
        buffer = self.protocol.get_buffer(-1)
        buffer[: len(data)] = data
        self.protocol.buffer_updated(len(data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50_000) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += len(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Bed:
    """A server that echoes and fans out."""

    def __init__(self, dialect: str = "primacron") -> None:
        self.server = server = Primacron(dialect=dialect)
        self._number = 0
        self._wires: list[Wire] = []

        @server.event("echo")
        async def echo(session: Session, text: str) -> None:
            session.emit("echo", text)

        @server.event("all")
        async def fan_out(session: Session, text: str) -> None:
            server.everyone.emit("news", text)

        @server.event("channel")
        async def fan_out_in_channel(session: Session, text: str) -> None:
            server.channel(CHANNELS[0]).emit("news", text)

        @server.event("message")
        async def echo_bare(session: Session, text: str) -> None:
            session.emit("message", text)

    async def start(self) -> None:
        """Get ready for connections."""
        await self.server.start()
        node = self.server.node
        hub = node.hub
        self.flush = hub.flush
        channels = node.features[Channels.name]
        assert isinstance(channels, Channels)
        for name in CHANNELS:
            channels.local.demand(name)
        # As over TLS: what is written goes through the transport, where it is counted.
        options = self.server.options
        endpoint = Endpoint(self.server)
        self.listener = Listener(endpoint, options, node.loop, hub.wheel, hub.turns, WebSocketStream, secure=True)

    async def close(self) -> None:
        """Let all clients drop their connections, and end the server."""
        for wire in self._wires:
            wire.protocol.connection_lost(None)
        await self.server.destroy()

    def open(self, wire: Wire) -> Wire:
        """Open a connection that sends nothing yet."""
        self._wires.append(wire)
        wire.protocol = HttpConnection(self.listener)
        wire.protocol.connection_made(wire)
        return wire

    def connect(self, wire: Wire) -> Wire:
        """Open a session by websocket, under an account of its own."""
        self._number += 1
        self.open(wire).feed(
            f"GET /stream/?account=account-{self._number:06}&EIO=4&transport=websocket HTTP/1.1\r\n"
            f"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.flush()
        return wire

    def sessions(self) -> list[Session]:
        """Return all sessions, in the order in which they were opened."""
        hub = self.server.node.hub
        return [hub.session_of(connection) for connection in hub.connections.values()]

    def poll_in(self) -> str:
        """Open a session by polling; returns the target of its other requests."""
        known = set(self.server.node.hub.connections)
        target = "/stream/?account=polling&EIO=4&transport=polling"
        self.open(Wire()).feed(request("GET", target))
        self.flush()
        (sid,) = set(self.server.node.hub.connections) - known
        return f"{target}&sid={sid}"


def request(method: str, target: str, body: str = "") -> bytes:
    """Return a request as a client writes it."""
    length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}".encode()
