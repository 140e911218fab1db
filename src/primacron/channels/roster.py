"""
Who is in one channel, as one node knows it.

A member is there while any node's part has it. What the members on this node are told are
changes of that union, those of a tick together, so that nobody hears of a session that
goes from one part to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

from primacron.channels.notices import Notices
from primacron.channels.parts import NOTHING, Change, Delta, Part, Present, Snapshot, split_changes
from primacron.entries import Name
from primacron.ids import NodeId

#: Seconds that the first member waits for the parts of other nodes.
PATIENCE: Final = 1.0
#: Seconds after which a message that may not have been sent is followed by another.
AGAIN: Final = 1.0


class Sync(Enum):
    """How a node keeps up with the other parts of a channel."""

    NEW = "it does not hear the channel yet"
    ASKING = "it hears the channel, and has asked for all parts"
    STEADY = "it has asked, and hears all changes"
    DEAF = "it has asked, but does not hear the channel at the moment"


class Sign(Enum):
    """What changes that."""

    HEARD = "it hears the channel"
    SILENT = "it does not hear the channel any more"
    ANSWERED = "everyone who was asked has answered"
    LATE = "not everyone has answered in time"


MOVES: Final[dict[tuple[Sync, Sign], Sync]] = {
    (Sync.NEW, Sign.HEARD): Sync.ASKING,
    (Sync.ASKING, Sign.ANSWERED): Sync.STEADY,
    (Sync.ASKING, Sign.LATE): Sync.STEADY,
    (Sync.ASKING, Sign.SILENT): Sync.NEW,
    (Sync.STEADY, Sign.SILENT): Sync.DEAF,
    (Sync.DEAF, Sign.HEARD): Sync.STEADY,
}


class Survey:
    """
    A question to all nodes that hear a channel, and who has answered it.

    ``expected`` is the number of other nodes that have heard it, None before it is known.
    """

    __slots__ = ("asks", "expected", "is_asked", "replied", "until")

    def __init__(self, asks: int, until: float) -> None:
        self.asks = asks
        self.until = until
        self.is_asked = False
        self.expected: int | None = None
        self.replied: set[NodeId] = set()

    @property
    def is_complete(self) -> bool:
        """Whether all have answered."""
        return self.expected is not None and len(self.replied) >= self.expected


class Roster:
    """
    The parts of one channel and their union.

    ``number`` returns the next version of any part of this node; above ``limit`` members are told as a number;
    absences of up to ``grace`` seconds are not told.
    """

    __slots__ = (
        "_absent", "_away", "_grace", "_has_begun", "_in_flight", "_node", "_number", "_repeat_at", "_transit",
        "_unsent", "answer_by", "is_closing", "is_lost", "notices", "parts", "survey", "sync", "view", "wakes",
    )  # fmt: skip

    def __init__(self, node: NodeId, number: Callable[[], int], limit: int, grace: float, now: float) -> None:
        self._node = node
        self._number = number
        self._grace = grace
        self.sync = Sync.NEW
        self.survey: Survey | None = None
        #: Until when the answers to joins wait for other parts; None once they need not.
        self.answer_by: float | None = now + PATIENCE
        #: Whether it ends as soon as all is told.
        self.is_closing = False
        #: Whether its topic was lost, and is not heard again yet.
        self.is_lost = False
        #: When it has something to do next, if that is scheduled.
        self.wakes: float | None = None
        own = Part()
        own.version = number()
        self.parts: dict[NodeId, Part] = {node: own}
        #: The union.
        self.view: dict[Name, bytes] = {}
        self.notices = Notices(limit)
        #: Members of no part that are about to appear in one, and until when that is believed.
        self._transit: dict[Name, float] = {}
        #: Members on this node that are away, until when nobody hears of it; and those of whom it was heard.
        self._away: dict[Name, float] = {}
        self._absent: dict[Name, bytes] = {}
        #: Names on this node that the other nodes were not told of, each with whether its session goes on elsewhere.
        self._unsent: dict[Name, bool] = {}
        self._has_begun = False
        #: When to tell the version again, after a message that may not have been sent.
        self._repeat_at: float | None = None
        #: Messages of which it is not known yet whether they were sent.
        self._in_flight = 0

    @property
    def own(self) -> Part:
        """The part of this node."""
        return self.parts[self._node]

    @property
    def misses_changes(self) -> bool:
        """Whether some changes of other parts are known to be missing."""
        return any(part.missed is not None for part in self.parts.values())

    def step(self, sign: Sign) -> bool:
        """Go where the table says; tell whether it has the sign."""
        after = MOVES.get((self.sync, sign))
        self.sync = after or self.sync
        return after is not None

    # The members of this node

    def join(self, name: Name, info: bytes, now: float) -> None:
        """Add a member, or change its info."""
        if name in self._absent:
            self._absent[name] = info
        else:
            self._set(name, info, now, moved=False)

    def leave(self, name: Name, now: float, *, moved: bool) -> None:
        """Remove a member."""
        self._away.pop(name, None)
        self._absent.pop(name, None)
        self._set(name, None, now, moved=moved)

    def away(self, name: Name, now: float) -> None:
        """Begin an absence."""
        if name in self.own.members:
            self._away.setdefault(name, now + self._grace)

    def back(self, name: Name, now: float) -> None:
        """End an absence."""
        self._away.pop(name, None)
        info = self._absent.pop(name, None)
        if info is not None:
            self._set(name, info, now, moved=False)

    def _set(self, name: Name, info: bytes | None, now: float, *, moved: bool) -> None:
        own = self.own
        if own.members.get(name) != info:
            self._unsent[name] = moved
            self._resolve(own.apply(own.version, [Change(*name, info, moved)]), now)

    # The parts of the others

    def take(self, delta: Delta, now: float) -> None:
        """Apply what another node tells of its part, or keep it until the part is known."""
        if delta.version == NOTHING:
            return
        part = self.parts.setdefault(delta.node, Part())
        if delta.before == part.version:
            self._resolve(part.apply(delta.version, delta.changes), now)
        elif delta.version <= part.version:
            pass
        elif delta.before == NOTHING:
            members = {change.name: change.info for change in delta.changes if change.info is not None}
            self._resolve(part.replace(delta.version, members), now)
        else:
            part.miss(delta)

    def take_snapshot(self, node: NodeId, snapshot: Snapshot, now: float) -> None:
        """Replace what is known of another node's part, unless that is newer."""
        part = self.parts.setdefault(node, Part())
        if snapshot.version > part.version:
            members = {member.name: member.info for member in snapshot.members}
            self._resolve(part.replace(snapshot.version, members), now)

    def drop(self, node: NodeId, now: float) -> bool:
        """Forget the part of a node that is gone; tell whether there was one."""
        part = self.parts.pop(node, None)
        if part is not None:
            self._resolve(dict.fromkeys(part.members, 0.0), now)
        return part is not None

    def known(self, node: NodeId) -> int:
        """Return the version of a node's part that it needs not send again."""
        part = self.parts.get(node)
        return NOTHING if part is None else part.known

    def snapshot(self) -> Snapshot:
        """Return the part of this node."""
        return Snapshot(self.own.version, [Present(*name, info) for name, info in self.own.members.items()])

    # The union

    def _resolve(self, changed: Mapping[Name, float], now: float) -> None:
        """Note what has become of names in the union; each may appear in another part within so many seconds."""
        for name, seconds in changed.items():
            info, before = self._find(name), self.view.get(name)
            if info is None and before is not None and seconds:
                self._transit.setdefault(name, now + seconds)
                continue
            self._transit.pop(name, None)
            if info != before:
                self.notices.note(name, before)
                if info is None:
                    del self.view[name]
                else:
                    self.view[name] = info

    def _find(self, name: Name) -> bytes | None:
        """Return a member's info; if several parts have it, all nodes take the one of the same node."""
        found, chosen = None, self._node
        for node, part in self.parts.items():
            info = part.members.get(name)
            if info is not None and (found is None or node > chosen):
                found, chosen = info, node
        return found

    def expire(self, now: float) -> None:
        """Remove members that are away for too long, or have not appeared where they were expected."""
        for name in _until(self._away, now):
            self._absent[name] = self.own.members[name]
            self._set(name, None, now, moved=False)
        lost = [name for name, until in self._transit.items() if until <= now]
        self._resolve(dict.fromkeys(lost, 0.0), now)

    # What goes out

    def deltas(self, now: float) -> list[Delta]:
        """Return what the other nodes have to hear at the end of this tick."""
        asks = self._asks()
        repeats = self._repeat_at is not None and self._repeat_at <= now
        # Until it hears the channel it has to ask, too: in the same message.
        holds_back = self.sync is Sync.NEW and not self._has_begun and not self.is_closing
        if holds_back or not (self._unsent or asks or repeats):
            return []
        self._repeat_at = None
        members = self.own.members
        changes = [Change(*name, members.get(name), moved) for name, moved in self._unsent.items()]
        self._unsent = {}
        first, *others = split_changes(changes)
        return [self._delta(first, asks), *(self._delta(piece, 0) for piece in others)]

    def _asks(self) -> int:
        """Return the number under which to ask for all parts, once."""
        if self.survey is None or self.survey.is_asked:
            return 0
        self.survey.is_asked = True
        return self.survey.asks

    def _delta(self, changes: Iterable[Change], asks: int) -> Delta:
        own = self.own
        before = own.version if self._has_begun else NOTHING
        self._has_begun = True
        self._in_flight += 1
        delta = Delta(self._node, before, self._number() if changes else own.version, tuple(changes), asks)
        own.version = delta.version
        return delta

    def sent(self) -> None:
        """Note that a message was sent."""
        self._in_flight -= 1

    def unsent(self, now: float) -> None:
        """Note that a message may not have been sent: tell the version again after a while."""
        self._in_flight -= 1
        if self._repeat_at is None:
            self._repeat_at = now + AGAIN

    @property
    def is_told(self) -> bool:
        """Whether there is nothing that the other nodes have to hear."""
        return not self._unsent and self._repeat_at is None

    @property
    def is_over(self) -> bool:
        """Whether it is closing, and the other nodes have heard that there are no members."""
        return self.is_closing and self.is_told and not self._in_flight and not self.own.members

    def due(self, *, is_connected: bool) -> float | None:
        """Return when there is something to do although nothing happens, None if never."""
        times = [*_first(self._away), *self._transit.values()]
        if self.answer_by is not None:
            times.append(self.answer_by)
        if self._repeat_at is not None and is_connected:
            times.append(self._repeat_at)
        if self.survey is not None:
            times.append(self.survey.until)
        if (count_at := self.notices.due(len(self.view))) is not None:
            times.append(count_at)
        return min(times, default=None)


def _first(times: Mapping[Name, float]) -> Iterable[float]:
    """Return the first of times that were added in order, if there is one."""
    for time in times.values():
        return (time,)
    return ()


def _until(times: dict[Name, float], now: float) -> list[Name]:
    """Remove and return the names whose time has come, of times that were added in order."""
    names: list[Name] = []
    for name, time in times.items():
        if time > now:
            break
        names.append(name)
    for name in names:
        del times[name]
    return names
