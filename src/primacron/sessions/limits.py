"""Limits on the connections of this process, in total and per client address."""

from __future__ import annotations

from collections import Counter

from primacron.addresses import whose_address
from primacron.config import Options
from primacron.errors import Overloaded, TooManyRequests

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython


class Limits:
    """Counts connections and handshakes; each limit is an option."""

    if not cython.compiled:
        __slots__ = ("_by_address", "_options", "_second", "_this_second", "_total")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._second = 0
        self._this_second: Counter[str] = Counter()

    def enter(self, peer: str, now: float) -> None:
        """
        Count a handshake and the connection it opens, or refuse it if a limit is reached.

        Raises:
            Overloaded: if the process already has ``max_connections`` connections.
            TooManyRequests: if the address already has ``max_per_address`` connections, or
                has made ``handshakes_per_address`` handshakes in this second.

        """
        options = self._options
        if options.max_connections is not None and self._total >= options.max_connections:
            raise Overloaded(f"the limit of {options.max_connections} connections is reached ('max_connections')")
        if options.max_per_address is not None and self._by_address[self._whose(peer)] >= options.max_per_address:
            limit = options.max_per_address
            raise TooManyRequests(f"the limit of {limit} connections of one address is reached ('max_per_address')")
        if options.handshakes_per_address is not None:
            self._check_rate(self._whose(peer), int(now), options.handshakes_per_address)
        self.add(peer)

    def _whose(self, peer: str) -> str:
        return whose_address(peer, self._options.ipv6_prefix)

    def add(self, peer: str) -> None:
        """Count a connection handed off by another node, to which the limits do not apply."""
        self._total += 1
        if self._options.max_per_address is not None:
            self._by_address[self._whose(peer)] += 1

    def _check_rate(self, address: str, second: int, limit: int) -> None:
        if second != self._second:
            self._second = second
            self._this_second.clear()
        self._this_second[address] += 1
        if self._this_second[address] > limit:
            raise TooManyRequests(
                f"the limit of {limit} handshakes of one address per second is reached ('handshakes_per_address')"
            )

    def leave(self, peer: str) -> None:
        """Stop counting a connection."""
        self._total -= 1
        if self._options.max_per_address is not None:
            address = self._whose(peer)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
