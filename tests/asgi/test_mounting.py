"""`server.asgi` alone and beside other routes: every path is answered by the one it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from primacron import HttpRequest, Primacron, Session
from tests.asgi.outer import client_of
from tests.support.engine import Client
from tests.support.websocket import WebSocket as Socket


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def alone(server: Primacron) -> Any:
    return server.asgi


def in_fastapi(server: Primacron, at: str) -> FastAPI:
    application = FastAPI(lifespan=server.lifespan)

    @application.get("/hello")
    async def hello() -> str:
        return "hello"

    @application.websocket("/talk")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    application.mount(at, server.asgi)
    return application


def in_starlette(server: Primacron, at: str) -> Starlette:
    return Starlette(routes=[Route("/hello", hello), Mount(at, server.asgi)], lifespan=server.lifespan)


def in_two_starlettes(server: Primacron) -> Starlette:
    inner = Starlette(routes=[Mount("/inner", server.asgi)])
    return Starlette(routes=[Route("/hello", hello), Mount("/outer", inner)], lifespan=server.lifespan)


@dataclass(frozen=True)
class Place:
    """Where the server is: what makes the application, what stands before its paths, and settings of uvicorn."""

    make: Callable[[Primacron], Any]
    prefix: str = ""
    neighbours: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


#: A proxy that strips `/api`, and tells uvicorn.
BEHIND = {"root_path": "/api"}

PLACES = {
    "alone": Place(alone, neighbours=False),
    "alone behind a proxy": Place(alone, neighbours=False, settings=BEHIND),
    "fastapi /": Place(lambda server: in_fastapi(server, "/")),
    "fastapi /live": Place(lambda server: in_fastapi(server, "/live"), "/live"),
    "fastapi / behind a proxy": Place(lambda server: in_fastapi(server, "/"), settings=BEHIND),
    "fastapi /live behind a proxy": Place(lambda server: in_fastapi(server, "/live"), "/live", settings=BEHIND),
    "fastapi /stream": Place(lambda server: in_fastapi(server, "/stream"), "/stream"),
    "starlette /": Place(lambda server: in_starlette(server, "/")),
    "starlette /live": Place(lambda server: in_starlette(server, "/live"), "/live"),
    "starlette /live/": Place(lambda server: in_starlette(server, "/live/"), "/live"),
    "starlette /live behind a proxy": Place(lambda server: in_starlette(server, "/live"), "/live", settings=BEHIND),
    "starlette in starlette": Place(in_two_starlettes, "/outer/inner"),
}


def shop() -> Primacron:
    """Return a server with something on each of its paths."""
    server = Primacron(secret="s")

    @server.event("echo")
    async def echo(session: Session, text: str) -> str:
        return text

    @server.get("/page")
    def page(request: HttpRequest) -> str:
        return f"{request.path} for {request.query['who']}"

    return server


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
async def test_every_path_is_answered_where_the_server_is(place: Place) -> None:
    server = shop()
    async with client_of(place.make(server), **place.settings) as client:
        await _stream_by_polling(client, place.prefix)
        await _stream_by_websocket(client, place.prefix)
        await _other_paths(client, place.prefix)
        if place.neighbours:
            assert "hello" in (await client.fetch("GET", "/hello")).text
            assert server.count() > 0
    assert server.count() == 0


async def _stream_by_polling(client: Client, prefix: str) -> None:
    for path in (f"{prefix}/stream/", f"{prefix}/stream"):
        opened = await client.fetch("GET", f"{path}?EIO=4&transport=polling&account=ann")
        assert opened.status == 200, opened
        target = f"{path}?EIO=4&transport=polling&sid={json.loads(opened.text[1:])['sid']}"
        sent = await client.fetch("POST", target, {}, b'4{"event":"echo","args":["h\xc3\xa9"],"id":1}')
        assert (sent.status, sent.text) == (200, "ok")
        assert (await client.fetch("GET", target)).text == '4{"ack":1,"args":["hé"]}'
        socket = await client.websocket_to(target.replace("=polling", "=websocket"))
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
        await socket.send("5")
        await _echo(socket)


async def _stream_by_websocket(client: Client, prefix: str) -> None:
    for path in (f"{prefix}/stream/", f"{prefix}/stream"):
        socket = await client.websocket_to(f"{path}?EIO=4&transport=websocket&account=ann")
        assert str(await socket.receive())[0] == "0"
        await _echo(socket)


async def _echo(socket: Socket) -> None:
    await socket.send('4{"event":"echo","args":["hé"],"id":2}')
    assert await socket.receive() == '4{"ack":2,"args":["hé"]}'


async def _other_paths(client: Client, prefix: str) -> None:
    assert (await client.fetch("GET", f"{prefix}/primacron/livez")).json() == {"live": True}
    assert (await client.fetch("GET", f"{prefix}/primacron/readyz")).json() == {"ready": True}
    assert (await client.fetch("GET", f"{prefix}/page?who=ann%20b")).text == "/page for ann b"
    body, bearer = b'{"everyone": true, "message": 1}', {"Authorization": "Bearer s"}
    assert (await client.fetch("PUT", f"{prefix}/primacron/broadcast", bearer, body)).json()["type"] == "sending"
    assert (await client.fetch("PUT", f"{prefix}/primacron/broadcast", {}, body)).json()["type"] == "unauthorized"
    for path in ("/nothing", "/stream/x", "/stream/stream", "/primacron/"):
        stranger = await client.fetch("GET", f"{prefix}{path}")
        assert (stranger.status, stranger.json()["type"]) == (400, "bad request"), path
    refused = await client.websocket_to(f"{prefix}/nothing")
    assert (refused.response.status, refused.response.json()["type"]) == (400, "bad request")


@pytest.mark.parametrize("at", ["/", "/live"])
async def test_routes_of_the_outer_application_come_first_and_its_websockets_work_beside(at: str) -> None:
    server = shop()
    async with client_of(in_fastapi(server, at)) as client:
        socket = await client.websocket_to("/talk")
        await socket.send("hello")
        assert await socket.receive() == "hello"
        if at == "/live":
            assert (await client.fetch("GET", "/stream/?EIO=4&transport=polling&account=a")).status == 404
            assert (await client.fetch("GET", "/nothing")).json() == {"detail": "Not Found"}
        else:
            assert (await client.fetch("GET", "/nothing")).json()["type"] == "bad request"


async def test_a_stream_with_a_path_of_its_own_is_found_below_a_mount() -> None:
    server = Primacron(endpoint="/events/now", broadcast="/push", secret="s")
    async with client_of(in_starlette(server, "/live")) as client:
        for path in ("/live/events/now", "/live/events/now/"):
            assert (await client.fetch("GET", f"{path}?EIO=4&transport=polling&account=a")).status == 200
        assert (await client.fetch("PUT", "/live/push", {}, b"{}")).status == 401
        assert (await client.fetch("GET", "/live/stream/?EIO=4&transport=polling&account=a")).status == 400


async def test_a_stream_at_the_root_has_every_mount_for_itself() -> None:
    server = Primacron(endpoint="/")
    async with client_of(in_starlette(server, "/live")) as client:
        assert (await client.fetch("GET", "/live/?EIO=4&transport=polling&account=a")).status == 200
        assert (await client.fetch("GET", "/hello")).text == "hello"


async def test_two_servers_may_be_mounted_side_by_side() -> None:
    servers = [Primacron(), Primacron()]
    outer = Starlette(routes=[Mount("/first", servers[0].asgi), Mount("/second", servers[1].asgi)])
    async with client_of(outer) as client:
        for name in ("first", "second", "second"):
            socket = await client.websocket_to(f"/{name}/stream/?EIO=4&transport=websocket&account=ann")
            assert str(await socket.receive())[0] == "0"
        assert [server.count() for server in servers] == [1, 2]
        for server in servers:
            await server.destroy()
