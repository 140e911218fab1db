"""
Web origins (RFC 6454) in canonical form: ``scheme://host[:port]``, lower case, no default port.

A wildcard such as ``https://*.shop.example`` stands for every subdomain.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Set as AbstractSet
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Not urlsplit: it drops tabs and newlines, and an empty query or fragment.
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_WILDCARD: Final = "://*."


def normal_origin(origin: str) -> str:
    """
    Return an origin in canonical form.

    Raises:
        ValueError: if the text is not ``scheme://host[:port]`` as a browser would send it.

    """
    # Checked before lower(), which maps some non-ASCII letters to ASCII.
    found = _ORIGIN.fullmatch(origin.lower()) if origin.isascii() else None
    if found is None:
        raise ValueError(f"{origin!r} is not scheme://host[:port]")
    scheme, host, port = found[1], found[2], found[3]
    if host.startswith("["):
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    if port is None:
        return f"{scheme}://{host}"
    number = int(port)
    if not 0 < number <= 65535:
        raise ValueError(f"{origin!r} has no port that there is")
    return f"{scheme}://{host}" if number == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{number}"


def read_listed_origin(text: str) -> str:
    """
    Return an origin from a list, or a wildcard, in canonical form.

    Raises:
        ValueError: if it is neither, or no page can have it.

    """
    is_wildcard = _WILDCARD in text
    origin = normal_origin(text.replace(_WILDCARD, "://", 1))
    scheme, _, host = origin.partition("://")
    if scheme in ("ws", "wss"):
        raise ValueError("pages have http or https, their websockets have not")
    if not is_wildcard:
        return origin
    name = host.partition(":")[0]
    if host.startswith("[") or name.rpartition(".")[2].isdecimal() or ("." not in name and name != "localhost"):
        raise ValueError(f"{text!r} stands for the subdomains of nothing that one owner has")
    return f"{scheme}{_WILDCARD}{host}"


def is_listed(origin: str, listed: AbstractSet[str]) -> bool:
    """Tell whether an origin is in a list, itself or as a subdomain; all are in canonical form."""
    if origin in listed:
        return True
    scheme, _, host = origin.partition("://")
    while "." in host:
        host = host.partition(".")[2]
        if f"{scheme}{_WILDCARD}{host}" in listed:
            return True
    return False


def is_same(origin: str, scheme: str, host: str) -> bool:
    """
    Tell whether an origin, in canonical form, is that of the server.

    ``host`` is a Host field. An empty ``scheme`` means that the server does not know its
    own, as a proxy may terminate TLS: then the origin may have either scheme, and the
    default ports of both are equivalent.
    """
    if scheme:
        try:
            return normal_origin(f"{scheme}://{host}") == origin
        except ValueError:
            return False
    of_page, _, rest = origin.partition("://")
    return of_page in _DEFAULT_PORTS and _without_default_port(rest) == _without_default_port(host.lower())


def _without_default_port(host: str) -> str:
    for default in (":80", ":443"):
        if host.endswith(default):
            return host.removesuffix(default)
    return host
