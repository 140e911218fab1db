"""
A node's membership: its lease, its entries in the registry, and the removal of nodes that are gone.

A node renews its lease continually. Whenever there is a sign that the backend may
have lost data, it writes all of its entries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from primacron.cluster.bus import Bus
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.items import Probe
from primacron.cluster.leases import BackendClock, Leases
from primacron.cluster.link import Event, Link
from primacron.cluster.registry import SETTLED_AFTER, Epoch, Lease, Registry, Renewal, Swapped
from primacron.entries import Entry, Name
from primacron.ids import AccountId, Keyring, NodeId
from primacron.times import Times

T = TypeVar("T")

#: Entries written per batch.
SLICE: Final = 1_000
#: Seconds between searches for entries that this node has left behind.
SURPLUS_EVERY: Final = 60.0
#: Seconds between attempts to reach a backend that is away: initial and maximum backoff.
RETRY: Final = (0.1, 0.8)
#: Seconds between attempts to write entries that keep going missing: initial and maximum backoff.
REWRITE: Final = (1.0, 60.0)
#: Seconds between checks of the other nodes' leases.
WATCH_EVERY: Final = 0.25


class Residents(Protocol):
    """The sessions of this node, as far as the registry is concerned."""

    def entries(self) -> Iterable[tuple[AccountId, Entry]]:
        """Return the entries that should be in the registry."""

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is here, or in transit to here."""

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Handle the outcome of writing an entry again."""

    def emptied(self) -> None:
        """React to a registry that may have lost anything."""

    @property
    def registered(self) -> int:
        """Entries that the registry has confirmed and that are not being released."""

    @property
    def are_unconfirmed(self) -> bool:
        """Whether there are further entries, which the registry has not accepted."""


class Membership:
    """Maintains the lease, and the entries that depend on it."""

    def __init__(
        self,
        node: NodeId,
        registry: Registry,
        bus: Bus,
        link: Link,
        residents: Residents,
        keyring: Keyring,
        describe: Callable[[], Lease],
        fallen: Callable[[set[NodeId]], None],
        deafened: Callable[[set[NodeId]], None],
        renewed: Callable[[Lease, Sequence[bytes], bytes], None],
        learned: Callable[[], None],
        *,
        lease: float,
        times: Times,
    ) -> None:
        self._node = node
        self._registry = registry
        self._bus = bus
        self._link = link
        self._residents = residents
        self._keyring = keyring
        self._describe = describe
        self._fallen = fallen
        self._deafened = deafened
        self._renewed = renewed
        self._learned = learned
        self._lease = lease
        self._times = times
        self._loop = asyncio.get_running_loop()
        self.leases = Leases()
        #: The epochs in which all entries of this node have been written.
        self.complete: tuple[str, ...] = ()
        #: Since when the backend has answered without interruption or data loss, on the event loop's clock.
        self.up_since = self._loop.time()
        #: When the backend was last seen to recover, lose data, or change its clock; None if never.
        self._shaken_at: float | None = None
        #: The value of :meth:`Registry.attended` when the leases were read.
        self.attended = 0
        #: Whether the lease as stored in the backend says that this node attends.
        self.says_attends = False
        self._announcing: asyncio.Task[bool] | None = None
        self._renewed_at = self.up_since
        self._clock = BackendClock()
        self._epochs: tuple[str, ...] = ()
        #: When each of these epochs began, on the event loop's clock.
        self._began: dict[str, float] = {}
        self._retry = RETRY[0]
        self._wakes = asyncio.Event()
        self._missing = asyncio.Event()
        self._surplus = asyncio.Event()
        self._surplus_at = self._loop.time() + SURPLUS_EVERY
        #: When missing entries may next be written, and the backoff after that.
        self._rewrite_at = self.up_since
        self._rewrite_pause = 0.0

    def is_settled(self, seconds: float) -> bool:
        """Tell whether the backend has answered without interruption for at least this long."""
        return self._link.is_reachable and not self._is_behind() and self._loop.time() - self.up_since >= seconds

    def _is_behind(self) -> bool:
        """Tell whether this process ran so late that other nodes may have renewed their leases unnoticed."""
        return self._loop.time() - self._renewed_at >= self._lease / 2

    def was_shaken_within(self, seconds: float) -> bool:
        """
        Tell whether the backend was seen to recover, lose data or change its clock within this many seconds.

        Other nodes may then still be writing their entries again.
        """
        return self._shaken_at is not None and self._loop.time() - self._shaken_at < seconds

    def is_older(self, seconds: float) -> bool:
        """Tell whether the backend's data is at least this old: a new node cannot know what was lost before."""
        now = self._loop.time()
        return bool(self._began) and all(now - began >= seconds for began in self._began.values())

    def age_of(self, epoch: Epoch) -> float:
        """Return the age of an epoch in seconds, regardless of changes to the backend's clock."""
        began = self._began.get(epoch.id)
        return epoch.age if began is None else self._loop.time() - began

    async def check_attending(self) -> bool:
        """
        Read the leases again if more nodes may attend than when they were last read.

        Returns whether it is known which nodes attend.
        """
        try:
            attended = await self._link.ask(self._registry.attended)
        except BackendUnavailable:
            return False
        return (attended == self.attended and not self._is_behind()) or await self.renew()

    def _is_overdue(self) -> bool:
        """Tell whether this process was suspended for so long that its knowledge of the other nodes is stale."""
        return self._loop.time() - self._renewed_at >= self._lease

    @property
    def stood_still(self) -> bool:
        """Whether this node failed to renew its lease in time: the others may have gone on without it."""
        return self._is_overdue()

    def renew_soon(self) -> None:
        """Renew the lease right away, because its content has changed."""
        self._wakes.set()

    async def announce(self) -> None:
        """Publish a change of the lease's content now; concurrent callers share one renewal."""
        if self._announcing is None:
            self._announcing = self._loop.create_task(self.renew())
            self._announcing.add_done_callback(self._announced)
        await asyncio.shield(self._announcing)

    def _announced(self, _: object) -> None:
        self._announcing = None

    async def run(self) -> None:
        """Maintain the membership, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_lease())
            group.create_task(self._watch_leases())
            group.create_task(self._keep_entries())
            group.create_task(self._drop_surplus())
            group.create_task(self._sweep())

    # The lease

    async def _keep_lease(self) -> None:
        while True:
            await self.renew()
            pause = self._pause()
            self._wakes.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakes.wait()

    def _pause(self) -> float:
        if self._link.is_reachable:
            self._retry = RETRY[0]
            # After an outage the others return one by one, and should be noticed soon.
            every = self._lease / (4 if self.is_settled(SETTLED_AFTER) else 8)
            return every * random.uniform(0.9, 1.1)  # noqa: S311
        pause = self._retry * random.uniform(0.5, 1.0)  # noqa: S311
        self._retry = min(self._retry * 2, RETRY[1])
        return pause

    async def renew(self) -> bool:
        """
        Renew the lease and learn of the other nodes; this also proves that the backend is reachable.

        Returns whether it was.
        """
        registered, lease, asked = self._residents.registered, self._describe(), self._loop.time()
        try:
            renewal = await self._registry.renew(
                self._node, lease, self._lease, self._keyring.keys, self._keyring.candidate
            )
            answered = self._loop.time()
            await self._bus.publish(self._node, self._probe_envelope())
        except BackendUnavailable as error:
            self.says_attends = False
            self._link.step(Event.FAILED, str(error))
            return False
        was_away = not self._link.is_reachable or self._is_overdue()
        self._renewed_at = self._loop.time()
        self.says_attends = lease.attends
        self._renewed(lease, self._keyring.keys, self._keyring.candidate)
        self._learn(renewal, registered, asked, answered, was_away=was_away)
        self._link.step(Event.PROVEN)
        if self._bus.hearing:
            self._link.step(Event.HEARD)
        self._learned()
        return True

    def _probe_envelope(self) -> bytes:
        return encode_envelope(self._node, 0, 0, 0, [encode_item(Probe())])

    async def _watch_leases(self) -> None:
        """Detect expired leases, but not just after an outage in which none could be renewed."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            fallen = self.leases.fallen(self._loop.time()) if self.is_settled(SETTLED_AFTER) else None
            if fallen:
                self._fallen(fallen)

    def _learn(self, renewal: Renewal, registered: int, asked: float, answered: float, *, was_away: bool) -> None:
        now = self._loop.time()
        self._keyring.learn(renewal.keys)
        self.attended = renewal.attended
        epochs = tuple(epoch.id for epoch in renewal.epochs)
        has_lost = bool(self._epochs) and (epochs != self._epochs or not renewal.was_alive)
        has_jumped = self._clock.has_jumped(renewal.time, asked, answered)
        if was_away or has_lost or has_jumped:
            self.up_since = now
            if self._epochs:
                self._shaken_at = now
        self._began = {each.id: self._began.get(each.id, now - max(0.0, each.age)) for each in renewal.epochs}
        keeps = self.was_shaken_within(SETTLED_AFTER)
        deafened = self.leases.read(renewal.leases, now, renewal.time - now, keeps=keeps)
        if deafened:
            self._deafened(deafened)
        is_other = was_away or not renewal.was_alive or epochs != self._epochs
        if self._epochs not in ((), epochs):
            self._residents.emptied()
        if is_other:
            self._epochs = epochs
            self.complete = tuple(epoch for epoch in self.complete if epoch in epochs and not was_away)
            self._missing.set()
        if renewal.indexed < registered or self._residents.are_unconfirmed:
            self._write_missing(now, is_other)
        else:
            self._rewrite_pause = 0.0
        if not is_other and renewal.indexed > registered and now >= self._surplus_at:
            self._surplus_at = now + SURPLUS_EVERY
            self._surplus.set()

    def _write_missing(self, now: float, is_begun: bool) -> None:
        """Schedule missing entries to be written, backing off while that fails, as for lack of a permission."""
        if not is_begun and now < self._rewrite_at:
            return
        self._rewrite_pause = min(max(2 * self._rewrite_pause, REWRITE[0]), REWRITE[1])
        self._rewrite_at = now + self._rewrite_pause
        self._missing.set()

    # The entries

    async def _keep_entries(self) -> None:
        while True:
            await self._missing.wait()
            self._missing.clear()
            with contextlib.suppress(BackendUnavailable):  # once the backend is back, everything is written again
                await self._restore()

    async def _restore(self) -> None:
        """Write all entries, which restores the missing ones."""
        epochs = self._epochs
        for entries in _sliced(self._residents.entries(), SLICE):
            found = await self._link.ask(self._registry.restore, entries)
            for (account, entry), swapped in zip(entries, found, strict=True):
                if swapped is not None:
                    self._residents.restored(account, entry, swapped)
            await asyncio.sleep(0)
        if epochs == self._epochs and self.complete != epochs:
            self.complete = epochs
            self.renew_soon()

    async def _drop_surplus(self) -> None:
        """Remove entries that this node has left in the registry after failed releases."""
        while True:
            await self._surplus.wait()
            self._surplus.clear()
            with contextlib.suppress(BackendUnavailable):
                async for names in self._indexed(self._node):
                    await self._drop(self._node, [name for name in names if not self._residents.lives_here(name)])

    async def retire(self) -> None:
        """Remove this node's leftovers, such as an entry that was just being restored, and end its lease."""
        async for names in self._indexed(self._node):
            await self._drop(self._node, names)
        await self._link.ask(self._registry.retire, self._node)

    async def _drop(self, node: NodeId, names: list[Name]) -> None:
        if names:
            await self._link.ask(self._registry.drop, node, names)

    async def _indexed(self, node: NodeId) -> AsyncIterator[list[Name]]:
        cursor = 0
        while True:
            cursor, names = await self._link.ask(self._registry.indexed, node, cursor)
            yield names
            await asyncio.sleep(0)
            if cursor == 0:
                return

    # Nodes that are gone

    async def _sweep(self) -> None:
        while True:
            # At a random time: the first node to get there does it for all.
            await asyncio.sleep(self._times.sweep * random.uniform(0.5, 1.5))  # noqa: S311
            if self.is_settled(self._times.swept):
                for node in self.leases.ended(self._loop.time(), before=self._times.swept):
                    with contextlib.suppress(BackendUnavailable):
                        await self._sweep_node(node)

    async def _sweep_node(self, node: NodeId) -> None:
        async for names in self._indexed(node):
            if node not in self.leases.ended(self._loop.time()):  # another node was faster, or this one has come back
                return
            await self._drop(node, names)
        await self._link.ask(self._registry.forget, node)


def _sliced(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most ``size``; copied first, because they change meanwhile."""
    iterator = iter([*items])
    while taken := list(itertools.islice(iterator, size)):
        yield taken
