"""An Engine.IO client for tests, one request at a time."""

from __future__ import annotations

import json
from typing import Any

from tests.support.http import RawConnection, Response, fetch
from tests.support.websocket import WebSocket

SEPARATOR = "\x1e"


class Client:
    """Talks to the server on one port; whatever it opened is closed after the test."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: list[WebSocket | RawConnection] = []

    async def close(self) -> None:
        """Close what is still open."""
        for each in self._open:
            await each.close()

    async def fetch(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Send one request on a connection of its own."""
        return await fetch(self.port, method, target, headers, body)

    async def raw(self) -> RawConnection:
        """Open a TCP connection."""
        connection = await RawConnection.open(self.port)
        self._open.append(connection)
        return connection

    async def websocket(self, query: str = "account=a", *, headers: dict[str, str] | None = None) -> WebSocket:
        """Send a websocket handshake with ``transport=websocket``."""
        return await self.websocket_to(f"/stream/?EIO=4&transport=websocket&{query}", headers=headers)

    async def websocket_to(self, target: str, *, headers: dict[str, str] | None = None) -> WebSocket:
        """Send a websocket handshake to any target."""
        socket = await WebSocket.open(self.port, target, headers)
        self._open.append(socket)
        return socket

    async def connect(self, query: str = "account=a") -> Events:
        """Connect by websocket and read the open packet."""
        socket = await self.websocket(query)
        assert socket.response.status == 101, socket.response
        return Events(socket, json.loads(str(await socket.receive())[1:]))

    async def poll_in(self, query: str = "account=a", *, eio: int = 4) -> Polling:
        """Connect by polling."""
        response = await self.fetch("GET", f"/stream/?EIO={eio}&transport=polling&{query}")
        assert response.status == 200, response
        packet = response.text if eio == 4 else response.text.partition(":")[2]
        return Polling(self, json.loads(packet.partition(SEPARATOR)[0][1:]), eio)


class Events:
    """A websocket connection that exchanges events."""

    def __init__(self, socket: WebSocket, opened: dict[str, Any]) -> None:
        self.socket = socket
        self.opened = opened
        self.sid: str = opened["sid"]

    async def emit(self, event: str, *args: Any, id: int | None = None) -> None:
        """Send an event."""
        envelope: dict[str, Any] = {"event": event, "args": args}
        if id is not None:
            envelope["id"] = id
        await self.send(envelope)

    async def send(self, envelope: Any) -> None:
        """Send any JSON as a message."""
        await self.socket.send("4" + json.dumps(envelope))

    async def receive(self) -> Any:
        """Return the next message, decoded; pings are answered along the way."""
        while True:
            packet = str(await self.socket.receive())
            if packet == "2":
                await self.socket.send("3")
                continue
            assert packet[0] == "4", packet
            return json.loads(packet[1:])

    async def receive_close(self) -> tuple[int, str]:
        """Return code and reason of the close frame."""
        frame = await self.socket.receive_close()
        return frame.code, frame.reason

    async def close(self) -> None:
        """Drop the connection."""
        await self.socket.close()


class Polling:
    """A polling connection."""

    def __init__(self, client: Client, opened: dict[str, Any], eio: int) -> None:
        self.client = client
        self.opened = opened
        self.sid: str = opened["sid"]
        self.target = f"/stream/?EIO={eio}&transport=polling&sid={self.sid}"

    async def poll(self) -> Response:
        """Send a GET and wait for the response."""
        return await self.client.fetch("GET", self.target)

    async def post(self, body: str | bytes, headers: dict[str, str] | None = None) -> Response:
        """Send a POST and wait for the response."""
        data = body.encode() if isinstance(body, str) else body
        return await self.client.fetch("POST", self.target, headers, data)

    async def emit(self, event: str, *args: Any) -> Response:
        """Send an event."""
        return await self.post("4" + json.dumps({"event": event, "args": args}))

    async def probe(self) -> WebSocket:
        """Open a websocket for the same sid."""
        return await self.client.websocket_to(self.target.replace("transport=polling", "transport=websocket"))
