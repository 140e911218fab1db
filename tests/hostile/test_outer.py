"""What the outer server decides when ours is an ASGI application: with uvicorn, as it comes."""

from __future__ import annotations

import zlib

import pytest

from tests.hostile.arena import LIVEZ, Arena, get, head, message_of
from tests.hostile.conftest import Attack
from tests.hostile.test_http_bodies import BROKEN
from tests.hostile.test_http_front import MALFORMED, REFUSED
from tests.support.websocket import BINARY, encode_frame

pytestmark = pytest.mark.parametrize("kind", ["asgi"])

POLLING = "/stream/?EIO=4&transport=polling&account=mallory"


async def settle(arena: Arena) -> None:
    """Wait until what was sent before has been read: requests that were sent later are answered."""
    for _ in range(3):
        assert (await arena.client.fetch("GET", LIVEZ)).status == 200


async def test_heads_that_http_forbids_raise_nothing_here_and_open_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    for parameter in (*MALFORMED, *REFUSED):
        data = parameter.values[0]
        assert isinstance(data, bytes)
        connection = await arena.raw(data)
        await settle(arena)
        connection.abort()
    assert arena.server.count() == 1


async def test_a_body_with_broken_chunks_is_never_delivered(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, parameter in enumerate(BROKEN):
        polling = await arena.poll_in(f"mallory-{number}")
        chunk = b'4{"event":"echo","args":["broken"],"id":1}'
        request = head(f"POST {polling.target} HTTP/1.1", "Transfer-Encoding: chunked")
        connection = await arena.raw(request + b"%x\r\n%b\r\n" % (len(chunk), chunk))
        rest = parameter.values[0]
        assert isinstance(rest, bytes)
        await connection.send(rest)
        await settle(arena)
        connection.abort()
    assert arena.heard == []


async def test_the_size_of_a_head_is_limited_by_the_outer_server_alone(kind: str, attack: Attack) -> None:
    arena = await attack(max_header=1000)
    assert (await arena.ask(get(LIVEZ, "X: " + "y" * 60_000))).status == 200
    assert (await arena.ask(get(LIVEZ, *["X: y"] * 500))).status == 200


async def test_the_outer_server_decides_whose_forwarded_address_is_believed(kind: str, attack: Attack) -> None:
    arena = await attack(trusted_proxies=[])
    response = await arena.ask(get(POLLING, "X-Forwarded-For: 203.0.113.7"))
    assert response.status == 200
    assert arena.session("mallory").peer == "203.0.113.7"


async def test_the_outer_server_compresses_and_inflates_within_its_own_limit(kind: str, attack: Attack) -> None:
    arena = await attack(deflate=False, max_payload=1_000_000)
    reasons = {10_000_000: "message too large", 50_000_000: "transport close"}
    for size, reason in reasons.items():
        account = f"mallory-{size}"
        headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
        socket = await arena.client.websocket(f"account={account}", headers=headers)
        assert "permessage-deflate" in socket.response.headers["sec-websocket-extensions"]
        await socket.receive_frame()
        stream = zlib.compressobj(9, zlib.DEFLATED, -12)
        bomb = stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH)
        await socket.raw.send(encode_frame(bomb.removesuffix(b"\x00\x00\xff\xff"), BINARY, reserved=4))
        assert (await socket.receive_close()).code == 1009
        assert await arena.reason(account) == reason
        await socket.close()
    await arena.error("error::protocol")  # of the smaller one, which the outer server let through
    assert arena.is_quiet


async def test_a_slow_body_is_refused_by_us_and_ends_that_session(kind: str, attack: Attack) -> None:
    arena = await attack(body_timeout=0.2)
    polling = await arena.poll_in()
    connection = await arena.raw(head(f"POST {polling.target} HTTP/1.1", "Content-Length: 1000") + b"4half")
    response = await connection.read_response()
    assert (response.status, message_of(response)) == (
        408,
        "the body of the request took too long (option 'body_timeout')",
    )
    await arena.error("error::protocol")
    assert await arena.reason("mallory") == "transport close"


async def test_a_body_over_the_limit_is_refused_by_us_and_the_session_lives(kind: str, attack: Attack) -> None:
    arena = await attack(max_payload=2000)
    polling = await arena.poll_in()
    for framing, body in (
        ("Content-Length: 5000000000", b""),
        ("Content-Length: 2001", b""),
        ("Transfer-Encoding: chunked", b"7d1\r\n" + b"4" * 2001),
    ):
        connection = await arena.raw(head(f"POST {polling.target} HTTP/1.1", framing) + body)
        response = await connection.read_response()
        assert (response.status, message_of(response)) == (
            413,
            "the body is larger than 2000 bytes (option 'max_payload')",
        ), framing
        await arena.error("error::protocol")
        connection.abort()
    assert (await polling.post('4{"event":"echo","args":["alive"],"id":5}')).text == "ok"
    assert (await polling.poll()).text == '4{"ack":5,"args":["alive"]}'
