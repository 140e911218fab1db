"""What a node sends: joined by tick and destination, cut, held back while there is no room, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from primacron.cluster.envelope import HEAD_SIZE, MAX_ENVELOPE, MAX_ITEMS, decode_item
from primacron.cluster.items import TO_ALL, Answer, Confirm, Disconnect, Fragment
from primacron.cluster.outgoing import ASK_AGAIN, MAX_ROUTES, Dispatch, Fate, Note
from primacron.ids import AccountId, NodeId, SessionId
from tests.cluster.ends import (
    ELSEWHERE,
    HERE,
    THERE,
    BulkLetter,
    Letter,
    Receiver,
    Sender,
    fates,
    letters,
    numbers_of,
    time_that_stands,
)
from tests.transports.world import Loop

LARGE = 200_000


@pytest.fixture
def loop() -> Iterator[Loop]:
    with time_that_stands() as loop:
        yield loop


@pytest.fixture
def sender(loop: Loop) -> Sender:
    return Sender(loop)


# Ticks


def test_what_a_tick_sends_to_one_destination_leaves_as_one_envelope_in_order(sender: Sender) -> None:
    sent = letters(100)
    sender.send(*sent)
    [(destination, envelope)] = sender.bus.take()
    assert (destination, envelope.node, envelope.number, envelope.flags) == (THERE, HERE, 1, 0)
    assert numbers_of([(destination, envelope)]) == [*range(100)]
    assert [letter.fates for letter in sent] == [[(Fate.SENT, 1)]] * 100


def test_nothing_leaves_before_the_end_of_the_tick(sender: Sender) -> None:
    seen: list[int] = []

    def send() -> None:
        for letter in letters(3):
            sender.outgoing.send(THERE, letter)
            seen.append(len(sender.bus.published))

    sender.loop.turn(send, times=3)
    assert seen == [0, 0, 0]
    assert len(sender.bus.published) == 1


def test_each_destination_has_its_own_envelopes_and_numbers(sender: Sender) -> None:
    def send() -> None:
        for number, to in enumerate((THERE, None, ELSEWHERE, THERE, None)):
            sender.outgoing.send(to, Letter(number))

    sender.loop.turn(send, times=3)
    sender.loop.turn(send, times=3)
    first, second = sender.bus.take()[:3], sender.bus.take()
    assert second == []
    by_destination = dict(first)
    assert {to: numbers_of([(to, envelope)]) for to, envelope in by_destination.items()} == {
        THERE: [0, 3],
        None: [1, 4],
        ELSEWHERE: [2],
    }
    assert by_destination[None].flags == TO_ALL
    assert by_destination[THERE].flags == 0
    assert len({envelope.epoch for envelope in by_destination.values()}) == 3


def test_numbers_count_the_envelopes_of_one_destination(sender: Sender) -> None:
    for number in range(5):
        sender.send(Letter(number))
        sender.send(Letter(number), to=ELSEWHERE)
    taken = sender.bus.take()
    for to in (THERE, ELSEWHERE):
        assert [envelope.number for destination, envelope in taken if destination == to] == [1, 2, 3, 4, 5]


def test_what_is_sent_while_others_leave_leaves_with_the_next_tick(sender: Sender) -> None:
    class Echo(Letter):
        def left(self, fate: Fate, nodes: int) -> None:
            super().left(fate, nodes)
            if self.number < 3:
                sender.outgoing.send(THERE, Echo(self.number + 1))

    sender.send(Echo(0))
    sender.loop.turn(times=20)
    assert numbers_of(sender.bus.take()) == [0, 1, 2, 3]


# Envelopes


def test_no_envelope_is_larger_than_what_is_allowed(sender: Sender) -> None:
    sender.send(*letters(40, 25_000))
    bodies = [body for _, body in sender.bus.published]
    assert len(bodies) > 1
    assert max(map(len, bodies)) <= MAX_ENVELOPE
    assert numbers_of(sender.bus.take()) == [*range(40)]


def test_an_item_that_just_fits_is_not_cut(sender: Sender) -> None:
    overhead = len(Letter(0, MAX_ENVELOPE).encode()) - MAX_ENVELOPE
    for size in (MAX_ENVELOPE - HEAD_SIZE - overhead, MAX_ENVELOPE - HEAD_SIZE - overhead + 1):
        sender.send(Letter(0, size))
    (_, whole), *parts = sender.bus.take()
    assert isinstance(decode_item(whole.items[0]), Answer)
    assert [type(decode_item(raw)) for _, each in parts for raw in each.items] == [Fragment, Fragment]


def test_more_items_than_an_envelope_can_have_go_in_several(sender: Sender) -> None:
    count = MAX_ITEMS + 10
    sent: list[Dispatch] = [Note(Confirm(0, 0, False)) for _ in range(count)]
    sender.outgoing._max_waiting = 10**9
    sender.send(*sent)
    envelopes = [envelope for _, envelope in sender.bus.take()]
    assert len(envelopes) > 1
    assert sum(len(envelope.items) for envelope in envelopes) == count


@pytest.mark.parametrize("size", [MAX_ENVELOPE, 3 * MAX_ENVELOPE + 1, 900_000])
def test_an_item_larger_than_an_envelope_comes_in_parts_and_is_told_once(sender: Sender, size: int) -> None:
    receiver = Receiver(sender.loop)
    letter = Letter(7, size)
    sender.send(letter)
    bodies = [body for _, body in sender.bus.published]
    assert max(map(len, bodies)) <= MAX_ENVELOPE
    for body in bodies:
        receiver.incoming.hear(body)
    assert receiver.taken == [(Answer(7, "x" * size), HERE)]
    assert letter.fates == [(Fate.SENT, 1)]
    assert receiver.incoming._fragments.size == 0


def test_large_items_of_both_kinds_come_whole_although_their_parts_come_between_each_other(loop: Loop) -> None:
    sender, receiver = Sender(loop), Receiver(loop)
    sent = [BulkLetter(1, 600_000), Letter(2, 600_000), BulkLetter(3, 10), Letter(4, 600_000), Letter(5, 10)]
    sender.send(*sent)
    kinds: list[int] = []
    while sender.bus.published:
        for _, body in [*sender.bus.published]:
            receiver.incoming.hear(body)
        for _, envelope in sender.bus.take():
            kinds += [item.serial for raw in envelope.items if isinstance(item := decode_item(raw), Fragment)]
            sender.confirm(envelope)
    assert kinds != sorted(kinds), "parts of both kinds came between each other"
    assert sorted(receiver.numbers) == [1, 2, 3, 4, 5]
    assert [number for number in receiver.numbers if number in (2, 4, 5)] == [2, 4, 5]
    assert [number for number in receiver.numbers if number in (1, 3)] == [1, 3]
    assert fates(sent) == [Fate.SENT] * 5


def test_an_item_that_cannot_be_encoded_is_unsent_and_spoils_no_other(loop: Loop) -> None:
    sender = Sender(loop)
    told: list[Fate] = []
    bad = Note(Disconnect(1, HERE, AccountId("a"), SessionId("s"), 1, 0, "\ud800"), told.append)
    good = letters(2)
    sender.send(good[0], bad, good[1])
    assert fates(good) == [Fate.SENT] * 2
    assert told == [Fate.UNSENT]
    [failure] = loop.failures
    assert isinstance(failure["exception"], UnicodeEncodeError)
    loop.failures.clear()


# Fates


def test_what_finds_no_place_to_wait_is_unsent_at_once(loop: Loop) -> None:
    sender = Sender(loop, max_waiting=500_000)
    sent = letters(10, LARGE)
    for letter in sent:
        sender.send(letter)
    assert fates(sent) == [Fate.SENT] * 5 + [None] * 2 + [Fate.UNSENT] * 3
    small, elsewhere = Letter(99), Letter(98, LARGE)
    sender.send(small)
    sender.send(elsewhere, to=ELSEWHERE)
    assert small.fate is None, "there is still a place for what is small"
    assert elsewhere.fate is Fate.UNSENT, "the limit is one for all destinations"
    assert sender.outgoing.waiting <= 500_000


def test_what_waited_gives_its_place_back(loop: Loop) -> None:
    sender = Sender(loop, max_waiting=2_500_000)
    sender.send(*letters(10, LARGE))
    assert sender.outgoing.waiting > 0
    while taken := sender.bus.take():
        sender.confirm(taken[-1][1])
    assert sender.outgoing.waiting == 0
    sent = letters(10, LARGE)
    sender.send(*sent)
    assert Fate.UNSENT not in fates(sent)


def test_nobody_listens_for_a_node(sender: Sender) -> None:
    sender.bus.nodes = 0
    sent = letters(3)
    sender.send(*sent)
    assert [letter.fates for letter in sent] == [[(Fate.NOBODY, 0)]] * 3


def test_nodes_that_there_are_not_leave_nothing_behind(sender: Sender) -> None:
    sender.send(Letter(0))
    sender.bus.nodes = 0
    for number in range(MAX_ROUTES):
        sender.outgoing.send(NodeId(f"none-{number}"), Letter(number))
    sender.loop.turn(lambda: None, times=3)
    assert len(sender.outgoing._routes) == MAX_ROUTES + 1
    sender.send(Letter(1), to=ELSEWHERE)
    assert set(sender.outgoing._routes) == {THERE, ELSEWHERE}


def test_what_waits_for_a_node_for_which_nobody_listens_learns_it_too(sender: Sender) -> None:
    sender.bus.nodes = None
    sent = letters(20, LARGE)
    sender.send(*sent)
    for _ in range(10):
        sender.loop.turn(lambda: sender.bus.settle(0), times=3)
    assert fates(sent) == [Fate.NOBODY] * 20
    assert sender.outgoing.waiting == 0


def test_a_publish_that_failed_leaves_it_open_whether_it_was_sent(sender: Sender) -> None:
    sender.bus.nodes = None
    sent = letters(3)
    sender.send(*sent)
    assert fates(sent) == [None] * 3
    sender.loop.turn(lambda: sender.bus.settle(None), times=3)
    assert fates(sent) == [Fate.UNSURE] * 3


def test_a_publish_that_was_cancelled_leaves_it_open_too(sender: Sender) -> None:
    sender.bus.nodes = None
    sent = letters(1)
    sender.send(*sent)
    sender.loop.turn(sender.bus.unsettled[0].cancel, times=3)
    assert fates(sent) == [Fate.UNSURE]


def test_without_a_link_nothing_is_sent(sender: Sender) -> None:
    sender.outgoing.open = False
    sent = letters(2)
    sender.send(*sent)
    assert fates(sent) == [Fate.UNSENT] * 2
    assert sender.bus.take() == []


def test_what_waits_when_the_link_goes_is_unsent_and_what_left_is_not(sender: Sender) -> None:
    sent = letters(10, LARGE)
    bulk = BulkLetter(10, LARGE)
    fresh = Letter(11)
    sender.send(*sent, bulk)

    def close() -> None:
        sender.outgoing.send(THERE, fresh)
        sender.outgoing.close()

    sender.loop.turn(close, times=3)
    assert fates(sent) == [Fate.SENT] * 5 + [Fate.UNSENT] * 5
    assert (bulk.fate, fresh.fate) == (Fate.UNSENT, Fate.UNSENT)
    assert sender.outgoing.waiting == 0
    sender.loop.advance(2 * ASK_AGAIN)
    assert len(sender.bus.take()) == 5
    assert sender.deadlines == 0


def test_an_item_of_which_only_some_parts_left_is_unsent(sender: Sender) -> None:
    letter = Letter(1, 2_000_000)
    sender.send(letter)
    assert len(sender.bus.take()) == 4
    sender.loop.turn(sender.outgoing.close, times=3)
    assert letter.fate is Fate.UNSENT


def test_after_a_break_numbers_begin_anew_in_a_later_epoch(sender: Sender) -> None:
    sender.send(*letters(10, LARGE))
    before = sender.bus.take()[-1][1]
    sender.loop.turn(sender.outgoing.close, times=3)
    sender.outgoing.open = True
    sent = letters(8, LARGE)
    sender.send(*sent)
    after = sender.bus.take()[0][1]
    assert after.epoch > before.epoch
    assert after.number == 1
    sender.confirm(before)
    assert sender.bus.take() == [], "what came before the break frees no room after it"


def test_nothing_waits_for_a_node_whose_lease_has_ended(sender: Sender) -> None:
    sent = letters(10, LARGE)
    other = letters(10, LARGE)
    fresh = Letter(11)
    sender.send(*sent)
    sender.send(*other, to=ELSEWHERE)

    def end() -> None:
        sender.outgoing.send(THERE, fresh)
        sender.outgoing.gone(THERE)
        sender.outgoing.gone(NodeId("never heard of"))

    sender.loop.turn(end, times=3)
    assert fates(sent) == [Fate.SENT] * 5 + [Fate.GONE] * 5
    assert fresh.fate is Fate.GONE
    assert fates(other) == [Fate.SENT] * 5 + [None] * 5


def test_what_is_told_of_an_end_may_send_at_once(sender: Sender) -> None:
    class Retry(Letter):
        def left(self, fate: Fate, nodes: int) -> None:
            super().left(fate, nodes)
            if fate is Fate.GONE:
                sender.outgoing.send(ELSEWHERE, Letter(self.number))

    sender.send(*letters(6, LARGE), Retry(7), Retry(8))
    sender.bus.take()
    sender.loop.turn(lambda: sender.outgoing.gone(THERE), times=4)
    assert [(to, numbers_of([(to, envelope)])) for to, envelope in sender.bus.take()] == [(ELSEWHERE, [7, 8])]
