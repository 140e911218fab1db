"""The cluster of a node that is alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from primacron.cluster.memory import MemorySets, Shared

P = ParamSpec("P")
T = TypeVar("T")


class Solo:
    """A cluster of one node, which answers immediately and encodes nothing."""

    #: Who can find the sessions of this process, for people to read.
    reach: Final = "no Redis, so only this process finds its sessions"

    def __init__(self, clock: Callable[[], float], keep: float) -> None:
        self.link = SoloLink()
        self.sets = MemorySets(Shared(clock), keep)
        #: Never called: the link is never lost.
        self.on_back: list[Callable[[], None]] = []
        self.address = ""

    async def meet(self) -> bool:
        """There are no others to discover."""
        return True

    async def leave(self) -> None:
        """There is nothing to leave."""

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
