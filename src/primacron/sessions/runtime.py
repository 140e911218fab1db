"""The process as connections see it: event loop, timers, options, ticks, and a memory limit for slow clients."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.errors import SlowClient, WrongThread
from primacron.ids import Sid
from primacron.metrics import Metrics
from primacron.protocol.outgoing import OutgoingPacket
from primacron.receipts import ACCEPTED, Delivery, Receipt, Tick
from primacron.sessions.answers import Answers
from primacron.sessions.unfinished import Unfinished
from primacron.turns import Turns
from primacron.wheel import Timed, Wheel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if not cython.compiled:
    from threading import get_ident

    def is_held_once(_thing: object) -> bool:
        """Tell whether the caller holds the only reference; always False in plain Python, which cannot know."""
        return False


T = TypeVar("T")


class Outlet(Timed):
    """
    A connection as the runtime sees it: it queues packets, and sends them at the end of the tick.

    ``waiting`` is the number of bytes queued. Subclasses implement all methods.
    """

    if not cython.compiled:
        __slots__ = ("dialect", "sid", "waiting")

    dialect: Dialect
    sid: Sid
    waiting: int

    def send(self, packet: OutgoingPacket) -> bool:
        """Queue a packet; return False if the connection no longer accepts any."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write the queued packets."""
        raise NotImplementedError

    def fall_behind(self, error: SlowClient) -> None:
        """End the connection, as too many bytes are queued for a slow client."""
        raise NotImplementedError


class Runtime:
    """The services of the process that all of its connections share."""

    if not cython.compiled:
        __slots__ = (
            "_accepted",
            "_blocked",
            "_blocked_bytes",
            "_call_soon",
            "_dirty",
            "_end",
            "_has_told",
            "_is_flushing",
            "_outcomes",
            "_thread",
            "_tick",
            "answers",
            "loop",
            "metrics",
            "options",
            "turns",
            "unfinished",
            "wheel",
        )

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self.options = options
        self.loop = loop
        self.metrics = metrics
        self.wheel = Wheel(loop)
        self.unfinished = Unfinished(options.input_total)
        self.turns = Turns(loop)
        #: The last responses to polling clients.
        self.answers = Answers(options.outbox_total)
        self._dirty: list[Outlet] = []
        self._accepted: Delivery[Receipt] | None = None
        # Sends of a tick with equal outcomes share one delivery: a loop of a million sends must not create as many.
        self._outcomes: dict[Any, Delivery[Any]] = {}
        # The outcome of a delivery can be requested until its tick is over.
        self._tick = Tick()
        # Whether this tick has deliveries besides the accepted one.
        self._has_told = False
        # Whether the end of this tick is scheduled.
        self._is_flushing = False
        # Bound once, as every tick uses them.
        self._call_soon = loop.call_soon
        self._end = self.flush
        self._blocked: set[Outlet] = set()
        self._blocked_bytes = 0
        self._thread = get_ident()

    def remove(self, connection: Outlet) -> None:
        """Remove a connection that has ended; implemented by the subclass that indexes them by sid."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the timers and forget all blocked connections."""
        self.wheel.close()
        self._blocked.clear()

    def demand_thread(self, method: str) -> None:
        """
        Refuse a call from another thread.

        Raises:
            WrongThread: if called from another thread; its message names the method.

        """
        if get_ident() != self._thread:
            raise WrongThread(method)

    # Ticks

    def mark(self, connection: Outlet) -> None:
        """Schedule a connection to be flushed at the end of this tick."""
        if not self._is_flushing:
            self._flush_later()
        self._dirty.append(connection)

    def accepted(self) -> Delivery[Receipt]:
        """Return the delivery shared by all accepted sends of this tick."""
        if not self._is_flushing:
            self._flush_later()
        delivery = self._accepted
        if delivery is None:
            delivery = self._accepted = Delivery(self.loop, self._tick, False)
            delivery.settle(ACCEPTED)
        return delivery

    def delivered(self, outcome: T, *, requested: bool) -> Delivery[T]:
        """Return a delivery whose outcome is already known."""
        delivery: Delivery[T] | None = None if requested else self._outcomes.get(outcome)
        if delivery is None:
            delivery = self.delivery(requested=requested)
            delivery.settle(outcome)
            if not requested:
                self._outcomes[outcome] = delivery
        return delivery

    def delivery(self, *, requested: bool) -> Delivery[Any]:
        """Return a delivery whose outcome is not known yet."""
        if not requested and not self._is_flushing:
            self._flush_later()
        self._has_told = True
        return Delivery(self.loop, self._tick, requested)

    def _flush_later(self) -> None:
        self._is_flushing = True
        self._call_soon(self._end)

    def flush(self) -> None:
        """End the tick: write what was queued in it, with one write per connection."""
        self._is_flushing = False
        dirty, self._dirty = self._dirty, []
        self._end_deliveries()
        for connection in dirty:
            connection.flush()

    def _end_deliveries(self) -> None:
        """End the tick for its deliveries; the accepted one is reused in the next tick if nothing else refers to it."""
        accepted, self._accepted = self._accepted, None
        if not self._has_told:
            if accepted is None:
                return
            if is_held_once(accepted) and not accepted.wanted:
                self._accepted = accepted
                return
        self._has_told = False
        self._tick.is_over = True
        self._tick = Tick()
        self._outcomes.clear()

    # Slow clients

    def block(self, connection: Outlet, size: int) -> None:
        """Count bytes queued for a stalled client; end the connections furthest behind if the total is too large."""
        self.count_blocked(connection, size)
        if self._blocked_bytes > self.options.outbox_total:
            self._make_room()

    def count_blocked(self, connection: Outlet, size: int) -> None:
        """Count bytes that remain queued, without enforcing the limit: they were within it before."""
        self._blocked.add(connection)
        self._blocked_bytes += size

    def _make_room(self) -> None:
        """End the connections furthest behind, all at once, until a tenth of the limit is free."""
        limit = self.options.outbox_total
        enough = limit - limit // 10
        for connection in sorted(self._blocked, key=lambda each: each.waiting, reverse=True):
            if self._blocked_bytes <= enough:
                break
            if connection in self._blocked:  # a listener may have ended it meanwhile
                connection.fall_behind(SlowClient(self._blocked_bytes, limit))

    def is_blocked(self, connection: Outlet) -> bool:
        """Tell whether the connection's queued bytes are counted as blocked."""
        return connection in self._blocked

    def unblock(self, connection: Outlet) -> None:
        """Undo :meth:`block`: the client takes data again, or is gone."""
        if connection in self._blocked:
            self._blocked.discard(connection)
            self._blocked_bytes -= connection.waiting

    @property
    def blocked_bytes(self) -> int:
        """Total bytes queued for stalled clients."""
        return self._blocked_bytes
