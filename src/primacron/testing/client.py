"""A test client: Engine.IO over websocket, without the socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode

import msgspec

from primacron.application import Primacron
from primacron.dialects.encoding import ENCODING
from primacron.errors import CallRefused, PrimacronError, SessionGone
from primacron.protocol.close_reasons import CloseReason
from primacron.protocol.handshake import V4, TransportName
from primacron.protocol.outgoing import OutgoingPacket
from primacron.routes.endpoint import Endpoint
from primacron.sessions.transport import ConnectionOwner
from primacron.web import HttpRequest, HttpResponse, internal_error

#: Seconds a test waits for anything.
DEADLINE: Final = 5.0


class ClientRefused(PrimacronError):
    """The server refused the client, with an HTTP status and a text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Received:
    """
    An event received by the client.

    ``id`` is set if the server expects an answer, ``origin`` if the event was
    mirrored from a session that this one follows.
    """

    event: str
    args: tuple[Any, ...]
    id: int | None = None
    origin: Mapping[str, str] | None = None


class Client:
    """
    A client connected to a server of this process.

    Everything but the network is real: the handshake with ``authorize`` and the
    origin check, validation, handlers, answers, closing. It sends JSON envelopes of
    the ``primacron`` dialect.
    """

    def __init__(self, websocket: _WebSocket) -> None:
        self._websocket = websocket
        self._ids = itertools.count()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._received: asyncio.Queue[Received] = asyncio.Queue()
        #: The open packet's content: ``sid``, ``pingInterval`` and more.
        self.opened: Mapping[str, Any] = {}

    @classmethod
    async def connect(
        cls,
        server: Primacron,
        account: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        peer: str = "127.0.0.1",
    ) -> Self:
        """
        Connect to a server, starting it if necessary.

        ``query`` and ``headers`` are sent with the handshake; header names in any case.

        Raises:
            ClientRefused: if the server refuses the client.

        """
        await server.start()
        fields = {"account": account, "EIO": "4", "transport": "websocket", **(query or {})}
        given = {"host": "testserver", **{name.lower(): value for name, value in (headers or {}).items()}}
        request = HttpRequest("GET", server.options.endpoint, urlencode(fields), given, peer=peer)
        websocket = _WebSocket(request)
        client = cls(websocket)
        websocket.on_packet = client._take
        websocket.on_close = client._fail
        Endpoint(server).upgrade(websocket)
        async with asyncio.timeout(DEADLINE):
            await websocket.decided.wait()
            if websocket.refusal is not None:
                raise ClientRefused(websocket.refusal.status, _message_of(websocket.refusal))
        return client

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event."""
        await self._send({"event": event, "args": args})

    async def call(self, event: str, *args: Any) -> Any:
        """
        Send an event and return the answer: None, a single value, or a tuple of several.

        Raises:
            CallRefused: if the answer is an error, with its ``type``, ``message`` and ``path``.
            SessionGone: if the connection closes first.

        """
        number = next(self._ids)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        await self._send({"event": event, "args": args, "id": number})
        async with asyncio.timeout(DEADLINE):
            return await answer

    async def answer(self, received: Received, *args: Any) -> None:
        """Answer an event for which the server expects an answer."""
        await self._send({"ack": received.id, "args": args})

    async def refuse(self, received: Received, type: str, message: str) -> None:
        """Answer such an event with an error."""
        await self._send({"ack": received.id, "error": {"type": type, "message": message}})

    async def receive(self) -> Received:
        """Return the next event."""
        async with asyncio.timeout(DEADLINE):
            return await self._received.get()

    @property
    def is_quiet(self) -> bool:
        """Whether no event is waiting to be received."""
        return self._received.empty()

    async def closed(self) -> str:
        """Wait until the server has closed the connection; return the reason."""
        async with asyncio.timeout(DEADLINE):
            return (await self._websocket.closed).text

    async def close(self) -> None:
        """Disconnect."""
        self._websocket.lose()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, envelope: Mapping[str, Any]) -> None:
        await self._websocket.send("4" + ENCODING.json(envelope).decode())

    # From the server

    def _take(self, packet: str) -> None:
        if packet == "2":
            asyncio.get_running_loop().call_soon(self._websocket.hand_over, "3")
        elif packet[0] == "0":
            self.opened = msgspec.json.decode(packet[1:])
        elif packet[0] == "4":
            self._take_message(msgspec.json.decode(packet[1:]))

    def _take_message(self, message: Mapping[str, Any]) -> None:
        waiting = self._calls.pop(message["ack"], None) if "ack" in message else None
        if waiting is None:
            args = tuple(message.get("args", ()))
            self._received.put_nowait(
                Received(message.get("event", ""), args, message.get("id"), message.get("origin"))
            )
        elif not waiting.done() and "error" in message:
            error = message["error"]
            waiting.set_exception(CallRefused(error["type"], error["message"], error.get("path", "")))
        elif not waiting.done():
            args = tuple(message["args"])
            waiting.set_result(args if len(args) > 1 else args[0] if args else None)

    def _fail(self) -> None:
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(SessionGone(str(self.opened.get("sid", ""))))
        self._calls.clear()


class _WebSocket:
    """A websocket without a socket: first the handshake, then the wire of the connection."""

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False
    context = None

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.on_abort: Callable[[], None] | None = None
        self.connection: ConnectionOwner | None = None
        self.ready = True
        self.decided = asyncio.Event()
        self.refusal: HttpResponse | None = None
        self.closed: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        self.on_packet: Callable[[str], None]
        self.on_close: Callable[[], None]
        self._reads = asyncio.Event()
        self._reads.set()

    # The handshake; see primacron.web.WebSocketExchange

    def respond(self, response: HttpResponse) -> None:
        """Refuse the handshake."""
        self.refusal = response
        self.decided.set()

    def fail(self, error: Exception) -> None:
        """Refuse the handshake with 500."""
        self.respond(internal_error())

    def accept(self) -> _WebSocket:
        """Accept the handshake."""
        self.on_abort = None
        self.decided.set()
        return self

    # For the connection; see primacron.sessions.transport.WebSocket

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Deliver packets to the client."""
        for packet in packets:
            self.on_packet(packet.content(V4.version, base64=True)[1].decode())

    def backlog(self) -> int:
        """Return 0: the client takes everything at once."""
        return 0

    def pause(self) -> None:
        """Make the client's sends wait."""
        self._reads.clear()

    def resume(self) -> None:
        """Let the client send again."""
        self._reads.set()

    def close(self, reason: CloseReason) -> None:
        """Close the connection."""
        self.connection = None
        self._reads.set()
        self.closed.set_result(reason)
        self.on_close()

    # For the client

    async def send(self, packet: str) -> None:
        """Send a packet, as soon as the server is reading."""
        async with asyncio.timeout(DEADLINE):
            await self._reads.wait()
        self.hand_over(packet)

    def hand_over(self, packet: str) -> None:
        """Send a packet, whether or not the server is reading."""
        if self.connection is not None:
            self.connection.receive_text(packet, self)

    def lose(self) -> None:
        """Disconnect."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.lose(self)


def _message_of(response: HttpResponse) -> str:
    try:
        body = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        return response.body.decode("utf-8", "replace")
    return str(body.get("message", body)) if isinstance(body, dict) else str(body)
