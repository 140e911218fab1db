"""The history of a channel on one node: in order, once, and what is missing is told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from primacron.channels.stream import (
    ABOVE_ALL,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    MOVES,
    PAGE_ITEMS,
    PAGES,
    Action,
    Base,
    Begin,
    Deliver,
    Event,
    Gap,
    Read,
    State,
    Stream,
    Wait,
)
from primacron.cluster.kept import Appended, Page, Published
from primacron.positions import Position

E, F = "epoch e", "epoch f"


def item(offset: int, epoch: str = E) -> bytes:
    return f"{epoch} {offset}".encode()


def published(offset: int, epoch: str = E, *, start: int = 1) -> Published:
    return Published(Position(epoch, offset), start, item(offset, epoch))


def delivered(*offsets: int, epoch: str = E) -> list[Action]:
    return [Deliver(epoch, offset, item(offset, epoch)) for offset in offsets]


def page(top: int, *offsets: int, epoch: str = E, start: int = 1, before: str = "", first: int | None = None) -> Page:
    """Make a page with these items; those in front of the start are of the epoch before."""
    found = [item(offset, epoch if offset >= start else before) for offset in offsets]
    begin = first if first is not None else offsets[0] if offsets else top + 1
    return Page(Position(epoch, top), start, before, begin, found)


def at(last: int) -> Stream:
    """Return a stream that is heard and has delivered up to an offset."""
    stream = Stream()
    assert stream.heard() == [Read(ABOVE_ALL, 1)]
    assert stream.page(page(last, first=ABOVE_ALL + 1)) == [Begin(Base(E, last, 1, ""))]
    assert stream.base == Base(E, last, 1, "")
    assert stream.state is State.CURRENT
    return stream


READ_ABOVE_3 = Read(3, PAGE_ITEMS)


def test_the_first_position_is_the_top_once_the_subscription_stands() -> None:
    stream = Stream()
    assert stream.position is None
    assert stream.compare() == []
    assert stream.heard() == [Read(ABOVE_ALL, 1)]
    assert stream.page(page(7, first=ABOVE_ALL + 1)) == [Begin(Base(E, 7, 1, ""))]
    assert stream.position == Position(E, 7)


def test_what_comes_before_the_first_position_is_known_is_delivered() -> None:
    stream = Stream()
    assert stream.appended(Appended(Position(E, 6), 1), item(6)) == []
    stream.heard()
    assert stream.published(published(7)) == []
    assert stream.page(page(8, first=ABOVE_ALL + 1)) == [
        Begin(Base(E, 5, 1, "")),
        *delivered(6, 7),
        Read(7, PAGE_ITEMS),
    ]
    assert stream.page(page(8, 8)) == delivered(8)


def test_messages_in_turn_are_delivered_at_once() -> None:
    stream = at(3)
    assert stream.published(published(4)) == delivered(4)
    assert stream.appended(Appended(Position(E, 5), 1), item(5)) == delivered(5)
    assert stream.position == Position(E, 5)


def test_a_message_is_delivered_once_by_whichever_way_it_comes_first() -> None:
    stream = at(3)
    assert stream.published(published(4)) == delivered(4)
    assert stream.appended(Appended(Position(E, 4), 1), item(4)) == []
    assert stream.appended(Appended(Position(E, 5), 1), item(5)) == delivered(5)
    assert stream.published(published(5)) == []


def test_a_hole_on_the_topic_is_read_from_the_list() -> None:
    stream = at(3)
    assert stream.published(published(6)) == [READ_ABOVE_3]
    assert stream.published(published(7)) == []
    assert stream.page(page(7, 4, 5, 6)) == delivered(4, 5, 6, 7)
    assert stream.state is State.CURRENT


def test_the_answer_to_an_own_append_gives_the_topic_a_moment() -> None:
    stream = at(3)
    assert stream.appended(Appended(Position(E, 6), 1), item(6)) == [Wait()]
    assert stream.published(published(4)) == delivered(4)
    assert stream.published(published(5)) == delivered(5, 6)
    assert stream.state is State.CURRENT
    assert stream.elapsed() == []
    assert stream.appended(Appended(Position(E, 8), 1), item(8)) == [Wait()]
    assert stream.elapsed() == [Read(6, PAGE_ITEMS)]


def test_an_own_append_is_not_waited_for_where_no_topic_is_heard() -> None:
    stream = at(3)
    stream.unheard()
    assert stream.appended(Appended(Position(E, 4), 1), item(4)) == delivered(4)
    assert stream.appended(Appended(Position(E, 6), 1), item(6)) == [Read(4, PAGE_ITEMS)]


def test_a_message_without_its_body_is_read() -> None:
    stream = at(3)
    assert stream.published(Published(Position(E, 4), 1, None)) == [READ_ABOVE_3]
    assert stream.published(published(5)) == []
    assert stream.page(page(5, 4, 5)) == delivered(4, 5)


def test_a_long_way_is_read_page_by_page() -> None:
    stream = at(3)
    stream.published(published(9))
    assert stream.page(page(9, 4, 5)) == [*delivered(4, 5), Read(5, PAGE_ITEMS)]
    assert stream.page(page(9, 6, 7, 8)) == delivered(6, 7, 8, 9)


def test_after_a_loss_of_the_subscription_the_list_is_compared() -> None:
    stream = at(3)
    stream.unheard()
    assert stream.heard() == [READ_ABOVE_3]
    assert stream.page(page(5, 4, 5)) == delivered(4, 5)
    assert stream.compare() == [Read(5, PAGE_ITEMS)]
    assert stream.page(page(5, first=6)) == []


def test_a_page_from_before_the_subscription_came_back_does_not_suffice() -> None:
    stream = at(3)
    assert stream.compare() == [READ_ABOVE_3]
    stream.unheard()
    assert stream.heard() == []
    assert stream.page(page(4, 4)) == [*delivered(4), Read(4, PAGE_ITEMS)]
    assert stream.page(page(5, 5)) == delivered(5)


def test_a_failed_read_is_repeated() -> None:
    stream = at(3)
    stream.published(published(5))
    assert stream.failed() == [Wait()]
    assert stream.published(published(6)) == []
    assert stream.elapsed() == [READ_ABOVE_3]
    stream.failed()
    stream.unheard()
    assert stream.heard() == [READ_ABOVE_3]
    assert stream.page(page(6, 4, 5, 6)) == delivered(4, 5, 6)


def test_what_the_list_no_longer_has_is_told_exactly_after_the_topic_had_its_chance() -> None:
    stream = at(3)
    stream.published(published(7))
    assert stream.page(page(8, 6, 7, 8)) == [Wait()]
    assert stream.elapsed() == [Gap(E, 4, 5), *delivered(6, 7, 8)]
    assert stream.state is State.CURRENT


def test_a_page_may_be_faster_than_the_topic() -> None:
    stream = at(3)
    assert stream.compare() == [READ_ABOVE_3]
    assert stream.page(page(6, 6)) == [Wait()]
    assert stream.published(published(4)) == delivered(4)
    assert stream.published(published(5)) == delivered(5, 6)
    assert stream.published(published(6)) == []
    assert stream.state is State.CURRENT


def test_new_messages_do_not_put_off_what_is_lost() -> None:
    stream = at(3)
    stream.published(published(5))
    assert stream.page(page(6, 6)) == [Wait()]
    assert stream.published(published(9)) == []
    assert stream.elapsed() == [Gap(E, 4, 4), *delivered(5, 6), Read(6, PAGE_ITEMS)]


def test_a_cleared_list_is_a_gap_for_those_behind_alone() -> None:
    stream = at(3)
    stream.compare()
    assert stream.page(page(3, first=4)) == []
    stream.unheard()
    stream.heard()
    assert stream.page(page(5, first=6)) == [Wait()]
    assert stream.elapsed() == [Gap(E, 4, 5)]


def test_a_new_epoch_is_told_before_its_first_message() -> None:
    stream = at(3)
    assert stream.published(published(5, F, start=5)) == [READ_ABOVE_3]
    found = page(5, 4, 5, epoch=F, start=5, before=E)
    assert stream.page(found) == [*delivered(4), Gap(F, 5, None), *delivered(5, epoch=F)]
    assert stream.base == Base(F, 5, 5, E)
    assert stream.published(published(6, F, start=5)) == delivered(6, epoch=F)


def test_a_new_epoch_that_nobody_has_spoken_of_is_found_by_comparing() -> None:
    stream = at(3)
    stream.compare()
    assert stream.page(page(6, 4, 5, 6, epoch=F, start=5, before=E)) == [
        *delivered(4),
        Gap(F, 5, None),
        Read(4, PAGE_ITEMS),
    ]
    assert stream.page(page(6, 5, 6, epoch=F, start=5, before=E)) == delivered(5, 6, epoch=F)


def test_a_new_epoch_begins_below_what_was_delivered_if_the_backend_has_lost_that() -> None:
    stream = at(3)
    assert stream.published(published(3, F, start=2)) == [READ_ABOVE_3]
    assert stream.page(page(3, epoch=F, start=2, before=E)) == [Gap(F, 2, None), Read(1, PAGE_ITEMS)]
    assert stream.page(page(3, 2, 3, epoch=F, start=2, before=E)) == delivered(2, 3, epoch=F)


def test_an_emptied_backend_counts_from_one_in_a_new_epoch() -> None:
    stream = at(3)
    stream.published(published(1, F))
    assert stream.page(page(1, epoch=F, first=4)) == [Gap(F, 1, None), *delivered(1, epoch=F)]
    assert stream.position == Position(F, 1)


def test_what_a_failover_has_lost_is_told_before_the_new_epoch() -> None:
    stream = at(3)
    assert stream.published(published(6)) == [READ_ABOVE_3]
    # The new primary has only up to 4, and something was appended there.
    assert stream.page(page(5, 4, 5, epoch=F, start=5, before=E)) == [*delivered(4), Wait()]
    assert stream.elapsed() == [Gap(E, 5, 5), *delivered(6), Read(6, PAGE_ITEMS)]
    assert stream.page(page(5, epoch=F, start=5, before=E, first=7)) == [Gap(F, 5, None), Read(4, PAGE_ITEMS)]
    assert stream.page(page(5, 5, epoch=F, start=5, before=E)) == delivered(5, epoch=F)


def test_a_late_message_of_an_epoch_that_has_ended_is_not_delivered() -> None:
    stream = at(3)
    stream.published(published(4, F, start=4))
    stream.page(page(4, 4, epoch=F, start=4, before=E))
    assert stream.position == Position(F, 4)
    assert stream.published(published(5)) == [Read(4, PAGE_ITEMS)]
    assert stream.page(page(4, epoch=F, start=4, before=E, first=5)) == []
    assert stream.published(published(5, F, start=4)) == delivered(5, epoch=F)
    assert stream.waiting == (0, 0)


def test_a_backend_that_has_lost_the_epoch_itself_is_waited_for() -> None:
    stream = at(3)
    stream.published(published(4, F, start=4))
    stream.page(page(4, 4, epoch=F, start=4, before=E))
    stream.compare()
    assert stream.page(page(3, first=5)) == []
    assert stream.base == Base(F, 4, 4, E)
    stream.published(published(4, "epoch g", start=4))
    assert stream.page(page(4, epoch="epoch g", start=4, before=E, first=5)) == [
        Gap("epoch g", 4, None),
        *delivered(4, epoch="epoch g"),
    ]


def test_a_backend_that_returns_to_an_epoch_goes_on_where_that_was_left() -> None:
    stream = at(3)
    stream.published(published(4, F, start=4))
    stream.page(page(4, 4, epoch=F, start=4, before=E))
    stream.published(published(4))
    assert stream.page(page(4, first=5)) == [Gap(E, 4, None), *delivered(4)]
    assert stream.published(published(5)) == delivered(5)


def test_what_waits_is_bounded_by_number_and_read_again() -> None:
    stream = at(3)
    stream.published(published(5))
    for offset in range(6, MAX_WAITING + 100):
        stream.published(published(offset))
    top = MAX_WAITING + 99
    assert stream.waiting[0] == MAX_WAITING
    *begin, again = stream.page(page(top, 4))
    assert begin == delivered(*range(4, MAX_WAITING + 5))
    assert again == Read(MAX_WAITING + 4, PAGE_ITEMS)
    assert stream.page(page(top, *range(MAX_WAITING + 5, top + 1))) == delivered(*range(MAX_WAITING + 5, top + 1))


def test_what_waits_is_bounded_by_bytes() -> None:
    stream = at(3)
    half = bytes(MAX_WAITING_BYTES // 2)
    for offset in (5, 6, 7, 8):
        stream.published(Published(Position(E, offset), 1, half))
    assert stream.waiting == (2, 2 * len(half))
    assert stream.page(page(8, 4)) == [*delivered(4), Deliver(E, 5, half), Deliver(E, 6, half), Read(6, PAGE_ITEMS)]


def test_what_is_too_much_to_wait_for_the_first_page_is_read_once_that_has_come() -> None:
    stream = Stream()
    stream.heard()
    top = MAX_WAITING + 99
    for offset in range(4, top + 1):
        stream.published(published(offset))
    begin, *deliveries, again = stream.page(page(9, first=ABOVE_ALL + 1))
    assert begin == Begin(Base(E, 3, 1, ""))
    assert deliveries == delivered(*range(4, MAX_WAITING + 4))
    assert again == Read(MAX_WAITING + 3, PAGE_ITEMS)
    assert stream.page(page(top, *range(MAX_WAITING + 4, top + 1))) == delivered(*range(MAX_WAITING + 4, top + 1))
    assert stream.state is State.CURRENT


def test_what_is_too_much_to_wait_for_an_epoch_is_read_once_that_has_begun() -> None:
    stream = at(3)
    top = MAX_WAITING + 99
    for offset in range(4, top + 1):
        stream.published(published(offset, F, start=4))
    gap, *deliveries, again = stream.page(page(9, *range(4, 10), epoch=F, start=4, before=E))
    assert gap == Gap(F, 4, None)
    assert deliveries == delivered(*range(4, MAX_WAITING + 4), epoch=F)
    assert again == Read(MAX_WAITING + 3, PAGE_ITEMS)


@pytest.mark.parametrize("order", [*itertools.permutations([4, 5, 6, 7])])
def test_any_order_gives_the_same(order: Sequence[int]) -> None:
    stream, got = at(3), []
    for offset in order:
        got += stream.published(published(offset))
    assert [each for each in got if isinstance(each, Deliver)] == delivered(4, 5, 6, 7)
    assert stream.waiting == (0, 0)


def test_every_state_is_reached_and_left() -> None:
    for state in State:
        assert any(after is state for after, _ in (*MOVES.values(), *PAGES.values())) or state is State.UNHEARD
        assert any(before is state for before, _ in (*MOVES, *PAGES))
    assert {event for _, event in (*MOVES, *PAGES)} == set(Event)
