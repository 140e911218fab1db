"""What a session gets that joins: its answer, what it missed, then what is live."""

from __future__ import annotations

import pytest

from primacron.channels.replay import MAX_NEWEST_BYTES, MOVES, Action, Answer, Event, ReadNewest, Replay, State
from primacron.channels.stream import ABOVE_ALL, MAX_WAITING, MAX_WAITING_BYTES, PAGE_ITEMS, Base, Deliver, Gap, Read
from primacron.cluster.kept import Page
from primacron.positions import Position

E, F, G = "epoch e", "epoch f", "epoch g"
#: A node that has delivered up to 9 of an epoch that began with 5, after another one.
BASE = Base(F, 9, 5, E)


def epoch_of(offset: int) -> str:
    return F if offset >= 5 else E


def delivered(*offsets: int) -> list[Action]:
    return [Deliver(epoch_of(offset), offset, b"%d" % offset) for offset in offsets]


def live(offset: int) -> Deliver:
    return Deliver(F, offset, b"%d" % offset)


def page(top: int, *offsets: int, first: int | None = None) -> Page:
    begin = first if first is not None else offsets[0] if offsets else top + 1
    return Page(Position(F, top), 5, E, begin, [b"%d" % offset for offset in offsets])


def answered(recovered: bool | None, offset: int = 9, epoch: str = F) -> Answer:
    return Answer(Position(epoch, offset), recovered)


def begun(since: Position | None = None, newest: int = 0, *, reads: Action | None = None) -> Replay:
    """Return a replay that has begun, and has asked for a page."""
    replay = Replay(since, newest)
    assert replay.begin(BASE) == [reads]
    return replay


# Without a position


def test_who_joins_without_a_position_gets_that_of_the_node() -> None:
    replay = Replay()
    assert replay.take(live(9)) == []
    assert replay.begin(BASE) == [answered(None)]
    assert replay.state is State.LIVE
    assert replay.take(live(10)) == [live(10)]


@pytest.mark.parametrize(("kept", "sent"), [([9], [9]), ([7, 8, 9], [7, 8, 9]), ([7, 8, 9, 10], [7, 8, 9]), ([10], [])])
def test_the_last_messages_are_sent_as_far_as_they_are_kept(kept: list[int], sent: list[int]) -> None:
    replay = begun(newest=3, reads=Read(6, 3))
    assert replay.page(page(kept[-1], *kept), BASE) == [answered(None), *delivered(*sent)]
    assert replay.state is State.LIVE


def test_the_last_messages_may_be_of_the_epoch_before() -> None:
    replay = begun(newest=7, reads=Read(2, 7))
    actions = replay.page(page(9, *range(3, 10)), BASE)
    assert actions == [answered(None), *(Deliver(F, offset, b"%d" % offset) for offset in range(3, 10))]


def test_of_an_empty_channel_nothing_is_read() -> None:
    replay = Replay(newest=3)
    assert replay.begin(Base(E, 0, 1, "")) == [answered(None, 0, E)]
    assert replay.state is State.LIVE


# With a position that the node has had


def test_who_has_missed_nothing_gets_nothing() -> None:
    assert Replay(Position(F, 9)).begin(BASE) == [answered(True)]


def test_what_was_missed_follows_the_answer() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    assert replay.position == Position(F, 6)
    assert replay.page(page(9, 7, 8, 9), BASE) == [answered(True), *delivered(7, 8, 9)]
    assert replay.state is State.LIVE


def test_what_the_node_delivers_meanwhile_follows_and_nothing_twice() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    assert replay.take(live(10)) == []
    assert replay.take(Gap(F, 11, 12)) == []
    assert replay.take(live(13)) == []
    assert replay.page(page(13, 7, 8, 9, 10), BASE) == [
        answered(True),
        *delivered(7, 8, 9),
        live(10),
        Gap(F, 11, 12),
        live(13),
    ]
    assert replay.take(live(14)) == [live(14)]


def test_a_long_way_is_read_page_by_page() -> None:
    replay = begun(Position(F, 5), reads=Read(5, PAGE_ITEMS))
    assert replay.page(page(9, 6, 7), BASE) == [answered(True), *delivered(6, 7), Read(7, PAGE_ITEMS)]
    assert replay.position == Position(F, 7)
    # Meanwhile the list has been trimmed.
    assert replay.page(page(12, 9, 10), BASE) == [Gap(F, 8, 8), *delivered(9)]


def test_what_is_lost_is_told_exactly_right_behind_the_answer() -> None:
    replay = begun(Position(F, 5), reads=Read(5, PAGE_ITEMS))
    assert replay.page(page(9, 8, 9), BASE) == [answered(False), Gap(F, 6, 7), *delivered(8, 9)]


def test_a_cleared_list_has_lost_all() -> None:
    replay = begun(Position(F, 5), reads=Read(5, PAGE_ITEMS))
    assert replay.page(page(9, first=10), BASE) == [answered(False), Gap(F, 6, 9)]


def test_of_what_is_left_the_newest_follow_up_to_a_limit() -> None:
    base = Base(E, 100, 1, "")
    large = MAX_NEWEST_BYTES // 3
    replay = Replay(Position(E, 10))
    assert replay.begin(base) == [Read(10, PAGE_ITEMS)]
    assert replay.page(Page(Position(E, 102), 1, "", 50, [bytes(large)] * 20), base) == [ReadNewest(PAGE_ITEMS)]
    replay.take(Deliver(E, 101, b"live"))
    actions = replay.page(Page(Position(E, 102), 1, "", 60, [bytes(large)] * 43), base)
    assert actions == [
        Answer(Position(E, 100), recovered=False),
        Gap(E, 11, 97),
        *(Deliver(E, offset, bytes(large)) for offset in (98, 99, 100)),
        Deliver(E, 101, b"live"),
    ]


def test_the_newest_message_alone_exceeds_no_limit() -> None:
    replay = begun(Position(F, 5), reads=Read(5, PAGE_ITEMS))
    large = bytes(MAX_NEWEST_BYTES + 1)
    found = Page(Position(F, 9), 5, E, 8, [large, large])
    assert replay.page(found, BASE) == [ReadNewest(PAGE_ITEMS)]
    assert replay.page(found, BASE) == [answered(False), Gap(F, 6, 8), Deliver(F, 9, large)]


def test_all_that_was_missed_and_is_kept_is_sent_however_much_it_is() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    large = bytes(MAX_NEWEST_BYTES)
    assert replay.page(Page(Position(F, 9), 5, E, 7, [large] * 3), BASE) == [
        answered(True),
        *(Deliver(F, offset, large) for offset in (7, 8, 9)),
    ]


def test_what_waits_behind_a_replay_is_bounded_and_read_again() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    for offset in range(10, MAX_WAITING + 20):
        replay.take(live(offset))
        assert replay.waiting[0] <= MAX_WAITING
    base = Base(F, MAX_WAITING + 19, 5, E)
    assert replay.page(page(20, 7, 8, 9), base) == [answered(True), *delivered(7, 8, 9), Read(9, PAGE_ITEMS)]
    replay.take(live(MAX_WAITING + 20))
    found = page(base.last + 5, *range(10, base.last + 6))
    assert replay.page(found, base) == [*delivered(*range(10, base.last + 1)), live(MAX_WAITING + 20)]


def test_what_waits_behind_a_replay_is_bounded_by_bytes() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    replay.take(Deliver(F, 10, bytes(MAX_WAITING_BYTES)))
    assert replay.waiting == (1, MAX_WAITING_BYTES)
    replay.take(Deliver(F, 11, b"x"))
    assert replay.waiting[0] == 0


# Epochs


def test_a_position_of_the_epoch_before_is_replayed_and_then_the_new_one_told() -> None:
    replay = begun(Position(E, 2), reads=Read(2, PAGE_ITEMS))
    assert replay.page(page(9, 3, 4, 5, 6, 7, 8, 9), BASE) == [
        answered(True),
        *delivered(3, 4),
        Gap(F, 5, None),
        *delivered(5, 6, 7, 8, 9),
    ]


def test_who_had_all_of_the_epoch_before_hears_of_the_new_one_first() -> None:
    replay = begun(Position(E, 4), reads=Read(4, PAGE_ITEMS))
    assert replay.page(page(9, 5, 6, 7, 8, 9), BASE) == [answered(True), Gap(F, 5, None), *delivered(5, 6, 7, 8, 9)]
    replay = Replay(Position(E, 4))
    assert replay.begin(Base(F, 4, 5, E)) == [answered(True, 4), Gap(F, 5, None)]


@pytest.mark.parametrize(
    ("first", "gaps"),
    [
        (4, [Gap(E, 2, 3)]),
        (5, [Gap(E, 2, 4), Gap(F, 5, None)]),
        (7, [Gap(E, 2, 4), Gap(F, 5, None), Gap(F, 5, 6)]),
    ],
)
def test_a_list_that_was_trimmed_in_either_epoch_has_lost_exactly_that(first: int, gaps: list[Gap]) -> None:
    replay = begun(Position(E, 1), reads=Read(1, PAGE_ITEMS))
    rest = delivered(*range(first, 10))
    if first == 4:
        rest = [*rest[:1], Gap(F, 5, None), *rest[1:]]
    assert replay.page(page(9, *range(first, 10)), BASE) == [answered(False), *gaps, *rest]


@pytest.mark.parametrize("offset", [5, 6, 100])
def test_a_position_above_the_end_of_the_epoch_before_is_not_known(offset: int) -> None:
    assert Replay(Position(E, offset)).begin(BASE) == [answered(False), Gap(F, 10, None)]


@pytest.mark.parametrize("since", [Position(G, 7), Position("", 0), Position(F, 12)])
def test_of_an_unknown_epoch_or_above_the_top_nothing_follows(since: Position) -> None:
    replay = begun(since, reads=Read(ABOVE_ALL, 1))
    assert replay.page(page(9, first=ABOVE_ALL + 1), BASE) == [answered(False), Gap(F, 10, None)]
    assert replay.take(live(10)) == [live(10)]


def test_nothing_but_the_last_value() -> None:
    replay = begun(Position(G, 7), 1, reads=Read(ABOVE_ALL, 1))
    assert replay.page(page(9, first=ABOVE_ALL + 1), BASE) == [Read(8, 1)]
    assert replay.position == Position(G, 7)
    assert replay.page(page(9, 9), BASE) == [answered(False), Gap(F, 10, None), *delivered(9)]


def test_an_epoch_that_has_ended_meanwhile_is_replayed_as_far_as_it_is_kept() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    # The backend has lost 9, and its new epoch begins there.
    found = Page(Position(G, 10), 9, F, 7, [b"7", b"8", b"of g", b"of g"])
    assert replay.page(found, BASE) == [answered(False), Gap(F, 9, 9), *delivered(7, 8)]


def test_an_epoch_of_which_the_list_knows_nothing_is_lost() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    found = Page(Position(G, 8), 1, "", 7, [b"of g", b"of g"])
    replay.take(Gap(G, 1, None))
    assert replay.page(found, BASE) == [answered(False), Gap(F, 7, 9), Gap(G, 1, None)]


def test_an_epoch_that_begins_while_too_much_waits_is_told() -> None:
    replay = begun(Position(F, 6), reads=Read(6, PAGE_ITEMS))
    for offset in range(10, MAX_WAITING + 20):
        replay.take(live(offset))
    base = Base(G, 30, 21, F)
    assert replay.page(page(20, 7, 8, 9), base) == [answered(True), *delivered(7, 8, 9), Read(9, PAGE_ITEMS)]
    found = Page(Position(G, 30), 21, F, 20, [b"20", *[b"of g"] * 10])
    assert replay.page(found, base) == [
        Gap(F, 10, 19),
        *delivered(20),
        Gap(F, 21, MAX_WAITING + 19),
        Gap(G, 21, None),
        *(Deliver(G, offset, b"of g") for offset in range(21, 31)),
    ]


# Ahead of the node


def test_who_comes_from_a_faster_node_gets_nothing_up_to_its_position() -> None:
    replay = begun(Position(F, 11), reads=Read(ABOVE_ALL, 1))
    assert replay.page(page(12, first=ABOVE_ALL + 1), BASE) == [answered(True, 11)]
    assert replay.position == Position(F, 11)
    assert replay.take(live(10)) == []
    assert replay.take(live(11)) == []
    assert replay.state is State.LIVE
    assert replay.take(live(12)) == [live(12)]


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (Gap(F, 10, 10), []),
        (Gap(F, 10, 11), []),
        (Gap(F, 10, 13), [Gap(F, 12, 13)]),
        (Gap(F, 12, 13), [Gap(F, 12, 13)]),
        (Gap(G, 10, None), [Gap(G, 10, None)]),
        (live(12), [live(12)]),
    ],
)
def test_who_is_ahead_hears_of_gaps_above_its_position_alone(told: Deliver | Gap, heard: list[Action]) -> None:
    replay = begun(Position(F, 11), reads=Read(ABOVE_ALL, 1))
    replay.page(page(12, first=ABOVE_ALL + 1), BASE)
    assert replay.take(told) == heard


def test_who_is_ahead_in_the_next_epoch_hears_nothing_of_this_one() -> None:
    replay = Replay(Position(F, 6))
    base = Base(G, 20, 1, "")
    assert replay.begin(base) == [Read(ABOVE_ALL, 1)]
    assert replay.page(page(9, first=ABOVE_ALL + 1), base) == [answered(True, 6)]
    of_g, of_e = Deliver(G, 21, b""), Deliver(E, 1, b"")
    for told in (of_g, Gap(G, 22, 30), Gap(E, 1, None), of_e, Gap(F, 5, None), live(5), live(6)):
        assert replay.take(told) == []
    assert replay.take(live(7)) == [live(7)]


def test_a_node_that_catches_up_before_it_is_compared_answers_as_any_other() -> None:
    replay = begun(Position(F, 11), reads=Read(ABOVE_ALL, 1))
    base = Base(F, 12, 5, E)
    assert replay.page(page(12, first=ABOVE_ALL + 1), base) == [Read(11, PAGE_ITEMS)]
    assert replay.page(page(12, 12), base) == [answered(True, 12), *delivered(12)]


def test_numbers_from_before_the_node_has_entered_another_epoch_do_not_count() -> None:
    replay = begun(Position(G, 7), reads=Read(ABOVE_ALL, 1))
    base = Base("epoch h", 1, 1, "")
    assert replay.page(page(9, first=ABOVE_ALL + 1), base) == [Read(ABOVE_ALL, 1)]
    found = Page(Position("epoch h", 1), 1, "", ABOVE_ALL + 1, [])
    assert replay.page(found, base) == [answered(False, 1, "epoch h"), Gap("epoch h", 2, None)]


def test_nobody_is_set_back_to_what_a_slower_node_has_yet_to_deliver() -> None:
    replay = begun(Position(F, 20), 1, reads=Read(ABOVE_ALL, 1))
    assert replay.page(page(12, first=ABOVE_ALL + 1), BASE) == [answered(False, 12), Gap(F, 13, None)]
    assert replay.take(live(10)) == []
    assert replay.take(live(11)) == []
    assert replay.take(live(12)) == [live(12)]
    assert replay.take(live(13)) == [live(13)]


def test_every_state_is_reached_and_left() -> None:
    assert {*MOVES.values()} | {State.WAITING} == set(State)
    assert {state for state, _ in MOVES} | {State.LIVE} == set(State)
    assert {event for _, event in MOVES} == set(Event)
