"""The frame codec, in memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primacron.errors import FrameError
from primacron.standalone.deflate import Agreement, Inflater
from tests.standalone.cases import Codec, feed
from tests.standalone.peer import binary, more, ping, text
from tests.standalone.reading import Heard, new_reader, read
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, encode_frame

LIMIT = 1000

many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def frame(draw: st.DrawFn) -> bytes:
    """Return a frame that keeps the rules more often than not."""
    opcode = draw(st.sampled_from([0, 0, 0, TEXT, TEXT, TEXT, BINARY, BINARY, PING, PONG, CLOSE, 3, 11]))
    payload = draw(st.one_of(st.text().map(str.encode), st.binary(), st.sampled_from([b"*" * 130, b"\xc3", b"\x9f"])))
    return encode_frame(
        payload,
        opcode,
        final=draw(st.sampled_from([True, True, False])),
        reserved=draw(st.sampled_from([0] * 8 + [1, 4])),
        masked=draw(st.sampled_from([True] * 20 + [False])),
        mask=draw(st.binary(min_size=4, max_size=4)),
    )


frames_of_all_kinds = st.lists(frame(), max_size=8).map(b"".join)
any_bytes = st.one_of(st.binary(max_size=300), frames_of_all_kinds)


@st.composite
def split(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Return bytes, and the same in pieces."""
    data = draw(source)
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=10))
    return data, [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]


def by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


@many
@given(split(any_bytes))
def test_any_bytes_are_read_alike_whole_byte_by_byte_and_in_any_split(
    codec: Codec, cut: tuple[bytes, list[bytes]]
) -> None:
    data, pieces = cut
    heard = read(codec.frames, [data], max_size=LIMIT)
    assert read(codec.frames, by_byte(data), max_size=LIMIT) == heard
    assert read(codec.frames, pieces, max_size=LIMIT) == heard


@many
@given(split(any_bytes), st.sampled_from([8, 9, 15]), st.booleans())
def test_any_bytes_are_read_alike_where_messages_may_be_compressed(
    codec: Codec, cut: tuple[bytes, list[bytes]], bits: int, forgets: bool
) -> None:
    data, pieces = cut
    agreement = Agreement(client_bits=bits, client_forgets=forgets)
    whole, bytewise, piecewise = (
        read(codec.frames, parts, max_size=LIMIT, inflater=Inflater(agreement))
        for parts in ([data], by_byte(data), pieces)
    )
    # A message that breaks two rules may be refused for the one or the other.
    assert _without_code(bytewise) == _without_code(piecewise) == _without_code(whole)


def _without_code(heard: Heard) -> Heard:
    return [0 if isinstance(what, int) else what for what in heard]


@many
@given(st.lists(st.one_of(st.text(), st.binary(), st.binary(max_size=125).map(lambda p: (PING, p)))), st.data())
def test_halting_and_going_on_at_any_message_loses_nothing(codec: Codec, messages: Heard, data: st.DataObject) -> None:
    wire = b"".join(_encode(message) for message in messages)
    _, pieces = data.draw(split(st.just(wire)))
    heard: Heard = []
    reader = new_reader(codec.frames, heard, halt=lambda: data.draw(st.booleans()))
    for piece in pieces:
        before = len(heard)
        was_halted = reader.halted
        feed(reader, piece)
        assert not was_halted or len(heard) == before, "read while it was halted"
    while reader.halted:
        reader.halted = False
        reader.feed_rest()
    assert heard == messages
    assert reader.rest is None
    assert reader.partial is None


def _encode(message: object) -> bytes:
    if isinstance(message, str):
        return text(message)
    if isinstance(message, bytes):
        return binary(message)
    assert isinstance(message, tuple)
    return ping(message[1])


@many
@given(st.lists(st.one_of(st.text(), st.binary()), min_size=1), st.data())
def test_between_messages_a_reader_holds_nothing(codec: Codec, messages: Heard, data: st.DataObject) -> None:
    reader = new_reader(codec.frames, [])
    for message in messages:
        _, pieces = data.draw(split(st.just(_encode(message))))
        for piece in pieces:
            feed(reader, piece)
        assert reader.rest is None
        assert reader.partial is None


LENGTHS = (0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000)


@pytest.mark.parametrize("size", LENGTHS)
def test_an_encoded_frame_has_the_shortest_form_of_its_length(size: int, codec: Codec) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    for lead in {0, 1, size // 2} if size else {0}:
        found = codec.frames.encode_frame(BINARY, payload[lead:size], payload[:lead])
        assert found == encode_frame(payload[:size], BINARY, masked=False)
    compressed = codec.frames.encode_frame(TEXT, payload[:size], compressed=True)
    assert compressed == encode_frame(payload[:size], TEXT, reserved=4, masked=False)


@many
@given(st.integers(1000, 4999), st.text())
def test_a_close_frame_has_the_code_and_as_much_of_the_reason_as_fits(codec: Codec, code: int, reason: str) -> None:
    found = codec.frames.encode_close(code, reason)
    assert len(found) <= 127
    assert found[:4] == bytes([0x80 | CLOSE, len(found) - 2]) + code.to_bytes(2, "big")
    kept = found[4:].decode()
    assert reason.startswith(kept)
    assert len(reason.encode()) <= 123 or len(kept.encode()) > 119


def test_a_reason_that_is_no_unicode_is_sent_as_far_as_it_can_be(codec: Codec) -> None:
    assert codec.frames.encode_close(1000, "a\ud800b")[4:] == b"a?b"


@many
@given(st.binary(max_size=125))
def test_a_close_frame_is_decoded_or_refused(codec: Codec, payload: bytes) -> None:
    try:
        code, reason = codec.frames.decode_close(payload)
    except FrameError:
        valid = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
        assert len(payload) == 1 or int.from_bytes(payload[:2], "big") not in valid or not _is_text(payload[2:])
    else:
        assert payload == (b"" if code == 1005 else code.to_bytes(2, "big") + reason.encode())


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x81\xfe\x00\x7d", 1002),
        (b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff", 1002),
        (b"\x81\xff\x80\x00\x00\x00\x00\x01\x00\x00", 1002),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
        (b"\x01\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
        (b"\x89\xff\x00\x00\x00\x00\x00\x10\x00\x00", 1002),
        (b"\x81\x05", 1002),
        (b"\x89\x00", 1002),
    ],
    ids=[
        "two bytes for a short length",
        "eight bytes for a short length",
        "highest bit of the length",
        "largest length",
        "largest length of a fragment",
        "ping with a long length",
        "not masked",
        "ping that is not masked",
    ],
)
def test_a_bad_head_is_refused_before_the_payload_comes(head: bytes, code: int, codec: Codec) -> None:
    assert read(codec.frames, [head]) == [code]
    assert read(codec.frames, by_byte(head)) == [code]
    assert read(codec.frames, [text("before") + head]) == ["before", code]
    in_between = head if head[0] != 0x81 else b"\x80" + head[1:]
    if head[0] != 0x01:
        assert read(codec.frames, [text("fragment", final=False) + in_between]) == [code]


def test_a_message_may_be_as_large_as_the_limit_and_not_larger(codec: Codec) -> None:
    whole = "*" * LIMIT
    assert read(codec.frames, [text(whole)], max_size=LIMIT) == [whole]
    assert read(codec.frames, [binary(whole.encode() + b"*")[:8]], max_size=LIMIT) == [1009]
    fragments = text("*" * 600, final=False) + more("*" * 400, final=True)
    assert read(codec.frames, [fragments], max_size=LIMIT) == [whole]
    too_many = text("*" * 600, final=False) + more("*" * 401, final=True)[:8]
    assert read(codec.frames, [too_many], max_size=LIMIT) == [1009]


def test_a_limit_of_any_size_can_be_had(codec: Codec) -> None:
    assert read(codec.frames, [text("a", final=False), more("b", final=True)], max_size=10**30) == ["ab"]


def test_fragments_of_one_byte_weigh_what_they_carry(codec: Codec) -> None:
    count = 131_000
    wire = binary(b"x", final=False) + b"".join(more(b"x") for _ in range(count - 1))
    reader = new_reader(codec.frames, [])
    tracemalloc.start()
    feed(reader, wire)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reader.partial.data) == count
    assert held < 2 * count
    assert peak < 4 * count


def test_a_frame_weighs_what_has_come_of_it(codec: Codec) -> None:
    reader = new_reader(codec.frames, [])
    wire = text("*" * 900_000)
    tracemalloc.start()
    feed(reader, wire[:100])
    held, _ = tracemalloc.get_traced_memory()
    feed(reader, wire[100:500_000])
    later, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000
    assert later < 700_000


def test_empty_fragments_weigh_nothing(codec: Codec) -> None:
    reader = new_reader(codec.frames, [])
    feed(reader, text("", final=False))
    wire = more(b"") * 50_000
    tracemalloc.start()
    feed(reader, wire)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000
    assert peak < len(wire) / 10
    assert reader.rest is None
