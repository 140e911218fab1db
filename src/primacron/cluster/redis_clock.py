"""The clock of a Redis server, as far as its answers tell."""

from __future__ import annotations


class RedisClock:
    """
    What a server's clock shows at a moment of ours, in milliseconds; ours is ``time.monotonic``, in seconds.

    The event loop's own clock will not do: it may stand for as long as a turn takes.
    Each answer with a time bounds the distance between the two: it was read after
    the question was sent and before the answer came. A bound that contradicts the
    ones before tells that somebody has set that clock.
    """

    __slots__ = ("_least", "_most")

    def __init__(self) -> None:
        self._least: float | None = None
        self._most = 0.0

    def learn(self, sent: float, heard: float, shown: int) -> None:
        """Take what a server has shown between two moments of ours."""
        least, most = shown - heard * 1000, shown - sent * 1000
        if self._least is None or least > self._most or most < self._least:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)

    def read(self, moment: float) -> int | None:
        """Return the least that it shows at a moment, None if nothing is known of it."""
        return None if self._least is None else int(self._least + moment * 1000)
