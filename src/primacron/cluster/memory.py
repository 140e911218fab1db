"""
A backend in memory, which the nodes of one process share.

It does what Redis does, for tests of applications and of the nodes themselves.
:class:`Shared` is what Redis is to them; it can be taken away, emptied and made
to lose messages.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from primacron.cluster.base import (
    SETTLED_AFTER,
    Backend,
    BackendUnavailable,
    Bus,
    Claim,
    Epoch,
    Hear,
    Lease,
    Outcome,
    Registry,
    Renewal,
    Swapped,
)
from primacron.cluster.lists import (
    KEY_COUNTS,
    MAX_PUBLISHED,
    Appended,
    Kept,
    Lists,
    Page,
    Position,
    Published,
    pack_published,
)
from primacron.cluster.sets import Sets
from primacron.cluster.topics import HearTopic, TopicChanged, Topics
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

_SCANNED: Final = 100


class Shared:
    """What the nodes of one process share; ``clock`` tells the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._away = False
        #: Called with the destination (None is all) and the body of each message; False loses it.
        self.passes: Callable[[NodeId | None, bytes], bool] = lambda *_: True
        self.buses: dict[NodeId, MemoryBus] = {}
        self.topics: list[MemoryTopics] = []
        self.numbers = itertools.count(1)
        self.clear()
        # Nothing was here that could have been lost.
        self.epoch_began -= SETTLED_AFTER

    @property
    def away(self) -> bool:
        """Whether nobody gets an answer, and nobody hears anything."""
        return self._away

    @away.setter
    def away(self, value: bool) -> None:
        self._away = value
        listeners: list[MemoryBus | MemoryTopics] = [*self.buses.values(), *self.topics]
        for each in listeners:
            each.listen_again()

    def clear(self) -> None:
        """Forget everything, as a restart without a copy on disk does."""
        self.entries: dict[AccountId, dict[SessionId, Entry]] = {}
        self.leases: dict[NodeId, tuple[Lease, float]] = {}
        #: Names, numbered in the order in which they came, so that a cursor stays right while others go.
        self.indexes: dict[NodeId, dict[Name, int]] = {}
        self.sids: dict[Sid, tuple[Name, float]] = {}
        self.sets: dict[Name, dict[str, dict[bytes, None]]] = {}
        #: Until when sets of sessions that are gone are kept, the next ones to go first.
        self.kept_until: dict[Name, float] = {}
        self.lists: dict[str, _Kept] = {}
        self.list_keys: dict[tuple[str, str], tuple[Appended, float]] = {}
        self.keys: dict[bytes, None] = {}
        # A number that it did not have before.
        self.attended = time.time_ns()
        self.epoch = secrets.token_hex(8)
        self.epoch_began = self.clock()

    def backend(self, *, keep: float = 900.0) -> Backend:
        """Return the backend of one more node; what a gone session leaves behind is kept for so many seconds."""
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
        Refuse to answer while nobody gets an answer.

        Raises:
            BackendUnavailable: then.

        """
        if self.away:
            raise BackendUnavailable("it was taken away")


class MemorySets(Sets):
    """See :class:`Sets`; ``keep`` is for how many seconds those of a gone session are kept."""

    def __init__(self, shared: Shared, keep: float) -> None:
        self._shared = shared
        self._keep = keep

    async def add(self, kind: str, name: Name, member: bytes) -> None:
        """See :meth:`Sets.add`."""
        self._shared.demand()
        self._forget_old()
        self._shared.kept_until.pop(name, None)
        self._shared.sets.setdefault(name, {}).setdefault(kind, {})[member] = None

    async def remove(self, kind: str, name: Name, member: bytes) -> None:
        """See :meth:`Sets.remove`."""
        self._shared.demand()
        sets = self._shared.sets.get(name, {})
        sets.get(kind, {}).pop(member, None)
        if not any(sets.values()):
            self._forget(name)

    async def keep(self, kind: str, name: Name, members: Sequence[bytes]) -> bool:
        """See :meth:`Sets.keep`."""
        self._shared.demand()
        if name[1] in self._shared.entries.get(name[0], {}):
            return False
        for member in members:
            await self.add(kind, name, member)
        self.released(name)
        return True

    def claimed(self, name: Name) -> Mapping[str, Sequence[bytes]]:
        """Return what the sets of a session have that is there now."""
        if not self._shared.sets:
            return {}
        self._forget_old()
        self._shared.kept_until.pop(name, None)
        return {kind: [*members] for kind, members in self._shared.sets.get(name, {}).items() if members}

    def released(self, name: Name) -> None:
        """Keep the sets of a session for a while that is there no longer."""
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
    """See :class:`Registry`."""

    def __init__(self, shared: Shared, sets: MemorySets) -> None:
        self._shared = shared
        self._sets = sets

    async def renew(
        self, node: NodeId, lease: Lease, seconds: float, keys: Sequence[bytes], candidate: bytes
    ) -> Renewal:
        """See :meth:`Registry.renew`."""
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
        """See :meth:`Registry.attended`."""
        self._shared.demand()
        return self._shared.attended

    async def retire(self, node: NodeId) -> None:
        """See :meth:`Registry.retire`."""
        self._shared.demand()
        if self._index(node):
            self._shared.leases[node] = Lease(), -math.inf
        else:
            self._shared.leases.pop(node, None)
            self._shared.indexes.pop(node, None)

    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> Claim:
        """See :meth:`Registry.claim`."""
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
        """See :meth:`Registry.restore`."""
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
        """See :meth:`Registry.release`."""
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
        """See :meth:`Registry.swap`."""
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
        """See :meth:`Registry.find`."""
        self._shared.demand()
        entries = self._shared.entries.get(account, {})
        return [entries.get(session) for session in sessions]

    async def find_surely(self, account: AccountId, sessions: Sequence[SessionId]) -> tuple[list[Entry | None], Epoch]:
        """See :meth:`Registry.find_surely`."""
        return await self.find(account, sessions), self._epoch()

    async def sessions(self, account: AccountId) -> tuple[list[Entry], Epoch]:
        """See :meth:`Registry.sessions`."""
        self._shared.demand()
        return [*self._shared.entries.get(account, {}).values()], self._epoch()

    def _epoch(self) -> Epoch:
        return Epoch(self._shared.epoch, self._shared.clock() - self._shared.epoch_began)

    async def indexed(self, node: NodeId, cursor: int) -> tuple[int, list[Name]]:
        """See :meth:`Registry.indexed`."""
        self._shared.demand()
        names = [(number, name) for name, number in self._index(node).items() if number >= cursor]
        found = names[:_SCANNED]
        return (names[_SCANNED][0] if len(names) > _SCANNED else 0), [name for _, name in found]

    async def drop(self, node: NodeId, names: Sequence[Name]) -> None:
        """See :meth:`Registry.drop`."""
        self._shared.demand()
        for account, session in names:
            self._index(node).pop((account, session), None)
            entry = self._shared.entries.get(account, {}).get(session)
            if entry is not None and entry.node == node:
                self._remove(account, entry)

    async def forget(self, node: NodeId) -> None:
        """See :meth:`Registry.forget`."""
        self._shared.demand()
        self._shared.indexes.pop(node, None)
        if self._shared.leases.get(node, (None, 0.0))[1] <= self._shared.clock():
            self._shared.leases.pop(node, None)

    async def place(self, sid: Sid, name: Name, seconds: float) -> None:
        """See :meth:`Registry.place`."""
        self._shared.demand()
        self._shared.sids[sid] = name, self._shared.clock() + seconds

    async def locate(self, sid: Sid) -> tuple[Name | None, Epoch]:
        """See :meth:`Registry.locate`."""
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
    """See :class:`Bus`; what is published arrives in a later tick."""

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
        """See :meth:`Bus.join`."""
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._changed = changed
        self._shared.buses[node] = self
        self.listen_again()

    async def leave(self) -> None:
        """See :meth:`Bus.leave`."""
        self._changed = lambda _: None
        if self._node is not None:
            self._shared.buses.pop(self._node, None)
        self.attends = self.hearing = False

    def want(self) -> None:
        """See :meth:`Bus.want`."""
        self.attends = True

    async def attend(self) -> None:
        """See :meth:`Bus.attend`."""
        self.want()
        self._shared.demand()

    def quit(self) -> None:
        """See :meth:`Bus.quit`."""
        self.attends = False

    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """See :meth:`Bus.publish`."""
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
        """Tell whether what is published to a destination is for this node."""
        if not self.hearing or self._loop is None or self._loop.is_closed():
            return False
        return self.attends if destination is None else node == destination

    def take(self, body: bytes) -> None:
        """Hear a message, if it still came through."""
        if self.hearing and not self._shared.away:
            self._hear(body)

    def listen_again(self) -> None:
        """Hear, unless the backend is away."""
        hearing = not self._shared.away
        if hearing is not self.hearing:
            self.hearing = hearing
            self._changed(hearing)


class MemoryTopics(Topics):
    """See :class:`Topics`; what is published arrives in a later tick."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hear: HearTopic = lambda _topic, _body: None
        self._changed: TopicChanged = lambda _topic, _heard: None
        #: What is subscribed to, and whether it is heard.
        self._topics: dict[str, bool] = {}

    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """See :meth:`Topics.join`."""
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._changed = changed
        self._shared.topics.append(self)

    async def leave(self) -> None:
        """See :meth:`Topics.leave`."""
        self._topics.clear()
        if self in self._shared.topics:
            self._shared.topics.remove(self)

    def subscribe(self, topic: str) -> None:
        """See :meth:`Topics.subscribe`."""
        if topic not in self._topics:
            self._topics[topic] = False
            asyncio.get_running_loop().call_soon(self.listen_again)

    def unsubscribe(self, topic: str) -> None:
        """See :meth:`Topics.unsubscribe`."""
        self._topics.pop(topic, None)

    def hears(self, topic: str) -> bool:
        """See :meth:`Topics.hears`."""
        return self._topics.get(topic, False) and self._loop is not None and not self._loop.is_closed()

    @property
    def is_complete(self) -> bool:
        """See :attr:`Topics.is_complete`."""
        return all(self._topics.values())

    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """See :meth:`Topics.publish`."""
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
        """Hear a message, if it still came through."""
        if self.hears(topic) and not self._shared.away:
            self._hear(topic, body)

    def listen_again(self) -> None:
        """Hear all topics, unless the backend is away."""
        heard = not self._shared.away
        for topic in [topic for topic, was_heard in self._topics.items() if was_heard is not heard]:
            self._topics[topic] = heard
            self._changed(topic, heard)


def _fail(sent: asyncio.Future[int]) -> None:
    if not sent.done():
        sent.set_exception(BackendUnavailable("it was taken away"))


class _Kept:
    """A list in memory, and its numbers."""

    def __init__(self, epoch: str, start: int, before: str) -> None:
        self.epoch = epoch
        self.start = start
        self.before = before
        self.top = start - 1
        self.items: list[bytes] = []
        #: Until when the items are kept, and until when the numbers are known.
        self.ends = self.ends_wholly = math.inf


class MemoryLists(Lists):
    """See :class:`Lists`."""

    def __init__(self, shared: Shared, topics: MemoryTopics) -> None:
        self._shared = shared
        self._topics = topics

    async def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> Appended:
        """See :meth:`Lists.append`."""
        self._shared.demand()
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
            self._shared.list_keys[name, key] = appended, now + KEY_COUNTS
        carried = item if len(item) <= MAX_PUBLISHED else None
        self._topics.publish(name, pack_published(Published(appended.position, appended.start, carried)))
        return appended

    def _list(self, name: str, kept: Kept) -> _Kept:
        """Return a list as it is now, be it new."""
        now = self._shared.clock()
        found = self._shared.lists.get(name)
        if found is None or found.ends_wholly <= now:
            found = self._shared.lists[name] = _Kept(self._shared.epoch, 1, "")
            found.ends_wholly = now + kept.seconds + kept.outlives
        if found.ends <= now:
            found.items.clear()
        return found

    async def read(self, name: str, kept: Kept, after: int, limit: int) -> Page:
        """See :meth:`Lists.read`."""
        return self._page(name, kept, after, limit)

    async def last(self, name: str, kept: Kept, limit: int) -> Page:
        """See :meth:`Lists.last`."""
        return self._page(name, kept, self._list(name, kept).top - limit, limit)

    def _page(self, name: str, kept: Kept, after: int, limit: int) -> Page:
        self._shared.demand()
        found = self._list(name, kept)
        oldest = found.top - len(found.items) + 1
        first = max(after + 1, oldest)
        items = found.items[first - oldest :][:limit]
        return Page(Position(found.epoch, found.top), found.start, found.before, first, items)

    async def clear(self, name: str) -> None:
        """See :meth:`Lists.clear`."""
        self._shared.demand()
        if name in self._shared.lists:
            self._shared.lists[name].items.clear()
