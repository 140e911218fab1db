"""The cluster of a node that is alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.kept import Published, unpack_published
from primacron.cluster.memory import MemoryLists, MemorySets, MemoryTopics, Shared
from primacron.cluster.topics import TopicChanged
from primacron.ids import NodeId

P = ParamSpec("P")
T = TypeVar("T")


class Solo:
    """A cluster of one node, which answers immediately and encodes nothing."""

    #: Who can find the sessions of this process, for people to read.
    reach: Final = "no Redis, so only this process finds its sessions"

    def __init__(self, clock: Callable[[], float], keep: float) -> None:
        self.link = SoloLink()
        shared = Shared(clock)
        self.sets = MemorySets(shared, keep)
        self.topics = MemoryTopics(shared)
        self.lists = MemoryLists(shared, self.topics)
        #: Called with each topic that is now received (True), or no longer (False).
        self.on_topic: list[TopicChanged] = []
        #: Called with the topic of a list, and what was appended to it.
        self.on_published: list[Callable[[str, Published], None]] = []
        #: Never called: the link is never lost.
        self.on_back: list[Callable[[], None]] = []
        self.address = ""

    async def join(self) -> None:
        """Start receiving topics."""
        await self.topics.join(NodeId(""), self._hear, self._topic_changed)

    def _hear(self, topic: str, body: bytes) -> None:
        # Only lists publish anything, as there are no other nodes.
        for function in self.on_published:
            function(topic, unpack_published(body))

    def _topic_changed(self, topic: str, heard: bool) -> None:
        for function in self.on_topic:
            function(topic, heard)

    async def meet(self) -> bool:
        """There are no others to discover."""
        return True

    async def leave(self) -> None:
        """Stop receiving topics."""
        await self.topics.leave()

    def why_unready(self) -> str | None:
        """Return None: there is no link that could be down."""
        return None

    def details(self) -> dict[str, object]:
        """Return nothing: there are no other servers."""
        return {}


class SoloLink:
    """The link to a backend that is always available."""

    is_reachable: Final = True

    async def ask(self, method: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs) -> T:
        """Call the method."""
        return await method(*args, **keywords)

    def failed(self, error: BackendUnavailable) -> None:
        """Take a failure, which memory does not have."""
