"""
How much of a turn of the event loop goes to clients that send as fast as they can.

In a turn the event loop calls whatever is due, then reads from each client that
has sent something. Who has much to do for one client asks after each part of it
whether the turn is over. If so, the rest waits in a queue with that of others,
from which each turn takes what it has time for. So who sends little waits no
longer than for one turn, whoever else sends how much.
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
    """
    The turns of one event loop, and what waits for a later one, the oldest first.

    What has come while the turn was over already, and has had nothing of it yet,
    has a queue of its own; of the two queues they are taken by turns.
    """

    if not cython.compiled:
        __slots__ = ("_clock", "_end", "_fresh", "_is_for_fresh", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        #: When the turn is over; a turn in which nobody has asked yet has not begun.
        self._end = _NOT_BEGUN
        self._waiting: deque[Callable[[], object]] = deque()
        self._fresh: deque[Callable[[], object]] = deque()
        #: Whether the last one was taken from that queue.
        self._is_for_fresh = False

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
        return bool(self._waiting or self._fresh)

    def defer(self, go_on: Callable[[], object], fresh: bool = False) -> None:
        """Call a function in a later turn, behind others of its queue; ``fresh`` if it has had nothing of this one."""
        (self._fresh if fresh else self._waiting).append(go_on)
        if self._end == _NOT_BEGUN:
            self._begin()

    def _begin(self) -> None:
        self._end = self._clock() + BUDGET
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin the next turn with what waits, for as long as there is time."""
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
