"""The cluster of a node that has no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from primacron.cluster.memory import MemorySets, Shared

P = ParamSpec("P")
T = TypeVar("T")


class Solo:
    """One node: whatever is asked of its cluster it answers at once, and nothing is packed or numbered."""

    #: Who finds the sessions of this process, as people are told.
    reach: Final = "no Redis, so only this process finds its sessions"

    def __init__(self, clock: Callable[[], float], keep: float) -> None:
        self.link = SoloLink()
        self.sets = MemorySets(Shared(clock), keep)
        #: Called when the link is up again, which is never lost.
        self.on_back: list[Callable[[], None]] = []
        self.address = ""

    async def meet(self) -> bool:
        """See :meth:`Cluster.meet`."""
        return True

    async def leave(self) -> None:
        """See :meth:`Cluster.leave`."""

    def why_unready(self) -> str | None:
        """See :meth:`Cluster.why_unready`."""
        return None

    def details(self) -> dict[str, object]:
        """See :meth:`Cluster.details`."""
        return {}


class SoloLink:
    """The way to a backend that is always there."""

    is_reachable: Final = True

    async def ask(self, method: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs) -> T:
        """See :meth:`Link.ask`."""
        return await method(*args, **keywords)
