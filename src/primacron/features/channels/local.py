"""The channels that have members on this node, and those that had some a moment ago."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from primacron.channels.kinds import Kind
from primacron.cluster.cluster import Cluster
from primacron.cluster.solo import Solo
from primacron.receipts import ACCEPTED, TIMED_OUT, Delivery, Receipt
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session
from primacron.wheel import Alarm

#: Seconds for which a node still hears a channel after its last member has left.
LINGER: Final = 5.0


class Channel:
    """A channel on this node."""

    __slots__ = ("ends", "kind", "members", "name", "patience", "waiting")

    def __init__(self, name: str, kind: Kind | None) -> None:
        self.name = name
        #: None for a room.
        self.kind = kind
        self.members: set[Session] = set()
        #: Deliveries of joins that are done once this node hears the channel.
        self.waiting: list[Delivery[Receipt]] = []
        #: When these are over, heard or not.
        self.patience: Alarm | None = None
        #: When it is dropped for lack of members.
        self.ends: Alarm | None = None

    @property
    def is_remembered(self) -> bool:
        """Whether there is something to remember of each member."""
        return self.kind is not None and (self.kind.presence or self.kind.history > 0)


class LocalChannels:
    """The channels of this node, and its subscriptions to their topics."""

    def __init__(self, hub: Hub, cluster: Cluster | Solo, kind_of: Callable[[str], Kind | None]) -> None:
        self._hub = hub
        self._kind_of = kind_of
        self._topics = cluster.topics
        self._channels: dict[str, Channel] = {}
        #: Called with a channel that this node begins to hear, and one that it hears no longer.
        self.on_heard: list[Callable[[Channel], None]] = []
        self.on_lost: list[Callable[[Channel], None]] = []
        #: Each tells whether a channel has to be heard although it has no members.
        self.needed_by: list[Callable[[Channel], bool]] = []
        #: Called with a channel that this node is about to hear, and one to which it has ceased to subscribe.
        self.on_added: list[Callable[[Channel], None]] = []
        self.on_dropped: list[Callable[[Channel], None]] = []
        cluster.on_topic.append(self._changed)

    def __contains__(self, name: str) -> bool:
        return name in self._channels

    def get(self, name: str) -> Channel | None:
        """Return a channel that this node has subscribed to."""
        return self._channels.get(name)

    def demand(self, name: str) -> Channel:
        """Return a channel; subscribe to it if need be, at least for a while."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self._kind_of(name))
            self._topics.subscribe(name)
            for function in self.on_added:
                function(channel)
        if not channel.members:
            self._linger(channel)
        return channel

    def current(self, channel: Channel) -> Channel:
        """Return the channel that this node has under the name of one that it may have dropped since."""
        return channel if self._channels.get(channel.name) is channel else self.demand(channel.name)

    def add(self, session: Session, name: str) -> Channel:
        """Add a member."""
        channel = self.demand(name)
        if channel.ends is not None:
            self._hub.wheel.cancel(channel.ends)
            channel.ends = None
        channel.members.add(session)
        self._hub.groups[name] = channel.members
        return channel

    def remove(self, session: Session, name: str) -> None:
        """Remove a member."""
        channel = self._channels.get(name)
        if channel is None or session not in channel.members:
            return
        channel.members.remove(session)
        if not channel.members:
            del self._hub.groups[name]
            self._linger(channel)

    def _linger(self, channel: Channel) -> None:
        if channel.ends is not None:
            self._hub.wheel.cancel(channel.ends)
        channel.ends = self._hub.wheel.alarm(LINGER, partial(self._drop, channel))

    def _drop(self, channel: Channel) -> None:
        channel.ends = None
        if channel.waiting or any(needs(channel) for needs in self.needed_by):
            self._linger(channel)
            return
        del self._channels[channel.name]
        self._topics.unsubscribe(channel.name)
        for function in self.on_dropped:
            function(channel)

    # Hearing

    def hears(self, name: str) -> bool:
        """Tell whether this node receives what others send to a channel."""
        return self._topics.hears(name)

    def heard(self, channel: Channel) -> Delivery[Receipt]:
        """Return a delivery that is done once this node hears a channel; at most ``receipt_timeout`` seconds later."""
        if self._topics.hears(channel.name):
            return self._hub.accepted()
        delivery: Delivery[Receipt] = self._hub.delivery(requested=True)
        channel.waiting.append(delivery)
        if channel.patience is None:
            seconds = self._hub.options.receipt_timeout
            channel.patience = self._hub.wheel.alarm(seconds, partial(self._settle, channel, TIMED_OUT))
        return delivery

    def _settle(self, channel: Channel, receipt: Receipt) -> None:
        waiting, channel.waiting = channel.waiting, []
        if channel.patience is not None:
            self._hub.wheel.cancel(channel.patience)
            channel.patience = None
        for delivery in waiting:
            delivery.settle(receipt)

    def _changed(self, topic: str, heard: bool) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            return
        if heard:
            self._settle(channel, ACCEPTED)
        for function in self.on_heard if heard else self.on_lost:
            function(channel)
