"""Routes without a secret: the 400 of strangers, `redirect`, liveness, readiness."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.times import Times
from tests.conftest import Serve
from tests.hostile.arena import until
from tests.support.hearing import Hearing
from tests.support.http import fetch
from tests.support.lines import Lines
from tests.support.program import running

LIVEZ, READYZ = "/primacron/livez", "/primacron/readyz"
SECRET = {"Authorization": "Bearer s"}
STRANGE = [
    "/",
    "/engine.io/",
    "/socket.io/",
    "/favicon.png",
    "/primacron/",
    "/primacron/livez/",
    "/primacron/LIVEZ",
    "/streams/",
    "/stream/x",
    "//",
]


def refusal_of(method: str, path: str, stream: str = "/stream/") -> dict[str, Any]:
    """Return the body for a path that means nothing."""
    why = f"Bad request: there is no {method} {path!r} here; the stream is at {stream!r}"
    return {"status": 400, "type": "bad request", "description": why}


# Strangers


@pytest.mark.parametrize("target", [*STRANGE, "/?transport=polling&EIO=4&account=a", "/%2e%2e/", "/stream%2f"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_a_path_that_means_nothing_is_a_bad_request_in_json(serve: Serve, method: str, target: str) -> None:
    server = Primacron()
    errors = Hearing(server, "error::*")
    answer = await (await serve(server)).fetch(method, target, {}, b"")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json() == refusal_of(method, target.partition("?")[0])
    assert "x-powered-by" not in answer.headers
    assert errors.is_empty


async def test_a_stranger_gets_the_same_answer_of_every_kind_of_server(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    for method in ("GET", "POST", "PUT"):
        answer = await client.fetch(method, "/nothing", {}, b"body")
        assert (answer.status, answer.json()) == (400, refusal_of(method, "/nothing"))
    head = await client.fetch("HEAD", "/nothing")
    assert (head.status, head.body) == (400, b"")
    socket = await client.websocket_to("/nothing")
    assert (socket.response.status, socket.response.json()) == (400, refusal_of("GET", "/nothing"))


async def test_the_answer_names_the_endpoint_wherever_it_is(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(endpoint="/live", origins=["https://shop.example"]))
    long = "/" + "x" * 1_000
    for path in ("/", "/stream/", "/socket.io/", long):
        answer = await client.fetch("GET", f"{path}?EIO=4&transport=polling", {"Origin": "https://shop.example"})
        assert answer.json() == refusal_of("GET", path[:200], "/live/")
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


async def test_an_icon_that_nobody_has_is_no_mistake(kind: str, serve: Serve, lines: Lines) -> None:
    server = Primacron()
    client = await serve(server)
    for method in ("GET", "HEAD"):
        assert (await client.fetch(method, "/favicon.ico")).status == 204
    assert (await client.fetch("POST", "/favicon.ico", {}, b"")).json() == refusal_of("POST", "/favicon.ico")
    assert "POST" in (await lines.next()).getMessage()
    server.get("/favicon.ico")(lambda request: b"an icon")
    assert (await client.fetch("GET", "/favicon.ico")).body == b"an icon"
    moved = await serve(Primacron(redirect="https://shop.example/"))
    assert (await moved.fetch("GET", "/favicon.ico")).status == 301


async def test_a_path_that_means_nothing_is_in_the_log_once_a_minute(kind: str, serve: Serve, lines: Lines) -> None:
    server = Primacron()
    client = await serve(server)
    for _ in range(3):
        for path in ("/socket.io/", "/engine.io/", "/", "/wp-login.php", "/.env"):
            await client.fetch("GET", f"{path}?secret=x")
    await client.websocket_to("/wp-login.php")
    written = [(await lines.next()).getMessage() for _ in range(4)]
    for line, path in zip(written, ("/socket.io/", "/engine.io/", "/", "/wp-login.php"), strict=True):
        assert line == f"there is no GET {path!r} here; the stream is at '/stream/' (from 127.0.0.1)"
    assert lines.records == []
    await server.destroy()
    counts = [(await lines.next()).getMessage() for _ in range(4)]
    assert [line.partition(" more like it: ")[0] for line in counts] == ["2", "2", "2", "6"]


async def test_where_strangers_are_sent_elsewhere_nothing_is_logged(kind: str, serve: Serve, lines: Lines) -> None:
    client = await serve(Primacron(redirect="/shop"))
    assert (await client.fetch("GET", "/")).status == 301
    await client.fetch("POST", "/last", {}, b"")
    assert "'/last'" in (await lines.next()).getMessage()


async def test_the_address_of_operators_says_what_it_has(serve: Serve) -> None:
    server = Primacron(control="127.0.0.1:0")
    await serve(server)
    assert isinstance(server.control_address, tuple)
    answer = await fetch(server.control_address[1], "GET", "/stream/")
    why = f"this address has PUT '/primacron/broadcast', {LIVEZ!r} and {READYZ!r}, no stream"
    assert answer.json()["description"] == f"Bad request: there is no GET '/stream/' here; {why}"


@pytest.mark.parametrize("where", ["https://shop.example/", "/shop", "https://shop.example/?a=b#c"])
async def test_redirect_sends_strangers_away_who_only_look(kind: str, serve: Serve, where: str) -> None:
    client = await serve(Primacron(redirect=where))
    for method in ("GET", "HEAD"):
        for target in ("/", "/nothing?a=b", "/primacron/", "/primacron/broadcast"):
            answer = await client.fetch(method, target)
            assert (answer.status, answer.headers["location"], answer.body) == (301, where, b""), (method, target)
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await client.fetch(method, "/primacron/broadcas", {}, b"{}")
        assert (answer.status, answer.json()) == (400, refusal_of(method, "/primacron/broadcas")), method
        assert "location" not in answer.headers
    socket = await client.websocket_to("/nothing")
    assert (socket.response.status, socket.response.headers["location"]) == (301, where)


async def test_redirect_leaves_the_own_paths_alone(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(redirect="/elsewhere", secret="s"))
    assert (await client.fetch("GET", LIVEZ)).status == 200
    assert (await client.fetch("GET", READYZ)).status == 200
    assert (await client.fetch("GET", "/stream/")).json()["code"] == 0
    assert (await client.fetch("GET", "/stream")).json()["code"] == 0
    assert (await client.fetch("PUT", "/primacron/broadcast", {}, b"{}")).status == 401
    assert (await client.connect()).sid


# Liveness and readiness


async def test_a_server_that_serves_is_alive_and_ready_for_everybody(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(secret="s"))
    alive = await client.fetch("GET", LIVEZ)
    assert (alive.status, alive.json(), alive.headers["content-type"]) == (200, {"live": True}, "application/json")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        ready = await client.fetch("GET", READYZ, headers)
        assert (ready.status, ready.json()) == (200, {"ready": True})
    for path in (LIVEZ, READYZ):
        assert (await client.fetch("GET", f"{path}?a=b")).status == 200
        head = await client.fetch("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert "x-powered-by" not in head.headers


@pytest.mark.parametrize("verified", [False, True])
async def test_who_knows_the_secret_sees_what_the_server_says_of_itself(
    kind: str, serve: Serve, verified: bool
) -> None:
    server = Primacron(secret=["new", "s"])
    if verified:
        server.authorize(lambda request: True)
    client = await serve(server)
    await client.connect("account=ann")
    await client.poll_in("account=ben")
    told = (await client.fetch("GET", READYZ, SECRET)).json()
    assert isinstance(told.pop("lag"), float)
    accounts = "authorized" if verified else "unverified"
    assert told == {"ready": True, "reasons": [], "accounts": accounts, "sessions": 2}
    assert (await client.fetch("GET", LIVEZ, SECRET)).json() == {"live": True}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_health_is_only_looked_at(serve: Serve, method: str) -> None:
    client = await serve(Primacron(secret="s", redirect="/elsewhere"))
    for path in (LIVEZ, READYZ):
        answer = await client.fetch(method, path, SECRET, b"")
        why = f"Bad request: method {method}, expected GET or HEAD"
        assert (answer.status, answer.json()) == (400, {"status": 400, "type": "bad request", "description": why})


async def test_health_is_no_websocket(kind: str, serve: Serve) -> None:
    client = await serve(Primacron())
    assert (await client.websocket_to(READYZ)).response.status == 400


async def test_a_server_that_ends_is_alive_and_not_ready(kind: str, serve: Serve) -> None:
    server = Primacron(secret="s")
    begun, gate = asyncio.Event(), asyncio.Event()

    @server.event("work")
    async def work(session: Session) -> None:
        begun.set()
        await gate.wait()

    client = await serve(server)
    ann = await client.connect("account=ann")
    await ann.emit("work")
    kept = [await client.raw() for _ in range(3)]
    for connection in kept:
        await connection.send_request("GET", LIVEZ)
        await connection.read_response()
    await begun.wait()
    ending = asyncio.create_task(server.destroy())
    assert await ann.receive_close() == (1012, "server shutdown")
    targets: tuple[tuple[str, dict[str, str]], ...] = ((LIVEZ, {}), (READYZ, {}), (READYZ, SECRET))
    answers = []
    for connection, (path, headers) in zip(kept, targets, strict=True):
        await connection.send_request("GET", path, headers)
        answers.append(await connection.read_response())
    alive, unready, reasoned = answers
    assert (alive.status, alive.json()) == (200, {"live": True})
    assert (unready.status, unready.json()) == (503, {"ready": False})
    assert reasoned.status == 503
    assert reasoned.json()["ready"] is False
    assert reasoned.json()["reasons"] == ["the server is ending"]
    gate.set()
    await ending


async def test_a_server_whose_event_loop_is_late_is_not_ready_until_it_is_in_time_again(serve: Serve) -> None:
    server = Primacron(secret="s")
    server._times = Times(lag=0.2)
    client = await serve(server)
    assert (await client.fetch("GET", READYZ)).status == 200
    time.sleep(1.4)  # noqa: ASYNC251 (this is what it is about)
    await until(lambda: server.node.hub.wheel.lag >= 0.2, "the lag to be noticed")
    late = await client.fetch("GET", READYZ, SECRET)
    assert late.status == 503
    assert late.json()["lag"] >= 0.2
    (reason,) = late.json()["reasons"]
    assert reason.startswith("the event loop is late by ")
    assert (await client.fetch("GET", LIVEZ)).status == 200
    await until(lambda: server.node.hub.wheel.lag < 0.2, "the event loop to be in time", 15.0)
    assert (await client.fetch("GET", READYZ)).json() == {"ready": True}


# The blocking form

BEYOND = """
from primacron import Primacron
server = Primacron()
server.authorize(lambda request: True)
server.run(0)
"""


async def test_no_secret_is_made_for_a_server_that_listens_beyond_this_machine() -> None:
    async with running("-c", BEYOND) as program:
        await program.wait_for(r"listening on http://\S+:\d+/stream/")
        assert await program.stop() == 0
    assert "secret" not in program.printed
