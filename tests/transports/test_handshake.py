"""The handshake: what the open packet says, and what is refused with which code, on both transports."""

from __future__ import annotations

import json
import re

import pytest

from primacron import Primacron, Session
from primacron.errors import UnknownSid
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.http import Response


async def refusal(client: Client, query: str, *, websocket: bool) -> Response:
    """Return the answer to a handshake, which is no 101."""
    if websocket:
        socket = await client.websocket_to(f"/stream/?{query}")
        await socket.close()
        return socket.response
    return await client.fetch("GET", f"/stream/?{query}")


REFUSED = {
    "without EIO": ("transport={t}&account=a", 5, "Unsupported protocol version: parameter 'EIO' is missing"),
    "EIO=5": ("EIO=5&transport={t}&account=a", 5, "'EIO' is '5', expected one of 4, 3 (option 'protocols')"),
    "EIO=abc": ("EIO=abc&transport={t}&account=a", 5, "Unsupported protocol version"),
    "EIO twice": ("EIO=4&EIO=4&transport={t}&account=a", 5, "'EIO' is given more than once"),
    "without transport": ("EIO=4&account=a", 0, "Transport unknown: parameter 'transport' is missing, expected one of"),
    "unknown transport": ("EIO=4&transport=webtransport&account=a", 0, "'webtransport', expected one of polling, webs"),
    "dunder transport": ("EIO=4&transport=__class__&account=a", 0, "Transport unknown"),
    "transport twice": ("EIO=4&transport={t}&transport={t}&account=a", 0, "'transport' is given more than once"),
    "the other transport": ("EIO=4&transport={other}&account=a", 3, "transport={other} on a {t} request"),
    "JSONP": ("EIO=4&transport={t}&account=a&j=0", 3, "JSONP (parameter 'j') is not offered"),
    "without account": ("EIO=4&transport={t}", 3, "account is missing"),
    "empty account": ("EIO=4&transport={t}&account=", 3, "account is not usable"),
    "long account": ("EIO=4&transport={t}&account=" + "a" * 129, 3, "account is not usable"),
    "control in account": ("EIO=4&transport={t}&account=a%00", 3, "account is not usable"),
    "broken account": ("EIO=4&transport={t}&account=%ff", 3, "account is not usable"),
    "two accounts": ("EIO=4&transport={t}&account=a&account=a", 3, "account is given more than once"),
    "unknown format": ("EIO=4&transport={t}&account=a&format=xml", 3, "'format': expected json or msgpack, got 'xml'"),
    "unknown sid": ("EIO=4&transport={t}&sid=nobody", 1, "Session ID unknown"),
    "dunder sid": ("EIO=4&transport={t}&sid=__class__", 1, "Session ID unknown"),
    "empty sid": ("EIO=4&transport={t}&sid=", 1, "Session ID unknown"),
    "long sid": ("EIO=4&transport={t}&sid=" + "s" * 5_000, 1, "Session ID unknown"),
    "two sids": ("EIO=4&transport={t}&sid=a&sid=a", 3, "sid is given more than once"),
}


async def test_refused_handshakes_say_why_in_json_on_both_transports(kind: str, serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::refused", "error::protocol")
    client = await serve(server)
    for query, code, message in REFUSED.values():
        for transport, other in (("polling", "websocket"), ("websocket", "polling")):
            wanted = query.format(t=transport, other=other)
            response = await refusal(client, wanted, websocket=transport == "websocket")
            assert response.status == 400, wanted
            assert response.headers["content-type"] == "application/json"
            assert response.json()["code"] == code, wanted
            assert message.format(t=transport, other=other) in response.json()["message"], wanted
            error, context = await errors.next_error()
            assert str(error) == response.json()["message"]
            assert context.request is not None
            assert context.request.query_string == wanted
    assert server.count() == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_handshake_is_a_get(method: str, kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    response = await client.fetch(method, "/stream/?EIO=4&transport=polling&account=a", body=b"4hi")
    assert response.status == 400
    if method != "HEAD":
        assert response.json() == {"code": 2, "message": f"Bad handshake method: {method} without a sid, expected GET"}


async def test_only_offered_transports_and_protocols_are_accepted(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(transports=["polling"], protocols=[4]))
    response = await refusal(client, "EIO=4&transport=websocket&account=a", websocket=True)
    assert (response.status, response.json()["code"]) == (400, 0)
    response = await refusal(client, "EIO=3&transport=polling&account=a", websocket=False)
    assert (response.status, response.json()["code"]) == (400, 5)
    assert (await client.poll_in()).opened["upgrades"] == []


async def test_the_open_packet_of_polling(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    response = await client.fetch("GET", "/stream/?EIO=4&transport=polling&account=a")
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"
    assert response.headers["cache-control"] == "no-store"
    assert "set-cookie" not in response.headers
    assert re.fullmatch(
        r'0\{"sid":"[A-Za-z0-9_-]{30}","upgrades":\["websocket"\],'
        r'"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000\}',
        response.text,
    )


async def test_the_open_packet_of_a_websocket(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(ping_interval=0.3, ping_timeout=0.25, max_payload=5000))
    opened = (await client.connect()).opened
    assert list(opened) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
    del opened["sid"]
    assert opened == {"upgrades": [], "pingInterval": 300, "pingTimeout": 250, "maxPayload": 5000}


async def test_the_open_packet_of_protocol_3_has_its_length_in_front(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    response = await client.fetch("GET", "/stream/?EIO=3&transport=polling&account=a&b64=1")
    length, _, packet = response.text.partition(":")
    assert int(length) == len(packet)
    assert json.loads(packet[1:])["upgrades"] == ["websocket"]
    socket = await client.websocket_to("/stream/?EIO=3&transport=websocket&account=a")
    assert str(await socket.receive()).startswith('0{"sid":"')


async def test_the_last_slash_may_be_missing_but_other_paths_are_not_the_stream(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    query = "?EIO=4&transport=polling&account=a"
    assert (await client.fetch("GET", f"/stream{query}")).status == 200
    for path in ("/stream/x", "/streams/", "//stream/", "/Stream/", "/"):
        response = await client.fetch("GET", path + query)
        assert (response.status, response.json()["type"]) == (400, "bad request"), path


async def test_the_session_is_there_before_the_client_hears_of_it(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.on("connection")
    def welcome(session: Session) -> None:
        session.emit("welcome", session.account)

    client = await serve(server)
    events = await client.connect("account=ann")
    assert await events.receive() == {"event": "welcome", "args": ["ann"]}
    polling = await client.poll_in("account=b%C3%A9a")
    assert (await polling.poll()).text == '4{"event":"welcome","args":["béa"]}'


async def test_later_requests_may_name_the_account_of_the_handshake_and_no_other(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.authorize
    def authorize(request: object) -> str:
        return "somebody else"

    @server.event("echo")
    def echo(session: Session, text: str) -> None:
        session.emit("echo", session.account, text)

    client = await serve(server)
    polling = await client.poll_in("account=ann")
    for account in ("bob", "somebody%20else", ""):
        response = await client.fetch("GET", f"{polling.target}&account={account}")
        assert (response.status, response.json()["code"]) == (400, 3)
        response = await client.fetch("POST", f"{polling.target}&account={account}", body=b"4{}")
        assert (response.status, response.json()["code"]) == (400, 3)
        socket = await client.websocket(f"sid={polling.sid}&account={account}")
        assert (socket.response.status, socket.response.json()["code"]) == (400, 3)
    body = b'4{"event":"echo","args":["hi"]}'
    assert (await client.fetch("POST", f"{polling.target}&account=ann", body=body)).text == "ok"
    response = await client.fetch("GET", f"{polling.target}&account=ann")
    assert response.text == '4{"event":"echo","args":["somebody else","hi"]}'


async def test_a_sid_of_another_process_gets_a_hint(kind: str, serve: Serve) -> None:
    client, other = await serve(Primacron()), await serve(Primacron())
    sid = (await other.poll_in()).sid
    response = await client.fetch("GET", f"/stream/?EIO=4&transport=polling&sid={sid}")
    assert response.status == 400
    assert response.json() == {"code": 1, "message": str(UnknownSid(foreign=True))}
    socket = await client.websocket(f"sid={sid}")
    assert socket.response.json() == response.json()
