"""Polling bodies: several packets in one, decoded whole or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primacron.errors import ProtocolError
from primacron.protocol.outgoing import CLOSE, NOOP, OutgoingPacket
from primacron.protocol.packets import Packet, PacketType
from primacron.protocol.payload import Payload, encode_payload
from tests.protocol.packets import decoded, joinable_texts, packet_of, packets_of, texts
from tests.support.memory import peak_of
from tests.support.naming import brief

MANY = 1_000

hello = Packet(PacketType.MESSAGE, "hello")
numbers = Packet(PacketType.MESSAGE, b"\1\2\3\4")
packets4 = st.lists(packets_of(joinable_texts), min_size=1, max_size=8)
packets3 = st.lists(packets_of(texts), min_size=1, max_size=8)


def decode_payload(body: bytes, version: int, max_packets: int | None, *, binary: bool = False) -> list[Packet]:
    """Take a body apart, all at once or a few packets at a time: both must do the same."""
    payload = Payload(body, version, max_packets, binary)
    packets: list[Packet] = []
    while not payload.is_done:
        taken = payload.take(3)
        assert 0 < len(taken) <= 3
        packets += taken
    assert payload.take(3) == []
    payload.begin()
    assert payload.take(len(body) + 1) == packets
    return packets


def refusal(body: bytes, version: int, max_packets: int = MANY, *, binary: bool = False) -> str:
    """Return the words with which a body is refused."""
    with pytest.raises(ProtocolError) as caught:
        decode_payload(body, version, max_packets, binary=binary)
    return str(caught.value)


# Protocol 4


def test_packets_of_protocol_4_are_joined_by_the_record_separator() -> None:
    assert decode_payload(b"4hello\x1ebAQIDBA==\x1e3", 4, MANY) == [hello, numbers, Packet(PacketType.PONG)]
    packets = [OutgoingPacket.message("hello"), OutgoingPacket.message(b"\1\2\3\4"), CLOSE, NOOP]
    assert encode_payload(packets, 4, False) == (b"4hello\x1ebAQIDBA==\x1e1\x1e6", False)
    assert encode_payload(packets, 4, True) == encode_payload(packets, 4, False)


@pytest.mark.parametrize(
    "body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b", b"4a\x1e9", b"4a\x1eb***", b"4a\x1e b"]
)
def test_one_bad_packet_refuses_the_whole_body_of_protocol_4(body: bytes) -> None:
    assert refusal(body, 4)


def test_a_separator_inside_of_a_text_splits_it() -> None:
    assert decode_payload(b"4a\x1e4b", 4, MANY) == [Packet(PacketType.MESSAGE, "a"), Packet(PacketType.MESSAGE, "b")]
    assert "unknown packet type 'b'" not in refusal(b"4a\x1exb", 4)


@pytest.mark.parametrize(
    "body",
    [
        b"4\xff",
        b"4\xc3(",
        b"4\xed\xa0\x80",  # a lone surrogate
        b"4\xed\xa0\xbd\xed\xb8\x80",  # a pair of them, as CESU-8
        b"4\xf4\x90\x80\x80",  # past U+10FFFF
        b"4\xc0\x80",  # overlong
        b"4\xe2\x82",  # cut short
    ],
)
@pytest.mark.parametrize("version", [4, 3])
def test_a_body_that_is_not_utf8_is_refused(body: bytes, version: int) -> None:
    assert refusal(body, version) == "payload is not UTF-8"


# Protocol 3, text


def test_packets_of_protocol_3_have_their_length_in_front() -> None:
    body = "6:4hello2:4€10:b4AQIDBA==".encode()
    assert decode_payload(body, 3, MANY) == [hello, Packet(PacketType.MESSAGE, "€"), numbers]
    packets = [OutgoingPacket.message("hello"), OutgoingPacket.message("€"), OutgoingPacket.message(b"\1\2\3\4")]
    assert encode_payload(packets, 3, True) == (body, False)


def test_lengths_of_protocol_3_count_utf16_units() -> None:
    body = "3:4😀3:4é!".encode()
    assert decode_payload(body, 3, MANY) == [Packet(PacketType.MESSAGE, "😀"), Packet(PacketType.MESSAGE, "é!")]
    assert encode_payload([OutgoingPacket.message("😀"), OutgoingPacket.message("é!")], 3, False) == (body, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "without a length"),
        ("4hi", "without a length"),
        (":4", "without a length"),
        ("-1:4", "without a length"),
        ("+1:4", "without a length"),
        (" 1:4", "without a length"),
        ("1 :4", "without a length"),
        ("1_0:4", "without a length"),
        ("1e9:4", "without a length"),
        ("0x1:4", "without a length"),
        ("1.0:4", "without a length"),
        ("٢:4a", "without a length"),  # int() takes this for a 2
        ("²:4a", "without a length"),
        ("12345678901:4", "without a length"),
        ("9" * 310 + ":4", "without a length"),
        ("9" * 100_000 + ":4", "without a length"),
        ("99999991:4222", "shorter than its length"),
        ("9999999999:4" + "2" * 9, "shorter than its length"),
        ("99:4hi", "shorter than its length"),
        ("99:4hé", "shorter than its length"),
        ("4:4hi", "shorter than its length"),
        ("1:", "shorter than its length"),
        ("2:4😀", "shorter than its length"),  # it ends within the pair
        ("1:😀", "shorter than its length"),
        ("0:", "unknown packet type"),
        ("0000000000:", "unknown packet type"),
        ("1:9", "unknown packet type"),
        ("2:bb", "binary packet of type"),
        ("3:b4*", "not base64"),
        ("2:4a4a", "without a length"),
        ("2:4a:", "without a length"),
        ("2:4a2:4", "shorter than its length"),
        ("2:4a1:9", "unknown packet type"),
        ("2:4a\n", "without a length"),
    ],
    ids=brief,
)
def test_one_bad_packet_or_length_refuses_the_whole_text_of_protocol_3(body: str, words: str) -> None:
    assert words in refusal(body.encode(), 3)


def test_a_length_may_begin_with_zeros() -> None:
    assert decode_payload(b"0000000006:4hello", 3, MANY) == [hello]


# Protocol 3, binary


def test_binary_bodies_of_protocol_3_have_a_kind_and_a_length_of_bytes() -> None:
    body = bytes.fromhex("00 06 ff 34 68 65 6c 6c 6f 01 05 ff 04 01 02 03 04")
    assert decode_payload(body, 3, MANY, binary=True) == [hello, numbers]
    packets = [OutgoingPacket.message("hello"), OutgoingPacket.message(b"\1\2\3\4")]
    assert encode_payload(packets, 3, False) == (body, True)


def test_binary_bodies_of_protocol_3_count_bytes_of_text() -> None:
    body = b"\x00\x01\x02\xff4" + "😀é".encode() + b"aaaaa"
    assert decode_payload(body, 3, MANY, binary=True) == [Packet(PacketType.MESSAGE, "😀éaaaaa")]


def test_text_alone_needs_no_binary_body() -> None:
    assert encode_payload([OutgoingPacket.message("hello")], 3, False) == (b"6:4hello", False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "without a length"),
        (b"\x00", "without a length"),
        (b"\x01", "without a length"),
        (b"\x00\xff", "without a length"),
        (b"\x02\x01\xff4", "without a length"),
        (b"\xff\x01\xff4", "without a length"),
        (b"0\x01\xff4", "without a length"),
        (b"\x00\x01", "without a length"),
        (b"\x00\x0a\xff4", "without a length"),
        (b"\x001\xff4", "without a length"),  # a digit of text
        (b"\x00\xfe\xff4", "without a length"),
        (b"\x00" + b"\x09" * 11 + b"\xff4", "without a length"),
        (b"\x00" + b"\x09" * 310 + b"\xff4", "without a length"),
        (b"\x01" + b"\x09" * 1_000_000, "without a length"),
        (b"\x00" + b"\x09" * 10 + b"\xff4", "shorter than its length"),
        (b"\x00\x03\xff4h", "shorter than its length"),
        (b"\x01\x01\xff", "shorter than its length"),
        (b"\x00\x00\xff", "unknown packet type"),
        (b"\x01\x00\xff", "unknown packet type"),
        (b"\x00\x01\xff9", "unknown packet type"),
        (b"\x01\x01\xff\x07", "unknown packet type"),
        (b"\x01\x01\xff4", "unknown packet type"),
        (b"\x00\x02\xff4\xff", "not UTF-8"),
        (b"\x00\x04\xff4\xed\xa0\x80", "not UTF-8"),
        (b"\x01\x02\xff\x02\xff", "binary data in a PING"),
        (b"\x00\x02\xff4a\x00", "without a length"),
        (b"\x00\x02\xff4a4b", "without a length"),
    ],
    ids=brief,
)
def test_one_bad_packet_or_length_refuses_the_whole_binary_body(body: bytes, words: str) -> None:
    assert words in refusal(body, 3, binary=True)


def test_a_content_type_of_binary_means_nothing_in_protocol_4() -> None:
    assert decode_payload(b"4hello", 4, MANY, binary=True) == [hello]


# Limits

BODIES: dict[str, tuple[int, bool, Callable[[int], bytes]]] = {
    "protocol 4": (4, False, lambda count: b"\x1e".join([b"4"] * count)),
    "protocol 3": (3, False, lambda count: b"1:4" * count),
    "protocol 3, not ASCII": (3, False, lambda count: "2:4é".encode() * count),
    "protocol 3, binary": (3, True, lambda count: b"\x00\x01\xff4" * count),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_number_of_packets_is_limited(name: str) -> None:
    version, binary, body = BODIES[name]
    assert len(decode_payload(body(17), version, 17, binary=binary)) == 17
    assert refusal(body(18), version, 17, binary=binary) == "more than 17 packets in one payload (option 'max_packets')"
    assert refusal(body(2), version, 1, binary=binary) == "more than 1 packets in one payload (option 'max_packets')"


FLOODS = {
    "a million separators": (4, False, b"\x1e" * 1_000_000),
    "100,000 packets": (4, False, b"\x1e".join([b"4"] * 100_000)),
    "100,000 packets of protocol 3": (3, False, b"1:4" * 100_000),
    "100,000 binary packets of protocol 3": (3, True, b"\x01\x01\xff\x04" * 100_000),
    "a million digits": (3, False, b"9" * 1_000_000),
    "a length of 10 digits": (3, False, b"9999999999:4" + b"2" * 1_000_000),
    "a length of 10 digits before text that is not ASCII": (3, False, b"9999999999:4" + "é".encode() * 500_000),
    "a million colons": (3, False, b":" * 1_000_000),
    "a million marks": (3, True, b"\xff" * 1_000_000),
    "a million digits and no mark": (3, True, b"\x00" + b"\x09" * 1_000_000),
    "empty packets": (3, False, b"0:" * 500_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_refused_before_much_is_made_of_it(name: str) -> None:
    version, binary, body = FLOODS[name]
    # A few copies of the body, and not an object for each of its packets.
    assert peak_of(lambda: refusal(body, version, MANY, binary=binary)) < 4 * len(body) + 400_000


# Properties

forms = st.sampled_from([(4, False), (3, False), (3, True)])
lengths = st.integers(-2, 40).map(str) | st.sampled_from(["", "1e1", "9" * 11, "٢"])
framed = st.lists(st.tuples(lengths, st.text("4b6=A€😀", max_size=9))).map(
    lambda parts: "".join(f"{length}:{text}" for length, text in parts).encode()
)
marked = st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=6))).map(
    lambda parts: b"".join(digits + b"\xff" + data for digits, data in parts)
)


@given(st.binary() | texts.map(str.encode) | framed | marked, forms, st.integers(1, 20))
@example(b"\xff", (3, True), 1)
def test_any_body_is_decoded_whole_or_refused_with_a_protocol_error(
    body: bytes, form: tuple[int, bool], limit: int
) -> None:
    version, binary = form
    packets = decoded(decode_payload, body, version, limit, binary=binary)
    if packets is not None:
        assert 1 <= len(packets) <= limit


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, int, bool]:
    """Return a good body with a few bytes exchanged, left out or added."""
    version = draw(st.sampled_from([4, 3]))
    packets = draw(packets4 if version == 4 else packets3)
    body, binary = encode_payload(packets, version, draw(st.booleans()))
    wire = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(wire)))
        wire[start : start + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(wire), version, binary


@given(damaged())
def test_a_damaged_body_is_decoded_whole_or_refused_with_a_protocol_error(case: tuple[bytes, int, bool]) -> None:
    body, version, binary = case
    packets = decoded(decode_payload, body, version, MANY, binary=binary)
    if packets is not None:
        assert all(isinstance(packet, Packet) for packet in packets)
        assert packets


@given(packets4, st.booleans())
def test_what_protocol_4_encodes_decodes_to_itself(packets: list[OutgoingPacket], base64: bool) -> None:
    body, binary = encode_payload(packets, 4, base64)
    assert not binary
    assert decode_payload(body, 4, MANY) == list(map(packet_of, packets))


@given(packets3, st.booleans())
def test_what_protocol_3_encodes_decodes_to_itself(packets: list[OutgoingPacket], base64: bool) -> None:
    body, binary = encode_payload(packets, 3, base64)
    assert binary is (not base64 and any(packet.binary for packet in packets))
    assert decode_payload(body, 3, MANY, binary=binary) == list(map(packet_of, packets))
