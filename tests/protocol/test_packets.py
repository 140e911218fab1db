"""Single packets: text and binary, both protocols."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primacron.errors import ProtocolError
from primacron.protocol.outgoing import OutgoingPacket
from primacron.protocol.packets import Packet, PacketType, decode_binary, decode_text
from tests.protocol.packets import decoded, packet_of, packets_of, texts, versions
from tests.support.naming import brief

VERSIONS = [4, 3]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("data", ["", "probe", "€ 😀", "4", "b", '{"a":1}', "a\x1eb"])
def test_a_text_packet_is_its_digit_and_its_data(version: int, kind: PacketType, data: str) -> None:
    assert decode_text(kind.value + data, version) == Packet(kind, data)


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "7",
        "9zz",
        "abc",
        " 4hi",
        "-1",
        "\x00",
        "\x1e",
        "٤hello",  # int() takes this for a 4
        "४hello",
        "\uff14hello",  # full width, isdigit() is true
        "²hello",  # isdigit() is true, int() fails
        "Ⅳhello",
        "\ufeff4hello",
        "\ud8004",
        "B4",
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_text_without_a_known_type_is_refused(wire: str, version: int) -> None:
    with pytest.raises(ProtocolError, match="unknown packet type"):
        decode_text(wire, version)


@pytest.mark.parametrize(
    ("version", "wire", "data"),
    [
        (4, "bAQIDBA==", b"\1\2\3\4"),
        (3, "b4AQIDBA==", b"\1\2\3\4"),
        (4, "b", b""),
        (3, "b4", b""),
        (4, "b+/8=", b"\xfb\xff"),
    ],
)
def test_base64_behind_a_b_is_a_binary_message(version: int, wire: str, data: bytes) -> None:
    assert decode_text(wire, version) == Packet(PacketType.MESSAGE, data)


@pytest.mark.parametrize(
    "text",
    [
        "***",
        "A",
        "AA",
        "AAA",
        "AA=",
        "AAAA=",
        "AAAA====",
        "====",
        "AA==AA==",
        "AA==\n",
        "AA A=",
        "A-_A",
        "AQIDBA==\x00",
        "ÄÄÄÄ",
        "٤٤٤٤",
        "\ud800\ud800\ud800\ud800",
    ],
)
@pytest.mark.parametrize(("version", "mark"), [(4, "b"), (3, "b4")])
def test_what_is_not_exactly_base64_is_refused(version: int, mark: str, text: str) -> None:
    with pytest.raises(ProtocolError, match="not base64"):
        decode_text(mark + text, version)


@pytest.mark.parametrize("wire", ["b", "bAA==", "b0AA==", "b2AA==", "b6", "bb4AA==", "b٤AA=="])
def test_base64_of_protocol_3_is_of_a_message_alone(wire: str) -> None:
    with pytest.raises(ProtocolError, match="binary packet of type"):
        decode_text(wire, 3)


@pytest.mark.parametrize("wire", [b"", b"\x00", b"4hi", b"\x04", b"\xff" * 9], ids=brief)
def test_a_binary_frame_of_protocol_4_is_a_message_whatever_it_holds(wire: bytes) -> None:
    assert decode_binary(wire, 4) == Packet(PacketType.MESSAGE, wire)


def test_a_binary_frame_of_protocol_3_has_its_type_in_front() -> None:
    assert decode_binary(b"\x04\x01\xff", 3) == Packet(PacketType.MESSAGE, b"\x01\xff")
    assert decode_binary(b"\x04", 3) == Packet(PacketType.MESSAGE, b"")
    assert decode_binary(b"\x02probe", 3) == Packet(PacketType.PING, "probe")
    assert decode_binary(b"\x01", 3) == Packet(PacketType.CLOSE, "")


@pytest.mark.parametrize("wire", [b"", b"\x07", b"4hi", b"\xff", b"b4AA=="])
def test_a_binary_frame_of_protocol_3_without_a_known_type_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="unknown packet type"):
        decode_binary(wire, 3)


@pytest.mark.parametrize("wire", [b"\x02\xff", b"\x00\x80", b"\x06\xc3\xa9"])
def test_only_messages_of_protocol_3_are_binary(wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="binary data in a"):
        decode_binary(wire, 3)


@given(st.text() | st.text().map("b".__add__) | st.text().map("b4".__add__), versions)
@example("b" + "A" * 1_000_001, 4)
def test_any_text_is_a_packet_or_a_protocol_error(wire: str, version: int) -> None:
    packet = decoded(decode_text, wire, version)
    if packet is not None and isinstance(packet.data, str):
        assert packet.type.value + packet.data == wire


@given(st.binary(), versions)
def test_any_bytes_are_a_packet_or_a_protocol_error(wire: bytes, version: int) -> None:
    packet = decoded(decode_binary, wire, version)
    assert packet is not None or version == 3


@given(st.binary(), st.integers(0, 200), st.characters())
def test_base64_with_one_character_exchanged_is_other_data_or_a_protocol_error(
    data: bytes, place: int, character: str
) -> None:
    text = base64.b64encode(data).decode()
    place %= len(text) + 1
    damaged = text[:place] + character + text[place + 1 :]
    packet = decoded(decode_text, "b" + damaged, 4)
    if packet is not None:
        assert isinstance(packet.data, bytes)
        assert len(base64.b64encode(packet.data)) == len(damaged)


@given(packets_of(texts), versions, st.booleans())
def test_what_a_websocket_frame_carries_decodes_to_itself(packet: OutgoingPacket, version: int, base64: bool) -> None:
    is_binary, content = packet.content(version, base64)
    assert is_binary is (packet.binary and not base64)
    back = decode_binary(content, version) if is_binary else decode_text(content.decode(), version)
    assert back == packet_of(packet)


@pytest.mark.parametrize(
    ("content", "version", "base64", "wire"),
    [
        ("hello €", 4, False, (False, "4hello €".encode())),
        (b"\1\2\3\4", 4, False, (True, b"\1\2\3\4")),
        (b"\1\2\3\4", 4, True, (False, b"bAQIDBA==")),
        (b"\1\2\3\4", 3, False, (True, b"\4\1\2\3\4")),
        (b"\1\2\3\4", 3, True, (False, b"b4AQIDBA==")),
        (b"", 4, True, (False, b"b")),
        (b"", 3, True, (False, b"b4")),
        (b"x" * 200, 4, True, (False, b"b" + base64.b64encode(b"x" * 200))),
    ],
    ids=brief,
)
def test_the_wire_forms_of_messages(content: str | bytes, version: int, base64: bool, wire: tuple[bool, bytes]) -> None:
    assert OutgoingPacket.message(content).content(version, base64) == wire
