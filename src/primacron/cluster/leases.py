"""Which nodes are alive: read with each renewal, counted down locally in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from primacron.cluster.registry import Lease
from primacron.ids import NodeId

#: Drift in seconds between the backend's clock and ours from one renewal to the next; anything more is a jump.
MAX_STEP: Final = 0.5
#: Expiry times that differ by less (in seconds) are considered equal.
_SAME: Final = 0.0005


class BackendClock:
    """
    Detects jumps of the backend's clock by comparing it with ours.

    Leases expire by the backend's clock: after a jump they expire too early or too
    late for every node that reads them.
    """

    def __init__(self) -> None:
        #: Bounds, in seconds, of how far it is ahead of ours: a reading takes time.
        self._ahead: tuple[float, float] | None = None

    def has_jumped(self, time: float, asked: float, answered: float) -> bool:
        """Record a reading of the backend's clock, taken between two local times; tell whether it has jumped."""
        ahead, before = (time - answered, time - asked), self._ahead
        if before is None:
            self._ahead = ahead
            return False
        has_jumped = ahead[0] - before[1] > MAX_STEP or before[0] - ahead[1] > MAX_STEP
        # A slow reading is imprecise: keep comparing with the previous one.
        if has_jumped or answered - asked <= MAX_STEP:
            self._ahead = ahead
        return has_jumped


class _Known(NamedTuple):
    """A lease and its expiry, on our clock (``ends``) and on the backend's (``mark``)."""

    lease: Lease
    ends: float
    mark: float


class Leases:
    """
    The leases of all nodes, as last read.

    Times are on the event loop's clock, in seconds.
    """

    def __init__(self) -> None:
        self._leases: dict[NodeId, _Known] = {}
        self._hints: dict[str, NodeId] = {}
        self._alive: set[NodeId] = set()
        self._deaf: set[NodeId] = set()

    def read(
        self, rows: Mapping[NodeId, tuple[Lease, float]], now: float, ahead: float = 0.0, *, keeps: bool = False
    ) -> set[NodeId]:
        """
        Store what a renewal returned; return the nodes that have newly become deaf.

        ``ahead`` is how many seconds the backend's clock is ahead of ours. With
        ``keeps``, a lease that is missing counts down to its expiry: the backend lost
        it, and its node has not had time to write it again.
        """
        known = {node: self._know(node, lease, left, now, ahead) for node, (lease, left) in rows.items()}
        if keeps:
            known = {node: each for node, each in self._leases.items() if each.ends > now} | known
        self._leases = known
        self._hints = {each.lease.hint: node for node, each in known.items() if each.lease.hint}
        self._alive |= self.living(now)
        deaf = {node for node, each in known.items() if each.lease.deaf}
        deafened, self._deaf = deaf - self._deaf, deaf
        return deafened

    def _know(self, node: NodeId, lease: Lease, left: float, now: float, ahead: float) -> _Known:
        """Compute when a lease expires, regardless of changes to the backend's clock since it was renewed."""
        mark = now + ahead + left
        ends = now + (min(left, lease.lasts) if lease.lasts else left)
        before = self._leases.get(node)
        if before is not None and abs(mark - before.mark) <= _SAME:
            ends = before.ends  # not renewed: keep counting down
        elif before is not None and mark > before.mark:
            ends = max(ends, before.ends)
        return _Known(lease, ends, mark)

    def fallen(self, now: float) -> set[NodeId]:
        """Return the nodes that were alive at the previous call and no longer are."""
        living = self.living(now)
        fallen, self._alive = self._alive - living, living
        return fallen

    def living(self, now: float) -> set[NodeId]:
        """Return the nodes whose lease is live."""
        return {node for node, each in self._leases.items() if each.ends > now}

    def attending(self, now: float) -> set[NodeId]:
        """Return the live nodes that receive what is sent to all."""
        return {node for node, each in self._leases.items() if each.ends > now and each.lease.attends}

    def rebuilt(self, now: float) -> dict[NodeId, int]:
        """Return how often each live node has lost subscriptions and has them again."""
        return {node: each.lease.rebuilt for node, each in self._leases.items() if each.ends > now}

    def stuck(self, now: float) -> set[NodeId]:
        """Return the live nodes whose event loop is blocked."""
        return {node for node, each in self._leases.items() if each.lease.stuck and each.ends > now}

    def ended(self, now: float, *, before: float = 0.0) -> set[NodeId]:
        """Return the nodes whose lease expired at least ``before`` seconds ago."""
        return {node for node, each in self._leases.items() if each.ends + before <= now}

    def get(self, node: NodeId, now: float) -> Lease | None:
        """Return the lease of a node, or None unless it is live."""
        found = self._leases.get(node)
        return found.lease if found is not None and found.ends > now else None

    def knows(self, node: NodeId) -> bool:
        """Tell whether a node has a lease, live or expired."""
        return node in self._leases

    def by_hint(self, hint: str, now: float) -> NodeId | None:
        """Return the live node whose sids begin with the hint."""
        node = self._hints.get(hint)
        return node if node is not None and self.get(node, now) is not None else None

    def all_complete(self, epoch: str, now: float, *, apart: NodeId | None = None) -> bool:
        """Tell whether every live node except ``apart`` has written all of its entries in an epoch."""
        return all(
            epoch in each.lease.complete for node, each in self._leases.items() if each.ends > now and node != apart
        )

    def __len__(self) -> int:
        return len(self._leases)
