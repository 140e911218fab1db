"""
The lifecycle of a session, as a table.

A session's state is separate from that of its connection. Code that delivers to a session
checks that its state is in ``DELIVERABLE``: only then does it have a connection on this node.
"""

from __future__ import annotations

from typing import Final

from primacron.protocol.engine import Symbol


class State(Symbol):
    """The state of a session, as this node knows it."""

    DETACHED = "no connection carries it yet"
    OPEN = "a connection carries it here"
    QUIESCED = "the same, and no further handler starts: it may go to another node"
    FROZEN = "its snapshot is on its way to another node, and nothing is delivered here"
    MOVED = "another node has it"
    ENDED = "it has ended"


class Change(Symbol):
    """An event in the lifecycle of a session."""

    ATTACH = "a connection carries it from now on"
    QUIESCE = "another node, to which a websocket of its client came, asks for calm"
    RELEASE = "it stays here after all"
    FREEZE = "the other node asks for it"
    HAND_OFF = "the other node says that it has it"
    CLOSE = "its connection has ended, or another claim has its name"


# Pairs that are not listed change nothing. docs/topics/states shows this table as a diagram.
CHANGES: Final[dict[tuple[State, Change], State]] = {
    (State.DETACHED, Change.ATTACH): State.OPEN,
    (State.DETACHED, Change.CLOSE): State.ENDED,
    (State.OPEN, Change.QUIESCE): State.QUIESCED,
    (State.OPEN, Change.CLOSE): State.ENDED,
    (State.QUIESCED, Change.RELEASE): State.OPEN,
    (State.QUIESCED, Change.FREEZE): State.FROZEN,
    (State.QUIESCED, Change.CLOSE): State.ENDED,
    (State.FROZEN, Change.HAND_OFF): State.MOVED,
    (State.FROZEN, Change.CLOSE): State.ENDED,
}

#: The states in which a session has a connection on this node.
DELIVERABLE: Final = frozenset({State.OPEN, State.QUIESCED})


# Typed when compiled; looked up twice per session.
_CHANGES = CHANGES


def change(state: State, event: Change) -> State:
    """Return the state that follows an event."""
    return _CHANGES.get((state, event), state)
