"""
The contracts of a backend: the registry and the bus; topics and sets are in files of their own.

A backend knows nothing of sessions: the node introduces the two. Whoever writes
another one passes the suite in ``primacron.testing.contract``.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from primacron.cluster.lists import Lists
from primacron.cluster.sets import Sets
from primacron.cluster.topics import Topics
from primacron.entries import Entry, Name
from primacron.errors import PrimacronError
from primacron.ids import AccountId, NodeId, SessionId, Sid

#: Called with the body of each message that comes over the bus; it must not raise.
Hear: TypeAlias = Callable[[bytes], None]


class BackendUnavailable(PrimacronError):
    """
    The backend did not answer in time, or refused to work.

    Whether what was asked for was done is not known.
    """

    event = "error::bus"
    http_status = 503

    def __init__(self, why: str) -> None:
        super().__init__(f"the backend is unavailable: {why}")


class CommandRefused(BackendUnavailable):
    """
    The backend works, but refused one command: its key is damaged, or a right is missing.

    It is the failure of whoever wanted it, not of the link. ``key`` is what it was about.
    """

    def __init__(self, command: str, key: str, why: str) -> None:
        PrimacronError.__init__(self, f"the backend refused {command} on {key}: {why}")
        self.command = command
        self.key = key
        self.why = why


class RightsMissing(PrimacronError):
    """The backend does not let its user do something that servers need; ``names`` are the commands."""

    event = "error::bus"

    def __init__(self, names: Sequence[str], why: str) -> None:
        super().__init__(f"the user of Redis lacks rights: {', '.join(names)} ({why})")
        self.names = tuple(names)


# The registry


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a node says of itself, as long as it renews it.

    ``version`` is the highest version of the wire that it understands, ``hint`` what
    its sids begin with, ``deaf`` whether it hears nothing of the bus, ``complete``
    the epochs in which it has written all of its entries. ``attends`` tells whether
    it has sessions or may have some any moment, so that it is to hear what is sent
    to all. ``stuck`` tells that its event loop is late, so that it lives but does not
    answer for now. ``lasts`` is for how many seconds it is renewed each time, 0 where that
    is not said.
    """

    address: str = ""
    version: int = 1
    started: int = 0
    hint: str = ""
    draining: bool = False
    deaf: bool = False
    complete: tuple[str, ...] = ()
    # Who says nothing of it may have sessions.
    attends: bool = True
    stuck: bool = False
    lasts: float = 0.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of a primary's data: another id means that entries may be missing. ``age`` is in seconds."""

    id: str
    age: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    What a node learns when it renews its lease.

    ``time`` is the backend's, in seconds since whenever. ``leases`` are those of all
    nodes with the seconds that each has left, below zero for one that has ended and
    was not swept yet. ``was_alive`` tells whether the node's own lease was still
    there, ``indexed`` how many entries its index has. ``attended`` is what
    :meth:`Registry.attended` returned then.
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
    What became of a claim: the new entry, None if it was refused, and the entry that was there before.

    ``sets`` is what the session's sets have, by their kinds; see :class:`primacron.cluster.sets.Sets`.
    """

    entry: Entry | None
    before: Entry | None
    sets: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


class Outcome(Enum):
    """What became of a compare-and-set."""

    DONE = "the entry was as expected, and was set"
    OTHER = "another entry has its place"
    ABSENT = "there is no entry"


@dataclass(frozen=True, slots=True)
class Swapped:
    """
    The outcome of a compare-and-set, and the entry that is there now.

    ``replaced`` is the entry of another connection, or of another node, which an
    entry that was written again has taken the place of: nobody else tells its node.
    """

    outcome: Outcome
    current: Entry | None
    replaced: Entry | None = None


#: Seconds that an epoch must have lasted before it can be said that a session is nowhere.
SETTLED_AFTER: Final = 5.0


class Registry(ABC):
    """
    Which node holds which session.

    Every method raises :class:`BackendUnavailable` when there is no answer in time.
    An entry counts only while the lease of its node lives; whoever asks checks that.
    What is given up is not done later: a backend that stood still leaves it out.
    """

    #: Kinds of sets that go with sessions; see :class:`primacron.cluster.sets.Sets`.
    kinds: tuple[str, ...] = ()
    #: Called with each command that was refused, also where the call goes on without it.
    on_refused: Callable[[CommandRefused], None] = staticmethod(lambda _: None)

    async def check(self) -> RightsMissing | None:
        """Try all that a node needs of the backend, and return what it may not do."""
        return None

    def generation(self, account: AccountId) -> int:
        """Return a generation for an entry of a node's own making: the time in milliseconds, as the backend has it."""
        return int(time.time() * 1000)

    @abstractmethod
    async def renew(
        self, node: NodeId, lease: Lease, seconds: float, keys: Sequence[bytes], candidate: bytes
    ) -> Renewal:
        """
        Renew the lease of a node for so many seconds, and read those of all.

        ``keys`` are cluster keys that the node knows; those that are missing are
        added, and ``candidate`` if there is none at all.
        """

    @abstractmethod
    async def attended(self) -> int:
        """
        Return a number that is higher whenever a node begins to attend: its lease says so, and did not, or had ended.

        As long as that is what it was when the leases were read, no other node
        attends than those that did then. Where it was lost it is another one, too.
        """

    @abstractmethod
    async def retire(self, node: NodeId) -> None:
        """
        End the lease of a node, and forget it.

        If its index still has entries, which it could not release, its lease stays
        as one that ended long ago: then another node sweeps them.
        """

    @abstractmethod
    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> Claim:
        """Register a session, in the place of any other entry; without ``replace`` only if it has none."""

    @abstractmethod
    async def restore(self, entries: Sequence[tuple[AccountId, Entry]]) -> list[Swapped | None]:
        """
        Write entries of one node that may be missing: each goes in the place of none or of a lower rank.

        An entry with the same node and sid but a higher generation stays, and is
        returned as done. An entry of lower rank that had the place is returned too.
        None stands for one whose part of the backend is away.
        """

    @abstractmethod
    async def release(self, account: AccountId, entry: Entry) -> bool:
        """Remove an entry; False, and nothing removed, when another one has its place."""

    @abstractmethod
    async def swap(self, account: AccountId, old: Entry, new: Entry) -> Swapped:
        """Put an entry in the place of exactly this other one."""

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
        """Return some names from the index of a node, and the cursor for the next ones, 0 at the end."""

    @abstractmethod
    async def drop(self, node: NodeId, names: Sequence[Name]) -> None:
        """Remove entries if they are the node's, and their places in its index."""

    @abstractmethod
    async def forget(self, node: NodeId) -> None:
        """Remove what is left of a node that was swept: its index and its ended lease."""

    # Connections whose node their sid no longer tells

    @abstractmethod
    async def place(self, sid: Sid, name: Name, seconds: float) -> None:
        """Remember whose connection a sid is."""

    @abstractmethod
    async def locate(self, sid: Sid) -> tuple[Name | None, Epoch]:
        """
        Return whose connection a sid is, if that was remembered.

        And the epoch of the primary that would remember it, read after that.
        """


# The bus


class Bus(ABC):
    """
    Messages between nodes: at most once, in order from one node to one other.

    ``hearing`` tells whether messages arrive. A bus has to find out itself when they
    do not, within three probes, and to heal by itself.
    """

    hearing: bool
    #: Whether this node hears what is published to all.
    attends: bool
    #: Whether what is published to a node and what is published to all arrive there in the order of their publishing.
    keeps_order: bool

    @abstractmethod
    async def join(self, node: NodeId, hear: Hear, changed: Callable[[bool], None]) -> None:
        """Let a node hear what is published to it; ``changed`` is called when ``hearing`` changes."""

    @abstractmethod
    async def leave(self) -> None:
        """Hear nothing any more."""

    @abstractmethod
    def want(self) -> None:
        """Hear what is published to all, as soon as that can be had."""

    @abstractmethod
    async def attend(self) -> None:
        """
        Hear what is published to all, from the return of this on.

        Raises:
            BackendUnavailable: if that cannot be had now; it is as soon as it can.

        """

    @abstractmethod
    def quit(self) -> None:
        """Hear no longer what is published to all."""

    @abstractmethod
    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """
        Send to one node, or with None to all that attend; in the order of the calls.

        Returns the future number of nodes that it was handed to, this one included;
        :class:`BackendUnavailable` if it is not known whether it was sent.
        """


async def _nothing() -> None:
    """Close nothing."""


@dataclass(frozen=True, slots=True)
class Backend:
    """
    A registry, a bus, topics, sets and lists that belong together; ``close`` closes what they use.

    ``again`` opens another one of the same, in the event loop of another thread;
    without it nobody covers for a node whose loop is late. ``place`` is where it is,
    as people are told.
    """

    registry: Registry
    bus: Bus
    topics: Topics
    sets: Sets
    lists: Lists
    close: Callable[[], Awaitable[None]] = _nothing
    again: Callable[[], Backend] | None = None
    place: str = "the backend"
