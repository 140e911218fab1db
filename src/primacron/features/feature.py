"""The contract of features: hooks into the lifecycle of sessions, and what a feature is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.solo import Solo
from primacron.ids import NodeId
from primacron.protocol.close_reasons import CloseReason
from primacron.receipts import REFUSED, Receipt
from primacron.routing.router import Router
from primacron.sessions.feature_state import FeatureState
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session


class Feature:
    """A feature, with one instance per node; the default hooks do nothing."""

    #: Its name; the same on all nodes.
    name: ClassVar[str]
    #: The type of its state with each session, if it has any.
    state: ClassVar[type[FeatureState] | None] = None
    #: Whether it keeps a set for each session, whose kind is its name; see :class:`primacron.cluster.sets.Sets`.
    has_sets: ClassVar[bool] = False

    def __init__(
        self, hub: Hub, router: Router, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._hub = hub
        self._router = router
        self._cluster = cluster
        self._run = run

    def asked(self, session: Session, body: msgspec.Raw) -> Coroutine[Any, Any, Receipt]:
        """Handle a request from another node for a session on this one; see :meth:`Router.ask`."""
        return _refuse()

    # Lifecycle of sessions

    def opened(self, session: Session, stored: Sequence[bytes]) -> None:
        """Handle a new session; ``stored`` are the members of its set."""

    async def expected(self, packed: msgspec.Raw, source: NodeId) -> None:
        """Prepare for a session that is being handed off from another node, with this state; must not take long."""

    def arrived(self, session: Session) -> None:
        """Handle a session that was handed off to this node, with its state restored."""

    def left(self, session: Session) -> None:
        """Handle a session that has moved to another node."""

    def ended(self, session: Session, reason: CloseReason) -> None:
        """Handle the end of a session, and why it has ended."""

    # Changes in the registry

    def restored(self, session: Session) -> None:
        """Handle a session whose lost entry has been written to the registry again."""

    def replaced(self, session: Session) -> None:
        """Handle a session that has ended because another claim has replaced it."""

    def emptied(self) -> None:
        """Handle a registry that may have lost all of its contents."""


async def _refuse() -> Receipt:
    return REFUSED
