"""Addresses of clients in one spelling, so that limits count each client once."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

#: Characters of an address, its zone included, and some to spare: proxies may say anything in its place.
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
    Return who an address belongs to: itself, or the IPv6 network of so many bits that it is in.

    All forms of an address give the same: upper case, left-out zeros, a zone, IPv4
    inside of IPv6. What is none stands for itself.
    """
    return _whose(text[:_MAX_LENGTH], prefix)
