"""
HTTP/1.1 requests, parsed with httptools.

A connection borrows a reader while it receives a request: between requests the
reader is shared, because it weighs more than the rest of an idle connection.
Violations of HTTP or of a limit raise :class:`HttpError`.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import httptools

from primacron.config import Options
from primacron.errors import ProtocolError
from primacron.proxies import find_origin
from primacron.web import HttpRequest

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

MAX_FIELDS: Final = 100

# A proxy might interpret a repeated one of these differently.
_SINGLE: Final = frozenset(
    {"authorization", "content-length", "host", "origin", "sec-websocket-key", "sec-websocket-version"}
)
#: The names of the most common fields, as spelled by browsers, proxies and Node.js.
_NAMES: Final = """
    accept accept-encoding accept-language authorization cache-control connection content-length content-type cookie
    host origin pragma referer sec-fetch-dest sec-fetch-mode sec-fetch-site sec-websocket-extensions sec-websocket-key
    sec-websocket-version transfer-encoding upgrade user-agent x-forwarded-for x-forwarded-host x-forwarded-proto
"""
_KNOWN: Final = {
    form.encode(): name
    for name in _NAMES.split()
    for form in (name, name.title(), name.title().replace("Websocket", "WebSocket"))
}
_HOST: Final = re.compile(r"[A-Za-z0-9._~%!$&'()*+;=\[\]:-]+")
_ABSOLUTE: Final = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)


class HttpError(ProtocolError):
    """A request that violates HTTP, or a limit of this server."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.http_status = status


def too_large(options: Options) -> HttpError:
    """Return the error for an oversized head."""
    return HttpError(431, f"the head of the request is larger than {options.max_header} bytes (option 'max_header')")


class StopReading(Exception):
    """Stops the parser: the rest of the input is not a request."""


class Connection(Protocol):
    """The connection whose requests are parsed; receives them part by part."""

    @property
    def peer(self) -> str:
        """The client's address."""

    def may_begin(self) -> bool:
        """Tell whether a new request begins; False if this one resumes after an ignored upgrade."""

    def take_head(self, request: HttpRequest, keep_alive: bool, is_whole: bool, is_upgrade: bool) -> None:
        """Receive a head; ``is_whole`` means that no body follows, ``is_upgrade`` a websocket handshake."""

    def take_body(self, body: bytes) -> None:
        """Receive a part of the body."""

    def take_end(self) -> None:
        """Receive the end of the request."""


class RequestParser:
    """Parses the requests of one connection after another."""

    if not cython.compiled:
        __slots__ = (
            "_field_count",
            "_fields",
            "_framing",
            "_head_size",
            "_host",
            "_options",
            "_parser",
            "_secure",
            "_stream",
            "_target",
        )

    def __init__(self, options: Options, *, secure: bool) -> None:
        self._options = options
        self._secure = secure
        self._parser: httptools.HttpRequestParser | None = _new_parser(self)
        self._stream: Connection | None = None
        self._target = b""
        #: The fields of the head being read.
        self._fields: dict[str, str] | None = None
        self._field_count = 0
        self._head_size = 0
        #: The framing of the body whose upgrade is ignored, since the parser stops before that body.
        self._framing: str | None = None
        #: The last valid Host value, so that it is not checked again.
        self._host: str | None = None

    @property
    def is_in_head(self) -> bool:
        """Whether a request head is being read."""
        return self._fields is not None

    def read(self, stream: Connection, data: memoryview) -> memoryview | None:
        """
        Parse input of a connection; return what follows a websocket handshake, None if there is no handshake.

        Raises:
            HttpParserCallbackError: if a callback of the connection raised; the original is its context.
            HttpParserError: if the input is malformed.

        """
        self._stream = stream
        while self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._framing is None:
                    return data
                self._ignore_upgrade(self._framing)
                if not data:
                    break
            else:
                break
        return None

    def leave(self) -> None:
        """Detach from the connection."""
        self._stream = None

    def drop(self) -> None:
        """Stop in the middle of a request, or after the last one."""
        self._stream = self._fields = None
        self._parser = None  # breaks the reference cycle with the parser

    def _ignore_upgrade(self, framing: str) -> None:
        """
        Continue as HTTP/1.1 (RFC 9110, 7.8: a server may ignore an upgrade).

        Some clients offer h2c with every first request, even with a body. The parser
        stops after such a head, so a fresh one continues, primed with the framing of the body.
        """
        self._framing = None
        if self._parser is None:  # the request was the last one
            return
        self._parser = _new_parser(self)
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode("ascii"))

    def explain(self, error: httptools.HttpParserError) -> HttpError:
        """Translate a parser error."""
        if self._target == b"*" and self._parser is not None and self._parser.get_method() == b"PRI":
            return HttpError(505, "HTTP 2.0 is not offered here")
        return HttpError(400, f"malformed request: {error}")

    # Parser callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._stream is None:
            raise StopReading
        if not self._stream.may_begin():
            return
        self._target = b""
        self._fields = {}
        self._field_count = 0
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field; trailers of a chunked body are counted and ignored."""
        self._count(len(name) + len(value) + 4)
        self._field_count += 1
        if self._field_count > MAX_FIELDS:
            raise HttpError(431, f"more than {MAX_FIELDS} fields in the head of the request")
        fields = self._fields
        if fields is None:
            return
        key = _KNOWN.get(name) or name.decode("latin-1").lower()
        text = value.rstrip().decode("latin-1")
        if key in fields:
            if key in _SINGLE:
                raise HttpError(400, f"field {key!r} is given more than once")
            text = f"{fields[key]}{'; ' if key == 'cookie' else ', '}{text}"
        fields[key] = text

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._options.max_header:
            raise too_large(self._options)

    def on_headers_complete(self) -> None:
        """Deliver the request head."""
        fields, stream, parser = self._fields, self._stream, self._parser
        if fields is None or stream is None or parser is None:
            return
        self._fields = None
        method = parser.get_method().decode("ascii")
        version = _read_version(parser.get_http_version())
        if method == "CONNECT":
            raise HttpError(501, "method CONNECT: this is no proxy")
        path, query = _read_target(self._target, fields)
        self._check_host(version, fields.get("host"))
        _check_fields(version, fields)
        request = HttpRequest(method, path, query, fields, stream.peer, self._secure)
        if self._options.trusted_proxies:
            self._believe_proxies(request)
        is_modern = version == "1.1"
        is_whole = fields.get("content-length", "0") == "0" and "transfer-encoding" not in fields
        is_upgrade = False
        if parser.should_upgrade():
            is_upgrade = is_modern and fields.get("upgrade", "").lower() == "websocket"
            self._framing = None if is_upgrade else _find_framing(fields)
        stream.take_head(request, is_modern and parser.should_keep_alive(), is_whole, is_upgrade)

    def _check_host(self, version: str, host: str | None) -> None:
        if host is None:
            if version == "1.1":
                raise HttpError(400, "field 'host' is missing")
        elif host != self._host:
            if not _HOST.fullmatch(host):
                raise HttpError(400, f"field 'host' is not a host: {host[:100]!r}")
            self._host = host

    def _believe_proxies(self, request: HttpRequest) -> None:
        origin = find_origin(request.peer, request.secure, request.headers, self._options.trusted_proxies)
        request.peer, request.secure, request.host, request.scheme = (
            origin.peer,
            origin.secure,
            origin.host,
            origin.scheme,
        )

    def on_body(self, body: bytes) -> None:
        """Deliver a part of the body."""
        if self._stream is not None:
            self._stream.take_body(body)

    def on_message_complete(self) -> None:
        """Deliver the end of the request."""
        if self._stream is not None and self._framing is None:
            self._stream.take_end()


def _new_parser(reader: RequestParser) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(reader)
    # Otherwise it rejects every version it does not know as malformed.
    parser.set_dangerous_leniencies(lenient_version=True)
    return parser


def _read_version(version: str) -> str:
    """Return the effective version: a later 1.x is treated as 1.1 (RFC 9110, 2.5)."""
    if version in ("1.1", "1.0"):
        return version
    if version.startswith("1."):
        return "1.1"
    raise HttpError(505, f"HTTP {version} is not offered here")


def _read_target(target: bytes, fields: dict[str, str]) -> tuple[str, str]:
    """
    Return path and query of a request target.

    In absolute form its host replaces the Host field (RFC 9112, 3.2.2).
    """
    text = target.decode("latin-1")
    if "#" in text:
        raise HttpError(400, "a fragment in the target of the request")
    if not text.startswith("/") and text != "*":
        whole = _ABSOLUTE.fullmatch(text)
        if whole is None:
            raise HttpError(400, f"the target {text[:100]!r} is neither a path nor an http URL")
        fields["host"], text = whole[1], whole[2]
        text = text if text.startswith("/") else "/" + text
    path, _, query = text.partition("?")
    return path, query


def _find_framing(fields: dict[str, str]) -> str:
    """Return the header field that frames the body."""
    if "transfer-encoding" in fields:
        return "Transfer-Encoding: chunked"
    return f"Content-Length: {fields.get('content-length', '0')}"


def _check_fields(version: str, fields: dict[str, str]) -> None:
    encoding = fields.get("transfer-encoding")
    if encoding is not None:
        if version == "1.0":
            raise HttpError(400, "Transfer-Encoding in HTTP 1.0")
        if encoding.lower() != "chunked":
            raise HttpError(501, f"transfer encoding {encoding[:100]!r}")
    length = fields.get("content-length")
    if length is not None and length.startswith("0"):
        fields["content-length"] = length.lstrip("0") or "0"
    if version == "1.1" and fields.get("expect", "100-continue").lower() != "100-continue":
        raise HttpError(417, f"expectation {fields['expect'][:100]!r}")
