"""
The history of a channel as one node delivers it: a state machine.

The messages of a channel lie in a list and are published on a topic. The topic may lose
some, the list forgets the oldest, and an epoch may end before its last messages were
seen. A *stream* makes of this what members get: each message of an epoch once, in the order
of the offsets, or a :class:`Gap` that tells exactly which are lost.

What arrives in turn is delivered at once, whether it comes from the topic or is the answer
to one's own append. Anything else waits while the list is read. Only the list tells which
epoch is current: a message of another one waits for a page, since it may as well be a late
message of an epoch that has ended.

What neither the topic has brought nor the list has any more is lost, but not at once: the
topic may be slower than the page. The stream asks for some patience first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from primacron.cluster.kept import Appended, Page, Published
from primacron.positions import Position
from primacron.protocol.engine import Symbol

#: How much may wait for its turn; what is beyond is dropped, and read from the list.
MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 1_048_576
#: Items per page.
PAGE_ITEMS: Final = 1_000
#: An offset that no list reaches: what is read above it are the numbers alone.
ABOVE_ALL: Final = 2**52
#: Ended epochs whose last offset is remembered, in case that the backend returns to one.
MAX_ENDED: Final = 8


class State(Symbol):
    """How much a stream knows of what it is to deliver."""

    UNHEARD = "no position yet: the subscription has to stand first"
    CURRENT = "all that is known was delivered"
    EXPECTING = "something is missing that the topic is about to bring"
    READING = "a page is asked for"
    OVERTAKEN = "a page is asked for that may be too old when it comes"
    MISSING = "something is missing that the list does not have; the topic has a last moment to bring it"
    FAILED = "the list could not be read"


# Bound to a plain name: on Python 3.11 looking up an enum member takes ten times as long.
CURRENT: Final = State.CURRENT


class Event(Symbol):
    """Events that change the state."""

    HEARD = "the subscription stands, again or for the first time"
    FILLED = "nothing is known to be missing"
    EARLY = "the answer to one's own append is ahead of the topic"
    MISSED = "the topic has skipped something, or has it without its body"
    FOREIGN = "a message of another epoch came"
    LOST = "the list does not have what is missing"
    COMPARE = "it is time to look whether something was lost unnoticed"
    FAILURE = "the list could not be read"
    ELAPSED = "the time is up"


class Do(Symbol):
    """What a stream asks for."""

    NOTHING = "nothing"
    READ = "read a page of the list"
    WAIT = "wait a moment"


# Every transition of a stream; an event that the table does not have is ignored.
MOVES: Final[dict[tuple[State, Event], tuple[State, Do]]] = {
    (State.UNHEARD, Event.HEARD): (State.READING, Do.READ),
    (State.CURRENT, Event.HEARD): (State.READING, Do.READ),
    (State.CURRENT, Event.COMPARE): (State.READING, Do.READ),
    (State.CURRENT, Event.MISSED): (State.READING, Do.READ),
    (State.CURRENT, Event.FOREIGN): (State.READING, Do.READ),
    (State.CURRENT, Event.EARLY): (State.EXPECTING, Do.WAIT),
    (State.EXPECTING, Event.FILLED): (State.CURRENT, Do.NOTHING),
    (State.EXPECTING, Event.MISSED): (State.READING, Do.READ),
    (State.EXPECTING, Event.FOREIGN): (State.READING, Do.READ),
    (State.EXPECTING, Event.HEARD): (State.READING, Do.READ),
    (State.EXPECTING, Event.ELAPSED): (State.READING, Do.READ),
    # Messages that were lost while the subscription did not stand may be newer than the page.
    (State.READING, Event.HEARD): (State.OVERTAKEN, Do.NOTHING),
    # Further messages do not renew the wait, or a busy channel would wait for ever.
    (State.MISSING, Event.FILLED): (State.CURRENT, Do.NOTHING),
    (State.MISSING, Event.HEARD): (State.READING, Do.READ),
    (State.MISSING, Event.ELAPSED): (State.READING, Do.READ),
    (State.READING, Event.FAILURE): (State.FAILED, Do.WAIT),
    (State.OVERTAKEN, Event.FAILURE): (State.FAILED, Do.WAIT),
    (State.FAILED, Event.HEARD): (State.READING, Do.READ),
    (State.FAILED, Event.ELAPSED): (State.READING, Do.READ),
}

# The same for a page that has come: what is known to be missing after it.
PAGES: Final[dict[tuple[State, Event], tuple[State, Do]]] = {
    (State.READING, Event.FILLED): (State.CURRENT, Do.NOTHING),
    (State.READING, Event.MISSED): (State.READING, Do.READ),
    (State.READING, Event.LOST): (State.MISSING, Do.WAIT),
    (State.OVERTAKEN, Event.FILLED): (State.READING, Do.READ),
    (State.OVERTAKEN, Event.MISSED): (State.READING, Do.READ),
    (State.OVERTAKEN, Event.LOST): (State.READING, Do.READ),
}


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message to deliver."""

    epoch: str
    offset: int
    item: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """
    Tell that messages are lost: those with the offsets ``start`` to ``end`` of an epoch.

    Without an ``end`` a new epoch begins with offset ``start``, and something may be missing.
    """

    epoch: str
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Read:
    """Read up to ``limit`` items above an offset; :meth:`Stream.page` or :meth:`Stream.failed` is due."""

    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Call :meth:`Stream.elapsed` in a moment, in the place of any call that was asked for before."""


@dataclass(frozen=True, slots=True)
class Base:
    """
    Where a node stands in a channel.

    ``last`` is the last offset that it delivered of ``epoch``, which begins with ``start``;
    ``before`` is the epoch before, if known.
    """

    epoch: str
    last: int
    start: int
    before: str


@dataclass(frozen=True, slots=True)
class Begin:
    """The node has a position from now on: whoever has waited for it gets what follows."""

    base: Base


Action: TypeAlias = Begin | Deliver | Gap | Read | Wait


class Stream:
    """The history of one channel on one node; each method returns what is to be done, in order."""

    __slots__ = (
        "_asked_top",
        "_before",
        "_dropped",
        "_ended",
        "_epoch",
        "_foreign",
        "_is_heard",
        "_last",
        "_start",
        "_top",
        "_unreadable",
        "_waiting",
        "_waiting_bytes",
        "state",
    )

    def __init__(self) -> None:
        self.state = State.UNHEARD
        self._is_heard = False
        self._epoch: str | None = None
        self._start = 1
        self._before = ""
        #: The last offset that was delivered, and the last one that is known, of this epoch.
        self._last = self._top = 0
        #: What was known when the page was asked for.
        self._asked_top = 0
        #: Up to here the list has nothing above the last offset.
        self._unreadable = 0
        #: Epochs of messages that came since a page was asked for, other than the current one.
        self._foreign: frozenset[str] = frozenset()
        #: By epoch and offset; None has to be read.
        self._waiting: dict[tuple[str, int], bytes | None] = {}
        self._waiting_bytes = 0
        #: By epoch: the last offset of what was too much to wait, and has to be read if that epoch begins.
        self._dropped: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    @property
    def base(self) -> Base | None:
        """Where the node stands, or None if that is not known yet."""
        return None if self._epoch is None else Base(self._epoch, self._last, self._start, self._before)

    @property
    def position(self) -> Position | None:
        """The position that was delivered last."""
        return None if self._epoch is None else Position(self._epoch, self._last)

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of messages that wait for their turn, and their bytes."""
        return len(self._waiting), self._waiting_bytes

    # What happens

    def heard(self) -> list[Action]:
        """Messages that are published from now on will come."""
        self._is_heard = True
        return self._step(Event.HEARD)

    def unheard(self) -> None:
        """Messages may be lost from now on."""
        self._is_heard = False

    def published(self, published: Published) -> list[Action]:
        """Take a message from the topic."""
        return self._take(published.position, published.item, Event.MISSED)

    def appended(self, appended: Appended, item: bytes) -> list[Action]:
        """Take the answer to one's own append, which may be ahead of what others have published before."""
        return self._take(appended.position, item, Event.EARLY if self._is_heard else Event.MISSED)

    def page(self, page: Page) -> list[Action]:
        """Take the page that was asked for."""
        if self._epoch is None:
            actions: list[Action] = [Begin(self._adopt(page)), *self._drain({})]
        else:
            actions = self._merge(page, self._epoch)
        self._forget_ended()
        return actions + self._step(self._missing(), PAGES)

    def failed(self) -> list[Action]:
        """Learn that the page will not come."""
        return self._step(Event.FAILURE)

    def compare(self) -> list[Action]:
        """Look whether something was lost unnoticed, unless that is being done."""
        return self._step(Event.COMPARE)

    def elapsed(self) -> list[Action]:
        """Go on: the time that was asked for is over."""
        actions = self._give_up() if self.state is State.MISSING else []
        return actions + self._settle() + self._step(Event.ELAPSED)

    # What follows from it

    def _step(self, event: Event, table: Mapping[tuple[State, Event], tuple[State, Do]] = MOVES) -> list[Action]:
        self.state, do = table.get((self.state, event), (self.state, Do.NOTHING))
        if do is Do.NOTHING:
            return []
        if do is Do.WAIT:
            return [Wait()]
        self._asked_top = self._top
        self._foreign = frozenset()
        return [Read(ABOVE_ALL, 1) if self._epoch is None else Read(self._last, PAGE_ITEMS)]

    def _settle(self) -> list[Action]:
        return [] if self._is_behind() else self._step(Event.FILLED)

    def _is_behind(self) -> bool:
        return self._top > self._last or bool(self._foreign)

    def _missing(self) -> Event:
        """Return what a page has left to be missing."""
        if self._unreadable > self._last:
            return Event.LOST
        return Event.MISSED if self._is_behind() else Event.FILLED

    def _take(self, position: Position, item: bytes | None, missed: Event) -> list[Action]:
        epoch, offset = position.epoch, position.offset
        if epoch != self._epoch:
            self._foreign |= {epoch}
            self._hold(epoch, offset, item)
            return self._step(Event.FOREIGN)
        if offset <= self._last:
            return []
        self._top = max(self._top, offset)
        if item is not None and offset == self._last + 1 and not self._waiting:  # nearly always
            self._last = offset
            delivery = Deliver(epoch, offset, item)
            return [delivery] if self.state is CURRENT else [delivery, *self._settle()]
        actions = self._drain({offset: item})
        return actions + (self._settle() if actions else self._step(missed))

    def _hold(self, epoch: str, offset: int, item: bytes | None) -> None:
        size = 0 if item is None else len(item)
        known = self._waiting.get((epoch, offset))
        if known is not None:
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._dropped[epoch] = max(offset, self._dropped.get(epoch, 0))
            return
        self._waiting[epoch, offset] = item
        self._waiting_bytes += size

    def _pop(self, epoch: str, offset: int) -> bytes | None:
        item = self._waiting.pop((epoch, offset), None)
        self._waiting_bytes -= 0 if item is None else len(item)
        return item

    def _drain(self, fresh: dict[int, bytes | None]) -> list[Action]:
        """Deliver whatever is in turn; the rest of what is fresh waits."""
        assert self._epoch is not None
        actions: list[Action] = []
        while fresh or self._waiting:
            offset = self._last + 1
            item = self._pop(self._epoch, offset)
            item = fresh.pop(offset, None) if item is None else item
            if item is None:
                break
            self._last = offset
            actions.append(Deliver(self._epoch, offset, item))
        for offset, item in fresh.items():
            self._hold(self._epoch, offset, item)
        return actions

    def _adopt(self, page: Page) -> Base:
        """
        Begin with the first page.

        What came since the subscription stands is delivered, even if the page is newer.
        """
        epoch = self._enter(page)
        came = [offset for other, offset in self._waiting if other == epoch]
        self._top = max([page.top.offset, self._dropped.pop(epoch, 0), *came])
        self._last = min([page.top.offset, *(offset - 1 for offset in came)])
        return Base(epoch, self._last, self._start, self._before)

    def _merge(self, page: Page, epoch: str) -> list[Action]:
        end = last_offset(page, epoch)
        fresh: dict[int, bytes | None] = {
            offset: item for offset, item in enumerate(page.items, page.first) if self._last < offset <= end
        }
        is_whole = page.first + len(page.items) > end
        has_ended = page.top.epoch != epoch
        self._top = max(self._top, end)
        self._unreadable = min(page.first - 1, end)
        if is_whole and (has_ended or self._asked_top > end):
            # The backend has lost what is above the last message that it has of this epoch.
            self._unreadable = self._top if has_ended else self._asked_top
        actions = self._drain(fresh)
        # A backend that has lost the beginning of this epoch is back in one before, until the next append.
        if has_ended and page.top.offset > self._ended.get(page.top.epoch, -1):
            self._foreign |= {page.top.epoch}
            if is_whole and self._last >= self._top:
                actions += self._begin(page, epoch)
        return actions

    def _begin(self, page: Page, ended: str) -> list[Action]:
        """Begin an epoch, of which some may have been delivered before another one was current."""
        self._end(ended, self._last)
        self._last = max(page.start - 1, self._ended.pop(page.top.epoch, 0))
        epoch = self._enter(page)
        self._start = self._last + 1
        came = [offset for other, offset in self._waiting if other == epoch]
        self._top = max([self._last, page.top.offset, self._dropped.pop(epoch, 0), *came])
        self._unreadable = 0
        return [Gap(epoch, self._start, None), *self._drain({})]

    def _enter(self, page: Page) -> str:
        self._epoch, self._start, self._before = page.top.epoch, page.start, page.before
        self._foreign -= {self._epoch}
        if page.before:
            self._end(page.before, page.start - 1)
        return self._epoch

    def _end(self, epoch: str, last: int) -> None:
        """Remember the last offset of an epoch that has ended."""
        self._ended[epoch] = max(last, self._ended.pop(epoch, 0))
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def _forget_ended(self) -> None:
        """Drop what waited for the page, and is of none of the epochs that count, or was delivered."""
        self._dropped = {epoch: last for epoch, last in self._dropped.items() if epoch in self._foreign}
        for epoch, offset in [*self._waiting]:
            if epoch not in self._foreign and (epoch != self._epoch or offset <= self._last):
                self._pop(epoch, offset)

    def _give_up(self) -> list[Action]:
        """Tell what is lost, up to where the list has nothing."""
        assert self._epoch is not None
        actions: list[Action] = []
        known = [offset for (epoch, offset), item in self._waiting.items() if epoch == self._epoch and item is not None]
        for offset in (*sorted(each for each in known if each <= self._unreadable), self._unreadable + 1):
            if offset > self._last + 1:
                actions.append(Gap(self._epoch, self._last + 1, offset - 1))
                self._last = offset - 1
            actions += self._drain({})
        self._forget_ended()
        return actions


def last_offset(page: Page, epoch: str) -> int:
    """Return the last offset of an epoch that a list can have, as far as a page tells; -1 if it knows nothing of it."""
    if page.top.epoch == epoch:
        return page.top.offset
    return page.start - 1 if page.before == epoch != "" else -1
