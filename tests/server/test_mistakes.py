"""Mistakes of the server itself: each request is answered with 500, each connection ends, and it is told."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from primacron import HttpRequest, HttpResponse, Primacron, Session
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing

HANDSHAKE = "/stream/?EIO=4&transport=polling&account=ann"
SECRET = "a secret of the back end"


class Broken:
    """Stands in the place of a part of a server; what is asked of it by ``name`` fails."""

    def __init__(self, part: Any, name: str) -> None:
        self._part = part
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise ZeroDivisionError("a mistake")
        return getattr(self._part, name)


@pytest.fixture
def server() -> Primacron:
    server = Primacron(secret=SECRET, handshake_timeout=5, body_timeout=5)

    @server.event("echo")
    def echo(session: Session, text: str) -> str:
        return text

    return server


async def is_answered(client: Client, errors: Hearing, kind: str, method: str, target: str, body: bytes = b"") -> None:
    """Let a request meet a mistake: it gets 500 and the end of its connection, and the server goes on."""
    raw = await client.raw()
    headers = {"Authorization": f"Bearer {SECRET}"}
    await raw.send_request(method, target, headers, body)
    answer = await raw.read_response()
    assert (answer.status, answer.json()) == (500, {"code": 3, "message": "internal error"})
    error, context = await errors.next_error()
    assert isinstance(error, ZeroDivisionError | TypeError)
    assert context.request is not None
    assert context.request.method == method
    if kind != "asgi":
        assert answer.headers["connection"] == "close"
        assert await raw.read_eof() == b""


async def goes_on(client: Client) -> None:
    events = await client.connect("account=after")
    await events.emit("echo", "still here", id=1)
    assert (await events.receive())["args"] == ["still here"]


async def test_a_handshake_that_meets_one_is_answered(kind: str, server: Primacron, serve: Serve) -> None:
    client = await serve(server)
    errors = Hearing(server, "error::handler")
    dialects = server.node.dialects
    server.node.dialects = Broken(dialects, "choose")  # type: ignore[assignment]
    await is_answered(client, errors, kind, "GET", HANDSHAKE)
    socket = await client.websocket("account=ann")
    assert socket.response.status == 500
    await errors.next_error()
    server.node.dialects = dialects
    await goes_on(client)


@pytest.mark.parametrize("later", [False, True])
async def test_so_is_one_that_meets_it_when_it_is_let_in(
    later: bool, kind: str, server: Primacron, serve: Serve
) -> None:
    if later:

        async def name(request: HttpRequest) -> str:
            await asyncio.sleep(0)
            return "s"

        server.uuid(name)
    client = await serve(server)
    errors = Hearing(server, "error::handler")
    packets = server.node.open_packets
    server.node.open_packets = Broken(packets, "encode")  # type: ignore[assignment]
    await is_answered(client, errors, kind, "GET", HANDSHAKE)
    server.node.open_packets = packets
    await goes_on(client)


async def test_a_post_whose_body_meets_one_is_answered(kind: str, server: Primacron, serve: Serve) -> None:
    client = await serve(server)
    errors = Hearing(server, "error::handler")
    polling = await client.poll_in("account=ann")
    options = server.node.options
    server.node.options = dataclasses.replace(options, max_packets="many")  # type: ignore[arg-type]
    target = f"/stream/?EIO=4&transport=polling&sid={polling.sid}"
    await is_answered(client, errors, kind, "POST", target, b'4{"event":"echo","args":["a"]}')
    server.node.options = options
    await goes_on(client)


async def test_a_post_that_comes_in_parts_is_answered_as_well(kind: str, server: Primacron, serve: Serve) -> None:
    client = await serve(server)
    polling = await client.poll_in("account=ann")
    server.node.options = dataclasses.replace(server.node.options, max_packets="many")  # type: ignore[arg-type]
    raw = await client.raw()
    head = f"POST /stream/?EIO=4&transport=polling&sid={polling.sid} HTTP/1.1\r\nHost: localhost\r\n"
    await raw.send(f"{head}Content-Length: 9\r\n\r\n4{{".encode())
    await raw.send(b'"a":1}')
    await raw.send(b" ")
    assert (await raw.read_response()).status == 500


async def test_a_put_that_meets_one_is_answered(kind: str, server: Primacron, serve: Serve) -> None:
    client = await serve(server)
    errors = Hearing(server, "error::handler")
    router = server.node.router
    server.node.router = Broken(router, "apply")  # type: ignore[assignment]
    body = json.dumps({"everyone": True, "message": 1}).encode()
    await is_answered(client, errors, kind, "PUT", "/primacron/broadcast", body)
    server.node.router = router
    await goes_on(client)


async def test_a_page_with_a_body_that_cannot_be_written_is_answered(
    kind: str, server: Primacron, serve: Serve
) -> None:
    @server.get("/text")
    def text(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, "text")  # type: ignore[arg-type]

    @server.get("/field")
    async def field(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"", (("X-Name", 5),))  # type: ignore[arg-type]

    client = await serve(server)
    errors = Hearing(server, "error::handler")
    for path in ("/text", "/field"):
        assert (await client.fetch("GET", path)).status == 500
        assert isinstance((await errors.next_error())[0], TypeError)


async def test_a_websocket_whose_message_meets_one_is_closed_and_its_session_ends(
    kind: str, server: Primacron, serve: Serve
) -> None:
    client = await serve(server)
    errors, ended = Hearing(server, "error::handler"), Hearing(server, "disconnection")
    events = await client.connect("account=ann")
    hub = server.node.hub
    receiver = hub.receiver
    hub.receiver = Broken(receiver, "message")
    await events.emit("echo", "a", id=1)
    assert await events.receive_close() == (1011, "internal error")
    error, context = await errors.next_error()
    assert isinstance(error, ZeroDivisionError)
    assert context.session is not None
    assert (await ended.next())[1] == "internal error"
    hub.receiver = receiver
    await goes_on(client)
