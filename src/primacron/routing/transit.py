"""Sessions in transit from one node to another, and what comes for them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.items import NO_ID, ApplyLate
from primacron.entries import Entry, Name
from primacron.ids import NodeId, Sid
from primacron.routing.acts import Act
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent, Serial
from primacron.sessions.session import Session

#: Called with the entry of a session once it is known where that is; with None if the session was lost.
Held: TypeAlias = Callable[[Entry | None], None]

#: Bytes of all that may wait for one session in transit, and of each thing that waits beside what it carries.
MAX_HELD: Final = 4_194_304
_COST: Final = 256
#: Seconds by which something that was sent to many may come later than word of a handoff, at most.
OVERTAKEN_BY: Final = 2.0


class Transit:
    """One session that is in transit, from here or to here."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits that what carries anything is not to be kept."""
        return self._size >= MAX_HELD

    def hold(self, held: Held, size: int = 0) -> None:
        """Keep what came for the session, with what it carries, until it is known where it is."""
        self._held.append(held)
        self._size += size + _COST

    async def outcome(self) -> Entry | None:
        """Wait until it is known where the session is; None if it has ended, or is with somebody else."""
        known: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()

        def settle(entry: Entry | None) -> None:
            if not known.done():
                known.set_result(entry)

        self.hold(settle)
        return await known

    def release(self, entry: Entry | None) -> None:
        """Let what came go to where the session is."""
        held, self._held = self._held, []
        self._size = 0
        for each in held:
            each(entry)


class Departing(Transit):
    """A session in transit from here, under its ``name``; ``entry`` is the one that it had here."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.name = (session.account, session.id)
        self.entry = session.entry


#: What was done to many: to whom, its number if it is not to come behind later ones, and how it is done to a session.
Missed: TypeAlias = tuple[Audience, Serial | None, Callable[[Session], None]]


class Arriving(Transit):
    """
    A session in transit to here, from the node ``source``.

    Until it is here nothing that is sent to many reaches it here, and where it was
    that may come too late.
    """

    def __init__(self, source: NodeId) -> None:
        super().__init__()
        self.source = source
        self.missed: list[Missed] = []

    def miss(self, audience: Audience, order: Serial | None, act: Callable[[Session], None], size: int) -> None:
        """Keep what is done to an audience until the session is here; see :data:`Missed`."""
        self.missed.append((audience, order, act))
        self._size += size + _COST

    def catch_up(self, session: Session) -> int:
        """
        Let a session that has come have what it missed; return how many of that it is not to have any more.

        What was sent while nobody knew where the session was came here alone. What was
        sent afterwards may have come to it where it was, and must not be followed by
        what was sent before.
        """
        missed, self.missed = self.missed, []
        if not missed:
            return 0
        recent = session.demand(Recent)
        latest, dropped = recent.latest(), 0
        for audience, order, act in missed:
            if not audience.matches(session):
                continue
            if order is None or order in recent.serials or latest.get((order[0], audience.kind), 0) < order[1]:
                act(session)
            else:
                dropped += 1
        return dropped


class Transits(dict[Name, Transit]):
    """Those of a node, by account and session; ``arriving`` also has those of which that is not known yet."""

    def __init__(self) -> None:
        super().__init__()
        self.arriving: set[Arriving] = set()

    def who_miss(self, origin: NodeId) -> list[Arriving]:
        """Return those that miss what a node lets be done to many."""
        # What the node did by itself where the session was, it did to that as well.
        return [each for each in self.arriving if each.source != origin]


class DeferredActs:
    """Keeps what is done to an audience for those of it that are in transit."""

    def __init__(self, hub: Hub, cluster: Cluster, local: Local, transits: Transits) -> None:
        self._hub = hub
        self._cluster = cluster
        self._local = local
        self._transits = transits
        #: Sessions that were here a moment ago, and where they went.
        self._just_left: dict[Name, tuple[Session, Entry]] = {}

    def depart(self, session: Session, entry: Entry) -> None:
        """Record where a session has gone, for what comes late."""
        name = (session.account, session.id)
        self._just_left[name] = session, entry
        self._hub.wheel.alarm(OVERTAKEN_BY, partial(self._forget_left, name, entry))

    def _forget_left(self, name: Name, entry: Entry) -> None:
        if name in self._just_left and self._just_left[name][1] is entry:
            del self._just_left[name]

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """
        Keep what is done to an audience for those of it that are in transit.

        ``is_alone`` tells that this node was asked by itself: those that were here a
        moment ago were meant as well. Returns whether there may be any that are not
        counted here.
        """
        # What went to all may come behind word of a handoff where the two have connections of their own.
        may_be_late = is_alone or not self._cluster.bus.keeps_order
        transits = self._transits
        if not (transits or transits.arriving or (may_be_late and self._just_left)):
            return False
        assert serial is not None
        packed = act.pack(self._hub.encoding)

        def is_meant(session: Session) -> bool:
            return audience.matches(session) and not act.spares((session.account, session.id))

        departing = [each for each in transits.values() if isinstance(each, Departing) and is_meant(each.session)]
        for each in departing:
            if self._has_room(each, act):
                each.hold(partial(self._pass_on, each.name, each.entry.sid, packed, serial), len(packed))
        left = [(name, entry) for name, (session, entry) in self._just_left.items() if is_meant(session)]
        for name, entry in left if is_alone else ():
            self._pass_on(name, entry.sid, packed, serial, entry)
        arriving = transits.who_miss(serial[0])
        for coming in arriving:
            if self._has_room(coming, act):
                order = None if act.must_arrive else serial
                coming.miss(audience, order, partial(act.apply_late, self._local, serial), len(packed))
        return bool(departing or arriving or (left and may_be_late))

    def _has_room(self, transit: Transit, act: Act) -> bool:
        if not transit.is_full or act.must_arrive:
            return True
        self._hub.metrics.count("messages_late_dropped")
        return False

    def _pass_on(self, name: Name, sid: Sid, act: bytes, serial: Serial, entry: Entry | None) -> None:
        if entry is not None:
            head = (NO_ID, self._cluster.node, *name, entry.generation, 0)
            self._cluster.tell(entry.node, ApplyLate(*head, sid, msgspec.Raw(act), *serial))
