"""One node of a cluster in memory, without sessions, and with a clock that only advances on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from primacron.cluster.backend import Backend
from primacron.cluster.cluster import Cluster
from primacron.cluster.memory import MemoryBus, MemoryLists, MemoryRegistry, MemorySets, MemoryTopics, Shared
from primacron.cluster.registry import Epoch, Lease, Swapped
from primacron.config import read_options
from primacron.entries import Entry, Name
from primacron.ids import AccountId, Keyring, NodeId, SessionId
from primacron.metrics import Metrics
from primacron.times import Times
from primacron.wheel import Wheel
from tests.cluster.ends import HERE, time_that_stands
from tests.transports.world import Loop

KEY = b"k" * 32
#: Longer than any test.
LONG = 1_000_000.0


class Nobody:
    """The residents of a node without sessions."""

    registered = 0
    are_unconfirmed = False

    def entries(self) -> Iterable[tuple[AccountId, Entry]]:
        return ()

    def lives_here(self, name: Name) -> bool:
        return False

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None: ...

    def emptied(self) -> None: ...


async def nothing() -> None:
    """Do nothing."""


class WatchedRegistry(MemoryRegistry):
    """Counts how often the leases are read; ``between`` runs before each second lookup of a session."""

    def __init__(self, shared: Shared, sets: MemorySets) -> None:
        super().__init__(shared, sets)
        self.renewals = 0
        self.between: Callable[[], Awaitable[None]] = nothing

    async def renew(self, *args: Any) -> Any:
        self.renewals += 1
        return await super().renew(*args)

    async def find_surely(self, account: AccountId, sessions: Sequence[SessionId]) -> tuple[list[Entry | None], Epoch]:
        await self.between()
        return await super().find_surely(account, sessions)


class Member:
    """A node that has joined, and a way to act as the others."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.shared = Shared(loop.time)
        sets = MemorySets(self.shared, LONG)
        self.registry = WatchedRegistry(self.shared, sets)
        self.problems: list[Exception] = []
        options = read_options({})
        topics = MemoryTopics(self.shared)
        lists = MemoryLists(self.shared, topics)
        backend = Backend(self.registry, MemoryBus(self.shared), topics, sets, lists)
        self.cluster = Cluster(
            HERE,
            "hint-here",
            backend,
            Keyring(KEY),
            options,
            loop,
            Wheel(loop),
            Metrics(),
            self.problems.append,
            Times(),
        )
        #: The registry, as used by other nodes.
        self.others = self.shared.backend().registry
        loop.run_until_complete(self.cluster.join(Nobody(), 1))

    def add(self, node: NodeId, lease: Lease | None = None, seconds: float = LONG, *, is_known: bool = True) -> None:
        """Renew another node's lease, by default a complete one; with ``is_known`` this node then discovers it."""
        lease = lease or Lease(hint=f"hint-{node}", complete=(self.shared.epoch,))
        self.loop.run_until_complete(self.others.renew(node, lease, seconds, [], KEY))
        if is_known:
            self.loop.run_until_complete(self.cluster.meet())

    def leave(self) -> None:
        self.loop.run_until_complete(self.cluster.leave())


@contextmanager
def member() -> Iterator[Member]:
    """Yield a node that joined a minute ago."""
    with time_that_stands() as loop:
        member = Member(loop)
        loop.advance(60.0)
        yield member
        member.leave()
