"""
Long-polling: GET delivers packets to the client, POST brings its own.

Proxies and browsers repeat a request whose response they did not receive. Most
clients give each request a different ``t``, which tells a repeat from a new
request: a sid is *stamped* if its handshake and first poll had different ones.
On a stamped sid no POST is handled twice and no response to a GET is lost,
whichever node the repeat arrives at.
"""

from __future__ import annotations

import gzip
from contextvars import Context
from functools import partial
from typing import Final

from primacron.errors import BadRequest, PayloadTooLarge, PrimacronError, ProtocolError, UnknownSid
from primacron.ids import NodeId
from primacron.node import Admission, Node
from primacron.node.forwarding import RemoteExchange
from primacron.protocol.close_reasons import TRANSPORT_ERROR, CloseReason
from primacron.protocol.engine import BEFORE_UPGRADE, ENDED, Phase
from primacron.protocol.handshake import TransportName
from primacron.protocol.outgoing import CLOSE, NOOP, OutgoingPacket
from primacron.protocol.payload import Payload, encode_payload
from primacron.sessions.connection import Connection
from primacron.sessions.long_post import Backlog
from primacron.transports.connecting import admit, find_connection, first_packets, read_applicant, refusal
from primacron.transports.cors import answer_preflight, cors_headers
from primacron.transports.misdirected import forward
from primacron.web import NO_STORE, Body, Exchange, HttpRequest, HttpResponse, demand_plain_body, json_response

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

_TEXT: Final = (b"Content-Type", b"text/plain; charset=UTF-8")
_BINARY: Final = (b"Content-Type", b"application/octet-stream")
_OK_TYPE: Final = (b"Content-Type", b"text/html")
_ENCODED: Final = ((b"Content-Encoding", b"gzip"), (b"Vary", b"Accept-Encoding"))

#: Characters beyond which a ``t`` is ignored as a stamp.
LONGEST_STAMP: Final = 64
#: A POST of up to this many packets is read in one go, and all of them may wait for their handlers.
SHORT: Final = 1_000
#: Packets python-engineio accepts in one payload; given one more, it drops the connection.
FEW: Final = 16
#: Prefix of the User-Agents in question: requests, aiohttp and the others all begin with the language.
FEW_FOR: Final = "python"
#: The limit for all other clients.
ANY_NUMBER: Final = 2**62
#: Bytes up to which the last response to a poll is not counted: less than what its connection weighs.
UNCOUNTED: Final = 1_024


def handle(node: Node, exchange: Exchange, sid: str | None, by: NodeId | None = None) -> None:
    """Handle one request with ``transport=polling``; ``by`` is the node that forwarded it, if any."""
    request = exchange.request
    if request.method == "OPTIONS":
        exchange.respond(answer_preflight(request, node.options))
        return
    try:
        if sid is None:
            applicant = read_applicant(node, request)
            admit(node, exchange, applicant, _open)
            return
        connection = find_connection(node, request, sid)
        if connection is None:
            forward(node, exchange, sid)
            return
        polling = _polling_of(connection)
        if request.method == "GET":
            polling.take_poll(exchange, by)
        elif request.method == "POST":
            demand_plain_body(request)
            polling.take_post(exchange)
        else:
            raise BadRequest(f"method {request.method}")
    except PrimacronError as error:
        exchange.respond(refusal(node, request, error))


def _polling_of(connection: Connection) -> Polling:
    """
    Return the polling transport of a connection.

    Raises:
        BadRequest: if the connection has left polling.

    """
    if not isinstance(connection.transport, Polling):
        raise BadRequest("the connection was upgraded to websocket")
    return connection.transport


def answer_carried(node: Node, exchange: RemoteExchange) -> None:
    """Answer a request that another node forwarded for a connection of this one."""
    handle(node, exchange, exchange.item.sid, exchange.item.origin)


def release_carried(node: Node, exchange: RemoteExchange) -> None:
    """Answer a pending poll, because the node that forwarded it is shutting down."""
    connection = node.hub.connections.get(exchange.item.sid)
    if connection is not None and isinstance(connection.transport, Polling):
        connection.transport.let_go(exchange)


def read_stamp(request: HttpRequest) -> int:
    """Return the stamp of a request: a hash of its ``t``, 0 if it has none."""
    text = request.query.get("t")
    if text is None or len(text) > LONGEST_STAMP:
        return 0
    return hash(text) or 1


def _open(node: Node, exchange: Exchange, admission: Admission) -> None:
    is_few = exchange.request.headers.get("user-agent", "")[: len(FEW_FOR)].lower() == FEW_FOR
    polling = Polling(node, read_stamp(exchange.request), FEW if is_few else ANY_NUMBER)
    polling.context = exchange.request.context
    connection = polling.connection = node.admissions.open(admission, polling)
    for packet in first_packets(node, admission, connection):
        connection.send(packet)
    extra = (
        () if node.options.cookie is None else ((b"Set-Cookie", node.options.cookie.header(connection.sid).encode()),)
    )
    polling.answer_with(exchange, extra)
    node.admissions.opened(connection)


class Polling:
    """Carries a connection over the client's polls and POSTs."""

    if not cython.compiled:
        __slots__ = (
            "_answer",
            "_answered",
            "_by",
            "_extra",
            "_first",
            "_is_stamped",
            "_node",
            "_poll",
            "_post",
            "_posted",
            "_posted_before",
            "_stamp",
            "_twin",
            "_waiting",
            "connection",
            "context",
            "most",
            "ready",
        )

    name = TransportName.POLLING
    can_upgrade = True
    keeps_for_poll = True

    def __init__(self, node: Node, first: int, most: int) -> None:
        self._node = node
        self.most = most
        self.connection: Connection | None = None
        self.context: Context | None = None
        self.ready = False
        self._poll: Exchange | None = None
        self._post: Exchange | None = None
        #: The POST whose body is held back until the session has room.
        self._waiting: Exchange | None = None
        #: A repeat of the POST that is being read.
        self._twin: Exchange | None = None
        self._extra: tuple[tuple[bytes, bytes], ...] = ()
        #: The stamp of the handshake, until it is known whether the sid is stamped.
        self._first = first
        self._is_stamped = False
        #: The pending poll's stamp, and the node that forwarded it.
        self._stamp = 0
        self._by: NodeId | None = None
        #: The stamp of the poll answered last, and its response, kept until the next poll.
        self._answered = 0
        self._answer: HttpResponse | None = None
        #: The stamps of the last two POSTs: a forwarded one may be overtaken by its repeat and by its successor.
        self._posted = 0
        self._posted_before = 0

    def _read_stamp(self, request: HttpRequest, is_poll: bool) -> int:
        """Return the stamp of a request, 0 if the sid is not stamped."""
        if self._first == 0 and not self._is_stamped:
            return 0
        stamp = read_stamp(request)
        if self._first != 0 and (is_poll or stamp != 0):
            self._is_stamped = stamp not in (0, self._first)
            self._first = 0
        return stamp if self._is_stamped else 0

    # GET

    def take_poll(self, exchange: Exchange, by: NodeId | None) -> None:
        """Respond with what is queued, or once something is; ``by`` is the node that forwarded the poll."""
        connection = self._demand()
        stamp = self._read_stamp(exchange.request, True)
        if stamp != 0 and stamp == self._answered:
            self._answer_again(exchange)
            return
        if self._poll is not None and not self._make_way(exchange, by, stamp):
            return
        if self._answer is not None:
            self._forget_answer(self._answer)
        self._stamp = stamp
        self._by = by
        self.answer_with(exchange, ())
        if self.ready and connection.phase is Phase.PROBING:
            self.write([NOOP])

    def _make_way(self, exchange: Exchange, by: NodeId | None, stamp: int) -> bool:
        """Answer the pending poll in favour of a new one; return False if the new one was answered as well."""
        is_repeat = stamp != 0 and stamp == self._stamp
        if by == self._by and not is_repeat:
            self._break(BadRequest("a second poll while the first one waits"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return False
        overtakes = is_repeat and self._by is None and by is not None
        self.write([NOOP])
        if overtakes:
            # Either may be the repeat: this one may have been sent first, and its forwarding node may have died, since
            # the bus is slower than a connection. The client must get the same response by both.
            self._answer_again(exchange)
            return False
        if is_repeat:
            self._answered = 0
        return True

    def _answer_again(self, exchange: Exchange) -> None:
        """Answer a repeated poll with the same response."""
        if self._answer is not None:
            exchange.respond(self._answer)
        elif self._poll is not None:  # it got that response, or it would not have polled again
            exchange.respond(self._encode([NOOP], exchange.request, ()))
        else:
            self._break(BadRequest("the answer to this poll had to make room, and is lost"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))

    def answer_with(self, exchange: Exchange, extra: tuple[tuple[bytes, bytes], ...]) -> None:
        """Hold a poll until there is something to send."""
        connection = self._demand()
        self._poll = exchange
        self._extra = extra
        self.ready = True
        exchange.on_abort = self._poll_aborted
        connection.flush()
        if self._poll is exchange:
            exchange.request.trim()

    def let_go(self, exchange: Exchange) -> None:
        """Answer a poll if it is pending."""
        if self._poll is exchange:
            self.write([NOOP])

    def _poll_aborted(self) -> None:
        self._poll = None
        self.ready = False
        if self.connection is not None:
            self.connection.lose(self)

    # The last response

    def _keep_answer(self, response: HttpResponse) -> None:
        """Keep the response to a poll for its repeats."""
        self._answered = self._stamp
        self._stamp = 0
        self._answer = response
        if len(response.body) > UNCOUNTED and self.connection is not None:
            self._node.hub.answers.keep(self.connection.sid, self, len(response.body))

    def _forget_answer(self, answer: HttpResponse) -> None:
        self._answer = None
        if len(answer.body) > UNCOUNTED and self.connection is not None:
            self._node.hub.answers.forget(self.connection.sid)

    def drop_answer(self) -> None:
        """Drop the last response to free memory."""
        self._answer = None

    # POST

    def take_post(self, exchange: Exchange) -> None:
        """Read a body once the session has room for it, and handle its packets."""
        connection = self._demand()
        stamp = self._read_stamp(exchange.request, False)
        if stamp != 0 and stamp in (self._posted, self._posted_before):
            self._repeat_post(exchange, stamp)
            return
        if connection.phase in ENDED:
            raise UnknownSid
        if self._post is not None:
            first, self._post, self._waiting = self._post, None, None
            first.on_abort = None
            first.abort()
            self._drop_twin()
            self._break(BadRequest("a second POST while the first one is read"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return
        if connection.format.version == 4 and _is_binary(exchange.request):
            self._break(ProtocolError("POST of application/octet-stream in protocol 4"))
            exchange.respond(HttpResponse(400, b"", cors_headers(exchange.request, self._node.options)))
            return
        if stamp != 0:
            self._posted_before = self._posted
            self._posted = stamp
        self._read(exchange, connection)

    def _read(self, exchange: Exchange, connection: Connection) -> None:
        self._post = exchange
        exchange.on_abort = self._post_aborted
        if connection.is_held:
            self._waiting = exchange
        else:
            exchange.receive(self._node.options.max_payload, self._take_body)

    def _take_body(self, body: Body) -> None:
        exchange = self._post
        assert exchange is not None
        self.context = exchange.request.context
        response = self._answer_body(exchange, body)
        if response is not None:
            self._end_post(exchange, response)

    def _end_post(self, exchange: Exchange, response: HttpResponse) -> None:
        """Answer a POST and its repeat."""
        twin, self._twin = self._twin, None
        self._post = None
        exchange.on_abort = None
        exchange.respond(response)
        if twin is not None:
            self._confirm(twin, response)

    def _answer_body(self, exchange: Exchange, body: Body) -> HttpResponse | None:
        """Handle a body and return the response; None for a long one, which is answered later."""
        if isinstance(body, PayloadTooLarge):
            self._posted = 0  # it was not handled
            return refusal(self._node, exchange.request, body)
        connection = self._demand()
        if connection.phase in ENDED:  # closed by the server while the body was arriving
            return refusal_of_body(self._node, exchange.request, UnknownSid())
        try:
            return self._act(exchange, connection, body)
        except ProtocolError as error:
            return self._refuse_body(exchange, error)

    def _refuse_body(self, exchange: Exchange, error: ProtocolError) -> HttpResponse:
        if self.connection is not None and self.connection.transport is self:
            self.connection.refuse(error, self)
        return refusal_of_body(self._node, exchange.request, error)

    def _ok(self, exchange: Exchange) -> HttpResponse:
        return HttpResponse(200, b"ok", (_OK_TYPE, *cors_headers(exchange.request, self._node.options)))

    def _act(self, exchange: Exchange, connection: Connection, body: bytes) -> HttpResponse | None:
        if connection.phase not in BEFORE_UPGRADE:
            raise BadRequest("the connection was upgraded to websocket")
        version = connection.format.version
        payload = Payload(body, version, self._node.options.max_packets, _is_binary(exchange.request))
        packets = payload.take(SHORT)
        if not payload.is_done:
            backlog = Backlog(connection, payload, len(body))
            backlog.check(packets, partial(self._checked, exchange, backlog))
            return None
        connection.receive_payload(packets, self)
        return self._ok(exchange)

    def _checked(self, exchange: Exchange, backlog: Backlog, error: Exception | None) -> None:
        """Let the connection handle all packets of a long body, or none if it is invalid."""
        connection = self._demand()
        if self._post is not exchange:  # its client is gone
            backlog.drop()
        elif isinstance(error, ProtocolError):
            self._end_post(exchange, self._refuse_body(exchange, error))
        elif error is not None:
            exchange.fail(error)
        elif connection.phase not in BEFORE_UPGRADE:  # closed or upgraded while it was being checked
            backlog.drop()
            self._end_post(exchange, refusal_of_body(self._node, exchange.request, UnknownSid()))
        else:
            backlog.begin_with(partial(self._begun, exchange))

    def _begun(self, exchange: Exchange, is_begun: bool) -> None:
        """Answer a long POST; the rest of it is kept until the session has room."""
        if self._post is exchange:
            gone = refusal_of_body(self._node, exchange.request, UnknownSid())
            self._end_post(exchange, self._ok(exchange) if is_begun else gone)

    def _post_aborted(self) -> None:
        self._post = self._waiting = None
        twin, self._twin = self._twin, None
        connection = self.connection
        if connection is None:
            return
        if twin is not None and connection.phase not in ENDED:
            self._read(twin, connection)
        else:
            connection.lose(self)

    # A repeated POST

    def _repeat_post(self, exchange: Exchange, stamp: int) -> None:
        """Answer a repeated POST as the first was, once that has been answered."""
        if self._post is not None and stamp == self._posted:
            self._drop_twin()
            self._twin = exchange
            exchange.on_abort = self._twin_aborted
        else:
            self._confirm(exchange, self._ok(exchange))

    def _confirm(self, exchange: Exchange, response: HttpResponse) -> None:
        """Answer a POST without handling it, once its body is complete."""
        exchange.on_abort = None
        exchange.receive(self._node.options.max_payload, partial(_respond, exchange, response))

    def _twin_aborted(self) -> None:
        self._twin = None

    def _drop_twin(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.on_abort = None
            twin.abort()

    # For the connection

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Answer the pending poll with these packets; those beyond the client's limit are put back."""
        exchange, extra = self._poll, self._extra
        self._poll = None
        self.ready = False
        self._extra = ()
        if exchange is None or self.connection is None:
            return
        exchange.on_abort = None
        if len(packets) > self.most:
            self.connection.put_back(packets[self.most :])
            packets = packets[: self.most]
        response = self._encode(packets, exchange.request, extra)
        if self._stamp != 0:
            self._keep_answer(response)
        exchange.respond(response)

    def _encode(
        self, packets: list[OutgoingPacket], request: HttpRequest, extra: tuple[tuple[bytes, bytes], ...]
    ) -> HttpResponse:
        """Encode the response to a poll."""
        wire_format = self._demand().format
        body, binary = encode_payload(packets, wire_format.version, wire_format.base64)
        headers = (_BINARY if binary else _TEXT, NO_STORE, *extra, *cors_headers(request, self._node.options))
        return self._compressed(request, HttpResponse(200, body, headers))

    def backlog(self) -> int:
        """Return 0: a response counts as sent once it is written."""
        return 0

    def pause(self) -> None:
        """Hold back the next POST."""

    def resume(self) -> None:
        """Read the POST that was held back."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.receive(self._node.options.max_payload, self._take_body)

    def close(self, reason: CloseReason) -> None:
        """Answer all that is pending: the poll, a POST held back, a repeated POST."""
        if self._poll is not None:
            self.write([CLOSE if reason.says_goodbye else NOOP])
        post = self._post
        if post is not None:
            post.on_abort = None
            if self._waiting is not None:
                post.respond(refusal_of_body(self._node, post.request, UnknownSid()))
        self._waiting = None
        twin, self._twin = self._twin, None
        if twin is not None:
            self._confirm(twin, refusal_of_body(self._node, twin.request, UnknownSid()))

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
    """Return the response to a POST whose body was refused; the application already knows."""
    fields = {"code": error.engine_code, "message": str(error)}
    return json_response(error.http_status, fields, *cors_headers(request, node.options))


def _respond(exchange: Exchange, response: HttpResponse, _: Body) -> None:
    exchange.respond(response)


def _takes_gzip(request: HttpRequest) -> bool:
    # Bounded: a 64 kB field would otherwise be parsed for every response.
    for coding in request.headers.get("accept-encoding", "")[:1_000].lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() == "gzip":
            return quality.strip().rstrip("0") not in ("q=", "q=0.")
    return False


def _is_binary(request: HttpRequest) -> bool:
    return request.headers.get("content-type", "").startswith("application/octet-stream")
