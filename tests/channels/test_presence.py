"""Who is in a channel: what a node tells the others, what it asks of them, and what its own members hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from primacron.channels.notices import Changes, Count, Members, Notice
from primacron.channels.parts import (
    MAX_DELTA,
    Change,
    Delta,
    Present,
    Reply,
    Snapshot,
    pack_delta,
    split_changes,
    unpack_delta,
)
from primacron.channels.presence import Action, Announce, Ask, Presence, Publish, Ready, Send, Tell
from primacron.channels.roster import MOVES, Sign, Sync
from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId

ME, OTHER, THIRD = NodeId("m"), NodeId("a"), NodeId("z")
ANN, BOB, CEE = ((AccountId(who), SessionId("1")) for who in ("ann", "bob", "cee"))
NIL, ONE, TWO = b"\xc0", b"\x01", b"\x02"
START = 100.0
#: When the node of most tests has the channel.
OPEN = START + 1


def here(name: Name, info: bytes = NIL) -> Change:
    return Change(*name, info)


def gone(name: Name, *, moved: bool = False) -> Change:
    return Change(*name, None, moved)


def part(version: int, *names: Name, info: bytes = NIL) -> Snapshot:
    return Snapshot(version, [Present(*name, info) for name in names])


class Node:
    """A node with one channel, whose other nodes are played by the test."""

    def __init__(self, id: NodeId = ME, *, limit: int = 1_000, grace: float = 5.0) -> None:
        self.now = START
        self.presence = Presence(id, limit=limit, grace=grace)
        self.published: list[Delta] = []

    def open(self) -> Node:
        """Have the channel, and know that nobody else has it."""
        self.presence.open("c", self.now)
        self.presence.heard("c", heard=True, now=self.now)
        self.flush()
        self.presence.sent("c", self.published.pop(), 0)
        self.now += 1
        self.flush()
        return self

    def flush(self) -> list[Action]:
        """Do what is to be done now; deltas are kept in ``published``."""
        actions: list[Action] = []
        while (due := self.presence.due) is not None and due <= self.now:
            actions += self.presence.flush(self.now)
        self.published += [action.delta for action in actions if isinstance(action, Publish)]
        return actions

    def notices(self) -> list[Notice]:
        return [action.notice for action in self.flush() if isinstance(action, Tell)]

    def told(self) -> list[tuple[str, Name, bytes]]:
        """Return the changes that members hear of now."""
        notices = self.notices()
        assert all(isinstance(notice, Changes) for notice in notices)
        return [(*change,) for notice in notices if isinstance(notice, Changes) for change in notice.changes]

    def asked(self) -> list[tuple[NodeId, dict[str, int]]]:
        return [(action.node, dict(action.known)) for action in self.flush() if isinstance(action, Ask)]

    def hear(self, version: int, *changes: Change, before: int | None = None, node: NodeId = OTHER) -> None:
        delta = Delta(node, version - 1 if before is None else before, version, changes)
        self.presence.hear("c", delta, self.now)

    def join(self, name: Name, info: bytes = NIL) -> None:
        self.presence.join("c", name, info, self.now)

    def leave(self, name: Name, *, moved: bool = False) -> None:
        self.presence.leave("c", name, self.now, moved=moved)

    @property
    def members(self) -> list[Name]:
        return [*self.presence.members("c")]


@pytest.fixture
def node() -> Node:
    return Node().open()


# What members hear


def test_changes_of_a_tick_are_told_together(node: Node) -> None:
    node.join(ANN)
    node.join(BOB, ONE)
    node.hear(1, here(CEE, TWO), before=0)
    assert node.told() == [("join", ANN, NIL), ("join", BOB, ONE), ("join", CEE, TWO)]
    node.join(ANN, ONE)
    node.leave(BOB)
    node.hear(2, gone(CEE))
    assert node.told() == [("update", ANN, ONE), ("leave", BOB, ONE), ("leave", CEE, TWO)]
    assert node.members == [ANN]


def test_what_is_undone_in_a_tick_is_not_told(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.join(BOB)
    node.leave(BOB)
    node.leave(ANN)
    node.join(ANN)
    assert node.told() == []


def test_a_join_that_changes_nothing_is_not_told(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.published.clear()
    node.join(ANN)
    assert node.told() == []
    assert node.published == []


@pytest.mark.parametrize("leaves_first", [True, False])
@pytest.mark.parametrize("is_apart", [True, False], ids=["in two ticks", "in one"])
@pytest.mark.parametrize("moves", [(OTHER, THIRD), (THIRD, OTHER), (ME, OTHER), (OTHER, ME)])
def test_a_move_is_not_heard(node: Node, moves: tuple[NodeId, NodeId], leaves_first: bool, is_apart: bool) -> None:
    source, target = moves

    def come(at: NodeId) -> None:
        if at == ME:
            node.join(ANN, ONE)
        else:
            node.hear(1, here(ANN, ONE), before=0, node=at)

    def go() -> None:
        if source == ME:
            node.leave(ANN, moved=True)
        else:
            node.hear(2, gone(ANN, moved=True), node=source)

    come(source)
    assert node.told() == [("join", ANN, ONE)]
    steps: list[Callable[[], None]] = [go, partial(come, target)]
    for step in steps if leaves_first else reversed(steps):
        step()
        assert node.told() == [] or not is_apart
    assert node.told() == []
    node.now += 60
    assert node.told() == []
    assert node.members == [ANN]


def test_who_does_not_arrive_has_left(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.flush()
    node.hear(2, gone(ANN, moved=True))
    node.now += 4.9
    assert node.told() == []
    node.now += 0.1
    assert node.told() == [("leave", ANN, NIL)]


def test_each_move_has_its_own_time(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.hear(2, gone(ANN, moved=True))
    node.hear(1, here(ANN), before=0, node=THIRD)
    node.flush()
    node.now += 4
    node.hear(2, gone(ANN, moved=True), node=THIRD)
    node.flush()
    node.now += 4
    node.join(ANN)
    node.now += 60
    assert node.told() == []


def test_who_leaves_while_it_is_expected_has_left(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.hear(2, gone(ANN, moved=True))
    node.flush()
    node.hear(5, gone(ANN), before=0, node=THIRD)
    node.hear(6, gone(ANN), node=THIRD)
    assert node.told() == [("leave", ANN, NIL)]


def test_of_two_claims_the_last_leave_counts(node: Node) -> None:
    node.join(ANN, ONE)
    node.hear(1, here(ANN, TWO), before=0, node=THIRD)
    assert node.told() == [("join", ANN, TWO)]
    node.leave(ANN)
    assert node.told() == []
    node.hear(2, gone(ANN), node=THIRD)
    assert node.told() == [("leave", ANN, TWO)]


def test_all_nodes_see_the_info_of_the_same_claim(node: Node) -> None:
    node.hear(1, here(ANN, TWO), before=0, node=OTHER)
    node.join(ANN, ONE)
    assert node.told() == [("join", ANN, ONE)]
    node.leave(ANN)
    assert node.told() == [("update", ANN, TWO)]


# Absences


def test_a_short_absence_is_not_heard(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.published.clear()
    node.presence.away("c", ANN, node.now)
    node.now += 4.9
    assert node.told() == []
    node.presence.back("c", ANN, node.now)
    node.now += 60
    assert node.told() == []
    assert node.published == []


def test_a_long_absence_is_a_leave_and_the_return_a_join(node: Node) -> None:
    node.join(ANN, ONE)
    node.flush()
    node.published.clear()
    node.presence.away("c", ANN, node.now)
    node.flush()
    assert node.presence.due == OPEN + 5
    node.now += 5
    assert node.told() == [("leave", ANN, ONE)]
    node.join(ANN, TWO)  # its info is set meanwhile
    assert node.told() == []
    node.presence.back("c", ANN, node.now)
    assert node.told() == [("join", ANN, TWO)]
    assert [delta.changes for delta in node.published] == [(gone(ANN),), (here(ANN, TWO),)]


def test_an_absence_ends_with_the_membership(node: Node) -> None:
    node.join(ANN)
    node.presence.away("c", ANN, node.now)
    node.leave(ANN)
    node.join(ANN)
    node.flush()
    node.now += 60
    assert node.told() == []
    node.presence.away("c", ANN, node.now)
    node.flush()
    node.now += 5
    assert node.told() == [("leave", ANN, NIL)]
    node.leave(ANN)
    node.presence.back("c", ANN, node.now)
    assert node.told() == []


def test_a_second_drop_does_not_prolong_the_first(node: Node) -> None:
    node.join(ANN)
    node.presence.away("c", ANN, node.now)
    node.flush()
    node.now += 4
    node.presence.away("c", ANN, node.now)
    node.flush()
    node.now += 1
    assert node.told() == [("leave", ANN, NIL)]


def test_absence_of_who_is_not_there_is_nothing(node: Node) -> None:
    node.presence.away("c", ANN, node.now)
    node.presence.back("c", ANN, node.now)
    assert node.told() == []
    assert node.presence.due is None


# Large channels


def numbered(count: int, begin: int = 0) -> Iterator[Name]:
    for number in range(begin, begin + count):
        yield AccountId(f"a{number}"), SessionId("1")


def test_above_the_limit_members_are_counted_once_a_second() -> None:
    node = Node(limit=10).open()
    for name in numbered(10):
        node.join(name)
    assert len(node.told()) == 10
    assert not node.presence.counts("c")
    node.join(ANN)
    assert node.notices() == [Count(11)]
    assert node.presence.counts("c")
    node.now += 0.5
    node.join(BOB)
    assert node.notices() == []
    assert node.presence.due == OPEN + 1
    node.now += 0.5
    assert node.notices() == [Count(12)]
    node.leave(BOB)
    node.join(CEE)
    node.now += 10
    assert node.notices() == []
    assert node.presence.due is None


def test_below_nine_tenths_of_the_limit_names_are_told_again() -> None:
    node = Node(limit=10).open()
    for name in numbered(11):
        node.join(name)
    node.flush()
    node.now += 1
    for name in numbered(2):
        node.leave(name)
    assert node.notices() == [Count(9)]
    node.now += 0.1
    node.leave(next(numbered(1, 2)))
    [notice] = node.notices()
    assert isinstance(notice, Members)
    assert [*notice.members] == [*numbered(8, 3)]
    node.join(ANN)
    assert node.told() == [("join", ANN, NIL)]


def test_a_count_is_told_again_after_a_time_with_names() -> None:
    node = Node(limit=2).open()
    for name in (ANN, BOB, CEE):
        node.join(name)
    assert node.notices() == [Count(3)]
    node.leave(BOB)
    node.leave(CEE)
    assert node.notices() == [Members({ANN: NIL})]
    node.join(BOB)
    node.join(CEE)
    assert node.notices() == []
    node.now += 1
    assert node.notices() == [Count(3)]


# What other nodes are told


def test_deltas_of_a_tick_are_joined_and_have_versions(node: Node) -> None:
    node.join(ANN, ONE)
    node.join(BOB)
    node.flush()
    node.leave(ANN)
    node.leave(BOB, moved=True)
    node.flush()
    first, second = node.published
    assert first.changes == (here(ANN, ONE), here(BOB))
    assert second.changes == (gone(ANN), gone(BOB, moved=True))
    assert second.before == first.version < second.version


def test_what_other_nodes_tell_is_not_told_again(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.flush()
    assert node.published == []


def test_the_first_message_of_a_part_waits_until_the_channel_is_heard_and_asks() -> None:
    node = Node()
    node.presence.open("c", node.now)
    node.join(ANN)
    assert node.told() == [("join", ANN, NIL)]
    assert node.published == []
    node.presence.heard("c", heard=True, now=node.now)
    node.flush()
    [delta] = node.published
    assert (delta.before, delta.changes) == (0, (here(ANN),))
    assert delta.asks


def test_messages_are_of_a_size_that_a_topic_takes(node: Node) -> None:
    for name in numbered(1_000):
        node.join(name, bytes(1_000))
    node.flush()
    assert len(node.published) == 11
    assert all(len(pack_delta(delta)) < 1.1 * MAX_DELTA for delta in node.published)
    assert [change.name for delta in node.published for change in delta.changes] == [*numbered(1_000)]
    for one, two in zip(node.published, node.published[1:], strict=False):
        assert two.before == one.version


def test_no_changes_are_one_message() -> None:
    assert [*split_changes([])] == [[]]


def test_what_may_not_have_been_sent_is_followed_by_its_version(node: Node) -> None:
    node.join(ANN)
    node.flush()
    [delta] = node.published
    node.presence.unsent("c", node.now)
    node.flush()
    assert node.presence.due == OPEN + 1
    node.now += 1
    node.flush()
    again = node.published[-1]
    assert (again.before, again.version, again.changes) == (delta.version, delta.version, ())
    node.presence.unsent("c", node.now)
    node.flush()
    node.now += 1
    node.flush()
    assert node.published[-1] == again
    node.presence.sent("c", again, 3)
    node.flush()
    assert node.presence.due is None


def test_a_later_message_shows_that_one_is_missing_so_that_the_version_is_not_repeated(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.presence.unsent("c", node.now)
    node.join(BOB)
    node.flush()
    node.now += 60
    assert node.flush() == []


def test_while_nothing_can_be_sent_changes_are_collected(node: Node) -> None:
    meet(node, a=0)
    node.flush()
    node.presence.unanswered(OTHER, node.now)
    node.join(ANN)
    node.flush()
    node.published.clear()
    node.presence.unsent("c", node.now)
    node.presence.connect(is_connected=False)
    node.flush()
    node.join(BOB)
    node.leave(ANN)
    assert node.told() == [("join", BOB, NIL), ("leave", ANN, NIL)]
    node.now += 60
    assert node.presence.due is None
    node.join(ANN, ONE)
    node.flush()
    assert node.published == []
    node.presence.connect(is_connected=True)
    assert node.asked() == [(OTHER, {"c": 0})]
    [delta] = node.published
    assert delta.changes == (here(BOB), here(ANN, ONE))


def test_what_may_not_have_been_sent_is_repeated_once_it_can_be(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.presence.connect(is_connected=False)
    node.presence.unsent("c", node.now)
    node.flush()
    node.now += 60
    assert node.presence.due is None
    node.presence.connect(is_connected=True)
    node.flush()
    first, again = node.published
    assert (again.before, again.version, again.changes) == (first.version, first.version, ())


def test_a_channel_is_closed_when_all_is_told(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.presence.close("c")
    node.flush()
    assert "c" in node.presence
    node.leave(ANN)
    node.flush()
    assert "c" in node.presence
    first, last = node.published
    node.presence.sent("c", first, 0)
    node.presence.unsent("c", node.now)
    node.flush()
    assert "c" in node.presence
    node.now += 1
    node.flush()
    node.presence.sent("c", last, 0)
    node.flush()
    assert "c" not in node.presence
    node.presence.sent("c", last, 0)
    assert node.presence.due is None


def test_a_channel_that_is_opened_again_goes_on(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.presence.close("c")
    node.presence.open("c", node.now)
    node.flush()
    assert node.members == [ANN]


def test_a_part_that_begins_anew_is_not_taken_for_the_earlier(node: Node) -> None:
    node.join(ANN)
    node.flush()
    node.leave(ANN)
    node.flush()
    for delta in node.published:
        node.presence.sent("c", delta, 0)
    latest = node.published[-1].version
    node.presence.close("c")
    node.flush()
    assert node.presence.answer({"c": latest}) == {"c": Snapshot(latest, ())}
    assert node.presence.answer({"c": 0}) == {}
    node.published.clear()
    node.open()
    node.join(BOB)
    # It has not told this, but in a later version than all before.
    assert node.presence.answer({"c": latest}) == {"c": part(latest + 1, BOB)}


# Other parts


def test_a_hole_is_noticed_asked_for_and_filled(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.flush()
    assert node.presence.is_certain("c")
    node.hear(3, here(CEE))
    node.hear(4, gone(ANN), here(CEE, ONE))
    assert node.asked() == [(OTHER, {"c": -1})]
    assert node.members == [ANN]
    assert not node.presence.is_certain("c")
    node.presence.answered(OTHER, {"c": part(2, ANN, BOB)}, node.now)
    assert node.told() == [("leave", ANN, NIL), ("join", BOB, NIL), ("join", CEE, ONE)]
    assert node.presence.is_certain("c")
    node.hear(5, gone(BOB))
    assert node.told() == [("leave", BOB, NIL)]


def test_an_answer_may_be_newer_than_what_was_kept(node: Node) -> None:
    node.hear(3, here(ANN))
    node.asked()
    node.presence.answered(OTHER, {"c": part(4, BOB)}, node.now)
    assert node.told() == [("join", BOB, NIL)]
    node.hear(4, gone(ANN))
    assert node.told() == []
    node.hear(5, here(CEE))
    assert node.told() == [("join", CEE, NIL)]
    assert node.presence.is_certain("c")


def test_an_answer_that_is_too_old_is_asked_for_again(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.hear(3, here(BOB))
    node.asked()
    node.hear(5, here(CEE))
    node.presence.answered(OTHER, {"c": part(3, ANN, BOB)}, node.now)
    assert node.asked() == [(OTHER, {"c": -1})]
    node.presence.answered(OTHER, {"c": part(4, ANN)}, node.now)
    assert node.told() == [("join", CEE, NIL)]
    assert node.presence.is_certain("c")


def test_what_is_older_than_what_is_known_is_nothing(node: Node) -> None:
    node.hear(4, here(ANN), before=0)
    node.flush()
    node.hear(2, here(BOB), before=0)
    node.hear(3, here(BOB))
    node.hear(4, here(BOB))
    assert node.asked() == []
    assert node.members == [ANN]
    assert node.presence.is_certain("c")


def test_an_old_answer_replaces_nothing(node: Node) -> None:
    node.hear(4, here(ANN), before=0)
    node.hear(6, here(BOB))
    node.asked()
    node.hear(7, here(CEE), before=0)
    node.presence.answered(OTHER, {"c": part(5, ANN)}, node.now)
    node.flush()
    assert node.presence.members("c").keys() >= {CEE}
    node.now += 5
    node.flush()
    assert node.members == [CEE]


def test_a_version_that_is_told_again_shows_a_hole(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    node.hear(1, before=1)
    assert node.asked() == []
    node.hear(2, before=2)
    assert node.asked() == [(OTHER, {"c": -1})]
    node.presence.answered(OTHER, {"c": part(2, ANN, BOB)}, node.now)
    assert node.told() == [("join", BOB, NIL)]


def test_who_is_missing_in_a_snapshot_may_be_on_its_way(node: Node) -> None:
    node.hear(1, here(ANN), here(BOB), before=0)
    node.hear(4, here(CEE), before=3)
    node.asked()
    node.presence.answered(OTHER, {"c": part(4, CEE)}, node.now)
    assert node.told() == [("join", CEE, NIL)]
    node.hear(1, here(ANN), before=0, node=THIRD)
    node.now += 2
    assert node.told() == [("leave", BOB, NIL)]
    assert node.members == [ANN, CEE]


def test_a_part_that_begins_anew_replaces_the_earlier(node: Node) -> None:
    node.hear(1, here(ANN), here(BOB), before=0)
    node.flush()
    node.hear(9, here(BOB, ONE), before=0)
    assert node.told() == [("update", BOB, ONE)]
    node.now += 2
    assert node.told() == [("leave", ANN, NIL)]


def test_a_node_is_asked_one_question_at_a_time(node: Node) -> None:
    node.presence.open("d", node.now)
    node.hear(3, here(ANN))
    assert node.asked() == [(OTHER, {"c": -1})]
    node.hear(5, here(BOB))
    node.presence.hear("d", Delta(OTHER, 5, 6, (here(BOB),)), node.now)
    assert node.asked() == []
    node.presence.answered(OTHER, {"c": part(5, ANN, BOB)}, node.now)
    assert node.asked() == [(OTHER, {"d": -1})]


def test_a_node_that_does_not_answer_is_asked_again_a_second_later(node: Node) -> None:
    node.hear(3, here(ANN))
    node.asked()
    node.presence.unanswered(OTHER, node.now)
    assert node.asked() == []
    assert not node.presence.is_certain("c")
    assert node.presence.due == OPEN + 1
    node.now += 1
    assert node.asked() == [(OTHER, {"c": -1})]


def test_an_answer_for_a_channel_that_was_closed_is_nothing(node: Node) -> None:
    node.hear(3, here(ANN))
    node.asked()
    node.presence.close("c")
    node.flush()
    node.open()
    node.presence.answered(OTHER, {"c": part(3, ANN)}, node.now)
    node.flush()
    assert node.members == []


# The first member


def ask(node: Node) -> Delta:
    """Have the first member, and return the message that asks for the other parts."""
    node.presence.open("c", node.now)
    node.join(ANN)
    node.presence.heard("c", heard=True, now=node.now)
    node.flush()
    return node.published[-1]


def reply(node: Node, delta: Delta, sender: NodeId, *names: Name) -> None:
    node.presence.replied(sender, Reply("c", delta.asks, part(7, *names)), node.now)


def test_joins_wait_for_the_parts_of_all_who_hear_the_channel() -> None:
    node = Node()
    delta = ask(node)
    assert not node.presence.is_ready("c")
    node.presence.sent("c", delta, 2)
    reply(node, delta, OTHER, BOB)
    assert Ready("c") not in node.flush()
    reply(node, delta, THIRD)
    assert Ready("c") in node.flush()
    assert node.presence.is_ready("c")
    assert node.presence.is_certain("c")
    assert node.members == [ANN, BOB]
    node.hear(8, here(CEE), node=THIRD)
    assert node.told() == [("join", CEE, NIL)]


def test_answers_may_come_before_their_number_is_known() -> None:
    node = Node()
    delta = ask(node)
    reply(node, delta, OTHER, BOB)
    assert Ready("c") not in node.flush()
    node.presence.sent("c", delta, 1)
    assert Ready("c") in node.flush()


def test_joins_do_not_wait_longer_than_a_second_and_the_rest_is_asked_for() -> None:
    node = Node()
    node.presence.renewed({ME: 0, OTHER: 0, THIRD: 0}, node.now, is_settled=True)
    delta = ask(node)
    node.presence.sent("c", delta, 2)
    reply(node, delta, OTHER)
    node.flush()
    assert node.presence.due == START + 1
    node.now += 1
    actions = node.flush()
    assert Ready("c") in actions
    assert not node.presence.is_certain("c")
    questions = [action for action in actions if isinstance(action, Ask)]
    assert questions == [Ask(OTHER, {"c": 7}), Ask(THIRD, {"c": 0})]
    node.presence.answered(OTHER, {}, node.now)
    node.presence.answered(THIRD, {"c": part(3, BOB)}, node.now)
    assert node.told() == [("join", BOB, NIL)]
    assert node.presence.is_certain("c")


def test_joins_do_not_wait_longer_for_a_channel_that_is_not_heard() -> None:
    node = Node()
    node.presence.open("c", node.now)
    node.join(ANN)
    node.flush()
    node.now += 1
    assert Ready("c") in node.flush()
    assert not node.presence.is_certain("c")


def test_a_question_whose_channel_is_lost_is_asked_again() -> None:
    node = Node()
    delta = ask(node)
    node.presence.heard("c", heard=False, now=node.now)
    reply(node, delta, OTHER, BOB)  # what came later may have been lost
    node.flush()
    assert node.members == [ANN]
    node.presence.heard("c", heard=True, now=node.now)
    node.flush()
    again = node.published[-1]
    assert again.asks not in (0, delta.asks)
    node.presence.sent("c", delta, 0)
    assert Ready("c") not in node.flush()
    node.presence.sent("c", again, 0)
    assert Ready("c") in node.flush()


def test_changes_are_told_while_a_question_is_lost() -> None:
    node = Node()
    delta = ask(node)
    node.presence.heard("c", heard=False, now=node.now)
    node.join(BOB)
    node.flush()
    change = node.published[-1]
    assert (change.before, change.changes) == (delta.version, (here(BOB),))
    node.presence.unsent("c", node.now)
    node.flush()
    node.now += 1
    node.flush()
    assert node.published[-1] == Delta(ME, change.version, change.version, ())


def test_who_hears_a_question_answers_with_its_part_even_without_the_channel(node: Node) -> None:
    node.join(ANN)
    node.flush()
    version = node.published[-1].version
    for channel, snapshot in (("c", part(version, ANN)), ("d", Snapshot(version, ()))):
        node.presence.hear(channel, Delta(OTHER, 0, 5, (), 17), node.now)
        assert node.flush() == [Send(OTHER, Reply(channel, 17, snapshot))]
    assert node.presence.is_certain("c")


def test_who_has_no_members_can_ask_and_is_no_part() -> None:
    asker, node = Node(THIRD), Node().open()
    inquiry = asker.presence.inquire(asker.now)
    node.join(ANN)
    node.presence.hear("c", inquiry.delta, node.now)
    [answer] = [action for action in node.flush() if isinstance(action, Send)]
    assert answer.node == THIRD
    inquiry.expected = 2
    asker.presence.replied(ME, answer.reply, asker.now)
    assert not inquiry.is_complete
    reply = Reply("c", inquiry.asks, part(1, ANN, BOB, info=TWO))
    asker.presence.replied(OTHER, reply, asker.now)
    assert inquiry.is_complete
    assert inquiry.members == {ANN: NIL, BOB: TWO}  # of two claims that of the same node as everywhere
    asker.presence.forget(inquiry)
    asker.presence.replied(OTHER, reply, asker.now)
    assert asker.presence.due is None


# Lost subscriptions


def meet(node: Node, **counts: int) -> None:
    nodes = {NodeId(each): count for each, count in counts.items()}
    node.presence.renewed({ME: 0} | nodes, node.now, is_settled=True)


def test_after_a_lost_subscription_parts_are_compared(node: Node) -> None:
    meet(node, a=0, z=0)
    for other, _ in node.asked():
        node.presence.answered(other, {}, node.now)
    node.hear(1, here(ANN), before=0)
    node.flush()
    node.presence.heard("c", heard=False, now=node.now)
    assert not node.presence.is_certain("c")
    node.presence.heard("c", heard=True, now=node.now)
    assert node.asked() == [(OTHER, {"c": 1}), (THIRD, {"c": 0})]
    node.presence.answered(OTHER, {"c": part(2)}, node.now)
    node.presence.answered(THIRD, {}, node.now)
    assert node.presence.is_certain("c")
    node.now += 5
    assert node.told() == [("leave", ANN, NIL)]


def test_others_are_told_once_of_all_subscriptions_that_were_lost_together(node: Node) -> None:
    node.presence.open("d", node.now)
    node.presence.heard("d", heard=True, now=node.now)
    assert Announce(1) not in node.flush()
    for number in (1, 2):
        for channel in ("c", "d"):
            node.presence.heard(channel, heard=False, now=node.now)
        assert Announce(number) not in node.flush()
        for channel in ("c", "d"):
            node.presence.heard(channel, heard=True, now=node.now)
        assert node.flush().count(Announce(number)) == 1


def test_parts_are_compared_with_who_has_lost_a_subscription(node: Node) -> None:
    meet(node, a=0, z=3)
    for other, _ in node.asked():
        node.presence.answered(other, {}, node.now)
    meet(node, a=0, z=3)
    assert node.asked() == []
    meet(node, a=1, z=3)
    assert node.asked() == [(OTHER, {"c": 0})]


def test_one_message_compares_all_channels(node: Node) -> None:
    node.presence.open("d", node.now)
    meet(node, a=0)
    assert node.asked() == [(OTHER, {"c": 0, "d": 0})]


def test_versions_that_are_known_are_not_answered(node: Node) -> None:
    node.join(ANN)
    node.flush()
    version = node.published[-1].version
    assert node.presence.answer({"c": version}) == {}
    assert node.presence.answer({"c": version - 1, "d": 0}) == {"c": part(version, ANN)}
    assert node.presence.answer({"c": -1, "d": -1}) == {"c": part(version, ANN), "d": Snapshot(version, ())}


# Nodes that end


def test_the_part_of_a_node_that_is_gone_is_taken_out_at_once(node: Node) -> None:
    node.join(ANN)
    node.hear(1, here(ANN), here(BOB), before=0)
    node.flush()
    node.presence.fallen({OTHER}, node.now)
    assert node.told() == [("leave", BOB, NIL)]
    assert node.members == [ANN]


def test_messages_of_a_node_that_is_gone_bring_nobody_back(node: Node) -> None:
    delta = ask(other := Node())
    node.hear(1, here(ANN), before=0)
    node.flush()
    node.presence.fallen({OTHER}, node.now)
    node.flush()
    node.hear(1, here(ANN), before=0)
    node.hear(2, here(BOB))
    other.presence.fallen({OTHER}, other.now)
    reply(other, delta, OTHER, BOB)
    other.flush()
    assert node.flush() == []
    assert node.members == []
    assert other.members == [ANN]


def test_a_question_that_was_open_when_its_node_fell_is_forgotten(node: Node) -> None:
    node.hear(3, here(ANN))
    node.asked()
    node.presence.fallen({OTHER}, node.now)
    node.presence.unanswered(OTHER, node.now)
    node.presence.answered(OTHER, {"c": part(3, ANN)}, node.now)
    node.now += 10
    assert node.asked() == []
    assert node.presence.is_certain("c")


def test_a_node_that_lives_again_is_asked_for_its_part(node: Node) -> None:
    meet(node, a=0)
    for other, _ in node.asked():
        node.presence.answered(other, {}, node.now)
    node.hear(1, here(ANN), before=0)
    node.presence.fallen({OTHER}, node.now)
    node.flush()
    meet(node, a=0)
    assert node.asked() == [(OTHER, {"c": 0})]
    node.hear(2, here(BOB))
    node.presence.answered(OTHER, {"c": part(1, ANN)}, node.now)
    assert node.told() == [("join", ANN, NIL), ("join", BOB, NIL)]


def test_a_node_without_a_lease_is_believed_for_a_while(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    meet(node)
    node.now += 9
    meet(node)
    node.presence.renewed({ME: 0}, node.now, is_settled=False)
    assert node.told() == [("join", ANN, NIL)]
    meet(node)
    node.now += 9
    meet(node)
    assert node.told() == []
    node.now += 1
    meet(node)
    assert node.told() == [("leave", ANN, NIL)]


def test_a_node_with_a_lease_is_believed(node: Node) -> None:
    node.hear(1, here(ANN), before=0)
    meet(node)
    node.now += 9
    meet(node, a=0)
    meet(node)
    node.now += 9
    meet(node)
    assert node.told() == [("join", ANN, NIL)]
    assert node.members == [ANN]


def test_a_channel_that_is_closed_and_opened_again_is_compared(node: Node) -> None:
    meet(node, a=0)
    for other, _ in node.asked():
        node.presence.answered(other, {}, node.now)
    node.join(ANN)
    node.flush()
    node.leave(ANN)
    node.presence.close("c")
    node.flush()  # it is not known yet whether that was sent
    node.presence.open("c", node.now)
    assert not node.presence.is_certain("c")
    node.presence.heard("c", heard=True, now=node.now)
    assert node.asked() == [(OTHER, {"c": 0})]


# What stands for the members


def test_what_was_told_has_one_digest_on_all_nodes(node: Node) -> None:
    other = Node(OTHER).open()
    assert node.presence.digest("c") == 0
    node.join(ANN, ONE)
    node.hear(1, here(BOB, TWO), here(CEE), before=0)
    node.flush()
    other.join(BOB, ONE)
    other.flush()
    assert node.presence.digest("c") != other.presence.digest("c")
    other.join(BOB, TWO)
    other.join(CEE)
    other.hear(1, here(ANN, ONE), before=0, node=ME)
    other.flush()
    assert node.presence.digest("c") == other.presence.digest("c") != 0
    node.leave(ANN)
    assert node.presence.digest("c") == other.presence.digest("c")  # as it is not told yet
    node.flush()
    assert node.presence.digest("c") != other.presence.digest("c")


def test_a_number_has_no_digest_and_names_have_their_own_again() -> None:
    node, other = Node(limit=2).open(), Node(OTHER).open()
    for each in (node, other):
        each.join(ANN)
        each.flush()
    node.join(BOB)
    node.join(CEE)
    node.flush()
    assert node.presence.digest("c") == 0
    node.leave(BOB)
    node.leave(CEE)
    node.flush()
    assert node.presence.digest("c") == other.presence.digest("c") != 0


@pytest.mark.parametrize("id", ["", "m"])
def test_a_node_sees_its_own_members_whatever_it_is_called(id: str) -> None:
    node = Node(NodeId(id)).open()
    node.join(ANN)
    assert node.told() == [("join", ANN, NIL)]


# What it costs


def test_members_that_neither_come_nor_go_need_no_time(node: Node) -> None:
    for name in numbered(100):
        node.join(name)
    node.flush()
    for delta in node.published:
        node.presence.sent("c", delta, 0)
    node.flush()
    assert node.presence.due is None


def test_timers_of_a_channel_are_not_kept_for_each_absence(node: Node) -> None:
    node.join(ANN)
    node.flush()
    for _ in range(1_000):
        node.presence.away("c", ANN, node.now)
        node.flush()
        node.presence.back("c", ANN, node.now)
        node.flush()
        node.now += 0.001
    assert len(node.presence._wakes) <= 2


# Wire and table


def test_messages_are_read_as_they_were_written() -> None:
    delta = Delta(ME, 3, 4, (here(ANN, ONE), gone(BOB, moved=True), gone(CEE)), 9)
    read = unpack_delta(pack_delta(delta))
    assert (read.node, read.before, read.version, tuple(read.changes), read.asks) == (ME, 3, 4, delta.changes, 9)


@pytest.mark.parametrize("sync", Sync)
def test_from_every_state_a_channel_that_is_heard_becomes_steady(sync: Sync) -> None:
    seen = sync
    for sign in (Sign.HEARD, Sign.ANSWERED):
        seen = MOVES.get((seen, sign), seen)
    assert seen is Sync.STEADY
