"""The cluster of a node that has no others."""

from __future__ import annotations

from typing import Final


class Solo:
    """One node: whatever is asked of its cluster it answers at once, and nothing is packed or numbered."""

    #: Who finds the sessions of this process, as people are told.
    reach: Final = "no Redis, so only this process finds its sessions"

    def __init__(self) -> None:
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
