"""
How much of a turn of the event loop goes to clients that send as fast as they can.

In a turn the event loop calls whatever is due, then reads from each client that
has sent something. Who has much to do for one client asks after each part of it
whether the turn is over. If so, the rest waits in one queue with that of others,
from which each turn takes what it has time for. So nobody waits longer than for
one turn, whoever sends how much.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Seconds of a turn that go to clients with much to read; a part that has begun is not interrupted.
BUDGET: Final = 0.002
#: Bytes from which what a client has sent waits if the turn is over already; less is read at once.
MUCH: Final = 1_536

_NOT_BEGUN: Final = 0.0


class Turns:
    """The turns of one event loop, and what waits for a later one, the oldest first."""

    if not cython.compiled:
        __slots__ = ("_clock", "_end", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        #: When the turn is over; a turn in which nobody has asked yet has not begun.
        self._end = _NOT_BEGUN
        self._waiting: deque[Callable[[], object]] = deque()

    def is_over(self) -> bool:
        """
        Tell whether others have their turn now.

        The first to ask in a turn begins it, and has all of its time.
        """
        if self._end != _NOT_BEGUN:
            return self._clock() >= self._end
        self._begin()
        return False

    @property
    def has_more(self) -> bool:
        """Whether something waits for a later turn."""
        return bool(self._waiting)

    def defer(self, go_on: Callable[[], object]) -> None:
        """Call a function in a later turn, behind all that wait already; it may not raise."""
        self._waiting.append(go_on)
        if self._end == _NOT_BEGUN:
            self._begin()

    def _begin(self) -> None:
        self._end = self._clock() + BUDGET
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin the next turn with what waits, for as long as there is time."""
        self._end = _NOT_BEGUN
        waiting = self._waiting
        if not waiting:
            return
        self._begin()
        for _ in range(len(waiting)):
            waiting.popleft()()
            if self._clock() >= self._end:
                break
