"""
Feature-specific state of a session.

A feature that needs to store something with a session defines a *state*: an object created
on first use, so that it costs nothing for other sessions, and handed off with the session.
A node that does not know a feature passes its packed state on unchanged.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import msgspec

from primacron.ids import NodeId


class FeatureState(Protocol):
    """The state that one feature keeps for one session; created without arguments."""

    #: Its key among the states of a session; the same on all nodes.
    name: ClassVar[str]

    def dump(self, node: NodeId, now: float) -> Any:
        """Return the state for a snapshot, in types that MessagePack supports; None if it is empty."""

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """
        Restore the state from another node's snapshot; ``now`` is the event loop's time.

        Raises:
            ValueError: if the packed state is malformed.

        """
