"""Parts of messages and requests whose rest never comes: each client has its limit, and all together one."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from primacron import HttpRequest, Primacron
from primacron.errors import TooMuchInput
from primacron.standalone.connection import HttpStream
from primacron.standalone.connection_states import Awaited
from tests.hostile.arena import STANDALONE, Arena, get, head, message_of, until
from tests.hostile.conftest import Attack
from tests.support.http import RawConnection
from tests.support.websocket import KEY, TEXT, encode_frame

TOTAL = 300_000
HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


async def grown(arena: Arena, before: int, by: int) -> None:
    """Wait until the server holds so much more of unfinished input than before."""
    await until(lambda: held(arena) >= before + by, f"{by} bytes more than {before}")


def held(arena: Arena) -> int:
    """Return how many bytes of unfinished input the server holds."""
    return arena.server.node.hub.unfinished.total


async def overflow(arena: Arena) -> TooMuchInput:
    """Return the error that the application heard."""
    error, _ = await arena.error("error::limit")
    assert isinstance(error, TooMuchInput)
    assert error.limit == TOTAL
    assert str(error).endswith(f"bytes of unfinished input, option 'input_total' allows {TOTAL}")
    return error


@STANDALONE
@pytest.mark.parametrize("form", ["fragment", "frame"])
async def test_of_websockets_that_end_no_message_those_that_hold_most_are_closed(
    form: str, kind: str, attack: Attack
) -> None:
    arena = await attack(input_total=TOTAL)
    clients = [await arena.client.connect(f"account=mallory-{number}") for number in range(3)]
    frames = [encode_frame(b"4" + b"x" * size, TEXT, final=False) for size in (80_000, 110_000, 100_000)]
    more = encode_frame(b"x" * 20_000, 0, final=False)
    if form == "frame":
        whole = encode_frame(b"4" + b"x" * 500_000)
        more = whole[len(frames[0]) :][:20_000]
        frames = [whole[: len(frame)] for frame in frames]
    for client, frame in zip(clients, frames, strict=True):
        await client.socket.raw.send(frame)
    await until(lambda: held(arena) >= 290_000, "what is held")
    assert arena.is_quiet
    await clients[0].socket.raw.send(more)
    assert (await overflow(arena)).code == 1013
    assert await clients[1].receive_close() == (1013, "too much unfinished input")
    assert await arena.reason("mallory-1") == "too much unfinished input"
    assert held(arena) < 210_000
    # The others go on, and what has come to its end is held no longer.
    if form == "fragment":
        for client in (clients[0], clients[2]):
            await client.socket.raw.send(encode_frame(b"", 0))
            await arena.error("error::json")
        assert held(arena) == 0
    assert arena.server.count() == 3


@STANDALONE
async def test_what_a_small_compressed_fragment_becomes_counts(kind: str, attack: Attack) -> None:
    arena = await attack(input_total=TOTAL, deflate=True)
    deflater = zlib.compressobj(wbits=-15)
    small = deflater.compress(b"4" * 250_000) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert len(small) < 1_000
    extensions = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    sockets = [await arena.client.websocket(f"account=mallory-{number}", headers=extensions) for number in range(2)]
    for socket in sockets:
        await socket.raw.send(encode_frame(small, TEXT, final=False, reserved=4))
        await until(lambda: held(arena) > 0, "the first fragment")
    await overflow(arena)
    await until(lambda: arena.server.count() == 2, "the end of one of them")
    assert held(arena) == 250_000


async def test_of_posts_that_do_not_end_the_largest_gets_an_answer_and_its_session_ends(
    kind: str, attack: Attack
) -> None:
    arena = await attack(input_total=TOTAL)
    posts: list[RawConnection] = []
    for number, size in enumerate((80_000, 120_000, 70_000)):
        polling = await arena.poll_in(f"mallory-{number}")
        request = head(f"POST {polling.target} HTTP/1.1", "Content-Length: 900000")
        before = held(arena)
        posts.append(await arena.raw(request + b"4" + b"x" * size))
        await grown(arena, before, size)
    assert arena.is_quiet
    await posts[0].send(b"x" * 35_000)
    response = await posts[1].read_response()
    assert (response.status, message_of(response)) == (503, str(await overflow(arena)))
    assert await arena.reason("mallory-1") == "transport close"
    assert held(arena) < 200_000
    assert arena.server.count() == 3


async def test_who_goes_away_inside_a_body_holds_nothing(kind: str, attack: Attack) -> None:
    arena = await attack(input_total=TOTAL)
    polling = await arena.poll_in()
    request = head(f"POST {polling.target} HTTP/1.1", "Content-Length: 900000")
    raw = await arena.raw(request + b"4" + b"x" * 100_000)
    await until(lambda: held(arena) > 100_000, "the body")
    raw.abort()
    await arena.reason("mallory")
    await until(lambda: held(arena) == 0, "the end of it")
    assert arena.is_quiet


@STANDALONE
async def test_heads_that_do_not_end_count_too(kind: str, attack: Attack) -> None:
    arena = await attack(input_total=TOTAL)
    beginning, heads = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", []
    for number in range(6):
        heads.append(await arena.raw(beginning))
        await until(lambda number=number: in_head(arena) == number + 1, "its beginning")  # type: ignore[misc]
    for number, each in enumerate(heads[:5]):
        before = held(arena)
        await each.send(b"x" * (50_000 + number * 1_000))
        await grown(arena, before, 50_000 + number * 1_000)
    assert arena.is_quiet
    await heads[5].send(b"x" * 49_000)
    response = await heads[4].read_response()
    assert (response.status, message_of(response)) == (503, str(await overflow(arena)))
    for each in heads:
        each.abort()
    await until(lambda: held(arena) == 0, "the end of them")


def in_head(arena: Arena) -> int:
    """Return how many connections are inside of a head."""
    (listener,) = arena.server._listeners
    return sum(each._awaited is Awaited.HEAD for each in listener.open if isinstance(each, HttpStream))


@STANDALONE
async def test_what_comes_before_a_handshake_is_answered_counts_too(kind: str, attack: Attack) -> None:
    server = Primacron(input_total=TOTAL)
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> str:
        if request.query["account"] == "mallory":
            await gate.wait()
        return request.query["account"]

    arena = await attack(server)
    target = "/stream/?EIO=4&transport=websocket&account=mallory"
    early = encode_frame(b"4" + b"x" * 60_000)
    sockets = [await arena.raw(get(target, *HANDSHAKE) + early) for _ in range(4)]
    await until(lambda: held(arena) >= 4 * len(early), "what came early")
    sockets.append(await arena.raw(get(target, *HANDSHAKE) + early + b"\x81"))
    await overflow(arena)
    ended = [asyncio.create_task(each.read_eof()) for each in sockets]
    done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert [task.result() for task in done] == [b""] * len(done)
    assert held(arena) <= TOTAL
    for task in ended:
        task.cancel()
    await asyncio.wait(ended)
    for each in sockets:
        each.abort()
    await until(lambda: held(arena) == 0, "the end of them")
    gate.set()


async def test_input_that_is_finished_holds_nothing(kind: str, attack: Attack) -> None:
    arena = await attack(input_total=TOTAL)
    polling = await arena.poll_in()
    raw = await arena.raw()
    body = b'4{"event":"echo","args":["' + b"x" * 150_000 + b'"]}'
    for _ in range(5):
        await raw.send(head(f"POST {polling.target} HTTP/1.1", f"Content-Length: {len(body)}") + body)
        assert (await raw.read_response()).text == "ok"
        assert held(arena) == 0
    client = await arena.client.connect("account=mallory-2")
    for number in range(5):
        await client.emit("echo", "x" * 150_000, id=number)
        assert (await client.receive())["ack"] == number
        assert held(arena) == 0
    assert len(arena.heard) == 10
    assert arena.is_quiet
