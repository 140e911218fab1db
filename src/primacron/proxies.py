"""The client's identity behind proxies: only known proxies are believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from primacron.config import Network

#: Chained proxies examined.
MAX_HOPS: Final = 32

_PAIR: Final = re.compile(r'(?:^|;)\s*([A-Za-z]+)=(?:"([^"]*)"|([^;,"\s]*))\s*(?=;|$)')


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a request came from: the client's address, whether it used TLS, and the host it asked for.

    ``is_plain`` means that a proxy reported plain HTTP.
    """

    peer: str
    secure: bool
    host: str
    is_plain: bool = False

    @property
    def scheme(self) -> str:
        """The scheme, or empty on a plain socket, as a proxy that says nothing may terminate TLS."""
        return "https" if self.secure else "http" if self.is_plain else ""


def find_origin(peer: str, secure: bool, headers: Mapping[str, str], trusted: tuple[Network, ...]) -> Origin:
    """
    Return where a request came from.

    The addresses added by proxies are read from last to first, for as long as the proxy
    that added each is trusted.
    """
    direct = Origin(peer, secure, headers.get("host", ""))
    if not trusted or not _is_trusted(peer, trusted):
        return direct
    hops = _hops(headers)
    if not hops:
        return direct
    found = direct
    for hop in reversed(hops):
        peer = hop.get("for", "")
        secure = hop["proto"] in ("https", "wss") if "proto" in hop else found.secure
        is_plain = not secure if "proto" in hop else found.is_plain
        found = Origin(peer or found.peer, secure, hop.get("host", found.host), is_plain)
        # A proxy that does not say who came before it ends the chain too: anybody may have written the rest.
        if not _is_trusted(peer, trusted):
            break
    return found


def _is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    # A dual-stack socket shows IPv4 addresses as IPv4-mapped IPv6.
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in trusted)


def _hops(headers: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what each of the last proxies reported, first hop first; the standard field takes precedence."""
    if "forwarded" in headers:
        return [_forwarded(element) for element in _last(headers["forwarded"])]
    if "x-forwarded-for" not in headers:
        return []
    hops = [{"for": _address(part)} for part in _last(headers["x-forwarded-for"])]
    # These two hold what the last proxy saw, or a list as long as that of the addresses.
    for field, key in (("x-forwarded-proto", "proto"), ("x-forwarded-host", "host")):
        values = [part.strip() for part in _last(headers.get(field, "")) if part.strip()]
        for hop, value in zip(reversed(hops), reversed(values), strict=False):
            hop[key] = value.lower()
    return hops


def _last(field: str) -> list[str]:
    """Return the last elements of a list; untrusted clients may have sent thousands."""
    return field.rsplit(",", MAX_HOPS)[-MAX_HOPS:]


def _forwarded(element: str) -> dict[str, str]:
    hop = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(element)}
    if "for" in hop:
        hop["for"] = _address(hop["for"])
    return {key: value.lower() for key, value in hop.items()}


def _address(text: str) -> str:
    """Return an address without its port and brackets."""
    text = text.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
