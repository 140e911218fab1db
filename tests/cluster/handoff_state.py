"""What the model of a handoff is made of: nodes, messages, and all there is at one moment."""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, NamedTuple

from primacron.entries import Entry
from primacron.handoff.states import (
    DestinationAction,
    DestinationEvent,
    DestinationProbe,
    DestinationState,
    SourceAction,
    SourceEvent,
    SourceProbe,
    SourceProbeEvent,
    SourceState,
    claimed,
    fenced,
)
from primacron.ids import NodeId, SessionId, Sid

SOURCE: Final = NodeId("source")
DESTINATION: Final = NodeId("destination")
THIRD: Final = NodeId("third")

_ID: Final = SessionId("one")
#: What can stand in the registry.
OLD: Final = Entry(_ID, SOURCE, 1, Sid("sid"))
FENCED: Final = fenced(OLD)
NEW: Final = claimed(OLD, DESTINATION)
OTHER: Final = Entry(_ID, THIRD, 9, Sid("other"))


class Fast(Enum):
    """With the hash that any object has, since there are many states to be told apart."""

    __hash__ = object.__hash__


class Here(Fast):
    """What a node has of the session."""

    NOTHING = "it was never here"
    SERVED = "it has its connection"
    FROZEN = "it waits for the outcome"
    MOVED = "it is elsewhere"
    ENDED = "it has ended here"


class Client(Fast):
    """Where the client stands."""

    POLLS = "it polls, and may have a websocket beside"
    LEFT = "it has left the source, and waits at the destination"
    AWAY = "it is gone"


@unique
class Letter(Fast):
    """A message between the nodes; the first ones are for the source."""

    QUIESCE = "start no further handler"
    FETCH = "hand over"
    CLAIMED = "the session is the destination's"
    SETTLE_CANCELLED = "the websocket is gone"
    SETTLE_LEFT = "the destination lets go, and the client polls no more"
    SETTLE_BEATEN = "the destination lets go: somebody else has the session"
    REPLACE_SOURCE = "close at the source what was replaced"
    OWNED = "answer: the session is the destination's"
    OPEN = "answer: it is not known yet"
    GIVEN_UP = "answer: the destination has let go"
    # For the destination
    CALM = "answer: it is calm"
    NOT_CALM = "it will not be calm, or is not any more"
    SESSION = "answer: the session"
    NO_SESSION = "answer: there is no such handoff"
    HEARD = "answer: heard"
    INQUIRE = "what became of the handoff?"
    LATE = "what came for the session meanwhile"
    REPLACE_DESTINATION = "close at the destination what was replaced"


FOR_DESTINATION: Final = frozenset(
    {Letter.CALM, Letter.NOT_CALM, Letter.SESSION, Letter.NO_SESSION, Letter.HEARD, Letter.INQUIRE, Letter.LATE,
     Letter.REPLACE_DESTINATION}
)  # fmt: skip
#: Neither lost nor doubled: there is another test of what becomes of a message in transit.
SURE: Final = frozenset({Letter.LATE})
CALM: Final = frozenset({Letter.CALM, Letter.NOT_CALM})
SESSION: Final = frozenset({Letter.SESSION, Letter.NO_SESSION})
HEARD: Final = frozenset({Letter.HEARD})
VERDICTS: Final = frozenset({Letter.OWNED, Letter.OPEN, Letter.GIVEN_UP})

SETTLE: Final = {DestinationAction.LEAVE: Letter.SETTLE_LEFT, DestinationAction.YIELD: Letter.SETTLE_BEATEN}
SETTLED: Final = frozenset({Letter.SETTLE_CANCELLED, *SETTLE.values()})
#: What a message is to the source of a transfer that is under way.
MEANINGS: Final = {
    Letter.FETCH: SourceEvent.FETCHED,
    Letter.CLAIMED: SourceEvent.CLAIMED,
    Letter.SETTLE_LEFT: SourceEvent.LEFT,
    Letter.SETTLE_BEATEN: SourceEvent.BEATEN,
    Letter.OWNED: SourceEvent.CLAIMED,
    Letter.GIVEN_UP: SourceEvent.LEFT,
}
#: What a message is to the source of an upgrade before that.
PROBE_MEANINGS: Final = {
    Letter.QUIESCE: SourceProbeEvent.ASKED,
    Letter.FETCH: SourceProbeEvent.FETCHED,
    Letter.SETTLE_CANCELLED: SourceProbeEvent.CANCELLED,
    Letter.SETTLE_LEFT: SourceProbeEvent.LEFT,
}


class Luck(NamedTuple):
    """How often what may go wrong still does."""

    losses: int = 0
    doubles: int = 0
    #: Answers of the registry that never come, although it did what it was asked.
    silences: int = 0
    clears: int = 0
    thirds: int = 0
    kills: int = 0
    #: Leases of the destination that end although it lives.
    lapses: int = 0
    #: Messages for the client: 1 lets one be queued when the upgrade begins, and one come meanwhile.
    messages: int = 0


class State(NamedTuple):
    """All there is at one moment."""

    luck: Luck
    letters: frozenset[Letter] = frozenset()
    entry: Entry | None = OLD
    client: Client = Client.POLLS
    #: Whether the client has a connection to the destination.
    has_wire: bool = False
    # The source
    source_probe: SourceProbe | None = None
    source: SourceState | None = None
    at_source: Here = Here.SERVED
    inquires: bool = False
    #: What the registry has answered to the source, and the source has not read yet; whether it wants to ask.
    source_reads: SourceEvent | None = None
    source_asks: SourceAction | None = None
    # The destination
    probe: DestinationProbe | None = None
    destination: DestinationState | None = None
    at_destination: Here = Here.NOTHING
    destination_reads: DestinationEvent | None = None
    claims: bool = False
    #: What it tells the source until that has heard it.
    tells: Letter | None = None
    #: Whether it was told that the session is somebody else's.
    is_replaced: bool = False
    # The third node
    replaces: Letter | None = None
    # What can be seen from outside
    was_cleared: bool = False
    killed: NodeId | None = None
    has_lapsed: bool = False
    ends_told: int = 0
    #: How often the client got what was queued, and whether that went into the snapshot.
    queued_got: int = 0
    queued_packed: bool = False
    #: What was sent while the session was in transit: whether it was, whether it waits, how often it arrived.
    late_sent: bool = False
    late_held: bool = False
    late_got: int = 0
