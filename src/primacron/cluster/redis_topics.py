"""Topics on Redis: Pub/Sub with one connection for all of them, on a Redis Cluster one for each primary."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.keys import Keys
from primacron.cluster.lane import Lane
from primacron.cluster.redis_client import RedisClient
from primacron.cluster.redis_reader import RETRY, ChannelReader
from primacron.cluster.topics import HearTopic, TopicChanged, Topics
from primacron.ids import NodeId

#: What a connection reads back to know that it hears.
_PROBE = b"probe"


class RedisTopics(Topics):
    """See :class:`Topics`; ``probe`` is the seconds between two probes of a connection."""

    def __init__(self, client: RedisClient, keys: Keys, probe: float) -> None:
        self.client = client
        self.keys = keys
        self.probe = probe
        self.node = NodeId("")
        self._lane = Lane(client.execute)
        self._hear: HearTopic = lambda _topic, _body: None
        self._changed: TopicChanged = lambda _topic, _heard: None
        #: What is subscribed to, by channel, with the connection that is to have it, as soon as that is known.
        self._wanted: dict[str, str] = {}
        self._readers: dict[str, TopicReader] = {}
        self._reader_of: dict[str, TopicReader] = {}
        #: Channels of which it is to be found out which server has them, and whether the servers may have changed.
        self._unplaced: dict[str, None] = {}
        self._is_stale = True
        self._has_work = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """See :meth:`Topics.join`."""
        self.node = node
        self._hear = hear
        self._changed = changed
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def leave(self) -> None:
        """See :meth:`Topics.leave`."""
        self._hear, self._changed = lambda _topic, _body: None, lambda _topic, _heard: None
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._lane.close()

    def subscribe(self, topic: str) -> None:
        """See :meth:`Topics.subscribe`."""
        channel = self.keys.topic(topic)
        if channel not in self._wanted:
            self._wanted[channel] = topic
            self.place(channel)

    def unsubscribe(self, topic: str) -> None:
        """See :meth:`Topics.unsubscribe`."""
        channel = self.keys.topic(topic)
        self._wanted.pop(channel, None)
        self._unplaced.pop(channel, None)
        reader = self._reader_of.pop(channel, None)
        if reader is not None:
            reader.drop(channel)

    def hears(self, topic: str) -> bool:
        """See :meth:`Topics.hears`."""
        return self._is_heard(self.keys.topic(topic))

    def _is_heard(self, channel: str) -> bool:
        reader = self._reader_of.get(channel)
        return reader is not None and channel in reader.confirmed

    @property
    def is_complete(self) -> bool:
        """See :attr:`Topics.is_complete`."""
        return not self._unplaced and all(map(self._is_heard, self._wanted))

    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """See :meth:`Topics.publish`."""
        return self._lane.submit(self.client.publish, self.keys.topic(topic), body, size=len(body))

    def submit(self, *command: object) -> asyncio.Future[object]:
        """Run a command on the way that messages take."""
        return self._lane.submit(*command)

    # For the connections

    def hear(self, channel: str, body: bytes) -> None:
        """Take a message that came on a channel."""
        topic = self._wanted.get(channel)
        if topic is not None:
            self._hear(topic, body)

    def changed(self, channel: str, *, heard: bool) -> None:
        """Hear that a channel is heard, or not any more."""
        topic = self._wanted.get(channel)
        if topic is not None:
            self._changed(topic, heard)

    def place(self, channel: str, *, is_stale: bool = False) -> None:
        """Find out which server has a channel, and subscribe to it there; ``is_stale`` if it is another one by now."""
        self._unplaced[channel] = None
        self._is_stale = self._is_stale or is_stale
        self._has_work.set()

    # Which server has what

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
        """Hand channels to the connections to their servers; those of one that is away are left for later."""
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
                if channel in reader.confirmed:  # given up and wanted again before Redis was told
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
        """See :meth:`ChannelReader.prepare`: what another server has by now is subscribed to there."""
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
        """See :meth:`ChannelReader.hear`."""
        self._topics.hear(channel.decode(), body)

    def began(self, channel: str) -> None:
        """See :meth:`ChannelReader.began`."""
        self._topics.changed(channel, heard=True)

    def ended(self, channels: Iterable[str]) -> None:
        """See :meth:`ChannelReader.ended`."""
        for channel in channels:
            self._topics.changed(channel, heard=False)

    def strayed(self, channel: str) -> None:
        """See :meth:`ChannelReader.strayed`."""
        if channel == self.probed:
            self.cut()
        else:
            self.drop(channel)
            self._topics.place(channel, is_stale=True)
