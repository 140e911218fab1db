"""Which origins may connect, and the CORS headers that tell browsers so."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from primacron.config import Options
from primacron.contexts import call_in, own_current_context
from primacron.errors import OriginCheckFailed, OriginRefused
from primacron.origins import is_listed, is_same, normal_origin
from primacron.web import HttpRequest, HttpResponse

_METHODS: Final = (b"Access-Control-Allow-Methods", b"GET,POST")
_VARY: Final = (b"Vary", b"Origin")
_CREDENTIALS: Final = (b"Access-Control-Allow-Credentials", b"true")
_AGE: Final = (b"Access-Control-Max-Age", b"7200")
#: Characters of an origin: a scheme, a host name of 253, a port, and some slack.
_MAX_ORIGIN: Final = 300
#: What browsers put in Sec-Fetch-Site when the page belongs to another site.
_ELSEWHERE: Final = ("cross-site", "same-site")

Headers = tuple[tuple[bytes, bytes], ...]

# Anything longer than an origin is turned away before this cache, which would keep it in memory.
_normal_origin = lru_cache(maxsize=1024)(normal_origin)


def check_origin(request: HttpRequest, options: Options) -> None:
    """
    Refuse pages of other origins; requests that come from no page pass.

    A browser names the origin in every websocket handshake and in every cross-origin
    request of a script, but not when a page loads an image: then it only says that
    the page belongs to another site.

    Raises:
        OriginRefused: naming the two values that differ.
        OriginCheckFailed: if the application's own check raised.

    """
    origin = request.headers.get("origin")
    if origin is None:
        site = request.headers.get("sec-fetch-site")
        if site in _ELSEWHERE and options.origins != "*":
            raise _refusal(f"no origin, but Sec-Fetch-Site {site!r}", request, options)
    elif not _is_allowed(origin, request, options):
        raise _refusal(f"origin {origin[:200]!r}", request, options)


def cors_headers(request: HttpRequest, options: Options) -> Headers:
    """Return the headers that let a browser expose the response to a page of another origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return ()
    if options.origins == "same":
        return ()
    if not _is_plain(origin) or not _may_read(origin, request, options):
        return (_VARY,)
    # The origin itself, never "*": browsers reject that for requests with credentials.
    return ((b"Access-Control-Allow-Origin", origin.encode("ascii")), _CREDENTIALS, _VARY)


def reason_headers(request: HttpRequest) -> Headers:
    """
    Return the headers that let a page of a refused origin read the reason, so that its developer sees what to change.

    Credentials are not allowed: if cookies were sent, the browser still hides the response.
    """
    origin = request.headers.get("origin")
    if origin is None or not _is_plain(origin):
        return (_VARY,)
    return ((b"Access-Control-Allow-Origin", origin.encode("ascii")), _VARY)


def _is_plain(origin: str) -> bool:
    """Tell whether a browser may have sent this origin; nothing else is reflected."""
    return len(origin) <= _MAX_ORIGIN and origin.isascii() and origin.isprintable()


def answer_preflight(request: HttpRequest, options: Options) -> HttpResponse:
    """Answer a CORS preflight request."""
    headers = [*cors_headers(request, options), _METHODS, _AGE]
    wanted = request.headers.get("access-control-request-headers")
    if wanted is not None:
        headers.append((b"Access-Control-Allow-Headers", wanted.encode("latin-1")))
    return HttpResponse(204, b"", tuple(headers))


def _may_read(origin: str, request: HttpRequest, options: Options) -> bool:
    try:
        return _is_allowed(origin, request, options)
    except OriginCheckFailed:
        return False


def _is_allowed(origin: str, request: HttpRequest, options: Options) -> bool:
    """Tell whether a page may connect; the verdict is cached, as both the check and the headers need it."""
    verdict = request.is_origin_allowed
    if verdict is None:
        request.is_origin_allowed = False  # also if the application's function raises
        verdict = request.is_origin_allowed = _judge(origin, request, options)
    return verdict


def _judge(origin: str, request: HttpRequest, options: Options) -> bool:
    allowed = options.origins
    if allowed == "*":
        return True
    if len(origin) > _MAX_ORIGIN:
        return False
    try:
        normal = _normal_origin(origin)
    except ValueError:
        return False
    if isinstance(allowed, frozenset):
        return is_listed(normal, allowed)
    if isinstance(allowed, str):
        return is_same(normal, request.scheme, request.host)
    try:
        # In a context of its own, so that what it sets there stays there.
        return call_in(own_current_context(), allowed, origin, request) is True
    except Exception as error:
        raise OriginCheckFailed from error


def _refusal(came: str, request: HttpRequest, options: Options) -> OriginRefused:
    if isinstance(options.origins, frozenset):
        return OriginRefused(came, ", ".join(sorted(options.origins)) or "none", "others")
    if isinstance(options.origins, str):
        scheme = f"{request.scheme}://" if request.scheme else ""
        allowed = f"that of the host, {scheme + request.host[:200]!r}"
    else:
        allowed = "what a function of the application decides"
    return OriginRefused(came, allowed, allowed)
