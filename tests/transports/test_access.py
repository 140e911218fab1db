"""What browsers and proxies are told and believed: origins, CORS, forwarded fields, cookies, compression."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from primacron import HttpRequest, Primacron
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.transports.servers import echo_server

HANDSHAKE = "/stream/?EIO=4&transport=polling&account=a"


async def is_accepted(client: Client, headers: dict[str, str]) -> bool:
    """Tell whether both transports accept these headers; they agree."""
    polling = await client.fetch("GET", HANDSHAKE, headers)
    socket = await client.websocket(headers=headers)
    await socket.close()
    assert (polling.status, socket.response.status) in ((200, 101), (400, 400))
    if polling.status == 400:
        assert socket.response.json() == polling.json()
    return polling.status == 200


SAME = [
    ({}, True),
    ({"Origin": "http://localhost"}, True),
    ({"Origin": "https://localhost"}, True),
    ({"Origin": "http://localhost:80"}, True),
    ({"Origin": "https://LOCALHOST:443"}, True),
    ({"Host": "shop.example:8080", "Origin": "http://shop.example:8080"}, True),
    ({"Host": "shop.example:443", "Origin": "https://shop.example"}, True),
    ({"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}, True),
    ({"Host": "shop.example:8080", "Origin": "http://shop.example"}, False),
    ({"Host": "shop.example", "Origin": "http://shop.example:8080"}, False),
    ({"Origin": "http://evil.example"}, False),
    ({"Origin": "http://localhost.evil.example"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "localhost"}, False),
    ({"Origin": "http://localhost/path"}, False),
    ({"Origin": "http://user@localhost"}, False),
    ({"Origin": "http://["}, False),
    ({"Origin": "http://localhost?"}, False),
    ({"Origin": "http://local\thost"}, False),
    ({"Origin": "capacitor://localhost"}, False),
    ({"X-Forwarded-Host": "evil.example", "Origin": "http://evil.example"}, False),
]


async def test_by_default_pages_of_the_same_host_and_port_may_connect(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    for headers, accepted in SAME:
        assert await is_accepted(client, headers) is accepted, headers


LISTED = [
    ({}, True),
    ({"Origin": "https://shop.example"}, True),
    ({"Origin": "https://shop.example:443"}, True),
    ({"Origin": "http://dev.example:3000"}, True),
    ({"Origin": "capacitor://localhost"}, True),
    ({"Origin": "https://a.page.example"}, True),
    ({"Origin": "http://shop.example"}, False),
    ({"Origin": "https://shop.example:80"}, False),
    ({"Origin": "https://dev.example:3000"}, False),
    ({"Origin": "http://dev.example"}, False),
    ({"Origin": "http://localhost"}, False),
    ({"Origin": "https://page.example"}, False),
    ({"Origin": "http://a.page.example"}, False),
    ({"Origin": "https://apage.example"}, False),
    ({"Origin": "https://shop.example?"}, False),
    ({"Origin": "https://shop.exa\tmple"}, False),
    ({"Origin": "null"}, False),
]


async def test_listed_pages_may_connect_and_no_others(kind: str, serve: Serve) -> None:
    origins = ["https://shop.example", "http://dev.example:3000", "capacitor://localhost", "https://*.page.example"]
    client = await serve(Primacron(origins=origins))
    for headers, accepted in LISTED:
        assert await is_accepted(client, headers) is accepted, headers


async def test_a_refused_page_may_read_why_and_gets_no_credentials(kind: str, serve: Serve) -> None:
    lists = (["https://shop.example", "capacitor://localhost"], lambda origin, request: False)
    for origins in ("same", *lists):
        client = await serve(Primacron(origins=origins))
        for origin in ("http://shop.example", "http://localhost:81", "null"):
            polling = await client.fetch("GET", HANDSHAKE, {"Origin": origin})
            socket = await client.websocket(headers={"Origin": origin})
            for answer in (polling, socket.response):
                assert answer.status == 400
                cors = {name: value for name, value in answer.headers.items() if name.startswith("access-control")}
                assert cors == {"access-control-allow-origin": origin}
                assert answer.headers["vary"] == "Origin"
                assert "option 'origins'" in answer.json()["message"]


async def test_a_refused_page_reads_nothing_but_why(kind: str, serve: Serve) -> None:
    """Whatever else it asks for, by a sid that lives or with a preflight, it reads the same or nothing at all."""
    client = await serve(echo_server(origins=["https://shop.example"]))
    polling = await client.poll_in()
    foreign = {"Origin": "http://evil.example"}
    why = (await client.fetch("GET", HANDSHAKE, foreign)).json()
    assert "shop.example" not in str(why)
    for method in ("GET", "POST", "OPTIONS"):
        for target in (polling.target, polling.target[:-3] + "xxx", HANDSHAKE):
            answer = await client.fetch(method, target, foreign, b"4hi" if method == "POST" else None)
            assert (answer.status, answer.json()) == (400, why)
    for target in ("/stream/?EIO=4&transport=other&account=a", "/elsewhere", "/primacron/readyz"):
        answer = await client.fetch("GET", target, foreign)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["x" * 301, "http://\xe4.example", "http://a\tb"])
async def test_what_no_browser_sends_as_an_origin_is_not_sent_back(origin: str, serve: Serve) -> None:
    for origins, status in (("same", 400), ("*", 200)):
        answer = await (await serve(Primacron(origins=origins))).fetch("GET", HANDSHAKE, {"Origin": origin})
        assert answer.status == status
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["vary"] == "Origin"


async def test_a_function_decides_about_each_page(kind: str, serve: Serve) -> None:
    asked: list[tuple[str, str]] = []

    def allow(origin: str, request: HttpRequest) -> Any:
        asked.append((origin, request.query["account"]))
        return {"https://Shop.example": True, "http://none.example": None, "http://one.example": 1}.get(origin, False)

    client = await serve(echo_server(origins=allow))
    for origin, accepted in (
        ("https://Shop.example", True),
        ("http://none.example", False),
        ("http://one.example", False),
        ("http://other.example", False),
    ):
        assert await is_accepted(client, {"Origin": origin}) is accepted, origin
        assert asked == [(origin, "a")] * 2, "once for each request"
        asked.clear()
    answer = await client.fetch("GET", HANDSHAKE, {"Origin": "https://Shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://Shop.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    refused = await client.fetch("GET", HANDSHAKE, {"Origin": "http://other.example"})
    assert "what a function of the application decides" in refused.json()["message"]
    assert "access-control-allow-credentials" not in refused.headers
    asked.clear()
    assert (await client.fetch("GET", HANDSHAKE, {"Origin": "no origin"})).status == 400
    assert (await client.fetch("GET", HANDSHAKE)).status == 200
    assert asked == []


async def test_a_function_that_fails_lets_nobody_in_and_is_heard_of(kind: str, serve: Serve) -> None:
    def allow(origin: str, request: HttpRequest) -> bool:
        raise KeyError(origin)

    server = Primacron(origins=allow)
    errors = Hearing(server, "error::handler")
    client = await serve(server)
    for by in ("polling", "websocket"):
        target = f"/stream/?EIO=4&transport={by}&account=a"
        origin = {"Origin": "https://shop.example"}
        answer = (
            await client.fetch("GET", target, origin)
            if by == "polling"
            else (await client.websocket_to(target, headers=origin)).response
        )
        assert answer.status == 500
        assert "shop.example" not in answer.text
        assert "access-control-allow-origin" not in answer.headers
        error, _ = await errors.next_error()
        assert isinstance(error.__cause__, KeyError)
    assert server.count() == 0


async def test_a_page_of_another_site_that_loads_an_image_opens_no_session(kind: str, serve: Serve) -> None:
    server = Primacron(origins=["https://a.shop.example"])
    errors = Hearing(server, "error::refused")
    client = await serve(server)
    for site, status in (("cross-site", 400), ("same-site", 400), ("same-origin", 200), ("none", 200)):
        answer = await client.fetch("GET", HANDSHAKE, {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        assert answer.status == status, site
        if status == 400:
            assert f"Sec-Fetch-Site '{site}'" in answer.json()["message"]
            assert "access-control-allow-origin" not in answer.headers
            error, _ = await errors.next_error()
            assert "https://a.shop.example" in str(error)
    # A script of a page that is listed says which one it is.
    origin = {"Origin": "https://a.shop.example", "Sec-Fetch-Site": "same-site"}
    assert await is_accepted(client, origin)
    assert server.metrics["error::refused"] == 2


async def test_where_every_page_may_connect_an_image_may_too(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(origins="*"))
    assert await is_accepted(client, {"Sec-Fetch-Site": "cross-site"})


async def test_every_page_may_connect_where_it_is_said(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(origins="*"))
    for origin in ("http://evil.example", "null", "anything"):
        assert await is_accepted(client, {"Origin": origin})


@pytest.mark.parametrize(
    ("origins", "allowed", "told"),
    [
        ("same", "that of the host, 'localhost'", "that of the host, 'localhost'"),
        (["https://b.example", "https://a.example"], "https://a.example, https://b.example", "others"),
    ],
)
async def test_a_refusal_names_the_two_values_that_differ_and_keeps_a_list_from_strangers(
    origins: object, allowed: str, told: str, kind: str, serve: Serve
) -> None:
    server = Primacron(origins=origins)
    errors = Hearing(server, "error::refused")
    client = await serve(server)
    response = await client.fetch("GET", HANDSHAKE, {"Origin": "http://evil.example"})
    assert (response.status, response.json()["code"]) == (400, 3)
    begin = "origin 'http://evil.example' may not connect, option 'origins' allows "
    assert response.json()["message"] == begin + told
    error, context = await errors.next_error()
    assert str(error) == begin + allowed
    assert context.request is not None
    assert context.request.headers["origin"] == "http://evil.example"


async def test_later_requests_of_a_foreign_page_are_refused_too(kind: str, serve: Serve) -> None:
    client = await serve(echo_server())
    polling = await client.poll_in()
    foreign = {"Origin": "http://evil.example"}
    assert (await polling.post("4hi", foreign)).status == 400
    assert (await client.fetch("GET", polling.target, foreign)).status == 400
    socket = await client.websocket(f"sid={polling.sid}", headers=foreign)
    assert socket.response.status == 400
    await socket.close()
    assert (await polling.post("4hi")).text == "ok"
    assert (await polling.poll()).text == "4hi"


async def test_answers_to_listed_pages_carry_what_their_browsers_ask_for(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(origins=["https://shop.example"]))
    origin = {"Origin": "https://shop.example"}
    opened = await client.fetch("GET", HANDSHAKE, origin)
    polling = await client.poll_in()
    answers = [
        opened,
        await polling.post("4hi", origin),
        await client.fetch("GET", polling.target, origin),
        await client.fetch("GET", "/stream/?EIO=4&transport=polling", origin),
        await client.fetch("OPTIONS", polling.target, {**origin, "Access-Control-Request-Headers": "X-Shop"}),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 400, 204]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
    preflight = answers[-1].headers
    assert preflight["access-control-allow-methods"] == "GET,POST"
    assert preflight["access-control-allow-headers"] == "X-Shop"
    assert int(preflight["access-control-max-age"]) > 0


async def test_answers_to_any_page_name_it_since_browsers_take_no_other_for_a_request_with_cookies(
    kind: str, serve: Serve
) -> None:
    client = await serve(Primacron(origins="*"))
    for method in ("GET", "OPTIONS"):
        for origin in ("https://any.example", "null"):
            answer = await client.fetch(method, HANDSHAKE, {"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["vary"] == "Origin"


async def test_requests_without_an_origin_get_no_cors_fields(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(origins=["https://shop.example"]))
    answer = await client.fetch("GET", HANDSHAKE)
    assert not [name for name in answer.headers if name.startswith("access-control")]


# An outer server decides itself what it believes of forwarded fields, before it hands a request on.
STANDALONE = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"], indirect=True)

FORWARDED = [
    ({"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
    ({"X-Forwarded-For": "6.6.6.6, 203.0.113.7"}, "203.0.113.7"),
    ({"X-Forwarded-For": "203.0.113.7, 127.0.0.1"}, "203.0.113.7"),
    ({"X-Forwarded-For": "203.0.113.7:4711"}, "203.0.113.7"),
    ({"Forwarded": "for=203.0.113.7"}, "203.0.113.7"),
    ({"Forwarded": 'for="[2001:db8::7]:4711"'}, "2001:db8::7"),
    ({"Forwarded": "for=6.6.6.6, for=203.0.113.7;proto=https"}, "203.0.113.7"),
    ({"Forwarded": "for=203.0.113.7", "X-Forwarded-For": "6.6.6.6"}, "203.0.113.7"),
    ({}, "127.0.0.1"),
]


@STANDALONE
@pytest.mark.parametrize("trusted", [True, False])
async def test_forwarded_addresses_are_believed_of_trusted_proxies_alone(
    trusted: bool, kind: str, serve: Serve
) -> None:
    server = Primacron(trusted_proxies=["127.0.0.0/8"] if trusted else ["10.0.0.0/8"])
    opened = Hearing(server, "connection")
    client = await serve(server)
    for headers, peer in FORWARDED:
        assert (await client.fetch("GET", HANDSHAKE, headers)).status == 200
        socket = await client.websocket(headers=headers)
        await socket.close()
        for _ in range(2):
            assert (await opened.next())[0].peer == (peer if trusted else "127.0.0.1"), headers


@STANDALONE
async def test_the_host_that_a_trusted_proxy_saw_is_the_one_that_pages_are_compared_with(
    kind: str, serve: Serve
) -> None:
    client = await serve(Primacron(trusted_proxies=["127.0.0.1"]))
    origin = {"Origin": "https://shop.example"}
    proxied = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}
    assert await is_accepted(client, {**origin, **proxied})
    assert await is_accepted(client, {**origin, "Forwarded": "for=203.0.113.7;host=shop.example;proto=https"})
    assert not await is_accepted(client, origin)
    assert not await is_accepted(client, {"Origin": "http://localhost", **proxied})
    # The scheme counts where a proxy tells it, and not where nobody does.
    assert not await is_accepted(client, {"Origin": "http://shop.example", **proxied})
    unsaid = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "shop.example"}
    assert await is_accepted(client, {"Origin": "http://shop.example", **unsaid})
    assert await is_accepted(client, {"Origin": "https://shop.example", **unsaid})
    plain = {"Forwarded": "for=203.0.113.7;host=shop.example;proto=http"}
    assert await is_accepted(client, {"Origin": "http://shop.example", **plain})
    assert not await is_accepted(client, {"Origin": "https://shop.example", **plain})


@STANDALONE
async def test_authorize_learns_whether_the_client_used_tls(kind: str, serve: Serve) -> None:
    server = Primacron(trusted_proxies=["127.0.0.1"])
    seen = []

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        seen.append((request.peer, request.secure, request.host))
        return True

    client = await serve(server)
    await client.fetch("GET", HANDSHAKE, {"Forwarded": "for=203.0.113.7;proto=https;host=shop.example"})
    await client.fetch("GET", HANDSHAKE)
    assert seen == [("203.0.113.7", True, "shop.example"), ("127.0.0.1", False, "localhost")]


async def test_the_cookie_comes_with_the_polling_handshake_alone(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(cookie="io"))
    opened = await client.fetch("GET", HANDSHAKE)
    polling = await client.poll_in()
    assert opened.headers["set-cookie"].startswith("io=")
    assert opened.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert opened.headers["set-cookie"][3:33] in opened.text
    assert "set-cookie" not in (await polling.post("4hi")).headers
    assert "set-cookie" not in (await polling.poll()).headers
    socket = await client.websocket()
    assert "set-cookie" not in socket.response.headers


async def test_the_cookie_has_the_attributes_of_the_option(kind: str, serve: Serve) -> None:
    cookie = {"name": "sid", "path": "/shop", "http_only": False, "same_site": "None", "secure": True, "max_age": 60}
    client = await serve(Primacron(cookie=cookie))
    opened = await client.fetch("GET", HANDSHAKE)
    assert opened.headers["set-cookie"].startswith("sid=")
    assert opened.headers["set-cookie"].endswith("; Path=/shop; Max-Age=60; SameSite=None; Secure")


ENCODINGS = {
    "gzip": True,
    "deflate, GZIP;q=0.5": True,
    "br;q=1.0, gzip;q=0.8, *;q=0.1": True,
    "gzip;q=0": False,
    "gzip; q=0.000": False,
    "identity": False,
    "": False,
}


@pytest.mark.parametrize(("encoding", "takes"), ENCODINGS.items())
async def test_large_answers_are_compressed_for_clients_that_take_it(
    encoding: str, takes: bool, kind: str, serve: Serve
) -> None:
    polling = await (await serve(echo_server(gzip_threshold=500))).poll_in()
    for size in (400, 5000):
        assert (await polling.post("4" + "x" * size)).text == "ok"
        answer = await polling.client.fetch("GET", polling.target, {"Accept-Encoding": encoding})
        compressed = answer.headers.get("content-encoding") == "gzip"
        assert compressed is (takes and size > 500)
        assert (gzip.decompress(answer.body) if compressed else answer.body) == b"4" + b"x" * size
        if compressed:
            assert answer.headers["vary"] == "Accept-Encoding"
            assert len(answer.body) < 500


async def test_answers_are_not_compressed_by_default(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    assert (await polling.post("4" + "x" * 5000)).text == "ok"
    answer = await polling.client.fetch("GET", polling.target, {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
