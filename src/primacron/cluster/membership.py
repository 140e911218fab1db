"""
The place of a node among the others: its lease, its entries in the registry, and those of nodes that are gone.

A node renews its lease all the time. When anything tells that the backend may
have lost something, it writes all of its entries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from primacron.cluster.base import (
    SETTLED_AFTER,
    BackendUnavailable,
    Bus,
    Epoch,
    Lease,
    Registry,
    Renewal,
    Swapped,
)
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.leases import BackendClock, Leases
from primacron.cluster.link import Event, Link
from primacron.cluster.wire import Probe
from primacron.entries import Entry, Name
from primacron.ids import AccountId, Keyring, NodeId
from primacron.times import Times

T = TypeVar("T")

#: Entries that are written in one go.
SLICE: Final = 1_000
#: Seconds between two looks for entries that this node has left behind.
SURPLUS_EVERY: Final = 60.0
#: Seconds between two tries to reach a backend that is away, at first and at most.
RETRY: Final = (0.1, 0.8)
#: Seconds between two tries to write entries that go missing, at first and at most.
REWRITE: Final = (1.0, 60.0)
#: Seconds between two looks at the leases of the others.
WATCH_EVERY: Final = 0.25


class Residents(Protocol):
    """The sessions of this node, as far as the registry is concerned."""

    def entries(self) -> Iterable[tuple[AccountId, Entry]]:
        """Return the entries that should be in the registry."""

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is here, or on its way here."""

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Hear what became of an entry that was written again."""

    def emptied(self) -> None:
        """Hear that the registry may have lost anything."""

    @property
    def registered(self) -> int:
        """Entries that the registry has confirmed and that are not being released."""

    @property
    def are_unconfirmed(self) -> bool:
        """Whether there are others, which the registry could not take."""


class Membership:
    """Keeps the lease, and the entries that belong to it."""

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
        self._lease = lease
        self._times = times
        self._loop = asyncio.get_running_loop()
        self.leases = Leases()
        #: The epochs in which all entries of this node are written.
        self.complete: tuple[str, ...] = ()
        #: Since when the backend answers without a break, and has lost nothing, on the clock of the event loop.
        self.up_since = self._loop.time()
        #: When it last came back, had lost something, or had its clock set; None as long as nothing of that was seen.
        self._shaken_at: float | None = None
        #: How often a node had begun to attend when the leases were read.
        self.attended = 0
        #: Whether the lease, as the backend has it, says that this node attends.
        self.says_attends = False
        self._announcing: asyncio.Task[bool] | None = None
        self._renewed_at = self.up_since
        self._clock = BackendClock()
        self._epochs: tuple[str, ...] = ()
        #: When each of these began, on the clock of the event loop.
        self._began: dict[str, float] = {}
        self._retry = RETRY[0]
        self._wakes = asyncio.Event()
        self._missing = asyncio.Event()
        self._surplus = asyncio.Event()
        self._surplus_at = self._loop.time() + SURPLUS_EVERY
        #: When what is missing may be written again, and the seconds from then to the next time.
        self._rewrite_at = self.up_since
        self._rewrite_pause = 0.0

    def is_settled(self, seconds: float) -> bool:
        """Tell whether the backend has answered for so long."""
        return self._link.is_reachable and not self._is_behind() and self._loop.time() - self.up_since >= seconds

    def _is_behind(self) -> bool:
        """Tell whether this process was late, for so long that others may have renewed their leases unseen."""
        return self._loop.time() - self._renewed_at >= self._lease / 2

    def was_shaken_within(self, seconds: float) -> bool:
        """
        Tell whether it was seen not longer ago than that how the backend came back, lost something, or set its clock.

        Then the others may not have written again what is theirs.
        """
        return self._shaken_at is not None and self._loop.time() - self._shaken_at < seconds

    def is_older(self, seconds: float) -> bool:
        """Tell whether the backend's data is older than that: a node that has just begun cannot know what it lost."""
        now = self._loop.time()
        return bool(self._began) and all(now - began >= seconds for began in self._began.values())

    def age_of(self, epoch: Epoch) -> float:
        """Return for how many seconds an epoch lasts, whatever the backend's clock did meanwhile."""
        began = self._began.get(epoch.id)
        return epoch.age if began is None else self._loop.time() - began

    async def check_attending(self) -> bool:
        """
        Read the leases again if another node may attend than those that did when they were last read.

        Returns whether it is known which do.
        """
        try:
            attended = await self._link.ask(self._registry.attended)
        except BackendUnavailable:
            return False
        return (attended == self.attended and not self._is_behind()) or await self.renew()

    def _is_overdue(self) -> bool:
        """Tell whether this process stood still, for so long that what it knows of the others is out of date."""
        return self._loop.time() - self._renewed_at >= self._lease

    @property
    def stood_still(self) -> bool:
        """Whether this node has not renewed its lease in time: the others may have gone on without it."""
        return self._is_overdue()

    def renew_soon(self) -> None:
        """Renew the lease now: what it says has changed."""
        self._wakes.set()

    async def announce(self) -> None:
        """Say now in the lease what has changed; who comes meanwhile waits for the same."""
        if self._announcing is None:
            self._announcing = self._loop.create_task(self.renew())
            self._announcing.add_done_callback(self._announced)
        await asyncio.shield(self._announcing)

    def _announced(self, _: object) -> None:
        self._announcing = None

    async def run(self) -> None:
        """Keep the lease, until cancelled."""
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
            # Right after an outage the others come back one by one, and are to be known soon.
            every = self._lease / (4 if self.is_settled(SETTLED_AFTER) else 8)
            return every * random.uniform(0.9, 1.1)  # noqa: S311
        pause = self._retry * random.uniform(0.5, 1.0)  # noqa: S311
        self._retry = min(self._retry * 2, RETRY[1])
        return pause

    async def renew(self) -> bool:
        """
        Renew the lease, and learn of the other nodes; this also proves that the backend is there.

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
        return True

    def _probe_envelope(self) -> bytes:
        return encode_envelope(self._node, 0, 0, 0, [encode_item(Probe())])

    async def _watch_leases(self) -> None:
        """Notice nodes whose lease has ended; not while the backend was away just now and none could be renewed."""
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
        """Write what is missing: soon, and later each time that it was in vain, as where a right is missing."""
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
            with contextlib.suppress(BackendUnavailable):  # once it is back, everything is written again
                await self._restore()

    async def _restore(self) -> None:
        """Write all entries, so that what is missing is there again."""
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
        """Remove what this node has left in the registry, after a release that failed."""
        while True:
            await self._surplus.wait()
            self._surplus.clear()
            with contextlib.suppress(BackendUnavailable):
                async for names in self._indexed(self._node):
                    await self._drop(self._node, [name for name in names if not self._residents.lives_here(name)])

    async def retire(self) -> None:
        """Remove what is left of this node, as an entry that was just being written again, and end its lease."""
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
            # At another time on each node: the first one does it for all.
            await asyncio.sleep(self._times.sweep * random.uniform(0.5, 1.5))  # noqa: S311
            if self.is_settled(self._times.swept):
                for node in self.leases.ended(self._loop.time(), before=self._times.swept):
                    with contextlib.suppress(BackendUnavailable):
                        await self._sweep_node(node)

    async def _sweep_node(self, node: NodeId) -> None:
        async for names in self._indexed(node):
            if node not in self.leases.ended(self._loop.time()):  # another node was faster, or it has come back
                return
            await self._drop(node, names)
        await self._link.ask(self._registry.forget, node)


def _sliced(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most ``size``; taken now, as they change meanwhile."""
    iterator = iter([*items])
    while taken := list(itertools.islice(iterator, size)):
        yield taken
