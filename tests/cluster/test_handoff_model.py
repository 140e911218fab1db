"""
All that can happen while a session goes to another node, looked at one by one.

In each state at most one node serves the session, and its end is told at most once.
From each state there is a way to one where nothing is open any more, whatever
happened before; and there the session is in one place or has ended, the registry
agrees, and nothing that was queued is lost or doubled. See :mod:`tests.cluster.handoff_model`
and :mod:`tests.cluster.upgrade_model`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pytest

from primacron.handoff.states import (
    PROBE_DESTINATION,
    PROBE_SOURCE,
    TRANSFER_DESTINATION,
    TRANSFER_SOURCE,
    DestinationAction,
    DestinationEvent,
    DestinationProbe,
    DestinationProbeAction,
    DestinationProbeEvent,
    DestinationState,
    SourceAction,
    SourceEvent,
    SourceProbe,
    SourceProbeAction,
    SourceProbeEvent,
    SourceState,
    probe_destination,
    probe_source,
    transfer_destination,
    transfer_source,
)
from tests.cluster.handoff_model import Exploration, Transfer
from tests.cluster.handoff_state import NEW, OLD, OTHER, Client, Here, Luck, State
from tests.cluster.upgrade_model import Upgrade

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
    "lapsed": Luck(losses=1, doubles=1, silences=1, lapses=1),
    "lapsed and killed": Luck(losses=1, silences=1, kills=1, lapses=1),
}
#: Enough of it to use every row of the tables.
SOME = (Luck(losses=1, doubles=1), Luck(silences=1, clears=1), Luck(losses=1, kills=1), Luck(thirds=1, kills=1))

World: TypeAlias = type[Transfer]


def lives_at(state: State) -> tuple[bool, bool]:
    """Tell whether the source serves the session, and whether the destination does."""
    return state.at_source is Here.SERVED, state.at_destination is Here.SERVED


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
    lives_at_source, lives_at_destination = lives_at(state)
    has_to_restore = state.was_cleared and (
        (lives_at_source and state.entry in (None, OTHER)) or (lives_at_destination and state.entry != NEW)
    )
    return (
        (state.source_probe, state.source) == (None, None)
        and state.probe in (None, DestinationProbe.UPGRADED, DestinationProbe.FAILED)
        and state.destination in (None, DestinationState.OWNED, DestinationState.FAILED)
        and not state.claims
        and (state.destination_reads, state.tells, state.replaces) == (None, None, None)
        and not state.letters
        and not (lives_at_source and state.client is not Client.POLLS)
        and not has_to_restore
    )


def what_is_left(state: State) -> str | None:
    """Return what is not as it should be once nothing is open any more."""
    lives_at_source, lives_at_destination = lives_at(state)
    places = lives_at_source + lives_at_destination + state.ends_told
    if places != 1 and ((state.killed is None and not state.has_lapsed) or places > 1):
        return "it is neither in one place nor has it ended"
    if state.at_source is Here.FROZEN:
        return "it is frozen for ever"
    if lives_at_source and state.entry != OLD:
        return "the registry does not know that it is at the source"
    if lives_at_destination and state.entry != NEW:
        return "the registry does not know that it is at the destination"
    if state.ends_told and state.entry is not None and state.entry.node not in (state.killed, OTHER.node):
        return "the registry has a session that has ended"
    return what_is_lost(state)


def what_is_lost(state: State) -> str | None:
    """Return what the client did not get, although its session lives."""
    _, lives_at_destination = lives_at(state)
    if lives_at_destination and not state.queued_got:
        return "what was queued was lost"
    if state.late_held:
        return "what came meanwhile waits for ever"
    if lives_at_destination and state.at_source is Here.MOVED and state.late_sent and not state.late_got:
        return "what came meanwhile was lost"
    return None


def fault(world: Transfer, luck: Luck) -> str | None:
    """Return what can go wrong that should not, and how."""
    found = Exploration(world.start(luck), world)
    settled = []
    for number, state in enumerate(found.states):
        if (wrong := what_is_wrong(state)) is not None:
            return f"{wrong}:\n{found.story(number)}"
        if is_settled(state):
            settled.append(number)
            if (left := what_is_left(state)) is not None:
                return f"{left}:\n{found.story(number)}"
    ending = found.leading_to(settled)
    stuck = next((number for number in range(len(found.states)) if number not in ending), None)
    return None if stuck is None else f"nothing ends it:\n{found.story(stuck)}"


@pytest.mark.parametrize("luck", MISFORTUNES.values(), ids=MISFORTUNES)
@pytest.mark.parametrize("world", [Transfer, Upgrade])
def test_whatever_happens_the_session_is_in_one_place_or_has_ended_once(world: World, luck: Luck) -> None:
    assert (found := fault(world(), luck)) is None, found


@pytest.mark.parametrize(
    ("world", "ends"),
    [
        (Transfer, {(False, True, 0), (False, False, 1)}),
        (Upgrade, {(True, False, 0), (False, True, 0), (False, False, 1)}),
    ],
)
def test_the_session_can_move_or_end_and_stay_before_it_is_frozen(world: World, ends: set[object]) -> None:
    found = Exploration(world.start(Luck()), world())
    settled = [state for state in found.states if is_settled(state)]
    assert {(*lives_at(state), state.ends_told) for state in settled} == ends


def test_every_row_of_the_tables_is_needed() -> None:
    world, transfer = Upgrade(), Transfer()
    for luck in SOME:
        Exploration(world.start(luck), world)
        Exploration(transfer.start(luck), transfer)
    for each in (world, transfer):
        assert rows(TRANSFER_SOURCE, SourceAction.NOTHING) - each.rows_of_source == set()
        assert rows(TRANSFER_DESTINATION, DestinationAction.NOTHING) - each.rows_of_destination == set()
    assert rows(PROBE_SOURCE, SourceProbeAction.NOTHING) - world.rows_of_source_probe == set()
    assert rows(PROBE_DESTINATION, DestinationProbeAction.NOTHING) - world.rows_of_destination_probe == set()


def rows(table: dict[Any, Any], nothing: object) -> set[Any]:
    """Return the rows of a table that do something."""
    return {row for row, (_, action) in table.items() if action is not nothing}


TABLES: Final[tuple[tuple[dict[Any, Any], Callable[[Any, Any], Any], Any, Any, object], ...]] = (
    (PROBE_SOURCE, probe_source, SourceProbe, SourceProbeEvent, SourceProbeAction.NOTHING),
    (PROBE_DESTINATION, probe_destination, DestinationProbe, DestinationProbeEvent, DestinationProbeAction.NOTHING),
    (TRANSFER_SOURCE, transfer_source, SourceState, SourceEvent, SourceAction.NOTHING),
    (TRANSFER_DESTINATION, transfer_destination, DestinationState, DestinationEvent, DestinationAction.NOTHING),
)


@pytest.mark.parametrize(("table", "step", "states", "events", "nothing"), TABLES)
def test_what_a_table_does_not_have_changes_nothing(
    table: dict[Any, Any], step: Callable[[Any, Any], Any], states: Any, events: Any, nothing: object
) -> None:
    for state, event in itertools.product(states, events):
        assert step(state, event) == table.get((state, event), (state, nothing))


def test_a_side_that_has_ended_does_nothing_any_more() -> None:
    over = {SourceProbe.HANDED_OVER, SourceProbe.KEPT, SourceProbe.LOST}
    assert not {state for state, _ in PROBE_SOURCE} & over
    assert not {state for state, _ in PROBE_DESTINATION} & {DestinationProbe.UPGRADED, DestinationProbe.FAILED}
    assert not {state for state, _ in TRANSFER_SOURCE} & {SourceState.MOVED, SourceState.LOST}
    assert not {state for state, _ in TRANSFER_DESTINATION} & {DestinationState.OWNED, DestinationState.FAILED}


# What the search is worth: each of these puts a wrong row into a table, and the search says what comes of it.
PLANTED: Final[dict[str, tuple[dict[Any, Any], tuple[Any, Any], tuple[Any, Any], str, str]]] = {
    "the destination opens the session though it does not know the outcome of its claim": (
        TRANSFER_DESTINATION,
        (DestinationState.CLAIMING, DestinationEvent.UNKNOWN),
        (DestinationState.OWNED, DestinationAction.OPEN),
        "claimed",
        "the registry does not know that it is at the destination",
    ),
    "the destination opens the session though it has no entry": (
        TRANSFER_DESTINATION,
        (DestinationState.CLAIMING, DestinationEvent.NOWHERE),
        (DestinationState.OWNED, DestinationAction.OPEN),
        "lapsed",
        "its end was told while it lives",
    ),
    "the destination lets go though it does not know the outcome of its claim": (
        TRANSFER_DESTINATION,
        (DestinationState.SETTLING, DestinationEvent.UNKNOWN),
        (DestinationState.FAILED, DestinationAction.LEAVE),
        "silences",
        "the registry has a session that has ended",
    ),
    "the destination lets go once its time is up, though its claim may have been made": (
        TRANSFER_DESTINATION,
        (DestinationState.CLAIMING, DestinationEvent.EXPIRED),
        (DestinationState.FAILED, DestinationAction.LEAVE),
        "messages",
        "the registry has a session that has ended",
    ),
    "the source goes by the registry once its time is up": (
        TRANSFER_SOURCE,
        (SourceState.FROZEN, SourceEvent.EXPIRED),
        (SourceState.FENCING, SourceAction.LOOK),
        "cleared",
        "its end was told while it lives",
    ),
    "the source ends the session once its time is up": (
        TRANSFER_SOURCE,
        (SourceState.FROZEN, SourceEvent.EXPIRED),
        (SourceState.LOST, SourceAction.END),
        "messages",
        "its end was told while it lives",
    ),
    "the source ends the session without fencing": (
        TRANSFER_SOURCE,
        (SourceState.FENCING, SourceEvent.OURS),
        (SourceState.LOST, SourceAction.END),
        "lapsed",
        "its end was told while it lives",
    ),
    "the source does not ask what became of the session": (
        TRANSFER_SOURCE,
        (SourceState.FROZEN, SourceEvent.EXPIRED),
        (SourceState.FROZEN, SourceAction.NOTHING),
        "killed",
        "nothing ends it",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("world", [Transfer, Upgrade])
def test_the_search_finds_a_wrong_row(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table, row, wrong, misfortune, consequence = PLANTED[name]
    monkeypatch.setitem(table, row, wrong)
    found = fault(world(), MISFORTUNES[misfortune])
    assert found is not None
    assert found.startswith(f"{consequence}:\n")
