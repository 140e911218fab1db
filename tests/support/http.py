"""HTTP/1.1 for tests: one connection, with every byte under control."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

DEADLINE = 10.0


@dataclass(frozen=True)
class Response:
    """A response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body, decoded from JSON."""
        return json.loads(self.body)


class RawConnection:
    """A TCP connection; every wait has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> RawConnection:
        """Connect to a local port."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024 * 1024))

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def send_request(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> None:
        """Write a request; Host and Content-Length are added."""
        fields = {"Host": "localhost", **(headers or {})}
        if body is not None:
            fields.setdefault("Content-Length", str(len(body)))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(head.encode("latin-1") + b"\r\n" + (body or b""))

    async def read_response(self, *, head_only: bool = False) -> Response:
        """Read one response."""
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            status = int(status_line.split()[1])
            size = 0 if head_only or status in (101, 204, 304) else int(headers.get("content-length", "0"))
            return Response(status, headers, await self.reader.readexactly(size))

    async def read_eof(self) -> bytes:
        """Read until the other side closes; return what arrived."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def abort(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def fetch(
    port: int, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Response:
    """Send one request on a connection of its own."""
    connection = await RawConnection.open(port)
    try:
        await connection.send_request(method, target, headers, body)
        return await connection.read_response(head_only=method == "HEAD")
    finally:
        await connection.close()
