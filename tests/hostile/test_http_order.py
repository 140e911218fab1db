"""Several requests on one connection, and requests for another protocol, on our own server."""

from __future__ import annotations

import asyncio
import random

import pytest

from primacron import Primacron, Session
from primacron.standalone import connection as http
from tests.hostile.arena import LIVEZ, Arena, get, head, message_of, until
from tests.hostile.conftest import Attack
from tests.support.engine import SEPARATOR
from tests.support.http import RawConnection
from tests.support.websocket import KEY, TEXT, WebSocket, encode_frame

pytestmark = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"])

SOCKET = "/stream/?account=mallory&EIO=4&transport=websocket"
HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


def without(name: str) -> list[str]:
    """Return the fields of a handshake without one."""
    return [each for each in HANDSHAKE if not each.startswith(name)]


# Pipelining


async def test_requests_sent_ahead_are_answered_in_their_order(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    post = head(f"POST {client.target} HTTP/1.1", "Content-Length: 2") + b"4x"
    connection = await arena.raw(get(client.target) + get("/nothing") + post + get("/primacron/readyz") + get())
    session = await arena.polling("mallory")
    session.emit("first")
    assert (await connection.read_response()).text == '4{"event":"first","args":[]}'
    assert (await connection.read_response()).status == 400
    assert (await connection.read_response()).text == "ok"
    assert (await connection.read_response()).json() == {"ready": True}
    assert (await connection.read_response()).json() == {"live": True}
    await arena.assert_serves(connection)
    await arena.error("error::json")


async def test_a_thousand_requests_at_once_that_can_be_answered_at_once_are(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw(get() * 1000)
    for _ in range(1000):
        assert (await connection.read_response()).status == 200
    await arena.assert_serves(connection)


async def test_too_many_requests_ahead_are_refused_after_the_answers_to_the_first(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    connection = await arena.raw(get(client.target) + get() * 50)
    error, _ = await arena.error("error::protocol")
    assert str(error) == "more than 16 requests ahead of their answers"
    (await arena.polling("mallory")).emit("first")
    assert (await connection.read_response()).text == '4{"event":"first","args":[]}'
    for _ in range(15):
        assert (await connection.read_response()).status == 200
    last = await connection.read_response()
    assert (last.status, message_of(last)) == (400, str(error))
    assert await connection.read_eof() == b""
    assert arena.server.count() == 2


async def test_garbage_behind_a_poll_is_refused_after_the_answer_to_the_poll(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    connection = await arena.raw(get(client.target) + b"garbage\r\n\r\n")
    await arena.error("error::protocol")
    await connection.send(b"more of it")
    (await arena.polling("mallory")).emit("first")
    assert (await connection.read_response()).text == '4{"event":"first","args":[]}'
    assert (await connection.read_response()).status == 400
    assert await connection.read_eof() == b""
    assert arena.is_quiet


async def test_nothing_more_is_read_while_two_requests_wait(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    connection = await arena.raw(get(client.target) + get() + get())
    (server_side,) = [each for each in arena.server._listeners[0].open if isinstance(each, http.HttpConnection)]
    await until(lambda: len(server_side._ahead) == 3, "three requests")
    assert server_side._transport is not None
    assert not server_side._transport.is_reading()
    (await arena.polling("mallory")).emit("first")
    for status in (200, 200, 200):
        assert (await connection.read_response()).status == status
    await arena.assert_serves(connection)


async def test_a_client_that_goes_away_behind_requests_sent_ahead_leaves_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    connection = await arena.raw(get(client.target) + get() * 5)
    session = await arena.polling("mallory")
    connection.abort()
    for number in range(20):  # what is written to it shows that it is gone
        session.emit("message", number)
        await asyncio.sleep(0)
    await until(lambda: session.connection is None or not session.connection.transport.ready, "the end of the poll")


async def test_an_idle_connection_is_closed_without_a_word(
    kind: str, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.2)
    arena = await attack()
    connection = await arena.raw(get())
    assert (await connection.read_response()).status == 200
    async with asyncio.timeout(5):
        assert await connection.read_eof() == b""
    assert arena.is_quiet


async def test_a_connection_in_use_is_not_idle(kind: str, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.3)
    arena = await attack()
    connection = await arena.raw()
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 0.7:
        await arena.assert_serves(connection)
        await asyncio.sleep(0.02)


async def test_answers_that_are_not_taken_stop_the_reading_and_the_answering(kind: str, attack: Attack) -> None:
    server = Primacron()
    begun: list[str] = []

    @server.authorize
    def authorize(request: object) -> bool:
        begun.append(request.query["account"])  # type: ignore[attr-defined]
        return True

    arena = await attack(server, outbox_limit=20_000_000)
    client = await arena.client.poll_in("account=mallory")
    session = arena.session("mallory")
    opening = get("/stream/?account=later&EIO=4&transport=polling")
    connection = await arena.raw()
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    session.emit("large", "x" * 15_000_000)
    await connection.send(get(client.target) + opening)
    (server_side,) = [each for each in arena.server._listeners[0].open if isinstance(each, http.HttpConnection)]
    await until(lambda: server_side._write_paused, "the answer that is not taken")
    assert begun == ["honest", "mallory"]
    connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await connection.read_response()).body) > 15_000_000
    assert (await connection.read_response()).text.startswith("0{")
    assert begun == ["honest", "mallory", "later"]


# Websocket handshakes


async def refused(arena: Arena, data: bytes, status: int, why: str) -> None:
    """Check that a handshake is answered with plain HTTP, heard of, and the connection closed."""
    connection = await arena.raw(data)
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (status, "close")
    assert why in message_of(response)
    assert await connection.read_eof() == b""
    if status == 426:
        assert response.headers["sec-websocket-version"] == "13"


BAD_HANDSHAKES = [
    pytest.param(head(f"POST {SOCKET} HTTP/1.1", *HANDSHAKE), 400, "method POST", id="POST"),
    pytest.param(head(f"OPTIONS {SOCKET} HTTP/1.1", *HANDSHAKE), 400, "method OPTIONS", id="OPTIONS"),
    pytest.param(get(SOCKET, *HANDSHAKE, "Content-Length: 4") + b"body", 400, "with a body", id="body"),
    pytest.param(get(SOCKET, *HANDSHAKE, "Transfer-Encoding: chunked"), 400, "with a body", id="chunked body"),
    pytest.param(get(SOCKET, *without("Sec-WebSocket-Key")), 400, "Sec-WebSocket-Key", id="no key"),
    pytest.param(get(SOCKET, *HANDSHAKE, f"Sec-WebSocket-Key: {KEY}"), 400, "'sec-websocket-key'", id="two keys"),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: c2hvcnQ="),
        400,
        "is not 16 bytes in base64",
        id="short key",
    ),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: " + "A" * 5000), 400, "16 bytes", id="long key"
    ),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: ***"), 400, "base64", id="key that is no base64"
    ),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: \xe4" + KEY[1:]), 400, "16 bytes", id="umlaut"
    ),
    pytest.param(get(SOCKET, *without("Sec-WebSocket-Version")), 400, "without Sec-WebSocket-Version", id="no version"),
    pytest.param(
        get(SOCKET, "Connection: Upgrade", "Upgrade: websocket"),
        400,
        "without Sec-WebSocket-Key and Sec-WebSocket-Version",
        id="neither key nor version",
    ),
    pytest.param(
        get(SOCKET, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8"),
        400,
        "without Sec-WebSocket-Key",
        id="version 8 without a key",
    ),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 8"), 426, "'8'", id="version 8"
    ),
    pytest.param(
        get(SOCKET, *without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 13, 8"), 426, "'13, 8'", id="two in one"
    ),
    pytest.param(
        get(SOCKET, *HANDSHAKE, "Sec-WebSocket-Version: 13"), 400, "'sec-websocket-version'", id="version twice"
    ),
]


@pytest.mark.parametrize(("data", "status", "why"), BAD_HANDSHAKES)
async def test_a_bad_websocket_handshake_is_refused_with_the_reason(
    kind: str, attack: Attack, data: bytes, status: int, why: str
) -> None:
    arena = await attack()
    await refused(arena, data, status, why)
    error, _ = await arena.error("error::protocol")
    assert why in str(error)
    assert arena.is_quiet


GOOD_HANDSHAKES = [
    pytest.param(HANDSHAKE, id="plain"),
    pytest.param(("Connection: keep-alive, Upgrade", *without("Connection")), id="connection as Firefox sends it"),
    pytest.param(("Connection: UPGRADE", "Upgrade: WebSocket", *HANDSHAKE[2:]), id="capitals"),
    pytest.param(("Connection: close, Upgrade", *without("Connection")), id="connection with close"),
    pytest.param((*HANDSHAKE, "Content-Length: 0"), id="length 0"),
    pytest.param((*HANDSHAKE, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), id="extension"),
]


@pytest.mark.parametrize("fields", GOOD_HANDSHAKES)
async def test_a_websocket_handshake_as_browsers_send_it_is_accepted(
    kind: str, attack: Attack, fields: tuple[str, ...]
) -> None:
    arena = await attack()
    response = await arena.ask(get(SOCKET, *fields))
    assert response.status == 101
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-protocol" not in response.headers
    assert "sec-websocket-extensions" not in response.headers


async def test_a_websocket_request_without_its_upgrade_is_no_poll(kind: str, attack: Attack) -> None:
    arena = await attack()
    for fields, why in (
        (without("Connection"), "field 'connection' has no Upgrade"),
        (("Connection: close", "Upgrade: websocket"), "field 'connection' has no Upgrade"),
        (without("Upgrade"), "field 'upgrade' is missing"),
        (("Connection: Upgrade", "Upgrade: h2c"), "field 'upgrade': expected websocket, got 'h2c'"),
    ):
        response = await arena.ask(get(SOCKET, *fields))
        assert response.status == 400
        assert f"transport=websocket on a polling request: {why}" in message_of(response)
        await arena.error("error::protocol")
    assert arena.is_quiet


async def test_a_websocket_handshake_of_http_1_0_is_a_plain_request(kind: str, attack: Attack) -> None:
    arena = await attack()
    response = await arena.ask(head(f"GET {SOCKET} HTTP/1.0", *HANDSHAKE))
    assert (response.status, "polling request: it is no GET of HTTP/1.1" in message_of(response)) == (400, True)
    await arena.error("error::protocol")


async def test_a_handshake_on_a_path_for_strangers_gets_their_answer(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw(get("/elsewhere?EIO=4&transport=websocket&account=a", *HANDSHAKE))
    response = await connection.read_response()
    assert (response.status, response.json()["type"]) == (400, "bad request")
    assert await connection.read_eof() == b""


async def test_an_upgrade_to_h2c_and_a_reset_disturb_nobody(kind: str, attack: Attack) -> None:
    arena = await attack()
    for target in (LIVEZ, "/stream/?account=mallory&EIO=4&transport=polling", SOCKET):
        for _ in range(10):
            connection = await arena.raw(
                get(target, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
            )
            connection.abort()


async def test_a_handshake_behind_a_poll_is_refused_after_the_answer_to_the_poll(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    connection = await arena.raw(get(client.target) + get(SOCKET, *HANDSHAKE) + encode_frame(b"4x"))
    error, context = await arena.error("error::protocol")
    assert str(error) == "a websocket handshake behind requests that wait for their answer"
    assert context.request is not None
    (await arena.polling("mallory")).emit("first")
    assert (await connection.read_response()).text == '4{"event":"first","args":[]}'
    response = await connection.read_response()
    assert (response.status, message_of(response)) == (400, str(error))
    assert await connection.read_eof() == b""
    assert arena.server.count() == 2


async def test_a_handshake_behind_answered_requests_is_accepted(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw(get() * 3 + get(SOCKET, *HANDSHAKE))
    for _ in range(3):
        assert (await connection.read_response()).status == 200
    assert (await connection.read_response()).status == 101


async def test_a_handshake_behind_an_answer_that_is_not_taken_does_not_open_the_floodgate(
    kind: str, attack: Attack
) -> None:
    arena = await attack(outbox_limit=1_000_000)
    client = await arena.client.poll_in("account=reader")
    arena.session("reader").emit("large", "x" * 15_000_000)
    connection = await arena.raw()
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await connection.send(get(client.target) + get(SOCKET, *HANDSHAKE))
    await until(lambda: arena.server.count() == 3, "the websocket")
    session = arena.session("mallory")
    assert session.connection is not None
    assert not session.connection.transport.ready
    for _ in range(300):
        session.emit("more", "x" * 10_000)
        await asyncio.sleep(0)
    assert await arena.reason("mallory") == "slow"
    await arena.error("error::slow")


# What comes in the same segment as a handshake


async def open_with(arena: Arena, rest: bytes, target: str = SOCKET) -> WebSocket:
    """Send a handshake with more behind it."""
    raw = await arena.raw(get(target, *HANDSHAKE) + rest)
    return WebSocket(raw, await raw.read_response())


async def test_frames_in_the_segment_of_the_handshake_are_read(kind: str, attack: Attack) -> None:
    arena = await attack()
    message = b'4{"event":"echo","args":["early"],"id":1}'
    socket = await open_with(arena, encode_frame(message) + encode_frame(message)[:9])
    assert socket.response.status == 101
    assert str(await socket.receive()).startswith("0{")
    assert await socket.receive() == '4{"ack":1,"args":["early"]}'
    await socket.raw.send(encode_frame(message)[9:])
    assert await socket.receive() == '4{"ack":1,"args":["early"]}'


async def test_frames_sent_while_a_handshake_is_decided_wait_for_it(kind: str, attack: Attack) -> None:
    server = Primacron()
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: object) -> bool:
        if getattr(request, "query", {}).get("account") == "mallory":
            await gate.wait()
        return True

    arena = await attack(server)
    message = encode_frame(b'4{"event":"echo","args":["early"],"id":1}')
    raw = await arena.raw(get(SOCKET, *HANDSHAKE) + message)
    await raw.send(message * 3)
    gate.set()
    socket = WebSocket(raw, await raw.read_response())
    assert str(await socket.receive()).startswith("0{")
    for _ in range(4):
        assert await socket.receive() == '4{"ack":1,"args":["early"]}'


async def test_a_flood_while_a_handshake_is_decided_is_not_kept(kind: str, attack: Attack) -> None:
    server = Primacron()
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: object) -> bool:
        if getattr(request, "query", {}).get("account") == "mallory":
            await gate.wait()
        return True

    arena = await attack(server)
    raw = await arena.raw(get(SOCKET, *HANDSHAKE))
    flooding = asyncio.create_task(raw.send(encode_frame(b"4" + b"x" * 900_000) * 40))
    (server_side,) = [each for each in arena.server._listeners[0].open if isinstance(each, http.HttpConnection)]
    transport = server_side._transport
    assert transport is not None
    await until(lambda: not transport.is_reading(), "the end of the reading")
    assert server_side._early is not None
    assert len(server_side._early) <= 65_536 * 2
    gate.set()
    assert (await raw.read_response()).status == 101
    for _ in range(16):
        await arena.error("error::json")
    assert await arena.reason("mallory") == "bad messages"
    raw.abort()
    await asyncio.wait({flooding})
    flooding.exception()


async def test_a_refused_handshake_that_is_flooded_can_still_be_read(kind: str, attack: Attack) -> None:
    server = Primacron()
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: object) -> str | bool:
        if getattr(request, "query", {}).get("account") != "mallory":
            return True
        await gate.wait()
        return "x" * 200

    arena = await attack(server)
    raw = await arena.raw(get(SOCKET, *HANDSHAKE))
    flooding = asyncio.create_task(raw.send(b"x" * 20_000_000))
    (server_side,) = [each for each in arena.server._listeners[0].open if isinstance(each, http.HttpConnection)]
    await until(lambda: server_side._early is not None and len(server_side._early) > 65_536, "the flood")
    gate.set()
    assert (await raw.read_response()).status == 403
    raw.abort()
    await asyncio.wait({flooding})
    flooding.exception()
    await arena.error("error::handler")


@pytest.mark.parametrize("garbage", [b"test", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 20, b"\x81\x05hello", b"\x00" * 99])
async def test_garbage_in_the_segment_of_the_handshake_ends_the_session_with_the_reason(
    kind: str, attack: Attack, garbage: bytes
) -> None:
    arena = await attack()
    socket = await open_with(arena, garbage)
    assert socket.response.status == 101
    assert (await socket.receive_close()).code == 1002
    assert await arena.reason("mallory") == "transport error"
    _, context = await arena.error("error::protocol")
    assert isinstance(context.session, Session)
    assert arena.is_quiet


@pytest.mark.parametrize("garbage", [b"test", b"\xff" * 20, b"\x81\x05hello", encode_frame(b"9zz", TEXT)])
async def test_garbage_in_the_segment_of_an_upgrade_leaves_the_session_on_polling(
    kind: str, attack: Attack, garbage: bytes
) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    socket = await open_with(arena, garbage, f"/stream/?EIO=4&transport=websocket&sid={client.sid}")
    assert socket.response.status == 101
    assert (await socket.receive_close()).code == 1002
    await arena.error("error::protocol")
    assert (await client.post('4{"event":"echo","args":["alive"],"id":1}')).text == "ok"
    assert SEPARATOR.join(['4{"ack":1,"args":["alive"]}']) == (await client.poll()).text
    assert arena.is_quiet


async def test_a_reset_after_the_handshake_leaves_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.poll_in("account=mallory")
    for target in (SOCKET.replace("mallory", "other"), f"/stream/?EIO=4&transport=websocket&sid={client.sid}") * 5:
        raw = await RawConnection.open(arena.client.port)
        await raw.send(get(target, *HANDSHAKE))
        raw.abort()
    await until(
        lambda: len(arena.ended.get("other", [])) in range(6) and arena.server.count() == 2, "the end of others"
    )
    assert (await client.post("4{}")).text == "ok"
    await arena.error("error::validation")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(["Connection: Upgrade, close"], id="that is to be the last request"),
        pytest.param(["Connection: Upgrade, keep-alive"], id="that is not to be the last request"),
        pytest.param(["Connection: Upgrade", "Content-Length: 0"], id="with an empty body"),
        pytest.param(["Connection: Upgrade, close", "Content-Length: 0"], id="with an empty body, the last request"),
    ],
)
async def test_a_websocket_handshake_harms_no_request_of_others(kind: str, attack: Attack, fields: list[str]) -> None:
    arena = await attack()
    other = await arena.raw()
    await arena.assert_serves(other)
    socket = await arena.raw(get(SOCKET, *fields, *without("Connection:")))
    assert (await socket.read_response(head_only=True)).status == 101
    await arena.assert_serves(other)
    await arena.assert_serves(await arena.raw())
    post = head("POST /nothing HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n"
    assert (await arena.ask(post)).status == 400
    assert arena.is_quiet


# Many connections, whose parts of requests come in any order


def script(number: int, target: str) -> bytes:
    """Return the requests of one client, one after the other on one connection."""
    page = f"/echo?{number}", f"X: {number}"
    body = f'4{{"event":"echo","args":["{number}"]}}'.encode()
    post = head(f"POST {target} HTTP/1.1", f"Content-Length: {len(body)}") + body
    chunked = head(f"POST {target} HTTP/1.1", "Transfer-Encoding: chunked")
    chunked += b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    return get(*page) + post + chunked + get(*page, "Connection: Upgrade", "Upgrade: h2c") + get(*page)


@pytest.mark.parametrize("seed", range(5))
async def test_parts_of_the_requests_of_many_clients_are_never_mixed(kind: str, attack: Attack, seed: int) -> None:
    server = Primacron()
    server.get("/echo")(lambda request: f"{request.query_string} {request.headers['x']}")
    arena = await attack(server)
    order = random.Random(seed)
    clients = [await arena.poll_in(f"mallory-{number}") for number in range(8)]
    connections = [await arena.raw() for _ in clients]
    left = {number: script(number, client.target) for number, client in enumerate(clients)}
    broken = [await arena.raw(get()[: order.randrange(1, 40)]) for _ in range(4)]
    while left:
        number = order.choice([*left])
        size = order.randrange(1, 60)
        await connections[number].send(left[number][:size])
        left[number] = left[number][size:]
        if not left[number]:
            del left[number]
        if broken and order.random() < 0.05:
            end = broken.pop()
            await end.send(b"\x00")
            assert (await end.read_response()).status == 400
            await arena.error("error::protocol")
        if order.random() < 0.05:
            await arena.client.websocket_to(SOCKET)
        await asyncio.sleep(0)
    for number, connection in enumerate(connections):
        answers = [await connection.read_response() for _ in range(5)]
        own = f"{number} {number}"
        assert [each.text for each in answers] == [own, "ok", "ok", own, own]
        await arena.assert_serves(connection)
    assert sorted(arena.heard) == sorted([str(number) for number in range(8)] * 2)
    assert arena.is_quiet
