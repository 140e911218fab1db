"""
A model of a session's transfer between two nodes, small enough for an exhaustive search.

Source and destination follow the tables of :mod:`primacron.handoff.states`. Messages
between them may be reordered, lost and duplicated; deadlines fire at any time; the client
may go away; the registry does what it is asked, but may answer late or never, may be
emptied, and may see a third node claim the session; one of the two nodes may be killed,
or the destination's lease may expire although it is alive. What precedes an upgrade's
transfer is in :mod:`tests.cluster.upgrade_model`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from primacron.cluster.registry import Outcome
from primacron.handoff.states import (
    DestinationAction,
    DestinationEvent,
    DestinationState,
    SourceAction,
    SourceEvent,
    SourceState,
    read_as_destination,
    read_as_source,
    transfer_destination,
    transfer_source,
)
from tests.cluster.handoff_state import (
    DESTINATION,
    FENCED,
    FOR_DESTINATION,
    HEARD,
    MEANINGS,
    NEW,
    OLD,
    OTHER,
    SESSION,
    SETTLE,
    SETTLED,
    SOURCE,
    SURE,
    THIRD,
    VERDICTS,
    Client,
    Here,
    Letter,
    Luck,
    State,
)

#: What happens, and the state after it.
Step: TypeAlias = tuple[str, State]


class Transfer:
    """The possible transitions; ``rows_of_source`` and ``rows_of_destination`` collect the rows of the tables used."""

    def __init__(self) -> None:
        self.rows_of_source: set[tuple[SourceState, SourceEvent]] = set()
        self.rows_of_destination: set[tuple[DestinationState, DestinationEvent]] = set()

    @staticmethod
    def start(luck: Luck) -> State:
        """Return the beginning: the source has just been asked for the session, for a client that waits."""
        return State(
            luck,
            letters=frozenset({Letter.SESSION}),
            client=Client.LEFT,
            has_wire=True,
            source=SourceState.FROZEN,
            at_source=Here.FROZEN,
            destination=DestinationState.FETCHING,
            queued_packed=True,
        )

    def successors(self, state: State) -> Iterator[Step]:
        """Return everything that can happen next, and the state that it leads to."""
        yield from self._client(state)
        yield from self._letters(state)
        if state.killed is not SOURCE:
            yield from self._source(state)
        if state.killed is not DESTINATION:
            yield from self._destination(state)
        yield from self._registry(state)
        yield from self._misfortunes(state)

    # The client

    def _client(self, state: State) -> Iterator[Step]:
        if state.has_wire:
            yield "the client is lost", self._lose_wire(state)

    def _lose_wire(self, state: State) -> State:
        state = self._gone(state._replace(has_wire=False))
        if state.destination is DestinationState.OWNED:
            return self._end_at_destination(state)
        return self._lost(state)

    def _lost(self, state: State) -> State:
        return self._step_destination(state, DestinationEvent.LOST)

    @staticmethod
    def _gone(state: State) -> State:
        """Take note that a client without a connection to the destination, which has left the source, is gone."""
        return state._replace(client=Client.AWAY) if state.client is Client.LEFT and not state.has_wire else state

    # Messages

    def _letters(self, state: State) -> Iterator[Step]:
        for letter in state.letters:
            read = self._read_at_destination if letter in FOR_DESTINATION else self._read_at_source
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
        if state.killed is (DESTINATION if letter in FOR_DESTINATION else SOURCE):
            return state
        return state._replace(letters=state.letters | {letter})

    def _again(self, state: State, letter: Letter, answers: frozenset[Letter]) -> Iterator[Step]:
        """Send a request of which nothing was heard; one that is only late is sent twice by misfortune."""
        if letter not in state.letters and not state.letters & answers:
            yield f"{letter.name} is sent again", self._send(state, letter)

    def _read_at_source(self, state: State, letter: Letter) -> State:
        if letter is Letter.REPLACE_SOURCE:
            return self._close_left(state._replace(replaces=None))
        if letter is Letter.CLAIMED or letter in SETTLED:
            state = self._send(state, Letter.HEARD)
        if state.source is None:
            return self._read_without_transfer(state, letter)
        if letter in VERDICTS and not state.inquires:
            return state
        event = MEANINGS.get(letter)
        return state if event is None else self._step_source(state, event)

    def _read_without_transfer(self, state: State, letter: Letter) -> State:
        match letter:
            case Letter.FETCH:
                state = self._send(self._close_left(state), Letter.NO_SESSION)
            case Letter.SETTLE_LEFT | Letter.SETTLE_BEATEN:
                state = self._close_left(state)
        return state

    def _close_left(self, state: State) -> State:
        """End a connection that its client has left, so that nobody can reach it any more."""
        return self._end_at_source(state) if state.at_source is Here.SERVED else state

    def _read_at_destination(self, state: State, letter: Letter) -> State:
        match letter:
            case Letter.SESSION | Letter.NO_SESSION if state.destination is DestinationState.FETCHING:
                is_there = letter is Letter.SESSION
                event = DestinationEvent.HANDED if is_there else DestinationEvent.REFUSED
                state = self._step_destination(state, event)
            case Letter.HEARD:
                state = state._replace(tells=None)
            case Letter.INQUIRE:
                state = self._send(state, self._verdict(state))
            case Letter.REPLACE_DESTINATION:
                state = state._replace(replaces=None, is_replaced=True)
                state = self._end_at_destination(state) if state.at_destination is Here.SERVED else state
            case Letter.LATE:
                state = state._replace(late_got=state.late_got + (state.at_destination is Here.SERVED))
        return state

    def _verdict(self, state: State) -> Letter:
        """Return what the destination says became of the handoff."""
        if state.destination is DestinationState.OWNED:
            return Letter.OWNED
        return Letter.GIVEN_UP if state.destination is DestinationState.FAILED else Letter.OPEN

    # The source

    def _source(self, state: State) -> Iterator[Step]:
        if state.source is SourceState.FROZEN and not state.inquires:
            yield "the source's time is up", self._step_source(state, SourceEvent.EXPIRED)
        if state.source is SourceState.FROZEN and state.inquires:
            yield from self._again(state, Letter.INQUIRE, VERDICTS)
            if state.killed is DESTINATION or state.has_lapsed:
                yield "the source knows that the destination is gone", self._step_source(state, SourceEvent.GONE)
        if state.luck.messages and not state.late_sent and state.at_source in (Here.SERVED, Here.FROZEN):
            is_held = state.at_source is Here.FROZEN
            yield "something is sent", state._replace(late_sent=True, late_held=is_held, late_got=int(not is_held))
        if state.source_asks is not None:
            yield from self._ask_as_source(state, state.source_asks)
        if state.source_reads is not None:
            read = state._replace(source_reads=None)
            yield "the registry answers the source", self._step_source(read, state.source_reads)

    def _step_source(self, state: State, event: SourceEvent) -> State:
        assert state.source is not None
        self.rows_of_source.add((state.source, event))
        source, action = transfer_source(state.source, event)
        return self._act_as_source(state._replace(source=source), action)

    def _act_as_source(self, state: State, action: SourceAction) -> State:
        match action:
            case SourceAction.SEND_AGAIN:
                state = self._send(state, Letter.SESSION)
            case SourceAction.PASS_ON:
                state = self._pass_on(state)
            case SourceAction.INQUIRE:
                state = self._send(state._replace(inquires=True), Letter.INQUIRE)
            case SourceAction.END | SourceAction.END_REPLACED:
                state = self._end_at_source(state)
            case SourceAction.LOOK | SourceAction.REGISTER | SourceAction.FENCE:
                state = state._replace(source_asks=action)
        return state

    def _pass_on(self, state: State) -> State:
        # An entry that the source has restored, for the destination to claim, is the source's to remove.
        entry = None if state.entry == OLD else state.entry
        state = self._forget_handoff(state._replace(at_source=Here.MOVED, entry=entry))
        return self._send(state._replace(late_held=False), Letter.LATE) if state.late_held else state

    @staticmethod
    def _forget_handoff(state: State) -> State:
        return state._replace(source_probe=None, source=None, inquires=False, source_asks=None, source_reads=None)

    def _end_at_source(self, state: State) -> State:
        """End the session; held requests are answered, and its entry is released."""
        entry = None if state.entry in (OLD, FENCED) else state.entry
        state = self._forget_handoff(state)
        return state._replace(at_source=Here.ENDED, ends_told=state.ends_told + 1, late_held=False, entry=entry)

    def _ask_as_source(self, state: State, action: SourceAction) -> Iterator[Step]:
        """Do what the registry is asked for; its answer comes later."""
        entry = state.entry
        if action is SourceAction.REGISTER and entry is None:
            yield "the source registers it again", state._replace(entry=OLD, source_asks=SourceAction.LOOK)
            return
        if action is SourceAction.FENCE and entry == OLD:
            done = state._replace(entry=FENCED, source_asks=None)
            yield "the source fences", done._replace(source_reads=SourceEvent.FENCED)
            if state.luck.silences:
                luck = state.luck._replace(silences=state.luck.silences - 1)
                yield "the source fences, unheard", done._replace(luck=luck, source_asks=SourceAction.LOOK)
            return
        read = read_as_source(entry, OLD, DESTINATION)
        yield "the source looks", state._replace(source_asks=None, source_reads=read)

    # The destination

    def _destination(self, state: State) -> Iterator[Step]:
        destination = state.destination
        if destination in (DestinationState.FETCHING, DestinationState.CLAIMING):
            yield "the destination's time is up", self._step_destination(state, DestinationEvent.EXPIRED)
        if destination is DestinationState.FETCHING:
            yield from self._again(state, Letter.FETCH, SESSION)
            if state.killed is SOURCE:
                refused = self._step_destination(state, DestinationEvent.REFUSED)
                yield "the destination knows that the source is gone", refused
        if state.tells is not None:
            if state.killed is SOURCE:
                yield "the source cannot be told", state._replace(tells=None)
            else:
                yield from self._again(state, state.tells, HEARD)
        if state.claims:
            yield from self._claim(state)
        if state.destination_reads is not None:
            read = state._replace(destination_reads=None)
            yield "the registry answers the destination", self._step_destination(read, state.destination_reads)

    def _step_destination(self, state: State, event: DestinationEvent) -> State:
        assert state.destination is not None
        self.rows_of_destination.add((state.destination, event))
        destination, action = transfer_destination(state.destination, event)
        return self._act_as_destination(state._replace(destination=destination), action)

    def _act_as_destination(self, state: State, action: DestinationAction) -> State:
        match action:
            case DestinationAction.CLAIM | DestinationAction.CLAIM_AGAIN:
                state = state._replace(claims=True)
            case DestinationAction.OPEN | DestinationAction.OPEN_ENDED:
                state = self._open(state)
            case DestinationAction.CLOSE | DestinationAction.LET_GO:
                state = self._gone(state._replace(has_wire=False))
            case DestinationAction.LEAVE | DestinationAction.YIELD:
                state = self._let_go(state, SETTLE[action])
        return state

    def _let_go(self, state: State, letter: Letter) -> State:
        return self._gone(self._send(state._replace(tells=letter, has_wire=False), letter))

    def _open(self, state: State) -> State:
        state = self._send(state._replace(tells=Letter.CLAIMED, at_destination=Here.SERVED), Letter.CLAIMED)
        if not state.has_wire or state.is_replaced:
            return self._end_at_destination(state)
        return state._replace(queued_got=state.queued_got + state.queued_packed)

    @staticmethod
    def _end_at_destination(state: State) -> State:
        entry = None if state.entry == NEW else state.entry
        told = state.ends_told + (not state.has_lapsed)
        return state._replace(
            at_destination=Here.ENDED, ends_told=told, entry=entry, client=Client.AWAY, has_wire=False
        )

    @staticmethod
    def _claim(state: State) -> Iterator[Step]:
        is_absent, is_old = state.entry is None, state.entry == OLD
        outcome = Outcome.ABSENT if is_absent else Outcome.DONE if is_old else Outcome.OTHER
        after = NEW if outcome is Outcome.DONE else state.entry
        asked = state._replace(claims=False, entry=after)
        yield "the destination claims", asked._replace(destination_reads=read_as_destination(outcome, after, NEW))
        if state.luck.silences:
            luck = state.luck._replace(silences=state.luck.silences - 1)
            unheard = asked._replace(destination_reads=DestinationEvent.UNKNOWN, luck=luck)
            yield "the destination claims, unheard", unheard

    # The registry, and the restoration of missing entries

    def _registry(self, state: State) -> Iterator[Step]:
        if state.was_cleared and state.killed is not SOURCE and state.at_source in (Here.SERVED, Here.FROZEN):
            yield from self._restore_source(state)
        if state.was_cleared and state.killed is not DESTINATION and state.at_destination is Here.SERVED:
            if state.entry is None or state.entry.rank < NEW.rank:
                yield "the destination restores its entry", state._replace(entry=NEW)
            elif state.entry == OTHER:
                yield "the destination finds another claim", self._end_at_destination(state)

    def _restore_source(self, state: State) -> Iterator[Step]:
        if state.entry is None:
            yield "the source restores its entry", state._replace(entry=OLD)
        elif state.entry == OTHER and state.at_source is Here.SERVED:
            yield "the source finds another claim", self._end_at_source(state)

    def _misfortunes(self, state: State) -> Iterator[Step]:
        luck = state.luck
        if luck.clears:
            cleared = state._replace(luck=luck._replace(clears=luck.clears - 1))
            yield "the registry is emptied", cleared._replace(entry=None, was_cleared=True)
        if luck.thirds:
            before = state.entry
            claimed = state._replace(luck=luck._replace(thirds=luck.thirds - 1), entry=OTHER)
            if before is not None and before.node != THIRD:
                is_source = before.node == SOURCE
                replaces = Letter.REPLACE_SOURCE if is_source else Letter.REPLACE_DESTINATION
                claimed = claimed._replace(replaces=replaces)
            yield "a third node claims the session", claimed
        if state.replaces is not None:
            if state.killed is (SOURCE if state.replaces is Letter.REPLACE_SOURCE else DESTINATION):
                yield "nobody can be told to close", state._replace(replaces=None)
            else:
                yield from self._again(state, state.replaces, frozenset())
        if luck.lapses:
            fewer = state._replace(luck=luck._replace(lapses=luck.lapses - 1))
            yield "the destination's lease ends", self._lapse(fewer)
        if luck.kills:
            fewer = state._replace(luck=luck._replace(kills=luck.kills - 1))
            yield "the source is killed", self._kill_source(fewer)
            yield "the destination is killed", self._kill_destination(fewer)

    @staticmethod
    def _lapse(state: State) -> State:
        """Let the others take it for dead; what it tells of an end is no more than if it were."""
        return state._replace(has_lapsed=True, ends_told=state.ends_told - (state.at_destination is Here.ENDED))

    def _kill_source(self, state: State) -> State:
        """Kill it; what it has told is gone with it."""
        state = self._forget_handoff(state)
        letters = state.letters & FOR_DESTINATION
        told = state.ends_told - (state.at_source is Here.ENDED)
        client = Client.AWAY if state.client is Client.POLLS and not state.has_wire else state.client
        return state._replace(killed=SOURCE, letters=letters, at_source=Here.NOTHING, client=client, ends_told=told)

    def _kill_destination(self, state: State) -> State:
        letters = state.letters - FOR_DESTINATION
        told = state.ends_told - (state.at_destination is Here.ENDED and not state.has_lapsed)
        state = state._replace(
            killed=DESTINATION, letters=letters, at_destination=Here.NOTHING, has_wire=False, ends_told=told
        )
        return self._gone(
            state._replace(probe=None, destination=None, destination_reads=None, claims=False, tells=None)
        )


class Exploration:
    """All states reachable from a start, nearest first, and the transitions between them."""

    def __init__(self, start: State, world: Transfer) -> None:
        self.states = [start]
        #: For each state, the one from which it was first reached, and how.
        self._origins: list[tuple[int, str]] = [(0, "")]
        #: For each state, its predecessors.
        self._before: list[list[int]] = [[]]
        numbers = {start: 0}
        for number, state in enumerate(self.states):  # grows during the loop
            for what, then in world.successors(state):
                known = numbers.setdefault(then, len(numbers))
                if known == len(self.states):
                    self.states.append(then)
                    self._origins.append((number, what))
                    self._before.append([])
                self._before[known].append(number)

    def story(self, number: int) -> str:
        """Return a shortest path to a state, as text."""
        lines = [repr(self.states[number])]
        while number:
            number, what = self._origins[number]
            lines.append(what)
        return "\n".join(reversed(lines))

    def leading_to(self, numbers: list[int]) -> set[int]:
        """Return the states from which one of these is reachable."""
        found = set(numbers)
        ahead = [*found]
        while ahead:
            for before in self._before[ahead.pop()]:
                if before not in found:
                    found.add(before)
                    ahead.append(before)
        return found
