"""The bus on Redis: Pub/Sub, sharded on a Redis Cluster, with connections that notice when they hear nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
from collections.abc import Callable
from typing import Any, Final

from primacron.cluster.base import BackendUnavailable, Bus, CommandRefused, Hear
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.keys import Keys
from primacron.cluster.lane import Lane
from primacron.cluster.redis_client import Ear, RedisClient
from primacron.cluster.wire import Probe
from primacron.ids import NodeId

#: Probes without an answer after which a connection counts as dead.
SILENCE: Final = 3
#: Seconds before a connection is made anew, at first and at most.
RETRY: Final = (0.1, 0.8)
#: Messages that are read in one go.
READ_AHEAD: Final = 200
#: Seconds between two looks at what Redis says that a connection listens to.
COMPARE_EVERY: Final = 60.0


class RedisBus(Bus):
    """See :class:`Bus`."""

    def __init__(self, client: RedisClient, keys: Keys, timeout: float, probe: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout
        self._probe = probe
        self._lane = Lane(client.execute)
        self._listeners: list[Listener] = []
        self._fan_out: Listener
        self._running: asyncio.Task[None] | None = None
        self._changed: Callable[[bool], None] = lambda _: None
        self.hearing = False
        self.attends = False
        self.keeps_order = client.keeps_order

    async def join(self, node: NodeId, hear: Hear, changed: Callable[[bool], None]) -> None:
        """See :meth:`Bus.join`."""
        self._changed = changed
        own = self._keys.node(node)
        envelope = encode_envelope(node, 0, 0, 0, [encode_item(Probe())])
        first = Listener(self, self._client, hear, own, [own], envelope, self._probe)
        self._listeners = [first]
        if self._client.keeps_order:
            self._fan_out = first
        else:
            # Another shard has the channel of all, and so another connection.
            probe = self._keys.probe(node)
            self._fan_out = Listener(self, self._client, hear, probe, [], envelope, self._probe)
            self._listeners.append(self._fan_out)
        self._running = asyncio.get_running_loop().create_task(self._run())
        await first.has(own, 2 * self._timeout)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.run())
                group.create_task(listener.watch())

    async def leave(self) -> None:
        """See :meth:`Bus.leave`."""
        self._changed = lambda _: None
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._lane.close()
        self.hearing = self.attends = False

    def want(self) -> None:
        """See :meth:`Bus.want`."""
        self._fan_out.want(self._keys.all)
        self._fan_out.need()
        self.listened()

    async def attend(self) -> None:
        """See :meth:`Bus.attend`."""
        self._fan_out.want(self._keys.all)
        if not await self._fan_out.has(self._keys.all, self._timeout):
            self.want()
            raise BackendUnavailable("it does not say that it subscribed")
        self.attends = True

    def quit(self) -> None:
        """See :meth:`Bus.quit`."""
        self.attends = False
        self._fan_out.drop(self._keys.all)

    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """See :meth:`Bus.publish`."""
        channel = self._keys.all if destination is None else self._keys.node(destination)
        return self._lane.submit(self._client.publish, channel, body, size=len(body))

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Run a command on the way that messages take."""
        return self._lane.submit(*command)

    def listened(self) -> None:
        """Take note that a listener has begun to hear, or does not any more."""
        hearing = all(listener.hears for listener in self._listeners)
        self.attends = self._fan_out.confirms(self._keys.all)
        if hearing is not self.hearing:
            self.hearing = hearing
            self._changed(hearing)


class Listener:
    """
    One connection that listens to channels, made anew whenever it hears nothing.

    It asks itself something every now and then, by way of Redis, on the channel
    ``probed``: that tells a connection on which nothing happens from one on which
    nothing arrives.
    """

    def __init__(
        self,
        bus: RedisBus,
        client: RedisClient,
        hear: Hear,
        probed: str,
        channels: list[str],
        envelope: bytes,
        probe: float,
    ) -> None:
        self._bus = bus
        self._client = client
        self._hear = hear
        self._probed = probed
        self._envelope = envelope
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._ear: Ear | None = None
        #: What ends the reading of a connection that has gone silent.
        self._reading: asyncio.Timeout | None = None
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()
        #: What must be confirmed, or it does not hear; what is only just wanted is not.
        self._needed = {*channels}
        self._heard_at = 0.0
        self._compare_at = self._loop.time() + COMPARE_EVERY
        self._has_work = asyncio.Event()
        self._has_changed = asyncio.Event()
        #: What it is to listen to; without any it has no connection.
        self.channels = channels

    # What it listens to

    @property
    def hears(self) -> bool:
        """Whether Redis has confirmed what it needs to listen to."""
        return self._needed <= self._confirmed

    def confirms(self, channel: str) -> bool:
        """Tell whether a channel is listened to."""
        return channel in self._confirmed

    def want(self, channel: str) -> None:
        """Listen to one more channel."""
        for each in (channel, self._probed):
            if each not in self.channels:
                self.channels.append(each)
        self._has_work.set()

    def need(self) -> None:
        """Take note that it does not hear before all is confirmed that it is to listen to."""
        self._needed.update(self.channels)

    def drop(self, channel: str) -> None:
        """Listen to a channel no longer."""
        self._needed.discard(channel)
        if channel in self.channels:
            self.channels.remove(channel)
        self._has_work.set()

    async def has(self, channel: str, seconds: float) -> bool:
        """Wait until a channel is listened to, no longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while channel not in self._confirmed:
                    self._has_changed.clear()
                    await self._has_changed.wait()
        return channel in self._confirmed

    # Reading

    async def run(self) -> None:
        """Keep a connection and hear what comes, until cancelled."""
        pause = RETRY[0]
        while True:
            if not self.channels:
                self._has_work.clear()
                await self._has_work.wait()
                continue
            began = self._loop.time()
            try:
                await self._listen(await self._client.listen(self.channels[0]))
            except CommandRefused as error:
                self._client.on_refused(error)
            except BackendUnavailable:
                pass
            if self._loop.time() - began > RETRY[1]:
                pause = RETRY[0]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, RETRY[1])

    async def _listen(self, ear: Ear) -> None:
        self._ear = ear
        self._heard_at = self._loop.time()
        self._has_work.set()
        try:
            async with asyncio.timeout(None) as self._reading:
                await self._read(ear)
        except TimeoutError:
            pass
        finally:
            self._ear = self._reading = None
            self._asked.clear()
            self._confirmed.clear()
            self._tell()
            await ear.close()

    async def _read(self, ear: Ear) -> None:
        while True:
            for _ in range(READ_AHEAD):
                kind, channel, content = (await ear.read())[:3]
                self._heard_at = self._loop.time()
                if kind.endswith(b"message"):
                    self._hear(content)
                elif kind.endswith(b"unsubscribe"):
                    self._take_end(channel.decode())
                elif kind.endswith(b"subscribe"):
                    self._take_begin(channel.decode())
            # While more is there than can be read, reading gives nobody else a turn.
            await asyncio.sleep(0)

    def _take_begin(self, channel: str) -> None:
        self._confirmed.add(channel)
        if channel in self.channels:
            self._needed.add(channel)
        self._tell()

    def _take_end(self, channel: str) -> None:
        self._confirmed.discard(channel)
        if channel in self.channels:
            self.cut()  # its slot has moved to another server

    def _tell(self) -> None:
        self._has_changed.set()
        self._bus.listened()

    def cut(self) -> None:
        """Give the connection up; another one is made."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.reschedule(self._loop.time())

    # Asking

    async def watch(self) -> None:
        """Subscribe to what is wanted, and find out whether anything arrives, until cancelled."""
        probe_at = self._loop.time() + self._probe
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(probe_at, self._silent_at()) - self._loop.time())):
                    await self._has_work.wait()
            self._has_work.clear()
            if self._loop.time() - probe_at > self._probe:
                self._heard_at = self._loop.time()  # this process stood still: what came meanwhile is yet to be read
            if self._loop.time() >= self._silent_at():
                self.cut()
            with contextlib.suppress(BackendUnavailable):
                await self._subscribe()
                if self._loop.time() >= probe_at:
                    probe_at = self._loop.time() + self._probe * random.uniform(0.9, 1.1)  # noqa: S311
                    await self._look()

    def _silent_at(self) -> float:
        """Return when the connection counts as dead, if nothing comes until then."""
        return math.inf if self._reading is None else self._heard_at + SILENCE * self._probe

    async def _subscribe(self) -> None:
        ear, wanted = self._ear, set(self.channels)
        if ear is None:
            return
        for channel in wanted - self._asked:
            self._asked.add(channel)
            await ear.send(self._client.subscribe, channel)
        for channel in self._asked - wanted:
            self._asked.discard(channel)
            await ear.send(self._client.unsubscribe, channel)

    async def _look(self) -> None:
        """Find out whether the connection still hears."""
        ear = self._ear
        if ear is None:
            return
        was_confirmed = self._probed in self._confirmed
        heard_by = await self._bus.submit(self._client.publish, self._probed, self._envelope)
        if was_confirmed and not heard_by and ear is self._ear:
            self.cut()  # what is published goes to a server that this connection is not connected to
        elif self._client.keeps_order and self._loop.time() >= self._compare_at:
            self._compare_at = self._loop.time() + COMPARE_EVERY
            await self._compare(ear)

    async def _compare(self, ear: Ear) -> None:
        """Give the connection up if Redis does not know it, or not everything that it listens to."""
        clients = await self._bus.submit("CLIENT", "LIST", "ID", ear.id)
        found = re.search(rb"\bsub=(\d+)", clients if isinstance(clients, bytes) else b"")
        if (
            ear is self._ear
            and set(self.channels) <= self._confirmed
            and (found is None or int(found[1]) < len(self.channels))
        ):
            self.cut()
