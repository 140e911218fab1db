"""What a connection needs of its process: loop, wheel, options, the tick, and a limit on what slow clients hold."""

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
        """Tell whether nobody else can have it, where that is known: plain Python makes another one."""
        return False


T = TypeVar("T")


class Outlet(Timed):
    """
    A connection as its process sees it: something that is sent to, and that sends at the end of the tick.

    ``waiting`` is how many bytes it has queued.
    """

    if not cython.compiled:
        __slots__ = ("dialect", "sid", "waiting")

    dialect: Dialect
    sid: Sid
    waiting: int

    def send(self, packet: OutgoingPacket) -> bool:
        """Queue a packet; False if nothing is taken any more. A subclass does, as with all of these."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what is queued."""
        raise NotImplementedError

    def fall_behind(self, error: SlowClient) -> None:
        """End, since too much waits for the client."""
        raise NotImplementedError


class Runtime:
    """The process as its connections see it."""

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
        #: What polling clients were answered last.
        self.answers = Answers(options.outbox_total)
        self._dirty: list[Outlet] = []
        self._accepted: Delivery[Receipt] | None = None
        # One for all sends of a tick that had the same outcome: a loop that sends a million times must not make them.
        self._outcomes: dict[Any, Delivery[Any]] = {}
        # Deliveries that it made can be asked for until it is over.
        self._tick = Tick()
        # Whether there are others than the accepted one.
        self._has_told = False
        # Whether the end of this tick is scheduled.
        self._is_flushing = False
        # By their own names: each tick needs them.
        self._call_soon = loop.call_soon
        self._end = self.flush
        self._blocked: set[Outlet] = set()
        self._blocked_bytes = 0
        self._thread = get_ident()

    def remove(self, connection: Outlet) -> None:
        """Forget a connection of which nothing is kept any more; a subclass does, which has them by sid."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget everything."""
        self.wheel.close()
        self._blocked.clear()

    def demand_thread(self, method: str) -> None:
        """
        Refuse a call from another thread.

        Raises:
            WrongThread: naming the method.

        """
        if get_ident() != self._thread:
            raise WrongThread(method)

    # What a tick sends

    def mark(self, connection: Outlet) -> None:
        """Let the connection send what it has at the end of this tick."""
        if not self._is_flushing:
            self._flush_later()
        self._dirty.append(connection)

    def accepted(self) -> Delivery[Receipt]:
        """Return the outcome of a send that was accepted in this tick."""
        if not self._is_flushing:
            self._flush_later()
        delivery = self._accepted
        if delivery is None:
            delivery = self._accepted = Delivery(self.loop, self._tick, False)
            delivery.settle(ACCEPTED)
        return delivery

    def delivered(self, outcome: T, *, requested: bool) -> Delivery[T]:
        """Return the outcome of a send, known already."""
        delivery: Delivery[T] | None = None if requested else self._outcomes.get(outcome)
        if delivery is None:
            delivery = self.delivery(requested=requested)
            delivery.settle(outcome)
            if not requested:
                self._outcomes[outcome] = delivery
        return delivery

    def delivery(self, *, requested: bool) -> Delivery[Any]:
        """Return the outcome of a send, not known yet."""
        if not requested and not self._is_flushing:
            self._flush_later()
        self._has_told = True
        return Delivery(self.loop, self._tick, requested)

    def _flush_later(self) -> None:
        self._is_flushing = True
        self._call_soon(self._end)

    def flush(self) -> None:
        """End the tick: send what it has queued, one write per connection."""
        self._is_flushing = False
        dirty, self._dirty = self._dirty, []
        self._end_deliveries()
        for connection in dirty:
            connection.flush()

    def _end_deliveries(self) -> None:
        """Let nobody ask any more for what this tick has told; a delivery that nobody has kept serves the next one."""
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

    # What waits for slow clients

    def block(self, connection: Outlet, size: int) -> None:
        """Count bytes that wait for a client which takes none; close the largest when all are too much."""
        self.count_blocked(connection, size)
        if self._blocked_bytes > self.options.outbox_total:
            self._make_room()

    def count_blocked(self, connection: Outlet, size: int) -> None:
        """Count bytes that go on waiting, which there was room for before."""
        self._blocked.add(connection)
        self._blocked_bytes += size

    def _make_room(self) -> None:
        """Close the clients that are furthest behind, in one go and so many that the next ones find room."""
        limit = self.options.outbox_total
        enough = limit - limit // 10
        for connection in sorted(self._blocked, key=lambda each: each.waiting, reverse=True):
            if self._blocked_bytes <= enough:
                break
            if connection in self._blocked:  # else what its predecessors' listeners did has ended it
                connection.fall_behind(SlowClient(self._blocked_bytes, limit))

    def is_blocked(self, connection: Outlet) -> bool:
        """Tell whether bytes of the connection are counted as waiting."""
        return connection in self._blocked

    def unblock(self, connection: Outlet) -> None:
        """Take back what :meth:`block` counted."""
        if connection in self._blocked:
            self._blocked.discard(connection)
            self._blocked_bytes -= connection.waiting

    @property
    def blocked_bytes(self) -> int:
        """Bytes that wait for clients which take none now."""
        return self._blocked_bytes
