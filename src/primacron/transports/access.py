"""Which pages may connect, and what browsers are told of it."""

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
#: Characters of an origin: a scheme, a host name of 253, a port, and some to spare.
_MAX_ORIGIN: Final = 300
#: What browsers say of requests that a page of somebody else makes.
_ELSEWHERE: Final = ("cross-site", "same-site")

Headers = tuple[tuple[bytes, bytes], ...]

# What is longer than an origin can be never gets there: it would stay in memory.
_normal_origin = lru_cache(maxsize=1024)(normal_origin)


def check_origin(request: HttpRequest, options: Options) -> None:
    """
    Refuse pages of other origins; what comes from no page passes.

    A browser names the origin in every websocket handshake and in every request
    that a script of another origin makes, but not where a page loads an image: there
    it only says that the page is of another site.

    Raises:
        OriginRefused: telling which two values differed.
        OriginCheckFailed: if the application's function that decides raised.

    """
    origin = request.headers.get("origin")
    if origin is None:
        site = request.headers.get("sec-fetch-site")
        if site in _ELSEWHERE and options.origins != "*":
            raise _refusal(f"no origin, but Sec-Fetch-Site {site!r}", request, options)
    elif not _is_allowed(origin, request, options):
        raise _refusal(f"origin {origin[:200]!r}", request, options)


def cors_headers(request: HttpRequest, options: Options) -> Headers:
    """Return what lets a browser hand the answer to a page of another origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return ()
    if options.origins == "same":
        return ()
    if not _is_plain(origin) or not _may_read(origin, request, options):
        return (_VARY,)
    # The origin itself, never "*": with that no browser takes an answer to a request with cookies.
    return ((b"Access-Control-Allow-Origin", origin.encode("ascii")), _CREDENTIALS, _VARY)


def reason_headers(request: HttpRequest) -> Headers:
    """
    Return what lets a page of a refused origin read why, so that whoever made it sees what to change.

    Without credentials: a browser that sent its cookies along still hides the answer.
    """
    origin = request.headers.get("origin")
    if origin is None or not _is_plain(origin):
        return (_VARY,)
    return ((b"Access-Control-Allow-Origin", origin.encode("ascii")), _VARY)


def _is_plain(origin: str) -> bool:
    """Tell whether a browser may have sent an origin; anything else is not sent back."""
    return len(origin) <= _MAX_ORIGIN and origin.isascii() and origin.isprintable()


def answer_preflight(request: HttpRequest, options: Options) -> HttpResponse:
    """Answer the question of a browser whether a page may send a request."""
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
    """Tell whether a page may connect; the answer is kept, since it is needed for the check and for the headers."""
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
        # In a context of its own: what it sets there is nobody else's.
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
