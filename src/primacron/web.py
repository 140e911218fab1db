"""HTTP requests and responses as plain data, between our code and any HTTP server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Final, Protocol, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from primacron.errors import PayloadTooLarge, QueryTooLarge, UnsupportedEncoding

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

JSON: Final = (b"Content-Type", b"application/json")
#: A request's body, or the error if it is too large.
Body: TypeAlias = bytes | PayloadTooLarge

W_co = TypeVar("W_co", covariant=True)

# Escapes in a quoted value: three octal digits, or the character itself.
_ESCAPED: Final = re.compile(r"\\([0-3][0-7]{2}|.)", re.DOTALL)

_NONE: Final[frozenset[str]] = frozenset()

#: Query parameters allowed in a request.
MAX_PARAMETERS: Final = 100

NO_STORE: Final = (b"Cache-Control", b"no-store")

#: Header fields that may affect the response, or how the body is read.
_LASTING: Final = (
    "accept-encoding", "content-length", "content-type", "origin", "transfer-encoding", "user-agent",
)  # fmt: skip
#: Characters kept of a field or parameter; none that matters is longer.
_LONGEST: Final = 1_024


class Query(dict[str, str]):
    """
    The parameters of a query string, percent-decoded; the first of a repeated name counts.

    In a value that is not UTF-8, U+FFFD replaces the broken bytes.

    Raises:
        QueryTooLarge: if there are more than 100 parameters.

    """

    __slots__ = ("repeated", "text")

    def __init__(self, text: str) -> None:
        fields, repeated = _parse_query(text)
        super().__init__(fields)
        #: The query string itself.
        self.text = text
        #: Names given more than once.
        self.repeated = repeated


def _parse_query(text: str) -> tuple[dict[str, str], frozenset[str]]:
    count = text.count("&") + 1
    if count > MAX_PARAMETERS:
        raise QueryTooLarge(f"at most {MAX_PARAMETERS} parameters", count)
    is_encoded = "%" in text or "+" in text
    repeated: set[str] = set()
    fields: dict[str, str] = {}
    for part in text.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if is_encoded:
            name = unquote(name.replace("+", " "))
            value = unquote(value.replace("+", " "))
        if name in fields:
            repeated.add(name)
        else:
            fields[name] = value
    return fields, frozenset(repeated) if repeated else _NONE


class HttpRequest:
    """
    The head of one HTTP request.

    ``method`` is upper case; ``path`` and ``query_string`` are as received. ``headers``
    has lower-case names and latin-1 values, those of a repeated field joined by commas.
    ``peer`` is the client's address, ``host`` the Host field, and ``secure`` tells whether
    TLS was used, as far as proxies can be believed (see the option ``trusted_proxies``).
    ``scheme`` is ``https`` or ``http`` if known, and empty if a proxy may terminate TLS
    without saying so.
    """

    if not cython.compiled:
        __slots__ = (
            "_query",
            "context",
            "headers",
            "host",
            "is_origin_allowed",
            "method",
            "path",
            "peer",
            "query_string",
            "scheme",
            "secure",
        )

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str,
        headers: Mapping[str, str],
        peer: str = "",
        secure: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.host = headers.get("host", "")
        self.peer = peer
        self.secure = secure
        self.scheme = "https" if secure else ""
        #: Whether the requesting page may connect; None until checked.
        self.is_origin_allowed: bool | None = None
        #: The context of the outer ASGI application in which the request arrived.
        self.context: Context | None = None
        self._query: Query | None = None

    @property
    def query(self) -> Query:
        """
        The parameters of the query string.

        Raises:
            QueryTooLarge: if there are more than 100 of them; never for requests to the stream.

        """
        if self._query is None:
            self._query = Query(self.query_string)
        return self._query

    def trim(self, parameters: tuple[str, ...] = ()) -> None:
        """
        Drop all but what the response needs while the request waits: a few header fields, and the named parameters.

        Otherwise a client could occupy 64 kB with each of its requests.
        """
        headers = self.headers
        self.headers = {name: headers[name][:_LONGEST] for name in _LASTING if name in headers}
        self.host = self.host[:_LONGEST]
        text = ""
        if parameters:
            query = self.query
            text = "&".join([f"{name}={quote(query[name][:_LONGEST])}" for name in parameters if name in query])
        self.query_string = text
        self._query = None

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies; a malformed one is omitted or taken as it is, and hides no other."""
        # Not http.cookies: it gives up at the first malformed value, and cookies may be set by others, too.
        pairs = [part.partition("=") for part in self.headers.get("cookie", "").split(";")]
        return {name.strip(): _unquoted(value.strip()) for name, equals, value in pairs if equals and name.strip()}

    @property
    def bearer(self) -> str | None:
        """The token of ``Authorization: Bearer <token>``."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)) if len(found[1]) == 3 else found[1], value[1:-1])


def demand_plain_body(request: HttpRequest) -> None:
    """
    Check that a body is not compressed; clients are never told that it may be.

    Raises:
        UnsupportedEncoding: if it is.

    """
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(encoding)


class HttpResponse:
    """One complete HTTP response; the server that writes it adds Content-Length."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = headers


def internal_error(*headers: tuple[bytes, bytes]) -> HttpResponse:
    """Return the response for an internal error."""
    return json_response(500, {"code": 3, "message": "internal error"}, *headers)


def json_response(status: int, fields: Mapping[str, object], *headers: tuple[bytes, bytes]) -> HttpResponse:
    """Return a response whose body is a JSON object."""
    return HttpResponse(status, json.dumps(fields, separators=(",", ":")).encode(), (JSON, *headers))


class Exchange(Protocol):
    """
    One HTTP request that may be answered later; each HTTP server has its own.

    ``on_abort`` is called if the client disconnects before the response, or does not send
    its whole body in time.
    """

    request: HttpRequest
    on_abort: Callable[[], None] | None

    def respond(self, response: HttpResponse) -> None:
        """Send the response; does nothing after an abort or an earlier response."""

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        """Read the whole body, then call ``done`` with it, or with the error if it exceeds ``limit`` bytes."""

    def abort(self) -> None:
        """Drop the client's connection without a response."""

    def fail(self, error: Exception) -> None:
        """Report an internal error to the application, answer 500, and close the connection."""


class WebSocketExchange(Protocol[W_co]):
    """One websocket handshake, which is accepted, or answered with plain HTTP."""

    request: HttpRequest
    on_abort: Callable[[], None] | None

    def respond(self, response: HttpResponse) -> None:
        """Refuse the handshake; does nothing after an abort."""

    def accept(self) -> W_co:
        """Accept the handshake and return the websocket; the 101 response is sent with its first write."""

    def fail(self, error: Exception) -> None:
        """Report an internal error to the application; refuse with 500 if not accepted yet."""
