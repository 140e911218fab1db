"""Sessions in transit between nodes, and the sends held for them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

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

#: Callback queued while a session is in transit; receives its entry, or None if the session was lost.
Held: TypeAlias = Callable[[Entry | None], None]

#: Maximum bytes held for one session in transit, and the overhead counted for each held item.
MAX_HELD: Final = 4_194_304
_COST: Final = 256
#: Maximum seconds by which a fan-out may arrive after a later message about a handoff.
OVERTAKEN_BY: Final = 2.0


class Transit:
    """One session in transit, from or to this node."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether the limit on held bytes is reached, so that sends with content are dropped."""
        return self._size >= MAX_HELD

    def hold(self, held: Held, size: int = 0) -> None:
        """Hold a callback, which carries ``size`` bytes, until the transit has ended."""
        self._held.append(held)
        self._size += size + _COST

    async def outcome(self) -> Entry | None:
        """Wait for the end of the transit; return None if the session has ended or another claim replaced it."""
        known: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()

        def settle(entry: Entry | None) -> None:
            if not known.done():
                known.set_result(entry)

        self.hold(settle)
        return await known

    def release(self, entry: Entry | None) -> None:
        """Run the held callbacks with the entry that the session now has."""
        held, self._held = self._held, []
        self._size = 0
        for each in held:
            each(entry)


class Departing(Transit):
    """A session in transit from this node; ``entry`` is the one that it had on it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.name = (session.account, session.id)
        self.entry = session.entry


#: A fan-out: its audience, its serial if it must not arrive after later ones, and what applies it to a session.
Missed: TypeAlias = tuple[Audience, Serial | None, Callable[[Session], None]]


class Arriving(Transit):
    """
    A session in transit to this node, from the node ``source``.

    Until it arrives, a fan-out does not reach it on this node, and may reach the source too
    late. After that, until the source has passed on what it held for it, a fan-out may still
    reach this node before an earlier one.
    """

    def __init__(self, source: NodeId) -> None:
        super().__init__()
        self.source = source
        self.missed: list[Missed] = []

    def miss(self, audience: Audience, order: Serial | None, act: Callable[[Session], None], size: int) -> None:
        """Hold a fan-out until the session has arrived and caught up; see :data:`Missed`."""
        self.missed.append((audience, order, act))
        self._size += size + _COST

    def apply_urgent(self, session: Session) -> None:
        """Apply to an arrived session what it has missed and cannot wait."""
        missed, self.missed = self.missed, []
        for each in missed:
            audience, order, act = each
            if order is not None:
                self.missed.append(each)
            elif audience.matches(session):
                act(session)

    def catch_up(self, session: Session) -> int:
        """
        Apply what an arrived session has missed; return the number of fan-outs dropped to preserve order.

        A fan-out that was sent during the transit may have reached this node alone. A later one
        may have reached the session through its source, and must not be followed by an earlier one.
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
    """The sessions in transit, by account and id; ``arriving`` includes those whose name is not known yet."""

    def __init__(self) -> None:
        super().__init__()
        self.arriving: set[Arriving] = set()

    def opened(self, session: Session) -> None:
        """
        Deliver what is held for an arriving session that a new connection has just opened on this node.

        Otherwise later sends would overtake it.
        """
        transit = self.get((session.account, session.id))
        if isinstance(transit, Arriving):
            transit.release(session.entry)

    def who_miss(self, origin: NodeId) -> list[Arriving]:
        """Return the arriving sessions that miss the fan-outs of a node."""
        # The source applied its own fan-outs to the session before handing it over.
        return [each for each in self.arriving if each.source != origin]


class Late(NamedTuple):
    """A fan-out for a session that has moved: the session, its connection then, the act, its serial and audience."""

    name: Name
    sid: Sid
    act: bytes
    serial: Serial
    kind: str


class DeferredActs:
    """Holds acts for those sessions of their audience that are in transit."""

    def __init__(self, hub: Hub, cluster: Cluster, local: Local, transits: Transits) -> None:
        self._hub = hub
        self._cluster = cluster
        self._local = local
        self._transits = transits
        #: Sessions that have just moved, with their new entries.
        self._just_left: dict[Name, tuple[Session, Entry]] = {}
        #: Sessions that have arrived and are catching up.
        self._following: dict[Session, Arriving] = {}

    def follow(self, session: Session, arriving: Arriving, caught_up: asyncio.Future[None]) -> None:
        """
        Hold fan-outs for an arrived session until the node that it came from has passed on the earlier ones.

        Some arrive twice, directly and passed on, and the paths differ in speed.
        """
        session.demand(Recent).is_behind = True
        self._following[session] = arriving
        caught_up.add_done_callback(lambda _: self._catch_up(session))

    def _catch_up(self, session: Session) -> None:
        session.demand(Recent).is_behind = False
        dropped = self._following.pop(session).catch_up(session)
        self._hub.metrics.count("messages_late_dropped", dropped)

    def depart(self, session: Session, entry: Entry) -> None:
        """Record where a session has moved to, for acts that arrive late."""
        name = (session.account, session.id)
        self._just_left[name] = session, entry
        self._hub.wheel.alarm(OVERTAKEN_BY, partial(self._forget_left, name, entry))

    def _forget_left(self, name: Name, entry: Entry) -> None:
        if name in self._just_left and self._just_left[name][1] is entry:
            del self._just_left[name]

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """
        Hold an act for those sessions of its audience that are in transit.

        ``is_alone`` tells that the act was sent to this node individually, and so also addresses
        sessions that have just moved. Returns whether the act may reach sessions that this node
        does not count.
        """
        # A send to all may arrive after a later message about a handoff if the two use separate connections.
        may_be_late = is_alone or not self._cluster.bus.keeps_order
        transits = self._transits
        if not (transits or transits.arriving or self._following or (may_be_late and self._just_left)):
            return False
        assert serial is not None
        packed = act.pack(self._hub.encoding)

        def is_meant(session: Session) -> bool:
            return audience.matches(session) and not act.spares(session)

        departing = [each for each in transits.values() if isinstance(each, Departing) and is_meant(each.session)]
        for each in departing:
            if self._has_room(each, act):
                late = Late(each.name, each.entry.sid, packed, serial, audience.kind)
                each.hold(partial(self._pass_on, late), len(packed))
        left = [(name, entry) for name, (session, entry) in self._just_left.items() if is_meant(session)]
        for name, entry in left if is_alone else ():
            self._pass_on(Late(name, entry.sid, packed, serial, audience.kind), entry)
        arriving = transits.who_miss(serial[0])
        for coming in arriving:
            if self._has_room(coming, act):
                order = None if act.must_arrive else serial
                coming.miss(audience, order, partial(act.apply_late, self._local, serial), len(packed))
        following = (
            [] if act.must_arrive else [arriving for each, arriving in self._following.items() if is_meant(each)]
        )
        for coming in following:
            if self._has_room(coming, act):
                coming.miss(audience, serial, partial(act.apply_late, self._local, serial), len(packed))
        return bool(departing or arriving or following or (left and may_be_late))

    def _has_room(self, transit: Transit, act: Act) -> bool:
        if not transit.is_full or act.must_arrive:
            return True
        self._hub.metrics.count("messages_late_dropped")
        return False

    def _pass_on(self, late: Late, entry: Entry | None) -> None:
        if entry is not None:
            head = (NO_ID, self._cluster.node, *late.name, entry.generation, 0)
            self._cluster.tell(entry.node, ApplyLate(*head, late.sid, msgspec.Raw(late.act), *late.serial, late.kind))
