"""A websocket client on a blocking socket, which may break every rule and writes byte by byte where asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.websocket import BINARY, CLOSE, KEY, PING, PONG, TEXT, Frame, encode_frame

DEADLINE = 20.0


@dataclass
class Peer:
    """One connection to a websocket server on this machine."""

    sock: socket.socket
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = self.sock.makefile("rb")

    @classmethod
    def open(cls, port: int, *, extensions: str = "", tls: ssl.SSLContext | None = None, behind: bytes = b"") -> Peer:
        """Connect and do the opening handshake; ``behind`` it come bytes that do not wait for the answer."""
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname="localhost")
        peer = cls(sock)
        peer._shake_hands(extensions, behind)
        return peer

    def _shake_hands(self, extensions: str, behind: bytes) -> None:
        lines = [
            "GET /any/path?query HTTP/1.1",
            "Host: localhost",
            "Connection: keep-alive, Upgrade",
            "Upgrade: WebSocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
        ]
        if extensions:
            lines.append(f"Sec-WebSocket-Extensions: {extensions}")
        self.send("\r\n".join([*lines, "", ""]).encode("ascii") + behind)
        status = self._reader.readline().decode("ascii")
        for line in iter(lambda: self._reader.readline().decode("ascii").strip(), ""):
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value
        assert status.split()[1] == "101", (status, self.headers, self._reader.read())
        assert self.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def send_in_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send pieces one by one; a server that has closed the connection meanwhile is no error here."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                self.sock.sendall(piece)

    def receive(self) -> Frame:
        """Read one frame, which must not be masked."""
        first, second = self._exactly(2)
        size = second
        if second == 126:
            size = int.from_bytes(self._exactly(2), "big")
            assert size > 125, "not the shortest form"
        elif second == 127:
            size = int.from_bytes(self._exactly(8), "big")
            assert size > 65535, "not the shortest form"
        assert second < 128, "masked"
        return Frame(first & 15, self._exactly(size), bool(first & 0x80), (first >> 4) & 7)

    def receive_until_close(self) -> Iterator[Frame]:
        """Read frames up to the close frame, which is the last one, and then the end of the connection."""
        while True:
            frame = self.receive()
            yield frame
            if frame.opcode == CLOSE:
                assert self.read_to_end() == b"", "something came after the close frame"
                return

    def read_to_end(self) -> bytes:
        """Read until the server closes; fails if it resets the connection."""
        return self._reader.read()

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        assert len(data) == size, f"the connection ended after {data!r}"
        return data

    def close(self) -> None:
        """Drop the connection."""
        self._reader.close()
        self.sock.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def text(content: str | bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a text frame as a client sends it."""
    payload = content.encode() if isinstance(content, str) else content
    return encode_frame(payload, TEXT, final=final, reserved=reserved)


def binary(payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a binary frame as a client sends it."""
    return encode_frame(payload, BINARY, final=final, reserved=reserved, mask=b"\xff\x00\x80\x01")


def more(payload: str | bytes, *, final: bool = False, reserved: int = 0) -> bytes:
    """Return a continuation frame as a client sends it."""
    payload = payload.encode() if isinstance(payload, str) else payload
    return encode_frame(payload, 0, final=final, reserved=reserved, mask=b"\x00\x00\x00\x00")


def ping(payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a ping as a client sends it."""
    return encode_frame(payload, PING, final=final, reserved=reserved)


def pong(payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a pong as a client sends it."""
    return encode_frame(payload, PONG, final=final)


def close(code: int | None = 1000, reason: str | bytes = b"", *, reserved: int = 0) -> bytes:
    """Return a close frame as a client sends it."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return encode_frame(b"" if code is None else code.to_bytes(2, "big") + reason, CLOSE, reserved=reserved)
