"""The life of a session."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from primacron.protocol.close_reasons import FORCED_CLOSE
from primacron.sessions.lifecycle import CHANGES, DELIVERABLE, Change, State, change
from tests.sessions.line import Bench

# Written down again, so that a change of the table is a decision and not a slip.
LIVES = {
    State.DETACHED: {Change.ATTACH: State.OPEN, Change.CLOSE: State.ENDED},
    State.OPEN: {Change.QUIESCE: State.QUIESCED, Change.CLOSE: State.ENDED},
    State.QUIESCED: {Change.RELEASE: State.OPEN, Change.FREEZE: State.FROZEN, Change.CLOSE: State.ENDED},
    State.FROZEN: {Change.HAND_OFF: State.MOVED, Change.CLOSE: State.ENDED},
    State.MOVED: {},
    State.ENDED: {},
}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Change)))
def test_a_session_changes_as_the_table_says_and_no_other_way(state: State, event: Change) -> None:
    assert CHANGES.get((state, event)) is LIVES[state].get(event)
    assert change(state, event) is LIVES[state].get(event, state)


def test_every_state_is_reached_and_all_but_those_that_are_over_can_end() -> None:
    assert {State.DETACHED, *CHANGES.values()} == set(State)
    for state in set(State) - {State.MOVED, State.ENDED}:
        assert change(state, Change.CLOSE) is State.ENDED


async def test_a_session_has_a_connection_exactly_where_it_is_deliverable(bench: Bench) -> None:
    steps: dict[State, Callable[[Any], object]] = {
        State.OPEN: lambda session: None,
        State.QUIESCED: lambda session: session.quiesce(lambda: None),
        State.FROZEN: lambda session: (session.quiesce(lambda: None), session.freeze()),
        State.MOVED: lambda session: (session.quiesce(lambda: None), session.freeze(), session.hand_off()),
        State.ENDED: lambda session: session.connection.end(FORCED_CLOSE),
    }
    for state, step in steps.items():
        connection, _ = bench.connect(state.name)
        session = bench.hub.session_of(connection)
        step(session)
        assert session.state is state
        assert (session.connection is connection) is session.connected is (state in DELIVERABLE)
        assert bench.hub.live((session.account, session.id)) is (session if state in DELIVERABLE else None)


async def test_a_session_that_stays_is_open_again(bench: Bench) -> None:
    connection, _ = bench.connect("ann")
    session = bench.hub.session_of(connection)
    calmed: list[bool] = []
    session.quiesce(lambda: calmed.append(True))
    assert calmed == [True]
    session.release()
    assert session.state is State.OPEN
    assert session.connection is connection
