"""Room on the way to other nodes: how much may be unconfirmed, what waits for it, and what frees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from primacron.cluster.envelope import Envelope
from primacron.cluster.items import CONFIRM, Answer, Confirm
from primacron.cluster.outgoing import ASK_AGAIN, CONFIRM_EVERY, MAX_UNCONFIRMED, BulkNote, Fate, Note
from primacron.ids import NodeId
from tests.cluster.ends import (
    ELSEWHERE,
    THERE,
    BulkLetter,
    Letter,
    Sender,
    fates,
    letters,
    numbers_of,
    size_of,
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


def unconfirmed(envelopes: list[Envelope]) -> int:
    return sum(size_of(envelope) for envelope in envelopes)


def test_no_more_is_on_its_way_than_there_is_room_for_and_the_rest_waits(sender: Sender) -> None:
    sent = letters(20, LARGE)
    sender.send(*sent)
    envelopes = [envelope for _, envelope in sender.bus.take()]
    assert MAX_UNCONFIRMED - LARGE < unconfirmed(envelopes) <= MAX_UNCONFIRMED
    left = numbers_of([(THERE, envelope) for envelope in envelopes])
    assert left == [*range(len(left))]
    assert fates(sent[: len(left)]) == [Fate.SENT] * len(left)
    assert fates(sent[len(left) :]) == [None] * (20 - len(left))
    assert sender.outgoing.waiting == sum(len(letter.encode()) for letter in sent[len(left) :])
    sender.loop.advance(1.0)
    assert sender.bus.take() == []


def test_what_waits_leaves_in_its_order_when_room_is_confirmed(sender: Sender) -> None:
    sender.send(*letters(30, LARGE))
    on_their_way: list[Envelope] = []
    came: list[int] = []
    while True:
        for to, envelope in sender.bus.take():
            on_their_way.append(envelope)
            came += numbers_of([(to, envelope)])
        assert unconfirmed(on_their_way) <= MAX_UNCONFIRMED
        if not on_their_way:
            break
        asking = next(envelope for envelope in on_their_way if envelope.flags & CONFIRM)
        on_their_way = [envelope for envelope in on_their_way if envelope.number > asking.number]
        sender.confirm(asking)
    assert came == [*range(30)]
    assert sender.outgoing.waiting == 0


def test_small_things_do_not_overtake_what_waits(sender: Sender) -> None:
    sender.send(*letters(10, LARGE))
    taken = sender.bus.take()
    sender.send(*letters(5, first=10))
    assert sender.bus.take() == []
    sender.confirm(taken[-1][1])
    assert numbers_of(taken) + numbers_of(sender.bus.take()) == [*range(15)]


def test_other_destinations_do_not_wait(sender: Sender) -> None:
    sender.send(*letters(10, LARGE))
    sender.bus.take()
    sender.send(Letter(99), to=ELSEWHERE)
    sender.send(Letter(98), to=None)
    assert numbers_of(sender.bus.take()) == [99, 98]


def test_a_confirmation_is_asked_for_before_much_is_on_its_way(sender: Sender) -> None:
    for number in range(100):
        sender.send(Letter(number, 5_000))
    since = 0
    for _, envelope in sender.bus.take():
        since += size_of(envelope)
        assert since < CONFIRM_EVERY + 6_000
        if envelope.flags & CONFIRM:
            since = 0


def test_what_is_small_and_rare_asks_for_no_confirmation(sender: Sender) -> None:
    for number in range(50):
        sender.send(Letter(number))
    assert {envelope.flags for _, envelope in sender.bus.take()} == {0}
    assert sender.deadlines == 0


def test_a_confirmation_that_was_lost_is_asked_for_again_until_it_comes(sender: Sender) -> None:
    sent = letters(10, LARGE)
    sender.send(*sent)
    sender.bus.take()
    for _ in range(3):
        sender.loop.advance(ASK_AGAIN + 0.2)
        [(_, asking)] = sender.bus.take()
        assert (asking.flags, [*asking.items]) == (CONFIRM, [])
    sender.confirm(asking)
    assert numbers_of(sender.bus.take()) == [*range(5, 10)]
    assert fates(sent) == [Fate.SENT] * 10


def test_nothing_is_asked_when_all_was_confirmed(sender: Sender) -> None:
    sender.send(*letters(3, LARGE))
    sender.confirm(sender.bus.take()[-1][1])
    sender.loop.advance(3 * ASK_AGAIN)
    assert sender.bus.take() == []
    assert sender.deadlines == 0


@pytest.mark.parametrize(
    ("node", "change"), [(ELSEWHERE, 0), (THERE, -1), (THERE, 1)], ids=["another node", "an older epoch", "a newer one"]
)
def test_a_confirmation_of_something_else_frees_no_room(sender: Sender, node: NodeId, change: int) -> None:
    sender.send(*letters(10, LARGE))
    last = sender.bus.take()[-1][1]
    stranger = Confirm(last.epoch + change, last.number, to_all=False)
    sender.loop.turn(lambda: sender.outgoing.confirmed(node, stranger), times=3)
    sender.loop.turn(lambda: sender.outgoing.confirmed(THERE, Confirm(last.epoch, last.number, to_all=True)), times=3)
    assert sender.bus.take() == []


def test_a_confirmation_that_comes_twice_or_late_frees_its_room_once(sender: Sender) -> None:
    sender.send(*letters(30, LARGE))
    first, second, *_ = [envelope for _, envelope in sender.bus.take()]
    on_their_way = MAX_UNCONFIRMED
    for envelope in (second, second, first):
        sender.confirm(envelope)
    freed = size_of(first) + size_of(second)
    more = unconfirmed([envelope for _, envelope in sender.bus.take()])
    assert more <= freed + on_their_way % LARGE


# Room on the way to all


def test_room_on_the_way_to_all_is_free_when_each_node_that_heard_has_confirmed(sender: Sender) -> None:
    sender.bus.nodes = 3
    sender.send(*letters(10, LARGE), to=None)
    last = sender.bus.take()[-1][1]
    for node in ("a", "b"):
        sender.confirm(last, NodeId(node), to_all=True)
        assert sender.bus.take() == []
    sender.confirm(last, NodeId("c"), to_all=True)
    assert numbers_of(sender.bus.take()) == [*range(5, 10)]


def test_a_node_does_not_wait_for_its_own_confirmation(sender: Sender) -> None:
    sender.bus.nodes, sender.bus.attends = 2, True
    sent = letters(10, LARGE)
    sender.send(*sent, to=None)
    assert sent[0].fates == [(Fate.SENT, 1)]
    sender.confirm(sender.bus.take()[-1][1], to_all=True)
    assert numbers_of(sender.bus.take()) == [*range(5, 10)]


def test_confirmations_count_that_come_before_it_is_known_how_many_will(sender: Sender) -> None:
    sender.bus.nodes = None
    sender.send(*letters(10, LARGE), to=None)
    last = sender.bus.take()[-1][1]
    sender.confirm(last, NodeId("a"), to_all=True)
    sender.confirm(last, NodeId("b"), to_all=True)
    assert sender.bus.take() == []
    sender.loop.turn(lambda: sender.bus.settle(3), times=3)
    assert sender.bus.take() == []
    sender.bus.nodes = 3
    sender.confirm(last, NodeId("c"), to_all=True)
    assert numbers_of(sender.bus.take()) == [*range(5, 10)]


def test_confirmations_of_an_earlier_question_to_all_do_not_count(sender: Sender) -> None:
    sender.bus.nodes = 2
    sender.send(*letters(10, LARGE), to=None)
    first, *_, last = [envelope for _, envelope in sender.bus.take()]
    for envelope in (first, first, last):
        sender.confirm(envelope, to_all=True)
    assert sender.bus.take() == []


@pytest.mark.parametrize("nodes", [0, None], ids=["nobody hears it", "it is not known who hears it"])
def test_room_on_the_way_to_all_is_free_at_once_when(sender: Sender, nodes: int | None) -> None:
    sender.bus.nodes = None
    sent = letters(20, LARGE)
    sender.send(*sent, to=None)
    for _ in range(10):
        sender.loop.turn(lambda: sender.bus.settle(nodes), times=3)
    assert numbers_of(sender.bus.take()) == [*range(20)]
    assert set(fates(sent)) == {Fate.SENT if nodes == 0 else Fate.UNSURE}


def test_a_node_that_never_confirms_holds_up_what_goes_to_all_for_a_moment_only(sender: Sender) -> None:
    sender.bus.nodes = 2
    sender.send(*letters(20, LARGE), to=None)
    seen = numbers_of(sender.bus.take())
    for _ in range(4):
        sender.loop.advance(ASK_AGAIN + 0.2)
        seen += numbers_of(sender.bus.take())
    assert seen == [*range(20)]


# What is bulky


def test_what_is_bulky_takes_no_more_than_half_of_the_room(sender: Sender) -> None:
    sent = [BulkLetter(number, 50_000) for number in range(40)]
    sender.send(*sent)
    bulky = [envelope for _, envelope in sender.bus.take()]
    assert MAX_UNCONFIRMED // 2 - 60_000 < unconfirmed(bulky) <= MAX_UNCONFIRMED // 2
    sender.send(*letters(5, 50_000, first=100))
    assert numbers_of(sender.bus.take()) == [100, 101, 102, 103, 104]
    sender.confirm(bulky[-1])
    assert numbers_of(sender.bus.take())[0] == len(numbers_of([(THERE, envelope) for envelope in bulky]))


def test_what_is_urgent_leaves_before_what_is_bulky(sender: Sender) -> None:
    sender.send(*[BulkLetter(number, 100_000) for number in range(3)], *letters(3, 100_000, first=100))
    assert numbers_of(sender.bus.take()) == [100, 101, 102, 0, 1]


def test_a_note_is_urgent_and_a_bulk_note_is_not(sender: Sender) -> None:
    told: list[tuple[str, Fate]] = []
    bulk = BulkNote(Answer(1, "bulk"), lambda fate: told.append(("bulk", fate)))
    sender.send(bulk, Note(Answer(2, "note"), lambda fate: told.append(("note", fate))), Note(Answer(3, "silent")))
    assert numbers_of(sender.bus.take()) == [2, 3, 1]
    assert told == [("note", Fate.SENT), ("bulk", Fate.SENT)]
