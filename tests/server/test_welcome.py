"""The event `session`, for clients that connect with `resume=1`: first of all, and only where it has a meaning."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from primacron import HttpRequest, Primacron, Session
from tests.conftest import Serve
from tests.support.engine import SEPARATOR
from tests.support.hearing import Hearing


def greeting_server(**options: Any) -> tuple[Primacron, Hearing]:
    """Return a server that says hello to each client, and what hears of its sessions."""
    server = Primacron(**options)
    opened = Hearing(server, "connection")
    server.on("connection", lambda session: session.emit("hello"))
    return server, opened


def welcome(session: Session) -> dict[str, Any]:
    return {"event": "session", "args": [{"account": session.account, "session": session.id, "recovered": False}]}


async def test_by_websocket_it_comes_behind_the_open_packet_before_all_else(kind: str, serve: Serve) -> None:
    server, opened = greeting_server()
    client = await (await serve(server)).connect("account=ann&resume=1")
    (session,) = await opened.next()
    assert await client.receive() == welcome(session)
    assert await client.receive() == {"event": "hello", "args": []}


async def test_by_polling_it_is_the_second_packet_of_the_first_answer(kind: str, serve: Serve) -> None:
    server, opened = greeting_server()
    front = await serve(server)
    answer = await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann&resume=1")
    (session,) = await opened.next()
    open_packet, packet = answer.text.split(SEPARATOR)
    assert json.loads(packet.removeprefix("4")) == welcome(session)
    sid = json.loads(open_packet.removeprefix("0"))["sid"]
    later = await front.fetch("GET", f"/stream/?EIO=4&transport=polling&sid={sid}")
    assert later.text == '4{"event":"hello","args":[]}'


async def test_protocol_3_has_it_by_both_transports(kind: str, serve: Serve) -> None:
    server, opened = greeting_server()
    front = await serve(server)
    answer = await front.fetch("GET", "/stream/?EIO=3&transport=polling&account=%C3%A9&resume=1")
    (session,) = await opened.next()
    length, _, rest = answer.text.partition(":")
    assert rest[0] == "0"
    length, _, packet = rest[int(length) :].partition(":")
    assert int(length) == len(packet)
    assert json.loads(packet.removeprefix("4")) == welcome(session)
    socket = await front.websocket_to("/stream/?EIO=3&transport=websocket&account=ann&resume=1")
    (session,) = await opened.next()
    assert str(await socket.receive())[0] == "0"
    assert json.loads(str(await socket.receive()).removeprefix("4")) == welcome(session)


async def test_in_messagepack_it_is_a_binary_message(kind: str, serve: Serve) -> None:
    server, opened = greeting_server()
    front = await serve(server)
    socket = await front.websocket("account=ann&format=msgpack&resume=1")
    (session,) = await opened.next()
    assert str(await socket.receive())[0] == "0"
    packed = await socket.receive()
    assert isinstance(packed, bytes)
    assert msgspec.msgpack.decode(packed) == welcome(session)
    answer = await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann&format=msgpack&resume=1")
    (session,) = await opened.next()
    packet = answer.text.split(SEPARATOR)[1]
    assert packet[0] == "b"
    decoder = msgspec.json.Decoder(bytes)  # base64
    assert msgspec.msgpack.decode(decoder.decode(json.dumps(packet[1:]).encode())) == welcome(session)
    answer = await front.fetch("GET", "/stream/?EIO=3&transport=polling&account=ann&format=msgpack&resume=1")
    (session,) = await opened.next()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body.endswith(msgspec.msgpack.encode(welcome(session)))


async def test_it_names_the_account_that_authorize_gave_and_the_session_that_uuid_gave(serve: Serve) -> None:
    server, _ = greeting_server()

    @server.authorize
    async def authorize(request: HttpRequest) -> str:
        return "Ann “the first”"

    server.uuid(lambda request: 'a "session" \\ of her own')
    client = await (await serve(server)).connect("account=x&resume=1")
    assert await client.receive() == {
        "event": "session",
        "args": [{"account": "Ann “the first”", "session": 'a "session" \\ of her own', "recovered": False}],
    }


@pytest.mark.parametrize(
    "query",
    ["", "&resume", "&resume=", "&resume=0", "&resume=true", "&resume=11", "&Resume=1", "&resume=0&resume=1"],
)
async def test_nobody_gets_it_who_did_not_ask(serve: Serve, query: str) -> None:
    server, _ = greeting_server()
    front = await serve(server)
    client = await front.connect(f"account=ann{query}")
    assert await client.receive() == {"event": "hello", "args": []}
    answer = await front.fetch("GET", f"/stream/?EIO=4&transport=polling&account=ann{query}")
    assert SEPARATOR not in answer.text


async def test_to_a_primus_client_the_parameter_means_nothing(serve: Serve) -> None:
    server, _ = greeting_server()
    socket = await (await serve(server)).websocket("account=ann&_primuscb=x&resume=1")
    await socket.receive()
    assert await socket.receive() == '4{"emit":["hello"]}'


async def test_in_the_raw_dialect_the_parameter_means_nothing(serve: Serve) -> None:
    server = Primacron(dialect="raw")
    server.on("connection", lambda session: session.emit("message", "hello"))
    socket = await (await serve(server)).websocket("account=ann&resume=1&format=msgpack")
    await socket.receive()
    assert await socket.receive() == "4hello"


async def test_an_upgrade_brings_it_no_second_time(serve: Serve) -> None:
    server, opened = greeting_server()
    front = await serve(server)
    client = await front.poll_in("account=ann&resume=1")
    (session,) = await opened.next()
    await client.poll()
    socket = await front.websocket(f"sid={client.sid}&resume=1")
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await socket.send("5")
    await socket.send('4{"event":"nobody knows","args":[],"id":1}')
    assert '"ack":1' in str(await socket.receive())
    session.emit("last")
    assert await socket.receive() == '4{"event":"last","args":[]}'
