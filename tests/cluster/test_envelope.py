"""What travels between nodes: every kind of item, and everything else that may come in its place."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.cluster.envelope import (
    HEAD_SIZE,
    MAX_ENVELOPE,
    MAX_ITEMS,
    Envelope,
    Unsupported,
    decode_envelope,
    decode_item,
    encode_envelope,
    encode_item,
)
from primacron.cluster.items import CONFIRM, KINDS, NIL, TO_ALL, VERSION, Answer, Item, ToSession
from primacron.ids import AccountId, NodeId, SessionId
from tests.cluster.items import ITEMS, NODES, structs

NODE = NodeId("0123456789abcdef")
NUMBERS = st.integers(0, 2**63)
SEND = ToSession(7, NODE, AccountId("ann"), SessionId("one"), 3, 0, msgspec.Raw(b"\x91\xa5event"), False, "")

Decode = Callable[[bytes], object]


def read_all(body: bytes) -> list[Item | Unsupported]:
    """Read an envelope and all of its items, as a node does."""
    return [decode_item(raw) for raw in decode_envelope(body).items]


def refused(decode: Decode, data: bytes) -> bool:
    """Tell whether something is refused in the only way that is allowed."""
    try:
        decode(data)
    except ValueError:
        return True
    return False


def memory_of(decode: Decode, data: bytes) -> int:
    """Return how many bytes were used at most while something was refused or read."""
    tracemalloc.start()
    try:
        refused(decode, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_item_of_each_kind_comes_as_it_was_sent(kind: type[Item]) -> None:
    @given(structs(kind))
    def check(item: Item) -> None:
        assert decode_item(encode_item(item)) == item

    check()


def test_no_two_kinds_have_the_same_name() -> None:
    names = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(names)) == len(names)


@given(NODES, NUMBERS, NUMBERS, st.integers(0, TO_ALL | CONFIRM), st.lists(ITEMS, max_size=5))
def test_an_envelope_comes_as_it_was_sent(node: NodeId, epoch: int, number: int, flags: int, items: list[Item]) -> None:
    envelope = decode_envelope(encode_envelope(node, epoch, number, flags, [encode_item(item) for item in items]))
    assert (envelope.node, envelope.epoch, envelope.number, envelope.flags) == (node, epoch, number, flags)
    assert [decode_item(raw) for raw in envelope.items] == items


@given(NODES, NUMBERS, NUMBERS)
def test_the_head_of_an_envelope_is_as_small_as_is_reckoned_with(node: NodeId, epoch: int, number: int) -> None:
    assert len(encode_envelope(node, epoch, number, TO_ALL | CONFIRM, [])) <= HEAD_SIZE


def test_an_envelope_of_as_many_items_as_it_may_have_is_read() -> None:
    assert len(decode_envelope(encode_envelope(NODE, 1, 1, 0, [b"\xc0"] * MAX_ITEMS)).items) == MAX_ITEMS


def test_an_envelope_of_more_items_is_refused() -> None:
    with pytest.raises(ValueError, match="60001 items"):
        decode_envelope(encode_envelope(NODE, 1, 1, 0, [b"\xc0"] * (MAX_ITEMS + 1)))


def test_an_envelope_of_a_newer_version_is_refused() -> None:
    body = msgspec.msgpack.encode([VERSION + 1, NODE, 1, 1, 0])
    with pytest.raises(ValueError, match="newer version"):
        decode_envelope(body)


def test_fields_that_a_later_version_adds_to_an_item_are_left_out() -> None:
    fields = msgspec.msgpack.decode(encode_item(SEND))
    assert decode_item(msgspec.msgpack.encode([*fields, "more", {"and": "more"}])) == SEND


# What is no envelope and no item


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refused(read_all, data)
    refused(decode_item, data)


@given(st.data(), st.lists(ITEMS, min_size=1, max_size=3))
def test_an_envelope_with_some_bytes_changed_is_read_or_refused(data: st.DataObject, items: list[Item]) -> None:
    body = bytearray(encode_envelope(NODE, 1, 1, 0, [encode_item(item) for item in items]))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for changed in (bytes(body), bytes(body[:cut]), bytes(body[cut:])):
        refused(read_all, changed)


@given(st.data(), ITEMS)
def test_an_item_with_a_field_of_another_type_is_read_or_refused(data: st.DataObject, item: Item) -> None:
    fields = msgspec.msgpack.decode(encode_item(item))
    place = data.draw(st.integers(0, len(fields) - 1))
    fields[place] = data.draw(st.none() | st.booleans() | st.integers(-9, 9) | st.text() | st.lists(st.integers(0, 9)))
    refused(decode_item, msgspec.msgpack.encode(fields))
    refused(decode_item, msgspec.msgpack.encode(fields[:place]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"bad",
        b"\xc1",
        b"\x93\xc0",
        b"\x90",
        b"\x80",
        b"\xc0",
        b"\x95\x01\xa1n\x01\x01\xc0",
        b"\x95\x01\xa1\xff\x01\x01\x00",
        b"\x95\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa1n\x01\x01\x00",
        b'{"event": "x"}',
        pickle.dumps({"host_id": "x", "method": "emit"}),
        pickle.dumps([1, "n", 1, 1, 0], protocol=0),
    ],
)
def test_what_is_no_envelope_is_refused(body: bytes) -> None:
    assert refused(decode_envelope, body)


def test_nothing_of_a_pickle_is_run() -> None:
    ran: list[int] = []

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return eval, ("ran.append(1)",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(Trap(), protocol)
        assert refused(decode_envelope, data)
        assert refused(decode_item, data)
    assert ran == []


# Kinds that a later version may add


@given(st.text(max_size=20), st.integers(0, 2**63), NODES, st.lists(st.integers() | st.text(), max_size=3))
def test_a_request_of_an_unknown_kind_can_be_answered(kind: str, id: int, origin: NodeId, more: list[object]) -> None:
    fields = [f"new-{kind}", id, origin, *[each for each in more if not isinstance(each, int) or abs(each) < 2**63]]
    assert decode_item(msgspec.msgpack.encode(fields)) == Unsupported(id, origin)


@pytest.mark.parametrize(
    "fields", [["new"], ["new", 1], ["new", "n", 1], ["new", 1, None], [1, 1, "n"], [None, 1, "n"]]
)
def test_what_begins_like_no_request_is_no_request_of_an_unknown_kind(fields: list[object]) -> None:
    assert refused(decode_item, msgspec.msgpack.encode(fields))


def test_a_malformed_item_of_a_known_kind_is_no_unknown_one() -> None:
    assert refused(decode_item, msgspec.msgpack.encode(["session", 1, NODE, "ann"]))


# What costs more than it says


@pytest.mark.parametrize(
    "start",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
@pytest.mark.parametrize("place", ["envelope", "item", "field"])
def test_a_count_without_its_elements_costs_nothing(start: bytes, place: str) -> None:
    field = b"\x98\xa8everyone\x01" + b"\xb0" + NODE.encode() + b"\x01" + b"\xc0"
    body = {
        "envelope": start + b"\x01\xa1n\x01\x01\x00",
        "item": encode_envelope(NODE, 1, 1, 0, [start]),
        "field": encode_envelope(NODE, 1, 1, 0, [field + start]),
    }[place]
    assert refused(read_all, body)
    assert memory_of(read_all, body) < 200_000


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1k", b"\xdd\x00\x00\x00\x01"])
def test_deep_nesting_is_refused(opener: bytes) -> None:
    nest = opener * 20_000 + b"\xc0"
    assert refused(decode_envelope, nest)
    assert refused(decode_item, nest)
    body = encode_envelope(NODE, 1, 1, 0, [encode_item(Answer(1, "accepted", msgspec.Raw(nest)))])
    assert refused(read_all, body)


@pytest.mark.parametrize("filling", [b"\xc0", b"\x90", b"\xa0", encode_item(SEND)])
def test_an_envelope_larger_than_any_is_refused_before_anything_is_made_of_it(filling: bytes) -> None:
    count = 33_000_000 // len(filling)
    body = b"\xdd" + (count + 5).to_bytes(4, "big") + encode_envelope(NODE, 1, 1, 0, [])[3:] + filling * count
    assert refused(decode_envelope, body)
    assert memory_of(decode_envelope, body) < 10_000


def test_an_envelope_of_the_smallest_items_costs_no_more_than_its_size_allows() -> None:
    count = MAX_ENVELOPE - HEAD_SIZE
    body = b"\xdd" + (count + 5).to_bytes(4, "big") + encode_envelope(NODE, 1, 1, 0, [])[3:] + b"\xc0" * count
    assert refused(decode_envelope, body)
    assert memory_of(decode_envelope, body) < 100 * MAX_ENVELOPE


def test_what_follows_in_a_request_of_an_unknown_kind_is_not_built() -> None:
    count = 3_000_000
    head = b"\xdd" + (count + 3).to_bytes(4, "big") + b"\xa3new\x07" + b"\xb0" + NODE.encode()
    data = head + b"\x90" * count
    assert decode_item(data) == Unsupported(7, NODE)
    assert memory_of(decode_item, data) < 100_000


def test_the_items_of_an_envelope_are_not_copies_of_it() -> None:
    body = encode_envelope(NODE, 1, 1, 0, [encode_item(Answer(1, "accepted", NIL))] * 1000)
    assert isinstance(decode_envelope(body), Envelope)
    assert memory_of(decode_envelope, body) < 200_000
