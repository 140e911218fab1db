"""
All that can happen while a session moves, looked at one by one; see :mod:`tests.cluster.move_model`.

In each state at most one node serves the session, and its end is told at most once.
From each state there is a way to one where nothing is open any more, whatever
happened before; and there the session is in one place or has ended, the registry
agrees, and nothing that was queued is lost or doubled.
"""

from __future__ import annotations

import itertools

import pytest

from primacron.cluster.move import GIVING, TAKING, Give, Giver, Giving, Take, Taker, Taking, give, take
from tests.cluster.move_model import Exploration, World
from tests.cluster.move_state import NEW, OLD, OTHER, Client, Here, Luck, State

#: What may go wrong together; each case is gone through to its end.
MISFORTUNES = {
    "messages": Luck(losses=2, doubles=2),
    "silences": Luck(losses=1, doubles=1, silences=2),
    "sends": Luck(losses=1, silences=1, messages=1),
    "cleared": Luck(losses=1, doubles=1, silences=1, clears=1),
    "claimed": Luck(losses=1, silences=1, thirds=1),
    "cleared and claimed": Luck(losses=1, clears=1, thirds=1),
    "killed": Luck(losses=2, doubles=1, silences=2, kills=1),
    "killed and cleared": Luck(losses=1, silences=1, clears=1, kills=1),
    "killed and claimed": Luck(silences=1, thirds=1, kills=1),
}
#: Enough of it to use every row of the tables.
SOME = (Luck(losses=1, doubles=1), Luck(silences=1, clears=1), Luck(losses=1, kills=1), Luck(thirds=1, kills=1))


def lives_at(state: State) -> tuple[bool, bool]:
    """Tell whether the giver serves the session, and whether the taker does."""
    return state.at_giver is Here.SERVED, state.at_taker is Here.SERVED


def what_is_wrong(state: State) -> str | None:
    """Return what may never be so."""
    if all(lives_at(state)):
        return "both nodes serve the session"
    if state.ends_told > 1:
        return "its end was told twice"
    if state.ends_told and any(lives_at(state)):
        return "its end was told while it lives"
    if state.queued_got > 1:
        return "what was queued came twice"
    if state.late_got > 1:
        return "what came meanwhile came twice"
    return None


def is_settled(state: State) -> bool:
    """Tell whether nothing is open any more, and who looks after entries has done so."""
    lives_at_giver, lives_at_taker = lives_at(state)
    has_to_restore = state.was_cleared and (
        (lives_at_giver and state.entry in (None, OTHER)) or (lives_at_taker and state.entry != NEW)
    )
    return (
        state.giving is None
        and state.taking in (None, Taking.OWNED, Taking.FAILED)
        and not state.claims
        and (state.taker_reads, state.tells, state.replaces) == (None, None, None)
        and not state.letters
        and not (lives_at_giver and state.client is not Client.POLLS)
        and not has_to_restore
    )


def what_is_left(state: State) -> str | None:
    """Return what is not as it should be once nothing is open any more."""
    lives_at_giver, lives_at_taker = lives_at(state)
    places = lives_at_giver + lives_at_taker + state.ends_told
    if places != 1 and (state.killed is None or places > 1):
        return "it is neither in one place nor has it ended"
    if state.at_giver is Here.FROZEN:
        return "it is frozen for ever"
    if lives_at_giver and state.entry != OLD:
        return "the registry does not know that it is at the giver"
    if lives_at_taker and state.entry != NEW:
        return "the registry does not know that it is at the taker"
    if state.ends_told and state.entry is not None and state.entry.node not in (state.killed, OTHER.node):
        return "the registry has a session that has ended"
    return what_is_lost(state)


def what_is_lost(state: State) -> str | None:
    """Return what the client did not get, although its session lives."""
    _, lives_at_taker = lives_at(state)
    if lives_at_taker and not state.queued_got:
        return "what was queued was lost"
    if state.late_held:
        return "what came meanwhile waits for ever"
    if lives_at_taker and state.at_giver is Here.GIVEN and state.late_sent and not state.late_got:
        return "what came meanwhile was lost"
    return None


@pytest.mark.parametrize("luck", MISFORTUNES.values(), ids=MISFORTUNES)
def test_whatever_happens_the_session_is_in_one_place_or_has_ended_once(luck: Luck) -> None:
    found = Exploration(State(luck), World())
    settled = []
    for number, state in enumerate(found.states):
        assert (wrong := what_is_wrong(state)) is None, f"{wrong}:\n{found.story(number)}"
        if is_settled(state):
            settled.append(number)
            assert (left := what_is_left(state)) is None, f"{left}:\n{found.story(number)}"
    ending = found.leading_to(settled)
    for number in range(len(found.states)):
        assert number in ending, f"nothing ends it:\n{found.story(number)}"


def test_the_session_can_stay_move_or_end() -> None:
    found = Exploration(State(Luck()), World())
    settled = [state for state in found.states if is_settled(state)]
    assert {(*lives_at(state), state.ends_told) for state in settled} == {
        (True, False, 0),
        (False, True, 0),
        (False, False, 1),
    }


def test_every_row_of_the_tables_is_needed() -> None:
    world = World()
    for luck in SOME:
        Exploration(State(luck), world)
    rows = {row for row, (_, action) in GIVING.items() if action is not Giver.NOTHING}
    assert rows - world.given == set()
    others = {row for row, (_, action) in TAKING.items() if action is not Taker.NOTHING}
    assert others - world.taken == set()


def test_what_the_tables_do_not_have_changes_nothing() -> None:
    for state, event in itertools.product(Giving, Give):
        assert (state, event) in GIVING or give(state, event) == (state, Giver.NOTHING)
    for taking, what in itertools.product(Taking, Take):
        assert (taking, what) in TAKING or take(taking, what) == (taking, Taker.NOTHING)


def test_a_side_that_has_ended_does_nothing_any_more() -> None:
    assert not {state for state, _ in GIVING} & {Giving.GIVEN, Giving.KEPT, Giving.LOST}
    assert not {state for state, _ in TAKING} & {Taking.OWNED, Taking.FAILED}
