"""The official Primus client finds in our server what it finds in its own."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.support.node import run_node


def new_server(ping_interval: float = 25) -> Primacron:
    """Return a server that does what the script's own server does."""
    server = Primacron(ping_interval=ping_interval)

    @server.event("message")
    def echo(session: Session, content: Any) -> None:
        session.emit("message", content)

    @server.event("greet")
    def greet(session: Session, name: str, count: int) -> None:
        session.emit("greeting", name, count + 1)

    @server.event("finish")
    def finish(session: Session) -> None:
        session.emit("message", {"last": "words"})
        session.disconnect()

    return server


async def test_the_primus_client_talks_pings_and_ends_as_with_its_own_server(kind: str, serve: Serve) -> None:
    client = await serve(new_server(ping_interval=0.2))
    results = await run_node("primus.mjs", client.port, "talk", "talkByPolling", "serverEnds", "pings")
    talk, polling, ends, pings = (result["ours"] for result in results)
    assert [result["ours"] for result in results] == [result["theirs"] for result in results]
    assert talk["got"] == [
        "before it is open",
        {"a": 1},
        ["é\u2028\u2029😀"],
        "text",
        7.5,
        False,
        {"emit": "no list"},
        {},
        ["ann", 4],
    ]
    assert talk["sameId"]
    assert talk["transport"] == "websocket"
    assert polling == {**talk, "transport": "polling"}
    assert talk["seen"] == ["open", "close", "end"]
    assert ends == {"got": {"last": "words"}, "seen": ["open", "close", "end"]}
    assert pings == {"pings": 4, "seen": ["open", "close", "end"]}


async def test_the_primus_client_comes_back_after_a_restart_of_the_server() -> None:
    first, second = new_server(), new_server()
    restart = asyncio.Event()

    @first.event("restart")
    def ask(session: Session) -> None:
        restart.set()

    await first.listen(0, "127.0.0.1")
    port = int(first.address()[1])
    script = asyncio.create_task(run_node("primus.mjs", port, "restart"))
    await restart.wait()
    await first.destroy()
    await second.listen(port, "127.0.0.1")
    try:
        (result,) = await script
    finally:
        await second.destroy()
    assert result["ours"] == {
        "got": "again",
        "seen": ["open", "close", "reconnect scheduled", "reconnect", "reconnected", "open", "close", "end"],
    }
    # How a connection is lost that its own server drops in the middle of a request is a matter of time.
    theirs = [event for event in result["theirs"]["seen"] if event != "error"]
    assert result["ours"] == {**result["theirs"], "seen": theirs}


async def test_the_primus_client_goes_offline_and_comes_back_when_pings_are_missing(serve: Serve) -> None:
    client = await serve(new_server(ping_interval=25))
    (result,) = await run_node("primus.mjs", client.port, "-noPings")
    assert result["ours"] == {
        "seen": [
            "open",
            "offline",
            "close",
            "reconnect scheduled",
            "reconnect",
            "reconnected",
            "online",
            "open",
            "close",
            "end",
        ]
    }
