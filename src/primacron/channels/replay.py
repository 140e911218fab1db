"""
What a session gets that joins a channel with a history: a state machine.

A *replay* brings one session to where its node is. The node goes on delivering meanwhile;
that waits behind what is read from the list. A session that has been at a faster node may
be ahead of this one; then it gets nothing until the node has caught up.

Positions below mean: had everything up to here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Final, TypeAlias

from primacron.channels.stream import (
    ABOVE_ALL,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    PAGE_ITEMS,
    Base,
    Deliver,
    Gap,
    Read,
    last_offset,
)
from primacron.cluster.kept import Page
from primacron.positions import Position
from primacron.protocol.engine import Symbol

#: Maximum bytes of messages sent to a session that has lost others.
MAX_NEWEST_BYTES: Final = 262_144


class State(Symbol):
    """How far a replay has come."""

    WAITING = "the node has no position yet"
    COMPARING = "asks which epoch is current, and for its last offset"
    READING = "reads what the session has missed"
    NEWEST = "some of that is lost: reads the newest of what is left"
    AHEAD = "the session has had what the node has yet to deliver"
    LIVE = "the session gets what the node delivers"


class Event(Symbol):
    """Events that change the state."""

    SETTLED = "nothing is left to read"
    MISSED = "there is something to read"
    UNSEEN = "the node has not seen the position"
    AHEAD = "the position is one that the node has yet to reach"
    LOST = "the list has not all of it"


# Every transition of a replay.
MOVES: Final[dict[tuple[State, Event], State]] = {
    (State.WAITING, Event.SETTLED): State.LIVE,
    (State.WAITING, Event.MISSED): State.READING,
    (State.WAITING, Event.UNSEEN): State.COMPARING,
    (State.COMPARING, Event.SETTLED): State.LIVE,
    (State.COMPARING, Event.MISSED): State.READING,
    (State.COMPARING, Event.UNSEEN): State.COMPARING,
    (State.COMPARING, Event.AHEAD): State.AHEAD,
    (State.READING, Event.SETTLED): State.LIVE,
    (State.READING, Event.MISSED): State.READING,
    (State.READING, Event.LOST): State.NEWEST,
    (State.NEWEST, Event.SETTLED): State.LIVE,
    (State.NEWEST, Event.MISSED): State.READING,
    (State.AHEAD, Event.SETTLED): State.LIVE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the join. ``recovered`` tells whether nothing was lost; it is None if no position was given."""

    position: Position
    recovered: bool | None


@dataclass(frozen=True, slots=True)
class ReadNewest:
    """Read the newest items, up to ``limit``; :meth:`Replay.page` is due."""

    limit: int


Action: TypeAlias = Answer | Deliver | Gap | Read | ReadNewest


class Replay:
    """
    The way of one session to where its node is; each method returns what is to be done, in order.

    The session has had everything up to ``since``. Without that, or if nothing is known of that
    position, it gets the ``newest`` messages, as many as it wants.
    """

    __slots__ = (
        "_answered",
        "_at",
        "_base",
        "_before",
        "_epoch",
        "_is_answered",
        "_is_quiet",
        "_later",
        "_later_bytes",
        "_newest",
        "_opening",
        "_since",
        "_unkept",
        "state",
    )

    def __init__(self, since: Position | None = None, newest: int = 0) -> None:
        self.state = State.WAITING
        self._since = since
        self._newest = newest
        #: What the answer is sent with, once a page has come.
        self._opening: list[Action] = []
        self._is_answered = False
        #: Whether gaps are none: who wants the newest messages has missed nothing.
        self._is_quiet = False
        #: What the session has had.
        self._epoch = ""
        self._at = 0
        #: The last position known to have been delivered to others, while nothing of that is kept.
        self._unkept = Position("", 0)
        #: Up to here a session that is ahead has heard that something may be missing.
        self._answered = 0
        #: The epoch before the one in which the session is ahead.
        self._before = ""
        #: Where the node was when it began to keep what it delivers; None if that became too much.
        self._base = Base("", 0, 1, "")
        self._later: list[Deliver | Gap] | None = []
        self._later_bytes = 0

    @property
    def position(self) -> Position | None:
        """The position of the session: where it comes from as long as it has no answer."""
        return Position(self._epoch, self._at) if self._is_answered else self._since

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of messages and gaps that wait behind the replay, and their bytes."""
        return len(self._later or ()), self._later_bytes

    # What happens

    def begin(self, base: Base) -> list[Action]:
        """Begin, as soon as the node has a position."""
        return self._decide(base, None)

    def page(self, page: Page, base: Base) -> list[Action]:
        """Take the page that was asked for, and where the node is now."""
        if self.state is State.COMPARING:
            # If the node has entered another epoch meanwhile, the page may be from before that.
            return self._decide(base, page if base.epoch == self._base.epoch else None)
        return self._advance(page, base)

    def take(self, action: Deliver | Gap) -> list[Action]:
        """Take what the node delivers now; return what of it the session gets now."""
        if self.state is State.LIVE:
            return [action]
        if self.state is State.AHEAD:
            return self._catch_up(action)
        if self.state in {State.READING, State.NEWEST}:
            self._keep(action)
        return []

    # Where to begin

    def _step(self, event: Event) -> list[Action]:
        self.state = MOVES[self.state, event]
        match self.state:
            case State.COMPARING:
                return [Read(ABOVE_ALL, 1)]
            case State.READING:
                return [Read(self._at, self._base.last - self._at if self._is_quiet else PAGE_ITEMS)]
            case State.NEWEST:
                return [ReadNewest(PAGE_ITEMS)]
        return []

    def _decide(self, base: Base, numbers: Page | None) -> list[Action]:
        """Begin from a position that the node has had, or compare it with the numbers of the list."""
        since, self._base = self._since, base
        if since is None:
            return self._give_newest([Answer(Position(base.epoch, base.last), None)])
        if _is_behind(since, base):
            self._epoch, self._at = since.epoch, since.offset
            return self._step(Event.MISSED) if self._at < base.last else self._settle_at_once()
        if numbers is None and since.epoch != base.before:
            return self._step(Event.UNSEEN)
        if numbers is not None and since.offset <= last_offset(numbers, since.epoch):
            return self._go_ahead([Answer(since, recovered=True)], since, numbers)
        if numbers is not None and not _is_behind(numbers.top, base):
            # What the node has yet to deliver up to there may be what the session has had.
            after = max(min(numbers.start - 1, numbers.top.offset), numbers.top.offset - self._newest)
            self._answered = numbers.top.offset
            return self._go_ahead(_unknown(numbers.top), Position(numbers.top.epoch, after), numbers)
        return self._give_newest(_unknown(Position(base.epoch, base.last)))

    def _go_ahead(self, opening: list[Action], position: Position, numbers: Page) -> list[Action]:
        self._epoch, self._at, self._opening = position.epoch, position.offset, opening
        self._before = numbers.before if numbers.top.epoch == position.epoch else ""
        return self._open([]) + self._step(Event.AHEAD)

    def _settle_at_once(self) -> list[Action]:
        self._opening = [Answer(Position(self._base.epoch, self._base.last), recovered=True)]
        return self._open(self._cross()) + self._step(Event.SETTLED)

    def _give_newest(self, opening: list[Action]) -> list[Action]:
        self._is_quiet, self._opening = True, opening
        self._epoch, self._at = self._base.epoch, max(0, self._base.last - self._newest)
        if self._at < self._base.last:
            return self._step(Event.MISSED)
        return self._open([]) + self._step(Event.SETTLED)

    # What is read

    def _advance(self, page: Page, base: Base) -> list[Action]:
        end = min(self._end(page), self._base.last)
        found = [(offset, item) for offset, item in enumerate(page.items, page.first) if self._at < offset <= end]
        is_whole = not found or page.first + len(page.items) > end
        if not self._is_answered and not self._is_quiet:
            is_lost = not found or found[0][0] > self._at + 1
            if is_lost and self.state is State.READING and not (is_whole and _newest(found) == found):
                return self._step(Event.LOST)
            found = _newest(found) if is_lost else found
            is_recovered = not is_lost and (not is_whole or end == self._base.last)
            self._opening = [Answer(Position(self._base.epoch, self._base.last), is_recovered)]
        moved = self._give(found) + (self._skip_to(self._base.last + 1) if is_whole else [])
        return self._open(moved) + (self._finish(base) if is_whole else self._step(Event.MISSED))

    def _end(self, page: Page) -> int:
        """Return up to which offset the list can have what the node has delivered."""
        base = self._base
        end = last_offset(page, base.epoch)
        if end < 0 and base.before:
            return min(last_offset(page, base.before), base.start - 1)
        return end

    def _open(self, moved: list[Action]) -> list[Action]:
        """Put the answer in front; if something is lost, a gap comes right behind it, even if those are the last."""
        opening, self._opening, self._is_answered = self._opening, [], True
        match [*opening, *moved]:
            case [Answer(recovered=False) as answer, Deliver(), *_]:
                lost = next(each for each in moved if isinstance(each, Gap) and each.end is not None)
                return [answer, lost, *(each for each in moved if each is not lost)]
        return opening + moved

    def _give(self, found: Sequence[tuple[int, bytes]]) -> list[Action]:
        actions: list[Action] = []
        for offset, item in found:
            actions += self._skip_to(offset)
            actions.append(Deliver(self._epoch, offset, item))
            self._at = offset
        return actions

    def _skip_to(self, offset: int) -> list[Action]:
        """Go to what is in front of an offset, which may be of the next epoch; tell what is lost."""
        actions: list[Action] = []
        start = self._base.start
        if self._epoch != self._base.epoch:
            actions += self._lose(min(offset, start) - 1)
            actions += self._cross() if offset >= start else []
        if self._epoch == self._base.epoch:
            actions += self._lose(offset - 1)
        return actions

    def _lose(self, end: int) -> list[Action]:
        if self._at >= end:
            return []
        gap = Gap(self._epoch, self._at + 1, end)
        self._at = end
        return [] if self._is_quiet else [gap]

    def _cross(self) -> list[Action]:
        """Go into the epoch of the node, unless it is there."""
        if self._epoch == self._base.epoch:
            return []
        lost = self._lose(self._unkept.offset) if self._unkept.epoch == self._epoch else []
        self._epoch, self._at = self._base.epoch, self._base.start - 1
        return [*lost, Gap(self._epoch, self._base.start, None)]

    def _finish(self, base: Base) -> list[Action]:
        """Go on with what the node has delivered meanwhile; if that was too much, read it."""
        self._is_quiet = False
        if self._later is not None:
            later, self._later = self._later, []
            return [*later, *self._step(Event.SETTLED)]
        self._base, self._later, self._later_bytes = base, [], 0
        crossed = self._cross() if base.before != self._epoch or self._at >= base.start - 1 else []
        return crossed + self._step(Event.MISSED if self._at < base.last else Event.SETTLED)

    # What the node delivers meanwhile

    def _keep(self, action: Deliver | Gap) -> None:
        if self._later is not None:
            self._later.append(action)
            self._later_bytes += len(action.item) if isinstance(action, Deliver) else 0
            if len(self._later) <= MAX_WAITING and self._later_bytes <= MAX_WAITING_BYTES:
                return
            for each in self._later:
                self._note(each)
            self._later = None
        self._note(action)

    def _note(self, action: Deliver | Gap) -> None:
        if action.epoch == self._base.epoch:
            self._unkept = Position(action.epoch, action.offset if isinstance(action, Deliver) else action.end or 0)

    def _catch_up(self, action: Deliver | Gap) -> list[Action]:
        """Return what of it is above the position of a session that is ahead."""
        if isinstance(action, Gap) and action.end is None:
            return self._change_epoch(action)
        at, end = self._at, action.offset if isinstance(action, Deliver) else action.end or 0
        if action.epoch != self._epoch or end < at:
            return []
        self._at = end
        if end >= self._answered:
            self._step(Event.SETTLED)
        if isinstance(action, Deliver):
            return [action] if end > at else []
        start = max(action.start, at + 1, self._answered + 1)
        return [Gap(self._epoch, start, end)] if start <= end else []

    def _change_epoch(self, gap: Gap) -> list[Action]:
        if gap.epoch == self._before:
            return []
        if gap.epoch != self._epoch:
            self._step(Event.SETTLED)
            return [gap]
        if self._at < gap.start:
            self._step(Event.SETTLED)
        return []


def _is_behind(since: Position, base: Base) -> bool:
    """Tell whether a node has had a position."""
    if since.epoch == base.epoch:
        return since.offset <= base.last
    return bool(since.epoch) and since.epoch == base.before and since.offset < base.start


def _unknown(position: Position) -> list[Action]:
    """Answer with a position to go on from, if nothing is known of the one that was given."""
    return [Answer(position, recovered=False), Gap(position.epoch, position.offset + 1, None)]


def _newest(found: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the newest messages within the limit; the newest alone never exceeds it."""
    sizes = accumulate(len(item) for _, item in reversed(found))
    count = sum(1 for _ in takewhile(lambda size: size <= MAX_NEWEST_BYTES, sizes))
    return list(found[len(found) - max(count, 1) :]) if found else []
