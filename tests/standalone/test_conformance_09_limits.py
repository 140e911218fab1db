"""Section 9: large messages, whole and in pieces, and many messages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.standalone.cases import Codec
from tests.standalone.peer import Peer, binary, close, more, text
from tests.support.websocket import BINARY, CLOSE, TEXT, Frame

KILO, MEGA = 1 << 10, 1 << 20
WHOLE = (64 * KILO, 256 * KILO, MEGA, 4 * MEGA, 8 * MEGA, 16 * MEGA)
FRAGMENTS = (64, 256, KILO, 4 * KILO, 16 * KILO, 64 * KILO, 256 * KILO, MEGA, 4 * MEGA)
CHOPS = (64, 128, 256, 512, KILO, 2 * KILO)
MANY = (0, 16, 64, 256, KILO, 4 * KILO)

ENCODE: dict[int, Callable[..., bytes]] = {TEXT: text, BINARY: binary}


def _payload(opcode: int, size: int) -> bytes:
    """Return so many bytes; a text has characters of each length."""
    unit = "é€😀 ".encode() if opcode == TEXT else bytes(range(250))
    return (unit * (size // len(unit) + 1))[: size - size % len(unit)].ljust(size, b"*")


def _sizes(*sections: tuple[str, int, tuple[int, ...]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("opcode", "size"),
        [
            pytest.param(opcode, size, id=f"{section}.{n}")
            for section, opcode, sizes in sections
            for n, size in enumerate(sizes, 1)
        ],
    )


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([*range(0, len(data), size), len(data)])]


def _say_goodbye(peer: Peer) -> None:
    peer.send(close())
    assert [frame.opcode for frame in peer.receive_until_close()] == [CLOSE]


@_sizes(("9.1", TEXT, WHOLE), ("9.2", BINARY, WHOLE))
def test_a_large_message_in_one_frame_comes_back(opcode: int, size: int, codec: Codec) -> None:
    payload = _payload(opcode, size)
    with Peer.open(codec.port) as peer:
        peer.send(ENCODE[opcode](payload))
        assert peer.receive() == Frame(opcode, payload)
        _say_goodbye(peer)


@_sizes(("9.3", TEXT, FRAGMENTS), ("9.4", BINARY, FRAGMENTS))
def test_a_large_message_in_fragments_comes_back(opcode: int, size: int, codec: Codec) -> None:
    payload = _payload(opcode, 4 * MEGA)
    first, *rest = _cut(payload, size)
    with Peer.open(codec.port) as peer:
        frames = [ENCODE[opcode](first, final=not rest), *(more(part) for part in rest[:-1])]
        frames += [more(part, final=True) for part in rest[-1:]]
        peer.send(b"".join(frames))
        assert peer.receive() == Frame(opcode, payload)
        _say_goodbye(peer)


@_sizes(("9.5", TEXT, CHOPS), ("9.6", BINARY, CHOPS))
def test_a_large_message_sent_in_chops_comes_back(opcode: int, size: int, codec: Codec) -> None:
    payload = _payload(opcode, MEGA)
    with Peer.open(codec.port) as peer:
        peer.send_in_pieces(_cut(ENCODE[opcode](payload), size))
        assert peer.receive() == Frame(opcode, payload)
        _say_goodbye(peer)


@_sizes(("9.7", TEXT, MANY), ("9.8", BINARY, MANY))
def test_a_thousand_messages_come_back_one_by_one(opcode: int, size: int, codec: Codec) -> None:
    payload = _payload(opcode, size)
    with Peer.open(codec.port) as peer:
        for _ in range(1000):
            peer.send(ENCODE[opcode](payload))
            assert peer.receive() == Frame(opcode, payload)
        _say_goodbye(peer)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_sixteen_megabytes_in_tiny_fragments_come_back(opcode: int, codec: Codec) -> None:
    # What costs more with each fragment than with the one before would not end here.
    payload = _payload(opcode, MEGA)
    frames = [ENCODE[opcode](b"", final=False), *(more(payload[n : n + 1]) for n in range(256 * KILO))]
    frames.append(more(payload[256 * KILO :] + payload * 15, final=True))
    with Peer.open(codec.port) as peer:
        peer.send(b"".join(frames))
        assert peer.receive() == Frame(opcode, payload * 16)
        _say_goodbye(peer)
