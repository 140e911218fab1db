"""Bodies of requests: their framing, their limits and how slowly they may come, on our own server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tracemalloc

import pytest

from primacron import Primacron
from primacron.errors import PayloadTooLarge
from primacron.standalone.connection import HttpConnection
from tests.hostile.arena import LIVEZ, Arena, get, head, message_of, until
from tests.hostile.conftest import Attack
from tests.support.engine import Polling
from tests.support.http import RawConnection

pytestmark = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"])

CHUNKED = "Transfer-Encoding: chunked"


def echo(text: str) -> bytes:
    """Return a packet whose echo comes back by polling."""
    return b"4" + json.dumps({"event": "echo", "args": [text], "id": 7}).encode()


def answered(text: str) -> str:
    """Return the packet that answers it."""
    return "4" + json.dumps({"ack": 7, "args": [text]}, separators=(",", ":"))


def chunks(body: bytes, size: int) -> bytes:
    """Return a body in chunks, with the last one."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def post(client: Polling, *fields: str) -> bytes:
    """Return the head of a POST."""
    return head(f"POST {client.target} HTTP/1.1", *fields)


async def begin(attack: Attack, **options: object) -> tuple[Arena, Polling]:
    """Return an arena and the attacker's connection by polling."""
    arena = await attack(**options)
    return arena, await arena.client.poll_in("account=mallory")


FRAMED = [
    pytest.param(chunks(echo("hi"), 1000), id="one chunk"),
    pytest.param(chunks(echo("hi"), 1), id="chunks of one byte"),
    pytest.param(b'%X;a=b;c\r\n%b\r\n0;z="quoted"\r\n\r\n' % (len(echo("hi")), echo("hi")), id="extensions"),
    pytest.param(chunks(echo("hi"), 9)[:-2] + b"X-Trailer: a\r\nHost: other\r\n\r\n", id="trailers"),
    pytest.param(b"%032x\r\n%b\r\n0000\r\n\r\n" % (len(echo("hi")), echo("hi")), id="size with zeros before it"),
]


@pytest.mark.parametrize("body", FRAMED)
@pytest.mark.parametrize("step", [0, 1])
async def test_a_chunked_body_is_read_whole(kind: str, attack: Attack, body: bytes, step: int) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(post(client, CHUNKED))
    if step:
        for position in range(len(body)):
            await connection.send(body[position : position + 1])
            await asyncio.sleep(0)
    else:
        await connection.send(body)
    assert (await connection.read_response()).text == "ok"
    assert (await client.poll()).text == answered("hi")
    await arena.assert_serves(connection)
    assert arena.is_quiet


BROKEN = [
    pytest.param(b"g\r\n", id="size of a letter"),
    pytest.param(b"-3\r\nabc\r\n", id="negative size"),
    pytest.param(b"+3\r\nabc\r\n", id="size with a plus"),
    pytest.param(b"0x3\r\nabc\r\n", id="size with a prefix"),
    pytest.param(b"3 \r\nabc\r\n", id="space behind the size"),
    pytest.param(b" 3\r\nabc\r\n", id="space before the size"),
    pytest.param(b"\r\nabc\r\n", id="no size"),
    pytest.param(b"FFFFFFFFFFFFFFFFF\r\n", id="size over 64 bits"),
    pytest.param(b"3\nabc\n0\n\n", id="bare LF"),
    pytest.param(b"3\rabc\r0\r\r", id="bare CR"),
    pytest.param(b"3;a\nabc\r\n0\r\n\r\n", id="bare LF behind an extension"),
    pytest.param(b"3;\x00\r\nabc\r\n", id="NUL in an extension"),
    pytest.param(b'3;a="\r\n\r\nabc', id="quote that does not end"),
    pytest.param(b"3\r\nabcd\r\n0\r\n\r\n", id="chunk longer than its size"),
    pytest.param(b"3\r\nab\r\n0\r\n\r\n", id="chunk shorter than its size"),
    pytest.param(b"0\r\nContent-Length: 5\r\n\r\n", id="length in a trailer"),
    pytest.param(b"0\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked again in a trailer"),
    pytest.param(b"0\r\n folded\r\n\r\n", id="folded trailer"),
    pytest.param(b"0\r\nX : y\r\n\r\n", id="space before a trailer's colon"),
]


@pytest.mark.parametrize("body", BROKEN)
async def test_a_broken_chunked_body_ends_connection_and_session_and_nothing_of_it_is_delivered(
    kind: str, attack: Attack, body: bytes
) -> None:
    arena, client = await begin(attack)
    smuggled = get("/stream/?account=smuggled&EIO=4&transport=polling")
    connection = await arena.raw(post(client, CHUNKED) + chunks(echo("hi"), 99)[:-5] + body + smuggled)
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert message_of(response).startswith("malformed request")
    assert await connection.read_eof() == b""
    error, context = await arena.error("error::protocol")
    assert str(error) == message_of(response)
    assert context.request is not None
    assert context.request.path == "/stream/"
    assert await arena.reason("mallory") == "transport close"
    assert arena.server.count() == 1
    assert arena.is_quiet


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda client: post(client, "Content-Length: 2001"), id="announced"),
        pytest.param(lambda client: post(client, "Content-Length: 5000000000"), id="5 GB announced, nothing sent"),
        pytest.param(lambda client: post(client, "Content-Length: 18446744073709551615"), id="64 bits announced"),
        pytest.param(lambda client: post(client, CHUNKED) + chunks(b"4" * 2001, 500), id="chunked"),
        pytest.param(lambda client: post(client, CHUNKED) + b"FFFFFFFFFFFFFFFF\r\n" + b"4" * 2001, id="one huge chunk"),
        pytest.param(
            lambda client: post(client, "Content-Length: 2001", "Expect: 100-continue"), id="waiting to be asked"
        ),
    ],
)
async def test_a_body_over_the_limit_gets_413_and_the_session_lives(kind: str, attack: Attack, data: object) -> None:
    arena, client = await begin(attack, max_payload=2000)
    assert callable(data)
    connection = await arena.raw(data(client))
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (413, "close")
    assert message_of(response) == "the body is larger than 2000 bytes (option 'max_payload')"
    assert await connection.read_eof() == b""
    error, context = await arena.error("error::protocol")
    assert isinstance(error, PayloadTooLarge)
    assert context.request is not None
    assert (await client.post(echo("still here"))).text == "ok"
    assert (await client.poll()).text == answered("still here")
    assert arena.is_quiet


async def test_a_body_of_just_the_limit_is_taken(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack, max_payload=2000)
    body = echo("x" * (2000 - len(echo(""))))
    assert len(body) == 2000
    connection = await arena.raw(post(client, "Content-Length: 2000") + body)
    assert (await connection.read_response()).text == "ok"
    connection = await arena.raw(post(client, CHUNKED) + chunks(body, 7))
    assert (await connection.read_response()).text == "ok"


async def test_the_answer_to_a_large_upload_can_be_read_while_the_upload_goes_on(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(post(client, "Content-Length: 50000000"))

    async def upload() -> None:
        with contextlib.suppress(OSError):
            for _ in range(500):
                await connection.send(b"4" * 100_000)

    uploading = asyncio.create_task(upload())
    response = await connection.read_response()
    assert response.status == 413
    uploading.cancel()
    await asyncio.wait({uploading})
    await arena.error("error::protocol")


async def test_the_answer_to_a_large_upload_can_be_read_over_tls(
    kind: str, attack: Attack, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    of_server, of_client = certificate
    arena, client = await begin(attack)
    await arena.server.listen(0, "127.0.0.1", ssl=of_server)
    port = int(arena.server._addresses[-1][1])
    connection = RawConnection(*await asyncio.open_connection("127.0.0.1", port, ssl=of_client))
    await connection.send(post(client, "Content-Length: 50000000"))

    async def upload() -> None:
        with contextlib.suppress(OSError):
            for _ in range(500):
                await connection.send(b"4" * 100_000)

    uploading = asyncio.create_task(upload())
    assert (await connection.read_response()).status == 413
    uploading.cancel()
    await asyncio.wait({uploading})
    connection.abort()
    await arena.error("error::protocol")


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    body = echo("asked")
    connection = await arena.raw(post(client, f"Content-Length: {len(body)}", "Expect: 100-CONTINUE"))
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await connection.send(body)
    assert (await connection.read_response()).text == "ok"
    await arena.assert_serves(connection)


async def test_a_client_of_http_1_0_is_not_asked_for_its_body(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    body = echo("1.0")
    request = head(f"POST {client.target} HTTP/1.0", f"Content-Length: {len(body)}", "Expect: 100-continue")
    connection = await arena.raw(request + body)
    assert (await connection.read_response()).text == "ok"
    assert await connection.read_eof() == b""


async def test_an_expectation_of_http_1_0_means_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    response = await arena.ask(head(f"GET {LIVEZ} HTTP/1.0", "Expect: the unexpected"))
    assert response.status == 200


async def test_a_request_with_a_body_that_asks_for_h2c_is_served_as_it_is(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA")
    for framing, body in (
        (f"Content-Length: {len(echo('h2c'))}", echo("h2c")),
        (CHUNKED, chunks(echo("h2c"), 5)),
    ):
        connection = await arena.raw(post(client, framing, *upgrade) + body[:9])
        await asyncio.sleep(0)
        await connection.send(body[9:] + get())
        assert (await connection.read_response()).text == "ok"
        assert (await connection.read_response()).status == 200
        assert (await client.poll()).text == answered("h2c")
    assert arena.is_quiet


# Slowness


async def drip(connection: RawConnection, data: bytes) -> None:
    """Send a byte now and then until the other side has had enough."""
    with contextlib.suppress(OSError):
        for position in range(len(data)):
            await connection.send(data[position : position + 1])
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("slowness", ["silent", "dripping"])
async def test_a_slow_head_is_refused_after_header_timeout(kind: str, attack: Attack, slowness: str) -> None:
    arena = await attack(header_timeout=0.2)
    connection = await arena.raw(b"GET /primacron/livez HTTP/1.1\r\nHost: localhost\r\n")
    dripping = asyncio.create_task(drip(connection, b"X: y\r\n" * 1000 if slowness == "dripping" else b""))
    async with asyncio.timeout(5):
        response = await connection.read_response()
    dripping.cancel()
    assert (response.status, message_of(response)) == (
        408,
        "the head of the request took too long (option 'header_timeout')",
    )
    await asyncio.wait({dripping})
    await arena.error("error::protocol")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", CHUNKED])
@pytest.mark.parametrize("slowness", ["silent", "dripping"])
async def test_a_slow_body_is_refused_after_body_timeout_and_the_session_ends(
    kind: str, attack: Attack, framing: str, slowness: str
) -> None:
    arena, client = await begin(attack, body_timeout=0.2)
    connection = await arena.raw(post(client, framing) + b"3e8\r\n")
    dripping = asyncio.create_task(drip(connection, b"4" * 900 if slowness == "dripping" else b""))
    async with asyncio.timeout(5):
        response = await connection.read_response()
    dripping.cancel()
    assert (response.status, message_of(response)) == (
        408,
        "the body of the request took too long (option 'body_timeout')",
    )
    await asyncio.wait({dripping})
    _, context = await arena.error("error::protocol")
    assert context.request is not None
    assert await arena.reason("mallory") == "transport close"
    assert arena.is_quiet


async def test_a_client_that_says_nothing_is_dropped_after_header_timeout(kind: str, attack: Attack) -> None:
    arena = await attack(header_timeout=0.2)
    connection = await arena.raw()
    async with asyncio.timeout(5):
        assert await connection.read_eof() == b""
    assert arena.is_quiet


async def test_empty_lines_do_not_keep_a_connection_open(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw()
    with contextlib.suppress(OSError):
        for _ in range(20):
            await connection.send(b"\r\n" * 5000)
    response = await connection.read_response()
    assert (response.status, message_of(response)) == (
        431,
        "the head of the request is larger than 65536 bytes (option 'max_header')",
    )
    await arena.error("error::protocol")


ENDLESS = [
    pytest.param(b"0\r\nX: " + b"y" * 300_000, "larger than 65536 bytes", id="value of a trailer"),
    pytest.param(b"0\r\n" + b"y" * 300_000, "larger than 65536 bytes", id="name of a trailer"),
    pytest.param(b"0\r\n" + b"X: y\r\n" * 101, "more than 100 fields", id="trailers"),
    pytest.param(b"0\r\n" + (b"X: " + b"y" * 40_000 + b"\r\n") * 3, "larger than 65536 bytes", id="large trailers"),
    pytest.param(b"1;x=" + b"y" * 300_000, "larger than 65536 bytes", id="extension"),
    pytest.param(b"0" * 300_000, "larger than 65536 bytes", id="size of a chunk"),
]


@pytest.mark.parametrize(("data", "why"), ENDLESS)
async def test_what_has_no_end_around_the_chunks_is_refused(kind: str, attack: Attack, data: bytes, why: str) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(post(client, CHUNKED))
    with contextlib.suppress(OSError):
        await connection.send(data)
    response = await connection.read_response()
    assert response.status == 431
    assert why in message_of(response)
    await arena.error("error::protocol")


async def test_trailers_behind_an_answer_that_was_the_last_are_thrown_away(kind: str, attack: Attack) -> None:
    arena = await attack()
    trailers = b"X: x\r\n" * 101
    connection = await arena.raw(head("POST /nothing HTTP/1.1", CHUNKED) + b"0\r\n" + trailers + b"\r\n")
    assert (await connection.read_response()).status == 400
    assert await connection.read_eof() == b""
    assert arena.is_quiet
    await arena.assert_serves(await arena.raw())


async def test_tiny_chunks_weigh_no_more_than_their_bytes(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(post(client, CHUNKED) + b"1\r\n4\r\n")
    await until(lambda: arena.session("mallory").connection.transport._post, "the POST")  # type: ignore[union-attr]
    half = chunks(b"x" * 400_000, 2)[:-5]
    tracemalloc.start()
    try:
        await connection.send(half)
        del half
        (http,) = [each for each in arena.server._listeners[0].open if isinstance(each, HttpConnection) and each._ahead]
        exchange = http._ahead[0]
        await until(lambda: len(exchange._body) == 400_001, "the body")
        assert tracemalloc.get_traced_memory()[0] < 2_500_000
    finally:
        tracemalloc.stop()
    await connection.send(b"0\r\n\r\n")
    assert (await connection.read_response()).text == "ok"
    await arena.error("error::json")


# Clients that go away


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="before anything"),
        pytest.param(b"PO", id="in the request line"),
        pytest.param(b"POST /stream/?account=a HTTP/1.1\r\nHost: loc", id="in a field"),
        pytest.param(head("GET /nothing HTTP/1.1")[:-2], id="before the end of the head"),
        pytest.param(get(), id="before the answer"),
        pytest.param(get() * 10, id="before ten answers"),
        pytest.param(get("/stream/?account=mallory&EIO=4&transport=polling"), id="before the answer to a handshake"),
    ],
)
@pytest.mark.parametrize("how", ["reset", "closed", "half closed"])
async def test_a_client_may_go_away_at_any_point(kind: str, attack: Attack, part: bytes, how: str) -> None:
    arena = await attack()
    connection = await arena.raw(part)
    if how == "reset":
        connection.abort()
    elif how == "closed":
        await connection.close()
    else:
        connection.writer.write_eof()
        await connection.read_eof()
    assert arena.is_quiet


@pytest.mark.parametrize("framing", ["Content-Length: 1000", CHUNKED])
@pytest.mark.parametrize("how", ["reset", "closed", "half closed"])
async def test_a_client_that_goes_away_inside_its_body_ends_its_session(
    kind: str, attack: Attack, framing: str, how: str
) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(post(client, framing) + b"3e8\r\n" + echo("never whole"))
    if how == "reset":
        connection.abort()
    elif how == "closed":
        await connection.close()
    else:
        connection.writer.write_eof()
        assert await connection.read_eof() == b""
    assert await arena.reason("mallory") == "transport close"
    assert arena.is_quiet


@pytest.mark.parametrize("how", ["reset", "closed", "half closed"])
async def test_a_client_that_goes_away_from_its_poll_ends_its_session(kind: str, attack: Attack, how: str) -> None:
    arena, client = await begin(attack)
    connection = await arena.raw(get(client.target))
    await arena.polling("mallory")
    if how == "reset":
        connection.abort()
    elif how == "closed":
        await connection.close()
    else:
        connection.writer.write_eof()
        assert await connection.read_eof() == b""
    assert await arena.reason("mallory") == "transport close"


async def test_a_client_that_goes_away_from_a_slow_handshake_leaves_nothing(kind: str, attack: Attack) -> None:
    server = Primacron()
    asked, ended = asyncio.Event(), asyncio.Event()

    @server.authorize
    async def authorize(request: object) -> bool:
        if getattr(request, "query", {}).get("account") != "mallory":
            return True
        asked.set()
        try:
            return await asyncio.sleep(60, True)
        finally:
            ended.set()

    arena = await attack(server)
    connection = await arena.raw(get("/stream/?account=mallory&EIO=4&transport=polling"))
    async with asyncio.timeout(10):
        await asked.wait()
        connection.abort()
        await ended.wait()
    assert arena.server.count() == 1


async def test_an_answer_that_nobody_takes_is_given_up(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack, body_timeout=0.2)
    connection = await arena.raw(get(client.target))
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    session = await arena.polling("mallory")
    session.emit("large", "x" * 8_000_000)
    error, _ = await arena.error("error::protocol")
    assert str(error) == "the client does not take its answers"


async def test_a_client_that_takes_a_large_answer_slowly_gets_it_all(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack, body_timeout=0.3)
    connection = await arena.raw(get(client.target))
    session = await arena.polling("mallory")
    session.emit("large", "x" * 20_000_000)
    taken = 0
    async with asyncio.timeout(20):
        while taken < 20_000_000:
            part = await connection.reader.read(1_000_000)
            assert part
            taken += len(part)
            await asyncio.sleep(0.03)
    assert arena.is_quiet
