"""The bus on Redis: Pub/Sub, sharded on a Redis Cluster, with connections that notice when they hear nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from primacron.cluster.base import BackendUnavailable, Bus, Hear
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.keys import Keys
from primacron.cluster.lane import Lane
from primacron.cluster.redis_client import RedisClient
from primacron.cluster.redis_reader import ChannelReader
from primacron.cluster.wire import Probe
from primacron.ids import NodeId


class RedisBus(Bus):
    """See :class:`Bus`."""

    def __init__(self, client: RedisClient, keys: Keys, timeout: float, probe: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout
        self.probe = probe
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
        first = Listener(self, self._client, hear, [own], own, envelope)
        self._listeners = [first]
        if self._client.keeps_order:
            self._fan_out = first
        else:
            # Another shard has the channel of all, and so another connection.
            probe = self._keys.probe(node)
            self._fan_out = Listener(self, self._client, hear, [], probe, envelope)
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
        self.attends = self._keys.all in self._fan_out.confirmed
        if hearing is not self.hearing:
            self.hearing = hearing
            self._changed(hearing)


class Listener(ChannelReader):
    """What the node listens to on one connection: what is needed is heard before the bus is."""

    def __init__(
        self, bus: RedisBus, client: RedisClient, hear: Hear, channels: list[str], probed: str, message: bytes
    ) -> None:
        super().__init__(client, bus.submit, channels, probed, message, bus.probe)
        self._bus = bus
        self._hear = hear
        self._has_changed = asyncio.Event()
        #: What must be confirmed, or it does not hear; what is only just wanted is not.
        self._needed = {*channels}

    @property
    def hears(self) -> bool:
        """Whether Redis has confirmed what it needs to listen to."""
        return self._needed <= self.confirmed

    def want(self, *channels: str) -> None:
        """See :meth:`ChannelReader.want`."""
        super().want(*channels, self.probed)

    def need(self) -> None:
        """Take note that it does not hear before all is confirmed that it is to listen to."""
        self._needed.update(self.channels)

    def drop(self, channel: str) -> None:
        """See :meth:`ChannelReader.drop`."""
        self._needed.discard(channel)
        super().drop(channel)

    async def has(self, channel: str, seconds: float) -> bool:
        """Wait until a channel is listened to, no longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while channel not in self.confirmed:
                    self._has_changed.clear()
                    await self._has_changed.wait()
        return channel in self.confirmed

    def hear(self, channel: bytes, body: bytes) -> None:
        """See :meth:`ChannelReader.hear`."""
        self._hear(body)

    def began(self, channel: str) -> None:
        """See :meth:`ChannelReader.began`."""
        if channel in self.channels:
            self._needed.add(channel)
        self._tell()

    def ended(self, channels: Iterable[str]) -> None:
        """See :meth:`ChannelReader.ended`."""
        self._tell()

    def strayed(self, channel: str) -> None:
        """See :meth:`ChannelReader.strayed`: all of its channels have one slot."""
        self.cut()

    def _tell(self) -> None:
        self._has_changed.set()
        self._bus.listened()
