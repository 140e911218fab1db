"""Where sessions were last found."""

from __future__ import annotations

from primacron.cluster.locations import BELIEVED, MAX_PLACES, Locations
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

A, B = NodeId("a"), NodeId("b")


def name(number: int) -> Name:
    return AccountId("ann"), SessionId(str(number))


def entry(number: int, node: NodeId = A, generation: int = 1) -> Entry:
    return Entry(SessionId(str(number)), node, generation, Sid("sid"))


def test_a_place_is_believed_for_a_while() -> None:
    locations = Locations()
    locations.put(name(1), entry(1), now=100.0)
    assert locations.get(name(1), 100.0 + BELIEVED - 0.01) == entry(1)
    assert locations.get(name(1), 100.0 + BELIEVED) is None
    assert len(locations) == 0


def test_what_was_found_last_counts_and_is_believed_anew() -> None:
    locations = Locations(5.0)
    locations.put(name(1), entry(1), now=0.0)
    locations.put(name(1), entry(1, B, 2), now=4.0)
    assert locations.get(name(1), 8.0) == entry(1, B, 2)
    assert len(locations) == 1


def test_names_are_those_of_account_and_session() -> None:
    locations = Locations()
    locations.put(name(1), entry(1), now=0.0)
    assert locations.get((AccountId("bob"), SessionId("1")), 0.0) is None
    assert locations.get(name(2), 0.0) is None


def test_a_place_that_was_dropped_is_believed_no_longer() -> None:
    locations = Locations()
    locations.put(name(1), entry(1), now=0.0)
    locations.drop(name(1))
    locations.drop(name(2))
    assert locations.get(name(1), 0.0) is None


def test_no_place_is_believed_on_a_node_that_is_gone() -> None:
    locations = Locations()
    for number, node in enumerate((A, B, A, B)):
        locations.put(name(number), entry(number, node), now=0.0)
    locations.drop_node(A)
    assert [locations.get(name(number), 0.0) is not None for number in range(4)] == [False, True, False, True]


def test_of_endless_places_the_oldest_are_forgotten() -> None:
    locations = Locations()
    for number in range(MAX_PLACES):
        locations.put(name(number), entry(number), now=0.0)
    locations.put(name(0), entry(0, B), now=1.0)
    for number in range(MAX_PLACES, MAX_PLACES + 1000):
        locations.put(name(number), entry(number), now=2.0)
        assert len(locations) <= MAX_PLACES
    assert locations.get(name(0), 2.0) == entry(0, B), "it was kept again after the others"
    assert locations.get(name(1), 2.0) is None
    assert locations.get(name(MAX_PLACES + 999), 2.0) is not None


def test_a_place_that_is_believed_no_longer_is_known_until_nothing_can_be_on_its_way_there() -> None:
    locations = Locations(10.0, overtaken=5.0)
    for number in range(4):
        locations.put(name(number), entry(number), now=0.0)
    locations.drop(name(0))
    assert locations.take_left(name(0), 1.0) == entry(0)
    assert locations.take_left(name(0), 1.0) is None
    assert locations.take_left(name(1), 9.9) is None
    assert locations.take_left(name(1), 14.9) == entry(1)
    assert locations.get(name(2), 10.0) is None
    assert locations.take_left(name(2), 15.0) is None
    locations.drop(name(3))
    locations.drop_node(A)
    assert locations.take_left(name(3), 11.0) is None
