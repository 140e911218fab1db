"""Long-polling: GET takes packets, POST brings them."""

from __future__ import annotations

import gzip
from contextvars import Context
from typing import Final

from primacron.errors import BadRequest, PayloadTooLarge, PrimacronError, ProtocolError, UnknownSid
from primacron.node import Admission, Node
from primacron.protocol.closing import CLIENT_CLOSE, TRANSPORT_ERROR, CloseReason
from primacron.protocol.engine import ENDED, ON_POLLING, Phase
from primacron.protocol.handshake import TransportName
from primacron.protocol.parcels import CLOSE, NOOP, Parcel
from primacron.protocol.payload import decode_payload, encode_payload
from primacron.sessions.connection import Connection
from primacron.transports.access import answer_preflight, cors_headers
from primacron.transports.admission import admit, find_connection, first_packets, read_applicant, refusal
from primacron.transports.carried import carry
from primacron.web import NO_STORE, Body, Exchange, HttpRequest, HttpResponse, json_response

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

_TEXT: Final = (b"Content-Type", b"text/plain; charset=UTF-8")
_BINARY: Final = (b"Content-Type", b"application/octet-stream")
_OK_TYPE: Final = (b"Content-Type", b"text/html")
_ENCODED: Final = ((b"Content-Encoding", b"gzip"), (b"Vary", b"Accept-Encoding"))


def handle(node: Node, exchange: Exchange, sid: str | None) -> None:
    """Take one request with ``transport=polling``."""
    request = exchange.request
    if request.method == "OPTIONS":
        exchange.respond(answer_preflight(request, node.options))
        return
    try:
        if sid is None:
            applicant = read_applicant(node, request)
            admit(node, exchange, applicant, _open)
            return
        if node.carrying is not None and node.carrying.is_elsewhere(sid):
            carry(node, node.carrying, exchange, sid)
            return
        polling = find_polling(node, request, sid)
        if request.method == "GET":
            polling.take_poll(exchange)
        elif request.method == "POST":
            polling.take_post(exchange)
        else:
            raise BadRequest(f"method {request.method}")
    except PrimacronError as error:
        exchange.respond(refusal(node, request, error))


def find_polling(node: Node, request: HttpRequest, sid: str) -> Polling:
    """
    Return what carries the connection of a polling request.

    Raises:
        UnknownSid: see :func:`find_connection`.
        BadRequest: if the connection has left polling.

    """
    connection = find_connection(node, request, sid)
    if not isinstance(connection.carrier, Polling):
        raise BadRequest("the connection was upgraded to websocket")
    return connection.carrier


def _open(node: Node, exchange: Exchange, admission: Admission) -> None:
    polling = Polling(node)
    polling.context = exchange.request.context
    connection = polling.connection = node.admissions.open(admission, polling, Phase.POLLING)
    for packet in first_packets(node, admission, connection, TransportName.POLLING):
        connection.send(packet)
    extra = (
        () if node.options.cookie is None else ((b"Set-Cookie", node.options.cookie.header(connection.sid).encode()),)
    )
    polling.answer_with(exchange, extra)
    node.application.opened(connection.session)


class Polling:
    """Carries a connection by the polls and posts of its client."""

    if not cython.compiled:
        __slots__ = ("_extra", "_node", "_poll", "_post", "_waiting", "connection", "context", "ready")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.connection: Connection | None = None
        self.context: Context | None = None
        self.ready = False
        self._poll: Exchange | None = None
        self._post: Exchange | None = None
        #: The POST whose body is not read yet.
        self._waiting: Exchange | None = None
        self._extra: tuple[tuple[bytes, bytes], ...] = ()

    # GET

    def take_poll(self, exchange: Exchange) -> None:
        """Answer with what is queued, or when something is."""
        connection = self._demand()
        if self._poll is not None:
            self._break(BadRequest("a second poll while the first one waits"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return
        self.answer_with(exchange, ())
        if self.ready and connection.phase is Phase.PROBING:
            self.write([NOOP])

    def answer_with(self, exchange: Exchange, extra: tuple[tuple[bytes, bytes], ...]) -> None:
        """Hold a poll until there is something to answer."""
        connection = self._demand()
        self._poll = exchange
        self._extra = extra
        self.ready = True
        exchange.on_abort = self._poll_aborted
        connection.flush()

    def _poll_aborted(self) -> None:
        self._poll = None
        self.ready = False
        if self.connection is not None:
            self.connection.lose(self)

    # POST

    def take_post(self, exchange: Exchange) -> None:
        """Read a body, once the session has room for it, and act on its packets."""
        connection = self._demand()
        if connection.phase in ENDED:
            raise UnknownSid
        if self._post is not None:
            first, self._post, self._waiting = self._post, None, None
            first.on_abort = None
            first.abort()
            self._break(BadRequest("a second POST while the first one is read"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return
        if connection.format.version == 4 and _is_binary(exchange.request):
            self._break(ProtocolError("POST of application/octet-stream in protocol 4"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return
        self._post = exchange
        exchange.on_abort = self._post_aborted
        if connection.is_held:
            self._waiting = exchange
        else:
            exchange.receive(self._node.options.max_payload, self._take_body)

    def _take_body(self, body: Body) -> None:
        exchange, self._post = self._post, None
        assert exchange is not None
        exchange.on_abort = None
        self.context = exchange.request.context
        if isinstance(body, PayloadTooLarge):
            exchange.respond(refusal(self._node, exchange.request, body))
            return
        try:
            self._act(exchange, body)
        except ProtocolError as error:
            if self.connection is not None and self.connection.carrier is self:
                self.connection.refuse(error, self)
            exchange.respond(refusal_of_body(self._node, exchange.request, error))
            return
        headers = (_OK_TYPE, *cors_headers(exchange.request, self._node.options))
        exchange.respond(HttpResponse(200, b"ok", headers))

    def _act(self, exchange: Exchange, body: bytes) -> None:
        connection = self._demand()
        if connection.phase in ENDED:
            raise UnknownSid
        if connection.phase not in ON_POLLING:
            raise BadRequest("the connection was upgraded to websocket")
        version = connection.format.version
        binary = _is_binary(exchange.request)
        packets = decode_payload(body, version, self._node.options.max_packets, binary)
        if not connection.receive_payload(packets, self):
            raise BadRequest("the connection ended before all packets were handled")

    def _post_aborted(self) -> None:
        self._post = None
        if self.connection is not None:
            self.connection.lose(self)

    # For the connection

    def write(self, parcels: list[Parcel]) -> None:
        """See :class:`Carrier`."""
        exchange, extra = self._poll, self._extra
        self._poll = None
        self.ready = False
        self._extra = ()
        if exchange is None or self.connection is None:
            return
        exchange.on_abort = None
        wire_format = self.connection.format
        body, binary = encode_payload(parcels, wire_format.version, wire_format.base64)
        headers = (_BINARY if binary else _TEXT, NO_STORE, *extra, *cors_headers(exchange.request, self._node.options))
        exchange.respond(self._compressed(exchange.request, HttpResponse(200, body, headers)))

    def backlog(self) -> int:
        """See :class:`Carrier`."""
        return 0

    def pause(self) -> None:
        """See :class:`Carrier`: the next POST waits."""

    def resume(self) -> None:
        """See :class:`Carrier`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.receive(self._node.options.max_payload, self._take_body)

    def close(self, reason: CloseReason) -> None:
        """See :class:`Carrier`."""
        if self._poll is not None:
            self.write([NOOP if reason is CLIENT_CLOSE else CLOSE])
        post = self._post
        if post is not None:
            post.on_abort = None
            if self._waiting is not None:
                post.respond(refusal_of_body(self._node, post.request, UnknownSid()))
        self._waiting = None

    def _compressed(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        threshold = self._node.options.gzip_threshold
        if threshold is None or len(response.body) < threshold:
            return response
        if not _takes_gzip(request):
            return response
        body = gzip.compress(response.body, compresslevel=5, mtime=0)
        return HttpResponse(response.status, body, (*response.headers, *_ENCODED))

    def _break(self, error: ProtocolError) -> None:
        if self.connection is not None:
            self.connection.refuse(error, self, TRANSPORT_ERROR)

    def _demand(self) -> Connection:
        if self.connection is None:
            raise UnknownSid
        return self.connection


def refusal_of_body(node: Node, request: HttpRequest, error: ProtocolError) -> HttpResponse:
    """Return the answer to a POST whose body was refused; the application has heard of it."""
    fields = {"code": error.engine_code, "message": str(error)}
    return json_response(error.http_status, fields, *cors_headers(request, node.options))


def _takes_gzip(request: HttpRequest) -> bool:
    for coding in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() == "gzip":
            return quality.strip().rstrip("0") not in ("q=", "q=0.")
    return False


def _is_binary(request: HttpRequest) -> bool:
    return request.headers.get("content-type", "").startswith("application/octet-stream")
