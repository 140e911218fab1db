"""Where a session is, or why that is unknown."""

from __future__ import annotations

from collections.abc import Sequence, Set
from enum import Enum
from typing import Final, TypeAlias

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.registry import SETTLED_AFTER, Epoch
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid, hint_of


class Absence(Enum):
    """Why a session has no place."""

    UNKNOWN = "no node holds the session, and it is certain"
    GONE = "its node's lease has ended, and the session with it"
    UNSURE = "the registry has no place for it, but may not know everything yet"
    AWAY = "the registry cannot be asked"


#: The entry of a session whose node is live and hears, or why there is none.
Place: TypeAlias = Entry | Absence


#: Seconds before a node without a lease is looked for again.
LOOK_EVERY: Final = 1.0
MAX_STRANGERS: Final = 1_000


class Finder:
    """Looks up sessions."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._registry = cluster.registry
        #: Nodes without a lease, by id or hint, and when they may be looked for again.
        self._strangers: dict[str, float] = {}

    async def find(self, account: AccountId, sessions: Sequence[SessionId]) -> dict[SessionId, Place]:
        """Return the places of sessions of an account."""
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
        Return the entries of an account whose nodes are live, and whether they are certain to be complete.

        Raises:
            BackendUnavailable: if the registry does not answer.

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
            BackendUnavailable: if the registry does not answer.

        """
        _, epoch = await self._cluster.link.ask(self._registry.find_surely, name[0], [name[1]])
        return self._judge_epoch(epoch) is Absence.UNKNOWN and self._cluster.is_settled(SETTLED_AFTER)

    async def locate(self, sid: Sid) -> tuple[Name, Place] | Absence:
        """Return the session to which the sid of a moved connection belongs, and its place."""
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
        """Return the live node that issued a sid."""
        return self._cluster.by_hint(hint_of(sid))

    async def find_issuer(self, sid: Sid) -> NodeId | None:
        """Return the live node that issued a sid, even if it started after the leases were last read."""
        if self.issuer_of(sid) is None:
            await self._meet({hint_of(sid)})
        return self.issuer_of(sid)

    async def meet(self, entries: Sequence[Entry]) -> None:
        """Discover the nodes of entries that may have started after the leases were last read."""
        await self._meet({entry.node for entry in entries if not self._cluster.knows(entry.node)})

    async def _meet(self, unknown: Set[str]) -> None:
        """Read the leases again if one of the nodes is unknown and was not looked for just now."""
        now = self._cluster.loop.time()
        if any(self._strangers.get(node, 0.0) <= now for node in unknown):
            await self._cluster.meet()
            if len(self._strangers) > MAX_STRANGERS:
                self._strangers.clear()
            # An entry left behind by a node that was swept names one that will not be found next time either.
            self._strangers.update(dict.fromkeys(unknown, now + LOOK_EVERY))

    def _judge(self, entry: Entry) -> Place:
        lease = self._cluster.lives(entry.node)
        if lease is None:
            return Absence.GONE if self._cluster.is_gone(entry.node) else Absence.UNSURE
        return Absence.UNSURE if lease.deaf and entry.node != self._cluster.node else entry

    def _judge_epoch(self, epoch: Epoch) -> Absence:
        return Absence.UNKNOWN if self._cluster.is_whole(epoch) else Absence.UNSURE
