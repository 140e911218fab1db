"""What a node hears: numbers, gaps, parts that are joined, and all that is malformed or forged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.cluster.envelope import Unsupported, encode_envelope, encode_item
from primacron.cluster.fragments import MAX_ITEM, Reassembly, Track
from primacron.cluster.incoming import MAX_STREAMS
from primacron.cluster.items import CONFIRM, TO_ALL, Answer, Confirm, Fragment, Item, Probe
from primacron.cluster.outgoing import Fate
from primacron.ids import NodeId
from tests.cluster.ends import ELSEWHERE, HERE, PATIENCE, THERE, BulkLetter, Letter, Receiver, Sender, time_that_stands
from tests.cluster.items import ITEMS
from tests.transports.world import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    with time_that_stands() as loop:
        yield loop


@pytest.fixture
def receiver(loop: Loop) -> Receiver:
    return Receiver(loop)


def envelope(
    number: int,
    *items: Item | bytes,
    epoch: int = 1,
    flags: int = 0,
    node: NodeId = HERE,
) -> bytes:
    encoded = [item if isinstance(item, bytes) else encode_item(item) for item in items]
    return encode_envelope(node, epoch, number, flags, encoded)


def answers(*numbers: int) -> list[Item]:
    return [Answer(number, "accepted") for number in numbers]


def parts_of(item: Item, count: int, serial: int = 1) -> list[Item]:
    data = encode_item(item)
    step = -(-len(data) // count)
    return [Fragment(serial, index, count, data[index * step : (index + 1) * step]) for index in range(count)]


# Numbers


def test_items_are_taken_in_their_order_with_the_node_that_sent_them(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(1, *answers(1, 2)))
    receiver.incoming.hear(envelope(1, *answers(3), node=ELSEWHERE))
    receiver.incoming.hear(envelope(2, *answers(4)))
    assert [(item.id, sender) for item, sender in receiver.taken if isinstance(item, Answer)] == [
        (1, HERE),
        (2, HERE),
        (3, ELSEWHERE),
        (4, HERE),
    ]
    assert receiver.counted == {}


def test_what_a_node_sent_to_itself_is_life_and_nothing_else(loop: Loop, receiver: Receiver) -> None:
    before = receiver.incoming.heard_at
    loop.advance(3.0)
    receiver.incoming.hear(envelope(1, *answers(1), node=THERE, flags=CONFIRM))
    assert receiver.incoming.heard_at >= before + 3.0
    assert receiver.taken == []
    assert receiver.confirms == []


def test_anything_that_is_heard_is_a_sign_of_life(loop: Loop, receiver: Receiver) -> None:
    before = receiver.incoming.heard_at
    loop.advance(1.0)
    receiver.incoming.hear(b"\xc1")
    assert receiver.incoming.heard_at >= before + 1.0


def test_what_is_missing_between_two_envelopes_is_counted(receiver: Receiver) -> None:
    for number in (1, 2, 6, 7, 9):
        receiver.incoming.hear(envelope(number, *answers(number)))
    assert receiver.numbers == [1, 2, 6, 7, 9]
    assert receiver.counted == {"bus_envelopes_missed": 4}


def test_an_envelope_that_comes_again_or_late_is_dropped(receiver: Receiver) -> None:
    for number in (1, 1, 3, 2, 3, 1, 4):
        receiver.incoming.hear(envelope(number, *answers(number), flags=CONFIRM))
    assert receiver.numbers == [1, 3, 4]
    assert receiver.counted == {"bus_envelopes_missed": 1, "bus_envelopes_repeated": 4}
    assert [confirm.number for _, confirm in receiver.confirms] == [1, 3, 4]


def test_an_epoch_that_is_heard_first_in_its_middle_is_no_gap(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(40, *answers(40)))
    receiver.incoming.hear(envelope(7, *answers(7), epoch=2))
    receiver.incoming.hear(envelope(8, *answers(8), epoch=2))
    assert receiver.numbers == [40, 7, 8]
    assert receiver.counted == {}


def test_what_is_left_of_an_earlier_epoch_is_dropped(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(1, *answers(1), epoch=2))
    receiver.incoming.hear(envelope(50, *answers(50), epoch=1))
    receiver.incoming.hear(envelope(2, *answers(2), epoch=2))
    assert receiver.numbers == [1, 2]
    assert receiver.counted == {"bus_envelopes_repeated": 1}


@pytest.mark.parametrize(("epoch", "number"), [(2**31, 1), (1, 2**31)])
@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_a_node_is_heard_again_after_a_while_when_something_in_its_name_was_ahead_of_it(
    loop: Loop, receiver: Receiver, epoch: int, number: int, to_all: bool, times: int
) -> None:
    flags = TO_ALL if to_all else 0
    receiver.incoming.hear(envelope(1, *answers(1), flags=flags))
    for time in range(times):
        receiver.incoming.hear(envelope(number + time, epoch=epoch + time, flags=flags))
    assert receiver.incoming.refused() == []
    receiver.incoming.hear(envelope(2, *answers(2), flags=flags))
    assert receiver.incoming.refused() == [HERE]
    loop.advance(PATIENCE / 2)
    receiver.incoming.hear(envelope(3, *answers(3), flags=flags))
    receiver.incoming.hear(envelope(1, *answers(0), node=ELSEWHERE, flags=flags))
    assert receiver.incoming.refused() == [HERE]
    assert receiver.numbers == [1, 0]
    loop.advance(PATIENCE / 2)
    receiver.incoming.hear(envelope(4, *answers(4), flags=flags))
    receiver.incoming.hear(envelope(5, *answers(5), flags=flags))
    receiver.incoming.hear(envelope(5, *answers(6), flags=flags))
    assert receiver.numbers == [1, 0, 4, 5]
    assert receiver.counted["bus_streams_resumed"] == 1
    assert receiver.counted["bus_envelopes_repeated"] == 3


def test_a_node_counts_as_refused_no_longer_than_it_would_be(loop: Loop, receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(1, epoch=9))
    receiver.incoming.hear(envelope(1, *answers(1)))
    assert receiver.incoming.refused() == [HERE]
    loop.advance(PATIENCE)
    assert receiver.incoming.refused() == []
    receiver.incoming.hear(envelope(1, epoch=9, node=ELSEWHERE))
    receiver.incoming.hear(envelope(1, *answers(1), node=ELSEWHERE))
    receiver.incoming.forget(ELSEWHERE)
    assert receiver.incoming.refused() == []


def test_what_goes_to_all_and_what_goes_here_are_numbered_apart(receiver: Receiver) -> None:
    for number in (1, 2, 3):
        receiver.incoming.hear(envelope(number, *answers(number)))
        receiver.incoming.hear(envelope(number, *answers(number + 10), epoch=5, flags=TO_ALL))
    assert receiver.numbers == [1, 11, 2, 12, 3, 13]
    assert receiver.counted == {}


def test_a_confirmation_that_is_asked_for_is_said_to_who_asked_after_all_was_taken(loop: Loop) -> None:
    order: list[str] = []
    receiver = Receiver(loop)
    receiver.incoming._take = lambda *_: order.append("taken")
    receiver.incoming._confirm = lambda *_: order.append("confirmed")
    receiver.incoming.hear(envelope(1, *answers(1, 2), flags=CONFIRM))
    assert order == ["taken", "taken", "confirmed"]
    receiver = Receiver(loop)
    receiver.incoming.hear(envelope(3, *answers(1), epoch=4))
    receiver.incoming.hear(envelope(4, epoch=4, flags=CONFIRM))
    receiver.incoming.hear(envelope(9, *answers(1), epoch=5, flags=CONFIRM | TO_ALL))
    assert receiver.confirms == [(HERE, Confirm(4, 4, to_all=False)), (HERE, Confirm(5, 9, to_all=True))]


def test_a_node_that_was_forgotten_may_begin_anew(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(5, *answers(1), epoch=9))
    receiver.incoming.hear(envelope(5, *parts_of(Answer(2, "x" * 50), 2)[:1], epoch=9, flags=TO_ALL))
    receiver.incoming.forget(HERE)
    receiver.incoming.forget(ELSEWHERE)
    receiver.incoming.hear(envelope(1, *answers(3), epoch=1))
    assert receiver.numbers == [1, 3]
    assert receiver.incoming._fragments.size == 0


# What is malformed


def test_an_envelope_that_cannot_be_read_is_counted_and_disturbs_no_other(receiver: Receiver) -> None:
    bad = [b"", b"bad", b"\xc1", b"\x93\xc0", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, bytes(300_000)]
    receiver.incoming.hear(envelope(1, *answers(1)))
    for body in bad:
        receiver.incoming.hear(body)
    receiver.incoming.hear(envelope(2, *answers(2)))
    assert receiver.numbers == [1, 2]
    assert receiver.counted == {"bus_envelopes_unreadable": len(bad)}


def test_an_item_that_cannot_be_read_is_counted_and_spoils_no_other(receiver: Receiver) -> None:
    bad = [
        b"\xc0",
        b"\x90",
        b"\x91\xa6answer",
        b"\x93\xa6answer\xa1x\xa1y",
        b"\x92\x01\x02",
        encode_item(Probe())[:1] + b"\x07",
    ]
    mixed = [each for pair in zip(bad, answers(*range(len(bad))), strict=True) for each in pair]
    receiver.incoming.hear(envelope(1, *mixed, flags=CONFIRM))
    assert receiver.numbers == [*range(len(bad))]
    assert receiver.counted == {"bus_items_unreadable": len(bad)}
    assert len(receiver.confirms) == 1


def test_a_request_of_an_unknown_kind_is_handed_on_to_be_answered(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(1, b"\x94\xa3new\x07\xa6origin\xc0"))
    assert receiver.taken == [(Unsupported(7, NodeId("origin")), HERE)]


def test_a_probe_is_nothing_to_take(receiver: Receiver) -> None:
    receiver.incoming.hear(envelope(1, Probe(), *answers(1)))
    assert receiver.numbers == [1]
    assert len(receiver.taken) == 1


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_comes_nothing_is_raised(bodies: list[bytes]) -> None:
    with time_that_stands() as loop:
        receiver = Receiver(loop)
        for body in bodies:
            receiver.incoming.hear(body)
            receiver.incoming.hear(envelope(1, body, epoch=len(body)))
        assert all(isinstance(item, Item | Unsupported) for item, _ in receiver.taken)


@given(st.data(), st.lists(st.lists(ITEMS, max_size=2), min_size=1, max_size=4))
def test_whatever_is_changed_on_the_way_nothing_is_raised(data: st.DataObject, sent: list[list[Item]]) -> None:
    with time_that_stands() as loop:
        receiver = Receiver(loop)
        for number, items in enumerate(sent):
            body = bytearray(envelope(number + 1, *items, flags=data.draw(st.integers(0, 3))))
            for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
                body[place] = data.draw(st.integers(0, 255))
            receiver.incoming.hear(bytes(body))


# Reassembly


@pytest.mark.parametrize("count", [1, 2, 7])
def test_parts_are_joined(receiver: Receiver, count: int) -> None:
    item = Answer(7, "x" * 100)
    for number, part in enumerate(parts_of(item, count)):
        receiver.incoming.hear(envelope(number + 1, part))
    assert receiver.taken == [(item, HERE)]
    assert receiver.incoming._fragments.size == 0


def test_parts_of_two_items_may_come_between_each_other(receiver: Receiver) -> None:
    pairs = zip(parts_of(Answer(1, "x" * 90), 5, serial=1), parts_of(Answer(2, "y" * 90), 5, serial=2), strict=True)
    receiver.incoming.hear(envelope(1, *[part for pair in pairs for part in pair]))
    assert receiver.numbers == [1, 2]


def test_of_three_items_in_parts_the_one_that_began_first_is_given_up(receiver: Receiver) -> None:
    kept = [parts_of(Answer(number, "x" * 90), 2, serial=number) for number in (1, 2, 3)]
    receiver.incoming.hear(envelope(1, *[parts[0] for parts in kept], *[parts[1] for parts in kept]))
    assert receiver.numbers == [2, 3]
    assert receiver.counted == {"bus_items_unreadable": 1}


@pytest.mark.parametrize("lost", range(4))
def test_of_an_item_with_a_part_that_was_lost_nothing_is_taken(receiver: Receiver, lost: int) -> None:
    for number, part in enumerate(parts_of(Answer(7, "x" * 100), 4)):
        if number != lost:
            receiver.incoming.hear(envelope(number + 1, part))
    receiver.incoming.hear(envelope(5, *answers(8)))
    assert receiver.numbers == [8]


def test_parts_on_both_sides_of_a_break_are_not_joined(receiver: Receiver) -> None:
    first, second = parts_of(Answer(7, "x" * 100), 2)
    receiver.incoming.hear(envelope(1, first, epoch=1))
    receiver.incoming.hear(envelope(1, second, epoch=2))
    assert receiver.taken == []
    assert receiver.counted == {"bus_items_unreadable": 1}


def test_parts_of_different_nodes_and_to_all_are_not_joined(receiver: Receiver) -> None:
    first, second = parts_of(Answer(7, "x" * 100), 2)
    receiver.incoming.hear(envelope(1, first))
    receiver.incoming.hear(envelope(1, second, node=ELSEWHERE))
    receiver.incoming.hear(envelope(1, second, flags=TO_ALL))
    assert receiver.taken == []
    receiver.incoming.hear(envelope(2, second))
    assert receiver.numbers == [7]


LIES = {
    "no fragments at all": [Fragment(1, 0, 0, b"x")],
    "fewer parts than none": [Fragment(1, 0, -1, b"x")],
    "not the first one": [Fragment(1, 1, 2, b"x")],
    "before the first one": [Fragment(1, -1, 2, b"x")],
    "the same one twice": [Fragment(1, 0, 3, b"x"), Fragment(1, 0, 3, b"x")],
    "one left out": [Fragment(1, 0, 3, b"x"), Fragment(1, 2, 3, b"x")],
    "another number of fragments": [Fragment(1, 0, 3, b"x"), Fragment(1, 1, 2, b"x")],
    "nothing when joined": [Fragment(1, 0, 1, b"")],
    "no item when joined": [Fragment(1, 0, 2, b"\xc1"), Fragment(1, 1, 2, b"\xc1")],
    "a fragment of a fragment": parts_of(Fragment(2, 0, 1, encode_item(Answer(1, "x"))), 1),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_parts_that_lie_are_counted_and_dropped(receiver: Receiver, lie: Sequence[Item]) -> None:
    receiver.incoming.hear(envelope(1, *lie, *answers(5)))
    assert receiver.numbers == [5]
    assert receiver.counted == {"bus_items_unreadable": 1}
    assert receiver.incoming._fragments.size == 0
    receiver.incoming.hear(envelope(2, *parts_of(Answer(7, "x" * 100), 3)))
    assert receiver.numbers == [5, 7]


def test_an_item_in_parts_is_not_larger_than_any(receiver: Receiver) -> None:
    step = 250_000
    count = MAX_ITEM // step + 1
    for number in range(count):
        receiver.incoming.hear(envelope(number + 1, Fragment(1, number, 2**40, bytes(step))))
    assert receiver.counted == {"bus_items_unreadable": 1}
    assert receiver.incoming._fragments.size == 0


# What is kept


def test_the_bytes_of_all_items_that_are_not_whole_are_limited() -> None:
    reassembly = Reassembly(max_item=100, max_open=250)
    tracks: list[Track] = [{} for _ in range(50)]
    for track in tracks:
        assert reassembly.join(track, Fragment(1, 0, 5, bytes(90))) is None
        assert reassembly.size <= 250
    assert [index for index, track in enumerate(tracks) if track] == [48, 49]
    with pytest.raises(ValueError, match="does not follow"):
        reassembly.join(tracks[0], Fragment(1, 1, 5, b"x"))
    assert reassembly.join(tracks[49], Fragment(1, 1, 5, b"x" * 10)) is None
    assert reassembly.size == 190
    reassembly.clear(tracks[48])
    reassembly.clear(tracks[49])
    assert reassembly.size == 0


def test_of_endless_nodes_only_the_last_ones_are_told_apart(receiver: Receiver) -> None:
    part = parts_of(Answer(7, "x" * 100), 2)[0]
    for number in range(MAX_STREAMS + 100):
        receiver.incoming.hear(envelope(1, part, node=NodeId(f"node-{number}")))
    assert len(receiver.incoming._streams) == MAX_STREAMS
    assert len(receiver.incoming._fragments._open) == MAX_STREAMS


# Both ends together


@given(st.data())
def test_what_one_end_sends_the_other_takes_whatever_the_sizes(data: st.DataObject) -> None:
    with time_that_stands() as loop:
        sender, receiver = Sender(loop), Receiver(loop)
        sent: list[Letter] = []
        for _ in range(data.draw(st.integers(1, 5))):
            kinds = data.draw(
                st.lists(st.tuples(st.booleans(), st.sampled_from([10, 5_000, 140_000, 700_000])), max_size=6)
            )
            first = len(sent)
            sent += [(BulkLetter if bulk else Letter)(first + index, size) for index, (bulk, size) in enumerate(kinds)]
            sender.send(*sent[first:])
            pass_on(sender, receiver)
        for _ in range(60):
            pass_on(sender, receiver)
        for kind in (Letter, BulkLetter):
            numbers = [letter.number for letter in sent if type(letter) is kind]
            assert [number for number in receiver.numbers if number in numbers] == numbers
        assert {letter.fate for letter in sent} <= {Fate.SENT}
        assert len(receiver.numbers) == len(sent)
        assert receiver.counted == {}
        assert sender.outgoing.waiting == 0


def pass_on(sender: Sender, receiver: Receiver) -> None:
    """Let what was published arrive, and the confirmations of it."""
    published, sender.bus.published = sender.bus.published, []
    for _, body in published:
        receiver.incoming.hear(body)
    confirms, receiver.confirms = receiver.confirms, []
    for _, confirm in confirms:
        sender.loop.turn(lambda confirm=confirm: sender.outgoing.confirmed(THERE, confirm), times=2)  # type: ignore[misc]


@given(st.data())
def test_what_is_lost_doubled_or_late_never_makes_a_wrong_item(data: st.DataObject) -> None:
    with time_that_stands() as loop:
        sender, receiver = Sender(loop), Receiver(loop)
        sent = [
            (BulkLetter if bulk else Letter)(number, size)
            for number, (bulk, size) in enumerate(
                data.draw(
                    st.lists(st.tuples(st.booleans(), st.sampled_from([10, 100_000, 400_000])), min_size=1, max_size=8)
                )
            )
        ]
        for letter in sent:
            sender.send(letter)
        bodies = [body for _, body in sender.bus.published]
        order = data.draw(st.lists(st.integers(0, len(bodies) - 1), max_size=2 * len(bodies)))
        for index in order:
            receiver.incoming.hear(bodies[index])
        assert len(set(receiver.numbers)) == len(receiver.numbers)
        for item, _ in receiver.taken:
            assert isinstance(item, Answer)
            assert item.status == "x" * sent[item.id].size
