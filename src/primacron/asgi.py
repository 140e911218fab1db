"""
The server as an ASGI application, to run under uvicorn or to mount in another application.

The outer server does the HTTP parsing, the deadlines for slow senders and the
websocket frames; everything behind that is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from primacron.errors import FrameError, NotListening, PayloadTooLarge, ProtocolError, TooMuchInput
from primacron.protocol.close_reasons import INTERNAL, TOO_LARGE, CloseReason
from primacron.protocol.handshake import V4, TransportName
from primacron.protocol.outgoing import LEAST_SIZE, OutgoingPacket
from primacron.proxies import find_origin
from primacron.routes.endpoint import Endpoint
from primacron.sessions.unfinished import Unfinished
from primacron.transports.websocket import choose_subprotocol
from primacron.turns import MUCH, Turns
from primacron.web import Body, HttpRequest, HttpResponse, internal_error, json_response

if TYPE_CHECKING:
    from primacron.node import Node
    from primacron.server import Server
    from primacron.sessions.transport import ConnectionOwner

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: Bytes handed to the outer server and not yet accepted by it, above which a client counts as not reading.
WRITE_LIMIT: Final = 65_536
#: Characters and bytes read ahead while the session applies back pressure.
READ_AHEAD: Final = 65_536
#: Seconds the outer server has to end a websocket that was closed.
CLOSE_TIMEOUT: Final = 5.0
#: Answers a request whose client is gone: some middleware insists on a response.
_GONE_AWAY: Final = HttpResponse(499)
#: Raised by outer servers when a message is sent to a client that is gone.
_GONE: Final = (OSError, RuntimeError)
_ENDED: Final = json_response(503, {"code": 3, "message": "the server has ended"})


class AsgiApplication:
    """The class of ``server.asgi``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # Those of the current start; the server may be started several times.
        self._node: Node | None = None
        self._endpoint: Endpoint | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, one websocket, or the lifespan of the outer server."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
        elif kind == "http":
            await _HttpExchange(self._read_request(scope), receive, send, self._server).run(await self._ready())
        elif kind == "websocket":
            await _WebSocket(self._read_request(scope), scope, receive, send, self._server).run(await self._ready())

    async def _ready(self) -> Endpoint | None:
        """Start the server on the first request, as mounted applications get no lifespan; None once it has ended."""
        if not self._server.is_in_this_loop:  # a server that is shutting down still has responses to send
            try:
                await self._server.start_by_request()
            except NotListening:
                return None
        if self._node is not self._server.node:
            self._node = self._server.node
            self._endpoint = Endpoint(self._server)
        return self._endpoint

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._server.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._server.destroy()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _read_request(self, scope: Scope) -> HttpRequest:
        fields: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            fields[key] = f"{fields[key]}{'; ' if key == 'cookie' else ', '}{text}" if key in fields else text
        peer = scope["client"][0] if scope.get("client") else "local"
        secure = scope.get("scheme") in ("https", "wss")
        origin = find_origin(peer, secure, fields, self._server.options.trusted_proxies)
        query = scope.get("query_string", b"").decode("latin-1")
        method = scope.get("method", "GET")
        request = HttpRequest(method, self._path(scope), query, fields, peer=origin.peer, secure=origin.secure)
        request.host, request.scheme = origin.host, origin.scheme
        request.context = copy_context()
        return request

    def _path(self, scope: Scope) -> str:
        """Return the path relative to the server's mount point."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        endpoint = self._server.options.endpoint
        if path in (endpoint, endpoint.rstrip("/")) or not root or not path.startswith(f"{root}/"):
            return path
        return path[len(root) :]


class _HttpExchange:
    """One HTTP request: the :class:`primacron.web.Exchange` under ASGI."""

    def __init__(self, request: HttpRequest, receive: Receive, send: Send, server: Server) -> None:
        self.request = request
        self.on_abort: Callable[[], None] | None = None
        self._receive = receive
        self._send = send
        self._server = server
        self._response: HttpResponse | None = None
        self._is_gone = False
        self._limit = 0
        self._done: Callable[[Body], None] | None = None
        self._reading: asyncio.Timeout | None = None
        # Set when the response is ready, or when the body is wanted.
        self._changed = asyncio.Event()

    # For the handler

    def respond(self, response: HttpResponse) -> None:
        """Send the response; does nothing after an abort or an earlier response."""
        if self._response is None and not self._is_gone:
            self._response = response
            self.on_abort = None
            self._changed.set()
            if self._reading is not None and not self._reading.expired():
                self._reading.reschedule(0)  # nobody needs the rest of the body

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        """Read the whole body, then call ``done`` with it, or with the error if it exceeds ``limit`` bytes."""
        self._limit = limit
        self._done = done
        self._changed.set()

    def abort(self) -> None:
        """Send an error response: ASGI has no way to drop the connection."""
        self.respond(HttpResponse(400, b"", ((b"Connection", b"close"),)))

    def fail(self, error: Exception) -> None:
        """Report an internal error and answer 500."""
        on_abort, self.on_abort = self.on_abort, None
        self._server.problem(error, request=self.request)
        self.respond(internal_error((b"Connection", b"close")))
        if on_abort is not None:
            on_abort()

    # For the outer server

    async def run(self, endpoint: Endpoint | None) -> None:
        """Answer the request."""
        try:
            if endpoint is None:
                self._response = _ENDED
            else:
                self._begin(endpoint)
                await self._exchange()
        finally:
            if self._response is None:  # the client is gone, or the outer server has given up
                self._lose()
        await self._write(self._response or _GONE_AWAY)

    def _begin(self, endpoint: Endpoint) -> None:
        try:
            endpoint.handle(self)
        except Exception as error:
            self.fail(error)

    async def _exchange(self) -> None:
        body_is_read = False
        while self._response is None and not self._is_gone:
            if self._done is not None and not body_is_read:
                body_is_read = True
                await self._read_body()
            elif body_is_read or self.request.method != "POST":
                await self._wait_or_lose()
            else:
                await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _wait_or_lose(self) -> None:
        """Wait for a change, or for the client to disconnect."""
        self._changed.clear()
        changed = asyncio.ensure_future(self._changed.wait())
        gone = asyncio.ensure_future(self._wait_for_disconnect())
        try:
            await asyncio.wait({changed, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and self._response is None:
                self._lose()
        finally:
            for waiting in (changed, gone):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _read_body(self) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        try:
            async with asyncio.timeout(self._server.options.body_timeout) as self._reading:
                body = await self._collect()
        except TimeoutError:
            if self._response is None:
                self._time_out()
            return
        finally:
            self._reading = None
        if body is None:
            self._lose()
        elif self._response is None:
            try:
                done(body)
            except Exception as error:
                self.fail(error)

    async def _collect(self) -> Body | None:
        length = self.request.headers.get("content-length", "").lstrip("0")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._limit):
            return PayloadTooLarge("the body", self._limit)
        body = bytearray()
        unfinished = self._server.node.hub.unfinished
        try:
            return await self._collect_parts(body, unfinished)
        finally:
            unfinished.release(self)

    async def _collect_parts(self, body: bytearray, unfinished: Unfinished) -> Body | None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            is_last = not message.get("more_body", False)
            if len(body) + len(part) > self._limit:
                return PayloadTooLarge("the body", self._limit)
            if is_last and not body:
                return part
            body += part
            if is_last:
                return bytes(body)
            unfinished.hold(self, len(body))

    def overflow(self, error: TooMuchInput) -> None:
        """Abandon the request: too much unfinished input is held, most of it here."""
        self._server.problem(error, request=self.request)
        self._lose()
        self._response = json_response(error.http_status, {"code": error.engine_code, "message": str(error)})
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(0)

    def _time_out(self) -> None:
        error = ProtocolError("the body of the request took too long (option 'body_timeout')")
        self._server.problem(error, request=self.request)
        self._lose()
        self._response = json_response(408, {"code": error.engine_code, "message": str(error)})

    def _lose(self) -> None:
        self._is_gone = True
        on_abort, self.on_abort = self.on_abort, None
        if on_abort is not None:
            on_abort()

    async def _write(self, response: HttpResponse) -> None:
        headers = [(name.lower(), value) for name, value in response.headers]
        if response.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(response.body)))
        with contextlib.suppress(OSError):  # the client may be gone by now
            await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": response.body})


class _WebSocket:
    """One websocket: first the exchange of its handshake, then the wire of its connection."""

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False

    def __init__(self, request: HttpRequest, scope: Scope, receive: Receive, send: Send, server: Server) -> None:
        self.request = request
        self.context = request.context
        self.on_abort: Callable[[], None] | None = None
        self.connection: ConnectionOwner | None = None
        self.ready = True
        self._receive = receive
        self._send = send
        self._server = server
        self._turns: Turns
        self._can_refuse = "websocket.http.response" in (scope.get("extensions") or {})
        self._decided = asyncio.Event()
        self._refusal: HttpResponse | None = None
        self._out: list[Message] = []
        self._waiting = 0
        self._writer: asyncio.Task[None] | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        # Input read ahead while the session applies back pressure.
        self._ahead: deque[str | bytes] = deque()
        self._ahead_size = 0
        # How much was delivered since the turn budget was last checked.
        self._taken = 0
        self._task = asyncio.current_task()
        self._is_cut = False
        self._end: asyncio.TimerHandle | None = None

    # The handshake; see primacron.web.WebSocketExchange

    def respond(self, response: HttpResponse) -> None:
        """Refuse the handshake."""
        if not self._decided.is_set():
            self._refusal = response
            self._decided.set()

    def accept(self) -> _WebSocket:
        """Accept the handshake."""
        self.on_abort = None
        chosen = choose_subprotocol(self.request, self._server.options)
        self._put({"type": "websocket.accept", "subprotocol": chosen}, 0)
        self._decided.set()
        return self

    async def run(self, endpoint: Endpoint | None) -> None:
        """Serve the websocket until it closes."""
        await self._receive()  # websocket.connect
        if endpoint is None:
            await self._refuse(_ENDED)
            return
        self._turns = self._server.node.hub.turns
        try:
            self._begin(endpoint)
            first = None if self._decided.is_set() else await self._decide()
            if self._refusal is not None:
                await self._refuse(self._refusal)
            elif self._decided.is_set():
                await self._read(first)
        except asyncio.CancelledError:
            if not self._is_cut:
                raise
            if self._task is not None:
                self._task.uncancel()
        finally:
            self._finish()

    def _begin(self, endpoint: Endpoint) -> None:
        try:
            endpoint.upgrade(self)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Report an internal error, and refuse a handshake not accepted yet with 500."""
        self._server.problem(error, request=self.request)
        self.respond(internal_error())

    async def _decide(self) -> Message | None:
        """Wait for the decision or for a message from the client; return that message, if any."""
        decided = asyncio.ensure_future(self._decided.wait())
        coming = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait({decided, coming}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and coming.result()["type"] != "websocket.disconnect":
                await self._decided.wait()
        finally:
            for waiter in (decided, coming):
                waiter.cancel()
            await asyncio.wait({decided, coming})  # not every outer server supports two concurrent receives
        return None if coming.cancelled() else coming.result()

    def _finish(self) -> None:
        """Tell whoever still depends on the client that it is gone."""
        self._task = None
        self.ready = False
        on_abort, self.on_abort = self.on_abort, None
        if on_abort is not None and not self._decided.is_set():
            on_abort()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.lose(self)
        if self._writer is not None:
            self._writer.cancel()
        if self._end is not None:
            self._end.cancel()

    async def _refuse(self, response: HttpResponse) -> None:
        if not self._can_refuse:
            await self._send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        headers = [(name.lower(), value) for name, value in response.headers]
        headers.append((b"content-length", b"%d" % len(response.body)))
        await self._send({"type": "websocket.http.response.start", "status": response.status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": response.body})

    async def _read(self, message: Message | None) -> None:
        """Deliver input until the websocket closes; while paused, read a little ahead, to notice a disconnect."""
        while True:
            if message is None:
                message = await self._receive()
            if message["type"] == "websocket.disconnect":
                break
            text: str | None = message.get("text")
            content = message["bytes"] if text is None else text
            message = None
            if len(content) > MUCH and self._turns.is_over():
                await self._wait_for_turn(fresh=True)
            if self._reading.is_set() and not self._ahead:
                self._take(content)
                if self._has_had_turn(content):
                    await self._wait_for_turn()
                continue
            self._ahead.append(content)
            self._ahead_size += _weight(content)
            while self._ahead_size > READ_AHEAD:
                await self._reading.wait()
                await self._wait_for_turn()
        while self._ahead:  # what the client sent before it left still counts
            self._take_next()
            if self._turns.is_over():
                await self._wait_for_turn()

    def _has_had_turn(self, content: str | bytes) -> bool:
        """Tell whether the turn is over; checked once enough has been delivered since the last time."""
        self._taken += _weight(content)
        if self._taken <= MUCH:
            return False
        self._taken = 0
        return self._turns.is_over()

    async def _wait_for_turn(self, *, fresh: bool = False) -> None:
        """Yield to others that are waiting for a turn."""
        turn = asyncio.Event()
        self._turns.defer(turn.set, fresh)
        await turn.wait()

    def _hand_on(self) -> None:
        while self._ahead and self._reading.is_set():
            self._take_next()
            if self._turns.is_over():
                self._turns.defer(self._hand_on)
                break

    def _take_next(self) -> None:
        content = self._ahead.popleft()
        self._ahead_size -= _weight(content)
        self._take(content)

    def _take(self, message: str | bytes) -> None:
        try:
            self._hand_over(message)
        except Exception as error:
            if self.connection is None:
                self._server.problem(error, request=self.request)
            else:
                self.connection.refuse(error, self, INTERNAL)

    def _hand_over(self, message: str | bytes) -> None:
        connection = self.connection
        limit = self._server.options.max_payload
        if connection is None:
            return
        if _size(message) > limit:
            connection.refuse(FrameError(1009, f"message is larger than {limit} bytes"), self, TOO_LARGE)
        elif isinstance(message, str):
            connection.receive_text(message, self)
        else:
            connection.receive_binary(message, self)

    # The websocket; see primacron.sessions.transport.WebSocket

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Send packets, in this order."""
        wire_format = self.connection.format if self.connection is not None else V4
        for packet in packets:
            binary, data = packet.content(wire_format.version, wire_format.base64)
            if binary:
                self._put({"type": "websocket.send", "bytes": data}, len(data))
            else:
                self._put({"type": "websocket.send", "text": data.decode()}, len(data))

    def _put(self, message: Message, size: int) -> None:
        self._out.append(message)
        self._waiting += max(size, LEAST_SIZE)
        self.ready = self._waiting < WRITE_LIMIT
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        with contextlib.suppress(*_GONE):  # the reader will find out
            while self._out:
                out, self._out = self._out, []
                taken = self._waiting
                for message in out:
                    await self._send(message)
                self._waiting -= taken
                self.ready = self._waiting < WRITE_LIMIT
                if self.ready and self.connection is not None and not self._out:
                    self.connection.flush()
        self._writer = None

    def backlog(self) -> int:
        """Return the number of bytes the outer server has not accepted yet."""
        return self._waiting

    def pause(self) -> None:
        """Stop reading."""
        self._reading.clear()

    def resume(self) -> None:
        """Resume reading."""
        self._reading.set()
        if self._ahead:
            asyncio.get_running_loop().call_soon(self._hand_on)

    def close(self, reason: CloseReason) -> None:
        """Close the websocket; a client that is not reading is cut off."""
        self.connection = None
        self._ahead.clear()
        self._ahead_size = 0
        self._reading.set()
        if self.ready:
            self._put({"type": "websocket.close", "code": reason.code, "reason": reason.short}, 0)
            self._end = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._cut)
        else:
            self._cut()

    def _cut(self) -> None:
        """Cancel the task that runs the websocket, which makes the outer server close the connection."""
        if self._task is not None and not self._is_cut:
            self._is_cut = True
            self._task.cancel()


def _weight(message: str | bytes) -> int:
    return len(message) + 64  # a short message has overhead beyond its content


def _size(message: str | bytes) -> int:
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())


@contextlib.asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[None]:
    """Start the server, and shut it down at the end."""
    await server.start()
    try:
        yield
    finally:
        await server.destroy()
