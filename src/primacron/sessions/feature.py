"""
What features keep with a session.

A feature that needs more of a session than its core keeps a *state* with it: an object that
is made on first use, so that all others pay nothing, and that travels with the session. A
node that does not know a feature passes on what another one has packed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import msgspec

from primacron.ids import NodeId


class FeatureState(Protocol):
    """The state of one feature with one session; it is made without arguments."""

    #: Its key among the states of a session, on all nodes.
    name: ClassVar[str]

    def dump(self, node: NodeId, now: float) -> Any:
        """Return what travels from this node, in types that MessagePack has; None if there is nothing."""

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """
        Take what another node has packed; ``now`` is the time of the event loop.

        Raises:
            ValueError: if it is malformed.

        """
