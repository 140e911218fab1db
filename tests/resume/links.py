"""One connection of a client whose session survives it: Engine.IO 4 by websocket or polling, in JSON or MessagePack."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import urlencode

import msgspec

from tests.resume.core import Message
from tests.support.engine import SEPARATOR, Client, Polling
from tests.support.http import Response
from tests.support.websocket import CLOSE, TEXT, WebSocket, encode_frame

Transport: TypeAlias = Literal["websocket", "polling"]
Packet: TypeAlias = str | bytes

PING, PONG, MESSAGE, GOODBYE, NOOP = "2", "3", "4", "1", "6"


class LinkLost(Exception):
    """The connection has ended, with the code of its close frame if it had one."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


#: What ends a connection.
LOST: Final = (OSError, asyncio.IncompleteReadError, LinkLost)


class Link(Protocol):
    """An open connection. ``patience`` is in seconds: without a packet for so long it is dead."""

    patience: float

    async def write(self, packets: Sequence[Packet]) -> None:
        """Send packets; those of one link are sent one after another."""

    def packets(self) -> AsyncIterator[Packet]:
        """Return what comes, until an error out of :data:`LOST` tells that nothing more will."""

    async def end(self) -> None:
        """End the session, as a client does that does not come back."""


def write_message(message: Message, form: str) -> Packet:
    """Encode a message as a packet."""
    return msgspec.msgpack.encode(message) if form == "msgpack" else MESSAGE + json.dumps(message)


def read_message(packet: Packet) -> Message:
    """Decode the message in a packet."""
    if isinstance(packet, bytes):
        found: Message = msgspec.msgpack.decode(packet)
        return found
    assert packet[0] == MESSAGE, packet
    decoded: Message = json.loads(packet[1:])
    return decoded


def patience_of(opened: dict[str, Any]) -> float:
    """Return how many seconds a server may be silent that has sent this open packet."""
    return float(opened["pingInterval"] + opened["pingTimeout"]) / 1000


class WebSocketLink:
    """A connection by websocket."""

    def __init__(self, socket: WebSocket, opened: dict[str, Any]) -> None:
        self.patience = patience_of(opened)
        self._socket = socket

    @classmethod
    async def open(cls, front: Client, query: dict[str, str]) -> WebSocketLink:
        """Connect; return when the open packet is there."""
        events = await front.connect(urlencode(query))
        return cls(events.socket, events.opened)

    async def write(self, packets: Sequence[Packet]) -> None:
        """Send packets."""
        for each in packets:
            if self._socket.raw.writer.transport.is_closing():  # what uvloop takes for a mistake of the caller
                raise LinkLost("the connection was reset")
            await self._socket.send(each)

    async def packets(self) -> AsyncIterator[Packet]:
        """Return what comes."""
        while True:
            frame = await self._socket.receive_frame()
            if frame.opcode == CLOSE:
                raise LinkLost(frame.reason, frame.code)
            yield frame.text if frame.opcode == TEXT else frame.payload

    async def end(self) -> None:
        """Send a close frame with the code 1000."""
        await self._socket.raw.send(encode_frame((1000).to_bytes(2, "big"), CLOSE))


class PollingLink:
    """A connection by polling, each of whose requests has another ``t``."""

    def __init__(self, polling: Polling) -> None:
        self.patience = patience_of(polling.opened)
        self._polling = polling
        self._stamps = itertools.count(1)

    @classmethod
    async def open(cls, front: Client, query: dict[str, str]) -> PollingLink:
        """Connect; return when the open packet is there."""
        return cls(await front.poll_in(urlencode({**query, "t": "0"})))

    async def write(self, packets: Sequence[Packet]) -> None:
        """Send a POST with packets, if there are any, and wait for its answer."""
        if not packets:
            return
        bodies = [each if isinstance(each, str) else "b" + base64.b64encode(each).decode() for each in packets]
        await self._ask("POST", SEPARATOR.join(bodies).encode())

    async def packets(self) -> AsyncIterator[Packet]:
        """Return what comes."""
        while True:
            for each in (await self._ask("GET")).text.split(SEPARATOR):
                if each == GOODBYE:
                    raise LinkLost("the server said goodbye")
                yield base64.b64decode(each[1:]) if each.startswith("b") else each

    async def end(self) -> None:
        """Send a close packet."""
        await self.write([GOODBYE])

    async def _ask(self, method: str, body: bytes | None = None) -> Response:
        target = f"{self._polling.target}&t={next(self._stamps)}"
        response = await self._polling.client.fetch(method, target, None, body)
        if response.status != 200:
            raise LinkLost(f"{response.status} {response.text}")
        return response


async def open_link(front: Client, transport: Transport, query: dict[str, str]) -> Link:
    """Connect by one of the transports; return when the open packet is there."""
    if transport == "polling":
        return await PollingLink.open(front, query)
    return await WebSocketLink.open(front, query)
