"""
Fair sharing of the event loop among clients that send as fast as they can.

In each turn the event loop runs what is due, then reads from each client that has sent
something. Whoever has much to do for one client checks after each part whether the
turn's budget is used up. If so, the rest joins a queue, from which each turn takes as
much as its budget allows. So a client that sends little waits for one turn at most,
whatever the others send.
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

#: Seconds per turn for clients with much input; a part, once begun, is not interrupted.
BUDGET: Final = 0.002
#: Bytes of input from which it is deferred if the turn is already over; less is handled at once.
MUCH: Final = 1_536

_NOT_BEGUN: Final = 0.0


class Turns:
    """
    The turns of one event loop, and the work deferred to later ones, oldest first.

    Input that arrived when the turn was already over, and has had no share of it, has a
    queue of its own; the two queues alternate.
    """

    if not cython.compiled:
        __slots__ = ("_clock", "_end", "_fresh", "_is_for_fresh", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        #: When the turn is over; a turn begins with the first check.
        self._end = _NOT_BEGUN
        self._waiting: deque[Callable[[], object]] = deque()
        self._fresh: deque[Callable[[], object]] = deque()
        #: Whether the last job was taken from the fresh queue.
        self._is_for_fresh = False

    def is_over(self) -> bool:
        """
        Tell whether the budget of this turn is used up.

        The first caller in a turn starts its clock, and so has all of the budget.
        """
        if self._end != _NOT_BEGUN:
            return self._clock() >= self._end
        self._begin()
        return False

    @property
    def has_more(self) -> bool:
        """Whether work is deferred to a later turn."""
        return bool(self._waiting or self._fresh)

    def defer(self, go_on: Callable[[], object], fresh: bool = False) -> None:
        """Call a function in a later turn, in order; ``fresh`` if its client has had no share of this one."""
        (self._fresh if fresh else self._waiting).append(go_on)
        if self._end == _NOT_BEGUN:
            self._begin()

    def _begin(self) -> None:
        self._end = self._clock() + BUDGET
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin the next turn with deferred work, as much as the budget allows."""
        self._end = _NOT_BEGUN
        fresh, waiting = self._fresh, self._waiting
        if not (fresh or waiting):
            return
        self._begin()
        for _ in range(len(fresh) + len(waiting)):
            self._is_for_fresh = not self._is_for_fresh
            queue = fresh if fresh and (self._is_for_fresh or not waiting) else waiting
            queue.popleft()()
            if self._clock() >= self._end:
                break
