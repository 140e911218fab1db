"""
How a session moves from the node that holds it to the one that holds its websocket, as tables.

The *giver* has the session, the *taker* the websocket. The taker claims the session's
entry by compare-and-set, and owns the session once it knows that it has the entry.
Nothing here does I/O: who plays a part asks for the next state and does what stands
beside it.

Until the client has sent its upgrade packet it still polls, and a move that fails
changes nothing. From then on it has left polling, and a move that fails ends the
session. Nobody guesses. The taker tries until the registry tells whose the session is.
The giver has handed it over, and goes by the taker's word alone: what stands in the
registry does not tell it enough, since an entry that is missing, or is somebody else's,
may have been the taker's before. Only where the taker's lease has ended does the giver
go by the registry, and puts a higher generation there before it ends the session.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from primacron.cluster.base import Outcome
from primacron.entries import Entry
from primacron.ids import NodeId


class Giving(Enum):
    """Where the giver stands."""

    CALMING = "starts no further handler, and waits for the one that runs"
    CALM = "no handler runs; the taker may answer the probe"
    FROZEN = "has handed the session over, and waits to hear who owns it"
    FENCING = "has lost the taker, and takes the entry back"
    GIVEN = "the taker owns the session"
    KEPT = "the session goes on as before"
    LOST = "the session has ended"


class Give(Enum):
    """What can happen to the giver."""

    ASKED = "the taker asks for calm"
    CALMED = "the last handler has ended"
    CANCELLED = "the websocket is gone, and the client still polls"
    LEFT = "the taker lets go of a session whose client has left polling"
    BEATEN = "the taker lets go of the session, which somebody else has claimed"
    TAKEN = "the taker asks for the session"
    CLAIMED = "the taker says that it owns the session"
    EXPIRED = "the time is up"
    GONE = "the taker's lease has ended"
    THEIRS = "the registry says that the taker owns the session"
    OURS = "the registry says that this node owns the session"
    OTHERS = "the registry says that somebody else has claimed the session"
    NOWHERE = "the registry has no entry"
    FENCED = "the entry is this node's again, with a higher generation"


class Giver(Enum):
    """What the giver does at a move."""

    NOTHING = "nothing"
    SAY_CALM = "say that the taker may answer the probe"
    GO_ON = "start handlers again"
    HAND_OVER = "take the session away from its connection, and send it"
    SEND_AGAIN = "send the session once more"
    PASS_ON = "leave a tombstone, and pass on what has come meanwhile"  # noqa: S105 (no password)
    CLOSE = "end the connection, which nobody uses any more: `transport error`"
    END = "end the session: `transport error`"
    END_REPLACED = "end the session: `replaced`"
    INQUIRE = "ask the taker what became of the session, until it tells"
    LOOK = "read the entry"
    REGISTER = "write the entry again, and look later"
    FENCE = "put a higher generation in the place of the own entry"


GIVING: Final[dict[tuple[Giving, Give], tuple[Giving, Giver]]] = {
    (Giving.CALMING, Give.ASKED): (Giving.CALMING, Giver.NOTHING),
    (Giving.CALMING, Give.CALMED): (Giving.CALM, Giver.SAY_CALM),
    (Giving.CALMING, Give.CANCELLED): (Giving.KEPT, Giver.GO_ON),
    (Giving.CALMING, Give.EXPIRED): (Giving.KEPT, Giver.GO_ON),
    (Giving.CALMING, Give.LEFT): (Giving.LOST, Giver.CLOSE),
    (Giving.CALM, Give.ASKED): (Giving.CALM, Giver.SAY_CALM),
    (Giving.CALM, Give.CANCELLED): (Giving.KEPT, Giver.GO_ON),
    (Giving.CALM, Give.EXPIRED): (Giving.KEPT, Giver.GO_ON),
    (Giving.CALM, Give.LEFT): (Giving.LOST, Giver.CLOSE),
    (Giving.CALM, Give.TAKEN): (Giving.FROZEN, Giver.HAND_OVER),
    (Giving.FROZEN, Give.TAKEN): (Giving.FROZEN, Giver.SEND_AGAIN),
    (Giving.FROZEN, Give.CLAIMED): (Giving.GIVEN, Giver.PASS_ON),
    (Giving.FROZEN, Give.LEFT): (Giving.LOST, Giver.END),
    (Giving.FROZEN, Give.BEATEN): (Giving.LOST, Giver.END_REPLACED),
    (Giving.FROZEN, Give.EXPIRED): (Giving.FROZEN, Giver.INQUIRE),
    (Giving.FROZEN, Give.GONE): (Giving.FENCING, Giver.LOOK),
    (Giving.FENCING, Give.CLAIMED): (Giving.GIVEN, Giver.PASS_ON),
    (Giving.FENCING, Give.LEFT): (Giving.LOST, Giver.END),
    (Giving.FENCING, Give.BEATEN): (Giving.LOST, Giver.END_REPLACED),
    (Giving.FENCING, Give.THEIRS): (Giving.GIVEN, Giver.PASS_ON),
    (Giving.FENCING, Give.OURS): (Giving.FENCING, Giver.FENCE),
    (Giving.FENCING, Give.NOWHERE): (Giving.FENCING, Giver.REGISTER),
    (Giving.FENCING, Give.OTHERS): (Giving.LOST, Giver.END_REPLACED),
    (Giving.FENCING, Give.FENCED): (Giving.LOST, Giver.END),
}


class Taking(Enum):
    """Where the taker stands."""

    OPEN = "the websocket is there, and nothing came by it"
    ASKING = "the probe came; the giver is asked for calm"
    ALLOWED = "the probe was answered"
    TAKING = "the upgrade packet came; the giver is asked for the session"
    CLAIMING = "the session is here, and its entry is being claimed"
    SETTLING = "the time is up before it is known who owns the session"
    OWNED = "the session is this node's"
    FAILED = "the session is not this node's"


class Take(Enum):
    """What can happen to the taker."""

    PROBED = "the probe came"
    ALLOWED = "the giver is calm"
    UPGRADED = "the upgrade packet came"
    HANDED = "the session came"
    REFUSED = "the giver has no such move"
    LOST = "the websocket is gone, or broke a rule"
    EXPIRED = "the time is up"
    WON = "the entry is this node's"
    BEATEN = "the entry is somebody else's"
    NOWHERE = "there is no entry"
    UNKNOWN = "the outcome of the claim is not known"


class Taker(Enum):
    """What the taker does at a move."""

    NOTHING = "nothing"
    ASK = "ask the giver for calm"
    ANSWER = "answer the probe"
    FETCH = "ask the giver for the session"
    CLAIM = "claim the entry"
    CLAIM_AGAIN = "claim the entry again, some time later"
    OPEN = "open the session with the websocket, and tell the giver"
    OPEN_ENDED = "open the session and end it: the websocket is gone; tell the giver"
    CLOSE = "close the websocket"
    CANCEL = "close the websocket, and tell the giver that it is gone"
    LEAVE = "close the websocket, let go of the session, and tell the giver so"
    YIELD = "the same, and tell the giver that somebody else has claimed it"
    LET_GO = "close the websocket; keep the session until it is known whose it is"


TAKING: Final[dict[tuple[Taking, Take], tuple[Taking, Taker]]] = {
    (Taking.OPEN, Take.PROBED): (Taking.ASKING, Taker.ASK),
    (Taking.OPEN, Take.LOST): (Taking.FAILED, Taker.CLOSE),
    (Taking.OPEN, Take.EXPIRED): (Taking.FAILED, Taker.CLOSE),
    (Taking.ASKING, Take.PROBED): (Taking.ASKING, Taker.NOTHING),
    (Taking.ASKING, Take.ALLOWED): (Taking.ALLOWED, Taker.ANSWER),
    (Taking.ASKING, Take.REFUSED): (Taking.FAILED, Taker.CLOSE),
    (Taking.ASKING, Take.LOST): (Taking.FAILED, Taker.CANCEL),
    (Taking.ASKING, Take.EXPIRED): (Taking.FAILED, Taker.CANCEL),
    (Taking.ALLOWED, Take.PROBED): (Taking.ALLOWED, Taker.ANSWER),
    (Taking.ALLOWED, Take.ALLOWED): (Taking.ALLOWED, Taker.NOTHING),
    (Taking.ALLOWED, Take.UPGRADED): (Taking.TAKING, Taker.FETCH),
    # The session has ended, or the giver's time is up.
    (Taking.ALLOWED, Take.REFUSED): (Taking.FAILED, Taker.CLOSE),
    (Taking.ALLOWED, Take.LOST): (Taking.FAILED, Taker.CANCEL),
    (Taking.ALLOWED, Take.EXPIRED): (Taking.FAILED, Taker.CANCEL),
    (Taking.TAKING, Take.ALLOWED): (Taking.TAKING, Taker.NOTHING),
    (Taking.TAKING, Take.HANDED): (Taking.CLAIMING, Taker.CLAIM),
    (Taking.TAKING, Take.REFUSED): (Taking.FAILED, Taker.CLOSE),
    (Taking.TAKING, Take.LOST): (Taking.FAILED, Taker.LEAVE),
    (Taking.TAKING, Take.EXPIRED): (Taking.FAILED, Taker.LEAVE),
    (Taking.CLAIMING, Take.HANDED): (Taking.CLAIMING, Taker.NOTHING),
    (Taking.CLAIMING, Take.WON): (Taking.OWNED, Taker.OPEN),
    (Taking.CLAIMING, Take.BEATEN): (Taking.FAILED, Taker.YIELD),
    # Somebody has emptied the registry, and the giver will register the session again.
    (Taking.CLAIMING, Take.NOWHERE): (Taking.CLAIMING, Taker.CLAIM_AGAIN),
    (Taking.CLAIMING, Take.UNKNOWN): (Taking.CLAIMING, Taker.CLAIM_AGAIN),
    # The claim goes on: whoever owns the session has to end it.
    (Taking.CLAIMING, Take.LOST): (Taking.SETTLING, Taker.LET_GO),
    (Taking.CLAIMING, Take.EXPIRED): (Taking.SETTLING, Taker.LET_GO),
    (Taking.SETTLING, Take.HANDED): (Taking.SETTLING, Taker.NOTHING),
    (Taking.SETTLING, Take.WON): (Taking.OWNED, Taker.OPEN_ENDED),
    (Taking.SETTLING, Take.BEATEN): (Taking.FAILED, Taker.YIELD),
    (Taking.SETTLING, Take.NOWHERE): (Taking.FAILED, Taker.LEAVE),
    (Taking.SETTLING, Take.UNKNOWN): (Taking.SETTLING, Taker.CLAIM_AGAIN),
}


def give(state: Giving, event: Give) -> tuple[Giving, Giver]:
    """Return the giver's next state and what it does; an event that the table does not have changes nothing."""
    return GIVING.get((state, event), (state, Giver.NOTHING))


def take(state: Taking, event: Take) -> tuple[Taking, Taker]:
    """Return the taker's next state and what it does; an event that the table does not have changes nothing."""
    return TAKING.get((state, event), (state, Taker.NOTHING))


def claimed(own: Entry, taker: NodeId) -> Entry:
    """Return what the taker puts in the place of the giver's entry."""
    return Entry(own.id, taker, own.generation + 1, own.sid)


def fenced(own: Entry) -> Entry:
    """Return what the giver puts in the place of its own entry, so that the taker cannot claim it any more."""
    return claimed(own, own.node)


def read_as_giver(entry: Entry | None, own: Entry, taker: NodeId) -> Give:
    """Return what the registry's entry means to the giver, whose own entry was ``own``."""
    if entry is None:
        return Give.NOWHERE
    if entry == own:
        return Give.OURS
    if entry == fenced(own):
        return Give.FENCED
    return Give.THEIRS if entry == claimed(own, taker) else Give.OTHERS


def read_as_taker(outcome: Outcome, current: Entry | None, wanted: Entry) -> Take:
    """Return what the outcome of a claim means to the taker, which wants the entry to be ``wanted``."""
    if outcome is Outcome.DONE or current == wanted:
        return Take.WON
    return Take.NOWHERE if outcome is Outcome.ABSENT else Take.BEATEN
