"""Which nodes live: read with each renewal, counted down in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from primacron.cluster.base import Lease
from primacron.ids import NodeId

#: Seconds by which the backend's clock may step aside from ours between two renewals; more is a jump.
MAX_STEP: Final = 0.5
#: Seconds within which two ends of a lease are the same.
_SAME: Final = 0.0005


class BackendClock:
    """
    The backend's clock, compared with ours.

    Leases end by the backend's clock: when that jumps, they end too early or too
    late for all who read them.
    """

    def __init__(self) -> None:
        #: By how many seconds it is ahead of ours, at least and at most: a reading takes its time.
        self._ahead: tuple[float, float] | None = None

    def has_jumped(self, time: float, asked: float, answered: float) -> bool:
        """Take a reading of it that was asked for and answered at two times of ours; tell whether it has jumped."""
        ahead, before = (time - answered, time - asked), self._ahead
        if before is None:
            self._ahead = ahead
            return False
        has_jumped = ahead[0] - before[1] > MAX_STEP or before[0] - ahead[1] > MAX_STEP
        # A reading that took long tells little: the one before goes on being compared with.
        if has_jumped or answered - asked <= MAX_STEP:
            self._ahead = ahead
        return has_jumped


class _Known(NamedTuple):
    """A lease, its end on our clock, and that on the backend's."""

    lease: Lease
    ends: float
    mark: float


class Leases:
    """
    The leases of all nodes, as last read.

    Times are on the clock of the event loop, in seconds.
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
        Take what a renewal returned; return the nodes that did hear before, and say now that they do not.

        ``ahead`` tells by how many seconds the backend's clock is ahead of ours.
        With ``keeps`` a lease that is not there any more counts down to its end: it
        was lost, and its node had no time to write it again.
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
        """Tell when a lease ends, whatever the backend's clock did since it was renewed."""
        mark = now + ahead + left
        ends = now + (min(left, lease.lasts) if lease.lasts else left)
        before = self._leases.get(node)
        if before is not None and abs(mark - before.mark) <= _SAME:
            ends = before.ends  # not renewed: it goes on counting down
        elif before is not None and mark > before.mark:
            ends = max(ends, before.ends)
        return _Known(lease, ends, mark)

    def fallen(self, now: float) -> set[NodeId]:
        """Return the nodes that lived when this was last asked and do not any more."""
        living = self.living(now)
        fallen, self._alive = self._alive - living, living
        return fallen

    def living(self, now: float) -> set[NodeId]:
        """Return the nodes whose lease lives."""
        return {node for node, each in self._leases.items() if each.ends > now}

    def attending(self, now: float) -> set[NodeId]:
        """Return the living nodes that are to hear what is sent to all."""
        return {node for node, each in self._leases.items() if each.ends > now and each.lease.attends}

    def stuck(self, now: float) -> set[NodeId]:
        """Return the living nodes whose event loop is late."""
        return {node for node, each in self._leases.items() if each.lease.stuck and each.ends > now}

    def ended(self, now: float, *, before: float = 0.0) -> set[NodeId]:
        """Return the nodes whose lease ended longer ago than ``before`` seconds."""
        return {node for node, each in self._leases.items() if each.ends + before <= now}

    def get(self, node: NodeId, now: float) -> Lease | None:
        """Return the lease of a node that lives."""
        found = self._leases.get(node)
        return found.lease if found is not None and found.ends > now else None

    def knows(self, node: NodeId) -> bool:
        """Tell whether a node has a lease, also an ended one."""
        return node in self._leases

    def by_hint(self, hint: str, now: float) -> NodeId | None:
        """Return the living node whose sids begin with the hint."""
        node = self._hints.get(hint)
        return node if node is not None and self.get(node, now) is not None else None

    def all_complete(self, epoch: str, now: float, *, apart: NodeId | None = None) -> bool:
        """Tell whether every living node, but for one, has written all of its entries in an epoch."""
        return all(
            epoch in each.lease.complete for node, each in self._leases.items() if each.ends > now and node != apart
        )

    def __len__(self) -> int:
        return len(self._leases)
