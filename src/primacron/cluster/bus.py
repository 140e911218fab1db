"""The contract of the bus: messages between nodes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from primacron.ids import NodeId

#: Called with the body of each message from the bus; must not raise.
Hear: TypeAlias = Callable[[bytes], None]


class Bus(ABC):
    """
    Messages between nodes: at most once, and in order from one node to another.

    ``hearing`` tells whether messages arrive. A bus must detect by itself when they do
    not, within three probes, and recover by itself.
    """

    hearing: bool
    #: Whether this node receives what is published to all.
    attends: bool
    #: Whether messages to a node and messages to all reach it in the order in which they were published.
    keeps_order: bool

    @abstractmethod
    async def join(self, node: NodeId, hear: Hear, changed: Callable[[bool], None]) -> None:
        """Deliver a node's messages to ``hear``; ``changed`` is called whenever ``hearing`` changes."""

    @abstractmethod
    async def leave(self) -> None:
        """Stop receiving."""

    @abstractmethod
    def want(self) -> None:
        """Receive what is published to all, as soon as possible."""

    @abstractmethod
    async def attend(self) -> None:
        """
        Receive what is published to all, from the moment that this returns.

        Raises:
            BackendUnavailable: if that is not possible now; it happens as soon as it is.

        """

    @abstractmethod
    def quit(self) -> None:
        """Stop receiving what is published to all."""

    @abstractmethod
    def publish(self, destination: NodeId | None, body: bytes) -> asyncio.Future[int]:
        """
        Publish to one node, or with None to all that attend, in the order of the calls.

        The future gives the number of nodes that the message was handed to, this one
        included, or raises :class:`BackendUnavailable` if it may or may not have been sent.
        """
