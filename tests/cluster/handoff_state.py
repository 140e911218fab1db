"""The vocabulary of the handoff model: nodes, messages, and the complete state at one moment."""

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
#: Possible entries in the registry.
OLD: Final = Entry(_ID, SOURCE, 1, Sid("sid"))
FENCED: Final = fenced(OLD)
NEW: Final = claimed(OLD, DESTINATION)
OTHER: Final = Entry(_ID, THIRD, 9, Sid("other"))


class Fast(Enum):
    """An enum with the identity hash, because very many states are hashed."""

    __hash__ = object.__hash__


class Here(Fast):
    """What a node has of the session."""

    NOTHING = "it was never here"
    SERVED = "it has its connection"
    FROZEN = "it waits for the outcome"
    MOVED = "it is elsewhere"
    ENDED = "it has ended here"


class Client(Fast):
    """The client's situation."""

    POLLS = "it polls, and may have a websocket beside"
    LEFT = "it has left the source, and waits at the destination"
    AWAY = "it is gone"


@unique
class Letter(Fast):
    """A message between the nodes; those for the source come first."""

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
#: Never lost or duplicated here: another test covers messages in transit.
SURE: Final = frozenset({Letter.LATE})
CALM: Final = frozenset({Letter.CALM, Letter.NOT_CALM})
SESSION: Final = frozenset({Letter.SESSION, Letter.NO_SESSION})
HEARD: Final = frozenset({Letter.HEARD})
VERDICTS: Final = frozenset({Letter.OWNED, Letter.OPEN, Letter.GIVEN_UP})

SETTLE: Final = {DestinationAction.LEAVE: Letter.SETTLE_LEFT, DestinationAction.YIELD: Letter.SETTLE_BEATEN}
SETTLED: Final = frozenset({Letter.SETTLE_CANCELLED, *SETTLE.values()})
#: The event that a message is to the source of a transfer under way.
MEANINGS: Final = {
    Letter.FETCH: SourceEvent.FETCHED,
    Letter.CLAIMED: SourceEvent.CLAIMED,
    Letter.SETTLE_LEFT: SourceEvent.LEFT,
    Letter.SETTLE_BEATEN: SourceEvent.BEATEN,
    Letter.OWNED: SourceEvent.CLAIMED,
    Letter.GIVEN_UP: SourceEvent.LEFT,
}
#: The event that a message is to the source of an upgrade before its transfer.
PROBE_MEANINGS: Final = {
    Letter.QUIESCE: SourceProbeEvent.ASKED,
    Letter.FETCH: SourceProbeEvent.FETCHED,
    Letter.SETTLE_CANCELLED: SourceProbeEvent.CANCELLED,
    Letter.SETTLE_LEFT: SourceProbeEvent.LEFT,
}


class Luck(NamedTuple):
    """How many more times each kind of fault may occur."""

    losses: int = 0
    doubles: int = 0
    #: Registry calls that take effect but are never answered.
    silences: int = 0
    clears: int = 0
    thirds: int = 0
    kills: int = 0
    #: Leases of the destination that expire although it is alive.
    lapses: int = 0
    #: Messages for the client: 1 allows one queued when the upgrade begins, and one that arrives during it.
    messages: int = 0


class State(NamedTuple):
    """The complete state at one moment."""

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
    #: The registry's answer that the source has not read yet, and the query that it still has to make.
    source_reads: SourceEvent | None = None
    source_asks: SourceAction | None = None
    # The destination
    probe: DestinationProbe | None = None
    destination: DestinationState | None = None
    at_destination: Here = Here.NOTHING
    destination_reads: DestinationEvent | None = None
    claims: bool = False
    #: What it repeats to the source until that acknowledges.
    tells: Letter | None = None
    #: Whether it was told that another connection has the session.
    is_replaced: bool = False
    # The third node
    replaces: Letter | None = None
    # Observable effects
    was_cleared: bool = False
    killed: NodeId | None = None
    has_lapsed: bool = False
    ends_told: int = 0
    #: How often the client received the queued message, and whether that was part of the snapshot.
    queued_got: int = 0
    queued_packed: bool = False
    #: A message sent while the session was in transit: whether it was sent, whether it is held, how often it arrived.
    late_sent: bool = False
    late_held: bool = False
    late_got: int = 0
