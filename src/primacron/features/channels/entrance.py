"""
How one session enters a channel with history: its replay, and when that may read.

A session gets one replay at a time, and has to wait for each byte of it: who asks a
thousand times a second gets no more than who asks once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from primacron.channels.replay import Action, Answer, ReadNewest, Replay, State
from primacron.channels.stream import Base, Deliver, Gap, Read
from primacron.cluster.kept import Page
from primacron.features.channels.reading import TakePage
from primacron.positions import Position
from primacron.sessions.session import Session
from primacron.wheel import Alarm, Wheel

#: Bytes of replays that a session gets in a second, and at once after a pause.
RATE: Final = 262_144
BURST: Final = 65_536
#: What a page costs besides its items, in bytes.
COST: Final = 256
#: Seconds before another look at a client that does not take what it was sent.
STUCK: Final = 0.25
#: Seconds before a failed read is repeated.
AGAIN: Final = 1.0
#: Seconds between looks whether a lane is still needed.
LINGER: Final = 5.0


class Source(Protocol):
    """The history that a session enters."""

    @property
    def base(self) -> Base | None:
        """Where this node stands, or None if that is not known yet."""

    def read(self, wish: Read | ReadNewest, take: TakePage) -> None:
        """Read a page."""

    def send(self, session: Session, action: Deliver | Gap) -> None:
        """Send a message, or tell of a gap, to one session."""

    def started(self, entrance: Entrance) -> Position | None:
        """
        Hand what is delivered to this entrance from now on, in the place of its session.

        Returns what the session has had, if it is a member.
        """

    def settled(self, entrance: Entrance) -> None:
        """Deliver to the session itself from now on, if it is a member."""


class Lane:
    """The replays of one session, one after the other."""

    __slots__ = ("_allowance", "_at", "_loop", "_queue", "_turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn: Entrance | None = None
        self._queue: deque[Entrance] = deque()
        #: The bytes that could be sent at a time.
        self._allowance = float(BURST)
        self._at = loop.time()

    def enter(self, entrance: Entrance) -> None:
        """Give an entrance its turn, behind those that came before."""
        if entrance not in self._queue:
            self._queue.append(entrance)
        self._next()

    def has_turn(self, entrance: Entrance) -> bool:
        """Tell whether an entrance has its turn."""
        return self._turn is entrance

    def leave(self, entrance: Entrance) -> None:
        """Let the next one go on."""
        if self._turn is entrance:
            self._turn = None
            self._loop.call_soon(self._next)
        elif entrance in self._queue:
            self._queue.remove(entrance)

    def _next(self) -> None:
        if self._turn is None and self._queue:
            self._turn = self._queue.popleft()
            self._turn.go()

    def close(self) -> None:
        """End all entrances: their session has ended."""
        waiting = [*self._queue] if self._turn is None else [self._turn, *self._queue]
        self._queue.clear()
        for entrance in waiting:
            entrance.unavailable()

    def spend(self, size: int) -> None:
        """Record what was sent."""
        self._allowance = self._allowance_now() - size - COST
        self._at = self._loop.time()

    def delay(self) -> float:
        """Return the seconds until something may be sent."""
        return max(0.0, -self._allowance_now() / RATE)

    @property
    def is_idle(self) -> bool:
        """Whether it is as good as new."""
        return self._turn is None and not self._queue and self._allowance_now() >= BURST

    def _allowance_now(self) -> float:
        return min(BURST, self._allowance + (self._loop.time() - self._at) * RATE)


class Lanes:
    """The lanes of all sessions that had a replay a moment ago."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self._loop = loop
        self._wheel = wheel
        self._lanes: dict[Session, Lane] = {}

    def get(self, session: Session) -> Lane | None:
        """Return the lane of a session, if it has one."""
        return self._lanes.get(session)

    def demand(self, session: Session) -> Lane:
        """Return the lane of a session."""
        lane = self._lanes.get(session)
        if lane is None:
            lane = self._lanes[session] = Lane(self._loop)
            self._drop_later(session)
        return lane

    def close(self, session: Session) -> None:
        """End all entrances of a session that has ended."""
        lane = self._lanes.get(session)
        if lane is not None:
            lane.close()

    def _drop_later(self, session: Session) -> None:
        self._wheel.alarm(LINGER, partial(self._drop, session))

    def _drop(self, session: Session) -> None:
        if self._lanes[session].is_idle:
            del self._lanes[session]
        else:
            self._drop_later(session)


class Entrance:
    """
    One session on its way into a channel.

    ``answered`` is called with the answer. Until :meth:`release` what follows it is held,
    if it ``holds``. One that is not ``patient`` gives up when a page cannot be read, and
    ``answered`` is called with None; otherwise the page is read again.
    """

    __slots__ = (
        "_alarm",
        "_answered",
        "_due",
        "_held",
        "_is_answered",
        "_is_over",
        "_is_patient",
        "_lane",
        "_lanes",
        "_replay",
        "_source",
        "_was_at",
        "_wheel",
        "session",
    )

    def __init__(
        self,
        source: Source,
        session: Session,
        lanes: Lanes,
        wheel: Wheel,
        replay: Replay,
        answered: Callable[[Answer | None], None],
        *,
        holds: bool,
        patient: bool,
    ) -> None:
        self.session = session
        self._source = source
        self._lanes = lanes
        #: Its session's, if there were or are any pages to read.
        self._lane = lanes.get(session)
        self._wheel = wheel
        self._replay = replay
        self._answered = answered
        self._held: list[Deliver | Gap] | None = [] if holds else None
        self._is_patient = patient
        self._is_over = self._is_answered = False
        #: What a member has had that joins again.
        self._was_at: Position | None = None
        #: The page that it needs next.
        self._due: Read | ReadNewest | None = None
        self._alarm: Alarm | None = None

    @property
    def position(self) -> Position | None:
        """How far the session has received the history."""
        return self._replay.position

    @property
    def is_ahead(self) -> bool:
        """Whether the session has had what this node has yet to deliver."""
        return self._replay.state is State.AHEAD

    # What happens

    def queue(self) -> None:
        """Begin as soon as the earlier replays of the session are over."""
        if self._lane is None:
            self.begin()
        else:
            self._lane.enter(self)

    def go(self) -> None:
        """Begin, or go on reading: it is its turn."""
        if self._due is None and self._replay.state is State.WAITING:
            self.begin()
        else:
            self._read()

    def begin(self) -> None:
        """Begin now, unless the node has no position yet: then :meth:`begin_at` is due."""
        self._was_at = self._source.started(self)
        base = self._source.base
        if base is not None:
            self.begin_at(base)

    def begin_at(self, base: Base) -> None:
        """Begin where the node stands."""
        self._act(self._replay.begin(base))

    def take(self, action: Deliver | Gap) -> None:
        """Take what the node delivers to the members."""
        self._act(self._replay.take(action))

    def release(self) -> None:
        """Send what follows the answer: that has been sent."""
        held, self._held = self._held or (), None
        for action in held:
            self._source.send(self.session, action)
        self._look()

    def unavailable(self) -> None:
        """Give up, unless it can wait until the history can be read."""
        if not self._is_patient and not self._is_over:
            answered = self._answered
            self.abandon()
            answered(None)

    def abandon(self) -> None:
        """Forget what was asked for; a member goes on where it was."""
        if self._was_at is None:
            self.end()
            self._source.settled(self)
        elif self._is_answered:
            self.release()
        else:
            self._replay, self._held, self._due = Replay(self._was_at), None, None
            self._is_patient, self._answered = True, _ignore
            self._cancel_alarm()
            self.begin()

    def end(self) -> None:
        """Stop: the session has left the channel, or this node."""
        self._is_over = True
        self._cancel_alarm()
        self._leave_lane()
        if not self._is_answered:
            self._answered(None)

    # What follows from it

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Answer):
                self._is_patient = self._is_answered = True
                self._answered(action)
            elif isinstance(action, (Read, ReadNewest)):
                self._demand(action)
            elif self._held is not None:
                self._held.append(action)
            else:
                self._source.send(self.session, action)
        self._look()

    def _look(self) -> None:
        """Make room for the next replay when this one is done."""
        if self._replay.state in {State.LIVE, State.AHEAD}:
            self._leave_lane()
        if self._replay.state is State.LIVE and self._held is None and not self._is_over:
            self._is_over = True
            self._source.settled(self)

    def _demand(self, wish: Read | ReadNewest) -> None:
        self._due = wish
        if self._lane is None:
            self._lane = self._lanes.demand(self.session)
        if self._lane.has_turn(self):
            self.go()
        else:
            self._lane.enter(self)

    def _read(self) -> None:
        """Read the page that is due, when the session has paid for the last one and its client has taken it."""
        self._cancel_alarm()
        connection = self.session.connection
        assert self._lane is not None
        delay = self._lane.delay()
        if connection is not None and connection.is_stuck:
            delay = max(delay, STUCK)
        if delay > 0:
            self._alarm = self._wheel.alarm(delay, self._read)
        elif self._due is not None:
            self._source.read(self._due, partial(self._take_page, self._due))

    def _take_page(self, wish: Read | ReadNewest, page: Page | None) -> None:
        base = self._source.base
        if self._is_over or wish is not self._due:  # the latter if it was for a join that was given up
            return
        if page is None or base is None:
            self.unavailable()
            if not self._is_over:
                self._alarm = self._wheel.alarm(AGAIN, self._read)
            return
        assert self._lane is not None
        self._due = None
        self._lane.spend(sum(map(len, page.items)))
        self._act(self._replay.page(page, base))

    def _leave_lane(self) -> None:
        if self._lane is not None:
            self._lane.leave(self)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._wheel.cancel(self._alarm)
            self._alarm = None


def _ignore(_: Answer | None) -> None:
    """Tell nobody."""
