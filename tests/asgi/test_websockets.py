"""Websockets by each implementation of uvicorn: what arrives, how they are refused, and how each side ends them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from primacron import HttpRequest, Primacron, Refused, Session
from primacron.errors import FrameError
from tests.asgi.outer import OneWebSocket, client_of
from tests.hostile.arena import until
from tests.support.hearing import Hearing
from tests.support.websocket import BINARY, CLOSE, encode_frame


async def test_text_and_binary_come_and_go_whole_and_in_order(ws: str) -> None:
    server = Primacron(dialect="raw")

    @server.event("message")
    def echo(session: Session, content: str | bytes) -> None:
        session.emit("message", content)

    async with client_of(server.asgi, ws=ws) as client:
        socket = await client.websocket()
        await socket.receive()
        for content in ("", "plain", "hé€😀", "x" * 70_000, b"", b"\x00\xff", bytes(range(256)) * 300):
            await socket.send(content if isinstance(content, bytes) else f"4{content}")
            assert await socket.receive() == (content if isinstance(content, bytes) else f"4{content}")
        await socket.raw.send(b"".join(encode_frame(f"4{number}".encode()) for number in range(1000)))
        assert [await socket.receive() for _ in range(1000)] == [f"4{number}" for number in range(1000)]


async def test_base64_and_protocol_3_have_their_own_binary_forms(ws: str) -> None:
    server = Primacron(dialect="raw")

    @server.event("message")
    def echo(session: Session, content: str | bytes) -> None:
        session.emit("message", content)

    async with client_of(server.asgi, ws=ws) as client:
        for query, sent, expected in (
            ("EIO=4&b64=1", "bAQI=", "bAQI="),
            ("EIO=3", b"\x04\x01\x02", b"\x04\x01\x02"),
            ("EIO=3&b64=1", "b4AQI=", "b4AQI="),
        ):
            socket = await client.websocket_to(f"/stream/?{query}&transport=websocket&account=a")
            await socket.receive()
            await socket.send(sent)
            assert await socket.receive() == expected, query


async def test_what_a_client_sends_in_parts_arrives_as_one(ws: str) -> None:
    server = Primacron(dialect="raw")
    heard: asyncio.Queue[str | bytes] = asyncio.Queue()

    @server.event("message")
    def hear(session: Session, content: str | bytes) -> None:
        heard.put_nowait(content)

    async with client_of(server.asgi, ws=ws) as client:
        socket = await client.websocket()
        await socket.raw.send(
            encode_frame(b"4one ", final=False)
            + encode_frame(b"two ", 0, final=False)
            + encode_frame(b"", 9)
            + encode_frame(b"three", 0)
            + encode_frame(b"\x01", BINARY, final=False)
            + encode_frame(b"\x02", 0)
        )
        async with asyncio.timeout(10):
            assert [await heard.get(), await heard.get()] == ["one two three", b"\x01\x02"]


# Refusals


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
async def test_a_refused_handshake_gets_plain_http_with_the_reason(ws: str, status: int) -> None:
    server = Primacron(origins=["https://shop.example"])

    @server.authorize
    async def authorize(request: HttpRequest) -> None:
        await asyncio.sleep(0)
        raise Refused(status, "not “today”")

    refused = Hearing(server, "error::refused")
    async with client_of(server.asgi, ws=ws) as client:
        socket = await client.websocket(headers={"Origin": "https://shop.example"})
        answer = socket.response
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json() == {"code": 4, "message": "not “today”"}
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert await socket.raw.read_eof() == b""
        _, context = await refused.next_error()
        assert context.request is not None
        assert server.count() == 0


async def test_each_rule_of_the_handshake_is_kept_before_the_101(ws: str) -> None:
    server = Primacron(max_connections=1)
    async with client_of(server.asgi, ws=ws) as client:
        polling = await client.poll_in()
        for query, status, code in (
            ("EIO=5&transport=websocket&account=a", 400, 5),
            ("EIO=4&transport=flash&account=a", 400, 0),
            ("EIO=4&transport=polling&account=a", 400, 3),
            ("EIO=4&transport=websocket", 400, 3),
            ("EIO=4&transport=websocket&sid=nobody", 400, 1),
            (f"EIO=4&transport=websocket&account=b&sid={polling.sid}", 400, 3),
            ("EIO=4&transport=websocket&account=a", 503, 3),
        ):
            answer = (await client.websocket_to(f"/stream/?{query}")).response
            assert (answer.status, answer.json()["code"]) == (status, code), query


async def test_where_refusals_cannot_be_told_the_handshake_is_closed() -> None:
    cases: list[dict[str, Any]] = [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {"tls": {}}}]
    for extensions in cases:
        server = Primacron()
        outer = OneWebSocket(query_string=b"EIO=9&transport=websocket&account=ann", **extensions)
        await server.asgi(outer.scope, outer.receive, outer.send)
        assert outer.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        await server.destroy()


async def test_where_refusals_can_be_told_they_are() -> None:
    server = Primacron()
    outer = OneWebSocket(
        query_string=b"EIO=9&transport=websocket&account=ann", extensions={"websocket.http.response": {}}
    )
    await server.asgi(outer.scope, outer.receive, outer.send)
    start, body = outer.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 400)
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"])["code"] == 5
    await server.destroy()


async def test_a_server_that_says_as_little_as_it_may_is_served() -> None:
    server = Primacron()
    opened = Hearing(server, "connection")
    outer = OneWebSocket()
    serving = asyncio.create_task(server.asgi(outer.scope, outer.receive, outer.send))
    (session,) = await opened.next()
    assert (session.account, session.peer) == ("ann", "local")
    outer.coming.put_nowait({"type": "websocket.receive", "text": '4{"event":"x","id":1}', "bytes": None})
    outer.coming.put_nowait({"type": "websocket.receive", "bytes": b"\x00", "text": None})
    await until(lambda: server.metrics["error::invalid"], "the binary message")
    outer.coming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await serving
    assert [each["type"] for each in outer.sent][:2] == ["websocket.accept", "websocket.send"]
    assert '"ack":1' in outer.sent[2]["text"]
    assert server.count() == 0
    await server.destroy()


# Ends


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        ("disconnect", 1000, "forced close"),
        ("disconnect with a reason", 1000, "ä" * 61),
        ("replaced", 4500, "replaced"),
        ("bad messages", 1008, "bad messages"),
        ("parse error", 1002, "parse error"),
        ("ping timeout", 1001, "ping timeout"),
        ("goodbye", 1000, "client close"),
        ("destroy", 1012, "server shutdown"),
    ],
)
async def test_the_client_reads_why_it_was_closed(ws: str, end: str, code: int, reason: str) -> None:
    server = Primacron(bad_messages=2, ping_interval=0.3 if end == "ping timeout" else 25, ping_timeout=0.2)
    server.uuid(lambda request: "one")
    opened, ended = Hearing(server, "connection"), Hearing(server, "disconnection")
    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = await opened.next()
        if end == "disconnect":
            session.disconnect()
        elif end == "disconnect with a reason":
            session.disconnect("ä" * 100)
        elif end == "replaced":
            await client.connect()
        elif end == "bad messages":
            await ann.emit("nobody")
            await ann.emit("knows")
        elif end == "parse error":
            await ann.socket.send("x")
        elif end == "goodbye":
            await ann.socket.send("1")
        elif end == "destroy":
            await server.destroy()
        assert await ann.receive_close() == (code, reason)
        told = "ä" * 100 if end == "disconnect with a reason" else reason
        assert await ended.next() == (session, told)
        await ann.socket.raw.send(encode_frame(code.to_bytes(2, "big"), CLOSE))
        assert await ann.socket.raw.read_eof() == b""
        assert ended.is_empty


@pytest.mark.parametrize("how", ["close frame", "end of file", "reset"])
async def test_a_client_that_goes_away_is_gone_at_once(ws: str, how: str) -> None:
    server = Primacron()
    ended = Hearing(server, "disconnection")
    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        if how == "close frame":
            await ann.socket.raw.send(encode_frame(b"\x03\xe8bye", CLOSE))
            assert (await ann.receive_close())[0] == 1000
            await ann.close()
        elif how == "end of file":
            ann.socket.raw.writer.write_eof()
        else:
            ann.socket.raw.abort()
        assert (await ended.next())[1] == "transport close"
        assert server.count() == 0


async def test_a_message_over_max_payload_ends_the_connection(ws: str) -> None:
    server = Primacron(dialect="raw", max_payload=1_000)
    errors, ended = Hearing(server, "error::protocol"), Hearing(server, "disconnection")
    heard: asyncio.Queue[str | bytes] = asyncio.Queue()

    @server.event("message")
    def hear(session: Session, content: str | bytes) -> None:
        heard.put_nowait(content)

    async with client_of(server.asgi, ws=ws) as client:
        for largest, too_large in (
            ("4" + "x" * 999, "4" + "x" * 1_000),
            ("4" + "é" * 499, "4" + "é" * 500),
            (b"x" * 1_000, b"x" * 1_001),
        ):
            socket = await client.websocket()
            await socket.send(largest)
            async with asyncio.timeout(10):
                await heard.get()
            await socket.send(too_large)
            frame = await socket.receive_close()
            assert (frame.code, frame.reason) == (1009, "message too large")
            error, context = await errors.next_error()
            assert isinstance(error, FrameError)
            assert context.session is not None
            assert (await ended.next())[1] == "message too large"
        assert heard.empty()


async def test_nothing_is_kept_of_a_client_that_does_not_answer_the_close(
    ws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primacron.asgi.CLOSE_TIMEOUT", 0.2)  # uvicorn keeps the bare socket for 10 s
    server = Primacron()
    opened = Hearing(server, "connection")
    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = await opened.next()
        session.disconnect()
        assert await ann.receive_close() == (1000, "forced close")
        await until(lambda: not carried(), "the end of the task that carries it")


def carried() -> list[asyncio.Task[Any]]:
    """Return the tasks in which uvicorn runs the application, that of its lifespan left out."""
    return [each for each in asyncio.all_tasks() if "run_asgi" in repr(each.get_coro())]


async def test_messages_of_a_session_that_has_enough_to_do_wait_at_the_client(ws: str) -> None:
    server = Primacron(inbox_limit=4)
    gate = asyncio.Event()
    handled: list[int] = []

    @server.event("work")
    async def work(session: Session, number: int, filler: str) -> None:
        await gate.wait()
        handled.append(number)
        session.emit("done", number)

    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = list(server.node.hub.sessions)
        for number in range(100):
            ann.socket.raw.writer.write(
                encode_frame(f'4{{"event":"work","args":[{number},"{"x" * 100_000}"]}}'.encode())
            )
        await until(lambda: session.is_full, "the inbox to be full")
        sending = asyncio.create_task(ann.socket.raw.writer.drain())
        await asyncio.sleep(0)
        assert session.inbox is not None
        assert len(session.inbox._jobs) <= 6
        gate.set()
        assert [(await ann.receive())["args"] for _ in range(100)] == [[number] for number in range(100)]
        assert handled == list(range(100))
        await sending


async def test_what_was_sent_before_the_close_is_handled_before_the_end(ws: str) -> None:
    server = Primacron(inbox_limit=4)
    gate = asyncio.Event()
    handled: list[int] = []
    ended = Hearing(server, "disconnection")

    @server.event("work")
    async def work(session: Session, number: int) -> None:
        await gate.wait()
        handled.append(number)

    async with client_of(server.asgi, ws=ws) as client:
        ann = await client.connect()
        (session,) = list(server.node.hub.sessions)
        for number in range(20):
            await ann.emit("work", number)
        await ann.socket.raw.send(encode_frame(b"\x03\xe8", CLOSE))
        await ann.receive_close()
        await ann.close()
        await until(lambda: not session.connected, "the end of the session, though its handler is busy")
        assert ended.is_empty
        gate.set()
        assert (await ended.next())[1] == "transport close"
        assert handled == list(range(20))
