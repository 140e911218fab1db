"""Paths that the application answers itself, on each kind of server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from primacron import HttpRequest, HttpResponse, Primacron, Refused, RegistrationError
from primacron.errors import HandlerTimedOut
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.support.http import fetch
from tests.support.serving import under_uvicorn

HTML = "text/html; charset=utf-8"


async def test_a_page_and_the_stream_are_answered_on_one_port(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.get("/")
    def page(request: HttpRequest) -> str:
        return "<h1>héllo</h1>"

    client = await serve(server)
    answer = await client.fetch("GET", "/")
    assert (answer.status, answer.headers["content-type"], answer.text) == (200, HTML, "<h1>héllo</h1>")
    assert (await client.connect()).sid


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", HTML),
        ("/about", HTML),
        ("/v1.2/", HTML),
        ("/v1.2/about", HTML),
        ("/index.html", HTML),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/app.MJS", "text/javascript; charset=utf-8"),
        ("/a.min.css", "text/css; charset=utf-8"),
        ("/data.json", "application/json"),
        ("/robots.txt", "text/plain; charset=utf-8"),
        ("/logo.svg", "image/svg+xml"),
        ("/favicon.ico", "image/x-icon"),
        ("/archive.zip", "application/octet-stream"),
    ],
)
@pytest.mark.parametrize("content", ["text", b"text"])
async def test_the_ending_of_the_path_tells_the_type(
    serve: Serve, path: str, content_type: str, content: str | bytes
) -> None:
    server = Primacron()
    server.get(path)(lambda request: content)
    answer = await (await serve(server)).fetch("GET", path)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, b"text")


async def test_a_page_sees_the_request_and_may_answer_with_every_detail(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.get("/who")
    def who(request: HttpRequest) -> HttpResponse:
        text = f"{request.method} {request.query['name']} {request.cookies['c']} {request.peer}"
        return HttpResponse(201, text.encode(), ((b"Content-Type", b"text/plain"), (b"X-Own", b"1")))

    client = await serve(server)
    answer = await client.fetch("GET", "/who?name=ann%20b", {"Cookie": "c=d"})
    assert (answer.status, answer.text) == (201, "GET ann b d 127.0.0.1")
    assert (answer.headers["content-type"], answer.headers["x-own"]) == ("text/plain", "1")


async def test_a_page_may_wait(kind: str, serve: Serve) -> None:
    server = Primacron()
    gate = asyncio.Event()

    @server.get("/slow")
    async def slow(request: HttpRequest) -> str:
        await gate.wait()
        return "done"

    @server.get("/open")
    async def opens(request: HttpRequest) -> str:
        gate.set()
        return "open"

    client = await serve(server)
    waiting = asyncio.create_task(client.fetch("GET", "/slow"))
    assert (await client.fetch("GET", "/open")).text == "open"
    assert (await waiting).text == "done"


async def test_head_gets_the_head_alone(kind: str, serve: Serve) -> None:
    server = Primacron()
    server.get("/")(lambda request: "four")
    answer = await (await serve(server)).fetch("HEAD", "/")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "4", b"")


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/page"), ("PUT", "/page"), ("GET", "/page/"), ("GET", "/Page"), ("GET", "/pag")]
)
async def test_other_methods_and_paths_are_for_strangers(serve: Serve, method: str, target: str) -> None:
    server = Primacron()
    server.get("/page")(lambda request: "page")
    answer = await (await serve(server)).fetch(method, target)
    assert (answer.status, answer.json()["type"]) == (400, "bad request")
    assert f"there is no {method} {target!r} here; the stream is at" in answer.json()["description"]


async def test_pages_come_before_the_redirect(serve: Serve) -> None:
    server = Primacron(redirect="https://example.org/")
    server.get("/page")(lambda request: "page")
    client = await serve(server)
    assert (await client.fetch("GET", "/page")).text == "page"
    assert (await client.fetch("GET", "/other")).status == 301


async def test_a_page_is_no_websocket(serve: Serve) -> None:
    server = Primacron()
    server.get("/page")(lambda request: "page")
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert (await (await serve(server)).fetch("GET", "/page", headers)).status == 400


async def test_a_refusal_answers_with_its_status_and_is_told(kind: str, serve: Serve) -> None:
    server = Primacron()
    refused = Hearing(server, "error::refused")

    @server.get("/private")
    def private(request: HttpRequest) -> str:
        raise Refused(401, "sign in first")

    answer = await (await serve(server)).fetch("GET", "/private")
    assert answer.status == 401
    assert answer.json() == {"status": 401, "type": "refused", "description": "sign in first"}
    error, context = await refused.next_error()
    assert str(error) == "sign in first"
    assert context.request is not None
    assert context.request.path == "/private"


async def test_what_else_a_page_raises_is_told_to_the_server_and_not_to_the_client(kind: str, serve: Serve) -> None:
    server = Primacron()
    failed = Hearing(server, "error::handler")

    @server.get("/broken")
    async def broken(request: HttpRequest) -> str:
        await asyncio.sleep(0)
        raise KeyError("secret")

    answer = await (await serve(server)).fetch("GET", "/broken")
    assert answer.status == 500
    assert "secret" not in answer.text
    error, _ = await failed.next_error()
    assert isinstance(error, KeyError)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "returned NoneType, not HttpResponse, str or bytes"),
        ({"a": 1}, "returned dict, not HttpResponse, str or bytes"),
        (HttpResponse(302, b"", ((b"Location", b"/\r\nSet-Cookie: a=b"),)), "a line end in it"),
        (HttpResponse(200, b"four", ((b"Content-Length", b"9"),)), "a field Content-Length, which the server adds"),
        (HttpResponse(200, b"4\r\nfour\r\n", ((b"transfer-encoding", b"chunked"),)), "which the server adds"),
        (HttpResponse(100), "returned the status 100; expected 200 to 599"),
        (HttpResponse(99), "returned the status 99"),
        (HttpResponse(600), "returned the status 600"),
        (HttpResponse("200"), "returned the status '200'"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_answer_is_an_error_of_the_page(serve: Serve, content: Any, told: str) -> None:
    server = Primacron()
    failed = Hearing(server, "error::handler")
    server.get("/page")(lambda request: content)
    assert (await (await serve(server)).fetch("GET", "/page")).status == 500
    error, _ = await failed.next_error()
    assert told in str(error)


async def test_handler_timeout_holds_for_pages(serve: Serve) -> None:
    server = Primacron(handler_timeout=0.05)
    failed = Hearing(server, "error::handler")

    @server.get("/never")
    async def never(request: HttpRequest) -> str:
        await asyncio.Event().wait()
        return ""

    assert (await (await serve(server)).fetch("GET", "/never")).status == 500
    error, _ = await failed.next_error()
    assert isinstance(error, HandlerTimedOut)


async def test_a_page_is_cancelled_when_its_client_goes_away(kind: str, serve: Serve) -> None:
    server = Primacron()
    begun, ended = asyncio.Event(), asyncio.Event()

    @server.get("/never")
    async def never(request: HttpRequest) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    connection = await (await serve(server)).raw()
    await connection.send_request("GET", "/never")
    async with asyncio.timeout(10):
        await begun.wait()
        connection.abort()
        await ended.wait()


async def test_the_end_of_the_server_answers_a_page_that_waits(serve: Serve) -> None:
    server = Primacron(handler_timeout=30)
    begun = asyncio.Event()

    @server.get("/never")
    async def never(request: HttpRequest) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    connection = await (await serve(server)).raw()
    await connection.send_request("GET", "/never")
    async with asyncio.timeout(10):
        await begun.wait()
        server.cancel_work()
        assert (await connection.read_response()).status == 503


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/stream/", "belongs to the server"),
        ("/stream", "belongs to the server"),
        ("/stream/app.js", "belongs to the server"),
        ("/primacron/livez", "belongs to the server"),
        ("/primacron/", "belongs to the server"),
        ("/push", "belongs to the server"),
        ("/taken", "has a function already"),
        ("page", "begins with /"),
        ("", "begins with /"),
        ("/a?b", "begins with /"),
        ("/ä", "begins with /"),
        (Path("/a"), "begins with /"),
    ],
)
def test_a_path_that_cannot_be_a_page_is_refused_at_registration(path: Any, why: str) -> None:
    server = Primacron(broadcast_path="/push")
    server.get("/taken")(lambda request: "")
    with pytest.raises(RegistrationError, match=why):
        server.get(path)(lambda request: "")


def test_a_stream_at_the_root_leaves_other_paths_to_pages() -> None:
    server = Primacron(endpoint="/")
    server.get("/page")(lambda request: "")
    with pytest.raises(RegistrationError, match="belongs to the server"):
        server.get("/")(lambda request: "")


async def test_a_mounted_server_answers_its_pages_below_the_mount() -> None:
    server = Primacron()
    server.get("/page")(lambda request: f"page at {request.path}")
    outer = FastAPI(lifespan=server.lifespan)
    outer.mount("/live", server.asgi)
    async with under_uvicorn(outer) as port:
        assert (await fetch(port, "GET", "/live/page")).text == "page at /page"
