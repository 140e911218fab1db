"""permessage-deflate: what is negotiated, and messages under each agreement, in memory."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primacron.errors import FrameError
from primacron.standalone.deflate import MAX_STREAMS, Agreement, Deflater, Inflater, MalformedExtensions, negotiate
from tests.standalone.cases import Codec, feed
from tests.standalone.deflating import TAIL, DeflatingPeer
from tests.standalone.peer import Peer, close, more, text
from tests.standalone.reading import new_reader, read
from tests.support.http import RawConnection
from tests.support.websocket import BINARY, CLOSE, KEY, TEXT, Frame, encode_frame

LIMIT = 1_000_000
#: Allocations that do not grow with a message: streams of zlib and their windows.
STREAMS = 400_000

many = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate;client_max_window_bits=15", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"),
        ('permessage-deflate; server_max_window_bits="9"', "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=15"),
        (
            "permessage-deflate ; client_no_context_takeover;\tserver_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=12",
        ),
        (
            ', x-other; a=1; b="2",, permessage-deflate; client_max_window_bits=9 ,',
            "permessage-deflate; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            "permessage-deflate; server_max_window_bits=10",
        ),
    ],
)
def test_the_first_acceptable_offer_is_accepted_with_what_it_asks_for(field: str, answer: str) -> None:
    agreement = negotiate(field)
    assert agreement is not None
    assert agreement.header() == answer


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; Client_Max_Window_Bits",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_max_window_bits",
        *(f"permessage-deflate; server_max_window_bits={value}" for value in ("7", "16", "0", "010", "-9", "9.0", "x")),
        *(f"permessage-deflate; client_max_window_bits={value}" for value in ("7", "16", "08", "+9", "1e1")),
        # zlib writes no raw stream with such a window.
        "permessage-deflate; server_max_window_bits=8",
        "x-webkit-deflate-frame",
        "permessage-bzip2; permessage-deflate",
    ],
)
def test_an_offer_that_cannot_be_accepted_is_declined_and_the_next_one_looked_at(offer: str) -> None:
    assert negotiate(offer) is None
    agreement = negotiate(f"{offer}, permessage-deflate; server_max_window_bits=11")
    assert agreement == Agreement(server_bits=11)


MALFORMED = [
    "permessage-deflate; ",
    ";",
    "permessage-deflate; =9",
    "permessage-deflate; server_max_window_bits=",
    'permessage-deflate; server_max_window_bits="',
    'permessage-deflate; server_max_window_bits="9',
    'permessage-deflate; server_max_window_bits=9"',
    'permessage-deflate; server_max_window_bits=""',
    'x; a="b c"',
    "permessage deflate",
    "permessage-deflate, x/y",
]


@pytest.mark.parametrize("field", MALFORMED)
async def test_a_malformed_field_fails_the_handshake(field: str, codec: Codec) -> None:
    with pytest.raises(MalformedExtensions):
        negotiate(field)
    connection = await RawConnection.open(codec.port)
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Extensions": field,
    }
    await connection.send_request("GET", "/", fields)
    response = await connection.read_response()
    assert response.status == 400
    assert "Sec-WebSocket-Extensions" in response.json()["message"]
    await connection.close()


@settings(deadline=None)
@given(st.text(st.sampled_from('permessage-deflate; client_max_window_bits=19,"\t\\é'), max_size=60))
def test_any_field_is_accepted_declined_or_malformed(field: str) -> None:
    with suppress(MalformedExtensions):
        negotiate(field)


def test_a_field_of_any_shape_is_read_in_no_time() -> None:
    for field in (
        " " * 60_000 + "é",
        "a" * 60_000 + "é",
        "a;" * 30_000,
        "a=" + '"' * 60_000,
        "," * 60_000,
        ", " * 30_000,
    ):
        with suppress(MalformedExtensions):
            negotiate(field)


AGREEMENTS = [
    Agreement(server_bits, client_bits, server_forgets, client_forgets)
    for server_bits, client_bits in ((9, 8), (10, 9), (11, 15), (15, 12), (None, 15))
    for server_forgets in (False, True)
    for client_forgets in (False, True)
]
messages = st.lists(st.one_of(st.binary(), st.binary(max_size=20).map(lambda unit: unit * 500)), max_size=5)


class _Client:
    """The other side of an agreement, on zlib alone."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self._deflater = self._new_deflater()
        self._inflater = zlib.decompressobj(-(agreement.server_bits or 15))

    def _new_deflater(self) -> zlib._Compress:
        # Asked for a window of 8 bits, zlib's users write with one of 9.
        return zlib.compressobj(wbits=-max(9, self._agreement.client_bits))

    def deflate(self, message: bytes) -> bytes:
        if self._agreement.client_forgets:
            self._deflater = self._new_deflater()
        return (self._deflater.compress(message) + self._deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    def inflate(self, payload: bytes) -> bytes:
        if self._agreement.server_forgets:
            self._inflater = zlib.decompressobj(-(self._agreement.server_bits or 15))
        return self._inflater.decompress(payload + TAIL)


@pytest.mark.parametrize("agreement", AGREEMENTS, ids=lambda agreement: agreement.header().partition("; ")[2])
@many
@given(messages, st.data())
def test_messages_survive_both_ways_whole_and_in_parts(
    agreement: Agreement, messages: list[bytes], data: st.DataObject
) -> None:
    client, inflater, deflater = _Client(agreement), Inflater(agreement), Deflater(agreement)
    for message in messages:
        payload = client.deflate(message)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[start:end] for start, end in pairwise([0, *cuts, len(payload)])]
        found = b"".join(inflater.inflate(part, LIMIT, final=False) for part in parts[:-1])
        assert found + inflater.inflate(parts[-1], LIMIT) == message
        assert client.inflate(deflater.deflate(message)) == message


def test_a_second_message_is_smaller_unless_the_first_one_is_forgotten() -> None:
    message = bytes(range(256))
    keeps, forgets = Deflater(Agreement()), Deflater(Agreement(server_forgets=True))
    assert len(keeps.deflate(message)) > 200 > len(keeps.deflate(message))
    assert forgets.deflate(message) == forgets.deflate(message)


@pytest.mark.parametrize(
    "payload",
    [
        "f248cdc9c90700",
        "f348cdc9c90700",  # a final block, and nothing behind it
        "f348cdc9c9070000",
        "000500faff48656c6c6f00",
        "010500faff48656c6c6f00",
        "f248050000 00ffff cac9c90700",
        "f348 0400 cbc9 c907 0000",
    ],
)
def test_the_examples_of_the_specification_are_read_and_so_is_the_message_after_each(payload: str) -> None:
    inflater = Inflater(Agreement())
    for _ in range(3):
        found = inflater.inflate(bytes.fromhex(payload), LIMIT)
        assert found == b"Hello" or payload.startswith("f348 ")
        assert found


def test_the_empty_message_is_one_byte() -> None:
    deflater, client = Deflater(Agreement()), _Client(Agreement())
    for message in (b"", b"a", b"", b""):
        payload = deflater.deflate(message)
        assert payload == b"\x00" or message
        assert client.inflate(payload) == message


def _final(message: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(message) + compressor.flush()


def test_a_message_of_many_final_blocks_is_read_to_its_end() -> None:
    inflater = Inflater(Agreement())
    blocks = b"".join(_final(b"%d," % n) for n in range(MAX_STREAMS))
    numbers = b"".join(b"%d," % n for n in range(MAX_STREAMS))
    assert inflater.inflate(blocks + b"\x00", LIMIT) == numbers
    assert inflater.inflate(blocks, LIMIT) == numbers
    assert inflater.inflate(_Client(Agreement()).deflate(b"and on"), LIMIT) == b"and on"
    with pytest.raises(FrameError) as caught:
        inflater.inflate(blocks, 1000)
    assert caught.value.code == 1009


EMPTY_STREAM = b"\x03\x00"


def test_a_message_of_more_streams_than_anybody_writes_is_refused_before_it_takes_time() -> None:
    inflater = Inflater(Agreement())
    assert inflater.inflate(EMPTY_STREAM * MAX_STREAMS, LIMIT) == b""
    assert inflater.inflate(EMPTY_STREAM * MAX_STREAMS, LIMIT) == b"", "each message begins anew"
    began = time.process_time()
    with pytest.raises(FrameError, match=f"more than {MAX_STREAMS} deflate streams") as caught:
        inflater.inflate(EMPTY_STREAM * 500_000, LIMIT)
    assert caught.value.code == 1009
    assert time.process_time() - began < 0.3
    inflater = Inflater(Agreement())
    inflater.inflate(EMPTY_STREAM * MAX_STREAMS, LIMIT, final=False)
    with pytest.raises(FrameError, match="deflate streams"):  # in parts it is one message, too
        inflater.inflate(EMPTY_STREAM, LIMIT, final=False)


@pytest.mark.parametrize("field", ["a," * 101, "a;b" * 101, "permessage-deflate" + "; x" * 100], ids=len)
def test_more_offers_and_parameters_than_anybody_needs_are_refused_unread(field: str) -> None:
    with pytest.raises(MalformedExtensions, match="more than 100 offers and parameters"):
        negotiate(field)
    assert negotiate("a," * 99 + "permessage-deflate") is not None


@pytest.mark.parametrize("forgets", [False, True])
def test_what_inflates_beyond_the_limit_is_refused_and_not_kept(forgets: bool, codec: Codec) -> None:
    agreement = Agreement(client_forgets=forgets)
    bomb = _Client(agreement).deflate(bytes(200 * LIMIT))
    for pieces in ([bomb], [bomb[n : n + 1000] for n in range(0, len(bomb), 1000)]):
        first, *rest = pieces
        wire = encode_frame(first, BINARY, final=not rest, reserved=4) + b"".join(map(more, rest))
        reader = new_reader(codec.frames, [], max_size=LIMIT, inflater=Inflater(agreement))
        tracemalloc.start()
        with pytest.raises(FrameError) as caught:
            feed(reader, wire)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.code == 1009
        assert peak < 4 * LIMIT + STREAMS


def test_what_inflates_to_the_limit_is_a_message_and_one_byte_more_is_not(codec: Codec) -> None:
    for size, expected in ((LIMIT, [bytes(LIMIT)]), (LIMIT + 1, [1009])):
        payload = _Client(Agreement()).deflate(bytes(size))
        wire = encode_frame(payload, BINARY, reserved=4)
        assert read(codec.frames, [wire], max_size=LIMIT, inflater=Inflater(Agreement())) == expected


def test_what_cannot_be_compressed_may_still_be_as_large_as_the_limit(codec: Codec) -> None:
    message = b"".join(zlib.crc32(b"%d" % n).to_bytes(4, "big") for n in range(LIMIT // 4))
    small = zlib.compressobj(level=0, wbits=-15, memLevel=1)
    payload = (small.compress(message) + small.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    assert len(payload) > LIMIT
    wire = encode_frame(payload, BINARY, reserved=4)
    assert read(codec.frames, [wire], max_size=LIMIT, inflater=Inflater(Agreement())) == [message]
    assert read(
        codec.frames, [encode_frame(bytes(2 * LIMIT), BINARY, reserved=4)[:20]], inflater=Inflater(Agreement())
    ) == [1009]


def test_compressed_fragments_of_one_byte_weigh_what_they_carry(codec: Codec) -> None:
    message = bytes(n * n % 251 for n in range(60_000))
    payload = _Client(Agreement()).deflate(message)
    first, *rest = (payload[n : n + 1] for n in range(len(payload)))
    wire = encode_frame(first, BINARY, final=False, reserved=4) + b"".join(map(more, rest))
    reader = new_reader(codec.frames, [], inflater=Inflater(Agreement()))
    tracemalloc.start()
    feed(reader, wire)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * len(message) + STREAMS
    assert peak < 3 * len(message) + STREAMS


def test_bad_text_is_refused_while_it_is_inflated(codec: Codec) -> None:
    payload = _Client(Agreement()).deflate(b"\xff" + bytes(range(256)) * 100)
    wire = encode_frame(payload, TEXT, reserved=4)[:300]
    assert read(codec.frames, [wire], inflater=Inflater(Agreement())) == [1007]


def test_a_reserved_bit_means_compression_only_where_that_was_agreed_and_in_the_first_frame(codec: Codec) -> None:
    payload = _Client(Agreement()).deflate(b"Hello")
    half = encode_frame(payload[:3], TEXT, final=False, reserved=4)
    wire = encode_frame(payload, TEXT, reserved=4)
    later = encode_frame(payload[3:], 0, reserved=4)
    assert read(codec.frames, [wire]) == [1002]
    assert read(codec.frames, [half + later], inflater=Inflater(Agreement())) == [1002]
    plain = text("plain", final=False) + more("er", final=True)
    assert read(codec.frames, [plain + wire + plain], inflater=Inflater(Agreement())) == ["plainer", "Hello", "plainer"]
    for opcode in (8, 9, 10):
        assert read(codec.frames, [encode_frame(b"", opcode, reserved=4)], inflater=Inflater(Agreement())) == [1002]


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    "offer", ["permessage-deflate", "permessage-deflate; server_max_window_bits=9; client_max_window_bits=8"]
)
def test_compressed_messages_come_back_over_a_socket(offer: str, by_byte: bool, codec: Codec) -> None:
    with Peer.open(codec.port, extensions=offer) as peer:
        deflating = DeflatingPeer(peer)
        for message in (b"Hello", b"", b"Hello", "é€😀".encode() * 100, b""):
            frame = encode_frame(deflating.deflate(message), TEXT, reserved=4)
            peer.send_in_pieces([frame[n : n + 1] for n in range(len(frame))] if by_byte else [frame])
            assert deflating.receive() == Frame(TEXT, message)
        peer.send(text("not compressed"))
        assert deflating.receive() == Frame(TEXT, b"not compressed")
        peer.send(close())
        assert [frame.opcode for frame in peer.receive_until_close()] == [CLOSE]


def test_a_bomb_ends_the_connection_with_its_reason(codec: Codec) -> None:
    with Peer.open(codec.port, extensions="permessage-deflate") as peer:
        bomb = _Client(Agreement()).deflate(bytes(40_000_000))
        peer.send(encode_frame(bomb, BINARY, reserved=4))
        (frame,) = peer.receive_until_close()
        assert int.from_bytes(frame.payload[:2], "big") == 1009
