"""What the pages claim of their blocks: each function talks to one block that runs."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from urllib.request import urlopen

from tests.docs.blocks import NAMED
from tests.docs.bundling import open_folder
from tests.docs.stage import PORT, Scene, nginx, run, run_node
from tests.support.browser import chromium
from tests.support.engine import Events
from tests.support.program import DEADLINE

Claim: TypeAlias = Callable[[Scene], Awaitable[None]]

CLAIMS: Final[dict[str, Claim]] = {}
#: Blocks that are run or read by the claim of another one.
PARTNERS: Final = {
    "client.mjs",
    "readme-output",
    "readme-channels-talk",
    "send-job",
    "send-put-client",
    "nginx.conf",
    "redis.conf",
    "scale-nginx.conf",
    "follow-output",
    "migrate-raw-client",
    "validation-answer",
    "wire-client",
    "wire-output",
    "wire-polling",
    "cors-page",
    "history-client",
    "chat.html",
    "presence-client",
    "presence-output",
    "logging-output",
    "usePrimacron.js",
    "Auction.jsx",
    "Dockerfile",
    "compose.yaml",
}

HANDSHAKE: Final = "/stream/?account=ann&EIO=4&transport=polling"
UPGRADE: Final = """
import { Socket } from "engine.io-client";
const socket = new Socket("http://127.0.0.1:8080", { path: "/stream/", query: { account: "ann" } });
socket.on("upgrade", (transport) => {
  console.log("upgraded to " + transport.name);
  setImmediate(() => socket.close()); // inside this event the client waits for the upgrade that has just been
});
"""


def claim(*names: str) -> Callable[[Claim], Claim]:
    """Register what is claimed of a block."""

    def register(function: Claim) -> Claim:
        CLAIMS.update(dict.fromkeys(names, function))
        return function

    return register


@claim("readme")
async def the_client_of_the_readme_prints_what_the_readme_says_in_node_and_in_a_page(scene: Scene) -> None:
    client = scene.folder / "client.mjs"
    client.write_text(client.read_text().replace(PORT, str(scene.port)))
    assert await run_node(client.read_text(), scene.port) == NAMED["readme-output"].text
    await scene.program.wait_for("ann bid Expected `int`, got `str`")
    async with chromium() as browser:
        page, printed = await open_folder(browser, scene.folder)
        async with asyncio.timeout(DEADLINE):
            while len(printed) < 3:
                await page.wait_for_timeout(20)
        assert "".join(f"{line}\n" for line in printed) == NAMED["readme-output"].text


async def call(scene: Scene, query: str, event: str, headers: dict[str, str] | None = None) -> Any:
    """Send one event with an id over a websocket and return what answers it."""
    async with scene.client() as client:
        socket = await client.websocket(query, headers=headers)
        assert socket.response.status == 101, socket.response
        events = Events(socket, json.loads(str(await socket.receive())[1:]))
        await events.emit(event, id=1)
        return await events.receive()


@claim("authorize-cookie")
async def a_cookie_decides_about_the_account(scene: Scene) -> None:
    answer = await call(scene, "account=mallory", "whoami", {"Cookie": "a=b; login=7f3a9c"})
    assert answer == {"ack": 1, "args": ["ann"]}
    refused = await scene.get(HANDSHAKE, {"Cookie": "login=guess"})
    assert (refused.status, refused.json()) == (401, {"code": 4, "message": "log in first"})
    foreign = await scene.get(HANDSHAKE, {"Cookie": "login=7f3a9c", "Origin": "https://evil.example"})
    assert foreign.status == 400


@claim("authorize-token")
async def a_token_in_query_or_header_is_checked(scene: Scene) -> None:
    token = (await scene.program.wait_for(r"(?m)^(\d+\.[0-9a-f]{64})$"))[1]
    assert (await call(scene, f"account=ann&token={token}", "whoami"))["args"] == ["ann"]
    assert (await call(scene, "account=ann", "whoami", {"Authorization": f"Bearer {token}"}))["args"] == ["ann"]
    for wrong in ("", "é", token[:-1] + "x", "1" + token, "1." + token[-64:]):
        refused = await scene.get(f"{HANDSHAKE}&token={quote(wrong)}")
        assert (refused.status, refused.json()["message"]) == (401, "the token is not valid")
    other = await scene.get(f"{HANDSHAKE.replace('ann', 'ben')}&token={token}")
    assert other.status == 401


@claim("authorize-expiry")
async def a_task_of_the_session_ends_it(scene: Scene) -> None:
    async with scene.client() as client:
        events = await client.connect()
        assert await events.receive_close() == (1000, "the token has expired")


@claim("authorize-subclass")
async def a_subclass_decides_and_names_sessions(scene: Scene) -> None:
    answer = await call(scene, "account=ann&till=4", "whoami", {"X-Team": "kitchen"})
    assert answer["args"] == ["ann", "till-4"]
    assert (await scene.get(HANDSHAKE)).status == 403


@claim("mount-fastapi")
async def fastapi_and_the_stream_share_a_port(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("ping", id=1)
        assert await ann.receive() == {"ack": 1, "args": ["pong"]}
        assert (await scene.get("/online")).json() == ["ann"]
        assert (await client.fetch("POST", "/orders/ann")).json() == 1
        assert await ann.receive() == {"event": "order", "args": ["on its way"]}


@claim("mount-starlette")
async def starlette_and_the_stream_share_a_port(scene: Scene) -> None:
    assert (await call(scene, "account=ann", "ping"))["args"] == ["pong"]
    assert (await scene.get("/hello")).text == "hello"


@claim("mount-django")
async def django_and_the_stream_share_a_port(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("ping", id=1)
        assert await ann.receive() == {"ack": 1, "args": ["pong"]}
        with await asyncio.to_thread(urlopen, f"http://127.0.0.1:{scene.port}/orders/ann", None, 10) as answer:
            assert answer.read() == b"1"
        assert await ann.receive() == {"event": "order", "args": ["on its way"]}


@claim("send-thread")
async def a_thread_sends_through_the_server(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("start")
        assert await ann.receive() == {"event": "progress", "args": [100]}
    await scene.program.wait_for("use server.from_thread")
    await scene.program.wait_for("accepted")


@claim("send-put-server")
async def another_process_sends_by_put(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        printed = await run(NAMED["send-put-client"], scene.folder, scene.port)
        assert await ann.receive() == {"event": "order", "args": [7, "sent"]}
        assert await ann.receive() == {"event": "message", "args": ["closing in five minutes"]}
        assert printed.count("'status': 200") == 2
        target = "/primacron/broadcast"
        body = b'{"account": "ann", "message": 1}'
        assert (await client.fetch("PUT", target, {"Authorization": "Bearer guess"}, body)).status == 401
        known = {"Authorization": "Bearer in earnest: a long random text", "Idempotency-Key": "once"}
        assert [(await client.fetch("PUT", target, known, body)).json()["sessions"] for _ in range(2)] == [1, 1]
        await client.fetch("PUT", target, {**known, "Idempotency-Key": "again"}, body.replace(b"1", b"2"))
        assert [(await ann.receive())["args"] for _ in range(2)] == [[1], [2]]


@claim("nginx-server")
async def nginx_carries_polling_websocket_and_the_clients_address(scene: Scene) -> None:
    async with nginx(scene.folder, scene.port) as port:
        origin = {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"}
        proxied = Scene(scene.program, port, scene.folder)
        assert (await proxied.get("/", origin)).text == f"secure: False, host: localhost:{port}"
        async with proxied.client() as client:
            polling = await client.poll_in()
            await polling.post('4{"event":"where","id":1}')
            assert (await polling.poll()).text == '4{"ack":1,"args":["127.0.0.1"]}'
            answer = await call(proxied, "account=ann", "where", {**origin, "X-Forwarded-For": "10.9.8.7"})
            # This client's own address is that of a trusted proxy, so what it says is believed in turn.
            assert answer["args"] == ["10.9.8.7"]
            foreign = await proxied.get(HANDSHAKE, {"Origin": "https://evil.example"})
            assert foreign.status == 400
            # What nginx does not set itself, it must not pass on from a client.
            claimed = {"Forwarded": "for=10.9.8.7;host=evil.example", "X-Forwarded-Host": "evil.example"}
            assert (await call(proxied, "account=ann", "where", claimed))["args"] == ["127.0.0.1"]
            for field, value in claimed.items():
                foreign = await proxied.get(HANDSHAKE, {"Origin": "https://evil.example", field: value})
                assert foreign.status == 400
        printed = await run_node(UPGRADE, port)
        assert printed == "upgraded to websocket\n"


@claim("tls")
async def a_page_comes_over_tls(scene: Scene) -> None:
    trusting = ssl.create_default_context(cafile=str(scene.folder / "certificate.pem"))
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port, ssl=trusting, server_hostname="localhost")
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"secure: True")
    writer.close()


@claim("limits")
async def the_limits_of_the_page_hold(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("echo", "x", id=1)
        assert (await ann.receive())["args"] == ["x"]
        await ann.emit("echo", "x" * 64_000)
        assert (await ann.receive_close())[0] == 1009
    await scene.program.wait_for("error::protocol")


@claim("migrate-raw")
async def a_plain_client_of_engine_io_gets_its_message_back(scene: Scene) -> None:
    assert await run_node(NAMED["migrate-raw-client"].text, scene.port) == "as it was\n"


@claim("migrate-validate")
async def the_originals_way_to_validate_works(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("bid", 150, id=1)
        assert (await ann.receive())["error"]["message"] == "whole amounts only"
        await ann.emit("bid", 300)
        assert await ann.receive() == {"event": "bid", "args": ["ann", 3]}
