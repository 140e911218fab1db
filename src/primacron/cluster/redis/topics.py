"""Topics on Redis: Pub/Sub on a single connection, or in a Redis Cluster on one per primary."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.redis.client import RedisClient
from primacron.cluster.redis.keys import Keys
from primacron.cluster.redis.pipeline import CommandPipeline
from primacron.cluster.redis.reader import RETRY, ChannelReader
from primacron.cluster.topics import HearTopic, TopicChanged, Topics
from primacron.ids import NodeId

#: The message that a connection reads back as a probe.
_PROBE = b"probe"


class RedisTopics(Topics):
    """Topics on Redis Pub/Sub; ``probe`` is the number of seconds between probes of a connection."""

    def __init__(self, client: RedisClient, keys: Keys, probe: float) -> None:
        self.client = client
        self.keys = keys
        self.probe = probe
        self.node = NodeId("")
        self._pipeline = CommandPipeline(client.execute)
        self._hear: HearTopic = lambda _topic, _body: None
        self._changed: TopicChanged = lambda _topic, _heard: None
        #: The subscriptions: the topic of each channel, and the connection for each, once it is known.
        self._wanted: dict[str, str] = {}
        self._readers: dict[str, TopicReader] = {}
        self._reader_of: dict[str, TopicReader] = {}
        #: Channels whose server is not known yet, and whether the map of servers may be out of date.
        self._unplaced: dict[str, None] = {}
        self._is_stale = True
        self._has_work = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """Start the task that assigns channels to connections."""
        self.node = node
        self._hear = hear
        self._changed = changed
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def leave(self) -> None:
        """Close all connections; unsent messages fail."""
        self._hear, self._changed = lambda _topic, _body: None, lambda _topic, _heard: None
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._pipeline.close()

    def subscribe(self, topic: str) -> None:
        """Queue a channel for assignment to a connection."""
        channel = self.keys.topic(topic)
        if channel not in self._wanted:
            self._wanted[channel] = topic
            self.place(channel)

    def unsubscribe(self, topic: str) -> None:
        """Drop a channel from its connection."""
        channel = self.keys.topic(topic)
        self._wanted.pop(channel, None)
        self._unplaced.pop(channel, None)
        reader = self._reader_of.pop(channel, None)
        if reader is not None:
            reader.drop(channel)

    def hears(self, topic: str) -> bool:
        """Tell whether Redis has confirmed the subscription to a topic."""
        return self._is_heard(self.keys.topic(topic))

    def _is_heard(self, channel: str) -> bool:
        reader = self._reader_of.get(channel)
        return reader is not None and channel in reader.confirmed

    @property
    def is_complete(self) -> bool:
        """Whether Redis has confirmed every subscription."""
        return not self._unplaced and all(map(self._is_heard, self._wanted))

    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """Queue a message for a topic; the future gives the number of subscribers that it reached."""
        return self._pipeline.submit(self.client.publish, self.keys.topic(topic), body, size=len(body))

    def submit(self, *command: object) -> asyncio.Future[object]:
        """Queue any other command behind the messages."""
        return self._pipeline.submit(*command)

    # Called by the connections

    def hear(self, channel: str, body: bytes) -> None:
        """Deliver a message from a channel."""
        topic = self._wanted.get(channel)
        if topic is not None:
            self._hear(topic, body)

    def changed(self, channel: str, *, heard: bool) -> None:
        """Report that a topic's channel is received, or no longer."""
        topic = self._wanted.get(channel)
        if topic is not None:
            self._changed(topic, heard)

    def place(self, channel: str, *, is_stale: bool = False) -> None:
        """Find the server that has a channel and subscribe there; ``is_stale`` if the channel has moved."""
        self._unplaced[channel] = None
        self._is_stale = self._is_stale or is_stale
        self._has_work.set()

    # Assigning channels to servers

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._has_work.wait()
                self._has_work.clear()
                try:
                    await self._place_all(group)
                except BackendUnavailable:
                    await asyncio.sleep(RETRY[1])
                    self._has_work.set()

    async def _place_all(self, group: asyncio.TaskGroup) -> None:
        """Assign channels to the connections of their servers; those without a known server are retried."""
        if self._is_stale:
            await self.client.refresh()
            self._is_stale = False
        by_server: dict[str, list[str]] = {}
        for channel in self._unplaced:
            by_server.setdefault(self.client.server_of(channel), []).append(channel)
        for server, channels in by_server.items():
            reader = self._readers.get(server)
            if reader is None:
                if not server:
                    continue
                reader = self._begin(group, server)
            for channel in channels:
                del self._unplaced[channel]
                self._reader_of[channel] = reader
            reader.want(*channels)
            for channel in channels:
                if channel in reader.confirmed:  # dropped and wanted again before Redis was told
                    self.changed(channel, heard=True)
        if self._unplaced:
            self._is_stale = True
            raise BackendUnavailable("no server has this slot")

    def _begin(self, group: asyncio.TaskGroup, server: str) -> TopicReader:
        reader = self._readers[server] = TopicReader(self, server)
        group.create_task(reader.run())
        group.create_task(reader.watch())
        return reader


class TopicReader(ChannelReader):
    """The connection to one server, for its topics."""

    def __init__(self, topics: RedisTopics, server: str) -> None:
        super().__init__(topics.client, topics.submit, (), "", _PROBE, topics.probe)
        self._topics = topics
        self._server = server

    async def prepare(self) -> None:
        """
        Hand over channels that have moved to another server, and choose a channel to probe.

        Raises:
            BackendUnavailable: if it cannot be determined which server has which channel.

        """
        await self.client.refresh()
        await self.client.tags()
        self.channels.pop(self.probed, None)
        for channel in tuple(self.channels):
            if self.client.server_of(channel) != self._server:
                self.drop(channel)
                self._topics.place(channel)
        if self.channels:
            tag = await self.client.tag_of(next(iter(self.channels)))
            self.probed = self._topics.keys.topic_probe(tag, self._topics.node)
            self.want(self.probed)

    def hear(self, channel: bytes, body: bytes) -> None:
        """Pass the message on."""
        self._topics.hear(channel.decode(), body)

    def began(self, channel: str) -> None:
        """Report that the topic is received."""
        self._topics.changed(channel, heard=True)

    def ended(self, channels: Iterable[str]) -> None:
        """Report that the topics are no longer received."""
        for channel in channels:
            self._topics.changed(channel, heard=False)

    def strayed(self, channel: str) -> None:
        """Assign the channel afresh, or reconnect if it is the probed one."""
        if channel == self.probed:
            self.cut()
        else:
            self.drop(channel)
            self._topics.place(channel, is_stale=True)
