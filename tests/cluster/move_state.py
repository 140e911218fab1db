"""What the model of a move is made of: nodes, messages, and all there is at one moment."""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, NamedTuple

from primacron.cluster.move import Give, Giver, Giving, Take, Taker, Taking, claimed, fenced
from primacron.entries import Entry
from primacron.ids import NodeId, SessionId, Sid

GIVER: Final = NodeId("giver")
TAKER: Final = NodeId("taker")
THIRD: Final = NodeId("third")

_ID: Final = SessionId("one")
#: What can stand in the registry.
OLD: Final = Entry(_ID, GIVER, 1, Sid("sid"))
FENCED: Final = fenced(OLD)
NEW: Final = claimed(OLD, TAKER)
OTHER: Final = Entry(_ID, THIRD, 9, Sid("other"))


class Fast(Enum):
    """With the hash that any object has, since there are many states to be told apart."""

    __hash__ = object.__hash__


class Here(Fast):
    """What a node has of the session."""

    NOTHING = "it was never here"
    SERVED = "it has its connection"
    FROZEN = "it waits for the outcome"
    GIVEN = "it is elsewhere"
    ENDED = "it has ended here"


class Client(Fast):
    """Where the client stands."""

    POLLS = "it polls, and may have a websocket beside"
    LEFT = "it has sent its upgrade packet, and polls no more"
    AWAY = "it is gone"


@unique
class Letter(Fast):
    """A message between the nodes; the first ones are for the giver."""

    QUIET = "start no further handler"
    TAKE = "hand over"
    CLAIMED = "the session is the taker's"
    SETTLE_CANCELLED = "the websocket is gone"
    SETTLE_LEFT = "the taker lets go, and the client polls no more"
    SETTLE_BEATEN = "the taker lets go: somebody else has the session"
    REPLACE_GIVER = "close at the giver what was replaced"
    TAKEN = "answer: the session is the taker's"
    OPEN = "answer: it is not known yet"
    GIVEN_UP = "answer: the taker has let go"
    # For the taker
    CALM = "answer: it is calm"
    NOT_CALM = "it will not be calm, or is not any more"
    SESSION = "answer: the session"
    NO_SESSION = "answer: there is no such move"
    HEARD = "answer: heard"
    INQUIRE = "what became of the move?"
    LATE = "what came for the session meanwhile"
    REPLACE_TAKER = "close at the taker what was replaced"


FOR_TAKER: Final = frozenset(
    {Letter.CALM, Letter.NOT_CALM, Letter.SESSION, Letter.NO_SESSION, Letter.HEARD, Letter.INQUIRE, Letter.LATE,
     Letter.REPLACE_TAKER}
)  # fmt: skip
#: Neither lost nor doubled: there is another test of what becomes of a message on its way.
SURE: Final = frozenset({Letter.LATE})
CALM: Final = frozenset({Letter.CALM, Letter.NOT_CALM})
SESSION: Final = frozenset({Letter.SESSION, Letter.NO_SESSION})
HEARD: Final = frozenset({Letter.HEARD})
VERDICTS: Final = frozenset({Letter.TAKEN, Letter.OPEN, Letter.GIVEN_UP})

SETTLE: Final = {
    Taker.CANCEL: Letter.SETTLE_CANCELLED,
    Taker.LEAVE: Letter.SETTLE_LEFT,
    Taker.YIELD: Letter.SETTLE_BEATEN,
}
SETTLED: Final = frozenset(SETTLE.values())
#: What a message is to the giver that has a move under way.
MEANINGS: Final = {
    Letter.QUIET: Give.ASKED,
    Letter.TAKE: Give.TAKEN,
    Letter.CLAIMED: Give.CLAIMED,
    Letter.SETTLE_CANCELLED: Give.CANCELLED,
    Letter.SETTLE_LEFT: Give.LEFT,
    Letter.SETTLE_BEATEN: Give.BEATEN,
    Letter.TAKEN: Give.CLAIMED,
    Letter.GIVEN_UP: Give.LEFT,
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
    #: Messages for the client: 1 lets one be queued when the move begins, and one come meanwhile.
    messages: int = 0


class State(NamedTuple):
    """All there is at one moment."""

    luck: Luck
    letters: frozenset[Letter] = frozenset()
    entry: Entry | None = OLD
    client: Client = Client.POLLS
    has_wire: bool = False
    # The giver
    giving: Giving | None = None
    at_giver: Here = Here.SERVED
    inquires: bool = False
    #: What the registry has answered to the giver, and the giver has not read yet; whether it wants to ask.
    giver_reads: Give | None = None
    giver_asks: Giver | None = None
    # The taker
    taking: Taking | None = None
    at_taker: Here = Here.NOTHING
    taker_reads: Take | None = None
    claims: bool = False
    #: What it tells the giver until that has heard it.
    tells: Letter | None = None
    #: Whether it was told that the session is somebody else's.
    is_replaced: bool = False
    # The third node
    replaces: Letter | None = None
    # What can be seen from outside
    was_cleared: bool = False
    killed: NodeId | None = None
    ends_told: int = 0
    #: How often the client got what was queued, and whether that went into the baggage.
    queued_got: int = 0
    queued_packed: bool = False
    #: What was sent while the session moved: None before, how often it arrived, whether it waits.
    late_sent: bool = False
    late_held: bool = False
    late_got: int = 0
