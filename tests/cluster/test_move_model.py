"""
All that can happen while a session moves, looked at one by one; see :mod:`tests.cluster.move_model`.

In each state at most one node serves the session, and its end is told at most once.
From each state there is a way to one where nothing is open any more, whatever
happened before; and there the session is in one place or has ended, the registry
agrees, and nothing that was queued is lost or doubled.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from primacron.cluster.move import Taking
from tests.cluster.move_model import NEW, OLD, OTHER, Client, Here, Luck, State, World, explore

#: What may go wrong together; each case is gone through to its end.
MISFORTUNES = {
    "messages": Luck(losses=2, doubles=2),
    "silences": Luck(losses=1, doubles=1, silences=2),
    "cleared": Luck(losses=1, doubles=1, silences=1, clears=1),
    "claimed": Luck(losses=1, doubles=1, silences=1, thirds=1),
    "cleared and claimed": Luck(losses=1, silences=1, clears=1, thirds=1),
    "killed": Luck(losses=1, silences=2, kills=1),
    "killed and cleared": Luck(silences=1, clears=1, kills=1),
}


def path(found: dict[State, tuple[State, str] | None], state: State) -> str:
    """Tell how a state was reached."""
    steps = []
    before = found[state]
    while before is not None:
        earlier, what = before
        steps.append(what)
        before = found[earlier]
    return "\n".join([*reversed(steps), repr(state)])


def serves(state: State) -> list[bool]:
    return [
        state.at_giver is Here.SERVED,
        state.at_taker is Here.SERVED,
    ]


def what_is_wrong(state: State) -> str | None:
    """Return what may never be so."""
    if all(serves(state)):
        return "both nodes serve the session"
    if state.ends_told > 1:
        return "its end was told twice"
    if state.ends_told and any(serves(state)):
        return "its end was told while it lives"
    if state.queued_got > 1:
        return "what was queued came twice"
    if state.late_got > 1:
        return "what came meanwhile came twice"
    return None


def is_settled(state: State) -> bool:
    """Tell whether nothing is open any more."""
    return (
        state.giving is None
        and state.taking in (None, Taking.OWNED, Taking.FAILED)
        and not state.claims
        and state.taker_reads is state.tells is state.replaces is None
        and not state.letters
        and not (state.at_giver is Here.SERVED and state.client is not Client.POLLS)
        and not (state.was_cleared and state.entry is None and any(serves(state)))
        and not (state.was_cleared and state.entry is OLD and state.at_taker is Here.SERVED)
        and not (state.was_cleared and state.entry is OTHER and any(serves(state)))
    )


def what_is_left(state: State) -> str | None:
    """Return what is not as it should be once nothing is open any more."""
    lives_at_giver, lives_at_taker = serves(state)
    if state.killed is None and lives_at_giver + lives_at_taker + state.ends_told != 1:
        return "it is neither in one place nor has it ended"
    if state.killed is not None and lives_at_giver + lives_at_taker + state.ends_told > 1:
        return "it is in two places"
    if state.at_giver is Here.FROZEN:
        return "it is frozen for ever"
    if lives_at_giver and state.entry != OLD:
        return "the registry does not know that it is at the giver"
    if lives_at_taker and state.entry != NEW:
        return "the registry does not know that it is at the taker"
    if state.ends_told and state.entry is not None and state.entry.node not in (state.killed, OTHER.node):
        return "the registry has a session that has ended"
    if lives_at_taker and not state.queued_got:
        return "what was queued was lost"
    if state.late_held:
        return "what came meanwhile waits for ever"
    if lives_at_taker and state.at_giver is Here.GIVEN and state.late_sent and not state.late_got:
        return "what came meanwhile was lost"
    return None


@pytest.mark.parametrize("luck", MISFORTUNES.values(), ids=MISFORTUNES)
def test_whatever_happens_the_session_is_in_one_place_or_has_ended_once(luck: Luck) -> None:
    world = World()
    found = explore(State(luck), world.successors)
    before: dict[State, list[State]] = defaultdict(list)
    settled: list[State] = []
    for state in found:
        assert (wrong := what_is_wrong(state)) is None, f"{wrong}:\n{path(found, state)}"
        for _, then in world.successors(state):
            before[then].append(state)
        if is_settled(state):
            settled.append(state)
            assert (left := what_is_left(state)) is None, f"{left}:\n{path(found, state)}"
    print(len(found), len(settled))
    reaching = set(settled)
    layer = settled
    while layer:
        layer = [each for state in layer for each in before[state] if each not in reaching and not reaching.add(each)]
    for state in found:
        assert state in reaching, f"nothing ends it:\n{path(found, state)}"
