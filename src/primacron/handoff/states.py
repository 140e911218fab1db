"""
The handoff of a session from its owner, the *source*, to another node, the *destination*, as state tables.

The *transfer* begins when the source freezes the session and sends a snapshot of it. The
destination claims the session's entry by compare-and-set, and owns the session once it
knows that the claim succeeded. Neither side guesses. The destination retries until the
registry tells who owns the session. The source, having handed it over, relies on the
destination's verdict alone: the registry is not conclusive, since an entry that is missing
or belongs to a third node may have been the destination's in between. Only when the
destination's lease has expired does the source turn to the registry, and it fences the
entry with a higher generation before it ends the session.

When a client upgrades to a websocket that reached the destination, a *probe* precedes the
transfer. The client is still polling, and a failed probe has no effect. The client's upgrade
packet moves each side from its probe table to its transfer table. From then on the client
has left polling, and a failed handoff ends the session.

This module does no I/O: the caller looks up the next state and carries out the action that
is paired with it. An event that a table does not list is ignored.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from primacron.cluster.registry import Outcome
from primacron.entries import Entry
from primacron.ids import NodeId

# The probe of an upgrade, at the source


class SourceProbe(Enum):
    """State of the probe at the source."""

    CALMING = "starts no further handler, and waits for the one that runs"
    CALM = "no handler runs; the destination may answer the probe"
    HANDED_OVER = "the session is frozen, and its transfer begins"
    KEPT = "the session goes on as before"
    LOST = "the session has ended"


class SourceProbeEvent(Enum):
    """Events of the probe at the source."""

    ASKED = "the destination asks for calm"
    CALMED = "the last handler has ended"
    CANCELLED = "the websocket is gone, and the client still polls"
    LEFT = "the destination lets go of a session whose client has left polling"
    EXPIRED = "the time is up"
    FETCHED = "the destination asks for the session"


class SourceProbeAction(Enum):
    """Actions of the source during the probe."""

    NOTHING = "nothing"
    SAY_CALM = "say that the destination may answer the probe"
    GO_ON = "start handlers again"
    CLOSE = "end the connection, which nobody uses any more: `transport error`"
    HAND_OVER = "take the session away from its connection, and send it"


PROBE_SOURCE: Final[dict[tuple[SourceProbe, SourceProbeEvent], tuple[SourceProbe, SourceProbeAction]]] = {
    (SourceProbe.CALMING, SourceProbeEvent.ASKED): (SourceProbe.CALMING, SourceProbeAction.NOTHING),
    (SourceProbe.CALMING, SourceProbeEvent.CALMED): (SourceProbe.CALM, SourceProbeAction.SAY_CALM),
    (SourceProbe.CALMING, SourceProbeEvent.CANCELLED): (SourceProbe.KEPT, SourceProbeAction.GO_ON),
    (SourceProbe.CALMING, SourceProbeEvent.EXPIRED): (SourceProbe.KEPT, SourceProbeAction.GO_ON),
    (SourceProbe.CALMING, SourceProbeEvent.LEFT): (SourceProbe.LOST, SourceProbeAction.CLOSE),
    (SourceProbe.CALM, SourceProbeEvent.ASKED): (SourceProbe.CALM, SourceProbeAction.SAY_CALM),
    (SourceProbe.CALM, SourceProbeEvent.CANCELLED): (SourceProbe.KEPT, SourceProbeAction.GO_ON),
    (SourceProbe.CALM, SourceProbeEvent.EXPIRED): (SourceProbe.KEPT, SourceProbeAction.GO_ON),
    (SourceProbe.CALM, SourceProbeEvent.LEFT): (SourceProbe.LOST, SourceProbeAction.CLOSE),
    (SourceProbe.CALM, SourceProbeEvent.FETCHED): (SourceProbe.HANDED_OVER, SourceProbeAction.HAND_OVER),
}


# The probe of an upgrade, at the destination


class DestinationProbe(Enum):
    """State of the probe at the destination."""

    OPEN = "the websocket is there, and nothing came by it"
    ASKING = "the probe came; the source is asked for calm"
    ALLOWED = "the probe was answered"
    UPGRADED = "the upgrade packet came, and the transfer begins"
    FAILED = "the client stays on polling, or its session has ended"


class DestinationProbeEvent(Enum):
    """Events of the probe at the destination."""

    PROBED = "the probe came"
    ALLOWED = "the source is calm"
    REFUSED = "the source has no such upgrade, or no longer"
    UPGRADED = "the upgrade packet came"
    LOST = "the websocket is gone, or broke a rule"
    EXPIRED = "the time is up"


class DestinationProbeAction(Enum):
    """Actions of the destination during the probe."""

    NOTHING = "nothing"
    ASK = "ask the source for calm"
    ANSWER = "answer the probe"
    CLOSE = "close the websocket"
    CANCEL = "close the websocket, and tell the source that it is gone"
    FETCH = "ask the source for the session"


PROBE_DESTINATION: Final[
    dict[tuple[DestinationProbe, DestinationProbeEvent], tuple[DestinationProbe, DestinationProbeAction]]
] = {
    (DestinationProbe.OPEN, DestinationProbeEvent.PROBED): (DestinationProbe.ASKING, DestinationProbeAction.ASK),
    (DestinationProbe.OPEN, DestinationProbeEvent.LOST): (DestinationProbe.FAILED, DestinationProbeAction.CLOSE),
    (DestinationProbe.OPEN, DestinationProbeEvent.EXPIRED): (DestinationProbe.FAILED, DestinationProbeAction.CLOSE),
    (DestinationProbe.ASKING, DestinationProbeEvent.PROBED): (DestinationProbe.ASKING, DestinationProbeAction.NOTHING),
    (DestinationProbe.ASKING, DestinationProbeEvent.ALLOWED): (DestinationProbe.ALLOWED, DestinationProbeAction.ANSWER),
    (DestinationProbe.ASKING, DestinationProbeEvent.REFUSED): (DestinationProbe.FAILED, DestinationProbeAction.CLOSE),
    (DestinationProbe.ASKING, DestinationProbeEvent.LOST): (DestinationProbe.FAILED, DestinationProbeAction.CANCEL),
    (DestinationProbe.ASKING, DestinationProbeEvent.EXPIRED): (DestinationProbe.FAILED, DestinationProbeAction.CANCEL),
    (DestinationProbe.ALLOWED, DestinationProbeEvent.PROBED): (DestinationProbe.ALLOWED, DestinationProbeAction.ANSWER),
    (DestinationProbe.ALLOWED, DestinationProbeEvent.ALLOWED): (
        DestinationProbe.ALLOWED,
        DestinationProbeAction.NOTHING,
    ),
    (DestinationProbe.ALLOWED, DestinationProbeEvent.UPGRADED): (
        DestinationProbe.UPGRADED,
        DestinationProbeAction.FETCH,
    ),
    # The session has ended, or the source has timed out.
    (DestinationProbe.ALLOWED, DestinationProbeEvent.REFUSED): (DestinationProbe.FAILED, DestinationProbeAction.CLOSE),
    (DestinationProbe.ALLOWED, DestinationProbeEvent.LOST): (DestinationProbe.FAILED, DestinationProbeAction.CANCEL),
    (DestinationProbe.ALLOWED, DestinationProbeEvent.EXPIRED): (DestinationProbe.FAILED, DestinationProbeAction.CANCEL),
}


# The transfer, at the source


class SourceState(Enum):
    """State of the transfer at the source."""

    FROZEN = "has handed the session over, and waits to hear who owns it"
    FENCING = "has lost the destination, and takes the entry back"
    MOVED = "the destination owns the session"
    LOST = "the session has ended"


class SourceEvent(Enum):
    """Events of the transfer at the source."""

    FETCHED = "the destination asks for the session"
    CLAIMED = "the destination says that it owns the session"
    LEFT = "the destination lets go of the session"
    BEATEN = "the destination lets go of the session, which somebody else has claimed"
    EXPIRED = "the time is up"
    GONE = "the destination's lease has ended"
    THEIRS = "the registry says that the destination owns the session"
    OURS = "the registry says that this node owns the session"
    OTHERS = "the registry says that somebody else has claimed the session"
    NOWHERE = "the registry has no entry"
    FENCED = "the entry is this node's again, with a higher generation"


class SourceAction(Enum):
    """Actions of the source during the transfer."""

    NOTHING = "nothing"
    SEND_AGAIN = "send the session once more"
    PASS_ON = "leave a tombstone, and pass on what has come meanwhile"  # noqa: S105 (no password)
    END = "end the session: `transport error`"
    END_REPLACED = "end the session: `replaced`"
    INQUIRE = "ask the destination what became of the session, until it tells"
    LOOK = "read the entry"
    REGISTER = "write the entry again, and look later"
    FENCE = "put a higher generation in the place of the own entry"


TRANSFER_SOURCE: Final[dict[tuple[SourceState, SourceEvent], tuple[SourceState, SourceAction]]] = {
    (SourceState.FROZEN, SourceEvent.FETCHED): (SourceState.FROZEN, SourceAction.SEND_AGAIN),
    (SourceState.FROZEN, SourceEvent.CLAIMED): (SourceState.MOVED, SourceAction.PASS_ON),
    (SourceState.FROZEN, SourceEvent.LEFT): (SourceState.LOST, SourceAction.END),
    (SourceState.FROZEN, SourceEvent.BEATEN): (SourceState.LOST, SourceAction.END_REPLACED),
    (SourceState.FROZEN, SourceEvent.EXPIRED): (SourceState.FROZEN, SourceAction.INQUIRE),
    (SourceState.FROZEN, SourceEvent.GONE): (SourceState.FENCING, SourceAction.LOOK),
    (SourceState.FENCING, SourceEvent.CLAIMED): (SourceState.MOVED, SourceAction.PASS_ON),
    (SourceState.FENCING, SourceEvent.LEFT): (SourceState.LOST, SourceAction.END),
    (SourceState.FENCING, SourceEvent.BEATEN): (SourceState.LOST, SourceAction.END_REPLACED),
    (SourceState.FENCING, SourceEvent.THEIRS): (SourceState.MOVED, SourceAction.PASS_ON),
    (SourceState.FENCING, SourceEvent.OURS): (SourceState.FENCING, SourceAction.FENCE),
    (SourceState.FENCING, SourceEvent.NOWHERE): (SourceState.FENCING, SourceAction.REGISTER),
    (SourceState.FENCING, SourceEvent.OTHERS): (SourceState.LOST, SourceAction.END_REPLACED),
    (SourceState.FENCING, SourceEvent.FENCED): (SourceState.LOST, SourceAction.END),
}


# The transfer, at the destination


class DestinationState(Enum):
    """State of the transfer at the destination."""

    FETCHING = "the source is asked for the session"
    CLAIMING = "the session is here, and its entry is being claimed"
    SETTLING = "the time is up before it is known who owns the session"
    OWNED = "the session is this node's"
    FAILED = "the session is not this node's"


class DestinationEvent(Enum):
    """Events of the transfer at the destination."""

    HANDED = "the session came"
    REFUSED = "the source has no such handoff"
    LOST = "the client is gone, or broke a rule"
    EXPIRED = "the time is up"
    WON = "the entry is this node's"
    BEATEN = "the entry is somebody else's"
    NOWHERE = "there is no entry"
    UNKNOWN = "the outcome of the claim is not known"


class DestinationAction(Enum):
    """Actions of the destination during the transfer."""

    NOTHING = "nothing"
    CLAIM = "claim the entry"
    CLAIM_AGAIN = "claim the entry again, some time later"
    OPEN = "open the session for its client, and tell the source"
    OPEN_ENDED = "open the session and end it: the client is gone; tell the source"
    CLOSE = "let the client go"
    LEAVE = "let the client go, and the session, and tell the source so"
    YIELD = "the same, and tell the source that somebody else has claimed it"
    LET_GO = "let the client go; keep the session until it is known whose it is"


TRANSFER_DESTINATION: Final[
    dict[tuple[DestinationState, DestinationEvent], tuple[DestinationState, DestinationAction]]
] = {
    (DestinationState.FETCHING, DestinationEvent.HANDED): (DestinationState.CLAIMING, DestinationAction.CLAIM),
    (DestinationState.FETCHING, DestinationEvent.REFUSED): (DestinationState.FAILED, DestinationAction.CLOSE),
    (DestinationState.FETCHING, DestinationEvent.LOST): (DestinationState.FAILED, DestinationAction.LEAVE),
    (DestinationState.FETCHING, DestinationEvent.EXPIRED): (DestinationState.FAILED, DestinationAction.LEAVE),
    (DestinationState.CLAIMING, DestinationEvent.HANDED): (DestinationState.CLAIMING, DestinationAction.NOTHING),
    (DestinationState.CLAIMING, DestinationEvent.WON): (DestinationState.OWNED, DestinationAction.OPEN),
    (DestinationState.CLAIMING, DestinationEvent.BEATEN): (DestinationState.FAILED, DestinationAction.YIELD),
    # The registry has lost its data, and the source will register the session again.
    (DestinationState.CLAIMING, DestinationEvent.NOWHERE): (DestinationState.CLAIMING, DestinationAction.CLAIM_AGAIN),
    (DestinationState.CLAIMING, DestinationEvent.UNKNOWN): (DestinationState.CLAIMING, DestinationAction.CLAIM_AGAIN),
    # The claim continues: whichever node owns the session has to end it.
    (DestinationState.CLAIMING, DestinationEvent.LOST): (DestinationState.SETTLING, DestinationAction.LET_GO),
    (DestinationState.CLAIMING, DestinationEvent.EXPIRED): (DestinationState.SETTLING, DestinationAction.LET_GO),
    (DestinationState.SETTLING, DestinationEvent.HANDED): (DestinationState.SETTLING, DestinationAction.NOTHING),
    (DestinationState.SETTLING, DestinationEvent.WON): (DestinationState.OWNED, DestinationAction.OPEN_ENDED),
    (DestinationState.SETTLING, DestinationEvent.BEATEN): (DestinationState.FAILED, DestinationAction.YIELD),
    (DestinationState.SETTLING, DestinationEvent.NOWHERE): (DestinationState.FAILED, DestinationAction.LEAVE),
    (DestinationState.SETTLING, DestinationEvent.UNKNOWN): (DestinationState.SETTLING, DestinationAction.CLAIM_AGAIN),
}


def probe_source(state: SourceProbe, event: SourceProbeEvent) -> tuple[SourceProbe, SourceProbeAction]:
    """Return the next state of the probe at the source, and the action to take."""
    return PROBE_SOURCE.get((state, event), (state, SourceProbeAction.NOTHING))


def probe_destination(
    state: DestinationProbe, event: DestinationProbeEvent
) -> tuple[DestinationProbe, DestinationProbeAction]:
    """Return the next state of the probe at the destination, and the action to take."""
    return PROBE_DESTINATION.get((state, event), (state, DestinationProbeAction.NOTHING))


def transfer_source(state: SourceState, event: SourceEvent) -> tuple[SourceState, SourceAction]:
    """Return the next state of the transfer at the source, and the action to take."""
    return TRANSFER_SOURCE.get((state, event), (state, SourceAction.NOTHING))


def transfer_destination(
    state: DestinationState, event: DestinationEvent
) -> tuple[DestinationState, DestinationAction]:
    """Return the next state of the transfer at the destination, and the action to take."""
    return TRANSFER_DESTINATION.get((state, event), (state, DestinationAction.NOTHING))


def claimed(own: Entry, destination: NodeId) -> Entry:
    """Return the entry with which the destination replaces the source's."""
    return Entry(own.id, destination, own.generation + 1, own.sid)


def fenced(own: Entry) -> Entry:
    """Return the entry with which the source replaces its own, so that the destination can no longer claim it."""
    return claimed(own, own.node)


def read_as_source(entry: Entry | None, own: Entry, destination: NodeId) -> SourceEvent:
    """Translate the registry's entry into an event for the source, whose own entry was ``own``."""
    if entry is None:
        return SourceEvent.NOWHERE
    if entry == own:
        return SourceEvent.OURS
    if entry == fenced(own):
        return SourceEvent.FENCED
    return SourceEvent.THEIRS if entry == claimed(own, destination) else SourceEvent.OTHERS


def read_as_destination(outcome: Outcome, current: Entry | None, wanted: Entry) -> DestinationEvent:
    """Translate the outcome of a claim into an event for the destination, which tried to write ``wanted``."""
    if outcome is Outcome.DONE or current == wanted:
        return DestinationEvent.WON
    return DestinationEvent.NOWHERE if outcome is Outcome.ABSENT else DestinationEvent.BEATEN
