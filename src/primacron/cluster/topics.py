"""
The contract of topics: messages to whoever has subscribed to a name.

A node may subscribe to any number of topics, and costs nothing for those to which it
does not. They exist beside the bus, whose channels every node has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from primacron.ids import NodeId

#: Called with the topic and the body of each message; must not raise.
HearTopic: TypeAlias = Callable[[str, bytes], None]
#: Called with a topic that is now received (True), or no longer (False); must not raise.
TopicChanged: TypeAlias = Callable[[str, bool], None]


class Topics(ABC):
    """
    Messages by topic: at most once, and in order from one node on one topic.

    A lost subscription is restored automatically, within three probes and a second.
    Messages published in between are lost, which is reported: ``changed`` is called with
    False for each topic that is not received, and with True once it is again.
    """

    @abstractmethod
    async def join(self, node: NodeId, hear: HearTopic, changed: TopicChanged) -> None:
        """Start, with no subscriptions."""

    @abstractmethod
    async def leave(self) -> None:
        """Stop receiving, without calling ``changed``."""

    @abstractmethod
    def subscribe(self, topic: str) -> None:
        """Receive a topic as soon as possible; the subscriptions of one tick are sent together."""

    @abstractmethod
    def unsubscribe(self, topic: str) -> None:
        """Stop receiving a topic."""

    @abstractmethod
    def hears(self, topic: str) -> bool:
        """Tell whether messages published on a topic from now on are received."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether everything that is subscribed to is received."""

    @abstractmethod
    def publish(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """
        Publish to the nodes that receive a topic, this one included, in the order of the calls.

        The future gives the number of nodes that the message was handed to, or raises
        ``BackendUnavailable`` if it may or may not have been sent.
        """
