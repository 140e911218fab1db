"""
A timing wheel for all deadlines of the process.

An entry costs one slot in a list. Postponing its deadline only changes a number: the
wheel checks it again when it comes around. For exact deadlines callers compare ``due``
themselves; the wheel only collects.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

RESOLUTION: Final = 0.05
LATE: Final = 0.25
NEVER: Final = math.inf
#: Samples of the lag that are kept, one a second.
LOOKS: Final = 5


class Bucket(list["Timed | None"]):
    """The entries of one tick of the wheel."""

    __slots__ = ("tick",)

    tick: int


class Timed:
    """Anything with a deadline; ``due`` is on the event loop's clock, in seconds."""

    if not cython.compiled:
        __slots__ = ("bucket", "due", "place")

    bucket: Bucket | None
    due: float
    place: int

    def on_due(self, now: float) -> None:
        """Act on the deadline; subclasses implement it."""
        raise NotImplementedError


class Alarm(Timed):
    """A function to call at a deadline, for occasional use."""

    if not cython.compiled:
        __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.bucket = None
        self.due = NEVER
        self.place = 0
        self.action = action

    def on_due(self, now: float) -> None:
        """Call the function."""
        self.action()


class Wheel:
    """All deadlines of a process."""

    if not cython.compiled:
        __slots__ = ("_buckets", "_lags", "_loop", "_next", "_ticks", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, Bucket] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = NEVER
        self._lags: deque[float] = deque((0.0,), LOOKS)

    def __len__(self) -> int:
        """Return the number of pending entries."""
        return sum(entry is not None for bucket in self._buckets.values() for entry in bucket)

    @property
    def lag(self) -> float:
        """The maximum lag of the event loop over the last five seconds, in seconds."""
        return max(self._lags)

    def watch_lag(self) -> None:
        """Start measuring the event loop's lag, once a second."""
        due = self._loop.time() + 1.0

        def look() -> None:
            self._lags.append(max(0.0, self._loop.time() - due - RESOLUTION))
            self.watch_lag()

        self.set(Alarm(look), due)

    def set(self, entry: Timed, due: float) -> None:
        """Set or move the deadline of an entry."""
        if entry.bucket is None:
            entry.due = due
            self._insert(entry)
        elif entry.bucket.tick * RESOLUTION > due + RESOLUTION:
            self.cancel(entry)
            entry.due = due
            self._insert(entry)
        else:
            entry.due = due

    def set_after(self, entry: Timed, seconds: float) -> None:
        """Set the deadline that many seconds from now."""
        self.set(entry, self._loop.time() + seconds)

    def cancel(self, entry: Timed) -> None:
        """Remove an entry, so that the wheel no longer keeps it alive."""
        if entry.bucket is not None:
            entry.bucket[entry.place] = None
            entry.bucket = None
        entry.due = NEVER

    def alarm(self, seconds: float, action: Callable[[], object]) -> Alarm:
        """Call a function after that many seconds, unless the alarm is cancelled."""
        alarm = Alarm(action)
        self.set_after(alarm, seconds)
        return alarm

    def close(self) -> None:
        """Stop the wheel and drop all entries."""
        if self._timer is not None:
            self._timer.cancel()
        self._buckets.clear()
        self._ticks.clear()

    def _insert(self, entry: Timed) -> None:
        if entry.due == NEVER:
            return
        tick = math.ceil(entry.due / RESOLUTION)
        if tick * RESOLUTION < entry.due:  # rounded off: it would turn up before it is due, for ever
            tick += 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = Bucket()
            bucket.tick = tick
            heapq.heappush(self._ticks, tick)
            if tick * RESOLUTION < self._next:
                self._arm()
        entry.bucket = bucket
        entry.place = len(bucket)
        bucket.append(entry)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._next = self._ticks[0] * RESOLUTION if self._ticks else NEVER
        if self._ticks:
            self._timer = self._loop.call_at(self._next, self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        if now - self._next > LATE:
            # The loop was blocked: input that arrived meanwhile is read before any deadline expires late.
            self._next = now
            self._timer = self._loop.call_later(0.001, self._turn)
            return
        while self._ticks and self._ticks[0] * RESOLUTION <= now:
            bucket = self._buckets.pop(heapq.heappop(self._ticks))
            for entry in bucket:
                if entry is None:
                    continue
                entry.bucket = None
                if entry.due > now:
                    self._insert(entry)
                else:
                    self._fire(entry, now)
        self._arm()

    def _fire(self, entry: Timed, now: float) -> None:
        try:
            entry.on_due(now)
        except Exception as error:
            context: dict[str, Any] = {"message": f"deadline of {entry!r}", "exception": error}
            self._loop.call_exception_handler(context)
