"""
A backend in memory, shared by the nodes of one process.

It behaves as Redis does, for tests of applications and of the nodes themselves.
:class:`Shared` is what Redis is to them; it can be taken away, emptied and made to
lose messages.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from primacron.cluster.backend import Backend
from primacron.cluster.bus import Bus, Hear
from primacron.cluster.errors import NothingDone
from primacron.cluster.kept import KEY_COUNTS, MAX_PAGE, MAX_PUBLISHED, Appended, Kept, Page, Published, pack_published
from primacron.cluster.lists import Lists
from primacron.cluster.registry import SETTLED_AFTER, Claim, Epoch, Lease, Outcome, Registry, Renewal, Swapped
from primacron.cluster.sets import Sets
from primacron.cluster.topics import HearTopic, TopicChanged, Topics
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.positions import Position

_SCANNED: Final = 100


class Shared:
    """What the nodes of one process share; ``clock`` returns the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._away = False
        #: Called with the destination (None means all) and the body of each message; returning False loses it.
        self.passes: Callable[[NodeId | None, bytes], bool] = lambda *_: True
        self.buses: dict[NodeId, MemoryBus] = {}
        self.topics: list[MemoryTopics] = []
        self.numbers = itertools.count(1)
        self.clear()
        # Nothing can have been lost before there was anything.
        self.epoch_began -= SETTLED_AFTER

    @property
    def away(self) -> bool:
        """Whether the backend answers nobody and delivers nothing."""
        return self._away

    @away.setter
    def away(self, value: bool) -> None:
        self._away = value
        listeners: list[MemoryBus | MemoryTopics] = [*self.buses.values(), *self.topics]
        for each in listeners:
            each.listen_again()

    def clear(self) -> None:
        """Lose all data, as a Redis without persistence does when it restarts."""
        self.entries: dict[AccountId, dict[SessionId, Entry]] = {}
        self.leases: dict[NodeId, tuple[Lease, float]] = {}
        #: Names, numbered in order of arrival, so that a cursor stays valid while others are removed.
        self.indexes: dict[NodeId, dict[Name, int]] = {}
        self.sids: dict[Sid, tuple[Name, float]] = {}
        self.sets: dict[Name, dict[str, dict[bytes, None]]] = {}
        #: When the sets of absent sessions expire, in that order.
        self.kept_until: dict[Name, float] = {}
        self.lists: dict[str, _Kept] = {}
        self.list_keys: dict[tuple[str, str], tuple[Appended, float]] = {}
        self.keys: dict[bytes, None] = {}
        # A number that it has not had before.
        self.attended = time.time_ns()
        self.epoch = secrets.token_hex(8)
        self.epoch_began = self.clock()

    def backend(self, *, keep: float = 900.0) -> Backend:
        """Return the backend of one more node; a session's sets outlive it by ``keep`` seconds."""
        sets = MemorySets(self, keep)
        topics = MemoryTopics(self)
        return Backend(
            MemoryRegistry(self, sets),
            MemoryBus(self),
            topics,
            sets,
            MemoryLists(self, topics),
            place="the memory of this process",
        )

    def demand(self) -> None:
        """
        Fail if the backend is away.

        Raises:
            NothingDone: if it is.

        """
        if self.away:
            raise NothingDone("it was taken away")


class MemorySets(Sets):
    """Sets in memory; ``keep`` is how long they outlive their session, in seconds."""

    def __init__(self, shared: Shared, keep: float) -> None:
        self._shared = shared
        self._keep = keep

    def __contains__(self, name: Name) -> bool:
        return name in self._shared.sets

    async def add(self, kind: str, name: Name, member: bytes) -> None:
        """Add a member, without an expiry."""
        self._shared.demand()
        self._forget_old()
        self._shared.kept_until.pop(name, None)
        self._shared.sets.setdefault(name, {}).setdefault(kind, {})[member] = None

    async def remove(self, kind: str, name: Name, member: bytes) -> None:
        """Remove a member."""
        self._shared.demand()
        sets = self._shared.sets.get(name, {})
        sets.get(kind, {}).pop(member, None)
        if not any(sets.values()):
            self._forget(name)

    async def keep(self, kind: str, name: Name, members: Sequence[bytes]) -> bool:
        """Add members for an unregistered session, until they expire."""
        self._shared.demand()
        if name[1] in self._shared.entries.get(name[0], {}):
            return False
        for member in members:
            await self.add(kind, name, member)
        self.released(name)
        return True

    def claimed(self, name: Name) -> Mapping[str, Sequence[bytes]]:
        """Return the members of a session's sets, which no longer expire."""
        if not self._shared.sets:
            return {}
        self._forget_old()
        self._shared.kept_until.pop(name, None)
        return {kind: [*members] for kind, members in self._shared.sets.get(name, {}).items() if members}

    def released(self, name: Name) -> None:
        """Let the sets of a session that is no longer registered expire."""
        if name in self._shared.sets:
            self._shared.kept_until.pop(name, None)
            self._shared.kept_until[name] = self._shared.clock() + self._keep

    def _forget_old(self) -> None:
        now = self._shared.clock()
        while self._shared.kept_until and next(iter(self._shared.kept_until.values())) <= now:
            self._forget(next(iter(self._shared.kept_until)))

    def _forget(self, name: Name) -> None:
        self._shared.sets.pop(name, None)
        self._shared.kept_until.pop(name, None)


class MemoryRegistry(Registry):
    """A registry in memory."""

    def __init__(self, shared: Shared, sets: MemorySets) -> None:
        self._shared = shared
        self._sets = sets

    async def renew(
        self, node: NodeId, lease: Lease, seconds: float, keys: Sequence[bytes], candidate: bytes
    ) -> Renewal:
        """Renew a lease and return those of all nodes."""
        shared, now = self._shared, self._shared.clock()
        shared.demand()
        was_alive = node in shared.leases and shared.leases[node][1] > now
        if lease.attends and not (was_alive and shared.leases[node][0].attends):
            shared.attended += 1
        shared.leases[node] = lease, now + seconds
        shared.keys.update(dict.fromkeys(keys))
        shared.keys = shared.keys or {candidate: None}
        leases = {name: (each, ends - now) for name, (each, ends) in shared.leases.items()}
        indexed = len(shared.indexes.get(node, {}))
        return Renewal(now, leases, [*shared.keys], (self._epoch(),), was_alive, indexed, shared.attended)

    async def attended(self) -> int:
        """Return the counter of nodes that began to attend."""
        self._shared.demand()
        return self._shared.attended

    async def retire(self, node: NodeId) -> None:
        """End a lease, or mark it as long expired if entries are left in the index."""
        self._shared.demand()
        if self._index(node):
            self._shared.leases[node] = Lease(), -math.inf
        else:
            self._shared.leases.pop(node, None)
            self._shared.indexes.pop(node, None)

    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> Claim:
        """Register a session, with a generation above that of the previous entry."""
        self._shared.demand()
        entries = self._shared.entries.setdefault(account, {})
        before = entries.get(session)
        if before is not None and not replace:
            return Claim(None, before)
        generation = max(before.generation + 1 if before else 0, int(time.time() * 1000))
        entry = entries[session] = Entry(session, node, generation, sid)
        self._enter(node, (account, session))
        return Claim(entry, before, self._sets.claimed((account, session)))

    async def restore(self, entries: Sequence[tuple[AccountId, Entry]]) -> list[Swapped | None]:
        """Write each entry unless one of higher rank is there."""
        self._shared.demand()
        return [self._restore(account, entry) for account, entry in entries]

    def _restore(self, account: AccountId, entry: Entry) -> Swapped:
        self._enter(entry.node, (account, entry.id))
        entries = self._shared.entries.setdefault(account, {})
        current = entries.get(entry.id)
        if current is not None and (current.node, current.sid) == (entry.node, entry.sid):
            entry = max(current, entry, key=lambda each: each.generation)
            current = None
        elif current is not None and current.rank > entry.rank:
            return Swapped(Outcome.OTHER, current)
        entries[entry.id] = entry
        return Swapped(Outcome.DONE, entry, current)

    async def release(self, account: AccountId, entry: Entry) -> bool:
        """Remove an entry if it is still the current one, and its name from the index."""
        self._shared.demand()
        self._index(entry.node).pop((account, entry.id), None)
        return self._remove(account, entry)

    def _remove(self, account: AccountId, entry: Entry) -> bool:
        entries = self._shared.entries.get(account, {})
        if entries.get(entry.id) != entry:
            return False
        del entries[entry.id]
        if not entries:
            del self._shared.entries[account]
        self._sets.released((account, entry.id))
        return True

    async def swap(self, account: AccountId, old: Entry, new: Entry) -> Swapped:
        """Replace the entry if it is the expected one."""
        self._shared.demand()
        self._enter(new.node, (account, new.id))
        entries = self._shared.entries.get(account, {})
        current = entries.get(old.id)
        if current is None:
            return Swapped(Outcome.ABSENT, None)
        if current != old:
            return Swapped(Outcome.OTHER, current)
        entries[old.id] = new
        if old.node != new.node:
            self._index(old.node).pop((account, old.id), None)
        return Swapped(Outcome.DONE, new)

    async def find(self, account: AccountId, sessions: Sequence[SessionId]) -> list[Entry | None]:
        """Return the entries of sessions."""
        self._shared.demand()
        entries = self._shared.entries.get(account, {})
        return [entries.get(session) for session in sessions]

    async def find_surely(self, account: AccountId, sessions: Sequence[SessionId]) -> tuple[list[Entry | None], Epoch]:
        """Return the entries of sessions, and the epoch."""
        return await self.find(account, sessions), self._epoch()

    async def sessions(self, account: AccountId) -> tuple[list[Entry], Epoch]:
        """Return the entries of an account, and the epoch."""
        self._shared.demand()
        return [*self._shared.entries.get(account, {}).values()], self._epoch()

    def _epoch(self) -> Epoch:
        return Epoch(self._shared.epoch, self._shared.clock() - self._shared.epoch_began)

    async def indexed(self, node: NodeId, cursor: int) -> tuple[int, list[Name]]:
        """Return a page of a node's index, and the number at which the next one begins."""
        self._shared.demand()
        names = [(number, name) for name, number in self._index(node).items() if number >= cursor]
        found = names[:_SCANNED]
        return (names[_SCANNED][0] if len(names) > _SCANNED else 0), [name for _, name in found]

    async def drop(self, node: NodeId, names: Sequence[Name]) -> None:
        """Remove entries that still belong to a node."""
        self._shared.demand()
        for account, session in names:
            self._index(node).pop((account, session), None)
            entry = self._shared.entries.get(account, {}).get(session)
            if entry is not None and entry.node == node:
                self._remove(account, entry)

    async def forget(self, node: NodeId) -> None:
        """Remove a node's index, and its lease if that has expired."""
        self._shared.demand()
        self._shared.indexes.pop(node, None)
        if self._shared.leases.get(node, (None, 0.0))[1] <= self._shared.clock():
            self._shared.leases.pop(node, None)

    async def place(self, sid: Sid, name: Name, seconds: float) -> None:
        """Store the session of a sid, until it expires."""
        self._shared.demand()
        self._shared.sids[sid] = name, self._shared.clock() + seconds

    async def locate(self, sid: Sid) -> tuple[Name | None, Epoch]:
        """Return the session of a sid unless that has expired, and the epoch."""
        self._shared.demand()
        name, ends = self._shared.sids.get(sid, (None, 0.0))
        return name if ends > self._shared.clock() else None, self._epoch()

    def _index(self, node: NodeId) -> dict[Name, int]:
        return self._shared.indexes.setdefault(node, {})

    def _enter(self, node: NodeId, name: Name) -> None:
        index = self._index(node)
        if name not in index:
            index[name] = next(self._shared.numbers)


class MemoryBus(Bus):
    """A bus in memory; messages arrive in a later tick."""

    keeps_order = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._node: NodeId | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hear: Hear = lambda _: None
        self._changed: Callable[[bool], None] = lambda _: None
        self.hearing = False
        self.attends = False

    async def join(self, node: NodeId, hear: Hear, changed: Callable[[bool], None]) -> None:
        """Register the node, and hear unless the backend is away."""
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._changed = changed
        self._shared.buses[node] = self
        self.listen_again()

    async def leave(self) -> None:
        """Unregister the node."""
        self._changed = lambda _: None
        if self._node is not None:
            self._shared.buses.pop(self._node, None)
        self.attends = self.hearing = False

    def want(self) -> None:
        """Receive what is published to all."""
        self.attends = True

    async def attend(self) -> None:
        """
        Receive what is published to all.

        Raises:
            BackendUnavailable: if the backend is away.

        """
        self.want()
        self._shared.demand()

    def quit(self) -> None:
        """Stop receiving what is published to all."""
        self.attends = False

    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """Schedule delivery to each receiver, or fail in a later tick if the backend is away."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[int] = loop.create_future()
        if self._shared.away:
            loop.call_soon(_fail, sent)
            return sent
        receivers = [bus for node, bus in self._shared.buses.items() if bus.listens(node, destination)]
        if self._shared.passes(destination, body):
            for bus in receivers:
                loop.call_soon(bus.take, body)
        sent.set_result(len(receivers))
        return sent

    def listens(self, node: NodeId, destination: NodeId | None) -> bool:
        """Tell whether a message to ``destination`` is for this node."""
        if not self.hearing or self._loop is None or self._loop.is_closed():
            return False
        return self.attends if destination is None else node == destination

    def take(self, body: bytes) -> None:
        """Deliver a message unless the backend went away meanwhile."""
        if self.hearing and not self._shared.away:
            self._hear(body)

    def listen_again(self) -> None:
        """Update ``hearing`` after the backend went away or came back."""
        hearing = not self._shared.away
        if hearing is not self.hearing:
            self.hearing = hearing
            self._changed(hearing)


class MemoryTopics(Topics):
    """Topics in memory; messages arrive in a later tick."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hear: HearTopic = lambda _topic, _body: None
        self._changed: TopicChanged = lambda _topic, _heard: None
        #: The subscribed topics, and whether each is received.
        self._topics: dict[str, bool] = {}

    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """Start, with no subscriptions."""
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._changed = changed
        self._shared.topics.append(self)

    async def leave(self) -> None:
        """Drop all subscriptions."""
        self._topics.clear()
        if self in self._shared.topics:
            self._shared.topics.remove(self)

    def subscribe(self, topic: str) -> None:
        """Receive a topic from the next tick on, or once the backend is back."""
        if topic not in self._topics:
            self._topics[topic] = False
            asyncio.get_running_loop().call_soon(self.listen_again)

    def unsubscribe(self, topic: str) -> None:
        """Stop receiving a topic."""
        self._topics.pop(topic, None)

    def hears(self, topic: str) -> bool:
        """Tell whether a topic is received."""
        return self._topics.get(topic, False) and self._loop is not None and not self._loop.is_closed()

    @property
    def is_complete(self) -> bool:
        """Whether all subscribed topics are received."""
        return all(self._topics.values())

    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """Schedule delivery to each subscriber, or fail in a later tick if the backend is away."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[int] = loop.create_future()
        if self._shared.away:
            loop.call_soon(_fail, sent)
            return sent
        receivers = [each for each in self._shared.topics if each.hears(topic)]
        for each in receivers:
            loop.call_soon(each.take, topic, body)
        sent.set_result(len(receivers))
        return sent

    def take(self, topic: str, body: bytes) -> None:
        """Deliver a message unless the backend went away or the topic was dropped meanwhile."""
        if self.hears(topic) and not self._shared.away:
            self._hear(topic, body)

    def listen_again(self) -> None:
        """Report all topics as received or not after the backend came back or went away."""
        heard = not self._shared.away
        for topic in [topic for topic, was_heard in self._topics.items() if was_heard is not heard]:
            self._topics[topic] = heard
            self._changed(topic, heard)


def _fail(sent: asyncio.Future[Any]) -> None:
    if not sent.done():
        sent.set_exception(NothingDone("it was taken away"))


class _Kept:
    """A list in memory, and its numbers."""

    def __init__(self, epoch: str, start: int, before: str) -> None:
        self.epoch = epoch
        self.start = start
        self.before = before
        self.top = start - 1
        self.items: list[bytes] = []
        #: When the items expire, and when the numbers do.
        self.ends = self.ends_wholly = math.inf

    def page(self, first: int, items: Sequence[bytes]) -> Page:
        """Return some of the items, with the numbers."""
        return Page(Position(self.epoch, self.top), self.start, self.before, first, items)


def _count(items: Sequence[bytes], size: int) -> int:
    """Return how many of the items have no more bytes than this together; the first is always one of them."""
    sizes = itertools.accumulate(map(len, items))
    return max(1, sum(1 for _ in itertools.takewhile(lambda total: total <= size, sizes)))


class MemoryLists(Lists):
    """Lists in memory."""

    def __init__(self, shared: Shared, topics: MemoryTopics) -> None:
        self._shared = shared
        self._topics = topics

    def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> asyncio.Future[Appended]:
        """Append an item and publish it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Appended] = loop.create_future()
        if self._shared.away:
            loop.call_soon(_fail, done)
        else:
            done.set_result(self._append(name, item, kept, key))
        return done

    def _append(self, name: str, item: bytes, kept: Kept, key: str | None) -> Appended:
        now = self._shared.clock()
        known = None if key is None else self._shared.list_keys.get((name, key))
        if known is not None and known[1] > now:
            return dataclasses.replace(known[0], is_repeat=True)
        found = self._list(name, kept)
        if found.epoch != self._shared.epoch:
            found.epoch, found.before, found.start = self._shared.epoch, found.epoch, found.top + 1
        found.items.append(item)
        found.top += 1
        if len(found.items) > kept.items * 1.25:
            del found.items[: -kept.items]
        found.ends = now + kept.seconds
        found.ends_wholly = found.ends + kept.outlives
        appended = Appended(Position(found.epoch, found.top), found.start)
        if key is not None:
            self._forget_keys(now)
            self._shared.list_keys[name, key] = appended, now + KEY_COUNTS
        carried = item if len(item) <= MAX_PUBLISHED else None
        self._topics.publish(name, pack_published(Published(appended.position, appended.start, carried)))
        return appended

    def _forget_keys(self, now: float) -> None:
        """Remove expired keys: all are kept equally long, so the oldest come first."""
        keys = self._shared.list_keys
        while keys and next(iter(keys.values()))[1] <= now:
            del keys[next(iter(keys))]

    def _list(self, name: str, kept: Kept) -> _Kept:
        """Return a list in its current state, creating it if need be."""
        now = self._shared.clock()
        found = self._shared.lists.get(name)
        if found is None or found.ends_wholly <= now:
            found = self._shared.lists[name] = _Kept(self._shared.epoch, 1, "")
            found.ends_wholly = now + kept.seconds + kept.outlives
        if found.ends <= now:
            found.items.clear()
        return found

    async def read(self, name: str, kept: Kept, after: int, limit: int, size: int = MAX_PAGE) -> Page:
        """Return up to ``limit`` items above an offset."""
        self._shared.demand()
        found = self._list(name, kept)
        oldest = found.top - len(found.items) + 1
        first = max(max(0, after) + 1, oldest)
        items = found.items[first - oldest :][:limit]
        return found.page(first, items[: _count(items, size)])

    async def last(self, name: str, kept: Kept, limit: int, size: int = MAX_PAGE) -> Page:
        """Return the newest items, up to ``limit``."""
        self._shared.demand()
        found = self._list(name, kept)
        newest = found.items[::-1][:limit]
        items = newest[: _count(newest, size)][::-1]
        return found.page(found.top - len(items) + 1, items)

    async def clear(self, name: str) -> None:
        """Remove the items but not the numbers."""
        self._shared.demand()
        if name in self._shared.lists:
            self._shared.lists[name].items.clear()
