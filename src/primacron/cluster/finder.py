"""Where a session is, or why that cannot be said."""

from __future__ import annotations

from collections.abc import Sequence, Set
from enum import Enum
from typing import Final, TypeAlias

from primacron.cluster.base import SETTLED_AFTER, BackendUnavailable, Epoch
from primacron.cluster.cluster import Cluster
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid, hint_of


class Absence(Enum):
    """Why there is no place."""

    UNKNOWN = "no node holds the session, and it is certain"
    GONE = "its node's lease has ended, and the session with it"
    UNSURE = "the registry has no place for it, but may not know everything yet"
    AWAY = "the registry cannot be asked"


#: The entry of a session whose node lives and hears, or why there is none.
Place: TypeAlias = Entry | Absence


#: Seconds after which a node without a lease is asked for again.
LOOK_EVERY: Final = 1.0
MAX_STRANGERS: Final = 1_000


class Finder:
    """Looks sessions up."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._registry = cluster.registry
        #: Nodes, by id or hint, that have no lease, and until when nobody is asked for them again.
        self._strangers: dict[str, float] = {}

    async def find(self, account: AccountId, sessions: Sequence[SessionId]) -> dict[SessionId, Place]:
        """Return where sessions of an account are."""
        ask = self._cluster.link.ask
        try:
            found = dict(zip(sessions, await ask(self._registry.find, account, sessions), strict=True))
            missing = [session for session, entry in found.items() if entry is None]
            absence = Absence.UNKNOWN
            if missing:
                entries, epoch = await ask(self._registry.find_surely, account, missing)
                found |= dict(zip(missing, entries, strict=True))
                absence = self._judge_epoch(epoch)
            await self.meet([entry for entry in found.values() if entry is not None])
        except BackendUnavailable:
            return dict.fromkeys(sessions, Absence.AWAY)
        return {session: absence if entry is None else self._judge(entry) for session, entry in found.items()}

    async def sessions(self, account: AccountId) -> tuple[list[Entry], bool]:
        """
        Return the entries of an account whose nodes live, and whether those are certainly all.

        Raises:
            BackendUnavailable: if the registry cannot be asked.

        """
        entries, epoch = await self._cluster.link.ask(self._registry.sessions, account)
        await self.meet(entries)
        living = [entry for entry in entries if self._cluster.lives(entry.node) is not None]
        others = {entry.node for entry in entries} - {entry.node for entry in living}
        return living, self._cluster.is_whole(epoch) and all(map(self._cluster.is_gone, others))

    async def is_complete(self, name: Name) -> bool:
        """
        Tell whether the registry would have a session if any node had it.

        Raises:
            BackendUnavailable: if the registry cannot be asked.

        """
        _, epoch = await self._cluster.link.ask(self._registry.find_surely, name[0], [name[1]])
        return self._judge_epoch(epoch) is Absence.UNKNOWN and self._cluster.is_settled(SETTLED_AFTER)

    async def locate(self, sid: Sid) -> tuple[Name, Place] | Absence:
        """Return whose connection a sid is that has moved, and where it is now."""
        try:
            name, epoch = await self._cluster.link.ask(self._registry.locate, sid)
        except BackendUnavailable:
            return Absence.AWAY
        if name is None:
            return self._judge_epoch(epoch)
        account, session = name
        place = (await self.find(account, [session]))[session]
        if isinstance(place, Entry) and place.sid != sid:
            return Absence.UNKNOWN
        return name, place

    def issuer_of(self, sid: Sid) -> NodeId | None:
        """Return the living node that issued a sid."""
        return self._cluster.by_hint(hint_of(sid))

    async def find_issuer(self, sid: Sid) -> NodeId | None:
        """Return the living node that issued a sid, be it newer than the last look at the leases."""
        if self.issuer_of(sid) is None:
            await self._meet({hint_of(sid)})
        return self.issuer_of(sid)

    async def meet(self, entries: Sequence[Entry]) -> None:
        """Learn of the nodes of entries, which may have begun after the last look at the leases."""
        await self._meet({entry.node for entry in entries if not self._cluster.knows(entry.node)})

    async def _meet(self, unknown: Set[str]) -> None:
        """Read the leases again, as there may be nodes that are newer than the last look at them."""
        now = self._cluster.loop.time()
        if any(self._strangers.get(node, 0.0) <= now for node in unknown):
            await self._cluster.meet()
            if len(self._strangers) > MAX_STRANGERS:
                self._strangers.clear()
            # One that was swept has left an entry behind: it will not be known the next time either.
            self._strangers.update(dict.fromkeys(unknown, now + LOOK_EVERY))

    def _judge(self, entry: Entry) -> Place:
        lease = self._cluster.lives(entry.node)
        if lease is None:
            return Absence.GONE if self._cluster.is_gone(entry.node) else Absence.UNSURE
        return Absence.UNSURE if lease.deaf and entry.node != self._cluster.node else entry

    def _judge_epoch(self, epoch: Epoch) -> Absence:
        return Absence.UNKNOWN if self._cluster.is_whole(epoch) else Absence.UNSURE
