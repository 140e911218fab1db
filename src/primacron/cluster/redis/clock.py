"""Estimates a Redis server's clock from the times in its answers."""

from __future__ import annotations


class RedisClock:
    """
    A server's clock in milliseconds, as a function of ``time.monotonic`` in seconds.

    Not of the event loop's clock, which can stand still for a whole iteration. Each
    answer with a time bounds the offset between the two clocks: the server read its
    clock after the request was sent and before the answer arrived. A bound that
    contradicts the earlier ones means that the server's clock was set.
    """

    __slots__ = ("_least", "_most")

    def __init__(self) -> None:
        self._least: float | None = None
        self._most = 0.0

    def learn(self, sent: float, heard: float, shown: int) -> None:
        """Record a time that the server reported between two moments of ours."""
        least, most = shown - heard * 1000, shown - sent * 1000
        if self._least is None or least > self._most or most < self._least:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)

    def read(self, moment: float) -> int | None:
        """Return a lower bound of the server's time at a moment of ours, or None if it is unknown."""
        return None if self._least is None else int(self._least + moment * 1000)
