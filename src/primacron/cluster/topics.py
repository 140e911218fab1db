"""
The contract of topics: messages to whoever has subscribed to a name.

A node hears as many topics as it likes, and pays for none that it does not hear. They
stand beside the bus, whose channels every node has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from primacron.ids import NodeId

#: Called with the topic and the body of each message; it must not raise.
HearTopic: TypeAlias = Callable[[str, bytes], None]
#: Called with a topic that is heard from now on (True), or not any more (False); it must not raise.
TopicChanged: TypeAlias = Callable[[str, bool], None]


class Topics(ABC):
    """
    Messages by topic: at most once, in order from one node on one topic.

    A subscription that was lost is made anew by itself, within three probes and a
    second. In between messages are lost, which is told: ``changed`` says False for each
    topic that is not heard, and True when it is heard again.
    """

    @abstractmethod
    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """Begin; nothing is subscribed to yet."""

    @abstractmethod
    async def leave(self) -> None:
        """Hear nothing any more, without a word."""

    @abstractmethod
    def subscribe(self, topic: str) -> None:
        """Hear a topic as soon as that can be had; what a tick subscribes to goes out together."""

    @abstractmethod
    def unsubscribe(self, topic: str) -> None:
        """Hear a topic no longer."""

    @abstractmethod
    def hears(self, topic: str) -> bool:
        """Tell whether what is published on a topic from now on is heard."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether all is heard that is subscribed to."""

    @abstractmethod
    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """
        Send to the nodes that hear a topic, this one included; in the order of the calls.

        Returns the future number of nodes that it was handed to;
        ``BackendUnavailable`` if it is not known whether it was sent.
        """
