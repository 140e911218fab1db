"""Long-polling: payloads, one GET and one POST at a time, what ends the connection and what does not."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from primacron import Session
from tests.conftest import Serve
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.http import RawConnection
from tests.transports.servers import UNKNOWN, echo_server, error_of


async def begin_poll(polling: Polling) -> RawConnection:
    """Send a GET that is held."""
    raw = await polling.client.raw()
    await raw.send_request("GET", polling.target)
    await reached(polling)
    return raw


async def begin_post(polling: Polling, size: int = 100) -> RawConnection:
    """Send the head of a POST and a part of its body."""
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, {"Content-Length": str(size)}, b"4half")
    await reached(polling)
    return raw


async def reached(polling: Polling) -> None:
    """Wait until the server has read what was sent to it before: it answers this later request."""
    for _ in range(3):
        assert (await polling.client.fetch("OPTIONS", polling.target)).status == 204


async def test_a_post_is_answered_ok_and_its_packets_arrive_in_order(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    response = await polling.post("4a\x1e4é€😀\x1ebAQIDBA==\x1e4\x1e6\x1eb\x1e3")
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers["content-type"] == "text/html"
    assert response.headers["content-length"] == "2"
    answer = await polling.poll()
    assert answer.text == "4a\x1e4é€😀\x1ebAQIDBA==\x1e4\x1eb"
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_poll_is_held_until_there_is_something(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    raw = await begin_poll(polling)
    await polling.post("4late")
    assert (await raw.read_response()).text == "4late"


async def test_one_connection_may_carry_all_requests(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    raw = await polling.client.raw()
    for number in range(20):
        await raw.send_request("POST", polling.target, body=b"4%d" % number)
        assert (await raw.read_response()).text == "ok"
        await raw.send_request("GET", polling.target)
        assert (await raw.read_response()).text == f"4{number}"


async def test_a_post_may_be_chunked_and_come_byte_by_byte(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, {"Transfer-Encoding": "chunked"})
    for byte in "4é€\x1e4b".encode():
        await raw.send(b"1\r\n%c\r\n" % byte)
    await raw.send(b"0\r\n\r\n")
    assert (await raw.read_response()).text == "ok"
    assert (await polling.poll()).text == "4é€\x1e4b"


BAD_BODIES = {
    "empty": b"",
    "separator alone": b"\x1e",
    "separator at the end": b"4a\x1e",
    "separator at the begin": b"\x1e4a",
    "unknown type": b"4a\x1e9zz",
    "letter": b"4a\x1eabc",
    "digit outside ASCII": "4a\x1e٤hello".encode(),
    "bad base64": b"4a\x1eb***",
    "base64 without padding": b"4a\x1ebYQ",
    "base64 with more behind": b"4a\x1ebYQ==YQ==",
    "not UTF-8": b"4a\x1e4\xff",
    "lone surrogate": b"4a\x1e4\xed\xa0\x80",
    "ping": b"4a\x1e2",
    "probe": b"4a\x1e2probe",
    "open": b"4a\x1e0{}",
    "upgrade": b"4a\x1e5",
    "too many": b"\x1e".join([b"4a"] * 21),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_of_a_bad_post_nothing_is_delivered_and_the_session_ends(body: bytes, kind: str, serve: Serve) -> None:
    server = echo_server(max_packets=20)
    ends, errors = Hearing(server, "disconnection"), Hearing(server, "error::protocol")
    polling = await (await serve(server)).poll_in()
    response = await polling.post(body)
    assert error_of(response) == (400, 3)
    error, context = await errors.next_error()
    assert str(error) == response.json()["message"]
    session, reason = await ends.next()
    assert (context.session, reason) == (session, "parse error")
    assert session.data == []
    # The answer to the POST has told the client: nothing is kept for a poll.
    assert error_of(await polling.poll()) == UNKNOWN
    assert server.node.hub.connections == {}


BAD_BODIES_3 = {
    "empty": b"",
    "no length": b"4hi",
    "length past the end": b"99:4hi",
    "length in the middle of a pair": "2:4😀".encode(),
    "exponent": b"1e9:4",
    "negative": b"-1:4",
    "no digits": b":4",
    "empty packet": b"0:",
    "many digits": b"1" * 400 + b":4",
    "giant": b"99999991:4" + b"2" * 1000,
    "pong": b"1:3",
    "protocol 4": b"4a\x1e4b",
    "too many": b"2:4a" * 21,
}


@pytest.mark.parametrize("body", BAD_BODIES_3.values(), ids=BAD_BODIES_3.keys())
async def test_of_a_bad_post_of_protocol_3_nothing_is_delivered(body: bytes, kind: str, serve: Serve) -> None:
    server = echo_server(max_packets=20)
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in("account=a&b64=1", eio=3)
    assert error_of(await polling.post(body and b"2:4a" + body)) == (400, 3)
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "parse error")
    assert error_of(await polling.poll()) == UNKNOWN


async def test_a_poll_that_waits_hears_of_a_bad_post(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    waiting = await begin_poll(polling)
    assert error_of(await polling.post("abc")) == (400, 3)
    assert (await waiting.read_response()).text == "1"
    assert error_of(await polling.poll()) == UNKNOWN


async def test_what_is_queued_is_not_kept_for_a_client_that_has_just_heard_of_its_end(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    assert (await polling.post("4kept")).text == "ok"
    assert error_of(await polling.post("abc")) == (400, 3)
    assert error_of(await polling.poll()) == UNKNOWN


BAD_BINARY_BODIES = {
    "no mark": b"\x01\x02\x04",
    "no digits": b"\x01\xff\x04",
    "digit above 9": b"\x01\x0a\xff\x04",
    "kind": b"\x02\x02\xff\x04a",
    "past the end": b"\x01\x09\x09\xff\x04a",
    "many digits": b"\x01" + b"\x01" * 400 + b"\xff\x04",
    "empty packet": b"\x01\x00\xff",
    "binary ping": b"\x01\x02\xff\x02\xff",
    "type": b"\x01\x02\xff\x09a",
    "string not UTF-8": b"\x00\x02\xff4\xff",
}


@pytest.mark.parametrize("body", BAD_BINARY_BODIES.values(), ids=BAD_BINARY_BODIES.keys())
async def test_of_a_bad_binary_post_nothing_is_delivered(body: bytes, kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in(eio=3)
    response = await polling.post(b"\x00\x02\xff4a" + body, {"Content-Type": "application/octet-stream"})
    assert error_of(response) == (400, 3)
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "parse error")


async def test_lengths_of_protocol_3_are_utf_16_units(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in("account=a&b64=1", eio=3)
    body = "3:4😀6:4hello2:4€10:b4AQIDBA==1:4"
    assert (await polling.post(body)).text == "ok"
    assert (await polling.poll()).text == body


async def test_binary_payloads_of_protocol_3_both_ways(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in(eio=3)
    body = bytes.fromhex("00 06 ff 34 68 65 6c 6c 6f 01 05 ff 04 01 02 03 04") + b"\x00\x05\xff4\xf0\x9f\x98\x80"
    assert (await polling.post(body, {"Content-Type": "application/octet-stream"})).text == "ok"
    answer = await polling.poll()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body == body


async def test_an_octet_stream_ends_a_connection_of_protocol_4(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    response = await polling.post(b"4a", {"Content-Type": "application/octet-stream"})
    assert (response.status, response.body) == (400, b"")
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "transport error")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_other_methods_are_refused_and_the_session_lives(method: str, kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    assert (await polling.client.fetch(method, polling.target)).status == 400
    assert (await polling.post("4still here")).text == "ok"
    assert (await polling.poll()).text == "4still here"


async def test_a_second_poll_ends_the_connection_and_both(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    first = await begin_poll(polling)
    second = await polling.poll()
    assert (second.status, second.body) == (400, b"")
    answer = await first.read_response()
    assert (answer.status, answer.text) == (200, "1")
    assert (await ends.next())[1] == "transport error"
    assert error_of(await polling.poll()) == UNKNOWN


async def test_a_second_post_ends_the_connection_and_both(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    first = await begin_post(polling)
    second = await polling.post("4second")
    assert (second.status, second.body) == (400, b"")
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "transport error")
    if kind == "asgi":  # which has no way to drop a connection
        assert (await first.read_response()).status == 400
    else:
        assert await first.read_eof() == b""
    assert error_of(await polling.poll()) == UNKNOWN


async def test_an_aborted_poll_ends_the_connection(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    (await begin_poll(polling)).abort()
    assert (await ends.next())[1] == "transport close"
    assert error_of(await polling.poll()) == UNKNOWN
    assert server.count() == 0


async def test_an_aborted_post_ends_the_connection(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    waiting = await begin_poll(polling)
    (await begin_post(polling)).abort()
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "transport close")
    assert (await waiting.read_response()).text == "1"
    assert error_of(await polling.poll()) == UNKNOWN


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip", "identity, gzip", "\xe4"])
async def test_a_compressed_post_is_refused_and_the_session_lives(kind: str, encoding: str, serve: Serve) -> None:
    server = echo_server()
    errors = Hearing(server, "error::protocol")
    polling = await (await serve(server)).poll_in()
    response = await polling.post(gzip.compress(b"4hi"), {"Content-Encoding": encoding})
    assert error_of(response) == (415, 3)
    assert f"'content-encoding': expected none, got {encoding!r}" in response.json()["message"]
    assert str((await errors.next_error())[0]) == response.json()["message"]
    for harmless in ("identity", " Identity ", ""):
        assert (await polling.post("4hi", {"Content-Encoding": harmless})).text == "ok"
        assert (await polling.poll()).text == "4hi"
    assert errors.is_empty


async def test_a_post_that_is_too_large_is_refused_and_the_session_lives(kind: str, serve: Serve) -> None:
    server = echo_server(max_payload=1000)
    errors = Hearing(server, "error::protocol")
    polling = await (await serve(server)).poll_in()
    response = await polling.post("4" + "x" * 1000)
    assert error_of(response) == (413, 3)
    assert str((await errors.next_error())[0]) == response.json()["message"]
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, {"Transfer-Encoding": "chunked"})
    await raw.send(b"400\r\n" + b"4" * 1024 + b"\r\n")
    assert (await raw.read_response()).status == 413
    assert (await polling.post("4" + "x" * 999)).text == "ok"
    assert (await polling.poll()).text == "4" + "x" * 999


async def test_packets_behind_the_end_are_not_answered_ok(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    assert error_of(await polling.post("4a\x1e1\x1e4b"))[0] == 400
    session, reason = await ends.next()
    assert (session.data, reason) == ([], "parse error")


async def test_packets_behind_an_end_by_the_application_break_no_rule(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends, errors = Hearing(server, "disconnection"), Hearing(server, "error::*")

    @server.on("stream::message")
    def leave(session: Session, content: str | bytes) -> None:
        session.disconnect("enough")

    polling = await (await serve(server)).poll_in()
    response = await polling.post("4a\x1e4b\x1e3")
    assert (response.status, response.text) == (200, "ok")
    session, reason = await ends.next()
    assert (session.data, reason) == (["a"], "enough")
    assert (await polling.poll()).text == "4a\x1e1"
    assert errors.is_empty


async def test_a_post_whose_session_the_application_ends_meanwhile_breaks_no_rule(kind: str, serve: Serve) -> None:
    server = echo_server()
    errors = Hearing(server, "error::*")
    polling = await (await serve(server)).poll_in()
    post = await begin_post(polling, 8)
    (session,) = server.node.hub.sessions
    session.disconnect("enough")
    await post.send(b"way")
    assert error_of(await post.read_response()) == UNKNOWN
    assert session.data == []
    assert errors.is_empty


@pytest.mark.parametrize(("eio", "other"), [(4, "3"), (3, "4"), (4, "abc"), (4, "")])
async def test_a_request_of_another_protocol_than_the_handshake_is_refused_and_the_session_lives(
    eio: int, other: str, kind: str, serve: Serve
) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in(eio=eio)
    body = b"4hi" if eio == 4 else b"3:4hi"
    wrong = polling.target.replace(f"EIO={eio}", f"EIO={other}")
    without = polling.target.replace(f"EIO={eio}&", "")
    for method in ("GET", "POST"):
        response = await polling.client.fetch(method, wrong, body=body if method == "POST" else None)
        assert error_of(response) == (400, 3)
        assert response.json()["message"] == f"Bad request: EIO={other}, the handshake had EIO={eio}"
    socket = await polling.client.websocket_to(wrong.replace("=polling", "=websocket"))
    assert error_of(socket.response) == (400, 3)
    assert (await polling.client.fetch("POST", without, body=body)).text == "ok"
    assert (await polling.client.fetch("GET", without)).body == body


async def test_while_a_session_has_enough_to_do_the_next_post_waits(kind: str, serve: Serve) -> None:
    server = echo_server(inbox_limit=2)
    gate = asyncio.Event()

    @server.on("stream::message")
    async def wait(session: Session, content: str | bytes) -> None:
        await gate.wait()

    polling = await (await serve(server)).poll_in()
    assert (await polling.post("4a\x1e4b\x1e4c\x1e4d")).text == "ok"
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, body=b"4e")
    await reached(polling)
    session = next(iter(server.node.hub.sessions))
    assert session.data == ["a"]
    gate.set()
    assert (await raw.read_response()).text == "ok"
    assert session.data == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("polls", [False, True])
async def test_a_post_that_waits_is_answered_when_the_session_ends(polls: bool, kind: str, serve: Serve) -> None:
    server = echo_server(inbox_limit=1)
    gate = asyncio.Event()

    @server.on("stream::message")
    async def wait(session: Session, content: str | bytes) -> None:
        await gate.wait()

    polling = await (await serve(server)).poll_in()
    assert (await polling.post("4a\x1e4b\x1e4c")).text == "ok"
    assert (await polling.poll()).text == "4a"
    if polls:
        await begin_poll(polling)
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, body=b"4d")
    await reached(polling)
    session = next(iter(server.node.hub.sessions))
    session.disconnect("enough")
    assert error_of(await raw.read_response()) == UNKNOWN
    gate.set()
