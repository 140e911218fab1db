"""
GET paths that the application answers itself, on the port of the stream.

Meant for a page and its scripts, a robots.txt, a small JSON response. For more than
exact paths, mount ``server.asgi`` in a framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Final, TypeAlias

from primacron.config import PATH, Options
from primacron.contexts import call_apart
from primacron.errors import HandlerTimedOut, QueryTooLarge, Refused, RegistrationError
from primacron.natives import as_native
from primacron.web import Exchange, HttpRequest, HttpResponse, json_response

if TYPE_CHECKING:
    from primacron.node import Node

Content: TypeAlias = HttpResponse | str | bytes
Page: TypeAlias = Callable[[HttpRequest], Content | Awaitable[Content]]

#: Paths below it belong to the server.
OWN_PREFIX: Final = "/primacron/"

_TYPES: Final = {
    "": b"text/html; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".txt": b"text/plain; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
}
#: Header fields that frame the body, which the server sets itself.
_FRAMING: Final = (b"content-length", b"transfer-encoding")
_OTHER: Final = b"application/octet-stream"


class Pages:
    """The paths that the application answers."""

    def __init__(self, options: Options) -> None:
        self._pages: dict[str, Page] = {}
        self._taken = {options.endpoint, options.endpoint.rstrip("/"), options.broadcast_path}
        self._prefixes = tuple({OWN_PREFIX, options.endpoint} - {"/"})

    def add(self, path: str, page: Page) -> None:
        """
        Register the function that answers a path.

        Raises:
            RegistrationError: if the path is invalid, taken, or belongs to the server.

        """
        try:
            path = PATH.convert(as_native(path))
        except (ValueError, TypeError):
            raise RegistrationError(f"page {path!r}: expected {PATH.takes}, without a query") from None
        if path in self._taken or path.startswith(self._prefixes):
            raise RegistrationError(f"page {path!r}: the path belongs to the server")
        if path in self._pages:
            raise RegistrationError(f"page {path!r}: the path has a function already")
        self._pages[path] = page

    def find(self, request: HttpRequest) -> Page | None:
        """Return the function that answers a request, if there is one."""
        return self._pages.get(request.path) if request.method in ("GET", "HEAD") else None


def answer_page(node: Node, exchange: Exchange, page: Page) -> None:
    """Answer a request with what the function returns; it is cancelled if the client disconnects."""
    request = exchange.request

    def done(response: HttpResponse | None, error: BaseException | None) -> None:
        exchange.respond(response if response is not None else _failure(node, request, error))

    def abort() -> None:
        if task is not None:
            task.cancel()

    context = node.context if request.context is None else request.context
    task = node.run(_make(page, request, node.options.handler_timeout, context), done)
    if task is not None:
        exchange.on_abort = abort


async def _make(page: Page, request: HttpRequest, seconds: float | None, context: Context) -> HttpResponse:
    try:
        async with asyncio.timeout(seconds) as deadline:
            content = await call_apart(context, page, request)
    except TimeoutError:
        if seconds is not None and deadline.expired():
            raise HandlerTimedOut(f"the page {request.path!r}", seconds) from None
        raise
    return _response(content, request.path)


def _response(content: Content, path: str) -> HttpResponse:
    """Return content as a response; its type follows from the path's suffix, HTML if there is none."""
    if isinstance(content, HttpResponse):
        _check_head(content, path)
        return content
    if not isinstance(content, (str, bytes)):
        raise TypeError(f"the page {path!r} returned {type(content).__name__}, not HttpResponse, str or bytes")
    name = path.rpartition("/")[2]
    ending = name[name.rindex(".") :].lower() if "." in name else ""
    body = content.encode() if isinstance(content, str) else content
    return HttpResponse(200, body, ((b"Content-Type", _TYPES.get(ending, _OTHER)),))


def _check_head(response: HttpResponse, path: str) -> None:
    if not isinstance(response.status, int) or not 200 <= response.status <= 599:
        raise ValueError(f"the page {path!r} returned the status {response.status!r}; expected 200 to 599")
    if not isinstance(response.body, bytes):
        raise TypeError(f"the page {path!r} returned a body that is {type(response.body).__name__}, not bytes")
    for name, value in response.headers:
        # Header injection: whoever can put a newline into a field writes the rest of the response too.
        if any(end in part for part in (name, value) for end in (b"\r", b"\n")):
            raise ValueError(f"the page {path!r} returned a header field with a line end in it")
        if name.lower() in _FRAMING:
            raise ValueError(f"the page {path!r} returned a field {name.decode('latin-1')}, which the server adds")


def _failure(node: Node, request: HttpRequest, error: BaseException | None) -> HttpResponse:
    if isinstance(error, Exception):
        node.application.problem(error, request=request)
    if isinstance(error, Refused):
        return _described(error.http_status, "refused", str(error))
    if isinstance(error, QueryTooLarge):
        return _described(error.http_status, "bad request", str(error))
    if isinstance(error, Exception):
        return _described(500, "internal error", "The page failed")
    return _described(503, "unavailable", "The page was cancelled")


def _described(status: int, kind: str, text: str) -> HttpResponse:
    return json_response(status, {"status": status, "type": kind, "description": text})
