"""Canonical client addresses, so that limits count each client once."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

#: Characters of an address with its zone, and some slack: a proxy may send anything in its place.
_MAX_LENGTH: Final = 64


@lru_cache(maxsize=4096)
def _whose(text: str, prefix: int) -> str:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text.lower()
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, prefix), strict=False))
        address = address.ipv4_mapped
    return str(address)


def whose_address(text: str, prefix: int) -> str:
    """
    Return the identity behind an address: the address itself, or its IPv6 network of ``prefix`` bits.

    All spellings of an address give the same result: upper case, omitted zeros, a zone,
    IPv4-mapped IPv6. Text that is not an address stands for itself.
    """
    return _whose(text[:_MAX_LENGTH], prefix)
