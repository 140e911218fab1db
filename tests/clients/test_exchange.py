"""The official Engine.IO clients, of both protocols and on all transports, exchange messages with our servers."""

from __future__ import annotations

import asyncio

import pytest

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.support.node import run_node

LIMIT = 100_000
KINDS_OF_CLIENTS = {
    f"{protocol} {transports}{base64}"
    for protocol in (4, 3)
    for transports in ("polling", "websocket", "polling websocket")
    for base64 in ("", " base64")
}


def raw_server() -> Primacron:
    """Return a server that sends every message back."""
    server = Primacron(dialect="raw", max_payload=LIMIT)

    @server.event("message")
    def echo(session: Session, content: str | bytes) -> None:
        session.emit("message", content)

    return server


async def test_official_clients_exchange_text_unicode_and_binary_of_all_sizes(kind: str, serve: Serve) -> None:
    client = await serve(raw_server())
    results = await run_node("exchange.mjs", client.port, LIMIT)
    assert {result["kind"] for result in results} == KINDS_OF_CLIENTS
    assert [result for result in results if result["wrong"]] == []
    for result in results:
        assert result["transport"] == ("websocket" if "websocket" in result["kind"] else "polling")


async def test_official_clients_exchange_events(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.event("say")
    def say(session: Session, text: str, more: dict[str, list[str]]) -> int:
        session.emit("said", session.account, text, more)
        return len(text)

    client = await serve(server)
    results = await run_node("events.mjs", client.port)
    assert len(results) == 6
    for result in results:
        assert result["back"] == result["expected"], result["kind"]


async def test_payloads_of_protocol_3_are_read_and_written_as_its_official_parser_does(kind: str, serve: Serve) -> None:
    client = await serve(raw_server())
    text = {"posted": "ok", "type": "text/plain; charset=UTF-8", "wrong": [], "count": 6, "binary": False}
    binary = {**text, "type": "application/octet-stream", "binary": True}
    assert await run_node("payloads.mjs", client.port) == [text, binary, text]


@pytest.mark.parametrize("count", [3_000, 5_000])
@pytest.mark.parametrize("waits", [False, True])
async def test_official_clients_send_thousands_of_messages_at_once_by_polling(
    kind: str, serve: Serve, count: int, waits: bool
) -> None:
    server = Primacron(dialect="raw")
    heard: dict[str, list[str]] = {}

    @server.event("message")
    async def take(session: Session, content: str) -> None:
        if waits:
            await asyncio.sleep(0)
        heard.setdefault(session.account, []).append(content)
        if content == f"m{count - 1}":
            session.emit("message", content)

    client = await serve(server)
    results = await run_node("many.mjs", client.port, count)
    assert [result["last"] for result in results] == [f"m{count - 1}"] * 2
    for account in ("4-polling", "3-polling"):
        assert heard[account] == [f"m{number}" for number in range(count)]
