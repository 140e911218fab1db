"""The bus on Redis: Pub/Sub, sharded on a Redis Cluster, with connections that detect when nothing arrives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from primacron.cluster.bus import Bus, Hear
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.items import Probe
from primacron.cluster.redis.client import RedisClient
from primacron.cluster.redis.keys import Keys
from primacron.cluster.redis.pipeline import CommandPipeline
from primacron.cluster.redis.reader import ChannelReader
from primacron.ids import NodeId


class RedisBus(Bus):
    """A bus on Redis Pub/Sub."""

    def __init__(self, client: RedisClient, keys: Keys, timeout: float, probe: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout
        self.probe = probe
        self._pipeline = CommandPipeline(client.execute)
        self._readers: list[BusReader] = []
        self._fan_out: BusReader
        self._running: asyncio.Task[None] | None = None
        self._changed: Callable[[bool], None] = lambda _: None
        self.hearing = False
        self.attends = False
        self.keeps_order = client.keeps_order

    async def join(self, node: NodeId, hear: Hear, changed: Callable[[bool], None]) -> None:
        """Subscribe to the node's channel, and wait a limited time for Redis to confirm it."""
        self._changed = changed
        own = self._keys.node(node)
        envelope = encode_envelope(node, 0, 0, 0, [encode_item(Probe())])
        first = BusReader(self, self._client, hear, [own], own, envelope)
        self._readers = [first]
        if self._client.keeps_order:
            self._fan_out = first
        else:
            # The channel of all is on another shard, and so needs a connection of its own.
            probe = self._keys.probe(node)
            self._fan_out = BusReader(self, self._client, hear, [], probe, envelope)
            self._readers.append(self._fan_out)
        self._running = asyncio.get_running_loop().create_task(self._run())
        await first.has(own, 2 * self._timeout)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reader in self._readers:
                group.create_task(reader.run())
                group.create_task(reader.watch())

    async def leave(self) -> None:
        """Close all connections; unsent messages fail."""
        self._changed = lambda _: None
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._pipeline.close()
        self.hearing = self.attends = False

    def want(self) -> None:
        """Subscribe to the channel of all as soon as possible; until then the bus does not count as hearing."""
        self._fan_out.want(self._keys.all)
        self._fan_out.need()
        self.listened()

    async def attend(self) -> None:
        """
        Subscribe to the channel of all and wait for Redis to confirm it.

        Raises:
            BackendUnavailable: if it is not confirmed in time; the bus keeps trying.

        """
        self._fan_out.want(self._keys.all)
        if not await self._fan_out.has(self._keys.all, self._timeout):
            self.want()
            raise BackendUnavailable("it does not say that it subscribed")
        self.attends = True

    def quit(self) -> None:
        """Unsubscribe from the channel of all."""
        self.attends = False
        self._fan_out.drop(self._keys.all)

    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """Queue a message for a channel; the future gives the number of subscribers that it reached."""
        channel = self._keys.all if destination is None else self._keys.node(destination)
        return self._pipeline.submit(self._client.publish, channel, body, size=len(body))

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Queue any other command behind the messages."""
        return self._pipeline.submit(*command)

    def listened(self) -> None:
        """Update the state after a change in what a reader hears."""
        hearing = all(reader.hears for reader in self._readers)
        self.attends = self._keys.all in self._fan_out.confirmed
        if hearing is not self.hearing:
            self.hearing = hearing
            self._changed(hearing)


class BusReader(ChannelReader):
    """The bus's subscriptions on one connection; the bus is not hearing until those that are needed are confirmed."""

    def __init__(
        self, bus: RedisBus, client: RedisClient, hear: Hear, channels: list[str], probed: str, message: bytes
    ) -> None:
        super().__init__(client, bus.submit, channels, probed, message, bus.probe)
        self._bus = bus
        self._hear = hear
        self._has_changed = asyncio.Event()
        #: Channels that must be confirmed before it counts as hearing; not those that are merely wanted.
        self._needed = {*channels}

    @property
    def hears(self) -> bool:
        """Whether Redis has confirmed all channels that are required."""
        return self._needed <= self.confirmed

    def want(self, *channels: str) -> None:
        """Subscribe to another channel."""
        super().want(*channels, self.probed)

    def need(self) -> None:
        """Count as hearing only once all channels are confirmed."""
        self._needed.update(self.channels)

    def drop(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._needed.discard(channel)
        super().drop(channel)

    async def has(self, channel: str, seconds: float) -> bool:
        """Wait up to ``seconds`` for the subscription to a channel; tell whether it is confirmed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while channel not in self.confirmed:
                    self._has_changed.clear()
                    await self._has_changed.wait()
        return channel in self.confirmed

    def hear(self, channel: bytes, body: bytes) -> None:
        """Pass the message to the node."""
        self._hear(body)

    def began(self, channel: str) -> None:
        """Require the channel from now on, and update the bus."""
        if channel in self.channels:
            self._needed.add(channel)
        self._tell()

    def ended(self, channels: Iterable[str]) -> None:
        """Update the bus."""
        self._tell()

    def strayed(self, channel: str) -> None:
        """Reconnect: all of its channels are in one slot."""
        self.cut()

    def _tell(self) -> None:
        self._has_changed.set()
        self._bus.listened()
