"""
The life of a session, as a table.

A session has a state of its own beside that of its connection. Whoever delivers asks
whether the state is in ``DELIVERABLE``: only then does the session have a connection here.
"""

from __future__ import annotations

from typing import Final

from primacron.protocol.engine import Symbol


class State(Symbol):
    """Where a session stands, as this node knows it."""

    DETACHED = "no connection carries it yet"
    OPEN = "a connection carries it here"
    QUIESCED = "the same, and no further handler starts: it may go to another node"
    FROZEN = "its snapshot is on its way to another node, and nothing is delivered here"
    MOVED = "another node has it"
    ENDED = "it has ended"


class Change(Symbol):
    """What can happen to a session."""

    ATTACH = "a connection carries it from now on"
    QUIESCE = "another node, to which a websocket of its client came, asks for calm"
    RELEASE = "it stays here after all"
    FREEZE = "the other node asks for it"
    HAND_OFF = "the other node says that it has it"
    CLOSE = "its connection has ended, or another claim has its name"


# What is not here changes nothing; docs/topics/states draws it.
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

#: Where a session has a connection here.
DELIVERABLE: Final = frozenset({State.OPEN, State.QUIESCED})


def change(state: State, event: Change) -> State:
    """Return the state after the event."""
    return CHANGES.get((state, event), state)
