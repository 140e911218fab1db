"""What a feature may hear of the life of sessions, and what it has to work with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.solo import Solo
from primacron.receipts import REFUSED, Receipt
from primacron.routing.router import Router
from primacron.sessions.feature import FeatureState
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session


class Feature:
    """A feature, one for each node; by itself it does nothing at all of this."""

    #: What it is called among the nodes.
    name: ClassVar[str]
    #: What it keeps with sessions, if anything.
    state: ClassVar[type[FeatureState] | None] = None
    #: Whether it has a set with each session, of the kind of its name; see :class:`primacron.cluster.sets.Sets`.
    has_sets: ClassVar[bool] = False

    def __init__(
        self, hub: Hub, router: Router, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._hub = hub
        self._router = router
        self._cluster = cluster
        self._run = run

    def asked(self, session: Session, body: msgspec.Raw) -> Coroutine[Any, Any, Receipt]:
        """Do what another node asks of a session of this one; see :meth:`Router.ask`."""
        return _refuse()

    # The life of sessions

    def opened(self, session: Session, stored: Sequence[bytes]) -> None:
        """Hear of a new session, with what its set has."""

    def arrived(self, session: Session) -> None:
        """Hear of a session that has come from another node, with its state."""

    def left(self, session: Session) -> None:
        """Hear that a session is on another node now."""

    def ended(self, session: Session) -> None:
        """Hear that a session has ended."""

    # What only the registry can tell

    def restored(self, session: Session) -> None:
        """Hear that the registry had lost a session and has it again."""

    def replaced(self, session: Session) -> None:
        """Hear that a session has ended, since somebody else has claimed its name."""

    def emptied(self) -> None:
        """Hear that the registry may have lost everything."""


async def _refuse() -> Receipt:
    return REFUSED
