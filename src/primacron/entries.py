"""A session's place in the cluster, as plain data."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from primacron.ids import AccountId, NodeId, SessionId, Sid

#: A session by account and id.
Name: TypeAlias = tuple[AccountId, SessionId]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """
    One session in the registry.

    ``id`` is the session's, ``node`` holds it, ``sid`` is its connection. Claims on
    a session are ordered by ``generation``, then node: the highest is the latest.
    """

    id: SessionId
    node: NodeId
    generation: int
    sid: Sid

    @property
    def rank(self) -> tuple[int, NodeId]:
        """What claims are ordered by."""
        return self.generation, self.node

    def is_older_than(self, claim: Entry) -> bool:
        """Tell whether another claim on the same session is later than this one."""
        return self.rank < claim.rank or (self.rank == claim.rank and self.sid != claim.sid)
