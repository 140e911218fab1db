"""One HTTP request of our own server, and its response on the wire."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from primacron.errors import PayloadTooLarge
from primacron.standalone.connection_states import COMPLETE, Progress, Step, step
from primacron.web import Body, HttpRequest, HttpResponse, internal_error

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.transport import WebSocket

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
_WITHOUT_BODY: Final = (204, 304)
# Bound to plain names: on Python 3.11 looking up an enum member takes ten times as long.
_BODY, _WHOLE, _ANSWERED = Progress.BODY, Progress.WHOLE, Progress.ANSWERED
_END, _ANSWER = Step.END, Step.ANSWER


def encode_response(response: HttpResponse, date: bytes, *, close: bool, head_only: bool) -> bytes:
    """Encode a response for the wire."""
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
    """The connection of a request, as far as the response needs it."""

    def respond(self, exchange: HttpExchange, response: HttpResponse) -> None:
        """Write the response."""

    def want_body(self, exchange: HttpExchange) -> None:
        """Let a client that waits for 100 Continue send the body."""

    def switch(self, exchange: HttpExchange) -> WebSocket:
        """Turn the connection into a websocket."""

    def tell(self, error: Exception, request: HttpRequest) -> None:
        """Report an internal error to the application."""

    def abort(self) -> None:
        """Drop the connection."""


class HttpExchange:
    """One request and the means to answer it: the :class:`primacron.web.Exchange` of our own server."""

    if not cython.compiled:
        __slots__ = (
            "_body",
            "_connection",
            "_done",
            "_limit",
            "is_upgrade",
            "keep_alive",
            "on_abort",
            "progress",
            "request",
        )

    def __init__(
        self, connection: Connection, request: HttpRequest, keep_alive: bool, is_whole: bool, is_upgrade: bool
    ) -> None:
        self._connection = connection
        self.request = request
        self.progress = _WHOLE if is_whole else _BODY
        self.keep_alive = keep_alive
        #: Whether it is a websocket handshake.
        self.is_upgrade = is_upgrade
        self.on_abort: Callable[[], None] | None = None
        # One buffer, not a list of parts: in a list, tiny chunks would take fifty times their size.
        self._body: bytes | bytearray = b""
        self._limit = 0
        self._done: Callable[[Body], None] | None = None

    # For the handler

    def respond(self, response: HttpResponse) -> None:
        """Send the response; does nothing after an abort or an earlier response."""
        if self.progress is not _ANSWERED:
            if self.progress not in COMPLETE:  # the rest of its body must not be read as a request
                self.keep_alive = False
            self.progress = step(self.progress, _ANSWER)
            self.on_abort = None
            self._connection.respond(self, response)

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        """Read the whole body, then call ``done`` with it, or with the error if it exceeds ``limit`` bytes."""
        self._limit = limit
        self._done = done
        length = self.request.headers.get("content-length", "0")
        if int(length) > limit:
            self._hand_over(PayloadTooLarge("the body", limit))
        elif self.progress in COMPLETE or len(self._body) > limit:
            self._check()
        else:
            self._connection.want_body(self)

    def abort(self) -> None:
        """Drop the client's connection without a response."""
        self._finish()
        self._connection.abort()

    def accept(self) -> WebSocket:
        """Accept a websocket handshake and return the websocket."""
        self._finish()
        return self._connection.switch(self)

    def fail(self, error: Exception) -> None:
        """Report an internal error, answer 500, and close the connection."""
        on_abort, self.on_abort = self.on_abort, None
        self.keep_alive = False
        self._connection.tell(error, self.request)
        self.respond(internal_error())
        if on_abort is not None:
            on_abort()

    # For the connection

    @property
    def has_unwanted_body(self) -> bool:
        """Whether a body is arriving that nobody has asked for yet."""
        return self._done is None and bool(self._body) and self.progress not in COMPLETE

    @property
    def size(self) -> int:
        """Bytes of the body held in memory."""
        return len(self._body)

    def count_missing(self) -> int:
        """Return how many bytes of the body are outstanding, 0 if unknown."""
        length = self.request.headers.get("content-length", "")
        return max(int(length) - len(self._body), 0) if length.isdecimal() and self.progress is not _ANSWERED else 0

    def add(self, part: bytes) -> None:
        """Add a part of the body."""
        if self.progress is _ANSWERED:
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
        """Record that the body is complete."""
        if self.progress not in COMPLETE:
            self.progress = step(self.progress, _END)
        if self._done is not None:
            self._check()

    def lose(self) -> None:
        """Tell the handler that the client has gone."""
        on_abort = self.on_abort
        self._finish()
        if on_abort is not None:
            on_abort()

    def _finish(self) -> None:
        """Record that no response is expected any more."""
        self.progress = step(self.progress, _ANSWER)
        self.on_abort = None

    def _check(self) -> None:
        body, self._body = self._body, b""
        self._hand_over(bytes(body) if len(body) <= self._limit else PayloadTooLarge("the body", self._limit))

    def _hand_over(self, body: Body) -> None:
        done, self._done = self._done, None
        self._body = b""
        if done is not None and self.progress is not _ANSWERED:
            try:
                done(body)
            except Exception as error:
                self.fail(error)
