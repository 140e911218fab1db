"""Websocket frames for tests: a client that can break every rule."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.support.http import DEADLINE, RawConnection, Response

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """A received frame."""

    opcode: int
    payload: bytes
    final: bool = True
    reserved: int = 0

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()

    @property
    def code(self) -> int:
        """The code of a close frame, 1005 if it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def reason(self) -> str:
        """The reason of a close frame."""
        return self.payload[2:].decode()


def encode_frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = True,
    mask: bytes = MASK,
) -> bytes:
    """Encode a frame as a client sends it."""
    size = len(payload)
    flag = 0x80 if masked else 0
    head = bytes([(0x80 if final else 0) | (reserved << 4) | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    repeated = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class WebSocket:
    """A websocket whose frames are written and read by hand."""

    def __init__(self, raw: RawConnection, response: Response) -> None:
        self.raw = raw
        self.response = response

    @classmethod
    async def open(cls, port: int, target: str, headers: dict[str, str] | None = None) -> WebSocket:
        """Send a handshake and read the response, whatever it is."""
        raw = await RawConnection.open(port)
        fields = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **(headers or {}),
        }
        try:
            await raw.send_request("GET", target, {name: value for name, value in fields.items() if value})
            return cls(raw, await raw.read_response())
        except BaseException:
            raw.abort()  # an ASGI server would wait for it to close
            raise

    async def send(self, text: str | bytes) -> None:
        """Send an unfragmented message."""
        if isinstance(text, bytes):
            await self.raw.send(encode_frame(text, BINARY))
        else:
            await self.raw.send(encode_frame(text.encode()))

    async def receive_frame(self) -> Frame:
        """Read one frame."""
        async with asyncio.timeout(DEADLINE):
            first, second = await self.raw.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self.raw.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.raw.reader.readexactly(8), "big")
            payload = await self.raw.reader.readexactly(size)
            return Frame(first & 15, payload, bool(first & 0x80), (first >> 4) & 7)

    async def receive(self) -> str | bytes:
        """Read one unfragmented message."""
        frame = await self.receive_frame()
        assert frame.opcode in (TEXT, BINARY), frame
        return frame.text if frame.opcode == TEXT else frame.payload

    async def receive_close(self) -> Frame:
        """Skip everything up to the close frame, and return that."""
        while True:
            frame = await self.receive_frame()
            if frame.opcode == CLOSE:
                return frame

    async def close(self) -> None:
        """Drop the connection."""
        await self.raw.close()
