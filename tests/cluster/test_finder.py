"""Where a session is, or why that cannot be said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.finder import LOOK_EVERY, MAX_STRANGERS, Absence, Finder, Place
from primacron.cluster.link import State
from primacron.cluster.registry import SETTLED_AFTER, Claim, Lease
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid
from tests.cluster.ends import HERE
from tests.cluster.member import LONG, Member, member

ANN = AccountId("ann")
ONE, TWO, THREE = SessionId("one"), SessionId("two"), SessionId("three")
SID = Sid("sid-1")
THERE, NEWER = NodeId("there"), NodeId("newer")


class Search(Finder):
    """A finder whose answers are waited for."""

    def __init__(self, node: Member) -> None:
        super().__init__(node.cluster)
        self.node = node

    def where(self, *sessions: SessionId) -> list[Place]:
        found = self.node.loop.run_until_complete(self.find(ANN, sessions))
        return [found[session] for session in sessions]

    def claim(self, session: SessionId = ONE, node: NodeId = THERE, sid: Sid = SID) -> Entry:
        claim: Claim = self.node.loop.run_until_complete(self.node.others.claim(ANN, session, node, sid))
        assert claim.entry is not None
        return claim.entry


@pytest.fixture
def node() -> Iterator[Member]:
    with member() as node:
        node.add(THERE)
        yield node


@pytest.fixture
def search(node: Member) -> Search:
    return Search(node)


# What is there


def test_a_session_is_where_its_entry_says_if_that_node_lives_and_hears(search: Search) -> None:
    there, here = search.claim(), search.claim(TWO, HERE)
    assert search.where(ONE, TWO) == [there, here]


def test_several_sessions_are_found_in_one_go_each_for_itself(node: Member, search: Search) -> None:
    node.add(NEWER, Lease(deaf=True, complete=(node.shared.epoch,)))
    one = search.claim()
    search.claim(TWO, NEWER)
    assert search.where(TWO, THREE, ONE) == [Absence.UNSURE, Absence.UNKNOWN, one]
    assert search.where(ONE, ONE) == [one, one]
    assert search.where() == []


def test_an_entry_that_is_written_between_the_first_look_and_the_second_is_found(node: Member, search: Search) -> None:
    async def claim() -> None:
        await node.others.claim(ANN, ONE, THERE, SID)

    node.registry.between = claim
    [place] = search.where(ONE)
    assert isinstance(place, Entry)
    assert (place.node, place.sid) == (THERE, SID)


# What is not there


@pytest.mark.parametrize(
    ("age", "is_complete", "expected"),
    [
        (SETTLED_AFTER + 1, True, Absence.UNKNOWN),
        (SETTLED_AFTER - 1, True, Absence.UNSURE),
        (SETTLED_AFTER + 1, False, Absence.UNSURE),
        (0.0, False, Absence.UNSURE),
    ],
)
def test_that_nobody_has_a_session_is_certain_when_all_had_the_time_to_say_and_have_said(
    node: Member, search: Search, age: float, is_complete: bool, expected: Absence
) -> None:
    node.shared.epoch_began = node.shared.clock() - age
    node.cluster._membership._began.clear()  # it has not seen how that epoch began
    node.add(NEWER, Lease(complete=(node.shared.epoch,) if is_complete else ("another",)))
    assert search.where(ONE) == [expected]


def test_a_node_that_has_not_said_everything_does_not_count_once_its_lease_has_ended(
    node: Member, search: Search
) -> None:
    node.add(NEWER, Lease(), seconds=2.0)
    assert search.where(ONE) == [Absence.UNSURE]
    node.loop.advance(2.1)
    assert search.where(ONE) == [Absence.UNKNOWN]


def test_this_node_has_to_have_said_everything_too(node: Member, search: Search) -> None:
    node.cluster._membership.complete = ()
    assert search.where(ONE) == [Absence.UNKNOWN], "it has nothing to say"
    node.loop.run_until_complete(node.cluster.attend())
    node.cluster._membership.complete = ()
    assert search.where(ONE) == [Absence.UNSURE]


def test_after_the_registry_was_emptied_nothing_is_certain_until_all_is_written_again(
    node: Member, search: Search
) -> None:
    search.claim()
    node.shared.clear()
    assert search.where(ONE) == [Absence.UNSURE]
    node.loop.advance(SETTLED_AFTER - 0.5)
    node.add(THERE, Lease())
    assert search.where(ONE) == [Absence.UNSURE], "too early"
    node.loop.advance(1.0)
    assert search.where(ONE) == [Absence.UNSURE], "the other node has not written its entries"
    node.add(THERE)
    assert search.where(ONE) == [Absence.UNKNOWN]
    again = search.claim()
    assert search.where(ONE) == [again]


# Nodes that are gone, or hear nothing


def test_a_session_whose_node_has_died_is_gone_with_it(node: Member, search: Search) -> None:
    node.add(NEWER, seconds=2.0)
    entry = search.claim(ONE, NEWER)
    assert search.where(ONE) == [entry]
    node.loop.advance(2.1)
    assert search.where(ONE) == [Absence.GONE]


def test_right_after_an_outage_a_lease_that_is_missing_is_no_proof(node: Member, search: Search) -> None:
    search.claim(node=NodeId("stranger"))
    node.shared.away = True
    node.loop.advance(3.0)
    node.shared.away = False
    node.loop.advance(2.0)
    assert node.cluster.link.state is State.UP
    assert search.where(ONE) == [Absence.UNSURE]
    node.loop.advance(SETTLED_AFTER)
    assert search.where(ONE) == [Absence.GONE]


def test_a_node_that_hears_nothing_cannot_be_sent_to(node: Member, search: Search) -> None:
    entry = search.claim()
    node.add(THERE, Lease(deaf=True, complete=(node.shared.epoch,)))
    assert search.where(ONE) == [Absence.UNSURE]
    node.add(THERE)
    assert search.where(ONE) == [entry]


def test_a_place_is_believed_no_longer_once_its_node_says_that_it_hears_nothing(node: Member, search: Search) -> None:
    entry, name = search.claim(), (ANN, ONE)
    places = node.cluster.locations
    places.put(name, entry, node.loop.time())
    node.add(THERE, Lease(deaf=True, complete=(node.shared.epoch,)))
    assert places.get(name, node.loop.time()) is None
    node.add(THERE)
    places.put(name, entry, node.loop.time())
    node.add(NEWER)
    assert places.get(name, node.loop.time()) == entry


def test_what_is_here_is_here_although_this_node_hears_nothing(node: Member, search: Search) -> None:
    entry = search.claim(ONE, HERE)
    deaf = Lease(deaf=True, complete=(node.shared.epoch,))
    node.cluster._membership.leases.read({HERE: (deaf, LONG)}, node.loop.time())
    assert search.where(ONE) == [entry]


# Nodes that are new


def test_a_node_that_is_newer_than_the_last_look_is_met(node: Member, search: Search) -> None:
    node.add(NEWER, is_known=False)
    entry = search.claim(ONE, NEWER)
    before = node.registry.renewals
    assert search.where(ONE) == [entry]
    assert node.registry.renewals == before + 1


def test_a_stranger_is_asked_for_once_in_a_while(node: Member, search: Search) -> None:
    search.claim(ONE, NodeId("swept long ago"))
    node.loop.run_until_complete(node.cluster.meet())
    before = node.registry.renewals
    for _ in range(5):
        assert search.where(ONE) == [Absence.GONE]
    assert node.registry.renewals == before + 1
    node.cluster._membership._lease = LONG
    node.loop.advance(LOOK_EVERY + 1.0)
    before = node.registry.renewals
    assert search.where(ONE) == [Absence.GONE]
    assert node.registry.renewals == before + 1


def test_of_endless_strangers_not_all_are_kept(search: Search) -> None:
    for number in range(MAX_STRANGERS + 10):
        search.claim(ONE, NodeId(f"stranger-{number}"))
        assert search.where(ONE) == [Absence.GONE]
    assert len(search._strangers) <= MAX_STRANGERS + 1


# Without the registry


def test_nobody_waits_for_a_registry_that_is_away(node: Member, search: Search) -> None:
    search.claim()
    node.shared.away = True
    assert search.where(ONE, TWO) == [Absence.AWAY, Absence.AWAY]
    assert node.cluster.link.state is State.AWAY
    node.shared.away = False
    assert search.where(ONE) == [Absence.AWAY], "until it was proven that it is back"
    node.loop.run_until_complete(node.cluster.meet())
    assert search.where(ONE) != [Absence.AWAY]


# All sessions of an account


def test_of_an_account_the_sessions_are_those_of_living_nodes(node: Member, search: Search) -> None:
    node.add(NEWER, seconds=2.0)
    entries = [search.claim(ONE), search.claim(TWO, NEWER), search.claim(THREE, NodeId("stranger"))]
    found, is_certain = node.loop.run_until_complete(search.sessions(ANN))
    assert sorted(found, key=lambda entry: entry.id) == [entries[0], entries[1]]
    assert is_certain
    node.loop.advance(2.1)
    assert node.loop.run_until_complete(search.sessions(ANN))[0] == [entries[0]]
    assert node.loop.run_until_complete(search.sessions(AccountId("bob")))[0] == []


def test_the_sessions_of_an_account_are_not_told_while_the_registry_is_away(node: Member, search: Search) -> None:
    node.shared.away = True
    with pytest.raises(BackendUnavailable):
        node.loop.run_until_complete(search.sessions(ANN))


# Connections that have moved


def locate(search: Search, sid: Sid = SID) -> object:
    return search.node.loop.run_until_complete(search.locate(sid))


def place(search: Search, sid: Sid = SID) -> None:
    search.node.loop.run_until_complete(search.node.others.place(sid, (ANN, ONE), 900.0))


def test_a_connection_that_has_moved_is_found_by_its_sid(search: Search) -> None:
    entry = search.claim()
    place(search)
    assert locate(search) == ((ANN, ONE), entry)


def test_a_connection_that_never_moved_is_not_found_by_its_sid(search: Search) -> None:
    search.claim()
    assert locate(search) is Absence.UNKNOWN


def test_a_connection_whose_session_has_another_one_is_no_more(search: Search) -> None:
    search.claim(sid=Sid("a newer one"))
    place(search)
    assert locate(search) is Absence.UNKNOWN


def test_a_connection_that_has_moved_to_a_node_that_died_is_gone(node: Member, search: Search) -> None:
    node.add(NEWER, seconds=2.0)
    search.claim(ONE, NEWER)
    place(search)
    node.loop.advance(2.1)
    assert locate(search) == ((ANN, ONE), Absence.GONE)


def test_a_connection_that_has_moved_and_ended_is_unknown(search: Search) -> None:
    place(search)
    assert locate(search) == ((ANN, ONE), Absence.UNKNOWN)


def test_where_a_connection_is_cannot_be_said_while_the_registry_is_away(node: Member, search: Search) -> None:
    place(search)
    node.shared.away = True
    assert locate(search) is Absence.AWAY


def test_the_issuer_of_a_sid_is_the_living_node_with_its_hint(node: Member, search: Search) -> None:
    node.add(NEWER, Lease(hint="eightish"), seconds=2.0)
    sid = Sid("eightish" + "x" * 22)
    assert search.issuer_of(sid) == NEWER
    assert search.issuer_of(Sid("nobody's" + "x" * 22)) is None
    node.loop.advance(2.1)
    assert search.issuer_of(sid) is None


def test_the_issuer_of_a_sid_may_be_newer_than_the_last_look(node: Member, search: Search) -> None:
    node.add(NEWER, Lease(hint="eightish"), is_known=False)
    sid = Sid("eightish" + "x" * 22)
    assert node.loop.run_until_complete(search.find_issuer(sid)) == NEWER
    assert node.loop.run_until_complete(search.find_issuer(Sid("nobody's" + "x" * 22))) is None
