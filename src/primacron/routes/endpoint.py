"""Routes requests by path: the stream, broadcast, health, pages of the application, or a hint for strangers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from primacron.config import LIVEZ, READYZ
from primacron.errors import BadRequest, PrimacronError, QueryTooLarge
from primacron.node import Node
from primacron.pages import answer_page
from primacron.protocol.handshake import TransportName, read_sid, read_transport
from primacron.routes.operations import Operations
from primacron.transports import polling, websocket
from primacron.transports.connecting import refusal
from primacron.transports.cors import check_origin, cors_headers
from primacron.web import Exchange, HttpRequest, HttpResponse, json_response

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.server import Server
    from primacron.sessions.transport import WebSocket
    from primacron.web import WebSocketExchange


# Bound to plain names: on Python 3.11 looking up an enum member takes ten times as long.
POLLING, WEBSOCKET = TransportName
#: What handles requests to the stream.
_HANDLERS: Final[dict[TransportName, Callable[[Node, Any, str | None], None]]] = {
    POLLING: polling.handle,
    WEBSOCKET: websocket.handle,
}
#: Requested by browsers along with every page.
FAVICON: Final = "/favicon.ico"
#: Where clients of other servers look, and people who only want to see whether anything answers.
_OF_OTHERS: Final = ("/", "/engine.io/", "/socket.io/")


class Endpoint:
    """All paths of a server; those for operators move to a second address if the option ``control`` names one."""

    if not cython.compiled:
        __slots__ = ("_has_broadcast", "_node", "_operations", "_options", "_pages", "_strangers", "_stream")

    def __init__(self, server: Server) -> None:
        self._node = server.node
        self._options = server.options
        self._operations = Operations(server)
        self._has_broadcast = server.options.control is None
        self._pages = server.pages
        self._strangers = Strangers(server, f"the stream is at {server.options.endpoint!r}")
        self._stream = frozenset({server.options.endpoint, server.options.endpoint.rstrip("/") or "/"})

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request, now or later."""
        request = exchange.request
        if request.path in self._stream:
            self._stream_request(exchange, POLLING)
        elif self._operations.is_health(request.path):
            exchange.respond(self._operations.answer_health(request))
        elif self._has_broadcast and self._operations.is_broadcast(request):
            self._operations.take_broadcast(exchange)
        elif (page := self._pages.find(request)) is not None:
            answer_page(self._node, exchange, page)
        else:
            exchange.respond(self._strangers.answer(request))

    def upgrade(self, exchange: WebSocketExchange[WebSocket]) -> None:
        """Accept or refuse one websocket handshake."""
        request = exchange.request
        if request.path in self._stream:
            self._stream_request(exchange, WEBSOCKET)
        else:
            exchange.respond(self._strangers.answer(request))

    def problem(self, error: Exception, **context: Any) -> None:
        """Report a request that violated HTTP to the application."""
        self._node.application.problem(error, **context)

    def _stream_request(self, exchange: Exchange | WebSocketExchange[WebSocket], came_by: TransportName) -> None:
        request = exchange.request
        try:
            sid = self._read(request, came_by)
        except PrimacronError as error:
            exchange.respond(refusal(self._node, request, error))
        else:
            _HANDLERS[came_by](self._node, exchange, sid)

    def _read(self, request: HttpRequest, came_by: TransportName) -> str | None:
        """Perform the checks common to all requests to the stream; return the sid."""
        if len(request.query_string) > self._options.max_query:
            raise QueryTooLarge(
                f"at most {self._options.max_query} bytes (option 'max_query')", len(request.query_string)
            )
        transport = read_transport(request.query, self._options.transports)
        check_origin(request, self._options)
        if transport is not came_by:
            raise BadRequest(
                f"transport={transport.value} on a {came_by.value} request: {_find_mismatch(transport, request)}"
            )
        return read_sid(request.query)


def _find_mismatch(transport: TransportName, request: HttpRequest) -> str:
    """Return why a request does not match the transport it names, usually because a proxy dropped a header field."""
    if transport is POLLING:
        return "a websocket is to have transport=websocket"
    upgrade = request.headers.get("upgrade")
    if upgrade is None:
        why = "field 'upgrade' is missing"
    elif upgrade.lower() != "websocket":
        why = f"field 'upgrade': expected websocket, got {upgrade[:100]!r}"
    elif "upgrade" not in request.headers.get("connection", "").lower():
        why = "field 'connection' has no Upgrade"
    else:
        why = "it is no GET of HTTP/1.1"
    return f"{why} (a proxy on the way has to pass on Upgrade and Connection, with HTTP/1.1)"


class OperationsEndpoint:
    """The paths for operators alone, on an address of their own."""

    def __init__(self, server: Server) -> None:
        self._node = server.node
        self._options = server.options
        self._operations = Operations(server)
        broadcast = server.options.broadcast_path
        self._strangers = Strangers(server, f"this address has PUT {broadcast!r}, {LIVEZ!r} and {READYZ!r}, no stream")

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request, now or later."""
        request = exchange.request
        if self._operations.is_health(request.path):
            exchange.respond(self._operations.answer_health(request))
        elif self._operations.is_broadcast(request):
            self._operations.take_broadcast(exchange)
        else:
            exchange.respond(self._strangers.answer(request))

    def upgrade(self, exchange: WebSocketExchange[WebSocket]) -> None:
        """Refuse a websocket handshake, as this address has no stream."""
        exchange.respond(self._strangers.answer(exchange.request))

    def problem(self, error: Exception, **context: Any) -> None:
        """Report a request that violated HTTP to the application."""
        self._node.application.problem(error, **context)


class Strangers:
    """Answers requests for unknown paths; ``instead`` is what the client's developer may be looking for."""

    def __init__(self, server: Server, instead: str) -> None:
        self._options = server.options
        self._log = server.log
        self._instead = instead

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Log the request and return the response."""
        path, is_look = request.path, request.method in ("GET", "HEAD")
        if self._options.redirect is not None and is_look:
            return HttpResponse(301, b"", ((b"Location", self._options.redirect.encode("ascii")),))
        if path == FAVICON and is_look:
            return HttpResponse(204)
        why = f"there is no {request.method[:20]} {path[:200]!r} here; {self._instead}"
        # Paths of other servers' clients get lines of their own; those tried by scanners share one.
        about = path if path in _OF_OTHERS else ""
        self._log.tell("path", about, lambda: f"{why} (from {request.peer})")
        fields = {"status": 400, "type": "bad request", "description": f"Bad request: {why}"}
        return json_response(400, fields, *cors_headers(request, self._options))
