"""Which pages may connect, and what browsers are told of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from primacron.config import Options, normal_host, normal_origin
from primacron.errors import OriginRefused
from primacron.web import HttpRequest, HttpResponse

_METHODS: Final = (b"Access-Control-Allow-Methods", b"GET,POST")
_AGE: Final = (b"Access-Control-Max-Age", b"7200")
#: Characters of an origin: a scheme, a host name of 253, a port, and some to spare.
_MAX_ORIGIN: Final = 300

Headers = tuple[tuple[bytes, bytes], ...]

# What is longer than an origin can be never gets there: it would stay in memory.
_normal_origin = lru_cache(maxsize=1024)(normal_origin)


def check_origin(request: HttpRequest, options: Options) -> None:
    """
    Refuse pages of other origins; requests without an Origin pass.

    Raises:
        OriginRefused: telling which two values differed.

    """
    origin = request.headers.get("origin")
    if origin is not None and not _is_allowed(origin, request, options):
        raise OriginRefused(origin[:200], _allowed(request, options))


def cors_headers(request: HttpRequest, options: Options) -> Headers:
    """Return what lets a browser hand the answer to a page of another origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return ()
    if options.origins == "*":
        return ((b"Access-Control-Allow-Origin", b"*"),)
    if options.origins == "same":
        return ()
    if not _is_allowed(origin, request, options):
        return ((b"Vary", b"Origin"),)
    return (
        (b"Access-Control-Allow-Origin", origin.encode("latin-1")),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Vary", b"Origin"),
    )


def answer_preflight(request: HttpRequest, options: Options) -> HttpResponse:
    """Answer the question of a browser whether a page may send a request."""
    headers = [*cors_headers(request, options), _METHODS, _AGE]
    wanted = request.headers.get("access-control-request-headers")
    if wanted is not None:
        headers.append((b"Access-Control-Allow-Headers", wanted.encode("latin-1")))
    return HttpResponse(204, b"", tuple(headers))


def _is_allowed(origin: str, request: HttpRequest, options: Options) -> bool:
    if options.origins == "*":
        return True
    if len(origin) > _MAX_ORIGIN:
        return False
    try:
        return _normal_origin(origin) in _allowed_origins(request, options)
    except ValueError:
        return False


def _allowed_origins(request: HttpRequest, options: Options) -> frozenset[str]:
    if isinstance(options.origins, frozenset):
        return options.origins
    return frozenset({normal_host(request.host)})


def _allowed(request: HttpRequest, options: Options) -> str:
    if options.origins == "same":
        return f"that of the host, {request.host[:200]!r}"
    return ", ".join(sorted(_allowed_origins(request, options)))
