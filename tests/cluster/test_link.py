"""Whether a node reaches the others."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.link import MOVES, REACHABLE, Event, Link, LinkBack, LinkLost, State

N, U, D, A = State.NEW, State.UP, State.DEAF, State.AWAY
#: What leads to each state.
WAYS = {N: (), D: (Event.PROVEN,), U: (Event.PROVEN, Event.HEARD), A: (Event.FAILED,)}
#: State before, event, state after; whatever is not here changes nothing.
TABLE = [
    (N, Event.PROVEN, D),
    (N, Event.FAILED, A),
    (D, Event.HEARD, U),
    (D, Event.FAILED, A),
    (U, Event.SILENT, D),
    (U, Event.FAILED, A),
    (A, Event.PROVEN, D),
]


class Watched:
    """A link in a state, and what it said of its changes."""

    def __init__(self, state: State = State.NEW) -> None:
        self.changes: list[tuple[State, State, str]] = []
        self.link = Link(lambda before, why: self.changes.append((before, self.link.state, why)))
        for event in WAYS[state]:
            self.link.step(event)
        self.changes.clear()


@pytest.mark.parametrize(("before", "event"), [*itertools.product(State, Event)])
def test_a_link_makes_the_moves_of_the_table_and_no_others(before: State, event: Event) -> None:
    expected = next((after for state, what, after in TABLE if (state, what) == (before, event)), before)
    watched = Watched(before)
    watched.link.step(event, "why")
    assert watched.link.state is expected
    assert watched.changes == ([] if expected is before else [(before, expected, "why")])


def test_the_table_has_nothing_else() -> None:
    assert {(before, event): after for before, event, after in TABLE} == MOVES


@pytest.mark.parametrize(("state", "is_reachable"), [(N, False), (U, True), (D, True), (A, False)])
def test_the_backend_may_be_asked_when_it_answers(state: State, is_reachable: bool) -> None:
    assert Watched(state).link.is_reachable is is_reachable
    assert (state in REACHABLE) is is_reachable


def test_every_state_can_be_left_and_come_to() -> None:
    assert {before for before, _ in MOVES} == set(State)
    assert set(MOVES.values()) == set(State) - {State.NEW}


def test_a_link_is_up_only_after_it_was_proven_and_hears() -> None:
    watched = Watched()
    for event in (Event.HEARD, Event.SILENT, Event.PROVEN, Event.PROVEN, Event.HEARD, Event.HEARD):
        watched.link.step(event)
    assert [after for _, after, _ in watched.changes] == [D, U]


async def test_a_method_of_the_backend_is_called_with_its_arguments() -> None:
    async def method(one: int, *, two: int) -> int:
        return one + two

    assert await Watched(State.UP).link.ask(method, 1, two=2) == 3
    assert await Watched(State.DEAF).link.ask(method, 1, two=2) == 3


@pytest.mark.parametrize("state", [State.NEW, State.AWAY])
async def test_nobody_waits_for_a_backend_that_is_away(state: State) -> None:
    called: list[int] = []

    async def method() -> None:
        called.append(1)
        await asyncio.Event().wait()

    watched = Watched(state)
    with pytest.raises(BackendUnavailable, match="it is away"):
        await watched.link.ask(method)
    assert called == []
    assert watched.changes == []


async def test_a_call_that_fails_tells_that_the_backend_is_away() -> None:
    async def method() -> None:
        raise BackendUnavailable("frozen")

    watched = Watched(State.UP)
    with pytest.raises(BackendUnavailable, match="frozen"):
        await watched.link.ask(method)
    [(before, after, why)] = watched.changes
    assert (before, after) == (State.UP, State.AWAY)
    assert "frozen" in why


async def test_calls_that_fail_together_tell_it_once() -> None:
    go = asyncio.Event()

    async def method() -> None:
        await go.wait()
        raise BackendUnavailable("frozen")

    watched = Watched(State.UP)
    calls = [asyncio.ensure_future(watched.link.ask(method)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in found] == [BackendUnavailable] * 5
    assert len(watched.changes) == 1


async def test_another_error_is_not_the_backends_fault() -> None:
    async def method() -> None:
        raise ZeroDivisionError

    watched = Watched(State.UP)
    with pytest.raises(ZeroDivisionError):
        await watched.link.ask(method)
    assert watched.link.state is State.UP


def test_what_is_told_of_the_link_is_an_error_of_the_bus() -> None:
    lost, back = LinkLost("no answer"), LinkBack(2.345)
    assert (lost.event, back.event) == ("error::bus", "error::bus")
    assert "no answer" in str(lost)
    assert "2.3 s" in str(back)
