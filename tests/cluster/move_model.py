"""
The move of a session between two nodes as a model, small enough to look at all that can happen.

The giver and the taker go by the tables of :mod:`primacron.cluster.move`. Messages
between them come in any order, may be lost and come twice; deadlines fire whenever
they like; the client takes its steps or goes away; the registry does what it is
asked, but its answers come late or not at all, it is emptied, or a third node claims
the session; one of the two nodes is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from primacron.cluster.base import Outcome
from primacron.cluster.move import Give, Giver, Giving, Take, Taker, Taking, give, read_as_giver, read_as_taker, take
from tests.cluster.move_state import (
    CALM,
    FENCED,
    FOR_TAKER,
    GIVER,
    HEARD,
    MEANINGS,
    NEW,
    OLD,
    OTHER,
    SESSION,
    SETTLE,
    SETTLED,
    SURE,
    TAKER,
    THIRD,
    VERDICTS,
    Client,
    Here,
    Letter,
    State,
)

#: What happens, and what is then.
Step: TypeAlias = tuple[str, State]


class World:
    """What can happen next; ``given`` and ``taken`` are the rows of the tables that were asked for."""

    def __init__(self) -> None:
        self.given: set[tuple[Giving, Give]] = set()
        self.taken: set[tuple[Taking, Take]] = set()

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
        may_get = state.luck.messages and not state.queued_got
        if may_get and state.client is Client.POLLS and state.at_giver is Here.SERVED:
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

    def _again(self, state: State, letter: Letter, answers: frozenset[Letter]) -> Iterator[Step]:
        """Send a request of which nothing was heard; one that is only late is sent twice by misfortune."""
        if letter not in state.letters and not state.letters & answers:
            yield f"{letter.name} is sent again", self._send(state, letter)

    def _read_at_giver(self, state: State, letter: Letter) -> State:
        if letter is Letter.REPLACE_GIVER:
            return self._close_left(state._replace(replaces=None))
        if letter is Letter.CLAIMED or letter in SETTLED:
            state = self._send(state, Letter.HEARD)
        if state.giving is None:
            return self._read_without_move(state, letter)
        if letter in VERDICTS and not state.inquires:
            return state
        event = MEANINGS.get(letter)
        return state if event is None else self._give(state, event)

    def _read_without_move(self, state: State, letter: Letter) -> State:
        match letter:
            case Letter.QUIET if state.at_giver is Here.SERVED:
                state = state._replace(giving=Giving.CALMING)
            case Letter.QUIET:
                state = self._send(state, Letter.NOT_CALM)
            case Letter.TAKE:
                state = self._send(self._close_left(state), Letter.NO_SESSION)
            case Letter.SETTLE_LEFT | Letter.SETTLE_BEATEN:
                state = self._close_left(state)
        return state

    def _close_left(self, state: State) -> State:
        """End a connection whose client has left polling, so that nobody can reach it any more."""
        return self._end_at_giver(state) if state.at_giver is Here.SERVED else state

    def _read_at_taker(self, state: State, letter: Letter) -> State:
        match letter:
            case Letter.CALM if state.taking is Taking.ASKING:
                state = self._take(state, Take.ALLOWED)
            case Letter.NOT_CALM if state.taking in (Taking.ASKING, Taking.ALLOWED):
                state = self._take(state, Take.REFUSED)
            case Letter.SESSION | Letter.NO_SESSION if state.taking is Taking.TAKING:
                state = self._take(state, Take.HANDED if letter is Letter.SESSION else Take.REFUSED)
            case Letter.HEARD:
                state = state._replace(tells=None)
            case Letter.INQUIRE:
                is_open = state.taking not in (Taking.OWNED, Taking.FAILED)
                is_taken = state.taking is Taking.OWNED
                state = self._send(state, Letter.OPEN if is_open else Letter.TAKEN if is_taken else Letter.GIVEN_UP)
            case Letter.REPLACE_TAKER:
                state = state._replace(replaces=None, is_replaced=True)
                state = self._end_at_taker(state) if state.at_taker is Here.SERVED else state
            case Letter.LATE:
                state = state._replace(late_got=state.late_got + (state.at_taker is Here.SERVED))
        return state

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
            yield from self._again(state, Letter.INQUIRE, VERDICTS)
            if state.killed is TAKER:
                yield "the giver knows that the taker is gone", self._give(state, Give.GONE)
        if state.at_giver is Here.SERVED and state.client is not Client.POLLS:
            yield "no pong comes at the giver", self._end_at_giver(state)
        if state.luck.messages and not state.late_sent and state.at_giver in (Here.SERVED, Here.FROZEN):
            is_held = state.at_giver is Here.FROZEN
            yield "something is sent", state._replace(late_sent=True, late_held=is_held, late_got=int(not is_held))
        if state.giver_asks is not None:
            yield from self._ask_as_giver(state, state.giver_asks)
        if state.giver_reads is not None:
            read = state._replace(giver_reads=None)
            yield "the registry answers the giver", self._give(read, state.giver_reads)

    def _give(self, state: State, event: Give) -> State:
        assert state.giving is not None
        self.given.add((state.giving, event))
        giving, action = give(state.giving, event)
        return self._act_as_giver(state._replace(giving=giving), action)

    def _act_as_giver(self, state: State, action: Giver) -> State:
        match action:
            case Giver.SAY_CALM:
                state = self._send(state, Letter.CALM)
            case Giver.GO_ON:
                state = state._replace(giving=None)
            case Giver.HAND_OVER:
                state = state._replace(at_giver=Here.FROZEN, queued_packed=not state.queued_got)
                state = self._send(state, Letter.SESSION)
            case Giver.SEND_AGAIN:
                state = self._send(state, Letter.SESSION)
            case Giver.PASS_ON:
                state = self._pass_on(state)
            case Giver.INQUIRE:
                state = self._send(state._replace(inquires=True), Letter.INQUIRE)
            case Giver.CLOSE | Giver.END | Giver.END_REPLACED:
                state = self._end_at_giver(state)
            case Giver.LOOK | Giver.REGISTER | Giver.FENCE:
                state = state._replace(giver_asks=action)
        return state

    def _pass_on(self, state: State) -> State:
        # What the giver has written again, for the taker to claim, is its own to remove.
        entry = None if state.entry == OLD else state.entry
        state = self._forget_move(state._replace(at_giver=Here.GIVEN, entry=entry))
        return self._send(state._replace(late_held=False), Letter.LATE) if state.late_held else state

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
        yield "the giver looks", state._replace(giver_asks=None, giver_reads=read_as_giver(entry, OLD, TAKER))

    # The taker

    def _taker(self, state: State) -> Iterator[Step]:
        taking = state.taking
        if taking is None or state.killed is TAKER:
            return
        if taking in (Taking.OPEN, Taking.ASKING, Taking.ALLOWED, Taking.TAKING, Taking.CLAIMING):
            yield "the taker's time is up", self._take(state, Take.EXPIRED)
        if taking is Taking.ASKING:
            yield from self._again(state, Letter.QUIET, CALM)
        if taking is Taking.TAKING:
            yield from self._again(state, Letter.TAKE, SESSION)
        if state.killed is GIVER and taking in (Taking.ASKING, Taking.TAKING):
            yield "the taker knows that the giver is gone", self._take(state, Take.REFUSED)
        if state.tells is not None:
            if state.killed is GIVER:
                yield "the giver cannot be told", state._replace(tells=None)
            else:
                yield from self._again(state, state.tells, HEARD)
        if state.claims:
            yield from self._claim(state)
        if state.taker_reads is not None:
            yield "the registry answers the taker", self._take(state._replace(taker_reads=None), state.taker_reads)

    def _take(self, state: State, event: Take) -> State:
        assert state.taking is not None
        self.taken.add((state.taking, event))
        taking, action = take(state.taking, event)
        return self._act_as_taker(state._replace(taking=taking), action)

    def _act_as_taker(self, state: State, action: Taker) -> State:
        match action:
            case Taker.ASK:
                state = self._send(state, Letter.QUIET)
            case Taker.FETCH:
                state = self._send(state, Letter.TAKE)
            case Taker.CLAIM | Taker.CLAIM_AGAIN:
                state = state._replace(claims=True)
            case Taker.OPEN | Taker.OPEN_ENDED:
                state = self._open(state)
            case Taker.CLOSE | Taker.LET_GO:
                state = self._gone(state._replace(has_wire=False))
            case Taker.CANCEL | Taker.LEAVE | Taker.YIELD:
                letter = SETTLE[action]
                state = self._gone(self._send(state._replace(tells=letter, has_wire=False), letter))
        return state

    def _open(self, state: State) -> State:
        state = self._send(state._replace(tells=Letter.CLAIMED, at_taker=Here.SERVED), Letter.CLAIMED)
        if not state.has_wire or state.is_replaced:
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
        is_absent, is_old = state.entry is None, state.entry == OLD
        outcome = Outcome.ABSENT if is_absent else Outcome.DONE if is_old else Outcome.OTHER
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
                yield from self._again(state, state.replaces, frozenset())
        if luck.kills:
            fewer = state._replace(luck=luck._replace(kills=luck.kills - 1))
            yield "the giver is killed", self._kill_giver(fewer)
            yield "the taker is killed", self._kill_taker(fewer)

    def _kill_giver(self, state: State) -> State:
        """Kill it; what it has told is gone with it."""
        state = self._forget_move(state)
        letters = state.letters & FOR_TAKER
        told = state.ends_told - (state.at_giver is Here.ENDED)
        client = Client.AWAY if state.client is Client.POLLS and not state.has_wire else state.client
        return state._replace(killed=GIVER, letters=letters, at_giver=Here.NOTHING, client=client, ends_told=told)

    def _kill_taker(self, state: State) -> State:
        letters = state.letters - FOR_TAKER
        told = state.ends_told - (state.at_taker is Here.ENDED)
        state = state._replace(killed=TAKER, letters=letters, at_taker=Here.NOTHING, has_wire=False, ends_told=told)
        return self._gone(state._replace(taking=None, taker_reads=None, claims=False, tells=None))


class Exploration:
    """All states that can be reached from one, the nearest first, and what leads where."""

    def __init__(self, start: State, world: World) -> None:
        self.states = [start]
        #: For each state the one from which it was first reached, and by what.
        self._origins: list[tuple[int, str]] = [(0, "")]
        #: For each state those that lead there.
        self._before: list[list[int]] = [[]]
        numbers = {start: 0}
        for number, state in enumerate(self.states):  # which grows meanwhile
            for what, then in world.successors(state):
                known = numbers.setdefault(then, len(numbers))
                if known == len(self.states):
                    self.states.append(then)
                    self._origins.append((number, what))
                    self._before.append([])
                self._before[known].append(number)

    def story(self, number: int) -> str:
        """Tell how a state can be reached."""
        lines = [repr(self.states[number])]
        while number:
            number, what = self._origins[number]
            lines.append(what)
        return "\n".join(reversed(lines))

    def leading_to(self, numbers: list[int]) -> set[int]:
        """Return the states from which there is a way to one of these."""
        found = set(numbers)
        ahead = [*found]
        while ahead:
            for before in self._before[ahead.pop()]:
                if before not in found:
                    found.add(before)
                    ahead.append(before)
        return found
