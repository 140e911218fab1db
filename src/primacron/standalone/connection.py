"""
HTTP/1.1 on one client connection, parsed by httptools.

Requests are answered one at a time, in order; pipelined ones wait. Every part of
a request has a limit and a deadline, and so does a client that is slow to read
its responses. Unreadable input gets an error response, after the responses to
everything before it, and then the connection closes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from primacron.errors import ProtocolError, TooMuchInput
from primacron.standalone.connection_states import (
    COMPLETE,
    WAITING,
    Awaited,
    Change,
    Progress,
    Stage,
    Step,
    change,
    step,
)
from primacron.standalone.direct_write import NO_DESCRIPTOR, find_descriptor, push, write_end
from primacron.standalone.exchange import HttpExchange, encode_response
from primacron.standalone.handshake import accept_head, check_handshake
from primacron.standalone.listener import TLS_LIMITS, WRITE_LIMITS
from primacron.standalone.parser import HttpError, RequestParser, StopReading, too_large
from primacron.turns import MUCH
from primacron.web import HttpRequest, HttpResponse, internal_error, json_response
from primacron.wheel import NEVER, Timed

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.transport import WebSocket
    from primacron.standalone.listener import Listener

#: Seconds a connection may stay idle between requests; longer than the 60 that proxies usually allow.
KEEP_ALIVE: Final = 75.0
#: Seconds for which input is discarded after the last response, so that a client that is still sending can read it.
DRAIN: Final = 2.0
#: Bytes of pending responses a client must read per ``body_timeout``.
LEAST_TAKEN: Final = 16_384
#: Bytes of input parsed between checks of the turn budget.
SLICE: Final = 1_024
#: Pipelined requests allowed to wait for their responses.
MAX_AHEAD: Final = 16

_TLS: Final = b"\x16\x03"


# Bound to plain names: on Python 3.11 looking up an enum member takes ten times as long.
SERVING, UPGRADING, ENDING, DRAINING, CLOSED = Stage
HANDSHAKE, LAST, LAST_ANSWER, CLOSE = Change
REQUEST, HEAD, BODY, ANSWER, TAKING, END = Awaited
ANSWERED: Final = Progress.ANSWERED
TURN: Final = Step.TURN


class HttpStream(Timed):
    """One client connection for as long as it speaks HTTP."""

    if not cython.compiled:
        __slots__ = (
            "_ahead",
            "_awaited",
            "_early",
            "_fd",
            "_holds_input",
            "_incoming",
            "_is_behind",
            "_is_halted",
            "_is_reading",
            "_last",
            "_listener",
            "_parser",
            "_rest",
            "_stage",
            "_transport",
            "_unread",
            "_unsent",
            "_write_paused",
            "peer",
        )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._fd = NO_DESCRIPTOR
        #: Whether the event loop holds data that must be written first.
        self._is_behind = False
        #: The parser of the current request, if one is borrowed.
        self._parser: RequestParser | None = None
        self.peer = ""
        self._stage: Stage = SERVING
        #: What the current deadline applies to.
        self._awaited: Awaited = REQUEST
        #: Unanswered requests, oldest first.
        self._ahead: deque[HttpExchange] = deque()
        #: The request being read.
        self._incoming: HttpExchange | None = None
        #: Bytes read since the last request, or the last part of a body, began.
        self._unread = 0
        #: Input received behind a websocket handshake that is not answered yet.
        self._early: bytearray | None = None
        #: Whether this connection is counted as holding unfinished input.
        self._holds_input = False
        #: Input that waits for a later turn; reading is paused meanwhile.
        self._rest: bytearray | None = None
        #: Whether input is being parsed right now.
        self._is_reading = False
        #: Whether reading from the client is paused.
        self._is_halted = False
        #: The last response, held back until the earlier ones are sent.
        self._last: HttpResponse | None = None
        self._write_paused = False
        self._unsent = 0
        self.bucket = None
        self.due = NEVER

    # Event loop callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving on the transport."""
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        transport.set_write_buffer_limits(*WRITE_LIMITS)
        if self._listener.secure:
            cast("Any", transport).set_read_buffer_limits(*TLS_LIMITS)
        self._fd = find_descriptor(transport, secure=self._listener.secure)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else "local"
        self._listener.open.add(self)
        self._listener.wheel.set_after(self, self._listener.options.header_timeout)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the read buffer that all connections share."""
        return self._listener.http_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the input, or keep it for later."""
        data = self._listener.http_buffer[:nbytes]
        if self._stage is UPGRADING:
            self._keep_early(data)
        elif self._stage is not SERVING:
            return
        elif self._rest is not None:
            self._rest += data
        elif nbytes > MUCH and self._listener.turns.is_over():
            self._defer(data, fresh=True)
            self._settle()
        else:
            self._read(data)

    def _defer(self, rest: memoryview, *, fresh: bool = False) -> None:
        """Postpone parsing to a later turn; see :meth:`primacron.turns.Turns.defer`."""
        self._rest = bytearray(rest)
        self._listener.turns.defer(self._read_rest, fresh)

    def _read_rest(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and self._stage is SERVING:
            self._read(memoryview(rest))

    def _read(self, data: memoryview) -> None:
        self._is_reading = True
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            self._take_failure(error.__context__)
        except httptools.HttpParserError as error:
            if self._stage is SERVING:
                self._refuse(self._explain(error, data))
        except Exception as error:
            self._take_failure(error)
        self._is_reading = False
        self._settle()

    def eof_received(self) -> None:
        """Let the transport close: a client that stops sending is treated as gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Abort the requests that are still being answered."""
        self._leave()
        ahead, self._ahead = self._ahead, deque()
        for exchange in ahead:
            exchange.lose()

    def pause_writing(self) -> None:
        """Stop reading and answering: the client is not reading its responses."""
        self._write_paused = True
        self._settle()

    def resume_writing(self) -> None:
        """Resume answering and reading."""
        self._write_paused = False
        self._answer_oldest()
        self._settle()

    def on_due(self, now: float) -> None:
        """Act on an expired deadline."""
        if self._awaited is HEAD:
            self._refuse(HttpError(408, "the head of the request took too long (option 'header_timeout')"))
        elif self._awaited is BODY:
            self._refuse(HttpError(408, "the body of the request took too long (option 'body_timeout')"))
        elif self._takes_answers():
            self._listener.wheel.set_after(self, self._listener.options.body_timeout)
        else:
            if self._awaited is TAKING:
                self._listener.routes.problem(HttpError(408, "the client does not take its answers"))
            self.abort()

    def _takes_answers(self) -> bool:
        """Tell whether the client has read enough of its pending responses since the last check."""
        if self._transport is None or self._unsent == 0:
            return False
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return before - self._unsent >= min(LEAST_TAKEN, before)

    # Reader callbacks

    def _feed(self, data: memoryview) -> None:
        while len(data) > SLICE:
            size = self._find_slice()
            if not self._feed_slice(data[:size], data[size:]):
                return
            data = data[size:]
            if data and self._listener.turns.is_over():
                self._defer(data)
                return
        if data:
            self._feed_slice(data, data[:0])

    def _find_slice(self) -> int:
        """Return how many bytes are cheap to parse: of a body, everything that is still missing."""
        missing = self._incoming.count_missing() if self._incoming is not None else 0
        return max(missing, SLICE)

    def _feed_slice(self, data: memoryview, behind: memoryview) -> bool:
        """Parse one slice; return False if nothing behind it is HTTP."""
        parser = self._parser
        if parser is None:
            parser = self._parser = self._listener.take_parser()
        self._unread += len(data)
        beyond = parser.read(self, data)
        if self._stage is not SERVING:
            self._drop_parser()
            return False
        if beyond is not None:
            self._begin_upgrade(bytearray(beyond) + behind)
            return False
        if self._unread > self._listener.options.max_header:
            raise too_large(self._listener.options)
        if self._incoming is None and not parser.is_in_head:
            self._give_parser()
        return True

    def _give_parser(self) -> None:
        """Return the parser to the listener; it is between two requests."""
        if self._parser is not None:
            self._listener.give_parser(self._parser)
            self._parser = None

    def _drop_parser(self) -> None:
        if self._parser is not None:
            self._parser.drop()
            self._parser = None

    def may_begin(self) -> bool:
        """Tell whether a new request begins, rather than one resuming after an upgrade that was not granted."""
        if self._stage is not SERVING:
            raise StopReading
        if self._incoming is not None:
            return False
        if len(self._ahead) >= MAX_AHEAD:
            raise HttpError(400, f"more than {MAX_AHEAD} requests ahead of their answers")
        self._unread = 0
        return True

    def take_head(self, request: HttpRequest, keep_alive: bool, is_whole: bool, is_upgrade: bool) -> None:
        """Queue a request, and answer it if none is ahead of it."""
        exchange = self._incoming = HttpExchange(self, request, keep_alive, is_whole, is_upgrade)
        self._ahead.append(exchange)
        self._answer_oldest()

    def take_body(self, body: bytes) -> None:
        """Add a part of the body to the current request."""
        self._unread = 0
        if self._incoming is not None:
            self._incoming.add(body)

    def take_end(self) -> None:
        """Mark the current request as complete."""
        incoming = self._incoming
        if incoming is None:
            return
        if not (incoming.keep_alive or incoming.is_upgrade):
            self._change(LAST)
        # Cleared last: if completing it fails, the error response belongs to this request.
        incoming.complete()
        self._incoming = None

    def _take_failure(self, error: BaseException | None) -> None:
        """Handle an exception raised while parsing."""
        if isinstance(error, HttpError):
            self._refuse(error)
        elif isinstance(error, Exception) and not isinstance(error, StopReading):
            # Our own bug must not be blamed on the client.
            self._listener.routes.problem(error)
            self._end_with(internal_error())

    def _explain(self, error: httptools.HttpParserError, data: memoryview) -> HttpError:
        if self._awaited is REQUEST and bytes(data[:2]) == _TLS:
            return HttpError(400, "malformed request: TLS on a port without it")
        assert self._parser is not None
        return self._parser.explain(error)

    # Responses

    def _answer_oldest(self) -> None:
        """Start answering the oldest request, provided the client is reading."""
        if self._write_paused or not self._ahead or self._transport is None or self._transport.is_closing():
            return
        exchange = self._ahead[0]
        if exchange.progress in WAITING and not exchange.is_upgrade:
            exchange.progress = step(exchange.progress, TURN)
            try:
                self._listener.routes.handle(exchange)
            except Exception as error:
                exchange.fail(error)

    def tell(self, error: Exception, request: HttpRequest) -> None:
        """Report an internal error to the application."""
        self._listener.routes.problem(error, request=request)

    def respond(self, exchange: HttpExchange, response: HttpResponse) -> None:
        """Write the response to the oldest request and move on to the next."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        close = not exchange.keep_alive or exchange.is_upgrade or self._listener.closing
        head_only = exchange.request.method == "HEAD"
        try:
            data = encode_response(response, self._listener.date(), close=close, head_only=head_only)
        except Exception as error:
            self.tell(error, exchange.request)
            close = True
            data = encode_response(internal_error(), self._listener.date(), close=close, head_only=head_only)
        self._write(transport, data)
        self._ahead.popleft()
        if close:
            self._drain()
        elif self._ahead:
            self._listener.loop.call_soon(self._answer_next)
        elif self._last is not None:
            self._respond_last(self._last)
        elif not self._is_reading:
            self._settle()

    def _write(self, transport: asyncio.Transport, data: bytes) -> None:
        self._is_behind = push(transport, self._fd, self._is_behind, data)

    def _answer_next(self) -> None:
        self._answer_oldest()
        self._settle()

    def want_body(self, exchange: HttpExchange) -> None:
        """Send 100 Continue to a client that waits for it before it sends the body."""
        if self._transport is not None and exchange.keep_alive and "expect" in exchange.request.headers:
            self._write(self._transport, b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._is_reading:
            self._settle()

    def _refuse(self, error: HttpError | TooMuchInput) -> None:
        """Answer unreadable input with an error; nothing after it can be parsed."""
        if self._stage is DRAINING:  # the last response has been sent
            return
        request = self._incoming.request if self._incoming is not None else None
        self._listener.routes.problem(error, request=request)
        self._end_with(json_response(error.http_status, {"code": error.engine_code, "message": str(error)}))

    def _end_with(self, response: HttpResponse) -> None:
        """Abandon the request being read and make this the last response."""
        self._change(LAST)
        if self._stage is not ENDING:  # the last response is already decided
            return
        self._drop_parser()
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.progress is not ANSWERED:
            self._ahead.remove(incoming)
        self._last = response
        if incoming is not None:
            incoming.lose()
        if not self._ahead and self._last is not None:
            self._respond_last(response)

    def _respond_last(self, response: HttpResponse) -> None:
        self._last = None
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._write(transport, encode_response(response, self._listener.date(), close=True, head_only=False))
            self._drain()

    def _drain(self) -> None:
        """Close the connection, but leave the client time to read the last response."""
        transport = self._transport
        if transport is None or self._stage is DRAINING:
            return
        self._change(LAST_ANSWER)
        self._drop_parser()
        self._incoming = self._last = self._early = self._rest = None
        if self._holds_input:
            self._count_input()
        ahead, self._ahead = self._ahead, deque()
        self._await(END)
        if transport.can_write_eof():
            write_end(transport)
        self._halt(transport, False)
        for exchange in ahead:
            exchange.lose()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """Close now, or after the response to the current request."""
        if not self._ahead and self._transport is not None:
            self._transport.close()

    # The upgrade

    def _begin_upgrade(self, rest: bytearray) -> None:
        """Handle a websocket handshake and keep the input behind it."""
        exchange = self._ahead[-1]
        if len(self._ahead) > 1:
            self._incoming = exchange
            raise HttpError(400, "a websocket handshake behind requests that wait for their answer")
        try:
            check_handshake(exchange.request)
        except ProtocolError as error:
            self._refuse_upgrade(exchange, error)
            return
        self._change(HANDSHAKE)
        self._early = rest
        exchange.progress = step(exchange.progress, TURN)
        if exchange.keep_alive:
            self._give_parser()
        else:  # having seen `Connection: close`, the parser accepts nothing more
            self._drop_parser()
        try:
            self._listener.routes.upgrade(exchange)
        except Exception as error:
            exchange.fail(error)

    def _refuse_upgrade(self, exchange: HttpExchange, error: ProtocolError) -> None:
        self._listener.routes.problem(error, request=exchange.request)
        headers = ((b"Sec-WebSocket-Version", b"13"),) if error.http_status == 426 else ()
        exchange.respond(json_response(error.http_status, {"code": error.engine_code, "message": str(error)}, *headers))

    def _keep_early(self, data: memoryview) -> None:
        """Keep what a client sends before its handshake is answered, up to a limit; then stop reading."""
        assert self._early is not None
        self._early += data
        self._count_input()
        if len(self._early) > self._listener.options.max_header and self._transport is not None:
            self._halt(self._transport, True)

    def switch(self, exchange: HttpExchange) -> WebSocket:
        """Turn the connection into a websocket."""
        transport, early = self._transport, self._early
        assert transport is not None
        self._ahead.clear()
        self._leave()
        head, agreement = accept_head(exchange.request, self._listener.options)
        stream = self._listener.websocket(self._listener, transport, self._fd, head, agreement)
        stream.ready = not self._write_paused
        transport.set_protocol(stream)  # type: ignore[arg-type]  # every implementation is one
        self._halt(transport, False)
        if early:
            stream.begin_with(early)
        return stream  # type: ignore[return-value]  # every implementation is one

    def _count_input(self) -> None:
        """Report how much unfinished input this connection holds."""
        size = self._unread if self._parser is not None else 0
        if self._incoming is not None:
            size += self._incoming.size
        if self._early is not None:
            size += len(self._early)
        if self._rest is not None:
            size += len(self._rest)
        if size:
            self._holds_input = True
            self._listener.unfinished.hold(self, size)
        elif self._holds_input:
            self._holds_input = False
            self._listener.unfinished.release(self)

    def overflow(self, error: TooMuchInput) -> None:
        """Close the connection: too much unfinished input is held, most of it here."""
        self._holds_input = False
        if self._stage is not UPGRADING:
            self._refuse(error)
        else:  # the handshake is unanswered, so there is no way to send an error
            self._listener.routes.problem(error)
            self.abort()

    def _change(self, event: Change) -> None:
        self._stage = change(self._stage, event)

    def _leave(self) -> None:
        """Detach: the client is gone, or the websocket now owns the transport."""
        self._change(CLOSE)
        self._transport = None
        if self._holds_input:
            self._holds_input = False
            self._listener.unfinished.release(self)
        self._drop_parser()
        self._listener.forget(self)
        self._listener.wheel.cancel(self)

    # Deadlines and flow control

    def _settle(self) -> None:
        """Update the deadline and flow control to match the state of the connection."""
        transport = self._transport
        if transport is None or self._stage is DRAINING or transport.is_closing():
            return
        self._await(self._find_awaited())
        if (
            self._holds_input
            or self._early
            or self._rest is not None
            or self._parser is not None
            or self._incoming is not None
        ):
            self._count_input()
        has_enough = len(self._ahead) > 1 or (self._ahead and self._ahead[0].has_unwanted_body)
        self._halt(transport, self._write_paused or self._rest is not None or bool(has_enough))

    def _halt(self, transport: asyncio.Transport, halted: bool) -> None:
        """Pause or resume reading."""
        if halted is self._is_halted:
            return
        self._is_halted = halted
        if halted:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _find_awaited(self) -> Awaited:
        if self._write_paused:
            return TAKING
        if self._ahead:
            oldest = self._ahead[0]
            return ANSWER if oldest.progress in COMPLETE or oldest.has_unwanted_body else BODY
        return HEAD if self._parser is not None and self._parser.is_in_head else REQUEST

    def _await(self, awaited: Awaited) -> None:
        """Set the deadline for what is now awaited, unless that has not changed."""
        # REQUEST always restarts the deadline: a request answered at once leaves no other trace.
        if awaited is self._awaited and awaited is not REQUEST:
            return
        self._awaited = awaited
        options, wheel = self._listener.options, self._listener.wheel
        if awaited is ANSWER:
            wheel.set(self, NEVER)
        elif awaited is HEAD:
            wheel.set_after(self, options.header_timeout)
        elif awaited is REQUEST:
            wheel.set_after(self, KEEP_ALIVE)
        elif awaited is BODY:
            wheel.set_after(self, options.body_timeout)
        else:
            self._unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
            wheel.set_after(self, options.body_timeout if self._unsent else DRAIN)


class HttpConnection(HttpStream, asyncio.BufferedProtocol):
    """:class:`HttpStream` as an asyncio protocol."""

    __slots__ = ()
