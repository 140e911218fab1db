"""The contract of the registry: which node holds which session, and which nodes live."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from primacron.cluster.errors import CommandRefused, RightsMissing
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a node advertises about itself for as long as it renews its lease.

    ``version`` is the highest wire version that it understands, ``hint`` the prefix of
    its sids, ``deaf`` whether it receives nothing from the bus, ``complete`` the epochs
    in which it has written all of its entries. ``attends`` tells whether it has
    sessions or may have some at any moment, and so receives what is sent to all.
    ``stuck`` tells that its event loop is blocked: it is alive but cannot answer at the
    moment. ``lasts`` is the number of seconds by which it is renewed each time, 0 if unknown.
    ``rebuilt`` counts how often it has lost subscriptions to topics and has them again.
    """

    address: str = ""
    version: int = 1
    started: int = 0
    hint: str = ""
    draining: bool = False
    deaf: bool = False
    complete: tuple[str, ...] = ()
    # A node that does not say may have sessions.
    attends: bool = True
    stuck: bool = False
    lasts: float = 0.0
    rebuilt: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One continuous life of a primary's data: a new id means that entries may be missing. ``age`` is in seconds."""

    id: str
    age: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    What a node learns by renewing its lease.

    ``time`` is the backend's, in seconds since an arbitrary point. ``leases`` are those
    of all nodes, with the seconds that each has left, negative for one that has expired
    but was not swept yet. ``was_alive`` tells whether the node's own lease still existed,
    ``indexed`` how many entries its index has. ``attended`` is the value of
    :meth:`Registry.attended` at that moment.
    """

    time: float
    leases: Mapping[NodeId, tuple[Lease, float]]
    keys: Sequence[bytes]
    epochs: tuple[Epoch, ...]
    was_alive: bool
    indexed: int
    attended: int


@dataclass(frozen=True, slots=True)
class Claim:
    """
    The result of a claim: the new entry, or None if it was refused, and the previous entry.

    ``sets`` has the members of the session's sets, by kind; see :class:`primacron.cluster.sets.Sets`.
    """

    entry: Entry | None
    before: Entry | None
    sets: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


class Outcome(Enum):
    """The outcome of a compare-and-set."""

    DONE = "the entry was as expected, and was set"
    OTHER = "another entry has its place"
    ABSENT = "there is no entry"


@dataclass(frozen=True, slots=True)
class Swapped:
    """
    The outcome of a compare-and-set, and the current entry.

    ``replaced`` is the entry of another connection or node that a restored entry has
    replaced: nobody else tells that node.
    """

    outcome: Outcome
    current: Entry | None
    replaced: Entry | None = None


#: Minimum age of an epoch, in seconds, before a session can be declared to be nowhere.
SETTLED_AFTER: Final = 5.0


class Registry(ABC):
    """
    Which node holds which session.

    Every method raises :class:`BackendUnavailable` if there is no answer in time. An
    entry is only valid while the lease of its node is live; callers check that. A call
    that was given up must not take effect later: a backend that stalled skips it.
    """

    #: The kinds of sets that sessions have; see :class:`primacron.cluster.sets.Sets`.
    kinds: tuple[str, ...] = ()
    #: Called with each command that was refused, even if the call succeeds without it.
    on_refused: Callable[[CommandRefused], None] = staticmethod(lambda _: None)

    async def check(self) -> RightsMissing | None:
        """Check every permission that a node needs, and return those that are missing."""
        return None

    def generation(self, account: AccountId) -> int:
        """Return a generation for an entry that a node makes by itself: the backend's time in milliseconds."""
        return int(time.time() * 1000)

    @abstractmethod
    async def renew(
        self, node: NodeId, lease: Lease, seconds: float, keys: Sequence[bytes], candidate: bytes
    ) -> Renewal:
        """
        Renew a node's lease for ``seconds``, and read those of all nodes.

        ``keys`` are the cluster keys that the node knows; missing ones are added, and
        ``candidate`` if there are none at all.
        """

    @abstractmethod
    async def attended(self) -> int:
        """
        Return a number that rises whenever a node begins to attend.

        A node begins to attend when its lease says so and did not before, or had expired.
        While the number is the same as when the leases were read, no other nodes attend.
        If the number was lost, it continues with one that it has never had.
        """

    @abstractmethod
    async def retire(self, node: NodeId) -> None:
        """
        End a node's lease and remove it.

        If its index still has entries, which it could not release, the lease stays as one
        that expired long ago, so that another node sweeps them.
        """

    @abstractmethod
    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> Claim:
        """Register a session, replacing any other entry, or without ``replace`` only if it has none."""

    @abstractmethod
    async def restore(self, entries: Sequence[tuple[AccountId, Entry]]) -> list[Swapped | None]:
        """
        Write entries of one node that may be missing; each replaces none, or one of lower rank.

        An entry with the same node and sid but a higher generation is kept, and returned
        as done. An entry of lower rank that was replaced is returned as well. None stands
        for an entry whose part of the backend is unavailable.
        """

    @abstractmethod
    async def release(self, account: AccountId, entry: Entry) -> bool:
        """Remove an entry; return False and remove nothing if it has been replaced."""

    @abstractmethod
    async def swap(self, account: AccountId, old: Entry, new: Entry) -> Swapped:
        """Replace exactly the entry ``old`` with ``new``."""

    @abstractmethod
    async def find(self, account: AccountId, sessions: Sequence[SessionId]) -> list[Entry | None]:
        """Return the entries of sessions."""

    @abstractmethod
    async def find_surely(self, account: AccountId, sessions: Sequence[SessionId]) -> tuple[list[Entry | None], Epoch]:
        """Return the entries of sessions, and the epoch of the primary that has them, read after them."""

    @abstractmethod
    async def sessions(self, account: AccountId) -> tuple[list[Entry], Epoch]:
        """Return the entries of an account, and the epoch of the primary that has them, read after them."""

    # What a node has registered

    @abstractmethod
    async def indexed(self, node: NodeId, cursor: int) -> tuple[int, list[Name]]:
        """Return some names from a node's index, and the cursor for the next ones, 0 at the end."""

    @abstractmethod
    async def drop(self, node: NodeId, names: Sequence[Name]) -> None:
        """Remove entries that still belong to a node, and their names from its index."""

    @abstractmethod
    async def forget(self, node: NodeId) -> None:
        """Remove what is left of a swept node: its index and its expired lease."""

    # Connections that are no longer at the node that issued their sid

    @abstractmethod
    async def place(self, sid: Sid, name: Name, seconds: float) -> None:
        """Remember for ``seconds`` to which session a sid belongs."""

    @abstractmethod
    async def locate(self, sid: Sid) -> tuple[Name | None, Epoch]:
        """
        Return the session to which a sid belongs, if that was stored.

        Also returns the epoch of the primary that would have stored it, read after that.
        """
