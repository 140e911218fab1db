"""A model of an upgrade by a websocket at another node: the probe, followed by the transfer."""

from __future__ import annotations

from collections.abc import Iterator

from primacron.handoff.states import (
    DestinationProbe,
    DestinationProbeAction,
    DestinationProbeEvent,
    DestinationState,
    SourceProbe,
    SourceProbeAction,
    SourceProbeEvent,
    SourceState,
    probe_destination,
    probe_source,
)
from tests.cluster.handoff_model import Step, Transfer
from tests.cluster.handoff_state import (
    CALM,
    DESTINATION,
    PROBE_MEANINGS,
    SOURCE,
    Client,
    Here,
    Letter,
    Luck,
    State,
)


class Upgrade(Transfer):
    """What can happen next, from a client that polls; beside those of a transfer it has the rows of the probe."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_of_source_probe: set[tuple[SourceProbe, SourceProbeEvent]] = set()
        self.rows_of_destination_probe: set[tuple[DestinationProbe, DestinationProbeEvent]] = set()

    @staticmethod
    def start(luck: Luck) -> State:
        """Return the beginning: the client polls at the source."""
        return State(luck)

    # The client

    def _client(self, state: State) -> Iterator[Step]:
        if state.probe is None and state.client is Client.POLLS and state.killed is not DESTINATION:
            yield "the websocket opens", state._replace(probe=DestinationProbe.OPEN, has_wire=True)
        if state.has_wire and state.probe in (DestinationProbe.OPEN, DestinationProbe.ALLOWED):
            yield "probe", self._step_probe(state, DestinationProbeEvent.PROBED)
        if state.has_wire and state.probe is DestinationProbe.ALLOWED:
            left = state._replace(client=Client.LEFT)
            yield "upgrade", self._step_probe(left, DestinationProbeEvent.UPGRADED)
        yield from super()._client(state)
        if state.client is Client.POLLS and not state.has_wire:
            yield "the client goes away", state._replace(client=Client.AWAY)
        may_get = state.luck.messages and not state.queued_got
        if may_get and state.client is Client.POLLS and state.at_source is Here.SERVED:
            yield "a poll takes what is queued", state._replace(queued_got=state.queued_got + 1)

    def _lost(self, state: State) -> State:
        return super()._lost(state) if state.destination else self._step_probe(state, DestinationProbeEvent.LOST)

    # Messages

    def _read_without_transfer(self, state: State, letter: Letter) -> State:
        if state.source_probe is not None:
            event = PROBE_MEANINGS.get(letter)
            return state if event is None else self._step_source_probe(state, event)
        if letter is Letter.QUIESCE:
            if state.at_source is Here.SERVED:
                return state._replace(source_probe=SourceProbe.CALMING)
            return self._send(state, Letter.NOT_CALM)
        return super()._read_without_transfer(state, letter)

    def _read_at_destination(self, state: State, letter: Letter) -> State:
        if letter is Letter.CALM and state.probe is DestinationProbe.ASKING:
            return self._step_probe(state, DestinationProbeEvent.ALLOWED)
        if letter is Letter.NOT_CALM and state.probe in (DestinationProbe.ASKING, DestinationProbe.ALLOWED):
            return self._step_probe(state, DestinationProbeEvent.REFUSED)
        return super()._read_at_destination(state, letter)

    def _verdict(self, state: State) -> Letter:
        return Letter.GIVEN_UP if state.probe is DestinationProbe.FAILED else super()._verdict(state)

    # The source

    def _source(self, state: State) -> Iterator[Step]:
        if state.source_probe is SourceProbe.CALMING:
            yield "the last handler ends", self._step_source_probe(state, SourceProbeEvent.CALMED)
        if state.source_probe is not None:
            told = self._send(state, Letter.NOT_CALM)
            yield "the source's time is up", self._step_source_probe(told, SourceProbeEvent.EXPIRED)
        if state.at_source is Here.SERVED and state.client is not Client.POLLS:
            yield "no pong comes at the source", self._end_at_source(state)
        yield from super()._source(state)

    def _step_source_probe(self, state: State, event: SourceProbeEvent) -> State:
        assert state.source_probe is not None
        self.rows_of_source_probe.add((state.source_probe, event))
        probe, action = probe_source(state.source_probe, event)
        return self._act_as_probed(state._replace(source_probe=probe), action)

    def _act_as_probed(self, state: State, action: SourceProbeAction) -> State:
        match action:
            case SourceProbeAction.SAY_CALM:
                state = self._send(state, Letter.CALM)
            case SourceProbeAction.GO_ON:
                state = state._replace(source_probe=None)
            case SourceProbeAction.CLOSE:
                state = self._end_at_source(state)
            case SourceProbeAction.HAND_OVER:
                frozen = state._replace(source_probe=None, source=SourceState.FROZEN, at_source=Here.FROZEN)
                state = self._send(frozen._replace(queued_packed=not state.queued_got), Letter.SESSION)
        return state

    def _end_at_source(self, state: State) -> State:
        if state.source_probe in (SourceProbe.CALMING, SourceProbe.CALM):
            state = self._send(state, Letter.NOT_CALM)
        return super()._end_at_source(state)

    # The destination

    def _destination(self, state: State) -> Iterator[Step]:
        if state.probe in (DestinationProbe.OPEN, DestinationProbe.ASKING, DestinationProbe.ALLOWED):
            yield "the destination's time is up", self._step_probe(state, DestinationProbeEvent.EXPIRED)
        if state.probe is DestinationProbe.ASKING:
            yield from self._again(state, Letter.QUIESCE, CALM)
            if state.killed is SOURCE:
                refused = self._step_probe(state, DestinationProbeEvent.REFUSED)
                yield "the destination knows that the source is gone", refused
        yield from super()._destination(state)

    def _step_probe(self, state: State, event: DestinationProbeEvent) -> State:
        assert state.probe is not None
        self.rows_of_destination_probe.add((state.probe, event))
        probe, action = probe_destination(state.probe, event)
        return self._act_as_probing(state._replace(probe=probe), action)

    def _act_as_probing(self, state: State, action: DestinationProbeAction) -> State:
        match action:
            case DestinationProbeAction.ASK:
                state = self._send(state, Letter.QUIESCE)
            case DestinationProbeAction.FETCH:
                state = self._send(state._replace(destination=DestinationState.FETCHING), Letter.FETCH)
            case DestinationProbeAction.CLOSE:
                state = self._gone(state._replace(has_wire=False))
            case DestinationProbeAction.CANCEL:
                state = self._let_go(state, Letter.SETTLE_CANCELLED)
        return state
