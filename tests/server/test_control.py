"""The PUT endpoint: who may use it, whom it reaches, and what it answers, on each kind of server."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from typing import Any

import pytest

from primacron import OptionError, Primacron, Refused, Session
from primacron.errors import InvalidMessage, NotListening, PayloadTooLarge, UndecodableMessage, UnsupportedEncoding
from primacron.version import VERSION
from tests.conftest import Serve
from tests.hostile.arena import until
from tests.support.engine import Client, Events
from tests.support.hearing import Hearing
from tests.support.http import Response, fetch

PATH = "/primacron/broadcast"
SECRET = "a secret of the back end"
BEARER = {"Authorization": f"Bearer {SECRET}"}
HEAD = f"PUT {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n".encode()
POWERED = f"Primacron/v{VERSION}"


class BackEnd:
    """A server with clients, and the process beside it that sends to them."""

    def __init__(self, server: Primacron, front: Client) -> None:
        self.server = server
        self.front = front
        self.errors = Hearing(server, "error::*")
        self._opened = Hearing(server, "connection")

    async def join(self, query: str) -> tuple[Events, Session]:
        """Connect a client."""
        client = await self.front.connect(query)
        (session,) = await self._opened.next()
        return client, session

    async def put(
        self, body: Any, *, path: str = PATH, headers: dict[str, str] | None = None, method: str = "PUT"
    ) -> Response:
        """Send a body: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.front.fetch(method, path, BEARER if headers is None else headers, data)


@pytest.fixture
async def back_end(kind: str, serve: Serve) -> BackEnd:
    server = Primacron(secret=SECRET)
    return BackEnd(server, await serve(server))


def described(answer: Response) -> tuple[int, str]:
    """Check what all answers have in common; return the status and what they call themselves."""
    assert answer.headers["content-type"] == "application/json", answer
    assert answer.headers["x-powered-by"] == POWERED, answer
    body = answer.json()
    assert body["status"] == answer.status, answer
    assert isinstance(body["description"], str), answer
    return answer.status, body["type"]


# Targets


async def test_a_sid_is_a_target(back_end: BackEnd) -> None:
    ann, _ = await back_end.join("account=ann")
    other, _ = await back_end.join("account=ann")
    answer = await back_end.put({"id": ann.sid, "message": {"event": "paid", "args": [7]}})
    assert described(answer) == (200, "sending")
    assert answer.json() == {
        "status": 200,
        "type": "sending",
        "description": "Sending the message to the spark",
        "receipt": "accepted",
        "certain": True,
    }
    assert await ann.receive() == {"event": "paid", "args": [7]}
    back_end.server.everyone.emit("last")
    assert await other.receive() == {"event": "last", "args": []}
    assert back_end.errors.is_empty


async def test_an_account_and_a_session_are_a_target(back_end: BackEnd) -> None:
    ann, session = await back_end.join("account=ann")
    other, _ = await back_end.join("account=ann")
    answer = await back_end.put({"account": "ann", "session": session.id, "message": 1})
    assert described(answer) == (200, "sending")
    assert (answer.json()["receipt"], answer.json()["certain"]) == ("accepted", True)
    assert await ann.receive() == {"event": "message", "args": [1]}
    back_end.server.everyone.emit("last")
    assert await other.receive() == {"event": "last", "args": []}


async def test_an_account_is_a_target(back_end: BackEnd) -> None:
    anns = [(await back_end.join("account=ann"))[0] for _ in range(3)]
    ben, _ = await back_end.join("account=ben")
    answer = await back_end.put({"account": "ann", "message": "hello"})
    assert answer.json() == {
        "status": 200,
        "type": "sending",
        "description": "Sending the message to the sparks",
        "nodes": 1,
        "sessions": 3,
        "certain": True,
    }
    for client in anns:
        assert await client.receive() == {"event": "message", "args": ["hello"]}
    back_end.server.everyone.emit("last")
    assert await ben.receive() == {"event": "last", "args": []}


async def test_everyone_is_a_target(back_end: BackEnd) -> None:
    clients = [(await back_end.join(f"account={name}"))[0] for name in ("ann", "ben")]
    answer = await back_end.put({"everyone": True, "message": "hello"})
    assert described(answer) == (200, "sending")
    assert {name: answer.json()[name] for name in ("nodes", "sessions", "certain")} == {
        "nodes": 1,
        "sessions": 2,
        "certain": True,
    }
    for client in clients:
        assert await client.receive() == {"event": "message", "args": ["hello"]}


async def test_a_message_to_many_may_reach_nobody(back_end: BackEnd) -> None:
    for target in ({"everyone": True}, {"account": "nobody"}):
        answer = await back_end.put({**target, "message": "hello"})
        assert described(answer) == (200, "sending")
        assert answer.json()["sessions"] == 0


@pytest.mark.parametrize(
    "target",
    [
        {"id": "toString"},
        {"id": ""},
        {"id": "x" * 10_000},
        {"id": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        {"account": "ann", "session": "nobody"},
        {"account": "nobody", "session": "nobody"},
        {"account": "", "session": ""},
    ],
)
async def test_a_session_that_is_not_there_is_answered_404_without_an_event(
    back_end: BackEnd, target: dict[str, str]
) -> None:
    await back_end.join("account=ann")
    answer = await back_end.put({**target, "message": "hello"})
    assert described(answer) == (404, "unknown socket")
    assert "spark was not found" in answer.json()["description"]
    assert (answer.json()["receipt"], answer.json()["certain"]) == ("unknown_session", True)
    assert back_end.errors.is_empty


async def test_a_session_of_another_account_is_not_reached(back_end: BackEnd) -> None:
    ann, session = await back_end.join("account=ann")
    answer = await back_end.put({"account": "ben", "session": session.id, "message": "hello"})
    assert described(answer) == (404, "unknown socket")
    back_end.server.everyone.emit("last")
    assert await ann.receive() == {"event": "last", "args": []}


async def test_the_sid_of_a_connection_that_has_ended_is_unknown(back_end: BackEnd) -> None:
    ended = Hearing(back_end.server, "disconnection")
    ann, _ = await back_end.join("account=ann")
    await ann.close()
    await ended.next()
    assert described(await back_end.put({"id": ann.sid, "message": "hello"})) == (404, "unknown socket")


async def test_a_client_on_polling_is_reached_by_its_sid(back_end: BackEnd) -> None:
    ann = await back_end.front.poll_in("account=ann")
    assert described(await back_end.put({"id": ann.sid, "message": "hello"})) == (200, "sending")
    assert (await ann.poll()).text == '4{"event":"message","args":["hello"]}'


# Messages


@pytest.mark.parametrize(
    ("message", "received"),
    [
        ("text", {"event": "message", "args": ["text"]}),
        ("", {"event": "message", "args": [""]}),
        ("hé€😀\u2028\x00", {"event": "message", "args": ["hé€😀\u2028\x00"]}),
        (5, {"event": "message", "args": [5]}),
        (-1.5e300, {"event": "message", "args": [-1.5e300]}),
        (2**70, {"event": "message", "args": [2**70]}),
        (True, {"event": "message", "args": [True]}),
        (None, {"event": "message", "args": [None]}),
        ([1, [2]], {"event": "message", "args": [[1, [2]]]}),
        ([], {"event": "message", "args": [[]]}),
        ({}, {"event": "message", "args": [{}]}),
        ({"a": 1}, {"event": "message", "args": [{"a": 1}]}),
        ({"event": "paid", "args": [7]}, {"event": "paid", "args": [7]}),
        ({"event": "paid"}, {"event": "paid"}),
        ({"event": "paid", "extra": {"é": None}}, {"event": "paid", "extra": {"é": None}}),
    ],
)
async def test_any_json_is_a_message_and_an_object_with_event_goes_out_as_it_is(
    serve: Serve, message: Any, received: Any
) -> None:
    server = Primacron(secret=SECRET)
    back_end = BackEnd(server, await serve(server))
    ann, _ = await back_end.join("account=ann")
    for target in ({"id": ann.sid}, {"account": "ann"}, {"everyone": True}):
        assert described(await back_end.put({**target, "message": message})) == (200, "sending")
        assert await ann.receive() == received


async def test_the_body_is_read_as_utf_8_whatever_its_type_is_said_to_be(back_end: BackEnd) -> None:
    ann, _ = await back_end.join("account=ann")
    body = '{"everyone": true, "message": "hé€😀"}'.encode()
    for content_type in ("application/json", "text/plain; charset=latin-1", "application/octet-stream", ""):
        answer = await back_end.put(body, headers={**BEARER, "Content-Type": content_type})
        assert described(answer) == (200, "sending")
        assert await ann.receive() == {"event": "message", "args": ["hé€😀"]}


async def test_what_a_client_of_another_dialect_gets_is_in_its_dialect(back_end: BackEnd) -> None:
    primus = await back_end.front.websocket("account=ann&_primuscb=x")
    await primus.receive()
    msgpack = await back_end.front.websocket("account=ben&format=msgpack")
    await msgpack.receive()
    answer = await back_end.put({"everyone": True, "message": ["a"]})
    assert answer.json()["sessions"] == 2
    assert await primus.receive() == '4["a"]'
    assert await msgpack.receive() == b"\x82\xa5event\xa7message\xa4args\x91\x91\xa1a"


async def test_a_message_that_one_dialect_cannot_write_goes_to_nobody(back_end: BackEnd) -> None:
    first, _ = await back_end.join("account=ann")
    await (await back_end.front.websocket("account=ben&format=msgpack")).receive()
    last, _ = await back_end.join("account=cid")
    answer = await back_end.put({"everyone": True, "message": 2**70})
    assert described(answer) == (400, "invalid")
    assert "format=msgpack" in answer.json()["description"]
    error, context = await back_end.errors.next_error()
    assert isinstance(error, InvalidMessage)
    assert context.request is not None
    back_end.server.account("ann").emit("last")
    back_end.server.account("cid").emit("last")
    for client in (first, last):
        assert await client.receive() == {"event": "last", "args": []}


# Bodies that are none


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b'{"everyone": true, "message": NaN}',
        b'{"everyone": true, "message": "\\ud80"}',
        b'{"everyone": true, "message": 1}}',
        b'{"everyone": true, "message": "\xff"}',
        b'\xef\xbb\xbf{"everyone": true, "message": 1}',
        b'{"everyone": true, "message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[1, 2",
    ],
)
async def test_a_body_that_cannot_be_decoded_is_broken(back_end: BackEnd, body: bytes) -> None:
    ann, _ = await back_end.join("account=ann")
    answer = await back_end.put(body)
    assert described(answer) == (400, "broken")
    assert "incorrect JSON" in answer.json()["description"]
    error, context = await back_end.errors.next_error()
    assert isinstance(error, UndecodableMessage)
    assert context.message == body.decode("utf-8", "replace")
    assert context.request is not None
    assert context.request.path == PATH
    assert back_end.errors.is_empty
    assert back_end.server.metrics["error::json"] == 1
    back_end.server.everyone.emit("last")
    assert await ann.receive() == {"event": "last", "args": []}


@pytest.mark.parametrize(
    "body",
    [
        None,
        5,
        "text",
        True,
        [],
        [{"everyone": True, "message": 1}],
        {},
        {"message": 1},
        {"id": "x"},
        {"everyone": True},
        {"account": "ann", "session": "x"},
        {"session": "x", "message": 1},
        {"id": 5, "message": 1},
        {"id": None, "message": 1},
        {"id": ["x"], "message": 1},
        {"account": 5, "message": 1},
        {"account": "ann", "session": None, "message": 1},
        {"everyone": False, "message": 1},
        {"everyone": 1, "message": 1},
        {"everyone": "true", "message": 1},
        {"id": "x", "everyone": True, "message": 1},
        {"id": "x", "account": "ann", "message": 1},
        {"id": "x", "account": "ann", "session": "x", "message": 1},
        {"account": "ann", "everyone": True, "message": 1},
        {"account": "ann", "everyone": False, "message": 1},
        {"everyone": True, "message": 1, "volatile": True},
    ],
)
async def test_a_body_without_one_message_and_one_target_is_invalid(back_end: BackEnd, body: Any) -> None:
    ann, _ = await back_end.join("account=ann")
    answer = await back_end.put(body)
    assert described(answer) == (400, "invalid")
    assert "invalid" in answer.json()["description"]
    error, context = await back_end.errors.next_error()
    assert isinstance(error, InvalidMessage)
    assert context.message == json.dumps(body)
    assert context.request is not None
    assert back_end.errors.is_empty
    assert back_end.server.metrics["error::invalid"] == 1
    back_end.server.everyone.emit("last")
    assert await ann.receive() == {"event": "last", "args": []}


async def test_a_body_over_max_payload_is_too_large(kind: str, serve: Serve) -> None:
    server = Primacron(secret=SECRET, max_payload=1_000)
    back_end = BackEnd(server, await serve(server))
    ann, _ = await back_end.join("account=ann")
    whole = b'{"everyone": true, "message": "x"}'.ljust(1_000)
    assert described(await back_end.put(whole)) == (200, "sending")
    await ann.receive()
    body = whole + b" "
    in_chunks = await back_end.front.raw()
    await in_chunks.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    for answer in (await back_end.put(body), await in_chunks.read_response()):
        assert described(answer) == (413, "too large")
        assert "1000 bytes" in answer.json()["description"]
        error, context = await back_end.errors.next_error()
        assert isinstance(error, PayloadTooLarge)
        assert context.request is not None
    server.everyone.emit("last")
    assert await ann.receive() == {"event": "last", "args": []}


async def test_a_compressed_body_is_refused(kind: str, serve: Serve) -> None:
    server = Primacron(secret=SECRET)
    back_end = BackEnd(server, await serve(server))
    body = gzip.compress(b'{"everyone": true, "message": "x"}')
    answer = await back_end.put(body, headers={**BEARER, "Content-Encoding": "gzip"})
    assert described(answer) == (415, "unsupported encoding")
    assert "'content-encoding': expected none, got 'gzip'" in answer.json()["description"]
    error, context = await back_end.errors.next_error()
    assert isinstance(error, UnsupportedEncoding)
    assert context.request is not None


async def test_a_message_to_a_client_that_is_closed_because_of_it_is_refused(kind: str, serve: Serve) -> None:
    server = Primacron(secret=SECRET, outbox_limit=100)
    back_end = BackEnd(server, await serve(server))
    ann = await back_end.front.poll_in("account=ann")
    (session,) = list(server.node.hub.sessions)
    large = {"account": "ann", "session": session.id, "message": "x" * 200}
    assert described(await back_end.put(large)) == (200, "sending")  # the newest alone never closes
    answer = await back_end.put(large)
    assert described(answer) == (413, "too large")
    assert (answer.json()["receipt"], answer.json()["certain"]) == ("refused", True)
    error, _ = await back_end.errors.next_error()
    assert "wait for the client" in str(error)
    assert described(await back_end.put(large)) == (404, "unknown socket")
    assert (await ann.poll()).text == "1"


async def test_a_message_whose_body_comes_after_the_end_of_the_server_is_unsent(kind: str, serve: Serve) -> None:
    server = Primacron(secret=SECRET)
    client = await serve(server)
    body = b'{"everyone": true, "message": 1}'
    connection = await client.raw()
    await connection.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
    await client.fetch("GET", "/primacron/livez")  # by then the head of the other has been read
    closed = Hearing(server, "close")
    ending = asyncio.create_task(server.destroy())
    await closed.next()
    await until(lambda: server._node is None, "the last step, of which no event tells")
    await connection.send(body[5:])
    answer = await connection.read_response()
    assert described(answer) == (503, "unsent")
    assert (answer.json()["receipt"], answer.json()["certain"]) == ("unsent", True)
    await ending


# Who may


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": SECRET},
        {"Authorization": "Bearer \xff\xe9"},
        {"Proxy-Authorization": f"Bearer {SECRET}"},
        {"Cookie": f"Authorization=Bearer {SECRET}"},
        {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    ],
)
async def test_without_the_secret_nothing_is_read_or_sent(back_end: BackEnd, headers: dict[str, str]) -> None:
    ann, _ = await back_end.join("account=ann")
    for body in ({"everyone": True, "message": 1}, b"{", b""):
        answer = await back_end.put(body, headers=headers)
        assert described(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert SECRET not in answer.text
        error, context = await back_end.errors.next_error()
        assert isinstance(error, Refused)
        assert error.http_status == 401
        assert context.request is not None
        assert context.message is None
    assert back_end.errors.is_empty
    back_end.server.everyone.emit("last")
    assert await ann.receive() == {"event": "last", "args": []}


async def test_a_secret_in_the_query_opens_nothing(back_end: BackEnd) -> None:
    path = f"{PATH}?secret=a&access_token={SECRET.replace(' ', '%20')}"
    answer = await back_end.put({"everyone": True, "message": 1}, path=path, headers={})
    assert described(answer) == (401, "unauthorized")


async def test_without_a_configured_secret_nobody_may(kind: str, serve: Serve) -> None:
    server = Primacron()
    client = await serve(server)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}, BEARER):
        answer = await client.fetch("PUT", PATH, headers, b'{"everyone": true, "message": 1}')
        assert described(answer) == (401, "unauthorized")


async def test_each_secret_of_a_list_opens_so_that_it_can_be_changed(kind: str, serve: Serve) -> None:
    server = Primacron(secret=["the new one", "the old one"])
    client = await serve(server)
    for secret, status in (("the new one", 200), ("the old one", 200), ("the next one", 401), ("the new", 401)):
        headers = {"Authorization": f"Bearer {secret}"}
        answer = await client.fetch("PUT", PATH, headers, b'{"everyone": true, "message": 1}')
        assert answer.status == status, secret


async def test_the_name_of_the_scheme_may_be_in_any_case(back_end: BackEnd) -> None:
    for scheme in ("bearer", "BEARER", "Bearer"):
        headers = {"Authorization": f"{scheme} {SECRET}"}
        assert (await back_end.put({"everyone": True, "message": 1}, headers=headers)).status == 200


async def test_a_refused_upload_does_not_keep_the_next_request_from_its_answer(back_end: BackEnd) -> None:
    body = b"x" * 200_000
    connection = await back_end.front.raw()
    await connection.send_request("PUT", PATH, {}, body)
    assert described(await connection.read_response()) == (401, "unauthorized")
    assert described(await back_end.put({"everyone": True, "message": 1})) == (200, "sending")


# Where


async def test_the_query_is_ignored(back_end: BackEnd) -> None:
    answer = await back_end.put({"everyone": True, "message": 1}, path=f"{PATH}?a=b&transport=polling")
    assert described(answer) == (200, "sending")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_for_strangers(back_end: BackEnd, method: str) -> None:
    answer = await back_end.put({"everyone": True, "message": 1}, method=method)
    assert answer.status == 400
    assert "x-powered-by" not in answer.headers
    if method != "HEAD":
        why = f"Bad request: there is no {method} {PATH!r} here; the stream is at '/stream/'"
        assert answer.json() == {"status": 400, "type": "bad request", "description": why}
    assert back_end.errors.is_empty


@pytest.mark.parametrize("path", ["/", f"{PATH}/", "/primacron/Broadcast", "/primacron/broadcas", "/stream/broadcast"])
async def test_other_paths_are_for_strangers(back_end: BackEnd, path: str) -> None:
    answer = await back_end.put({"everyone": True, "message": 1}, path=path)
    assert answer.status == 400
    assert "x-powered-by" not in answer.headers
    assert answer.json()["description"] == f"Bad request: there is no PUT {path!r} here; the stream is at '/stream/'"


@pytest.mark.parametrize("option", ["broadcast", "broadcast_path"])
async def test_the_path_is_an_option_by_either_name(kind: str, serve: Serve, option: str) -> None:
    server = Primacron(None, {"secret": SECRET, option: "/push"})
    client = await serve(server)
    body = b'{"everyone": true, "message": 1}'
    assert (await client.fetch("PUT", "/push", BEARER, body)).status == 200
    answer = await client.fetch("PUT", PATH, BEARER, body)
    assert (answer.status, answer.json()["type"]) == (400, "bad request")


async def test_a_websocket_on_the_path_is_refused(back_end: BackEnd) -> None:
    answer = (await back_end.front.websocket_to(PATH, headers=BEARER)).response
    assert (answer.status, answer.json()["type"]) == (400, "bad request")


async def test_the_control_address_has_the_path_and_the_main_one_has_not(serve: Serve) -> None:
    server = Primacron(secret=SECRET, control="127.0.0.1:0", redirect="https://shop.example/")
    client = await serve(server)
    assert isinstance(server.control_address, tuple)
    control = Client(server.control_address[1])
    opened = Hearing(server, "connection")
    ann = await client.connect("account=ann")
    await opened.next()
    body = b'{"everyone": true, "message": 1}'
    refused = await client.fetch("PUT", PATH, BEARER, body)
    assert (refused.status, refused.json()["type"]) == (400, "bad request")
    assert "x-powered-by" not in refused.headers
    assert described(await control.fetch("PUT", PATH, {}, body)) == (401, "unauthorized")
    assert described(await control.fetch("PUT", PATH, BEARER, body)) == (200, "sending")
    assert await ann.receive() == {"event": "message", "args": [1]}
    # Nothing else is there: no stream, by neither transport, and no websocket anywhere.
    assert (await control.fetch("GET", "/stream/?EIO=4&transport=polling&account=a")).status == 301
    assert (await control.fetch("POST", "/stream/?EIO=4&transport=polling&account=a", {}, b"4a")).status == 400
    assert (await control.websocket()).response.status == 301
    for path in ("/primacron/livez", "/primacron/readyz"):
        assert (await control.fetch("GET", path)).status == 200
        assert (await client.fetch("GET", path)).status == 200
    await control.close()


async def test_a_control_address_that_is_taken_leaves_nothing_open_and_can_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Primacron(secret=SECRET, control=f"127.0.0.1:{port}")
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await server.listen(0, "127.0.0.1")
        with pytest.raises(NotListening):
            server.address()
    await server.listen(0, "127.0.0.1")
    assert server.control_address == ("127.0.0.1", port)
    await server.listen(0, "127.0.0.1")  # a second address, and still one for control
    assert (await fetch(port, "PUT", PATH, BEARER, b'{"everyone": true, "message": 1}')).status == 200
    await server.destroy()


@pytest.mark.parametrize("path", ["/stream/", "/stream", "/primacron/livez", "/primacron/readyz"])
def test_a_path_that_something_else_has_is_refused_at_construction(path: str) -> None:
    with pytest.raises(OptionError, match="broadcast_path"):
        Primacron(broadcast=path)
