"""Websocket frames that RFC 6455 forbids, or that would grow without end, against the Engine.IO server."""

from __future__ import annotations

import gc
import os
import tracemalloc
import zlib

import pytest

from primacron.errors import FrameError
from tests.hostile.arena import STANDALONE, Arena, until
from tests.hostile.conftest import Attack
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, encode_frame

CONTINUATION = 0
GOOD = b'4{"event":"echo","args":["good"],"id":1}'
ANSWER = '4{"ack":1,"args":["good"]}'


async def open_socket(arena: Arena, account: str = "mallory", *, deflate: bool = False) -> WebSocket:
    """Open a connection by websocket and read its open packet."""
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"} if deflate else None
    socket = await arena.client.websocket(f"account={account}", headers=headers)
    assert socket.response.status == 101
    assert ("sec-websocket-extensions" in socket.response.headers) == deflate
    assert str(await socket.receive()).startswith("0{")
    return socket


async def assert_answers(socket: WebSocket) -> None:
    """Send an echo and get it."""
    await socket.send(GOOD.decode())
    assert await socket.receive() == ANSWER


async def assert_pongs(socket: WebSocket) -> None:
    """Send a ping, which may stand between fragments, and get its pong: all before it was read."""
    await socket.raw.send(encode_frame(b"read", PING))
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.payload) == (PONG, b"read")


def length_of(first: int, length: bytes) -> bytes:
    """Return the head of a masked frame with a length in a form of its own."""
    return bytes([first]) + length + b"mask"


BROKEN = [
    ("no mask", encode_frame(GOOD, masked=False), 1002),
    ("no mask on a ping", encode_frame(b"", PING, masked=False), 1002),
    ("reserved bit 1", encode_frame(GOOD, reserved=4), 1002),
    ("reserved bit 2", encode_frame(GOOD, reserved=2), 1002),
    ("reserved bit 3", encode_frame(GOOD, reserved=1), 1002),
    ("reserved bits of a ping", encode_frame(b"", PING, reserved=7), 1002),
    ("reserved bits of a close", encode_frame(b"\x03\xe8", CLOSE, reserved=1), 1002),
    *((f"opcode {opcode}", encode_frame(b"x", opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ("ping of 126 bytes", encode_frame(b"x" * 126, PING), 1002),
    ("pong of 64 kB", encode_frame(b"x" * 65_536, PONG), 1002),
    ("close of 126 bytes", encode_frame(b"\x03\xe8" + b"x" * 124, CLOSE), 1002),
    ("ping in fragments", encode_frame(b"x", PING, final=False), 1002),
    ("close in fragments", encode_frame(b"\x03\xe8", CLOSE, final=False), 1002),
    ("continuation of nothing", encode_frame(b"x", CONTINUATION), 1002),
    ("continuation of a whole message", encode_frame(b"6") + encode_frame(b"x", CONTINUATION), 1002),
    ("message inside of one", encode_frame(b"4", final=False) + encode_frame(GOOD), 1002),
    ("length of 2 bytes for 5", length_of(0x81, b"\xfe\x00\x05"), 1002),
    ("length of 8 bytes for 5", length_of(0x81, b"\xff" + bytes(7) + b"\x05"), 1002),
    ("length with the highest bit", length_of(0x81, b"\xff\x80" + bytes(7)), 1002),
    ("length of 2^63 - 1", length_of(0x81, b"\xff\x7f" + b"\xff" * 7), 1009),
    ("length of 1 TB", length_of(0x82, b"\xff" + (1 << 40).to_bytes(8, "big")), 1009),
    ("text that is not UTF-8", encode_frame(b"4\xff"), 1007),
    ("overlong text", encode_frame(b"4\xc0\xaf"), 1007),
    ("surrogates", encode_frame(b"4\xed\xa0\x80"), 1007),
    ("text cut inside a character", encode_frame(b"4\xe2\x82"), 1007),
    ("bad text in a fragment that is not the last", encode_frame(b"4\xff", final=False), 1007),
    *((f"close code {code}", encode_frame(code.to_bytes(2, "big"), CLOSE), 1002) for code in (0, 999, 1004, 1005)),
    *((f"close code {code}", encode_frame(code.to_bytes(2, "big"), CLOSE), 1002) for code in (1006, 1015, 1100, 2999)),
    *((f"close code {code}", encode_frame(code.to_bytes(2, "big"), CLOSE), 1002) for code in (5000, 65_535)),
    ("close of one byte", encode_frame(b"\x03", CLOSE), 1002),
    ("close with a reason that is not UTF-8", encode_frame(b"\x03\xe8\xff", CLOSE), 1007),
]
REASONS = {1002: "transport error", 1007: "invalid text", 1009: "message too large"}


@STANDALONE
async def test_a_forbidden_frame_ends_that_session_with_code_and_reason(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, (case, frames, code) in enumerate(BROKEN):
        account = f"mallory-{number}"
        socket = await open_socket(arena, account)
        session = arena.session(account)
        await socket.raw.send(frames + encode_frame(GOOD))
        close = await socket.receive_close()
        assert (close.code, close.reason) == (code, REASONS[code]), case
        assert await socket.raw.read_eof() == b""
        assert await arena.reason(account) == REASONS[code]
        error, context = await arena.error("error::protocol")
        assert isinstance(error, FrameError)
        assert (error.code, context.session) == (code, session), case
        await socket.close()
    assert (arena.heard, arena.is_quiet) == ([], True)


async def test_a_forbidden_frame_ends_that_session_under_any_server(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, (_, frames, code) in enumerate(BROKEN):
        if code == 1007 and kind == "asgi":
            continue  # the outer server decodes text, and writes in its log what it cannot decode
        account = f"mallory-{number}"
        socket = await open_socket(arena, account)
        await socket.raw.send(frames + encode_frame(GOOD))
        socket.raw.writer.write_eof()
        assert await arena.reason(account)
        await socket.close()
    assert arena.heard == []


@STANDALONE
async def test_a_close_frame_ends_that_session_and_its_code_comes_back(kind: str, attack: Attack) -> None:
    arena = await attack()
    codes = (1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4000, 4999)
    for number, payload in enumerate((b"", *(code.to_bytes(2, "big") + b"x" * 123 for code in codes))):
        account = f"mallory-{number}"
        socket = await open_socket(arena, account)
        await socket.raw.send(encode_frame(payload, CLOSE) + encode_frame(GOOD))
        close = await socket.receive_close()
        assert close.payload == payload[:2]
        assert await socket.raw.read_eof() == b""
        assert await arena.reason(account) == "transport close"
    assert (arena.heard, arena.is_quiet) == ([], True)


# Sizes


async def test_a_message_of_the_limit_is_taken_and_one_byte_more_ends_that_session(kind: str, attack: Attack) -> None:
    arena = await attack(max_payload=2000)
    envelope = GOOD.replace(b"good", b"%b")
    fits = envelope % (b"x" * (2000 - len(envelope) + 2))
    assert len(fits) == 2000
    over = fits.replace(b"xxx", b"xxxx", 1)
    halves = (encode_frame(fits[:1000], final=False), encode_frame(fits[1000:], CONTINUATION))
    for number, frames in enumerate((encode_frame(fits), b"".join(halves))):
        socket = await open_socket(arena, f"fits-{number}")
        await socket.raw.send(frames)
        assert str(await socket.receive()).startswith('4{"ack":1,"args":["xxx')
    too_large = (
        encode_frame(over),
        encode_frame(bytes(2001), BINARY),
        encode_frame(b"4" + "é".encode() * 1000),
        halves[0] + encode_frame(fits[1000:] + b" ", CONTINUATION),
    )
    for number, frames in enumerate(too_large):
        socket = await open_socket(arena, f"mallory-{number}")
        await socket.raw.send(frames + encode_frame(GOOD))
        close = await socket.receive_close()
        assert (close.code, close.reason) == (1009, "message too large")
        assert await arena.reason(f"mallory-{number}") == "message too large"
        error, _ = await arena.error("error::protocol")
        assert str(error) == "message is larger than 2000 bytes"
        await socket.close()
    assert len(arena.heard) == 2
    assert arena.is_quiet


# What has no end


@STANDALONE
@pytest.mark.parametrize("deflate", [False, True])
async def test_fragments_of_one_byte_without_end_weigh_what_they_carry(
    kind: str, attack: Attack, deflate: bool
) -> None:
    arena = await attack(deflate=True)
    socket = await open_socket(arena, deflate=deflate)
    first = encode_frame(b"4", final=False)
    fragments = encode_frame(b"x", CONTINUATION, final=False) * 1000
    gc.collect()
    tracemalloc.start()
    try:
        await socket.raw.send(first)
        for _ in range(50):
            await socket.raw.send(fragments)
        await assert_pongs(socket)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
    socket.raw.abort()
    assert await arena.reason("mallory") == "transport close"


@STANDALONE
async def test_empty_fragments_without_end_weigh_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    socket = await open_socket(arena)
    fragments = encode_frame(b"", CONTINUATION, final=False) * 10_000
    gc.collect()
    tracemalloc.start()
    try:
        await socket.raw.send(encode_frame(b"", final=False))
        for _ in range(5):
            await socket.raw.send(fragments)
        await assert_pongs(socket)
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()
    await socket.raw.send(encode_frame(GOOD, CONTINUATION))
    assert await socket.receive() == ANSWER


@STANDALONE
async def test_fragments_are_refused_as_soon_as_they_are_too_large_together(kind: str, attack: Attack) -> None:
    arena = await attack(max_payload=50_000)
    socket = await open_socket(arena)
    await socket.raw.send(encode_frame(b"4", final=False) + encode_frame(b"x", CONTINUATION, final=False) * 49_999)
    await assert_pongs(socket)
    await socket.raw.send(encode_frame(b"x", CONTINUATION, final=False))
    assert (await socket.receive_close()).code == 1009
    assert await arena.reason("mallory") == "message too large"
    await arena.error("error::protocol")


@pytest.mark.parametrize("what", ["fragments", "a frame", "pings"])
async def test_what_comes_without_end_does_not_keep_a_session_that_answers_no_ping(
    kind: str, attack: Attack, what: str
) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    socket = await open_socket(arena)
    if what == "fragments":
        await socket.raw.send(encode_frame(b"4", final=False))
        more = encode_frame(b"x", CONTINUATION, final=False)
    elif what == "a frame":
        more = b"x"
        await socket.raw.send(encode_frame(bytes(500_000), BINARY)[:100])
    else:
        more = encode_frame(b"", PING)

    def is_over() -> bool:
        if not arena.ended:
            socket.raw.writer.write(more)
        return bool(arena.ended)

    await until(is_over, "the end")
    assert await arena.reason("mallory") == "ping timeout"
    assert (await socket.receive_close()).code == 1001


async def test_a_flood_of_pings_is_answered_and_delays_nobody_for_ever(kind: str, attack: Attack) -> None:
    arena = await attack()
    socket = await open_socket(arena)
    for _ in range(20):
        await socket.raw.send(encode_frame(b"x" * 125, PING) * 1000)
    await socket.send(GOOD.decode())
    pongs = 0
    while (frame := await socket.receive_frame()).opcode == PONG:
        assert frame.payload == b"x" * 125
        pongs += 1
    assert frame.text == ANSWER
    assert 0 < pongs <= 20_000
    assert arena.is_quiet


async def test_a_flood_of_pongs_that_nobody_asked_for_is_ignored(kind: str, attack: Attack) -> None:
    arena = await attack()
    socket = await open_socket(arena)
    for _ in range(20):
        await socket.raw.send(encode_frame(b"x" * 125, PONG) * 1000)
    await assert_answers(socket)
    assert arena.is_quiet


# Compression


def deflate(data: bytes) -> bytes:
    """Return the payload of a compressed message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@STANDALONE
@pytest.mark.parametrize("fragment", [0, 1, 1000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_bomb_ends_that_session_before_it_is_large(
    kind: str, attack: Attack, opcode: int, fragment: int
) -> None:
    arena = await attack(deflate=True)
    socket = await open_socket(arena, deflate=True)
    bomb = deflate(b"4" * 50_000_000)
    wire = encode_frame(bomb, opcode, reserved=4)
    if fragment:
        parts = [bomb[start : start + fragment] for start in range(0, len(bomb), fragment)]
        wire = encode_frame(parts[0], opcode, final=False, reserved=4)
        wire += b"".join(encode_frame(part, CONTINUATION, final=False) for part in parts[1:])
    gc.collect()
    tracemalloc.start()
    try:
        await socket.raw.send(wire)
        close = await socket.receive_close()
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
    assert (close.code, close.reason) == (1009, "message too large")
    assert await arena.reason("mallory") == "message too large"
    await arena.error("error::protocol")


@STANDALONE
async def test_compressed_messages_that_are_none_end_that_session(kind: str, attack: Attack) -> None:
    arena = await attack(deflate=True)
    noise = os.urandom(1000)
    for number, (frames, code) in enumerate(
        (
            (encode_frame(b"\xff" * 100, reserved=4), 1007),
            (encode_frame(b"\x07" + noise, reserved=4), 1007),
            (encode_frame(deflate(b"4\xff"), reserved=4), 1007),
            (encode_frame(deflate(GOOD), reserved=6), 1002),
            (encode_frame(deflate(b"x"), PING, reserved=4), 1002),
            (encode_frame(b"4", final=False) + encode_frame(deflate(b"x"), CONTINUATION, reserved=4), 1002),
        )
    ):
        account = f"mallory-{number}"
        socket = await open_socket(arena, account, deflate=True)
        await assert_answers(socket)
        await socket.raw.send(frames + encode_frame(GOOD))
        close = await socket.receive_close()
        assert (close.code, close.reason) == (code, REASONS[code]), number
        assert await arena.reason(account) == REASONS[code]
        await arena.error("error::protocol")
        await socket.close()
    assert len(arena.heard) == 6


@STANDALONE
async def test_offers_of_compression_that_cannot_be_read_are_refused_with_the_reason(kind: str, attack: Attack) -> None:
    arena = await attack(deflate=True)
    for offer in (
        "permessage-deflate; =",
        "permessage-deflate; a=b c",
        '"permessage-deflate"',
        "x" * 5000 + ";" * 50,
    ):
        headers = {"Sec-WebSocket-Extensions": offer}
        response = await arena.handshake("EIO=4&transport=websocket&account=mallory", "websocket", headers)
        await arena.refused(response, 3, "Sec-WebSocket-Extensions is malformed", case=offer[:50])
    assert arena.server.count() == 1
