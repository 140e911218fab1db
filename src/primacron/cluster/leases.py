"""Which nodes live: read with each renewal, counted down in between."""

from __future__ import annotations

from collections.abc import Mapping

from primacron.cluster.base import Lease
from primacron.ids import NodeId


class Leases:
    """
    The leases of all nodes, as last read.

    Times are on the clock of the event loop, in seconds.
    """

    def __init__(self) -> None:
        self._leases: dict[NodeId, tuple[Lease, float]] = {}
        self._hints: dict[str, NodeId] = {}
        self._alive: set[NodeId] = set()
        self._deaf: set[NodeId] = set()

    def read(self, rows: Mapping[NodeId, tuple[Lease, float]], now: float) -> set[NodeId]:
        """Take what a renewal returned; return the nodes that did hear before, and say now that they do not."""
        self._leases = {node: (lease, now + left) for node, (lease, left) in rows.items()}
        self._hints = {lease.hint: node for node, (lease, _) in rows.items() if lease.hint}
        self._alive |= self.living(now)
        deaf = {node for node, (lease, _) in rows.items() if lease.deaf}
        deafened, self._deaf = deaf - self._deaf, deaf
        return deafened

    def fallen(self, now: float) -> set[NodeId]:
        """Return the nodes that lived when this was last asked and do not any more."""
        living = self.living(now)
        fallen, self._alive = self._alive - living, living
        return fallen

    def living(self, now: float) -> set[NodeId]:
        """Return the nodes whose lease lives."""
        return {node for node, (_, ends) in self._leases.items() if ends > now}

    def ended(self, now: float, *, before: float = 0.0) -> set[NodeId]:
        """Return the nodes whose lease ended longer ago than ``before`` seconds."""
        return {node for node, (_, ends) in self._leases.items() if ends + before <= now}

    def get(self, node: NodeId, now: float) -> Lease | None:
        """Return the lease of a node that lives."""
        found = self._leases.get(node)
        return found[0] if found is not None and found[1] > now else None

    def knows(self, node: NodeId) -> bool:
        """Tell whether a node has a lease, also an ended one."""
        return node in self._leases

    def by_hint(self, hint: str, now: float) -> NodeId | None:
        """Return the living node whose sids begin with the hint."""
        node = self._hints.get(hint)
        return node if node is not None and self.get(node, now) is not None else None

    def all_complete(self, epoch: str, now: float) -> bool:
        """Tell whether every living node has written all of its entries in an epoch."""
        return all(epoch in lease.complete for lease, ends in self._leases.values() if ends > now)

    def __len__(self) -> int:
        return len(self._leases)
