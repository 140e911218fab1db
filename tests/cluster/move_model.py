"""
The move of a session between two nodes as a model, small enough to look at all that can happen.

The giver and the taker go by the tables of :mod:`primacron.cluster.move`. Messages
between them come in any order, may be lost and come twice; deadlines fire whenever
they like; the client takes its steps or goes away; the registry does what it is
asked, but its answers come late or not at all, it is emptied, or a third node claims
the session; one of the two nodes is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from primacron.cluster.base import Outcome
from primacron.cluster.move import (
    Give,
    Giver,
    Giving,
    Take,
    Taker,
    Taking,
    give,
    read_as_giver,
    read_as_taker,
    take,
)
from primacron.entries import Entry
from primacron.ids import NodeId, SessionId, Sid

GIVER: Final = NodeId("giver")
TAKER: Final = NodeId("taker")
THIRD: Final = NodeId("third")

_ID: Final = SessionId("one")
#: What can stand in the registry.
OLD: Final = Entry(_ID, GIVER, 1, Sid("sid"))
FENCED: Final = Entry(_ID, GIVER, 2, Sid("sid"))
NEW: Final = Entry(_ID, TAKER, 2, Sid("sid"))
OTHER: Final = Entry(_ID, THIRD, 9, Sid("other"))


class Here(Enum):
    """What a node has of the session."""

    NOTHING = "it was never here"
    SERVED = "it has its connection"
    FROZEN = "it waits for the outcome"
    GIVEN = "it is elsewhere"
    ENDED = "it has ended here"


class Client(Enum):
    """Where the client stands."""

    POLLS = "it polls, and may have a websocket beside"
    LEFT = "it has sent its upgrade packet, and polls no more"
    AWAY = "it is gone"


class Letter(Enum):
    """A message between the nodes; the first ones are for the giver."""

    QUIET = "start no further handler"
    TAKE = "hand over"
    CLAIMED = "the session is the taker's"
    SETTLE_CANCELLED = "the websocket is gone"
    SETTLE_LEFT = "the taker lets go, and the client polls no more"
    SETTLE_BEATEN = "the taker lets go: somebody else has the session"
    REPLACE_GIVER = "close what was replaced"
    TAKEN = "answer: the session is the taker's"
    OPEN = "answer: it is not known yet"
    GIVEN_UP = "answer: the taker has let go"
    # For the taker
    CALM = "answer: it is calm"
    NOT_CALM = "answer: it will not be calm"
    SESSION = "answer: the session"
    NO_SESSION = "answer: there is no such move"
    HEARD = "answer: heard"
    INQUIRE = "what became of the move?"
    LATE = "what came for the session meanwhile"
    REPLACE_TAKER = "close what was replaced"


FOR_TAKER: Final = frozenset(
    {Letter.CALM, Letter.NOT_CALM, Letter.SESSION, Letter.NO_SESSION, Letter.HEARD, Letter.INQUIRE, Letter.LATE,
     Letter.REPLACE_TAKER}
)  # fmt: skip
#: Neither lost nor doubled: there is another test of what becomes of a message on its way.
SURE: Final = frozenset({Letter.LATE})
SETTLE: Final = {
    Taker.CANCEL: Letter.SETTLE_CANCELLED,
    Taker.LEAVE: Letter.SETTLE_LEFT,
    Taker.YIELD: Letter.SETTLE_BEATEN,
}
SETTLED: Final = {
    Letter.SETTLE_CANCELLED: Give.CANCELLED,
    Letter.SETTLE_LEFT: Give.LEFT,
    Letter.SETTLE_BEATEN: Give.BEATEN,
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


Step = tuple[str, State]


class World:
    """What can happen next."""

    def successors(self, state: State) -> Iterator[Step]:
        """Return all that can happen next, and where it leads."""
        yield from self._client(state)
        yield from self._letters(state)
        yield from self._giver(state)
        yield from self._taker(state)
        yield from self._registry(state)
        yield from self._misfortunes(state)

    # The client

    def _client(self, state: State) -> Iterator[Step]:
        if state.taking is None and state.client is Client.POLLS and state.killed is not TAKER:
            yield "the websocket opens", state._replace(taking=Taking.OPEN, has_wire=True)
        if state.has_wire and state.taking in (Taking.OPEN, Taking.ALLOWED):
            yield "probe", self._take(state, Take.PROBED)
        if state.has_wire and state.taking is Taking.ALLOWED:
            yield "upgrade", self._take(state._replace(client=Client.LEFT), Take.UPGRADED)
        if state.has_wire:
            yield "the websocket is lost", self._lose_wire(state)
        if state.client is Client.POLLS and not state.has_wire:
            yield "the client goes away", state._replace(client=Client.AWAY)
        if state.client is Client.POLLS and state.at_giver is Here.SERVED and not state.queued_got:
            yield "a poll takes what is queued", state._replace(queued_got=state.queued_got + 1)

    def _lose_wire(self, state: State) -> State:
        state = self._gone(state._replace(has_wire=False))
        if state.taking is Taking.OWNED:
            return self._end_at_taker(state)
        return self._take(state, Take.LOST)

    @staticmethod
    def _gone(state: State) -> State:
        """Take note that a client without a websocket, which has left polling, is gone."""
        return state._replace(client=Client.AWAY) if state.client is Client.LEFT and not state.has_wire else state

    # Messages

    def _letters(self, state: State) -> Iterator[Step]:
        for letter in state.letters:
            read = self._read_at_taker if letter in FOR_TAKER else self._read_at_giver
            without = state._replace(letters=state.letters - {letter})
            yield f"{letter.name} arrives", read(without, letter)
            if letter in SURE:
                continue
            luck = state.luck
            if luck.doubles:
                twice = state._replace(luck=luck._replace(doubles=luck.doubles - 1))
                yield f"{letter.name} arrives, and will once more", read(twice, letter)
            if luck.losses:
                yield f"{letter.name} is lost", without._replace(luck=luck._replace(losses=luck.losses - 1))

    @staticmethod
    def _send(state: State, letter: Letter) -> State:
        if state.killed is (TAKER if letter in FOR_TAKER else GIVER):
            return state
        return state._replace(letters=state.letters | {letter})

    def _read_at_giver(self, state: State, letter: Letter) -> State:
        giving = state.giving
        if letter is Letter.QUIET:
            if giving is not None:
                return self._give(state, Give.ASKED)
            if state.at_giver is Here.SERVED:
                return state._replace(giving=Giving.CALMING)
            return self._send(state, Letter.NOT_CALM)
        if letter is Letter.TAKE:
            if giving is not None:
                return self._give(state, Give.TAKEN)
            return self._send(self._close_left(state), Letter.NO_SESSION)
        if letter in SETTLED:
            state = self._send(state, Letter.HEARD)
            if giving is not None:
                return self._give(state, SETTLED[letter])
            return state if letter is Letter.SETTLE_CANCELLED else self._close_left(state)
        if letter is Letter.CLAIMED:
            state = self._send(state, Letter.HEARD)
            return self._give(state, Give.CLAIMED) if giving is not None else state
        if letter is Letter.REPLACE_GIVER:
            state = state._replace(replaces=None)
            return self._end_at_giver(state) if state.at_giver is Here.SERVED else state
        if giving is not None and state.inquires and letter is not Letter.OPEN:
            return self._give(state, Give.CLAIMED if letter is Letter.TAKEN else Give.LEFT)
        return state

    def _close_left(self, state: State) -> State:
        """End a connection whose client has left polling, so that nobody can reach it any more."""
        return self._end_at_giver(state) if state.at_giver is Here.SERVED else state

    def _read_at_taker(self, state: State, letter: Letter) -> State:
        taking = state.taking
        if letter is Letter.CALM or letter is Letter.NOT_CALM:
            event = Take.ALLOWED if letter is Letter.CALM else Take.REFUSED
            return self._take(state, event) if taking is Taking.ASKING else state
        if letter is Letter.SESSION or letter is Letter.NO_SESSION:
            event = Take.HANDED if letter is Letter.SESSION else Take.REFUSED
            return self._take(state, event) if taking is Taking.TAKING else state
        if letter is Letter.HEARD:
            return state._replace(tells=None)
        if letter is Letter.INQUIRE:
            is_open = taking not in (Taking.OWNED, Taking.FAILED)
            answer = Letter.OPEN if is_open else Letter.TAKEN if taking is Taking.OWNED else Letter.GIVEN_UP
            return self._send(state, answer)
        if letter is Letter.REPLACE_TAKER:
            state = state._replace(replaces=None)
            return self._end_at_taker(state) if state.at_taker is Here.SERVED else state
        return state._replace(late_got=state.late_got + (state.at_taker is Here.SERVED))

    # The giver

    def _giver(self, state: State) -> Iterator[Step]:
        if state.killed is GIVER:
            return
        giving = state.giving
        if giving is Giving.CALMING:
            yield "the last handler ends", self._give(state, Give.CALMED)
        if giving in (Giving.CALMING, Giving.CALM):
            yield "the giver's time is up", self._give(self._send(state, Letter.NOT_CALM), Give.EXPIRED)
        if giving is Giving.FROZEN and not state.inquires:
            yield "the giver's time is up", self._give(state, Give.EXPIRED)
        if giving is Giving.FROZEN and state.inquires:
            yield "the giver inquires", self._send(state, Letter.INQUIRE)
            if state.killed is TAKER:
                yield "the giver knows that the taker is gone", self._give(state, Give.GONE)
        if state.at_giver is Here.SERVED and state.client is not Client.POLLS:
            yield "no pong comes at the giver", self._end_at_giver(state)
        if not state.late_sent and state.at_giver in (Here.SERVED, Here.FROZEN):
            is_held = state.at_giver is Here.FROZEN
            yield "something is sent", state._replace(late_sent=True, late_held=is_held, late_got=int(not is_held))
        if state.giver_asks is not None:
            yield from self._ask_as_giver(state, state.giver_asks)
        if state.giver_reads is not None:
            read = state._replace(giver_reads=None)
            yield "the registry answers the giver", self._give(read, state.giver_reads)

    def _give(self, state: State, event: Give) -> State:
        assert state.giving is not None
        giving, action = give(state.giving, event)
        return self._act_as_giver(state._replace(giving=giving), action)

    def _act_as_giver(self, state: State, action: Giver) -> State:
        if action is Giver.SAY_CALM:
            return self._send(state, Letter.CALM)
        if action is Giver.GO_ON:
            return state._replace(giving=None)
        if action is Giver.HAND_OVER:
            state = state._replace(at_giver=Here.FROZEN, queued_packed=not state.queued_got)
            return self._send(state, Letter.SESSION)
        if action is Giver.SEND_AGAIN:
            return self._send(state, Letter.SESSION)
        if action is Giver.PASS_ON:
            state = self._forget_move(state._replace(at_giver=Here.GIVEN))
            return self._send(state._replace(late_held=False), Letter.LATE) if state.late_held else state
        if action is Giver.INQUIRE:
            return self._send(state._replace(inquires=True), Letter.INQUIRE)
        if action is Giver.CLOSE or action is Giver.END or action is Giver.END_REPLACED:
            return self._end_at_giver(state)
        if action is not Giver.NOTHING:
            return state._replace(giver_asks=action)
        return state

    @staticmethod
    def _forget_move(state: State) -> State:
        return state._replace(giving=None, inquires=False, giver_asks=None, giver_reads=None)

    def _end_at_giver(self, state: State) -> State:
        """End the session; what waited for it is answered, and its entry released."""
        if state.giving in (Giving.CALMING, Giving.CALM):
            state = self._send(state, Letter.NOT_CALM)
        entry = None if state.entry in (OLD, FENCED) else state.entry
        state = self._forget_move(state)
        return state._replace(at_giver=Here.ENDED, ends_told=state.ends_told + 1, late_held=False, entry=entry)

    def _ask_as_giver(self, state: State, action: Giver) -> Iterator[Step]:
        """Do what the registry is asked for; its answer comes later."""
        entry = state.entry
        if action is Giver.REGISTER and entry is None:
            yield "the giver registers it again", state._replace(entry=OLD, giver_asks=Giver.LOOK)
            return
        if action is Giver.FENCE and entry == OLD:
            done = state._replace(entry=FENCED, giver_asks=None)
            yield "the giver fences", done._replace(giver_reads=Give.FENCED)
            if state.luck.silences:
                luck = state.luck._replace(silences=state.luck.silences - 1)
                yield "the giver fences, unheard", done._replace(luck=luck, giver_asks=Giver.LOOK)
            return
        own = FENCED if entry == FENCED else OLD
        event = Give.FENCED if entry == FENCED else read_as_giver(entry, own, TAKER)
        yield "the giver looks", state._replace(giver_asks=None, giver_reads=event)

    # The taker

    def _taker(self, state: State) -> Iterator[Step]:
        taking = state.taking
        if taking is None or state.killed is TAKER:
            return
        if taking in (Taking.OPEN, Taking.ASKING, Taking.ALLOWED, Taking.TAKING, Taking.CLAIMING):
            yield "the taker's time is up", self._take(state, Take.EXPIRED)
        if taking is Taking.ASKING:
            yield "the taker asks again", self._send(state, Letter.QUIET)
        if taking is Taking.TAKING:
            yield "the taker asks again", self._send(state, Letter.TAKE)
        if state.killed is GIVER and taking in (Taking.ASKING, Taking.TAKING):
            yield "the taker knows that the giver is gone", self._take(state, Take.REFUSED)
        if state.tells is not None:
            if state.killed is GIVER:
                yield "the giver cannot be told", state._replace(tells=None)
            else:
                yield "the taker tells again", self._send(state, state.tells)
        if state.claims:
            yield from self._claim(state)
        if state.taker_reads is not None:
            yield "the registry answers the taker", self._take(state._replace(taker_reads=None), state.taker_reads)

    def _take(self, state: State, event: Take) -> State:
        assert state.taking is not None
        taking, action = take(state.taking, event)
        return self._act_as_taker(state._replace(taking=taking), action)

    def _act_as_taker(self, state: State, action: Taker) -> State:
        if action is Taker.ASK:
            return self._send(state, Letter.QUIET)
        if action is Taker.FETCH:
            return self._send(state, Letter.TAKE)
        if action is Taker.CLAIM or action is Taker.CLAIM_AGAIN:
            return state._replace(claims=True)
        if action is Taker.OPEN or action is Taker.OPEN_ENDED:
            return self._open(state)
        if action in SETTLE:
            letter = SETTLE[action]
            return self._gone(self._send(state._replace(tells=letter, has_wire=False), letter))
        if action is Taker.CLOSE or action is Taker.LET_GO:
            return self._gone(state._replace(has_wire=False))
        return state

    def _open(self, state: State) -> State:
        state = self._send(state._replace(tells=Letter.CLAIMED, at_taker=Here.SERVED), Letter.CLAIMED)
        if not state.has_wire:
            return self._end_at_taker(state)
        return state._replace(queued_got=state.queued_got + state.queued_packed)

    @staticmethod
    def _end_at_taker(state: State) -> State:
        entry = None if state.entry == NEW else state.entry
        client = Client.AWAY
        return state._replace(
            at_taker=Here.ENDED, ends_told=state.ends_told + 1, entry=entry, client=client, has_wire=False
        )

    @staticmethod
    def _claim(state: State) -> Iterator[Step]:
        if state.entry is None:
            outcome = Outcome.ABSENT
        else:
            outcome = Outcome.DONE if state.entry == OLD else Outcome.OTHER
        after = NEW if outcome is Outcome.DONE else state.entry
        asked = state._replace(claims=False, entry=after)
        yield "the taker claims", asked._replace(taker_reads=read_as_taker(outcome, after, NEW))
        if state.luck.silences:
            luck = state.luck._replace(silences=state.luck.silences - 1)
            yield "the taker claims, unheard", asked._replace(taker_reads=Take.UNKNOWN, luck=luck)

    # The registry, and who looks after entries that are missing

    def _registry(self, state: State) -> Iterator[Step]:
        if state.was_cleared and state.killed is not GIVER and state.at_giver in (Here.SERVED, Here.FROZEN):
            yield from self._restore_giver(state)
        if state.was_cleared and state.killed is not TAKER and state.at_taker is Here.SERVED:
            if state.entry is None or state.entry.rank < NEW.rank:
                yield "the taker restores its entry", state._replace(entry=NEW)
            elif state.entry == OTHER:
                yield "the taker finds another claim", self._end_at_taker(state)

    def _restore_giver(self, state: State) -> Iterator[Step]:
        if state.entry is None:
            yield "the giver restores its entry", state._replace(entry=OLD)
        elif state.giving in (Giving.FROZEN, Giving.FENCING):
            event = read_as_giver(state.entry, OLD, TAKER)
            yield "the giver finds an entry", self._give(state, event)
        elif state.entry == OTHER and state.at_giver is Here.SERVED:
            yield "the giver finds another claim", self._end_at_giver(state)

    def _misfortunes(self, state: State) -> Iterator[Step]:
        luck = state.luck
        if luck.clears:
            cleared = state._replace(luck=luck._replace(clears=luck.clears - 1))
            yield "the registry is emptied", cleared._replace(entry=None, was_cleared=True)
        if luck.thirds:
            before = state.entry
            claimed = state._replace(luck=luck._replace(thirds=luck.thirds - 1), entry=OTHER)
            if before is not None and before.node != THIRD:
                claimed = claimed._replace(
                    replaces=Letter.REPLACE_GIVER if before.node == GIVER else Letter.REPLACE_TAKER
                )
            yield "a third node claims the session", claimed
        if state.replaces is not None:
            if state.killed is (GIVER if state.replaces is Letter.REPLACE_GIVER else TAKER):
                yield "nobody can be told to close", state._replace(replaces=None)
            else:
                yield "the third node asks to close", self._send(state, state.replaces)
        if luck.kills:
            fewer = state._replace(luck=luck._replace(kills=luck.kills - 1))
            yield "the giver is killed", self._kill_giver(fewer)
            yield "the taker is killed", self._kill_taker(fewer)

    def _kill_giver(self, state: State) -> State:
        state = self._forget_move(state)
        letters = state.letters & FOR_TAKER
        client = Client.AWAY if state.client is Client.POLLS and not state.has_wire else state.client
        return state._replace(killed=GIVER, letters=letters, at_giver=Here.NOTHING, client=client)

    def _kill_taker(self, state: State) -> State:
        letters = state.letters - FOR_TAKER
        state = state._replace(killed=TAKER, letters=letters, at_taker=Here.NOTHING, has_wire=False)
        return self._gone(state._replace(taking=None, taker_reads=None, claims=False, tells=None))


def explore(start: State, successors: Callable[[State], Iterator[Step]]) -> dict[State, tuple[State, str] | None]:
    """Return all states that can be reached, each with the one before it and what happened, the nearest first."""
    found: dict[State, tuple[State, str] | None] = {start: None}
    layer = [start]
    while layer:
        following: list[State] = []
        for state in layer:
            for what, then in successors(state):
                if then not in found:
                    found[then] = state, what
                    following.append(then)
        layer = following
    return found
