"""One HTTP request of our own server, and its way on the wire."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from primacron.errors import PayloadTooLarge
from primacron.web import Body, HttpRequest, HttpResponse, internal_error

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.carrier import Wire

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
_WITHOUT_BODY: Final = (204, 304)


def encode_response(response: HttpResponse, date: bytes, *, close: bool, head_only: bool) -> bytes:
    """Return an answer as it goes on the wire."""
    status = response.status
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, b"Date: ", date, b"\r\n"]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    if status not in _WITHOUT_BODY:
        parts.append(b"Content-Length: %d\r\n" % len(response.body))
    parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
    if not head_only and status not in _WITHOUT_BODY:
        parts.append(response.body)
    return b"".join(parts)


class Connection(Protocol):
    """Where a request came from, as far as its answer needs it."""

    def respond(self, exchange: HttpExchange, response: HttpResponse) -> None:
        """Write the answer."""

    def want_body(self, exchange: HttpExchange) -> None:
        """Let the client send a body for which it waits to be asked."""

    def switch(self, exchange: HttpExchange) -> Wire:
        """Turn the connection into a websocket."""

    def tell(self, error: Exception, request: HttpRequest) -> None:
        """Tell the application of a mistake of the server."""

    def abort(self) -> None:
        """Drop the connection."""


class HttpExchange:
    """One request of a connection, and the way to answer it; see :class:`primacron.web.Exchange`."""

    if not cython.compiled:
        __slots__ = (
            "_body",
            "_connection",
            "_done",
            "_limit",
            "answered",
            "is_begun",
            "is_upgrade",
            "is_whole",
            "keep_alive",
            "on_abort",
            "request",
        )

    def __init__(
        self, connection: Connection, request: HttpRequest, keep_alive: bool, is_whole: bool, is_upgrade: bool
    ) -> None:
        self._connection = connection
        self.request = request
        self.keep_alive = keep_alive
        self.is_whole = is_whole
        #: Whether it is a websocket handshake.
        self.is_upgrade = is_upgrade
        self.is_begun = False
        self.answered = False
        self.on_abort: Callable[[], None] | None = None
        # One buffer for several parts: a list would let tiny chunks weigh fifty times what they are.
        self._body: bytes | bytearray = b""
        self._limit = 0
        self._done: Callable[[Body], None] | None = None

    # For who answers

    def respond(self, response: HttpResponse) -> None:
        """Send the answer; after an abort or an earlier answer this does nothing."""
        if not self.answered:
            self.answered = True
            self.on_abort = None
            self._connection.respond(self, response)

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        """Read the body; see :class:`primacron.web.Exchange`."""
        self._limit = limit
        self._done = done
        length = self.request.headers.get("content-length", "0")
        if int(length) > limit:
            self._hand_over(PayloadTooLarge("the body", limit))
        elif self.is_whole or len(self._body) > limit:
            self._check()
        else:
            self._connection.want_body(self)

    def abort(self) -> None:
        """Drop the client's connection without an answer."""
        self.answered = True
        self.on_abort = None
        self._connection.abort()

    def accept(self) -> Wire:
        """Accept a websocket handshake; see :class:`primacron.web.WebSocketExchange`."""
        self.answered = True
        self.on_abort = None
        return self._connection.switch(self)

    def fail(self, error: Exception) -> None:
        """Tell of a mistake of the server, and answer with 500 as the last thing on the connection."""
        on_abort, self.on_abort = self.on_abort, None
        self.keep_alive = False
        self._connection.tell(error, self.request)
        self.respond(internal_error())
        if on_abort is not None:
            on_abort()

    # For the connection

    @property
    def has_unwanted_body(self) -> bool:
        """Whether a body comes that nobody has asked for yet."""
        return self._done is None and bool(self._body) and not self.is_whole

    @property
    def size(self) -> int:
        """Bytes of the body that are kept."""
        return len(self._body)

    def count_missing(self) -> int:
        """Return how many bytes of the body are still to come, as far as that is known."""
        length = self.request.headers.get("content-length", "")
        return max(int(length) - len(self._body), 0) if length.isdecimal() and not self.answered else 0

    def add(self, part: bytes) -> None:
        """Take a part of the body."""
        if self.answered:
            return
        if not self._body:
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body)
            self._body += part
        if self._done is not None and len(self._body) > self._limit:
            self._check()

    def complete(self) -> None:
        """Take note that the body is whole."""
        self.is_whole = True
        if self._done is not None:
            self._check()

    def lose(self) -> None:
        """Tell who answers that the client has gone away."""
        self.answered = True
        on_abort, self.on_abort = self.on_abort, None
        if on_abort is not None:
            on_abort()

    def _check(self) -> None:
        body, self._body = self._body, b""
        self._hand_over(bytes(body) if len(body) <= self._limit else PayloadTooLarge("the body", self._limit))

    def _hand_over(self, body: Body) -> None:
        done, self._done = self._done, None
        self._body = b""
        if done is not None and not self.answered:
            try:
                done(body)
            except Exception as error:
                self.fail(error)
