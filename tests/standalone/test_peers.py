"""Random exchanges with two other implementations: `ws` for Node and `websockets` for Python."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import string
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader
from websockets.sync.server import ServerConnection, serve

from tests.standalone.cases import Codec, without_reason
from tests.standalone.chopping import chopping
from tests.standalone.peer import DEADLINE, Peer, binary, close, more, ping, pong, text
from tests.standalone.reading import read
from tests.support.node import FOLDER, run_node
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, Frame, encode_frame

SEEDS = range(5)
#: With each seed, each codec and each peer: 2,000 exchanges in all.
CONNECTIONS, EXCHANGES = 10, 10

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 65537)
CODES = (1000, 1001, 1003, 1007, 1008, 1009, 1011, 1013, 3000, 3999, 4000, 4999)
MEGABYTES = 32 * 1024 * 1024


def _content(source: random.Random) -> str | bytes:
    size = source.choice(SIZES) if source.random() < 0.7 else source.randrange(5000)
    if source.random() < 0.5:
        return source.randbytes(size)
    return "".join(source.choices("aé€😀\0\u2028 " + string.printable, k=size))


def _cut(content: str | bytes, source: random.Random) -> list[str] | list[bytes]:
    marks = sorted(source.randrange(len(content) + 1) for _ in range(source.choice((0, 0, 1, 2, 5))))
    bounds = pairwise([0, *marks, len(content)])
    if isinstance(content, str):
        return [content[start:end] for start, end in bounds]
    return [content[start:end] for start, end in bounds]


# Their clients, our server


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_ws_sends_comes_back_to_it(seed: int, codec: Codec) -> None:
    async with chopping(codec.port, seed) as port:
        results = await run_node("ws-client.mjs", port, seed, CONNECTIONS, EXCHANGES)
    assert sum(result["messages"] for result in results) == CONNECTIONS * EXCHANGES
    assert [result["got"] for result in results] == [result["sent"] for result in results]
    assert {bool(result["extensions"]) for result in results} == {False, True}
    assert any(result["pings"] for result in results)


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_websockets_sends_comes_back_to_it(seed: int, codec: Codec) -> None:
    source = random.Random(seed)
    async with chopping(codec.port, seed) as port:
        for _ in range(CONNECTIONS):
            extensions = _extensions(source)
            async with connect(
                f"ws://127.0.0.1:{port}/", compression=None, extensions=extensions, max_size=None, ping_interval=None
            ) as socket:
                assert bool(socket.protocol.extensions) == bool(extensions)
                for _ in range(EXCHANGES):
                    await _exchange(socket, source)
                code, reason = source.choice(CODES), "x" * source.randrange(124)
                await socket.close(code, reason)
            assert socket.close_code == code


def _extensions(source: random.Random) -> list[ClientPerMessageDeflateFactory]:
    if source.random() < 0.4:
        return []
    return [
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=source.random() < 0.5,
            client_no_context_takeover=source.random() < 0.5,
            server_max_window_bits=source.choice([None, *range(9, 16)]),
            client_max_window_bits=source.choice([None, True, *range(9, 16)]),
        )
    ]


async def _exchange(socket: ClientConnection, source: random.Random) -> None:
    content = _content(source)
    parts = _cut(content, source)
    pongs: list[Any] = []

    async def fragments() -> AsyncIterator[str | bytes]:
        for part in parts:
            yield part
            if source.random() < 0.3:
                pongs.append(await socket.ping(source.randbytes(source.randrange(4, 126))))

    async with asyncio.timeout(DEADLINE):
        await socket.send(fragments() if len(parts) > 1 else content)
        assert await socket.recv() == content
        for answered in pongs:
            await answered


# Frames, without a network


def _random_frames(source: random.Random) -> list[tuple[int, bytes]]:
    sizes = [size for size in SIZES for _ in range(3)] + [source.randrange(5000) for _ in range(50)]
    messages = [(BINARY, source.randbytes(size)) for size in sizes]
    messages += [(TEXT, "".join(source.choices("aé€😀", k=size)).encode()) for size in sizes]
    messages += [(opcode, source.randbytes(size)) for opcode in (PING, PONG) for size in (0, 1, 60, 124, 125)]
    source.shuffle(messages)
    return messages


def _heard(messages: Sequence[tuple[int, bytes]]) -> list[object]:
    """Return what a reader makes of messages."""
    return [
        data.decode() if opcode == TEXT else data if opcode == BINARY else (opcode, data) for opcode, data in messages
    ]


def test_our_frames_are_read_by_websockets_and_theirs_by_us(codec: Codec) -> None:
    messages = _random_frames(random.Random("websockets"))
    reader = StreamReader()
    for opcode, data in messages:
        reader.feed_data(codec.frames.encode_frame(opcode, data[3:], data[:3]))
        parser = TheirFrame.parse(reader.read_exact, mask=False, max_size=None)
        with pytest.raises(StopIteration) as parsed:
            next(parser)
        assert parsed.value.value == TheirFrame(Opcode(opcode), data)
    theirs = b"".join(TheirFrame(Opcode(opcode), data).serialize(mask=True) for opcode, data in messages)
    assert read(codec.frames, [theirs]) == _heard(messages)


async def test_our_frames_are_read_by_ws_and_theirs_by_us(codec: Codec, tmp_path: Path) -> None:
    messages = _random_frames(random.Random("ws"))
    ours = b"".join(codec.frames.encode_frame(opcode, data[1:], data[:1]) for opcode, data in messages)
    plan = {
        "frames": base64.b64encode(ours + codec.frames.encode_close(4321, "é€")).decode(),
        "messages": [
            {"opcode": opcode, "fin": True, "data": base64.b64encode(data).decode()} for opcode, data in messages
        ],
    }
    file = tmp_path / "plan.json"
    await asyncio.to_thread(file.write_text, json.dumps(plan))
    (result,) = await run_node("ws-frames.mjs", file)
    names = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}
    heard = [[names[opcode], base64.b64encode(data).decode()] for opcode, data in messages]
    assert result["heard"] == [*heard, ["close", 4321, "é€"]]
    assert read(codec.frames, [base64.b64decode(result["sent"])]) == _heard(messages)


# Their servers and ours, the same bytes


@pytest.fixture(scope="module")
def ws_port() -> Iterator[int]:
    """The port of an echo server on `ws`."""
    with subprocess.Popen(["node", FOLDER / "ws-server.mjs"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture(scope="module")
def websockets_port() -> Iterator[int]:
    """The port of an echo server on `websockets`."""

    def echo(socket: ServerConnection) -> None:
        for message in socket:
            socket.send(message)

    with serve(echo, "127.0.0.1", 0, compression=None, max_size=MEGABYTES, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


#: What breaks a rule, and a few things that look as if they did. Missing are the rules that we alone
#: enforce: the shortest form of a length, and its highest bit (RFC 6455, 5.2).
LAST = {
    **{f"reserved bits {bits}": text("a", reserved=bits) for bits in range(1, 8)},
    **{f"opcode {opcode}": encode_frame(b"abc", opcode) for opcode in (3, 7, 11, 15)},
    "text that is not masked": encode_frame(b"a", TEXT, masked=False),
    "ping that is not masked": encode_frame(b"a", PING, masked=False),
    "ping in fragments": ping(b"a", final=False),
    "close in fragments": encode_frame(b"", CLOSE, final=False),
    "ping of 126 bytes": ping(b"*" * 126),
    "pong of 126 bytes": pong(b"*" * 126),
    "continuation of nothing": more("a", final=True),
    "first fragment of nothing": more("a"),
    "message in a message": text("a", final=False) + text("b"),
    "text that is not UTF-8": text(b"\xff"),
    "text that ends too early": text(b"\xe2\x82"),
    "fragments that are not UTF-8": text(b"\xe2\x82", final=False) + more(b"\x28", final=True),
    "fragments that are UTF-8 together": text(b"\xe2\x82", final=False) + more(b"\xac", final=True),
    "surrogate": text(b"\xed\xa0\x80"),
    "binary that is not UTF-8": binary(b"\xff"),
    "message that is too large": binary(b"")[:1] + b"\xff" + (MEGABYTES + 1).to_bytes(8, "big") + b"mask",
    "fragments that are too large": binary(b"a", final=False) + b"\x80\xff" + MEGABYTES.to_bytes(8, "big") + b"mask",
    "length of 63 bits": b"\x82\xff\x7f" + b"\xff" * 7 + b"mask",
    "close without a code": close(None),
    "close with half a code": encode_frame(b"a", CLOSE),
    "close with a reason": close(1000, "é" * 61),
    "close with a bad reason": close(1000, b"\xff"),
    **{f"close {code}": close(code) for code in (0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1014)},
    **{f"close {code}": close(code) for code in (1015, 1016, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535)},
}


def _conversation(source: random.Random) -> list[tuple[bytes, int]]:
    """Return messages with pings between their fragments, each with the number of answers."""
    steps = []
    for _ in range(source.randrange(4)):
        content = _content(source)
        first, *rest = (part.encode() if isinstance(part, str) else part for part in _cut(content, source))
        begin = text if isinstance(content, str) else binary
        frames = [begin(first, final=not rest)]
        for n, part in enumerate(rest, 1):
            if source.random() < 0.5:
                frames.append(ping(source.randbytes(source.randrange(126))))
            frames.append(more(part, final=n == len(rest)))
        steps.append((b"".join(frames), 1 + sum(frame[0] & 15 == PING for frame in frames)))
    return steps


def _answers(port: int, steps: list[tuple[bytes, int]], last: bytes) -> list[Frame]:
    with Peer.open(port) as peer:
        answers: list[Frame] = []
        for data, count in steps:
            peer.send(data)
            answers += (peer.receive() for _ in range(count))
        peer.send(last)
        goes_on = re.search("UTF-8 together|binary that", next(name for name in LAST if LAST[name] == last))
        if goes_on:
            answers.append(peer.receive())
            peer.send(close(1000))
        while not answers or answers[-1].opcode != CLOSE:
            answers.append(without_reason(peer.receive()))
        return answers


@pytest.mark.parametrize("last", LAST.values(), ids=LAST.keys())
@pytest.mark.parametrize("peer", ["ws", "websockets"])
def test_the_same_bytes_get_the_same_answers_from_us_and_from_them(
    last: bytes, peer: str, codec: Codec, ws_port: int, websockets_port: int
) -> None:
    source = random.Random(f"{peer} {last!r}")
    port = ws_port if peer == "ws" else websockets_port
    for _ in range(3):
        steps = _conversation(source)
        assert _answers(codec.port, steps, last) == _answers(port, steps, last)
