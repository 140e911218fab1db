"""Heads of requests that HTTP forbids, or that are over a limit, on our own server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.hostile.arena import LIVEZ, get, head, message_of
from tests.hostile.conftest import Attack

pytestmark = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"])

POST = f"POST {LIVEZ} HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"

MALFORMED = [
    pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="binary"),
    pytest.param(b"hello\r\n\r\n", id="no request line"),
    pytest.param(b"GET\r\n\r\n", id="method alone"),
    pytest.param(head("FOO / HTTP/1.1"), id="unknown method"),
    pytest.param(head("get / HTTP/1.1"), id="method in lower case"),
    pytest.param(head("GE\x00T / HTTP/1.1"), id="NUL in the method"),
    pytest.param(head("GET / HTTX/1.1"), id="another protocol"),
    pytest.param(head("GET / HTTP/1.11"), id="version with two digits"),
    pytest.param(head("GET / HTTP/1.1 "), id="space behind the version"),
    pytest.param(head("GET / HTTP/1.1 x"), id="text behind the version"),
    pytest.param(b"GET / HTTP/1.1\nHost: localhost\n\n", id="bare LF"),
    pytest.param(b"GET / HTTP/1.1\rHost: localhost\r\r", id="bare CR"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", id="bare LF behind a field"),
    pytest.param(head("GET /a b HTTP/1.1"), id="space in the target"),
    pytest.param(head("GET /a\tb HTTP/1.1"), id="tab in the target"),
    pytest.param(head("GET /a\x00b HTTP/1.1"), id="NUL in the target"),
    pytest.param(head("GET /a\x7fb HTTP/1.1"), id="DEL in the target"),
    pytest.param(head("GET /\xe4 HTTP/1.1"), id="byte above 127 in the target"),
    pytest.param(head("GET localhost:80 HTTP/1.1"), id="authority as target of a GET"),
    pytest.param(head("GET ?account=a HTTP/1.1"), id="query as target"),
    pytest.param(head("GET \\ HTTP/1.1"), id="backslash as target"),
    pytest.param(head("GET / HTTP/1.1", "X : y"), id="space before the colon"),
    pytest.param(head("GET / HTTP/1.1", "X: y", " folded"), id="folded field"),
    pytest.param(head("GET / HTTP/1.1", "X: y", "\tfolded"), id="field folded with a tab"),
    pytest.param(head("GET / HTTP/1.1", " X: y", host=None), id="space before the first field"),
    pytest.param(head("GET / HTTP/1.1", "X: a\x00b"), id="NUL in a value"),
    pytest.param(head("GET / HTTP/1.1", "X: a\x01b"), id="control in a value"),
    pytest.param(head("GET / HTTP/1.1", "Origin: http://a\x01b"), id="control in the origin"),
    pytest.param(head("GET / HTTP/1.1", "X: a\rb"), id="CR in a value"),
    pytest.param(head("GET / HTTP/1.1", "\xdcber: x"), id="byte above 127 in a name"),
    pytest.param(head("GET / HTTP/1.1", "X\x00: y"), id="NUL in a name"),
    pytest.param(head("GET / HTTP/1.1", ": y"), id="empty name"),
    pytest.param(head("GET / HTTP/1.1", "X"), id="field without a colon"),
    pytest.param(head(POST, "Content-Length: -1"), id="negative length"),
    pytest.param(head(POST, "Content-Length: +1"), id="length with a plus"),
    pytest.param(head(POST, "Content-Length: abc"), id="length of letters"),
    pytest.param(head(POST, "Content-Length: 1_0"), id="length with an underscore"),
    pytest.param(head(POST, "Content-Length: 0x10"), id="length in hexadecimal"),
    pytest.param(head(POST, "Content-Length: \xb2"), id="length with a digit outside ASCII"),
    pytest.param(head(POST, "Content-Length: 1 1"), id="length with a space inside"),
    pytest.param(head(POST, "Content-Length: 3, 3"), id="list of lengths"),
    pytest.param(head(POST, "Content-Length:"), id="empty length"),
    pytest.param(head(POST, "Content-Length: 99999999999999999999"), id="length over 64 bits"),
    pytest.param(head(POST, "Content-Length: 3", "Content-Length: 3"), id="two equal lengths"),
    pytest.param(head(POST, "Content-Length: 3", "Content-Length: 4"), id="two lengths"),
    pytest.param(head(POST, "Content-Length: 3", CHUNKED), id="length, then chunked"),
    pytest.param(head(POST, CHUNKED, "Content-Length: 3"), id="chunked, then length"),
    pytest.param(head(POST, CHUNKED, CHUNKED), id="chunked twice"),
    pytest.param(head(POST, "Transfer-Encoding: chunked, gzip"), id="chunked not last"),
    pytest.param(head(POST, "Transfer-Encoding: \x0bchunked"), id="vertical tab before chunked"),
    pytest.param(head(POST, "Transfer-Encoding:"), id="empty transfer encoding"),
]

REFUSED = [
    pytest.param(b"GET /\r\n\r\n", 505, "HTTP 0.9", id="version 0.9, as it was"),
    pytest.param(head("GET / HTTP/0.9"), 505, "HTTP 0.9", id="version 0.9, named"),
    pytest.param(head("GET / HTTP/2.0"), 505, "HTTP 2.0", id="version 2.0"),
    pytest.param(head("GET / HTTP/3.1"), 505, "HTTP 3.1", id="version 3.1"),
    pytest.param(
        head(f"POST {LIVEZ} HTTP/1.2", "Transfer-Encoding: gzip, chunked"),
        501,
        "'gzip, chunked'",
        id="gzip in HTTP 1.2",
    ),
    pytest.param(head("GET / HTTP/1.2", host=None), 400, "'host' is missing", id="no host in HTTP 1.2"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP 2.0", id="preface of HTTP 2"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS on a port without it", id="TLS"),
    pytest.param(head("CONNECT localhost:80 HTTP/1.1"), 501, "method CONNECT", id="CONNECT"),
    pytest.param(head("CONNECT /stream/ HTTP/1.1"), 501, "method CONNECT", id="CONNECT to a path"),
    pytest.param(head("GET / HTTP/1.1", host=None), 400, "'host' is missing", id="no host"),
    pytest.param(head("GET / HTTP/1.1", host=""), 400, "'host' is not a host", id="empty host"),
    pytest.param(head("GET / HTTP/1.1", host="a b"), 400, "'host' is not a host", id="space in the host"),
    pytest.param(head("GET / HTTP/1.1", host="a/b"), 400, "'host' is not a host", id="slash in the host"),
    pytest.param(head("GET / HTTP/1.1", host="u@a"), 400, "'host' is not a host", id="user in the host"),
    pytest.param(head("GET / HTTP/1.1", host="\xe4"), 400, "'host' is not a host", id="host outside ASCII"),
    pytest.param(head("GET / HTTP/1.1", "Host: localhost"), 400, "'host' is given more than once", id="two hosts"),
    pytest.param(
        head("GET / HTTP/1.1", "Origin: http://a", "Origin: http://b"), 400, "'origin' is given more", id="two origins"
    ),
    pytest.param(
        head("GET / HTTP/1.1", "Authorization: Bearer a", "authorization: Bearer b"),
        400,
        "'authorization' is given more",
        id="two authorizations",
    ),
    pytest.param(head("GET /a#b HTTP/1.1"), 400, "a fragment in the target", id="fragment"),
    pytest.param(head("GET /a?b#c HTTP/1.1"), 400, "a fragment in the target", id="fragment behind the query"),
    pytest.param(head("GET *x HTTP/1.1"), 400, "neither a path nor an http URL", id="asterisk and more"),
    pytest.param(head("GET ftp://localhost/ HTTP/1.1"), 400, "neither a path nor", id="URL of another scheme"),
    pytest.param(head("GET http:// HTTP/1.1"), 400, "'host' is not a host", id="URL without a host"),
    pytest.param(head("GET http://u@localhost/ HTTP/1.1"), 400, "'host' is not a host", id="URL with a user"),
    pytest.param(head(POST, "Transfer-Encoding: gzip, chunked"), 501, "transfer encoding 'gzip", id="gzip, chunked"),
    pytest.param(head(POST, "Transfer-Encoding: identity"), 501, "transfer encoding 'identity'", id="identity"),
    pytest.param(head(POST, "Transfer-Encoding: xchunked"), 501, "transfer encoding 'xchunked'", id="xchunked"),
    pytest.param(
        head(f"POST {LIVEZ} HTTP/1.0", CHUNKED), 400, "Transfer-Encoding in HTTP 1.0", id="chunked in HTTP 1.0"
    ),
    pytest.param(head(POST, "Expect: 200-ok"), 417, "expectation '200-ok'", id="unknown expectation"),
    pytest.param(head("GET / HTTP/1.1", *["X: y"] * 100), 431, "more than 100 fields", id="101 fields, one name"),
    pytest.param(
        head("GET / HTTP/1.1", *[f"X{n}: y" for n in range(100)]), 431, "more than 100 fields", id="101 fields"
    ),
    pytest.param(head("GET / HTTP/1.1", "X: " + "y" * 70_000), 431, "larger than 65536 bytes", id="70 kB value"),
    pytest.param(head("GET / HTTP/1.1", "X" * 70_000 + ": y"), 431, "larger than 65536 bytes", id="70 kB name"),
    pytest.param(head("GET /" + "x" * 70_000 + " HTTP/1.1"), 431, "larger than 65536 bytes", id="70 kB target"),
    pytest.param(
        head("GET / HTTP/1.1", *[f"X{n}: {'y' * 900}" for n in range(90)]), 431, "larger than 65536", id="80 kB head"
    ),
]


@pytest.mark.parametrize("data", MALFORMED)
async def test_a_malformed_head_is_refused_and_the_connection_ends(kind: str, attack: Attack, data: bytes) -> None:
    arena = await attack()
    connection = await arena.raw(data)
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert message_of(response).startswith("malformed request")
    assert await connection.read_eof() == b""
    error, _ = await arena.error("error::protocol")
    assert str(error) == message_of(response)
    assert arena.is_quiet


@pytest.mark.parametrize(("data", "status", "why"), REFUSED)
async def test_a_head_that_is_not_served_is_refused_with_the_reason(
    kind: str, attack: Attack, data: bytes, status: int, why: str
) -> None:
    arena = await attack()
    connection = await arena.raw(data)
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (status, "close")
    assert why in message_of(response)
    assert await connection.read_eof() == b""
    error, _ = await arena.error("error::protocol")
    assert str(error) == message_of(response)
    assert arena.is_quiet


async def test_heads_are_refused_alike_when_they_come_byte_by_byte(kind: str, attack: Attack) -> None:
    arena = await attack()
    for parameter in (*MALFORMED, *REFUSED):
        data = parameter.values[0]
        assert isinstance(data, bytes)
        if len(data) > 1000:
            continue
        whole = await arena.ask(data)
        connection = await arena.raw()
        with contextlib.suppress(OSError):  # it may be closed before the last byte
            for position in range(len(data)):
                await connection.send(data[position : position + 1])
                await asyncio.sleep(0)
        response = await connection.read_response()
        assert response.status == whole.status, parameter.id
        if "TLS" not in message_of(whole) and "PRI" not in str(data):  # a message may name what came so far
            assert message_of(response) == message_of(whole), parameter.id


SERVED = [
    pytest.param(get(), id="plain"),
    pytest.param(b"\r\n\r\n" + get(), id="behind empty lines"),
    pytest.param(head(f"GET  {LIVEZ} HTTP/1.1"), id="two spaces before the target"),
    pytest.param(head(f"GET {LIVEZ}?x=%zz&%00&=&&? HTTP/1.1"), id="strange query"),
    pytest.param(head(f"GET http://localhost{LIVEZ} HTTP/1.1"), id="whole URL"),
    pytest.param(head(f"GET HTTPS://LOCALHOST:80{LIVEZ} HTTP/1.1"), id="whole URL in capitals"),
    pytest.param(head(f"GET http://[::1]{LIVEZ} HTTP/1.1"), id="whole URL of an IPv6 address"),
    pytest.param(head(f"GET {LIVEZ} HTTP/1.2"), id="version 1.2"),
    pytest.param(head(f"GET {LIVEZ} HTTP/1.9", "Expect: 100-continue"), id="version 1.9"),
    pytest.param(get(LIVEZ, "X: \xe4\xf6\xfc"), id="bytes above 127 in a value"),
    pytest.param(get(LIVEZ, "X:", "Y: \t "), id="empty values"),
    pytest.param(get(LIVEZ, "X: a", "X: b", "Cookie: a=b", "Cookie: c=d"), id="repeated fields"),
    pytest.param(get(LIVEZ, *[f"X{n}: y" for n in range(99)]), id="100 fields"),
    pytest.param(get(LIVEZ, "X: " + "y" * 60_000), id="60 kB value"),
    pytest.param(get(LIVEZ, "Expect: 100-Continue"), id="expectation without a body"),
    pytest.param(get(LIVEZ, "Content-Length: 0"), id="length 0"),
    pytest.param(get(LIVEZ, "Content-Length: " + "0" * 5000), id="length of 5,000 zeros"),
    pytest.param(get(LIVEZ, "Connection: x, Keep-Alive"), id="connection with other words"),
    pytest.param(get(LIVEZ, "Upgrade: websocket"), id="upgrade without its connection field"),
    pytest.param(get(LIVEZ, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"), id="h2c"),
    pytest.param(get(LIVEZ, "Connection: upgrade", "Upgrade: TLS/1.2, foo/9"), id="upgrade to others"),
]


@pytest.mark.parametrize("data", SERVED)
async def test_an_odd_head_that_http_allows_is_served_and_the_connection_stays(
    kind: str, attack: Attack, data: bytes
) -> None:
    arena = await attack()
    connection = await arena.raw(data)
    response = await connection.read_response()
    assert (response.status, response.json()) == (200, {"live": True})
    assert "connection" not in response.headers
    await arena.assert_serves(connection)
    assert arena.is_quiet


@pytest.mark.parametrize("target", ["*", "/", "//stream/", "/stream//", "/STREAM/", "/stream/x", "/%73tream/", "/\\"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE", "DELETE"])
async def test_a_target_that_means_nothing_here_gets_the_answer_for_strangers(
    kind: str, attack: Attack, method: str, target: str
) -> None:
    arena = await attack()
    connection = await arena.raw(head(f"{method} {target} HTTP/1.1", "X-Secret: do not echo"))
    response = await connection.read_response()
    assert response.status == 400
    why = f"Bad request: there is no {method} {target!r} here; the stream is at '/stream/'"
    assert response.json() == {"status": 400, "type": "bad request", "description": why}
    await arena.assert_serves(connection)


async def test_the_host_of_a_whole_url_counts_in_the_place_of_the_field(kind: str, attack: Attack) -> None:
    arena = await attack()
    query = "/stream/?account=mallory&EIO=4&transport=polling"
    refused = await arena.ask(head(f"GET http://real.example{query} HTTP/1.1", "Origin: http://localhost"))
    assert refused.status == 400
    assert "'real.example'" in message_of(refused)
    await arena.error("error::refused")
    served = await arena.ask(head(f"GET http://real.example{query} HTTP/1.1", "Origin: http://real.example"))
    assert served.status == 200


async def test_a_field_is_taken_without_the_space_behind_it(kind: str, attack: Attack) -> None:
    arena = await attack()
    query = "/stream/?account=mallory&EIO=4&transport=polling"
    response = await arena.ask(head(f"GET {query} HTTP/1.1", "Origin: http://localhost \t", host="localhost  "))
    assert response.status == 200


async def test_the_answer_to_head_has_the_length_and_no_body(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw(head(f"HEAD {LIVEZ} HTTP/1.1"))
    response = await connection.read_response(head_only=True)
    assert (response.status, response.headers["content-length"]) == (200, "13")
    await arena.assert_serves(connection)


async def test_head_on_the_stream_is_refused_without_a_body(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw(head("HEAD /stream/?account=a&EIO=4&transport=polling HTTP/1.1"))
    response = await connection.read_response(head_only=True)
    assert response.status == 400
    await arena.assert_serves(connection)
    await arena.error("error::protocol")


@pytest.mark.parametrize("field", [(), ("Connection: keep-alive",)])
async def test_http_1_0_is_served_one_request_at_a_time(kind: str, attack: Attack, field: tuple[str, ...]) -> None:
    arena = await attack()
    connection = await arena.raw(head(f"GET {LIVEZ} HTTP/1.0", *field, host=None) + get())
    response = await connection.read_response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await connection.read_eof() == b""


async def test_what_follows_a_request_that_closes_is_not_served(kind: str, attack: Attack) -> None:
    arena = await attack()
    opening = get("/stream/?account=smuggled&EIO=4&transport=polling")
    connection = await arena.raw(get(LIVEZ, "Connection: close") + opening)
    assert (await connection.read_response()).headers["connection"] == "close"
    assert await connection.read_eof() == b""
    assert arena.server.count() == 1
    assert arena.is_quiet


async def test_what_follows_a_refused_head_is_not_served(kind: str, attack: Attack) -> None:
    arena = await attack()
    opening = get("/stream/?account=smuggled&EIO=4&transport=polling")
    connection = await arena.raw(head("GET / HTTP/1.1", "Host: twice") + opening * 10)
    assert (await connection.read_response()).status == 400
    assert await connection.read_eof() == b""
    assert arena.server.count() == 1
    await arena.error("error::protocol")
    assert arena.is_quiet


async def test_garbage_behind_a_refused_request_raises_nothing(kind: str, attack: Attack) -> None:
    arena = await attack(max_payload=1000)
    client = await arena.client.poll_in("account=mallory")
    request = head(f"POST {client.target} HTTP/1.1", "Transfer-Encoding: chunked")
    connection = await arena.raw(request + b"800\r\n" + b"4" * 2048 + b"garbage in the place of a chunk\r\n\x00" * 99)
    assert (await connection.read_response()).status == 413
    assert await connection.read_eof() == b""
    await arena.error("error::protocol")
    assert arena.is_quiet
