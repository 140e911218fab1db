"""Sessions that are on their way from one node to another, and what comes for them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from primacron.entries import Entry, Name
from primacron.ids import NodeId
from primacron.routing.audience import Audience
from primacron.sessions.recent import Recent, Serial
from primacron.sessions.session import Session

#: What came for a session on its way: called with its entry once it has come, with None if it is not known where it is.
Held: TypeAlias = Callable[[Entry | None], None]

#: Bytes of all that may wait for one session on its way, and of each thing that waits beside what it carries.
MAX_HELD: Final = 4_194_304
_COST: Final = 256


class Journey:
    """One session that is on its way from here, or to here."""

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


#: What was done to many: to whom, its number if it is not to come behind later ones, and how it is done to a session.
Missed: TypeAlias = tuple[Audience, Serial | None, Callable[[Session], None]]


class Coming(Journey):
    """
    A session that is on its way to here, from ``giver``.

    Until it is here nothing that is sent to many reaches it here, and where it was
    that may come too late.
    """

    def __init__(self, giver: NodeId) -> None:
        super().__init__()
        self.giver = giver
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
            if not audience.matches((session.account, session.id)):
                continue
            if order is None or order in recent.serials or latest.get((order[0], audience.kind), 0) < order[1]:
                act(session)
            else:
                dropped += 1
        return dropped


class Journeys(dict[Name, Journey]):
    """Those of a node, by account and session; ``coming`` also has those of which that is not known yet."""

    def __init__(self) -> None:
        super().__init__()
        self.coming: set[Coming] = set()

    def who_miss(self, origin: NodeId) -> list[Coming]:
        """Return those that miss what a node lets be done to many."""
        # What the node did by itself where the session was, it did to that as well.
        return [each for each in self.coming if each.giver != origin]
