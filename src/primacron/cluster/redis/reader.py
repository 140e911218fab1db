"""A connection to Redis that reads channels, and detects when nothing arrives on it any more."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from primacron.cluster.errors import BackendUnavailable, CommandRefused
from primacron.cluster.redis.client import RedisClient, Subscription

#: Unanswered probes after which a connection is considered dead.
SILENCE: Final = 3
#: Seconds before reconnecting: initial and maximum backoff.
RETRY: Final = (0.1, 0.8)
#: Messages read before other tasks get a turn.
READ_AHEAD: Final = 200
#: Channels subscribed to per write.
SUBSCRIBED_AT_ONCE: Final = 1_000
#: Seconds between comparisons of a connection's subscriptions with what Redis reports.
COMPARE_EVERY: Final = 60.0


class ChannelReader(ABC):
    """
    One connection that is subscribed to channels, replaced whenever it falls silent.

    Every so often it publishes ``message`` on the channel ``probed`` and reads it back,
    which distinguishes an idle connection from a dead one. ``submit`` runs a command on
    another connection.
    """

    def __init__(
        self,
        client: RedisClient,
        submit: Callable[..., asyncio.Future[Any]],
        channels: Iterable[str],
        probed: str,
        message: bytes,
        probe: float,
    ) -> None:
        self.client = client
        self._submit = submit
        self._message = message
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._subscription: Subscription | None = None
        #: Cancels the reading of a connection that has gone silent.
        self._reading: asyncio.Timeout | None = None
        self._asked: set[str] = set()
        #: Channels whose unsubscription Redis has not confirmed yet, and how many confirmations are outstanding.
        self._ending: Counter[str] = Counter()
        self._heard_at = 0.0
        self._compare_at = self._loop.time() + COMPARE_EVERY
        self._has_work = asyncio.Event()
        self.probed = probed
        #: The subscriptions that Redis has confirmed.
        self.confirmed: set[str] = set()
        #: The channels to subscribe to, in this order; there is no connection while there are none.
        self.channels: dict[str, None] = dict.fromkeys(channels)

    # For subclasses

    @abstractmethod
    def hear(self, channel: bytes, body: bytes) -> None:
        """Handle a message; must not raise."""

    @abstractmethod
    def began(self, channel: str) -> None:
        """Note that a channel is received from now on."""

    @abstractmethod
    def ended(self, channels: Iterable[str]) -> None:
        """Note that channels are no longer received."""

    @abstractmethod
    def strayed(self, channel: str) -> None:
        """Note that this connection's server no longer has a channel that is wanted."""

    async def prepare(self) -> None:
        """
        Prepare for a new connection; does nothing by default.

        Raises:
            BackendUnavailable: if it cannot be made yet.

        """
        return

    # Subscriptions

    def want(self, *channels: str) -> None:
        """Subscribe to further channels."""
        self.channels.update(dict.fromkeys(channels))
        self._has_work.set()

    def drop(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self.channels.pop(channel, None)
        self._has_work.set()

    # Reading

    async def run(self) -> None:
        """Maintain a connection and deliver its messages, until cancelled."""
        pause = RETRY[0]
        while True:
            if not self.channels:
                self._has_work.clear()
                await self._has_work.wait()
                continue
            began = self._loop.time()
            try:
                await self.prepare()
                if self.channels:
                    await self._listen(await self.client.listen(next(iter(self.channels))))
            except CommandRefused as error:
                self.client.on_refused(error)
            except BackendUnavailable:
                pass
            if self._loop.time() - began > RETRY[1]:
                pause = RETRY[0]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, RETRY[1])

    async def _listen(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._heard_at = self._loop.time()
        self._has_work.set()
        try:
            async with asyncio.timeout(None) as self._reading:
                await self._read(subscription)
        except TimeoutError:
            pass
        finally:
            self._subscription = self._reading = None
            self._asked.clear()
            self._ending.clear()
            lost, self.confirmed = self.confirmed, set()
            self.ended(lost)
            await subscription.close()

    async def _read(self, subscription: Subscription) -> None:
        while True:
            for _ in range(READ_AHEAD):
                kind, channel, content = (await subscription.read())[:3]
                self._heard_at = self._loop.time()
                if kind.endswith(b"message"):
                    self.hear(channel, content)
                elif kind.endswith(b"unsubscribe"):
                    self._take_end(channel.decode())
                elif kind.endswith(b"subscribe"):
                    self._take_begin(channel.decode())
                else:
                    self._take_move(int(content))
            # While the buffer never runs empty, reading does not yield to other tasks.
            await asyncio.sleep(0)

    def _take_begin(self, channel: str) -> None:
        if not self._ending[channel]:  # otherwise its unsubscription is outstanding, and a later subscription
            self.confirmed.add(channel)
            self.began(channel)

    def _take_end(self, channel: str) -> None:
        if self._ending[channel]:
            self._ending[channel] -= 1
            if not self._ending[channel]:
                del self._ending[channel]  # else each channel ever left would stay in memory
            return
        self._asked.discard(channel)
        self.confirmed.discard(channel)
        self.ended((channel,))
        if channel in self.channels:
            self.strayed(channel)

    def _take_move(self, slot: int) -> None:
        """Give up the channels of a slot that has moved to another server; none of them was confirmed."""
        for channel in tuple(self._asked - self.confirmed):
            if self.client.slot_of(channel) == slot and channel in self.channels:
                self._asked.discard(channel)
                self.strayed(channel)

    def cut(self) -> None:
        """Abandon the connection; a new one is made."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.reschedule(self._loop.time())

    # Probing

    async def watch(self) -> None:
        """Maintain the subscriptions and check that messages arrive, until cancelled."""
        probe_at = self._loop.time() + self._probe
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(probe_at, self._silent_at()) - self._loop.time())):
                    await self._has_work.wait()
            self._has_work.clear()
            if self._loop.time() - probe_at > self._probe:
                self._heard_at = self._loop.time()  # this process was suspended: messages may be waiting to be read
            if self._loop.time() >= self._silent_at():
                self.cut()
            with contextlib.suppress(BackendUnavailable):
                await self._subscribe()
                if self._loop.time() >= probe_at:
                    probe_at = self._loop.time() + self._probe * random.uniform(0.9, 1.1)  # noqa: S311
                    await self._look()

    def _silent_at(self) -> float:
        """Return when the connection is considered dead if nothing arrives by then."""
        return math.inf if self._reading is None else self._heard_at + SILENCE * self._probe

    async def _subscribe(self) -> None:
        """Send Redis the subscriptions that it lacks, and the unsubscriptions."""
        subscription = self._subscription
        if subscription is None:
            return
        begin = [channel for channel in self.channels if channel not in self._asked]
        for first in range(0, len(begin), SUBSCRIBED_AT_ONCE):
            # Some may have been dropped while others were being written.
            some = [channel for channel in begin[first : first + SUBSCRIBED_AT_ONCE] if channel in self.channels]
            self._asked.update(some)
            await subscription.send(*self.client.on_channels(self.client.subscribe, some))
        end = [channel for channel in self._asked if channel not in self.channels]
        for first in range(0, len(end), SUBSCRIBED_AT_ONCE):
            some = end[first : first + SUBSCRIBED_AT_ONCE]
            self._asked.difference_update(some)
            self.confirmed.difference_update(some)
            self._ending.update(some)
            await subscription.send(*self.client.on_channels(self.client.unsubscribe, some))

    async def _look(self) -> None:
        """Publish a probe to check that the connection still receives."""
        subscription = self._subscription
        if subscription is None:
            return
        was_confirmed = self.probed in self.confirmed
        heard_by = await self._submit(self.client.publish, self.probed, self._message)
        if was_confirmed and not heard_by and subscription is self._subscription:
            self.cut()  # messages are published on a server to which this connection does not go
        elif self.client.keeps_order and self._loop.time() >= self._compare_at:
            self._compare_at = self._loop.time() + COMPARE_EVERY
            await self._compare(subscription)

    async def _compare(self, subscription: Subscription) -> None:
        """Abandon the connection if Redis does not know it, or is missing some of its subscriptions."""
        clients = await self._submit("CLIENT", "LIST", "ID", subscription.id)
        found = re.search(rb"\bsub=(\d+)", clients if isinstance(clients, bytes) else b"")
        if (
            subscription is self._subscription
            and self.channels.keys() <= self.confirmed
            and (found is None or int(found[1]) < len(self.channels))
        ):
            self.cut()
