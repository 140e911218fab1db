"""Which nodes live: as last read, counted down since."""

from __future__ import annotations

import pytest

from primacron.cluster.leases import Leases
from primacron.cluster.registry import Lease
from primacron.ids import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def rows(**seconds: float) -> dict[NodeId, tuple[Lease, float]]:
    return {NodeId(node): (Lease(hint=f"hint-{node}"), left) for node, left in seconds.items()}


@pytest.fixture
def leases() -> Leases:
    leases = Leases()
    leases.read(rows(a=4.0, b=2.0, c=-1.0), now=100.0)
    return leases


def test_a_lease_lives_as_long_as_it_had_left_when_it_was_read(leases: Leases) -> None:
    assert leases.living(100.0) == {A, B}
    assert leases.living(101.9) == {A, B}
    assert leases.living(102.0) == {A}
    assert leases.living(104.0) == set()


def test_what_a_node_says_of_itself_is_known_as_long_as_it_lives(leases: Leases) -> None:
    assert leases.get(A, 103.9) == Lease(hint="hint-a")
    assert leases.get(A, 104.0) is None
    assert leases.get(C, 100.0) is None
    assert leases.get(NodeId("stranger"), 100.0) is None


def test_a_node_is_known_until_its_lease_is_gone(leases: Leases) -> None:
    assert leases.knows(C)
    assert not leases.knows(NodeId("stranger"))
    leases.read(rows(a=4.0), now=101.0)
    assert not leases.knows(C)
    assert len(leases) == 1


def test_a_node_is_found_by_the_hint_of_its_sids_as_long_as_it_lives(leases: Leases) -> None:
    assert leases.by_hint("hint-b", 101.0) == B
    assert leases.by_hint("hint-b", 102.0) is None
    assert leases.by_hint("hint-c", 100.0) is None
    assert leases.by_hint("", 100.0) is None


def test_nodes_without_a_hint_are_not_found_by_none() -> None:
    leases = Leases()
    leases.read({A: (Lease(), 4.0)}, now=0.0)
    assert leases.by_hint("", 1.0) is None


def test_each_fall_is_told_once(leases: Leases) -> None:
    assert leases.fallen(101.0) == set()
    assert leases.fallen(102.5) == {B}
    assert leases.fallen(102.5) == set()
    assert leases.fallen(200.0) == {A}
    assert leases.fallen(300.0) == set()


def test_a_node_that_had_ended_before_it_was_first_seen_does_not_fall(leases: Leases) -> None:
    assert C not in leases.fallen(500.0)


def test_a_node_that_has_retired_falls_at_the_next_look(leases: Leases) -> None:
    leases.read(rows(a=4.0), now=100.5)
    assert leases.fallen(100.5) == {B}


def test_a_lease_that_was_renewed_in_time_does_not_fall(leases: Leases) -> None:
    leases.read(rows(a=4.0, b=4.0), now=101.0)
    assert leases.fallen(103.0) == set()


def test_a_node_that_comes_back_may_fall_again(leases: Leases) -> None:
    assert leases.fallen(102.5) == {B}
    leases.read(rows(a=4.0, b=4.0), now=103.0)
    assert leases.fallen(103.0) == set()
    assert leases.fallen(107.5) == {A, B}


def test_leases_that_ended_long_ago_are_told_apart(leases: Leases) -> None:
    assert leases.ended(100.0) == {C}
    assert leases.ended(100.0, before=60.0) == set()
    assert leases.ended(159.0, before=60.0) == {C}
    assert leases.ended(162.0, before=60.0) == {B, C}


def test_all_are_complete_when_each_that_lives_is() -> None:
    leases = Leases()
    complete = Lease(complete=("one", "two"))
    leases.read({A: (complete, 4.0), B: (Lease(complete=("two",)), 2.0), C: (Lease(), -1.0)}, now=0.0)
    assert leases.all_complete("two", 1.0)
    assert not leases.all_complete("one", 1.0)
    assert leases.all_complete("one", 3.0)
    assert not leases.all_complete("three", 1.0)


def test_a_node_that_begins_to_hear_nothing_is_told_once() -> None:
    leases = Leases()
    hears, deaf = (Lease(), 4.0), (Lease(deaf=True), 4.0)
    assert leases.read({A: hears, B: deaf}, 0.0) == {B}
    assert leases.read({A: deaf, B: deaf}, 1.0) == {A}
    assert leases.read({A: deaf, B: hears}, 2.0) == set()
    assert leases.read({A: deaf, B: deaf}, 3.0) == {B}


# A backend whose clock is set: leases are marked with their ends on it


def marked(mark: float, now: float, ahead: float, lasts: float = 4.0) -> dict[NodeId, tuple[Lease, float]]:
    """Return a lease that ends then by the backend's clock, which is so far ahead."""
    return {A: (Lease(lasts=lasts), mark - now - ahead)}


@pytest.mark.parametrize("jump", [5.0, -5.0, -3600.0])
def test_a_lease_that_is_not_renewed_ends_in_its_time_whatever_the_clock_does(jump: float) -> None:
    leases = Leases()
    leases.read(marked(1004.0, 0.0, 1000.0), 0.0, 1000.0)
    for now in (1.0, 2.0, 3.0):
        leases.read(marked(1004.0, now, 1000.0 + jump), now, 1000.0 + jump)
    assert leases.living(3.9) == {A}
    assert leases.living(4.1) == set()


def test_a_lease_that_was_renewed_before_the_clock_went_on_does_not_end_earlier() -> None:
    leases = Leases()
    leases.read(marked(1004.0, 0.0, 1000.0), 0.0, 1000.0)
    leases.read(marked(1004.5, 1.0, 1005.0), 1.0, 1005.0)
    assert leases.living(3.9) == {A}


def test_a_lease_that_was_renewed_before_the_clock_went_back_lasts_no_longer_than_any() -> None:
    leases = Leases()
    leases.read(marked(1004.0, 0.0, 1000.0), 0.0, 1000.0)
    leases.read(marked(1004.5, 1.0, 900.0), 1.0, 900.0)
    assert leases.living(4.9) == {A}
    assert leases.living(5.1) == set()


def test_a_lease_that_was_lost_counts_down_where_others_had_no_time_to_renew_theirs(leases: Leases) -> None:
    leases.read(rows(b=4.0), now=101.0, keeps=True)
    assert leases.living(101.0) == {A, B}
    assert leases.by_hint("hint-a", 101.0) == A
    assert leases.living(104.0) == {B}
    leases.read(rows(b=4.0), now=104.5, keeps=True)
    assert not leases.knows(A)


def test_who_attends_is_known_as_long_as_it_lives() -> None:
    leases = Leases()
    leases.read({A: (Lease(attends=False), 4.0), B: (Lease(attends=True), 2.0), C: (Lease(), -1.0)}, now=0.0)
    assert leases.attending(1.0) == {B}
    assert leases.attending(3.0) == set()
