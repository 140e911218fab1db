"""What the cases of all subjects run on and use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from primacron.cluster.backend import Backend
from primacron.cluster.registry import Lease, Registry, Renewal
from primacron.cluster.sets import Sets
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

#: Seconds anything may take.
DEADLINE: Final = 5.0
KEY: Final = b"k" * 32

ANN: Final = AccountId("ann")
ONE: Final = SessionId("one")
TWO: Final = SessionId("two")
SID: Final = Sid("sid-1")
OTHER_SID: Final = Sid("sid-2")
#: Kinds of session sets.
KIND: Final = "one kind"
OTHER_KIND: Final = "two"


class Ground:
    """What a case runs on: backends on one store, which are closed afterwards."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._open_ones: list[Backend] = []

    def backend(self) -> Backend:
        """Return the backend of another node."""
        backend = self._open()
        backend.registry.kinds = (KIND, OTHER_KIND)
        self._open_ones.append(backend)
        return backend

    @property
    def registry(self) -> Registry:
        """The registry of another node."""
        return self.backend().registry

    @property
    def sets(self) -> Sets:
        """The sets of another node."""
        return self.backend().sets

    async def close(self) -> None:
        """Close all backends."""
        for backend in self._open_ones:
            await backend.bus.leave()
            await backend.topics.leave()
            await backend.close()


Case: TypeAlias = Callable[[Ground], Awaitable[None]]


def adding_to(cases: list[Case]) -> Callable[[Case], Case]:
    """Return a decorator that adds a case to the suite of its subject."""

    def case(function: Case) -> Case:
        async def run(ground: Ground) -> None:
            try:
                async with asyncio.timeout(6 * DEADLINE):
                    await function(ground)
            finally:
                await ground.close()

        run.__name__ = getattr(function, "__name__", "case")
        run.__doc__ = function.__doc__
        cases.append(run)
        return run

    return case


async def renew(registry: Registry, node: str, *, seconds: float = 30.0, lease: Lease | None = None) -> Renewal:
    """Renew a lease."""
    return await registry.renew(NodeId(node), lease or Lease(hint=f"hint-{node}"), seconds, [], KEY)


async def find(registry: Registry, name: Name) -> Entry | None:
    """Return the entry of a session."""
    return (await registry.find(name[0], [name[1]]))[0]
